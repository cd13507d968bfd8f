package fragments

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

// piece is a fragment that the device holds.
type piece struct {
	of     *part
	state  replwire.Object
	path   name.Path
	object name.Hash
	header ec.Header
}

func (x *piece) write() replwire.Write {
	return replwire.Write{Hash: x.object, Time: x.state.Times.Data, ID: x.header.Write.ID}
}

// atHome reports whether the fragment belongs on the device.
func (x *piece) atHome() bool { return x.header.Index == x.of.index }

// missing is a fragment that should be here and is not.
type missing struct {
	of     *part
	commit *replwire.Commit
	layout ec.Layout
	write  ec.Write
	at     []holding // where others are, this one too, but for what is here
	left   int       // how many different fragments those are
}

// holding is a fragment that another device holds.
type holding struct {
	peer
	index int
}

// found is what was found in a unit.
type found struct {
	unit
	doubtful []*piece // of no write that is known to be committed
	strays   []*piece // that belong elsewhere, and are of one that is, or was not given up
	missing  []*missing
}

// goInto compares what is here of a piece of a partition with the commits.
func (p *pass) goInto(ctx context.Context, u unit) *found {
	f := &found{unit: u}
	commits, err := p.commits(ctx, u)
	if err != nil {
		p.fail(u.of, nil, "", "nobody tells which objects there are: "+err.Error(), 1)
		return f
	}
	here, lost, ok := p.here(ctx, u)
	if !ok {
		return f // what looks as if it were missing may be there
	}
	p.seen.watch(p.Now())
	decided := make([]*piece, 0, len(here))
	for _, x := range here {
		c := commitOf(commits, x.object)
		switch {
		case c != nil && c.Time == x.state.Times.Data && c.Coded.Write == x.header.Write.ID:
			if decided = append(decided, x); !x.atHome() {
				f.strays = append(f.strays, x)
			}
		case !p.before.IsZero() && !x.state.Times.Data.Before(p.before):
			u.of.lookAgain() // it was written just now
		default:
			f.doubtful = append(f.doubtful, x)
		}
	}
	p.seen.decided(decided...)
	if u.of.index >= 0 {
		f.missing = p.missing(u.of, commits, here)
	}
	p.work.found(u.lacks, f.missing)
	p.forget(ctx, f, commits, here, lost)
	return f
}

// commits returns the commits of the objects in a unit, in order of hash: the device's own, or
// those that a replica tells.
func (p *pass) commits(ctx context.Context, u unit) ([]replwire.Commit, error) {
	if u.of.own {
		return p.ownCommits(ctx, u)
	}
	var all []error
	others, _ := replicator.Others(u.of.objects, u.of.number, p.device, p.Self)
	for i := range others {
		round := u.of.asked + i // who was asked for the sum is the first
		to := u.of.teller(others, round)
		if why, ok := p.peers.Down(to); ok {
			all = append(all, fmt.Errorf("%s: %s", to, why))
			continue
		}
		list, err := p.askForCommits(ctx, u, to)
		if err == nil {
			u.of.toldBy(round)
			return list, nil
		}
		all = append(all, err)
	}
	if len(all) == 0 {
		all = append(all, errors.New("there is no other replica of them"))
	}
	return nil, errors.Join(all...)
}

func (p *pass) ownCommits(ctx context.Context, u unit) (list []replwire.Commit, err error) {
	for e, err := range p.store.Walk(ctx, u.of.policy.Index, u.at.First(), u.at.Last()) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		if e.Kind != replwire.Data || e.Coded == "" {
			continue
		}
		c, err := backend.ParseCoded(e.Coded)
		if err != nil {
			p.fail(u.of, nil, e.Hash.String(), err.Error(), 1)
			continue
		}
		list = append(list, replwire.Commit{Hash: e.Hash, Path: e.Name, Time: e.Times.Data, Coded: c})
	}
	return list, nil
}

func (p *pass) askForCommits(ctx context.Context, u unit, to *replicator.Peer) ([]replwire.Commit, error) {
	var all []replwire.Commit
	about := replicator.About{Ring: u.of.objects, Partition: u.of.number}
	err := p.peers.List(ctx, about, to, u.at.First(), u.at.Last(), policyHeader(u.of.policy.Index), func(b []byte, from, last name.Hash) (end name.Hash, more bool, err error) {
		list, more, err := replwire.ParseCommits(b, p.Hasher.Hash, from, last)
		if len(list) > 0 {
			end = list[len(list)-1].Hash
		}
		all = append(all, list...)
		return end, more, err
	})
	if err == nil && !to.Primary() {
		err = fmt.Errorf("%s: by its own ring it is no primary of the partition", to)
	}
	return all, err
}

