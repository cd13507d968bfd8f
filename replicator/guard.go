package replicator

import (
	"context"
	"errors"
	"sync"

	"martlet/internal/hosts"
	"martlet/internal/planted"
	"martlet/ring"
)

// A Guard keeps nodes whose rings differ from dropping a copy each because the
// other one has it. A device drops something only when every primary has it and
// has said that it is one (replwire.PrimaryHeader, or replwire.Result of one of many pushes), and only while the ring by
// which this device is none is still in use. So of two that each take the other for
// a primary both say that they are none, and of two whose rings change meanwhile
// the one that has become a primary drops nothing more: Primary and Drop see to it
// that what was said and what is done do not cross. The zero Guard is ready for use
// and serves one kind of data; it is safe for concurrent use.
type Guard struct {
	devices sync.Map // by name: *sync.RWMutex, held for reading by who drops
}

func (g *Guard) device(name string) *sync.RWMutex {
	l, ok := g.devices.Load(name)
	if !ok {
		l, _ = g.devices.LoadOrStore(name, new(sync.RWMutex))
	}
	return l.(*sync.RWMutex)
}

// maxOverlap bounds how many partitions of this node's ring are looked at for one
// of a peer's: as many as a part power that is higher by 10 has.
const maxOverlap = 1 << 10

// Primary reports whether the device of a call is, by the ring in use, a primary of
// all that the call's partition covers. self is the node's address for replication.
// Once it has said so, no drop that began under an earlier ring is still under way
// there, and none will be made.
func (g *Guard) Primary(c *Call, self hosts.Self, current func() *ring.Ring) bool {
	return g.all(c, current, func(r *ring.Ring, p ring.Partition) bool {
		_, handoff := Others(r, p, c.Device, self)
		return !handoff
	})
}

// PrimaryAs is Primary for the one primary that is at a place, from 0 on: where each has
// something else, as with fragments.
func (g *Guard) PrimaryAs(c *Call, at int, self hosts.Self, current func() *ring.Ring) bool {
	return g.all(c, current, func(r *ring.Ring, p ring.Partition) bool { return PlaceOf(r, p, c.Device, self) == at })
}

// PlaceOf is which primary of a partition the device of a node is, whose replication address is
// self: -1 for none.
func PlaceOf(r *ring.Ring, p ring.Partition, device string, self hosts.Self) int {
	var room [32]*ring.Device
	for i, d := range r.AppendPrimaries(room[:0], p) {
		if d.Name == device && self.Is(d.ReplicationIP, d.ReplicationPort) {
			return i
		}
	}
	return -1
}

// all reports whether something is so of all partitions of the ring in use that a call's covers.
func (g *Guard) all(c *Call, current func() *ring.Ring, is func(*ring.Ring, ring.Partition) bool) bool {
	r := current()
	first, last := rangeOf(c.Partition, c.PartPower)
	from, to := r.Partition(first), r.Partition(last)
	if to-from >= maxOverlap {
		return false
	}
	for p := from; ; p++ {
		if !is(r, p) {
			return false
		}
		if p == to {
			break
		}
	}
	l := g.device(c.Device)
	l.Lock() // waits for those who drop: whoever comes later finds the new ring
	defer l.Unlock()
	return true
}

// ErrRing is why nothing is dropped any more on the strength of a ring.
var ErrRing = errors.New("another ring has come into use meanwhile, so nothing is dropped: the next pass goes by that one")

// Drop calls drop for something on a device if the ring by which it is not to be
// there is still in use, and else returns ErrRing.
func (g *Guard) Drop(device string, by *ring.Ring, current func() *ring.Ring, drop func() (bool, error)) (bool, error) {
	l := g.device(device)
	l.RLock()
	defer l.RUnlock()
	if current() != by {
		return false, ErrRing
	}
	return drop()
}

// A Dropping is what a handoff may drop of what it holds of a partition: N things, each if all
// primaries are known to have it.
type Dropping struct {
	Device    string
	Ring      *ring.Ring        // by which the device is to hold nothing of it
	Current   func() *ring.Ring // the one in use
	Primaries []*Peer           // with what each is known to have: Peer.Has
	N         int

	Fresh func() error                                      // why nothing is to be dropped any more
	Drop  func(i int) (bool, error)                         // drops one that is still what the primaries have
	Fail  func(at *Peer, i int, reason string, count int64) // i is -1 where it concerns no single one
}

// DropAll drops what every primary is known to have, and returns how many those were. It ends
// early with ctx.
func (g *Guard) DropAll(ctx context.Context, d Dropping) (dropped int64) {
	var all []int
	for i := range d.N {
		if planted.HandoffDroppedEarly { // breaks: what is dropped is on every primary
			all = append(all, i)
			continue
		}
		if Everywhere(d.Primaries, i) {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		return 0
	}
	if at, why := Doubt(d.Primaries); why != "" && !planted.HandoffDroppedEarly { // as above
		d.Fail(at, -1, why, int64(len(all)))
		return 0
	}
	for n, i := range all {
		if ctx.Err() != nil {
			break
		}
		gone, err := g.Drop(d.Device, d.Ring, d.Current, func() (bool, error) {
			if err := d.Fresh(); err != nil {
				return false, err
			}
			return d.Drop(i)
		})
		switch {
		case errors.Is(err, ErrRing):
			d.Fail(nil, -1, err.Error(), int64(len(all)-n))
			return dropped
		case err != nil:
			d.Fail(nil, i, err.Error(), 1)
		case gone:
			dropped++
		}
	}
	return dropped
}
