package metadb

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/metadb/small"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/vfs"
)

// The same history gives the same database, down to its change numbers, wherever it is kept.
func TestHomesAreAlike(t *testing.T) {
	var stores []*Store
	for _, limit := range []int{-1, 0, 250, 600} {
		s, _ := open(t, t.TempDir(), Config{small: limit, Open: 1})
		stores = append(stores, s)
	}
	n := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		n++
		each := func(fn func(s *Store, loc Location) error) {
			rt.Helper()
			for _, s := range stores {
				if err := fn(s, Location{deviceOf(s), hashOf(n)}); err != nil {
					rt.Fatal(s.cfg.small, err)
				}
			}
		}
		info := Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}
		each(func(s *Store, loc Location) error {
			if err := s.Ensure(bg, loc, info, nothing); err != nil {
				return err
			}
			return s.Update(bg, loc, func(tx *Tx) error { tx.info.Incarnation, tx.touch = ID{byte(n), 7}, true; return nil })
		})
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			var do func(tx *Tx) error
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			default:
				var rows []Row
				for range rapid.IntRange(1, 6).Draw(rt, "rows") {
					r := testRow{at(rapid.Int64Range(2, 9).Draw(rt, "stamp")), rapid.Bool().Draw(rt, "dead"), rapid.Int64Range(0, 3).Draw(rt, "size")}
					rows = append(rows, Row{policy.Index(rapid.IntRange(0, 1).Draw(rt, "space")), fmt.Sprint("r", rapid.IntRange(0, 30).Draw(rt, "name")), r.encode()})
				}
				do = func(tx *Tx) error { return tx.mergeRows(rows) }
			case 0:
				f := Field{fmt.Sprint("F", rapid.IntRange(0, 2).Draw(rt, "field")), rapid.SampledFrom([]string{"", "v", strings.Repeat("w", 300)}).Draw(rt, "value"), at(rapid.Int64Range(1, 9).Draw(rt, "stamp"))}
				do = func(tx *Tx) error { return tx.MergeFields([]Field{f}) }
			case 1:
				k := Known{rapid.Uint64Range(0, 9).Draw(rt, "known"), 1}
				do = func(tx *Tx) error { return tx.SetKnown(ID{1}, k) }
			case 2:
				d := at(rapid.Int64Range(0, 9).Draw(rt, "delete"))
				do = func(tx *Tx) error { i := tx.Info(); i.Delete = d; return tx.MergeInfo(i) }
			}
			each(func(s *Store, loc Location) error { return s.Update(bg, loc, do) })
		}
		var want []string
		each(func(s *Store, loc Location) error {
			got := all(rt, s, loc)
			if want == nil {
				want = got
			}
			if !slices.Equal(got, want) {
				rt.Fatalf("limit %d:\ngot  %q\nwant %q", s.cfg.small, got, want)
			}
			return s.Check(bg, loc)
		})
	})
}

// cuts is the real file system; before each call it copies what is on the device: so it would look if
// the process was killed there, or the power failed, which takes back what was renamed and not synced.
type cuts struct {
	vfs.FS
	t       *testing.T
	from    string
	copies  []string
	renamed map[string]string // unsynced: to -> from
}

func (c *cuts) cut() {
	for _, power := range []bool{false, true} {
		to := c.t.TempDir()
		if err := os.CopyFS(to, os.DirFS(c.from)); err != nil {
			c.t.Fatal(err)
		}
		if power {
			if len(c.renamed) == 0 {
				continue
			}
			for is, was := range c.renamed {
				if err := os.Rename(strings.Replace(is, c.from, to, 1), strings.Replace(was, c.from, to, 1)); err != nil {
					c.t.Fatal(err)
				}
			}
		}
		c.copies = append(c.copies, to)
	}
}

func (c *cuts) Rename(from, to string) error {
	c.cut()
	c.renamed[to] = from
	return c.FS.Rename(from, to)
}

func (c *cuts) SyncDir(dir string) error {
	c.cut()
	maps.DeleteFunc(c.renamed, func(to, _ string) bool { return filepath.Dir(to) == dir })
	return c.FS.SyncDir(dir)
}

