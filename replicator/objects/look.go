package objects

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

// peer is a device that others of its partitions are compared with. It is for what is
// asked of the device as a whole: what confirms something is a replicator.Peer of its own.
type peer struct {
	addr, device string
}

// String returns "ip:port/device", nothing for no peer.
func (to *peer) String() string {
	if to == nil {
		return ""
	}
	return to.addr + "/" + to.device
}

// peer makes what a request to the peer goes to.
func (to *peer) fresh(items int) *replicator.Peer {
	return &replicator.Peer{Addr: to.addr, Device: to.device, Has: make([]bool, items)}
}

// part is a partition that there is something to do about.
type part struct {
	policy  policy.Index
	ring    *ring.Ring
	mine    replwire.Extent
	handoff bool

	lack   int64   // objects that others have less than this device, of all of them together
	mute   bool    // one of the others has not said what it has
	good   int     // others that hold the same
	same   int     // of them, those that say that they are primaries
	equal  []*peer // those, where this device is a primary as well
	second bool    // it is first of all for one of those to bring what others lack
	bare   bool    // one of the others holds nothing
	differ []diff  // others that hold something else; none of a handoff, which looks at all

	home []string // of a handoff: its primaries
}

// diff is a peer that holds something else.
type diff struct {
	peer   *peer
	theirs replwire.Difference
}

// count adds what is to be sent of the partition.
func (of *part) count(s *replicator.ToSend) {
	if of.mute {
		s.Unknown++
	}
	if of.lack > 0 {
		s.Partitions++
		s.Objects += of.lack
		s.Bytes += int64(float64(of.mine.Bytes) / float64(of.mine.Objects) * float64(of.lack))
	}
}

// late is more than 0 for what has time: 1 for what it is first of all another primary's to bring, and 2 for
// copies here that no primary waits for with empty hands, or that one has as well.
func (of *part) late() int {
	switch {
	case of.handoff && (of.same > 0 || !of.bare):
		return 2
	case of.second:
		return 1
	}
	return 0
}

// turnOf is a number that all nodes agree on. Whoever of those with the same has the least begins with the partition, and
// the others come to it when they have brought what is theirs: so that nothing is brought twice, and nobody
// waits for one who does not come.
func turnOf(index policy.Index, at ring.Partition, device string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%d/%s", index, at, device))
	return binary.BigEndian.Uint64(sum[:])
}

// isSecond reports whether another primary that has the same begins with a partition.
func (p *pass) isSecond(of *part) bool {
	if len(of.equal) == 0 {
		return false
	}
	own := turnOf(of.policy, of.partition(), p.own(of.ring, of.partition()))
	return slices.ContainsFunc(of.equal, func(to *peer) bool { return turnOf(of.policy, of.partition(), to.String()) < own })
}

// own is the name of the device in a ring by which it is a primary of a partition.
func (p *pass) own(r *ring.Ring, at ring.Partition) string {
	var room [8]*ring.Device
	for _, d := range r.AppendPrimaries(room[:0], at) {
		if d.Name == p.device && p.Self.Is(d.ReplicationIP, d.ReplicationPort) {
			return (&peer{d.ReplicationAddr(), d.Name}).String()
		}
	}
	return ""
}

// others are the devices that anything of a partition is pushed to: its primaries but this
// device. Whoever must not push to one of them is kept from it here.
func (p *pass) others(r *ring.Ring, at ring.Partition) (others []*replicator.Peer, handoff bool) {
	return replicator.Others(r, at, p.device, p.Self)
}

// looking is what is found out about the partitions of a policy.
type looking struct {
	*pass
	policy policy.Index
	ring   *ring.Ring
	peers  map[peer]*about
	order  []*about

	mu  sync.Mutex
	all []*part // what is found of them is guarded by mu
}

// about is the partitions that are shared with a peer.
type about struct {
	*peer
	parts []int32 // places in all
}

