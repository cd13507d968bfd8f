package model

import (
	"math/rand/v2"
	"slices"
	"testing"

	"martlet/cmd/internal/check/history"
)

// A lie changes what was seen, and says of which name something must be found then; where the history offers no place for it, it says so.
type lie func(s *sim, f *history.Final, r *rand.Rand) (about history.Name, ok bool)

// anOp chooses one of the operations that are fit.
func (s *sim) anOp(r *rand.Rand, fit func(*history.Op) bool) *history.Op {
	var all []*history.Op
	for i := range s.h.Ops {
		if o := &s.h.Ops[i]; fit(o) {
			all = append(all, o)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[r.IntN(len(all))]
}

func (s *sim) floor(n history.Name) *history.Entry {
	for i := range s.h.Floor {
		if s.h.Floor[i].Name == n {
			return &s.h.Floor[i]
		}
	}
	return nil
}

// instead has everybody read another state of a name at the end, in listings and counts as well.
func (s *sim) instead(f *history.Final, n history.Name, is history.State) {
	c := copied{data: 1, meta: 1, dead: is.Missing, state: is}
	for i := range s.replicas {
		s.replicas[i][n] = c
	}
	for i := range s.rows {
		s.rows[i][n] = c
	}
	*f = s.final()
}

func stored(o *history.Op) history.State {
	return history.State{Data: o.ID, Body: o.Body, Mark: o.ID, Size: o.Size}
}

func acked(kind history.Kind) func(*history.Op) bool {
	return func(o *history.Op) bool { return o.Kind == kind && o.Outcome == history.Acked }
}

// sawObject is a read that has shown whose data and metadata it is.
func sawObject(o *history.Op) bool {
	return o.Seen != nil && o.Kind != history.List && o.Seen.Data != 0
}

// before returns an acknowledged PUT of a name that had ended before another write began.
func (s *sim) before(r *rand.Rand, than *history.Op) *history.Op {
	return s.anOp(r, func(o *history.Op) bool {
		return acked(history.Put)(o) && o.Name() == than.Name() && o.End < than.Start
	})
}

var lies = map[string]struct {
	rules []string
	plant lie
}{
	"an acknowledged write is lost": {[]string{Lost}, func(s *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, acked(history.Put))
		if o == nil || s.anOp(r, func(d *history.Op) bool { return d.Kind == history.Delete && d.Name() == o.Name() }) != nil {
			return history.Name{}, false
		}
		s.instead(f, o.Name(), history.State{Missing: true})
		return o.Name(), true
	}},
	"an older write is back": {[]string{Lost, Undeleted}, func(s *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, func(o *history.Op) bool { return o.Kind.Data() && o.Outcome == history.Acked })
		if o == nil {
			return history.Name{}, false
		}
		x := s.before(r, o)
		if x == nil {
			return history.Name{}, false
		}
		s.instead(f, o.Name(), stored(x))
		return o.Name(), true
	}},
	"the floor is back": {[]string{Lost, Undeleted}, func(s *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, func(o *history.Op) bool {
			return o.Kind.Data() && o.Outcome == history.Acked && s.floor(o.Name()) != nil
		})
		if o == nil {
			return history.Name{}, false
		}
		s.instead(f, o.Name(), s.floor(o.Name()).State)
		return o.Name(), true
	}},
	"acknowledged metadata is lost": {[]string{Lost}, func(s *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		i := r.IntN(len(f.Looks))
		is := f.Looks[i].Seen.State
		post := s.anOp(r, func(o *history.Op) bool { return o.ID == is.Mark && acked(history.Post)(o) })
		data := s.anOp(r, func(o *history.Op) bool { return o.ID == is.Data && o.Outcome == history.Acked })
		if post == nil || data == nil || data.End >= post.Start {
			return history.Name{}, false
		}
		is.Mark = is.Data
		s.instead(f, f.Looks[i].Name, is)
		return f.Looks[i].Name, true
	}},
	"a replica is behind": {[]string{Disagree}, func(_ *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		l := &f.Looks[r.IntN(len(f.Looks))]
		if l.Seen.State.Missing {
			return history.Name{}, false
		}
		l.Seen.State = history.State{Missing: true}
		i := slices.IndexFunc(f.Looks, func(o history.Look) bool { return o.Name == l.Name })
		return l.Name, &f.Looks[i] != l
	}},
	"nobody can read it": {[]string{Unreadable}, func(_ *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		l := &f.Looks[r.IntN(len(f.Looks))]
		l.Failed = "503"
		return l.Name, true
	}},
	"the body of another name": {[]string{Foreign}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, sawObject)
		if o == nil {
			return history.Name{}, false
		}
		x := s.anOp(r, func(x *history.Op) bool { return x.Kind == history.Put && x.Name() != o.Name() && x.Size > 0 })
		if x == nil {
			return history.Name{}, false
		}
		o.Seen.State = stored(x)
		return o.Name(), true
	}},
	"another body": {[]string{Mixed}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, func(o *history.Op) bool { return sawObject(o) && o.Seen.Size > 0 })
		if o == nil {
			return history.Name{}, false
		}
		o.Seen.Body, o.Seen.Size = o.Seen.Body+1000, 7
		data := s.anOp(r, func(d *history.Op) bool { return d.ID == o.Seen.Data && d.Kind == history.Put })
		return o.Name(), data != nil
	}},
	"a torn body": {[]string{False}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, sawObject)
		if o == nil {
			return history.Name{}, false
		}
		o.Seen.Wrong = "returned half of it"
		return o.Name(), true
	}},
	"metadata of another write": {[]string{Mixed, Floor}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, sawObject)
		if o == nil {
			return history.Name{}, false
		}
		x := s.anOp(r, func(x *history.Op) bool {
			return x.Kind == history.Put && x.Outcome == history.Acked && x.Name() == o.Name() && x.ID != o.Seen.Data && x.Start < o.End
		})
		if x == nil {
			return history.Name{}, false
		}
		o.Seen.Mark = x.ID
		return o.Name(), true
	}},
	"what is only written later": {[]string{Future}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, sawObject)
		if o == nil {
			return history.Name{}, false
		}
		x := s.anOp(r, func(x *history.Op) bool {
			return x.Kind == history.Put && x.Outcome != history.Refused && x.Name() == o.Name() && x.Start > o.End
		})
		if x == nil {
			return history.Name{}, false
		}
		o.Seen.State = stored(x)
		return o.Name(), true
	}},
	"an upload that was broken off": {[]string{Refused}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		x := s.anOp(r, func(x *history.Op) bool { return x.Kind == history.Put && x.Outcome == history.Refused })
		if x == nil {
			return history.Name{}, false
		}
		o := s.anOp(r, func(o *history.Op) bool { return sawObject(o) && o.Name() == x.Name() && x.Start < o.End })
		if o == nil {
			return history.Name{}, false
		}
		o.Seen.State = stored(x)
		return o.Name(), true
	}},
	"the state before the last, and all was well": {[]string{Stale}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, func(o *history.Op) bool { return sawObject(o) && o.End <= newBook(s.h).steady })
		if o == nil {
			return history.Name{}, false
		}
		y := s.anOp(r, func(y *history.Op) bool {
			return y.Kind.Data() && y.Outcome == history.Acked && y.Name() == o.Name() && y.End <= o.Start && y.End-y.Start <= grace
		})
		if y == nil {
			return history.Name{}, false
		}
		x := s.before(r, y)
		if x == nil {
			return history.Name{}, false
		}
		o.Seen.State = stored(x)
		if o.Kind == history.Head {
			o.Seen.Mark = 0
		}
		return o.Name(), true
	}},
	"nothing, and it was always there": {[]string{Floor}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, func(o *history.Op) bool { return sawObject(o) && s.floor(o.Name()) != nil })
		if o == nil || s.anOp(r, func(d *history.Op) bool { return d.Kind == history.Delete && d.Name() == o.Name() && d.Start < o.End }) != nil {
			return history.Name{}, false
		}
		o.Seen.State = history.State{Missing: true}
		return o.Name(), true
	}},
	"what was before the floor": {[]string{Floor}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, sawObject)
		if o == nil || s.h.Round == 1 {
			return history.Name{}, false
		}
		o.Seen.State = history.State{Data: 1, Body: 1, Mark: 1, Size: 100}
		e := s.floor(o.Name())
		return o.Name(), e == nil || e.Data != 1
	}},
	"a listing without a name": {[]string{Listing}, func(_ *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		c := &f.Containers[r.IntN(len(f.Containers))]
		if len(c.Names) == 0 {
			return history.Name{}, false
		}
		n := history.Name{Container: c.Container, Object: c.Names[0].Name}
		c.Names = c.Names[1:]
		return n, true
	}},
	"a listing with a name too many": {[]string{Listing}, func(_ *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		c := &f.Containers[r.IntN(len(f.Containers))]
		c.Names = append(c.Names, history.Listed{Name: "zebra", Size: 1, Data: 1, Body: 1})
		return history.Name{Container: c.Container, Object: "zebra"}, true
	}},
	"a row of another write": {[]string{Listing}, func(_ *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		c := &f.Containers[r.IntN(len(f.Containers))]
		if len(c.Names) == 0 {
			return history.Name{}, false
		}
		c.Names = slices.Clone(c.Names)
		c.Names[0].Data++
		return history.Name{Container: c.Container, Object: c.Names[0].Name}, true
	}},
	"a listing out of order": {[]string{Listing}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, func(o *history.Op) bool { return o.Kind == history.List && len(o.Seen.Names) > 1 })
		if o == nil {
			return history.Name{}, false
		}
		slices.Reverse(o.Seen.Names)
		return history.Name{Container: o.Container}, true
	}},
	"a listing that lacks a name, and all was well": {[]string{Stale, Floor}, func(s *sim, _ *history.Final, r *rand.Rand) (history.Name, bool) {
		o := s.anOp(r, func(o *history.Op) bool {
			return o.Kind == history.List && len(o.Seen.Names) > 0 && o.End <= newBook(s.h).steadyLists
		})
		if o == nil {
			return history.Name{}, false
		}
		n := history.Name{Container: o.Container, Object: o.Seen.Names[0].Name}
		y := s.anOp(r, func(y *history.Op) bool {
			return acked(history.Put)(y) && y.Name() == n && y.End <= o.Start && y.End-y.Start <= grace
		})
		d := s.anOp(r, func(d *history.Op) bool { return d.Kind == history.Delete && d.Name() == n })
		o.Seen.Names = o.Seen.Names[1:]
		return n, d == nil && (y != nil || s.floor(n) != nil)
	}},
	"a count that is wrong": {[]string{Count}, func(_ *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		c := &f.Containers[r.IntN(len(f.Containers))]
		c.Objects++
		return history.Name{Container: c.Container}, true
	}},
	"bytes that are wrong": {[]string{Count}, func(_ *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		c := &f.Containers[r.IntN(len(f.Containers))]
		c.Bytes--
		return history.Name{Container: c.Container}, true
	}},
	"an account that is wrong": {[]string{Count}, func(_ *sim, f *history.Final, r *rand.Rand) (history.Name, bool) {
		f.Accounts[r.IntN(len(f.Accounts))].Bytes++
		return history.Name{}, true
	}},
}

