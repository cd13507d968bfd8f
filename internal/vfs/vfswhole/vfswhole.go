// Package vfswhole has package ring/whole write on a vfs.FS, so that tests can fail
// each of its calls and cut the power at any. Package ring imports nothing from here.
package vfswhole

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"martlet/internal/vfs"
	"martlet/ring/whole"
)

// New returns a whole.FS that makes its calls on another file system. There are no
// symbolic links, modes and owners on it, and nobody else who could have a lock; what
// concerns those is a call that can fail.
func New(on vfs.FS) whole.FS { return &disk{fs: on} }

type disk struct {
	fs    vfs.FS
	temps atomic.Int64
}

type file struct {
	vfs.File
	fs   vfs.FS
	name string
	ino  uint64
	off  int64
}

func (d *disk) Resolve(name string) (string, error) {
	_, err := d.fs.Stat(name)
	return name, err
}

func (d *disk) Open(name string) (whole.File, error) { return d.open(name, os.O_RDONLY) }

func (d *disk) open(name string, flag int) (whole.File, error) {
	f, err := d.fs.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	info, err := d.fs.Stat(name)
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return &file{File: f, fs: d.fs, name: name, ino: info.Ino}, nil
}

func (d *disk) Temp(dir, base string, _ whole.File) (whole.File, error) {
	name := filepath.Join(dir, strings.Replace(whole.TempName(base), "*", fmt.Sprint(d.temps.Add(1)), 1))
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (d *disk) Is(f whole.File, name string) (bool, error) {
	info, err := d.fs.Stat(name)
	own, ok := f.(*file)
	return err == nil && ok && own.ino == info.Ino, err
}

func (d *disk) Place(temp, name string) error {
	if _, err := d.fs.Stat(name); err == nil {
		return fs.ErrExist
	}
	return d.fs.Rename(temp, name)
}

func (d *disk) Rename(temp, name string) error { return d.fs.Rename(temp, name) }
func (d *disk) Remove(name string) error       { return d.fs.Remove(name) }
func (d *disk) Mkdir(name string) error        { return d.fs.Mkdir(name) }
func (d *disk) SyncDir(dir string) error       { return d.fs.SyncDir(dir) }

func (d *disk) Names(dir string) ([]string, error) {
	entries, err := d.fs.ReadDir(dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name
	}
	return names, err
}

func (f *file) Name() string { return f.name }

func (f *file) Lock() error {
	_, err := f.fs.Stat(f.name)
	return err
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.off)
	f.off += int64(n)
	return n, err
}
