package slo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/listing"
	"martlet/proxy/chain"
	"martlet/proxy/symlink"
)

// three is a world with three segments and a large object of them.
func three(t *testing.T) (*world, chain.Handler, string) {
	t.Helper()
	w := newWorld()
	h := at(w, nil)
	whole := ""
	for i, data := range []string{"first.", "second.", "third."} {
		w.set("s"+strconv.Itoa(i), data)
		whole += data
	}
	makeLarge(t, h, "large", "s0", "s1", "s2")
	return w, h, whole
}

func TestPutVerifiesSegments(t *testing.T) {
	for what, tt := range map[string]struct {
		body   string
		header []string
		status int
		want   string
	}{
		"good":              {`[{"path":"/c/s0","etag":"` + sum("first.") + `","size_bytes":6}]`, nil, 201, ""},
		"its ETag":          {`[{"path":"/c/s0"}]`, []string{"Etag", `"` + sum(sum("first.")) + `"`}, 201, ""},
		"another ETag":      {`[{"path":"/c/s0"}]`, []string{"Etag", sum("first.")}, 422, "ETag"},
		"not there":         {`[{"path":"/c/none"},{"path":"/c/s0"}]`, nil, 400, "/c/none, 404 Not Found"},
		"of another size":   {`[{"path":"/c/s0","size_bytes":7}]`, nil, 400, "/c/s0, Size Mismatch"},
		"of another ETag":   {`[{"path":"/c/s0","etag":"x"}]`, nil, 400, "/c/s0, Etag Mismatch"},
		"all that is wrong": {`[{"path":"/c/s0","etag":"x","size_bytes":1},{"path":"/c/none"}]`, nil, 400, "/c/s0, Size Mismatch\n/c/s0, Etag Mismatch\n/c/none, 404 Not Found"},
		"a range beyond it": {`[{"path":"/c/s0","range":"6-"}]`, nil, 400, "/c/s0, Unsatisfiable Range"},
		"empty":             {`[{"path":"/c/empty"},{"path":"/c/s0"}]`, nil, 400, "/c/empty, Too small"},
		"empty at the end":  {`[{"path":"/c/s0"},{"path":"/c/empty"}]`, nil, 201, ""},
		"not allowed":       {`[{"path":"/c/secret"}]`, nil, 400, "/c/secret, 403 Forbidden"},
		"a dynamic one":     {`[{"path":"/c/s0"},{"path":"/c/dynamic"}]`, nil, 400, "/c/dynamic, A dynamic large object can't be a segment"},
		"as JSON":           {`[{"path":"/c/none"}]`, []string{"Accept", "application/json"}, 400, `{"Errors":[["/c/none","404 Not Found"]]}`},
		"as XML":            {`[{"path":"/c/n%26"}]`, []string{"Accept", "text/xml"}, 400, "<object><name>/c/n%2526</name><status>404 Not Found</status></object>"},
		"no manifest":       {`{`, nil, 400, "JSON"},
		"a copy":            {`[{"path":"/c/s0"}]`, []string{"X-Copy-From", "c/s0"}, 405, "COPY"},
		"too large":         {strings.Repeat(" ", 1001), nil, 413, "Manifest File"},
	} {
		w := newWorld()
		w.set("s0", "first.")
		w.set("empty", "")
		w.put(path("c", "dynamic"), "whatever is there", http.Header{"X-Object-Manifest": {"c/p"}})
		w.refuse["HEAD /a/c/secret"] = 403
		resp, body := ask(t, at(w, func(c *Config) { c.MaxSize = 1000 }), "PUT", "large", "multipart-manifest=put", tt.body, tt.header...)
		if resp.Status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: got %d %q, want %d %q", what, resp.Status, body, tt.status, tt.want)
		}
		if kept := w.objects[path("c", "large")]; (kept != nil) != (tt.status == 201) {
			t.Errorf("%s: kept %v", what, kept)
		}
	}
}

// A manifest of unknown length is bounded, too, and one that breaks off is none.
func TestPutReadsNoMoreThanItShould(t *testing.T) {
	for what, tt := range map[string]struct {
		length int64
		body   io.Reader
		status int
	}{
		"in chunks, too large": {-1, strings.NewReader(strings.Repeat(" ", 1001)), 413},
		"no length":            {-1, nil, 411},
		"too short":            {40, strings.NewReader(`[{"path":"/c/s0"}]`), 499},
		"in chunks":            {-1, strings.NewReader(`[{"path":"/c/s0"}]`), 201},
	} {
		w := newWorld()
		w.set("s0", "x")
		r := &chain.Request{Method: "PUT", Path: path("c", "l"), Query: "multipart-manifest=put", Header: http.Header{}, Length: tt.length, Body: tt.body}
		if resp := at(w, func(c *Config) { c.MaxSize = 1000 }).Serve(t.Context(), r); resp.Status != tt.status {
			t.Errorf("%s: got %d, want %d", what, resp.Status, tt.status)
		}
	}
}

