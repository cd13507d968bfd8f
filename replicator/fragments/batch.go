package fragments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
)

const (
	// inBatch is how many fragments are got together at most, and batchBytes how many bytes their objects
	// have: that is about what is read for them, and is in memory meanwhile.
	inBatch, batchBytes = 256, 4 << 20

	// allTurns is how many fragments of batches are stored at one time by all devices of a node. One has an equal share of them at
	// most, or leastTurns where that is more, so that one whose disk hangs leaves some to others. They share syncs: the more, the less each
	// costs. But each has a buffer of its own meanwhile, and most of those are for clients.
	allTurns, leastTurns = 64, 8

	// sideBySide is how many fragments of a batch that have to be got one by one are under way at one time: most of
	// the time of one is waiting for others' answers and for its own sync.
	sideBySide = 4
)

// small reports whether a fragment may be got together with others: it is a record in the log of who has it.
func (m *missing) small() bool {
	size := m.commit.Coded.Size
	return size <= int64(m.layout.Segment) && m.archiveSize() <= maxTogether
}

// together puts small ones in batches, and large ones in batches of their own. Those of which fewer fragments are left stay first.
func together(list []*missing) (batches [][]*missing) {
	open, bytes := -1, int64(0) // the batch that small ones are added to, and how much is in it
	for _, m := range list {
		size := m.commit.Coded.Size
		switch {
		case !m.small():
			batches = append(batches, []*missing{m})
		case open >= 0 && batches[open][0].left == m.left && len(batches[open]) < inBatch && bytes+size <= batchBytes:
			batches[open] = append(batches[open], m)
			bytes += size
		default:
			batches = append(batches, []*missing{m})
			open, bytes = len(batches)-1, size
		}
	}
	return batches
}

// getMany has the device get some fragments: what they are made from is read in one request from each device that has
// something of it, and they are stored side by side, so that they share syncs. What can't be got so is got by
// itself: nothing follows from that but that. It calls done when all that can be is got, and that is as durable as what get has got.
// It returns when they have been read, so that others are meanwhile, unless as many are being stored already as the pace lets be under way.
func (p *pass) getMany(ctx context.Context, some []*missing, done func()) {
	if len(some) == 1 {
		p.get(ctx, some[0])
		done()
		return
	}
	b := batch{pass: p, wanted: map[source][]want{}}
	var rest []*missing
	for _, m := range some {
		if !p.leaves(m) && !b.plan(m) {
			rest = append(rest, m)
		}
	}
	b.read(ctx)
	stored, err := p.peers.Pace.Keep(ctx)
	if err != nil { // ctx has ended
		b.release()
		done()
		return
	}
	p.keeping.Go(func() {
		defer done()
		defer stored()
		rest = append(rest, b.make(ctx)...)
		b.release()
		p.sideBySide(ctx, sideBySide, rest, p.get)
	})
}

// sideBySide does something with each, several at a time.
func (p *pass) sideBySide(ctx context.Context, n int, list []*missing, do func(context.Context, *missing)) {
	var all sync.WaitGroup
	var next atomic.Int64
	for range min(n, len(list)) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(list)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				do(ctx, list[i])
			}
		})
	}
	all.Wait()
}

// batch is some fragments that are got together.
type batch struct {
	*pass
	plans  []*plan
	wanted map[source][]want
	mu     sync.Mutex
	taken  []*[]byte // guarded by mu; rooms that archives are in
}

// plan is of what a fragment is made.
type plan struct {
	*missing
	whole bool     // of just this fragment, that another device has
	parts [][]byte // archives; nil what was not got
}

// source is a device that is asked for fragments of a policy.
type source struct {
	peer
	policy policy.Index
}

// want is one of them, and where it goes.
type want struct {
	of    *plan
	at    int // in its parts
	index int
}

