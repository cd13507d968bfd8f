package node

import (
	"context"
	"encoding/binary"
	"io"
	"iter"
	"slices"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/object/engine"
	"martlet/object/index"
	"martlet/replicator/objects"
)

// objectStore is a device's engine as replication sees it.
type objectStore struct{ engine *engine.Engine }

var _ objects.Store = objectStore{}

// Policies returns the policies that have had an object here. Fragments are no replicas of
// each other: they are not this one's business.
func (s objectStore) Policies() ([]policy.Index, error) {
	all, err := s.engine.Policies()
	return slices.DeleteFunc(all, policy.Index.IsFragments), err
}

// Partitions yields what each partition comes to.
func (s objectStore) Partitions(ctx context.Context, p policy.Index, power int, before timestamp.T) iter.Seq2[replwire.Extent, error] {
	return extents(s.engine.Partitions(ctx, p, power, before))
}

// Ranges yields what each of some ranges comes to.
func (s objectStore) Ranges(ctx context.Context, p policy.Index, ranges []name.Range, before timestamp.T) iter.Seq2[replwire.Extent, error] {
	return extents(s.engine.Ranges(ctx, p, ranges, before))
}

// extents puts digests into the words of replication.
func extents(parts iter.Seq2[index.Part, error]) iter.Seq2[replwire.Extent, error] {
	return func(yield func(replwire.Extent, error) bool) {
		for p, err := range parts {
			e := replwire.Extent{Range: p.Range, Objects: p.Objects, Bytes: p.Bytes}
			binary.BigEndian.PutUint64(e.Sum[:8], p.Sum.High)
			binary.BigEndian.PutUint64(e.Sum[8:], p.Sum.Low)
			if !yield(e, err) {
				return
			}
		}
	}
}

// Walk yields what is under the hashes of a range.
func (s objectStore) Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[replwire.Object, error] {
	return func(yield func(replwire.Object, error) bool) {
		for entry, err := range s.engine.Walk(ctx, p, from, to) {
			if !yield(wireObject(entry.Hash, &entry.State), err) {
				return
			}
		}
	}
}

// Stat returns what is under a hash.
func (s objectStore) Stat(ctx context.Context, p policy.Index, h name.Hash) (objects.State, error) {
	st, err := s.engine.Stat(ctx, engine.Location{Policy: p, Hash: h})
	if err != nil {
		return objects.State{}, err
	}
	return objects.State{Object: wireObject(h, &st), Name: st.Name, ContentType: st.ContentType, Meta: st.Meta}, nil
}

// Open opens the data under a hash.
func (s objectStore) Open(ctx context.Context, p policy.Index, h name.Hash) (*objects.Version, error) {
	r, err := s.engine.OpenLeft(ctx, engine.Location{Policy: p, Hash: h})
	if err != nil {
		return nil, err
	}
	v, state := r.Version(), r.State()
	fields := append(append(make(backend.Header, 0, len(v.System)+len(v.Meta)), v.System...), v.Meta...)
	ends, _ := v.DeleteAt()
	return &objects.Version{
		Time: v.Time, Length: state.Length, MD5: v.MD5, CRC: state.CRC, Name: v.Name,
		ContentType: v.ContentType, Fields: fields, Ends: ends, Body: &checked{r: r, left: state.Length},
	}, nil
}

// Pinned returns the store of the disk that is attached now.
func (s objectStore) Pinned() objects.Store { return objectStore{s.engine.Pinned()} }

// Drop removes a name whose state is exactly that.
func (s objectStore) Drop(ctx context.Context, p policy.Index, o replwire.Object) (bool, error) {
	return s.engine.Drop(ctx, engine.Location{Policy: p, Hash: o.Hash}, func(now *engine.State) bool { return wireObject(o.Hash, now) == o })
}

// wireObject is a state in the words of replication. A name of which anything was
// lost is lost, but what is good of it is known.
func wireObject(h name.Hash, s *engine.State) replwire.Object {
	o := replwire.Object{Hash: h, Times: s.Packed()}
	if s.Kind == engine.Absent && !s.MetaLost && s.Newest().IsZero() {
		return o
	}
	what := goodOf(s)
	if o.Kind = what; s.Kind == engine.Lost || s.MetaLost {
		o.Kind, o.Left = replwire.Lost, what
		o.LeftMeta = s.DataLost && !s.MetaLost && s.MetaTime.After(s.Time.Until())
	}
	if what == replwire.Data {
		o.MD5, o.Length, o.CRC = s.MD5, s.Length, s.CRC
		o.SystemSum = replwire.Sum(s.System)
	}
	good := func(at timestamp.T) bool {
		if at.After(s.Time.Until()) {
			return !s.MetaLost
		}
		return what != 0 // it came with the data
	}
	if good(s.MetaTime) {
		o.MetaSum = replwire.Sum(s.Meta)
	}
	if good(s.ContentTypeTime) {
		o.TypeSum = replwire.Sum(backend.Header{{Value: s.ContentType}})
	}
	return o
}

// goodOf is what of a state is good, but for later metadata: nothing where data or a tombstone was lost.
func goodOf(s *engine.State) replwire.ObjectKind {
	switch {
	case s.DataLost:
		return 0
	case s.Kind == engine.Live, s.Kind == engine.Lost:
		return replwire.Data
	case s.Kind == engine.Deleted:
		return replwire.Tombstone
	}
	return replwire.Waiting
}

// checked reads the checked data of an object.
type checked struct {
	r         *engine.Reader
	off, left int64
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	b, err := c.r.View(c.off, c.left)
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	c.off += int64(n)
	c.left -= int64(n)
	return n, nil
}

// Close gives back what the reader holds.
func (c *checked) Close() error { return c.r.Close() }
