package quorum

import (
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/ring"
)

func TestUpdatesCoverTheContainer(t *testing.T) {
	place := Place{Partition: 7}
	for i := range 3 {
		place.Primaries = append(place.Primaries, &ring.Device{IP: "127.0.0.1", Port: 6200 + i, Name: "d"})
	}
	for objects, hosts := range map[int][]string{
		3: {"127.0.0.1:6200", "127.0.0.1:6201", "127.0.0.1:6202"},
		2: {"127.0.0.1:6200,127.0.0.1:6202", "127.0.0.1:6201"},
		1: {"127.0.0.1:6200,127.0.0.1:6201,127.0.0.1:6202"},
		4: {"127.0.0.1:6200", "127.0.0.1:6201", "127.0.0.1:6202", ""},
	} {
		got := Updates(objects, place)
		for i, h := range got {
			if h.Get(backend.ContainerHost) != hosts[i] {
				t.Errorf("%d objects, slot %d tells %q, want %q", objects, i, h.Get(backend.ContainerHost), hosts[i])
			}
			if hosts[i] != "" && (h.Get(backend.ContainerPart) != "7" || strings.Count(h.Get(backend.ContainerDevice), ",") != strings.Count(hosts[i], ",")) {
				t.Errorf("slot %d: %v", i, h)
			}
		}
	}
}
