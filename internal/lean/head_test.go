package lean

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
)

// scripted is a connection on which all that will come is known.
type scripted struct {
	in   []byte
	size int // of what a read returns, at most
	out  bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in[:min(len(s.in), s.size)])
	s.in = s.in[n:]
	return n, nil
}
func (s *scripted) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (*scripted) Close() error                       { return nil }
func (*scripted) LocalAddr() net.Addr                { return nil }
func (*scripted) RemoteAddr() net.Addr               { return nil }
func (*scripted) SetDeadline(time.Time) error        { return nil }
func (*scripted) SetReadDeadline(time.Time) error    { return nil }
func (*scripted) SetWriteDeadline(_ time.Time) error { return nil }

// seen is a request as a handler sees it.
type seen struct {
	backend.Request
	body string
	err  error
}

// replay has a server read what comes on one connection, size bytes at a time, and returns
// the requests that it saw, and what it answered.
func replay(in string, size int) (all []seen, out string) {
	log := slog.New(slog.DiscardHandler)
	h := backend.HandlerFunc(func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		body, err := readAll(r)
		all = append(all, seen{*r, body, err})
		return empty(204), err
	})
	s := &serving{
		Server: &Server{Handler: h, Log: log, Watch: httpapi.Observed{Log: log}}, silence: time.Minute, maxHeader: 64 << 10,
		base: context.Background(), conns: map[*conn]struct{}{},
	}
	s.watcher.awake.Store(true)
	nc := &scripted{in: []byte(in), size: size}
	newConn(s, nc).serve()
	return all, nc.out.String()
}

