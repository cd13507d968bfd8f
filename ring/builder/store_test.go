package builder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"martlet/ring/whole"
)

// created is a builder file of a small cluster, at a path in a folder of its own.
func created(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "object.builder")
	if err := Create(path, build(t, 4, 3, grid(1, 2, 2, 1))); err != nil {
		t.Fatal(err)
	}
	return path
}

func opened(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// files are the names in a folder, none if it isn't there.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSaveAndLoad(t *testing.T) {
	path := created(t)
	f := opened(t, path)
	backups := filepath.Join(filepath.Dir(path), BackupDir)
	for n, change := range []func() error{
		func() error { _, err := f.Rebalance(Options{Seed: 1}); return err },
		func() error { return f.Remove(2) },
		func() error { _, err := f.Add(at(0, 0, 9, 0)); return err },
	} {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := f.Save(); err != nil {
			t.Fatal(err)
		}
		again, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again, f.Builder) {
			t.Errorf("change %d: loaded %+v, want %+v", n, again, f.Builder)
		}
		kept := files(t, backups)
		if len(kept) != n+1 {
			t.Fatalf("change %d: backups %q, want %d", n, kept, n+1)
		}
		if last, err := os.ReadFile(filepath.Join(backups, kept[n])); err != nil || string(last) != string(before) {
			t.Errorf("change %d: the last backup (%v) is not what the file was before", n, err)
		}
	}
	if err := f.Save(); err != nil || len(files(t, backups)) != 3 {
		t.Errorf("saving nothing new: %v, backups %q", err, files(t, backups))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if names := files(t, filepath.Dir(path)); len(names) != 2 {
		t.Errorf("the folder has %q, want the builder and the backups", names)
	}
}

func TestCreateReplacesNothing(t *testing.T) {
	path := created(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Create(path, build(t, 4, 3, nil)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want %v", err, fs.ErrExist)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file (%v) is not as before", err)
	}
	if names := files(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("the folder has %q", names)
	}
}

// TestTwoAtOnce: who comes second is told so, and what the first saves is what the
// next finds.
func TestTwoAtOnce(t *testing.T) {
	path := created(t)
	first := opened(t, path)
	if _, err := Open(path); !errors.Is(err, ErrBusy) {
		t.Fatalf("second open: got %v, want %v", err, ErrBusy)
	}
	if _, err := Load(path); err != nil {
		t.Errorf("who only reads is not kept out: %v", err)
	}
	if _, err := first.Add(at(0, 1, 7, 0)); err != nil {
		t.Fatal(err)
	}
	if err := first.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrBusy) {
		t.Errorf("open after the first has saved and not closed: got %v, want %v", err, ErrBusy)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := opened(t, path)
	if !reflect.DeepEqual(second.Builder, first.Builder) {
		t.Errorf("the second finds %+v, want %+v", second.Builder, first.Builder)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestConflict: a lock keeps out who asks for it, not an editor.
func TestConflict(t *testing.T) {
	path := created(t)
	f := opened(t, path)
	if err := f.SetWeight(0, 1); err != nil {
		t.Fatal(err)
	}
	other := build(t, 4, 2, grid(1, 1, 2, 1))
	if err := whole.Replace(whole.OS, path, other.Write); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v, want %v", err, ErrConflict)
	}
	if again, err := Load(path); err != nil || !reflect.DeepEqual(again, other) {
		t.Errorf("the file is %+v, %v; want what the other wrote", again, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBackupsAreBounded(t *testing.T) {
	path := created(t)
	f := opened(t, path)
	for n := range maxBackups + 3 {
		if err := f.SetWeight(0, float64(n+1)); err != nil {
			t.Fatal(err)
		}
		if err := f.Save(); err != nil {
			t.Fatal(err)
		}
	}
	kept := files(t, filepath.Join(filepath.Dir(path), BackupDir))
	if len(kept) != maxBackups {
		t.Errorf("%d backups, want %d", len(kept), maxBackups)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := Open(filepath.Join(dir, "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
	path := filepath.Join(dir, "damaged.builder")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want %v", err, ErrDamaged)
	}
}

// TestOldCopyIsKept: what is put back has a low version, and is not taken for old.
func TestOldCopyIsKept(t *testing.T) {
	path := created(t)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change := func(weight float64) {
		t.Helper()
		f := opened(t, path)
		if err := f.SetWeight(0, weight); err != nil {
			t.Fatal(err)
		}
		if err := f.Save(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for n := range maxBackups {
		change(float64(n + 1))
	}
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	change(7777)
	backups := filepath.Join(filepath.Dir(path), BackupDir)
	kept := 0
	for _, name := range files(t, backups) {
		if text, err := os.ReadFile(filepath.Join(backups, name)); err == nil && string(text) == string(old) {
			kept++
		}
	}
	if n := len(files(t, backups)); n != maxBackups || kept != 1 {
		t.Errorf("%d backups, the copy that was put back %d times among them; want %d and 1", n, kept, maxBackups)
	}
}

// TestLinksModesAndLeftovers: a link stays one, the file keeps its mode, and what
// killed saves have left goes.
func TestLinksModesAndLeftovers(t *testing.T) {
	path := created(t)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "object.builder")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(path), ".object.builder.123.tmp")
	other := filepath.Join(filepath.Dir(path), ".account.builder.123.tmp")
	for _, name := range []string{left, other} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := opened(t, link)
	if _, err := Open(path); !errors.Is(err, ErrBusy) {
		t.Errorf("by its other name: got %v, want %v", err, ErrBusy)
	}
	if err := f.SetWeight(0, 3); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
	if again, err := Load(link); err != nil || !reflect.DeepEqual(again, f.Builder) {
		t.Errorf("through the link: %+v, %v", again, err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed save has left: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("another builder's: %v", err)
	}
}
