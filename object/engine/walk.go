package engine

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/vfs"
	"martlet/object/durable"
)

// Entry is one name that Walk has met.
type Entry struct {
	Location
	State State
}

// Policies is Engine.Policies.
func (e *store) Policies() ([]policy.Index, error) {
	list, err := e.list(e.root)
	if err != nil {
		return nil, e.wrap("engine.policies", Location{}, err)
	}
	var all []policy.Index
	for _, entry := range list {
		rest, ok := strings.CutPrefix(entry.Name, "objects")
		if !ok || !entry.Dir {
			continue
		}
		if rest == "" {
			all = append(all, 0)
			continue
		}
		if i, err := policy.ParseIndex(strings.TrimPrefix(rest, "-")); err == nil && i != 0 && i.Suffix() == rest {
			all = append(all, i)
		}
	}
	slices.Sort(all)
	return all, nil
}

// list returns what is in a directory, nothing where there is none.
func (e *store) list(dir string) ([]vfs.Entry, error) {
	list, err := e.cfg.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// Walk is Engine.Walk.
func (e *store) Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for dir, err := range e.leaves(ctx, p, from, to) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			list, err := e.list(dir)
			if err != nil {
				yield(Entry{}, e.wrap("engine.walk", Location{Policy: p}, err))
				return
			}
			var found []Entry
			seen, last := false, name.Hash{}
			for _, entry := range list {
				h, ok := hashOf(entry.Name)
				if !ok || seen && h == last || bytes.Compare(h[:], from[:]) < 0 || bytes.Compare(h[:], to[:]) > 0 {
					continue
				}
				seen, last = true, h
				at := Location{p, h}
				s, err := e.Stat(ctx, at)
				if err == nil && s.Kind == Absent && s.Newest().IsZero() {
					continue // gone since
				}
				if err != nil {
					yield(Entry{at, s}, err)
					return
				}
				found = append(found, Entry{at, s})
			}
			if len(found) == 0 {
				continue
			}
			// A name that a killed process left, or a write under way, may not be
			// durable. Who is told of it may drop his own copy: so it is made so first.
			if err := e.names.Settle(dir); err != nil {
				yield(Entry{}, e.wrap("engine.walk", Location{Policy: p}, err))
				return
			}
			for _, f := range found {
				if !yield(f, nil) {
					return
				}
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Entry{}, errs.E(errs.Op("engine.walk"), errs.Aborted, err)) // never a part for the whole
		}
	}
}

// leaves yields the folders that hold the hashes of a range, in order.
func (e *store) leaves(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		top := e.objects(p)
		list, err := e.list(top)
		if err != nil {
			yield("", e.wrap("engine.walk", Location{Policy: p}, err))
			return
		}
		first, last := leafName(leafOf(from)), leafName(leafOf(to))
		for _, entry := range list {
			if !entry.Dir || len(entry.Name) != len(first) || entry.Name < first || entry.Name > last {
				continue
			}
			if ctx.Err() != nil {
				yield("", errs.E(errs.Op("engine.walk"), errs.Aborted, context.Cause(ctx)))
				return
			}
			if !yield(top+"/"+entry.Name, nil) {
				return
			}
		}
	}
}

// hashOf returns the hash in the name of a part's file.
func hashOf(file string) (name.Hash, bool) {
	h, ext, _ := strings.Cut(file, ".")
	if ext = "." + ext; ext != extData && ext != extMeta && ext != extLost {
		return name.Hash{}, false
	}
	hash, err := name.ParseHash(h)
	return hash, err == nil
}

// Sweep is Engine.Sweep.
func (e *store) Sweep(ctx context.Context) error {
	policies, err := e.Policies()
	if err != nil {
		return err
	}
	var all name.Hash
	for i := range all {
		all[i] = 0xff
	}
	for _, p := range policies {
		for dir, err := range e.leaves(ctx, p, name.Hash{}, all) {
			if err != nil {
				return err
			}
			if err := e.sweepFolder(dir); err != nil {
				return e.wrap("engine.sweep", Location{Policy: p}, err)
			}
		}
	}
	return nil
}

func (e *store) sweepFolder(dir string) error {
	list, err := e.list(dir)
	if err != nil {
		return err
	}
	for _, entry := range list {
		var remove func() error
		file := dir + "/" + entry.Name
		switch rest, isNew := strings.CutPrefix(entry.Name, durable.NewPrefix); {
		case isNew:
			remove = func() error { // the holder of the lock may be about to rename it
				if h, ok := hashOf(rest); ok {
					defer e.lock(h).Unlock()
				}
				return e.cfg.FS.Remove(file)
			}
		case strings.HasPrefix(entry.Name, vfs.TempPrefix):
			info, err := e.cfg.FS.Stat(file)
			if err != nil || !info.ModTime.Before(e.began) {
				continue // gone, or in use
			}
			remove = func() error { return e.cfg.FS.Remove(file) }
		default:
			continue
		}
		if err := remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
