package copying

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

func TestParse(t *testing.T) {
	for value, want := range map[string]name.Path{
		"c/o":       {Account: "own", Container: "c", Object: "o"},
		"/c/o/p":    {Account: "own", Container: "c", Object: "o/p"},
		"/c%20d/%2": {},
		"/c%20d/x":  {Account: "own", Container: "c d", Object: "x"},
		"c%2Fo":     {},
		"c":         {},
		"":          {},
		"/":         {},
		"//o":       {},
		"c/":        {},
		"c/%00":     {},
	} {
		got, err := parse("Destination", value, "Destination-Account", "", "own")
		if got != want || (err != nil) != (want == name.Path{}) {
			t.Errorf("parse(%q) = %+v, %v, want %+v", value, got, err, want)
		}
		if err != nil && !errs.Is(err, errs.Precondition) {
			t.Errorf("parse(%q): %v, want a failed precondition", value, err)
		}
	}
	if got, err := parse("Destination", "c/o", "Destination-Account", "AUTH_x", "own"); err != nil || got.Account != "AUTH_x" {
		t.Errorf("another account: %+v, %v", got, err)
	}
	if _, err := parse("Destination", "c/o", "Destination-Account", "a/b", "own"); !errs.Is(err, errs.Precondition) {
		t.Errorf("an account with a slash: %v", err)
	}
}

// store answers a GET with an object, and keeps the PUT that comes.
type store struct {
	status int
	header http.Header
	length int64
	got    *chain.Request
	put    *chain.Request
	body   string
}

func (s *store) Serve(_ context.Context, r *chain.Request) *chain.Response {
	if r.Method == http.MethodGet {
		s.got = r
		resp := &chain.Response{Status: s.status, Header: s.header}
		resp.SetText("body")
		if s.length != 0 {
			resp.Length = s.length
		}
		return resp
	}
	s.put = r
	sent := chain.Plain(0, "", "")
	if r.Body != nil {
		b := new(strings.Builder)
		_, _ = fmt.Fprint(b, must(r))
		s.body = b.String()
	}
	sent.Status = http.StatusCreated
	return sent
}

func must(r *chain.Request) string {
	var b strings.Builder
	buf := make([]byte, 64)
	for {
		n, err := r.Body.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return b.String()
		}
	}
}

var object = name.Path{Account: "a", Container: "c", Object: "o"}

func source200(extra ...string) *store {
	s := &store{status: 200, header: http.Header{
		"Content-Type": {"text/x"}, "Etag": {"e"}, "X-Object-Meta-A": {"1"}, "X-Object-Meta-B": {"2"}, "Cache-Control": {"no-store"},
		"X-Delete-At": {"99"}, "Last-Modified": {"then"}, "X-Object-Sysmeta-S": {"s"}, "X-Timestamp": {"1"},
	}}
	for i := 0; i < len(extra); i += 2 {
		s.header.Set(extra[i], extra[i+1])
	}
	return s
}

func TestWhatACopyIsMadeOf(t *testing.T) {
	for what, tt := range map[string]struct {
		source *store
		query  string
		header http.Header       // of the COPY
		want   map[string]string // of the PUT; "-" is none
		put    string            // query of the PUT
	}{
		"plain": {source200(), "", nil, map[string]string{
			"Content-Type": "text/x", "Etag": "e", "X-Object-Meta-A": "1", "Cache-Control": "no-store", "X-Delete-At": "99",
			"X-Timestamp": "-", "Last-Modified": "-", "Destination": "-", "X-Object-Sysmeta-S": "-",
		}, ""},
		"with metadata": {source200(), "", http.Header{"X-Object-Meta-A": {"new"}, "Content-Type": {"text/y"}, "X-Delete-After": {"5"}}, map[string]string{
			"X-Object-Meta-A": "new", "X-Object-Meta-B": "2", "Content-Type": "text/y", "X-Delete-After": "5", "X-Delete-At": "-",
		}, ""},
		"fresh": {source200(), "", http.Header{"X-Fresh-Metadata": {"true"}, "X-Object-Meta-C": {"3"}}, map[string]string{
			"X-Object-Meta-A": "-", "X-Object-Meta-C": "3", "Content-Type": "text/x", "X-Delete-At": "-", "X-Fresh-Metadata": "-",
		}, ""},
		"only if new":                    {source200(), "", http.Header{"If-None-Match": {"*"}}, map[string]string{"If-None-Match": "*"}, ""},
		"what a client says the ETag is": {source200(), "", http.Header{"Etag": {"x"}}, map[string]string{"Etag": "e"}, ""},
		"a static large object":          {source200("X-Static-Large-Object", "True"), "", nil, map[string]string{"Etag": "-", "X-Static-Large-Object": "-"}, ""},
		"its manifest":                   {source200("X-Static-Large-Object", "True"), "multipart-manifest=get", nil, map[string]string{"Etag": "-", "X-Static-Large-Object": "-"}, "multipart-manifest=put"},
		"a dynamic large object":         {source200("X-Object-Manifest", "c/p"), "", nil, map[string]string{"Etag": "-", "X-Object-Manifest": "-"}, ""},
		"its manifest as well":           {source200("X-Object-Manifest", "c/p"), "multipart-manifest=get", nil, map[string]string{"Etag": "e", "X-Object-Manifest": "c/p"}, ""},
	} {
		r := &chain.Request{Method: "COPY", Path: object, Query: tt.query, Header: http.Header{"Destination": {"d/p"}}, Length: -1}
		for n, v := range tt.header {
			r.Header[n] = v
		}
		resp := Link(tt.source).Serve(t.Context(), r)
		put := tt.source.put
		if resp.Status != 201 || put == nil || tt.source.body != "body" || put.Length != 4 || put.Query != tt.put {
			t.Errorf("%s: got %d, put %+v with %q", what, resp.Status, put, tt.source.body)
			continue
		}
		if put.Path != (name.Path{Account: "a", Container: "d", Object: "p"}) || tt.source.got.Path != object || tt.source.got.Header.Get("X-Newest") != "true" {
			t.Errorf("%s: from %v to %v", what, tt.source.got.Path, put.Path)
		}
		for n, want := range tt.want {
			if got := put.Header.Get(n); got != want && (want != "-" || got != "") {
				t.Errorf("%s: the copy has %s %q, want %q", what, n, got, want)
			}
		}
		if resp.Get("X-Copied-From") != "c/o" || resp.Get("X-Copied-From-Account") != "a" || resp.Get("X-Copied-From-Last-Modified") != "then" {
			t.Errorf("%s: the answer has %v", what, resp.Header)
		}
	}
}

