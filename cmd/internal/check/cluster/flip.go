package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// stored are the folders of a device whose files are what is stored. The index is not: it is a cache of the log, and
// nothing that anybody could count as a copy.
var stored = []string{"log", "blobs", "containers", "accounts"}

// flip changes up to eight bits of what is stored on a device, each by chance, and says where.
func flip(device string, seed uint64) (where string, err error) {
	r := rand.New(rand.NewPCG(seed, 0x666c6970))
	var files []string
	for _, dir := range stored {
		err := filepath.WalkDir(filepath.Join(device, dir), func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil // it was never there, or has just gone
			case err != nil:
				return err
			case d.Type().IsRegular() && !strings.HasPrefix(d.Name(), "."):
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	slices.Sort(files)
	if len(files) == 0 {
		return "nothing is stored there", nil
	}
	var all []string
	for range 1 + r.IntN(8) {
		path := files[r.IntN(len(files))]
		at, err := flipIn(path, r)
		if err != nil {
			return "", err
		}
		if at >= 0 {
			all = append(all, fmt.Sprintf("%s at %d", strings.TrimPrefix(path, device+"/"), at))
		}
	}
	return strings.Join(all, ", "), nil
}

// flipIn changes a bit of a file, and returns where; -1 where there is none.
func flipIn(path string, r *rand.Rand) (at int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil // it has just gone
	}
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return -1, err
	}
	size, err := written(f, info.Size())
	if err != nil || size == 0 {
		return -1, err
	}
	at = r.Int64N(size)
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return -1, err
	}
	b[0] ^= 1 << r.IntN(8)
	if _, err := f.WriteAt(b[:], at); err != nil {
		return -1, err
	}
	return at, f.Sync()
}

// written is up to where a file holds anything but zeros: behind that a log has room for what comes, and a bit there is
// none of what is stored.
func written(f io.ReaderAt, size int64) (int64, error) {
	b := make([]byte, 256<<10)
	for end := size; end > 0; {
		from := max(0, end-int64(len(b)))
		part := b[:end-from]
		if _, err := f.ReadAt(part, from); err != nil {
			return 0, err
		}
		if used := bytes.TrimRight(part, "\x00"); len(used) > 0 {
			return from + int64(len(used)), nil
		}
		end = from
	}
	return 0, nil
}
