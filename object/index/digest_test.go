package index

import (
	"errors"
	"math/rand/v2"
	"testing"

	"martlet/internal/name"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
)

// TestAnotherDepth opens an index with one depth after the other: the files have what all
// of them want.
func TestAnotherDepth(t *testing.T) {
	disk := vfs.NewMem()
	r := rand.New(rand.NewPCG(17, 17))
	var log []event
	for i := range 600 {
		e := event{at(i), Key{Hash: name.Hash{byte(r.IntN(3)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}}, usual(r)}
		if i%7 == 6 {
			e.key, e.new = log[i-3].key, Entry{}
		}
		log = append(log, e)
	}
	done := 0
	for _, depth := range []int{12, 20, 8, 19, 12} {
		cfg := config(disk)
		cfg.Depth = depth
		ix, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := same(ix, modelOf(log[:done])); err != nil {
				t.Fatalf("depth %d: %v", depth, err)
			}
			for _, power := range []int{8, 16, 20} {
				from := log[done].key.raw()
				got, err := ix.Digest(Set{}, power, from.prefix(power))
				if want := modelOf(log[:done]).digest(Set{}, power, from.prefix(power)); err != nil || got != want {
					t.Fatalf("depth %d, power %d: got %v, %v, want %v", depth, power, got, err, want)
				}
			}
			done += 50
			if err := errors.Join(replay(ix, log[:done], seglog.Position{}), ix.Checkpoint(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		if err := ix.MergeAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		ix.Close()
	}
	if done >= len(log) {
		t.Fatal("there are too few events")
	}
}