// plan plans of which archives a fragment is made, and reports whether that can be in a batch.
func (b *batch) plan(m *missing) bool {
	if !m.small() {
		return false
	}
	x := &plan{missing: m, whole: m.elsewhere()}
	n := m.layout.Data
	if x.whole {
		n = 1
	}
	var seen uint64
	var from []holding
	for i := range m.at {
		h := m.at[(i+int(m.commit.Hash[15]))%len(m.at)] // so that all are read from, and not the first of them
		if len(from) == n {
			break
		}
		if (h.index == m.of.index) != x.whole || seen>>h.index&1 == 1 || !b.versed(h.peer) {
			continue
		}
		seen |= 1 << h.index
		from = append(from, h)
	}
	if len(from) < n {
		return false
	}
	x.parts = make([][]byte, n)
	for i, h := range from {
		s := source{h.peer, m.of.policy.Index}
		b.wanted[s] = append(b.wanted[s], want{x, i, h.index})
	}
	b.plans = append(b.plans, x)
	return true
}

// versed reports whether a device can be asked for many fragments, as far as that is known.
func (p *pass) versed(at peer) bool {
	p.noting.Lock()
	old := p.unversed[at]
	p.noting.Unlock()
	if old {
		return false
	}
	_, down := p.peers.Down(at.fresh())
	return !down
}

// read asks all devices for what is wanted of them, side by side. Of one that has sent as much as an answer may have, which is more than
// all that was wanted of it, nothing more is taken: it would be in memory with the rest.
func (b *batch) read(ctx context.Context) {
	var all sync.WaitGroup
	for from, list := range b.wanted {
		all.Go(func() {
			for room := replwire.MaxArchiveBytes; len(list) > 0 && room > 0 && ctx.Err() == nil; {
				left, took := b.ask(ctx, from, list)
				if len(left) == len(list) {
					return
				}
				list, room = left, room-took
			}
		})
	}
	all.Wait()
}

// ask asks a device for some fragments once, and returns those for which it had no room, or no time, and how many bytes the others
// have. What it has not got of them is not said here: get says why.
func (b *batch) ask(ctx context.Context, from source, list []want) (left []want, took int) {
	list, behind := list[:min(len(list), replwire.MaxWanted)], list[min(len(list), replwire.MaxWanted):]
	wanted := make([]replwire.Wanted, len(list))
	for i, w := range list {
		c := w.of.commit
		wanted[i] = replwire.Wanted{Hash: c.Hash.Fragment(c.Time, w.index), Write: c.Coded.Write}
	}
	got, err := b.askFor(ctx, from, list[0].of.of, wanted)
	if err != nil {
		return nil, 0
	}
	for i := range got {
		took += len(got[i].Bytes)
		switch got[i].Given {
		case replwire.Here:
			list[i].of.parts[list[i].at] = got[i].Bytes
		case replwire.NotNow:
			left = append(left, list[i])
		}
	}
	return append(left, behind...), took
}

// askFor asks a device for fragments. What it returns is in memory that release takes back.
func (b *batch) askFor(ctx context.Context, from source, of *part, wanted []replwire.Wanted) ([]replwire.Archive, error) {
	for range len(wanted) - 1 { // each of them is an operation; Do counts one
		if err := b.peers.Pace.Wait(ctx, 0); err != nil {
			return nil, err
		}
	}
	asked := replwire.AppendWanted(nil, wanted)
	r := &backend.Request{
		Method: "REPLICATE", Path: wholePath(from.device), Header: policyHeader(from.policy.Fragments()), Length: int64(len(asked)), Body: bytes.NewReader(asked),
	}
	to := from.fresh()
	resp, err := b.peers.Do(ctx, replicator.About{Ring: of.ring}, to, r)
	if err != nil {
		return nil, err
	}
	if resp.Status != 200 || resp.Body == nil {
		b.noting.Lock()
		b.unversed[from.peer] = true // a node of an earlier version refuses it
		b.noting.Unlock()
		return nil, b.peers.Bad(to, r, resp)
	}
	answer, err := b.receive(ctx, resp)
	if err != nil {
		return nil, err
	}
	return replwire.ParseArchives(answer, len(wanted), asked)
}

