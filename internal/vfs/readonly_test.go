package vfs_test

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"martlet/internal/vfs"
)

func TestReadOnly(t *testing.T) {
	mem := vfs.NewMem()
	f, err := mem.OpenFile("/a", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	view := vfs.ReadOnly(mem)
	g, err := view.OpenFile("/a", os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	_, write := g.WriteAt([]byte("x"), 0)
	_, vec := g.WriteVec([][]byte{[]byte("x")}, 0)
	_, truncate := view.OpenFile("/a", os.O_RDWR|os.O_TRUNC)
	h, err := view.OpenFile("/b", os.O_RDWR|os.O_CREATE)
	if err == nil {
		_, err = h.WriteAt([]byte("x"), 0)
	}
	if err = errors.Join(err, view.Rename("/b", "/a")); err != nil {
		t.Errorf("writing a file anew: %v", err)
	}
	_, unnamed := view.CreateUnnamed("/")
	for what, err := range map[string]error{
		"write": write, "writev": vec, "truncate": truncate, "unnamed": unnamed, "room": g.Preallocate(0, 1),
		"link": view.Link(g, "/c"), "rename": view.Rename("/a", "/c"),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
	for what, err := range map[string]error{
		"sync": g.Sync(), "truncate": g.Truncate(0), "remove": view.Remove("/a"), "sync of a folder": view.SyncDir("/"), "mkdir": view.Mkdir("/d"),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list, err := view.ReadDir("/d"); err != nil || len(list) != 0 {
		t.Errorf("a folder that was not made: %v, %v", list, err)
	}
	if _, err := view.ReadDir("/e"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	b := make([]byte, 5)
	if _, err := g.ReadAt(b, 0); err != nil || string(b) != "hello" {
		t.Errorf("it reads %q, %v", b, err)
	}
	if list, err := mem.ReadDir("/"); err != nil || len(list) != 1 {
		t.Errorf("below there is %v, %v, want the one file", list, err)
	}
}
