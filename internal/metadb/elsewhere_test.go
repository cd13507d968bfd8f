package metadb

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"martlet/internal/device"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/vfs"
)

// rowsElsewhere returns the rows of other policies, so many at a time.
func rowsElsewhere(t fataler, s *Store, loc Location, limit int) (got []string) {
	t.Helper()
	for after, more := (RowName{}), true; more; {
		err := s.View(bg, loc, func(tx *Tx) error {
			list, err := tx.Elsewhere(after, limit)
			more = len(list) == limit
			for _, c := range list {
				r, err := decodeTestRow(c.Row)
				if err != nil {
					return err
				}
				after = RowName{c.Space, c.Name}
				got = append(got, fmt.Sprintf("%05d/%s at %d %t", c.Space, c.Name, r.stamp.Ticks(), r.deleted))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// Rows of other policies are found whatever the database's own is, the dead ones too, in pages of any size.
func TestElsewhere(t *testing.T) {
	spaces := []policy.Index{0, 1, 2, 255, 256, math.MaxUint16}
	homes(t, func(t *testing.T, home Config) {
		s, dev := open(t, t.TempDir(), home)
		for n, own := range spaces {
			loc := Location{Device: dev, Hash: name.Hash{byte(n)}}
			want := []string{}
			for _, space := range spaces {
				for i := range 6 {
					if own != space && int(space)%7 != i {
						want = append(want, fmt.Sprintf("%05d/n%d at %d %t", space, i, i+1, (i+n)%3 == 0))
					}
				}
			}
			err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Policy: own, Created: at(1), Put: at(1)}, func(tx *Tx) error {
				for _, space := range spaces {
					for i := range 6 {
						row := live(int64(i+1), 1)
						if (i+n)%3 == 0 {
							row = dead(int64(i + 1))
						}
						if int(space)%7 == i {
							continue
						}
						if _, err := tx.MergeRow(space, fmt.Sprintf("n%d", i), row); err != nil {
							return err
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for limit := range len(want) + 1 {
				if got := rowsElsewhere(t, s, loc, limit+1); !slices.Equal(got, want) {
					t.Errorf("policy %d, pages of %d: got %q, want %q", own, limit+1, got, want)
				}
			}
		}
	})
}

// watching is a schema that counts what it hears of.
type watching struct {
	testSchema
	heard *atomic.Int64
}

func (w watching) RowElsewhere(name.Path) { w.heard.Add(1) }

// Who watches hears of each change of a row of another policy, and of a policy that changes; a row that waits is seen
// as it will be.
func TestSpaceWatcher(t *testing.T) {
	j := openTestJournal(t, vfs.NewMem())
	var heard atomic.Int64
	s, dev := openWith(t, watching{heard: &heard}, Config{Journal: j.of})
	loc := Location{Device: dev, Hash: name.Hash{1}}
	none := func(*Tx) error { return nil }
	if err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1), PolicyAt: at(5)}, none); err != nil {
		t.Fatal(err)
	}
	step := func(what string, want int64, fn func(*Tx) error) {
		t.Helper()
		heard.Store(0)
		if err := s.Update(bg, loc, fn); err != nil {
			t.Fatal(err)
		}
		if got := heard.Load(); got != want {
			t.Errorf("%s: heard of %d, want %d", what, got, want)
		}
	}
	row := func(space policy.Index, row []byte) func(*Tx) error {
		return func(tx *Tx) error { _, err := tx.MergeRow(space, "o", row); return err }
	}
	step("a row of its own", 0, row(0, live(1, 1)))
	step("a row of another", 1, row(3, live(2, 1)))
	step("the same again", 0, row(3, live(2, 1)))
	step("a later one", 1, row(3, live(3, 1)))
	step("a later choice", 0, func(tx *Tx) error { return tx.MergeInfo(Info{Policy: 3, PolicyAt: at(6)}) })
	step("an earlier choice", 1, func(tx *Tx) error { return tx.MergeInfo(Info{Policy: 3, PolicyAt: at(4)}) })
	if got, want := rowsElsewhere(t, s, loc, 5), []string{"00000/o at 1 false"}; !slices.Equal(got, want) {
		t.Errorf("elsewhere are %q, want %q", got, want)
	}
	if err := s.MergeRows(bg, loc, nil, Row{Space: 0, Name: "o", Row: dead(9)}, Row{Space: 0, Name: "p", Row: live(9, 1)}); err != nil {
		t.Fatal(err)
	}
	if got, want := rowsElsewhere(t, s, loc, 5), []string{"00000/o at 9 true"}; !slices.Equal(got, want) {
		t.Errorf("while a row waits: elsewhere are %q, want %q", got, want)
	}
	heard.Store(0)
	mergeAll(s, dev)
	if got, want := rowsElsewhere(t, s, loc, 5), []string{"00000/o at 9 true", "00000/p at 9 false"}; !slices.Equal(got, want) || heard.Load() != 2 {
		t.Errorf("when it was merged: elsewhere are %q, want %q; heard of %d", got, want, heard.Load())
	}
}

// openWith is open of a store of a schema.
func openWith(t testing.TB, schema Schema, cfg Config) (*Store, *device.Device) {
	t.Helper()
	dir := t.TempDir()
	_, dev := open(t, dir, own) // for its device
	set, err := device.NewSet(vfs.OS, dir, []string{dev.Name()})
	if err != nil {
		t.Fatal(err)
	}
	if dev, err = set.Lookup(dev.Name()); err != nil {
		t.Fatal(err)
	}
	cfg.Log = quiet
	s := New(cfg, schema, set)
	t.Cleanup(s.Close)
	return s, dev
}
