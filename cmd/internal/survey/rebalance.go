package survey

import (
	"context"
	"slices"
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
}

// Rebalance is how far data is on its way to where the rings say.
type Rebalance struct {
	Left
	Devices []DeviceLeft `json:"devices"` // of which something is left, in the rings' order
	Unknown []Unknown    `json:"unknown_devices"`
}

// Done reports whether all is where it belongs, as far as that is certain.
func (r *Rebalance) Done() bool { return r.Nothing() && len(r.Unknown) == 0 }

// RebalanceOf asks how far data is on its way. What a primary waits for of a partition is what
// it has less of than whoever has most: so each replica that moves counts once, whoever brings
// it. That a version is newer elsewhere, and as long, does not count here.
func RebalanceOf(ctx context.Context, ask Asker, policies []Policy) (*Rebalance, error) {
	r := &Rebalance{Devices: []DeviceLeft{}, Unknown: []Unknown{}}
	for _, p := range policies {
		h, err := gather(ctx, ask, p, false)
		if err != nil {
			return nil, err
		}
		left := make([]Left, len(h.devices))
		for c := range h.each {
			c.left(h, left)
		}
		for i, l := range left {
			if !l.Nothing() {
				r.Devices = append(r.Devices, DeviceLeft{Place(h.devices[i]), p.Name, l})
				r.add(l)
			}
		}
		for _, u := range h.unknowns() {
			if !slices.ContainsFunc(r.Unknown, func(v Unknown) bool { return v.Device == u.Device }) {
				r.Unknown = append(r.Unknown, u)
			}
		}
	}
	return r, nil
}

// left adds what is left of a partition, by device.
func (c *copies) left(h *held, left []Left) {
	var objects, bytes int64
	differ := false
	for i := range c.of {
		objects, bytes = max(objects, c.of[i].Objects), max(bytes, c.of[i].Bytes)
		differ = differ || c.of[i].Sum != c.of[0].Sum
	}
	for _, i := range c.handoffs {
		left[i].Handoffs++
	}
	if !differ {
		return
	}
	for n, i := range c.primaries {
		if h.unknown[i] != nil {
			continue
		}
		if lack := (Left{1, max(0, objects-c.of[n].Objects), max(0, bytes-c.of[n].Bytes), 0}); lack.Objects > 0 || lack.Bytes > 0 {
			left[i].add(lack)
		}
	}
}
