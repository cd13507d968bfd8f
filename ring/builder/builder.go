// Package builder decides which devices hold which partitions of a ring.
//
// A Builder is told of devices and their weights; Rebalance assigns every replica of
// every partition. It promises, in this order:
//
//   - The replicas of a partition are on as many regions as there can be, within
//     that on as many zones, then nodes (addresses), then devices: never two on one
//     device while there are at least as many devices with weight as replicas.
//   - Each region, zone, node and device has what its weight asks for, to one
//     partition, as far as the first rule lets it.
//   - What need not move stays, at the same place in the order of replicas.
//   - Equal builders given equal seeds end up equal.
//
// It leaves to others the lookup and the ring file (package ring), and moving data.
// DESIGN.md beside package ring explains the algorithm.
package builder

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"martlet/ring"
)

var (
	// ErrDevice is wrapped by errors about a device that can't be added, or isn't there.
	ErrDevice = errors.New("bad device")
	// ErrNoWeight says that no device is left that wants partitions.
	ErrNoWeight = errors.New("no device has weight")
	// ErrNotBalanced says that Rebalance has never been called.
	ErrNotBalanced = errors.New("not balanced yet")
)

// Weights, where not 0, stay within bounds that keep shares exact.
const (
	MinWeight = 1e-6
	MaxWeight = 1e9
)

// Builder is the state that rings are made from. It is not safe for concurrent use.
type Builder struct {
	partPower int
	replicas  int
	version   int64 // counts changes, and becomes the ring's
	devices   []*member
	rows      [][]uint32 // a row per replica; nil before the first Rebalance
}

// member is a device. One that is removed holds its partitions until a Rebalance.
type member struct {
	ring.Device
	Removed bool `json:"removed,omitempty"`
}

// wants is the weight that counts.
func (m *member) wants() float64 {
	if m == nil || m.Removed {
		return 0
	}
	return m.Weight
}

// New makes a builder for 2^partPower partitions of that many replicas.
func New(partPower, replicas int) (*Builder, error) {
	switch {
	case partPower < ring.MinPartPower || partPower > ring.MaxPartPower:
		return nil, fmt.Errorf("part power %d is not within %d and %d", partPower, ring.MinPartPower, ring.MaxPartPower)
	case replicas < 1 || replicas > ring.MaxReplicas:
		return nil, fmt.Errorf("%d replicas are not within 1 and %d", replicas, ring.MaxReplicas)
	case int64(replicas)<<partPower > ring.MaxAssignments:
		return nil, fmt.Errorf("part power %d with %d replicas is more than a ring holds", partPower, replicas)
	}
	return &Builder{partPower: partPower, replicas: replicas}, nil
}

// Add takes in a device, which gets partitions at the next Rebalance, and returns the
// id it was given: the lowest that is free. The ID in dev doesn't matter. An address
// and name that another device has already are refused, as they'd be the same disk.
func (b *Builder) Add(dev ring.Device) (id int, err error) {
	id = slices.Index(b.devices, nil)
	if id < 0 {
		id = len(b.devices)
	}
	dev.ID = id
	if err := dev.Validate(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDevice, err)
	}
	if err := checkWeight(dev.Weight); err != nil {
		return 0, err
	}
	for _, m := range b.devices {
		if m != nil && !m.Removed && m.IP == dev.IP && m.Port == dev.Port && m.Name == dev.Name {
			return 0, fmt.Errorf("%w: %s/%s is there already, as device %d", ErrDevice, dev.Addr(), dev.Name, m.ID)
		}
	}
	if id == len(b.devices) {
		b.devices = append(b.devices, nil)
	}
	b.devices[id] = &member{Device: dev}
	b.version++
	return id, nil
}

// Remove says that a device is to go. The next Rebalance takes all its partitions
// away and forgets it; until then it is still in the ring.
func (b *Builder) Remove(id int) error {
	m, err := b.member(id)
	if err != nil {
		return err
	}
	m.Removed = true
	b.version++
	return nil
}

// SetWeight changes what a device gets at the next Rebalance. With 0 it is emptied
// but stays in the ring.
func (b *Builder) SetWeight(id int, weight float64) error {
	m, err := b.member(id)
	if err != nil {
		return err
	}
	if err := checkWeight(weight); err != nil {
		return err
	}
	m.Weight = weight
	b.version++
	return nil
}

func (b *Builder) member(id int) (*member, error) {
	if id < 0 || id >= len(b.devices) || b.devices[id] == nil || b.devices[id].Removed {
		return nil, fmt.Errorf("%w: there is no device %d", ErrDevice, id)
	}
	return b.devices[id], nil
}

func checkWeight(w float64) error {
	if w != 0 && !(MinWeight <= w && w <= MaxWeight) {
		return fmt.Errorf("%w: weight %v is neither 0 nor within %v and %v", ErrDevice, w, MinWeight, MaxWeight)
	}
	return nil
}

// Devices yields the devices by rising id, without those that were removed.
func (b *Builder) Devices() iter.Seq[ring.Device] {
	return func(yield func(ring.Device) bool) {
		for _, m := range b.devices {
			if m != nil && !m.Removed && !yield(m.Device) {
				return
			}
		}
	}
}

// Rebalance assigns what has no device, drains what was removed or has no weight,
// and evens out the rest. It returns how many replicas of partitions have another
// device than before, those that had none included. On an error nothing is changed.
func (b *Builder) Rebalance(seed uint64) (moved int, err error) {
	rows, moved, err := b.assign(seed)
	if err != nil {
		return 0, err
	}
	changed := moved > 0
	for id, m := range b.devices {
		if m != nil && m.Removed {
			b.devices[id] = nil
			changed = true
		}
	}
	b.rows = rows
	if changed {
		b.version++
	}
	return moved, nil
}

// Ring is the ring as the last Rebalance left it, with the devices of now.
func (b *Builder) Ring() (*ring.Ring, error) {
	if b.rows == nil {
		return nil, ErrNotBalanced
	}
	return ring.New(b.data())
}

func (b *Builder) data() ring.Data {
	devices := make([]*ring.Device, len(b.devices))
	for id, m := range b.devices {
		if m != nil {
			devices[id] = &m.Device
		}
	}
	return ring.Data{Devices: devices, PartPower: b.partPower, Version: b.version, Rows: b.rows}
}
