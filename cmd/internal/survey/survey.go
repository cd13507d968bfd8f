package survey

import (
	"context"
	"slices"
	"sync"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

// Asker asks devices. It is safe for concurrent use.
type Asker interface {
	// Holdings returns what a device holds of each partition of a part power, in order;
	// with lost also how much was damaged there, which costs more than sums do.
	Holdings(ctx context.Context, d *ring.Device, p policy.Index, power int, lost bool) ([]replwire.Holding, error)

	// States returns the states that a device holds in a partition from a hash on, in order,
	// and whether there are more.
	States(ctx context.Context, d *ring.Device, p policy.Index, power int, partition uint32, from name.Hash) ([]replwire.Object, bool, error)
}

// RateAsker is an Asker that also knows how fast devices take what others bring.
type RateAsker interface {
	Asker
	// Rates returns that of all devices of the node that has one, by name.
	Rates(ctx context.Context, d *ring.Device) ([]replicator.Rate, error)
}

// Policy is a storage policy with its ring.
type Policy struct {
	Index policy.Index
	Name  string
	Ring  *ring.Ring // of what is replicated: of a policy of erasure coding commits, and what is not coded

	Data      int        // how many fragments of an object give it back; 0 where nothing is coded
	Fragments *ring.Ring // of the fragments
}

// Unknown is a device that could not be asked.
type Unknown struct {
	Device string `json:"device"` // "ip:port/name"
	Why    string `json:"why"`
}

// Place names a device.
func Place(d *ring.Device) string { return d.Addr() + "/" + d.Name }

// together is how many devices are asked at one time.
const together = 16

// held is what the devices of a ring hold, each by its place in the list of all.
type held struct {
	Policy
	devices []*ring.Device
	place   map[*ring.Device]int
	unknown map[int]error
	by      [][]replwire.Holding // by device, in order of partitions
	holders [][]holder           // by partition
}

// holder is a device that holds something of a partition, and the place of that in its list.
type holder struct{ device, at int32 }

// gather asks all devices of a ring, and some more.
func gather(ctx context.Context, ask Asker, p Policy, lost bool, more ...*ring.Device) (*held, error) {
	h := &held{Policy: p, place: map[*ring.Device]int{}, unknown: map[int]error{}}
	for d := range p.Ring.Devices() {
		h.place[d] = len(h.devices)
		h.devices = append(h.devices, d)
	}
	h.devices = append(h.devices, more...)
	h.by, h.holders = make([][]replwire.Holding, len(h.devices)), make([][]holder, p.Ring.Partitions())
	var mu sync.Mutex
	var all sync.WaitGroup
	turns := make(chan struct{}, together)
	for i, d := range h.devices {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			list, err := ask.Holdings(ctx, d, p.Index, p.Ring.PartPower(), lost)
			mu.Lock()
			defer mu.Unlock()
			if h.by[i] = list; err != nil {
				h.unknown[i], h.by[i] = err, nil
			}
		})
	}
	all.Wait()
	for i, list := range h.by {
		for at := range list {
			p := list[at].Partition
			h.holders[p] = append(h.holders[p], holder{int32(i), int32(at)})
		}
	}
	return h, ctx.Err()
}

// unknowns lists the devices that could not be asked.
func (h *held) unknowns() (list []Unknown) {
	for i, d := range h.devices {
		if err := h.unknown[i]; err != nil {
			list = append(list, Unknown{Place(d), err.Error()})
		}
	}
	return list
}

// copies is who holds what of a partition.
type copies struct {
	partition uint32
	primaries []int              // by device
	handoffs  []int              // who hold something of it and are no primaries
	of        []replwire.Holding // of the primaries, and then of the handoffs
	out       int                // primaries that could not be asked
	lacks     bool               // an object was found that lacks something
}

// each yields the partitions in order: all of them.
func (h *held) each(yield func(*copies) bool) {
	var room [8]*ring.Device
	for p, holders := range h.holders {
		c := &copies{partition: uint32(p)}
		for _, d := range h.Ring.AppendPrimaries(room[:0], ring.Partition(p)) {
			i := h.place[d]
			if h.unknown[i] != nil {
				c.out++
			}
			c.primaries = append(c.primaries, i)
			c.of = append(c.of, h.of(holders, i))
		}
		for _, one := range holders {
			if i := int(one.device); !slices.Contains(c.primaries, i) {
				c.handoffs = append(c.handoffs, i)
				c.of = append(c.of, h.by[i][one.at])
			}
		}
		if !yield(c) {
			return
		}
	}
}

// of is what a device holds, if it is one of the holders.
func (h *held) of(holders []holder, device int) (none replwire.Holding) {
	for _, one := range holders {
		if int(one.device) == device {
			return h.by[device][one.at]
		}
	}
	return none
}
