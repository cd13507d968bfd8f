package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// A Writer makes one blob file. The file has no name until Link, so nothing
// that goes wrong before leaves anything behind. It uses one buffer and four
// bytes of memory for each block, whatever the length. It is not safe for
// concurrent use, and must be closed.
type Writer struct {
	fs   vfs.FS
	file vfs.File
	pool *class
	mem  *[]byte
	buf  []byte // the data from base on

	base   int64 // how much data is in the file
	n      int   // how much of buf is filled
	size   int64 // as announced, -1 where it was not
	limit  int64 // no more data than that
	about  int64 // what was said of data that was not announced, 0 for nothing
	room   int64 // up to which offset some may be reserved
	direct bool
	padded bool // the file is longer than it should be
	sealed bool
	sums   summer
	next   [1]byte // what comes where nothing should
	err    error   // the first failure: all that follows fails for it
}

// Create begins a file on the file system of dir for size bytes of data, -1
// where the size is not known. It takes a buffer from bufs, which can block.
// Room is reserved where the size is known and takes more than one write; that it is not there
// is an error (ENOSPC).
func Create(ctx context.Context, fs vfs.FS, dir string, size int64, bufs *Buffers) (*Writer, error) {
	return create(ctx, fs, dir, size, 0, bufs)
}

// CreateAbout is Create for data whose size is not known, of which somebody has said that it is going to be about so much. It
// is no error that it is not. Room is reserved for it as it comes, reserveAhead bytes ahead at most: neither does
// what nobody sends keep others from the room, nor is it an error that there is none before it is needed.
func CreateAbout(ctx context.Context, fs vfs.FS, dir string, about int64, bufs *Buffers) (*Writer, error) {
	return create(ctx, fs, dir, -1, about, bufs)
}

// reserveAhead is how many bytes behind what has come are reserved for what may come.
const reserveAhead = 64 << 20

func create(ctx context.Context, fs vfs.FS, dir string, size, about int64, bufs *Buffers) (*Writer, error) {
	if size > MaxLength {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooMuch, size)
	}
	w := &Writer{fs: fs, pool: &bufs.large, size: size, limit: size, about: min(max(about, 0), MaxLength)}
	if size < 0 {
		w.limit = MaxLength
	} else if size <= SmallMax {
		w.pool = &bufs.small
	}
	var err error
	if w.mem, err = w.pool.take(ctx); err != nil {
		return nil, err
	}
	w.buf = *w.mem
	if w.file, err = fs.CreateUnnamed(dir); err == nil && size > int64(len(w.buf)) {
		w.sums.table = make([]uint32, 0, blocks(size))
		err = w.reserve(PageSize + size + tableRoom(size))
	}
	if err != nil {
		return nil, errors.Join(err, w.release())
	}
	return w, nil
}

// tableRoom is how much a table that certainly has no room in the page takes.
func tableRoom(size int64) int64 {
	if 4*blocks(size) > room {
		return tablePages(size) * tablePage
	}
	return 0
}

func (w *Writer) reserve(n int64) error {
	err := w.file.Preallocate(0, n)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	w.room = n
	return err
}

// reserveNext reserves room for what is about to be written, and for some of what was said to come behind it.
func (w *Writer) reserveNext() {
	end, at := PageSize+w.about+tableRoom(w.about), w.offset()
	if w.about == 0 || w.room >= end || at+int64(len(w.buf)) <= w.room {
		return
	}
	from := w.room
	if w.base > 0 {
		from = max(from, at)
	}
	until := min(from+reserveAhead, end)
	if until <= from {
		return
	}
	w.room = until // also where it fails: some of it may have been reserved
	if err := w.file.Preallocate(from, until-from); err != nil {
		w.about = 0 // it is for the write to say what is wrong
	}
}

// Length returns how many bytes were written.
func (w *Writer) Length() int64 { return w.sums.length }