// Whatever is no request to the letter is refused, and nothing behind it is looked at.
func TestRefusals(t *testing.T) {
	long := strings.Repeat("y", 70<<10)
	for name, tt := range map[string]struct {
		in     string
		status int
	}{
		"nothing":                          {"\r\n\r\n", 400},
		"no request line":                  {"nonsense\r\n\r\n", 400},
		"no version":                       {"GET /\r\nHost: h\r\n\r\n", 400},
		"two spaces":                       {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a space in the target":            {"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a space behind":                   {"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400},
		"a tab":                            {"GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a method that is no word":         {"GE(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"an empty method":                  {" / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a target that is no path":         {"GET a/b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"an authority":                     {"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"another scheme":                   {"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a URL without host":               {"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"an asterisk":                      {"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a control byte in the target":     {"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"DEL in the target":                {"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"CR in the request line":           {"GET /\r HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a newer version":                  {"GET / HTTP/3.1\r\nHost: h\r\n\r\n", 505},
		"an older version":                 {"GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505},
		"a later minor version":            {"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505},
		"HTTP/2's preface":                 {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		"a version that is none":           {"GET / HTTP/1.11\r\nHost: h\r\n\r\n", 400},
		"a version in small letters":       {"GET / http/1.1\r\nHost: h\r\n\r\n", 400},
		"lines without CR":                 {"GET / HTTP/1.1\nHost: h\n\n", 400},
		"one line without CR":              {"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400},
		"no colon":                         {"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", 400},
		"an empty name":                    {"GET / HTTP/1.1\r\nHost: h\r\n: v\r\n\r\n", 400},
		"a space before the colon":         {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 3\r\n\r\nabc", 400},
		"a name that is no word":           {"GET / HTTP/1.1\r\nHost: h\r\nX(: v\r\n\r\n", 400},
		"a name that is not ASCII":         {"GET / HTTP/1.1\r\nHost: h\r\nX-\xe2\x98\x83: v\r\n\r\n", 400},
		"a folded line":                    {"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400},
		"a folded first line":              {"GET / HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n", 400},
		"NUL in a value":                   {"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", 400},
		"CR in a value":                    {"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", 400},
		"a control byte in a value":        {"GET / HTTP/1.1\r\nHost: h\r\nX: a\x1bb\r\n\r\n", 400},
		"no host":                          {"GET / HTTP/1.1\r\n\r\n", 400},
		"two hosts":                        {"GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n", 400},
		"a host that is none":              {"GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", 400},
		"a length that is none":            {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: ten\r\n\r\n", 400},
		"a negative length":                {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400},
		"a length with a sign":             {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc", 400},
		"an empty length":                  {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", 400},
		"a length in hexadecimal":          {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\nabc", 400},
		"a length of 19 digits":            {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999999999999999\r\n\r\n", 400},
		"lengths in a list":                {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\nabc", 400},
		"lengths that differ":              {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
		"a length and chunks":              {"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"chunks and a length":              {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400},
		"chunks in HTTP/1.0":               {"PUT / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"another coding":                   {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
		"a coding that only looks like it": {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", 501},
		"chunked twice":                    {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
		"identity":                         {"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", 501},
		"another expectation":              {"PUT / HTTP/1.1\r\nHost: h\r\nExpect: wonders\r\n\r\n", 417},
		"a head that is too large":         {"GET / HTTP/1.1\r\nHost: h\r\nX: " + long + "\r\n\r\n", 431},
		"a line that is too large":         {"GET /" + long + " HTTP/1.1\r\nHost: h\r\n\r\n", 431},
		"a line that never ends":           {long, 431},
		"too many fields":                  {"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("a:\r\n", maxFields) + "\r\n", 431},
	} {
		for _, size := range []int{1 << 20, 1} {
			const before, after = "GET /before HTTP/1.1\r\nHost: h\r\n\r\n", "GET /after HTTP/1.1\r\nHost: h\r\n\r\n"
			all, out := replay(before+tt.in+after, size)
			if len(all) != 1 || all[0].Path != "/before" {
				t.Errorf("%s, %d bytes at a time: %d requests were taken", name, size, len(all))
			}
			in := bufio.NewReader(strings.NewReader(out))
			if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 204 {
				t.Fatalf("%s: the first answer: %v, %v", name, resp, err)
			}
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Errorf("%s: %v in %q", name, err, out)
				continue
			}
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || !resp.Close || string(text) != httpapi.Reason(tt.status) {
				t.Errorf("%s: got %s, %q, closed is %v, %v; want %d", name, resp.Status, text, resp.Close, err, tt.status)
			}
			if rest, _ := io.ReadAll(in); len(rest) != 0 {
				t.Errorf("%s: something follows the refusal: %q", name, rest)
			}
		}
	}
}

// A body that is not as it should be ends with an error of kind errs.Invalid, and nothing
// behind it is taken for a request.
func TestBodiesThatAreNone(t *testing.T) {
	for name, body := range map[string]string{
		"no length":               "\r\nabc\r\n0\r\n\r\n",
		"a length that is none":   "x\r\nabc\r\n0\r\n\r\n",
		"a negative length":       "-3\r\nabc\r\n0\r\n\r\n",
		"a prefix":                "0x3\r\nabc\r\n0\r\n\r\n",
		"a length of 16 digits":   "1000000000000000\r\nabc\r\n0\r\n\r\n",
		"spaces before":           " 3\r\nabc\r\n0\r\n\r\n",
		"only an extension":       ";a=b\r\nabc\r\n0\r\n\r\n",
		"a line without CR":       "3\nabc\r\n0\r\n\r\n",
		"an extension with CR":    "3;a\rb\r\nabc\r\n0\r\n\r\n",
		"a long extension":        "3;" + strings.Repeat("a", maxChunkLine) + "\r\nabc\r\n0\r\n\r\n",
		"a chunk that is longer":  "3\r\nabcd\r\n0\r\n\r\n",
		"a chunk that is shorter": "3\r\nab\r\n0\r\n\r\n",
		"no CR behind a chunk":    "3\r\nabc\n0\r\n\r\n",
		"a trailer without CR":    "3\r\nabc\r\n0\r\nX: y\n\r\n",
		"a trailer without colon": "3\r\nabc\r\n0\r\nX\r\n\r\n",
		"a folded trailer":        "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
		"a trailer with NUL":      "3\r\nabc\r\n0\r\nX: \x00\r\n\r\n",
		"a length in the trailer": "3\r\nabc\r\n0\r\nContent-length: 3\r\n\r\n",
		"a coding in the trailer": "3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a host in the trailer":   "3\r\nabc\r\n0\r\nHost: h\r\n\r\n",
		"a large trailer":         "3\r\nabc\r\n0\r\nX: " + strings.Repeat("y", maxTrailer) + "\r\n\r\n",
		"many fields in it":       "3\r\nabc\r\n0\r\n" + strings.Repeat("a:\r\n", maxFields+1) + "\r\n",
	} {
		for _, size := range []int{1 << 20, 1} {
			all, out := replay("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"+body+"GET /after HTTP/1.1\r\nHost: h\r\n\r\n", size)
			if len(all) != 1 || errs.KindOf(all[0].err) != errs.Invalid {
				t.Errorf("%s, %d bytes at a time: %d requests, the first with %v", name, size, len(all), all[0].err)
			}
			if !strings.HasPrefix(out, "HTTP/1.1 400 ") || strings.Count(out, "HTTP/1.") != 1 || !strings.Contains(out, "\r\nConnection: close\r\n") {
				t.Errorf("%s, %d bytes at a time: answered with %q", name, size, out)
			}
		}
	}
}

// seeds are requests as nodes, Swift's tools and curl send them.
var seeds = []string{
	"GET /d1/17/AUTH_a/c/o?x=y HTTP/1.1\r\nHost: 127.0.1.1:6200\r\nUser-Agent: martlet-proxy\r\nX-Trans-Id: tx0123\r\nX-Backend-Storage-Policy-Index: 0\r\n\r\n",
	"HEAD /d1/17/AUTH_a HTTP/1.1\r\nHost: 127.0.1.1:6202\r\n\r\nGET /recon/rings HTTP/1.0\r\n\r\n",
	"PUT /d1/17/AUTH_a/c/o%20p HTTP/1.1\r\nHost: 127.0.1.1:6200\r\nContent-Type: text/plain\r\nX-Timestamp: 1700000000.00000\r\nX-Object-Meta-a: \tb c \r\n" +
		"X-Backend-Commit-Crc32c: 01234567\r\nContent-Length: 5\r\n\r\nhelloDELETE /d1/17/AUTH_a/c/o HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
	"PUT /d1/17/AUTH_a/c/o HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nTrailer: X-Backend-Commit-Etag, X-Backend-Commit-Crc32c\r\n\r\n" +
		"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nX-Backend-Commit-Etag: 5d41402abc4b2a76b9719d911017c592\r\nx-backend-commit-crc32c: 9a71bb4c\r\n\r\nPOST / HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nAccept: */*\r\nHost: h\r\nUser-Agent: curl/8\r\n\r\n",
	"GET http://h:80/x?y HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive\r\nPragma: no-cache\r\n\r\n",
	"REPLICATE /d1/17 HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\nCONTENT-LENGTH: 3\r\nTrailer: x\r\n\r\nabc\r\n",
}

// FuzzRequests compares with net/http what both take for a request: they have to agree on
// all that a handler sees, and on where each ends.
func FuzzRequests(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, 1)
		f.Add(s, 1<<20)
	}
	f.Fuzz(func(t *testing.T, in string, size int) {
		all, out := replay(in, max(size, 1))
		oracle := bufio.NewReader(strings.NewReader(in))
		for i, got := range all {
			r, err := http.ReadRequest(oracle)
			if err != nil {
				return // it refuses more, as escapes in targets that are none
			}
			body, err := io.ReadAll(r.Body)
			if got.err != nil || err != nil {
				if got.err == nil && !errors.Is(err, http.ErrBodyReadAfterClose) && !tolerable(&got) {
					t.Errorf("request %d of %q: net/http's body ends with %v", i, in, err)
				}
				return
			}
			path, query, _ := strings.Cut(r.RequestURI, "?")
			if r.Method != got.Method || path != got.Path || query != got.Query || r.ContentLength != got.Length || string(body) != got.body {
				t.Errorf("request %d of %q: net/http has %s %s, %d bytes (%d): %q; got %s %s, %d: %q", i, in, r.Method, r.RequestURI, len(body), r.ContentLength, body,
					got.Method, got.Path+"?"+got.Query, got.Length, got.body)
			}
			if got.Header.Get("Pragma") == "no-cache" && !got.Header.Has("Cache-Control") {
				r.Header.Del("Cache-Control") // it adds it
			}
			same(t, in, r.Header, got.Header)
			same(t, in, r.Trailer, got.Trailer)
		}
		if n := strings.Count(out, "HTTP/1."); n < len(all) {
			t.Errorf("%q: %d requests have %d answers", in, len(all), n)
		}
	})
}

// tolerable says that a body has more behind its last chunk than net/http reads.
func tolerable(r *seen) bool {
	n := 0
	for _, f := range r.Trailer {
		n += len(f.Name) + len(f.Value)
	}
	return n > 2<<10
}

// same compares fields, in whatever order the names come.
func same(t *testing.T, in string, want http.Header, got backend.Header) {
	t.Helper()
	fields := http.Header{}
	for _, f := range got {
		fields[f.Name] = append(fields[f.Name], f.Value)
	}
	for name, values := range want {
		if len(values) != 0 && !slices.Equal(values, fields[name]) {
			t.Errorf("%q: net/http has %s of %q, got %q", in, name, values, fields[name])
		}
		delete(fields, name)
	}
	if len(fields) != 0 {
		t.Errorf("%q: net/http has not %s", in, fmt.Sprint(fields))
	}
}
