package index

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
)

// history is what an index was after each of the changes that were made to it. What is
// kept beside the index counts them, so that it says which of the states a crash has left.
type history struct {
	log    []event
	states []model // states[n] is after n changes
	placed []int   // placed[n] is how many records of the log they are
	acked  int     // changes that are known to be durable
}

func newHistory() *history { return &history{states: []model{{}}, placed: []int{0}} }

func (h *history) now() model { return h.states[len(h.states)-1] }

// change makes a change that belongs to the log up to a record.
func (h *history) change(ix *Index, count *tally, records int, k Key, e Entry) {
	c := Change{k, h.now()[k], e}
	m := maps.Clone(h.now())
	m.set(k, e)
	if records > h.placed[len(h.placed)-1] {
		ix.ApplyWith(at(records-1), count.count(1), c)
	} else {
		ix.Amend(count.count(1), c)
	}
	h.states, h.placed = append(h.states, m), append(h.placed, records)
}

// opened compares an index that was opened with the history, forgets what is lost, and
// applies what the log still has.
func (h *history) opened(ix *Index, count *tally) error {
	n := int(count.changes)
	if n < h.acked || n >= len(h.states) {
		return fmt.Errorf("opened with %d changes, known to be durable were %d of %d", n, h.acked, len(h.states)-1)
	}
	if got := indexOf(h.log, ix.Position()); got != h.placed[n] {
		return fmt.Errorf("opened with %d changes at record %d, want %d", n, got, h.placed[n])
	}
	// What was seen has to stay.
	h.states, h.placed, h.acked = h.states[:n+1], h.placed[:n+1], n
	if err := same(ix, h.now()); err != nil {
		return err
	}
	for i := h.placed[n]; i < len(h.log); i++ {
		h.change(ix, count, i+1, h.log[i].key, h.log[i].new)
	}
	return nil
}

