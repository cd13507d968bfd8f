package metadb

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
)

// journaledStore returns a store with a journal and n databases.
func journaledStore(t *testing.T, n int, cfg Config) (s *Store, j *testJournal, at []Location, dir string) {
	t.Helper()
	j, dir = openTestJournal(t, vfs.NewMem()), t.TempDir()
	cfg.Journal = j.of
	s, dev := open(t, dir, cfg)
	for i := range n {
		at = append(at, Location{dev, hashOf(uint64(i))})
		if err := s.Ensure(bg, at[i], Info{Path: name.Path{Account: "a"}, Created: stampOne, Put: stampOne}, nothing); err != nil {
			t.Fatal(err)
		}
	}
	return s, j, at, dir
}

// again opens a store anew, as after its process was killed: what the log was told of merges
// is lost.
func again(t *testing.T, s *Store, j *testJournal, dir string, cfg Config) (*Store, *testJournal, *device.Device) {
	t.Helper()
	s.Close()
	j = &testJournal{log: j.log}
	cfg.Journal = j.of
	s, dev := open(t, dir, cfg)
	return s, j, dev
}

func addRow(t *testing.T, s *Store, loc Location, name string, row []byte) {
	t.Helper()
	if err := s.MergeRows(bg, loc, nil, Row{0, name, row}); err != nil {
		t.Fatal(err)
	}
}

// listed fails the test where a database lists something else.
func listed(t *testing.T, what string, s *Store, loc Location, want ...string) {
	t.Helper()
	if got, err := page(s, loc, Query{Params: allParams}); err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: listed are %q, %v, want %q", what, got, err, want)
	}
}

// closeAll closes the databases of a device, as when others need the room.
func closeAll(s *Store, dev *device.Device) {
	c := s.now(dev).cache
	c.end(errors.New("for a moment"))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = nil
}

// Whatever becomes of a change that has taken what waits into its transaction: all that was
// acknowledged is seen, meanwhile and afterwards.
func TestLookWhileOthersMerge(t *testing.T) { homes(t, testLookWhileOthersMerge) }

func testLookWhileOthersMerge(t *testing.T, home Config) {
	s, _, at, _ := journaledStore(t, 1, home)
	loc := at[0]
	merge(t, s, loc, map[string][]byte{"x": live(2, 1)})
	addRow(t, s, loc, "a", live(5, 1))
	listed(t, "one waits", s, loc, "a", "x")
	addRow(t, s, loc, "b", live(5, 1))
	addRow(t, s, loc, "x", live(6, 2))
	began, proceed := make(chan struct{}), make(chan struct{})
	broken := errors.New("broken")
	var once sync.Once
	var all sync.WaitGroup
	all.Go(func() {
		err := s.Update(bg, loc, func(tx *Tx) error {
			once.Do(func() {
				close(began)
				<-proceed
			})
			tx.touch = true
			return broken
		})
		if !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
	})
	<-began
	listed(t, "while a change is made", s, loc, "a", "b", "x")
	close(proceed)
	all.Wait()
	listed(t, "after it has failed", s, loc, "a", "b", "x")
}

// One who leaves while another one adds something does not make it forgotten.
func TestReleaseWhileSomethingComes(t *testing.T) {
	rs := newResidents()
	for round := range 20_000 {
		a, b := rs.acquire(hashOf(1)), rs.acquire(hashOf(1))
		var all sync.WaitGroup
		all.Go(func() { rs.release(a) })
		all.Go(func() {
			rs.arrived(b)
			b.add(arrival{at: seglog.Position{Segment: 1, Offset: int64(round)}})
			rs.release(b)
		})
		all.Wait()
		if list := rs.withWaiting(); len(list) != 1 || b.place != nil {
			t.Fatalf("round %d: %d have something waiting, idle %v", round, len(list), b.place != nil)
		}
		n, _ := b.discard()
		rs.fewer(b, n)
		rs.release(b)
		if b.place == nil {
			t.Fatalf("round %d: it is not idle", round)
		}
	}
}