// receive reads the body of an answer, no faster than the device's limits let it be.
func (b *batch) receive(ctx context.Context, resp *backend.Response) (answer []byte, err error) {
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.Length < 0 || resp.Length > replwire.MaxArchiveBytes {
		return nil, errs.E(errs.Op("fragments.receive"), errs.Invalid, fmt.Errorf("an answer of %d bytes", resp.Length))
	}
	room := b.rooms.get(int(resp.Length))
	b.mu.Lock()
	b.taken = append(b.taken, room)
	b.mu.Unlock()
	if int64(cap(*room)) < resp.Length {
		*room = make([]byte, replwire.RoomFor(int(resp.Length)))
	}
	answer = (*room)[:resp.Length]
	_, err = io.ReadFull(&paced{ctx: ctx, pass: b.pass, body: resp.Body}, answer)
	return answer, err
}

// release gives back the memory that archives are in.
func (b *batch) release() {
	for _, room := range b.taken {
		b.rooms.put(room)
	}
	b.taken = nil
}

// make makes the fragments, and has the object server keep each as if it had come alone: it is durable once that has said so. It
// returns those that it could not make or keep.
func (b *batch) make(ctx context.Context) (rest []*missing) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, x := range b.plans {
		if ctx.Err() != nil {
			break
		}
		all.Add(1)
		b.makers.do(func() {
			defer all.Done()
			leave, ok := b.enter(ctx, b.device)
			if !ok {
				return
			}
			err := b.one(ctx, x)
			leave()
			if err != nil {
				mu.Lock()
				rest = append(rest, x.missing)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return rest
}

// enter waits until a device may have one more fragment stored; ok is false where ctx ends before.
func (f *Fragments) enter(ctx context.Context, device string) (leave func(), ok bool) {
	own := f.turns[device]
	select {
	case own <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	select {
	case f.allTurns <- struct{}{}:
		return func() { <-f.allTurns; <-own }, true
	case <-ctx.Done():
		<-own
		return nil, false
	}
}

// one makes a fragment and has it kept.
func (b *batch) one(ctx context.Context, x *plan) error {
	room := made.Get().(*[]byte)
	defer made.Put(room)
	archive, err := b.archive(x, room)
	if err != nil {
		return err
	}
	req := b.storing(x.missing)
	req.Header.Add(backend.CommitCRC, fmt.Sprintf("%08x", crc32.Checksum(archive, castagnoli)))
	req.Body = bytes.NewReader(archive)
	return b.keep(ctx, x.missing, req)
}

// made are buffers for small archives that are made.
var made = sync.Pool{New: func() any { return new([]byte) }}

var errParts = errors.New("not all that it is made from was got")

// archive returns the archive of a fragment: the one that another device has, or one that is made of others, in the room. Every byte
// of those was verified.
func (b *batch) archive(x *plan, room *[]byte) (archive []byte, err error) {
	for _, a := range x.parts {
		if a == nil {
			return nil, errParts
		}
	}
	var size int64
	if x.whole {
		archive = x.parts[0]
		var head ec.Header
		head, size, err = ec.Verify(bytes.NewReader(archive))
		if err == nil && head != (ec.Header{Layout: x.layout, Write: x.write, Index: x.of.index}) {
			err = errParts
		}
	} else {
		var code *ec.Code
		if code, err = b.code(x.layout); err != nil {
			return nil, err
		}
		*room = slices.Grow((*room)[:0], int(x.archiveSize()))
		*room, size, err = code.RebuildFrom(*room, x.write, x.of.index, x.parts)
		archive = *room
	}
	if err == nil && size != x.commit.Coded.Size {
		err = errParts
	}
	return archive, err
}
