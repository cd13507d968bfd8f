package cluster

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/httpapi"
	"martlet/internal/replwire"
)

// traffic counts what goes over the connections of all servers, which is all that goes
// between nodes.
type traffic struct {
	mu      sync.Mutex
	bytes   map[string]int64           // by server, both ways
	remotes map[string]map[string]bool // by server, the addresses that connected to it
	said    map[string]map[string]bool // by server, the marks that came there
	marks   []string                   // what is looked for
}

// marks are what only replication says.
var marks = []string{"REPLICATE /", replwire.ReplicationHeader + ": true", replwire.KindHeader + ": "}

func (c *traffic) listen(server, address string) (net.Listener, error) {
	l, err := httpapi.Listen(address)
	if err != nil {
		return nil, err
	}
	return countedListener{l, c, server}, nil
}

func (c *traffic) add(server string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes[server] += int64(n)
}

func (c *traffic) note(into map[string]map[string]bool, server, what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if into[server] == nil {
		into[server] = map[string]bool{}
	}
	into[server][what] = true
}

// take returns the bytes over the storage and over the replication network since it was
// last asked.
func (c *traffic) take() (storage, replication int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer clear(c.bytes)
	return c.bytes["object"] + c.bytes["container"] + c.bytes["account"], c.bytes["replication"]
}

// still waits until nothing has gone over the storage network for longer than a proxy waits for
// the last replica of what it has answered.
func (c *traffic) still(p *probe) {
	p.t.Helper()
	last, since := int64(-1), time.Now()
	p.until("nothing goes over the storage network", func() bool {
		c.mu.Lock()
		now := c.bytes["object"] + c.bytes["container"] + c.bytes["account"]
		c.mu.Unlock()
		if now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second
	})
}

type countedListener struct {
	net.Listener
	c      *traffic
	server string
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	l.c.note(l.c.remotes, l.server, host)
	return &countedConn{Conn: conn, c: l.c, server: l.server}, nil
}

// countedConn counts its bytes, and looks for marks in what comes.
type countedConn struct {
	net.Conn
	c      *traffic
	server string

	mu   sync.Mutex
	tail []byte // guarded by mu; of what came last: a mark may come in two parts
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.c.add(c.server, n)
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := append(c.tail, p[:n]...)
	for _, m := range c.c.marks {
		if bytes.Contains(seen, []byte(m)) {
			c.c.note(c.c.said, c.server, m)
		}
	}
	c.tail = slices.Clone(seen[max(0, len(seen)-64):])
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.c.add(c.server, n)
	return n, err
}

// Of what clients do not a byte goes over the replication network, and of what replication does
// not a byte over the storage network, where nothing else is going on; and where everything is
// going on at once, who connects there, and what he says, is what belongs there. Strangers on
// either network change nothing.
func TestTraffic(t *testing.T) {
	c := &traffic{bytes: map[string]int64{}, remotes: map[string]map[string]bool{}, said: map[string]map[string]bool{}, marks: marks}
	p := startProbe(t, withKey)
	p.listen = c.listen
	for n := range p.nodes {
		p.configs[n].Updater.Enabled, p.configs[n].Stats.Enabled = false, false // they speak on the storage network, at any time
		p.stop(n + 1)
		p.start(n + 1)
	}
	large := strings.Repeat("large", 1<<18)
	primaries, _ := p.places("large")
	down := nodeAt(primaries[0])

	// Clients, and no replication: everything that a client can do, with a node away for a part of it.
	c.take()
	clients := func(round string) {
		for _, o := range []string{"small", "other"} {
			p.object("PUT", o, map[string]string{"X-Object-Meta-Round": round}, "body of "+round, 201)
		}
		p.object("PUT", "large", nil, large, 201)
		p.object("POST", "small", map[string]string{"X-Object-Meta-Round": round + "+"}, "", 202)
		p.object("DELETE", "other", nil, "", 204)
		p.object("GET", "large", nil, "", 200)
		p.object("GET", "other", nil, "", 404)
		p.want("PUT", p.url+"/"+round, nil, "", 201)
		p.want("GET", p.url+"/c", nil, "", 200)
		p.want("GET", p.url, nil, "", 200)
	}
	clients("first")
	p.stop(down)
	clients("second")
	p.start(down)
	c.still(p)
	storage, replication := c.take()
	if replication != 0 || storage < int64(3*2*len(large)) {
		t.Errorf("clients: %d bytes over the storage network, %d over the replication network, want at least %d and 0", storage, replication, 3*2*len(large))
	}

	// Replication, and no clients: what was missed is brought, handoffs return, databases merge.
	p.pass(true)
	p.pass(true)
	storage, replication = c.take()
	if storage != 0 || replication < int64(len(large)) {
		t.Errorf("replication: %d bytes over the storage network, %d over the replication network, want 0 and at least %d", storage, replication, len(large))
	}
	p.exactly("large", primaries, holds(large))

	// Both at once.
	var both sync.WaitGroup
	both.Go(func() {
		for range 3 {
			p.pass(false)
		}
	})
	clients("third")
	both.Wait()
	p.pass(true)
	c.check(t, p.folder.Options.Network+".2.")
	strangers(p, primaries[1])
}

// check looks at who has connected to whom, and what he has said.
func (c *traffic) check(t *testing.T, replication string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for server, said := range c.said {
		if server != "replication" {
			t.Errorf("%s servers are told %v", server, said)
		}
	}
	if len(c.said["replication"]) != len(marks) {
		t.Errorf("the marks of replication on its network are %v, want all of %v", c.said["replication"], marks)
	}
	for host := range c.remotes["replication"] {
		if !strings.HasPrefix(host, replication) {
			t.Errorf("%s has connected to the replication network", host)
		}
	}
}

// strangers has some on each network, with what belongs to the other one.
func strangers(p *probe, place string) {
	t := p.t
	at := p.configs[nodeAt(place)-1]
	client := direct.New(direct.Config{})
	defer client.Close()
	before := p.copies("large")
	get := &backend.Request{Method: "GET", Path: p.aPush("GET", place, "large", "").Path}
	for what, tt := range map[string]struct {
		addr string
		r    *backend.Request
		want int
	}{
		"a client reads on the replication network":   {p.replicationAt(nodeAt(place)), get, 403},
		"a stranger deletes there":                    {p.replicationAt(nodeAt(place)), p.aPush("DELETE", place, "large", ""), 403},
		"a stranger writes there":                     {p.replicationAt(nodeAt(place)), p.aPush("PUT", place, "large", "new"), 403},
		"a stranger asks there":                       {p.replicationAt(nodeAt(place)), &backend.Request{Method: "REPLICATE", Path: "/d1/0"}, 403},
		"somebody asks for a list on the storage one": {fmt.Sprintf("%s:%d", at.Server.Address, at.Object.Port), &backend.Request{Method: "REPLICATE", Path: "/d1/0"}, 405},
	} {
		resp, err := client.Do(t.Context(), tt.addr, tt.r)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if resp.Body != nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if resp.Status != tt.want {
			t.Errorf("%s: %d, want %d", what, resp.Status, tt.want)
		}
	}
	for where, s := range p.copies("large") {
		if was := before[where]; s.Packed() != was.Packed() || s.MD5 != was.MD5 || s.Kind != was.Kind {
			t.Errorf("strangers have changed %s: %+v, it was %+v", where, s, was)
		}
	}
	p.object("GET", "large", nil, "", 200)
}
