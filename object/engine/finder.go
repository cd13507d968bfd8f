package engine

import (
	"context"
	"iter"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/object/index"
)

// finder finds the entries of names that are looked for in order, with fewer reads of the index than one by one. It must be closed.
// nil finds them one by one.
type finder struct {
	disk *disk // that of is of
	of   *index.Finder
}

func (f *finder) get(d *disk, at Location) (index.Entry, error) {
	if f == nil {
		return d.get(at)
	}
	if f.disk != d {
		f.close()
		f.disk, f.of = d, d.index.Finder()
	}
	return d.got(f.of.Get(at.key()))
}

func (f *finder) close() {
	if f.of != nil {
		f.of.Close()
	}
}

// OpenAll is Engine.OpenAll.
func (s *store) OpenAll(ctx context.Context, p policy.Index, hashes []name.Hash) iter.Seq2[*Reader, error] {
	return func(yield func(*Reader, error) bool) {
		var f finder
		defer f.close()
		for _, h := range hashes {
			if !yield(s.openBy(ctx, Location{p, h}, &f, false)) {
				return
			}
		}
	}
}
