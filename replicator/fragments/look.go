package fragments

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// peer is a device that many partitions are shared with.
type peer struct{ addr, device string }

func keyOf(to *replicator.Peer) peer { return peer{to.Addr, to.Device} }

func (to peer) fresh() *replicator.Peer {
	return &replicator.Peer{Addr: to.addr, Device: to.device}
}

// look finds out which partitions of a policy may need something: not those that are as they were when
// all was in place.
func (p *pass) look(ctx context.Context, of policy.Policy) []*part {
	rings := p.ringsOf(of.Index)
	fail := func(err error) {
		p.tally.Fail(replicator.Failure{Policy: of.Index.String(), Reason: err.Error()})
	}
	if n := rings.now.ReplicaCount(); n != of.Fragments() {
		fail(fmt.Errorf("its ring has %d replicas, and there are %d+%d fragments", n, of.Data, of.Parity))
		return nil
	}
	mine, err := p.extents(ctx, of.Index.Fragments(), rings.now.PartPower())
	commits, errCommits := p.extents(ctx, of.Index, rings.now.PartPower())
	if err = errors.Join(err, errCommits); err != nil {
		fail(err)
		return nil
	}
	var all []*part
	for number := range ring.Partition(rings.now.Partitions()) {
		here, some := mine[number]
		x := p.partOf(of, rings, number)
		x.mine, x.here, x.size = here.Sum, here.Objects, here.Bytes
		if x.index < 0 && !some {
			continue
		}
		if x.own {
			x.told = true
			x.commits, x.many = commits[number].Sum, commits[number].Objects
		}
		p.tally.Add(replicator.Counts{Partitions: 1, Compared: here.Objects})
		if x.index < 0 {
			p.tally.Add(replicator.Counts{Handoffs: 1})
		}
		all = append(all, x)
	}
	p.askCommits(ctx, of, all)
	now := p.Now()
	var some []*part
	for _, x := range all {
		last := p.seen.of(of.Index, x.number)
		nothing := x.many == 0 && x.here == 0 && x.mine == replwire.Digest{}
		if !x.told || nothing || last.current(x, now) {
			continue // of what is not told is said above why
		}
		some = append(some, x)
	}
	p.count(ctx, of, some)
	return some
}

// extents is what each partition comes to of which the device holds something.
func (p *pass) extents(ctx context.Context, index policy.Index, power int) (map[ring.Partition]replwire.Extent, error) {
	all := map[ring.Partition]replwire.Extent{}
	for e, err := range p.store.Partitions(ctx, index, power, timestamp.T{}) {
		if err != nil {
			return nil, err
		}
		h := e.Range.First()
		all[ring.Partition(binary.BigEndian.Uint32(h[:])>>(32-power))] = e
	}
	return all, nil
}

func policyHeader(p policy.Index) backend.Header {
	return backend.Header{{Name: backend.PolicyIndex, Value: p.String()}}
}

// askCommits asks replicas of the commits for their sums, where the device has none itself: one of
// each partition, and another where that can't say.
func (p *pass) askCommits(ctx context.Context, of policy.Policy, all []*part) {
	why := map[*part]error{}
	for round := range of.Replicas() {
		by := map[peer][]*part{}
		for _, x := range all {
			if x.told {
				continue
			}
			others, _ := replicator.Others(x.objects, x.number, p.device, p.Self)
			if round < len(others) {
				x.asked = p.seen.of(of.Index, x.number).teller + round
				to := x.teller(others, x.asked)
				by[keyOf(to)] = append(by[keyOf(to)], x)
			}
		}
		p.askEach(ctx, by, func(ctx context.Context, to peer, parts []*part) {
			p.askSums(ctx, of.Index, to, parts, func(x *part) replwire.Digest { return p.seen.of(of.Index, x.number).commits }, func(x *part, d *replwire.Difference, err error) {
				switch {
				case err != nil:
					p.note(why, x, err)
				case d != nil:
					x.told, x.commits, x.many = true, d.Sum, d.Objects
				default:
					last := p.seen.of(of.Index, x.number)
					x.told, x.commits, x.many = true, last.commits, last.objects
				}
			})
		})
	}
	for _, x := range all {
		x.next = x.asked
		if !x.told && ctx.Err() == nil {
			err := why[x]
			if err == nil {
				err = errors.New("there is no other replica of them")
			}
			p.fail(x, nil, "", "nobody tells which objects there are: "+err.Error(), max(1, x.here))
		}
	}
}

