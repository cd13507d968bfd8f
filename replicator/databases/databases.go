// Package databases replicates accounts and containers: one implementation for
// both, since each is a database of rows whose replicas merge.
//
// A pass walks the databases of a device. For each partition that has some it asks
// the other primaries of the ring for their lists, and to each whose digest of a
// database is another one, or who has none, it pushes what this device holds: what
// the database says of itself, metadata, and the rows, those of deleted things
// and of deleted databases as well. The peer merges; what it holds beyond that comes
// here with its own pass. So no order of passes matters, and after a round of them
// the replicas have one digest. Where the device is no primary of the partition, it
// is a handoff: all primaries get the database, and when every one of them has
// confirmed it, it is dropped here, provided that it has not changed since.
//
// Rows go from the change number on up to which the peer is known to have them.
// The database itself remembers that, by the incarnation of the peer's; whatever
// is doubtful about it costs a push of everything.
//
// Nothing is pushed or dropped of a partition that is fenced (package steps): the device was
// away for so long that it may have what was deleted and forgotten elsewhere. The device is in
// step in a partition where of each database some peer had the same, or none, or has pushed
// all that it had since the pass before.
//
// The package promises that nothing is dropped because of an error, of silence, of
// an answer that turns out to be this node's own, or of one by somebody who does
// not take himself for a primary, nor by a ring that is out of use
// (replicator.Guard); that a peer's list and a push
// are taken whole or not at all; and that a database which can't be read is not
// pushed, and is a failure of every pass until it is mended. It leaves merging to
// the store, and whose listing is told to the servers.
//
// # The conversation
//
// REPLICATE is answered with a list of replwire.Database records, of kind
// replwire.Accounts or replwire.Containers. A database that can't be read is not in
// it: what is pushed then meets the same fault and is refused.
//
// PUT /<device>/<partition>/<account>[/<container>] has as its body a part of the
// database of that path, a list of kind replwire.DatabasePart of at most
// replwire.MaxList bytes, which is merged in one transaction; there is a database
// after it, whether or not there was one. A large database takes several, and where
// it is new it answers clients from the first one on, like any replica that has
// missed something. The answer is 200 with a list of one record: the database as it
// is now. Both are on stable storage then. A part that can't be read, or is of
// another path, is 400. One that is of a deleted database, all of which is before the reclaim
// age of the receiver, who has none, is 410: nothing is made of it.
//
// A large database (wholeLeast) of which the peer has nothing is sent as a whole: its parts, with the rows in
// the order in which they lie in the file, carry replwire.WholeHeader, and there is no database before the last of
// them, which is answered as above; the others are answered with a list of none. So the peer answers no
// client with a listing of which most is missing, and puts neither a commit nor a sync to each part. What has
// changed meanwhile comes behind, by change number. 409 is that the peer has one by now, or has forgotten what was
// sent: then the parts are pushed one by one. So they are, in that order too, where the peer has a database but
// is not known to have most of the changes.
//
// # What may be forgotten
//
// A database that was deleted and is before the horizon of a node is for it not there: it is neither
// listed nor pushed, and goes by itself (metadb.Store.Reclaim), also where the device is a handoff. Rows and
// metadata that were deleted before it travel until they are gone, since a peer may have
// something older, and a peer who has not leaves them out. So replicas differ until the last of them has
// removed what all of them will, and push that once or twice: what ended with both as they are is
// remembered. 410 is no failure of a pass, and confirms nothing that is dropped: where one node's horizon
// has moved and another's not yet, the other's will.
package databases

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"time"

	"martlet/internal/clock"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/replicator/steps"
	"martlet/ring"
)

