package index

import (
	"context"
)

// source yields records in order of key, each key once. A value is valid until the
// next call.
type source interface {
	next() (r record, more bool, err error)
}

// merged yields of several sources, the newest first, what the newest that has a key
// says of it.
type merged struct {
	sources []source
	heads   []record
	left    []bool
	winner  int // whose head was handed out; -1 if none
}

func newMerged(sources []source) (*merged, error) {
	m := &merged{sources: sources, heads: make([]record, len(sources)), left: make([]bool, len(sources)), winner: -1}
	for i := range sources {
		if err := m.advance(i); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *merged) advance(i int) (err error) {
	m.heads[i], m.left[i], err = m.sources[i].next()
	return err
}

func (m *merged) next() (record, bool, error) {
	if m.winner >= 0 {
		key := m.heads[m.winner].key
		for i := range m.sources {
			for m.left[i] && m.heads[i].key == key {
				if err := m.advance(i); err != nil {
					return record{}, false, err
				}
			}
		}
	}
	m.winner = -1
	for i := range m.sources {
		if m.left[i] && (m.winner < 0 || m.heads[i].key.compare(&m.heads[m.winner].key) < 0) {
			m.winner = i
		}
	}
	if m.winner < 0 {
		return record{}, false, nil
	}
	return m.heads[m.winner], true, nil
}

const (
	fewRuns    = 8
	mergeRatio = 2
)

// choose says how many of the runs, from the newest on, are to become one; 0 for
// none. The numbers are of their entries.
func choose(entries []int64) int {
	if len(entries) <= fewRuns {
		return 0
	}
	n, sum := 2, entries[0]+entries[1]
	for n < len(entries) && sum*mergeRatio >= entries[n] {
		sum += entries[n]
		n++
	}
	return n
}

// forAll does something with each record of a source, until ctx ends or it fails.
func forAll(ctx context.Context, s source, do func(*record) error) error {
	var r record // one for all: as far as the compiler knows do may keep it
	for n := 0; ; n++ {
		if n&0xfff == 0 {
			if err := stopped(ctx); err != nil {
				return err
			}
		}
		var more bool
		var err error
		if r, more, err = s.next(); err != nil || !more {
			return err
		}
		if err := do(&r); err != nil {
			return err
		}
	}
}

// mergeRuns writes what some runs come to, the newest first. If nothing is older, what
// was dropped is left out.
func mergeRuns(ctx context.Context, w *runWriter, runs []*run, oldest bool) error {
	const ahead = 64 // blocks
	sources := make([]source, len(runs))
	for i, r := range runs {
		sources[i] = r.everything(ahead)
	}
	all, err := newMerged(sources)
	if err != nil {
		return err
	}
	err = forAll(ctx, all, func(r *record) error {
		if oldest && r.dropped() {
			return nil
		}
		return w.add(r)
	})
	if err != nil {
		return err
	}
	if err := w.endEntries(); err != nil {
		return err
	}
	return mergeBuckets(w, runs)
}

func mergeBuckets(w *runWriter, runs []*run) error {
	readers := make([]*bucketsOf, len(runs))
	heads := make([]bucket, len(runs))
	left := make([]bool, len(runs))
	advance := func(i int) (err error) {
		heads[i], left[i], err = readers[i].next()
		return err
	}
	for i, r := range runs {
		readers[i] = r.buckets()
		if err := advance(i); err != nil {
			return err
		}
	}
	for {
		least := -1
		for i := range runs {
			if left[i] && (least < 0 || heads[i].compare(&heads[least]) < 0) {
				least = i
			}
		}
		if least < 0 {
			return nil
		}
		sum := bucket{set: heads[least].set, prefix: heads[least].prefix}
		for i := range runs {
			for left[i] && heads[i].compare(&sum) == 0 {
				sum.digest = sum.digest.Add(heads[i].digest)
				if err := advance(i); err != nil {
					return err
				}
			}
		}
		if sum.digest.IsZero() {
			continue
		}
		if err := w.addBucket(&sum); err != nil {
			return err
		}
	}
}
