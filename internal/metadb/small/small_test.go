package small

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// open returns the files below a folder, ended with the test.
func openFiles(t testing.TB, dir string, fs vfs.FS) *Files {
	t.Helper()
	var temps atomic.Int64 // quarters are made beside each other
	f := New(Config{
		FS: fs, Folder: filepath.Join(dir, "kind"), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Doubt: &Doubt{},
		Make: func() error {
			if err := fs.Mkdir(filepath.Join(dir, "kind")); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
			return fs.SyncDir(dir)
		},
		Temp:    func() (string, error) { return filepath.Join(dir, fmt.Sprintf("tmp-%d", temps.Add(1))), nil },
		SyncDir: fs.SyncDir,
		Settle:  func() error { return fs.SyncDir(dir) },
	})
	t.Cleanup(func() { ended(f) })
	return f
}

func ended(f *Files) {
	f.End(errs.E(errs.Unavailable, "it is over"))
	f.Wait()
}

func keyOf(n uint64) (k Key) {
	binary.BigEndian.PutUint64(k[:], n*0x9E3779B97F4A7C15)
	return k
}

// inFirst is a key of the first quarter.
func inFirst(n uint64) Key {
	k := keyOf(n)
	k[0] &= 0x3f
	return k
}

func valueOf(n, size int) []byte { return bytes.Repeat([]byte{byte(n), byte(n >> 8), 7}, size/3+1) }

func putAll(t testing.TB, f *Files, keys []Key, size int) {
	t.Helper()
	var wg sync.WaitGroup
	for n, k := range keys {
		wg.Go(func() {
			if err := f.Commit(Put{Values, k, valueOf(n, size)}, Put{Marks, k, []byte{}}); err != nil {
				t.Error(err)
			}
		})
		if n%200 == 199 {
			wg.Wait()
		}
	}
	wg.Wait()
}

func keysOf(t testing.TB, f *Files, in Bucket) (list []Key) {
	t.Helper()
	last := Key{}
	copy(last[:], bytes.Repeat([]byte{0xff}, 16))
	for k, err := range f.Keys(t.Context(), in, Key{}, last) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	return list
}

