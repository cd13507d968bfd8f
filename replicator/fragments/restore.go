package fragments

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// mostLeft is in how many passes in the background fragments are left to a device that has them and
// is to bring them: that costs one read of them, and nobody sends in vain. Then they are fetched.
const mostLeft = 2

// locateAll finds out who has which fragments of all objects that something is missing of.
func (p *pass) locateAll(ctx context.Context, all []*found) {
	var lacking []*found
	for _, f := range all {
		if f != nil && len(f.missing) > 0 {
			lacking = append(lacking, f)
		}
	}
	p.spread(ctx, len(lacking), func(ctx context.Context, i int) { p.locate(ctx, lacking[i]) })
}

// getting is a batch of what is missing.
type getting struct {
	of   *wave
	some []*missing
}

// getAll has the device get what it lacks of waves as they come: in each the objects of which the fewest fragments are
// left first. One is begun when all of the one before is under way, so that nothing waits for the last of that. It calls ended when a wave is
// done, and returns when all are, or ctx has ended.
func (p *pass) getAll(ctx context.Context, waves <-chan *wave, ended func()) {
	end := func(w *wave) {
		p.end(ctx, w)
		ended()
	}
	p.makers = newMakers(cap(p.turns[p.device]))
	defer p.makers.end()
	replicator.Spread(ctx, p.peers.Pace, p.cfg.Concurrency, func(ctx context.Context, g getting) {
		p.getMany(ctx, g.some, func() {
			if g.of.left.Add(-1) == 0 {
				end(g.of)
			}
		})
	}, func(hand func(getting) bool) {
		for w := range waves {
			var list []*missing
			for _, f := range w.found {
				if f != nil {
					list = append(list, f.missing...)
				}
			}
			w.found = nil
			slices.SortStableFunc(list, func(a, b *missing) int { return cmp.Compare(a.left, b.left) })
			batches := together(list)
			w.left.Store(int64(len(batches)))
			if len(batches) == 0 {
				end(w)
			}
			for _, some := range batches {
				if !hand(getting{w, some}) {
					return // whoever looks into the next one sees that ctx has ended
				}
			}
		}
	})
	p.keeping.Wait()
}

// locate finds out who has which fragments of the objects that something is missing of.
func (p *pass) locate(ctx context.Context, f *found) {
	type fragment struct {
		of    *missing
		index int
	}
	wanted := make(map[name.Hash]fragment, len(f.missing)*f.of.policy.Fragments())
	for _, m := range f.missing {
		for i := range m.layout.Fragments() {
			wanted[m.commit.Hash.Fragment(m.commit.Time, i)] = fragment{m, i}
		}
	}
	first, last := f.missing[0].commit.Hash.FragmentRange(), f.missing[len(f.missing)-1].commit.Hash.FragmentRange()
	for _, to := range p.likely(f.of) {
		if _, down := p.peers.Down(to); down || ctx.Err() != nil {
			continue // what can't be had without it is said for each object
		}
		// Whoever can't say has nothing: who is needed is asked again.
		_ = p.present(ctx, f.of, to, first.First(), last.Last(), func(h name.Hash) {
			if w, ok := wanted[h]; ok {
				w.of.at = append(w.of.at, holding{keyOf(to), w.index})
			}
		})
	}
	for _, m := range f.missing {
		m.left = m.different()
	}
}

// likely are the devices that fragments of a partition are on, if all is well: the other primaries, those that were
// until the ring changed, and the first that stand in for one.
func (p *pass) likely(of *part) []*replicator.Peer {
	all, _ := replicator.Others(of.ring, of.number, p.device, p.Self)
	add := func(more *replicator.Peer) {
		if !slices.ContainsFunc(all, func(one *replicator.Peer) bool { return keyOf(one) == keyOf(more) }) {
			all = append(all, more)
		}
	}
	if before := of.rings.before; before != nil && before.PartPower() == of.ring.PartPower() {
		others, _ := replicator.Others(before, of.number, p.device, p.Self)
		for _, one := range others {
			add(one)
		}
	}
	n := 0
	for d := range of.ring.Handoffs(of.number) {
		if n++; n > of.policy.Parity {
			break
		}
		if !p.self(d.Name, d.ReplicationIP, d.ReplicationPort) {
			add(&replicator.Peer{Addr: d.ReplicationAddr(), Device: d.Name})
		}
	}
	return all
}

func (p *pass) self(device, ip string, port int) bool {
	return device == p.device && p.Self.Is(ip, port)
}

// different is how many fragments of different indexes are known to be somewhere.
func (m *missing) different() int {
	var seen uint64
	n := 0
	for _, h := range m.at {
		if seen>>h.index&1 == 0 {
			seen |= 1 << h.index
			n++
		}
	}
	return n
}

// get has the device get a fragment: from who has just that one, or made from others. What is there when
// this returns without having failed is as durable as the object server makes it.
func (p *pass) get(ctx context.Context, m *missing) {
	if p.leaves(m) {
		return
	}
	if p.fetchFrom(ctx, m, m.at) {
		return
	}
	if known := len(m.at); m.others() < m.layout.Data && p.maySearch(m) {
		p.search(ctx, m)
		if p.fetchFrom(ctx, m, m.at[known:]) {
			return
		}
	}
	err := p.take(ctx, m, func(w io.Writer) error {
		_, err := p.rebuild(ctx, m, w)
		return err
	})
	if err == nil || ctx.Err() != nil {
		return
	}
	if errs.Is(err, errs.Unavailable) && p.gone(ctx, m) {
		m.of.lookAgain()
		return
	}
	p.fail(m.of, nil, m.commit.Path.String(), err.Error(), 1)
}

