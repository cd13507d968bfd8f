// Package objects replicates objects: it answers peers that compare what a device
// holds, takes what they push, and makes passes over a device.
//
// A pass walks what the device holds in order of hash. For each partition that has
// something it asks the other primaries of the ring for their lists and pushes
// what they lack or have older: data first, then later metadata; tombstones are
// versions like all others. Where the device is no primary of the partition, it is
// a handoff: everything is pushed to all primaries, and what every one of them has
// confirmed is dropped here, provided that it has not changed since.
//
// It promises that nothing is dropped because of an error, of silence, of an answer
// that turns out to be this node's own, or of one by somebody who does not take
// himself for a primary, nor by a ring that is out of use (replicator.Guard); that a peer's list is believed only
// whole; that no body is read which isn't pushed, and that those which are have been
// checked against their checksums when they are read and when they are stored; and
// that what is damaged here is not pushed. It leaves to the store on the other side
// what a push and what is there come to.
//
// A whole pass is over the disk that is attached when it begins: one that takes its
// place meanwhile loses nothing for what was asked about the other.
//
// # What confirms
//
// A peer has confirmed a state when its list shows that state or something newer,
// or when it has taken what it lacked. A peer that has lost a name to damage has
// confirmed nothing of it before it has taken data that is not older than what it
// lost: it is brought metadata that is later, which it keeps beside the mark of the
// loss, but what that metadata was for may be the last that there is.
//
// Tombstones, and metadata without data, that are older than the reclaim age may
// have been forgotten. They are still pushed where the peer has something older,
// which they replace, and nowhere else. So a list without the name is a confirmation
// of such a state, and of no other: it leaves a handoff when every primary has
// answered, and each has it, has something newer, or holds nothing under the name.
package objects

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"slices"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// Store is what the replicator needs of one device's objects.
type Store interface {
	// Pinned returns the store of the disk that is attached now. It fails once that
	// is detached, whatever is attached later.
	Pinned() Store

	// Policies returns the policies that have had an object here.
	Policies() ([]policy.Index, error)

	// Walk yields what is under the hashes from `from` to `to`, both included, in
	// their order, from what is small to read and without any body. An error comes
	// with the hash that it concerns, or with none and then ends the walk.
	Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[replwire.Object, error]

	// Stat returns what is under one hash. Nothing is a State of no Kind.
	Stat(ctx context.Context, p policy.Index, h name.Hash) (State, error)

	// Open opens the data under a hash. The error is of kind errs.NotFound where
	// there is none. The body returns no byte that was not checked.
	Open(ctx context.Context, p policy.Index, h name.Hash) (*Version, error)

	// Drop removes a name whose state is exactly that, all of it, and reports whether
	// it was. It is gone durably then.
	Drop(ctx context.Context, p policy.Index, o replwire.Object) (bool, error)
}

// State is what is under a name, with the texts that a push of it takes.
type State struct {
	replwire.Object
	Name        name.Path
	ContentType string
	Meta        backend.Header // the fields in force that an update replaces
}

// Version is the data of a name as it was stored, without later metadata. Its Body
// must be closed.
type Version struct {
	Time        timestamp.T
	Length      int64 // bytes
	MD5         [16]byte
	CRC         uint32 // CRC32C
	Name        name.Path
	ContentType string
	Fields      backend.Header // all that came with the data
	Body        io.ReadCloser
}

// Config is what Objects can be told.
type Config struct {
	Concurrency int           // partitions of one device under way at one time
	ReclaimAge  time.Duration // after which tombstones may be forgotten
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config {
	return Config{Concurrency: 4, ReclaimAge: 7 * 24 * time.Hour}
}

// Deps is what Objects work with.
type Deps struct {
	Stores map[string]Store              // by device
	Ring   func(policy.Index) *ring.Ring // the one in use; nil for a policy that the cluster does not have
	Self   hosts.Self                    // the replication address of this node, as the rings have it
	NodeID string                        // as the replicator's
	Hasher interface{ Hash(name.Path) name.Hash }
	Merge  backend.Handler // the object server
	Peers  replicator.Sender
	Pace   *replicator.Paces // nil for none
	Now    func() time.Time  // nil for the machine's clock
	Log    *slog.Logger      // nil for none

	// Lost says what devices of this node have lost: see Repair. Nil is nothing.
	Lost <-chan Lost
}

// Objects is the replicator.Kind of objects.
type Objects struct {
	cfg Config
	Deps
	guard replicator.Guard
	wants chan wanted
}

var _ replicator.Kind = (*Objects)(nil)

// New returns the objects of a node.
func New(cfg Config, deps Deps) (*Objects, error) {
	const op errs.Op = "objects.new"
	if cfg.Concurrency <= 0 || cfg.ReclaimAge <= 0 {
		return nil, errs.E(op, errs.Invalid, "concurrency and reclaim age must be positive")
	}
	if deps.Ring == nil || deps.Self.IsZero() || deps.NodeID == "" || deps.Hasher == nil || deps.Merge == nil || deps.Peers == nil {
		return nil, errs.E(op, errs.Invalid, "rings, address, node id, hasher, object server and sender are needed")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Objects{cfg: cfg, Deps: deps, wants: make(chan wanted, maxRepairs)}, nil
}

// Name implements replicator.Kind.
func (o *Objects) Name() string { return "object" }

// horizon is the time before which tombstones may have been forgotten.
func (o *Objects) horizon() timestamp.T { return timestamp.FromTime(o.Now().Add(-o.cfg.ReclaimAge)) }

// forgettable reports whether nothing need be left of a state.
func forgettable(s *replwire.Object, horizon timestamp.T) bool {
	return (s.Kind == replwire.Tombstone || s.Kind == replwire.Waiting) && s.Newest().Before(horizon)
}

// find returns the place of a hash in an ordered list.
func find(list []replwire.Object, h name.Hash) (int, bool) {
	return slices.BinarySearchFunc(list, h, func(o replwire.Object, h name.Hash) int { return compare(o.Hash, h) })
}
