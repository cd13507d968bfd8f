package fragments

import (
	"bytes"
	"flag"
	"log/slog"
	"maps"
	"os"
	"testing"
	"time"

	"martlet/internal/device"
	"martlet/internal/ec"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

var rewrite = flag.Bool("update", false, "write the golden file anew")

var someDoubts = map[doubt]time.Time{
	{2, name.Hash{1}, ec.WriteID{9}}:       time.Unix(1795622029, 5),
	{1, name.Hash{7, 1}, ec.WriteID{3}}:    time.Unix(1795622030, 0),
	{1, name.Hash{7, 1}, ec.WriteID{3, 1}}: time.Unix(0, 0),
}

// The golden file is what version 1 remembers.
func TestDoubtsGolden(t *testing.T) {
	const file = "testdata/v1.doubts"
	made := encodeDoubts(someDoubts)
	if *rewrite {
		if err := os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(made, kept) {
		t.Errorf("made is %x, want %x, %v", made, kept, err)
	}
	if got, err := decodeDoubts(kept); err != nil || !maps.EqualFunc(got, someDoubts, time.Time.Equal) {
		t.Errorf("it is read as %v, %v", got, err)
	}
	for i := range kept {
		bent := bytes.Clone(kept)
		bent[i] ^= 1
		if _, err := decodeDoubts(bent); err == nil {
			t.Errorf("byte %d is wrong, and it is read", i)
		}
		if _, err := decodeDoubts(kept[:i]); err == nil {
			t.Errorf("%d bytes of it are read", i)
		}
	}
}

// What is read is written as it was.
func FuzzDoubts(f *testing.F) {
	f.Add(encodeDoubts(nil))
	f.Add(encodeDoubts(someDoubts))
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := decodeDoubts(b); err == nil && !bytes.Equal(encodeDoubts(all), b) {
			t.Errorf("%x is read, and written as %x", b, encodeDoubts(all))
		}
	})
}

// remembering is what passes over a device remember that have seen nothing.
func remembering(t *testing.T, disk vfs.FS) *seen {
	t.Helper()
	devices, err := device.NewSet(disk, "/", []string{"d"})
	if err != nil {
		t.Fatal(err)
	}
	for d := range devices.All() {
		return &seen{doubts: map[doubt]time.Time{}, kept: newNote(d, slog.New(slog.DiscardHandler))}
	}
	return nil
}

// Whatever fails while it is written, there is what was kept before or what was to be, whole, after a crash, too; a damaged file is none and is
// replaced; one that can't be read is not.
func TestDoubtsKept(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	first, second := doubt{policy: 1, hash: name.Hash{1}}, doubt{policy: 1, hash: name.Hash{2}}
	for n, fired := 0, true; fired; n++ {
		disk := vfs.NewMem()
		if err := disk.Mkdir("/d"); err != nil {
			t.Fatal(err)
		}
		if err := disk.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		s := remembering(t, disk)
		s.kept.recall(t.Context(), s, now)
		s.doubts[first], s.changed = now, true
		s.kept.keep(t.Context(), s, now)
		faulty := vfs.FailAt(disk, n)
		s = remembering(t, faulty)
		s.kept.recall(t.Context(), s, now.Add(time.Hour))
		read := s.kept.read
		s.doubts[second], s.changed = now.Add(time.Hour), true
		s.kept.keep(t.Context(), s, now.Add(time.Hour))
		fired = faulty.Fired()
		for seed := range uint64(4) {
			s := remembering(t, disk.AfterCrash(seed))
			s.kept.recall(t.Context(), s, now.Add(2*time.Hour))
			if !s.doubts[first].Equal(now) || len(s.doubts) > 2 || !fired && len(s.doubts) != 2 || !read && len(s.doubts) > 1 {
				t.Fatalf("fault %d, seed %d: %v is kept", n, seed, s.doubts)
			}
		}
	}
}

// It is read once for each process, and what both know is known since the earlier time, none that has not come yet; a damaged file is none.
func TestDoubtsRecalled(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	disk := vfs.NewMem()
	if err := disk.Mkdir("/d"); err != nil {
		t.Fatal(err)
	}
	earlier, later, ahead := doubt{policy: 1}, doubt{policy: 2}, doubt{policy: 3}
	s := remembering(t, disk)
	s.kept.recall(t.Context(), s, now)
	s.doubts, s.changed = map[doubt]time.Time{earlier: now, later: now.Add(time.Hour), ahead: now.Add(100 * time.Hour)}, true
	s.kept.keep(t.Context(), s, now)
	s.doubts[doubt{policy: 4}], s.changed = now, true
	s.kept.keep(t.Context(), s, now.Add(time.Minute)) // it was kept just now
	s = remembering(t, disk)
	now = now.Add(2 * time.Hour)
	s.doubts = map[doubt]time.Time{earlier: now, later: now.Add(-time.Hour - time.Second)}
	for range 2 {
		s.kept.recall(t.Context(), s, now)
		want := map[doubt]time.Time{earlier: now.Add(-2 * time.Hour), later: now.Add(-time.Hour - time.Second), ahead: now}
		if !maps.EqualFunc(s.doubts, want, time.Time.Equal) {
			t.Errorf("%v, want %v", s.doubts, want)
		}
	}
	f, err := disk.OpenFile("/d/replication/doubts", os.O_RDWR)
	if err == nil {
		_, err = f.WriteAt([]byte("x"), 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	s = remembering(t, disk)
	s.kept.recall(t.Context(), s, now)
	if len(s.doubts) != 0 {
		t.Errorf("of a damaged one there is %v", s.doubts)
	}
	s.doubts[earlier], s.changed = now, true
	s.kept.keep(t.Context(), s, now)
	s = remembering(t, disk)
	if s.kept.recall(t.Context(), s, now); len(s.doubts) != 1 {
		t.Errorf("in its place: %v", s.doubts)
	}
}

// hanging is a disk of which each call that makes a file waits.
type hanging struct {
	vfs.FS
	begun, end chan struct{}
}

func (h hanging) CreateUnnamed(dir string) (vfs.File, error) {
	close(h.begun)
	<-h.end
	return h.FS.CreateUnnamed(dir)
}

// Who detaches a disk does not wait until it has written what is kept: it may never do.
func TestDoubtsOfADiskThatHangs(t *testing.T) {
	disk := hanging{vfs.NewMem(), make(chan struct{}), make(chan struct{})}
	if err := disk.Mkdir("/d"); err != nil {
		t.Fatal(err)
	}
	s := remembering(t, disk)
	s.kept.recall(t.Context(), s, time.Now())
	s.doubts, s.changed = maps.Clone(someDoubts), true
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.kept.keep(t.Context(), s, time.Now())
	}()
	<-disk.begun
	if free := s.kept.mu.TryLock(); !free {
		t.Error("what follows a device waits for its disk")
	} else {
		s.kept.which++ // another one is attached
		s.kept.mu.Unlock()
	}
	close(disk.end)
	<-ended
	if !s.changed {
		t.Error("what was written to a disk that is gone is taken for kept")
	}
}
