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
	"time"

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

// Read asks the replicas of a place one after the other, the primaries in an order
// by chance, the nearest or the fastest first where Options say so and those that
// have been failing last, then handoffs, until one has what is asked for: a 2xx, or
// a 304, 412 or 416. One that takes longer than most is not waited for: the next is
// asked as well (see hedges), and the first good answer is taken. Handoffs are asked
// even where every primary says 404: they may hold what was written while the
// primaries could not take it.
//
// Where none has, the answer is the 404 (or other refusal) that the primaries
// gave, the one that knows of the newest tombstone first; and an error of kind
// errs.Unavailable where fewer than a majority of the primaries could say so. Where they
// have nothing but the link to a version (backend.NoVersion) it is a 404 if every primary
// has said so, and nobody that was asked has failed. A
// handoff's 404 counts for nothing unless it knows of a tombstone. A copy that is
// older than a tombstone seen on the way is not returned.
func (c *Cluster) Read(ctx context.Context, p Place, build Build) (Reply, error) {
	order := slices.Clone(p.Primaries)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	m := c.manner(&p)
	m.Near.order(order)
	if m.Timing {
		c.times.order(order, m.TimingExpiry)
	}
	c.errors.readOrder(order)
	return c.ReadFrom(ctx, p, order, build)
}

// ReadFrom is Read in the given order: of all primaries, and of handoffs that are to
// be asked along with them.
func (c *Cluster) ReadFrom(ctx context.Context, p Place, order []*ring.Device, build Build) (Reply, error) {
	return c.readFrom(ctx, &reading{p: p, order: order, alike: len(order), build: build})
}

// ReadNewest is Read of the newest version that is known: all primaries are asked
// for the head that ask makes first, and handoffs for those that give no answer.
// Beside a device that is slow only another one is asked that has the same version: others
// once none that has it can answer, not even in the client's usual time.
func (c *Cluster) ReadNewest(ctx context.Context, p Place, ask, build Build) (Reply, error) {
	order, alike := c.Newest(ctx, p, ask)
	return c.readFrom(ctx, &reading{p: p, order: order, alike: alike, newest: alike > 0, build: build})
}

