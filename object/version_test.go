package object

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

var visiblePath = name.Path{Account: "AUTH_t", Container: "c", Object: "o"}

// versionPath is the path of a request for a version.
func versionPath(t testing.TB, id string) string {
	t.Helper()
	at, err := timestamp.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	return backend.Target{Device: "d1", Partition: 12, Path: visiblePath.Version(at)}.Quoted()
}

func (r *rig) version(id, method string, pairs ...string) answer {
	r.t.Helper()
	return r.do(&backend.Request{Method: method, Path: versionPath(r.t, id), Header: header(pairs...)})
}

func (r *rig) putNew(ts, data string, pairs ...string) answer {
	r.t.Helper()
	return r.put(ts, data, append([]string{backend.NewVersion, "true"}, pairs...)...)
}

var tells = []string{"X-Container-Host", "1.1.1.1:1", "X-Container-Device", "c1", "X-Container-Partition", "7"}

// told takes what the container servers have got, in the order of their paths.
func (r *rig) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := r.rows
	r.rows = nil
	slices.Sort(rows)
	return rows
}

func TestVersions(t *testing.T) {
	for _, large := range []bool{false, true} {
		r := newRig(t)
		r.status["1.1.1.1:1"] = 201
		first, second := "first", "second"
		if large {
			first, second = strings.Repeat("a", 300<<10), strings.Repeat("b", 400<<10)
		}
		a := r.putNew(stamp(10), first, append([]string{"X-Object-Meta-A", "1", "X-Delete-At", "1800000000"}, tells...)...)
		r.want("first", a, 201)
		if a.header.Get(backend.VersionID) != stamp(10) || a.header.Has(backend.Superseded) {
			t.Errorf("first: answered %v", a.header)
		}
		sum := a.header.Get("Etag")
		if got, want := r.told(), []string{
			"1.1.1.1:1 PUT /c1/7/AUTH_t/%00versions%00c/%00o%008300000989.99999 " + stamp(10) + " " + itoa(len(first)) + " text/plain " + sum,
			"1.1.1.1:1 PUT /c1/7/AUTH_t/c/o " + stamp(10) + " 0 text/plain;swift_bytes=" + itoa(len(first)) + " " + sum + "; version_id=" + stamp(10),
		}; !slices.Equal(got, want) {
			t.Errorf("first: containers were told\n%q, want\n%q", got, want)
		}
		a = r.putNew(stamp(20), second)
		r.want("second", a, 201)
		if a.header.Has(backend.Superseded) { // a link
			t.Errorf("second: answered %v", a.header)
		}
		get, head := r.call("GET"), r.call("HEAD")
		r.want("get", get, 200)
		if get.body != second || get.header.Get(backend.VersionID) != stamp(20) || get.header.Has(backend.VersionLink) || get.header.Has("X-Delete-At") {
			t.Errorf("got %d bytes, %v", len(get.body), get.header)
		}
		if !slices.Equal(get.header, head.header) || head.length != int64(len(second)) {
			t.Errorf("head says %d, %v, get %v", head.length, head.header, get.header)
		}
		if got := r.call("GET", "Range", "bytes=1-2"); got.status != 206 || got.body != second[1:3] {
			t.Errorf("range: got %d, %q", got.status, got.body)
		}
		if got := r.call("GET", "If-None-Match", get.header.Get("Etag")); got.status != 304 {
			t.Errorf("if-none-match: got %d", got.status)
		}
		old := r.version(stamp(10), "GET")
		r.want("old", old, 200)
		if old.body != first || old.header.Get("X-Object-Meta-A") != "1" || old.header.Has("X-Delete-At") {
			t.Errorf("old: got %d bytes, %v", len(old.body), old.header)
		}
		r.want("must be new", r.putNew(stamp(30), "x", "If-None-Match", "*"), 412)
		r.want("too late", r.putNew(stamp(20), "x"), 409)

		// A DELETE leaves a marker, and what was there.
		a = r.call("DELETE", append([]string{"X-Timestamp", stamp(40), backend.NewVersion, "true"}, tells...)...)
		r.want("delete", a, 204)
		if got, want := r.told(), []string{
			"1.1.1.1:1 DELETE /c1/7/AUTH_t/c/o " + stamp(40) + "   ",
			"1.1.1.1:1 PUT /c1/7/AUTH_t/%00versions%00c/%00o%008300000959.99999 " + stamp(40) + " 0 " + backend.DeleteMarker + " d41d8cd98f00b204e9800998ecf8427e",
		}; !slices.Equal(got, want) {
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("delete: containers were told\n%q, want\n%q", got, want)
			}
		}
		r.want("delete again", r.call("DELETE", "X-Timestamp", stamp(41), backend.NewVersion, "true"), 404)
		r.want("get of what was deleted", r.call("GET"), 404)
		marker := r.version(stamp(41), "HEAD")
		r.want("marker", marker, 200)
		if marker.header.Get("Content-Type") != backend.DeleteMarker || marker.length != 0 {
			t.Errorf("marker: got %v", marker.header)
		}
		if got := r.version(stamp(20), "GET"); got.body != second {
			t.Errorf("second after the delete: got %d, %d bytes", got.status, len(got.body))
		}
		r.noLeftovers()
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// Metadata that is changed is the version's; when the object ends is its own.
func TestVersionPost(t *testing.T) {
	r := newRig(t)
	r.status["1.1.1.1:1"] = 201
	r.want("put", r.putNew(stamp(10), "data", "X-Object-Meta-A", "1"), 201)
	a := r.call("POST", append([]string{"X-Timestamp", stamp(20), "X-Object-Meta-B", "2", "Content-Type", "text/new", "X-Delete-At", "1700000100"}, tells...)...)
	r.want("post", a, 202)
	if got := r.told(); len(got) != 2 || !strings.Contains(got[0], "%00versions%00c") || !strings.Contains(got[0], " 4 text/new ") || !strings.Contains(got[1], " 0 text/new;swift_bytes=4 ") {
		t.Errorf("post: containers were told %q", got)
	}
	for what, got := range map[string]answer{"object": r.call("GET"), "version": r.version(stamp(10), "GET")} {
		if got.body != "data" || got.header.Get("X-Object-Meta-B") != "2" || got.header.Has("X-Object-Meta-A") ||
			got.header.Get("Content-Type") != "text/new" || got.header.Get("X-Timestamp") != stamp(20) {
			t.Errorf("%s: got %d, %v", what, got.status, got.header)
		}
	}
	r.want("old post", r.call("POST", "X-Timestamp", stamp(20), "X-Object-Meta-B", "3"), 409)
	r.now = r.now.Add(200e9)
	r.want("object past its end", r.call("GET"), 404)
	r.want("head past its end", r.call("HEAD"), 404)
	r.want("post past its end", r.call("POST", "X-Timestamp", stamp(1150), "X-Object-Meta-B", "3"), 404)
	if got := r.version(stamp(10), "GET"); got.body != "data" {
		t.Errorf("version past the object's end: got %d", got.status)
	}
}

// Data that is no version is not replaced before it was kept as one.
func TestUnversionedIsNotReplaced(t *testing.T) {
	for _, size := range []int{1, smallBody + 1} {
		r := newRig(t)
		r.want("plain", r.put(stamp(10), "plain"), 201)
		for what, a := range map[string]answer{
			"put": r.putNew(stamp(20), strings.Repeat("x", size)), "delete": r.call("DELETE", "X-Timestamp", stamp(20), backend.NewVersion, "true"),
			"put, older kept": r.putNew(stamp(20), strings.Repeat("x", size), backend.Preserved, stamp(9)),
		} {
			r.want(what, a, 409)
			if a.header.Get(backend.Unversioned) != stamp(10) || a.header.Has(backend.BackendStamp) {
				t.Errorf("%s: answered %v", what, a.header)
			}
		}
		if a := r.call("GET"); a.body != "plain" || a.header.Has(backend.VersionID) {
			t.Errorf("plain: got %d, %q, %v", a.status, a.body, a.header)
		}
		r.want("version of what was refused", r.version(stamp(20), "GET"), 404)
		if a := r.call("GET", backend.Unversioned, stamp(10)); a.body != "plain" {
			t.Errorf("asked for by its time: got %d", a.status)
		}
		r.want("asked for by another time", r.call("GET", backend.Unversioned, stamp(9)), 404)
		r.want("kept", r.putNew(stamp(20), strings.Repeat("x", size), backend.Preserved, stamp(10)), 201)
		a := r.call("HEAD", backend.Unversioned, stamp(10))
		r.want("replaced", a, 404)
		if len(a.header) > 0 {
			t.Errorf("replaced: answered %v", a.header)
		}
		r.wantKind("bad time", r.putNew(stamp(30), "x", backend.Preserved, "x"), errs.Invalid)
	}
}

// A link that comes before its version is no answer, and no reason to say that nothing is
// there; one whose version was deleted is.
func TestLinkWithoutItsVersion(t *testing.T) {
	r := newRig(t)
	link := backend.Link{ID: mustStamp(t, stamp(10)), Bytes: 4, ETag: "e"}
	r.want("link", r.put(stamp(10), "", "X-Backend-Replication", "true", backend.VersionLink, link.String()), 201)
	for _, method := range []string{"GET", "HEAD", "POST"} {
		a := r.call(method, "X-Timestamp", stamp(20))
		r.want(method, a, 503)
		if !a.header.Has(backend.RetryAfter) || a.header.Has(backend.BackendStamp) || a.header.Has(backend.NoVersion) {
			t.Errorf("%s: answered %v", method, a.header)
		}
	}
	r.now = r.now.Add(25 * time.Hour)
	for _, method := range []string{"GET", "HEAD"} {
		a := r.call(method)
		if r.want(method+" after a day", a, 503); !a.header.Has(backend.NoVersion) {
			t.Errorf("%s after a day: answered %v", method, a.header)
		}
	}
	r.now = r.now.Add(-25 * time.Hour)
	if a := r.call("GET", "X-Backend-Replication", "true"); a.status != 200 || a.header.Get(backend.VersionLink) != link.String() {
		t.Errorf("for another replica: got %d, %v", a.status, a.header)
	}
	req := putRequest(stamp(10), "data", "X-Backend-Replication", "true")
	req.Path = versionPath(t, stamp(10))
	r.want("version", r.do(req), 201)
	if a := r.call("GET"); a.body != "data" {
		t.Errorf("with its version: got %d, %q", a.status, a.body)
	}
	r.want("delete of the version", r.version(stamp(10), "DELETE", "X-Timestamp", stamp(30)), 204)
	for _, method := range []string{"GET", "HEAD"} {
		a := r.call(method)
		r.want(method, a, 404)
		if a.header.Get(backend.BackendStamp) != stamp(10) { // a later link elsewhere counts more
			t.Errorf("%s: answered %v", method, a.header)
		}
	}
	if a := r.call("HEAD", backend.Unversioned, backend.AnyData); a.status != 200 || a.header.Get(backend.VersionID) != stamp(10) || a.header.Get(backend.DataStamp) != stamp(10) {
		t.Errorf("head of what is there: got %d, %v", a.status, a.header)
	}
	// What is no link is data.
	r.want("not a link", r.put(stamp(40), "", backend.VersionLink, "nonsense"), 201)
	r.want("get", r.call("GET"), 200)
	if a := r.call("HEAD", backend.Unversioned, backend.AnyData); a.status != 200 || a.header.Has(backend.VersionID) || a.header.Get(backend.DataStamp) != stamp(40) {
		t.Errorf("head of what is there: got %d, %v", a.status, a.header)
	}
}

func mustStamp(t testing.TB, text string) timestamp.T {
	t.Helper()
	at, err := timestamp.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Of a version whose listing can't be told both rows are queued.
func TestVersionRowsAreQueued(t *testing.T) {
	r := newRig(t)
	r.want("put", r.putNew(stamp(10), "data", tells...), 201)
	got := r.queued()
	if len(got) != 2 {
		t.Fatalf("%d updates are queued, want 2", len(got))
	}
	for _, u := range got {
		if u.Hash != r.server.Hasher.Hash(u.Path) || u.Method != "PUT" {
			t.Errorf("queued: %+v", u)
		}
	}
	if got[0].Path.Container == got[1].Path.Container {
		t.Errorf("both are of %q", got[0].Path)
	}
}

// A write whose rows can neither be told nor queued fails, is stored all the same, and is noted, so that they are told later.
func TestRowsThatAreNotQueuedAreNoted(t *testing.T) {
	r := newRig(t)
	if err := os.WriteFile(r.root+"/d1/async_pending", nil, 0o600); err != nil { // no folder
		t.Fatal(err)
	}
	if got := r.putNew(stamp(10), "data", tells...); got.status/100 == 2 {
		t.Errorf("it is answered with %d", got.status)
	}
	e := r.server.Stores["d1"].Engine
	paths := map[string]bool{}
	for _, at := range e.Replayed() {
		state, err := e.Stat(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		u, ok := Retold(at, &state)
		if !ok || u.Method != "PUT" {
			t.Errorf("%+v is told of %+v", u, state)
		}
		paths[u.Path.Container] = true
	}
	if len(paths) != 2 {
		t.Errorf("noted are objects of %v, want the link and its version", paths)
	}
}

// Links, versions and deletes come by replication in any order: no read shows other bytes
// than those of the newest link that has come, or a 404 where that is right for what has,
// and in the end all orders have come to the same.
func TestVersionsInAnyOrder(t *testing.T) {
	link := func(ts, id string) func(*rig) {
		return func(r *rig) {
			l := backend.Link{ID: mustStamp(t, id), Bytes: 1, ETag: "e"}
			r.want("link", r.put(ts, "", "X-Backend-Replication", "true", backend.VersionLink, l.String()), 201)
		}
	}
	version := func(id, data string) func(*rig) {
		return func(r *rig) {
			req := putRequest(id, data, "X-Backend-Replication", "true")
			req.Path = versionPath(t, id)
			r.want("version", r.do(req), 201)
		}
	}
	type arrival struct {
		stamp string // of a link
		id    string // of what the link, or the arrival itself, is about
		data  string
		come  func(*rig)
	}
	all := []arrival{
		{stamp: stamp(10), id: stamp(10), come: link(stamp(10), stamp(10))},
		{id: stamp(10), data: "1", come: version(stamp(10), "1")},
		{stamp: stamp(20), id: stamp(20), come: link(stamp(20), stamp(20))},
		{id: stamp(20), data: "2", come: version(stamp(20), "2")},
		{stamp: stamp(30), id: stamp(10), come: link(stamp(30), stamp(10))}, // the first is current again
	}
	var orders func(done, left []int)
	orders = func(done, left []int) {
		if len(left) > 0 {
			for i, n := range left {
				orders(append(slices.Clone(done), n), slices.Delete(slices.Clone(left), i, i+1))
			}
			return
		}
		r := newRigOn(t, vfs.NewMem(), "")
		newest, has := arrival{}, map[string]string{}
		for _, n := range done {
			a := all[n]
			switch {
			case a.data != "":
				a.come(r)
				has[a.id] = a.data
			case a.stamp > newest.stamp:
				a.come(r)
				newest = a
			default: // it has lost, as any older push does
				l := backend.Link{ID: mustStamp(t, a.id), Bytes: 1, ETag: "e"}
				r.want("older link", r.put(a.stamp, "", "X-Backend-Replication", "true", backend.VersionLink, l.String()), 409)
			}
			got := r.call("GET")
			want, whole := has[newest.id]
			switch {
			case newest.stamp == "" && got.status == 404:
			case newest.stamp != "" && !whole && got.status == 503:
			case newest.stamp != "" && whole && got.status == 200 && got.body == want:
			default:
				t.Fatalf("order %v, after %d: got %d, %q, want what %s says, of %v", done, n, got.status, got.body, newest.stamp, has)
			}
		}
	}
	orders(nil, []int{0, 1, 2, 3, 4})
}

// What ends a link as of its own time ends that one, and nothing that was written later,
// in whatever order they come: also where metadata came in between.
func TestLinkIsEndedAsOfItsTime(t *testing.T) {
	end := func(ts, said string) string {
		return timestamp.Expiry(mustStamp(t, ts), mustStamp(t, said), 1_700_000_100).String()
	}
	steps := map[string]func(*rig) answer{
		"first":  func(r *rig) answer { return r.putNew(stamp(10), "first") },
		"end":    func(r *rig) answer { return r.call("DELETE", "X-Timestamp", end(stamp(10), stamp(30))) },
		"second": func(r *rig) answer { return r.putNew(stamp(20), "second") },
	}
	for _, tt := range []struct {
		order    string
		statuses []int
	}{
		{"first end second", []int{201, 204, 201}}, {"first second end", []int{201, 201, 409}},
		{"end first second", []int{404, 409, 201}}, {"end second first", []int{404, 201, 409}},
		{"second first end", []int{201, 409, 409}}, {"second end first", []int{201, 409, 409}},
	} {
		r := newRig(t)
		for i, step := range strings.Fields(tt.order) {
			r.want(tt.order+": "+step, steps[step](r), tt.statuses[i])
		}
		if got := r.call("GET"); got.body != "second" {
			t.Errorf("%s: got %d, %q", tt.order, got.status, got.body)
		}
		if got := r.version(stamp(10), "GET"); got.body != "first" {
			t.Errorf("%s: the version: got %d, %q", tt.order, got.status, got.body)
		}
	}
	r := newRig(t)
	r.want("put", r.putNew(stamp(10), "first"), 201)
	r.want("post", r.call("POST", "X-Timestamp", stamp(40), "X-Object-Meta-A", "1"), 202)
	r.want("end that knows nothing of it", r.call("DELETE", "X-Timestamp", end(stamp(10), stamp(30))), 409)
	r.want("get", r.call("GET"), 200)
	r.want("end that does", r.call("DELETE", "X-Timestamp", end(stamp(10), stamp(40))), 204)
	r.want("get of what was ended", r.call("GET"), 404)
}

// A version that comes late is kept all the same, and told of; what is current stays.
func TestLateVersionIsKept(t *testing.T) {
	for _, size := range []int{4, 300 << 10} {
		r := newRig(t)
		r.status["1.1.1.1:1"] = 201
		r.want("current", r.putNew(stamp(20), "current"), 201)
		late := strings.Repeat("l", size)
		a := r.putNew(stamp(10), late, tells...)
		r.want("late", a, 409)
		if a.header.Get(backend.VersionID) != stamp(10) || a.header.Get(backend.BackendStamp) != stamp(20) {
			t.Errorf("late: answered %v", a.header)
		}
		if got := r.told(); len(got) != 1 || !strings.Contains(got[0], "%00versions%00c") {
			t.Errorf("late: containers were told %q", got)
		}
		if got := r.version(stamp(10), "GET"); got.body != late {
			t.Errorf("late: got %d, %d bytes", got.status, len(got.body))
		}
		a = r.putNew(stamp(10), late)
		if r.want("late again", a, 409); a.header.Has(backend.VersionID) || a.header.Get(backend.BackendStamp) != stamp(10) {
			t.Errorf("late again: answered %v", a.header)
		}
		a = r.call("DELETE", "X-Timestamp", stamp(15), backend.NewVersion, "true")
		if r.want("late delete", a, 409); a.header.Get(backend.VersionID) != stamp(15) {
			t.Errorf("late delete: answered %v", a.header)
		}
		if got := r.call("GET"); got.body != "current" {
			t.Errorf("got %d, %q", got.status, got.body)
		}
		r.noLeftovers()
	}
}
