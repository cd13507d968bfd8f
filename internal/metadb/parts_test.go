//go:build !race

package metadb

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

func TestParts(t *testing.T) { homes(t, testParts) }

func TestVacuumWhereItIsWorthIt(t *testing.T) {
	s, dev := open(t, t.TempDir(), own)
	full, empty := Location{dev, hashOf(1)}, Location{dev, hashOf(2)}
	made(t, s, full)
	made(t, s, empty)
	rows := map[string][]byte{}
	for i := range 30_000 {
		rows[fmt.Sprintf("row-%06d", i*7919%30_000)] = live(5, 1)
	}
	merge(t, s, full, rows)
	emptied(t, s, empty, 30_000)
	size := func(loc Location) int64 {
		info, err := os.Stat(s.path(loc))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	was, wasFull := size(empty), size(full)
	if was < 2*vacuumLeast {
		t.Fatalf("the file has %d bytes, too few for this test", was)
	}
	want := all(t, s, empty)
	if err := s.Audit(bg, dev, 0, nil); err != nil {
		t.Fatal(err)
	}
	c := s.Counts()
	if now := size(empty); c.Rewritten != 1 || now > 128<<10 || c.Freed != was-now {
		t.Errorf("of %d bytes are left %d: %+v", was, now, c)
	}
	if size(full) != wasFull {
		t.Errorf("a full file of %d bytes has %d now", wasFull, size(full))
	}
	if got := all(t, s, empty); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	merge(t, s, empty, map[string][]byte{"new": live(9, 1)})
	if err := s.Audit(bg, dev, 0, nil); err != nil {
		t.Fatal(err)
	}
	if c := s.Counts(); c.Checked != 4 || c.Rewritten != 1 || c.Quarantined != 0 {
		t.Errorf("the next round: %+v", c)
	}
}