// Who may not put a manifest does not get it read, nor its segments looked at.
func TestPutAsksFirst(t *testing.T) {
	for _, query := range []string{"multipart-manifest=put", "multipart-manifest=put&heartbeat=on"} {
		w := newWorld()
		w.set("s0", "x")
		w.refuse["PUT /a/c/l"] = 401
		body := strings.NewReader(`[{"path":"/c/s0"}]`)
		r := &chain.Request{Method: "PUT", Path: path("c", "l"), Query: query, Header: http.Header{}, Length: -1, Body: body}
		if resp := at(w, nil).Serve(t.Context(), r); resp.Status != 401 || body.Len() != int(body.Size()) || len(w.asked) != 1 {
			t.Errorf("%s: got %d, %d bytes are unread, asked %v", query, resp.Status, body.Len(), w.asked)
		}
	}
}

func TestWhatIsKept(t *testing.T) {
	w, _, _ := three(t)
	kept := w.objects[path("c", "large")]
	etag := sum(sum("first.") + sum("second.") + sum("third."))
	for n, want := range map[string]string{
		hdrStatic: "True", hdrETag: etag, hdrSize: "19", "Content-Type": "text/x", chain.ListedBytes: "19",
		hdrListed: sum(kept.data) + "; slo_etag=" + etag,
	} {
		if got := kept.header.Get(n); got != want {
			t.Errorf("%s is %q, want %q", n, got, want)
		}
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(kept.data), &list); err != nil || len(list) != 3 || list[1]["name"] != "/c/s1" || list[1]["bytes"] != 7.0 ||
		list[1]["hash"] != sum("second.") || list[1]["last_modified"] != "2023-11-14T22:13:20.000000" {
		t.Errorf("kept %s, %v", kept.data, err)
	}
}

func TestGet(t *testing.T) {
	_, h, whole := three(t)
	etag := `"` + sum(sum("first.")+sum("second.")+sum("third.")) + `"`
	for what, tt := range map[string]struct {
		method, query string
		header        []string
		status        int
		want          string
		ranged        string // Content-Range
	}{
		"whole":             {"GET", "", nil, 200, whole, ""},
		"head":              {"HEAD", "", nil, 200, "", ""},
		"head with a range": {"HEAD", "", []string{"Range", "bytes=1-2"}, 200, "", ""},
		"first byte":        {"GET", "", []string{"Range", "bytes=0-0"}, 206, "f", "bytes 0-0/19"},
		"across a border":   {"GET", "", []string{"Range", "bytes=4-7"}, 206, "t.se", "bytes 4-7/19"},
		"exactly one":       {"GET", "", []string{"Range", "bytes=6-12"}, 206, "second.", "bytes 6-12/19"},
		"across two":        {"GET", "", []string{"Range", "bytes=5-13"}, 206, ".second.t", "bytes 5-13/19"},
		"the end":           {"GET", "", []string{"Range", "bytes=-3"}, 206, "rd.", "bytes 16-18/19"},
		"beyond":            {"GET", "", []string{"Range", "bytes=19-"}, 416, "-", "bytes */19"},
		"no range":          {"GET", "", []string{"Range", "bytes=x"}, 200, whole, ""},
		"if it is this":     {"GET", "", []string{"Range", "bytes=0-0", "If-Range", etag}, 206, "f", "bytes 0-0/19"},
		"if it is another":  {"GET", "", []string{"Range", "bytes=0-0", "If-Range", `"x"`}, 200, whole, ""},
		"matches":           {"GET", "", []string{"If-Match", etag}, 200, whole, ""},
		"matches not":       {"GET", "", []string{"If-Match", `"x"`}, 412, "-", ""},
		"the client has it": {"GET", "", []string{"If-None-Match", etag}, 304, "", ""},
		"and its head":      {"HEAD", "", []string{"If-None-Match", etag}, 304, "", ""},
		"a part":            {"GET", "part-number=2", nil, 206, "second.", "bytes 6-12/19"},
		"head of a part":    {"HEAD", "part-number=3", nil, 206, "", "bytes 13-18/19"},
		"no such part":      {"GET", "part-number=4", nil, 416, "The requested part number is not satisfiable", "bytes */19"},
		"head of no part":   {"HEAD", "part-number=4", nil, 416, "", "bytes */19"},
		"part 0":            {"GET", "part-number=0", nil, 400, "-", "-"},
		"part x":            {"GET", "part-number=x", nil, 400, "-", "-"},
		"part of a range":   {"GET", "part-number=1", []string{"Range", "bytes=0-1"}, 400, "-", "-"},
	} {
		resp, body := ask(t, h, tt.method, "large", tt.query, "", tt.header...)
		if resp.Status != tt.status || tt.want != "-" && body != tt.want || tt.ranged != "-" && resp.Get("Content-Range") != tt.ranged {
			t.Errorf("%s: got %d %q, range %q, want %d %q, %q", what, resp.Status, body, resp.Get("Content-Range"), tt.status, tt.want, tt.ranged)
		}
		if tt.status != 400 && (resp.Get("Etag") != etag || resp.Get("X-Manifest-Etag") == "" || resp.Get("X-Manifest-Etag") == etag) {
			t.Errorf("%s: ETag %s, X-Manifest-Etag %s, want %s", what, resp.Get("Etag"), resp.Get("X-Manifest-Etag"), etag)
		}
		if tt.method == "HEAD" && tt.status == 200 && resp.Length != 19 {
			t.Errorf("%s: length %d", what, resp.Length)
		}
		if parts := resp.Get("X-Parts-Count"); tt.status != 400 && (parts == "3") != strings.HasPrefix(tt.query, "part") {
			t.Errorf("%s: X-Parts-Count %q", what, parts)
		}
	}
}