// note notes why something is not known.
func (p *pass) note(why map[*part]error, x *part, err error) {
	p.noting.Lock()
	defer p.noting.Unlock()
	why[x] = err
}

// askEach asks some peers, several at one time.
func (p *pass) askEach(ctx context.Context, by map[peer][]*part, ask func(context.Context, peer, []*part)) {
	replicator.Spread(ctx, p.peers.Pace, p.cfg.Concurrency, func(ctx context.Context, to peer) { ask(ctx, to, by[to]) }, func(hand func(peer) bool) {
		for to := range by {
			if !hand(to) {
				return
			}
		}
	})
}

// askSums asks a peer for its sums of some partitions, in order, and tells for each what differs from what
// was; nil is nothing.
func (p *pass) askSums(
	ctx context.Context, index policy.Index, to peer, parts []*part, was func(*part) replwire.Digest, tell func(*part, *replwire.Difference, error),
) {
	q := replwire.Question{Parts: make([]replwire.Extent, len(parts))}
	for i, x := range parts {
		q.Parts[i] = replwire.Extent{Range: name.PartitionRange(x.ring.PartPower(), uint32(x.number)), Sum: was(x)}
	}
	differ, strange := map[int]replwire.Difference{}, map[int]bool{}
	answered, err := p.sums.Ask(ctx, parts[0].ring, to.fresh(), policyHeader(index), q,
		func(d replwire.Difference) { differ[d.At] = d }, func(at int) { strange[at] = true })
	for i, x := range parts {
		d, some := differ[i]
		switch {
		case i >= answered:
			tell(x, nil, fmt.Errorf("%s/%s: %w", to.addr, to.device, err))
		case strange[i]:
			tell(x, nil, fmt.Errorf("%s/%s: by its own ring it is no primary of the partition", to.addr, to.device))
		case some:
			tell(x, &d, nil)
		default:
			tell(x, nil, nil)
		}
	}
}

// count finds out how many devices have all their fragments of a partition, as far as their numbers say: as many as whoever has
// most. It is the order in which partitions are gone into. And how many this one has less than those.
func (p *pass) count(ctx context.Context, of policy.Policy, all []*part) {
	by := map[peer][]*part{}
	lacking := 0
	for _, x := range all {
		if x.index < 0 {
			continue
		}
		lacking++
		others, _ := replicator.Others(x.ring, x.number, p.device, p.Self)
		for _, to := range others {
			by[keyOf(to)] = append(by[keyOf(to)], x)
		}
	}
	if lacking == 0 {
		return
	}
	have := map[*part][]int64{}
	p.askEach(ctx, by, func(ctx context.Context, to peer, parts []*part) {
		p.askSums(ctx, of.Index.Fragments(), to, parts, func(*part) replwire.Digest { return replwire.Digest{} }, func(x *part, d *replwire.Difference, err error) {
			if err == nil && d != nil {
				p.noting.Lock()
				have[x] = append(have[x], d.Objects)
				p.noting.Unlock()
			}
		})
	})
	for _, x := range all {
		most := x.here
		for _, n := range have[x] {
			most = max(most, n)
		}
		x.good = of.Fragments()
		if x.index < 0 || x.here >= most {
			continue // it seems to lack nothing
		}
		x.good, x.lacks = 0, guessOf(most, x.here)
		for _, n := range have[x] {
			if n >= most {
				x.good++
			}
		}
	}
}
