package metadb

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
)

// lastHash is the greatest hash.
var lastHash = func() (h name.Hash) {
	for i := range h {
		h[i] = 0xff
	}
	return h
}()

// span is a range of hashes in hexadecimal digits, both included.
type span struct{ from, to string }

// meets reports whether names that begin with a prefix may lie within.
func (r span) meets(prefix string) bool {
	n := min(len(prefix), len(r.from))
	return prefix[:n] >= r.from[:n] && prefix[:n] <= r.to[:n]
}

// walkRange is Walk over the hashes from `from` to `to`, both included.
func (s *Store) walkRange(ctx context.Context, dev *device.Device, from, to name.Hash) iter.Seq2[name.Hash, error] {
	return func(yield func(name.Hash, error) bool) {
		if d := s.now(dev); d != nil {
			d.walkBoth(ctx, dev.Dir(s.schema.Folder()), from, to, yield)
		}
	}
}

// walkBoth walks the small databases and those with files of their own in one order.
func (d *disk) walkBoth(ctx context.Context, dir string, from, to name.Hash, yield func(name.Hash, error) bool) {
	next, stop := iter.Pull2(d.small.Keys(ctx, small.Values, from, to))
	defer stop()
	key, err, more := next()
	// upTo yields small ones up to a hash, that one only if it is of no file, and reports
	// whether to go on.
	upTo := func(h name.Hash, isFile bool) bool {
		for more && (err != nil || bytes.Compare(key[:], h[:]) <= 0) {
			k, e := key, err
			if e != nil {
				e = errs.E(errs.Op("metadb.walk"), classify(e))
			}
			key, err, more = next()
			if !(isFile && e == nil && k == h) && !yield(k, e) {
				return false
			}
		}
		return true
	}
	whole := d.walk(ctx, dir, "", span{from.String(), to.String()}, func(h name.Hash, err error) bool {
		if err != nil {
			return yield(h, err)
		}
		return upTo(h, true) && yield(h, nil)
	})
	if whole {
		upTo(lastHash, false)
	}
}

// walk walks a folder, whose databases' hashes begin with prefix, and reports
// whether to go on.
func (d *disk) walk(ctx context.Context, dir, prefix string, in span, yield func(name.Hash, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(name.Hash{}, errs.E(errs.Op("metadb.walk"), errs.Aborted, err))
		return false
	}
	list, err := d.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return yield(name.Hash{}, errs.E(errs.Op("metadb.walk"), classify(err)))
	}
	for _, e := range list {
		if len(prefix) < 4 { // two folders deep
			below := prefix + e.Name
			if e.Dir && len(e.Name) == 2 && in.meets(below) && !d.walk(ctx, filepath.Join(dir, e.Name), below, in, yield) {
				return false
			}
			continue
		}
		if h, ok := parseName(e.Name); ok && strings.HasPrefix(e.Name, prefix) && in.meets(h.String()) && !yield(h, nil) {
			return false
		}
	}
	return true
}
