// Package md5lanes computes the MD5 of several streams at one time.
//
// MD5 has no steps that could be done side by side: each waits for the one before, and most of a processor rests meanwhile. Two
// streams whose steps are in turn take as long as one; eight, in the lanes of wide registers, as long as one or two, by how long a step takes there. A Group is streams of a process,
// each with a Hash. What comes of one may wait (Hash.Later) until as much has come as may, and is then done, as far as it has to be, together
// with what waits of others. Nobody waits for the clock, and none for others that have nothing: a stream by itself is done as crypto/md5 does it, and
// so is everything on processors that there is nothing for.
//
// The state of a stream is that of a hash of crypto/md5, which is given blocks by way of its binary form; so all that is not whole blocks is its work
// as well.
package md5lanes

import (
	"crypto/md5" // the checksum of the API
	"encoding"
	"encoding/binary"
	"errors"
	"hash"
	"sync"
)

const (
	// width is how many lanes a wide register has, and the most streams that go together.
	width = 8

	// mostBlocks bounds for how long a goroutine can't be interrupted, as crypto/md5 does.
	mostBlocks = 1024
)

// A Group is streams that are hashed together. It is safe for concurrent use. A nil one hashes each by itself.
type Group struct {
	behind int
	lanes  bool

	mu   sync.Mutex
	line []*Hash // mu; those of which something waits and nobody has it in hand, the oldest first
}

// NewGroup makes a group in each of whose streams up to behind pieces, 1 at least, are not hashed yet when Later returns.
func NewGroup(behind int) *Group { return &Group{behind: max(behind, 1), lanes: usable()} }

// usable reports whether lanes give what crypto/md5 does, with the form that its state has.
var usable = sync.OnceValue(func() bool {
	return most >= 2 && right(2) && right(most)
})

// right reports whether so many streams, together, have their MD5.
func right(streams int) bool {
	var all [width]Hash
	text := make([]byte, 3*md5.BlockSize)
	b := batch{due: 1}
	for i := range streams {
		text[i]++
		all[i].std, all[i].pieces = md5.New(), []piece{{rest: text[i:]}}
		b.add(&all[i])
	}
	if b.run() != nil {
		return false
	}
	for i := range streams {
		if want := md5.Sum(text[i:]); [md5.Size]byte(all[i].std.Sum(nil)) != want {
			return false
		}
	}
	return true
}

// A Hash is the MD5 of one stream, whose methods are for one goroutine at a time. One of which something may wait ends with
// Sum or with Drop.
type Hash struct {
	group *Group
	std   hash.Hash // of what is done; with length its worker's, who is the owner where busy is not set
	done  uint64    // how many bytes that is
	later bool      // the owner's: something may wait

	pieces  []piece    // group.mu; what waits, but for what its worker has
	waiting int        // group.mu; how many pieces wait, with those
	busy    bool       // group.mu; somebody works on it
	broken  bool       // group.mu; who worked on it has panicked: there is no sum
	lined   bool       // group.mu; it is in the line
	free    *sync.Cond // group.mu; busy has ended; nil until somebody waits for it
}

// piece is a part of a stream.
type piece struct {
	rest []byte
	done func()
}

// New makes the hash of a stream.
func (g *Group) New() *Hash { return &Hash{group: g, std: md5.New()} }

// Write hashes p, and what waits before it.
func (h *Hash) Write(p []byte) (int, error) {
	h.settle(0)
	h.done += uint64(len(p))
	return h.std.Write(p) // never fails
}

// Later has p hashed, now or later, and done called once that is so or is not needed any more: by any goroutine, maybe before Later
// returns. Until then p must not be changed. done must not block, nor use the hash.
func (h *Hash) Later(p []byte, done func()) {
	if h.group == nil || !h.group.lanes {
		_, _ = h.Write(p) // never fails
		done()
		return
	}
	g := h.group
	g.mu.Lock()
	h.later = true
	h.pieces = append(h.pieces, piece{p, done})
	h.waiting++
	h.enter()
	full := h.waiting > g.behind
	g.mu.Unlock()
	if full {
		h.settle(g.behind)
	}
}

