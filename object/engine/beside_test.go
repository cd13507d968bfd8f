package engine

import (
	"bytes"
	"errors"
	"fmt"
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
