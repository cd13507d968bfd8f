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

// askAll asks all other devices of a ring about writes of one policy.
func (p *pass) askAll(ctx context.Context, list []*question) {
	silent, kept, heard := map[*question]int{}, map[*question]bool{}, map[string]peer{}
	last := map[*question]string{} // who was silent, and why
	ask := func(ctx context.Context, to peer) {
		for some := range slices.Chunk(whoseReplicaIsNot(list, to), replwire.MaxWrites) {
			at := to.fresh()
			said, err := []replwire.Judged(nil), error(nil)
			if why, down := p.peers.Down(at); down {
				err = fmt.Errorf("%s: %s", at, why)
			} else {
				said, err = p.askVerdicts(ctx, at, some)
			}
			p.judging.Lock()
			if by, ok := heard[at.Sender()]; err == nil && ok && by != to {
				err = fmt.Errorf("%s: the same device answers as %s/%s", at, by.addr, by.device)
			}
			for i, q := range some {
				switch {
				case err != nil:
					silent[q]++
					last[q] = err.Error()
				case said[i].Verdict == replwire.Unsure:
					silent[q]++
					last[q] = at.String() + " can't tell"
				case said[i].Verdict == replwire.Current:
					kept[q] = true
				}
			}
			if err == nil {
				heard[at.Sender()] = to
			}
			p.judging.Unlock()
		}
	}
	replicator.Spread(ctx, p.peers.Pace, p.cfg.Concurrency, ask, func(hand func(peer) bool) {
		for d := range list[0].of.ring.Devices() {
			if !p.self(d.Name, d.ReplicationIP, d.ReplicationPort) && !hand(peer{d.ReplicationAddr(), d.Name}) {
				return
			}
		}
	})
	for _, q := range list {
		switch n := silent[q]; {
		case ctx.Err() != nil, kept[q]:
		case n <= q.of.policy.Parity:
			q.none = true
		default:
			p.fail(q.of, nil, "", fmt.Sprintf("%d devices can't say whether they have the commit of a write that no replica has, as %s", n, last[q]), 1)
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
