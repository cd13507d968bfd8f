package node

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"martlet/internal/policy"
	"martlet/ring"
)

// codedRings saves rings of six devices, that of policy 1 with so many replicas.
func codedRings(t *testing.T, replicas int) (string, policy.Set) {
	t.Helper()
	dir := t.TempDir()
	for name, n := range map[string]int{"account": 3, "container": 3, "object": 3, "object-1": replicas} {
		d := ring.Data{PartPower: 1, Version: 1}
		for i := range 6 {
			d.Devices = append(d.Devices, &ring.Device{ID: i, IP: "127.0.0.1", Port: 6200 + i, Name: "d", Weight: 1})
		}
		for i := range n {
			d.Rows = append(d.Rows, []uint32{uint32(i), uint32(5 - i)})
		}
		r, err := ring.New(d)
		if err == nil {
			err = r.Save(filepath.Join(dir, name+".ring.gz"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	set, err := policy.NewSet([]policy.Policy{{Name: "gold", Default: true}, {Index: 1, Name: "ec42", Data: 4, Parity: 2}})
	if err != nil {
		t.Fatal(err)
	}
	return dir, set
}

// TestRingsOfErasureCoding: fragments have the whole ring, commits the first replicas of it, and
// each file is looked at once.
func TestRingsOfErasureCoding(t *testing.T) {
	all, err := openRings(codedRings(t, 6))
	if err != nil {
		t.Fatal(err)
	}
	commits, fragments := all.objects[1].Ring(), all.objects[policy.Index(1).Fragments()].Ring()
	if commits.ReplicaCount() != 4 || fragments.ReplicaCount() != 6 {
		t.Errorf("%d replicas of commits, %d of fragments; want 4 and 6", commits.ReplicaCount(), fragments.ReplicaCount())
	}
	if all.needs[1] != 3 || all.needs[policy.Index(1).Fragments()] != 5 || len(all.needs) != 2 {
		t.Errorf("quorums %v", all.needs)
	}
	var files []string
	for name := range all.named {
		files = append(files, name)
	}
	slices.Sort(files)
	if want := []string{"account", "container", "object", "object-1"}; !slices.Equal(files, want) {
		t.Errorf("files %v, want %v", files, want)
	}
}

func TestRingOfAnotherShape(t *testing.T) {
	if _, err := openRings(codedRings(t, 5)); err == nil || !strings.Contains(err.Error(), `object-1 has 5 replicas, and the policy "ec42" of erasure coding needs 4+2`) {
		t.Errorf("a ring of five replicas for 4+2: %v", err)
	}
}
