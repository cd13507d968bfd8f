package httpapi

import (
	"errors"
	"hash/maphash"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
)

// GateConfig says how much a server takes on at one time.
type GateConfig struct {
	Requests int64 // in flight; more than 0
	Bytes    int64 // of buffers that they may need, all together; 0 is no bound

	// Cost is the most bytes of buffers that a request may need; nil is none.
	Cost func(r *http.Request) int64
	// Free tells the requests that are always let in; nil is none.
	Free func(r *http.Request) bool

	// Client says whose request it is: nobody may take so much that others find no
	// room. nil is no bound but those above.
	Client func(r *http.Request) string
	// Carried says the same of requests that Enter is asked for.
	Carried func(r *backend.Request) string
}

// A Gate bounds the requests that a server works on, and the memory that they may
// need. What is beyond the bounds is answered at once with 503 and Retry-After,
// before anything of its body is read.
//
// Nobody waits at a gate: those who are in already wait for storage nodes, and a
// queue in front of that would only make everyone late. What a request may need it
// is charged when it comes, at its worst: taking more on the way could leave all of
// them waiting for each other.
//
// A client may have in eight times as much as there is still room for, and one
// request in any case. So one alone can use eight ninths, two can use as much as each
// other, and who comes next finds room, without anybody being thrown out. Clients are
// told apart by a hash of their names, another one in each process: of a few thousand,
// two may have to share.
type Gate struct {
	cfg      GateConfig
	requests atomic.Int64
	bytes    atomic.Int64
	refused  [3]prometheus.Counter // by the reasons below
	seed     maphash.Seed
	shares   []share // of clients, by the hash of their names; none without Client
}

// share is what one client has in.
type share struct{ requests, bytes atomic.Int64 }

const (
	forPlaces = iota // reasons to refuse
	forMemory
	forShare

	shares  = 4096 // a power of two
	sharing = 8    // how many times what is free one client may have
)

// NewGate makes a gate and registers what it shows of a server ("proxy", ...):
// martlet_requests_in_flight, martlet_request_buffer_bytes, and
// martlet_requests_refused_total by reason ("requests", "bytes", "share").
func NewGate(reg prometheus.Registerer, server string, cfg GateConfig) (*Gate, error) {
	g := &Gate{cfg: cfg, seed: maphash.MakeSeed()}
	if cfg.Client != nil || cfg.Carried != nil {
		g.shares = make([]share, shares)
	}
	labels := prometheus.Labels{"server": server}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "martlet_requests_refused_total", Help: "Requests answered with 503 since too many were in flight, of all or of one client.", ConstLabels: labels,
	}, []string{"reason"})
	for i, reason := range []string{forPlaces: "requests", forMemory: "bytes", forShare: "share"} {
		g.refused[i] = refused.WithLabelValues(reason)
	}
	gauge := func(name, help string, of *atomic.Int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(of.Load()) })
	}
	return g, errors.Join(
		reg.Register(refused),
		reg.Register(gauge("martlet_requests_in_flight", "Requests that are being worked on.", &g.requests)),
		reg.Register(gauge("martlet_request_buffer_bytes", "Bytes of buffers that they may need.", &g.bytes)),
	)
}

// Wrap puts the gate before a handler. A request holds its place until its handler
// has returned or panicked. It belongs inside Observe.
func (g *Gate) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.cfg.Free != nil && g.cfg.Free(r) {
			h.ServeHTTP(w, r)
			return
		}
		var cost int64
		if g.cfg.Cost != nil {
			cost = g.cfg.Cost(r)
		}
		of := g.share(r)
		if !g.enter(cost, of) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, Reason(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
			return
		}
		defer g.leave(cost, of)
		h.ServeHTTP(w, r)
	})
}

// share returns the share that a request takes of; nil where there are none.
func (g *Gate) share(r *http.Request) *share {
	if g.cfg.Client == nil {
		return nil
	}
	return g.shareOf(g.cfg.Client(r))
}

func (g *Gate) shareOf(client string) *share { return &g.shares[maphash.String(g.seed, client)%shares] }

func (g *Gate) enter(cost int64, of *share) bool {
	requests := g.requests.Add(1)
	if requests > g.cfg.Requests {
		g.requests.Add(-1)
		g.refused[forPlaces].Inc()
		return false
	}
	// One that needs more than there is at all gets in when it is alone.
	bytes := g.bytes.Add(cost)
	bounded := g.cfg.Bytes > 0
	if of != nil {
		of.requests.Add(1)
		of.bytes.Add(cost)
	}
	if bounded && bytes > g.cfg.Bytes && bytes > cost {
		g.leave(cost, of)
		g.refused[forMemory].Inc()
		return false
	}
	if of != nil && of.requests.Load() > 1 && (of.requests.Load() > sharing*(g.cfg.Requests-requests) || bounded && of.bytes.Load() > sharing*(g.cfg.Bytes-bytes)) {
		g.leave(cost, of)
		g.refused[forShare].Inc()
		return false
	}
	return true
}

func (g *Gate) leave(cost int64, of *share) {
	if of != nil {
		of.bytes.Add(-cost)
		of.requests.Add(-1)
	}
	g.bytes.Add(-cost)
	g.requests.Add(-1)
}

// Charge adds to the bytes that a request needs which is in already, where it has turned out that
// they are more, and reports whether there is room. Nobody waits for it here either: where
// there is none the request is to be refused. What was charged is given back by release, once.
func (g *Gate) Charge(r *http.Request, bytes int64) (release func(), ok bool) {
	if g == nil {
		return func() {}, true
	}
	var of *share
	if r != nil {
		of = g.share(r)
	}
	if !g.grow(bytes, of) {
		return nil, false
	}
	return func() { g.shrink(bytes, of) }, true
}

func (g *Gate) grow(n int64, of *share) bool {
	total := g.bytes.Add(n)
	if of != nil {
		of.bytes.Add(n)
	}
	if g.cfg.Bytes <= 0 {
		return true
	}
	switch {
	case total > g.cfg.Bytes && g.requests.Load() > 1: // one that is alone has what it needs
		g.refused[forMemory].Inc()
	case of != nil && of.requests.Load() > 1 && of.bytes.Load() > sharing*(g.cfg.Bytes-total):
		g.refused[forShare].Inc()
	default:
		return true
	}
	g.shrink(n, of)
	return false
}

func (g *Gate) shrink(n int64, of *share) {
	if of != nil {
		of.bytes.Add(-n)
	}
	g.bytes.Add(-n)
}

// Pressed reports whether more than half of what the gate lets in is in, so that
// room should be made.
func (g *Gate) Pressed() bool {
	return g.requests.Load() > g.cfg.Requests/2 || g.cfg.Bytes > 0 && g.bytes.Load() > g.cfg.Bytes/2
}
