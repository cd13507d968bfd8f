package steps

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/vfs"
)

const day = 24 * time.Hour

var (
	week  = Terms{ReclaimAge: 7 * day}
	start = time.Unix(1_800_000_000, 0)
)

func open(t testing.TB, fsys vfs.FS) *Book {
	t.Helper()
	b, err := Open(fsys, "/", week)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func save(t testing.TB, b *Book, at time.Time) {
	t.Helper()
	if err := b.Save(at); err != nil {
		t.Fatal(err)
	}
}

// The horizon is the same for all who ask within a grain, moves by whole grains, and is
// never later than the reclaim age ago.
func TestTerms(t *testing.T) {
	for _, tt := range []struct{ reclaim, grain, limit time.Duration }{
		{7 * day, 21 * time.Hour, 7*day - 21*time.Hour},
		{30 * day, day, 30*day - 90*time.Hour},
		{6 * time.Hour, 45 * time.Minute, 5 * time.Hour},
		{2 * time.Hour, 15 * time.Minute, 90 * time.Minute},
		{8 * time.Second, time.Second, 6 * time.Second},
	} {
		terms := Terms{tt.reclaim}
		if got := terms.Limit(); got != tt.limit {
			t.Errorf("reclaim age %v: the limit is %v, want %v", tt.reclaim, got, tt.limit)
		}
		first := start.Truncate(tt.grain)
		for after, moved := range map[time.Duration]time.Duration{0: 0, tt.grain / 2: 0, tt.grain - 1: 0, tt.grain: tt.grain, 5*tt.grain + 1: 5 * tt.grain} {
			got, want := terms.Horizon(first.Add(tt.reclaim).Add(after)), first.Add(moved)
			if !got.Time().Equal(want) {
				t.Errorf("reclaim age %v, %v later: the horizon is %v, want %v", tt.reclaim, after, got.Time(), want)
			}
		}
	}
}

// When a device may push.
func TestMay(t *testing.T) {
	const set = Set("object")
	type moment struct {
		day    float64
		held   []uint32 // looked at, if not nil
		inStep bool     // partition 3 is
		fenced bool     // partition 3 is, after that
	}
	held := []uint32{3, 5}
	for what, moments := range map[string][]moment{
		"in step now and then":            {{0, held, true, false}, {5, held, true, false}, {10, held, true, false}, {16, held, false, false}},
		"away for too long":               {{0, held, true, false}, {6.2, nil, false, true}},
		"back in step after that":         {{0, held, true, false}, {6.2, held, true, true}, {6.3, held, true, true}, {20, held, true, true}},
		"just in time":                    {{0, held, true, false}, {6, held, true, false}},
		"here, but never in step":         {{0, held, false, false}, {1, held, false, false}, {3, held, false, false}, {5, held, false, false}, {6.2, held, false, true}},
		"something new comes":             {{0, []uint32{5}, false, false}, {30, []uint32{5}, false, false}, {30.1, held, false, false}, {35, nil, false, false}},
		"something came and it went away": {{0, []uint32{5}, false, false}, {6.2, held, false, true}},
		"nothing is held of it":           {{0, held, true, false}, {1, []uint32{5}, false, false}, {20, []uint32{5}, false, false}},
		"the first look":                  {{0, nil, false, false}, {50, held, false, false}, {55, held, false, false}, {57, nil, false, true}},
		"the clock goes back":             {{5, held, true, false}, {0, held, true, false}, {6, nil, false, false}},
	} {
		mem := vfs.NewMem()
		b := open(t, mem)
		for i, m := range moments {
			now := start.Add(time.Duration(m.day * float64(day)))
			if m.held != nil {
				b.Look(set, 8, m.held, true, now)
			}
			if m.inStep {
				b.InStep(set, 8, 3, now)
			}
			save(t, b, now)
			for name, b := range map[string]*Book{"it": b, "after a restart": open(t, mem)} {
				why := b.May(set, 8, 3, now)
				if (why != nil) != m.fenced || why != nil && !errors.Is(why, ErrFenced) {
					t.Errorf("%s, moment %d, %s: %v, want fenced is %v", what, i, name, why, m.fenced)
				}
			}
		}
	}
}

// What is fenced is told of, and readmitted as a whole.
func TestReadmit(t *testing.T) {
	mem := vfs.NewMem()
	b := open(t, mem)
	b.Look("container", 4, []uint32{1, 2, 3}, true, start)
	b.Look("object", 6, []uint32{7, 8}, true, start.Add(day))
	later := start.Add(7 * day)
	b.InStep("container", 4, 2, start.Add(3*day))
	b.Look("container", 4, []uint32{1, 2, 3}, true, later)
	b.Look("object", 6, []uint32{7, 8}, true, later.Add(-day))
	b.InStep("container", 4, 1, later) // too late
	all, damaged := b.Fenced(start)
	if len(all) != 1 || all[0] != (Fence{"container", 2, start.UTC()}) || damaged != nil {
		t.Errorf("fenced is %v, %v, want 2 containers", all, damaged)
	}
	if err := b.Readmit(later); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*Book{"it": b, "after a restart": open(t, mem)} {
		if all, _ := b.Fenced(start); len(all) != 0 {
			t.Errorf("%s: after it was readmitted fenced is %v", name, all)
		}
		if why := b.May("container", 4, 1, later.Add(5*day)); why != nil {
			t.Errorf("%s: %v", name, why)
		}
		if why := b.May("container", 4, 1, later.Add(7*day)); why == nil {
			t.Errorf("%s: it is never fenced again", name)
		}
	}
}

// Partitions of another part power have inherited.
func TestPartPower(t *testing.T) {
	for _, tt := range []struct {
		power  int
		held   []uint32
		fenced string
	}{
		{5, []uint32{4, 5, 6, 7}, "[true true false false]"},
		{4, []uint32{2, 3}, "[true false]"},
		{3, []uint32{1}, "[true]"},
	} {
		b := open(t, vfs.NewMem())
		b.Look("object", 4, []uint32{2, 3}, true, start)
		b.InStep("object", 4, 3, start.Add(4*day))
		now := start.Add(7 * day)
		for _, when := range []string{"before the next look", "after it"} {
			got := make([]bool, len(tt.held))
			for i, p := range tt.held {
				got[i] = b.May("object", tt.power, p, now) != nil
			}
			if fmt.Sprint(got) != tt.fenced {
				t.Errorf("part power %d, %s: partitions %v are fenced: %v, want %s", tt.power, when, tt.held, got, tt.fenced)
			}
			b.Look("object", tt.power, tt.held, true, now)
		}
	}
}

// Whatever is damaged in the file, everything is fenced, until somebody says that it is
// to be pushed; nothing is written over it before.
func TestDamage(t *testing.T) {
	mem := vfs.NewMem()
	b := open(t, mem)
	b.Look("object", 4, []uint32{2, 3}, true, start)
	save(t, b, start)
	whole, err := readFile(mem, b.file())
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(whole) + 1 {
		raw := append([]byte(nil), whole[:i]...)
		if i == len(whole) {
			raw = append(raw, 0)
		} else {
			raw = append(append(raw, whole[i]^0x10), whole[i+1:]...)
		}
		put(t, mem, b.file(), raw)
		bad := open(t, mem)
		bad.Look("object", 4, []uint32{2, 3}, true, start)
		save(t, bad, start.Add(time.Hour))
		if why := bad.May("object", 4, 2, start); !errors.Is(why, ErrFenced) {
			t.Fatalf("with byte %d changed: %v, want it fenced", i, why)
		}
		if again := open(t, mem); again.May("account", 4, 0, start) == nil {
			t.Fatalf("with byte %d changed: what was not looked at is not fenced", i)
		}
		if err := bad.Readmit(start); err != nil {
			t.Fatal(err)
		}
		if why := open(t, mem).May("object", 4, 2, start); why != nil {
			t.Fatalf("with byte %d changed, after it was readmitted: %v", i, why)
		}
	}
}

func put(t *testing.T, fsys vfs.FS, name string, content []byte) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR)
	if err == nil {
		err = errors.Join(f.Truncate(0), f.Sync())
	}
	if err == nil {
		_, err = f.WriteAt(content, 0)
	}
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Whichever call fails, and whenever the power is cut: what is fenced stays so, nothing is
// in step later than it was, and what Readmit has done is done once it returned nil.
func TestCrash(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		mem := vfs.NewMem()
		faulty := vfs.FailAt(mem, n)
		b, err := Open(faulty, "/", week)
		if err != nil {
			fired = faulty.Fired()
			continue
		}
		readmitted := false
		check := func(what string, now time.Time) {
			t.Helper()
			for seed := range uint64(16) {
				c := open(t, mem.AfterCrash(seed))
				c.Look("object", 4, []uint32{2, 3}, true, now)
				if b.May("object", 4, 2, now) != nil && c.May("object", 4, 2, now) == nil && !readmitted {
					t.Errorf("call %d failed, crash %d %s: what was fenced is not", n, seed, what)
				}
				if _, damaged := c.Fenced(start); damaged != nil {
					t.Errorf("call %d failed, crash %d %s: %v", n, seed, what, damaged)
				}
				if readmitted && c.May("object", 4, 2, now) != nil {
					t.Errorf("call %d failed, crash %d %s: what was readmitted is fenced", n, seed, what)
				}
			}
		}
		now := start
		pass := func(inStep bool) {
			b.Look("object", 4, []uint32{2, 3}, true, now)
			if inStep {
				b.InStep("object", 4, 2, now)
			}
			_ = b.Save(now) // it is tried again
		}
		pass(true)
		save := b.Save(now) // what failed once is done now
		if save != nil {
			t.Errorf("call %d failed: saved again: %v", n, save)
		}
		check("after the first pass", now.Add(day))
		now = now.Add(6*day + 4*time.Hour)
		pass(true)
		check("when it is fenced", now)
		pass(true)
		check("later", now.Add(day))
		readmitted = b.Readmit(now) == nil
		check("after it was readmitted", now.Add(day))
		fired = faulty.Fired()
		if !fired && n < 10 {
			t.Errorf("only %d calls were failed", n)
		}
	}
}

