package quorum

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/ring"
)

// placeOn returns a place on so many nodes, by their numbers.
func placeOn(port int, nodes ...int) Place {
	p := Place{Partition: 7}
	for _, n := range nodes {
		p.Primaries = append(p.Primaries, &ring.Device{IP: fmt.Sprintf("127.0.0.%d", n), Port: port, Name: "d"})
	}
	return p
}

func TestUpdatesCoverTheContainer(t *testing.T) {
	for _, tt := range []struct {
		objects, container []int
		told               []string // by each slot; nodes
	}{
		{[]int{11, 12, 13}, []int{1, 2, 3}, []string{"1", "2", "3"}},
		{[]int{11, 12}, []int{1, 2, 3}, []string{"1,3", "2"}},
		{[]int{11}, []int{1, 2, 3}, []string{"1,2,3"}},
		{[]int{11, 12, 13, 14}, []int{1, 2, 3}, []string{"1", "2", "3", ""}},

		// What a node has is told by itself.
		{[]int{1, 2, 3}, []int{3, 1, 2}, []string{"1", "2", "3"}},
		{[]int{1, 2, 4}, []int{3, 1, 2}, []string{"1", "2", "3"}},
		{[]int{4, 2, 1}, []int{1, 2, 3}, []string{"3", "2", "1"}},
		{[]int{3, 4, 5}, []int{1, 2, 3}, []string{"3", "1", "2"}},
		{[]int{11, 12, 13, 14, 3, 15}, []int{1, 2, 3}, []string{"1", "2", "", "", "3", ""}},
		{[]int{2, 1}, []int{1, 2, 3}, []string{"2,3", "1"}},
		{[]int{2}, []int{1, 2, 3}, []string{"2,1,3"}},
		{[]int{1, 1, 2}, []int{1, 1, 1}, []string{"1", "1", "1"}},
		{[]int{2, 1, 1}, []int{1, 3, 1}, []string{"3", "1", "1"}},
	} {
		container := placeOn(6201, tt.container...)
		for slot, h := range Updates(placeOn(6200, tt.objects...), container) {
			want := ""
			for n := range strings.SplitSeq(tt.told[slot], ",") {
				if n != "" {
					want += ",127.0.0." + n + ":6201"
				}
			}
			want = strings.TrimPrefix(want, ",")
			if got := h.Get(backend.ContainerHost); got != want {
				t.Errorf("objects on %v, container on %v: slot %d tells %q, want %q", tt.objects, tt.container, slot, got, want)
			}
			if want != "" && (h.Get(backend.ContainerPart) != "7" || strings.Count(h.Get(backend.ContainerDevice), ",") != strings.Count(want, ",")) {
				t.Errorf("slot %d: %v", slot, h)
			}
		}
	}
}

// Each replica of a container is told once, by slots that tell as few as can be, whoever has what.
func TestUpdatesAreEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := rapid.IntRange(1, 6)
		object := placeOn(6200, rapid.SliceOfN(node, 1, 9).Draw(t, "object")...)
		container := placeOn(6201, rapid.SliceOfN(node, 1, 7).Draw(t, "container")...)
		var want, got []string
		for i, d := range container.Primaries {
			d.Name = fmt.Sprint("d", i)
			want = append(want, d.Addr()+"/"+d.Name)
		}
		least, most := len(want), 0
		for _, h := range Updates(object, container) {
			n := 0
			if len(h) > 0 {
				hosts, devices := strings.Split(h.Get(backend.ContainerHost), ","), strings.Split(h.Get(backend.ContainerDevice), ",")
				if n = len(hosts); n != len(devices) {
					t.Fatalf("%v", h)
				}
				for i := range hosts {
					got = append(got, hosts[i]+"/"+devices[i])
				}
			}
			least, most = min(least, n), max(most, n)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("told are %q, want %q", got, want)
		}
		if most-least > 1 {
			t.Fatalf("one slot tells %d, another %d", least, most)
		}
	})
}
