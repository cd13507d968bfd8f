//go:build !race

package index

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

func TestModel(t *testing.T) {
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		disk := vfs.NewMem()
		var log []event
		now, kept := model{}, model{} // as of the last checkpoint
		var durable seglog.Position
		var keptCount tally
		ix, count, err := openTally(disk)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { ix.Close() }()
		reopen := func(t *rapid.T) {
			ix.Close()
			if ix, count, err = openTally(disk); err != nil {
				t.Fatal(err)
			}
			if ix.Position() != durable || ix.Applied() != ix.Position() || *count != keptCount {
				t.Fatalf("opened at %v with %v, want %v with %v", ix.Position(), *count, durable, keptCount)
			}
			if err := same(ix, kept); err != nil {
				t.Fatalf("opened at %v: %v", ix.Position(), err)
			}
			now = maps.Clone(kept)
			for _, e := range log[indexOf(log, durable):] {
				now.set(e.key, e.new)
			}
			from := ix.Position()
			if rapid.Bool().Draw(t, "replay all") {
				from = seglog.Position{}
			}
			if err := replay(ix, log, from); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				e := event{at(len(log)), genKey.Draw(t, "key"), genEntry.Draw(t, "entry")}
				old, err := ix.Get(e.key)
				if err != nil {
					t.Fatal(err)
				}
				log = append(log, e)
				now.set(e.key, e.new)
				c := Change{e.key, old, e.new}
				if !ix.ApplyWith(e.at, count.count(1), c) || ix.ApplyWith(e.at, count.count(1), c) {
					t.Fatal("applied not once")
				}
			},
			"amend": func(t *rapid.T) {
				c := Change{Key: genKey.Draw(t, "key"), New: genEntry.Draw(t, "entry")}
				if c.Old, err = ix.Get(c.Key); err != nil {
					t.Fatal(err)
				}
				now.set(c.Key, c.New)
				ix.Amend(count.count(2), c)
			},
			"again": func(t *rapid.T) {
				if err := replay(ix, log, seglog.Position{}); err != nil {
					t.Fatal(err)
				}
			},
			"checkpoint": func(t *rapid.T) {
				if err := ix.Checkpoint(ctx); err != nil {
					t.Fatal(err)
				}
				if durable = ix.Applied(); ix.Position() != durable {
					t.Fatalf("position is %v, want %v", ix.Position(), durable)
				}
				kept, keptCount = maps.Clone(now), *count
			},
			"merge": func(t *rapid.T) {
				if _, err := ix.Merge(ctx); err != nil {
					t.Fatal(err)
				}
			},
			"merge some": func(t *rapid.T) {
				n := rapid.IntRange(0, 3).Draw(t, "runs")
				if _, err := ix.merge(ctx, "test", func(all []int64) int { return min(n, len(all)) }); err != nil {
					t.Fatal(err)
				}
			},
			"merge all": func(t *rapid.T) {
				if err := ix.MergeAll(ctx); err != nil {
					t.Fatal(err)
				}
			},
			"due": func(t *rapid.T) {
				if err := checkDue(ix, now, rapid.SampledFrom([]uint32{0, 1, 9, 10, 25, math.MaxUint32}).Draw(t, "second")); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": reopen,
			"crash": func(t *rapid.T) {
				disk = disk.AfterCrash(rapid.Uint64().Draw(t, "seed"))
				reopen(t)
			},
			"": func(t *rapid.T) {
				if err := same(ix, now); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

// TestFaults fails each call to the disk, once and from then on, and looks what is
// there: in this process, and after power was lost.
func TestFaults(t *testing.T) {
	ctx := t.Context()
	log := spread(1, 30)
	const step = 5
	for _, forever := range []bool{false, true} {
		for n, fired := 0, true; fired; n++ {
			disk := vfs.NewMem()
			var options []vfs.FaultOption
			if forever {
				options = append(options, vfs.FaultForever())
			}
			faulty := vfs.FailAt(disk, n, options...)
			ix, err := Open(config(faulty))
			var acked seglog.Position
			done := 0
			if err == nil {
				for ; done < len(log) && err == nil; done += step {
					if err = replay(ix, log[:done+step], log[done].at); err != nil {
						break
					}
					if err = ix.Checkpoint(ctx); err == nil {
						acked = ix.Applied()
					}
					if err == nil && ix.Stats().Runs == 3 {
						_, err = ix.merge(ctx, "test", func([]int64) int { return 2 }) // not the oldest
					}
					if err == nil && done == len(log)-step {
						err = ix.MergeAll(ctx)
					}
				}
				if fired = faulty.Fired(); err != nil && !fired {
					t.Fatalf("fault %d: nothing fired, but %v", n, err)
				}
				broken := errors.Is(err, ErrBroken)
				if err != nil && !forever {
					nothing := ix.Applied() == ix.Position()
					again := ix.Checkpoint(ctx)
					if nothing && again != nil || !nothing && broken != errors.Is(again, ErrBroken) || !broken && again != nil {
						t.Fatalf("fault %d: after %v a checkpoint says %v", n, err, again)
					}
					if err := same(ix, modelOf(log[:min(len(log), indexOf(log, ix.Applied()))])); err != nil {
						t.Fatalf("fault %d: %v", n, err)
					}
					if again == nil {
						acked = ix.Applied()
					}
				}
				ix.Close()
			} else {
				fired = faulty.Fired()
			}
			for seed := range uint64(6) {
				after := disk.AfterCrash(seed)
				ix, err := Open(config(after))
				if err != nil {
					t.Fatalf("fault %d, seed %d: %v", n, seed, err)
				}
				if ix.Position().Less(acked) {
					t.Fatalf("fault %d, seed %d: opened at %v, was at %v", n, seed, ix.Position(), acked)
				}
				if err := same(ix, modelOf(log[:indexOf(log, ix.Position())])); err != nil {
					t.Fatalf("fault %d, seed %d: %v", n, seed, err)
				}
				if err := errors.Join(replay(ix, log, ix.Position()), ix.Checkpoint(ctx), same(ix, modelOf(log))); err != nil {
					t.Fatalf("fault %d, seed %d: %v", n, seed, err)
				}
				ix.Close()
			}
		}
	}
}

// TestDigestsAreThoseOfTheStates applies the same states in different orders, with
// what they replace in between, some of it twice.
func TestDigestsAreThoseOfTheStates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		last := map[Key]Entry{}
		for range rapid.IntRange(1, 20).Draw(t, "keys") {
			last[genKey.Draw(t, "key")] = genEntry.Draw(t, "entry")
		}
		var keys []Key
		for k := range last {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b Key) int { x, y := a.raw(), b.raw(); return x.compare(&y) })
		var want map[Set]Digest
		for side := range 2 {
			disk := vfs.NewMem()
			ix, err := Open(config(disk))
			if err != nil {
				t.Fatal(err)
			}
			var log []event
			for _, k := range rapid.Permutation(keys).Draw(t, "order") {
				for range rapid.IntRange(0, 2).Draw(t, "before") {
					log = append(log, event{at(len(log)), k, genEntry.Draw(t, "other")})
				}
				log = append(log, event{at(len(log)), k, last[k]})
			}
			for range 2 {
				if err := replay(ix, log, seglog.Position{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := ix.Check(context.Background()); err != nil {
				t.Fatal(err)
			}
			got := map[Set]Digest{}
			for _, s := range ix.Sets() {
				var sum Digest
				for p, err := range ix.Partitions(s, 12, timestamp.T{}) {
					if err != nil {
						t.Fatal(err)
					}
					sum = sum.Add(p.Digest)
				}
				if all, err := ix.Digest(s, 0, 0); err != nil || sum != all {
					t.Fatalf("partitions sum to %v, all is %v, %v", sum, all, err)
				}
				if !sum.IsZero() {
					got[s] = sum
				}
			}
			ix.Close()
			if side == 0 {
				want = got
			} else if len(got) != len(want) {
				t.Fatalf("got %v, want %v", got, want)
			}
			for s, d := range got {
				if d != want[s] {
					t.Fatalf("set %v: got %v, want %v", s, d, want[s])
				}
			}
		}
	})
}

// TestDamage flips bits of every byte: each is found, or does no harm.
func TestDamage(t *testing.T) {
	disk := vfs.NewMem()
	ix := mustOpen(t, disk)
	log := spread(4, 60)
	for _, n := range []int{30, 60} {
		if err := errors.Join(replay(ix, log[:n], ix.Applied()), ix.Checkpoint(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	names, err := disk.ReadDir("/index")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range names {
		file, err := disk.OpenFile(path.Join("/index", e.Name), os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		size, _ := file.Size()
		whole := make([]byte, size)
		if err := readFull(file, whole, 0); err != nil {
			t.Fatal(err)
		}
		look := func(what string) {
			t.Helper()
			ix, err := Open(config(disk))
			if err == nil {
				err = same(ix, modelOf(log))
				ix.Close()
			}
			if errs.KindOf(err) != errs.Corrupt {
				t.Fatalf("%s of %s: %v", what, e.Name, err)
			}
			found++
		}
		for i, b := range whole {
			if i%blockSize > 100 && i < len(whole)-1500 && i%61 != 0 {
				continue
			}
			if _, err := file.WriteAt([]byte{b ^ byte(1<<(i%8))}, int64(i)); err != nil {
				t.Fatal(err)
			}
			look(fmt.Sprintf("byte %d", i))
			if _, err := file.WriteAt([]byte{b}, int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range []int64{0, 1, size / 2, size - 1} {
			if err := file.Truncate(n); err != nil {
				t.Fatal(err)
			}
			look(fmt.Sprintf("the end, from %d on,", n))
			if _, err := file.WriteAt(whole, 0); err != nil {
				t.Fatal(err)
			}
		}
		file.Close()
	}
	if found < 3000 {
		t.Fatalf("only %d flips were tried", found)
	}
	if err := disk.Remove("/index/" + names[0].Name); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(config(disk)); errs.KindOf(err) != errs.Corrupt {
		t.Fatalf("without a run: %v", err)
	}
	if err := Remove(disk, "/index"); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, disk)
	if err := errors.Join(replay(again, log, again.Position()), same(again, modelOf(log))); err != nil {
		t.Fatal(err)
	}
}