func TestSeveralRanges(t *testing.T) {
	_, h, _ := three(t)
	resp, body := ask(t, h, "GET", "large", "", "", "Range", "bytes=0-1,5-6,18-")
	boundary, ok := strings.CutPrefix(resp.Get("Content-Type"), "multipart/byteranges;boundary=")
	if resp.Status != 206 || !ok {
		t.Fatalf("got %d, %v", resp.Status, resp.Header)
	}
	want := ""
	for _, p := range [][2]string{{"0-1", "fi"}, {"5-6", ".s"}, {"18-18", "."}} {
		want += "--" + boundary + "\r\nContent-Type: text/x\r\nContent-Range: bytes " + p[0] + "/19\r\n\r\n" + p[1] + "\r\n"
	}
	if want += "--" + boundary + "--"; body != want {
		t.Errorf("got %q, want %q", body, want)
	}
	w, h, _ := three(t)
	delete(w.objects, path("c", "s0"))
	if resp, body := ask(t, h, "GET", "large", "", "", "Range", "bytes=0-1,5-6"); resp.Status != 409 {
		t.Errorf("without its first segment: got %d %q, want 409", resp.Status, body)
	}
}

// A large object that is not any more what its manifest says is never sent as if
// it were: 409 before the first byte, a body that breaks off behind it.
func TestSegmentsThatChanged(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(w *world, object string)
		first  int // status where it is the first segment
	}{
		"gone":           {func(w *world, o string) { delete(w.objects, path("c", o)) }, 409},
		"other bytes":    {func(w *world, o string) { w.set(o, strings.ToUpper(w.objects[path("c", o)].data)) }, 409},
		"longer":         {func(w *world, o string) { d := w.objects[path("c", o)]; d.data += "!" }, 409}, // of the same ETag
		"shorter":        {func(w *world, o string) { d := w.objects[path("c", o)]; d.data = d.data[1:] }, 409},
		"not allowed":    {func(w *world, o string) { w.refuse["GET /a/c/"+o] = 403 }, 409},
		"cluster failed": {func(w *world, o string) { w.refuse["GET /a/c/"+o] = 503 }, 503},
	} {
		for i, object := range []string{"s0", "s1", "s2"} {
			w, h, _ := three(t)
			tt.change(w, object)
			resp, body := ask(t, h, "GET", "large", "", "")
			if i == 0 {
				if resp.Status != tt.first || strings.Contains(body, "second") {
					t.Errorf("%s, %s: got %d %q, want %d", object, what, resp.Status, body, tt.first)
				}
				continue
			}
			whole := []string{"", "first.", "first.second."}[i]
			if resp.Status != 200 || resp.Length != 19 || body != fmt.Sprintf("broke off after %d: %s", len(whole), whole) {
				t.Errorf("%s, %s: got %d %q, want it to break off behind %q", object, what, resp.Status, body, whole)
			}
			if resp, _ := ask(t, h, "HEAD", "large", "", ""); resp.Status != 200 {
				t.Errorf("%s, %s: HEAD %d", object, what, resp.Status)
			}
			if resp, body := ask(t, h, "GET", "large", "", "", "Range", "bytes=0-5"); resp.Status != 206 || body != "first." {
				t.Errorf("%s, %s: a range without it: %d %q", object, what, resp.Status, body)
			}
		}
	}
}