// A database is found damaged, and is moved into quarantine: what waits is given up with it,
// and holds neither the log nor others.
func TestDamagedDatabaseHoldsNothing(t *testing.T) {
	s, j, at, dir := journaledStore(t, 2, own)
	bad, good := at[0], at[1]
	addRow(t, s, bad, "a", live(5, 1))
	closeAll(s, bad.Device)
	if err := os.Truncate(s.path(bad), 100); err != nil {
		t.Fatal(err)
	}
	addRow(t, s, good, "a", live(5, 1))
	mergeAll(s, bad.Device)
	if err := s.Isolate(bg, bad.Device, nil); err != nil {
		t.Fatal(err)
	}
	mergeAll(s, bad.Device)
	if n := s.now(bad.Device).journal.bytes(); n != 0 || j.upTo() == (seglog.Position{}) {
		t.Errorf("%d bytes wait, merged is up to %v", n, j.upTo())
	}
	if err := s.MergeRows(bg, bad, nil, Row{0, "b", live(6, 1)}); !errs.Is(err, errs.NotFound) {
		t.Errorf("got %v, want %v", err, errs.NotFound)
	}
	s, j, good.Device = again(t, s, j, dir, own)
	listed(t, "the other one, after a start", s, good, "a")
	mergeAll(s, good.Device)
	if n := s.now(good.Device).journal.bytes(); n != 0 || j.upTo() == (seglog.Position{}) {
		t.Errorf("after a start %d bytes wait, merged is up to %v", n, j.upTo())
	}
}

// A file is gone, by whoever's hand: nothing more is acknowledged once that is known.
func TestDatabaseTakenAway(t *testing.T) {
	s, _, at, _ := journaledStore(t, 1, own)
	loc := at[0]
	addRow(t, s, loc, "a", live(5, 1))
	closeAll(s, loc.Device)
	if err := os.Remove(s.path(loc)); err != nil {
		t.Fatal(err)
	}
	mergeAll(s, loc.Device)
	if err := s.MergeRows(bg, loc, nil, Row{0, "b", live(6, 1)}); !errs.Is(err, errs.NotFound) {
		t.Errorf("got %v, want %v", err, errs.NotFound)
	}
	if err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: stampOne, Put: stampOne}, nothing); err != nil {
		t.Fatal(err)
	}
	listed(t, "made anew", s, loc)
}

// All that is replayed was merged before: the log is told so.
func TestNothingIsHeldAfterAStart(t *testing.T) { homes(t, testNothingIsHeldAfterAStart) }

func testNothingIsHeldAfterAStart(t *testing.T, home Config) {
	s, j, at, dir := journaledStore(t, 1, home)
	addRow(t, s, at[0], "a", live(5, 1))
	mergeAll(s, at[0].Device)
	merged := j.upTo()
	if merged == (seglog.Position{}) {
		t.Fatal("nothing was merged")
	}
	s, j, dev := again(t, s, j, dir, home)
	listed(t, "after a start", s, Location{dev, hashOf(0)}, "a")
	mergeAll(s, dev)
	if got := j.upTo(); got != merged {
		t.Errorf("merged is up to %v, want %v", got, merged)
	}
}

