package slo

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/conditional"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// world is a core with objects in memory that does what the real one promises to
// features.
type world struct {
	mu      sync.Mutex
	objects map[name.Path]*thing // guarded by mu
	asked   []string             // guarded by mu
	busy    int                  // requests under way; guarded by mu
	most    int                  // of them at once; guarded by mu
	slow    time.Duration        // that a request takes, in a bubble
	refuse  map[string]int       // status by "METHOD /a/c/o"
}

type thing struct {
	data   string
	header http.Header
}

func newWorld() *world { return &world{objects: map[name.Path]*thing{}, refuse: map[string]int{}} }

func path(container, object string) name.Path {
	return name.Path{Account: "a", Container: container, Object: object}
}

func sum(s string) string {
	m := md5.Sum([]byte(s))
	return hex.EncodeToString(m[:])
}

func (w *world) set(object, data string) { w.put(path("c", object), data, http.Header{}) }

func (w *world) put(p name.Path, data string, h http.Header) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h = h.Clone()
	h.Set("Etag", sum(data))
	h.Set("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
	w.objects[p] = &thing{data, h}
}

func (w *world) enter(r *chain.Request) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, r.Method+" "+r.Path.String())
	w.busy++
	w.most = max(w.most, w.busy)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.busy--
	}
}

func (w *world) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	defer w.enter(r)()
	if w.slow > 0 {
		<-time.After(w.slow) // of the bubble's clock
	}
	if code := w.refuse[r.Method+" "+r.Path.String()]; code != 0 {
		return chain.Text(code, "")
	}
	if r.Header[chain.OnlyAsk] != nil {
		return chain.Empty(http.StatusNoContent)
	}
	if r.Method == http.MethodPut {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return chain.Fail(ctx, err)
		}
		if want := r.Header.Get("Etag"); want != "" && want != sum(string(data)) {
			return chain.Text(http.StatusUnprocessableEntity, "")
		}
		w.put(r.Path, string(data), r.Header)
		resp := chain.Empty(http.StatusCreated)
		resp.Header["Etag"] = []string{sum(string(data))}
		resp.Header["Last-Modified"] = []string{"Tue, 14 Nov 2023 22:13:20 GMT"}
		return resp
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.objects[r.Path]
	if o == nil {
		return chain.Text(http.StatusNotFound, "")
	}
	if r.Method == http.MethodDelete {
		delete(w.objects, r.Path)
		return chain.Empty(http.StatusNoContent)
	}
	return o.get(r)
}

// get answers as the core does: conditions by the ETag that the request says, no
// range where it says so.
func (o *thing) get(r *chain.Request) *chain.Response {
	resp := &chain.Response{Status: 200, Header: o.header.Clone(), Length: int64(len(o.data))}
	v := conditional.Validators{ETag: o.header.Get("Etag")}
	if at := o.header.Get(r.Header.Get(chain.EtagIsAt)); at != "" {
		v.ETag = at
	}
	cond := conditional.From(r.Header.Get)
	switch cond.Check(v) {
	case conditional.NotModified:
		return &chain.Response{Status: 304, Header: resp.Header}
	case conditional.Failed:
		return &chain.Response{Status: 412, Header: resp.Header}
	}
	if r.Method == http.MethodHead {
		return resp
	}
	data := o.data
	if o.header.Get(r.Header.Get(chain.IgnoreRangeIf)) == "" {
		spans, extent := cond.Spans(v, int64(len(data)))
		if extent == conditional.Unsatisfiable {
			return &chain.Response{Status: 416, Header: resp.Header}
		}
		if extent == conditional.Partial {
			s := spans[0]
			resp.Status = 206
			resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.Off, s.Off+s.N-1, len(data)))
			data = data[s.Off : s.Off+s.N]
		}
	}
	resp.Length, resp.Body = int64(len(data)), io.NopCloser(strings.NewReader(data))
	return resp
}

// at is the feature in front of a world.
func at(w chain.Handler, change func(*Config)) chain.Handler {
	cfg := Defaults()
	cfg.RatePerSecond = 0
	if change != nil {
		change(&cfg)
	}
	return Link(cfg)(w)
}

// ask sends a request about c/object; headers come in pairs.
func ask(t *testing.T, h chain.Handler, method, object, query, body string, headers ...string) (*chain.Response, string) {
	t.Helper()
	r := &chain.Request{Method: method, Path: path("c", object), Query: query, Header: http.Header{}, Length: -1}
	if method == http.MethodPut {
		r.Length, r.Body = int64(len(body)), strings.NewReader(body)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp := h.Serve(t.Context(), r)
	if resp.Body == nil {
		return resp, ""
	}
	text, err := io.ReadAll(resp.Body)
	resp.Close()
	if err != nil {
		return resp, "broke off after " + strconv.Itoa(len(text)) + ": " + string(text)
	}
	if resp.Length >= 0 && int64(len(text)) != resp.Length {
		t.Errorf("%s %s: %d bytes, Length %d", method, object, len(text), resp.Length)
	}
	return resp, string(text)
}

// make puts a manifest of objects in c.
func makeLarge(t *testing.T, h chain.Handler, object string, of ...string) {
	t.Helper()
	var list []string
	for _, o := range of {
		list = append(list, `{"path":"/c/`+o+`"}`)
	}
	if resp, body := ask(t, h, "PUT", object, "multipart-manifest=put", "["+strings.Join(list, ",")+"]", "Content-Type", "text/x"); resp.Status != 201 {
		t.Fatalf("PUT of %s: %d %s", object, resp.Status, body)
	}
}
