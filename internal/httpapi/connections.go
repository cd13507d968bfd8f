package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Connections bounds how many connections of clients a server has open. Where one
// more comes, the one that has waited longest for its next request is closed, or for
// its first one, where that has been a second or more. Where none waits the new one
// is closed, without an answer: it has asked nothing yet.
//
// A client that has a request under way never loses its connection for others.
type Connections struct {
	most    int
	log     *slog.Logger
	server  string
	open    prometheus.Gauge
	closed  [2]prometheus.Counter // idle ones, and new ones
	mu      sync.Mutex
	known   map[net.Conn]*openConn // guarded by mu
	waiting openConn               // the ends of a ring of those that wait, the one that has waited longest behind it; guarded by mu
	told    time.Time              // when the log was told last; guarded by mu
	untold  int                    // new ones closed since; guarded by mu
}

// openConn is a connection. It is in the ring while no request is under way on it: it goes there and back with each
// request, so that the places are its own (a list would make one each time).
type openConn struct {
	net.Conn
	since         time.Time // it waits
	fresh         bool      // it has sent nothing yet
	before, after *openConn // in the ring; nil out of it
}

// wait puts a connection at the end of the ring.
func (c *Connections) wait(o *openConn) {
	o.before, o.after = c.waiting.before, &c.waiting
	o.before.after, o.after.before = o, o
}

// leave takes a connection out of the ring, if it is there.
func (o *openConn) leave() {
	if o.after != nil {
		o.before.after, o.after.before = o.after, o.before
		o.before, o.after = nil, nil
	}
}

const (
	forIdle = iota // which connections were closed
	forNew

	freshTime  = time.Second      // in which a client is to send the first byte of its first request
	mostLooked = 64               // connections that are looked at to find one that can go: in a flood all are fresh
	tellEvery  = 10 * time.Second // that new ones are closed
)

// NewConnections bounds the connections of a server ("proxy", ...) to most, which is
// more than 0, and registers what it shows: martlet_connections_open, and
// martlet_connections_closed_total by which ("idle", "new").
func NewConnections(reg prometheus.Registerer, server string, most int, log *slog.Logger) (*Connections, error) {
	labels := prometheus.Labels{"server": server}
	c := &Connections{most: most, log: log, server: server, known: map[net.Conn]*openConn{}}
	c.waiting.before, c.waiting.after = &c.waiting, &c.waiting
	c.open = prometheus.NewGauge(prometheus.GaugeOpts{Name: "martlet_connections_open", Help: "Connections of clients that are open.", ConstLabels: labels})
	closed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "martlet_connections_closed_total", Help: "Connections closed since too many were open: idle ones to make room, and new ones where there was none.", ConstLabels: labels,
	}, []string{"which"})
	c.closed = [...]prometheus.Counter{forIdle: closed.WithLabelValues("idle"), forNew: closed.WithLabelValues("new")}
	return c, errors.Join(reg.Register(c.open), reg.Register(closed))
}

// listener accepts the connections that there is room for.
type listener struct {
	net.Listener
	c *Connections
}

// Accept waits for a connection that there is room for.
func (l listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.c.take(nc) {
			return nc, nil
		}
		_ = nc.Close() // it was used for nothing
	}
}

// take makes room for a new connection and reports whether there is any.
func (c *Connections) take(nc net.Conn) bool {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= c.most && !c.makeRoom(now) {
		c.closed[forNew].Inc()
		if c.untold++; now.Sub(c.told) >= tellEvery {
			c.log.LogAttrs(context.Background(), slog.LevelWarn, "connections of clients closed as they came: too many are busy",
				slog.String("server", c.server), slog.Int("most", c.most), slog.Int("closed", c.untold))
			c.told, c.untold = now, 0
		}
		return false
	}
	o := &openConn{Conn: nc, since: now, fresh: true}
	c.known[nc] = o
	c.wait(o)
	c.open.Set(float64(len(c.known)))
	return true
}

// makeRoom closes a connection that waits. It is called with mu held.
func (c *Connections) makeRoom(now time.Time) bool {
	looked := 0
	for w := c.waiting.after; w != &c.waiting && looked < mostLooked; w = w.after {
		looked++
		if w.fresh && now.Sub(w.since) < freshTime {
			continue
		}
		w.leave()
		delete(c.known, w.Conn)   // the server says so later, and may not find it then
		_ = below(w.Conn).Close() // nothing is under way on it
		c.closed[forIdle].Inc()
		return true
	}
	return false
}

// below is what a connection is made of. TLS takes its leave of a client for as long as five seconds, if that reads
// nothing, and all others would wait for it meanwhile.
func below(c net.Conn) net.Conn {
	for {
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = over.NetConn()
	}
}

// state is told what becomes of a connection.
func (c *Connections) state(nc net.Conn, s http.ConnState) {
	if s == http.StateNew {
		return // it has been taken
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.known[nc]
	if o == nil {
		return // it was closed to make room
	}
	o.leave()
	switch s {
	case http.StateActive:
	case http.StateIdle:
		o.since, o.fresh = time.Now(), false
		c.wait(o)
	default: // closed, or taken over by a handler
		delete(c.known, nc)
		c.open.Set(float64(len(c.known)))
	}
}
