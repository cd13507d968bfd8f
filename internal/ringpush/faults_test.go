//go:build !race

package ringpush

import (
	"slices"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Whichever call fails, and wherever the power goes: what was answered as taken is there and
// in use, what was not is either there whole or not at all, and the same once more makes it good. What
// killed writers have left is swept.
func TestFaults(t *testing.T) {
	next := shape{of: "object", version: 6, turn: 1}
	was, file := shape{of: "object", version: 5}.file(t), next.file(t)
	same := shape{of: "object", version: 5}
	for what, push := range map[string]shape{"a new ring": next, "the one in use": same} {
		want := string(push.file(t))
		for n, fired := 0, true; fired; n++ {
			for _, gone := range []bool{false, true} {
				w := newWorld(t)
				options := []vfs.FaultOption(nil)
				if gone {
					options = append(options, vfs.FaultForever())
				}
				faulty := vfs.FailAt(w.disk, n, options...)
				w.serve(faulty)
				_, err := w.put(t, "object", push.file(t))
				fired = faulty.Fired()
				if !fired && err != nil {
					t.Fatalf("%s: %v, though nothing failed", what, err)
				}
				if err != nil && !errs.Is(err, errs.Unavailable) {
					t.Errorf("%s, fault %d: %v is no 503", what, n, err)
				}
				if err == nil && (there(t, w.disk, "object") != want || Of(w.of["object"].now) != Of(push.ring(t))) {
					t.Errorf("%s, fault %d: it was said to be in use, and is not", what, n)
				}
				for seed := range uint64(30) {
					crashed := w.disk.AfterCrash(seed)
					if now := there(t, crashed, "object"); now != want && (now != string(was) || err == nil) {
						t.Errorf("%s, fault %d, seed %d: %v, and after a crash the file is %d bytes, neither of the two", what, n, seed, err, len(now))
					}
				}
				before := Of(w.of["object"].now)
				said := w.server.report(t.Context())
				if certain := !slices.Contains(said.Unsynced, "object"); err != nil && push.version == 6 && certain {
					if before == Of(push.ring(t)) {
						t.Errorf("%s, fault %d: %v, it is in use, and nobody says that it is not certain to stay", what, n, err)
					}
					for seed := range uint64(30) { // it may have come in use as it was asked
						if said.Rings["object"] == Of(push.ring(t)) && there(t, w.disk.AfterCrash(seed), "object") != want {
							t.Errorf("%s, fault %d, seed %d: %v, it is in use, and may be gone after a crash, which nobody says", what, n, seed, err)
						}
					}
				}
				if gone || !fired {
					continue
				}
				got, err := w.put(t, "object", file)
				if err != nil || len(w.server.report(t.Context()).Unsynced) > 0 || got.Running != Of(next.ring(t)) || len(left(t, w.disk)) != len(ports) {
					t.Errorf("%s, fault %d: once more: %+v, %v; left are %v", what, n, got, err, left(t, w.disk))
				}
				for seed := range uint64(30) {
					if now := there(t, w.disk.AfterCrash(seed), "object"); now != string(file) {
						t.Errorf("%s, fault %d, seed %d: once more, and after a crash the file is not what was said to be there", what, n, seed)
					}
				}
			}
		}
	}
}
