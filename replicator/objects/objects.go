// Package objects replicates objects: it answers peers that compare what a device
// holds, takes what they push, and makes passes over a device.
//
// A pass begins with the sums of all partitions of which the device holds something
// (digests, see object/index). Their other primaries are asked which of them differ, all that
// concern one peer in one request or a few. Those that differ are gone into, the fewest good copies first: by the
// sums of their 256 parts, of the 256 parts of those that differ, and so on until few
// objects are left, or the peer has less than half of what is here. Only then states themselves are read: the peer is
// asked for its list of that range, and what it lacks or has older is pushed: data first,
// then later metadata; tombstones are versions like all others. A partition that is the
// same everywhere costs a sum, and nothing of it is read.
//
// Where the device is no primary of the partition, it is a handoff: everything is compared
// name by name with the lists of all primaries, and pushed to them, and what every one of
// them has confirmed is dropped here, provided that it has not changed since. Where a
// primary shows a tombstone that is newer than what is here, and some other one has not
// got that far, the handoff takes the tombstone first: through the object server's merge,
// so that it is a state like any other, which all have to confirm.
//
// What is small is pushed many at a time: each push is looked at, merged and answered as
// if it had come alone, but they travel in one request, and share syncs over there. What
// is large goes alone, once the peer has said that no other device is bringing it.
//
// It promises that nothing is dropped because of an error, of silence, of an answer
// that turns out to be this node's own, or of one by somebody who does not take
// himself for a primary, nor by a ring that is out of use (replicator.Guard), nor
// because sums are equal; that a peer's list or answer is believed only
// whole; that no body is read which isn't pushed, and that those which are have been
// checked against their checksums when they are read and when they are stored; and
// that nothing that is damaged here is pushed, but what is good beside it. It leaves to the store on the other side
// what a push and what is there come to.
//
// A whole pass is over the disk that is attached when it begins: one that takes its
// place meanwhile loses nothing for what was asked about the other. Memory is in proportion
// to the partitions of the device, not to objects, however many of them differ.
//
// # What confirms
//
// A peer has confirmed a state when its list shows that state or something newer,
// or when it has taken what it lacked. A peer that has lost a name to damage has
// confirmed nothing of it before it has taken data that is not older than what it
// lost: it is brought metadata that is later, which it keeps beside the mark of the
// loss, but what that metadata was for may be the last that there is.
//
// What a handoff itself has lost to damage can be brought to nobody. The mark of it is dropped like anything else when every primary
// shows data or a tombstone that is as new as what was lost. Until then each pass counts it as failed, whatever its age, but for one case: where only metadata
// was lost, and that was before the horizon, so that nobody brings it any more, it goes once every primary shows what is good beside it, or what is more.
// Of metadata that was lost while it waited for its data nothing is left that could be the last: it goes as if it were good, also with
// metadata that is as new, or for its age.
// What is good beside what was lost counts as if it were all there is: good metadata beside lost data, or good data beside lost
// metadata, has to be what the primary shows of just its time, or less. It may be the last there is, and is brought to whoever lacks it, by primaries, too; but nothing large to one that has lost
// something of just that version, since it may well be the same that is lost there. That the other has taken it confirms nothing of what was lost: it is asked again what it has.
//
// Tombstones, and metadata without data, that are older than the reclaim age may
// have been forgotten. They are still pushed where the peer has something older,
// which they replace, and nowhere else. So a list without the name is a confirmation
// of such a state, and of no other: it leaves a handoff when every primary has
// answered, and each has it, has something newer, or holds nothing under the name. So is 410,
// by which a peer says that it is before its own horizon.
//
// # What is not pushed
//
// Nothing is pushed or dropped of a partition that is fenced (package steps): the device was away
// for so long that it may have what was deleted elsewhere, and the tombstone forgotten. The
// device is in step in a partition where another primary had nothing newer of the names that it
// holds there: their sums were the same, or the lists of all ranges in which they were not show it.
//
// Nor does a primary bring data whose end, by what came with it, is before the horizon, and beside which metadata from before that was lost, to a primary that
// has nothing of the name: that would end it, forget so, and be brought it again in each pass. The data stays where it is, since the lost metadata may have given it a
// longer life; whatever turns up of that has it brought.
package objects

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"slices"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clock"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/replicator/steps"
	"martlet/ring"
)