// Sum appends the MD5 of all that came.
func (h *Hash) Sum(b []byte) []byte {
	h.settle(0)
	return h.std.Sum(b)
}

// Drop gives back what waits. The hash is good for nothing any more, but to be dropped again.
func (h *Hash) Drop() {
	if !h.later {
		return
	}
	g := h.group
	g.mu.Lock()
	for h.busy {
		h.wait()
	}
	h.leave()
	left := h.pieces
	h.pieces, h.waiting, h.later = nil, 0, false
	g.mu.Unlock()
	for _, p := range left {
		p.done()
	}
}

// settle returns when no more than most pieces wait. What is not due yet it leaves, so that it can go with what others bring.
func (h *Hash) settle(most int) {
	if !h.later {
		return
	}
	g := h.group
	g.mu.Lock()
	defer g.mu.Unlock()
	for h.waiting > most {
		if h.busy {
			h.wait()
			continue
		}
		g.lead(h, h.waiting-most)
	}
	if h.broken {
		panic("md5lanes: who worked on this stream has panicked")
	}
	h.later = most > 0
}

// wait waits until nobody works on it; g.mu is held.
func (h *Hash) wait() {
	if h.free == nil {
		h.free = sync.NewCond(&h.group.mu)
	}
	h.free.Wait()
}

// enter puts it into the line, and leave takes it out; g.mu is held.
func (h *Hash) enter() {
	if !h.lined && !h.busy {
		h.lined = true
		h.group.line = append(h.group.line, h)
	}
}

func (h *Hash) leave() {
	if !h.lined {
		return
	}
	h.lined = false
	line := h.group.line
	at := 0
	for line[at] != h {
		at++
	}
	copy(line[at:], line[at+1:])
	line[len(line)-1] = nil
	h.group.line = line[:len(line)-1]
}

// lead does so many pieces of a hash, and as much of those that are in the line. g.mu is held, but not meanwhile.
func (g *Group) lead(h *Hash, pieces int) {
	b := batch{due: pieces}
	h.leave()
	b.add(h)
	for b.n < most && len(g.line) > 0 {
		other := g.line[0]
		other.leave()
		b.add(other)
	}
	whole := false
	defer func() { // whatever happened: nobody waits for ever, and no sum is made of what may be wrong
		g.mu.Lock()
		for i := range b.n {
			b.lanes[i].of.broken = b.lanes[i].of.broken || !whole
			b.lanes[i].giveBack()
		}
	}()
	g.mu.Unlock()
	if err := b.run(); err != nil {
		panic(err) // usable has seen that it can't be
	}
	whole = true
}

// batch is the streams that somebody works on, the first of which is the one that it is for.
type batch struct {
	due   int // pieces of the first
	n     int
	lanes [width]lane
	state [4][width]uint32
}

// lane is a stream in a batch.
type lane struct {
	of     *Hash
	pieces []piece // what it had
	next   int     // of them
	inside bool    // its state is the batch's
	form   [4 + md5.Size + md5.BlockSize + 8]byte
}

// add has a stream worked on, with what waits of it; the group's mu is held.
func (b *batch) add(h *Hash) {
	l := &b.lanes[b.n]
	b.n++
	l.of, l.pieces = h, h.pieces
	h.pieces, h.busy = nil, true
}

// giveBack ends that; the group's mu is held.
func (l *lane) giveBack() {
	h := l.of
	left := l.pieces[l.next:]
	h.waiting -= l.next
	h.busy = false
	if len(h.pieces) > 0 || len(left) > 0 {
		h.pieces = append(left, h.pieces...)
		h.enter()
	} else {
		h.pieces = l.pieces[:0] // its room is used again
	}
	if h.free != nil {
		h.free.Broadcast()
	}
}

// run hashes until what is due of the first stream is done.
func (b *batch) run() error {
	for {
		var with [width]int // the streams that have whole blocks
		blocks, n := mostBlocks, 0
		for i := range b.n {
			has, err := b.ready(i, &b.lanes[i])
			if err != nil {
				return err
			}
			if has > 0 {
				blocks, with[n] = min(blocks, has), i
				n++
			}
		}
		switch {
		case b.lanes[0].next >= b.due:
			return b.end()
		case n < 2:
			return b.alone()
		case n < fewestWide:
			n = 2
			b.pair(with[0], with[1], blocks)
		default:
			b.wide(with[:n], blocks)
		}
		for _, i := range with[:n] {
			b.lanes[i].took(blocks * md5.BlockSize)
		}
	}
}

