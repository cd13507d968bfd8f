package node

import (
	"context"
	"iter"

	"martlet/internal/backend"
	"martlet/internal/clock"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/object"
	"martlet/object/engine"
	"martlet/replicator/fragments"
	"martlet/replicator/objects"
	"martlet/ring"
)

// fragments adds the fragments of a node, which the object server keeps.
func (r *replication) fragments(p parts, stores object.Stores, server *object.Server) (*fragments.Fragments, error) {
	cfg := fragments.Defaults()
	cfg.Concurrency, cfg.ReclaimAge = p.c.Replicator.Concurrency, p.c.Replicator.ReclaimAge.D()
	neutral := map[string]fragments.Store{}
	for device, store := range stores {
		neutral[device] = fragmentStore{objectStore{store.Engine}}
	}
	kind, err := fragments.New(cfg, fragments.Deps{
		Stores: neutral, Devices: p.devices, Policies: p.policies, Self: p.self(p.c.Replication.Address, p.c.Replication.Port), NodeID: r.nodeID,
		Ring: func(i policy.Index) *ring.Ring {
			if source := p.rings.objects[i]; source != nil {
				return source.Ring()
			}
			return nil
		},
		Hasher: p.hasher, Server: server, Peers: r.signing(), Pace: r.paces, Log: p.o.Log, Lost: p.lostFragments,
		May: func(device string, index policy.Index, of *ring.Ring, at ring.Partition) error {
			book, err := r.steps.Of(device)
			if err != nil {
				return err
			}
			return book.May(objects.SetOf(index), of.PartPower(), uint32(at), clock.Now())
		},
	})
	if err != nil {
		return nil, err
	}
	r.kinds = append(r.kinds, kind)
	return kind, nil
}

// fragmentStore is a device's engine as the replication of fragments sees it.
type fragmentStore struct{ objectStore }

var _ fragments.Store = fragmentStore{}

// Pinned returns the store of the disk that is attached now.
func (s fragmentStore) Pinned() fragments.Store {
	return fragmentStore{objectStore{s.engine.Pinned()}}
}

// Walk yields what is under the hashes of a range.
func (s fragmentStore) Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[fragments.Entry, error] {
	return func(yield func(fragments.Entry, error) bool) {
		for entry, err := range s.engine.Walk(ctx, p, from, to) {
			if !yield(fragmentEntry(entry.Hash, &entry.State), err) {
				return
			}
		}
	}
}

// Present yields the hashes under which there is data.
func (s fragmentStore) Present(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[name.Hash, error] {
	return s.engine.Present(ctx, p, from, to)
}

// Stat returns what is under a hash.
func (s fragmentStore) Stat(ctx context.Context, p policy.Index, h name.Hash) (fragments.Entry, error) {
	st, err := s.engine.Stat(ctx, engine.Location{Policy: p, Hash: h})
	if err != nil {
		return fragments.Entry{}, err
	}
	return fragmentEntry(h, &st), nil
}

// Drop removes what is under a hash whose state is exactly that, also of one that was lost: a fragment can be made again.
func (s fragmentStore) Drop(ctx context.Context, p policy.Index, o replwire.Object) (bool, error) {
	return s.engine.Drop(ctx, engine.Location{Policy: p, Hash: o.Hash}, func(now *engine.State) bool { return wireObject(o.Hash, now) == o })
}

// Quarantine takes what is under a hash out of use, if its state is exactly that.
func (s fragmentStore) Quarantine(ctx context.Context, p policy.Index, o replwire.Object, why error) error {
	at := engine.Location{Policy: p, Hash: o.Hash}
	st, err := s.engine.Stat(ctx, at)
	if err != nil || wireObject(o.Hash, &st) != o {
		return err
	}
	return s.engine.Quarantine(ctx, at, st, why)
}

// Open opens a fragment.
func (s fragmentStore) Open(ctx context.Context, p policy.Index, h name.Hash) (*fragments.Archive, error) {
	return archive(s.engine.Open(ctx, engine.Location{Policy: p, Hash: h}))
}

// OpenAll opens fragments one after the other.
func (s fragmentStore) OpenAll(ctx context.Context, p policy.Index, hashes []name.Hash) iter.Seq2[*fragments.Archive, error] {
	return func(yield func(*fragments.Archive, error) bool) {
		for r, err := range s.engine.OpenAll(ctx, p, hashes) {
			if !yield(archive(r, err)) {
				return
			}
		}
	}
}

func archive(r *engine.Reader, err error) (*fragments.Archive, error) {
	if err != nil {
		return nil, err
	}
	state := r.State()
	return &fragments.Archive{Object: wireObject(r.Location().Hash, state), Body: &checked{r: r, left: state.Length}}, nil
}

func fragmentEntry(h name.Hash, s *engine.State) fragments.Entry {
	e := fragments.Entry{Object: wireObject(h, s), Name: s.Name}
	if e.Kind == replwire.Data {
		e.Coded, e.Fragment = s.System.Get(backend.CodedWrite), s.System.Get(backend.Fragment)
	}
	return e
}
