package metadb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
)

// testJournal is a journal that is all of a log.
type testJournal struct {
	log *seglog.Log

	mu     sync.Mutex
	merged seglog.Position // mu
	gone   bool            // mu
}

func openTestJournal(t fataler, fs vfs.FS) *testJournal {
	t.Helper()
	c := seglog.Defaults()
	c.FS, c.Folder, c.SegmentSize, c.Ahead = fs, "/log", 1<<16, 4<<10
	log, err := seglog.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return &testJournal{log: log}
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

func (j *testJournal) Gone() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.gone
}

func (j *testJournal) LogID() seglog.ID { return j.log.ID() }

func (j *testJournal) upTo() seglog.Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.merged
}

func (j *testJournal) Replay(fn func(seglog.Position, [16]byte, []byte) error) error {
	for e, err := range j.log.Scan(seglog.Position{}) {
		if err != nil {
			return err
		}
		if e.Damage {
			return errors.New("damage")
		}
		if !j.upTo().Less(e.At) {
			continue
		}
		if err := fn(e.At, e.Key, e.Head); err != nil {
			return err
		}
	}
	return nil
}

func (j *testJournal) Append(key [16]byte, update []byte, apply func(seglog.Position)) error {
	if j.Gone() {
		return errs.E(errs.BadDevice, "opened anew")
	}
	_, err := j.log.Append(&seglog.Record{Kind: 10, Key: key, Head: update}, apply)
	return err
}

func (j *testJournal) Merged(through seglog.Position) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.merged.Less(through) {
		j.merged = through
	}
}

// of has a store use the journal.
func (j *testJournal) of(context.Context, *device.Device, JournalHooks) (Journal, error) {
	return j, nil
}

// mergeAll merges what waits.
func mergeAll(s *Store, dev *device.Device) {
	d := s.now(dev)
	d.hurryUp()
	s.mergeDue(d, time.Now())
}

