package httpapi

import (
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// GateConfig says how much a server takes on at one time.
type GateConfig struct {
	Requests int64 // in flight; more than 0
	Bytes    int64 // of buffers that they may need, all together; 0 is no bound

	// Cost is the most bytes of buffers that a request may need; nil is none.
	Cost func(r *http.Request) int64
	// Free tells the requests that are always let in; nil is none.
	Free func(r *http.Request) bool
}

// A Gate bounds the requests that a server works on, and the memory that they may
// need. What is beyond the bounds is answered at once with 503 and Retry-After,
// before anything of its body is read.
//
// Nobody waits at a gate: those who are in already wait for storage nodes, and a
// queue in front of that would only make everyone late. What a request may need it
// is charged when it comes, at its worst: taking more on the way could leave all of
// them waiting for each other.
type Gate struct {
	cfg      GateConfig
	requests atomic.Int64
	bytes    atomic.Int64
	refused  [2]prometheus.Counter // for want of a place, and of memory
}

// NewGate makes a gate and registers what it shows of a server ("proxy", ...):
// martlet_requests_in_flight, martlet_request_buffer_bytes, and
// martlet_requests_refused_total by reason ("requests", "bytes").
func NewGate(reg prometheus.Registerer, server string, cfg GateConfig) (*Gate, error) {
	g := &Gate{cfg: cfg}
	labels := prometheus.Labels{"server": server}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "martlet_requests_refused_total", Help: "Requests answered with 503 since too many were in flight.", ConstLabels: labels,
	}, []string{"reason"})
	g.refused = [...]prometheus.Counter{refused.WithLabelValues("requests"), refused.WithLabelValues("bytes")}
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
		if !g.enter(cost) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, Reason(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
			return
		}
		defer g.leave(cost)
		h.ServeHTTP(w, r)
	})
}

func (g *Gate) enter(cost int64) bool {
	if g.requests.Add(1) > g.cfg.Requests {
		g.requests.Add(-1)
		g.refused[0].Inc()
		return false
	}
	// One that needs more than there is at all gets in when it is alone.
	if sum := g.bytes.Add(cost); g.cfg.Bytes > 0 && sum > g.cfg.Bytes && sum > cost {
		g.leave(cost)
		g.refused[1].Inc()
		return false
	}
	return true
}

func (g *Gate) leave(cost int64) {
	g.bytes.Add(-cost)
	g.requests.Add(-1)
}

// Pressed reports whether more than half of what the gate lets in is in, so that
// room should be made.
func (g *Gate) Pressed() bool {
	return g.requests.Load() > g.cfg.Requests/2 || g.cfg.Bytes > 0 && g.bytes.Load() > g.cfg.Bytes/2
}
