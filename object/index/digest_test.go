//go:build !race

package index

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

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

// TestDigestBefore has two indexes that were told of the same up to a time, and of later
// changes each of other ones: as of that time they agree, however each has kept them.
func TestDigestBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const line = 1000 // ticks
		early := rapid.SliceOfN(genKey, 0, 20).Draw(t, "early")
		stamped := func(e Entry, ticks int64) Entry {
			e.Times.Data, e.Times.ContentType, e.Times.Meta = stamp(ticks-2), stamp(ticks-1), stamp(ticks)
			return e
		}
		genKept := genEntry.Filter(func(e Entry) bool { return e.Kind != Absent })
		var log []event
		for i, k := range early {
			log = append(log, event{at(i), k, stamped(genKept.Draw(t, "entry"), line-int64(len(early)-i))})
		}
		want := modelOf(log)
		for _, side := range []string{"one", "other"} {
			ix, err := Open(config(vfs.NewMem()))
			if err != nil {
				t.Fatal(err)
			}
			defer ix.Close()
			log := slices.Clone(log)
			step := func(what string) {
				switch rapid.SampledFrom([]string{"", "freeze", "checkpoint"}).Draw(t, side+what) {
				case "freeze":
					if _, _, err := ix.freeze(); err != nil {
						t.Fatal(err)
					}
				case "checkpoint":
					if what != "" { // what is recent is in memory
						return
					}
					if err := ix.Checkpoint(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
			}
			apply := func(e event) {
				log = append(log, e)
				if err := replay(ix, log[len(log)-1:], e.at); err != nil {
					t.Fatal(err)
				}
			}
			if err := replay(ix, log, seglog.Position{}); err != nil {
				t.Fatal(err)
			}
			step("")
			changed := map[Key]bool{}
			for _, k := range rapid.SliceOfN(genKey, 0, 20).Draw(t, side+" late") {
				raw := k.raw()
				if ix.active.get(&raw) != nil && !changed[k] {
					continue // of an early and a late change in one table the early one is not known
				}
				changed[k] = true
				apply(event{at(len(log)), k, stamped(genKept.Draw(t, "later"), line+int64(len(log)))})
				step(" late")
			}
			for _, s := range []Set{{}, {Policy: 1}, {Part: 1}, {Policy: 1, Part: 3}} {
				for _, power := range []int{0, 1, 8, 12, 15} {
					for _, partition := range []uint32{0, 1<<power - 1} {
						got, err := ix.DigestBefore(s, power, partition, stamp(line))
						if want := want.digest(s, power, partition); err != nil || got != want {
							t.Fatalf("%s side, set %v, power %d, partition %d: got %v, %v, want %v", side, s, power, partition, got, err, want)
						}
						all, err := ix.DigestBefore(s, power, partition, stamp(1<<40))
						if want, _ := ix.Digest(s, power, partition); err != nil || all != want {
							t.Fatalf("%s side, before the end: got %v, %v, want %v", side, all, err, want)
						}
					}
				}
			}
		}
	})
}
