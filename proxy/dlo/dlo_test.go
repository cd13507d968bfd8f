package dlo

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

func sum(s string) string {
	m := md5.Sum([]byte(s))
	return hex.EncodeToString(m[:])
}

const page = 3

// world is a core: the manifest c/large, and the segments s/p/0, s/p/1, ... as a
// listing of three rows a page shows them.
type world struct {
	segments []string
	header   http.Header // of the manifest
	listed   int         // status of listings; 0 is that all is well
	refuse   map[string]int
	asked    []string
}

func (w *world) Serve(_ context.Context, r *chain.Request) *chain.Response {
	w.asked = append(w.asked, r.Path.String()+"?"+r.Query)
	switch p := r.Path; {
	case w.refuse[p.Object] != 0:
		return chain.Text(w.refuse[p.Object], "")
	case p.Object == "":
		return w.list(r)
	case p.Object == "large":
		resp := &chain.Response{Status: 200, Header: w.header.Clone()}
		if r.Header.Get("If-Match") != "" {
			resp.Status = 412
		}
		if r.Header.Get("If-None-Match") == "*" {
			resp.Status = 304
		}
		return resp
	}
	var i int
	if _, err := fmt.Sscanf(r.Path.Object, "p/%d", &i); err != nil || i >= len(w.segments) {
		return chain.Text(404, "")
	}
	data := w.segments[i]
	resp := &chain.Response{Status: 200, Header: http.Header{"Etag": {sum(data)}}}
	var first, last int
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); n == 2 {
		resp.Status = 206
		resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(data)))
		data = data[first : last+1]
	}
	resp.SetText(data)
	return resp
}

func (w *world) list(r *chain.Request) *chain.Response {
	if w.listed != 0 {
		return chain.Text(w.listed, "")
	}
	prefix, _ := r.Param("prefix")
	marker, _ := r.Param("marker")
	rows := &chain.Rows{}
	for i, data := range w.segments {
		if n := fmt.Sprintf("p/%d", i); n > marker && strings.HasPrefix(n, prefix) && len(rows.Objects) < page {
			rows.Objects = append(rows.Objects, listing.Object{Name: n, Hash: sum(data), Bytes: int64(len(data))})
		}
	}
	return &chain.Response{Status: 200, Header: http.Header{}, Rows: rows}
}

func newWorld(segments ...string) *world {
	return &world{segments: segments, refuse: map[string]int{}, header: http.Header{
		hdrManifest: {"s%20t/p/"}, "Etag": {sum("")}, "Content-Type": {"text/x"}, "Last-Modified": {"Tue, 14 Nov 2023 22:13:20 GMT"},
	}}
}

func ask(t *testing.T, w *world, method, query string, headers ...string) (*chain.Response, string) {
	t.Helper()
	r := &chain.Request{Method: method, Path: name.Path{Account: "a", Container: "c", Object: "large"}, Query: query, Header: http.Header{}, Length: -1}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	cfg := Defaults()
	resp := Link(cfg, page)(w).Serve(t.Context(), r)
	if resp.Body == nil {
		return resp, ""
	}
	text, err := io.ReadAll(resp.Body)
	resp.Close()
	if err != nil {
		return resp, fmt.Sprintf("broke off after %d: %s", len(text), text)
	}
	return resp, string(text)
}

