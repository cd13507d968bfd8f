//go:build !race

package engine

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Random operations, with all that happens to a store between them, on the engine and on
// a map: whatever comes when, what is there is what the answers said.
func TestAgainstModelWithCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		must := func(what string, err error) {
			if err != nil && (w.cfg.FS == vfs.FS(w.fs) || !errs.Is(err, errs.BadDevice)) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		horizon := int64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 24).Draw(t, "what") {
			case 0:
				must("checkpoint", w.e.Checkpoint(ctx))
			case 1:
				horizon = max(horizon, rapid.Int64Range(0, 60).Draw(t, "horizon"))
				must("compact", w.e.Compact(ctx, ts(horizon), nil))
			case 2:
				horizon = max(horizon, rapid.Int64Range(0, 60).Draw(t, "horizon"))
				chosen := rapid.Uint64().Draw(t, "chosen")
				must("compact", compactSome(ctx, w.e, ts(horizon), func() bool {
					chosen = chosen>>1 | chosen<<63
					return chosen&1 == 0
				}))
			case 3:
				horizon = max(horizon, rapid.Int64Range(0, 60).Draw(t, "horizon"))
				left := rapid.IntRange(0, 3).Draw(t, "pieces")
				err := w.e.Compact(ctx, ts(horizon), func(context.Context, int64) error {
					if left--; left < 0 {
						return errs.E(errs.Aborted, "told to end")
					}
					return nil
				})
				if !errs.Is(err, errs.Aborted) {
					must("compact", err)
				}
			case 4:
				must("scrub", w.e.Scrub(ctx, time.Now().Add(time.Hour), nil))
			case 5:
				must("sweep", w.e.Sweep(ctx))
				must("sweep", w.blobs())
			case 6:
				must("close", w.e.Close())
				w.open(w.fs)
			case 7: // it was killed
				w.open(w.fs)
			case 8:
				w = w.copyOf(w.fs.AfterCrash(rapid.Uint64().Draw(t, "power cut")))
			case 9: // it fails at some call, and then is killed or loses power
				w.open(vfs.FailAt(w.fs, rapid.IntRange(0, 250).Draw(t, "fault")))
				continue // to what meets it
			case 10:
				w.open(w.fs)
				must("rebuild", withoutIndex(w.cfg))
			default:
				o := op{what: rapid.SampledFrom([]int{opPut, opPut, opPut, opDelete, opExpire, opPost, opPost, opDrop, opLoseData, opLoseMeta}).Draw(t, "op")}
				o.at = worldName(rapid.IntRange(0, worldNames-1).Draw(t, "name"))
				o.n = rapid.Int64Range(1, 60).Draw(t, "time")
				switch o.what {
				case opPost:
					o.m = rapid.Int64Range(0, 60).Draw(t, "content type")
				case opExpire:
					o.m = rapid.Int64Range(0, 4).Draw(t, "metadata after")
				}
				settled(w.e)
				must("op", w.do(o))
			}
			if w.cfg.FS != vfs.FS(w.fs) { // it may have failed: what is there is told after a restart
				if rapid.Bool().Draw(t, "goes on") {
					w.mayForget(horizon)
					continue
				}
				w = w.copyOf(w.fs.AfterCrash(rapid.Uint64().Draw(t, "power cut")))
			}
			must("states", w.states(horizon))
		}
		settled(w.e)
		w = w.copyOf(w.fs.AfterCrash(rapid.Uint64().Draw(t, "power cut at the end")))
		must("at the end", w.goOn(whole, horizon))
	})
}
