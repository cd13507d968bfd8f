package metadb

import (
	"slices"
	"testing"

	"martlet/internal/name"
	"martlet/internal/vfs"
)

// lostOf returns what a device is missing.
func lostOf(t testing.TB, s *Store, from name.Hash) []name.Hash {
	t.Helper()
	list, err := s.Replicas().Lost(bg, "sda", from)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// ruin has a database be found damaged, and moved aside.
func ruin(t testing.TB, s *Store, loc Location) {
	t.Helper()
	spoil(t, s, loc, "r")
	if _, err := s.inspect(bg, loc, nil); err != nil {
		t.Fatal(err)
	}
	if err := isThere(s, loc); err == nil {
		t.Fatal("it is not in quarantine")
	}
}

// What is in quarantine is missing, over restarts, until it has come back and then rightly gone.
func TestLost(t *testing.T) { homes(t, testLost) }

func testLost(t *testing.T, home Config) {
	dir := t.TempDir()
	s, dev := open(t, dir, home)
	if got := lostOf(t, s, name.Hash{}); len(got) != 0 {
		t.Fatalf("at first %v are lost", got)
	}
	a, b := Location{dev, hashOf(1)}, Location{dev, hashOf(2)}
	for _, loc := range []Location{a, b} {
		made(t, s, loc, "r")
		ruin(t, s, loc)
	}
	s.Close()
	s, a.Device = open(t, dir, home)
	b.Device = a.Device
	both := []name.Hash{a.Hash, b.Hash}
	slices.SortFunc(both, func(a, b name.Hash) int { return slices.Compare(a[:], b[:]) })
	if got := lostOf(t, s, name.Hash{}); !slices.Equal(got, both) {
		t.Fatalf("%v are lost, want %v", got, both)
	}
	if got := lostOf(t, s, both[1]); !slices.Equal(got, both[1:]) {
		t.Fatalf("from the second on %v are lost", got)
	}
	made(t, s, a, "r")
	ruin(t, s, a) // a second time
	made(t, s, a, "r")
	if gone, err := s.Replicas().Drop(bg, "sda", stateOf(t, s, a)); !gone || err != nil {
		t.Fatal(gone, err)
	}
	if got := lostOf(t, s, name.Hash{}); !slices.Equal(got, []name.Hash{b.Hash}) {
		t.Errorf("after one has come back and was dropped %v are lost, want %v", got, b.Hash)
	}
	if files, _ := aside(t, a.Device); len(files) != 3+2 {
		t.Errorf("kept are %v, want three databases and two reasons that count no more", files)
	}
	made(t, s, a, "r")
	ruin(t, s, a)
	if got := lostOf(t, s, name.Hash{}); !slices.Equal(got, both) {
		t.Errorf("damaged again: %v are lost, want %v", got, both)
	}
}

// Whatever fails while one that has come back is dropped: where it is gone it is not missed, and where Drop says
// that it is not, it is there.
func TestReplacedFailsAtAnyCall(t *testing.T) { homes(t, testReplacedFailsAtAnyCall) }

func testReplacedFailsAtAnyCall(t *testing.T, home Config) {
	for n, fired := 0, true; fired; n++ {
		dir := t.TempDir()
		s, dev := open(t, dir, home)
		loc := Location{dev, hashOf(1)}
		made(t, s, loc, "r")
		ruin(t, s, loc)
		made(t, s, loc, "r")
		state := stateOf(t, s, loc)
		s.Close()
		faulty := vfs.FailAt(vfs.OS, n)
		s, loc.Device = open(t, dir, with(home, Config{FS: faulty}))
		gone, err := s.Replicas().Drop(bg, "sda", state)
		fired = faulty.Fired()
		s.Close()
		s, loc.Device = open(t, dir, home)
		missing := len(lostOf(t, s, name.Hash{})) > 0
		if there := isThere(s, loc) == nil; !there && missing || gone == there && err == nil {
			t.Errorf("call %d failed, Drop said %v, %v: then it is there: %v, missing: %v", n, gone, err, there, missing)
		}
		s.Close()
	}
}
