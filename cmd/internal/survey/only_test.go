package survey

import (
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

// Whatever devices hold, and whoever is out: what is said to be on one alone is what a look at every copy finds, whether or
// not the device is in the ring.
func TestOnlyAt(t *testing.T) {
	kinds := []replwire.ObjectKind{replwire.Data, replwire.Data, replwire.Tombstone, replwire.Lost, replwire.Waiting}
	rapid.Check(t, func(rt *rapid.T) {
		w := &baseWorld{world: newWorld(rt), bases: map[string]map[name.Hash]replwire.Database{}, page: rapid.IntRange(1, 3).Draw(rt, "page")}
		me := rapid.SampledFrom([]string{"d0", "d5"}).Draw(rt, "device") // d5 is in no ring
		all := []string{"d0", "d1", "d2", "d3", "d4", "d5"}
		for _, d := range all {
			w.out[d] = d != me && rapid.IntRange(0, 9).Draw(rt, "out") == 0
			w.bases[d] = map[name.Hash]replwire.Database{}
			if d == "d5" && me != d {
				continue
			}
			for n := range byte(8) {
				if rapid.IntRange(0, 2).Draw(rt, "held") == 0 {
					w.put(d, state(kinds[rapid.IntRange(0, 4).Draw(rt, "kind")], n, int64(rapid.IntRange(0, 1).Draw(rt, "at"))))
				}
				if draw := rapid.IntRange(0, 9).Draw(rt, "database"); draw > 4 {
					b := database(n, byte(draw/9), draw == 5)
					w.bases[d][b.Hash] = b
				}
			}
		}
		want, bases, differ, out := int64(0), int64(0), int64(0), 0
		for _, d := range all[:5] {
			if d != me && w.out[d] {
				out++
			}
		}
		for h, o := range w.held[me] {
			some, has := false, o.Kind == replwire.Lost
			for _, d := range all {
				if theirs, ok := w.held[d][h]; ok && d != me && !w.out[d] && theirs.Kind != replwire.Lost {
					some, has = true, has || o.SurelyLacks(&theirs) == 0
				}
			}
			if !has && (some || o.Kind != replwire.Tombstone) {
				want++
			}
		}
		for h, b := range w.bases[me] {
			some, same := false, b.Incarnation == [16]byte{}
			for _, d := range all {
				if theirs, ok := w.bases[d][h]; ok && d != me && !w.out[d] && theirs.Incarnation != [16]byte{} {
					some, same = true, same || theirs.Digest == b.Digest
				}
			}
			switch {
			case same:
			case some:
				differ++
			default:
				bases++
			}
		}
		at := &ring.Device{IP: "127.0.0.1", Port: 1005, Name: "d5"}
		for d := range w.ring.Devices() {
			if d.Name == me {
				at = d
			}
		}
		var got *Only
		synctest.Test(t, func(t *testing.T) {
			var err error
			got, err = OnlyAt(t.Context(), w, w.policies(), []Kind{{"container", replwire.Containers, w.ring}}, Subject{
				Objects: at, Databases: map[string]*ring.Device{"container": at}, Is: func(d *ring.Device) bool { return d.Name == me },
			})
			if err != nil {
				t.Error(err)
			}
		})
		if got.Objects != want || got.Databases["container"] != bases || got.Differ["container"] != differ || len(got.Unknown) != out {
			rt.Fatalf("%s: %+v, want %d objects, %d databases, %d that differ, %d out: %v, %v", me, got, want, bases, differ, out, w.held, w.bases)
		}
		if got.None() != (want+bases == 0 && out == 0) {
			rt.Fatalf("%+v says that it is nothing: %v", got, got.None())
		}
	})
}

// The device itself has to answer.
func TestOnlyAtIsOut(t *testing.T) {
	w := &baseWorld{world: newWorld(t), bases: map[string]map[name.Hash]replwire.Database{}, page: 2}
	w.out["d0"] = true
	var at *ring.Device
	for d := range w.ring.Devices() {
		if d.Name == "d0" {
			at = d
		}
	}
	if got, err := OnlyAt(t.Context(), w, w.policies(), nil, Subject{Objects: at, Is: func(d *ring.Device) bool { return d == at }}); err == nil {
		t.Errorf("of a device that does not answer is said %+v", got)
	}
}