// TestOpenWhereItIsFull opens an index on a device without room for a manifest.
func TestOpenWhereItIsFull(t *testing.T) {
	disk := vfs.NewMem()
	ix := mustOpen(t, disk)
	log := spread(8, 40)
	for n := 10; n <= len(log); n += 10 {
		if err := errors.Join(replay(ix, log[:n], ix.Applied()), ix.Checkpoint(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	ix.Close()
	left, err := disk.OpenFile("/index/"+runName(99), os.O_CREATE|os.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	left.Close()
	disk.SetCapacity(4096)
	if ix, err = Open(config(disk)); err != nil {
		t.Fatal(err)
	}
	defer ix.Close()
	if _, err := disk.Stat("/index/" + runName(99)); !isNotExist(err) {
		t.Errorf("a run that no manifest can name is left: %v", err)
	}
	if err := errors.Join(same(ix, modelOf(log)), replay(ix, []event{{at: at(40)}}, at(40))); err != nil {
		t.Fatal(err)
	}
	if err := ix.Checkpoint(t.Context()); errs.KindOf(err) != errs.NoSpace {
		t.Fatalf("a checkpoint without room: %v", err)
	}
	disk.SetCapacity(1 << 30)
	if err := ix.Checkpoint(t.Context()); err != nil || ix.Position() != at(40) {
		t.Fatalf("a checkpoint with room: %v, and the position is %v", err, ix.Position())
	}
}

// TestLateReader reads from an index that was merged, closed, removed and begun anew
// meanwhile: it reads on, and what it lets go of at last is not what took its place.
func TestLateReader(t *testing.T) {
	for _, begin := range []bool{false, true} {
		disk := vfs.NewMem()
		ix := mustOpen(t, disk)
		log := spread(10, 30)
		fill := func(ix *Index) {
			t.Helper()
			for n := 10; n <= len(log); n += 10 {
				if err := errors.Join(replay(ix, log[:n], ix.Applied()), ix.Checkpoint(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
		}
		fill(ix)
		want := modelOf(log)
		from, to := fullRange()
		next, stop := iter.Pull2(ix.Range(1, from, to))
		var got []Item
		read := func() bool {
			item, err, more := next()
			if err != nil {
				t.Fatal(err)
			}
			if more {
				got = append(got, item)
			}
			return more
		}
		read()
		if err := ix.MergeAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		ix.Close()
		if begin {
			if err := Remove(disk, "/index"); err != nil {
				t.Fatal(err)
			}
		}
		again := mustOpen(t, disk)
		if begin {
			fill(again)
		}
		for read() {
		}
		if !slices.Equal(got, want.between(1, from, to)) {
			t.Fatalf("%d entries were read, want %d", len(got), len(want.between(1, from, to)))
		}
		stop()
		again.Close()
		again, err := Open(config(disk))
		if err != nil {
			t.Fatalf("begun anew: %v; %v", begin, err)
		}
		if err := same(again, want); err != nil {
			t.Fatal(err)
		}
		if names, err := disk.ReadDir("/index"); err != nil || len(names) != 1+again.Stats().Runs {
			t.Fatalf("there are %v, %v", names, err)
		}
		again.Close()
	}
}

// TestCancelled stops checkpoints and merges: that is no fault of the device.
func TestCancelled(t *testing.T) {
	ix := mustOpen(t, vfs.NewMem())
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the node is stopped")
	cancel(why)
	log := spread(11, 10)
	if err := replay(ix, log, seglog.Position{}); err != nil {
		t.Fatal(err)
	}
	stopped := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, why) || errs.KindOf(err) != errs.Aborted {
			t.Errorf("%s: %v, of kind %v", what, err, errs.KindOf(err))
		}
	}
	stopped("a checkpoint", ix.Checkpoint(ctx))
	if err := ix.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped("a merge", ix.MergeAll(ctx))
	stopped("a check", ix.Check(ctx))
	if err := errors.Join(ix.MergeAll(t.Context()), same(ix, modelOf(log))); err != nil {
		t.Fatal(err)
	}
}

// TestBroken fails the rename of a manifest: the index goes on in memory, and writes
// nothing before it is opened again.
func TestBroken(t *testing.T) {
	log := spread(12, 20)
	tried := 0
	for n, fired := 0, true; fired; n++ {
		disk := vfs.NewMem()
		faulty := vfs.FailAt(disk, n)
		ix, err := Open(config(faulty))
		if err != nil {
			continue
		}
		for i := 5; i <= 10 && err == nil; i += 5 {
			err = errors.Join(replay(ix, log[:i], log[i-5].at), ix.Checkpoint(t.Context()))
		}
		if fired = faulty.Fired(); errors.Is(err, ErrBroken) {
			tried++
			if err := replay(ix, log, ix.Applied()); err != nil {
				t.Fatal(err)
			}
			calls := faulty.Calls()
			if err := ix.Checkpoint(t.Context()); !errors.Is(err, ErrBroken) || faulty.Calls() != calls {
				t.Errorf("fault %d: a checkpoint makes %d calls, %v", n, faulty.Calls()-calls, err)
			}
			if s := ix.Stats(); s.Runs > 0 {
				if err := ix.MergeAll(t.Context()); !errors.Is(err, ErrBroken) || faulty.Calls() != calls {
					t.Errorf("fault %d: a merge makes %d calls, %v", n, faulty.Calls()-calls, err)
				}
			}
			if err := same(ix, modelOf(log)); err != nil {
				t.Fatal(err)
			}
		}
		ix.Close()
	}
	if tried < 4 {
		t.Errorf("%d faults broke the index", tried)
	}
}

// TestCheckFindsRuns has runs whose checksums are right, and which are not: what is in
// them can't be looked up, or comes in a wrong order.
func TestCheckFindsRuns(t *testing.T) {
	log := spread(14, 400)
	for what, spoil := range map[string]func(*runWriter){
		"nothing":          func(*runWriter) {},
		"an empty filter":  func(w *runWriter) { clear(w.filter) },
		"a wrong fence":    func(w *runWriter) { w.last()[hashAt]-- },
		"an entry too few": func(w *runWriter) { w.foot.entries++ },
	} {
		disk := vfs.NewMem()
		ix := mustOpen(t, disk)
		if err := replay(ix, log, seglog.Position{}); err != nil {
			t.Fatal(err)
		}
		m, _, err := ix.freeze()
		if err != nil {
			t.Fatal(err)
		}
		added, err := ix.writeRun(int64(m.count), func(w *runWriter) error {
			all := slotsOf{m, m.in(everything())}
			for r, more, _ := all.next(); more; r, more, _ = all.next() {
				if err := w.add(&r); err != nil {
					return err
				}
			}
			if err := w.endBlock(); err != nil {
				return err
			}
			spoil(w)
			err := w.endEntries()
			for _, b := range m.changed(ix.depth) {
				err = errors.Join(err, w.addBucket(&b))
			}
			return err
		})
		if err == nil {
			err = ix.install(added, m, func([]*run) []*run { return []*run{added} })
		}
		if err != nil {
			t.Fatal(err)
		}
		want := errs.Corrupt
		if what == "nothing" {
			want = errs.Other
		}
		if err := ix.Check(t.Context()); errs.KindOf(err) != want {
			t.Errorf("%s: a check says %v", what, err)
		}
		ix.Close()
	}
}

func TestRunsAreInOrder(t *testing.T) {
	ix := mustOpen(t, vfs.NewMem())
	a, b := record{key: Key{Hash: [16]byte{1}}.raw(), value: []byte{0}}, record{key: Key{Hash: [16]byte{2}}.raw(), value: []byte{0}}
	for _, pair := range [][2]record{{b, a}, {a, a}} {
		_, err := ix.writeRun(2, func(w *runWriter) error {
			if err := w.add(&pair[0]); err != nil {
				t.Error(err)
			}
			return w.add(&pair[1])
		})
		if errs.KindOf(err) != errs.Corrupt {
			t.Errorf("entries of a run are in no order: %v", err)
		}
	}
}

// TestCrashAtOnce cuts the power again and again while there are changes, checkpoints,
// merges and readers, all at once, and looks at each state that this leaves.
func TestCrashAtOnce(t *testing.T) {
	ctx := t.Context()
	disk := vfs.NewMem()
	ix, count, err := openTally(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer ix.Close()
	h := newHistory()
	var known sync.Mutex // of h
	stop := make(chan struct{})
	var group sync.WaitGroup
	busy := func(f func(r *rand.Rand) error) {
		group.Go(func() {
			r := rand.New(rand.NewPCG(1, 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	busy(func(*rand.Rand) error {
		known.Lock()
		n := len(h.states) - 1
		known.Unlock()
		if err := ix.Checkpoint(ctx); err != nil {
			return err
		}
		known.Lock()
		h.acked = max(h.acked, n)
		known.Unlock()
		return nil
	})
	busy(func(r *rand.Rand) error {
		n := 1 + r.IntN(4)
		_, err := ix.merge(ctx, "test", func(all []int64) int { return min(n, len(all)) })
		return err
	})
	busy(func(*rand.Rand) error { return ix.Check(ctx) })
	busy(func(r *rand.Rand) error { // slowly, and not to the end
		left := r.IntN(40)
		from, to := fullRange()
		for _, err := range ix.Range(policy.Index(r.IntN(2)), from, to) {
			if err != nil {
				return err
			}
			if left--; left < 0 {
				break
			}
			runtime.Gosched()
		}
		return nil
	})
	busy(func(r *rand.Rand) error {
		known.Lock()
		acked := h.acked
		known.Unlock()
		after := disk.AfterCrash(r.Uint64N(100))
		left, count, err := openTally(after)
		if err != nil {
			return err
		}
		defer left.Close()
		n := int(count.changes)
		known.Lock()
		if n < acked || n >= len(h.states) {
			known.Unlock()
			return fmt.Errorf("opened with %d changes, known to be durable were %d", n, acked)
		}
		want := h.states[n]
		known.Unlock()
		return same(left, want)
	})
	for i, e := range spread(15, 1500) {
		known.Lock()
		h.log = append(h.log, e)
		h.change(ix, count, len(h.log), e.key, e.new)
		if i%5 == 0 {
			e.new.Dead++
			h.change(ix, count, len(h.log), e.key, e.new)
		}
		known.Unlock()
		if got, err := ix.Get(e.key); err != nil || got != h.now()[e.key] {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	close(stop)
	group.Wait()
	if err := same(ix, h.now()); err != nil {
		t.Fatal(err)
	}
}

// reading is a disk on which something happens before a file is read.
type reading struct {
	vfs.FS
	happens func()
}

type readingFile struct {
	vfs.File
	disk *reading
}

func (r *reading) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &readingFile{f, r}, nil
}

func (r *reading) Open(name string) (vfs.File, error)         { return r.wrap(r.FS.Open(name)) }
func (r *reading) CreateUnnamed(dir string) (vfs.File, error) { return r.wrap(r.FS.CreateUnnamed(dir)) }
func (r *reading) Link(f vfs.File, name string) error {
	return r.FS.Link(f.(*readingFile).File, name)
}

func (f *readingFile) ReadAt(p []byte, off int64) (int, error) {
	if happens := f.disk.happens; happens != nil {
		f.disk.happens = nil
		happens()
	}
	return f.File.ReadAt(p, off)
}

// TestFilesStayWhileRead merges all runs, or closes the index, between the moment in
// which a reader has found out where to read and that in which it does.
func TestFilesStayWhileRead(t *testing.T) {
	ctx := t.Context()
	log := spread(16, 200)
	want := modelOf(log)
	from, to := fullRange()
	for what, read := range map[string]func(*Index) error{
		"get": func(ix *Index) error {
			for k, e := range want {
				if got, err := ix.Get(k); err != nil || got != e {
					return fmt.Errorf("got %v, %w", got, err)
				}
				break
			}
			return nil
		},
		"range": func(ix *Index) error {
			n := 0
			for _, err := range ix.Range(1, from, to) {
				if err != nil {
					return err
				}
				n++
			}
			if m := len(want.between(1, from, to)); n != m {
				return fmt.Errorf("%d entries, want %d", n, m)
			}
			return nil
		},
		"check": func(ix *Index) error { return ix.Check(ctx) },
		"merge": func(ix *Index) error {
			if err := ix.MergeAll(ctx); err != nil {
				return err
			}
			return ix.Check(ctx)
		},
	} {
		for then, happens := range map[string]func(*Index) error{
			"merge": func(ix *Index) error { return ix.MergeAll(ctx) },
			"close": func(ix *Index) error { ix.Close(); return nil },
			"checkpoint": func(ix *Index) error {
				ix.Apply(at(len(log)), Change{Key: Key{Policy: 5}, New: goldenEntries[1].entry})
				return ix.Checkpoint(ctx)
			},
		} {
			if what == "merge" && then != "checkpoint" {
				continue // one waits for the other
			}
			disk := &reading{FS: vfs.NewMem()}
			ix := mustOpen(t, disk)
			for n := 50; n <= len(log); n += 50 {
				if err := errors.Join(replay(ix, log[:n], ix.Applied()), ix.Checkpoint(ctx)); err != nil {
					t.Fatal(err)
				}
			}
			happened := false
			disk.happens = func() {
				happened = true
				if err := happens(ix); err != nil {
					t.Errorf("%s, and %s meanwhile: %v", what, then, err)
				}
			}
			if err := read(ix); err != nil || !happened {
				t.Errorf("%s, and %s meanwhile: %v, %v", what, then, happened, err)
			}
			ix.Close()
			for _, r := range ix.view.runs {
				if r.refs.Load() != 0 {
					t.Errorf("%s, and %s meanwhile: run %d is used %d times", what, then, r.number, r.refs.Load())
				}
			}
		}
	}
}
