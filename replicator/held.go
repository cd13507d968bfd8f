package replicator

import (
	"context"
	"iter"

	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/ring"
)

// Held is what a device holds of one kind of data now, in partitions of the ring in
// use.
type Held struct {
	Kind       string `json:"kind"`
	Policy     string `json:"policy,omitempty"` // of objects
	Partitions int64  `json:"partitions"`       // that hold something here
	Handoffs   int64  `json:"handoffs"`         // of them, those that this device is no primary of
}

// DeviceHeld is what a device holds.
type DeviceHeld struct {
	Device string `json:"device"`
	Kinds  []Held `json:"kinds"`
	Error  string `json:"error,omitempty"` // why it is not known, or not whole
}

// Held looks at what each device holds, whether or not a pass has been over it. Of
// objects it looks at sums; of accounts and containers it reads the names of everything,
// so it is for who is about to change something, and not for watching.
func (r *Replicator) Held(ctx context.Context) []DeviceHeld {
	all := []DeviceHeld{}
	for d := range r.Devices.All() {
		held := DeviceHeld{Device: d.Name(), Kinds: []Held{}}
		for _, k := range r.Kinds {
			err := d.Check()
			if err == nil {
				var kinds []Held
				kinds, err = k.Held(ctx, d.Name())
				held.Kinds = append(held.Kinds, kinds...)
			}
			if err != nil {
				held.Error = err.Error()
				break
			}
		}
		all = append(all, held)
	}
	return all
}

// Count counts in h the partitions of what is yielded, in order of hash. device and
// self are as of Others.
func (h *Held) Count(ctx context.Context, hashes iter.Seq2[name.Hash, error], r *ring.Ring, device string, self hosts.Self) error {
	first, last := true, ring.Partition(0)
	for hash, err := range hashes {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		p := r.Partition(hash)
		if !first && p == last {
			continue
		}
		first, last = false, p
		h.Partitions++
		if _, handoff := Others(r, p, device, self); handoff {
			h.Handoffs++
		}
	}
	return nil
}
