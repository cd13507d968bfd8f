package metadb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Whichever call of the file system fails while a database is made, it is there
// whole or not at all, and nothing is left in tmp after the next start.
func TestMakingFailsAtAnyCall(t *testing.T) { homes(t, testMakingFailsAtAnyCall) }

func testMakingFailsAtAnyCall(t *testing.T, home Config) {
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		faulty := vfs.FailAt(vfs.OS, n)
		s, dev := open(t, dir, with(home, Config{FS: faulty}))
		loc := Location{dev, hashOf(1)}
		fill := func(tx *Tx) error { _, err := tx.MergeRow(0, "r", live(5, 1)); return err }
		acked := s.Ensure(bg, loc, Info{}, fill)
		fired = faulty.Fired()
		if !fired && acked != nil {
			t.Fatalf("no call failed, and yet: %v", acked)
		}
		s.Close()

		s, dev = open(t, dir, home)
		loc.Device = dev
		err := s.Check(bg, loc)
		if acked == nil && err != nil || err != nil && !errs.Is(err, errs.NotFound) {
			t.Errorf("call %d failed, Ensure said %v: the database then gives %v", n, acked, err)
		}
		if err := s.Ensure(bg, loc, Info{}, fill); err != nil {
			t.Errorf("call %d failed: made again, %v", n, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "sda", "tmp", "*")); len(left) > 0 {
			t.Errorf("call %d failed: left is %v", n, left)
		}
		s.Close()
	}
}

