//go:build !race

package workload

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"martlet/cmd/internal/check/model"
)

// A liar stands between clients and a proxy. It answers a request itself, or it changes an answer.
type liar struct {
	*httputil.ReverseProxy
	mu     sync.Mutex // guards all that follows
	n      int        // of what it may lie about
	old    map[string]*recorded
	answer func(l *liar, rw http.ResponseWriter, r *http.Request) bool // it has lied
	change func(l *liar, r *http.Response, body []byte) []byte
}

type recorded struct {
	header http.Header
	body   []byte
}

func (l *liar) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if l.answer != nil && l.answer(l, rw, r) {
		return
	}
	l.ReverseProxy.ServeHTTP(rw, r)
}

// often is true every so many times.
func (l *liar) often(every int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return l.n%every == 0
}

// deep returns whether a request is about an object that clients share.
func deep(r *http.Request) bool {
	return strings.Count(r.URL.Path, "/") > 3 && !strings.Contains(r.URL.Path, "-parts/")
}

func lieBetween(t *testing.T, endpoint string, l *liar) string {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	l.old = map[string]*recorded{}
	l.ReverseProxy = &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0), // uploads that are broken off
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(r *http.Response) error {
			if l.change == nil || r.Body == nil || r.StatusCode/100 != 2 {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			body = l.change(l, r, body)
			if r.Request.Method != http.MethodHead {
				r.ContentLength = int64(len(body))
				r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			return nil
		},
	}
	s := httptest.NewServer(l)
	t.Cleanup(s.Close)
	return s.URL
}

func whole(r *http.Response) bool {
	return r.Request.Method == http.MethodGet && r.StatusCode == http.StatusOK && deep(r.Request)
}

var lies = map[string]struct {
	preset string
	rules  []string
	*liar
}{
	"a PUT is acknowledged and not done": {"overwrite", []string{model.Stale, model.Lost}, &liar{answer: func(l *liar, rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !deep(r) || r.Header.Get("X-Copy-From") != "" || !l.often(4) {
			return false
		}
		h := md5.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			return false
		}
		rw.Header().Set("Etag", hex.EncodeToString(h.Sum(nil)))
		rw.WriteHeader(http.StatusCreated)
		return true
	}}},
	"a DELETE is acknowledged and not done": {"delete", []string{model.Stale, model.Undeleted, model.Lost}, &liar{answer: func(_ *liar, rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete && deep(r) {
			rw.WriteHeader(http.StatusNoContent)
			return true
		}
		return false
	}}},
	"a POST is acknowledged and not done": {"post", []string{model.Stale, model.Lost, model.False}, &liar{answer: func(_ *liar, rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && deep(r) {
			rw.WriteHeader(http.StatusAccepted)
			return true
		}
		return false
	}}},
	"an old body is returned": {"overwrite", []string{model.Stale, model.Lost, model.Disagree}, &liar{change: func(l *liar, r *http.Response, body []byte) []byte {
		if !whole(r) {
			return body
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if o := l.old[r.Request.URL.Path]; o != nil {
			r.Header = o.header.Clone()
			return o.body
		}
		l.old[r.Request.URL.Path] = &recorded{r.Header.Clone(), body}
		return body
	}}},
	"a byte is flipped": {"overwrite", []string{model.False}, &liar{change: func(_ *liar, r *http.Response, body []byte) []byte {
		if whole(r) && len(body) > 0 {
			body[len(body)/2] ^= 4
		}
		return body
	}}},
	"half of a body is returned as if it were the whole": {"overwrite", []string{model.False}, &liar{change: func(_ *liar, r *http.Response, body []byte) []byte {
		if whole(r) {
			return body[:len(body)/2]
		}
		return body
	}}},
	"another object's body is returned": {"overwrite", []string{model.Foreign}, &liar{change: func(l *liar, r *http.Response, body []byte) []byte {
		if !whole(r) {
			return body
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for path, o := range l.old {
			if path != r.Request.URL.Path {
				r.Header = o.header.Clone()
				return o.body
			}
		}
		l.old[r.Request.URL.Path] = &recorded{r.Header.Clone(), body}
		return body
	}}},
	"metadata of before": {"post", []string{model.Stale, model.Lost, model.Disagree, model.Mixed}, &liar{change: func(l *liar, r *http.Response, body []byte) []byte {
		if !deep(r.Request) || r.Request.Method == http.MethodPut || r.Header.Get(markField) == "" {
			return body
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if o := l.old[r.Request.URL.Path]; o != nil {
			r.Header.Set(markField, o.header.Get(markField))
		} else {
			l.old[r.Request.URL.Path] = &recorded{r.Header.Clone(), nil}
		}
		return body
	}}},
	"a name is left out of a listing": {"listing", []string{model.Stale, model.Listing}, &liar{change: func(_ *liar, r *http.Response, body []byte) []byte {
		var rows []json.RawMessage
		if r.Request.Method != http.MethodGet || strings.Count(r.Request.URL.Path, "/") != 3 || json.Unmarshal(body, &rows) != nil || len(rows) == 0 {
			return body
		}
		text, err := json.Marshal(rows[:len(rows)-1])
		if err != nil {
			return body
		}
		return text
	}}},
	"a container counts too many": {"listing", []string{model.Count}, &liar{change: func(_ *liar, r *http.Response, body []byte) []byte {
		if n, err := strconv.Atoi(r.Header.Get("X-Container-Object-Count")); err == nil && n > 0 {
			r.Header.Set("X-Container-Object-Count", strconv.Itoa(n+1))
		}
		return body
	}}},
}

// Whatever is told clients that is not so is found, sooner or later: what nobody read before it was written over is not.
func TestLiarsAreFound(t *testing.T) {
	const rounds = 8
	endpoint := startCluster(t)[0]
	for i, what := range slices.Sorted(maps.Keys(lies)) {
		l := lies[what]
		t.Run(what, func(t *testing.T) {
			cfg, c := smallWorkload(t, lieBetween(t, endpoint, l.liar))
			cfg.Seed, cfg.Preset, cfg.Policies, cfg.Clients = uint64(101+i), l.preset, []string{"Policy-0"}, 4
			logFor(&cfg, nil)
			w, err := New(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			var found []model.Violation
			for range rounds {
				c.work(t, w, 80)
				h := w.History()
				found, _ = model.Reads(h)
				f, err := w.Final(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				last, _, _ := model.Settled(h, f)
				found = append(found, last...)
				if slices.ContainsFunc(found, func(v model.Violation) bool { return slices.Contains(l.rules, v.Rule) }) {
					return
				}
			}
			t.Errorf("none of %v is among %v", l.rules, found)
		})
	}
}
