package survey

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Left is how much is still to be moved to where the rings say.
type Left struct {
	Partitions int64 `json:"partitions"` // that devices wait for something of
	Objects    int64 `json:"objects"`
	Bytes      int64 `json:"bytes"`
	Handoffs   int64 `json:"handoffs"` // partitions that devices hold which are no primaries of them
}

func (l *Left) add(m Left) {
	l.Partitions += m.Partitions
	l.Objects += m.Objects
	l.Bytes += m.Bytes
	l.Handoffs += m.Handoffs
}

// Nothing reports whether nothing is left.
func (l Left) Nothing() bool { return l == Left{} }

// DeviceLeft is what a device waits for, and what it holds for others.
type DeviceLeft struct {
	Device string `json:"device"`
	Policy string `json:"policy"`
	Left
	Pace // of the device, with all policies together: see At
}

// Rebalance is how far data is on its way to where the rings say.
type Rebalance struct {
	Left
	Devices   []DeviceLeft    `json:"devices"`   // of which objects are left, in the rings' order
	Databases []DatabasesLeft `json:"databases"` // what is left of accounts and containers, if they were asked for
	Unknown   []Unknown       `json:"unknown_devices"`
}

// Done reports whether all is where it belongs, as far as that is certain.
func (r *Rebalance) Done() bool {
	return r.Nothing() && len(r.Databases) == 0 && len(r.Unknown) == 0
}

// AddDatabases asks for accounts or containers as well.
func (r *Rebalance) AddDatabases(ctx context.Context, ask DatabaseAsker, kind Kind) error {
	list, unknown, err := DatabasesLeftOf(ctx, ask, kind)
	r.Databases = append(r.Databases, list...)
	r.addUnknown(unknown)
	return err
}

// addUnknown adds devices that could not be asked, each once.
func (r *Rebalance) addUnknown(list []Unknown) {
	for _, u := range list {
		if !slices.ContainsFunc(r.Unknown, func(v Unknown) bool { return v.Device == u.Device }) {
			r.Unknown = append(r.Unknown, u)
		}
	}
}

// RebalanceOf asks how far data is on its way. What a primary waits for of a partition is what
// it has less of than whoever has most: so each replica that moves counts once, whoever brings
// it. That a version is newer elsewhere, and as long, does not count here, nor which fragments a primary has,
// but how many. Where little is
// left it looks a second time after a second, and counts what is left both times: what clients
// are just writing is on one device before it is on another.
func RebalanceOf(ctx context.Context, ask Asker, policies []Policy) (*Rebalance, error) {
	r := &Rebalance{Devices: []DeviceLeft{}, Databases: []DatabasesLeft{}, Unknown: []Unknown{}}
	for _, p := range withFragments(policies) {
		h, err := gather(ctx, ask, p, false)
		if err != nil {
			return nil, err
		}
		left := h.left()
		if len(left) > 0 && len(left) <= little {
			before := h.unknown
			if h, left, err = lessLeft(ctx, ask, p, left); err != nil {
				return nil, err
			}
			maps.Copy(h.unknown, before) // nobody has compared them with what was left before
		}
		r.sum(h, left)
	}
	return r, nil
}

// withFragments has the fragments of policies that code among the policies: each primary should have as many of them
// as any other.
func withFragments(policies []Policy) (all []Policy) {
	for _, p := range policies {
		all = append(all, p)
		if p.Data > 0 {
			all = append(all, Policy{Index: p.Index.Fragments(), Name: "fragments of " + p.Name, Ring: p.Fragments})
		}
	}
	return all
}

// little is of how many partitions, each counted for each device that waits for something of it or
// holds it for others, there is a second look.
const little = 4096

// place is a partition on a device.
type place struct {
	device    int
	partition uint32
}

// lessLeft looks again after a while, and returns what is left then of what was left before.
func lessLeft(ctx context.Context, ask Asker, p Policy, before map[place]Left) (*held, map[place]Left, error) {
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	h, err := gather(ctx, ask, p, false)
	if err != nil {
		return nil, nil, err
	}
	left := map[place]Left{}
	for at, now := range h.left() {
		if then, ok := before[at]; ok {
			left[at] = Left{
				min(then.Partitions, now.Partitions), min(then.Objects, now.Objects), min(then.Bytes, now.Bytes), min(then.Handoffs, now.Handoffs),
			}
		}
	}
	return h, left, nil
}

// sum adds what is left of a policy.
func (r *Rebalance) sum(h *held, left map[place]Left) {
	by := make([]Left, len(h.devices))
	for at, l := range left {
		by[at.device].add(l)
	}
	for i, l := range by {
		if !l.Nothing() {
			r.Devices = append(r.Devices, DeviceLeft{Device: Place(h.devices[i]), Policy: h.Name, Left: l})
			r.add(l)
		}
	}
	r.addUnknown(h.unknowns())
}

// left is what is left, by partition and device.
func (h *held) left() map[place]Left {
	left := map[place]Left{}
	for c := range h.each {
		c.left(h, left)
	}
	return left
}

// left adds what is left of a partition.
func (c *copies) left(h *held, left map[place]Left) {
	var objects, bytes int64
	differ := false
	for i := range c.of {
		objects, bytes = max(objects, c.of[i].Objects), max(bytes, c.of[i].Bytes)
		differ = differ || c.of[i].Sum != c.of[0].Sum
	}
	for _, i := range c.handoffs {
		left[place{i, c.partition}] = Left{Handoffs: 1}
	}
	if !differ {
		return
	}
	for n, i := range c.primaries {
		if h.unknown[i] != nil {
			continue
		}
		if lack := (Left{1, max(0, objects-c.of[n].Objects), max(0, bytes-c.of[n].Bytes), 0}); lack.Objects > 0 || lack.Bytes > 0 {
			left[place{i, c.partition}] = lack
		}
	}
}