// Held against a model that remembers everything: a partition may be pushed if and only
// if no gap between the times as of which it was in step, its first look's predecessor and
// now is longer than the limit. A restart from what was saved never allows more.
func TestModel(t *testing.T) {
	limit := week.Limit()
	rapid.Check(t, func(t *rapid.T) {
		mem := vfs.NewMem()
		b, err := Open(mem, "/", week)
		if err != nil {
			t.Fatal(err)
		}
		now, last, fenced, looked := start, start, false, false
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 80).Draw(t, "hours")) * time.Hour)
			b.Look("object", 4, []uint32{9}, true, now)
			if !looked {
				looked, last = true, now
				if err := b.Save(now); err != nil {
					t.Fatal(err)
				}
			}
			fenced = fenced || now.Sub(last) > limit
			if rapid.Bool().Draw(t, "in step") {
				if b.InStep("object", 4, 9, now); !fenced {
					last = now
				}
			}
			if got := b.May("object", 4, 9, now) != nil; got != fenced {
				t.Fatalf("at %v, last in step at %v: fenced is %v, want %v", now, last, got, fenced)
			}
			if rapid.Bool().Draw(t, "save") {
				if err := b.Save(now); err != nil {
					t.Fatal(err)
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				again, err := Open(mem.AfterCrash(rapid.Uint64().Draw(t, "seed")), "/", week)
				if err != nil {
					t.Fatal(err)
				}
				again.Look("object", 4, []uint32{9}, true, now)
				if fenced && again.May("object", 4, 9, now) == nil {
					t.Fatalf("at %v: a restart has lifted the fence", now)
				}
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	b := open(f, vfs.NewMem())
	b.Look("object-1", 4, []uint32{2, 3}, true, start)
	b.Look("account", 1, []uint32{0}, true, start)
	b.Look("container", 4, nil, true, start.Add(20*day))
	f.Add(encode(b.sets))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		sets, err := decode(raw)
		if err != nil {
			return
		}
		if got := encode(sets); string(got) != string(raw) {
			t.Errorf("what was read is %x, and was %x", got, raw)
		}
	})
}

