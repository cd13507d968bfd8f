package steps

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"martlet/internal/vfs"
	"martlet/ring"
)

const (
	magic    = "MARTSTP1"
	stepSize = 4 + 8 + 1
	maxFile  = 1 << 30 // bytes
)

// errFormat is the error of a file that is not whole.
var errFormat = errors.New("it is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(sets map[Set]*pages) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte(magic), uint32(len(sets)))
	for _, set := range slices.Sorted(maps.Keys(sets)) {
		p := sets[set]
		b = append(append(append(b, byte(len(set))), set...), byte(p.power))
		b = le.AppendUint32(le.AppendUint64(b, uint64(p.looked)), uint32(len(p.parts)))
		for _, n := range p.sorted() {
			s := p.parts[n]
			b = le.AppendUint64(le.AppendUint32(b, n), uint64(s.at))
			if s.fenced {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decode(b []byte) (map[Set]*pages, error) {
	le := binary.LittleEndian
	if len(b) < len(magic)+8 || string(b[:len(magic)]) != magic || le.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli) {
		return nil, errFormat
	}
	r := reader{b[len(magic) : len(b)-4]}
	sets := map[Set]*pages{}
	n, _ := r.take(4)
	for range le.Uint32(n) {
		set, p, ok := r.set()
		if !ok || sets[set] != nil {
			return nil, errFormat
		}
		sets[set] = p
	}
	if len(r.rest) > 0 {
		return nil, errFormat
	}
	return sets, nil
}

type reader struct{ rest []byte }

func (r *reader) take(n int) (b []byte, ok bool) {
	if len(r.rest) < n {
		r.rest = nil
		return make([]byte, min(n, stepSize)), false
	}
	b, r.rest = r.rest[:n], r.rest[n:]
	return b, true
}

func (r *reader) set() (Set, *pages, bool) {
	le := binary.LittleEndian
	length, ok := r.take(1)
	if !ok || length[0] == 0 {
		return "", nil, false
	}
	text, ok := r.take(int(length[0]))
	if !ok {
		return "", nil, false
	}
	head, ok := r.take(1 + 8 + 4)
	if !ok {
		return "", nil, false
	}
	count := int64(le.Uint32(head[9:]))
	p := &pages{power: int(head[0]), looked: int64(le.Uint64(head[1:]))}
	if count*stepSize > int64(len(r.rest)) || p.power < ring.MinPartPower || p.power > ring.MaxPartPower {
		return "", nil, false
	}
	p.parts = make(map[uint32]step, count)
	last := int64(-1)
	for range count {
		raw, _ := r.take(stepSize)
		n := le.Uint32(raw)
		if int64(n) <= last || uint64(n)>>p.power != 0 || raw[12] > 1 {
			return "", nil, false
		}
		last = int64(n)
		p.parts[n] = step{int64(le.Uint64(raw[4:])), raw[12] == 1}
	}
	return Set(text), p, true
}

func readFile(fsys vfs.FS, name string) (b []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxFile {
		return nil, nil // no such file was written: it is damaged
	}
	b = make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// writeFile has a file with its folder, whose parent is there, be on stable storage when
// it returns nil; what was in its place stays whole until then, and after an error.
func writeFile(fsys vfs.FS, dir, name string, content []byte) error {
	if err := fsys.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Whoever made it may have been killed before it was durable.
	if err := fsys.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	// A file that was left by a sync that failed is not written again: no later sync proves
	// what that one did not.
	temp := filepath.Join(dir, name+".new")
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, filepath.Join(dir, name)); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}