// Unwritten returns all the data while nothing of it has been written to the file, else nil. It is good until the writer is
// closed or anything is done with it.
func (w *Writer) Unwritten() []byte {
	if w.base > 0 || w.sealed || w.err != nil {
		return nil
	}
	return w.buf[:w.n:w.n]
}

// offset is where in the file the data in the buffer begins.
func (w *Writer) offset() int64 { return PageSize + w.base }

// CRC returns the CRC32C of what was written.
func (w *Writer) CRC() uint32 { return w.sums.sum() }

// Write appends data. After an error the writer can only be closed.
func (w *Writer) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if err := w.makeRoom(); err != nil {
			return done, err
		}
		n := copy(w.buf[w.n:], p[done:])
		if err := w.took(n); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// ReadError is what ReadFrom returns where reading failed, not writing.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return "reading the body: " + e.Err.Error() }

// Unwrap returns what the reader said.
func (e *ReadError) Unwrap() error { return e.Err }

// ReadFrom appends what r has until io.EOF, reading into the buffer that is
// written to disk. A failure of r is a *ReadError.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	idle := 0
	for {
		n, err := w.readOnce(r)
		total += int64(n)
		if w.err != nil {
			return total, w.err
		}
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			w.err = &ReadError{err}
			return total, w.err
		case n > 0:
			idle = 0
		default:
			if idle++; idle > 100 {
				w.err = &ReadError{io.ErrNoProgress}
				return total, w.err
			}
		}
	}
}

// readOnce reads once. A full buffer is written before more comes, but for what was said to be all: so much is written
// together with what belongs around it, once nothing comes behind it.
func (w *Writer) readOnce(r io.Reader) (n int, err error) {
	if w.n == len(w.buf) && w.err == nil && (w.sums.length == w.size || w.sums.length == w.about) {
		if n, err = r.Read(w.next[:]); n > 0 {
			n, w.err = w.Write(w.next[:])
		}
		return n, err
	}
	if w.makeRoom() != nil {
		return 0, w.err
	}
	n, err = r.Read(w.buf[w.n:])
	_ = w.took(n) // it is in w.err
	return n, err
}

// makeRoom makes sure that there is room in the buffer. That of a small object
// is never full: took refuses what is more than was announced.
func (w *Writer) makeRoom() error {
	if w.err == nil && w.n == len(w.buf) {
		w.err = w.flush()
	}
	return w.err
}

// took counts n bytes that were put into the buffer.
func (w *Writer) took(n int) error {
	if w.err != nil {
		return w.err
	}
	if w.sums.length+int64(n) > w.limit {
		w.err = fmt.Errorf("%w: more than %d bytes", ErrTooMuch, w.limit)
		return w.err
	}
	w.sums.add(w.buf[w.n : w.n+n])
	w.n += n
	return nil
}

// flush writes a full buffer and begins the next.
func (w *Writer) flush() error {
	if w.base == 0 {
		w.direct = goDirect(w.file)
	}
	w.reserveNext()
	if err := w.write([][]byte{w.buf}, w.offset()); err != nil {
		return err
	}
	w.base += int64(len(w.buf))
	w.n = 0
	return nil
}

// write writes parts one behind the other, through the page cache where the file system turns out not to
// want it directly.
func (w *Writer) write(parts [][]byte, off int64) error {
	_, err := w.file.WriteVec(parts, off)
	if err != nil && w.direct && errors.Is(err, syscall.EINVAL) {
		if err = w.file.SetDirect(false); err == nil {
			w.direct = false
			_, err = w.file.WriteVec(parts, off)
		}
	}
	return err
}

