// Package quorum sends requests to the replicas of a path and says what their
// answers amount to. The proxy uses it, and so does every daemon that acts like
// a client; none of them knows storage nodes in any other way.
//
// A write goes to every primary at once. One that can't take it is replaced by
// the next handoff, and the write stands when a majority of the replicas agree.
// A read goes to one replica after the other until one answers.
package quorum

import (
	"context"
	"fmt"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/ring"
)

// Majority is the least number of n replicas that no other majority can miss:
// ⌊n/2⌋+1.
func Majority(n int) int { return n/2 + 1 }

// Rings is the rings of a cluster, each reloading by itself.
type Rings struct {
	Account, Container *ring.Source
	Objects            map[policy.Index]*ring.Source

	// Needs is how many replicas a write has to be on under a policy, where that is
	// not a majority of them.
	Needs map[policy.Index]int
}

// Config says how patient a Cluster is. Zero fields take their defaults.
type Config struct {
	// PostQuorum is how long a write waits, once its outcome is settled, for the
	// replicas that have not answered: 0.5 s. Waiting for them is what makes a
	// listing show what was just written.
	PostQuorum time.Duration
	// Patience is how long a replica may take to begin its answer to a read before
	// the next one is asked in any case, and it counts as an error: 0.5 s. Those that
	// were asked go on, and when no other can answer they are given the client's
	// usual time.
	Patience time.Duration
	// ErrorLimit is how many errors within ErrorSpan put a device behind the
	// others: 10 in 60 s. It is never left out.
	ErrorLimit int
	ErrorSpan  time.Duration

	// Options are those of accounts and containers, and of objects of policies that
	// are not in Policies.
	Options
	Policies map[policy.Index]Options
}

// Options say whom requests ask. Each storage policy may have its own. Zero fields
// take their defaults.
type Options struct {
	// HedgeAfter is how long a read waits at most before it asks a second replica
	// that is as good beside the first: 0.5 s. It is less where replicas answer faster.
	HedgeAfter time.Duration
	// HedgePercent is for how many of 100 reads that may be: 10; negative is none.
	HedgePercent int

	// Nodes is how many devices one request may ask, its primaries included: three
	// for each replica. The primaries are always asked.
	Nodes NodeCount
	// Near is which replicas a read asks first.
	Near Affinity
	// Timing has a read ask first what has been answering fastest, and TimingExpiry
	// is how long a device may go unheard until that counts for nothing: 5 min.
	Timing       bool
	TimingExpiry time.Duration
	// Local is where data is written first, and LocalNodes how many of the devices
	// there go before others: two for each replica. See Place.Locally.
	Local      Affinity
	LocalNodes NodeCount
}

func (c Config) withDefaults() Config {
	if c.PostQuorum <= 0 {
		c.PostQuorum = 500 * time.Millisecond
	}
	if c.Patience <= 0 {
		c.Patience = 500 * time.Millisecond
	}
	if c.ErrorLimit <= 0 {
		c.ErrorLimit = 10
	}
	if c.ErrorSpan <= 0 {
		c.ErrorSpan = time.Minute
	}
	return c
}

func (o Options) withDefaults() Options {
	if o.HedgeAfter <= 0 {
		o.HedgeAfter = 500 * time.Millisecond
	}
	if o.HedgePercent == 0 {
		o.HedgePercent = 10
	}
	if o.TimingExpiry <= 0 {
		o.TimingExpiry = 5 * time.Minute
	}
	if o.Nodes.N <= 0 {
		o.Nodes = NodeCount{N: 3, Each: true}
	}
	if o.LocalNodes.N <= 0 {
		o.LocalNodes = NodeCount{N: 2, Each: true}
	}
	return o
}

// handoffs is how many handoffs one request for n replicas may ask.
func (o *Options) handoffs(n int) int { return max(o.Nodes.Of(n)-n, 0) }

// manner is how requests about the places of one policy go: its options, with their
// defaults, and its budget of second requests. It does not change once a Cluster is
// made; places lead to it, so that nothing is looked up for a request.
type manner struct {
	Options
	hedges *hedges
}

func newManner(o Options, counts hedgeCounts) *manner {
	o = o.withDefaults()
	return &manner{o, newHedges(o.HedgeAfter, o.HedgePercent, counts)}
}

// A Cluster is the storage nodes as one process sees them. It is safe for
// concurrent use.
type Cluster struct {
	rings  Rings
	hasher name.Hasher
	client *direct.Client
	quick  *direct.Client // the same, with Patience
	cfg    Config
	errors *errorLimit
	times  *times
	late   sync.WaitGroup // what goes on after its caller was answered

	counts hedgeCounts
	usual  *manner // of all but those policies that have their own
	own    map[policy.Index]*manner
}