// Store is what the replicator needs of one device's objects.
type Store interface {
	// Pinned returns the store of the disk that is attached now. It fails once that
	// is detached, whatever is attached later.
	Pinned() Store

	// Policies returns the policies that have had an object here.
	Policies() ([]policy.Index, error)

	// Partitions yields what each partition of a ring with 2^power partitions comes to of
	// which there is something, in order, and Ranges what each of some ranges does, each
	// of which begins behind the one before it. Two stores that hold the same there have
	// the same digests. A time of before other than zero leaves out what is of that time
	// or later, as far as the store can tell. No object is read. An error ends it.
	Partitions(ctx context.Context, p policy.Index, power int, before timestamp.T) iter.Seq2[replwire.Extent, error]
	Ranges(ctx context.Context, p policy.Index, ranges []name.Range, before timestamp.T) iter.Seq2[replwire.Extent, error]

	// Walk yields what is under the hashes from `from` to `to`, both included, in
	// their order, from what is small to read and without any body. An error comes
	// with the hash that it concerns, or with none and then ends the walk.
	Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[replwire.Object, error]

	// Stat returns what is under one hash. Nothing is a State of no Kind.
	Stat(ctx context.Context, p policy.Index, h name.Hash) (State, error)

	// Open opens the data under a hash, also where metadata that came later was lost. The error is of kind errs.NotFound where
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
	Ends        int64          // by those: the second since 1970 from which on it is not there; 0 for never
	Body        io.ReadCloser
}

// Config is what Objects can be told.
type Config struct {
	Concurrency int           // partitions of one device under way at one time
	ReclaimAge  time.Duration // after which tombstones may be forgotten

	// Few is how many objects of a range that differs a peer lists at most, instead of
	// summing up its parts.
	Few int64
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config {
	return Config{Concurrency: 4, ReclaimAge: 7 * 24 * time.Hour, Few: 64}
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

	// Steps returns what a device remembers of being in step with others.
	Steps func(device string) (*steps.Book, error)
}

// Objects is the replicator.Kind of objects.
type Objects struct {
	cfg Config
	Deps
	guard replicator.Guard
	wants chan wanted
	asked map[string]chan struct{} // by device: who has put something in answers a question
	taken map[string]chan struct{} // by device: who has put something in takes many pushes
	turns map[string]chan struct{} // by device: who has put something in takes one of them

	claims claims           // of what others bring to this node's devices
	left   map[string]*left // by device: what others are bringing that it could
}

var _ replicator.Kind = (*Objects)(nil)

// New returns the objects of a node.
func New(cfg Config, deps Deps) (*Objects, error) {
	const op errs.Op = "objects.new"
	if cfg.Concurrency <= 0 || cfg.ReclaimAge <= 0 || cfg.Few < 0 {
		return nil, errs.E(op, errs.Invalid, "concurrency and reclaim age must be positive, few not negative")
	}
	if deps.Ring == nil || deps.Self.IsZero() || deps.NodeID == "" || deps.Hasher == nil || deps.Merge == nil || deps.Peers == nil || deps.Steps == nil {
		return nil, errs.E(op, errs.Invalid, "rings, address, node id, hasher, object server, sender and steps are needed")
	}
	if deps.Now == nil {
		deps.Now = clock.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	o := &Objects{
		cfg: cfg, Deps: deps, claims: claims{by: map[claim]claimed{}}, wants: make(chan wanted, maxRepairs),
		asked: map[string]chan struct{}{}, taken: map[string]chan struct{}{}, turns: map[string]chan struct{}{},
		left: map[string]*left{},
	}
	for device := range deps.Stores {
		o.asked[device], o.taken[device] = make(chan struct{}, maxAsked), make(chan struct{}, maxTaken)
		o.turns[device] = make(chan struct{}, max(1, together/len(deps.Stores)))
		o.left[device] = &left{before: map[leftPart]int{}, now: map[leftPart]int{}}
	}
	return o, nil
}

// Name implements replicator.Kind.
func (o *Objects) Name() string { return "object" }

// horizon is the time before which tombstones may have been forgotten.
func (o *Objects) horizon() timestamp.T {
	return steps.Terms{ReclaimAge: o.cfg.ReclaimAge}.Horizon(o.Now())
}

// forgettable reports whether nothing need be left of a state. Metadata without data, or with a tombstone, is worth no more for being damaged.
func forgettable(s *replwire.Object, horizon timestamp.T) bool {
	kind := s.Kind
	if kind == replwire.Lost {
		kind = s.Left
	}
	return (kind == replwire.Tombstone || kind == replwire.Waiting) && !s.Newest().IsZero() && s.Times.Happened().Before(horizon)
}

// find returns the place of a hash in an ordered list.
func find(list []replwire.Object, h name.Hash) (int, bool) {
	return slices.BinarySearchFunc(list, h, func(o replwire.Object, h name.Hash) int { return compareHashes(o.Hash, h) })
}
