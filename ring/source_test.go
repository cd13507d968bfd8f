package ring

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// version is a ring of that version, whose partition 0 is on device version%4.
func version(t testing.TB, v int64) *Ring {
	rows := scatter(2, 1, 4)
	rows[0][0] = uint32(v % 4)
	return mustNew(t, Data{Devices: devices(4), PartPower: 2, Version: v, Rows: rows})
}

func save(t testing.TB, r *Ring, path string) {
	t.Helper()
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
}

func TestSourceCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		now      int64
		change   func(t *testing.T, path string)
		reloaded bool
		err      error
		version  int64
	}{
		"untouched":        {5, func(*testing.T, string) {}, false, nil, 5},
		"newer":            {5, func(t *testing.T, path string) { save(t, version(t, 6), path) }, true, nil, 6},
		"older":            {5, func(t *testing.T, path string) { save(t, version(t, 4), path) }, false, ErrOlder, 5},
		"without version":  {5, func(t *testing.T, path string) { save(t, version(t, 0), path) }, false, ErrOlder, 5},
		"written again":    {5, func(t *testing.T, path string) { save(t, version(t, 5), path) }, false, nil, 5},
		"gone":             {5, func(t *testing.T, path string) { mustDo(t, os.Remove(path)) }, false, fs.ErrNotExist, 5},
		"damaged in place": {5, func(t *testing.T, path string) { mustDo(t, os.Truncate(path, 40)) }, false, ErrDamaged, 5},
		"another that says nothing of versions": {0, func(t *testing.T, path string) {
			r := mustNew(t, Data{Devices: devices(4), PartPower: 2, Rows: [][]uint32{{3, 3, 3, 3}}})
			save(t, r, path)
		}, true, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "object.ring.gz")
			save(t, version(t, tt.now), path)
			s, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(t, path)
			reloaded, err := s.Check()
			if reloaded != tt.reloaded || !errors.Is(err, tt.err) {
				t.Errorf("Check: %v, %v; want %v, %v", reloaded, err, tt.reloaded, tt.err)
			}
			if got := s.Ring().Version(); got != tt.version {
				t.Errorf("version %d in use, want %d", got, tt.version)
			}
			// What was refused still is; what was taken is not taken again.
			if reloaded, err := s.Check(); reloaded || !errors.Is(err, tt.err) {
				t.Errorf("Check again: %v, %v; want false, %v", reloaded, err, tt.err)
			}
			save(t, version(t, 9), path)
			if reloaded, err := s.Check(); !reloaded || err != nil || s.Ring().Version() != 9 {
				t.Errorf("after a good ring: %v, %v, version %d; want true, nil, 9", reloaded, err, s.Ring().Version())
			}
		})
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSourceUnderUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "object.ring.gz")
	save(t, version(t, 1), path)
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	const last = 30
	var users sync.WaitGroup
	for range 3 {
		users.Go(func() {
			seen := int64(0)
			for seen < last {
				r := s.Ring()
				if v := r.Version(); v < seen {
					t.Errorf("version %d after %d", v, seen)
					return
				}
				seen = r.Version()
				if d := r.AppendPrimaries(nil, 0)[0]; int64(d.ID) != seen%4 {
					t.Errorf("version %d has partition 0 on device %d", seen, d.ID)
					return
				}
				if _, err := s.Check(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for v := int64(2); v <= last; v++ {
		save(t, version(t, v), path)
	}
	users.Wait()
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"no file": filepath.Join(dir, "none"), "a folder": dir} {
		if s, err := Open(path); err == nil {
			t.Errorf("%s: opened as %v", name, s.Ring())
		}
	}
}

// TestFirstReplicas: a source of the first replicas has the partitions, devices and order of
// the whole ring, and goes along with the file.
func TestFirstReplicas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "object-1.ring.gz")
	rows := scatter(4, 3, 6)
	whole := mustNew(t, Data{Devices: devices(6), PartPower: 4, Version: 1, Rows: rows})
	save(t, whole, path)
	s, err := Open(path)
	mustDo(t, err)
	first := s.First(2)
	check := func(r *Ring) {
		t.Helper()
		cut := first.Ring()
		if cut.ReplicaCount() != 2 || cut.PartPower() != r.PartPower() || cut.Version() != r.Version() {
			t.Fatalf("%d replicas, part power %d, version %d", cut.ReplicaCount(), cut.PartPower(), cut.Version())
		}
		for p := range Partition(r.Partitions()) {
			all, some := r.AppendPrimaries(nil, p), cut.AppendPrimaries(nil, p)
			if !slices.Equal(some, all[:len(some)]) || len(some) != 2 {
				t.Errorf("partition %d: primaries %s of %s", p, ids(some), ids(all))
			}
			handoffs := slices.Collect(cut.Handoffs(p))
			if len(handoffs) != 4 || slices.ContainsFunc(handoffs, func(d *Device) bool { return slices.Contains(some, d) }) {
				t.Errorf("partition %d: handoffs %s beside %s", p, ids(handoffs), ids(some))
			}
		}
	}
	check(s.Ring())
	if now := first.Ring(); now != first.Ring() {
		t.Error("another ring at each look")
	}
	rows[0], rows[2] = rows[2], rows[0]
	save(t, mustNew(t, Data{Devices: devices(6), PartPower: 4, Version: 2, Rows: rows}), path)
	if reloaded, err := first.Check(); !reloaded || err != nil || s.Ring().Version() != 2 {
		t.Fatalf("Check: %v, %v; the whole ring has version %d", reloaded, err, s.Ring().Version())
	}
	check(s.Ring())
	if got := s.Ring().First(7); got != s.Ring() {
		t.Error("a ring of three replicas has no first seven")
	}
}