// fetchFrom has the device get a fragment from one of those that have just that, and reports whether it is there.
func (p *pass) fetchFrom(ctx context.Context, m *missing, some []holding) bool {
	return slices.ContainsFunc(some, func(h holding) bool {
		return h.index == m.of.index && p.take(ctx, m, func(w io.Writer) error { return p.fetch(ctx, m, h, w) }) == nil
	})
}

const (
	// mostSought is of how many objects is remembered that all devices were asked for their fragments, in vain. Of
	// those behind them they are asked in each pass.
	mostSought = 1 << 14

	// searchAgain is for how long they are not asked again at first; it doubles each time, up to searchSeldom.
	searchAgain, searchSeldom = time.Hour, 24 * time.Hour
)

// maySearch reports whether all devices are asked for fragments of an object: in the background not each time, where that was in vain before.
// The devices that they are on if all is well are asked in each pass all the same.
func (p *pass) maySearch(m *missing) bool {
	due := p.seen.sought.due(m.wanted(), p.Now(), searchAgain, searchSeldom)
	return due || p.before.IsZero()
}

// wanted is what is missing.
func (m *missing) wanted() doubt {
	return doubt{m.of.policy.Index, m.commit.Hash.Fragment(m.commit.Time, m.of.index), m.commit.Coded.Write}
}

// leaves reports whether a fragment is left to the device that has it and is to bring it, and notes that.
func (p *pass) leaves(m *missing) bool {
	if p.before.IsZero() || m.left <= m.layout.Data || !m.elsewhere() || p.seen.of(m.of.policy.Index, m.of.number).left >= mostLeft {
		return false
	}
	m.of.leave()
	return true
}

// elsewhere reports whether just that fragment is known to be on another device.
func (m *missing) elsewhere() bool {
	return slices.ContainsFunc(m.at, func(h holding) bool { return h.index == m.of.index })
}

// others is how many fragments of other indexes are known to be somewhere.
func (m *missing) others() int {
	n := m.different()
	if m.elsewhere() {
		n--
	}
	return n
}

// search asks all devices that were not asked yet for fragments of an object.
func (p *pass) search(ctx context.Context, m *missing) {
	wanted := map[name.Hash]int{}
	for i := range m.layout.Fragments() {
		wanted[m.commit.Hash.Fragment(m.commit.Time, i)] = i
	}
	asked := map[peer]bool{}
	for _, h := range m.at {
		asked[h.peer] = true
	}
	r := m.commit.Hash.FragmentRange()
	for d := range m.of.ring.Devices() {
		to := &replicator.Peer{Addr: d.ReplicationAddr(), Device: d.Name}
		if _, down := p.peers.Down(to); down || asked[keyOf(to)] || p.self(d.Name, d.ReplicationIP, d.ReplicationPort) || ctx.Err() != nil {
			continue
		}
		// Who can't say is as good as one that has nothing.
		_ = p.present(ctx, m.of, to, r.First(), r.Last(), func(h name.Hash) {
			if i, ok := wanted[h]; ok {
				m.at = append(m.at, holding{keyOf(to), i})
			}
		})
	}
}

// gone reports whether an object is none any more, or another one: then there is nothing to be restored.
func (p *pass) gone(ctx context.Context, m *missing) bool {
	q := &question{of: m.of, write: replwire.Write{Hash: m.commit.Hash, Time: m.commit.Time, ID: m.commit.Coded.Write}}
	p.askAlone(ctx, q)
	return slices.ContainsFunc(q.said, func(v replwire.Verdict) bool { return v == replwire.Newer || v == replwire.Ended })
}

// take gives the object server the archive that write writes, and returns once it has it, durably; or
// nothing of it is kept.
func (p *pass) take(ctx context.Context, m *missing, write func(io.Writer) error) error {
	r, w := io.Pipe()
	var written error
	done := make(chan struct{})
	go func() {
		defer close(done)
		written = write(w)
		w.CloseWithError(written)
	}()
	req := p.storing(m)
	req.Body = &closing{Reader: r, req: req}
	err := p.keep(ctx, m, req)
	r.CloseWithError(errClosed) // whoever writes ends, also where not all of it was read
	<-done
	if err != nil && written != nil && !errors.Is(written, errClosed) {
		return written
	}
	return err
}

// storing is the request by which the object server is to keep a fragment, without its body.
func (p *pass) storing(m *missing) *backend.Request {
	state := replwire.Object{Length: m.archiveSize()}
	state.Times.Data = m.commit.Time
	return &backend.Request{Method: "PUT", Path: pathAt(p.device, m.of, m.commit.Path), Header: putHeader(m.of, &state, m.of.index), Length: state.Length}
}

// keep has the object server answer such a request, and counts the fragment if it has it, durably.
func (p *pass) keep(ctx context.Context, m *missing, req *backend.Request) error {
	resp, err := p.Server.Serve(ctx, req)
	switch {
	case err != nil:
		return err
	case resp.Status != 201:
		return errors.Join(errs.E(errs.Op("fragments.take"), errs.Conflict, fmt.Errorf("it is not taken here: %d", resp.Status)), closeBody(resp))
	}
	p.tally.Add(replicator.Counts{Rebuilt: 1, RebuiltBytes: req.Length})
	p.Pace.Of(p.device).Progress().Took(req.Length)
	p.work.got(req.Length)
	p.seen.sought.forget(m.wanted())
	m.of.lookAgain() // what is here now has another sum
	return closeBody(resp)
}

var errClosed = errors.New("the object server has read enough")
