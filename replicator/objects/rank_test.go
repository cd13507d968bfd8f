package objects

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

// Of those that have what a primary lacks, each partition has one who is the first to bring it, and
// all of them have about as many to begin with.
func TestRank(t *testing.T) {
	const partitions = 256
	data := ring.Data{PartPower: 8}
	for i := range 3 {
		ip := fmt.Sprint("127.0.0.", i+1)
		data.Devices = append(data.Devices, &ring.Device{ID: i, Zone: i, IP: ip, Port: 1, ReplicationIP: ip, ReplicationPort: 2, Name: "d", Weight: 1})
		row := make([]uint32, partitions)
		for p := range row {
			row[p] = uint32(i)
		}
		data.Rows = append(data.Rows, row)
	}
	r, err := ring.New(data)
	if err != nil {
		t.Fatal(err)
	}
	lacks := diff{peer: &peer{"127.0.0.3:2", "d"}}
	var first [2]int
	for at := range uint32(partitions) {
		var ranks []int
		for i := range 2 {
			p := &pass{Objects: &Objects{Deps: Deps{Self: hosts.At(netip.MustParseAddrPort(fmt.Sprintf("127.0.0.%d:2", i+1)), nil)}}, device: "d"}
			of := &part{ring: r, mine: replwire.Extent{Range: name.PartitionRange(8, at), Objects: 1}, differ: []diff{lacks}}
			rank := p.rank(of)
			if ranks = append(ranks, rank); rank == 0 {
				first[i]++
			}
		}
		if slices.Sort(ranks); !slices.Equal(ranks, []int{0, 1}) {
			t.Fatalf("partition %d: the ranks are %v, want 0 and 1", at, ranks)
		}
	}
	if min(first[0], first[1]) < partitions/4 {
		t.Errorf("they begin with %v of %d partitions", first, partitions)
	}
}