// Seal writes what is still in memory, the footer and the header, and syncs the
// file. Hash, kind, times and text are h's; length and checksums the writer's
// own. When it returns nil the file is whole and on stable storage, and has no
// name.
func (w *Writer) Seal(h Header) error {
	const op errs.Op = "blob.seal"
	switch {
	case w.err != nil:
		return w.err
	case w.sealed:
		return errs.E(op, "sealed already")
	case w.size >= 0 && w.size != w.sums.length:
		w.err = fmt.Errorf("%d bytes of %d: %w", w.sums.length, w.size, io.ErrUnexpectedEOF)
		return w.err
	}
	w.sums.finish()
	h.Length, h.CRC = w.sums.length, w.sums.whole
	text := h.AppendText(make([]byte, 0, 512))
	if len(text) > MaxText {
		w.err = fmt.Errorf("%w: %d bytes of text", ErrTooMuch, len(text))
		return w.err
	}
	l := layoutOf(len(text), h.Length)
	footer := appendFooter(nil, text, w.sums.table, l)
	w.err = w.finish(&h, text, footer)
	if end := PageSize + h.Length + l.footer; w.err == nil && (w.padded || w.room > pageUp(end)) {
		w.err = w.file.Truncate(end)
	}
	if w.err == nil {
		w.err = w.file.Sync()
	}
	w.sealed = w.err == nil
	return w.err
}

// finish writes what is still in memory: all of it with one call where nothing was written yet, else
// the header with another one.
func (w *Writer) finish(h *Header, text, footer []byte) error {
	page := pages.Get().(*[]byte)
	defer pages.Put(page)
	h.encode(*page, text, w.sums.table)
	if w.base > 0 {
		if parts := w.tail(footer); len(parts[0]) > 0 {
			if err := w.write(parts, w.offset()); err != nil {
				return err
			}
		}
		return w.write([][]byte{*page}, 0)
	}
	if h.Length <= SmallMax {
		return w.write([][]byte{*page, w.buf[:w.n], footer}, 0)
	}
	w.direct = goDirect(w.file)
	return w.write(append([][]byte{*page}, w.tail(footer)...), 0)
}

// tail is the rest of the data and the footer as direct I/O wants them: padded with zeros to whole pages. The file is cut to its
// length afterwards.
func (w *Writer) tail(footer []byte) [][]byte {
	n := copy(w.buf[w.n:], footer)
	w.n += n
	rest := footer[n:]
	end := int(pageUp(int64(w.n)))
	clear(w.buf[w.n:end])
	w.padded = end != w.n || len(rest)%PageSize != 0
	parts := [][]byte{w.buf[:end]}
	if len(rest) > 0 {
		more := vfs.AlignedBuffer(int(pageUp(int64(len(rest)))), PageSize)
		copy(more, rest)
		parts = append(parts, more)
	}
	return parts
}

// Link gives the sealed file its name, which must be free. The name is not
// durable before the directory is synced.
func (w *Writer) Link(name string) error {
	if !w.sealed {
		return errs.E(errs.Op("blob.link"), "not sealed")
	}
	return w.fs.Link(w.file, name)
}

// Close ends the writer. A file that was not linked is gone. It may be called
// again.
func (w *Writer) Close() error {
	if w.err == nil {
		w.err = errs.E(errs.Op("blob.write"), "closed")
	}
	return w.release()
}

func (w *Writer) release() error {
	if w.mem != nil {
		w.pool.give(w.mem)
		w.mem, w.buf = nil, nil
	}
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file = nil
	return f.Close()
}

// Put writes a file that has no data: a tombstone, metadata, a mark. It is
// whole and on stable storage when Put returns it without an error, and has no
// name.
func Put(fs vfs.FS, dir string, h Header) (vfs.File, error) {
	text := h.AppendText(make([]byte, 0, 512))
	if len(text) > MaxText {
		return nil, fmt.Errorf("%w: %d bytes of text", ErrTooMuch, len(text))
	}
	h.Length, h.CRC, h.MD5 = 0, 0, [16]byte{}
	page := pages.Get().(*[]byte)
	defer pages.Put(page)
	h.encode(*page, text, nil)
	f, err := fs.CreateUnnamed(dir)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteVec([][]byte{*page, appendFooter(nil, text, nil, layoutOf(len(text), 0))}, 0)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