func TestDatabaseIsReadAnewAfterAFailedCommit(t *testing.T) {
	s, loc := one(t, own)
	merge(t, s, loc, map[string][]byte{"kept": live(5, 1)})
	opened(t, s, loc).bolt.MaxSize = 1 // it may not grow, and says so in the commit
	big := func(tx *Tx) error {
		for i := range 5000 {
			if _, err := tx.MergeRow(0, fmt.Sprintf("lost-%d-%s", i, strings.Repeat("x", 50)), live(5, 1)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.Update(bg, loc, big); err == nil {
		t.Fatal("a commit that could not be written was acknowledged")
	}
	got, err := page(s, loc, Query{Params: allParams})
	if err != nil || !slices.Equal(got, []string{"kept"}) {
		t.Errorf("listed are %q, %v; want what was there before", got, err)
	}
	if err := s.Update(bg, loc, big); err != nil {
		t.Errorf("read anew, the database takes no writes: %v", err)
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

// A killed process may leave a commit that everyone sees and that no disk has.
// What repeats it changes nothing, and yet must not be acknowledged before that
// is synced.
func TestWhatIsFoundIsSyncedBeforeItCounts(t *testing.T) {
	dir := t.TempDir()
	s, dev := open(t, dir, Config{Open: 1, small: -1})
	loc, other := Location{dev, hashOf(1)}, Location{dev, hashOf(2)}
	row := func(tx *Tx) error { _, err := tx.MergeRow(0, "r", live(5, 1)); return err }
	if err := s.Ensure(bg, loc, Info{}, row); err != nil {
		t.Fatal(err)
	}
	if opened(t, s, loc).settle != nil {
		t.Error("a database that was just made is not believed to be durable")
	}
	if err := s.Ensure(bg, other, Info{}, nothing); err != nil { // and the first is closed
		t.Fatal(err)
	}
	if err := s.View(bg, loc, nothing); err != nil {
		t.Fatal(err)
	}
	if opened(t, s, loc).settle != nil {
		t.Error("what this process has synced is not believed to be durable")
	}
	s.Close()
	s, loc.Device = open(t, dir, Config{Open: 1, small: -1}) // as another process finds it
	if err := s.View(bg, loc, nothing); err != nil {
		t.Fatal(err)
	}
	db := opened(t, s, loc)
	if db.settle == nil {
		t.Fatal("what is found is believed to be durable")
	}
	db.settle = func() error { return syscall.EIO }
	if err := s.Update(bg, loc, row); !errs.Is(err, errs.BadDevice) {
		t.Fatalf("not synced, and yet acknowledged: %v", err)
	}
	if err := s.Update(bg, loc, row); err != nil {
		t.Fatal(err)
	}
	if opened(t, s, loc).settle != nil {
		t.Error("it is synced again and again")
	}
}

// dirs is the real file system, with a say in what the syncs of directories do.
type dirs struct {
	vfs.FS
	sync func(dir string) error
}

func (d dirs) SyncDir(dir string) error { return d.sync(dir) }

// A killed process may leave a database whose name no disk has, nor those of the
// folders above it: they are synced before anything there is acknowledged or told
// of, once.
func TestNamesAreSyncedBeforeTheyCount(t *testing.T) {
	root := t.TempDir()
	row := func(tx *Tx) error { _, err := tx.MergeRow(0, "r", live(5, 1)); return err }
	killed, dev := open(t, root, Config{small: -1, FS: dirs{vfs.OS, func(string) error { return nil }}})
	for n := range uint64(2) {
		if err := killed.Ensure(bg, Location{dev, hashOf(n + 1)}, Info{}, row); err != nil {
			t.Fatal(err)
		}
	}
	killed.Close()

	var synced []string
	var broken error
	s, dev := open(t, root, Config{small: -1, FS: dirs{vfs.OS, func(dir string) error {
		synced = append(synced, dir)
		return broken
	}}})
	loc := Location{dev, hashOf(1)}
	leaf := filepath.Dir(s.path(loc))
	want := []string{dev.Path(), dev.Dir("tests"), filepath.Dir(leaf), leaf}
	if _, err := s.Replicas().State(bg, dev.Name(), loc.Hash); err != nil || !slices.Equal(synced, want) {
		t.Errorf("a peer is told of it (%v) when synced are %q, want %q", err, synced, want)
	}
	synced = nil
	if err := s.Update(bg, loc, row); err != nil || len(synced) > 0 {
		t.Errorf("the second time %q are synced, %v", synced, err)
	}

	other := Location{dev, hashOf(2)}
	broken = syscall.EIO
	for range 2 {
		if err := s.Update(bg, other, row); !errs.Is(err, errs.BadDevice) {
			t.Errorf("a directory could not be synced, and what is in it is acknowledged: %v", err)
		}
		broken = nil // a later sync proves nothing of what the failed one should have kept
	}
	if err := s.Update(bg, loc, row); err != nil {
		t.Errorf("what was synced before: %v", err)
	}
}

// A commit whose last sync failed may be seen in the file and be on no disk, and
// a later sync has nothing left to write: it must be written again, and that
// must succeed, before anyone builds on it.
func TestFailedCommitIsWrittenAgain(t *testing.T) {
	row := func(tx *Tx) error { _, err := tx.MergeRow(0, "r", live(5, 1)); return err }
	for n, fired := 0, true; fired; n++ {
		faulty := vfs.FailAt(vfs.OS, n)
		counter := vfs.Count(faulty)
		s, dev := open(t, t.TempDir(), Config{small: -1, FS: counter})
		loc := Location{dev, hashOf(1)}
		if err := s.Ensure(bg, loc, Info{}, nothing); err != nil {
			s.Close()
			continue
		}
		made := faulty.Fired()
		db := opened(t, s, loc)
		db.bolt.NoSync = true // as if the sync of the commit had failed
		if err := s.Update(bg, loc, func(tx *Tx) error { return errors.Join(row(tx), tx.MergeFields([]Field{{"A", "b", at(1)}})) }); err != nil {
			t.Fatal(err)
		}
		db.fail(syscall.EIO)
		if err := s.Update(bg, loc, nothing); err == nil {
			t.Fatal("a failed database takes writes")
		}
		before := counter.Counts()
		err := s.Update(bg, loc, row)
		fired = faulty.Fired()
		if hit := fired && !made; hit != (err != nil) {
			t.Errorf("call %d failed (%v), and the same write again gave %v", n, hit, err)
		}
		if err := s.Update(bg, loc, row); err != nil {
			t.Errorf("call %d failed: the disk is well again, and yet: %v", n, err)
		}
		if c := counter.Counts().Sub(before); c.Writes < 1 || c.Syncs < 1 {
			t.Errorf("call %d failed: acknowledged after %d writes and %d syncs", n, c.Writes, c.Syncs)
		}
		if err := s.Check(bg, loc); err != nil {
			t.Error(err)
		}
		s.Close()
	}
}

func TestFailedDatabaseIsClosedUnderLoad(t *testing.T) { homes(t, testFailedDatabaseIsClosedUnderLoad) }

func testFailedDatabaseIsClosedUnderLoad(t *testing.T, home Config) {
	s, loc := one(t, home)
	held := make(chan struct{})
	inside := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.View(bg, loc, func(*Tx) error { close(inside); <-held; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-inside
	old := opened(t, s, loc)
	old.fail(errors.New("the disk said no"))
	if err := s.View(bg, loc, nothing); err == nil {
		t.Error("a failed database still answers")
	}
	wg.Go(func() { // waits for the first to end, then gets it anew
		if err := s.View(bg, loc, nothing); err != nil {
			t.Errorf("after the failure: %v", err)
		}
	})
	close(held)
	wg.Wait()
	if opened(t, s, loc) == old {
		t.Error("the failed database is still open")
	}
}

func TestWalkGoesOn(t *testing.T) {
	s, dev := open(t, t.TempDir(), own)
	for n := range uint64(3) {
		if err := s.Ensure(bg, Location{dev, hashOf(n + 1)}, Info{}, nothing); err != nil {
			t.Fatal(err)
		}
	}
	hex := hashOf(2).String()
	if err := os.RemoveAll(dev.Dir("tests", hex[:2])); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dev.Dir("tests", "stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	found := 0
	for h, err := range s.Walk(bg, dev) {
		if err != nil || h == hashOf(2) {
			t.Errorf("found %v, %v", h, err)
		}
		found++
	}
	if found != 2 {
		t.Errorf("found %d databases, want 2", found)
	}
}
