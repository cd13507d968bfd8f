package builder

import (
	"errors"
	"fmt"
	"slices"

	"martlet/ring"
)

// IncreasePartPower doubles the number of partitions. Both halves of a partition are
// where it was, so that no data moves: what is stored is found by its hash. The next
// Rebalance may then spread halves apart. The error wraps ErrSetting where a ring
// can't hold as many.
func (b *Builder) IncreasePartPower() error {
	if b.partPower+1 > ring.MaxPartPower || 2*b.total() > ring.MaxAssignments {
		return fmt.Errorf("%w: part power %d is the highest that a ring of %v replicas can have", ErrSetting, b.partPower, b.Replicas())
	}
	rows := make([][]uint32, len(b.rows))
	for i, row := range b.rows {
		rows[i] = twice(row)
	}
	if b.rows != nil {
		b.rows = rows
	}
	if b.moved != nil {
		b.moved = twice(b.moved)
	}
	b.partPower++
	b.last *= 2
	b.version++
	return nil
}

// twice repeats each number.
func twice(numbers []uint32) []uint32 {
	double := make([]uint32, 0, 2*len(numbers))
	for _, n := range numbers {
		double = append(double, n, n)
	}
	return double
}

// ErrCompose is wrapped by errors about builders that can't be laid together.
var ErrCompose = errors.New("rings can't be composed")

// Compose lays the rings of builders together into one of one policy: a partition's
// replicas are those that it has in the first, then those in the second, and so on.
// The builders, each of regions of its own, stay what is rebalanced: no replica ever
// crosses from one to the other.
//
// All must be balanced, and have one part power and whole numbers of replicas.
// Device ids are given anew, in order of the builders and of the ids there, holes
// included, so that they are the same as long as the builders before have no more
// devices. The version is the sum of the builders', which grows as any of them
// changes. The error wraps ErrCompose.
func Compose(builders []*Builder) (*ring.Ring, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrCompose, fmt.Sprintf(format, args...))
	}
	if len(builders) == 0 {
		return nil, bad("there are none")
	}
	var data ring.Data
	data.PartPower = builders[0].partPower
	regions := map[int]int{}
	disks := map[disk]int{}
	for n, b := range builders {
		switch {
		case b.rows == nil:
			return nil, bad("component %d: %v", n+1, ErrNotBalanced)
		case b.partPower != data.PartPower:
			return nil, bad("component %d has part power %d, the first has %d", n+1, b.partPower, data.PartPower)
		case len(b.rows[len(b.rows)-1]) != b.Partitions():
			return nil, bad("component %d has a fraction of a replica", n+1)
		}
		first := len(data.Devices)
		for _, m := range b.devices {
			if m == nil {
				data.Devices = append(data.Devices, nil)
				continue
			}
			if other, ok := regions[m.Region]; ok && other != n {
				return nil, bad("region %d is in components %d and %d", m.Region, other+1, n+1)
			}
			regions[m.Region] = n
			if other, ok := disks[diskOf(&m.Device)]; ok && other != n {
				return nil, bad("%s/%s is in components %d and %d", m.Addr(), m.Name, other+1, n+1)
			}
			disks[diskOf(&m.Device)] = n
			own := m.Device
			own.ID = len(data.Devices)
			data.Devices = append(data.Devices, &own)
		}
		for _, row := range b.rows {
			row = slices.Clone(row)
			for p := range row {
				row[p] += uint32(first)
			}
			data.Rows = append(data.Rows, row)
		}
		data.Version += b.version
	}
	r, err := ring.New(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCompose, err)
	}
	return r, nil
}
