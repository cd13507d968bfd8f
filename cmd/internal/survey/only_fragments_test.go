package survey

import (
	"context"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// codedWorld is devices that hold fragments as well.
type codedWorld struct {
	*baseWorld
	fragments *world
}

func (w codedWorld) of(p policy.Index) *world {
	if p.IsFragments() {
		return w.fragments
	}
	return w.world
}

// Holdings implements Asker.
func (w codedWorld) Holdings(ctx context.Context, d *ring.Device, p policy.Index, power int, lost bool) ([]replwire.Holding, error) {
	return w.of(p).Holdings(ctx, d, p, power, lost)
}

// States implements Asker.
func (w codedWorld) States(ctx context.Context, d *ring.Device, p policy.Index, power int, partition uint32, from name.Hash) ([]replwire.Object, bool, error) {
	return w.of(p).States(ctx, d, p, power, partition, from)
}

// fragmentOf is a fragment of a version of an object.
func fragmentOf(kind replwire.ObjectKind, n byte, at int64, i int) replwire.Object {
	o := state(kind, n, at)
	o.Hash = o.Hash.Fragment(o.Times.Data, i)
	return o
}

// Whatever devices hold: what counts is each fragment of a current version of which others have fewer than it takes.
func TestOnlyAtFragments(t *testing.T) {
	const needed, objects, times, indexes = 2, 3, 2, 4
	rapid.Check(t, func(rt *rapid.T) {
		w := codedWorld{&baseWorld{world: newWorld(rt), bases: map[string]map[name.Hash]replwire.Database{}, page: 2}, newWorld(rt)}
		w.out = w.fragments.out
		w.fragments.page = rapid.IntRange(1, 3).Draw(rt, "page")
		devices := []string{"d0", "d1", "d2", "d3", "d4"}
		for _, d := range devices {
			for n := range byte(objects) {
				if kind := rapid.SampledFrom([]replwire.ObjectKind{0, 0, replwire.Data, replwire.Data, replwire.Tombstone, replwire.Waiting, replwire.Lost}).Draw(rt, "commit"); kind != 0 {
					w.put(d, state(kind, n, int64(rapid.IntRange(0, times-1).Draw(rt, "at"))))
				}
				for range rapid.IntRange(0, 3).Draw(rt, "held") {
					kind := rapid.SampledFrom([]replwire.ObjectKind{replwire.Data, replwire.Data, replwire.Lost}).Draw(rt, "fragment")
					w.fragments.put(d, fragmentOf(kind, n, int64(rapid.IntRange(0, times-1).Draw(rt, "at")), rapid.IntRange(0, indexes-1).Draw(rt, "index")))
				}
			}
		}
		if rapid.IntRange(0, 4).Draw(rt, "out") == 0 {
			w.out["d4"] = true
		}
		want := int64(0)
		for n := range byte(objects) {
			var newest timestamp.T // of what is not deleted
			ended := false
			for _, d := range devices {
				s, ok := w.held[d][state(replwire.Data, n, 0).Hash]
				if !ok || s.Kind == replwire.Waiting || w.out[d] {
					continue
				}
				if s.Times.Data.After(newest) {
					newest, ended = s.Times.Data, false
				}
				ended = ended || s.Times.Data == newest && s.Kind == replwire.Tombstone
			}
			for at := range int64(times) {
				if f := state(replwire.Data, n, at); f.Times.Data != newest || ended {
					continue
				}
				mine, others, both := 0, 0, 0
				for i := range indexes {
					h := fragmentOf(replwire.Data, n, at, i).Hash
					elsewhere := false
					for _, d := range devices[1:] {
						elsewhere = elsewhere || !w.out[d] && w.fragments.held[d][h].Kind == replwire.Data
					}
					if elsewhere {
						others++
					}
					if w.fragments.held["d0"][h].Kind == replwire.Data {
						if mine++; elsewhere {
							both++
						}
					}
				}
				if others < needed {
					want += int64(mine - both)
				}
			}
		}
		var at *ring.Device
		for d := range w.ring.Devices() {
			if d.Name == "d0" {
				at = d
			}
		}
		var got *Only
		synctest.Test(t, func(t *testing.T) {
			var err error
			got, err = OnlyAt(t.Context(), w, []Policy{{Index: 1, Name: "gold", Ring: w.ring, Data: needed, Fragments: w.ring}}, nil,
				Subject{Objects: at, Is: func(d *ring.Device) bool { return d == at }})
			if err != nil {
				t.Error(err)
			}
		})
		if got.Fragments != want || (len(got.Unknown) > 0) != w.out["d4"] || want > 0 && got.None() {
			rt.Fatalf("%+v, want %d fragments: %v, %v", got, want, w.held, w.fragments.held)
		}
	})
}
