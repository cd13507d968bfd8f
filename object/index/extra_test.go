package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
)

// tally is what a test keeps beside an index: how many changes there were, and the sum of
// the offsets of their records. Its index guards it.
type tally struct{ changes, sum uint64 }

func (c *tally) bytes() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, c.changes), c.sum)
}

func (c *tally) count(n uint64) func() {
	return func() { c.changes, c.sum = c.changes+1, c.sum+n }
}

func tallyOf(b []byte) (c tally) {
	if len(b) == 16 {
		c.changes, c.sum = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	}
	return c
}

// openTally opens an index with what is beside it.
func openTally(fs vfs.FS) (*Index, *tally, error) {
	c := new(tally)
	cfg := config(fs)
	cfg.Extra = c.bytes
	ix, err := Open(cfg)
	if err == nil {
		*c = tallyOf(ix.Extra())
	}
	return ix, c, err
}

// meanwhile is a disk on which something happens before each call that names a file.
type meanwhile struct {
	vfs.FS
	happens func()
}

func (m *meanwhile) CreateUnnamed(dir string) (vfs.File, error) {
	m.happens()
	return m.FS.CreateUnnamed(dir)
}

func (m *meanwhile) Link(f vfs.File, name string) error {
	m.happens()
	return m.FS.Link(f, name)
}

func (m *meanwhile) OpenFile(name string, flag int) (vfs.File, error) {
	m.happens()
	return m.FS.OpenFile(name, flag)
}

func (m *meanwhile) Rename(from, to string) error {
	m.happens()
	return m.FS.Rename(from, to)
}

func (m *meanwhile) SyncDir(name string) error {
	m.happens()
	return m.FS.SyncDir(name)
}

// TestExtraIsOfThePosition has changes beside checkpoints and within them, and cuts the
// power: what is beside the index is of the very moment that its position is of.
func TestExtraIsOfThePosition(t *testing.T) {
	disk := vfs.NewMem()
	within := &meanwhile{disk, func() {}}
	ix, kept, err := openTally(within)
	if err != nil {
		t.Fatal(err)
	}
	defer ix.Close()
	var applying sync.Mutex
	last := uint64(0)
	apply := func() {
		applying.Lock()
		defer applying.Unlock()
		last++
		ix.ApplyWith(seglog.Position{Segment: 1, Offset: int64(last)}, kept.count(last))
	}
	within.happens = apply
	check := func(ix *Index) {
		t.Helper()
		p, c := ix.Position(), tallyOf(ix.Extra())
		if n := uint64(p.Offset); c != (tally{n, n * (n + 1) / 2}) {
			t.Fatalf("at %v there is %v", p, c)
		}
	}
	var group sync.WaitGroup
	stop := make(chan struct{})
	group.Go(func() {
		defer close(stop)
		for range 20_000 {
			apply()
		}
	})
	for more := true; more; {
		select {
		case <-stop:
			more = false
		default:
		}
		if err := ix.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(ix)
	}
	group.Wait()
	if n := ix.Position().Offset; n < 20_000 {
		t.Fatalf("the last checkpoint is of %d", n)
	}
	for seed := range uint64(8) {
		after, _, err := openTally(disk.AfterCrash(seed))
		if err != nil {
			t.Fatal(err)
		}
		check(after)
		after.Close()
	}
}

func TestExtraAlone(t *testing.T) {
	disk := vfs.NewMem()
	counted := vfs.FailAt(disk, -1)
	var extra []byte
	cfg := config(counted)
	cfg.Extra = func() []byte { return extra }
	open := func() *Index {
		ix, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return ix
	}
	ix := open()
	defer func() { ix.Close() }()
	if got := ix.Extra(); len(got) != 0 {
		t.Fatalf("a new index has %q beside it", got)
	}
	for _, want := range [][]byte{[]byte("one"), bytes.Repeat([]byte("much"), MaxExtra/4), {}, []byte("two")} {
		extra = want
		if err := ix.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		calls := counted.Calls()
		if err := ix.Checkpoint(t.Context()); err != nil || counted.Calls() != calls {
			t.Fatalf("where nothing is new a checkpoint makes %d calls, %v", counted.Calls()-calls, err)
		}
		if got := ix.Extra(); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes are kept, want %d", len(got), len(want))
		}
		ix.Close()
		ix = open()
		if got := ix.Extra(); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes are found, want %d", len(got), len(want))
		}
	}
	ix.Apply(at(0), Change{New: goldenEntries[1].entry})
	extra = make([]byte, MaxExtra+1)
	if err := ix.Checkpoint(t.Context()); errs.KindOf(err) != errs.Invalid || ix.Position() != (seglog.Position{}) {
		t.Fatalf("too much: %v, and the position is %v", err, ix.Position())
	}
	extra = []byte("three")
	if err := errors.Join(ix.Checkpoint(t.Context()), ix.MergeAll(t.Context())); err != nil || ix.Position() != at(0) {
		t.Fatalf("then less: %v, and the position is %v", err, ix.Position())
	}
	if got := ix.Extra(); string(got) != "three" {
		t.Fatalf("after a merge there is %q", got)
	}
}

// TestAmend lowers a count without a record: it is seen, durable with the next
// checkpoint, and undone by a crash before that.
func TestAmend(t *testing.T) {
	disk := vfs.NewMem()
	ix := mustOpen(t, disk)
	k, e := Key{Policy: 1}, goldenEntries[1].entry
	e.Dead = 3
	ix.Apply(at(1), Change{Key: k, New: e})
	less := e
	less.Dead--
	if err := ix.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	called := 0
	ix.Amend(func() { called++ }, Change{Key: k, Old: e, New: less})
	ix.Amend(nil)
	if ix.ApplyWith(at(1), func() { called++ }) || called != 1 {
		t.Fatalf("what goes with changes was called %d times, want once", called)
	}
	if err := same(ix, model{k: less}); err != nil {
		t.Fatal(err)
	}
	if err := same(mustOpen(t, disk.AfterCrash(1)), model{k: e}); err != nil {
		t.Fatal(err)
	}
	if err := ix.Checkpoint(t.Context()); err != nil || ix.Position() != at(1) {
		t.Fatalf("%v, and the position is %v", err, ix.Position())
	}
	if err := same(mustOpen(t, disk.AfterCrash(1)), model{k: less}); err != nil {
		t.Fatal(err)
	}
}
