package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts the requests of one server.
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	of       map[string]*methodMetrics // by method, of which none is added later
}

// methodMetrics is the metrics of one method, by status. They are looked up once
// and not for each request; nil before the first.
type methodMetrics [600]atomic.Pointer[counted]

type counted struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

// NewMetrics registers the counters of a server ("proxy", "object", ...):
// martlet_requests_total by server, method and status, and
// martlet_request_seconds by server and method.
func NewMetrics(reg prometheus.Registerer, server string) (*Metrics, error) {
	labels := prometheus.Labels{"server": server}
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "martlet_requests_total", Help: "Requests answered.", ConstLabels: labels,
		}, []string{"method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "martlet_request_seconds", Help: "Time from a request's header to the end of its answer.", ConstLabels: labels,
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"method"}),
	}
	m.of = make(map[string]*methodMetrics, len(methods))
	for _, method := range methods {
		m.of[method] = new(methodMetrics)
	}
	return m, errors.Join(reg.Register(m.requests), reg.Register(m.seconds))
}

// otherMethod is the label of methods that nobody knows.
const otherMethod = "other"

var methods = []string{
	"GET", "HEAD", "PUT", "POST", "DELETE", "COPY", "OPTIONS", "UPDATE", "REPLICATE", "SSYNC", "BATCH", otherMethod,
}

func (m *Metrics) count(method string, code int, took time.Duration) {
	of := m.of[method]
	if of == nil {
		method = otherMethod // a label is never what a client made up
		of = m.of[method]
	}
	if code < 0 || code >= len(of) {
		code = 0 // nor is this: no server sends it
	}
	c := of[code].Load()
	if c == nil {
		c = &counted{m.requests.WithLabelValues(method, strconv.Itoa(code)), m.seconds.WithLabelValues(method)}
		of[code].Store(c)
	}
	c.requests.Inc()
	c.seconds.Observe(took.Seconds())
}

// Observed says how a server watches its requests.
type Observed struct {
	Server  string        // for the log
	Silence time.Duration // the longest a peer may be silent; 0 is for ever
	// LeastPace is how many bytes a second have to move, on average over a span of
	// Silence that is spent waiting for the peer, while Pressed says that room is
	// wanted. 0, or a nil Pressed, is no bound.
	LeastPace int64
	Pressed   func() bool

	Log     *slog.Logger
	Level   slog.Level // of the access log's lines
	Metrics *Metrics   // may be nil

	// NewID makes the transaction id of a request that begins here and came at a
	// time; nil takes the one that the sender sent.
	NewID func(r *http.Request, at time.Time) string
}

// Observe wraps a handler with what every request gets: a transaction id in its
// context and on its answer, limits on silence, a line in the access log, its
// count, and an end to panics. It hands a *Writer on.
func Observe(h http.Handler, o Observed) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := r.Header.Get("X-Trans-Id")
		if o.NewID != nil {
			id = o.NewID(r, began)
		}
		// All that is kept of a request is one allocation.
		x := &exchange{Context: r.Context(), w: Writer{ResponseWriter: rw}, ids: [1]string{id}, watched: watched{id: id, by: &o, outer: r}}
		w, body := &x.w, &x.body
		w.q = quiet{conn: deadlinesOf(rw), limit: o.Silence, least: o.LeastPace, pressed: o.Pressed}
		if id != "" {
			rw.Header()["X-Trans-Id"] = x.ids[:]
			if o.NewID != nil {
				rw.Header()["X-Openstack-Request-Id"] = x.ids[:]
			}
		}
		*body = requestBody{body: r.Body, q: &w.q, from: r}
		w.body = body
		w.conn, _ = r.Context().Value(namedKey{}).(*namedConn)
		r = r.WithContext(x) //nolint:contextcheck // x is around the context of r
		r.Body = body
		defer func() { o.finish(w, r, body, began, recover()) }()
		h.ServeHTTP(w, r)
	})
}

// exchange is one request that is watched, and the context of its handler.
type exchange struct {
	context.Context
	watched watched
	w       Writer
	body    requestBody
	ids     [1]string // the transaction id, as a header field has it
}

// Value knows the transaction id, and leaves the rest to the context around it.
func (x *exchange) Value(key any) any {
	if key == (transKey{}) {
		return &x.watched
	}
	return x.Context.Value(key)
}

// finish is the end of every request, also of one that panicked: p is what was
// recovered.
func (o *Observed) finish(w *Writer, r *http.Request, body *requestBody, began time.Time, p any) {
	broken := p != nil
	if broken && !isAbort(p) {
		logPanic(r.Context(), o.Log, r.Method, r.RequestURI, p)
		if w.status == 0 {
			http.Error(w, Reason(http.StatusInternalServerError), http.StatusInternalServerError)
			broken = false
		}
	}
	if !broken {
		w.begin(http.StatusOK) // net/http sends it when a handler says nothing
	}
	now := time.Now()
	code, took := w.status, now.Sub(began)
	if o.Metrics != nil {
		o.Metrics.count(r.Method, code, took)
	}
	o.access(r.Context(), line{r.Method, r.RequestURI, r.RemoteAddr, r.UserAgent(), code, body.n, w.sent, took, broken})
	if w.q.readDone(); w.duplex || body.from.ContentLength != 0 && !body.over {
		_ = w.q.conn.SetReadDeadline(time.Now().Add(restTime)) // net/http reads what is left, and waits for it
	}
	if broken {
		panic(http.ErrAbortHandler) // the connection must not look as if the answer were whole
	}
	w.q.write = time.Time{}
	w.q.writeAt(now) // what is still buffered goes out under the limit, too
}

func isAbort(p any) bool {
	err, ok := p.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

func logPanic(ctx context.Context, log *slog.Logger, method, uri string, p any) {
	log.LogAttrs(ctx, slog.LevelError, "panic in a handler", slog.String("trans_id", TransID(ctx)),
		slog.String("method", method), slog.String("path", logPath(uri)), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
}

// line is what the access log says of a request.
type line struct {
	method, uri, remote, agent string
	code                       int
	in, out                    int64
	took                       time.Duration
	broken                     bool
}

func (o *Observed) access(ctx context.Context, l line) {
	if !o.Log.Enabled(ctx, o.Level) {
		return
	}
	o.Log.LogAttrs(ctx, o.Level, "request",
		slog.String("server", o.Server), slog.String("trans_id", TransID(ctx)), slog.String("remote", l.remote),
		slog.String("method", l.method), slog.String("path", logPath(l.uri)), slog.Int("status", l.code),
		slog.Int64("in", l.in), slog.Int64("out", l.out), slog.Float64("seconds", l.took.Seconds()),
		slog.String("agent", l.agent), slog.Bool("broken", l.broken))
}

// secrets are the query parameters whose values are keys to something.
var secrets = []string{"temp_url_sig", "Signature", "X-Amz-Signature"}

// logPath is the request's target as the log shows it: signatures blotted out,
// and cut where it is longer than any legal one.
func logPath(uri string) string {
	const longest = 4096
	if len(uri) > longest {
		uri = uri[:longest] + "..."
	}
	_, query, ok := strings.Cut(uri, "?")
	if !ok {
		return uri
	}
	for _, s := range secrets {
		if i := strings.Index(query, s+"="); i >= 0 {
			from := len(uri) - len(query) + i + len(s) + 1
			to := len(uri)
			if j := strings.IndexByte(uri[from:], '&'); j >= 0 {
				to = from + j
			}
			uri = uri[:from] + "..." + uri[to:]
			_, query, _ = strings.Cut(uri, "?")
		}
	}
	return uri
}
