package vfs_test

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"

	"martlet/internal/vfs"
)

// put is a model writer: when it returns nil the file is durable under its
// name, and the name never stands for anything but all of content. It can be told
// to forget one of its steps, by name.
func put(fs vfs.FS, name, content, forget string) (err error) {
	dir := path.Dir(name)
	if err := fs.Mkdir(dir); err != nil {
		return err
	}
	if forget != "sync parent" {
		if err := fs.SyncDir(path.Dir(dir)); err != nil {
			return err
		}
	}
	f, err := fs.CreateUnnamed(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	half := len(content) / 2
	if _, err := f.WriteVec([][]byte{[]byte(content[:10]), []byte(content[10:half])}, 0); err != nil {
		return err
	}
	if forget == "sync file late" {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt([]byte(content[half:]), int64(half)); err != nil {
		return err
	}
	if !strings.HasPrefix(forget, "sync file") {
		if err := f.Sync(); err != nil {
			if forget != "heed error" {
				return err
			}
			if err := f.Sync(); err != nil { // which proves nothing
				return err
			}
		}
	}
	if err := fs.Link(f, name); err != nil {
		return err
	}
	if forget == "sync directory" {
		return nil
	}
	err = fs.SyncDir(dir)
	if err != nil && forget == "heed directory error" {
		err = fs.SyncDir(dir)
	}
	return err
}

var content = strings.Repeat("0123456789abcdef", 200) // 3,200 bytes

// breaches runs put with a fault at each call in turn and crashes after it,
// and returns the promises that were broken.
func breaches(t *testing.T, forget string, options ...vfs.FaultOption) (broken []string) {
	t.Helper()
	const name = "/d/e/f"
	for n, fired := 0, true; fired; n++ {
		if n == 100 {
			t.Fatal("put makes no end of calls")
		}
		disk := newMem(t)
		faulty := vfs.FailAt(vfs.Count(disk), n, options...)
		acked := put(faulty, name, content, forget) == nil
		fired = faulty.Fired()
		if !fired && !acked {
			t.Fatalf("put %q failed without a fault", forget)
		}
		for seed := range uint64(60) {
			got := read(t, disk.AfterCrash(seed), name)
			if got != content && (acked || got != "(none)") {
				broken = append(broken, fmt.Sprintf("fault %d, seed %d: acked=%v, read %d bytes", n, seed, acked, len(got)))
			}
		}
	}
	return broken
}

func TestCarefulWriter(t *testing.T) {
	for name, options := range map[string][]vfs.FaultOption{
		"EIO":       nil,
		"ENOSPC":    {vfs.FaultError(syscall.ENOSPC)},
		"disk gone": {vfs.FaultForever()},
	} {
		for seed := range uint64(10) {
			broken := breaches(t, "", append(options, vfs.FaultSeed(seed))...)
			if len(broken) > 0 {
				t.Errorf("%s, %d: %d promises broken, the first: %s", name, seed, len(broken), broken[0])
			}
		}
	}
}

// A writer that forgets one thing must be caught, or Mem is too kind.
func TestForgetfulWriters(t *testing.T) {
	for _, forget := range []string{
		"sync parent", "sync file", "sync file late", "sync directory", "heed error", "heed directory error",
	} {
		caught := false
		for seed := uint64(0); seed < 10 && !caught; seed++ {
			caught = len(breaches(t, forget, vfs.FaultSeed(seed))) > 0
		}
		if !caught {
			t.Errorf("a writer that does not %s got away with it", forget)
		}
	}
}

// After a failed Sync another one succeeds and saves nothing.
func TestFailedSync(t *testing.T) {
	saw := map[string]int{} // what calls see and what the disk has
	for seed := range uint64(100) {
		disk := newMem(t)
		old := strings.Repeat("o", 512)
		f := create(t, disk, "/d/f", old)
		if err := errors.Join(f.Sync(), disk.SyncDir("/d"), f.Close()); err != nil {
			t.Fatal(err)
		}
		faulty := vfs.FailAt(disk, 2, vfs.FaultSeed(seed))
		g, err := faulty.OpenFile("/d/f", os.O_RDWR)
		if err != nil {
			t.Fatal(err)
		}
		if err := write(g, strings.Repeat("y", 512), 0); err != nil {
			t.Fatal(err)
		}
		if err := g.Sync(); !errors.Is(err, syscall.EIO) || !faulty.Fired() {
			t.Fatalf("Sync number 2: got %v, want EIO", err)
		}
		if err := g.Sync(); err != nil {
			t.Fatalf("Sync after the failed one: got %v", err)
		}
		cached, stored := read(t, disk, "/d/f")[:1], read(t, disk.AfterCrash(3), "/d/f")[:1]
		for crash := range uint64(10) {
			if got := read(t, disk.AfterCrash(crash), "/d/f")[:1]; got != stored {
				t.Fatalf("seed %d: crashes after the failed sync differ: %q and %q", seed, got, stored)
			}
		}
		saw[cached+stored]++

		// A write after the failure is as good as any, once synced.
		if err := errors.Join(write(g, "new", 0), g.Sync()); err != nil {
			t.Fatal(err)
		}
		if got := read(t, disk.AfterCrash(0), "/d/f")[:3]; got != "new" {
			t.Fatalf("seed %d: a write after the failure, synced: got %q after a crash", seed, got)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"yy", "yo", "oo"} {
		if saw[want] == 0 {
			t.Errorf("100 failed syncs never left %q (what is seen, what is stored): %v", want, saw)
		}
	}
	if saw["oy"] > 0 {
		t.Errorf("a failed sync hid what it stored: %v", saw)
	}
}

func TestFailedSyncDir(t *testing.T) {
	saw := map[string]int{}
	for seed := range uint64(50) {
		disk := newMem(t)
		faulty := vfs.FailAt(disk, 1, vfs.FaultSeed(seed))
		f, err := faulty.OpenFile("/d/f", os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		if err := faulty.SyncDir("/d"); !errors.Is(err, syscall.EIO) {
			t.Fatalf("SyncDir number 1: got %v, want EIO", err)
		}
		if err := errors.Join(faulty.SyncDir("/d"), f.Close()); err != nil {
			t.Fatal(err)
		}
		if got := read(t, disk, "/d/f"); got != "" {
			t.Fatalf("seed %d: the file is gone from sight: %q", seed, got)
		}
		saw[read(t, disk.AfterCrash(0), "/d/f")]++

		// Another change of the name writes it anew.
		if err := errors.Join(faulty.Rename("/d/f", "/d/g"), faulty.SyncDir("/d")); err != nil {
			t.Fatal(err)
		}
		if got := read(t, disk.AfterCrash(0), "/d/g"); got != "" {
			t.Fatalf("seed %d: renamed and synced after the failure: got %q", seed, got)
		}
	}
	if saw[""] == 0 || saw["(none)"] == 0 || len(saw) != 2 {
		t.Errorf("what 50 failed SyncDirs left of a new file: got %v, want it kept and lost", saw)
	}
}

func TestFaulty(t *testing.T) {
	count := vfs.FailAt(newMem(t), -1)
	if err := put(count, "/d/e/f", content, ""); err != nil || count.Fired() {
		t.Fatalf("put without a fault: %v, fired=%v", err, count.Fired())
	}
	if got, want := count.Calls(), 8; got != want {
		t.Errorf("Calls: got %d, want %d", got, want)
	}

	gone := vfs.FailAt(newMem(t), 1, vfs.FaultForever(), vfs.FaultError(syscall.ENXIO))
	f, err := gone.CreateUnnamed("/d")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	_, writeErr := f.WriteAt(buf, 0)
	_, vecErr := f.WriteVec([][]byte{buf}, 0)
	_, readErr := f.ReadAt(buf, 0)
	_, sizeErr := f.Size()
	_, openErr := gone.Open("/d/f")
	_, createErr := gone.CreateUnnamed("/d")
	_, listErr := gone.ReadDir("/d")
	_, statErr := gone.Stat("/d")
	_, usageErr := gone.Usage("/d")
	for name, err := range map[string]error{
		"WriteAt": writeErr, "WriteVec": vecErr, "ReadAt": readErr, "Size": sizeErr, "Sync": f.Sync(),
		"Truncate": f.Truncate(0), "Preallocate": f.Preallocate(0, 1), "Open": openErr,
		"CreateUnnamed": createErr, "ReadDir": listErr, "Stat": statErr, "Usage": usageErr,
		"Link": gone.Link(f, "/d/f"), "Rename": gone.Rename("/d", "/e"), "Remove": gone.Remove("/d"),
		"Mkdir": gone.Mkdir("/e"), "SyncDir": gone.SyncDir("/d"),
	} {
		if !errors.Is(err, syscall.ENXIO) {
			t.Errorf("%s with the disk gone: got %v, want %v", name, err, syscall.ENXIO)
		}
	}
	if err := f.Close(); err != nil {
		t.Errorf("Close with the disk gone: %v", err)
	}
}

// A failing write leaves a part of itself and says how much, on any FS.
func TestTornWrite(t *testing.T) {
	whole := strings.Repeat("x", 5000)
	lengths := map[int]bool{}
	for seed := range uint64(40) {
		disk := newMem(t)
		faulty := vfs.FailAt(disk, 1, vfs.FaultSeed(seed))
		f, err := faulty.OpenFile("/d/f", os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		n, err := f.WriteVec([][]byte{[]byte(whole[:100]), []byte(whole[100:])}, 0)
		if got := read(t, disk, "/d/f"); !errors.Is(err, syscall.EIO) || got != whole[:n] {
			t.Fatalf("seed %d: got %d, %v and a file of %d bytes", seed, n, err, len(got))
		}
		lengths[n] = true
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(lengths) < 20 {
		t.Errorf("40 torn writes had only %d different lengths", len(lengths))
	}
}

func TestTornDirectWrite(t *testing.T) {
	for seed := range uint64(40) {
		faulty := vfs.FailAt(newMem(t), 1, vfs.FaultSeed(seed))
		f, err := faulty.OpenFile("/d/f", os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.SetDirect(true); err != nil {
			t.Fatal(err)
		}
		mem, off := f.Align()
		buf := vfs.AlignedBuffer(8*off, mem)
		n, err := f.WriteVec([][]byte{buf[:off], buf[off:]}, 0)
		size, sizeErr := f.Size()
		if !errors.Is(err, syscall.EIO) || n%off != 0 || size != int64(n) || sizeErr != nil {
			t.Fatalf("seed %d: got %d, %v; size %d, %v", seed, n, err, size, sizeErr)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
