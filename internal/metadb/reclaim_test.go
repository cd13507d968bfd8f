package metadb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// reclaim makes a pass that must not fail.
func reclaim(t fataler, s *Store, horizon int64) {
	t.Helper()
	if err := s.Reclaim(bg, deviceOf(s), at(horizon), nil); err != nil {
		t.Fatal(err)
	}
}

// deadOf returns the names of the dead rows of a file.
func deadOf(t fataler, s *Store, loc Location) (names []string) {
	t.Helper()
	err := s.look(bg, loc, func(tx *Tx) error {
		c := tx.dead.Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			names = append(names, string(k[spaceLen:]))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// setInfo merges what a database knows of itself.
func setInfo(i Info) func(*Tx) error {
	return func(tx *Tx) error {
		i.Path = tx.Info().Path
		return tx.MergeInfo(i)
	}
}

// gone fails if there is a database.
func gone(t testing.TB, what string, s *Store, loc Location) {
	t.Helper()
	if err := s.View(bg, loc, nothing); !errs.Is(err, errs.NotFound) {
		t.Errorf("%s: the database gives %v, want %v", what, err, errs.NotFound)
	}
	for h, err := range s.Walk(bg, loc.Device) {
		if h == loc.Hash || err != nil {
			t.Errorf("%s: it is found: %v", what, err)
		}
	}
}

// What is dead and before the horizon goes; all else stays as it is, with its change numbers.
func TestReclaim(t *testing.T) { homes(t, testReclaim) }

func testReclaim(t *testing.T, home Config) {
	s, loc := one(t, with(home, Config{step: 2}))
	rows := map[string][]byte{"live": live(5, 1), "late": dead(10), "revived": live(12, 1)}
	for i := range 9 {
		rows[fmt.Sprint("old", i)] = dead(int64(i + 1))
		rows[fmt.Sprint("hidden", i)] = live(2, 1)
	}
	merge(t, s, loc, rows)
	err := s.Update(bg, loc, func(tx *Tx) error {
		return errors.Join(setInfo(Info{Put: at(6), Delete: at(3)})(tx),
			tx.MergeFields([]Field{{"Gone", "", at(9)}, {"Late", "", at(10)}, {"There", "1", at(5)}}))
	})
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]uint64{}
	note := func(tx *Tx) error {
		list, err := tx.Changes(0, 100)
		for _, c := range list {
			before[c.Name] = c.Number
		}
		return err
	}
	if err := s.look(bg, loc, note); err != nil {
		t.Fatal(err)
	}
	was, last := maps.Clone(before), stateOf(t, s, loc)
	reclaim(t, s, 10)
	listed(t, "after it", s, loc, "live", "revived")
	if got := deadOf(t, s, loc); !slices.Equal(got, []string{"late"}) {
		t.Errorf("dead are %q", got)
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
	clear(before)
	if err := s.look(bg, loc, note); err != nil {
		t.Fatal(err)
	}
	if len(before) != 3 {
		t.Errorf("changes are %v", before)
	}
	for n, number := range before {
		if was[n] != number {
			t.Errorf("%s had change %d and has %d", n, was[n], number)
		}
	}
	if now := stateOf(t, s, loc); now.Change != last.Change || now.Incarnation != last.Incarnation || now.Digest == last.Digest {
		t.Errorf("the state was %+v and is %+v", last, now)
	}
	if err := s.View(bg, loc, func(tx *Tx) error {
		f, err := tx.Fields()
		if want := []Field{{"Late", "", at(10)}, {"There", "1", at(5)}}; !slices.Equal(f, want) {
			t.Errorf("metadata is %+v, want %+v", f, want)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if c := s.Counts(); c.Forgotten != 18 || c.Dropped != 0 {
		t.Errorf("counted is %+v", c)
	}
	id := stateOf(t, s, loc)
	tx := txID(t, opened(t, s, loc))
	reclaim(t, s, 10)
	if now := stateOf(t, s, loc); now != id || txID(t, opened(t, s, loc)) != tx {
		t.Errorf("a pass with nothing to do has changed %+v to %+v", id, now)
	}
}

// Parts end also where the rows of the latest changes are forgotten.
func TestPartsEndAfterAReclaim(t *testing.T) { homes(t, testPartsEndAfterAReclaim) }

func testPartsEndAfterAReclaim(t *testing.T, home Config) {
	s, loc := one(t, home)
	merge(t, s, loc, map[string][]byte{"a": live(5, 1)})
	merge(t, s, loc, map[string][]byte{"b": dead(5)})
	reclaim(t, s, 10)
	for _, from := range []uint64{0, 1, 2} {
		p, err := s.Replicas().Part(bg, "sda", loc.Hash, replwire.Cursor{Rows: true, Row: from})
		if err != nil || p.More || p.Next.Row != p.Change || p.Change != 2 {
			t.Errorf("from %d: %+v, %v", from, p, err)
		}
	}
}

// A database that was deleted goes whole once all of it is before the horizon, and not as long as
// anything is not.
func TestReclaimWhole(t *testing.T) { homes(t, testReclaimWhole) }

func testReclaimWhole(t *testing.T, home Config) {
	row := func(n string, r []byte) func(*Tx) error {
		return func(tx *Tx) error { _, err := tx.MergeRow(0, n, r); return err }
	}
	deleted := setInfo(Info{Delete: at(9), StatusChanged: at(9)})
	many := func(tx *Tx) error {
		for i := range mostDead + 10 {
			if err := row(fmt.Sprint(i), dead(5))(tx); err != nil {
				return err
			}
		}
		return nil
	}
	for what, c := range map[string]struct {
		goes bool
		do   []func(*Tx) error
	}{
		"deleted":                   {true, []func(*Tx) error{deleted}},
		"with rows and metadata":    {true, []func(*Tx) error{row("r", live(5, 1)), row("s", dead(6)), setField("F", "1", 7), deleted}},
		"with many rows":            {true, []func(*Tx) error{many, deleted}},
		"with later metadata":       {true, []func(*Tx) error{deleted, setField("F", "1", 9)}},
		"not deleted":               {false, nil},
		"made again":                {false, []func(*Tx) error{deleted, setInfo(Info{Put: at(9)})}},
		"deleted after the horizon": {false, []func(*Tx) error{setInfo(Info{Delete: at(10)})}},
		"a live row":                {false, []func(*Tx) error{deleted, row("r", live(9, 1)), row("q", live(8, 1)), row("r", live(20, 1))}},
		"a late dead row":           {false, []func(*Tx) error{deleted, row("r", dead(10))}},
		"late metadata":             {false, []func(*Tx) error{deleted, setField("F", "", 10)}},
		"a late status":             {false, []func(*Tx) error{deleted, setInfo(Info{StatusChanged: at(10)})}},
	} {
		s, loc := one(t, home)
		for _, do := range c.do {
			if err := s.Update(bg, loc, do); err != nil {
				t.Fatal(what, err)
			}
		}
		s.cfg.Horizon = func() timestamp.T { return at(10) }
		_, err := s.Replicas().State(bg, "sda", loc.Hash)
		if absent := errs.Is(err, errs.NotFound); absent != c.goes && what != "with many rows" {
			t.Errorf("%s: peers are told %v", what, err)
		}
		_, err = s.Replicas().Part(bg, "sda", loc.Hash, replwire.Cursor{})
		if absent := errs.Is(err, errs.NotFound); absent != c.goes && what != "with many rows" {
			t.Errorf("%s: pushed is %v", what, err)
		}
		reclaim(t, s, 10)
		if c.goes {
			gone(t, what, s, loc)
			if err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(30), Put: at(30)}, nothing); err != nil {
				t.Errorf("%s: made anew: %v", what, err)
			}
		} else if err := s.Check(bg, loc); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		s.Close()
	}
}

func setField(name, value string, stamp int64) func(*Tx) error {
	return func(tx *Tx) error { return tx.MergeFields([]Field{{name, value, at(stamp)}}) }
}

// A database of which the owner has still to be told is not removed, and is once he was.
func TestReclaimTellsFirst(t *testing.T) { homes(t, testReclaimTellsFirst) }

func testReclaimTellsFirst(t *testing.T, home Config) {
	s, loc := one(t, with(home, Config{Track: true}))
	if err := s.Update(bg, loc, setInfo(Info{Delete: at(5)})); err != nil {
		t.Fatal(err)
	}
	reclaim(t, s, 10)
	if err := s.Check(bg, loc); err != nil {
		t.Errorf("nobody was told: %v", err)
	}
	if err := s.SetReported(bg, loc, Report{Put: at(1), Delete: at(5)}); err != nil {
		t.Fatal(err)
	}
	reclaim(t, s, 10)
	gone(t, "told", s, loc)
}

// A row, or metadata, that was written between the look and the removal stays.
func TestWrittenWhileReclaimed(t *testing.T) { homes(t, testWrittenWhileReclaimed) }

func testWrittenWhileReclaimed(t *testing.T, home Config) {
	s, loc := one(t, home)
	merge(t, s, loc, map[string][]byte{"again": dead(2), "deleted again": dead(2), "old": dead(3)})
	if err := s.Update(bg, loc, setField("F", "", 2)); err != nil {
		t.Fatal(err)
	}
	r := &reclaiming{database: opened(t, s, loc), horizon: at(10), step: leastStep}
	var keys [][]byte
	if err := r.look(func(tx *Tx) (err error) { keys, err = r.slice(tx); return err }); err != nil || len(keys) != 3 || !r.fields {
		t.Fatalf("found are %q, %v, %v", keys, r.fields, err)
	}
	merge(t, s, loc, map[string][]byte{"again": live(12, 1), "deleted again": dead(12)})
	if err := s.Update(bg, loc, setField("F", "1", 11)); err != nil {
		t.Fatal(err)
	}
	if err := r.remove(keys); err != nil {
		t.Fatal(err)
	}
	listed(t, "written again", s, loc, "again")
	if got := deadOf(t, s, loc); !slices.Equal(got, []string{"deleted again"}) {
		t.Errorf("dead are %q", got)
	}
	if err := s.View(bg, loc, func(tx *Tx) error {
		if f, err := tx.Fields(); err != nil || len(f) != 1 {
			t.Errorf("metadata is %v, %v", f, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

// Rows are written, deleted and written again while passes go on, and audits: what was written last is there.
func TestReclaimUnderLoad(t *testing.T) { homes(t, testReclaimUnderLoad) }

func testReclaimUnderLoad(t *testing.T, home Config) {
	s, _, at2, _ := journaledStore(t, 2, with(home, Config{step: 50}))
	const writers, rounds = 4, 60
	done := make(chan struct{})
	var writing, passes sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				for _, loc := range at2 {
					stamp, n := int64(2+2*i), fmt.Sprint(w, "-", i%7)
					addRow(t, s, loc, n, live(stamp, 1))
					addRow(t, s, loc, n, dead(stamp+1))
				}
			}
			for _, loc := range at2 {
				addRow(t, s, loc, fmt.Sprint(w, "-0"), live(1000, 1))
			}
		})
	}
	again := func(fn func()) {
		passes.Go(func() {
			for {
				fn()
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	again(func() { reclaim(t, s, 500); mergeAll(s, deviceOf(s)) })
	again(func() {
		for _, loc := range at2 {
			if err := checkInSlices(s, loc); err != nil {
				t.Error(err)
			}
		}
	})
	writing.Wait()
	close(done)
	passes.Wait()
	mergeAll(s, deviceOf(s))
	reclaim(t, s, 500)
	for _, loc := range at2 {
		listed(t, "at the end", s, loc, "0-0", "1-0", "2-0", "3-0")
		if got := deadOf(t, s, loc); len(got) > 0 {
			t.Errorf("dead are %q", got)
		}
	}
}

// No audit reads, and nobody writes the file anew, between two steps of a pass over a database: they are not
// told of rows that go.
func TestReclaimHoldsOffAudits(t *testing.T) {
	s, loc := one(t, own)
	merge(t, s, loc, map[string][]byte{"old": dead(5)})
	db := opened(t, s, loc)
	calls := 0
	err := s.Reclaim(bg, loc.Device, at(10), func(context.Context, int64) error {
		free := db.auditing.TryLock()
		if free {
			db.auditing.Unlock()
		}
		if calls++; free != (calls == 1) {
			t.Errorf("call %d: an audit could begin: %v", calls, free)
		}
		return nil
	})
	if err != nil || calls < 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// checkInSlices is Check that reads one row in each look, so that much comes in between.
func checkInSlices(s *Store, loc Location) error {
	return s.with(bg, loc, s.open, func(d *disk, e *entry) error {
		if e.db.small != nil {
			_, err := e.db.audit(bg, nil, d.journal.stop)
			return err
		}
		e.db.auditing.Lock()
		defer e.db.auditing.Unlock()
		a := newAudit()
		a.span, a.step = 0, 1
		_, err := e.db.auditWith(bg, a, nil, d.journal.stop)
		return err
	})
}

// What is replayed of the journal, and was merged before, does not show again what was deleted since,
// and forgotten: the delete may have come first.
func TestReplayAfterAReclaim(t *testing.T) { homes(t, testReplayAfterAReclaim) }

func testReplayAfterAReclaim(t *testing.T, home Config) {
	s, j, all, dir := journaledStore(t, 1, home)
	addRow(t, s, all[0], "r", dead(6))
	mergeAll(s, all[0].Device)
	half := j.upTo()
	addRow(t, s, all[0], "r", live(5, 1))
	reclaim(t, s, 10)
	s, j, dev := again(t, s, j, dir, home)
	j.Merged(half) // the log has kept the rest
	loc := Location{dev, all[0].Hash}
	listed(t, "before it is merged", s, loc)
	mergeAll(s, dev)
	listed(t, "after it", s, loc)
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

// Rows that wait are merged before what they meet is removed, and count.
func TestReclaimMergesWhatWaits(t *testing.T) { homes(t, testReclaimMergesWhatWaits) }

func testReclaimMergesWhatWaits(t *testing.T, home Config) {
	s, _, all, _ := journaledStore(t, 2, home)
	a, b := all[0], all[1]
	for _, loc := range all {
		merge(t, s, loc, map[string][]byte{"r": dead(2), "s": dead(2)})
	}
	addRow(t, s, a, "r", live(20, 1))
	if err := s.Update(bg, b, setInfo(Info{Delete: at(5)})); err != nil {
		t.Fatal(err)
	}
	addRow(t, s, b, "r", live(20, 1))
	reclaim(t, s, 10)
	for what, loc := range map[string]Location{"one": a, "a deleted one": b} {
		listed(t, what, s, loc, "r")
		if got := deadOf(t, s, loc); len(got) > 0 {
			t.Errorf("%s: dead are %q", what, got)
		}
	}
}

// What a peer brings that may be forgotten is not taken, unless it ends something.
func TestForgottenIsNotTaken(t *testing.T) { homes(t, testForgottenIsNotTaken) }

func testForgottenIsNotTaken(t *testing.T, home Config) {
	from, src := one(t, home)
	merge(t, from, src, map[string][]byte{"ended": dead(5), "nothing here": dead(5), "late": dead(10), "live": live(3, 1), "hidden": live(2, 1)})
	err := from.Update(bg, src, func(tx *Tx) error {
		return errors.Join(tx.MergeFields([]Field{{"Ended", "", at(5)}, {"Nothing", "", at(5)}, {"Late", "", at(10)}, {"Live", "1", at(3)}}),
			setInfo(Info{Put: at(7), Delete: at(2)})(tx))
	})
	if err != nil {
		t.Fatal(err)
	}
	to, dst := one(t, with(home, Config{Horizon: func() timestamp.T { return at(10) }}))
	merge(t, to, dst, map[string][]byte{"ended": live(4, 1)})
	if err := to.Update(bg, dst, setField("Ended", "1", 4)); err != nil {
		t.Fatal(err)
	}
	copyTo(t, from, src, to, dst)
	listed(t, "merged", to, dst, "live")
	if got := deadOf(t, to, dst); !slices.Equal(got, []string{"ended", "late"}) {
		t.Errorf("dead are %q", got)
	}
	err = to.View(bg, dst, func(tx *Tx) error {
		f, err := tx.Fields()
		if want := []Field{{"Ended", "", at(5)}, {"Late", "", at(10)}, {"Live", "1", at(3)}}; !slices.Equal(f, want) {
			t.Errorf("metadata is %+v, want %+v", f, want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	reclaim(t, from, 10)
	reclaim(t, to, 10)
	if a, b := stateOf(t, from, src), stateOf(t, to, dst); a.Digest != b.Digest {
		t.Errorf("they have forgotten the same, and differ: %x, %x", a, b)
	}
}

// A database that may be forgotten whole is not made for a peer that has it still; one with anything live in
// any part of it is, with all that counts.
func TestForgottenWholeIsNotTaken(t *testing.T) { homes(t, testForgottenWholeIsNotTaken) }

func testForgottenWholeIsNotTaken(t *testing.T, home Config) {
	from, src := one(t, home)
	if err := from.Update(bg, src, func(tx *Tx) error {
		for i := range partItems + 10 {
			if _, err := tx.MergeRow(0, fmt.Sprint(i), dead(3)); err != nil {
				return err
			}
		}
		return errors.Join(setInfo(Info{Delete: at(5)})(tx), setField("F", "1", 6)(tx))
	}); err != nil {
		t.Fatal(err)
	}
	to, dev := open(t, t.TempDir(), with(home, Config{Horizon: func() timestamp.T { return at(10) }}))
	dst := Location{dev, src.Hash}
	push := func() (refused, parts int) {
		var cursor replwire.Cursor
		for more := true; more; parts++ {
			p, err := from.Replicas().Part(bg, "sda", src.Hash, cursor)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = to.Replicas().Merge(bg, "sda", p.Path, dst.Hash, p.Body); errs.Is(err, errs.Gone) {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
			cursor, more = p.Next, p.More
		}
		return refused, parts
	}
	// The metadata may be that of a database with a live row further on.
	if refused, parts := push(); refused != 0 || parts != 2 {
		t.Errorf("%d of %d parts are refused", refused, parts)
	}
	reclaim(t, to, 10)
	gone(t, "metadata of a deleted one", to, dst)
	if err := from.Update(bg, src, setField("F", "", 7)); err != nil {
		t.Fatal(err)
	}
	if refused, parts := push(); refused != 2 || parts != 2 {
		t.Errorf("%d of %d parts are refused, want all", refused, parts)
	}
	gone(t, "refused", to, dst)
	merge(t, from, src, map[string][]byte{"live": live(8, 1)})
	if refused, _ := push(); refused != 1 {
		t.Errorf("%d parts are refused, want the first", refused)
	}
	listed(t, "with a live row", to, dst, "live")
	reclaim(t, from, 10)
	reclaim(t, to, 10)
	if a, b := stateOf(t, from, src), stateOf(t, to, dst); a.Digest != b.Digest {
		t.Errorf("they have forgotten the same, and differ: %x, %x", a, b)
	}
}

// reclaimable makes two databases: of one rows are to be forgotten, the other one whole.
func reclaimable(t testing.TB, s *Store, dev *device.Device) (rows, whole Location) {
	t.Helper()
	rows, whole = Location{dev, hashOf(1)}, Location{dev, hashOf(4)}
	made(t, s, rows, "a", "b")
	made(t, s, whole, "a")
	merge(t, s, rows, map[string][]byte{"a": dead(6), "c": dead(20)})
	if err := s.Update(bg, whole, setInfo(Info{Delete: at(7)})); err != nil {
		t.Fatal(err)
	}
	for loc, r := range map[Location]Report{rows: {Put: at(1), Objects: 1, Bytes: 1}, whole: {Put: at(1), Delete: at(7)}} {
		if err := s.SetReported(bg, loc, r); err != nil {
			t.Fatal(err)
		}
	}
	return rows, whole
}

// stands fails if not all that counts is there, or something is that does not fit.
func stands(t *testing.T, what string, s *Store, rows, whole Location) {
	t.Helper()
	listed(t, what, s, rows, "b")
	if err := s.Check(bg, rows); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if err := s.Check(bg, whole); err != nil && !errs.Is(err, errs.NotFound) {
		t.Errorf("%s: the deleted one: %v", what, err)
	}
	reclaim(t, s, 10)
	listed(t, what+", and a pass", s, rows, "b")
	if got := deadOf(t, s, rows); !slices.Equal(got, []string{"c"}) {
		t.Errorf("%s, and a pass: dead are %q", what, got)
	}
	for _, loc := range s.TakeChanged() {
		if loc == whole { // what the owner was told went before it
			if err := s.SetReported(bg, whole, Report{Put: at(1), Delete: at(7)}); err != nil {
				t.Error(err)
			}
			reclaim(t, s, 10)
		}
	}
	gone(t, what, s, whole)
}

// Wherever a pass ends, with the process or the power: what counts is there, and the next one
// forgets the rest.
func TestCutWhileReclaiming(t *testing.T) { homes(t, testCutWhileReclaiming) }

func testCutWhileReclaiming(t *testing.T, home Config) {
	root := t.TempDir()
	cfg := with(home, Config{Track: true})
	s, dev := open(t, root, cfg)
	rows, whole := reclaimable(t, s, dev)
	s.Close()
	fs := &cuts{FS: vfs.OS, t: t, from: root, renamed: map[string]string{}}
	s, dev = open(t, root, with(home, Config{Track: true, FS: fs, together: 1})) // a copy is of one moment
	rows.Device, whole.Device = dev, dev
	for done, n := false, 0; !done; n++ {
		err := s.Reclaim(bg, dev, at(10), func(context.Context, int64) error { fs.cut(); return nil })
		if done = n > 0; err != nil {
			t.Fatal(err)
		}
	}
	fs.cut()
	s.Close()
	for n, dir := range fs.copies {
		s, dev := open(t, dir, cfg)
		rows.Device, whole.Device = dev, dev
		stands(t, fmt.Sprint("cut ", n), s, rows, whole)
		s.Close()
	}
	if len(fs.copies) < 6 {
		t.Errorf("there were only %d cuts", len(fs.copies))
	}
}

// Whichever call of the file system fails, nothing that counts is lost, and the next pass does what is left.
func TestReclaimFailsAtAnyCall(t *testing.T) { homes(t, testReclaimFailsAtAnyCall) }

func testReclaimFailsAtAnyCall(t *testing.T, home Config) {
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		cfg := with(home, Config{Track: true})
		s, dev := open(t, dir, cfg)
		rows, whole := reclaimable(t, s, dev)
		s.Close()
		faulty := vfs.FailAt(vfs.OS, n)
		s, dev = open(t, dir, with(home, Config{Track: true, FS: faulty}))
		before := faulty.Fired()
		err := s.Reclaim(bg, dev, at(10), nil)
		fired = faulty.Fired()
		if !fired && err != nil {
			t.Fatalf("no call failed, and yet: %v", err)
		}
		if err == nil && fired && !before {
			rows.Device, whole.Device = dev, dev
			if got := deadOf(t, s, rows); !slices.Equal(got, []string{"c"}) {
				t.Errorf("call %d failed, the pass says nothing, and dead are %q", n, got)
			}
			gone(t, fmt.Sprintf("call %d failed, the pass says nothing", n), s, whole)
		}
		s.Close()
		s, dev = open(t, dir, cfg)
		rows.Device, whole.Device = dev, dev
		stands(t, fmt.Sprintf("call %d failed", n), s, rows, whole)
		s.Close()
	}
}

// One that can't be read is named once, however often it is tried again, which costs no pass over all the others; once it is
// gone nothing is left.
func TestReclaimLeavesOut(t *testing.T) {
	s, dev := open(t, t.TempDir(), Config{})
	var said bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&said, nil))
	for n := range uint64(20) {
		made(t, s, Location{dev, hashOf(n)}, "a")
	}
	bad := Location{dev, hashOf(1)}
	spoilValue(t, s, bad, 30)
	closeAll(s, dev)
	for i, tt := range []struct {
		horizon int64
		least   int64 // databases that are looked at
		most    int64
	}{{10, 20, 20}, {10, 1, 1}, {10, 1, 1}, {11, 20, 20}, {11, 1, 1}} {
		looked := int64(0)
		err := s.Reclaim(bg, dev, at(tt.horizon), func(_ context.Context, n int64) error {
			if n == perValue || n == perFile {
				looked++
			}
			return nil
		})
		if !errors.Is(err, ErrLeft) || !strings.Contains(err.Error(), bad.Hash.String()) {
			t.Errorf("pass %d: %v, want one left out", i, err)
		}
		if looked < tt.least || looked > tt.most {
			t.Errorf("pass %d has looked at %d, want %d", i, looked, tt.least)
		}
		if n := strings.Count(said.String(), "left out"); n != 1 || !strings.Contains(said.String(), bad.Hash.String()) {
			t.Errorf("after pass %d the log has %d lines:\n%s", i, n, said.String())
		}
	}
	if _, err := s.inspect(bg, bad, nil); err != nil { // into quarantine with it
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Reclaim(bg, dev, at(11), nil); err != nil {
			t.Errorf("once it is gone: %v", err)
		}
	}
}

// Small databases that have nothing to forget are not opened, and what can't be read holds up no other.
func TestReclaimOpensLittle(t *testing.T) {
	s, dev := open(t, t.TempDir(), Config{})
	for n := range uint64(5) {
		made(t, s, Location{dev, hashOf(n)}, "a")
	}
	bad, old := Location{dev, hashOf(1)}, Location{dev, hashOf(3)}
	merge(t, s, old, map[string][]byte{"a": dead(6)})
	spoilValue(t, s, bad, 30)
	closeAll(s, dev)
	var paid int64
	err := s.Reclaim(bg, dev, at(10), func(_ context.Context, n int64) error { paid += n; return nil })
	if err == nil || !strings.Contains(err.Error(), bad.Hash.String()) {
		t.Errorf("of one that is damaged the pass says %v", err)
	}
	if got := deadOf(t, s, old); len(got) > 0 {
		t.Errorf("dead are %q", got)
	}
	c := s.now(dev).cache
	c.mu.Lock()
	n := len(c.entries)
	c.mu.Unlock()
	if n != 1 || paid < 5*perValue {
		t.Errorf("%d are open, and %d bytes were paid for", n, paid)
	}
}