// A look that was not of everything forgets nothing; what it finds anew came since the one
// before, also where looks are never of everything.
func TestPartialLook(t *testing.T) {
	b := open(t, vfs.NewMem())
	b.Look("object", 4, []uint32{1}, true, start)
	for n := range 12 {
		b.Look("object", 4, []uint32{2}, false, start.Add(time.Duration(n)*day))
		b.InStep("object", 4, 2, start.Add(time.Duration(n)*day))
	}
	later := start.Add(12 * day)
	b.Look("object", 4, []uint32{2, 4}, false, later)
	for partition, fenced := range map[uint32]bool{1: true, 2: false, 3: false, 4: false} {
		if why := b.May("object", 4, partition, later); (why != nil) != fenced {
			t.Errorf("partition %d: %v, want fenced is %v", partition, why, fenced)
		}
	}
}

// A clock that was ahead for a while leaves nothing that is in the future.
func TestClockWasAhead(t *testing.T) {
	b := open(t, vfs.NewMem())
	b.Look("object", 4, []uint32{1}, true, start)
	b.Look("object", 4, []uint32{1}, true, start.Add(365*day))
	if err := b.Readmit(start.Add(365 * day)); err != nil {
		t.Fatal(err)
	}
	b.Look("object", 4, []uint32{1, 2}, true, start.Add(day))
	later := start.Add(9 * day)
	for partition := range uint32(3) {
		if why := b.May("object", 4, partition, later); (why == nil) != (partition == 0) {
			t.Errorf("partition %d, away for 8 days: %v", partition, why)
		}
	}
}

