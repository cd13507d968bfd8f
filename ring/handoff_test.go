//go:build !race

package ring

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// checkVectors compares primaries and handoffs with those that Swift 2.30 gave for
// the same ring: a line per partition, "partition|primaries|handoffs".
func checkVectors(t *testing.T, r *Ring, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for scan := bufio.NewScanner(f); scan.Scan(); lines++ {
		var p Partition
		if _, err := fmt.Sscanf(scan.Text(), "%d|", &p); err != nil {
			t.Fatalf("line %q: %v", scan.Text(), err)
		}
		got := fmt.Sprintf("%d|%s|%s", p, ids(r.AppendPrimaries(nil, p)), ids(slices.Collect(r.Handoffs(p))))
		if got != scan.Text() {
			t.Errorf("got  %s\nwant %s", got, scan.Text())
		}
	}
	if lines < 10 {
		t.Errorf("%s has %d lines", path, lines)
	}
}

func TestHandoffsAreSwifts(t *testing.T) {
	r, err := Load("testdata/swift.ring.gz") // 64 partitions, 3.1875 replicas
	if err != nil {
		t.Fatal(err)
	}
	checkVectors(t, r, "testdata/swift.txt")
}

// TestHandoffsStepLikeSwift: above 65536 partitions the walk takes steps.
func TestHandoffsStepLikeSwift(t *testing.T) {
	const power, replicas = 17, 4
	list := make([]*Device, 40)
	var used []uint32
	for i := range list {
		if i%5 == 2 {
			continue
		}
		list[i] = &Device{ID: i, Region: i % 3, Zone: i % 4, IP: fmt.Sprintf("10.0.0.%d", i%11), Port: 6200, Name: fmt.Sprintf("d%d", i), Weight: 1}
		if i < 39 { // the last has no partitions, so it is nobody's handoff
			used = append(used, uint32(i))
		}
	}
	rows := make([][]uint32, replicas)
	for r := range rows {
		n := 1 << power
		if r == replicas-1 {
			n /= 3
		}
		for p := range n {
			rows[r] = append(rows[r], used[(uint64(p)*2654435761+uint64(r)*320742937)>>9%uint64(len(used))])
		}
	}
	checkVectors(t, mustNew(t, Data{Devices: list, PartPower: power, Rows: rows}), "testdata/swift-wide.txt")
}

// TestHandoffsSpread: no device twice, no primary, and new regions before new zones
// before new nodes before the rest.
func TestHandoffsSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "devices")
		list := make([]*Device, n)
		for i := range list {
			list[i] = &Device{
				ID: i, Region: rapid.IntRange(0, 2).Draw(t, "region"), Zone: rapid.IntRange(0, 2).Draw(t, "zone"),
				IP: fmt.Sprintf("10.0.0.%d", rapid.IntRange(0, 3).Draw(t, "node")), Port: 6200, Name: fmt.Sprintf("d%d", i),
			}
		}
		const power = 6
		rows := scatter(power, rapid.IntRange(1, 4).Draw(t, "replicas"), n)
		r, err := New(Data{Devices: list, PartPower: power, Rows: rows})
		if err != nil {
			t.Fatal(err)
		}
		p := Partition(rapid.IntRange(0, 1<<power-1).Draw(t, "partition"))
		seen := map[string]bool{}
		for _, d := range r.AppendPrimaries(nil, p) {
			novelty(seen, d)
		}
		last := 0
		for d := range r.Handoffs(p) {
			now := novelty(seen, d)
			if now == 4 {
				t.Fatalf("handoff %d of partition %d is a primary, or comes twice", d.ID, p)
			}
			if now < last {
				t.Fatalf("handoff %d of partition %d has a novelty of %d after %d", d.ID, p, now, last)
			}
			last = now
		}
	})
}

// novelty is 0 if nothing in the device's region was seen, then 1, 2, 3 for zone,
// node and device, and 4 if the device was; then it is seen.
func novelty(seen map[string]bool, d *Device) int {
	region := fmt.Sprint(d.Region)
	zone := fmt.Sprint(region, "/", d.Zone)
	node := fmt.Sprint(zone, "/", d.IP)
	n := 4
	for i, name := range []string{fmt.Sprint("#", d.ID), node, zone, region} {
		if !seen[name] {
			n = 3 - i
		}
		seen[name] = true
	}
	return n
}

func TestHandoffsStopWhenAsked(t *testing.T) {
	r := mustNew(t, Data{Devices: devices(20), PartPower: 8, Rows: scatter(8, 3, 20)})
	all := ids(slices.Collect(r.Handoffs(5)))
	for want := range 17 {
		var some []*Device
		for d := range r.Handoffs(5) {
			if len(some) == want {
				break
			}
			some = append(some, d)
		}
		if got := ids(some); len(some) != want || !strings.HasPrefix(all, got) {
			t.Errorf("the first %d: %s, want the beginning of %s", want, got, all)
		}
	}
}

// TestWideRings: ids that need more than 16 bits change nothing.
func TestWideRings(t *testing.T) {
	const power, n, up = 9, 90, 70_000
	list := devices(n)
	rows := scatter(power, 4, n)
	rows[3] = rows[3][:100]
	narrow := mustNew(t, Data{Devices: list, PartPower: power, Rows: rows})

	higher := make([]*Device, up, up+n)
	for _, d := range list {
		moved := *d
		moved.ID += up
		higher = append(higher, &moved)
	}
	for _, row := range rows {
		for p := range row {
			row[p] += up
		}
	}
	wide := mustNew(t, Data{Devices: higher, PartPower: power, Rows: rows})
	for _, row := range rows {
		clear(row) // a ring has copies
	}

	if got, want := wide.Replicas(), narrow.Replicas(); got != want {
		t.Errorf("%v replicas, want %v", got, want)
	}
	for p := range Partition(1 << power) {
		want := append(narrow.AppendPrimaries(nil, p), slices.Collect(narrow.Handoffs(p))...)
		got := append(wide.AppendPrimaries(nil, p), slices.Collect(wide.Handoffs(p))...)
		same := slices.EqualFunc(got, want, func(g, w *Device) bool { return g.ID == w.ID+up && g.Name == w.Name })
		if !same {
			t.Fatalf("partition %d: %s, want %s, each %d higher", p, ids(got), ids(want), up)
		}
	}
}

func BenchmarkHandoffs(b *testing.B) {
	r := fleet(b)
	for name, want := range map[string]int{"take1": 1, "take3": 3, "take10": 10, "all": len(r.devices)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			p := Partition(1)
			for b.Loop() {
				p = p*1664525 + 1013904223
				n := 0
				for range r.Handoffs(p >> 12) {
					if n++; n == want {
						break
					}
				}
			}
		})
	}
}