// transactions returns how many there were in a quarter.
func transactions(t testing.TB, f *Files, q Quarter) (n int) {
	t.Helper()
	if err := f.quarters[q].view(func(tx *bolt.Tx) error { n = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// What was put is there, in order, also after all was opened again, and what never was, or was
// deleted, is not.
func TestPutAndGet(t *testing.T) {
	dir := t.TempDir()
	f := openFiles(t, dir, vfs.OS)
	if v, _, err := f.Get(Values, keyOf(1)); v != nil || err != nil {
		t.Fatalf("of no file: %q, %v", v, err)
	}
	if list := keysOf(t, f, Values); len(list) != 0 {
		t.Fatalf("of no file: %x", list)
	}
	var keys []Key
	for n := range uint64(3000) {
		keys = append(keys, keyOf(n))
	}
	putAll(t, f, keys, 100)
	for _, k := range keys[2900:] {
		if err := f.Commit(Put{Values, k, nil}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for n, k := range keys[:2900] {
			if v, _, err := f.Get(Values, k); err != nil || !bytes.Equal(v, valueOf(n, 100)) {
				t.Fatalf("%x: got %q, %v", k, v, err)
			}
		}
		for n := range uint64(3000) {
			if v, _, err := f.Get(Values, keyOf(n+2900)); v != nil || err != nil {
				t.Fatalf("what is not there: got %q, %v", v, err)
			}
		}
		want := slices.SortedFunc(slices.Values(keys[:2900]), func(a, b Key) int { return bytes.Compare(a[:], b[:]) })
		if got := keysOf(t, f, Values); !slices.Equal(got, want) {
			t.Fatalf("%d keys, want %d", len(got), len(want))
		}
		if got := keysOf(t, f, Marks); len(got) != 3000 {
			t.Fatalf("%d marks, want 3000", len(got))
		}
		if err := f.SetWalked(2); err != nil {
			t.Fatal(err)
		}
		for _, q := range All() {
			if is, err := f.Walked(q); err != nil || is != (q == 2) {
				t.Errorf("quarter %d was walked: %v, %v", q, is, err)
			}
		}
		ended(f)
		if _, _, err := f.Get(Values, keys[0]); !errs.Is(err, errs.Unavailable) {
			t.Errorf("after the end: %v", err)
		}
		f = openFiles(t, dir, vfs.OS)
	}
}

// Those who come while a transaction is under way share the next one.
func TestCommitsShareTransactions(t *testing.T) {
	f := openFiles(t, t.TempDir(), vfs.OS)
	if err := f.Commit(Put{Values, inFirst(0), []byte("v")}); err != nil {
		t.Fatal(err)
	}
	before := transactions(t, f, 0)
	q := f.quarters[0]
	inside, proceed := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // whoever leads waits for this
		err := q.with(false, func(o *open) error {
			tx, err := o.DB.Begin(true)
			if err != nil {
				return err
			}
			close(inside)
			<-proceed
			return tx.Rollback()
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	const n = 500
	commit := func(i uint64) {
		wg.Go(func() {
			if err := f.Commit(Put{Values, inFirst(i + 1), []byte("v")}); err != nil {
				t.Error(err)
			}
		})
	}
	until := func(waiting int) { // somebody leads, and so many wait besides what he has taken
		t.Helper()
		for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
			q.commits.mu.Lock()
			there := q.commits.busy && len(q.commits.waiting) == waiting
			q.commits.mu.Unlock()
			if there {
				return
			}
			if time.Now().After(end) {
				close(proceed)
				t.Fatalf("not %d that wait", waiting)
			}
		}
	}
	commit(0)
	until(0) // else more than one may be in the first transaction
	for i := range uint64(n - 1) {
		commit(i + 1)
	}
	until(n - 1)
	close(proceed)
	wg.Wait()
	if got := transactions(t, f, 0) - before; got != 2 {
		t.Errorf("%d commits took %d transactions, want 2", n, got)
	}
}

// After a commit that failed what is in the file is read anew, when what names its latest state was
// written again and synced, and that must succeed.
func TestFailedCommit(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		faulty := vfs.FailAt(vfs.OS, n)
		counter := vfs.Count(faulty)
		f := openFiles(t, t.TempDir(), counter)
		key := inFirst(1)
		if err := f.Commit(Put{Values, key, []byte("kept")}); err != nil {
			ended(f)
			continue
		}
		made := faulty.Fired()
		turn := f.Turn(key)
		q := f.quarters[0]
		q.file.DB.NoSync = true // as if the last sync had failed: all see it, and no disk has it
		if err := f.Commit(Put{Values, key, []byte("seen")}); err != nil {
			t.Fatal(err)
		}
		q.fail(q.file, syscall.EIO)
		before := counter.Counts()
		_, _, err := f.Get(Values, key)
		fired = faulty.Fired()
		if hit := fired && !made; hit != (err != nil) {
			t.Errorf("call %d failed (%v): got %v", n, hit, err)
		}
		if v, _, err := f.Get(Values, key); err != nil || string(v) != "seen" {
			t.Errorf("call %d failed: read anew there is %q, %v", n, v, err)
		}
		if c := counter.Counts().Sub(before); c.Writes < 1 || c.Syncs < 1 {
			t.Errorf("call %d failed: read after %d writes and %d syncs", n, c.Writes, c.Syncs)
		}
		if f.Turn(key) == turn {
			t.Errorf("call %d failed: nobody is told that the file was opened anew", n)
		}
		ended(f)
	}
}

// What comes and goes takes no more room than what is there.
func TestChurnDoesNotGrow(t *testing.T) {
	dir := t.TempDir()
	f := openFiles(t, dir, vfs.OS)
	size := func() int64 {
		info, err := os.Stat(f.path(0))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	round := func(n int) {
		puts := make([]Put, 0, 600)
		for i := range 300 {
			puts = append(puts, Put{Values, inFirst(uint64(1000*n + i)), valueOf(i, 1500)})
			if n > 0 {
				puts = append(puts, Put{Values, inFirst(uint64(1000*(n-1) + i)), nil})
			}
		}
		if err := f.Commit(puts...); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 10 {
		round(n)
	}
	was := size()
	for n := range 60 {
		round(10 + n)
	}
	if now := size(); now > was {
		t.Errorf("%d bytes, and %d after 60 times as much has come and gone", was, now)
	}
	if n := len(keysOf(t, f, Values)); n != 300 {
		t.Errorf("there are %d values", n)
	}
}

// Whatever page of a file is damaged, in whatever way: what is read is right, or is said to be
// damaged, and nothing that was there is said to be absent. After Salvage all that could
// be read is there, and can be written to.
func TestDamagedPages(t *testing.T) {
	dir := t.TempDir()
	f := openFiles(t, dir, vfs.OS)
	var keys []Key
	for n := range uint64(400) {
		keys = append(keys, inFirst(n))
	}
	putAll(t, f, keys, 900)
	path := f.path(0)
	ended(f)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hurts := map[string]func(page []byte, r *rand.Rand){
		"zeros": func(page []byte, _ *rand.Rand) { clear(page) },
		"noise": func(page []byte, r *rand.Rand) { noise(page, r) },
		"noise behind the head": func(page []byte, r *rand.Rand) {
			noise(page[16+r.IntN(len(page)-16):], r)
		},
		"a byte": func(page []byte, r *rand.Rand) { page[16+r.IntN(len(page)-16)] ^= 1 << r.IntN(8) },
	}
	lost, salvaged := 0, 0
	for what, hurt := range hurts {
		for page := 2; page < len(whole)/4096; page += 1 + len(whole)/4096/9 {
			r := rand.New(rand.NewPCG(uint64(page), 1))
			bad := bytes.Clone(whole)
			hurt(bad[page*4096:(page+1)*4096], r)
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			f := openFiles(t, dir, vfs.OS)
			readable := map[Key]bool{}
			for n, k := range keys {
				v, _, err := f.Get(Values, k)
				switch {
				case err == nil && v == nil:
					t.Fatalf("%s in page %d: %x is said not to be there", what, page, k)
				case err == nil && !bytes.Equal(v, valueOf(n, 900)):
					t.Fatalf("%s in page %d: %x is %q", what, page, k, v)
				case err == nil:
					readable[k] = true
				case !errs.Is(err, errs.Corrupt):
					t.Fatalf("%s in page %d: %v", what, page, err)
				}
			}
			if err := f.Commit(Put{Values, inFirst(1000), []byte("new")}); err != nil && !errs.Is(err, errs.Corrupt) {
				t.Fatalf("%s in page %d: %v", what, page, err)
			}
			if len(readable) < len(keys) {
				lost++
				f.Distrust(0)
			}
			if !f.Damaged(0) {
				ended(f)
				continue
			}
			salvaged++
			aside := 0
			s, err := f.Salvage(t.Context(), 0, func(s Salvaged, damaged vfs.File) error {
				aside++
				to, err := vfs.OS.OpenFile(path+".aside", os.O_RDWR|os.O_CREATE|os.O_TRUNC)
				if err != nil {
					return err
				}
				return errors.Join(Copy(t.Context(), to, damaged), to.Close())
			})
			if err != nil || !s.New || aside != 1 {
				t.Fatalf("%s in page %d: salvaged are %+v, %v, %d times", what, page, s, err, aside)
			}
			if kept, err := os.ReadFile(path + ".aside"); err != nil || len(kept) != len(bad) {
				t.Fatalf("%s in page %d: of the damaged file are kept %d bytes, %v", what, page, len(kept), err)
			}
			for n, k := range keys {
				v, _, err := f.Get(Values, k)
				if err != nil || v != nil && !bytes.Equal(v, valueOf(n, 900)) {
					t.Fatalf("%s in page %d: salvaged, %x is %q, %v", what, page, k, v, err)
				}
				if (v != nil) != readable[k] {
					t.Errorf("%s in page %d: %x could be read: %v, and is there: %v", what, page, k, readable[k], v != nil)
				}
				if has, err := f.Has(Marks, k); v != nil && (err != nil || !has) {
					t.Errorf("%s in page %d: the mark of %x is gone, %v", what, page, k, err)
				}
			}
			if err := f.Commit(Put{Values, inFirst(1000), []byte("new")}); err != nil {
				t.Errorf("%s in page %d: salvaged, and nothing can be written: %v", what, page, err)
			}
			ended(f)
		}
	}
	if lost < 10 {
		t.Errorf("only %d times something could not be read: the test damages nothing", lost)
	}
	t.Logf("%d times something could not be read, %d files were made anew", lost, salvaged)
}

func noise(b []byte, r *rand.Rand) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// Whichever call fails, and wherever it ends, while a file is made anew: there is the old one or
// the new one.
func TestSalvageFailsAtAnyCall(t *testing.T) {
	var keys []Key
	for n := range uint64(50) {
		keys = append(keys, inFirst(n))
	}
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		f := openFiles(t, dir, vfs.OS)
		putAll(t, f, keys, 900)
		ended(f)
		faulty := vfs.FailAt(vfs.OS, n)
		f = openFiles(t, dir, faulty)
		f.Distrust(0)
		_, err := f.Salvage(t.Context(), 0, func(Salvaged, vfs.File) error { return nil })
		fired = faulty.Fired()
		if fired && err == nil || !fired && err != nil {
			t.Errorf("call %d failed: %v", n, err)
		}
		ended(f)
		f = openFiles(t, dir, vfs.OS)
		for i, k := range keys {
			if v, _, err := f.Get(Values, k); err != nil || !bytes.Equal(v, valueOf(i, 900)) {
				t.Errorf("call %d failed: %x is %q, %v", n, k, v, err)
			}
		}
		ended(f)
	}
}

// Readers, writers, failures and files that are made anew, all at once: what was acknowledged is there.
func TestAllAtOnce(t *testing.T) {
	f := openFiles(t, t.TempDir(), vfs.OS)
	if err := f.Commit(Put{Values, inFirst(0), []byte("v")}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[Key]string{}
	done := make(chan struct{})
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				k, v := inFirst(uint64(1+w*1000+i%20)), fmt.Sprint(i)
				err := f.Commit(Put{Values, k, []byte(v)})
				mu.Lock()
				if acked[k] = v; err != nil {
					delete(acked, k)
				}
				mu.Unlock()
				if _, _, err := f.Get(Values, k); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var other sync.WaitGroup
	other.Go(func() {
		q := f.quarters[0]
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if i%2 == 0 {
				_ = q.with(false, func(o *open) error { q.fail(o, syscall.EIO); return nil })
				continue
			}
			f.Distrust(0)
			if _, err := f.Salvage(t.Context(), 0, func(Salvaged, vfs.File) error { return nil }); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	close(done)
	other.Wait()
	for _, k := range slices.SortedFunc(maps.Keys(acked), func(a, b Key) int { return bytes.Compare(a[:], b[:]) }) {
		if v, _, err := f.Get(Values, k); err != nil || string(v) != acked[k] {
			t.Errorf("%x is %q, %v, want %q", k, v, err, acked[k])
		}
	}
}