func TestGet(t *testing.T) {
	two := []string{"first.", "second."}
	etag := `"` + sum(sum("first.")+sum("second.")) + `"`
	many := []string{"a0", "b1", "c2", "d3", "e4", "f5", "g6"}
	for what, tt := range map[string]struct {
		segments []string
		method   string
		header   []string
		status   int
		want     string // "-" is whatever
		length   int64
		etag     string
	}{
		"whole":              {two, "GET", nil, 200, "first.second.", 13, etag},
		"head":               {two, "HEAD", nil, 200, "", 13, etag},
		"range":              {two, "GET", []string{"Range", "bytes=4-7"}, 206, "t.se", 4, etag},
		"the end":            {two, "GET", []string{"Range", "bytes=-2"}, 206, "d.", 2, etag},
		"beyond":             {two, "GET", []string{"Range", "bytes=13-"}, 416, "-", -1, etag},
		"several ranges":     {two, "GET", []string{"Range", "bytes=0-0,2-2"}, 200, "first.second.", 13, etag},
		"none":               {nil, "GET", nil, 200, "", 0, `"` + sum("") + `"`},
		"matches":            {two, "GET", []string{"If-Match", etag}, 200, "first.second.", 13, etag},
		"matches not":        {two, "GET", []string{"If-Match", sum("")}, 412, "-", -1, etag},
		"has it":             {two, "GET", []string{"If-None-Match", etag}, 304, "", 0, etag},
		"has any":            {two, "GET", []string{"If-None-Match", "*"}, 304, "", 0, etag},
		"more than a page":   {many, "GET", nil, 200, "a0b1c2d3e4f5g6", -1, ""},
		"head of that":       {many, "HEAD", nil, 200, "", -1, ""},
		"range within it":    {many, "GET", []string{"Range", "bytes=1-4"}, 206, "0b1c", 4, ""},
		"range that may be":  {many, "GET", []string{"Range", "bytes=5-8"}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"range, and junk":    {many, "GET", []string{"Range", "bytes=0-1x"}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"signs in a range":   {many, "GET", []string{"Range", "bytes=+0-1"}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"a space and signs":  {many, "GET", []string{"Range", "bytes= 0-+1"}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"range to the end":   {many, "GET", []string{"Range", "bytes=1-"}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"the last of a page": {many, "GET", []string{"Range", "bytes=5-5"}, 206, "2", 1, ""},
		"no end in sight":    {many, "GET", []string{"Range", "bytes=9223372036854775807-9223372036854775807"}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"range if another":   {many, "GET", []string{"Range", "bytes=0-1", "If-Range", `"x"`}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"range if no ETag":   {many, "GET", []string{"Range", "bytes=0-1", "If-Range", `""`}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"range if as old":    {many, "GET", []string{"Range", "bytes=0-1", "If-Range", "Tue, 14 Nov 2023 22:13:20 GMT"}, 206, "a0", 2, ""},
		"range if older":     {many, "GET", []string{"Range", "bytes=0-1", "If-Range", "Tue, 14 Nov 2023 22:13:19 GMT"}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"one page, another":  {two, "GET", []string{"Range", "bytes=0-1", "If-Range", `"x"`}, 200, "first.second.", 13, etag},
		"more, matches not":  {many, "GET", []string{"If-Match", `""`}, 412, "-", -1, ""},
		"end of who knows":   {many, "GET", []string{"Range", "bytes=-2"}, 200, "a0b1c2d3e4f5g6", -1, ""},
		"exactly one page":   {many[:3], "GET", nil, 200, "a0b1c2", -1, ""},
		"exactly two":        {many[:6], "GET", nil, 200, "a0b1c2d3e4f5", -1, ""},
		"empty ones in it":   {[]string{"", "x"}, "GET", nil, 200, "x", 1, `"` + sum(sum("")+sum("x")) + `"`},
	} {
		resp, body := ask(t, newWorld(tt.segments...), tt.method, "", tt.header...)
		if resp.Status != tt.status || tt.want != "-" && body != tt.want || tt.status < 400 && resp.Length != tt.length || resp.Get("Etag") != tt.etag {
			t.Errorf("%s: got %d %q of %d, ETag %s, want %d %q of %d, %s", what, resp.Status, body, resp.Length, resp.Get("Etag"), tt.status, tt.want, tt.length, tt.etag)
		}
	}
}

func TestSegmentsThatAreNotThere(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(w *world)
		status int
		want   string
	}{
		"the first":          {func(w *world) { w.refuse["p/0"] = 404 }, 409, "-"},
		"the first, for now": {func(w *world) { w.refuse["p/0"] = 503 }, 503, "-"},
		"the second":         {func(w *world) { w.refuse["p/1"] = 404 }, 200, "broke off after 6: first."},
		"the container":      {func(w *world) { w.listed = 404 }, 404, "-"},
		"not allowed":        {func(w *world) { w.listed = 403 }, 403, "-"},
	} {
		w := newWorld("first.", "second.")
		tt.change(w)
		if resp, body := ask(t, w, "GET", ""); resp.Status != tt.status || tt.want != "-" && body != tt.want {
			t.Errorf("%s: got %d %q, want %d %q", what, resp.Status, body, tt.status, tt.want)
		}
	}
}

func TestTheManifestItself(t *testing.T) {
	w := newWorld("first.")
	if resp, body := ask(t, w, "GET", "multipart-manifest=get"); resp.Status != 200 || body != "" || len(w.asked) != 1 {
		t.Errorf("got %d %q, asked %v", resp.Status, body, w.asked)
	}
	w.header.Set(hdrStatic, "True") // it is the other feature's
	if resp, _ := ask(t, w, "GET", ""); resp.Status != 200 || len(w.asked) != 2 {
		t.Errorf("a static one: got %d, asked %v", resp.Status, w.asked)
	}
}

func TestManySegmentsAreHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := make([]string, 10)
		for i := range all {
			all[i] = "x"
		}
		w := newWorld(all...)
		cfg := Defaults()
		cfg.RateAfter = 4
		began := time.Now()
		resp := Link(cfg, page)(w).Serve(t.Context(), &chain.Request{Method: "GET", Path: name.Path{Account: "a", Container: "c", Object: "large"}, Header: http.Header{}})
		defer resp.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 10 || time.Since(began) != 5*time.Second {
			t.Errorf("got %q, %v after %v, want 10 bytes after 5s", body, err, time.Since(began))
		}
	})
}

func TestTheHeaderIsChecked(t *testing.T) {
	for value, ok := range map[string]bool{
		"": true, "c/p": true, "c/p/q": true, "c%20d/p%2Fq": true, "c": false, "c/": false, "/p": false, "/c/p": false, "c//p": false,
		"c/p?x": false, "c/p&x": false, "c%2Fp": false, "c/%00": false, "c/%zz": false,
	} {
		w := newWorld()
		if resp, _ := ask(t, w, "PUT", "", hdrManifest, value); (resp.Status == 200) != ok || (len(w.asked) == 1) != ok {
			t.Errorf("%s: %q: got %d, asked %v, want ok %v", hdrManifest, value, resp.Status, w.asked, ok)
		}
	}
}

// What ranges mean is left to this feature, and to those before it.
func TestRangesAreNotOfTheManifest(t *testing.T) {
	for before, want := range map[string]string{"": hdrManifest, hdrStatic: hdrStatic + "," + hdrManifest, "X-Other": "X-Other," + hdrManifest} {
		var got string
		h := Link(Defaults(), page)(chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
			got = r.Header.Get(chain.IgnoreRangeIf)
			return chain.Empty(200)
		}))
		r := &chain.Request{Method: "GET", Path: name.Path{Account: "a", Container: "c", Object: "o"}, Header: http.Header{}}
		if before != "" {
			r.Header.Set(chain.IgnoreRangeIf, before)
		}
		if h.Serve(t.Context(), r); got != want {
			t.Errorf("behind %q: got %q, want %q", before, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("c/p")
	f.Add("c%20d/p%2Fq")
	f.Fuzz(func(t *testing.T, value string) {
		container, prefix, err := parse(value)
		if (err == nil) != (container != "" && prefix != "") || err != nil && !errs.Is(err, errs.Invalid) || strings.Contains(container, "/") && !strings.Contains(value, "%2") {
			t.Errorf("parse(%q) = %q, %q, %v", value, container, prefix, err)
		}
	})
}