// rowsOf returns all that a look sees of the rows of a space.
func rowsOf(t fataler, s *Store, loc Location, q Query) (got []string) {
	t.Helper()
	err := s.View(bg, loc, func(tx *Tx) error {
		stats, err := tx.Stats()
		if err != nil {
			return err
		}
		for _, p := range stats {
			if p.Stat != (Stat{}) {
				got = append(got, fmt.Sprintf("%d: %+v", p.Policy, p.Stat))
			}
		}
		one, err := tx.Row(q.Space, "b")
		if err != nil {
			return err
		}
		got = append(got, fmt.Sprintf("b: %x", one))
		return tx.List(q, func(name, row []byte) error {
			got = append(got, fmt.Sprintf("%s %x", name, row))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Two stores are told the same, one of which has a journal. Whatever was merged of it, and
// however often it is closed or its journal opened anew, both look the same, and are in the
// same state at the end.
func TestJournalChangesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, plainDir := t.TempDir(), t.TempDir()
		fs, home := vfs.NewMem(), drawHome(rt)
		j := openTestJournal(rt, fs)
		s, dev := open(t, dir, Config{Open: 1, step: 3, small: home, Journal: func(context.Context, *device.Device, JournalHooks) (Journal, error) { return j, nil }})
		plain, plainDev := open(t, plainDir, Config{small: drawHome(rt)})
		const databases = 2
		both := func(n int, do func(s *Store, loc Location) error) {
			rt.Helper()
			e1, e2 := do(s, Location{dev, hashOf(uint64(n))}), do(plain, Location{plainDev, hashOf(uint64(n))})
			if e1 != nil || e2 != nil {
				rt.Fatal(e1, e2)
			}
		}
		for n := range databases {
			both(n, func(s *Store, loc Location) error {
				return s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, nothing)
			})
		}
		names := rapid.SampledFrom([]string{"a", "b", "b/1", "b/2", "b/2/3", "b0", "c", "ü/", "ü/x", "\x00r", "zz"})
		row := rapid.Custom(func(rt *rapid.T) Row {
			r := testRow{at(rapid.Int64Range(0, 9).Draw(rt, "stamp")), rapid.Bool().Draw(rt, "dead"), rapid.Int64Range(0, 3).Draw(rt, "size")}
			return Row{policy.Index(rapid.IntRange(0, 1).Draw(rt, "space")), names.Draw(rt, "name"), r.encode()}
		})
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			n := rapid.IntRange(0, databases-1).Draw(rt, "database")
			change := (*Store).Update
			if rapid.Bool().Draw(rt, "apart") {
				change = (*Store).UpdateApart
			}
			switch rapid.IntRange(0, 10).Draw(rt, "what") {
			default:
				rows := rapid.SliceOfN(row, 1, 3).Draw(rt, "rows")
				both(n, func(s *Store, loc Location) error { return s.MergeRows(bg, loc, nil, rows...) })
			case 5:
				stamp := at(rapid.Int64Range(0, 9).Draw(rt, "delete"))
				both(n, func(s *Store, loc Location) error {
					return change(s, bg, loc, func(tx *Tx) error {
						i := tx.Info()
						i.Delete = stamp
						return tx.MergeInfo(i)
					})
				})
			case 10:
				stamp := rapid.Int64Range(0, 9).Draw(rt, "field")
				both(n, func(s *Store, loc Location) error {
					return change(s, bg, loc, func(tx *Tx) error {
						return tx.MergeFields([]Field{{Name: "X", Value: fmt.Sprint(stamp), Stamp: at(stamp)}})
					})
				})
			case 6:
				mergeAll(s, dev)
			case 7: // only some
				r := s.now(dev).residents.acquire(hashOf(uint64(n)))
				s.mergeOne(s.now(dev), r, time.Now())
				s.now(dev).residents.release(r)
			case 8: // the log is opened anew, and what it knows of merges is older
				j.mu.Lock()
				j.gone = true
				j.mu.Unlock()
				j = &testJournal{log: j.log}
				_ = s.MergeRows(bg, Location{dev, hashOf(0)}, nil, Row{0, "a", live(0, 0)}) // finds out
				both(0, func(s *Store, loc Location) error { return s.MergeRows(bg, loc, nil, Row{0, "a", live(0, 0)}) })
			case 9: // killed
				s.Close()
				merged := j.upTo()
				if rapid.Bool().Draw(rt, "all is replayed") {
					merged = seglog.Position{}
				}
				fs = fs.AfterCrash(rapid.Uint64().Draw(rt, "crash"))
				j = openTestJournal(rt, fs)
				j.merged = merged
				s, dev = open(t, dir, Config{Open: 1, step: 3, small: home, Journal: func(context.Context, *device.Device, JournalHooks) (Journal, error) { return j, nil }})
			}
			q := Query{Params: allParams, Space: policy.Index(rapid.IntRange(0, 1).Draw(rt, "space"))}
			q.Reverse, q.Reserved = rapid.Bool().Draw(rt, "reverse"), rapid.Bool().Draw(rt, "reserved")
			q.Marker, q.EndMarker = rapid.OneOf(rapid.Just(""), names).Draw(rt, "marker"), rapid.OneOf(rapid.Just(""), names).Draw(rt, "end")
			q.Delimiter = rapid.SampledFrom([]string{"", "/", "b"}).Draw(rt, "delimiter")
			q.Prefix = rapid.SampledFrom([]string{"", "b", "b/", "ü"}).Draw(rt, "prefix")
			q.HasPath = rapid.IntRange(0, 4).Draw(rt, "path") == 0
			q.Limit = rapid.IntRange(1, 9).Draw(rt, "limit")
			got, want := rowsOf(rt, s, Location{dev, hashOf(uint64(n))}, q), rowsOf(rt, plain, Location{plainDev, hashOf(uint64(n))}, q)
			if !slices.Equal(got, want) {
				rt.Fatalf("%+v:\ngot  %q\nwant %q", q, got, want)
			}
		}
		for n := range databases {
			at, plainAt := Location{dev, hashOf(uint64(n))}, Location{plainDev, hashOf(uint64(n))}
			got, want := stateOf(rt, s, at), stateOf(rt, plain, plainAt)
			if got.Digest != want.Digest {
				rt.Fatalf("database %d is %+v, want %+v", n, got, want)
			}
			if err := s.Check(bg, at); err != nil {
				rt.Fatal(err)
			}
		}
		mergeAll(s, dev)
		if n := s.now(dev).journal.waiting; n != 0 {
			rt.Fatalf("%d updates wait", n)
		}
		s.Close()
		plain.Close()
	})
}

