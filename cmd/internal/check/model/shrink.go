package model

import (
	"slices"

	"martlet/cmd/internal/check/history"
)

// Shrink returns the least of a history that it can find in which the same promise is broken, by the same
// read: in the reads of the round, or where f is not nil in what was read at its end. Where nothing is found to be broken, that is all of it.
func Shrink(h history.History, f *history.Final, v Violation) history.History {
	s := &shrinking{h: h, v: v}
	if f != nil {
		s.f = f.Only(v.Names)
	}
	h.Ops = s.concerned()
	if s.holds(h.Ops) {
		s.h = h
	}
	if few := s.these(v.Ops); s.holds(few) {
		s.h.Ops = few
	}
	s.h.Ops = s.least(s.h.Ops)
	s.h.Floor = slices.DeleteFunc(slices.Clone(s.h.Floor), func(e history.Entry) bool {
		return !slices.Contains(v.Names, e.Name)
	})
	s.h.Events = nil
	return s.h
}

type shrinking struct {
	h history.History
	f *history.Final
	v Violation
}

// concerned is the operations on the names of the violation, and on what was copied to them.
func (s *shrinking) concerned() []history.Op {
	names := map[history.Name]bool{}
	for _, n := range s.v.Names {
		names[n] = true
	}
	for i := range s.h.Ops {
		if o := &s.h.Ops[i]; o.From != nil && names[o.Name()] {
			names[*o.From] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(s.h.Ops), func(o history.Op) bool {
		return !names[o.Name()] && !names[history.Name{Container: o.Container}] && !slices.Contains(s.v.Ops, o.ID)
	})
}

func (s *shrinking) these(ids []int64) []history.Op {
	var few []history.Op
	for i := range s.h.Ops {
		if slices.Contains(ids, s.h.Ops[i].ID) {
			few = append(few, s.h.Ops[i])
		}
	}
	return few
}

// holds reports whether operations alone show the violation. The read that does has to be the same one, so that
// leaving out a write makes no violation of what was none.
func (s *shrinking) holds(ops []history.Op) bool {
	h := s.h
	h.Ops = ops
	var all []Violation
	if s.f != nil {
		all, _, _ = Settled(h, *s.f)
	} else {
		all, _ = Reads(h)
	}
	return slices.ContainsFunc(all, func(v Violation) bool {
		return v.Rule == s.v.Rule && slices.Equal(v.Names, s.v.Names) && (s.f != nil || s.reader(v) == s.reader(s.v))
	})
}

// reader is the operation that has seen what is wrong: writes see nothing.
func (s *shrinking) reader(v Violation) int64 {
	for _, id := range slices.Backward(v.Ops) {
		i, ok := slices.BinarySearchFunc(s.h.Ops, id, func(o history.Op, id int64) int { return int(o.ID - id) })
		if ok && (s.h.Ops[i].Seen != nil || s.h.Ops[i].Kind == history.Copy) {
			return id
		}
	}
	return 0
}

// least leaves out pieces, each time smaller ones, as long as the violation is still there.
func (s *shrinking) least(ops []history.Op) []history.Op {
	for size := (len(ops) + 1) / 2; size > 0 && len(ops) > 1; {
		left := false
		for at := 0; at < len(ops); {
			rest := slices.Concat(ops[:at], ops[min(len(ops), at+size):])
			if s.holds(rest) {
				ops, left = rest, true
			} else {
				at += size
			}
		}
		if size == 1 && !left {
			break
		}
		size = max(1, size/2)
		if size == 1 && len(ops) > 2000 {
			break // it would take too long, and nobody reads that many
		}
	}
	return ops
}
