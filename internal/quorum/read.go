package quorum

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// Reply is the answer to a read: a response whose body the receiver closes, and
// who gave it.
type Reply struct {
	*backend.Response
	Device *ring.Device
}

// Read asks the replicas of a place one after the other, the primaries in an
// order by chance, the nearest first and those that have been failing last, then handoffs, until
// one has what is asked for: a 2xx, or a 304, 412 or 416. Handoffs are asked even
// where every primary says 404: they may hold what was written while the
// primaries could not take it.
//
// Where none has, the answer is the 404 (or other refusal) that the primaries
// gave, the one that knows of the newest tombstone first; and an error of kind
// errs.Unavailable where fewer than a majority of the primaries could say so. A
// handoff's 404 counts for nothing unless it knows of a tombstone. A copy that is
// older than a tombstone seen on the way is not returned.
func (c *Cluster) Read(ctx context.Context, p Place, build Build) (Reply, error) {
	order := slices.Clone(p.Primaries)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	c.cfg.Near.order(order)
	c.errors.order(order)
	return c.ReadFrom(ctx, p, order, build)
}

// ReadFrom is Read in the given order: of all primaries, and of handoffs that are to
// be asked along with them.
func (c *Cluster) ReadFrom(ctx context.Context, p Place, order []*ring.Device, build Build) (Reply, error) {
	r := reading{c: c, p: p, build: build, client: c.quick}
	for _, d := range order {
		if reply, ok := r.try(ctx, d, !slices.Contains(p.Primaries, d)); ok {
			return reply, nil
		}
	}
	left := c.cfg.handoffs(len(p.Primaries))
	if r.refusals == len(order) {
		left = min(left, len(p.Primaries)) // a name that nobody knows is asked for often
		if r.no.Status != http.StatusNotFound {
			left = 0
		}
	}
	spare := c.Spare(p)
	for ; left > 0 && ctx.Err() == nil; left-- {
		d := spare.Next()
		if d == nil {
			break
		}
		if slices.Contains(order, d) {
			continue // it has been asked
		}
		if reply, ok := r.try(ctx, d, true); ok {
			return reply, nil
		}
	}
	// Nobody had it at once. Those that were too slow may have it yet.
	slow := r.slow
	r.client, r.slow = c.client, nil
	for _, s := range slow {
		if r.refusals >= Majority(len(p.Primaries)) || ctx.Err() != nil {
			break
		}
		if reply, ok := r.try(ctx, s.device, s.handoff); ok {
			return reply, nil
		}
	}
	return r.verdict(ctx)
}

// Others returns the devices that a read may go on from when the one that served
// it has failed: the other primaries, those that have been failing last, then
// handoffs.
func (c *Cluster) Others(p Place, not *ring.Device) []*ring.Device {
	list := make([]*ring.Device, 0, 3*len(p.Primaries))
	for _, d := range p.Primaries {
		if d != not {
			list = append(list, d)
		}
	}
	c.cfg.Near.order(list)
	c.errors.order(list)
	spare := c.Spare(p)
	for d := spare.Next(); d != nil; d = spare.Next() {
		if d != not {
			list = append(list, d)
		}
	}
	return list
}

// Broke counts an error of a device whose answer broke off.
func (c *Cluster) Broke(d *ring.Device) { c.errors.failed(d, 1) }

// From asks one device and returns its response, whose body the caller closes.
func (c *Cluster) From(ctx context.Context, p Place, d *ring.Device, r *backend.Request) (*backend.Response, error) {
	return c.send(ctx, c.quick, p, d, r)
}

// reading is one read on its way through the candidates.
type reading struct {
	c     *Cluster
	p     Place
	build Build

	client   *direct.Client
	slow     []slowDevice // that did not begin to answer in time
	refusals int          // how many primaries (or handoffs with a tombstone) said no
	no       Reply        // the best refusal, its body already read
	noStamp  timestamp.T  // the newest tombstone seen
	said     []string     // what each one said, for the error
}

// slowDevice is one to ask again when there is nobody else.
type slowDevice struct {
	device  *ring.Device
	handoff bool
}

