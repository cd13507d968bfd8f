package metadb

import (
	"fmt"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// sending is a database that is sent as a whole.
type sending struct {
	from, to *Store
	src, dst Location
	at       replwire.Cursor
	whole    replwire.Whole
	path     name.Path // that it is said to be of
}

func (x *sending) part(t fataler) replwire.Part {
	t.Helper()
	p, err := x.from.Replicas().Part(bg, "sda", x.src.Hash, x.at)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// next sends the next part, and reports whether it was the last.
func (x *sending) next(t fataler) (d replwire.Database, last bool, err error) {
	t.Helper()
	p := x.part(t)
	x.at = p.Next
	x.whole.Last = x.at.Rows && !x.at.ByName
	d, err = x.to.Replicas().Build(bg, "sda", x.path, x.dst.Hash, x.whole, p.Body)
	x.whole.N++
	return d, x.whole.Last, err
}

// all sends what is left.
func (x *sending) all(t fataler) (d replwire.Database, err error) {
	t.Helper()
	for last := false; !last && err == nil; {
		d, last, err = x.next(t)
	}
	return d, err
}

func begun(from, to *Store, loc Location) *sending {
	return &sending{
		from: from, to: to, src: loc, dst: Location{deviceOf(to), loc.Hash},
		at: replwire.Cursor{ByName: true}, whole: replwire.Whole{ID: [16]byte{1}},
		path: name.Path{Account: "a"},
	}
}

func drawRow(rt *rapid.T) (key string, row []byte) {
	key = fmt.Sprintf("%c%c", rapid.ByteRange('a', 'f').Draw(rt, "first"), rapid.ByteRange('a', 'f').Draw(rt, "second"))
	stamp := rapid.Int64Range(1, 30).Draw(rt, "stamp")
	if rapid.Bool().Draw(rt, "deleted") {
		return key, dead(stamp)
	}
	return key, live(stamp, stamp%5)
}

// A database that is sent as a whole while it changes is there with the last part and not before,
// is sound, and agrees with the one that it was sent of when what has changed meanwhile has come as well.
func TestWholeWhileRowsChange(t *testing.T) {
	n := uint64(0)
	from, dev := open(t, t.TempDir(), Config{part: 3})
	to, _ := open(t, t.TempDir(), Config{})
	rapid.Check(t, func(rt *rapid.T) {
		n++
		loc := Location{dev, hashOf(n)}
		path := name.Path{Account: "a", Container: fmt.Sprint(n)}
		change := func(tx *Tx) error {
			for range rapid.IntRange(0, 12).Draw(rt, "rows") {
				key, row := drawRow(rt)
				if _, err := tx.MergeRow(0, key, row); err != nil {
					return err
				}
			}
			if rapid.IntRange(0, 5).Draw(rt, "field") == 0 {
				stamp := rapid.Int64Range(1, 30).Draw(rt, "of the field")
				return tx.MergeFields([]Field{{Name: "X-Meta", Value: fmt.Sprint(stamp), Stamp: at(stamp)}})
			}
			if rapid.IntRange(0, 7).Draw(rt, "delete") == 0 {
				return tx.MergeInfo(Info{Path: path, Delete: at(rapid.Int64Range(1, 30).Draw(rt, "of the delete"))})
			}
			return nil
		}
		if err := from.Ensure(bg, loc, Info{Path: path, Created: at(1), Put: at(1)}, change); err != nil {
			rt.Fatal(err)
		}
		x := begun(from, to, loc)
		x.path = path
		var d replwire.Database
		for last := false; !last; {
			if _, err := to.Replicas().State(bg, "sda", loc.Hash); !errs.Is(err, errs.NotFound) {
				rt.Fatalf("before the last part State says %v", err)
			}
			var err error
			if d, last, err = x.next(rt); err != nil {
				rt.Fatal(err)
			}
			if err := from.Update(bg, loc, change); err != nil {
				rt.Fatal(err)
			}
		}
		if now := stateOf(rt, to, x.dst); now != d || now.Incarnation == stateOf(rt, from, loc).Incarnation {
			rt.Fatalf("Build returns %x, the state is %x", d, now)
		}
		x.at = replwire.Cursor{Row: x.at.Row} // with metadata, as in the next push
		for more := true; more; {
			p := x.part(rt)
			if _, err := to.Replicas().Merge(bg, "sda", p.Path, loc.Hash, p.Body); err != nil {
				rt.Fatal(err)
			}
			x.at, more = p.Next, p.More
		}
		if ours, theirs := stateOf(rt, from, loc), stateOf(rt, to, x.dst); ours.Digest != theirs.Digest {
			rt.Fatalf("they differ: %v, %v", all(rt, from, loc), all(rt, to, x.dst))
		}
		if err := to.Check(bg, x.dst); err != nil {
			rt.Fatal(err)
		}
	})
}

// source returns a store with a database of ten parts, with live and dead rows.
func source(t *testing.T) (*Store, Location) {
	t.Helper()
	from, dev := open(t, t.TempDir(), Config{part: 11})
	loc := Location{dev, hashOf(1)}
	err := from.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, func(tx *Tx) error {
		for i := range 100 {
			row := live(5, 1)
			if i%4 == 0 {
				row = dead(6)
			}
			if _, err := tx.MergeRow(0, fmt.Sprintf("row-%03d", i), row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return from, loc
}

func leftIn(s *Store) []string {
	left, _ := filepath.Glob(deviceOf(s).Dir("tmp", "*"))
	return left
}

// Whichever call of the file system fails while a database is made of a sending: it is there as a
// whole if Build says so, and else not at all, and nothing stays in tmp.
func TestWholeFailsAtAnyCall(t *testing.T) {
	from, loc := source(t)
	want := stateOf(t, from, loc).Digest
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		faulty := vfs.FailAt(vfs.OS, n)
		to, _ := open(t, dir, Config{FS: faulty, Track: true})
		x := begun(from, to, loc)
		_, err := x.all(t)
		fired = faulty.Fired()
		if !fired && err != nil {
			t.Fatalf("no call failed, and yet: %v", err)
		}
		to.Close()
		to, _ = open(t, dir, Config{Track: true})
		x.dst.Device = deviceOf(to)
		switch state, stateErr := to.Replicas().State(bg, "sda", loc.Hash); {
		case err == nil && (stateErr != nil || state.Digest != want):
			t.Errorf("call %d failed, Build did not, and then there is %x, %v", n, state, stateErr)
		case stateErr == nil && state.Digest != want:
			t.Errorf("call %d failed, and a part of it is there", n)
		case err != nil && stateErr != nil && !errs.Is(stateErr, errs.NotFound):
			t.Errorf("call %d failed, and then %v", n, stateErr)
		}
		if left := leftIn(to); len(left) > 0 {
			t.Errorf("call %d failed: %v is left", n, left)
		}
		to.Close()
	}
}

func TestWholeIsRefused(t *testing.T) {
	from, loc := source(t)
	for what, c := range map[string]struct {
		change func(t *testing.T, x *sending) // after three parts
		want   errs.Kind                      // of the rest of the sending
	}{
		"a part is left out":    {func(_ *testing.T, x *sending) { x.whole.N++ }, errs.Stale},
		"a part comes twice":    {func(_ *testing.T, x *sending) { x.whole.N-- }, errs.Stale},
		"another sending":       {func(_ *testing.T, x *sending) { x.whole.ID[3]++ }, errs.Stale},
		"another one begins":    {func(_ *testing.T, x *sending) { x.whole = replwire.Whole{ID: [16]byte{9}} }, errs.Unavailable},
		"the store is closed":   {func(_ *testing.T, x *sending) { x.to.Close() }, errs.Unavailable},
		"the path is another's": {func(_ *testing.T, x *sending) { x.path.Account = "b" }, errs.Invalid},
		"it is there meanwhile": {func(t *testing.T, x *sending) {
			if err := x.to.Ensure(bg, x.dst, Info{Path: name.Path{Account: "a"}}, nothing); err != nil {
				t.Fatal(err)
			}
		}, errs.Stale},
		"begun again": {func(_ *testing.T, x *sending) { x.whole.N, x.at = 0, replwire.Cursor{ByName: true} }, errs.Other},
	} {
		t.Run(what, func(t *testing.T) {
			to, _ := open(t, t.TempDir(), Config{})
			x := begun(from, to, loc)
			for range 3 {
				if _, _, err := x.next(t); err != nil {
					t.Fatal(err)
				}
			}
			c.change(t, x)
			_, err := x.all(t)
			if errs.KindOf(err) != c.want || (c.want == errs.Other) != (err == nil) {
				t.Errorf("%v, want kind %v", err, c.want)
			}
			if c.want == errs.Other {
				return
			}
			to.Close()
			if left := leftIn(to); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

// A device takes some sendings at one time, a sending of a database that is there from before none, and of
// one all of which may be forgotten nothing.
func TestWholesAreBounded(t *testing.T) {
	from, loc := source(t)
	to, _ := open(t, t.TempDir(), Config{Horizon: func() timestamp.T { return at(50) }})
	var all []*sending
	for i := range mostWholes {
		x := begun(from, to, loc)
		x.dst.Hash = hashOf(uint64(100 + i))
		if _, _, err := x.next(t); err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	x := begun(from, to, loc)
	if _, _, err := x.next(t); !errs.Is(err, errs.Unavailable) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := all[0].all(t); err != nil {
		t.Fatal(err)
	}
	x = begun(from, to, loc)
	if _, err := x.all(t); err != nil {
		t.Errorf("when another has ended: %v", err)
	}
	x = begun(from, to, loc)
	if _, _, err := x.next(t); !errs.Is(err, errs.Stale) {
		t.Errorf("where there is one: %v", err)
	}
	if err := from.Update(bg, loc, func(tx *Tx) error { return tx.MergeInfo(Info{Path: tx.Info().Path, Delete: at(40)}) }); err != nil {
		t.Fatal(err)
	}
	x = begun(from, to, loc)
	x.dst.Hash = hashOf(5)
	if _, _, err := x.next(t); !errs.Is(err, errs.Gone) {
		t.Errorf("of what may be forgotten: %v", err)
	}
	if n := len(leftIn(to)); n != mostWholes-1 {
		t.Errorf("%d are in tmp", n)
	}
}

// A peer that does not go on is not waited for for ever.
func TestWholeIsLeft(t *testing.T) {
	from, loc := source(t)
	to, _ := open(t, t.TempDir(), Config{})
	x := begun(from, to, loc)
	if _, _, err := x.next(t); err != nil {
		t.Fatal(err)
	}
	l := to.now(x.dst.Device).wholes
	l.mu.Lock()
	w := l.all[loc.Hash]
	l.mu.Unlock()
	l.drop(w) // as its timer does
	if left := leftIn(to); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	if _, _, err := x.next(t); !errs.Is(err, errs.Stale) {
		t.Errorf("a part of what was dropped: %v", err)
	}
}
