// Package nemesis breaks a cluster in every way that it promises to bear: it decides what is to be broken, when, and for
// how long, and never more at once than the promise covers (Shape.May). The plan follows from a seed. How a cluster is
// broken it leaves to the cluster.
package nemesis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Kind is a way to break something. Each is named as on the command line.
type Kind string

// The kinds.
const (
	Kill     Kind = "kill"     // a storage node is killed, and started at the end
	KillAll  Kind = "killall"  // all storage nodes at one instant, likewise
	Proxy    Kind = "proxy"    // a proxy is killed, likewise
	Pause    Kind = "pause"    // a storage node stands still, as a machine that swaps
	Restart  Kind = "restart"  // a storage node is ended in good order, and started at the end
	Rolling  Kind = "rolling"  // each process is, one after the other
	Cut      Kind = "cut"      // a node is cut off from a network
	Slow     Kind = "slow"     // a network is slow for a node
	Power    Kind = "power"    // a node loses power with all its devices
	PowerAll Kind = "powerall" // all nodes do, at one instant
	Full     Kind = "full"     // a device is full
	Fail     Kind = "fail"     // a device fails every request
	Flip     Kind = "flip"     // bits of what is stored on a device change
	Ring     Kind = "ring"     // the rings change
	Clock    Kind = "clock"    // the clock of a node jumps
	Queue    Kind = "queue"    // nobody reaches a container server, and all storage nodes are restarted before that is mended
)

// Kinds returns all of them.
func Kinds() []Kind {
	return []Kind{Kill, KillAll, Proxy, Pause, Restart, Rolling, Cut, Slow, Power, PowerAll, Full, Fail, Flip, Ring, Clock, Queue}
}

// ParseKinds reads a list such as "kill,pause". Empty is all.
func ParseKinds(text string) (all []Kind, err error) {
	if text == "" {
		return Kinds(), nil
	}
	for word := range strings.SplitSeq(text, ",") {
		k := Kind(strings.TrimSpace(word))
		switch {
		case k == "none":
			continue
		case !slices.Contains(Kinds(), k):
			return nil, fmt.Errorf("%q is no fault: there are %s, and none", word, list(Kinds()))
		case !slices.Contains(all, k):
			all = append(all, k)
		}
	}
	return all, nil
}

func list(all []Kind) string {
	texts := make([]string, len(all))
	for i, k := range all {
		texts[i] = string(k)
	}
	return strings.Join(texts, ", ")
}

// The networks.
const (
	Storage     = "storage"
	Replication = "replication"
)

// A Fault is one thing that is broken, from Begin to End. What does not apply is zero.
type Fault struct {
	ID   int  `json:"id"` // from 1, in the order of a plan
	Kind Kind `json:"kind"`

	Node    int           `json:"node,omitempty"`    // of storage, from 1
	Proxy   int           `json:"proxy,omitempty"`   // from 1
	Device  int           `json:"device,omitempty"`  // of the node, from 1
	Network string        `json:"network,omitempty"` // that is cut or slow
	Reset   bool          `json:"reset,omitempty"`   // connections are broken off, where else nothing is heard
	Rate    int64         `json:"rate,omitempty"`    // bytes a second
	Delay   time.Duration `json:"delay_ns,omitempty"`
	By      time.Duration `json:"by_ns,omitempty"`  // the jump of a clock
	Seed    uint64        `json:"seed,omitempty"`   // of what chance decides within it
	For     time.Duration `json:"for_ns,omitempty"` // as planned
}

// String is a fault as a line of a timeline has it.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(string(f.Kind))
	say := func(format string, args ...any) { fmt.Fprintf(&b, " "+format, args...) }
	if f.Proxy > 0 {
		say("%d", f.Proxy)
	}
	if f.Node > 0 {
		say("node %d", f.Node)
	}
	if f.Device > 0 {
		say("d%d", f.Device)
	}
	if f.Network != "" {
		say("%s", f.Network)
	}
	if f.Kind == Cut {
		say("%s", map[bool]string{true: "reset", false: "silent"}[f.Reset])
	}
	if f.Rate > 0 {
		say("%d KiB/s", f.Rate>>10)
	}
	if f.Delay > 0 {
		say("delay %v", f.Delay)
	}
	if f.By != 0 {
		say("by %v", f.By)
	}
	return b.String()
}

// An Offer says whether a cluster can be broken in some way, and if not why.
type Offer struct {
	Kind Kind   `json:"kind"`
	Why  string `json:"why_not,omitempty"` // "" for one that is offered
}

// A Cluster is what is broken. Begin and End are called one at a time.
type Cluster interface {
	// Shape is what there is to be broken.
	Shape() Shape
	// Offers says of each kind whether it can be done.
	Offers() []Offer
	// Begin breaks something, and returns what else there is to say of it. An error is one of the
	// machine or of the cluster: what was to be broken may be so or not, until Heal of the cluster's.
	Begin(ctx context.Context, f Fault) (note string, err error)
	// End mends it, and returns when the cluster may be expected to have noticed, not when it has.
	End(ctx context.Context, f Fault) error
}

// Offered are the kinds that a cluster offers, of some.
func Offered(c Cluster, of []Kind) (all []Kind) {
	for _, o := range c.Offers() {
		if o.Why == "" && slices.Contains(of, o.Kind) {
			all = append(all, o.Kind)
		}
	}
	return all
}
