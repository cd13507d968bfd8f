package device

import (
	"errors"
	"os"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

func TestSet(t *testing.T) {
	fs := vfs.NewMem()
	for _, d := range []string{"/srv", "/srv/d1", "/srv/d2"} {
		if err := fs.Mkdir(d); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	f, err := fs.OpenFile("/srv/file", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	s, err := NewSet(fs, "/srv", []string{"d2", "d1", "missing", "file"})
	if err != nil {
		t.Fatal(err)
	}
	for name, usable := range map[string]bool{"d1": true, "d2": true, "missing": false, "file": false, "stranger": false} {
		d, err := s.Lookup(name)
		if usable && (err != nil || d.Name() != name || d.Path() != "/srv/"+name) {
			t.Errorf("Lookup(%s) = %+v, %v", name, d, err)
		}
		if !usable && !errs.Is(err, errs.BadDevice) {
			t.Errorf("Lookup(%s): %v, want a bad device", name, err)
		}
	}
	n := 0
	for range s.All() {
		n++
	}
	if n != 4 {
		t.Errorf("%d devices, want all 4", n)
	}
}

func TestDeviceFailsAndComesBack(t *testing.T) {
	fs := vfs.NewMem()
	_ = fs.Mkdir("/d1")
	s, err := NewSet(fs, "/", []string{"d1"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Lookup("d1")
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("input/output error")
	d.Fail(why)
	if _, err := s.Lookup("d1"); !errs.Is(err, errs.BadDevice) || !errors.Is(err, why) {
		t.Errorf("failed: %v", err)
	}
	d.Fail(nil)
	if _, err := s.Lookup("d1"); err != nil {
		t.Errorf("back: %v", err)
	}
}

func TestNamesAreChecked(t *testing.T) {
	for _, names := range [][]string{{""}, {".."}, {"a/b"}, {"a", "a"}} {
		if _, err := NewSet(vfs.NewMem(), "/", names); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v, want an invalid name", names, err)
		}
	}
}