func commitOf(list []replwire.Commit, h name.Hash) *replwire.Commit {
	i, ok := slices.BinarySearchFunc(list, h, func(c replwire.Commit, h name.Hash) int { return slices.Compare(c.Hash[:], h[:]) })
	if !ok {
		return nil
	}
	return &list[i]
}

// here returns the fragments in a unit that the device holds and that are not damaged, by their hashes, what was lost of others, and whether those
// are all.
func (p *pass) here(ctx context.Context, u unit) (all map[name.Hash]*piece, lost []Entry, ok bool) {
	all, ok = map[name.Hash]*piece{}, true
	for e, err := range p.store.Walk(ctx, u.of.policy.Index.Fragments(), u.at.First(), u.at.Last()) {
		if ctx.Err() != nil {
			return nil, nil, false
		}
		if err != nil {
			p.fail(u.of, nil, e.Hash.String(), err.Error(), 1)
			ok = false
			continue
		}
		if e.Kind == replwire.Lost {
			lost = append(lost, e) // as good as not there, and replaced by what is put there
			continue
		}
		x, err := p.piece(u.of, &e)
		if err != nil {
			p.fail(u.of, nil, e.Hash.String(), err.Error(), 1)
			continue
		}
		all[e.Hash] = x
	}
	return all, lost, ok
}

// piece takes an entry for the fragment that it says it is.
func (p *pass) piece(of *part, e *Entry) (*piece, error) {
	raw, err := hex.DecodeString(e.Fragment)
	if err != nil || e.Kind != replwire.Data {
		return nil, errors.New("it does not say which fragment it is")
	}
	h, err := ec.ParseHeader(raw)
	if err != nil {
		return nil, err
	}
	x := &piece{of: of, state: e.Object, path: e.Name, object: p.Hasher.Hash(e.Name), header: h}
	if x.object.Fragment(e.Times.Data, h.Index) != e.Hash {
		return nil, fmt.Errorf("it is fragment %d of %s, and under another hash", h.Index, e.Name)
	}
	return x, nil
}

// missing returns which fragments the device lacks, of objects that were not written just now.
func (p *pass) missing(of *part, commits []replwire.Commit, here map[name.Hash]*piece) (all []*missing) {
	for i := range commits {
		c := &commits[i]
		if !p.before.IsZero() && !c.Time.Before(p.before) {
			of.lookAgain()
			continue
		}
		if x := here[c.Hash.Fragment(c.Time, of.index)]; x != nil && x.header.Write.ID == c.Coded.Write {
			continue
		}
		m := &missing{
			of: of, commit: c, layout: ec.Layout{Shape: ec.Shape{Data: c.Coded.Data, Parity: c.Coded.Parity}, Segment: c.Coded.Segment},
			write: ec.Write{ID: c.Coded.Write, Size: ec.UnknownSize},
		}
		if c.Coded.Sized {
			m.write.Size = c.Coded.Size
		}
		if err := m.check(); err != nil {
			p.fail(of, nil, c.Path.String(), err.Error(), 1)
			continue
		}
		all = append(all, m)
	}
	return all
}

// archiveSize is how long the archive is, in bytes.
func (m *missing) archiveSize() int64 { return m.layout.ArchiveSize(m.commit.Coded.Size) }

// check returns why there can be no such fragment.
func (m *missing) check() error {
	h := ec.Header{Layout: m.layout, Write: m.write, Index: m.of.index}
	if err := h.Check(); err != nil {
		return err
	}
	if m.layout.Fragments() != m.of.policy.Fragments() {
		return fmt.Errorf("the object is in %v fragments, and the storage policy has %d+%d", m.layout.Shape, m.of.policy.Data, m.of.policy.Parity)
	}
	return nil
}

// primaries are the devices of a partition, by the indexes of their fragments.
func (of *part) primaries() []*ring.Device { return of.ring.AppendPrimaries(nil, of.number) }
