package survey

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

// baseWorld is devices with the databases that they hold.
type baseWorld struct {
	*world
	bases map[string]map[name.Hash]replwire.Database
	page  int
	asked atomic.Int64 // how often databases were asked for
}

// Databases implements DatabaseAsker.
func (w *baseWorld) Databases(_ context.Context, d *ring.Device, _ byte, from name.Hash) ([]replwire.Database, bool, error) {
	w.asked.Add(1)
	if w.out[d.Name] {
		return nil, false, errOut
	}
	var list []replwire.Database
	for h, b := range w.bases[d.Name] {
		if slices.Compare(h[:], from[:]) >= 0 {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(a, b replwire.Database) int { return slices.Compare(a.Hash[:], b.Hash[:]) })
	if len(list) > w.page {
		return list[:w.page], true, nil
	}
	return list, false, nil
}

func database(n, digest byte, broken bool) replwire.Database {
	d := replwire.Database{Hash: name.Hash{n << 5, n}}
	if !broken {
		d.Incarnation[0], d.Digest[0] = 1, digest
	}
	return d
}

// Whatever databases the devices hold, and whoever is out: what is counted is what a look at every
// copy counts.
func TestDatabases(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &baseWorld{world: newWorld(rt), bases: map[string]map[name.Hash]replwire.Database{}, page: rapid.IntRange(1, 3).Draw(rt, "page")}
		want := Databases{Missing: map[int]int64{}}
		for _, d := range []string{"d0", "d1", "d2", "d3", "d4"} {
			w.bases[d] = map[name.Hash]replwire.Database{}
			w.out[d] = rapid.IntRange(0, 5).Draw(rt, "out") == 0
			for n := range byte(8) {
				if draw := rapid.IntRange(0, 9).Draw(rt, "held"); draw > 2 {
					b := database(n, byte(draw/9), draw == 3)
					w.bases[d][b.Hash] = b
				}
			}
		}
		for n := range byte(8) {
			w.countBase(name.Hash{n << 5, n}, &want)
		}
		var listed int64
		var got *Databases
		synctest.Test(t, func(t *testing.T) {
			var err error
			got, err = DatabasesOf(t.Context(), w, Kind{"account", replwire.Accounts, w.ring}, func(LackingDatabase) { listed++ })
			if err != nil {
				t.Error(err)
			}
		})
		if got.Databases != want.Databases || got.TooFew != want.TooFew || got.HandoffOnly != want.HandoffOnly || got.Differ != want.Differ || !maps.Equal(got.Missing, want.Missing) {
			rt.Fatalf("%+v, want %+v: %v, out are %v", got, want, w.bases, w.out)
		}
		sum := int64(0)
		for _, n := range got.Copies {
			sum += n
		}
		for n, many := range want.Missing {
			sum -= int64(n) * many
		}
		if sum != 0 || listed < max(want.TooFew, want.Differ) || listed > want.TooFew+want.Differ {
			rt.Fatalf("reasons are %v, listed %d, of %+v", got.Copies, listed, want)
		}
		if unknown := int64(len(got.Unknown)); got.Whole() != (want.TooFew == 0 && want.Differ == 0 && unknown == 0) {
			rt.Fatalf("whole is %v of %+v", got.Whole(), got)
		}
	})
}

// countBase looks at every copy of a database.
func (w *baseWorld) countBase(h name.Hash, want *Databases) {
	digests := map[byte]bool{}
	there, atHome, missing := false, 0, 3
	primaries := w.ring.AppendPrimaries(nil, w.ring.Partition(h))
	for d, held := range w.bases {
		b, ok := held[h]
		if !ok || w.out[d] {
			continue
		}
		there = true
		home := slices.ContainsFunc(primaries, func(p *ring.Device) bool { return p.Name == d })
		if home {
			atHome++
		}
		if b.Incarnation != [16]byte{} {
			digests[b.Digest[0]] = true
			if home {
				missing--
			}
		}
	}
	if !there {
		return
	}
	want.Databases++
	if len(digests) > 1 {
		want.Differ++
	}
	if missing > 0 {
		want.TooFew++
		want.Missing[missing]++
		if atHome == 0 {
			want.HandoffOnly++
		}
	}
}

// A database that somebody is writing to has copies that differ for a moment, which is nothing.
func TestDatabasesBeingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &baseWorld{world: newWorld(t), bases: map[string]map[name.Hash]replwire.Database{}, page: 2}
		for i, d := range []string{"d0", "d1", "d2"} {
			b := database(0, byte(i/2), false)
			w.bases[d] = map[name.Hash]replwire.Database{b.Hash: b}
		}
		kind := Kind{"account", replwire.Accounts, w.ring}
		if got, err := DatabasesOf(t.Context(), w, kind, nil); err != nil || got.Differ != 1 || got.TooFew != 0 {
			t.Errorf("%+v, %v, want one that differs", got, err)
		}
		later := database(0, 7, false)
		m := &writing{baseWorld: w, then: func() { w.bases["d1"][later.Hash] = later }}
		if got, err := DatabasesOf(t.Context(), m, kind, nil); err != nil || !got.Whole() {
			t.Errorf("%+v, %v, want nothing", got, err)
		}
	})
}

// writing changes something once devices have been asked for the first time.
type writing struct {
	*baseWorld
	asked int
	then  func()
}

// Databases implements DatabaseAsker.
func (w *writing) Databases(ctx context.Context, d *ring.Device, kind byte, from name.Hash) ([]replwire.Database, bool, error) {
	if w.asked++; w.asked == 6 { // of five devices
		w.then()
	}
	return w.baseWorld.Databases(ctx, d, kind, from)
}
