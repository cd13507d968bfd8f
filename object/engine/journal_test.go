package engine

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
	"martlet/object/engine/record"
)

// fataler is what helps a test of either kind.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

// journalOf opens the journal of an owner.
func journalOf(t fataler, e *Engine, owner byte, hurry func()) *Journal {
	t.Helper()
	j, err := e.Journal(ctx, owner, Hooks{Hurry: hurry})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// replayed is what a journal gives back: numbers, by which the updates are told apart.
func replayed(t fataler, j *Journal) (numbers []uint64, at []seglog.Position) {
	t.Helper()
	err := j.Replay(func(p seglog.Position, key [16]byte, update []byte) error {
		n := binary.BigEndian.Uint64(update)
		if key[3] != byte(n) {
			return fmt.Errorf("update %d has the key %x", n, key)
		}
		if len(at) > 0 && !at[len(at)-1].Less(p) {
			return fmt.Errorf("%v comes behind %v", p, at[len(at)-1])
		}
		numbers, at = append(numbers, n), append(at, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return numbers, at
}

// journal appends update n.
func journal(t fataler, j *Journal, n uint64) (at seglog.Position) {
	t.Helper()
	err := j.Append([16]byte{3: byte(n)}, binary.BigEndian.AppendUint64(nil, n), func(p seglog.Position) { at = p })
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// What was appended is given back until it was said to be merged, to whom it belongs.
func TestJournal(t *testing.T) {
	fs := vfs.NewMem()
	e := New("/", smallConfig(fs))
	for _, owner := range []byte{0, record.Owners} {
		if _, err := e.Journal(ctx, owner, Hooks{}); !errs.Is(err, errs.Invalid) {
			t.Errorf("owner %d: got %v, want %v", owner, err, errs.Invalid)
		}
	}
	a, c := journalOf(t, e, record.Accounts, nil), journalOf(t, e, record.Containers, nil)
	var at []seglog.Position
	for n := range uint64(10) {
		at = append(at, journal(t, c, n))
	}
	journal(t, a, 100)
	c.Merged(at[6])
	check := func(what string, e *Engine, from uint64) {
		t.Helper()
		want := []uint64{7, 8, 9}
		if from < 7 {
			want = []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
		}
		if got, _ := replayed(t, journalOf(t, e, record.Containers, nil)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
		if got, _ := replayed(t, journalOf(t, e, record.Accounts, nil)); !slices.Equal(got, []uint64{100}) {
			t.Errorf("%s: of accounts got %v", what, got)
		}
	}
	check("at once", e, 7)
	check("killed before a checkpoint", New("/", smallConfig(fs.AfterCrash(whole))), 0)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Append([16]byte{}, nil, func(seglog.Position) {}); !errs.Is(err, errs.BadDevice) {
		t.Errorf("closed: got %v, want %v", err, errs.BadDevice)
	}
	check("after a clean end", New("/", smallConfig(fs)), 7)
	again := fs.AfterCrash(whole)
	if err := withoutIndex(smallConfig(again)); err != nil {
		t.Fatal(err)
	}
	check("index made anew", New("/", smallConfig(again)), 0)

	e = New("/", smallConfig(fs))
	c = journalOf(t, e, record.Containers, nil)
	c.Merged(at[9])
	if got, _ := replayed(t, c); len(got) != 0 {
		t.Errorf("all is merged: got %v", got)
	}
	journal(t, c, 10)
	if got, _ := replayed(t, c); !slices.Equal(got, []uint64{10}) {
		t.Errorf("one more: got %v", got)
	}
	if err := c.Append([16]byte{}, make([]byte, MaxUpdate+1), nil); !errs.Is(err, errs.TooLarge) {
		t.Errorf("got %v, want %v", err, errs.TooLarge)
	}
}

// A segment in which there is something that is needed is not compacted away, and its
// owner is asked to hurry.
func TestJournalHoldsSegments(t *testing.T) {
	w := newWorld()
	hurried := 0
	j := journalOf(t, w.e, record.Containers, func() { hurried++ })
	at := journal(t, j, 1)
	if err := w.do(op{opPut, worldName(0), 1, 0}); err != nil {
		t.Fatal(err)
	}
	w.seal(t) // nothing of it is alive
	if err := w.do(op{opPut, worldName(0), 2, 0}); err != nil {
		t.Fatal(err)
	}
	j = journalOf(t, w.e, record.Containers, func() { hurried++ })
	if err := w.e.Compact(ctx, ts(0), nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := replayed(t, j); !slices.Equal(got, []uint64{1}) || hurried == 0 {
		t.Errorf("after compaction there is %v, hurried %d times", got, hurried)
	}
	j.Merged(at)
	hurried = 0
	if err := w.e.Compact(ctx, ts(0), nil); err != nil {
		t.Fatal(err)
	}
	d, err := w.e.now().open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := d.log.Segments(); len(n) != 1 || hurried != 0 {
		t.Errorf("segments %v are left, hurried %d times", n, hurried)
	}
	if err := w.check(0, 8); err != nil {
		t.Fatal(err)
	}
}

// Whatever else goes on, and wherever it crashes: what was acknowledged and not said to be
// merged is given back, in its order, and nothing that was never appended.
func TestJournalSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewMem()
		e := New("/", smallConfig(fs))
		j := journalOf(t, e, record.Containers, nil)
		var at []seglog.Position // by number
		merged := uint64(0)      // all before it are
		look := func() {
			got, _ := replayed(t, j)
			if !slices.IsSorted(got) {
				t.Fatalf("got %v", got)
			}
			needed := slices.DeleteFunc(got, func(n uint64) bool { return n < merged })
			for n := merged; n < uint64(len(at)); n++ {
				if len(needed) == 0 || needed[0] != n {
					t.Fatalf("got %v, want all from %d to %d", got, merged, len(at)-1)
				}
				needed = needed[1:]
			}
			if len(needed) > 0 {
				t.Fatalf("got %v, which were never appended", needed)
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch what := rapid.IntRange(0, 9).Draw(t, "what"); what {
			case 0, 1, 2:
				at = append(at, journal(t, j, uint64(len(at))))
			case 3:
				if merged < uint64(len(at)) {
					merged += rapid.Uint64Range(1, uint64(len(at))-merged).Draw(t, "merged")
					j.Merged(at[merged-1])
				}
			case 4:
				n := rapid.Int64Range(1, 1000).Draw(t, "time")
				if err := put(e, worldName(int(n)%4), ts(n), make([]byte, 3000), "x", Terms{Merge: true}); err != nil && !errs.Is(err, errs.Stale) {
					t.Fatal(err)
				}
			case 5:
				if err := e.Checkpoint(ctx); err != nil {
					t.Fatal(err)
				}
			case 6:
				if err := e.Compact(ctx, ts(0), nil); err != nil {
					t.Fatal(err)
				}
			default:
				switch what {
				case 7:
					if err := e.Close(); err != nil {
						t.Fatal(err)
					}
				case 8:
					seed := rapid.Uint64().Draw(t, "crash")
					fs = fs.AfterCrash(seed)
				case 9:
					fs = fs.AfterCrash(whole)
					if err := withoutIndex(smallConfig(fs)); err != nil {
						t.Fatal(err)
					}
				}
				e = New("/", smallConfig(fs))
				j = journalOf(t, e, record.Containers, nil)
			}
			look()
		}
	})
}

// Updates come, and their segment is sealed, after an owner was asked what he needs: the
// segment stays.
func TestSegmentSealedAfterOwnersWereAsked(t *testing.T) {
	fs := vfs.NewMem()
	e := New("/", smallConfig(fs))
	var j *Journal
	var acked []uint64
	asked := false
	needed := func() map[uint64]bool {
		if asked {
			return nil
		}
		asked = true
		for {
			n := uint64(len(acked))
			update := append(binary.BigEndian.AppendUint64(nil, n), make([]byte, 4000)...)
			var at seglog.Position
			if err := j.Append([16]byte{3: byte(n)}, update, func(p seglog.Position) { at = p }); err != nil {
				t.Error(err)
			}
			if acked = append(acked, n); at.Segment > 1 || t.Failed() {
				return map[uint64]bool{} // as it was when he was asked
			}
		}
	}
	var err error
	if j, err = e.Journal(ctx, record.Containers, Hooks{Needed: needed}); err != nil {
		t.Fatal(err)
	}
	if err := e.Compact(ctx, ts(0), nil); err != nil {
		t.Fatal(err)
	}
	again := journalOf(t, New("/", smallConfig(fs.AfterCrash(whole))), record.Containers, nil)
	if got, _ := replayed(t, again); !slices.Equal(got, acked) || len(acked) < 2 {
		t.Errorf("replayed are %v, want %v", got, acked)
	}
}
