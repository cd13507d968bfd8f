package chain

import (
	"context"
	"errors"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
)

func TestLinksAreInOrder(t *testing.T) {
	var said []string
	link := func(what string) Link {
		return func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, r *Request) *Response {
				said = append(said, what+" in")
				resp := next.Serve(ctx, r)
				said = append(said, what+" out")
				return resp
			})
		}
	}
	last := HandlerFunc(func(context.Context, *Request) *Response { said = append(said, "last"); return Empty(200) })
	Join(last, link("first"), nil, link("second")).Serve(t.Context(), &Request{})
	if got, want := strings.Join(said, ", "), "first in, second in, last, second out, first out"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParam(t *testing.T) {
	for _, tt := range []struct {
		query, key, want string
		ok               bool
	}{
		{"", "a", "", false},
		{"a=b", "a", "b", true},
		{"a=b&a=c", "a", "c", true},
		{"a", "a", "", true},
		{"b=a&x", "a", "", false},
		{"a=%2Fx+y", "a", "/x y", true},
		{"%61=b", "a", "b", true},
		{"a=%zz", "a", "%zz", true},
		{"multipart-manifest=get", "multipart-manifest", "get", true},
	} {
		if got, ok := (&Request{Query: tt.query}).Param(tt.key); got != tt.want || ok != tt.ok {
			t.Errorf("parameter %q of %q: got %q, %v, want %q, %v", tt.key, tt.query, got, ok, tt.want, tt.ok)
		}
	}
}

func TestSubIsOfTheSameSender(t *testing.T) {
	r := &Request{
		Method: "GET", Query: "q", Length: 4, Body: strings.NewReader("body"), Client: &http.Request{}, Grant: func(string, name.Path) bool { return true },
		Header: http.Header{"Referer": {"http://x"}, "Range": {"bytes=0-1"}, "X-Auth-Token": {"t"}, "X-Open-Expired": {"1"}},
	}
	p := name.Path{Account: "a"}
	sub := r.Sub("HEAD", p)
	if sub.Method != "HEAD" || sub.Path != p || sub.Client != r.Client || sub.Grant == nil || sub.Query != "" || sub.Body != nil || sub.HasBody() ||
		len(sub.Header) != 2 || sub.Header.Get("Referer") != "http://x" || sub.Header.Get("X-Open-Expired") != "1" {
		t.Errorf("got %+v", sub)
	}
}

func TestFail(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for what, tt := range map[string]struct {
		ctx    context.Context
		err    error
		status int
		text   string
	}{
		"a kind":            {t.Context(), errs.E(errs.NotFound), 404, explain[404]},
		"in words":          {t.Context(), errs.Refuse(errs.Invalid, "no <b> & c"), 400, "no &lt;b&gt; &amp; c"},
		"of a storage node": {t.Context(), errs.E(errs.Op("x"), &StatusError{409, "busy"}), 409, "busy"},
		"unexpected":        {t.Context(), errors.New("device d1"), 500, explain[500]},
		"unavailable":       {t.Context(), errs.E(errs.Unavailable), 503, explain[503]},
		"client has gone":   {gone, errs.E(errs.Unavailable), httpapi.StatusClientGone, explain[499]},
		"refused before":    {gone, errs.E(errs.NotFound), 404, explain[404]},
	} {
		resp := Fail(tt.ctx, tt.err)
		retry := resp.Get("Retry-After")
		body, err := resp.ReadAll(1 << 10)
		if err != nil || resp.Status != tt.status || !strings.Contains(html.UnescapeString(string(body)), html.UnescapeString(tt.text)) || strings.Contains(string(body), "d1") || resp.Err == nil {
			t.Errorf("%s: got %d, %q, %v, want %d, %q", what, resp.Status, body, err, tt.status, tt.text)
		}
		if (retry != "") != (tt.status == 503) {
			t.Errorf("%s: Retry-After is %q", what, retry)
		}
	}
}

func TestReadAllIsBounded(t *testing.T) {
	body := func(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
	for what, tt := range map[string]struct {
		resp *Response
		want string
		ok   bool
	}{
		"none":              {&Response{Length: 9}, "", true},
		"at the limit":      {&Response{Length: 4, Body: body("four")}, "four", true},
		"over it":           {&Response{Length: 5, Body: body("fiver")}, "", false},
		"too short":         {&Response{Length: 4, Body: body("for")}, "", false},
		"of unknown length": {&Response{Length: -1, Body: body("for")}, "for", true},
	} {
		got, err := tt.resp.ReadAll(4)
		if string(got) != tt.want || (err == nil) != tt.ok || err != nil && !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: got %q, %v, want %q", what, got, err, tt.want)
		}
	}
}

// What goes over the wire for each sort of response.
func TestFace(t *testing.T) {
	drops := make(chan string)
	for what, tt := range map[string]struct {
		method string
		resp   func() *Response
		length string
		body   string
	}{
		"text":         {"GET", func() *Response { return Plain(200, "text/plain", "hello") }, "5", "hello"},
		"its head":     {"HEAD", func() *Response { return Plain(200, "text/plain", "hello") }, "5", ""},
		"empty":        {"PUT", func() *Response { return Empty(201) }, "0", ""},
		"no content":   {"GET", func() *Response { return Empty(204) }, "0", ""},
		"not modified": {"GET", func() *Response { return &Response{Status: 304, Header: http.Header{}} }, "", ""},
		"unknown length": {"GET", func() *Response {
			return &Response{Status: 200, Header: http.Header{}, Length: -1, Body: io.NopCloser(strings.NewReader("some"))}
		}, "", "some"},
		"over http": {"GET", func() *Response { return FromHTTP(http.NotFoundHandler()).Serve(t.Context(), &Request{}) }, "19", "404 page not found\n"},
	} {
		s := httptest.NewServer(&Face{Handler: HandlerFunc(func(context.Context, *Request) *Response { return tt.resp() }), Log: slog.New(slog.DiscardHandler)})
		r, err := http.NewRequestWithContext(t.Context(), tt.method, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		_ = got.Body.Close()
		if err != nil || string(body) != tt.body || got.Header.Get("Content-Length") != tt.length {
			t.Errorf("%s: got %q of length %q, %v, want %q, %q", what, body, got.Header.Get("Content-Length"), err, tt.body, tt.length)
		}
		s.Close()
	}
	// A body whose length is not known is sent as it comes.
	s := httptest.NewServer(&Face{Handler: HandlerFunc(func(context.Context, *Request) *Response {
		return &Response{Status: 202, Header: http.Header{}, Length: -1, Body: io.NopCloser(dropping{drops})}
	}), Log: slog.New(slog.DiscardHandler)})
	defer s.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { drops <- "a" }()
	got, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	one := make([]byte, 1)
	if _, err := io.ReadFull(got.Body, one); err != nil || string(one) != "a" {
		t.Errorf("the first drop: got %q, %v", one, err)
	}
	close(drops)
}

// dropping reads what is sent to it, until it is closed.
type dropping struct{ from chan string }

func (d dropping) Read(p []byte) (int, error) {
	s, ok := <-d.from
	if !ok {
		return 0, io.EOF
	}
	return copy(p, s), nil
}

func FuzzParam(f *testing.F) {
	f.Add("a=b&c=%20", "c")
	f.Fuzz(func(t *testing.T, query, key string) {
		if v, ok := (&Request{Query: query}).Param(key); !ok && v != "" {
			t.Errorf("parameter %q of %q: %q although it is not there", key, query, v)
		}
	})
}
