//go:build !race

package engine

import (
	"errors"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Who is told that something newer is there relies on it, also where what is there was
// left by a process that was killed at any moment.
func TestStaleIsDurable(t *testing.T) {
	for what, write := range map[string]func(e *Engine) error{
		"tombstone": func(e *Engine) error { return del(e, at(1), 10, Terms{}) },
		"data":      func(e *Engine) error { return put(e, at(1), ts(10), []byte("x"), "a", Terms{}) },
		"large":     func(e *Engine) error { return put(e, at(1), ts(10), make([]byte, 300_000), "a", Terms{}) },
		"metadata":  func(e *Engine) error { return post(e, at(1), 10, 0, "b", Terms{Merge: true}) },
	} {
		stale := 0
		for n, fired := 0, true; fired; n++ {
			mem := vfs.NewMem()
			if err := errors.Join(mem.Mkdir("/d1"), mem.SyncDir("/")); err != nil {
				t.Fatal(err)
			}
			if err := put(newEngine(mem, "/d1"), at(1), ts(1), []byte("old"), "a", Terms{}); err != nil {
				t.Fatal(err)
			}
			killed := vfs.FailAt(mem, n, vfs.FaultForever())
			_ = write(newEngine(killed, "/d1")) // it may have come to its end or not
			fired = killed.Fired()
			err := write(newEngine(mem, "/d1"))
			if err != nil && !errs.Is(err, errs.Stale) {
				t.Fatalf("%s, killed at call %d: written again: %v", what, n, err)
			}
			if err != nil {
				stale++
			}
			for seed := range uint64(30) {
				s, err := newEngine(mem.AfterCrash(seed), "/d1").Stat(ctx, at(1))
				if err != nil || s.Newest() != ts(10) {
					t.Fatalf("%s, killed at call %d, seed %d: after a crash there is %s, %v", what, n, seed, show(s), err)
				}
			}
		}
		if stale == 0 {
			t.Errorf("%s: nothing was left by any that was killed", what)
		}
	}
}
