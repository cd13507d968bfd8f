package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// row is an entry of a listing of versions.
type row struct {
	Name    string `json:"name"`
	Bytes   int64  `json:"bytes"`
	ID      string `json:"version_id"`
	Latest  bool   `json:"is_latest"`
	Content string `json:"content_type"`
}

// versions lists those of an object in the container c, the newest first.
func (p *probe) versions(object string) (rows []row) {
	p.t.Helper()
	text, err := p.answer("GET", p.url+"/c?versions&prefix="+object, "", 200)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		p.t.Fatalf("%v: %s", err, text)
	}
	return slices.DeleteFunc(rows, func(r row) bool { return r.Name != object }) // of others whose names begin alike
}

// enableVersions has the container c make versions, or not.
func (p *probe) enableVersions(on bool) {
	p.t.Helper()
	p.want("POST", p.url+"/c", map[string]string{"X-Versions-Enabled": fmt.Sprint(on)}, "", 204)
}

// body reads an object in the container c.
func (p *probe) body(object, query string) string {
	p.t.Helper()
	text, err := p.answer("GET", p.url+"/c/"+object+query, "", 200)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// wantVersions checks what there is of an object, the newest first, by what it holds.
func (p *probe) wantVersions(object string, bodies ...string) {
	p.t.Helper()
	rows := p.versions(object)
	if len(rows) != len(bodies) {
		p.t.Fatalf("%s: versions %+v, want %q", object, rows, bodies)
	}
	for i, r := range rows {
		if got := p.body(object, "?version-id="+r.ID); got != bodies[i] || r.Bytes != int64(len(bodies[i])) || r.Latest != (i == 0) {
			p.t.Errorf("%s: version %d is %+v, %q, want %q", object, i, r, got, bodies[i])
		}
	}
	if len(bodies) > 0 {
		if got := p.body(object, ""); got != bodies[0] {
			p.t.Errorf("%s: reads %q, want %q", object, got, bodies[0])
		}
	}
}

// What was stored before there were versions is kept whoever is away, and what was deleted
// or overwritten then does not come back by it.
func TestVersionsOfADegradedCluster(t *testing.T) {
	p := startProbe(t)
	for i, tt := range map[string]struct {
		before  []string // what is done with all there: PUT of a text, or DELETE where empty
		away    int      // how many of the object's primaries are away then
		while   []string // what is done while they are
		back    []string // what is done with versions, and with them back
		enabled bool     // versions are made already while they are away
		want    []string // versions in the end, the newest first
	}{
		"one away":                {[]string{"a"}, 1, []string{"b", "c"}, []string{"d"}, true, []string{"d", "c", "b", "a"}},
		"two away":                {[]string{"a"}, 2, []string{"b", "c"}, []string{"d"}, true, []string{"d", "c", "b", "a"}},
		"one away and none later": {[]string{"a"}, 1, []string{"b"}, nil, true, []string{"b", "a"}},
		"overwritten while away":  {[]string{"a"}, 1, []string{"b"}, []string{"c"}, false, []string{"c", "b"}},
		"deleted while away":      {[]string{"a"}, 1, []string{""}, []string{"b"}, false, []string{"b"}},
		"new while away":          {nil, 1, []string{"a", "b"}, []string{"c"}, true, []string{"c", "b", "a"}},
		"large":                   {[]string{strings.Repeat("a", 600<<10)}, 1, []string{strings.Repeat("b", 700<<10)}, []string{"c"}, true, []string{"c", strings.Repeat("b", 700<<10), strings.Repeat("a", 600<<10)}},
	} {
		p := p.in(t)
		object := strings.ReplaceAll(i, " ", "-")
		do := func(all []string) {
			for _, text := range all {
				if text == "" {
					p.object("DELETE", object, nil, "", 204)
				} else {
					p.object("PUT", object, nil, text, 201)
				}
			}
		}
		p.enableVersions(false)
		do(tt.before)
		p.enableVersions(tt.enabled)
		primaries, _ := p.places(object)
		gone := map[int]bool{}
		for _, place := range primaries {
			if n := nodeAt(place); len(gone) < tt.away && !gone[n] {
				gone[n] = true
				p.stop(n)
			}
		}
		do(tt.while)
		for n := range gone {
			p.start(n)
		}
		p.enableVersions(true)
		do(tt.back)
		for range 3 {
			p.pass(false)
		}
		// Rows for replicas of the container that were away may still be in a queue.
		p.until("every replica lists all versions", func() bool {
			for range 20 { // of which each is asked by chance
				if len(p.versions(object)) != len(tt.want) {
					return false
				}
			}
			return true
		})
		p.wantVersions(object, tt.want...)
		for place, s := range p.copies(object) {
			if s.System.Get("X-Object-Sysmeta-Version-Link") == "" {
				t.Errorf("%s: %s has %+v, want a link", i, place, s)
			}
		}
	}
	p.still()
}

// Data that is no version becomes one where another version is made current in its place,
// but not while versions are suspended: then it is overwritten, as by any write.
func TestVersionMadeCurrentOverData(t *testing.T) {
	p := startProbe(t)
	large := strings.Repeat("l", 700<<10)
	for object, tt := range map[string]struct {
		text string
		on   bool
		want []string
	}{"small": {"plain", true, []string{"plain", "first"}}, "large": {large, true, []string{large, "first"}}, "suspended": {"plain", false, []string{"first"}}} {
		p.enableVersions(true)
		p.object("PUT", object, nil, "first", 201)
		first := p.versions(object)[0].ID
		p.enableVersions(false)
		p.object("PUT", object, nil, tt.text, 201)
		p.enableVersions(tt.on)
		p.want("PUT", p.url+"/c/"+object+"?version-id="+first, nil, "", 201)
		if got := p.body(object, ""); got != "first" {
			t.Errorf("%s: reads %d bytes", object, len(got))
		}
		rows := p.versions(object)
		if len(rows) != len(tt.want) {
			t.Fatalf("%s: versions %+v", object, rows)
		}
		for i, r := range rows {
			if got := p.body(object, "?version-id="+r.ID); got != tt.want[i] || r.Latest != (r.ID == first) {
				t.Errorf("%s: version %d is %+v with %d bytes", object, i, r, len(got))
			}
		}
	}
}

// A DELETE leaves a version that says so, and all versions can be had; they are deleted
// one by one, and the container when there are none.
func TestVersionsComeAndGo(t *testing.T) {
	p := startProbe(t)
	p.enableVersions(true)
	p.object("PUT", "o", nil, "one", 201)
	p.object("PUT", "o", nil, "two", 201)
	p.object("DELETE", "o", nil, "", 204)
	p.object("GET", "o", nil, "", 404)
	rows := p.versions("o")
	if len(rows) != 3 || rows[0].Content != "application/x-deleted;swift_versions_deleted=1" || !rows[0].Latest || rows[1].Latest {
		t.Fatalf("versions %+v", rows)
	}
	// An old one is current again without being copied, and is still where it was.
	resp := p.want("PUT", p.url+"/c/o?version-id="+rows[2].ID, nil, "", 201)
	if resp.Header.Get("X-Object-Version-Id") != rows[2].ID {
		t.Errorf("answered %v", resp.Header)
	}
	if got := p.body("o", ""); got != "one" {
		t.Errorf("reads %q", got)
	}
	head := p.want("HEAD", p.url+"/c", nil, "", 204)
	if head.Header.Get("X-Container-Object-Count") != "1" || head.Header.Get("X-Container-Bytes-Used") != "6" || head.Header.Get("X-Versions-Enabled") != "True" {
		t.Errorf("the container: %v", head.Header)
	}
	p.want("DELETE", p.url+"/c/o?version-id="+rows[2].ID, nil, "", 204)
	p.object("GET", "o", nil, "", 404)
	p.want("DELETE", p.url+"/c", nil, "", 409)
	for _, r := range p.versions("o") {
		p.want("DELETE", p.url+"/c/o?version-id="+r.ID, nil, "", 204)
	}
	p.want("DELETE", p.url+"/c", nil, "", 204)
	text := p.want("GET", p.url, nil, "", 204)
	if b, err := io.ReadAll(text.Body); err != nil && len(b) > 0 || text.Header.Get("X-Account-Container-Count") != "0" {
		t.Errorf("the account: %v, %q, %v", text.Header, b, err)
	}
}
