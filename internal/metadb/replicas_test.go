package metadb

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/vfs"
)

// copyTo pushes everything of a database, part by part, and returns how many
// parts there were.
func copyTo(t *testing.T, from *Store, src Location, to *Store, dst Location) (parts int) {
	t.Helper()
	var at replwire.Cursor
	for {
		p, err := from.Replicas().Part(bg, src.Device.Name(), src.Hash, at)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Body) > 2*partBytes {
			t.Errorf("a part has %d bytes", len(p.Body))
		}
		got, err := to.Replicas().Merge(bg, dst.Device.Name(), p.Path, dst.Hash, p.Body)
		if err != nil {
			t.Fatal(err)
		}
		if now := stateOf(t, to, dst); got != now {
			t.Errorf("Merge returns %x, the state is %x", got, now)
		}
		if parts++; !p.More {
			return parts
		}
		at = p.Next
	}
}

func testParts(t *testing.T, home Config) {
	for what, c := range map[string]struct{ fields, rows, size, parts int }{
		"nothing":              {0, 0, 0, 1},
		"metadata":             {20, 0, 9, 1},
		"metadata and rows":    {7, 30, 9, 1},
		"many items":           {10, 2 * partItems, 9, 3},
		"much metadata":        {3000, 10, 1000, 3},
		"exactly full of rows": {0, partItems - 1, 9, 1},
	} {
		t.Run(what, func(t *testing.T) {
			s, dev := open(t, t.TempDir(), home)
			path := name.Path{Account: "a", Container: "c"}
			loc := Location{dev, hashOf(1)}
			err := s.Ensure(bg, loc, Info{Path: path, Created: at(1), Put: at(2), Delete: at(1)}, func(tx *Tx) error {
				for i := range c.fields {
					f := Field{Canonical(fmt.Sprintf("X-Meta-%05d", i)), fmt.Sprintf("%0*d", c.size, i), at(int64(i + 2))}
					if err := tx.MergeFields([]Field{f}); err != nil {
						return err
					}
				}
				for i := range c.rows {
					if _, err := tx.MergeRow(0, fmt.Sprintf("%0*d", c.size, i), testRow{at(int64(i)), i%3 == 0, 5}.encode()); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			to, other := open(t, t.TempDir(), with(home, Config{Track: true}))
			dst := Location{other, loc.Hash}
			if got := copyTo(t, s, loc, to, dst); got != c.parts {
				t.Errorf("it took %d parts, want %d", got, c.parts)
			}
			a, b := stateOf(t, s, loc), stateOf(t, to, dst)
			if a.Digest != b.Digest || a.Incarnation == b.Incarnation {
				t.Errorf("the copy of %x is %x", a, b)
			}
			if err := to.Check(bg, dst); err != nil {
				t.Error(err)
			}
			if got := to.TakeChanged(); len(got) != 1 {
				t.Errorf("a database was made and %v changed", got)
			}
		})
	}
}

// samplePart is a part of a small database of the path /a.
func samplePart(t testing.TB) []byte {
	s, loc := one(t, Config{})
	err := s.Update(bg, loc, func(tx *Tx) error {
		if _, err := tx.MergeRow(0, "r", live(5, 1)); err != nil {
			return err
		}
		return tx.MergeFields([]Field{{"A", "1", at(5)}})
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Replicas().Part(bg, "sda", loc.Hash, replwire.Cursor{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Body
}

func TestBadPartsAreRefusedWhole(t *testing.T) {
	good := samplePart(t)
	info := Info{Path: name.Path{Account: "a"}, Delete: at(99)}
	list := func(items ...string) []byte {
		b := AppendString(replwire.Begin(nil, replwire.DatabasePart), string(appendInfo(nil, &info)))
		for _, i := range items {
			b = append(b, i...)
		}
		return replwire.End(b, 1+len(items), false)
	}
	row := func(name, row string) string {
		return string(AppendString(AppendString(binary.AppendUvarint([]byte{partRow}, 0), name), row))
	}
	fine := row("fine", string(live(100, 1)))
	field := func(name, value string) string {
		return string(AppendString(AppendString([]byte{partField}, name), value))
	}
	for what, body := range map[string][]byte{
		"nothing":              nil,
		"cut":                  good[:len(good)-1],
		"garbled":              append(append([]byte{}, good[:20]...), append([]byte{good[20] ^ 1}, good[21:]...)...),
		"another kind of list": replwire.End(replwire.Begin(nil, replwire.Accounts), 0, false),
		"no info":              replwire.End(replwire.Begin(nil, replwire.DatabasePart), 0, false),
		"a row that is none":   list(fine, row("bad", "xx")),
		"a row in two forms":   list(fine, row("bad", string(append(AppendStamp([]byte{1}, at(3)), 2, 1)))),
		"a row without a name": list(fine, row("", string(live(3, 1)))),
		"a name too long":      list(fine, row(string(make([]byte, MaxName+1)), string(live(3, 1)))),
		"a field that is none": list(fine, field("X", "")),
		"a field's name":       list(fine, field("x-meta", string(appendField(nil, &Field{"x-meta", "1", at(3)})))),
		"an unknown item":      list(fine, "z"),
		"too many items":       replwire.End(append(list(fine)[:len(list(fine))-13], 0), 3, false),
		"another path": func() []byte {
			i := info
			i.Path.Account = "b"
			return replwire.End(AppendString(replwire.Begin(nil, replwire.DatabasePart), string(appendInfo(nil, &i))), 1, false)
		}(),
	} {
		s, loc := one(t, Config{})
		merge(t, s, loc, map[string][]byte{"kept": live(5, 1)})
		before := stateOf(t, s, loc)
		if _, err := s.Replicas().Merge(bg, "sda", name.Path{Account: "a"}, loc.Hash, body); !errs.Is(err, errs.Invalid) || errs.PublicOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
		if now := stateOf(t, s, loc); now != before {
			t.Errorf("%s: the state was %x and is %x", what, before, now)
		}
		other := Location{loc.Device, hashOf(2)}
		if _, err := s.Replicas().Merge(bg, "sda", name.Path{Account: "a"}, other.Hash, body); err == nil {
			t.Errorf("%s was taken for a new database", what)
		}
		if err := s.View(bg, other, nothing); !errs.Is(err, errs.NotFound) {
			t.Errorf("%s made a database: %v", what, err)
		}
	}
	s, loc := one(t, Config{})
	if _, err := s.Replicas().Merge(bg, "sda", name.Path{Account: "a"}, loc.Hash, list(fine)); err != nil {
		t.Errorf("a part without a fault: %v", err)
	}
}

func FuzzOpenPart(f *testing.F) {
	good := samplePart(f)
	records, count, _, err := replwire.Open(good, replwire.DatabasePart)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, uint8(0))
	f.Add(records, uint8(count))
	f.Fuzz(func(t *testing.T, b []byte, count uint8) {
		if count > 0 { // records alone, so that they come past the checksum
			b = replwire.End(append(replwire.Begin(nil, replwire.DatabasePart), b...), int(count), false)
		}
		p, err := openPart(testSchema{}, b)
		if (p == nil) == (err == nil) || err != nil && !errs.Is(err, errs.Invalid) {
			t.Fatalf("%x gives %v, %v", b, p, err)
		}
	})
}

func TestKnown(t *testing.T) {
	s, loc := one(t, Config{})
	merge(t, s, loc, map[string][]byte{"a": live(5, 1), "b": live(5, 1), "c": live(5, 1)})
	before := stateOf(t, s, loc)
	r := s.Replicas()
	for i := range maxKnown + 4 {
		id := [16]byte{byte(i + 1)}
		if err := r.SetKnown(bg, "sda", loc.Hash, id, uint64(min(i, 3)), 7); err != nil {
			t.Fatal(err)
		}
		if ours, theirs, err := r.Known(bg, "sda", loc.Hash, id); ours != uint64(min(i, 3)) || theirs != 7 || err != nil {
			t.Errorf("replica %d is known to have %d at %d, %v", i, ours, theirs, err)
		}
	}
	if ours, theirs, err := r.Known(bg, "sda", loc.Hash, [16]byte{1}); ours != 0 || theirs != 0 || err != nil {
		t.Errorf("the replica furthest behind is still known: %d, %d, %v", ours, theirs, err)
	}
	if err := r.SetKnown(bg, "sda", loc.Hash, [16]byte{99}, 4, 7); err != nil {
		t.Fatal(err)
	}
	if ours, _, err := r.Known(bg, "sda", loc.Hash, [16]byte{99}); ours != 0 || err != nil {
		t.Errorf("what is known is of changes that never were: %d, %v", ours, err)
	}
	if now := stateOf(t, s, loc); now != before {
		t.Errorf("what is known of others changed the state from %x to %x", before, now)
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

func TestDrop(t *testing.T) {
	s, loc := one(t, Config{})
	r := s.Replicas()
	old := stateOf(t, s, loc)
	merge(t, s, loc, map[string][]byte{"a": live(5, 1)})
	if gone, err := r.Drop(bg, "sda", old); gone || err != nil {
		t.Errorf("a database that has changed: dropped %v, %v", gone, err)
	}
	now := stateOf(t, s, loc)
	other := now
	other.Incarnation[0]++
	if gone, err := r.Drop(bg, "sda", other); gone || err != nil {
		t.Errorf("another incarnation: dropped %v, %v", gone, err)
	}
	if gone, err := r.Drop(bg, "sda", now); !gone || err != nil {
		t.Errorf("dropped %v, %v", gone, err)
	}
	if _, err := os.Stat(s.path(loc)); !os.IsNotExist(err) {
		t.Errorf("the file is there: %v", err)
	}
	if err := s.View(bg, loc, nothing); !errs.Is(err, errs.NotFound) {
		t.Errorf("the database is there: %v", err)
	}
	if gone, err := r.Drop(bg, "sda", now); gone || err != nil {
		t.Errorf("nothing: dropped %v, %v", gone, err)
	}
	if err := s.Ensure(bg, loc, Info{}, nothing); err != nil {
		t.Fatal(err)
	}
	if again := stateOf(t, s, loc); again.Incarnation == now.Incarnation {
		t.Error("made anew it has the incarnation of before")
	}
}

// What is acknowledged while the database is dropped again and again is in what
// was dropped, or in what is there.
func TestDropAgainstWriters(t *testing.T) {
	s, dev := open(t, t.TempDir(), Config{Open: 1})
	loc := Location{dev, hashOf(1)}
	const writers, rounds = 4, 40
	saved := map[string]bool{}
	save := func() replwire.Database {
		var d replwire.Database
		err := s.Update(bg, loc, func(tx *Tx) (err error) {
			if d, err = tx.state(loc.Hash); err != nil {
				return err
			}
			list, err := tx.Changes(0, writers*rounds)
			for _, c := range list {
				saved[c.Name] = true
			}
			return err
		})
		if err != nil && !errs.Is(err, errs.NotFound) {
			t.Error(err)
		}
		return d
	}
	ctx, cancel := context.WithCancel(bg)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				err := s.Ensure(bg, loc, Info{}, func(tx *Tx) error {
					_, err := tx.MergeRow(0, fmt.Sprintf("%d-%d", w, i), live(5, 1))
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	var dropper sync.WaitGroup
	drops := 0
	dropper.Go(func() {
		for ctx.Err() == nil {
			d := save()
			gone, err := s.Replicas().Drop(bg, "sda", d)
			if err != nil {
				t.Error(err)
			}
			if gone {
				drops++
			}
		}
	})
	wg.Wait()
	cancel()
	dropper.Wait()
	save()
	if len(saved) != writers*rounds {
		t.Errorf("%d rows of %d are there, after %d drops", len(saved), writers*rounds, drops)
	}
}

// A writer who waits together with a drop writes to what is there after it.
func TestDropSharesNoTransaction(t *testing.T) {
	s, loc := one(t, Config{})
	state := stateOf(t, s, loc)
	d := opened(t, s, loc)
	hold, held := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		first := true
		if err := s.Update(bg, loc, func(*Tx) error {
			if first {
				first = false
				close(held)
				<-hold
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
	<-held
	waiting := func(n int) {
		for {
			d.mu.Lock()
			got := len(d.waiting)
			d.mu.Unlock()
			if got == n {
				return
			}
			yield()
		}
	}
	wg.Go(func() {
		if gone, err := s.Replicas().Drop(bg, "sda", state); !gone || err != nil {
			t.Errorf("dropped %v, %v", gone, err)
		}
	})
	waiting(1)
	wg.Go(func() {
		if err := s.Ensure(bg, loc, Info{}, func(tx *Tx) error { _, err := tx.MergeRow(0, "late", live(5, 1)); return err }); err != nil {
			t.Error(err)
		}
	})
	waiting(2)
	close(hold)
	wg.Wait()
	if got, err := page(s, loc, Query{Params: allParams}); err != nil || !slices.Equal(got, []string{"late"}) {
		t.Errorf("after the drop there is %q, %v", got, err)
	}
}

func TestDropFailsAtAnyCall(t *testing.T) { homes(t, dropFailsAtAnyCall) }

func dropFailsAtAnyCall(t *testing.T, home Config) {
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		s, dev := open(t, dir, home)
		loc := Location{dev, hashOf(1)}
		if err := s.Ensure(bg, loc, Info{}, func(tx *Tx) error { _, err := tx.MergeRow(0, "r", live(5, 1)); return err }); err != nil {
			t.Fatal(err)
		}
		state := stateOf(t, s, loc)
		s.Close()
		faulty := vfs.FailAt(vfs.OS, n)
		s, loc.Device = open(t, dir, with(home, Config{FS: faulty}))
		gone, err := s.Replicas().Drop(bg, "sda", state)
		fired = faulty.Fired()
		if !fired && (!gone || err != nil) {
			t.Fatalf("no call failed, and yet: %v, %v", gone, err)
		}
		statErr := isThere(s, loc)
		if gone && statErr == nil || !gone && err == nil && statErr != nil {
			t.Errorf("call %d failed, Drop said %v, %v: then it is there: %v", n, gone, err, statErr)
		}
		s.Close()
	}
}

func TestWalkOfARange(t *testing.T) {
	s, dev := open(t, t.TempDir(), Config{small: 100}) // some are small
	var all []name.Hash
	for _, first := range []uint16{0x0000, 0x0001, 0x0102, 0x01ff, 0x7fff, 0x8000, 0xfffe, 0xffff} {
		for last := range 2 {
			var h name.Hash
			binary.BigEndian.PutUint16(h[:], first)
			h[15] = byte(last)
			all = append(all, h)
			err := s.Ensure(bg, Location{dev, h}, Info{}, func(tx *Tx) error {
				if len(all)%3 > 0 {
					return nil
				}
				_, err := tx.MergeRow(0, strings.Repeat("long", 30), live(5, 1))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, from := range all {
		for j := i; j < len(all); j++ {
			got := maps.Collect(s.Replicas().Walk(bg, "sda", from, all[j]))
			if len(got) != j-i+1 || slices.ContainsFunc(all[i:j+1], func(h name.Hash) bool { err, ok := got[h]; return !ok || err != nil }) {
				t.Errorf("from %s to %s are %v", from, all[j], got)
			}
		}
	}
}