// readFrom makes a reading, of which place, order and what is asked are filled in.
func (c *Cluster) readFrom(ctx context.Context, r *reading) (Reply, error) {
	r.c, r.manner = c, c.manner(&r.p)
	r.manner.hedges.read()
	for ctx.Err() == nil {
		at, ok := r.next()
		if !ok {
			break
		}
		began := time.Now()
		resp, late, err := c.client.Begin(ctx, at.device.Addr(), r.request(ctx, at.device), r.delay())
		switch {
		case late != nil:
			return r.race(ctx, &attempt{candidate: at, began: began, cancel: late.Cancel}, late.Wait)
		case errors.Is(err, direct.ErrCold):
			a := &attempt{candidate: at}
			return r.race(ctx, a, r.do(ctx, a))
		}
		if reply, ok := r.settle(ctx, at, began, resp, err); ok {
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
	c.manner(&p).Near.order(list)
	c.errors.readOrder(list)
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
	c      *Cluster
	manner *manner
	p      Place
	build  Build

	order []*ring.Device
	alike int       // how many at its head may be asked beside each other
	asked int       // how many of it were
	spare *Handoffs // nil before all of order were asked
	left  int       // how many handoffs may still be asked

	newest bool // those behind the alike ones may have an older version, which is not wanted

	over     int              // how many said that there are too many requests of the account
	hollow   int              // how many primaries said that they have the link to a version which they have not
	failed   int              // how many others could not say anything
	refusals int              // how many primaries (or handoffs with a tombstone) said no
	no       Reply            // the best refusal
	noTimes  timestamp.Packed // of the newest tombstone seen
	said     []string         // what each one said, for the error
}

// candidate is a device that a read may ask.
type candidate struct {
	device  *ring.Device
	handoff bool
	alike   bool // it is one of those that may be asked beside each other
}

// next returns whom to ask next: those of the order, then as many handoffs as may
// be.
func (r *reading) next() (candidate, bool) {
	if r.asked < len(r.order) {
		d := r.order[r.asked]
		r.asked++
		return candidate{d, !slices.Contains(r.p.Primaries, d), r.asked <= r.alike}, true
	}
	if r.spare == nil {
		r.spare = r.c.Spare(r.p)
		r.left = r.manner.handoffs(len(r.p.Primaries))
		if r.over == len(r.order) {
			r.left = 0 // handoffs are not to be asked that much either
		}
		if r.refusals == len(r.order) {
			r.left = min(r.left, len(r.p.Primaries)) // a name that nobody knows is asked for often
			if r.no.Status != http.StatusNotFound {
				r.left = 0
			}
		}
	}
	for ; r.left > 0; r.left-- {
		d := r.spare.Next()
		if d == nil {
			break
		}
		if !slices.Contains(r.order, d) { // else it has been asked
			r.left--
			return candidate{device: d, handoff: true}, true
		}
	}
	return candidate{}, false
}

// delay is how long the device that was taken last may take before the next is
// asked as well.
func (r *reading) delay() time.Duration {
	if r.manner.hedges.share == 0 || r.asked >= r.alike {
		return r.c.cfg.Patience
	}
	return r.manner.hedges.delay(r.c.times.of(r.order[r.asked]))
}

// request makes the request for a device.
func (r *reading) request(ctx context.Context, d *ring.Device) *backend.Request {
	req := r.build(0, d)
	r.c.Address(ctx, r.p, d, req)
	return req
}

// settle takes in how a request ended that was sent at began. ok means that its
// reply is the answer.
func (r *reading) settle(ctx context.Context, at candidate, began time.Time, resp *backend.Response, err error) (Reply, bool) {
	d := at.device
	now := time.Now()
	took := now.Sub(began)
	if err != nil || resp.Status >= 500 {
		took = max(took, r.c.cfg.Patience) // whoever fails fast is not fast
	}
	if ctx.Err() == nil {
		r.c.times.of(d).took(took, now)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.c.errors.failed(d, 1)
		}
		r.failed++
		r.said = append(r.said, fmt.Sprintf("%s/%s: %v", d.Addr(), d.Name, err))
		return Reply{}, false
	}
	r.c.heard(d, resp)
	a := Answer{Device: d, Status: resp.Status, Header: resp.Header}
	if served(resp.Status) {
		if r.deleted(&a) {
			r.said = append(r.said, a.String())
			r.drop(resp)
			r.refusals++
			return Reply{}, false
		}
		if r.no.Response != nil && r.no.Body != nil {
			_ = r.no.Body.Close() // what of it is not here is not waited for
		}
		return Reply{resp, d}, true
	}
	r.said = append(r.said, a.String())
	if resp.Status >= 500 {
		if overAccount(resp.Status, resp.Header) {
			r.over++
		}
		if resp.Header.Has(backend.NoVersion) && !at.handoff {
			r.hollow++
		} else {
			r.failed++
		}
		r.drop(resp)
		return Reply{}, false
	}
	times := a.Times()
	if at.handoff && times.Data.IsZero() && resp.Status == http.StatusNotFound {
		r.drop(resp)
		return Reply{}, false
	}
	r.refusals++
	if r.no.Response != nil && newer(times, r.noTimes) <= 0 {
		r.drop(resp)
		return Reply{}, false
	}
	if r.no.Response != nil {
		r.drop(r.no.Response)
	}
	r.no = Reply{resp, d}
	if newer(times, r.noTimes) > 0 {
		r.noTimes = times
	}
	return Reply{}, false
}

// deleted reports whether what a device has was deleted since, as another one has said.
func (r *reading) deleted(a *Answer) bool {
	if r.noTimes.Data.IsZero() {
		return false
	}
	times := a.Times()
	return !times.Data.IsZero() && newer(times, r.noTimes) <= 0
}

// newer orders what replicas know of a name: by the data or tombstone, then by what was said
// of that later.
func newer(a, b timestamp.Packed) int { return cmp.Or(a.CompareData(b), a.Meta.Compare(b.Meta)) }

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
	if r.no.Response != nil && r.refusals >= r.p.absent() {
		return r.no, nil
	}
	if r.no.Response != nil {
		r.drop(r.no.Response)
	}
	if err := ctx.Err(); err != nil {
		return Reply{}, errs.E(op, errs.Aborted, err)
	}
	if r.hollow > 0 && r.failed == 0 && r.hollow+r.refusals >= len(r.p.Primaries) {
		return Reply{&backend.Response{Status: http.StatusNotFound}, r.order[0]}, nil
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
// know nothing of the name are left out. The first, alike of them, know the same
// version.
func (c *Cluster) Newest(ctx context.Context, p Place, build Build) (order []*ring.Device, alike int) {
	known := make(map[*ring.Device]timestamp.Packed, len(p.Primaries))
	order = slices.Clone(p.Primaries)
	var mu sync.Mutex // of known and order
	learn := func(d *ring.Device, a Answer, handoff bool) {
		mu.Lock()
		defer mu.Unlock()
		known[d] = a.Times()
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
	slices.SortStableFunc(order, func(a, b *ring.Device) int { return newer(known[b], known[a]) })
	for _, d := range order {
		if v, ok := known[d]; !ok || v != known[order[0]] {
			break
		}
		alike++
	}
	return order, alike
}
