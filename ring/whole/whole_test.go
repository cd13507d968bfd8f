package whole_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/internal/vfs"
	"martlet/internal/vfs/vfswhole"
	"martlet/ring/whole"
)

var errBroken = errors.New("broken")

// giving writes a text, and then fails with an error, if there is one.
func giving(text string, err error) func(io.Writer) error {
	return func(w io.Writer) error {
		_, e := io.WriteString(w, text)
		return errors.Join(e, err)
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, step := range []struct {
		text string
		err  error
		want string
	}{{"one", nil, "one"}, {"two", errBroken, "one"}, {"three", nil, "three"}} {
		if err := whole.Replace(whole.OS, path, giving(step.text, step.err)); !errors.Is(err, step.err) {
			t.Fatalf("writing %q: %v, want %v", step.text, err, step.err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != step.want {
			t.Errorf("after writing %q: %q, %v; want %q", step.text, got, err, step.want)
		}
	}
	alone(t, dir)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v; want 0644", info.Mode(), err)
	}
	none := filepath.Join(dir, "none", "file")
	if err := whole.Replace(whole.OS, none, giving("x", nil)); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), none+":") {
		t.Errorf("into a folder that isn't there: %v, want an error about %s", err, none)
	}
}

func alone(t *testing.T, dir string) {
	t.Helper()
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("left in the folder: %v, %v; want the file alone", list, err)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := whole.Create(whole.OS, path, giving("one", errBroken)); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %v", err, errBroken)
	}
	for n, want := range []error{nil, fs.ErrExist} {
		if err := whole.Create(whole.OS, path, giving(fmt.Sprint(n), nil)); !errors.Is(err, want) {
			t.Errorf("create %d: %v, want %v", n, err, want)
		}
	}
	if text, err := whole.Read(whole.OS, path); err != nil || string(text) != "0" {
		t.Errorf("%q, %v", text, err)
	}
	alone(t, dir)
}

// What is open is locked, and what takes its place is before it has the name.
func TestSwap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() whole.File {
		t.Helper()
		f, err := whole.OS.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	old := open()
	if err := old.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := open().Lock(); !errors.Is(err, whole.ErrLocked) {
		t.Errorf("a second lock: %v, want %v", err, whole.ErrLocked)
	}
	f, err := whole.Swap(whole.OS, path, old, giving("new", nil))
	if err != nil {
		t.Fatal(err)
	}
	if is, err := whole.OS.Is(f, path); err != nil || !is {
		t.Errorf("what is there is not what was returned: %v", err)
	}
	if is, err := whole.OS.Is(old, path); err != nil || is {
		t.Errorf("the old file has the name: %v", err)
	}
	if err := open().Lock(); !errors.Is(err, whole.ErrLocked) {
		t.Errorf("a lock on the new file: %v, want %v", err, whole.ErrLocked)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open().Lock(); err != nil {
		t.Errorf("after the close: %v", err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	stays := []string{"file", ".file.tmp", ".file.x1.tmp", ".file.1.tmp.gz", ".file2.1.tmp", "file.1.tmp", ".file.a.1.tmp", "..1.tmp"}
	for _, name := range append(stays, ".file.1.tmp", ".file.234.tmp") {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := whole.Sweep(whole.OS, filepath.Join(dir, "file")); err != nil {
		t.Fatal(err)
	}
	for _, name := range stays {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != len(stays) {
		t.Errorf("%v, %v; want %q", list, err, stays)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := whole.OS.Open(dir); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := whole.OS.Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

// TestFaults: whichever call fails, and wherever the power goes, the old file is there
// or the new one.
func TestFaults(t *testing.T) {
	ways := map[string]func(fsys whole.FS, write func(io.Writer) error) error{
		"replace": func(fsys whole.FS, write func(io.Writer) error) error { return whole.Replace(fsys, "/d/file", write) },
		"create":  func(fsys whole.FS, write func(io.Writer) error) error { return whole.Create(fsys, "/d/new", write) },
		"swap": func(fsys whole.FS, write func(io.Writer) error) error {
			old, err := fsys.Open("/d/file")
			if err != nil {
				return err
			}
			f, err := whole.Swap(fsys, "/d/file", old, write)
			if f != nil {
				_ = f.Close()
			}
			return errors.Join(err, old.Close())
		},
	}
	const text = "the new content of the file, long enough to be torn at"
	for name, way := range ways {
		path, was := "/d/file", "old"
		if name == "create" {
			path, was = "/d/new", ""
		}
		for n, fired := 0, true; fired; n++ {
			for _, gone := range []bool{false, true} {
				mem := vfs.NewMem()
				setUp(t, mem)
				options := []vfs.FaultOption(nil)
				if gone {
					options = append(options, vfs.FaultForever())
				}
				faulty := vfs.FailAt(mem, n, options...)
				err := way(vfswhole.New(faulty), giving(text, nil))
				fired = faulty.Fired()
				if fired != (err != nil) && !fired {
					t.Fatalf("%s: %v, though nothing failed", name, err)
				}
				if now := content(t, mem, path); err != nil && !errors.Is(err, whole.ErrUnsynced) && now != was || errors.Is(err, whole.ErrUnsynced) && now != text {
					t.Errorf("%s, fault %d: %v, and the file is %q", name, n, err, now)
				}
				for seed := range uint64(40) {
					now := content(t, mem.AfterCrash(seed), path)
					if now != text && (now != was || err == nil) {
						t.Errorf("%s, fault %d, seed %d: %v, and after a crash the file is %q", name, n, seed, err, now)
					}
				}
			}
		}
	}
}

func setUp(t *testing.T, mem *vfs.Mem) {
	t.Helper()
	if err := errors.Join(mem.Mkdir("/d"), mem.SyncDir("/"), whole.Replace(vfswhole.New(mem), "/d/file", giving("old", nil))); err != nil {
		t.Fatal(err)
	}
}

// content is what is in a file, nothing if there is none.
func content(t *testing.T, fsys vfs.FS, path string) string {
	t.Helper()
	text, err := whole.Read(vfswhole.New(fsys), path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}