// here is where a stream goes on.
func (l *lane) here() *byte { return &l.pieces[l.next].rest[0] }

// pair takes blocks of two streams into their states.
func (b *batch) pair(i, j, blocks int) {
	var state [2][4]uint32
	for word := range b.state {
		state[0][word], state[1][word] = b.state[word][i], b.state[word][j]
	}
	blocks2(&state, b.lanes[i].here(), b.lanes[j].here(), blocks)
	for word := range b.state {
		b.state[word][i], b.state[word][j] = state[0][word], state[1][word]
	}
}

// wide is that of more. Where there is no stream that has any, what comes out is nobody's: its state has been stored.
func (b *batch) wide(streams []int, blocks int) {
	var data [width]*byte
	for i := range data {
		data[i] = b.lanes[streams[0]].here()
	}
	for _, i := range streams {
		data[i] = b.lanes[i].here()
	}
	blocks8(&b.state, &data, blocks)
}

// ready sees to it that a stream can go on with whole blocks, and returns how many it has; 0 where nothing is left.
func (b *batch) ready(i int, l *lane) (int, error) {
	for l.next < len(l.pieces) {
		rest := l.pieces[l.next].rest
		odd := int(l.of.done % md5.BlockSize)
		if odd == 0 && len(rest) >= md5.BlockSize {
			return len(rest) / md5.BlockSize, b.load(i, l)
		}
		if err := b.store(i, l); err != nil {
			return 0, err
		}
		n := min(len(rest), md5.BlockSize-odd)
		_, _ = l.of.std.Write(rest[:n]) // never fails
		l.took(n)
	}
	return 0, b.store(i, l) // the lane goes on without it
}

// took counts bytes of the piece under way, and is done with it where they were the last.
func (l *lane) took(n int) {
	l.of.done += uint64(n)
	p := &l.pieces[l.next]
	if p.rest = p.rest[n:]; len(p.rest) > 0 {
		return
	}
	done := p.done
	*p = piece{}
	l.next++
	if done != nil {
		done()
	}
}

// alone does what is due of the first stream, which no other has anything to go with.
func (b *batch) alone() error {
	if err := b.end(); err != nil {
		return err
	}
	for l := &b.lanes[0]; l.next < b.due; {
		rest := l.pieces[l.next].rest
		_, _ = l.of.std.Write(rest) // never fails
		l.took(len(rest))
	}
	return nil
}

// end has all states back where they are from.
func (b *batch) end() error {
	for i := range b.n {
		if err := b.store(i, &b.lanes[i]); err != nil {
			return err
		}
	}
	return nil
}

// errForm is of a crypto/md5 whose hashes have another form than is known here.
var errForm = errors.New("md5lanes: the state of an MD5 has an unknown form")

// stateAt is where the words of the state begin in the form of a hash of crypto/md5.
const stateAt = 4

// load brings the state of a stream into its lane.
func (b *batch) load(i int, l *lane) error {
	if l.inside {
		return nil
	}
	form, err := l.of.std.(encoding.BinaryAppender).AppendBinary(l.form[:0])
	if err != nil {
		return err
	}
	if len(form) != len(l.form) {
		return errForm
	}
	for j := range b.state {
		b.state[j][i] = binary.BigEndian.Uint32(form[stateAt+4*j:])
	}
	l.inside = true
	return nil
}

// store brings it back.
func (b *batch) store(i int, l *lane) error {
	if !l.inside {
		return nil
	}
	for j := range b.state {
		binary.BigEndian.PutUint32(l.form[stateAt+4*j:], b.state[j][i])
	}
	binary.BigEndian.PutUint64(l.form[len(l.form)-8:], l.of.done)
	l.inside = false
	return l.of.std.(encoding.BinaryUnmarshaler).UnmarshalBinary(l.form[:])
}
