// Package builder decides which devices hold which partitions of a ring.
//
// A Builder is told of devices and their weights; Rebalance assigns every replica of
// every partition, or brings what is assigned a step nearer to that. It promises:
//
//   - Each device has what its target asks for, to one partition: by weight, but no
//     more than one replica of each partition; and, as far as the overload lets it,
//     shifted towards what spreads replicas evenly over regions, zones and nodes.
//   - Of no partition does a region, zone, node or device hold more replicas than its
//     target, rounded up, or fewer than that rounded down, once all is done.
//   - What need not move stays, at the same place in the order of replicas.
//   - Of one partition at most one replica moves in a Rebalance, and none before
//     MinPartHours have passed since the last one did, or when it loses one because
//     there are to be fewer: so that the others are there while it is copied. What was
//     on removed devices is assigned at once all the same.
//   - Equal builders given equal options end up equal.
//
// It leaves to others the lookup and the ring file (package ring), what a change
// means in bytes and hours (package ring/forecast), and moving data. DESIGN.md beside
// package ring explains the algorithm.
package builder

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"

	"martlet/ring"
)

var (
	// ErrDevice is wrapped by errors about a device that can't be added, or isn't there.
	ErrDevice = errors.New("bad device")
	// ErrSetting is wrapped by errors about a number that a builder can't have.
	ErrSetting = errors.New("bad setting")
	// ErrTooFew says that there are fewer devices with weight than a partition has
	// replicas.
	ErrTooFew = errors.New("too few devices")
	// ErrNotBalanced says that Rebalance has never been called.
	ErrNotBalanced = errors.New("not balanced yet")
)

const (
	// MinWeight is the least weight but 0. The bounds keep shares exact.
	MinWeight = 1e-6
	// MaxWeight is the greatest weight.
	MaxWeight = 1e9

	// MaxOverload bounds the overload: a device with ten thousand times its share.
	MaxOverload = 1e4

	// MaxMinPartHours bounds MinPartHours; a year.
	MaxMinPartHours = 8784
)

// Builder is the state that rings are made from. It is not safe for concurrent use.
type Builder struct {
	partPower    int
	last         int // partitions of the last row
	rowCount     int // rows: the replicas, rounded up
	minPartHours int
	overload     float64
	version      int64 // counts changes, and becomes the ring's
	devices      []*member
	rows         [][]uint32 // a row per replica; nil before the first Rebalance

	// moved is by partition when one of its replicas last moved, in seconds of Unix
	// time; 0 for long ago. It is nil where all are.
	moved []uint32
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

// New makes a builder for 2^partPower partitions. Replicas, from 1 to
// ring.MaxReplicas, need not be a whole number: with 3.25, a quarter of the
// partitions have 4 and the others 3. The error wraps ErrSetting.
func New(partPower int, replicas float64, minPartHours int) (*Builder, error) {
	if partPower < ring.MinPartPower || partPower > ring.MaxPartPower {
		return nil, fmt.Errorf("%w: part power %d is not within %d and %d", ErrSetting, partPower, ring.MinPartPower, ring.MaxPartPower)
	}
	b := &Builder{partPower: partPower, rowCount: 1, last: 1 << partPower}
	if err := b.SetReplicas(replicas); err != nil {
		return nil, err
	}
	if err := b.SetMinPartHours(minPartHours); err != nil {
		return nil, err
	}
	b.version = 0
	return b, nil
}

// FromRing makes a builder that goes on from a ring whose own was lost. What a ring
// does not tell is as in a new builder: the overload is 0, and every partition may
// move. A ring that has one disk as two devices is refused, as both would be one place
// for two replicas. The error wraps ErrSetting or ErrDevice.
func FromRing(r *ring.Ring, minPartHours int) (*Builder, error) {
	b := &Builder{partPower: r.PartPower(), version: r.Version(), rows: r.Rows()}
	b.rowCount, b.last = len(b.rows), len(b.rows[len(b.rows)-1])
	if err := b.SetMinPartHours(minPartHours); err != nil {
		return nil, err
	}
	b.version = r.Version()
	for d := range r.Devices() {
		for len(b.devices) <= d.ID {
			b.devices = append(b.devices, nil)
		}
		b.devices[d.ID] = &member{Device: *d}
		if w := d.Weight; w != 0 {
			b.devices[d.ID].Weight = min(max(w, MinWeight), MaxWeight)
		}
	}
	if err := b.checkDisks(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDevice, err)
	}
	return b, nil
}

// Clone returns a builder that is equal and has nothing in common.
func (b *Builder) Clone() *Builder {
	c := *b
	c.devices = make([]*member, len(b.devices))
	for id, m := range b.devices {
		if m != nil {
			own := *m
			c.devices[id] = &own
		}
	}
	c.rows = slices.Clone(b.rows)
	for i, row := range c.rows {
		c.rows[i] = slices.Clone(row)
	}
	c.moved = slices.Clone(b.moved)
	return &c
}

// PartPower is the binary logarithm of the number of partitions.
func (b *Builder) PartPower() int { return b.partPower }

// Partitions is the number of partitions.
func (b *Builder) Partitions() int { return 1 << b.partPower }

// Replicas is how many replicas a partition has on average.
func (b *Builder) Replicas() float64 {
	return float64(b.rowCount-1) + float64(b.last)/float64(b.Partitions())
}

// MinPartHours is how many hours a partition is left alone after it has moved.
func (b *Builder) MinPartHours() int { return b.minPartHours }

// Overload is by how much, as a part of what its weight asks for, a device may hold
// more for the sake of spread.
func (b *Builder) Overload() float64 { return b.overload }

