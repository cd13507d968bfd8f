//go:build !race

package builder

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"testing"
	"time"

	"martlet/internal/vfs"
	"martlet/internal/vfs/vfswhole"
	"martlet/ring"
	"martlet/ring/whole"
)

const (
	faultsDir  = "/rings"
	faultsFile = faultsDir + "/object.builder"
	faultsRing = faultsDir + "/object.ring.gz"
)

// saved is what is in the two files of a builder.
type saved struct{ builder, ring string }

// grown adds a device, rebalances and saves both, as an operator's commands do.
func grown(fsys whole.FS) (err error) {
	f, err := OpenOn(fsys, faultsFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Add(at(0, 0, 9, 0)); err != nil && !errors.Is(err, ErrDevice) { // it may be there already
		return err
	}
	if _, err := f.Rebalance(Options{Seed: 7, Now: time.Unix(2e9, 0)}); err != nil {
		return err
	}
	r, err := f.Ring()
	if err != nil {
		return err
	}
	return f.SaveWithRing(r, faultsRing)
}

// durable is a file system with a builder and its ring on it, durable.
func durable(t *testing.T) *vfs.Mem {
	t.Helper()
	mem := vfs.NewMem()
	b, r := atFirst(t)
	fsys := vfswhole.New(mem)
	if err := errors.Join(mem.Mkdir(faultsDir), mem.SyncDir("/"), whole.Create(fsys, faultsFile, b.Write), r.SaveOn(fsys, faultsRing)); err != nil {
		t.Fatal(err)
	}
	return mem
}

// atFirst is a builder that has been balanced, and its ring.
func atFirst(t *testing.T) (*Builder, *ring.Ring) {
	t.Helper()
	b := build(t, 4, 3, grid(1, 2, 2, 1))
	if _, err := b.Rebalance(Options{Seed: 1, Now: time.Unix(1e9, 0)}); err != nil {
		t.Fatal(err)
	}
	r, err := b.Ring()
	if err != nil {
		t.Fatal(err)
	}
	return b, r
}

func contents(t *testing.T, fsys whole.FS) saved {
	t.Helper()
	read := func(name string) string {
		text, err := whole.Read(fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return saved{read(faultsFile), read(faultsRing)}
}

// TestFaultsOfASave: whichever call of a save fails, and wherever the power goes, there
// is the old builder or the new one, and the old ring or, of the new builder, the new
// one. A builder that was replaced is among the backups. And whoever then does the same
// again ends where nothing had gone wrong.
func TestFaultsOfASave(t *testing.T) {
	mem := durable(t)
	old := contents(t, vfswhole.New(mem))
	if err := grown(vfswhole.New(mem)); err != nil {
		t.Fatal(err)
	}
	done := contents(t, vfswhole.New(mem))
	if done.builder == old.builder || done.ring == old.ring {
		t.Fatal("nothing has changed")
	}
	seen := map[saved]bool{}
	for n, fired := 0, true; fired; n++ {
		for _, gone := range []bool{false, true} {
			mem := durable(t)
			options := []vfs.FaultOption(nil)
			if gone {
				options = append(options, vfs.FaultForever())
			}
			faulty := vfs.FailAt(mem, n, options...)
			err := grown(vfswhole.New(faulty))
			fired = faulty.Fired()
			if !fired && err != nil {
				t.Fatalf("%v, though nothing failed", err)
			}
			told(t, n, err, contents(t, vfswhole.New(mem)), old, done)
			for seed := range uint64(20) {
				after := vfswhole.New(mem.AfterCrash(seed))
				now := contents(t, after)
				seen[now] = true
				switch {
				case now == done, err != nil && now == old:
				case err != nil && now == saved{done.builder, old.ring}:
				default:
					t.Errorf("fault %d, seed %d: %v, and the builder is the old one: %v, the new: %v; the ring is the old one: %v, the new: %v",
						n, seed, err, now.builder == old.builder, now.builder == done.builder, now.ring == old.ring, now.ring == done.ring)
				}
				if now.builder == done.builder && !keptIn(t, after, old.builder) {
					t.Errorf("fault %d, seed %d: what the builder was is not among the backups", n, seed)
				}
				if !gone || seed >= 10 {
					continue // enough have been seen
				}
				if err := grown(after); err != nil || contents(t, after) != done {
					t.Errorf("fault %d, seed %d: once more: %v, and it is not as without a fault", n, seed, err)
				}
				clean(t, after)
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("crashes left %d different states, want the old one, the new one, and one between", len(seen))
	}
}

// told wants the error of a save to say what was done.
func told(t *testing.T, n int, err error, now, old, done saved) {
	t.Helper()
	want := old
	switch {
	case err == nil:
		want = done
	case errors.Is(err, ErrRing):
		want.builder = done.builder
	case errors.Is(err, whole.ErrUnsynced) && now.builder == done.builder: // of the builder or, after it, of the ring
		want = saved{done.builder, now.ring}
	}
	if now != want {
		t.Errorf("fault %d: %v, and the builder is the old one: %v, the ring is: %v", n, err, now.builder == old.builder, now.ring == old.ring)
	}
}

// keptIn reports whether a text is one of the backups.
func keptIn(t *testing.T, fsys whole.FS, text string) bool {
	t.Helper()
	names, err := fsys.Names(path.Join(faultsDir, BackupDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, name := range names {
		kept, err := whole.Read(fsys, path.Join(faultsDir, BackupDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(kept, []byte(text)) {
			return true
		}
	}
	return false
}

// clean wants nothing left of saves that were cut short.
func clean(t *testing.T, fsys whole.FS) {
	t.Helper()
	for _, dir := range []string{faultsDir, path.Join(faultsDir, BackupDir)} {
		names, err := fsys.Names(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, name := range names {
			if name[0] == '.' {
				t.Errorf("%s is left in %s", name, dir)
			}
		}
	}
}

// TestSaveAgainAfterAnUnsyncedOne: what may be gone after a power cut is not taken for
// saved.
func TestSaveAgainAfterAnUnsyncedOne(t *testing.T) {
	unsynced := 0
	for n, fired := 0, true; fired; n++ {
		for part := range uint64(8) { // of what the call that fails does all the same
			mem := durable(t)
			faulty := vfs.FailAt(mem, n, vfs.FaultSeed(part))
			f, err := OpenOn(vfswhole.New(faulty), faultsFile)
			if err != nil {
				continue
			}
			if err := f.SetWeight(0, 5); err != nil {
				t.Fatal(err)
			}
			err = f.Save()
			fired = faulty.Fired()
			if !errors.Is(err, whole.ErrUnsynced) {
				continue
			}
			unsynced++
			if err := f.Save(); err != nil {
				t.Fatalf("fault %d: once more: %v", n, err)
			}
			for seed := range uint64(8) {
				again, err := OpenOn(vfswhole.New(mem.AfterCrash(seed)), faultsFile)
				if err != nil {
					t.Fatal(err)
				}
				if again.Version() != f.Version() {
					t.Errorf("fault %d, part %d, seed %d: version %d, want %d", n, part, seed, again.Version(), f.Version())
				}
			}
		}
	}
	if unsynced == 0 {
		t.Error("no fault left a save unsynced")
	}
}

// A ring that is written is one that its own file is read as.
func TestSaveWithRing(t *testing.T) {
	fsys := vfswhole.New(durable(t))
	if err := grown(fsys); err != nil {
		t.Fatal(err)
	}
	f, err := OpenOn(fsys, faultsFile)
	if err != nil {
		t.Fatal(err)
	}
	text, err := whole.Read(fsys, faultsRing)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ring.Read(bytes.NewReader(text))
	if err != nil || r.Version() != f.Version() {
		t.Errorf("a ring of version %d, %v; want %d", r.Version(), err, f.Version())
	}
}