func TestInlineDataAndRanges(t *testing.T) {
	w := newWorld()
	h := at(w, nil)
	w.set("o", "0123456789")
	manifest := `[{"data":"PDw="},{"path":"/c/o","range":"2-4"},{"data":"fA=="},{"path":"/c/o","range":"-2"},{"path":"/c/o","range":"0-9"},{"data":"Pj4="}]`
	if resp, body := ask(t, h, "PUT", "large", "multipart-manifest=put", manifest); resp.Status != 201 {
		t.Fatalf("PUT: %d %s", resp.Status, body)
	}
	const whole = "<<234|890123456789>>"
	e := sum("0123456789")
	want := `"` + sum(sum("<<")+e+":2-4;"+sum("|")+e+":8-9;"+e+sum(">>")) + `"`
	resp, body := ask(t, h, "GET", "large", "", "")
	if body != whole || resp.Get("Etag") != want || resp.Length != int64(len(whole)) {
		t.Errorf("got %q of %d, ETag %s, want %q, %s", body, resp.Length, resp.Get("Etag"), whole, want)
	}
	for from := range len(whole) {
		for to := from; to < len(whole); to++ {
			if _, body := ask(t, h, "GET", "large", "", "", "Range", fmt.Sprintf("bytes=%d-%d", from, to)); body != whole[from:to+1] {
				t.Errorf("%d-%d: got %q, want %q", from, to, body, whole[from:to+1])
			}
		}
	}
	delete(w.objects, path("c", "o"))
	if resp, body := ask(t, h, "GET", "large", "", ""); resp.Status != 409 {
		t.Errorf("without the object behind the data: got %d %q, want 409", resp.Status, body)
	}
}

// A range is one of the large object, however long its manifest is.
func TestARangeIsNotOfTheManifest(t *testing.T) {
	w := newWorld()
	h := at(w, nil)
	w.set("o", strings.Repeat("0123456789", 1000))
	makeLarge(t, h, "large", "o")
	w.asked = nil
	resp, body := ask(t, h, "GET", "large", "", "", "Range", "bytes=9995-")
	if resp.Status != 206 || body != "56789" || resp.Get("Content-Range") != "bytes 9995-9999/10000" || len(w.asked) != 2 {
		t.Errorf("got %d %q, %q, asked %v", resp.Status, body, resp.Get("Content-Range"), w.asked)
	}
}

// Each level doubles the one below it, up to what is allowed.
func TestNesting(t *testing.T) {
	w := newWorld()
	h := at(w, nil)
	w.set("l0", "ab")
	for i := 1; i <= MaxDepth+1; i++ {
		below := fmt.Sprint("l", i-1)
		makeLarge(t, h, fmt.Sprint("l", i), below, below)
	}
	whole := strings.Repeat("ab", 1<<MaxDepth)
	resp, body := ask(t, h, "GET", fmt.Sprint("l", MaxDepth), "", "")
	if resp.Status != 200 || body != whole {
		t.Errorf("as deep as may be: got %d, %d bytes, want %d", resp.Status, len(body), len(whole))
	}
	if _, body := ask(t, h, "GET", fmt.Sprint("l", MaxDepth), "", "", "Range", "bytes=1023-1026"); body != whole[1023:1027] {
		t.Errorf("a range: got %q", body)
	}
	if resp, body := ask(t, h, "GET", fmt.Sprint("l", MaxDepth+1), "", ""); resp.Status != 409 {
		t.Errorf("one deeper: got %d, %d bytes, want 409", resp.Status, len(body))
	}
	if head, _ := ask(t, h, "HEAD", fmt.Sprint("l", MaxDepth+1), "", ""); head.Length != int64(2*len(whole)) {
		t.Errorf("its head: length %d, want %d", head.Length, 2*len(whole))
	}
	// One in the middle becomes another large object of the same length.
	w.set("x", "xy")
	makeLarge(t, h, "l1", "x", "x")
	if resp, body := ask(t, h, "GET", "l3", "", ""); resp.Status != 409 {
		t.Errorf("a manifest inside has changed: got %d %q, want 409", resp.Status, body)
	}
	w.set("l2", "plain")
	if resp, _ := ask(t, h, "GET", "l3", "", ""); resp.Status != 409 {
		t.Errorf("a manifest inside is none any more: got %d, want 409", resp.Status)
	}
}