func TestARangeIsCopiedWithoutItsETag(t *testing.T) {
	s := source200("Content-Range", "bytes 0-3/9")
	s.status = 206
	r := &chain.Request{Method: "PUT", Path: object, Header: http.Header{"X-Copy-From": {"/c/x"}, "Range": {"bytes=0-3"}, "If-Match": {"e"}}, Length: 0}
	resp := Link(s).Serve(t.Context(), r)
	if resp.Status != 201 || s.got.Header.Get("Range") != "bytes=0-3" || s.got.Header.Get("If-Match") != "e" || s.put.Header.Get("Etag") != "" || s.put.Header.Get("Range") != "" {
		t.Errorf("got %d, GET %v, PUT %v", resp.Status, s.got.Header, s.put.Header)
	}
}

func TestCopiesThatAreRefused(t *testing.T) {
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	body := strings.NewReader("x")
	for what, tt := range map[string]struct {
		r      *chain.Request
		source *store
		want   int
	}{
		"no destination":  {&chain.Request{Method: "COPY", Header: header()}, source200(), 412},
		"bad destination": {&chain.Request{Method: "COPY", Header: header("Destination", "c")}, source200(), 412},
		"bad source":      {&chain.Request{Method: "PUT", Header: header("X-Copy-From", "c")}, source200(), 412},
		"with a body":     {&chain.Request{Method: "PUT", Header: header("X-Copy-From", "c/o"), Length: 1, Body: body}, source200(), 400},
		"in chunks":       {&chain.Request{Method: "PUT", Header: header("X-Copy-From", "c/o"), Length: -1, Body: body}, source200(), 400},
		"no source":       {&chain.Request{Method: "COPY", Header: header("Destination", "d/o")}, &store{status: 404, header: http.Header{}}, 404},
		"no length":       {&chain.Request{Method: "COPY", Header: header("Destination", "d/o")}, &store{status: 200, header: http.Header{}, length: -1}, 413},
	} {
		tt.r.Path = object
		resp := Link(tt.source).Serve(t.Context(), tt.r)
		if resp.Status != tt.want || tt.source.put != nil || resp.Get("X-Copied-From") != "" {
			t.Errorf("%s: got %d, %v, put %v, want %d", what, resp.Status, resp.Header, tt.source.put, tt.want)
		}
	}
}

func TestOptionsTellOfCopies(t *testing.T) {
	for path, want := range map[name.Path]string{object: "GET, COPY", {Account: "a", Container: "c"}: "GET"} {
		resp := Link(chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response {
			return &chain.Response{Status: 200, Header: http.Header{"Allow": {"GET"}}}
		})).Serve(t.Context(), &chain.Request{Method: "OPTIONS", Path: path, Header: http.Header{}})
		if resp.Get("Allow") != want {
			t.Errorf("%v: Allow %q, want %q", path, resp.Get("Allow"), want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("c/o", "")
	f.Add("/c%20d/x", "AUTH_x")
	f.Fuzz(func(t *testing.T, value, account string) {
		p, err := parse("Destination", value, "Destination-Account", account, "own")
		if (err == nil) != (p.Object != "") || err != nil && !errs.Is(err, errs.Precondition) {
			t.Errorf("parse(%q, %q) = %+v, %v", value, account, p, err)
		}
	})
}