func (c *cuts) Remove(path string) error { c.cut(); return c.FS.Remove(path) }
func (c *cuts) Mkdir(path string) error  { c.cut(); return c.FS.Mkdir(path) }
func (c *cuts) Stat(path string) (vfs.Info, error) {
	c.cut()
	return c.FS.Stat(path)
}

// Wherever it ends while a database moves into a file of its own: it is one database, with all
// that was acknowledged, it can be written to and moves, and once it was dropped nothing of it comes back.
func TestCutWhileMoving(t *testing.T) {
	root := t.TempDir()
	fs := &cuts{FS: vfs.OS, t: t, from: root, renamed: map[string]string{}}
	s, dev := open(t, root, Config{FS: fs, small: 250, Track: true})
	loc := Location{dev, hashOf(1)}
	made(t, s, loc, "a", "b")
	merge(t, s, loc, map[string][]byte{"c": live(5, 1)})
	before := stateOf(t, s, loc)
	fs.copies = nil
	long := strings.Repeat("long", 60)
	merge(t, s, loc, map[string][]byte{long: live(5, 1)})
	fs.cut()
	if opened(t, s, loc).small != nil {
		t.Fatal("it has not moved")
	}
	for n, dir := range fs.copies {
		s, dev := open(t, dir, Config{small: 250, Track: true})
		loc := Location{dev, loc.Hash}
		got, err := page(s, loc, Query{Params: allParams})
		if err != nil || !slices.Equal(got, []string{"a", "b", "c"}) && !slices.Equal(got, []string{"a", "b", "c", long}) {
			t.Errorf("cut %d: listed are %q, %v", n, got, err)
		}
		if now := stateOf(t, s, loc); now.Incarnation != before.Incarnation || now.Change < before.Change {
			t.Errorf("cut %d: the state is %+v, it was %+v", n, now, before)
		}
		if found := maps.Collect(s.Walk(bg, dev)); len(found) != 1 {
			t.Errorf("cut %d: found are %v", n, found)
		}
		merge(t, s, loc, map[string][]byte{long: live(5, 1), "d": live(6, 1)})
		if err := s.Check(bg, loc); err != nil {
			t.Errorf("cut %d: %v", n, err)
		}
		if has, err := s.now(dev).small.Has(small.Values, loc.Hash); has || err != nil {
			t.Errorf("cut %d: after it has moved there is a value: %v, %v", n, has, err)
		}
		if found := maps.Collect(s.Unreported(bg, dev)); len(found) != 1 {
			t.Errorf("cut %d: to be told of are %v", n, found)
		}
		if ok, err := s.Replicas().Drop(bg, dev.Name(), stateOf(t, s, loc)); !ok || err != nil {
			t.Errorf("cut %d: dropped: %v, %v", n, ok, err)
		}
		s.Close()
		s, loc.Device = open(t, dir, Config{small: 250})
		if err := s.View(bg, loc, nothing); !errs.Is(err, errs.NotFound) {
			t.Errorf("cut %d: after the drop: %v", n, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "sda", "tmp", "*")); len(left) > 0 {
			t.Errorf("cut %d: left is %v", n, left)
		}
		s.Close()
	}
	if len(fs.copies) < 8 {
		t.Errorf("there were only %d cuts", len(fs.copies))
	}
}

// Whichever call fails while a database moves: what was acknowledged before is there, and what was in that
// moment.
func TestMovingFailsAtAnyCall(t *testing.T) {
	long := strings.Repeat("long", 60)
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		s, dev := open(t, dir, Config{small: 250})
		loc := Location{dev, hashOf(1)}
		made(t, s, loc, "a")
		s.Close()
		faulty := vfs.FailAt(vfs.OS, n)
		s, loc.Device = open(t, dir, Config{small: 250, FS: faulty})
		want := []string{"a"}
		for _, row := range []string{"b", long, "z"} {
			if s.MergeRows(bg, loc, nil, Row{0, row, live(6, 1)}) == nil {
				want = append(want, row)
			}
		}
		fired = faulty.Fired()
		if !fired && len(want) != 4 {
			t.Fatalf("no call failed, and yet acknowledged are only %q", want)
		}
		s.Close()
		s, loc.Device = open(t, dir, Config{small: 250})
		got, err := page(s, loc, Query{Params: allParams})
		for _, w := range want {
			if err != nil || !slices.Contains(got, w) {
				t.Errorf("call %d failed: listed are %q, %v, want %q", n, got, err, want)
			}
		}
		if err := s.Check(bg, loc); err != nil {
			t.Errorf("call %d failed: %v", n, err)
		}
		s.Close()
	}
}