func TestManifestAsItIs(t *testing.T) {
	w, h, _ := three(t)
	kept := w.objects[path("c", "large")].data
	resp, body := ask(t, h, "GET", "large", "multipart-manifest=get", "")
	if resp.Status != 200 || body != kept || resp.Get("Content-Type") != "application/json; charset=utf-8" || resp.Get("Etag") != sum(kept) {
		t.Errorf("got %d %q, %v", resp.Status, body, resp.Header)
	}
	if resp, body := ask(t, h, "GET", "large", "multipart-manifest=get", "", "Range", "bytes=0-0"); resp.Status != 206 || body != "[" {
		t.Errorf("a range of it: got %d %q", resp.Status, body)
	}
	resp, raw := ask(t, h, "GET", "large", "multipart-manifest=get&format=raw", "")
	if resp.Get("Content-Type") != "text/x" || resp.Get("Etag") != sum(raw) || !strings.HasPrefix(raw, `[{"etag":"`+sum("first.")+`","path":"/c/s0","size_bytes":6}`) {
		t.Errorf("raw: got %q, %v", raw, resp.Header)
	}
	if resp, body := ask(t, h, "GET", "large", "multipart-manifest=get&format=raw", "", "Range", "bytes=0-0"); resp.Status != 200 || body != raw {
		t.Errorf("a range of the raw form: got %d %q, want all of it", resp.Status, body)
	}
	if resp, body := ask(t, h, "GET", "s0", "multipart-manifest=get&format=raw", "", "Range", "bytes=0-0"); resp.Status != 206 || body != "f" {
		t.Errorf("a range of a plain object: got %d %q", resp.Status, body)
	}
	if head, _ := ask(t, h, "HEAD", "large", "multipart-manifest=get&format=raw", ""); head.Length != int64(len(raw)) || head.Get("Etag") != sum(raw) {
		t.Errorf("head of the raw form: %d bytes, ETag %s, want %d, %s", head.Length, head.Get("Etag"), len(raw), sum(raw))
	}
	if resp, body := ask(t, h, "PUT", "again", "multipart-manifest=put", raw); resp.Status != 201 {
		t.Errorf("put again: %d %s", resp.Status, body)
	}
	if _, body := ask(t, h, "GET", "s0", "multipart-manifest=get", ""); body != "first." {
		t.Errorf("of a plain object: got %q", body)
	}
}

// Several ranges of a manifest are what their boundary says they are.
func TestRangesOfAManifest(t *testing.T) {
	const several = "multipart/byteranges;boundary=b"
	for status, want := range map[int]string{206: several, 200: "application/json; charset=utf-8"} {
		h := Link(Defaults())(chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response {
			return &chain.Response{Status: status, Header: http.Header{hdrStatic: {"True"}, "Content-Type": {several}}}
		}))
		if resp, _ := ask(t, h, "GET", "large", "multipart-manifest=get", ""); resp.Get("Content-Type") != want {
			t.Errorf("%d: Content-Type %q, want %q", status, resp.Get("Content-Type"), want)
		}
	}
}

// Manifests of an early Swift have neither size nor ETag beside them.
func TestEarlyManifests(t *testing.T) {
	w, h, whole := three(t)
	kept := w.objects[path("c", "large")]
	kept.header.Del(hdrETag)
	kept.header.Del(hdrSize)
	etag := `"` + sum(sum("first.")+sum("second.")+sum("third.")) + `"`
	for what, tt := range map[string]struct {
		method string
		header []string
		status int
		want   string
	}{
		"GET": {"GET", nil, 200, whole}, "HEAD": {"HEAD", nil, 200, ""}, "range": {"GET", []string{"Range", "bytes=5-6"}, 206, ".s"},
		"has it": {"GET", []string{"If-None-Match", etag}, 304, ""}, "match": {"GET", []string{"If-Match", etag}, 200, whole},
		"no match": {"GET", []string{"If-Match", "x"}, 412, "-"}, "the manifest's": {"GET", []string{"If-Match", kept.header.Get("Etag")}, 412, "-"},
	} {
		resp, body := ask(t, h, tt.method, "large", "", "", tt.header...)
		if resp.Status != tt.status || tt.want != "-" && body != tt.want || resp.Get("Etag") != etag {
			t.Errorf("%s: got %d %q, ETag %s, want %d %q", what, resp.Status, body, resp.Get("Etag"), tt.status, tt.want)
		}
	}
	kept.data = "["
	if resp, _ := ask(t, h, "GET", "large", "", ""); resp.Status != 503 {
		t.Errorf("a damaged manifest: got %d, want 503", resp.Status)
	}
}