// look finds out which partitions of a policy there is something to do about: it asks the
// other primaries of each which hold something else.
func (p *pass) look(ctx context.Context, index policy.Index) []*part {
	l := looking{pass: p, policy: index, ring: p.Ring(index), peers: map[peer]*about{}}
	if l.ring == nil {
		p.tally.Fail(replicator.Failure{Policy: index.String(), Reason: "the cluster has no such storage policy"})
		return nil
	}
	whole := true
	var found []replwire.Extent
	for e, err := range p.store.Partitions(ctx, index, l.ring.PartPower(), p.before) {
		if err != nil {
			p.tally.Fail(replicator.Failure{Policy: index.String(), Reason: err.Error()})
			whole = false
			break // of the others nothing is known, and something may be done about these
		}
		found = append(found, e)
	}
	l.held(ctx, found, whole)
	for _, e := range found {
		l.add(e)
	}
	replicator.Spread(ctx, p.peers.Pace, p.cfg.Concurrency, l.ask, func(hand func(*about) bool) {
		for _, of := range l.order {
			if !hand(of) {
				return
			}
		}
	})
	var parts []*part
	for _, of := range l.all {
		if of.same > 0 {
			p.inStep(of)
		}
		of.count(&p.found)
		if !of.handoff && len(of.differ) == 0 {
			continue
		}
		of.second = l.isSecond(of)
		parts = append(parts, of)
	}
	return parts
}

// add notes a partition, and whom to ask about it. One that is fenced is left as it is.
func (l *looking) add(e replwire.Extent) {
	of := &part{policy: l.policy, ring: l.ring, mine: e}
	c := replicator.Counts{Partitions: 1, Compared: e.Objects}
	var others []*replicator.Peer
	if others, of.handoff = l.others(l.ring, of.partition()); of.handoff {
		c.Handoffs, c.Compared = 1, 0 // names are counted when they are
	}
	if len(others) == 0 && !of.handoff { // there is nobody to be out of step with
		l.steps.book.Only(SetOf(l.policy), l.ring.PartPower(), uint32(of.partition()), l.Now())
	}
	if why := l.may(of.policy, of.ring, of.partition()); why != nil {
		l.tally.Add(replicator.Counts{Partitions: c.Partitions, Handoffs: c.Handoffs})
		l.failMany(of, nil, why.Error(), e.Objects)
		return
	}
	for _, o := range others {
		if of.handoff {
			of.home = append(of.home, o.String())
		}
		key := peer{o.Addr, o.Device}
		if l.peers[key] == nil {
			l.peers[key] = &about{peer: &key}
			l.order = append(l.order, l.peers[key])
		}
		l.peers[key].parts = append(l.peers[key].parts, int32(len(l.all)))
	}
	l.all = append(l.all, of)
	l.tally.Add(c)
}

// ask asks a peer about all partitions that are shared with it.
func (l *looking) ask(ctx context.Context, of *about) {
	q := replwire.Question{Before: l.before, Parts: make([]replwire.Extent, len(of.parts))}
	for i, at := range of.parts {
		q.Parts[i] = l.all[at].mine
	}
	var differ []replwire.Difference
	var strange []int
	answered, err := l.pass.peers.Ask(ctx, l.ring, of.fresh(0), policyHeader(l.policy), q,
		func(d replwire.Difference) { differ = append(differ, d) }, func(at int) { strange = append(strange, at) })
	l.mu.Lock()
	defer l.mu.Unlock()
	less := make([]bool, answered) // does not hold the same, or is no primary
	for _, at := range of.parts[:answered] {
		l.all[at].good++
	}
	for _, d := range differ {
		found := l.all[of.parts[d.At]]
		found.good--
		less[d.At] = true
		found.lack += max(0, found.mine.Objects-d.Objects)
		if (d.Sum == replwire.Digest{}) {
			found.bare = true
			l.lagging(found, of.String()) // who has nothing at all may be new, and knows of no deletes
		}
		if !found.handoff {
			found.differ = append(found.differ, diff{of.peer, d})
		}
	}
	for _, at := range strange {
		less[at] = true
		l.lagging(l.all[of.parts[at]], of.String()) // who is to have it hears of deletes, and this one need not
	}
	for i, is := range less {
		if is {
			continue
		}
		found := l.all[of.parts[i]]
		found.same++
		if !found.handoff {
			found.equal = append(found.equal, of.peer)
		}
	}
	if err == nil || ctx.Err() != nil {
		return
	}
	for _, at := range of.parts[answered:] {
		left := l.all[at]
		left.mute = true
		if !left.handoff { // of a handoff it is found again when names are asked for
			l.failMany(left, of.peer, err.Error(), left.mine.Objects)
		}
	}
}

// policyHeader is what every request carries beside what the replicator adds.
func policyHeader(p policy.Index) backend.Header {
	return backend.Header{{Name: backend.PolicyIndex, Value: p.String()}}
}
