package engine

import (
	"slices"
	"testing"

	"martlet/internal/device"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/index"
)

// Two stores that came to the same by other ways have the same digests, which are no others
// after the index was made anew; a disk that is away has none.
func TestDigestsOfEngines(t *testing.T) {
	digests := func(e *Engine) (all []index.Part, err error) {
		for p, err := range e.Partitions(ctx, 0, 16, timestamp.T{}) {
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
		ranges := make([]name.Range, len(all))
		for i := range all {
			ranges[i] = all[i].Range
		}
		again := slices.Clone(all[:0:0])
		for p, err := range e.Ranges(ctx, 0, ranges, timestamp.T{}) {
			if err != nil {
				return nil, err
			}
			again = append(again, p)
		}
		if !slices.Equal(all, again) {
			t.Errorf("partitions have %+v, ranges %+v", all, again)
		}
		return all, nil
	}
	var both [2][]index.Part
	for side := range both {
		disk := vfs.NewMem()
		if err := disk.Mkdir("/d"); err != nil {
			t.Fatal(err)
		}
		cfg := Defaults()
		cfg.FS, cfg.Buffers, cfg.Reserve, cfg.SegmentSize, cfg.Depth = disk, testBufs, 0, 1<<20, 12
		e := New("/d", cfg)
		put := func(n int, at int64) {
			if err := putNumbered(e, numbered(n), at, []byte("body"), usual); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 50 {
			n := i
			if side == 1 {
				n = 49 - i
				put(n, 3) // older, and superseded
			}
			put(n, 5)
			if n%10 == 0 {
				if _, err := e.Delete(ctx, numbered(n), usual.Name, ts(7), Terms{Merge: true}); err != nil {
					t.Fatal(err)
				}
			}
		}
		var err error
		if both[side], err = digests(e); err != nil || len(both[side]) != 50 {
			t.Fatalf("%d partitions, %v", len(both[side]), err)
		}
		e.reopen(e.now(), true)
		if again, err := digests(e); err != nil || !slices.Equal(again, both[side]) {
			t.Errorf("made anew: %+v, %v, want %+v", again, err, both[side])
		}
		pinned := e.Pinned()
		e.Follow(device.Change{FS: vfs.Absent})
		for what, of := range map[string]*Engine{"pinned": pinned, "following": e} {
			if all, err := digests(of); err == nil {
				t.Errorf("%s: a disk that is away has %+v", what, all)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(both[0], both[1]) {
		t.Errorf("one has %+v, the other %+v", both[0], both[1])
	}
}