// New makes a Cluster. The client stays the caller's to close, after Wait.
func New(cfg Config, rings Rings, hasher name.Hasher, client *direct.Client) *Cluster {
	cfg = cfg.withDefaults()
	counts := newHedgeCounts()
	own := make(map[policy.Index]*manner, len(cfg.Policies))
	for i, o := range cfg.Policies {
		own[i] = newManner(o, counts)
	}
	return &Cluster{
		rings: rings, hasher: hasher, client: client, quick: client.WithPatience(cfg.Patience), cfg: cfg,
		errors: newErrorLimit(cfg.ErrorLimit, cfg.ErrorSpan), times: newTimes(),
		counts: counts, usual: newManner(cfg.Options, counts), own: own,
	}
}

// Wait returns when the writes, and the cancelled reads, that outlived their callers
// have ended. No new ones may begin meanwhile.
func (c *Cluster) Wait() { c.late.Wait() }

// Go runs a part of a write that may outlive the request it belongs to. Wait
// waits for it.
func (c *Cluster) Go(run func()) { c.late.Go(run) }

// Client is the client that requests go through.
func (c *Cluster) Client() *direct.Client { return c.client }

// A Place is where one path lives, by one generation of a ring. A request takes
// one and keeps it to its end.
type Place struct {
	Path      name.Path
	Ring      *ring.Ring
	Partition ring.Partition
	Primaries []*ring.Device
	kind      string  // of ring, for errors
	manner    *manner // nil is the usual one
	local     bool    // see Locally
	need      int     // see Quorum; 0 is a majority
}

// Quorum is how many replicas a write has to be on to stand: a majority, or what the
// policy needs (policy.Policy).
func (p Place) Quorum() int {
	if planted.QuorumOfOne { // breaks: a write that stands is on a majority
		return 1
	}
	if p.need > 0 {
		return p.need
	}
	return Majority(len(p.Primaries))
}

// manner returns how requests about a place go.
func (c *Cluster) manner(p *Place) *manner {
	if p.manner == nil {
		return c.usual // of a place that was not made here
	}
	return p.manner
}

// Locally returns the place for a write of data that is to go to devices of
// Options.Local first, where there are any. Handoffs there then go before primaries that are not
// there, of which as many go first as make a majority of all primaries with those
// that are: what a read, or the next write, has to find does not depend on
// replication having moved it. Every device that the write might have gone to
// otherwise is still tried.
func (p Place) Locally() Place {
	p.local = p.manner != nil && !p.manner.Local.Empty()
	return p
}

// absent is how many primaries have to say that they have nothing until that is the answer:
// a majority, or, where a policy says what a write needs, as many as no write that stands can
// have missed. Handoffs have been asked as well by then.
func (p Place) absent() int {
	n := len(p.Primaries)
	if p.need == 0 {
		return Majority(n)
	}
	return min(Majority(n), max(n-p.need+1, 1))
}

// Account returns the place of an account.
func (c *Cluster) Account(account string) Place {
	return c.place("account", c.rings.Account.Ring(), name.Path{Account: account})
}

// Container returns the place of a container.
func (c *Cluster) Container(account, container string) Place {
	return c.place("container", c.rings.Container.Ring(), name.Path{Account: account, Container: container})
}

// Object returns the place of an object under a policy. A policy that has no
// ring here is of kind errs.Unavailable.
func (c *Cluster) Object(p policy.Index, path name.Path) (Place, error) {
	src, ok := c.rings.Objects[p]
	if !ok {
		return Place{}, errs.E(errs.Op("quorum.object"), errs.Unavailable, fmt.Errorf("no ring for policy %d", p))
	}
	place := c.place("object"+p.Suffix(), src.Ring(), path)
	if m, ok := c.own[p.Objects()]; ok {
		place.manner = m
	}
	place.need = c.rings.Needs[p]
	return place, nil
}

func (c *Cluster) place(kind string, r *ring.Ring, path name.Path) Place {
	part := r.Partition(c.hasher.Hash(path))
	return Place{
		Path: path, Ring: r, Partition: part, kind: kind, manner: c.usual,
		Primaries: r.AppendPrimaries(make([]*ring.Device, 0, r.ReplicaCount()), part),
	}
}

// Target returns the backend path of the place on one device.
func (p Place) Target(d *ring.Device) string {
	return backend.Target{Device: d.Name, Partition: uint32(p.Partition), Path: p.Path}.Quoted()
}

