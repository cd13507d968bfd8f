package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/planted"
	"martlet/internal/vfs"
)

const (
	segmentMagic = "MARTSEG2"
	firstMagic   = "MARTSEG1" // records were not bound to the log
	firstRecord  = 4096       // where records begin
	headerSize   = 36         // what the first block holds
	secondHeader = 2048       // where it holds it again
	extension    = ".seg"
	sparePrefix  = ".spare-"
	newPrefix    = ".new-" // a spare that is being made
)

// ID is the identity of a log.
type ID [16]byte

// segmentName is the name of a segment in the log's folder.
func segmentName(n uint64) string { return fmt.Sprintf("%016x%s", n, extension) }

// segmentNumber reads the name of a segment.
func segmentNumber(name string) (n uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, extension)
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, ok && err == nil && segmentName(n) == name
}

// header is the first block of a segment.
func header(n uint64, id ID) []byte {
	b := make([]byte, firstRecord)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], n)
	copy(b[16:], id[:])
	binary.LittleEndian.PutUint32(b[32:], checksum(b[:32]))
	copy(b[secondHeader:], b[:headerSize])
	return b
}

// errNoHeader says that the first block of a segment was never written whole.
var errNoHeader = errors.New("it does not begin like a segment")

func parseHeader(b []byte, n uint64) (id ID, o origin, err error) {
	if len(b) < headerSize || binary.LittleEndian.Uint32(b[32:]) != checksum(b[:32]) {
		return id, o, errNoHeader
	}
	if got := binary.LittleEndian.Uint64(b[8:]); got != n {
		return id, o, fmt.Errorf("it is segment %d", got)
	}
	copy(id[:], b[16:])
	switch string(b[:8]) {
	case segmentMagic:
		return id, id.of(n), nil
	case firstMagic:
		return id, origin{segment: n}, nil
	}
	return id, o, errNoHeader
}

// segment is one file of the log.
type segment struct {
	number uint64
	origin origin
	file   vfs.File
	end    int64 // behind the last record that is durable
	sealed bool

	// Of one that is appended to, for who writes.
	filled int64 // up to where the file has bytes
	fills  bool  // zeros may be written ahead
}

// hasSeal reports whether a segment ends with a seal.
func (s *segment) hasSeal() (bool, error) {
	at := s.end - Size(0, 0)
	if at < firstRecord {
		return false, nil
	}
	b := make([]byte, fixedSize)
	if _, err := s.file.ReadAt(b, at); err != nil && err != io.EOF {
		return false, err
	}
	f, err := parseFixed(b, s.origin)
	return err == nil && f.kind == sealKind && f.size() == fixedSize, nil
}

// folder is the folder of a log and what is in it.
type folder struct {
	fs   vfs.FS
	path string
}

func (d folder) file(name string) string { return d.path + "/" + name }

// list returns the numbers of the segments, in order, and the names of spares. It
// removes what a crash has left unfinished.
func (d folder) list() (numbers []uint64, spares []string, err error) {
	entries, err := d.fs.ReadDir(d.path)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		n, ok := segmentNumber(e.Name)
		switch {
		case e.Dir:
		case ok:
			numbers = append(numbers, n)
		case strings.HasPrefix(e.Name, sparePrefix):
			spares = append(spares, e.Name)
		case strings.HasPrefix(e.Name, newPrefix):
			if err := d.fs.Remove(d.file(e.Name)); err != nil {
				return nil, nil, err
			}
		}
	}
	slices.Sort(numbers)
	return numbers, spares, nil
}

// make makes the folder if it is not there, durably.
func (d folder) make(parent string) error {
	if err := d.fs.Mkdir(d.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.fs.SyncDir(parent)
}

// spare makes a file with room for a segment: durable, and its name too. Filling it ends
// early, with ErrClosed, when nobody needs it any more.
func (d folder) spare(name string, size int64, zero bool, closed func() bool) error {
	making := d.file(newPrefix + name)
	f, err := d.fs.OpenFile(making, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	if err = f.Preallocate(0, size); errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	if err == nil && zero {
		err = fill(f, size, closed)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.fs.Rename(making, d.file(sparePrefix+name))
	}
	if err != nil {
		if e := d.fs.Remove(making); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return err
	}
	return d.fs.SyncDir(d.path)
}

// fill writes zeros, so that what is written later changes no metadata.
func fill(f vfs.File, size int64, closed func() bool) error {
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if closed() {
			return ErrClosed
		}
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// begin makes a spare a segment: its header is durable before it has the name.
func (d folder) begin(spare string, n uint64, id ID) (*segment, error) {
	f, err := d.fs.OpenFile(d.file(spare), os.O_RDWR)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(header(n, id), 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.fs.Rename(d.file(spare), d.file(segmentName(n)))
	}
	if err == nil {
		err = d.fs.SyncDir(d.path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if planted.AckBeforeSync { // breaks: what was appended is on the disk when Append returns
		f = &late{File: f}
	}
	return &segment{number: n, origin: id.of(n), file: f, end: firstRecord}, nil
}

// readHeader returns what a segment's first block says: of which log it is, and what its
// records are bound to.
func readHeader(f vfs.File, n uint64) (ID, origin, error) {
	b := make([]byte, firstRecord)
	got, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return ID{}, origin{}, err
	}
	b = b[:got]
	id, o, err := parseHeader(b, n)
	if errors.Is(err, errNoHeader) && len(b) > secondHeader {
		id, o, err = parseHeader(b[secondHeader:], n)
	}
	return id, o, err
}

// isZero reports whether there is nothing but zeros.
func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// kindOf is the kind of an error of the file system.
func kindOf(err error) errs.Kind {
	if k := errs.KindOf(err); k != errs.Other {
		return k
	}
	if noSpace(err) {
		return errs.NoSpace
	}
	return errs.BadDevice
}
