package fragments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"martlet/internal/backend"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

// fate is what becomes of a fragment of a write that no commit is known of.
type fate uint8

const (
	keep fate = iota
	superseded
	givenUp // it was never decided
	young   // it would be given up if it were old enough
)

// fateOf decides by what the replicas of a commit have said, each of them once: Unsure for those
// that have not. Need is on how many of them a write has to be, and old whether the
// fragment is older than the reclaim age.
func fateOf(said []replwire.Verdict, need int, old bool) fate {
	var n [replwire.Newer + 1]int
	for _, v := range said {
		n[v]++
	}
	switch {
	case len(said) == 0:
		return keep
	case n[replwire.Newer] >= need, n[replwire.Newer]+n[replwire.Ended] == len(said):
		return superseded // nothing that may yet be lost, or void, is all that stands for it
	case n[replwire.Unsure]+n[replwire.Current] > 0:
		return keep
	case old:
		return givenUp
	case n[replwire.Newer]+n[replwire.Ended] > 0:
		return keep // those that have not heard of it yet will: it is decided soon, and by who has been told that may be seen from nothing else
	}
	return young
}

// question is a write that replicas of its commit are asked about.
type question struct {
	of    *part
	write replwire.Write
	said  []replwire.Verdict // of each replica
	at    map[peer]int       // its place in said
	none  bool               // nor has any other device its commit: see askOthers
}

// decide finds out what becomes of the doubtful fragments of a wave: those that are superseded,
// or were given up, are dropped.
func (p *pass) decide(ctx context.Context, all []*found) {
	asked := map[replwire.Write]*question{}
	var list []*question
	for _, f := range all {
		for _, x := range f.doubtful {
			if asked[x.write()] == nil {
				q := &question{of: f.of, write: x.write()}
				asked[x.write()] = q
				list = append(list, q)
			}
		}
	}
	p.askAbout(ctx, list)
	p.askOthers(ctx, p.unheardOf(all, asked))
	p.spread(ctx, len(all), func(ctx context.Context, i int) {
		f := all[i]
		for _, x := range f.doubtful {
			if ctx.Err() != nil {
				return
			}
			p.settle(ctx, f, x, asked[x.write()])
		}
	})
}

// settle drops a doubtful fragment, or keeps it.
func (p *pass) settle(ctx context.Context, f *found, x *piece, q *question) {
	switch fate := p.fate(x, q); {
	case fate == givenUp && !q.none:
		x.of.lookAgain()
	case fate == superseded, fate == givenUp:
		gone, err := p.drop(ctx, x.of, x.state)
		switch {
		case errors.Is(err, replicator.ErrRing):
			p.fail(x.of, nil, "", err.Error(), 1)
		case err != nil:
			p.fail(x.of, nil, x.path.String(), err.Error(), 1)
		case gone:
			p.seen.decided(x)
			p.tally.Add(replicator.Counts{Dropped: 1})
		}
		x.of.lookAgain() // something else may be missing under its hash
		return
	case fate == young:
		x.of.due(p.dueOf(x))
	case fate == keep:
		x.of.lookAgain()
	}
	if !x.atHome() {
		f.strays = append(f.strays, x)
	}
}

// drop drops what nobody needs.
func (p *pass) drop(ctx context.Context, of *part, o replwire.Object) (bool, error) {
	index := of.policy.Index.Fragments()
	return p.guard.Drop(p.device, of.ring, func() *ring.Ring { return p.Ring(index) }, func() (bool, error) {
		if err := p.fresh(); err != nil {
			return false, err
		}
		return p.store.Drop(ctx, index, o)
	})
}

// asking is whom to ask about which writes.
type asking struct {
	by     map[judge][]*question
	judges map[*part][]*replicator.Peer // the other replicas of the commits
}

// judge is a device that has commits of a policy.
type judge struct {
	policy policy.Index
	peer
}

// askAbout asks the replicas of the commits about some writes, those of one in as few requests as can
// be, several of them at one time. What is not answered stays Unsure.
func (p *pass) askAbout(ctx context.Context, list []*question) {
	a := p.asking(ctx, list)
	replicator.Spread(ctx, p.peers.Pace, p.cfg.Concurrency, func(ctx context.Context, at judge) { p.askJudge(ctx, a, at) }, func(hand func(judge) bool) {
		for at := range a.by {
			if !hand(at) {
				return
			}
		}
	})
	p.doubt(list, a.judges)
}