func TestDelete(t *testing.T) {
	w, _, _ := three(t)
	h := at(w, func(c *Config) { c.DeleteConcurrency = 1 }) // two at once come in any order
	w.set("other", "x")
	makeLarge(t, h, "above", "large", "other")
	for what, tt := range map[string]struct{ object, want string }{
		"nothing there":   {"none", "Number Deleted: 0\nNumber Not Found: 1\nResponse Body: \nResponse Status: 200 OK\nErrors:\n"},
		"no large object": {"other", "Number Deleted: 0\nNumber Not Found: 0\nResponse Body: \nResponse Status: 400 Bad Request\nErrors:\n/c/other, Not an SLO manifest\n"},
	} {
		if resp, body := ask(t, h, "DELETE", tt.object, "multipart-manifest=delete", ""); resp.Status != 200 || body != tt.want || len(w.objects) != 6 {
			t.Errorf("%s: got %d %q, want %q; %d objects are left", what, resp.Status, body, tt.want, len(w.objects))
		}
	}
	w.asked = nil
	_, body := ask(t, h, "DELETE", "above", "multipart-manifest=delete", "", "Accept", "application/json")
	if want := `{"Errors":[],"Number Deleted":6,"Number Not Found":0,"Response Body":"","Response Status":"200 OK"}`; body != want || len(w.objects) != 0 {
		t.Errorf("got %s, want %s; %d objects are left", body, want, len(w.objects))
	}
	order := func(o string) int { return slices.Index(w.asked, "DELETE /a/c/"+o) }
	if order("above") < order("other") || order("large") < order("s0") {
		t.Errorf("manifests go before what they name: %v", w.asked)
	}
	w, h, _ = three(t)
	w.refuse["DELETE /a/c/s1"] = 403
	delete(w.objects, path("c", "s2"))
	_, body = ask(t, h, "DELETE", "large", "multipart-manifest=delete", "")
	if want := "Number Deleted: 2\nNumber Not Found: 1\nResponse Body: \nResponse Status: 400 Bad Request\nErrors:\n/c/s1, 403 Forbidden\n"; body != want {
		t.Errorf("with one that can't be: got %q, want %q", body, want)
	}
}

// A symbolic link to a large object is deleted, and nothing of what it leads to; so is one that is a segment.
func TestDeleteOfALink(t *testing.T) {
	for what, tt := range map[string]struct {
		object, query string
		want          string
		gone          []string
	}{
		"a link":    {"link", "multipart-manifest=delete", "Number Deleted: 1\n", []string{"link"}},
		"quietly":   {"link", "multipart-manifest=delete&async=yes", "", []string{"link"}},
		"a segment": {"above", "multipart-manifest=delete", "Number Deleted: 3\n", []string{"above", "link", "other"}},
	} {
		w, _, _ := three(t)
		w.set("other", "x")
		w.put(path("c", "link"), "", http.Header{"X-Object-Sysmeta-Symlink-Target": {"c/large"}})
		h := at(symlink.Link(symlink.Defaults())(w), nil)
		makeLarge(t, h, "above", "link", "other")
		before := len(w.objects)
		_, body := ask(t, h, "DELETE", tt.object, tt.query, "")
		if !strings.HasPrefix(body, tt.want) || len(w.objects) != before-len(tt.gone) {
			t.Errorf("%s: got %q, want %q; %d objects of %d are left", what, body, tt.want, len(w.objects), before)
		}
		for _, o := range tt.gone {
			if w.objects[path("c", o)] != nil {
				t.Errorf("%s: %s is there", what, o)
			}
		}
	}
}

// Manifests that name each other end, be the sender allowed to delete them or not.
func TestDeleteOfACircle(t *testing.T) {
	for status, want := range map[int]string{
		0:   "Number Deleted: 2\nNumber Not Found: 1\nResponse Body: \nResponse Status: 200 OK\nErrors:\n",
		403: "Number Deleted: 0\nNumber Not Found: 0\nResponse Body: \nResponse Status: 400 Bad Request\nErrors:\n/c/a, 403 Forbidden\n/c/b, 403 Forbidden\n/c/a, 403 Forbidden\n",
	} {
		w := newWorld()
		h := at(w, func(c *Config) { c.DeleteConcurrency = 1 })
		w.set("x", "x")
		makeLarge(t, h, "b", "x")
		makeLarge(t, h, "a", "b")
		makeLarge(t, h, "b", "a")
		w.refuse["DELETE /a/c/a"], w.refuse["DELETE /a/c/b"] = status, status
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		resp := h.Serve(ctx, &chain.Request{Method: "DELETE", Path: path("c", "a"), Query: "multipart-manifest=delete", Header: http.Header{}, Length: -1})
		body, err := io.ReadAll(resp.Body)
		if resp.Close(); ctx.Err() != nil || err != nil || string(body) != want {
			t.Errorf("deletes get %d: got %q, %v, %v, want %q", status, body, err, ctx.Err(), want)
		}
		cancel()
	}
}