// try asks one device. ok means that its reply is the answer.
func (r *reading) try(ctx context.Context, d *ring.Device, handoff bool) (Reply, bool) {
	resp, err := r.c.send(ctx, r.client, r.p, d, r.build(0, d))
	if errors.Is(err, direct.ErrTimeout) {
		r.slow = append(r.slow, slowDevice{d, handoff})
	}
	if err != nil {
		r.said = append(r.said, fmt.Sprintf("%s/%s: %v", d.Addr(), d.Name, err))
		return Reply{}, false
	}
	a := Answer{Device: d, Status: resp.Status, Header: resp.Header}
	r.said = append(r.said, a.String())
	if served(resp.Status) {
		if stamp := a.Data(); r.noStamp.IsZero() || stamp.IsZero() || stamp.After(r.noStamp) {
			return Reply{resp, d}, true
		}
		r.drop(resp) // deleted since
		r.refusals++
		return Reply{}, false
	}
	if resp.Status >= 500 {
		r.drop(resp)
		return Reply{}, false
	}
	stamp := a.Stamp()
	if handoff && stamp.IsZero() && resp.Status == http.StatusNotFound {
		r.drop(resp)
		return Reply{}, false
	}
	r.refusals++
	if r.no.Response != nil && !stamp.After(r.noStamp) {
		r.drop(resp)
		return Reply{}, false
	}
	if r.no.Response != nil {
		r.drop(r.no.Response)
	}
	r.no, r.noStamp = Reply{resp, d}, timestamp.Max(stamp, r.noStamp)
	return Reply{}, false
}

// drop reads what a response still holds, so that its connection can be used
// again.
func (r *reading) drop(resp *backend.Response) {
	if resp.Status < 300 {
		if resp.Body != nil {
			_ = resp.Body.Close() // a whole object is not worth reading
		}
		return
	}
	_, _ = sink(resp) // nothing in it is wanted
}

func (r *reading) verdict(ctx context.Context) (Reply, error) {
	const op errs.Op = "quorum.read"
	if r.no.Response != nil && r.refusals >= Majority(len(r.p.Primaries)) {
		return r.no, nil
	}
	if r.no.Response != nil {
		r.drop(r.no.Response)
	}
	if err := ctx.Err(); err != nil {
		return Reply{}, errs.E(op, errs.Aborted, err)
	}
	return Reply{}, errs.E(op, errs.Unavailable, errors.New(strings.Join(r.said, "; ")))
}

func served(status int) bool {
	switch status {
	case http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return true
	}
	return status >= 200 && status < 300
}

// Newest asks all primaries for the head of a path at once, and a handoff in the
// place of each that gives no answer, and returns them in the order in which to
// read, the one that knows the newest version first: of the data, and of what was
// said of the same data later. Those that gave no answer come last; handoffs that
// know nothing of the name are left out.
func (c *Cluster) Newest(ctx context.Context, p Place, build Build) []*ring.Device {
	type version struct{ data, newest timestamp.T }
	known := make(map[*ring.Device]version, len(p.Primaries))
	order := slices.Clone(p.Primaries)
	var mu sync.Mutex // of known and order
	learn := func(d *ring.Device, a Answer, handoff bool) {
		mu.Lock()
		defer mu.Unlock()
		known[d] = version{a.Data(), a.Stamp()}
		if handoff && (served(a.Status) || !a.Stamp().IsZero()) {
			order = append(order, d)
		}
	}
	spare := c.Spare(p)
	var all sync.WaitGroup
	for slot, primary := range p.Primaries {
		all.Go(func() {
			for d := primary; d != nil && ctx.Err() == nil; d = spare.Next() {
				a := c.Ask(ctx, p, slot, d, build(slot, d))
				if a.Err == nil && a.Status < 500 {
					learn(d, a, d != primary)
					return
				}
			}
		})
	}
	all.Wait()
	slices.SortStableFunc(order, func(a, b *ring.Device) int {
		return cmp.Or(known[b].data.Compare(known[a].data), known[b].newest.Compare(known[a].newest))
	})
	return order
}
