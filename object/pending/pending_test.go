package pending

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

var ctx = context.Background()

func ts(n int64) timestamp.T { return timestamp.FromTicks(1_700_000_000_00000 + n) }

func update(n int64) Update {
	return Update{
		Policy: 1, Hash: name.Hash{1, 2, byte(n % 2)}, Method: "PUT", Path: name.Path{Account: "a", Container: "c", Object: "o"},
		Header: backend.Header{{Name: "X-Size", Value: "5\xff"}}, Data: ts(n), ContentType: ts(n), Meta: ts(n),
	}
}

func all(t *testing.T, q *Queue) []Update {
	t.Helper()
	var list []Update
	for u, err := range q.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, u)
	}
	return list
}

func TestNewestStays(t *testing.T) {
	for what, order := range map[string][]int64{"in order": {2, 4, 6}, "backwards": {6, 4, 2}, "twice": {6, 6}} {
		q := New(vfs.OS, t.TempDir())
		for _, n := range order {
			if err := q.Put(ctx, update(n)); err != nil {
				t.Fatal(err)
			}
		}
		if got := all(t, q); !reflect.DeepEqual(got, []Update{update(6)}) {
			t.Errorf("%s: %+v is queued, want only the newest", what, got)
		}
	}
}

func TestDoneAndConfirm(t *testing.T) {
	q := New(vfs.OS, t.TempDir())
	if err := errors.Join(q.Put(ctx, update(2)), q.Put(ctx, update(3))); err != nil {
		t.Fatal(err)
	}
	u := update(2)
	u.Confirmed = []string{Place("127.0.0.1:6201", "d1")}
	if err := q.Confirm(ctx, u); err != nil {
		t.Fatal(err)
	}
	if got := all(t, q); len(got) != 2 || !reflect.DeepEqual(got[0], u) {
		t.Fatalf("after Confirm: %+v", got)
	}
	if err := q.Put(ctx, update(4)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(q.Confirm(ctx, u), q.Done(ctx, u), q.Done(ctx, update(3))); err != nil {
		t.Fatal(err)
	}
	if got := all(t, q); !reflect.DeepEqual(got, []Update{update(4)}) {
		t.Fatalf("an update that had come meanwhile was changed: %+v", got)
	}
	if err := errors.Join(q.Done(ctx, update(4)), q.Done(ctx, update(4))); err != nil {
		t.Fatal(err)
	}
	if got := all(t, q); len(got) != 0 {
		t.Fatalf("after Done: %+v", got)
	}
}

// An update that was acknowledged survives whatever fails later.
func TestFaultsAndCrashes(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		disk := vfs.NewMem()
		faulty := vfs.FailAt(disk, n)
		q := New(faulty, "/")
		acked := timestamp.T{}
		for _, i := range []int64{2, 4, 6} {
			if q.Put(ctx, update(i)) == nil {
				acked = ts(i)
			}
		}
		fired = faulty.Fired()
		for seed := range uint64(20) {
			newest := timestamp.T{}
			for u, err := range New(disk.AfterCrash(seed), "/").All(ctx) {
				if err != nil {
					t.Fatalf("fault %d, seed %d: %v", n, seed, err)
				}
				newest = timestamp.Max(newest, u.Data)
			}
			if newest.Before(acked) {
				t.Fatalf("fault %d, seed %d: %v is queued, %v was acknowledged", n, seed, newest, acked)
			}
		}
	}
}

// mortal is a disk on which the process is killed before one of its syncs of a
// directory: it does nothing, nor do those after it.
type mortal struct {
	vfs.FS
	left int
}

func (m *mortal) SyncDir(dir string) error {
	if m.left--; m.left < 0 {
		return syscall.EIO
	}
	return m.FS.SyncDir(dir)
}

// A process that was killed may leave a newer update whose name is not on the
// disk yet: to find it there is not enough to acknowledge an older one.
func TestKilledBeforeTheNameIsSynced(t *testing.T) {
	for n := range 4 {
		disk := vfs.NewMem()
		killed := &mortal{disk, n}
		if err := New(killed, "/").Put(ctx, update(4)); (err == nil) != (killed.left >= 0) {
			t.Fatalf("killed before sync %d: Put said %v", n, err)
		}
		if err := New(disk, "/").Put(ctx, update(2)); err != nil {
			t.Fatalf("killed before sync %d: %v", n, err)
		}
		for seed := range uint64(20) {
			if got := all(t, New(disk.AfterCrash(seed), "/")); len(got) != 1 {
				t.Fatalf("killed before sync %d, seed %d: %+v is queued, one was acknowledged", n, seed, got)
			}
		}
	}
}

func TestDamagedFile(t *testing.T) {
	fs := vfs.NewMem()
	q := New(fs, "/")
	if err := errors.Join(q.Put(ctx, update(2)), q.Put(ctx, update(3))); err != nil {
		t.Fatal(err)
	}
	u := update(2)
	f, err := fs.OpenFile(q.current.Load().dir(&u)+"/"+u.Hash.String(), syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{'?'}, 30); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var whole, bad int
	for u, err := range q.All(ctx) {
		switch {
		case errs.Is(err, errs.Corrupt):
			bad++
		case err != nil:
			t.Fatal(err)
		case u.Hash == update(3).Hash:
			whole++
		}
	}
	if whole != 1 || bad != 1 || len(all(t, q)) != 1 {
		t.Errorf("%d whole, %d damaged, %d left", whole, bad, len(all(t, q)))
	}
}

func FuzzDecode(f *testing.F) {
	u := update(2)
	b, err := encode(&u)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := decode(b)
		if err != nil {
			if !errors.Is(err, errFormat) {
				t.Fatal(err)
			}
			return
		}
		if again, err := encode(&u); err != nil {
			t.Fatal(err)
		} else if v, err := decode(again); err != nil || !reflect.DeepEqual(u, v) {
			t.Fatalf("%+v became %+v, %v", u, v, err)
		}
	})
}

// What was queued is there however long ago that was, and by whichever process.
func TestQueuedLongAgo(t *testing.T) {
	dir := t.TempDir()
	if err := New(vfs.OS, dir).Put(ctx, update(2)); err != nil {
		t.Fatal(err)
	}
	u := update(2)
	long := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "async_pending-1", u.Hash.String()[:2], u.Hash.String()), long, long); err != nil {
		t.Fatal(err)
	}
	if got := all(t, New(vfs.OS, dir)); !reflect.DeepEqual(got, []Update{u}) {
		t.Errorf("what was queued a day ago: %+v, want %+v", got, u)
	}
}
