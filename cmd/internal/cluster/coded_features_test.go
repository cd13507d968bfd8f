package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/hmac"
	"crypto/md5" // the ETag of the API
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"martlet/internal/name"
)

// features are what proxies make of objects, each over containers whose objects are in fragments. The body is of more than one
// segment, and what is stored by way of a feature is read back as what it is, by a plain GET.
var features = map[string]func(p *probe, coded string){
	"bulk upload and bulk delete": func(p *probe, coded string) {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		bodies := map[string]string{"small": "a few bytes", "middle": strings.Repeat("middle ", 20_000), "large": strings.Repeat("of an archive ", 100_000)}
		for n, body := range bodies {
			if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o600, Size: int64(len(body))}); err != nil {
				p.t.Fatal(err)
			}
			_, _ = w.Write([]byte(body))
		}
		if err := w.Close(); err != nil {
			p.t.Fatal(err)
		}
		if n := p.report("PUT", p.url+"/"+coded+"?extract-archive=tar", archive.String())["Number Files Created"]; n != float64(len(bodies)) {
			p.t.Fatalf("%v files were created, want %d", n, len(bodies))
		}
		list := ""
		for n, body := range bodies {
			p.holds(coded+"/"+n, body)
			list += "/" + coded + "/" + n + "\n"
		}
		if n := p.report("POST", p.url+"?bulk-delete", list)["Number Deleted"]; n != float64(len(bodies)) {
			p.t.Fatalf("%v were deleted, want %d", n, len(bodies))
		}
		for n := range bodies {
			p.want("GET", p.url+"/"+coded+"/"+n, nil, "", 404)
		}
	},
	"temporary URLs": func(p *probe, coded string) {
		p.want("POST", p.url, map[string]string{"X-Account-Meta-Temp-URL-Key": "key"}, "", 204)
		nobody := *p
		nobody.token = "none"
		sign := func(method string) string {
			at, path := time.Now().Add(time.Hour).Unix(), "/v1/AUTH_test/"+coded+"/temp"
			q := url.Values{"temp_url_sig": {hmacOf("key", fmt.Sprintf("%s\n%d\n%s", method, at, path))}, "temp_url_expires": {fmt.Sprint(at)}}
			return p.url + "/" + coded + "/temp?" + q.Encode()
		}
		body := strings.Repeat("temporary ", 150_000)
		nobody.want("PUT", sign("PUT"), nil, body, 201)
		if got, _ := nobody.get(sign("GET"), 200); got != body {
			p.t.Errorf("got %d bytes by a temporary URL, want %d", len(got), len(body))
		}
		if f, err := nobody.fetch(p.t.Context(), "GET", sign("GET"), map[string]string{"Range": "bytes=1048570-1048585"}); err != nil || f.body != body[1048570:1048586] {
			p.t.Errorf("a range by a temporary URL: %d, %q, %v", f.status, f.body, err)
		}
		p.holds(coded+"/temp", body)
	},
	"forms": func(p *probe, coded string) {
		p.want("POST", p.url, map[string]string{"X-Account-Meta-Temp-URL-Key": "key"}, "", 204)
		path, at := "/v1/AUTH_test/"+coded+"/form-", time.Now().Add(time.Hour).Unix()
		body := strings.Repeat("of a form ", 150_000)
		var form strings.Builder
		for _, f := range [][2]string{
			{"max_file_size", "9000000"}, {"max_file_count", "2"}, {"expires", fmt.Sprint(at)}, {"signature", hmacOf("key", fmt.Sprintf("%s\n\n9000000\n2\n%d", path, at))},
		} {
			_, _ = fmt.Fprintf(&form, "--b\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", f[0], f[1])
		}
		_, _ = fmt.Fprintf(&form, "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"one\"\r\n\r\n%s\r\n--b--\r\n", body)
		nobody := *p
		nobody.token = "none"
		nobody.want("POST", p.url+"/"+coded+"/form-", map[string]string{"Content-Type": "multipart/form-data; boundary=b"}, form.String(), 201)
		p.holds(coded+"/form-one", body)
	},
	"static large objects": func(p *probe, coded string) {
		one, two := strings.Repeat("segment one ", 120_000), strings.Repeat("two ", 30_000)
		p.want("PUT", p.url+"/"+coded+"/segment-1", nil, one, 201)
		p.want("PUT", p.url+"/"+coded+"/segment-2", nil, two, 201)
		manifest := fmt.Sprintf(`[{"path":"/%s/segment-1","etag":"%x","size_bytes":%d},{"data":"fHw="},{"path":"/%s/segment-2","range":"10-"}]`, coded, md5.Sum([]byte(one)), len(one), coded)
		whole := one + "||" + two[10:]
		for _, container := range []string{coded, "c"} { // of which the manifest is in replicas
			p.want("PUT", p.url+"/"+container+"/slo?multipart-manifest=put", nil, manifest, 201)
			p.holds(container+"/slo", whole)
			p.want("COPY", p.url+"/"+container+"/slo", map[string]string{"Destination": coded + "/flat-" + container}, "", 201)
			p.holds(coded+"/flat-"+container, whole)
		}
		p.want("DELETE", p.url+"/"+coded+"/slo?multipart-manifest=delete", nil, "", 200)
		p.want("GET", p.url+"/"+coded+"/segment-1", nil, "", 404)
	},
	"dynamic large objects": func(p *probe, coded string) {
		whole := ""
		for i := range 3 {
			body := strings.Repeat(fmt.Sprint("part ", i), 100_000*i+3)
			p.want("PUT", fmt.Sprintf("%s/%s/dlo-%d", p.url, coded, i), nil, body, 201)
			whole += body
		}
		p.want("PUT", p.url+"/"+coded+"/manifest", map[string]string{"X-Object-Manifest": coded + "/dlo-"}, "", 201)
		p.pass(false) // rows that the node which is down was to tell of come by replication
		p.until("all have the parts listed", func() bool {
			for _, got := range p.replicas(name.Path{Account: "AUTH_test", Container: coded}, "") {
				if got != "away" && strings.Count(got, " dlo-") != 3 {
					return false
				}
			}
			return true
		})
		p.holds(coded+"/manifest", whole)
	},
	"copies to and from replicas": func(p *probe, coded string) {
		body := strings.Repeat("to be copied ", 120_000)
		p.want("PUT", p.url+"/"+coded+"/from", map[string]string{"X-Object-Meta-Colour": "red"}, body, 201)
		for _, way := range [][2]string{{coded + "/from", "c/replicas"}, {"c/replicas", coded + "/back"}, {coded + "/back", coded + "/again"}} {
			p.want("COPY", p.url+"/"+way[0], map[string]string{"Destination": way[1]}, "", 201)
			if colour := p.holds(way[1], body).Get("X-Object-Meta-Colour"); colour != "red" {
				p.t.Errorf("%s has the colour %q", way[1], colour)
			}
		}
		p.want("PUT", p.url+"/"+coded+"/put", map[string]string{"X-Copy-From": "/c/replicas"}, "", 201)
		p.holds(coded+"/put", body)
	},
	"symlinks": func(p *probe, coded string) {
		body := strings.Repeat("where a link leads ", 80_000)
		p.want("PUT", p.url+"/"+coded+"/target", nil, body, 201)
		p.want("PUT", p.url+"/"+coded+"/link", map[string]string{"X-Symlink-Target": coded + "/target"}, "", 201)
		p.want("PUT", p.url+"/c/link", map[string]string{"X-Symlink-Target": coded + "/target", "X-Symlink-Target-Etag": fmt.Sprintf("%x", md5.Sum([]byte(body)))}, "", 201)
		p.want("PUT", p.url+"/"+coded+"/twice", map[string]string{"X-Symlink-Target": "c/link"}, "", 201)
		for _, link := range []string{coded + "/link", "c/link", coded + "/twice"} {
			p.holds(link, body)
		}
	},
	"versions": func(p *probe, coded string) {
		versioned := coded + "-versioned"
		p.want("PUT", p.url+"/"+versioned, map[string]string{"X-Storage-Policy": "ec42"}, "", 201)
		first, second := strings.Repeat("the first ", 150_000), strings.Repeat("the second ", 100_000)
		p.want("PUT", p.url+"/"+versioned+"/o", nil, first, 201)
		was := p.want("HEAD", p.url+"/"+versioned+"/o", nil, "", 200).Header.Get("X-Timestamp")
		p.want("POST", p.url+"/"+versioned, map[string]string{"X-Versions-Enabled": "true"}, "", 204)
		id := p.want("PUT", p.url+"/"+versioned+"/o", nil, second, 201).Header.Get("X-Object-Version-Id")
		p.holds(versioned+"/o", second)
		p.want("DELETE", p.url+"/"+versioned+"/o", nil, "", 204)
		p.want("GET", p.url+"/"+versioned+"/o", nil, "", 404)
		p.holds(versioned+"/o?version-id="+was, first)
		p.want("PUT", p.url+"/"+versioned+"/o?version-id="+id, nil, "", 201)
		p.holds(versioned+"/o", second)
		p.want("DELETE", p.url+"/"+versioned+"/o?version-id="+was, nil, "", 204)
		p.want("GET", p.url+"/"+versioned+"/o?version-id="+was, nil, "", 404)
	},
}

// holds fails unless an object reads as it should, also from the middle on, and returns what is said of it.
func (p *probe) holds(object, want string) http.Header {
	p.t.Helper()
	got, header := p.get(p.url+"/"+object, 200)
	if got != want {
		p.t.Errorf("%s: got %d bytes, want %d", object, len(got), len(want))
	}
	from := len(want) / 2
	if f, err := p.fetch(p.t.Context(), "GET", p.url+"/"+object, map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", from, from+9)}); err != nil || f.status != 206 || f.body != want[from:min(len(want), from+10)] {
		p.t.Errorf("%s: ten bytes from %d on are %d, %q, %v", object, from, f.status, f.body, err)
	}
	return header
}

// report is what is said in the end of a request that does many things. It has to have gone well.
func (p *probe) report(method, url, body string) (said map[string]any) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", p.token)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "text/plain")
	resp, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || fmt.Sprint(said["Errors"]) != "[]" {
		p.t.Fatalf("%s %s: %v, %v", method, url, said, err)
	}
	return said
}

func hmacOf(key, text string) string {
	m := hmac.New(sha256.New, []byte(key))
	_, _ = m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}
