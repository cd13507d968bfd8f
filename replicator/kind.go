package replicator

import (
	"context"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// A Kind is one kind of data as the replicator sees it: objects, accounts,
// containers. It is safe for concurrent use.
type Kind interface {
	// Name is what requests call it in X-Backend-Kind: "object", "account" or
	// "container".
	Name() string

	// Serve answers a peer: REPLICATE with the list of what a device holds in a
	// range of hashes, PUT, POST and DELETE by merging what they bring. A call of the
	// Whole device is a question about digests, or many pushes; a kind that has none
	// of that refuses it as errs.Invalid. The frame
	// has checked everything that Call says it has; what only this kind can know to
	// be wrong is an error of kind errs.Invalid with a public text, and nothing of
	// such a request is applied. 2xx means that what was pushed is on stable
	// storage, or that something that supersedes it is.
	Serve(ctx context.Context, c *Call) (*backend.Response, error)

	// Primary reports whether the call's device is, by the ring in use on this node,
	// a primary of all that the call's partition covers. It is asked before Serve, and
	// its answer goes with Serve's; of many pushes the kind asks itself, and says so of
	// each. Once it has said so, nothing of the partition
	// leaves the device that Serve may show or take, unless it becomes a handoff
	// again and its primaries say that they have it. A Guard does that.
	Primary(c *Call) bool

	// Pass makes one device's copies of every partition that it holds known to
	// those who should have them, once, and counts what it does in t. What can't
	// be confirmed is a failure in t and the rest goes on; a pass that returns with
	// no failure has left every primary with what this device held when it began. It ends early
	// with ctx, which is a failure. There is at most one pass per device at a time.
	// A time of before other than zero lets it leave out what is of that time or later.
	Pass(ctx context.Context, device string, before timestamp.T, t *Tally)

	// Held counts what a device holds, one Held for each ring that it is held by.
	Held(ctx context.Context, device string) ([]Held, error)
}

// A Giver is a Kind of whose data peers read as well what they are to have, since it is not all
// the same on all: it is asked to GET.
type Giver interface {
	Kind

	// Gives says so.
	Gives()
}

// Call is a request of a peer. The frame has seen to it that the peer's address
// is one of the cluster's, that the method is REPLICATE, PUT, POST or DELETE, or GET of
// a Giver, that
// the device is one of this node and usable, that the partition is one of its part
// power, that a REPLICATE of one has no body, and that all others say
// X-Backend-Replication.
type Call struct {
	*backend.Request

	Peer      string // the address of who asks, without its port
	Device    string
	Partition uint32
	PartPower int

	// Whole says that the call names no partition: a REPLICATE whose body is a question
	// of package replwire, or a PUT whose body is many pushes, neither of them empty
	// nor longer than one may be. Partition, Path, From and To then say nothing.
	Whole bool

	// Path is what a push is about: zero for REPLICATE, an account, a container or
	// an object otherwise. That its hash is in the partition is for Holds to say.
	Path name.Path

	// From and To bound the hashes that a REPLICATE is about, both included: all of
	// the partition's, or the part of them that the query's from and to name.
	From, To name.Hash
}

// Holds reports whether a hash belongs to the call's partition.
func (c *Call) Holds(h name.Hash) bool { return partitionOf(h, c.PartPower) == c.Partition }