// What is not for rows is done between the steps of a merge, and merges nothing itself.
func TestApartDoesNotWait(t *testing.T) {
	j := openTestJournal(t, vfs.NewMem())
	s, dev := open(t, t.TempDir(), Config{step: 10, small: -1, Journal: j.of})
	loc := Location{dev, hashOf(1)}
	if err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}}, nothing); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := s.MergeRows(bg, loc, nil, Row{0, fmt.Sprint(i), live(5, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	r := s.now(dev).residents.acquire(loc.Hash)
	defer s.now(dev).residents.release(r)
	field := func(v string) func(*Tx) error {
		return func(tx *Tx) error { return tx.MergeFields([]Field{{Name: "X-" + v, Value: v, Stamp: at(7)}}) }
	}
	if err := s.UpdateApart(bg, loc, field("first")); err != nil {
		t.Fatal(err)
	}
	if n := r.waits.Load(); n != 100 {
		t.Errorf("after it %d rows wait", n)
	}

	// One that is behind somebody who merges all is done before that is.
	err := s.with(bg, loc, s.open, func(_ *disk, e *entry) error {
		d := e.db
		begun, goOn := make(chan bool), make(chan bool)
		var all sync.WaitGroup
		all.Go(func() {
			d.run(&write{quiet: func() error { begun <- true; <-goOn; return nil }})
		})
		<-begun
		queued := func(n int) {
			for {
				d.mu.Lock()
				now := len(d.waiting)
				d.mu.Unlock()
				if now == n {
					return
				}
				yield()
			}
		}
		all.Go(func() {
			if err := d.merge(); err != nil {
				t.Error(err)
			}
		})
		queued(1)
		left := int64(-1)
		all.Go(func() {
			_, err := d.apart(func(tx *Tx) error { left = r.waits.Load(); return field("second")(tx) })
			if err != nil {
				t.Error(err)
			}
		})
		queued(2)
		close(goOn)
		all.Wait()
		if left != 90 || r.waits.Load() != 0 {
			t.Errorf("it was done when %d rows still waited, and in the end %d do", left, r.waits.Load())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

// Transactions that take long have less to do the next time.
func TestNextStep(t *testing.T) {
	for _, tt := range []struct {
		step, most int
		took       time.Duration
		want       int
	}{
		{1000, 1000, 100 * time.Millisecond, 500},
		{1000, 1000, 30 * time.Millisecond, 1000},
		{500, 1000, time.Millisecond, 1000},
		{1000, 1000, time.Millisecond, 1000},
		{120, 1000, time.Second, leastStep},
		{3, 3, time.Second, 3},
	} {
		if got := nextStep(tt.step, tt.most, tt.took); got != tt.want {
			t.Errorf("after %d of at most %d in %v: got %d, want %d", tt.step, tt.most, tt.took, got, tt.want)
		}
	}
}

// An update comes while another one of the same row is being merged: it still waits.
func TestUpdateWhileMerging(t *testing.T) {
	r := &resident{}
	tx := &Tx{schema: testSchema{}, infob: &memory{}}
	update := func(n int64) {
		r.add(arrival{at: seglog.Position{Segment: 1, Offset: n}, rows: []Row{{0, "r", live(n, n)}, {0, fmt.Sprint(n), live(n, n)}}})
	}
	update(1)
	b, err := r.take(tx, 0)
	if err != nil || b.n != 1 || len(b.rows) != 2 {
		t.Fatalf("took %+v, %v", b, err)
	}
	update(2)
	r.mu.Lock()
	err = r.absorb(tx)
	r.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	r.merged(b)
	if oldest, ok := r.oldest(); !ok || oldest.at.Offset != 2 || len(r.queue) != 1 {
		t.Errorf("%d wait, from %v", len(r.queue), oldest.at)
	}
	if b, err = r.take(tx, 0); err != nil || len(b.rows) != 2 || !bytes.Equal(b.values[1], live(2, 2)) {
		t.Errorf("took %+v, %v", b, err)
	}
	r.merged(b)
	if len(r.rows) != 0 || len(r.queue) != 0 {
		t.Errorf("left are %v, %v", r.rows, r.queue)
	}
}

// An update that was acknowledged is in the database, or the database is gone and was
// before it: not if it goes in the same moment.
func TestDropWaitsForUpdates(t *testing.T) { homes(t, testDropWaitsForUpdates) }

func testDropWaitsForUpdates(t *testing.T, home Config) {
	j := openTestJournal(t, vfs.NewMem())
	s, dev := open(t, t.TempDir(), with(home, Config{Journal: j.of}))
	loc := Location{dev, hashOf(1)}
	for round := range 20 {
		if err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, nothing); err != nil {
			t.Fatal(err)
		}
		was := stateOf(t, s, loc)
		var wg sync.WaitGroup
		var added error
		wg.Go(func() { added = s.MergeRows(bg, loc, nil, Row{0, "r", live(int64(round), 1)}) })
		dropped, err := s.Replicas().Drop(bg, dev.Name(), was)
		wg.Wait()
		if err != nil || added != nil && !errs.Is(added, errs.NotFound) {
			t.Fatal(err, added)
		}
		if dropped && added == nil {
			t.Fatal("an acknowledged update went with its database")
		}
		if !dropped {
			if now := stateOf(t, s, loc); now == was {
				t.Fatal("nothing was added, and yet it was not dropped")
			} else if _, err := s.Replicas().Drop(bg, dev.Name(), now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.MergeRows(bg, loc, nil, Row{0, "r", live(1, 1)}); !errs.Is(err, errs.NotFound) {
		t.Errorf("got %v, want %v", err, errs.NotFound)
	}
}

// What was in the journal of a database that is gone is not of the one in its place.
func TestJournalOfAnEarlierDatabase(t *testing.T) { homes(t, testJournalOfAnEarlierDatabase) }

func testJournalOfAnEarlierDatabase(t *testing.T, home Config) {
	fs, dir := vfs.NewMem(), t.TempDir()
	j := openTestJournal(t, fs)
	s, dev := open(t, dir, with(home, Config{Journal: j.of}))
	loc := Location{dev, hashOf(1)}
	for i := range 2 {
		if err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, nothing); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			break
		}
		if err := s.MergeRows(bg, loc, nil, Row{0, "old", live(1, 1)}); err != nil {
			t.Fatal(err)
		}
		if ok, err := s.Replicas().Drop(bg, dev.Name(), stateOf(t, s, loc)); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	s.Close()
	j = openTestJournal(t, fs)
	s, loc.Device = open(t, dir, with(home, Config{Journal: j.of}))
	if got, err := page(s, loc, Query{Params: allParams}); err != nil || len(got) != 0 {
		t.Errorf("got %q, %v", got, err)
	}
}

// Who refuses is heard, what can't be merged is refused before it is anywhere, and a name
// that nobody has is not found.
func TestRefusedUpdates(t *testing.T) { homes(t, testRefusedUpdates) }

func testRefusedUpdates(t *testing.T, home Config) {
	j := openTestJournal(t, vfs.NewMem())
	s, dev := open(t, t.TempDir(), with(home, Config{Journal: j.of}))
	loc := Location{dev, hashOf(1)}
	if err := s.MergeRows(bg, loc, nil, Row{0, "r", live(1, 1)}); !errs.Is(err, errs.NotFound) {
		t.Errorf("got %v, want %v", err, errs.NotFound)
	}
	if err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(7)}, nothing); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	admit := func(i Info) error {
		if i.Put != at(7) {
			t.Errorf("asked with %+v", i)
		}
		return refused
	}
	if err := s.MergeRows(bg, loc, admit, Row{0, "r", live(1, 1)}); !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
	for what, r := range map[string]Row{
		"no name": {0, "", live(1, 1)}, "a long name": {0, string(bytes.Repeat([]byte("n"), MaxName+1)), live(1, 1)}, "no row": {0, "r", []byte{9}},
	} {
		if err := s.MergeRows(bg, loc, nil, r); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: got %v, want %v", what, err, errs.Invalid)
		}
	}
	if got := j.log.Segments(); len(got) != 0 {
		t.Errorf("something is in the journal: segments %v", got)
	}
}

// Whatever is in the journal is an update or refused, and one that is written again is the
// same.
func FuzzUpdate(f *testing.F) {
	f.Add(appendUpdate(nil, ID{1}, []Row{{0, "a", live(1, 2)}, {300, "b", dead(3)}}))
	f.Add([]byte{updateVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, rows, err := decodeUpdate(testSchema{}, b)
		if err != nil {
			return
		}
		if again := appendUpdate(nil, id, rows); !bytes.Equal(again, b) {
			t.Errorf("%x is written as %x", b, again)
		}
	})
}