// One database can't be opened for now. Others are read and written.
func TestOneDatabaseIsHeldUp(t *testing.T) {
	s, j, at, dir := journaledStore(t, 2, own)
	addRow(t, s, at[0], "a", live(5, 1))
	addRow(t, s, at[1], "b", live(5, 1))
	s.Close()
	f, err := os.Open(s.path(at[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	s, _, dev := again(t, s, j, dir, own)
	listed(t, "the other one", s, Location{dev, hashOf(1)}, "b")
	addRow(t, s, Location{dev, hashOf(1)}, "c", live(5, 1))
}

// syncedDirs notes which directories are synced.
type syncedDirs struct {
	vfs.FS
	mu  sync.Mutex
	all []string // mu
}

func (f *syncedDirs) SyncDir(dir string) error {
	f.mu.Lock()
	f.all = append(f.all, dir)
	f.mu.Unlock()
	return f.FS.SyncDir(dir)
}

// Nothing goes to the journal for a database that a killed process may have left without a
// name on the disk.
func TestNameIsDurableBeforeARow(t *testing.T) {
	s, j, at, dir := journaledStore(t, 1, own)
	fs := &syncedDirs{FS: vfs.OS}
	s, _, at[0].Device = again(t, s, j, dir, Config{small: -1, FS: fs})
	addRow(t, s, at[0], "a", live(5, 1))
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if want := filepath.Dir(s.path(at[0])); !slices.Contains(fs.all, want) {
		t.Errorf("acknowledged, and %s was not synced, only %q", want, fs.all)
	}
}

// What was merged takes no memory, whether anybody looks or not.
func TestMergedRowsAreForgotten(t *testing.T) { homes(t, testMergedRowsAreForgotten) }

func testMergedRowsAreForgotten(t *testing.T, home Config) {
	s, _, at, _ := journaledStore(t, 1, home)
	loc := at[0]
	for round := range 3 {
		for i := range 200 {
			addRow(t, s, loc, strconv.Itoa(1000*round+i), live(5, 1))
		}
		mergeAll(s, loc.Device)
		if round > 0 {
			continue
		}
		if err := s.View(bg, loc, nothing); err != nil {
			t.Fatal(err)
		}
	}
	r := s.now(loc.Device).residents.acquire(loc.Hash)
	if r.queue != nil || r.rows != nil || r.dirty != nil || r.sorted != nil || r.incoming != nil {
		t.Errorf("%d, %d, %d, %d and %d are kept", len(r.queue), len(r.rows), len(r.dirty), len(r.sorted), len(r.incoming))
	}
}

// All goes on at once: updates, looks, merges, drops, and databases that fail. Nobody waits
// for ever.
func TestAllAtOnceWithAJournal(t *testing.T) { homes(t, testAllAtOnceWithAJournal) }

func testAllAtOnceWithAJournal(t *testing.T, home Config) {
	s, _, at, _ := journaledStore(t, 2, with(home, Config{Open: 1}))
	var all sync.WaitGroup
	expected := func(err error) {
		if err != nil && !errs.Is(err, errs.NotFound) && !errors.Is(err, errFailed) {
			t.Error(err)
		}
	}
	const rounds = 40
	for i, loc := range at {
		for n := range 2 {
			all.Go(func() {
				for round := range rounds {
					expected(s.MergeRows(bg, loc, nil, Row{0, strconv.Itoa(n), live(int64(round+1), 1)}))
				}
			})
		}
		all.Go(func() {
			for range rounds {
				expected(s.View(bg, loc, nothing))
				mergeAll(s, loc.Device)
			}
		})
		all.Go(func() {
			for round := range rounds {
				switch (round + i) % 3 {
				case 0:
					was, err := s.Replicas().State(bg, loc.Device.Name(), loc.Hash)
					expected(err)
					_, err = s.Replicas().Drop(bg, loc.Device.Name(), was)
					expected(err)
				case 1:
					expected(s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: stampOne, Put: stampOne}, nothing))
				case 2:
					expected(s.look(bg, loc, func(tx *Tx) error {
						s.now(loc.Device).cache.mu.Lock()
						defer s.now(loc.Device).cache.mu.Unlock()
						if e := s.now(loc.Device).cache.entries[loc.Hash]; e != nil && e.db != nil {
							e.db.fail(errFailed)
						}
						return nil
					}))
				}
			}
		})
	}
	all.Wait()
}

// stampOne is when databases are made.
var stampOne = at(1)

var errFailed = errors.New("it was said to fail")

// One look meets a page that can't be read, once. The file is whole: what waits for it is
// neither given up nor kept from it, and nothing goes into quarantine.
func TestDamageOfAMoment(t *testing.T) { homes(t, testDamageOfAMoment) }

func testDamageOfAMoment(t *testing.T, home Config) {
	s, _, at, _ := journaledStore(t, 1, home)
	loc := at[0]
	addRow(t, s, loc, "a", live(5, 1))
	mergeAll(s, loc.Device)
	addRow(t, s, loc, "b", live(5, 1))
	if err := s.View(bg, loc, func(*Tx) error { panic("a fault, once") }); !errs.Is(err, errs.Corrupt) {
		t.Fatalf("got %v, want %v", err, errs.Corrupt)
	}
	mergeAll(s, loc.Device)
	if err := s.Isolate(bg, loc.Device, nil); err != nil {
		t.Fatal(err)
	}
	if c := s.Counts(); c.Quarantined != 0 {
		t.Errorf("done was %+v", c)
	}
	listed(t, "the file is whole", s, loc, "a", "b")
}

// What was seen before all was forgotten is not learnt afterwards, and a folder is not
// settled by who began before a name in it came into doubt.
func TestWhatWasSeenBefore(t *testing.T) {
	r := &resident{}
	life := r.life.Load()
	r.learn(&known{tx: 7}, life)
	if k := r.known.Load(); k == nil || k.tx != 7 {
		t.Errorf("known is %+v", k)
	}
	r.forget()
	r.learn(&known{tx: 8}, life)
	if k := r.known.Load(); k != nil {
		t.Errorf("known is %+v", k)
	}
	d := &disk{notes: &notes{}, settled: map[[4]byte]bool{}}
	key := [4]byte{1}
	turn := d.nowTurn()
	after := d.unsettle(key)
	if d.isSettled(key, turn); d.settled[key] {
		t.Error("it is settled")
	}
	if d.isSettled(key, after); !d.settled[key] {
		t.Error("it is not settled")
	}
}

// A database is made where one was dropped before that is forgotten: rows are taken for it all the same.
func TestForgottenLate(t *testing.T) { homes(t, testForgottenLate) }

func testForgottenLate(t *testing.T, home Config) {
	s, _, all, _ := journaledStore(t, 1, home)
	s.now(all[0].Device).residents.forget(all[0].Hash)
	ctx, cancel := context.WithTimeout(bg, 20*time.Second)
	defer cancel()
	if err := s.MergeRows(ctx, all[0], nil, Row{0, "r", live(5, 1)}); err != nil {
		t.Fatal(err)
	}
	listed(t, "taken", s, all[0], "r")
}

// Positions of a few updates are kept, however many there are behind one that can't be merged.
func TestOneThatWaitsLong(t *testing.T) { homes(t, testOneThatWaitsLong) }

func testOneThatWaitsLong(t *testing.T, home Config) {
	s, j, at, _ := journaledStore(t, 2, home)
	d := s.now(at[0].Device)
	addRow(t, s, at[0], "a", live(5, 1))
	r := d.residents.acquire(at[0].Hash)
	r.retry = time.Now().Add(time.Hour)
	for i := range 5 * orderEach {
		addRow(t, s, at[1], "x", live(int64(5+i), 1))
	}
	s.mergeDue(d, time.Now().Add(mergeAge))
	if n := len(d.journal.order); n > 6 || j.upTo() != (seglog.Position{}) {
		t.Errorf("%d positions are kept, merged is up to %v", n, j.upTo())
	}
	r.retry = time.Time{}
	d.residents.release(r)
	mergeAll(s, at[0].Device)
	if n := len(d.journal.order); n != 0 || j.upTo() != d.journal.last {
		t.Errorf("%d positions are kept, merged is up to %v, want %v", n, j.upTo(), d.journal.last)
	}
}