// Store is the databases of one kind on a node's devices, which are named as in
// the ring.
type Store interface {
	// Walk yields the hashes of the databases on a device from `from` to `to`,
	// both included, in their order. What can't be read is an error beside a zero
	// hash.
	Walk(ctx context.Context, device string, from, to name.Hash) iter.Seq2[name.Hash, error]

	// State returns a database as peers compare it, all of that on stable storage.
	// The error is of kind errs.NotFound where there is none, or it was deleted and may be
	// forgotten, and errs.Corrupt where it can't be read.
	State(ctx context.Context, device string, h name.Hash) (replwire.Database, error)

	// Part reads what of a database comes after a cursor, of bounded size. The error is as of
	// State.
	Part(ctx context.Context, device string, h name.Hash, after replwire.Cursor) (replwire.Part, error)

	// Merge merges a part into the database of a path, which is made if it is not
	// there, and returns what that is then, on stable storage. A part that can't be
	// read, or is not of that path, is of kind errs.Invalid, and nothing is changed. What is
	// dead and may be forgotten is left out unless it meets something older; where that is all,
	// and there is no database, none is made, and the error is of kind errs.Gone.
	Merge(ctx context.Context, device string, path name.Path, h name.Hash, part []byte) (replwire.Database, error)

	// Build merges a part into a database of a path that is being made of one sending, and is there when the last
	// part has come: then it returns what that is, on stable storage, and before that nothing. The
	// error is of kind errs.Stale where there is such a database already, or that is not the
	// part that is next; errs.Unavailable where another sending is under way; and else as of Merge.
	Build(ctx context.Context, device string, path name.Path, h name.Hash, at replwire.Whole, part []byte) (replwire.Database, error)

	// Known returns up to which change of a database the replica of an incarnation
	// is known to have its rows, and the number of that replica's own latest change
	// when this was learnt; 0 for nothing. SetKnown remembers it.
	Known(ctx context.Context, device string, h name.Hash, peer [16]byte) (ours, theirs uint64, err error)
	SetKnown(ctx context.Context, device string, h name.Hash, peer [16]byte, ours, theirs uint64) error

	// Told reports whether whoever lists a database was ever told of it from here, and Retell has him
	// be told of it as if he never had been, durably.
	Told(ctx context.Context, device string, h name.Hash) (bool, error)
	Retell(ctx context.Context, device string, h name.Hash) error

	// Drop removes a database that is exactly that and reports whether it was. It
	// is gone durably then. One on another disk that has taken the place of the one
	// which was asked about is not that: its incarnation is another.
	Drop(ctx context.Context, device string, d replwire.Database) (bool, error)

	// Lost returns which databases were moved into quarantine, from a hash on, and are missed since then, or
	// have come back. Found has one not be missed any more, durably.
	Lost(ctx context.Context, device string, from name.Hash) ([]name.Hash, error)
	Found(ctx context.Context, device string, h name.Hash) error
}

// Config is what Databases can be told.
type Config struct {
	Concurrency int // partitions of one device under way at one time
	Merges      int // parts of peers that are read and merged at one time; others wait
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config { return Config{Concurrency: 4, Merges: 8} }

// Deps is what Databases work with.
type Deps struct {
	Store  Store
	Ring   func() *ring.Ring // the one in use
	Self   hosts.Self        // the replication address of this node, as the ring has it
	NodeID string            // as the replicator's
	Hasher interface{ Hash(name.Path) name.Hash }
	Peers  replicator.Sender
	Pace   *replicator.Paces // nil for none
	Log    *slog.Logger      // nil for none
	Now    func() time.Time  // nil for the machine's clock

	// Steps returns what a device remembers of being in step with others.
	Steps func(device string) (*steps.Book, error)
}

// Databases is the replicator.Kind of accounts or of containers.
type Databases struct {
	cfg Config
	Deps
	name   string
	list   byte // the kind of its lists
	merges chan struct{}
	tried  tried
	guard  replicator.Guard

	brought brought
}

var _ replicator.Kind = (*Databases)(nil)

// SetOfContainers is what the partitions of containers are called in what a device remembers of being in step.
const SetOfContainers steps.Set = "container"

// Accounts returns the accounts of a node.
func Accounts(cfg Config, deps Deps) (*Databases, error) {
	return build(cfg, deps, "account", replwire.Accounts)
}

// Containers returns the containers of a node.
func Containers(cfg Config, deps Deps) (*Databases, error) {
	return build(cfg, deps, string(SetOfContainers), replwire.Containers)
}

func build(cfg Config, deps Deps, kind string, list byte) (*Databases, error) {
	const op errs.Op = "databases.new"
	if cfg.Concurrency <= 0 || cfg.Merges <= 0 {
		return nil, errs.E(op, errs.Invalid, "concurrency and merges must be positive")
	}
	if deps.Store == nil || deps.Ring == nil || deps.Self.IsZero() || deps.NodeID == "" || deps.Hasher == nil || deps.Peers == nil || deps.Steps == nil {
		return nil, errs.E(op, errs.Invalid, "store, ring, address, node id, hasher, sender and steps are needed")
	}
	if deps.Now == nil {
		deps.Now = clock.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Databases{cfg: cfg, Deps: deps, name: kind, list: list, merges: make(chan struct{}, cfg.Merges)}, nil
}

// Name implements replicator.Kind.
func (d *Databases) Name() string { return d.name }

// owns reports whether a path is that of a database of the kind.
func (d *Databases) owns(p name.Path) bool {
	return p.Account != "" && p.Object == "" && (p.Container != "") == (d.list == replwire.Containers)
}

// find returns the database of a hash in an ordered list; nil if it is not there.
func find(list []replwire.Database, h name.Hash) *replwire.Database {
	i, ok := slices.BinarySearchFunc(list, h, func(d replwire.Database, h name.Hash) int {
		return slices.Compare(d.Hash[:], h[:])
	})
	if !ok {
		return nil
	}
	return &list[i]
}