// What lies deeper than may be read is left, and said to be.
func TestDeleteOfWhatIsTooDeep(t *testing.T) {
	w := newWorld()
	h := at(w, nil)
	w.set("l0", "ab")
	for i := 1; i <= MaxDepth+1; i++ {
		makeLarge(t, h, fmt.Sprint("l", i), fmt.Sprint("l", i-1))
	}
	_, body := ask(t, h, "DELETE", fmt.Sprint("l", MaxDepth+1), "multipart-manifest=delete", "")
	if !strings.HasPrefix(body, "Number Deleted: 10\n") || !strings.HasSuffix(body, "Errors:\n/c/l1, It is deeper than 10 manifests\n") || len(w.objects) != 2 {
		t.Errorf("got %q; %d objects are left", body, len(w.objects))
	}
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, h, _ := three(t)
		w.slow = 12 * time.Second
		put := func(manifest string) (*chain.Response, string) {
			return ask(t, h, "PUT", "beat", "multipart-manifest=put&heartbeat=on", manifest)
		}
		resp, body := put(`[{"path":"/c/s0"}]`)
		if resp.Status != 202 || !strings.HasPrefix(body, "   \r\n\r\nEtag: \"") || !strings.Contains(body, "Response Status: 201 Created\n") {
			t.Errorf("got %d %q", resp.Status, body)
		}
		if _, body := put(`[{"path":"/c/none"}]`); !strings.Contains(body, "Response Body: Bad Request\nResponse Status: 400 Bad Request\nErrors:\n/c/none, 404 Not Found\n") {
			t.Errorf("one is not there: got %q", body)
		}
		if resp, _ := put(`[`); resp.Status != 400 {
			t.Errorf("no manifest: got %d, want 400 at once", resp.Status)
		}
		// A client that goes away ends the work, and nothing is left of it.
		r := &chain.Request{Method: "PUT", Path: path("c", "left"), Query: "multipart-manifest=put&heartbeat=on", Header: http.Header{}, Length: -1,
			Body: strings.NewReader(`[{"path":"/c/s0"}]`)}
		ctx, cancel := context.WithCancel(t.Context())
		resp = h.Serve(ctx, r)
		cancel()
		resp.Close()
	})
}

// The client's header is read while an answer is sent, with the work behind it going on: that leaves it as it was.
func TestHeartbeatLeavesHeader(t *testing.T) {
	_, h, _ := three(t)
	r := &chain.Request{Method: "PUT", Path: path("c", "beat"), Query: "multipart-manifest=put&heartbeat=on", Header: http.Header{"X-Object-Meta-A": {"1"}}, Length: -1,
		Body: strings.NewReader(`[{"path":"/c/s0"}]`)}
	was := r.Header.Clone()
	body, err := h.Serve(t.Context(), r).ReadAll(1 << 10)
	if err != nil || !strings.Contains(string(body), "201 Created") {
		t.Fatalf("%q, %v", body, err)
	}
	if !reflect.DeepEqual(r.Header, was) {
		t.Errorf("the header is %v, and was %v", r.Header, was)
	}
}

// A panic in a goroutine of the feature's own is one of the request, or breaks
// its answer off.
func TestPanics(t *testing.T) {
	for what, tt := range map[string]struct{ method, query, refused string }{
		"PUT":            {"PUT", "multipart-manifest=put", "HEAD /a/c/s0"},
		"PUT, heartbeat": {"PUT", "multipart-manifest=put&heartbeat=on", "HEAD /a/c/s0"},
		"DELETE":         {"DELETE", "multipart-manifest=delete", "DELETE /a/c/s0"},
	} {
		w, _, _ := three(t)
		h := Link(Defaults())(chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
			if r.Method+" "+r.Path.String() == tt.refused {
				panic("oh no")
			}
			return w.Serve(ctx, r)
		}))
		body := ""
		err := chain.Survive(func() { _, body = ask(t, h, tt.method, "large", tt.query, `[{"path":"/c/s0"}]`) })
		if err == nil && !strings.HasPrefix(body, "broke off") {
			t.Errorf("%s: got %q", what, body)
		}
	}
}

func TestVerificationIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		h := at(w, func(c *Config) { c.Concurrency = 3 })
		var all []string
		for i := range 20 {
			w.set(fmt.Sprint(i), "x")
			all = append(all, fmt.Sprint(i), fmt.Sprint(i))
		}
		w.slow = time.Second
		began := time.Now()
		makeLarge(t, h, "large", all...)
		if took := time.Since(began); w.most != 3 || took > 9*time.Second || len(w.asked) != 22 {
			t.Errorf("%d at once, %v, %d requests, want 3 at once and each object once", w.most, took, len(w.asked))
		}
	})
}

