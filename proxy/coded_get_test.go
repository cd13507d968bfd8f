package proxy

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/quorum/nodetest"
	"martlet/proxy/chain"
)

// read does what an object server that has a version does with a read.
func (c *codedNodes) read(of backend.Coded, stamp, device string, r *backend.Request, archives [][]byte) *backend.Response {
	if r.Header.Get(backend.PolicyIndex) == codedPolicy.String() {
		resp := nodetest.Status(200, stamp)
		for _, f := range []backend.Field{
			{Name: backend.DataStamp, Value: stamp}, {Name: backend.CodedWrite, Value: of.String()}, {Name: backend.ETag, Value: of.ETag},
			{Name: backend.ContentType, Value: "a/b"}, {Name: "Last-Modified", Value: "Mon, 02 Jan 2006 15:04:05 GMT"}, {Name: "X-Object-Sysmeta-Other", Value: "x"},
		} {
			resp.Header.Add(f.Name, f.Value)
		}
		if r.Method == http.MethodHead {
			resp.Length = of.Size
		}
		return resp
	}
	for i, a := range archives {
		h, err := ec.ParseHeader(a)
		if err != nil || device != fmt.Sprint("d", i) || r.Header.Get(backend.FragmentIndex) != fmt.Sprint(i) || fmt.Sprintf("%x", h.Write.ID) != r.Header.Get(backend.FragmentWrite) {
			continue
		}
		var from, to int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
			return nodetest.Status(400, "")
		}
		resp := nodetest.Status(206, stamp)
		resp.Header.Add(backend.Fragment, fmt.Sprintf("%x", h.Append(nil)))
		resp.Header.Add("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(a)))
		resp.Length, resp.Body = int64(to+1-from), io.NopCloser(bytes.NewReader(a[from:to+1]))
		return resp
	}
	return nodetest.Status(404, "")
}

// written is a version of an object as codedNodes have it.
type written struct {
	body     []byte
	stamp    string
	of       backend.Coded
	archives [][]byte
}

func (c *codedNodes) written(id byte, size int, stamp string) written {
	c.t.Helper()
	v := written{body: randomBytes(size), stamp: stamp}
	v.body[0] = id
	w := ec.Write{ID: ec.WriteID{id}, Size: int64(size)}
	var err error
	coding := c.codings[codedPolicy]
	if v.archives, err = coding.archives(w, v.body); err != nil {
		c.t.Fatal(err)
	}
	v.of = backend.Coded{Data: c.policy.Data, Parity: c.policy.Parity, Segment: ec.Segment, Write: w.ID, Size: w.Size, Sized: true, ETag: md5Hex(v.body)}
	return v
}

