package ec

import (
	"encoding/binary"
	"fmt"
	"io"

	"martlet/internal/errs"
	"martlet/internal/planted"
)

// fillWith fills a fragment with the bytes of another index: what planted.FragmentRebuiltWrong does.
func (g *gather) fillWith(to []byte, index int) {
	for i, other := range g.buf.shards {
		if i != index && len(other) == len(to) {
			copy(to, other)
			return
		}
	}
}

// Rebuild writes the archive of an index to w, from k others of the same write. It is, byte
// for byte, the one that was lost. What was written is whole only if the error is nil. It
// returns the size of the object, and why archives were not read any further. Where fewer
// than k good fragments of a segment are left the error is errs.Unavailable and wraps ErrTooFew.
func (c *Code) Rebuild(w io.Writer, write Write, index int, source Source) (size int64, faults []Fault, err error) {
	const op errs.Op = "ec.rebuild"
	h := Header{Layout: c.Layout, Write: write, Index: index}
	if err := h.Check(); err != nil {
		return 0, nil, errs.E(op, err)
	}
	g := c.gather(write, 0, maxFrames, source)
	defer g.close()
	start := headerAt
	for !g.last {
		if err := g.next(); err != nil {
			return 0, g.faults, errs.E(op, err)
		}
		if g.length > 0 {
			if err := g.restore(1 << index); err != nil {
				return 0, g.faults, errs.E(op, err)
			}
		}
		slot, end := g.buf.slots[index], fragmentAt+c.fragment(g.length)
		if planted.FragmentRebuiltWrong { // breaks: it is the one that was lost
			g.fillWith(slot[fragmentAt:end], index)
		}
		h.Append(slot[headerAt:headerAt])
		seed := binary.LittleEndian.Uint64(slot[headerAt+sumAt:])
		frame{length: g.length, last: g.last, number: g.number}.put(slot[frameAt:], seed, slot[fragmentAt:end])
		if _, err := w.Write(slot[start:end]); err != nil {
			return 0, g.faults, errs.E(op, fmt.Errorf("segment %d: %w", g.number, err))
		}
		size += int64(g.length)
		start = frameAt
	}
	return size, g.faults, nil
}
