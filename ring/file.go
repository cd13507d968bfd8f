package ring

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"martlet/ring/whole"
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

// Save replaces the file at path by the ring, as [whole.Replace] does, in format [Auto].
func (r *Ring) Save(path string) error { return r.SaveOn(whole.OS, path) }

// SaveOn is Save on another file system than that of the machine.
func (r *Ring) SaveOn(fsys whole.FS, path string) error {
	return whole.Replace(fsys, path, func(w io.Writer) error {
		_, err := r.WriteFormat(w, Auto)
		return err
	})
}
