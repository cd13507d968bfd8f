package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// besideOf is the write beside data of a time: what an object says of its version.
func besideOf(l Location, n int64, tombstone bool) Beside {
	return Beside{At: l, Tombstone: tombstone, Version: Version{
		Time: ts(n), Name: path3(l), MD5: sum(nil), System: backend.Header{{Name: "X-Object-Sysmeta-S", Value: fmt.Sprint(n)}},
	}}
}

func putBeside(e *Engine, l Location, n int64, data []byte, b Beside) (Outcome, Outcome, error) {
	w, err := e.Create(ctx, l, int64(len(data)))
	if err != nil {
		return Outcome{}, Outcome{}, err
	}
	defer w.Close()
	if _, err := w.ReadFrom(bytes.NewReader(data)); err != nil {
		return Outcome{}, Outcome{}, err
	}
	return w.CommitBeside(Version{Time: ts(n), Name: path3(l), MD5: sum(data)}, Terms{}, b)
}

func statOf(t testing.TB, e *Engine, l Location) State {
	t.Helper()
	s, err := e.Stat(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Both are written, or neither is.
func TestCommitBeside(t *testing.T) {
	e := newEngine(vfs.NewMem(), "/")
	version, object := at(1), at(2)
	for _, tombstone := range []bool{false, true} {
		n := int64(10)
		if tombstone {
			n = 20
		}
		data, beside, err := putBeside(e, version, n, []byte("data"), besideOf(object, n, tombstone))
		if err != nil || data.After.Kind != Live || data.After.Length != 4 || beside.After.Time != ts(n) || (beside.After.Kind == Deleted) != tombstone {
			t.Fatalf("got %+v, %+v, %v", data.After, beside.After, err)
		}
		if tombstone && beside.Before.System.Get("X-Object-Sysmeta-S") != "10" {
			t.Errorf("before: %+v", beside.Before)
		}
		if s := statOf(t, e, object); s.Time != ts(n) {
			t.Errorf("beside: %+v", s)
		}
	}
	refused := errors.New("refused")
	for what, tt := range map[string]struct {
		version int64
		beside  Beside
		err     func(error) bool
	}{
		"older data":   {20, besideOf(object, 30, false), func(err error) bool { return errs.Is(err, errs.Stale) }},
		"older beside": {30, besideOf(object, 20, false), func(err error) bool { return errs.Is(err, errs.Stale) }},
		"checked": {30, Beside{At: object, Version: besideOf(object, 30, false).Version, Check: func(s State) error {
			if s.Kind != Deleted || s.Time != ts(20) {
				t.Errorf("checked with %+v", s)
			}
			return refused
		}}, func(err error) bool { return errors.Is(err, refused) }},
	} {
		if _, _, err := putBeside(e, version, tt.version, []byte("other"), tt.beside); !tt.err(err) {
			t.Errorf("%s: %v", what, err)
		}
		if v, o := statOf(t, e, version), statOf(t, e, object); v.Time != ts(20) || o.Time != ts(20) {
			t.Errorf("%s: there is %v and %v", what, v.Time, o.Time)
		}
	}
}

// Whoever locks two names does it in one order, also where they share a lock.
func TestCommitBesideEachOther(t *testing.T) {
	e := newEngine(vfs.NewMem(), "/")
	a, b := at(1), at(2)
	b.Hash[14], b.Hash[15] = 9, 9
	c := at(3) // shares a's
	var all sync.WaitGroup
	for i, pair := range [][2]Location{{a, b}, {b, a}, {a, c}, {c, a}, {b, c}, {c, b}} {
		all.Go(func() {
			for n := range int64(50) {
				n = n*10 + int64(i) + 1
				if _, _, err := putBeside(e, pair[0], n, nil, besideOf(pair[1], n, n%2 == 0)); err != nil && !errs.Is(err, errs.Stale) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// Each disk call fails once, and then the power does: what was answered is there, and
// nothing says what is current that is not there whole.
func TestCommitBesideIsInOrder(t *testing.T) {
	for _, size := range []int{3, 20_000, 900_000} { // in one page with what is beside it, in several, in a file
		for _, tombstone := range []bool{false, true} {
			data := bytes.Repeat([]byte("new"), size/3)
			calls, fired := 0, true
			for ; fired; calls++ {
				disk := vfs.NewMem()
				var options []vfs.FaultOption
				if calls%2 == 0 {
					options = append(options, vfs.FaultForever()) // as if the power went right there
				}
				faulty := vfs.FailAt(disk, calls/2, options...)
				e := newEngine(faulty, "/")
				_, _, first := putBeside(e, at(1), 10, []byte("old"), besideOf(at(3), 10, false))
				_, _, second := putBeside(e, at(2), 20, data, besideOf(at(3), 20, tombstone))
				fired = faulty.Fired()
				if !fired && (first != nil || second != nil) {
					t.Fatal(first, second)
				}
				for seed := range uint64(16) {
					cfg := newConfig(disk.AfterCrash(seed))
					if seed%2 == 1 {
						if err := withoutIndex(cfg); err != nil {
							t.Fatal(err)
						}
					}
					if err := inOrder(New("/", cfg), first == nil, second == nil, tombstone, data); err != nil {
						t.Fatalf("%d bytes, tombstone %v, call %d, power cut %d: %v", size, tombstone, calls, seed, err)
					}
				}
			}
			if calls < 20 {
				t.Errorf("only %d calls were failed", calls)
			}
		}
	}
}

func newConfig(fs vfs.FS) Config {
	cfg := Defaults()
	cfg.FS, cfg.Buffers, cfg.SegmentSize, cfg.Depth = fs, testBufs, 1<<20, 12
	return cfg
}

func inOrder(e *Engine, first, second, tombstone bool, data []byte) error {
	object, err := e.Stat(ctx, at(3))
	if err != nil {
		return err
	}
	has := func(l Location, want []byte) error {
		r, err := e.Open(ctx, l)
		if err != nil {
			return err
		}
		defer r.Close()
		var got []byte
		for {
			b, err := r.View(int64(len(got)), 1<<20)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%d bytes, want %d", len(got), len(want))
		}
		return nil
	}
	if second && object.Time != ts(20) || second && (object.Kind == Deleted) != tombstone || first && object.Time.Before(ts(10)) {
		return fmt.Errorf("the object is %v of %v", object.Kind, object.Time)
	}
	switch object.Time {
	case ts(10):
		return has(at(1), []byte("old"))
	case ts(20):
		return has(at(2), data)
	}
	return nil
}
