package containersync

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
)

// Body is the data of an object.
type Body = io.ReadCloser

// Remote is how other clusters are reached, and which rows are a replica's share.
type Remote struct {
	client *http.Client
	hasher name.Hasher
}

// NewRemote returns a Remote. connect is how long making a connection may take; proxies
// are HTTP proxies, as "http://host:port", of which one is taken by chance, none for
// direct ones.
func NewRemote(hasher name.Hasher, connect time.Duration, proxies []string) (*Remote, error) {
	through := make([]*url.URL, len(proxies))
	for i, p := range proxies {
		if err := CheckProxy(p); err != nil {
			return nil, err
		}
		through[i], _ = url.Parse(p)
	}
	t := &http.Transport{
		DialContext: (&net.Dialer{Timeout: connect}).DialContext, TLSHandshakeTimeout: connect, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
		ForceAttemptHTTP2: true, DisableCompression: true, ExpectContinueTimeout: time.Second,
	}
	if len(through) > 0 {
		t.Proxy = func(*http.Request) (*url.URL, error) {
			var n [4]byte
			_, _ = rand.Read(n[:]) // never fails
			return through[binary.BigEndian.Uint32(n[:])%uint32(len(through))], nil
		}
	}
	return &Remote{hasher: hasher, client: &http.Client{
		Transport: t,
		// Where to is the operator's to say, and nobody else's.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// CheckProxy returns why a text is not the address of an HTTP proxy.
func CheckProxy(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errs.Refuse(errs.Invalid, "%q is not an address such as \"http://host:port\"", text)
	}
	return nil
}

// Close closes connections that are not in use.
func (r *Remote) Close() { r.client.CloseIdleConnections() }

// share reports whether an object is one that a replica brings first.
func (r *Remote) share(object string, c Container) bool {
	p := c.Path
	p.Object = object
	h := r.hasher.Hash(p)
	return c.Of <= 1 || int(binary.BigEndian.Uint32(h[:])%uint32(c.Of)) == c.Mine
}

// request is one to the other cluster.
type request struct {
	method string
	row    Row
	stamp  string
	query  string
	header http.Header
	body   io.Reader
	length int64
}

// answer is what is of interest of one.
type answer struct {
	status int
	stamp  string // X-Timestamp
}

// send sends a request. A cluster that can't be reached is errStop, and so is one that fell
// silent or broke off again and again: that it does so once may be of what was sent.
func (r *run) send(ctx context.Context, q request) (answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Silence ends it, not length.
	watch := time.AfterFunc(r.cfg.Timeout, func() { cancel(errSilent) })
	defer watch.Stop()
	u := r.to.Object(q.row.Name)
	u.RawQuery = q.query
	var body io.Reader = http.NoBody
	source := &watched{from: q.body, moved: func() { watch.Reset(r.cfg.Timeout) }}
	if q.body != nil && q.length > 0 {
		body = source
	}
	var wanted, got atomic.Bool // a connection
	out, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { wanted.Store(true) }, GotConn: func(httptrace.GotConnInfo) { got.Store(true) },
	}), q.method, u.String(), body)
	if err != nil {
		return answer{}, errs.E(errs.Invalid, err)
	}
	out.URL = u
	for n, v := range q.header {
		out.Header[n] = v
	}
	if q.method == http.MethodPut {
		out.ContentLength = q.length
	}
	out.Header["X-Timestamp"] = []string{q.stamp}
	out.Header["User-Agent"] = []string{"martlet-container-sync"}
	field, value := r.to.Header(q.method, u, q.stamp, strings.ToLower(rand.Text()), r.is.Key)
	out.Header[field] = []string{value}
	resp, err := r.Remote.client.Do(out)
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		_ = resp.Body.Close() // it was only read from
	}
	switch broken := source.end(); {
	case err == nil:
		r.hosts.heard(u.Host)
		return answer{resp.StatusCode, resp.Header.Get("X-Timestamp")}, nil
	case broken != nil: // it is this cluster's fault
		return answer{}, errs.E(errs.Unavailable, broken)
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSilent):
		return answer{}, context.Cause(ctx)
	case !wanted.Load(): // it can't be sent at all
		return answer{}, errs.E(errs.Invalid, err)
	case got.Load() && !r.hosts.broke(u.Host):
		return answer{}, errs.E(errs.Unavailable, err)
	}
	r.hosts.missed(u.Host)
	return answer{}, errs.E(errs.Unavailable, fmt.Errorf("%w: %w", errStop, err))
}

var errSilent = errors.New("the other cluster was silent for too long")

// watched is a body that says when it moves, and keeps why it broke off. The transport may
// still want to read from it when there is an answer.
type watched struct {
	from  io.Reader
	moved func()

	mu    sync.Mutex
	err   error // guarded by mu
	ended bool  // guarded by mu
}

func (w *watched) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return 0, errEnded
	}
	n, err := w.from.Read(p)
	if n > 0 {
		w.moved()
	}
	if err != nil && err != io.EOF { // not errors.Is: a failure may have one in it
		w.err = err
	}
	return n, err
}

// end has nobody read any more, and returns why the body broke off, if it did.
func (w *watched) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	return w.err
}

var errEnded = errors.New("the request has ended")

// hosts remembers who did not answer, and when to ask again.
type hosts struct {
	now    func() time.Time
	most   int // how many requests in a row may break off
	mu     sync.Mutex
	silent map[string]*silence // guarded by mu
	broken map[string]int      // how many requests in a row did; guarded by mu
}

type silence struct {
	times int
	until time.Time
}

// The first time that a host does not answer it is left alone for firstPause, then for
// twice as long each time, up to lastPause.
const (
	firstPause = 5 * time.Second
	lastPause  = 10 * time.Minute
)

// ask reports whether a host may be asked now.
func (h *hosts) ask(host string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.silent[host]
	return s == nil || !h.now().Before(s.until)
}

// heard notes that a host answers.
func (h *hosts) heard(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.silent, host)
	delete(h.broken, host)
}

// broke notes that a request broke off, and reports whether so many in a row have that it is
// the host's fault.
func (h *hosts) broke(host string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken[host]++
	return h.broken[host] >= h.most
}

// missed notes that a host does not answer. What was asked before it was known counts
// as one time.
func (h *hosts) missed(host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.silent[host]
	if s == nil {
		s = &silence{}
		h.silent[host] = s
	}
	now := h.now()
	if now.Before(s.until) {
		return
	}
	pause := firstPause << min(s.times, 10)
	s.times++
	s.until = now.Add(min(pause, lastPause))
}
