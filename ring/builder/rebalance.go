package builder

import (
	"errors"
	"math/rand/v2"
)

// none stands for no device.
const none = 1<<32 - 1

// errStuck says that the algorithm is at fault: an assignment that meets all quotas
// always exists.
var errStuck = errors.New("rebalance found no way to meet its quotas")

// assignment is one Rebalance at work. A slot is one replica of one partition:
// slot = partition*replicas + replica.
type assignment struct {
	tree
	partitions int
	replicas   int
	from       []uint32 // by slot, the device it may stay on, or none
	to         []uint32 // by slot, the device it gets
	rng        *rand.Rand
}

// assign works out the rows that b should have.
func (b *Builder) assign(seed uint64) (rows [][]uint32, moved int, err error) {
	a := &assignment{
		tree:       newTree(b.devices),
		partitions: 1 << b.partPower,
		replicas:   b.replicas,
		rng:        rand.New(rand.NewPCG(seed, uint64(b.partPower)<<32|uint64(b.replicas))),
	}
	if len(a.root.children) == 0 {
		return nil, 0, ErrNoWeight
	}
	a.start(b.rows)
	a.root.quota = a.partitions * a.replicas
	a.root.want = float64(a.root.quota)
	a.root.share(a.partitions)

	all := make([]int32, a.root.quota)
	for i := range all {
		all[i] = int32(i)
	}
	if err := a.place(a.root, all); err != nil {
		return nil, 0, err
	}
	rows, moved = a.finish(b.rows)
	return rows, moved, nil
}

// start takes over what the rows have on devices with weight.
func (a *assignment) start(rows [][]uint32) {
	a.from = make([]uint32, a.partitions*a.replicas)
	a.to = make([]uint32, len(a.from))
	for slot := range a.from {
		a.from[slot] = none
	}
	for replica, row := range rows {
		for p, id := range row {
			if a.chains[id] == nil {
				continue
			}
			a.from[p*a.replicas+replica] = id
			for _, t := range a.chains[id] {
				t.held++
			}
		}
	}
}

// place gives every one of the slots, which are sorted, a device within t.
func (a *assignment) place(t *tier, slots []int32) error {
	if t.kind == device {
		for _, slot := range slots {
			a.to[slot] = uint32(t.id)
		}
		return nil
	}
	shares := [][]int32{slots}
	if len(t.children) > 1 {
		var err error
		if shares, err = a.divide(t, slots); err != nil {
			return err
		}
	}
	for i, c := range t.children {
		if err := a.place(c, shares[i]); err != nil {
			return err
		}
		shares[i] = nil // the memory is wanted further down
	}
	return nil
}

// release takes a slot off its device, and off the tiers below t that it is in.
func (a *assignment) release(t *tier, slot int32) {
	for _, c := range a.chains[a.from[slot]][t.kind+1:] {
		c.held--
	}
	a.from[slot] = none
}

// spare says by how much the tiers below t that a slot is in hold more than they
// should, the least of them. Where it is above 0, taking the slot away is a step
// towards the quotas everywhere, and nothing need come back in its stead.
func (a *assignment) spare(t *tier, slot int32) int {
	chain := a.chains[a.from[slot]]
	least := chain[device].held - chain[device].quota
	for _, c := range chain[t.kind+1 : device] {
		least = min(least, c.held-c.quota)
	}
	return least
}

// finish makes rows of the result. Where a partition both lost and got the same
// device, its replica stays in its row, and doesn't count as moved.
func (a *assignment) finish(before [][]uint32) (rows [][]uint32, moved int) {
	rows = make([][]uint32, a.replicas)
	for i := range rows {
		rows[i] = make([]uint32, a.partitions)
	}
	for p := range a.partitions {
		got := a.to[p*a.replicas : (p+1)*a.replicas]
		for i := range before {
			a.stay(got, before, p, i)
		}
		for i, id := range got {
			rows[i][p] = id
			if before == nil || before[i][p] != id {
				moved++
			}
		}
	}
	return rows, moved
}

// stay swaps the device that replica i of partition p had back to its row, if a
// replica that has moved got it.
func (a *assignment) stay(got []uint32, before [][]uint32, p, i int) {
	had := before[i][p]
	if got[i] == had {
		return
	}
	for j, id := range got {
		if id == had && before[j][p] != had {
			got[i], got[j] = got[j], got[i]
			return
		}
	}
}
