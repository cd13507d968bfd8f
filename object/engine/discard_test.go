//go:build !race

package engine

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/internal/vfs"
)

// hurt puts an object, damages what has its data, and has that found.
func hurt(t *testing.T, fs vfs.FS, e *Engine, l Location, size int) []byte {
	t.Helper()
	data := bytes.Repeat([]byte{l.Hash[0]}, size)
	if err := put(e, l, ts(10), data, "one", Terms{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	file, off := where(t, e, l, partData)
	flip(t, fs, file, off+int64(size)/2)
	if _, _, err := get(e, l); !errs.Is(err, errs.Corrupt) {
		t.Fatalf("%s: %v, want Corrupt", l, err)
	}
	return data
}

// aside lists what is in quarantine of a policy.
func aside(t *testing.T, fs vfs.FS, p policy.Index) (list []string) {
	t.Helper()
	files, err := fs.ReadDir("/quarantined/objects" + p.Suffix())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		list = append(list, f.Name)
	}
	return list
}

// What is in quarantine is removed when it has been for long enough, whatever it is of, and not as long as it is lost.
func TestDiscard(t *testing.T) {
	const fragments = policy.Index(1<<15 + 1)
	fs := vfs.NewMem()
	e := newEngine(fs, "/")
	lost, back, large, gone := at(1), at(2), at(3), at(4)
	fragment := Location{fragments, at(5).Hash}
	for l, size := range map[Location]int{lost: 5000, back: 5000, large: 500_000, gone: 5000, fragment: 5000} {
		data := hurt(t, fs, e, l, size)
		var err error
		switch l {
		case lost:
			continue
		case gone:
			_, err = e.Drop(ctx, l, func(*State) bool { return true })
		default:
			err = put(e, l, ts(10), data, "one", Terms{Merge: true})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// What else somebody may have put there is left alone.
	strange := []string{"/quarantined/objects/notes.reason", "/quarantined/containers", "/quarantined/containers/" + at(2).Hash.String() + ".1.db.reason"}
	for _, name := range strange {
		if !strings.HasSuffix(name, ".reason") {
			if err := fs.Mkdir(name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		f, err := fs.CreateUnnamed("/quarantined")
		if err == nil {
			err = errors.Join(fs.Link(f, name), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n, err := e.Discard(ctx, time.Now().Add(-time.Hour)); n != 0 || err != nil || len(aside(t, fs, 0)) != 9 || len(aside(t, fs, fragments)) != 2 {
		t.Fatalf("%d things of within the hour were removed, %v: %q, %q", n, err, aside(t, fs, 0), aside(t, fs, fragments))
	}
	if n, err := e.Discard(ctx, time.Now().Add(time.Hour)); n != 4 || err != nil {
		t.Fatalf("%d things were removed, %v, want 4", n, err)
	}
	left := aside(t, fs, 0)
	own := slices.DeleteFunc(slices.Clone(left), func(file string) bool { return !strings.HasPrefix(file, lost.Hash.String()) })
	if len(own) != 2 || len(left) != 3 || len(aside(t, fs, fragments)) != 0 {
		t.Errorf("left are %q, %q, want what is lost, and the notes", left, aside(t, fs, fragments))
	}
	if _, err := fs.Stat(strange[2]); err != nil {
		t.Errorf("what is of a container: %v", err)
	}
	if i, err := e.Summary(ctx); err != nil || i.Quarantined != 2 { // the notes count, too
		t.Errorf("%d are counted, %v", i.Quarantined, err)
	}
	for _, l := range []Location{back, large, fragment} {
		if _, _, err := get(e, l); err != nil {
			t.Errorf("%s: %v", l, err)
		}
	}
	if err := del(e, lost, 90, Terms{}); err != nil {
		t.Fatal(err)
	}
	if n, err := e.Discard(ctx, time.Now().Add(time.Hour)); n != 1 || err != nil || len(aside(t, fs, 0)) != 1 {
		t.Errorf("once it was deleted: %d, %v: %q", n, err, aside(t, fs, 0))
	}
}

// Whatever fails, and whenever power is lost then: nothing is there that no reason is beside, what is not lost can be read, and the next call
// removes the rest.
func TestDiscardFails(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		disk := vfs.NewMem()
		e := newEngine(disk, "/")
		data := map[Location][]byte{}
		for _, l := range []Location{at(1), at(2)} {
			data[l] = hurt(t, disk, e, l, 300_000)
			if err := put(e, l, ts(10), data[l], "one", Terms{Merge: true}); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		faulty := vfs.FailAt(disk, n)
		removed, err := newEngine(faulty, "/").Discard(ctx, time.Now().Add(time.Hour))
		fired = faulty.Fired()
		if !fired && (removed != 2 || err != nil) {
			t.Fatalf("%d were removed, %v", removed, err)
		}
		for seed := range uint64(14) { // from 8 on each name survives for itself
			after := disk.AfterCrash(seed)
			files := aside(t, after, 0)
			for _, file := range files {
				if !strings.HasSuffix(file, reasonSuffix) && !slices.Contains(files, file+reasonSuffix) {
					t.Fatalf("fault %d, seed %d: %s is there without its reason", n, seed, file)
				}
			}
			again := newEngine(after, "/")
			for l, want := range data {
				if _, got, err := get(again, l); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("fault %d, seed %d: %s: %v", n, seed, l, err)
				}
			}
			if _, err := again.Discard(ctx, time.Now().Add(time.Hour)); err != nil || len(aside(t, after, 0)) != 0 {
				t.Fatalf("fault %d, seed %d: then %v, %q", n, seed, err, aside(t, after, 0))
			}
		}
	}
}
