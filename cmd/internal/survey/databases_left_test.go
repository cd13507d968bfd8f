package survey

import (
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

// databasesLeft asks with a clock of its own.
func databasesLeft(t *testing.T, w *baseWorld) (list []DatabasesLeft, unknown []Unknown) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var err error
		if list, unknown, err = DatabasesLeftOf(t.Context(), w, Kind{"container", replwire.Containers, w.ring}); err != nil {
			t.Error(err)
		}
	})
	return list, unknown
}

// countLeft looks at every copy.
func (w *baseWorld) countLeft() (list []DatabasesLeft, out int) {
	for d := range w.ring.Devices() {
		if w.out[d.Name] {
			out++
			continue
		}
		l := DatabasesLeft{Device: Place(d), Kind: "container"}
		all := map[name.Hash]bool{}
		for other, held := range w.bases {
			for h, b := range held {
				if !w.out[other] && b.Incarnation != [16]byte{} {
					all[h] = true
				}
			}
		}
		for h := range all {
			primary := slices.Contains(w.ring.AppendPrimaries(nil, w.ring.Partition(h)), d)
			b, has := w.bases[d.Name][h]
			has = has && b.Incarnation != [16]byte{}
			switch {
			case primary && !has:
				l.Waits++
			case !primary && has:
				l.Handoffs++
			}
		}
		if l.Waits+l.Handoffs > 0 {
			list = append(list, l)
		}
	}
	return list, out
}

// Whatever databases devices hold, and whoever is out: what is said to be left is what a look at every copy says.
func TestDatabasesLeft(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &baseWorld{world: newWorld(rt), bases: map[string]map[name.Hash]replwire.Database{}, page: rapid.IntRange(1, 3).Draw(rt, "page")}
		for _, d := range []string{"d0", "d1", "d2", "d3", "d4"} {
			w.bases[d] = map[name.Hash]replwire.Database{}
			w.out[d] = rapid.IntRange(0, 5).Draw(rt, "out") == 0
			for n := range byte(8) {
				if draw := rapid.IntRange(0, 9).Draw(rt, "held"); draw > 4 {
					b := database(n, byte(draw/9), draw == 5)
					w.bases[d][b.Hash] = b
				}
			}
		}
		got, unknown := databasesLeft(t, w)
		want, out := w.countLeft()
		if !slices.Equal(got, want) || len(unknown) != out {
			rt.Fatalf("%+v, %d unknown, want %+v, %d: %v, out are %v", got, len(unknown), want, out, w.bases, w.out)
		}
	})
}

// Where much is left it is counted without a second look at each.
func TestManyDatabasesLeft(t *testing.T) {
	w := &baseWorld{world: newWorld(t), bases: map[string]map[name.Hash]replwire.Database{"d0": {}}, page: 1000}
	const many = doubtful + 100
	for n := range uint32(many) {
		b := database(0, 1, false)
		binary.BigEndian.PutUint32(b.Hash[:], n)
		w.bases["d0"][b.Hash] = b // all in the first partition, of which d0 is a primary
	}
	got, _ := databasesLeft(t, w)
	want, _ := w.countLeft()
	if !slices.Equal(got, want) || len(got) != 2 || got[0].Waits != many {
		t.Errorf("%+v, want %+v, twice %d", got, want, many)
	}
	if w.asked.Load() > 30 {
		t.Errorf("%d lists were asked for", w.asked.Load())
	}
	var none []*ring.Device
	if lack, away := (&bases{Kind: Kind{Ring: w.ring}}).left(&base{}); !slices.Equal(lack, none) || !slices.Equal(away, none) {
		t.Errorf("of what nobody has %v wait, and %v have it", lack, away)
	}
}