// After ten small segments one a second: a large object of very many costs the
// cluster no more than other reads do.
func TestSmallSegmentsAreHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.set("o", "x")
		w.set("big", strings.Repeat("b", 2000))
		for what, tt := range map[string]struct {
			object string
			least  time.Duration
		}{"small": {"o", 4 * time.Second}, "large": {"big", 0}} {
			h := at(w, func(c *Config) { c.RatePerSecond, c.RateUnder = 1, 1000 })
			makeLarge(t, h, "large", slices.Repeat([]string{tt.object}, 15)...)
			began := time.Now()
			_, body := ask(t, h, "GET", "large", "", "")
			if took := time.Since(began); took != tt.least || strings.HasPrefix(body, "broke") {
				t.Errorf("%s: took %v, want %v; %.40q", what, took, tt.least, body)
			}
		}
	})
}

func TestReadsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := three(t)
		w.slow = time.Minute
		h := at(w, func(c *Config) { c.MaxGetTime = c.Heartbeat })
		if _, body := ask(t, h, "GET", "large", "", ""); !strings.HasPrefix(body, "broke off") {
			t.Errorf("it takes longer than it may: got %q", body)
		}
	})
}

func TestTheHeaderIsReserved(t *testing.T) {
	w := newWorld()
	w.set("o", "x")
	for _, method := range []string{"PUT", "POST"} {
		if resp, _ := ask(t, at(w, nil), method, "o", "", "x", hdrStatic, "True"); resp.Status != 400 {
			t.Errorf("%s with %s: got %d, want 400", method, hdrStatic, resp.Status)
		}
	}
}

func TestListings(t *testing.T) {
	rows := []listing.Object{{Name: "a", Hash: "h; slo_etag=e"}, {Name: "b", Hash: "h"}, {Name: "c/", Subdir: true}}
	h := Link(Defaults())(chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response {
		return &chain.Response{Status: 200, Header: http.Header{}, Rows: &chain.Rows{Objects: rows}}
	}))
	r := &chain.Request{Method: "GET", Path: path("c", ""), Header: http.Header{}}
	got := h.Serve(t.Context(), r).Rows.Objects
	if got[0].Hash != "h" || got[0].SLOETag != `"e"` || got[1].Hash != "h" || got[1].SLOETag != "" {
		t.Errorf("got %+v", got)
	}
}

// A manifest of another cluster's is kept as it is there, and what is said of it is worked out anew; its
// segments need not be here.
func TestAManifestOfAnotherCluster(t *testing.T) {
	for what, tt := range map[string]struct {
		body     string
		header   []string
		replayed bool
		want     int
	}{
		"good":           {"", nil, true, 201},
		"another ETag":   {"", []string{"Etag", "x"}, true, 422},
		"a client's":     {"", nil, false, 400},
		"no manifest":    {"{", nil, true, 400},
		"no segments":    {"x", nil, true, 400},
		"a bad range":    {`[{"name":"/c/a","bytes":4,"hash":"x","range":"9-"}]`, nil, true, 400},
		"not of objects": {`[{"name":"a","bytes":4,"hash":"x"}]`, nil, true, 400},
	} {
		here, there := newWorld(), newWorld()
		for _, o := range []string{"a", "b"} {
			there.set(o, "data of "+o)
		}
		makeLarge(t, at(there, nil), "large", "a", "b")
		kept := there.objects[path("c", "large")]
		body := kept.data
		if tt.body != "" {
			body = tt.body
		}
		header := append([]string{hdrStatic, "True"}, tt.header...)
		if tt.replayed {
			header = append(header, chain.Replayed, "true")
		}
		resp, _ := ask(t, at(here, nil), "PUT", "large", "", body, header...)
		got := here.objects[path("c", "large")]
		if resp.Status != tt.want || (got != nil) != (tt.want == 201) {
			t.Errorf("%s: got %d, kept %v, want %d", what, resp.Status, got, tt.want)
			continue
		}
		if got == nil {
			continue
		}
		for _, n := range []string{hdrStatic, hdrETag, hdrSize, hdrListed, "Etag", chain.ListedBytes} {
			if got.header.Get(n) != kept.header.Get(n) || got.header.Get(n) == "" {
				t.Errorf("%s: %s is %q, there %q", what, n, got.header.Get(n), kept.header.Get(n))
			}
		}
		if got.data != kept.data {
			t.Errorf("%s: kept %q, there %q", what, got.data, kept.data)
		}
	}
}
