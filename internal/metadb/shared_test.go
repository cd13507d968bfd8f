package metadb

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// Rows that wait in the journal at a restart are told to the owner, also if nothing changes after it.
func TestReplayedRowsAreToldOf(t *testing.T) {
	homes(t, func(t *testing.T, home Config) {
		dir := t.TempDir()
		s, j, dev := again(t, &Store{}, openTestJournal(t, vfs.NewMem()), dir, with(home, Config{Track: true}))
		loc := Location{dev, hashOf(1)}
		made(t, s, loc)
		var is Report
		news := func() {
			if err := s.View(bg, loc, func(tx *Tx) (err error) { is, err = tx.News(); return err }); err != nil {
				t.Fatal(err)
			}
		}
		news()
		for _, err := range s.Unreported(bg, dev) { // walked
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.SetReported(bg, loc, is); err != nil {
			t.Fatal(err)
		}
		addRow(t, s, loc, "waits", live(6, 2))
		s, _, dev = again(t, s, j, dir, with(home, Config{Track: true}))
		loc.Device = dev
		found := map[name.Hash]bool{}
		collect := func() {
			for _, l := range s.TakeChanged() {
				found[l.Hash] = true
			}
			for h, err := range s.Unreported(bg, dev) {
				if err != nil {
					t.Fatal(err)
				}
				found[h] = true
			}
		}
		collect()
		mergeAll(s, dev)
		for _, l := range s.TakeChanged() { // the next pass
			found[l.Hash] = true
		}
		was := is
		news()
		if is == was {
			t.Fatal("no news")
		}
		if !found[loc.Hash] {
			t.Errorf("news %+v, told %+v: nobody is told to tell", is, was)
		}
	})
}

// A database that is dropped while a row waits that changes nothing is gone, and stays so.
func TestDropWithARowThatChangesNothing(t *testing.T) {
	homes(t, func(t *testing.T, home Config) {
		s, _, locs, _ := journaledStore(t, 1, with(home, Config{}))
		loc := locs[0]
		addRow(t, s, loc, "a", live(6, 2))
		mergeAll(s, loc.Device)
		want := stateOf(t, s, loc)
		addRow(t, s, loc, "a", live(6, 2)) // again: it changes nothing
		ok, err := s.Replicas().Drop(bg, loc.Device.Name(), want)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := s.View(bg, loc, nothing); !errs.Is(err, errs.NotFound) {
			t.Errorf("after a drop that returned true: %v", err)
		}
	})
}

// A process was killed in the last sync of the transaction that moved a database out. The next one
// sees the value gone, which need not be durable: it is made so before anything is acknowledged
// that only the own file has.
func TestKilledWhileItMoves(t *testing.T) {
	for _, track := range []bool{false, true} {
		dir := t.TempDir()
		s, dev := open(t, dir, Config{small: 250, Track: track})
		loc := Location{dev, hashOf(1)}
		made(t, s, loc, "a", "b")
		long := strings.Repeat("long", 60)
		merge(t, s, loc, map[string][]byte{long: live(5, 1)})
		if opened(t, s, loc).small != nil {
			t.Fatal("not moved")
		}
		s.Close()
		// It was killed before the last sync of that: what is in the kernel's memory is seen.
		s, loc.Device = open(t, dir, Config{small: 250, Track: track})
		merge(t, s, loc, map[string][]byte{"acknowledged": live(6, 1)})
		if !s.now(loc.Device).small.Settled(loc.Hash) {
			t.Errorf("track %v: a row was acknowledged in the own file while the value may come back", track)
		}
		s.Close()
	}
}

// The same where it was dropped, and is made anew, large at once.
func TestKilledWhileItIsDropped(t *testing.T) {
	dir := t.TempDir()
	s, dev := open(t, dir, Config{small: 250})
	loc := Location{dev, hashOf(1)}
	made(t, s, loc, "a", "b")
	if ok, err := s.Replicas().Drop(bg, dev.Name(), stateOf(t, s, loc)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.Close() // it was killed before that was acknowledged
	s, loc.Device = open(t, dir, Config{small: 250})
	long := strings.Repeat("long", 60)
	if err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, func(tx *Tx) error {
		_, err := tx.MergeRow(0, long, live(6, 1))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !s.now(loc.Device).small.Settled(loc.Hash) {
		t.Error("a database was made in a file of its own while the value of the one before may come back")
	}
}

// unsyncedRemoves remembers files that were removed and whose folder was not synced since.
type unsyncedRemoves struct {
	vfs.FS
	gone map[string][]byte
	die  bool
}

func (u *unsyncedRemoves) Remove(p string) error {
	b, err := os.ReadFile(p)
	if err == nil {
		u.gone[p] = b
	}
	return u.FS.Remove(p)
}

func (u *unsyncedRemoves) SyncDir(dir string) error {
	if u.die {
		for p := range u.gone {
			if filepath.Dir(p) == dir {
				return syscall.EINTR // the process is killed here
			}
		}
	}
	for p := range u.gone {
		if filepath.Dir(p) == dir {
			delete(u.gone, p)
		}
	}
	return u.FS.SyncDir(dir)
}

// A process is killed between the removal of a leftover own file and the sync of its folder, and the
// next one drops the database. Then power fails.
func TestLeftoverDoesNotComeBack(t *testing.T) {
	dir := t.TempDir()
	s, dev := open(t, dir, Config{small: 250})
	loc := Location{dev, hashOf(1)}
	made(t, s, loc, "a", "b")
	shared := s.now(dev).small.Path(loc.Hash)
	before, _ := os.ReadFile(shared)
	long := strings.Repeat("long", 60)
	merge(t, s, loc, map[string][]byte{long: live(5, 1)})
	own := s.path(loc)
	s.Close()
	if err := os.WriteFile(shared, before, 0o600); err != nil { // a crash before the value was deleted
		t.Fatal(err)
	}
	fs := &unsyncedRemoves{FS: vfs.OS, gone: map[string][]byte{}, die: true}
	s, loc.Device = open(t, dir, Config{small: 250, FS: fs})
	if err := s.View(bg, loc, nothing); err == nil {
		t.Fatal("not killed")
	}
	s.Close()
	fs.die = false
	s, loc.Device = open(t, dir, Config{small: 250, FS: fs})
	merge(t, s, loc, map[string][]byte{"acknowledged": live(5, 1)})
	if ok, err := s.Replicas().Drop(bg, dev.Name(), stateOf(t, s, loc)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.Close()
	if b := fs.gone[own]; b != nil { // the power fails: the removal was never synced
		if err := os.WriteFile(own, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, loc.Device = open(t, dir, Config{small: 250})
	if err := s.View(bg, loc, nothing); !errs.Is(err, errs.NotFound) {
		got, _ := page(s, loc, Query{Params: allParams})
		t.Errorf("after the drop: %v, listed are %.20q", err, got)
	}
}

// The value of an open database is gone behind its back: an audit comes to its end.
func TestAuditOfWhatIsGone(t *testing.T) {
	s, loc := one(t, Config{})
	if err := s.View(bg, loc, nothing); err != nil {
		t.Fatal(err)
	}
	if err := s.now(loc.Device).small.Commit(small.Put{In: small.Values, Key: loc.Hash}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(bg, 3*time.Second)
	defer cancel()
	err := s.Check(ctx, loc)
	if ctx.Err() != nil {
		t.Errorf("it went on for ever: %v", err)
	}
}

// A value of a later version is not damaged, and stays where it is.
func TestValueOfALaterVersion(t *testing.T) {
	s, loc := one(t, Config{})
	f := s.now(loc.Device).small
	v, _, err := f.Get(small.Values, loc.Hash)
	if err != nil {
		t.Fatal(err)
	}
	v[0] = imageVersion + 1
	closeAll(s, loc.Device)
	if err := f.Commit(small.Put{In: small.Values, Key: loc.Hash, Value: v}); err != nil {
		t.Fatal(err)
	}
	if err := s.View(bg, loc, nothing); !errs.Is(err, errs.BadDevice) {
		t.Errorf("it opens with %v, want that the device can't be used", err)
	}
	_ = s.Isolate(bg, loc.Device, nil) // whatever it says
	if err := s.View(bg, loc, nothing); !errs.Is(err, errs.BadDevice) {
		t.Errorf("after Isolate it opens with %v: it was not damaged", err)
	}
}

// Rows go on to an open database with a file of its own when its quarter was salvaged.
func TestOwnFileAfterSalvage(t *testing.T) {
	s, _, locs, _ := journaledStore(t, 2, Config{small: 250})
	loc, dev := locs[0], locs[0].Device
	merge(t, s, loc, map[string][]byte{strings.Repeat("long", 60): live(5, 1)})
	addRow(t, s, loc, "before", live(5, 1))
	if opened(t, s, loc).small != nil {
		t.Fatal("not moved")
	}
	d := s.now(dev)
	d.small.Distrust(small.Of(loc.Hash))
	if err := s.Isolate(bg, dev, nil); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.MergeRows(bg, loc, nil, Row{0, "after", live(5, 1)}) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it goes round for ever")
	}
}
