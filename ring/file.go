package ring

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Load reads the ring file at path. Errors are those of [Read], or the file system's.
func Load(path string) (*Ring, error) {
	r, _, err := load(path)
	return r, err
}

// load also returns what the file was when it was read.
func load(path string) (*Ring, fs.FileInfo, error) {
	// Before the open, which would wait for a writer if this were a pipe.
	if info, err := os.Stat(path); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	r, err := Read(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, info, nil
}

// Save replaces the file at path by the ring, as [WriteFile] does, in format [Auto].
func (r *Ring) Save(path string) error {
	return WriteFile(path, func(w io.Writer) error {
		_, err := r.WriteFormat(w, Auto)
		return err
	})
}

// WriteFile replaces the file at path by what write gives, whole or not at all:
// whoever opens path, at any time and after any crash, finds the old content or the
// new. When it returns nil, the new content and its name are on stable storage. When
// it returns an error the old file is still there, unless it was the last step, the
// sync of the folder, that failed: then it is one or the other. The file can be read
// by everyone (mode 0644).
func WriteFile(path string, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if err == nil {
			return
		}
		if !closed {
			err = errors.Join(err, f.Close())
		}
		if e := os.Remove(f.Name()); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	w := bufio.NewWriterSize(f, 1<<16)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	closed = true
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
