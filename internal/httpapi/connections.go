package httpapi

import (
	"container/list"
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
	known   map[net.Conn]*list.Element // of waiting; nil while a request is under way; guarded by mu
	waiting *list.List                 // of waitingConn, the one that has waited longest in front; guarded by mu
	told    time.Time                  // when the log was told last; guarded by mu
	untold  int                        // new ones closed since; guarded by mu
}

// waitingConn is a connection on which no request is under way.
type waitingConn struct {
	net.Conn
	since time.Time
	fresh bool // it has sent nothing yet
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
	c := &Connections{most: most, log: log, server: server, known: map[net.Conn]*list.Element{}, waiting: list.New()}
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
	c.known[nc] = c.waiting.PushBack(waitingConn{nc, now, true})
	c.open.Set(float64(len(c.known)))
	return true
}

// makeRoom closes a connection that waits. It is called with mu held.
func (c *Connections) makeRoom(now time.Time) bool {
	looked := 0
	for e := c.waiting.Front(); e != nil && looked < mostLooked; e = e.Next() {
		looked++
		w := e.Value.(waitingConn) //nolint:forcetypeassert // the list holds nothing else
		if w.fresh && now.Sub(w.since) < freshTime {
			continue
		}
		c.waiting.Remove(e)
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
	e, ok := c.known[nc]
	if !ok {
		return // it was closed to make room
	}
	if e != nil {
		c.waiting.Remove(e)
	}
	switch s {
	case http.StateActive:
		c.known[nc] = nil
	case http.StateIdle:
		c.known[nc] = c.waiting.PushBack(waitingConn{nc, time.Now(), false})
	default: // closed, or taken over by a handler
		delete(c.known, nc)
		c.open.Set(float64(len(c.known)))
	}
}
