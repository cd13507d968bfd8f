package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server is one listening address.
type Server struct {
	Name     string // for errors and the log
	Listener net.Listener
	Handler  http.Handler
	Log      *slog.Logger

	Silence   time.Duration // the longest a client may take over its header, or stay idle between requests; default 60 s
	Drain     time.Duration // how long requests may go on after the end was asked for; default 30 s
	MaxHeader int           // bytes of a request's line and header; default 256 KiB

	// NewID makes transaction ids for the answers that net/http gives by itself, to
	// what can't be read as a request. nil leaves these as they are.
	NewID func() string

	Connections *Connections // bounds how many are open; nil is no bound

	Certificate *Certificate // makes it speak TLS; nil is plain HTTP
	LeastTLS    uint16       // tls.VersionTLS12, which 0 is, or newer
}

// ErrHandedOver is the cause of the end (context.Cause) where another process serves on the same socket already. Then
// connections that are open are not closed under the hands of clients: for a while each is answered on, and told in the
// answer that it ends. Without that a request may be on its way to a connection that waits for one and is closed, and its
// client can't know whether it was done.
var ErrHandedOver = errors.New("handed over to another process")

// farewell is for how long that is, for clients that ask nothing meanwhile.
const farewell = 5 * time.Second

// Listen opens a TCP address. Port 0 picks a free one; the listener knows it.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr) //nolint:noctx // it takes no time
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// Run serves until ctx ends. Then it stops accepting, lets requests go on for
// Drain, and breaks off what is left; it returns when no handler runs any more.
func (s *Server) Run(ctx context.Context) error {
	silence := s.Silence
	if silence <= 0 {
		silence = time.Minute
	}
	drain := s.Drain
	if drain <= 0 {
		drain = 30 * time.Second
	}
	maxHeader := s.MaxHeader
	if maxHeader <= 0 {
		maxHeader = 256 << 10
	}
	srv := &http.Server{
		Handler: s.Handler, ReadHeaderTimeout: silence, IdleTimeout: silence, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		// Requests outlive the end of ctx: they are drained.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	accepted := s.Listener
	if s.Certificate != nil {
		accepted = newSecure(accepted, s.Certificate, s.LeastTLS)
	}
	if s.NewID != nil {
		l := &named{accepted, s.NewID, s.Log}
		l.register(srv)
		accepted = l
	}
	if s.Certificate != nil {
		registerSecure(srv)
	}
	if s.Connections != nil {
		accepted = listener{accepted, s.Connections}
		onState(srv, s.Connections.state)
	}
	var ending atomic.Bool
	endConnections(srv, &ending)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(accepted) }()
	select {
	case err := <-served:
		return fmt.Errorf("%s on %s: %w", s.Name, s.Listener.Addr(), err)
	case <-ctx.Done():
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if errors.Is(context.Cause(ctx), ErrHandedOver) {
		ending.Store(true)
		if err := s.Listener.Close(); err != nil {
			s.Log.LogAttrs(ctx, slog.LevelWarn, "listener", slog.String("server", s.Name), slog.Any("err", err))
		}
		<-time.After(min(farewell, drain))
	}
	if err := srv.Shutdown(bound); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "requests broken off at shutdown", slog.String("server", s.Name), slog.Any("err", err))
		_ = srv.Close() // their connections; what they wrote is as durable as their answers said
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) && !(ending.Load() && errors.Is(err, net.ErrClosed)) {
		return fmt.Errorf("%s on %s: %w", s.Name, s.Listener.Addr(), err)
	}
	return nil
}

// endConnections has each answer end its connection as soon as ending says so.
func endConnections(srv *http.Server, ending *atomic.Bool) {
	h := srv.Handler
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ending.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// onState has one more be told what becomes of connections.
func onState(srv *http.Server, state func(net.Conn, http.ConnState)) {
	others := srv.ConnState
	srv.ConnState = func(c net.Conn, s http.ConnState) {
		if state(c, s); others != nil {
			others(c, s)
		}
	}
}

// Admin is the handler of a process's admin address: /metrics for Prometheus,
// which nil leaves out, /healthcheck, and /debug/pprof/ where profiling is on.
func Admin(reg prometheus.Gatherer, profiling bool) http.Handler {
	mux := http.NewServeMux()
	if reg != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	}
	mux.HandleFunc("GET /healthcheck", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("OK")) // a client that left needs no answer
	})
	if profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}
