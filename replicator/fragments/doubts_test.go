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

var someDoubts = map[doubt]time.Duration{
	{2, name.Hash{1}, ec.WriteID{9}}:       25*time.Hour + 5,
	{1, name.Hash{7, 1}, ec.WriteID{3}}:    time.Minute,
	{1, name.Hash{7, 1}, ec.WriteID{3, 1}}: 0,
}

// The golden file is what version 2 remembers. Of what version 1 did it is not known how much of the time somebody has looked.
func TestDoubtsGolden(t *testing.T) {
	made := encodeDoubts(someDoubts)
	if *rewrite {
		if err := os.WriteFile("testdata/v2.doubts", made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	anew := maps.Clone(someDoubts)
	for d := range anew {
		anew[d] = 0
	}
	for file, want := range map[string]map[doubt]time.Duration{"testdata/v1.doubts": anew, "testdata/v2.doubts": someDoubts} {
		kept, err := os.ReadFile(file)
		if err != nil || file == "testdata/v2.doubts" && !bytes.Equal(made, kept) {
			t.Errorf("made is %x, want %x, %v", made, kept, err)
		}
		if got, err := decodeDoubts(kept); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s is read as %v, %v", file, got, err)
		}
		for i := range kept {
			bent := bytes.Clone(kept)
			bent[i] ^= 1
			if _, err := decodeDoubts(bent); err == nil {
				t.Errorf("byte %d of %s is wrong, and it is read", i, file)
			}
			if _, err := decodeDoubts(kept[:i]); err == nil {
				t.Errorf("%d bytes of %s are read", i, file)
			}
		}
	}
	if b := encodeDoubts(map[doubt]time.Duration{{}: -1}); len(b) == 0 {
		t.Error("nothing is made")
	} else if got, err := decodeDoubts(b); err == nil {
		t.Errorf("what is known for less than no time is read as %v", got)
	}
}

// What is read is written as it was.
func FuzzDoubts(f *testing.F) {
	f.Add(encodeDoubts(nil))
	f.Add(encodeDoubts(someDoubts))
	f.Fuzz(func(t *testing.T, b []byte) {
		if all, err := decodeDoubts(b); err == nil && !bytes.Equal(encodeDoubts(all), b) && !bytes.HasPrefix(b, []byte(doubtsMagic1)) {
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
		return &seen{doubts: map[doubt]time.Duration{}, kept: newNote(d, slog.New(slog.DiscardHandler))}
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
		s.kept.recall(t.Context(), s)
		s.doubts[first], s.changed, s.watched = 0, true, 5*time.Hour
		s.kept.keep(t.Context(), s, now)
		faulty := vfs.FailAt(disk, n)
		s = remembering(t, faulty)
		s.kept.recall(t.Context(), s)
		read := s.kept.read
		s.doubts[second], s.changed = 0, true
		s.kept.keep(t.Context(), s, now.Add(time.Hour))
		fired = faulty.Fired()
		for seed := range uint64(4) {
			s := remembering(t, disk.AfterCrash(seed))
			s.kept.recall(t.Context(), s)
			if s.doubts[first] != -5*time.Hour || len(s.doubts) > 2 || !fired && len(s.doubts) != 2 || !read && len(s.doubts) > 1 {
				t.Fatalf("fault %d, seed %d: %v is kept", n, seed, s.doubts)
			}
		}
	}
}

// It is read once for each process, and what both know is known for as long as the one says that knows it longer; it is written when it has changed, and where it has not
// when what is kept is an hour too young; a damaged file is none.
func TestDoubtsRecalled(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	disk := vfs.NewMem()
	if err := disk.Mkdir("/d"); err != nil {
		t.Fatal(err)
	}
	earlier, later, other := doubt{policy: 1}, doubt{policy: 2}, doubt{policy: 3}
	s := remembering(t, disk)
	s.kept.recall(t.Context(), s)
	s.doubts, s.changed, s.watched = map[doubt]time.Duration{earlier: 0, later: 4 * time.Hour}, true, 5*time.Hour
	s.kept.keep(t.Context(), s, now)
	s.doubts[other], s.changed = s.watched, true
	s.kept.keep(t.Context(), s, now.Add(time.Minute)) // it was kept just now
	s = remembering(t, disk)
	s.doubts, s.watched = map[doubt]time.Duration{earlier: 10 * time.Hour, later: 8 * time.Hour}, 10*time.Hour
	for range 2 {
		s.kept.recall(t.Context(), s)
		if want := map[doubt]time.Duration{earlier: 5 * time.Hour, later: 8 * time.Hour}; !maps.Equal(s.doubts, want) {
			t.Errorf("%v, want %v", s.doubts, want)
		}
	}
	for _, tt := range []struct{ after, want time.Duration }{{0, 5 * time.Hour}, {59 * time.Minute, 5 * time.Hour}, {time.Hour, 7 * time.Hour}} {
		if s.kept.keep(t.Context(), s, now.Add(tt.after)); tt.after == 0 {
			s.watched += 2 * time.Hour // which changes nothing else
		}
		again := remembering(t, disk)
		if again.kept.recall(t.Context(), again); again.doubts[earlier] != -tt.want {
			t.Errorf("after %v it is known for %v, want %v", tt.after, -again.doubts[earlier], tt.want)
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
	s.kept.recall(t.Context(), s)
	if len(s.doubts) != 0 {
		t.Errorf("of a damaged one there is %v", s.doubts)
	}
	s.doubts[earlier], s.changed = 0, true
	s.kept.keep(t.Context(), s, now)
	s = remembering(t, disk)
	if s.kept.recall(t.Context(), s); len(s.doubts) != 1 {
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
	s.kept.recall(t.Context(), s)
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