// Many small databases are made, and rows of many are merged, with few transactions.
func TestSmallDatabasesShareTransactions(t *testing.T) {
	const databases, rows = 400, 1600
	s, _, locs, _ := journaledStore(t, databases, Config{})
	dev := locs[0].Device
	shared := func() int {
		n, err := s.SharedTransactions(dev)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i := range rows {
		addRow(t, s, locs[i%databases], fmt.Sprint("row-", i), live(5, 1))
	}
	before := shared()
	mergeAll(s, dev)
	if n := shared() - before; n >= databases {
		t.Errorf("%d rows of %d databases took %d transactions", rows, databases, n)
	}
	before = shared()
	var wg sync.WaitGroup
	for i := range 256 {
		wg.Go(func() { made(t, s, Location{dev, hashOf(uint64(10_000 + i))}) })
	}
	wg.Wait()
	if n := shared() - before; n >= 256 {
		t.Errorf("256 databases made at the same time took %d transactions", n)
	}
}

// What is to be told to the owner of a listing is found after a start, and nothing else, wherever
// databases are kept.
func TestUnreported(t *testing.T) { homes(t, unreported) }

func unreported(t *testing.T, home Config) {
	dir := t.TempDir()
	s, j, dev := again(t, &Store{}, openTestJournal(t, vfs.NewMem()), dir, with(home, Config{Track: true}))
	start := func() { s, j, dev = again(t, s, j, dir, with(home, Config{Track: true})) }
	const databases = 8
	loc := func(n int) Location { return Location{dev, hashOf(uint64(n))} }
	tell := func(n int) {
		t.Helper()
		var is Report
		if err := s.View(bg, loc(n), func(tx *Tx) (err error) { is, err = tx.News(); return err }); err != nil {
			t.Fatal(err)
		}
		if err := s.SetReported(bg, loc(n), is); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, want ...int) {
		t.Helper()
		got := map[name.Hash]bool{}
		for h, err := range s.Unreported(bg, dev) {
			if err != nil {
				t.Fatal(err)
			}
			got[h] = true
		}
		replayed := map[name.Hash]bool{} // also what was told: the journal has forgotten nothing
		for _, l := range s.TakeChanged() {
			replayed[l.Hash] = true
		}
		for n := range databases {
			h := hashOf(uint64(n))
			if wanted := slices.Contains(want, n); wanted && !got[h] && !replayed[h] || !wanted && got[h] {
				t.Errorf("%s: %d is to be told of: %v", what, n, got[h])
			}
		}
	}
	for n := range databases {
		made(t, s, loc(n))
	}
	start()
	expect("made", 0, 1, 2, 3, 4, 5, 6, 7)
	for n := range databases {
		tell(n)
	}
	start()
	expect("all was told")
	addRow(t, s, loc(1), "waits", live(6, 2)) // in the journal
	addRow(t, s, loc(2), "merged", live(6, 2))
	merge(t, s, loc(2), map[string][]byte{"x": live(6, 2)})
	addRow(t, s, loc(3), "told of", live(6, 2))
	tell(3)
	for i := range 6 { // so that it moves
		addRow(t, s, loc(4), strings.Repeat(fmt.Sprint(i), 60), live(6, 2))
		mergeAll(s, dev)
	}
	s.TakeChanged()
	start()
	expect("some have changed", 1, 2, 4)
	mergeAll(s, dev)
	for _, n := range []int{1, 2, 4} {
		tell(n)
	}
	start()
	s.TakeChanged()
	expect("told again")
	if err := s.View(bg, loc(4), func(tx *Tx) error {
		if was, err := tx.Reported(); err != nil || was.Objects != 6 {
			t.Errorf("reported was %+v, %v", was, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for _, n := range []int{5, 6} { // of which the journal has nothing
		if told, err := s.Replicas().Told(bg, dev.Name(), loc(n).Hash); !told || err != nil {
			t.Errorf("%d was told of: %v, %v", n, told, err)
		}
		if err := s.Replicas().Retell(bg, dev.Name(), loc(n).Hash); err != nil {
			t.Fatal(err)
		}
		if told, err := s.Replicas().Told(bg, dev.Name(), loc(n).Hash); told || err != nil {
			t.Errorf("%d is to be told of anew, and was: %v, %v", n, told, err)
		}
	}
	if changed := s.TakeChanged(); len(changed) != 2 {
		t.Errorf("%v are to be told of now, want 2", changed)
	}
	start()
	s.TakeChanged()
	expect("to be told again", 5, 6)
}

// Databases with files of their own of before there were marks are all told of, once.
func TestUnreportedOfBefore(t *testing.T) {
	dir := t.TempDir()
	s, dev := open(t, dir, own) // nothing is marked
	for n := range uint64(5) {
		made(t, s, Location{dev, hashOf(n)})
	}
	s.Close()
	for i, want := range []int{5, 5, 0, 0} {
		s, dev := open(t, dir, Config{Track: true})
		found := 0
		for h, err := range s.Unreported(bg, dev) {
			if err != nil {
				t.Fatal(err)
			}
			if found++; i == 1 {
				if err := s.SetReported(bg, Location{dev, h}, Report{Put: at(1)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if found != want {
			t.Errorf("start %d: found are %d, want %d", i, found, want)
		}
		s.Close()
	}
}

// A page of a shared file is damaged: no database in it is said not to be there before it is in quarantine,
// those that can be read are there all the while, and after that those that can't be are made anew.
func TestDamagedSharedFile(t *testing.T) {
	dir := t.TempDir()
	s, dev := open(t, dir, Config{})
	const databases = 60
	var hashes []name.Hash
	for n := range uint64(databases) {
		h := hashOf(n)
		h[0] &= 0x3f
		hashes = append(hashes, h)
		var rows []string
		for i := range 12 {
			rows = append(rows, fmt.Sprintf("a-row-with-a-name-that-is-not-short-%d", i))
		}
		made(t, s, Location{dev, h}, rows...)
	}
	path := s.now(dev).small.Path(hashes[0])
	s.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hit := 0
	for page := len(b)/4096 - 1; page > 1; page-- {
		if p := b[page*4096 : (page+1)*4096]; hit < 4 && bytes.Contains(p, []byte("a-row-with")) {
			clear(p)
			hit++
		}
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, dev = open(t, dir, Config{})
	readable := map[name.Hash]bool{}
	for _, h := range hashes {
		switch err := s.View(bg, Location{dev, h}, nothing); {
		case err == nil:
			readable[h] = true
		case !errs.Is(err, errs.Corrupt):
			t.Errorf("%s: got %v, want an error of kind corrupt", h, err)
		}
	}
	walked, failed := 0, 0
	for h, err := range s.Walk(bg, dev) {
		if err != nil {
			failed++
		} else if walked++; !readable[h] {
			t.Errorf("%s is found and can't be read", h)
		}
	}
	if failed == 0 || walked != len(readable) || len(readable) == databases || len(readable) == 0 {
		t.Errorf("of %d databases %d can be read; %d are found, with %d errors", databases, len(readable), walked, failed)
	}
	if err := s.Isolate(bg, dev, nil); err != nil {
		t.Fatal(err)
	}
	files, reasons := aside(t, dev)
	if len(files) != 1 || len(reasons) != 1 || !strings.HasPrefix(filepath.Base(files[0]), "0.small.") {
		t.Errorf("in quarantine are %q, %q", files, reasons)
	}
	for _, h := range hashes {
		err := s.View(bg, Location{dev, h}, nothing)
		if readable[h] && err != nil || !readable[h] && !errs.Is(err, errs.NotFound) {
			t.Errorf("%s, which could be read: %v: after that %v", h, readable[h], err)
		}
		made(t, s, Location{dev, h}, "new")
		if err := s.Check(bg, Location{dev, h}); err != nil {
			t.Error(err)
		}
	}
	if err := s.Isolate(bg, dev, nil); err != nil {
		t.Fatal(err)
	}
	if files, _ := aside(t, dev); len(files) != 1 {
		t.Errorf("in quarantine are %q", files)
	}
}