// Handoffs hands out the devices that stand in for primaries, each once: no more
// than Options.Nodes allows, those that have been failing last. It is safe for
// concurrent use.
type Handoffs struct {
	place  Place
	errors *errorLimit
	manner *manner

	mu     sync.Mutex
	list   []*ring.Device // guarded by mu; worked out when the first is wanted
	near   int            // how many at the head of list go before primaries elsewhere; guarded by mu
	loaded bool
	passed int // how many primaries were passed over for a handoff; guarded by mu
}

// Spare returns the handoffs of a place.
func (c *Cluster) Spare(p Place) *Handoffs {
	return &Handoffs{place: p, errors: c.errors, manner: c.manner(&p)}
}

// Next returns the next handoff to try, nil when they are used up.
func (h *Handoffs) Next() *ring.Device {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.load()
	return h.take()
}

// load works the list out. It is called with mu held, like take.
func (h *Handoffs) load() {
	if h.loaded {
		return
	}
	h.loaded = true
	most := h.manner.handoffs(len(h.place.Primaries))
	for d := range h.place.Ring.Handoffs(h.place.Partition) {
		if len(h.list) == most {
			break
		}
		h.list = append(h.list, d)
	}
	if h.place.local {
		h.nearFirst()
	}
	h.errors.order(h.list)
}

// nearFirst moves handoffs that are local to the front, no more of them than make
// up LocalNodes with the primaries that are. Only the order changes: readers walk
// over the same devices. It is called with mu held.
func (h *Handoffs) nearFirst() {
	n := len(h.place.Primaries)
	h.near = h.manner.LocalNodes.Of(n)
	for _, d := range h.place.Primaries {
		if h.manner.Local.near(d) {
			h.near--
		}
	}
	var near, others []*ring.Device
	for _, d := range h.list {
		if len(near) < h.near && h.manner.Local.near(d) {
			near = append(near, d)
		} else {
			others = append(others, d)
		}
	}
	h.near = len(near)
	h.list = append(near, others...)
}

func (h *Handoffs) take() *ring.Device {
	if len(h.list) == 0 {
		return nil
	}
	h.near = max(h.near-1, 0)
	d := h.list[0]
	h.list = h.list[1:]
	return d
}

// instead returns the handoff to try before a primary that has been failing, or
// that is elsewhere than the write should be, nil where the primary's turn is first: there is no handoff that is better, or as
// many primaries were passed over as a write can do without. A write that went to
// handoffs alone would not be seen by a read until it has been moved.
func (h *Handoffs) instead(failing bool) *ring.Device {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.place.Primaries)
	h.load()
	if h.passed >= n-h.place.Quorum() || len(h.list) == 0 || h.errors.limited(h.list[0]) {
		return nil
	}
	if !failing && (h.near == 0 || !h.manner.Local.near(h.list[0])) {
		return nil
	}
	h.passed++
	return h.take()
}

// A Route is the devices that can stand for one replica, in the order in which
// they are tried: its primary, then handoffs, which it shares with the routes of
// the other replicas. A primary that has been failing comes after a handoff that
// has not, and so does one that is not local, after a handoff that is, as long as that leaves a majority of the primaries to go first; it is
// tried where the handoff fails.
type Route struct {
	spare   *Handoffs
	primary *ring.Device // nil once it was tried
	passed  bool         // a handoff went before it
}

// Route returns the route of a primary.
func (h *Handoffs) Route(primary *ring.Device) *Route {
	r := h.route(primary)
	return &r
}

func (h *Handoffs) route(primary *ring.Device) Route { return Route{spare: h, primary: primary} }

// Next returns the next device to try, nil when there are no more.
func (r *Route) Next() *ring.Device {
	if r.primary == nil {
		return r.spare.Next()
	}
	if !r.passed {
		failing := r.spare.errors.limited(r.primary)
		if failing || r.spare.place.local && !r.spare.manner.Local.near(r.primary) {
			if d := r.spare.instead(failing); d != nil {
				r.passed = true
				return d
			}
		}
	}
	d := r.primary
	r.primary = nil
	return d
}

// sink reads a small answer to its end, so that its connection can be used
// again, and gives back at most 64 KiB of it.
func sink(resp *backend.Response) ([]byte, error) {
	if resp.Body == nil {
		return nil, nil
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or of no use
	return readSome(resp.Body, 64<<10)
}

// detached is the context of work that goes on when the caller has its answer:
// it keeps the transaction id and loses the cancellation.
func detached(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