// Each lie is found, for what it is, wherever it is told; and a few operations are enough to show it.
func TestLiesAreFound(t *testing.T) {
	for what, l := range lies {
		t.Run(what, func(t *testing.T) {
			told, shown := 0, 0
			for seed := uint64(0); told < 25 && seed < 1500; seed++ {
				r := rand.New(rand.NewPCG(seed, 1))
				s := newSim(r.IntN)
				s.round(100, 60)
				_, floor, _ := Settled(s.h, s.final())
				s.next(floor)
				s.round(140, 60)
				f := s.final()
				about, ok := l.plant(s, &f, r)
				if !ok {
					continue
				}
				told++
				shown += s.mustFind(t, seed, about, l.rules, &f)
			}
			if told < 5 {
				t.Errorf("the lie was told only %d times", told)
			}
			if shown > 8*told {
				t.Errorf("it takes %d operations to show %d lies", shown, told)
			}
		})
	}
}

// mustFind fails where nothing is found of a name, and returns how many operations are left of the history that shows it.
func (s *sim) mustFind(t *testing.T, seed uint64, about history.Name, rules []string, f *history.Final) int {
	t.Helper()
	found, _ := Reads(s.h)
	last, _, _ := Settled(s.h, *f)
	is := func(v Violation) bool { return slices.Contains(rules, v.Rule) && v.Names[0] == about }
	final := f
	at := slices.IndexFunc(found, is)
	if at >= 0 {
		final = nil
	} else if at = slices.IndexFunc(last, is); at >= 0 {
		found = last
	} else {
		t.Fatalf("seed %d: nothing of %v was found of %v, but %v and %v\n%s", seed, rules, about, found, last, told(s.h, f))
	}
	small := Shrink(s.h, final, found[at])
	var still []Violation
	if final != nil {
		still, _, _ = Settled(small, *final.Only(found[at].Names))
	} else {
		still, _ = Reads(small)
	}
	if !slices.ContainsFunc(still, is) {
		t.Fatalf("seed %d: %+v is not in what is left\n%s", seed, found[at], told(small, final))
	}
	return len(small.Ops)
}

// The same, of histories by the thousand without a lie, so that chance has more to choose from than when it is drawn.
func TestNothingIsFoundByMistake(t *testing.T) {
	for seed := range uint64(1500) {
		s := newSim(rand.New(rand.NewPCG(seed, 2)).IntN)
		for range 2 {
			s.round(100, 100)
			found, _ := Reads(s.h)
			f := s.final()
			last, floor, _ := Settled(s.h, f)
			if found = append(found, last...); len(found) > 0 {
				t.Fatalf("seed %d: %+v\n%s", seed, found[0], told(s.h, &f))
			}
			s.next(floor)
		}
	}
}