// Version counts the changes of the builder. It becomes that of its rings.
func (b *Builder) Version() int64 { return b.version }

// SetReplicas changes how many replicas partitions have, from the next Rebalance on:
// those that are new are assigned, those that are too many are forgotten, the last
// in the order of replicas. The fraction is rounded to whole partitions.
func (b *Builder) SetReplicas(replicas float64) error {
	if !(replicas >= 1 && replicas <= ring.MaxReplicas) {
		return fmt.Errorf("%w: %v replicas are not within 1 and %d", ErrSetting, replicas, ring.MaxReplicas)
	}
	partitions := float64(b.Partitions())
	total := math.Round(replicas * partitions)
	if total > ring.MaxAssignments {
		return fmt.Errorf("%w: part power %d with %v replicas is more than the %d assignments of a ring",
			ErrSetting, b.partPower, replicas, ring.MaxAssignments)
	}
	b.rowCount = int(math.Ceil(total / partitions))
	b.last = int(total) - (b.rowCount-1)*b.Partitions()
	b.version++
	return nil
}

// SetMinPartHours changes how long a partition is left alone after it has moved.
func (b *Builder) SetMinPartHours(hours int) error {
	if hours < 0 || hours > MaxMinPartHours {
		return fmt.Errorf("%w: min_part_hours %d is not within 0 and %d", ErrSetting, hours, MaxMinPartHours)
	}
	b.minPartHours = hours
	b.version++
	return nil
}

// SetOverload changes by how much devices may hold more than their weights ask for,
// where that spreads replicas better: 0.1 is a tenth.
func (b *Builder) SetOverload(overload float64) error {
	if !(overload >= 0 && overload <= MaxOverload) {
		return fmt.Errorf("%w: overload %v is not within 0 and %v", ErrSetting, overload, MaxOverload)
	}
	b.overload = overload
	b.version++
	return nil
}

// PretendMinPartHoursPassed lets the next Rebalance move any partition. It is for
// when nothing is being copied: what moves next may be what moved last.
func (b *Builder) PretendMinPartHoursPassed() {
	b.moved = nil
	b.version++
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
	if err := b.check(&dev); err != nil {
		return 0, err
	}
	if id == len(b.devices) {
		b.devices = append(b.devices, nil)
	}
	b.devices[id] = &member{Device: dev}
	b.version++
	return id, nil
}

// check refuses a device that can't be in the builder as that, wrapping ErrDevice.
func (b *Builder) check(dev *ring.Device) error {
	if err := dev.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrDevice, err)
	}
	if err := checkWeight(dev.Weight); err != nil {
		return err
	}
	for _, m := range b.devices {
		if m != nil && !m.Removed && m.ID != dev.ID && m.Name == dev.Name && m.Port == dev.Port && diskOf(&m.Device) == diskOf(dev) {
			return fmt.Errorf("%w: %s/%s is there already, as device %d", ErrDevice, dev.Addr(), dev.Name, m.ID)
		}
	}
	return nil
}

// disk is what makes two devices one: a place and a name.
type disk struct {
	host string
	port int
	name string
}

func diskOf(d *ring.Device) disk {
	host := strings.ToLower(strings.Trim(d.IP, "[]"))
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String() // an IPv6 address can be written in many ways
	}
	return disk{host, d.Port, d.Name}
}

// checkDisks finds devices that are one disk, those that are to go left out.
func (b *Builder) checkDisks() error {
	ids := map[disk]int{}
	for id, m := range b.devices {
		if m == nil || m.Removed {
			continue
		}
		at := diskOf(&m.Device)
		if other, ok := ids[at]; ok {
			return fmt.Errorf("devices %d and %d are one disk: ip %q, port %d, device %q", other, id, m.IP, m.Port, m.Name)
		}
		ids[at] = id
	}
	return nil
}

// Set replaces what is known of the device that has dev's id: everything but the id
// may be another. A device whose region, zone or address changes keeps its
// partitions until a Rebalance finds that they are not spread as they should be.
func (b *Builder) Set(dev ring.Device) error {
	m, err := b.member(dev.ID)
	if err != nil {
		return err
	}
	if err := b.check(&dev); err != nil {
		return err
	}
	m.Device = dev
	b.version++
	return nil
}

// Remove says that a device is to go. The next Rebalance takes all its partitions
// away and forgets it; until then it is still in the ring, and its id is not free.
func (b *Builder) Remove(id int) error {
	m, err := b.member(id)
	if err != nil {
		return err
	}
	m.Removed = true
	b.version++
	return nil
}

// SetWeight changes what a device gets at the next Rebalance. With 0 it is emptied,
// as fast as min_part_hours let it, but stays in the ring.
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
	if id < 0 || id >= len(b.devices) || b.devices[id] == nil {
		return nil, fmt.Errorf("%w: there is no device %d", ErrDevice, id)
	}
	if b.devices[id].Removed {
		return nil, fmt.Errorf("%w: device %d is removed, and goes with the next rebalance", ErrDevice, id)
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

// Removed yields the devices that are removed and not yet gone, by rising id.
func (b *Builder) Removed() iter.Seq[ring.Device] {
	return func(yield func(ring.Device) bool) {
		for _, m := range b.devices {
			if m != nil && m.Removed && !yield(m.Device) {
				return
			}
		}
	}
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

// partitionsOf is how many partitions the row of a replica has.
func (b *Builder) partitionsOf(row int) int {
	if row == b.rowCount-1 {
		return b.last
	}
	return b.Partitions()
}
