package fragments

import (
	"context"
	"fmt"
	"slices"

	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// askOthers asks about writes of which no replica knows all devices that are none: after the ring has
// changed, more than once perhaps, commits may still be on those that were replicas until then. Who has one
// keeps the fragments. So do more who can't say than may be lost: a write that stands is on one more at least.
func (p *pass) askOthers(ctx context.Context, list []*question) {
	by := map[policy.Index][]*question{}
	for _, q := range list {
		if !p.has(ctx, q) {
			by[q.of.policy.Index] = append(by[q.of.policy.Index], q)
		}
	}
	for _, of := range by {
		p.askAll(ctx, of)
	}
}

// has reports whether the device itself has the commit of a write, or can't tell.
func (p *pass) has(ctx context.Context, q *question) bool {
	v, err := verdict(ctx, p.store, q.of.policy.Index, &q.write)
	return err != nil || v == replwire.Current || v == replwire.Unsure
}

// others is what devices have said of writes as who is no replica.
type others struct {
	silent map[*question]int    // how many can't say
	why    map[*question]string // as one of them
	has    map[*question]bool   // one has the commit
	heard  map[string]peer      // who has answered, by what it calls itself
}

// askAll asks all other devices of a ring about writes of one policy.
func (p *pass) askAll(ctx context.Context, list []*question) {
	o := others{map[*question]int{}, map[*question]string{}, map[*question]bool{}, map[string]peer{}}
	replicator.Spread(ctx, p.peers.Pace, p.cfg.Concurrency, func(ctx context.Context, to peer) {
		for some := range slices.Chunk(whoseReplicaIsNot(list, to), replwire.MaxWrites) {
			at := to.fresh()
			said, err := p.askUnlessDown(ctx, at, some)
			p.judging.Lock()
			o.note(to, at, some, said, err)
			p.judging.Unlock()
		}
	}, func(hand func(peer) bool) {
		for d := range list[0].of.ring.Devices() {
			if !p.self(d.Name, d.ReplicationIP, d.ReplicationPort) && !hand(peer{d.ReplicationAddr(), d.Name}) {
				return
			}
		}
	})
	for _, q := range list {
		switch n := o.silent[q]; {
		case ctx.Err() != nil, o.has[q]:
		case n <= q.of.policy.Parity:
			q.none = true
		default:
			p.fail(q.of, nil, "", fmt.Sprintf("%d devices can't say whether they have the commit of a write that no replica has, as %s", n, o.why[q]), 1)
		}
	}
}

// askUnlessDown is askVerdicts of a device that is not left alone.
func (p *pass) askUnlessDown(ctx context.Context, at *replicator.Peer, some []*question) ([]replwire.Judged, error) {
	if why, down := p.peers.Down(at); down {
		return nil, fmt.Errorf("%s: %s", at, why)
	}
	return p.askVerdicts(ctx, at, some)
}

// note notes what a device has said of some writes, or that it has said nothing.
func (o *others) note(to peer, at *replicator.Peer, some []*question, said []replwire.Judged, err error) {
	if by, ok := o.heard[at.Sender()]; err == nil && ok && by != to {
		err = fmt.Errorf("%s: the same device answers as %s/%s", at, by.addr, by.device)
	}
	if err == nil {
		o.heard[at.Sender()] = to
	}
	for i, q := range some {
		switch {
		case err != nil:
			o.silent[q]++
			o.why[q] = err.Error()
		case said[i].Verdict == replwire.Unsure:
			o.silent[q]++
			o.why[q] = at.String() + " is not sure"
		case said[i].Verdict == replwire.Current:
			o.has[q] = true
		}
	}
}

// whoseReplicaIsNot returns the questions of a list that a device was not asked as a replica.
func whoseReplicaIsNot(list []*question, to peer) (some []*question) {
	for _, q := range list {
		if _, is := q.at[to]; !is {
			some = append(some, q)
		}
	}
	return some
}