// Who has nobody to be out of step with is not fenced.
func TestOnly(t *testing.T) {
	b := open(t, vfs.NewMem())
	b.Look("object", 4, []uint32{1, 2}, true, start)
	later := start.Add(20 * day)
	b.Look("object", 4, []uint32{1, 2}, true, later)
	b.Only("object", 4, 1, later)
	for partition, fenced := range map[uint32]bool{1: false, 2: true} {
		if why := b.May("object", 4, partition, later); (why != nil) != fenced {
			t.Errorf("partition %d: %v, want fenced is %v", partition, why, fenced)
		}
	}
}

// The operator's word comes before the first pass has looked: it is lost.
func TestReadmitBeforeLook(t *testing.T) {
	mem := vfs.NewMem()
	b := open(t, mem)
	b.Look("object", 4, []uint32{3}, true, start)
	save(t, b, start)
	now := start.Add(10 * day)
	b = open(t, mem) // the node is started after 10 days
	if all, _ := b.Fenced(now); len(all) == 0 {
		t.Error("before the first look nothing is said to be fenced, though it will be")
	}
	if err := b.Readmit(now); err != nil {
		t.Fatal(err)
	}
	b.Look("object", 4, []uint32{3}, true, now.Add(time.Second))
	if why := b.May("object", 4, 3, now.Add(time.Second)); why != nil {
		t.Errorf("after it was readmitted: %v", why)
	}
}

// "everything counts as in step at a time": what was nearly fenced too.
func TestReadmitWhatIsNearlyFenced(t *testing.T) {
	b := open(t, vfs.NewMem())
	b.Look("object", 4, []uint32{1, 2}, true, start)
	b.InStep("object", 4, 2, start.Add(day))
	now := start.Add(6*day + 12*time.Hour)
	b.Look("object", 4, []uint32{1, 2}, true, now)
	if err := b.Readmit(now); err != nil {
		t.Fatal(err)
	}
	later := now.Add(day)
	for _, p := range []uint32{1, 2} {
		if why := b.May("object", 4, p, later); why != nil {
			t.Errorf("partition %d: %v", p, why)
		}
	}
}

// A set that the passes did not look at, since the device held nothing of it.
func TestHoldingNothingIsNotBeingAway(t *testing.T) {
	b := open(t, vfs.NewMem())
	for d := range 3 {
		at := start.Add(time.Duration(d) * day)
		b.Look("object", 4, []uint32{1}, true, at)
		b.Look("object-1", 4, []uint32{5}, true, at)
		b.InStep("object", 4, 1, at)
	}
	for d := 3; d < 12; d++ { // passes go on; Policies() does not name policy 1 any more
		at := start.Add(time.Duration(d) * day)
		b.Look("object", 4, []uint32{1}, true, at)
		b.InStep("object", 4, 1, at)
		b.Nothing("object", []Set{"object"}, at)
	}
	at := start.Add(12 * day)
	b.Look("object-1", 4, []uint32{5, 7}, true, at)
	for _, p := range []uint32{5, 7} {
		if why := b.May("object-1", 4, p, at); why != nil {
			t.Errorf("partition %d, of which something has just come: %v", p, why)
		}
	}
}
