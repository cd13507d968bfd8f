package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"

	"martlet/internal/errs"
	"martlet/internal/planted"
)

// Read reads the record at a position into buf, which it grows if it must: size is
// that of the record, from [Size]. The record's parts are in what is returned as buf.
// Everything is checked. It is one read of the file. The error is of kind
// errs.NotFound where the segment is gone, and errs.Corrupt where there is no such
// record, or what is there does not fit its checksums.
func (l *Log) Read(at Position, size int64, buf []byte) (r Record, into []byte, err error) {
	const op errs.Op = "seglog.read"
	s, end := l.segment(at.Segment)
	if s == nil {
		return r, buf, errs.E(op, errs.Subject(at.String()), errs.NotFound, "there is no such segment")
	}
	if at.Offset < firstRecord || size < fixedSize || size > Size(MaxHead, MaxBody) || at.Offset+size > end {
		return r, buf, errs.E(op, errs.Subject(at.String()), errs.Corrupt, fmt.Errorf("%d bytes are not in a segment of %d", size, end))
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if n, err := s.file.ReadAt(buf, at.Offset); err != nil && (err != io.EOF || int64(n) < size) {
		if errors.Is(err, fs.ErrClosed) {
			return r, buf, errs.E(op, errs.Subject(at.String()), errs.NotFound, err)
		}
		return r, buf, errs.E(op, errs.Subject(at.String()), kindOf(err), err)
	}
	r, err = parse(buf, s.origin)
	if err != nil {
		return r, buf, errs.E(op, errs.Subject(at.String()), errs.Corrupt, err)
	}
	return r, buf, nil
}

// frontGuess is how many bytes of a record are read for its head: nearly all heads
// are shorter.
const frontGuess = 1024

// Head is Read without the body, which is not looked at: only its length is returned.
// It is one read of the file for all but very long heads.
func (l *Log) Head(at Position, size int64, buf []byte) (r Record, body int64, into []byte, err error) {
	const op errs.Op = "seglog.head"
	fail := func(kind errs.Kind, err error) (Record, int64, []byte, error) {
		return Record{}, 0, buf, errs.E(op, errs.Subject(at.String()), kind, err)
	}
	s, end := l.segment(at.Segment)
	if s == nil {
		return fail(errs.NotFound, errors.New("there is no such segment"))
	}
	if at.Offset < firstRecord || size < fixedSize || size > Size(MaxHead, MaxBody) || at.Offset+size > end {
		return fail(errs.Corrupt, fmt.Errorf("%d bytes are not in a segment of %d", size, end))
	}
	for want := min(size, frontGuess); ; {
		if int64(cap(buf)) < want {
			buf = make([]byte, want)
		}
		buf = buf[:want]
		if n, err := s.file.ReadAt(buf, at.Offset); err != nil && (err != io.EOF || int64(n) < want) {
			if errors.Is(err, fs.ErrClosed) {
				return fail(errs.NotFound, err)
			}
			return fail(kindOf(err), err)
		}
		f, err := parseFixed(buf, s.origin)
		if err != nil {
			return fail(errs.Corrupt, err)
		}
		if f.size() != size {
			return fail(errs.Corrupt, recordError(fmt.Sprintf("it has %d bytes, not %d", f.size(), size)))
		}
		if f.before() > want {
			want = f.before()
			continue
		}
		if checksum(buf[fixedSize:f.before()]) != f.content {
			return fail(errs.Corrupt, recordError("the checksum of its head does not fit"))
		}
		return Record{Kind: f.kind, Key: f.key, Head: buf[fixedSize : fixedSize+f.head]}, f.body, buf, nil
	}
}

// Forget has what is in memory of a segment dropped, so that it is read from the disk.
func (l *Log) Forget(n uint64) {
	s, _ := l.segment(n)
	if s == nil {
		return
	}
	if err := s.file.DropCache(0, 0); err != nil {
		l.cfg.Log.Debug("page cache was not dropped", slog.Any("err", err)) // it is advice
	}
}

// Raw returns the bytes of a record as they are, damaged or not, for who wants to look
// at them: fewer than size where the disk gives no more.
func (l *Log) Raw(at Position, size int64) ([]byte, error) {
	s, end := l.segment(at.Segment)
	if s == nil || at.Offset < 0 || size < 0 || size > Size(MaxHead, MaxBody) {
		return nil, errs.E(errs.Op("seglog.raw"), errs.Subject(at.String()), errs.NotFound, "there is no such place")
	}
	b := make([]byte, max(0, min(size, end-at.Offset)))
	n, err := s.file.ReadAt(b, at.Offset)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// parse reads a whole record of a segment.
func parse(b []byte, o origin) (r Record, err error) {
	f, err := parseFixed(b, o)
	if err != nil {
		return r, err
	}
	if f.size() != int64(len(b)) {
		return r, recordError(fmt.Sprintf("it has %d bytes, not %d", f.size(), len(b)))
	}
	front := b[:f.before()]
	if checksum(front[fixedSize:]) != f.content {
		return r, recordError("the checksum of its head does not fit")
	}
	body := b[f.before():][:f.body]
	table := front[fixedSize+f.head:]
	for rest := body; len(rest) > 0; {
		n := min(len(rest), BlockSize)
		if checksum(rest[:n]) != binary.LittleEndian.Uint32(table) && !planted.ChecksumIgnored { // breaks: no byte is handed out whose checksum does not match
			return r, recordError(fmt.Sprintf("bytes from %d on of its body do not fit their checksum", len(body)-len(rest)))
		}
		rest, table = rest[n:], table[4:]
	}
	if !isZero(b[f.before()+f.body:]) {
		return r, recordError("what fills it up is not zero")
	}
	return Record{Kind: f.kind, Key: f.key, Head: front[fixedSize : fixedSize+f.head], Body: body}, nil
}

// Remove removes a segment that is not appended to, of which nobody needs anything
// any more. It is gone durably when it returns. The error is of kind errs.NotFound
// where there is none, and errs.Conflict where it is appended to.
func (l *Log) Remove(n uint64) error {
	const op errs.Op = "seglog.remove"
	l.mu.Lock()
	s := l.segments[n]
	if s == nil || !s.sealed {
		l.mu.Unlock()
		if s == nil {
			return errs.E(op, errs.NotFound, fmt.Errorf("there is no segment %d", n))
		}
		return errs.E(op, errs.Conflict, fmt.Errorf("segment %d is appended to", n))
	}
	delete(l.segments, n)
	l.mu.Unlock()
	err := l.dir.fs.Remove(l.dir.file(segmentName(n)))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = l.dir.fs.SyncDir(l.dir.path)
	}
	if err = errors.Join(err, s.file.Close()); err != nil {
		return errs.E(op, errs.Subject(l.dir.file(segmentName(n))), kindOf(err), err)
	}
	return nil
}
