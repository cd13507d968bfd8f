// Package damage fills a device's file system, and changes bits of what is stored on it.
package damage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"martlet/internal/vfs"
)

// fillFile is the file in the device's folder that takes up the room.
const fillFile = "lab-fill"

// Fill takes all the room there is on the device whose folder this is, and returns how many bytes it has
// taken in all. To do it again takes what has come free since.
func Fill(folder string) (taken int64, err error) {
	f, err := os.OpenFile(filepath.Join(folder, fillFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if taken, err = f.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	for step := int64(1 << 30); step >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, taken, step); {
		case err == nil:
			taken += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		case errors.Is(err, unix.EINTR):
		default:
			return taken, fmt.Errorf("fill %s: %w", folder, err)
		}
	}
	return taken, f.Sync()
}

// Free gives the room back, also where the power is cut next. That there is nothing to give is fine.
func Free(folder string) error {
	err := os.Remove(filepath.Join(folder, fillFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return vfs.OS.SyncDir(folder)
}

// A Flip is a bit that was changed.
type Flip struct {
	File   string `json:"file"` // below the device's folder
	Offset int64  `json:"offset"`
	Bit    int    `json:"bit"` // of the byte, 0 to 7
}

// Areas are the folders of a device in which there is what clients have stored: the data of large objects, the
// log with everything else, and the databases of accounts and containers.
func Areas() []string { return []string{"blobs", "log", "accounts", "containers"} }

// ErrNothing says that there is nothing in which a bit could be changed.
var ErrNothing = errors.New("nothing is stored there")

// Flips changes n bits, chosen by chance, in files below the given areas of the device's folder, and returns
// them. A change is on the disk when it returns. Nobody may be writing to the files.
func Flips(folder string, areas []string, n int, chance *rand.Rand) (flips []Flip, err error) {
	files, err := stored(folder, areas)
	if err != nil {
		return nil, err
	}
	for range n {
		flip, err := flipIn(folder, files, chance)
		if err != nil {
			return flips, err
		}
		flips = append(flips, flip)
	}
	return flips, nil
}

// A file that holds something.
type file struct {
	name string
	size int64
}

func stored(folder string, areas []string) (files []file, err error) {
	for _, area := range areas {
		err := filepath.WalkDir(filepath.Join(folder, area), func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			case !d.Type().IsRegular() || strings.HasPrefix(d.Name(), "."): // what is not yet in use begins with a dot
				return nil
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && info.Size() > 0 {
				files = append(files, file{path, info.Size()})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// look is how much must not be all zeros around a bit that is changed: what was never written holds
// nothing that could be damaged.
const look = 512

// flipIn changes one bit, each byte of the files being as likely, but not where all is zero.
func flipIn(folder string, files []file, chance *rand.Rand) (Flip, error) {
	var all int64
	for _, f := range files {
		all += f.size
	}
	for range 10_000 {
		if all == 0 {
			break
		}
		at := chance.Int64N(all)
		for _, f := range files {
			if at >= f.size {
				at -= f.size
				continue
			}
			bit := chance.IntN(8)
			done, err := flip(f.name, at, bit)
			if err != nil {
				return Flip{}, err
			}
			if done {
				name, err := filepath.Rel(folder, f.name)
				return Flip{name, at, bit}, err
			}
			break
		}
	}
	return flipSparse(folder, files, chance)
}

// flipSparse changes a bit where something is written, if that is so little of the files that chance does not meet it.
func flipSparse(folder string, files []file, chance *rand.Rand) (Flip, error) {
	var blocks []file // of look bytes, or less at the end of a file; the size is where one begins
	for _, f := range files {
		b, err := os.ReadFile(f.name)
		if err != nil {
			return Flip{}, err
		}
		for at := 0; at < len(b); at += look {
			if slices.ContainsFunc(b[at:min(at+look, len(b))], func(b byte) bool { return b != 0 }) {
				blocks = append(blocks, file{f.name, int64(at)})
			}
		}
	}
	if len(blocks) == 0 {
		return Flip{}, fmt.Errorf("%s: %w", folder, ErrNothing)
	}
	for { // a short block at the end of a file is not met by each
		b, bit := blocks[chance.IntN(len(blocks))], chance.IntN(8)
		at := b.size + chance.Int64N(look)
		done, err := flip(b.name, at, bit)
		if err != nil {
			return Flip{}, err
		}
		if done {
			name, err := filepath.Rel(folder, b.name)
			return Flip{name, at, bit}, err
		}
	}
}

func flip(name string, at int64, bit int) (done bool, err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	around := make([]byte, look)
	n, _ := f.ReadAt(around, at/look*look) // less at its end
	if !slices.ContainsFunc(around[:n], func(b byte) bool { return b != 0 }) || at%look >= int64(n) {
		return false, nil
	}
	if _, err := f.WriteAt([]byte{around[at%look] ^ 1<<bit}, at); err != nil {
		return false, err
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	// Who reads it next is to get it from the disk.
	return true, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
