package engine

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/policy"
	"martlet/internal/vfs"
)

// A process that did not end in order leaves names that its log tells of, the latest first, until somebody has seen to
// them: an end in order keeps them before, and forgets them after.
func TestReplayed(t *testing.T) {
	fs := vfs.NewMem()
	e := newEngine(fs, "/")
	for i, l := range []Location{at(1), at(2), {policy.Index(0).Fragments(), at(3).Hash}, at(1)} {
		if err := put(e, l, ts(int64(i)+1), []byte("data"), "m", Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Delete(ctx, at(4), path3(at(4)), ts(9), Terms{}); err != nil {
		t.Fatal(err)
	}
	if got := e.Replayed(); len(got) != 0 {
		t.Errorf("the process that has written them is told %v", got)
	}
	if err := e.now().close(ctx, false); err != nil {
		t.Fatal(err)
	}
	want := []Location{at(4), at(1), at(2)}
	look := func(when string, want []Location) *Engine {
		t.Helper()
		e := newEngine(fs, "/")
		if got := e.Replayed(); len(got) != 0 {
			t.Errorf("%s, before it is opened: %v", when, got)
		}
		if _, err := e.Stat(ctx, at(1)); err != nil {
			t.Fatal(err)
		}
		if got := e.Replayed(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
		return e
	}
	for range 2 { // an end in order before they were told is none for them
		if err := look("not told", want).Close(); err != nil {
			t.Fatal(err)
		}
	}
	e = look("not told", want)
	e.Told()
	if got := e.Replayed(); len(got) != 0 {
		t.Errorf("when they were told: %v", got)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := look("told", nil).Close(); err != nil {
		t.Fatal(err)
	}
}

// What could not be told is returned until it was, and Told forgets nothing that has come since it was asked for, however much that is. A
// process that is cut off before finds it in the log.
func TestUntold(t *testing.T) {
	fs := vfs.NewMem()
	e := newEngine(fs, "/")
	want := func(when string, want ...Location) {
		t.Helper()
		if got := e.Replayed(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	for i := range byte(3) {
		if err := put(e, at(i), ts(int64(i)+1), []byte("data"), "m", Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	e.Untold(at(1))
	want("one was not told", at(1))
	e.Untold(at(2))
	e.Told()
	want("another came while the first was told", at(2))
	for range 2 * mostReplayed {
		e.Untold(at(0))
	}
	e.Told()
	want("very many came meanwhile", at(0))
	e.Told()
	want("all were told")
	for range mostReplayed {
		e.Untold(at(1))
	}
	want("very many", at(1))
	for i := range mostReplayed + 1 {
		if i == 1 {
			e.Untold(at(2))
		} else {
			e.Untold(at(0))
		}
	}
	e.Told()
	want("for what was told there was no room any more", at(0), at(2))
	e.Told()
	e.Untold(at(1))
	if err := e.now().close(ctx, false); err != nil {
		t.Fatal(err)
	}
	e = newEngine(fs, "/")
	if _, err := e.Stat(ctx, at(1)); err != nil {
		t.Fatal(err)
	}
	want("the process was cut off", at(2), at(1), at(0))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// What was not told stays in the log's end however long the process runs; when it was told it is part of the index after a while.
func TestKeepLeavesUntold(t *testing.T) {
	for _, told := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			fs := vfs.NewMem()
			e := newEngine(fs, "/")
			if err := put(e, at(1), ts(1), []byte("data"), "m", Terms{}); err != nil {
				t.Fatal(err)
			}
			if err := e.now().close(ctx, false); err != nil {
				t.Fatal(err)
			}
			e = newEngine(fs, "/")
			if _, err := e.Stat(ctx, at(1)); err != nil {
				t.Fatal(err)
			}
			if told && len(e.Replayed()) == 1 {
				e.Told()
			}
			keep, end := context.WithCancel(ctx)
			kept := make(chan struct{})
			go func() {
				defer close(kept)
				_ = e.Keep(keep)
			}()
			<-time.After(3 * keepEvery)
			end()
			<-kept
			if err := e.now().close(ctx, false); err != nil {
				t.Fatal(err)
			}
			e = newEngine(fs, "/")
			if _, err := e.Stat(ctx, at(1)); err != nil {
				t.Fatal(err)
			}
			if got := len(e.Replayed()); got != map[bool]int{false: 1, true: 0}[told] {
				t.Errorf("told %v: %d names are told of after another end", told, got)
			}
			if err := e.now().close(ctx, false); err != nil {
				t.Fatal(err)
			}
		})
	}
}
