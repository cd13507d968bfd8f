package fragments

import (
	"bytes"
	"context"
	"slices"

	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

// mark is what says that a fragment was lost which is not to be here.
type mark struct {
	state  replwire.Object
	commit *replwire.Commit // of its time; nil where none is known
}

// forget drops the marks of fragments that were lost and that nothing will take the place of, since they are not to be here: else a
// device that is drained would not be empty for as long. What there was of them stays in quarantine until it is old (engine.Engine.Discard). A mark goes
//
//   - when there is a commit of just its time, and the devices that the fragments of that belong on have shown them, all of them, this device
//     its own. Whether they are of just that write each sees to for itself, and what was lost here can help none of them;
//   - when its write is superseded, by which fragments that are good are dropped as well;
//   - when no commit of its time is known and it is from before the horizon.
func (p *pass) forget(ctx context.Context, f *found, commits []replwire.Commit, here map[name.Hash]*piece, lost []Entry) {
	if len(lost) == 0 {
		return
	}
	wanted := map[name.Hash]bool{}
	for _, m := range f.missing {
		wanted[m.commit.Hash.Fragment(m.commit.Time, f.of.index)] = true
	}
	var home []mark
	var about []*question
	var asked []replwire.Object // of those
	for i := range lost {
		e := &lost[i]
		happened := e.Times.Data.Happened()
		c := f.of.commitAt(commits, e)
		switch {
		case wanted[e.Hash]:
			continue
		case c != nil: // at any age: where too few fragments are left, what is in quarantine may be wanted
			home = append(home, mark{e.Object, c})
		case happened.Before(p.horizon):
			p.unmark(ctx, f, e.Object)
			continue
		case e.Name.Object != "" && f.of.indexOf(p.Hasher.Hash(e.Name), e) >= 0:
			about = append(about, &question{of: f.of, write: replwire.Write{Hash: p.Hasher.Hash(e.Name), Time: e.Times.Data}})
			asked = append(asked, e.Object)
		}
		f.of.due(happened.Time().Add(p.cfg.ReclaimAge))
	}
	if len(about) > 0 {
		p.askAlone(ctx, about...)
		for i, q := range about {
			if ctx.Err() == nil && fateOf(q.said, f.of.policy.Quorum(), false) == superseded {
				p.unmark(ctx, f, asked[i])
			}
		}
		f.of.lookAgain() // what the others say may change, and nothing that is remembered with it
	}
	if len(home) > 0 {
		p.unmarkHome(ctx, f, here, home)
		f.of.lookAgain()
	}
}

// unmark drops a mark.
func (p *pass) unmark(ctx context.Context, f *found, o replwire.Object) {
	gone, err := p.drop(ctx, f.of, o)
	if err != nil {
		p.fail(f.of, nil, o.Hash.String(), err.Error(), 1)
	}
	if gone {
		p.tally.Add(replicator.Counts{Dropped: 1})
	}
	f.of.lookAgain() // what is here now has another sum
}

// unmarkHome drops those marks of whose commits all fragments are where they belong.
func (p *pass) unmarkHome(ctx context.Context, f *found, here map[name.Hash]*piece, marks []mark) {
	marks = slices.DeleteFunc(marks, func(m mark) bool { // what belongs here has to be here
		return f.of.index >= 0 && here[m.commit.Hash.Fragment(m.commit.Time, f.of.index)] == nil
	})
	primaries := f.of.primaries()
	if len(marks) == 0 || len(primaries) < f.of.policy.Fragments() {
		return
	}
	var homes []*replicator.Peer
	for i, d := range primaries {
		if i == f.of.index {
			continue
		}
		to := &replicator.Peer{Addr: d.ReplicationAddr(), Device: d.Name, Has: make([]bool, len(marks))}
		homes = append(homes, to)
		if !p.showsAll(ctx, f.of, to, i, marks) {
			return // nothing of it goes, whatever the others say
		}
	}
	index := f.of.policy.Index.Fragments()
	n := p.guard.DropAll(ctx, replicator.Dropping{
		Device: p.device, Ring: f.of.ring, Current: func() *ring.Ring { return p.Ring(index) }, Primaries: homes, N: len(marks), Fresh: p.fresh,
		Drop: func(i int) (bool, error) { return p.store.Drop(ctx, index, marks[i].state) },
		Fail: func(at *replicator.Peer, _ int, reason string, count int64) { p.fail(f.of, at, "", reason, count) },
	})
	p.tally.Add(replicator.Counts{Dropped: n})
}

// showsAll notes of which commits a device shows the fragment that belongs on it, by one list of those from the first to the last,
// and reports whether it shows any.
func (p *pass) showsAll(ctx context.Context, of *part, to *replicator.Peer, index int, marks []mark) (some bool) {
	hashes := make([]name.Hash, len(marks))
	for i, m := range marks {
		hashes[i] = m.commit.Hash.Fragment(m.commit.Time, index)
	}
	compare := func(a, b name.Hash) int { return bytes.Compare(a[:], b[:]) }
	first, last := slices.MinFunc(hashes, compare), slices.MaxFunc(hashes, compare)
	if why, down := p.peers.Down(to); down {
		p.fail(of, to, "", why, int64(len(marks)))
		return false
	}
	shown := map[name.Hash]bool{}
	err := p.list(ctx, of, to, index, first, last, func(o *replwire.Object) {
		shown[o.Hash] = o.Kind == replwire.Data
	})
	if err != nil {
		p.fail(of, to, "", err.Error(), int64(len(marks)))
		return false
	}
	for i, h := range hashes {
		to.Has[i] = shown[h]
		some = some || shown[h]
	}
	return some
}

// commitAt returns the commit that a fragment is of, by its hash.
func (of *part) commitAt(commits []replwire.Commit, e *Entry) *replwire.Commit {
	r := e.Hash.FragmentRange() // begins as the object's own hash does
	first, last := r.First(), r.Last()
	i, _ := slices.BinarySearchFunc(commits, first, func(c replwire.Commit, h name.Hash) int { return bytes.Compare(c.Hash[:], h[:]) })
	for ; i < len(commits) && bytes.Compare(commits[i].Hash[:], last[:]) <= 0; i++ {
		if c := &commits[i]; c.Time == e.Times.Data && of.indexOf(c.Hash, e) >= 0 {
			return c
		}
	}
	return nil
}

// indexOf returns which fragment of an object something is, by its hash; -1 for none.
func (of *part) indexOf(object name.Hash, e *Entry) int {
	for i := range of.policy.Fragments() {
		if object.Fragment(e.Times.Data, i) == e.Hash {
			return i
		}
	}
	return -1
}