func (c *codedNodes) get(s *Server, method string, header http.Header) (*chain.Response, string, error) {
	rq := &chain.Request{Method: method, Header: header, Path: name.Path{Account: "a", Container: "c", Object: "o"}, Client: httptest.NewRequestWithContext(c.t.Context(), method, "/v1/a/c/o", nil)}
	rq.Grant = func(string, name.Path) bool { return true }
	resp := s.Serve(c.t.Context(), rq)
	defer resp.Close()
	if resp.Body == nil {
		return resp, "", nil
	}
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// Behind the core an object is its bytes: neither that it is coded nor how is shown to features, of
// which the cluster's other fields are.
func TestNobodySeesThatAnObjectIsCoded(t *testing.T) {
	c := newCodedNodes(t, 2, 1)
	v := c.written(1, 100_000, "1000000000.00001")
	c.instead = func(device string, r *backend.Request, _ func() *backend.Response) *backend.Response {
		return c.read(v.of, v.stamp, device, r, v.archives)
	}
	s := c.server()
	for _, tt := range []struct {
		method string
		header http.Header
		status int
		want   string
	}{
		{"GET", http.Header{}, 200, string(v.body)},
		{"HEAD", http.Header{}, 200, ""},
		{"GET", http.Header{"Range": {"bytes=7-19"}}, 206, string(v.body[7:20])},
		{"GET", http.Header{"Range": {"bytes=7-19"}, "If-Range": {"another"}}, 200, string(v.body)},
		{"GET", http.Header{"Range": {"bytes=7-19"}, "If-Range": {"x"}, chain.EtagIsAt: {"X-Object-Sysmeta-None, X-Object-Sysmeta-Other"}}, 206, string(v.body[7:20])},
		{"GET", http.Header{"Range": {"bytes=7-19"}, chain.IgnoreRangeIf: {"X-Object-Sysmeta-Other"}}, 200, string(v.body)},
		{"GET", http.Header{"Range": {"bytes=7-19"}, chain.IgnoreRangeIf: {"X-Object-Sysmeta-None"}}, 206, string(v.body[7:20])},
		{"GET", http.Header{"Range": {"bytes=100000-"}}, 416, ""},
	} {
		resp, body, err := c.get(s, tt.method, tt.header)
		if err != nil || resp.Status != tt.status || tt.want != "" && body != tt.want {
			t.Errorf("%s %v: %d, %d bytes, %v, want %d and %d", tt.method, tt.header, resp.Status, len(body), err, tt.status, len(tt.want))
		}
		if resp.Status == 200 && resp.Length != v.of.Size {
			t.Errorf("%s %v: length %d", tt.method, tt.header, resp.Length)
		}
		if resp.Get(backend.CodedWrite) != "" || resp.Get("X-Object-Sysmeta-Other") == "" {
			t.Errorf("%s %v: shown are %v", tt.method, tt.header, resp.Header)
		}
	}
}

// What devices say of a version that can't be read is in the log, and the next version is read, if
// there is one; an older one never is.
func TestACodedVersionThatCantBeRead(t *testing.T) {
	const older, middle, newer = "1000000000.00001", "1000000000.00002", "1000000000.00003"
	for what, tt := range map[string]struct {
		lost, there string // versions by the first replica, and by all others
		want        int
	}{
		"a newer one":  {middle, newer, 200},
		"an older one": {middle, older, 503},
		"the same":     {middle, middle, 503},
	} {
		c := newCodedNodes(t, 2, 1)
		lost, there := c.written(1, 50_000, tt.lost), c.written(2, 60_000, tt.there)
		if tt.there == middle {
			there = lost
			there.archives = nil
		}
		asked := 0
		c.instead = func(device string, r *backend.Request, _ func() *backend.Response) *backend.Response {
			c.mu.Lock()
			defer c.mu.Unlock()
			if r.Header.Get(backend.PolicyIndex) == codedPolicy.String() {
				if asked++; asked == 1 || device == "d1" && tt.there != older { // the older one is all that is left
					return c.read(lost.of, lost.stamp, device, r, nil)
				}
			}
			return c.read(there.of, there.stamp, device, r, there.archives)
		}
		s := c.server()
		var log strings.Builder
		s.log = slog.New(slog.NewTextHandler(&log, nil))
		resp, body, err := c.get(s, "GET", http.Header{})
		c.mu.Lock()
		if tt.want == 200 && (err != nil || resp.Status != 200 || body != string(there.body)) {
			t.Errorf("%s: %d, %d bytes, %v", what, resp.Status, len(body), err)
		}
		if tt.want == 200 && !strings.Contains(log.String(), "can't be read") {
			t.Errorf("%s: the log says %q", what, log.String())
		}
		if tt.want == 503 && (resp.Status != 503 || !errs.Is(resp.Err, errs.Unavailable) || !strings.Contains(resp.Err.Error(), "/d0: status 404")) {
			t.Errorf("%s: %d, %v", what, resp.Status, resp.Err)
		}
		c.mu.Unlock()
	}
}

// The buffers of a coded object are charged, while it is read.
func TestCodedReadsAreCharged(t *testing.T) {
	c := newCodedNodes(t, 2, 1)
	v := c.written(1, 100_000, "1000000000.00001")
	c.instead = func(device string, r *backend.Request, _ func() *backend.Response) *backend.Response {
		return c.read(v.of, v.stamp, device, r, v.archives)
	}
	s := c.server()
	registry := prometheus.NewRegistry()
	var err error
	if s.gate, err = httpapi.NewGate(registry, "proxy", httpapi.GateConfig{Requests: 10, Bytes: 4 << 20, Client: client}); err != nil {
		t.Fatal(err)
	}
	charged := func() (n float64) {
		all, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.GetName() == "martlet_request_buffer_bytes" {
				n = f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return n
	}
	read := func() *chain.Response {
		rq := &chain.Request{Method: "GET", Header: http.Header{}, Path: name.Path{Account: "a", Container: "c", Object: "o"}}
		rq.Grant = func(string, name.Path) bool { return true }
		return s.Serve(t.Context(), rq)
	}
	// Two requests are in: one that is alone would have what it needs.
	within := func(h http.HandlerFunc) http.Handler { return s.gate.Wrap(h) }
	ask := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/a/c/o", nil)
	within(func(w http.ResponseWriter, _ *http.Request) {
		within(func(http.ResponseWriter, *http.Request) {
			var open []*chain.Response
			for {
				resp := read()
				if resp.Status != 200 {
					if resp.Status != 503 || resp.Get("Retry-After") == "" {
						t.Errorf("without room: %d, %v", resp.Status, resp.Err)
					}
					break
				}
				if open = append(open, resp); len(open) > 10 {
					t.Fatal("there is no end to it")
				}
			}
			each := 3 * (ec.Segment/2 + 128)
			if got, want := charged(), float64(len(open)*each); len(open) != (4<<20)/each || got != want {
				t.Errorf("%d are open, and %v bytes charged, want %v", len(open), got, want)
			}
			for _, resp := range open {
				resp.Close()
				resp.Close()
			}
		}).ServeHTTP(w, ask)
	}).ServeHTTP(httptest.NewRecorder(), ask)
	if n := charged(); n != 0 {
		t.Errorf("%v bytes stay charged", n)
	}
}