// askAlone is askAbout for who is one of those that are under way, and must not wait for others.
func (p *pass) askAlone(ctx context.Context, list ...*question) {
	a := p.asking(ctx, list)
	for at := range a.by {
		p.askJudge(ctx, a, at)
	}
	p.doubt(list, a.judges)
}

// asking finds out whom to ask, and what the device says itself.
func (p *pass) asking(ctx context.Context, list []*question) asking {
	a := asking{map[judge][]*question{}, map[*part][]*replicator.Peer{}}
	for _, q := range list {
		if a.judges[q.of] == nil {
			a.judges[q.of], _ = replicator.Others(q.of.objects, q.of.number, p.device, p.Self)
		}
		others := a.judges[q.of]
		n := len(others)
		if p.replica(q.of) {
			n++
		}
		q.said, q.at = make([]replwire.Verdict, n), make(map[peer]int, len(others))
		for i, one := range others {
			q.at[keyOf(one)] = i
			at := judge{q.of.policy.Index, keyOf(one)}
			a.by[at] = append(a.by[at], q)
		}
		if p.replica(q.of) && q.of.own {
			v, err := verdict(ctx, p.store, q.of.policy.Index, &q.write)
			if err != nil {
				p.fail(q.of, nil, q.write.Hash.String(), err.Error(), 1)
			}
			q.said[n-1] = v
		}
	}
	return a
}

// askJudge asks one device all that it is to be asked.
func (p *pass) askJudge(ctx context.Context, a asking, at judge) {
	for some := range slices.Chunk(a.by[at], replwire.MaxWrites) {
		why, down := p.peers.Down(at.fresh())
		if !down {
			err := p.askOne(ctx, at.peer, some, a.judges)
			if err == nil {
				continue
			}
			why = err.Error()
		}
		for _, q := range some {
			q.of.lookAgain()
		}
		p.fail(some[0].of, at.fresh(), "", why, int64(len(some)))
	}
}

// replica reports whether the device is itself a replica of the commits of a partition.
func (p *pass) replica(of *part) bool {
	return replicator.PlaceOf(of.objects, of.number, p.device, p.Self) >= 0
}

// askOne asks a replica about some writes.
func (p *pass) askOne(ctx context.Context, at peer, some []*question, judges map[*part][]*replicator.Peer) error {
	to := at.fresh()
	said, err := p.askVerdicts(ctx, to, some)
	if err != nil {
		return err
	}
	p.judging.Lock()
	defer p.judging.Unlock()
	for i, q := range some {
		for _, one := range judges[q.of] {
			if keyOf(one) == at {
				if err := one.Heard(to, said[i].Primary); err != nil {
					return err
				}
			}
		}
		if said[i].Primary {
			q.said[q.at[at]] = said[i].Verdict
		}
	}
	return nil
}

// askVerdicts asks a device about some writes of one policy.
func (p *pass) askVerdicts(ctx context.Context, to *replicator.Peer, some []*question) ([]replwire.Judged, error) {
	writes := make([]replwire.Write, len(some))
	for i, q := range some {
		writes[i] = q.write
	}
	body := replwire.AppendWrites(nil, writes)
	r := &backend.Request{
		Method: "REPLICATE", Path: wholePath(to.Device), Header: policyHeader(some[0].of.policy.Index), Length: int64(len(body)), Body: bytes.NewReader(body),
	}
	resp, err := p.peers.Do(ctx, replicator.About{Ring: some[0].of.objects}, to, r)
	if err != nil {
		return nil, err
	}
	b, err := p.peers.Take(to, r, resp)
	if err != nil {
		return nil, err
	}
	said, err := replwire.ParseVerdicts(b, len(some), body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", to, err)
	}
	return said, nil
}

// doubt takes back what was said of partitions where it is not certain who has said it.
func (p *pass) doubt(list []*question, judges map[*part][]*replicator.Peer) {
	wrong := map[*part]string{}
	for of, all := range judges {
		if at, why := replicator.Doubt(all); why != "" {
			wrong[of] = why
			p.fail(of, at, "", why, 1)
		}
	}
	for _, q := range list {
		if wrong[q.of] != "" {
			clear(q.said) // Unsure
		}
	}
}
