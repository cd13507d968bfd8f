package blob

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"martlet/internal/planted"
	"martlet/internal/vfs"
)

// ReadHeader reads the header of a file. For a file that is not whole the error
// is ErrCorrupt, and the Header returned with it has the kind, hash and times if
// they could still be read; Kind is 0 if not.
func ReadHeader(f io.ReaderAt) (Header, error) {
	page := pages.Get().(*[]byte)
	defer pages.Put(page)
	n, err := f.ReadAt(*page, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, err
	}
	fx, err := parsePage(f, (*page)[:n])
	return fx.Header, err
}

// parsePage reads a header from its page, and from the footer what is there.
func parsePage(f io.ReaderAt, page []byte) (fixed, error) {
	fx, err := parseFixed(page)
	if err != nil {
		return fixed{}, err
	}
	if len(page) < PageSize || fx.pageCRC != checksum(page[fixedSize:PageSize]) {
		return fx, fmt.Errorf("%w: checksum of the first page", ErrCorrupt)
	}
	var text []byte
	if fx.flags&flagText == 0 {
		text = page[fixedSize : fixedSize+int(fx.textLen)]
	} else {
		text = make([]byte, fx.textLen)
		if err := readFull(f, text, PageSize+fx.Length); err != nil {
			return fx, err
		}
	}
	if checksum(text) != fx.textCRC {
		return fx, fmt.Errorf("%w: checksum of the text", ErrCorrupt)
	}
	return fx, fx.ParseText(text, nil)
}

// readFull reads all of p; a file that ends before is damaged.
func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	return full(int64(n), int64(len(p)), off, err)
}

// full is the error of a read from off on that had to bring want bytes, and brought n.
func full(n, want, off int64, err error) error {
	switch {
	case n >= want:
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: ends at byte %d", ErrCorrupt, off+n)
	}
	return err
}

// A Reader reads one file and hands out no byte whose block has not been
// checked. It holds one buffer of 264 KiB until it is closed, and in direct mode
// up to three of 1 MiB besides. It is not safe for concurrent use. It does not
// close the file.
type Reader struct {
	head fixed
	file source
	pool *class
	mem  *[]byte

	ahead ahead  // empty but in direct mode
	data  []byte // checked bytes
	at    int64  // offset of data among the object's bytes
	table []byte // of the page, or the page of the footer that was read last
	page  int64  // which page of the footer that is, -1 for none
}

// Open reads the header and with it the first block, of which nothing is handed
// out unchecked. It takes a buffer from bufs, which can block. Errors are those
// of ReadHeader; the Reader is then nil.
func Open(ctx context.Context, f io.ReaderAt, bufs *Buffers) (*Reader, Header, error) {
	return open(ctx, source{file: f}, bufs)
}

// OpenDirect is Open for a large file, which is read around the page cache and ahead,
// where the file system lets it. It has the file to itself until the Reader is closed.
func OpenDirect(ctx context.Context, f vfs.File, bufs *Buffers) (*Reader, Header, error) {
	s := source{file: f}
	if goDirect(f) {
		s.direct = f
	}
	return open(ctx, s, bufs)
}

func open(ctx context.Context, s source, bufs *Buffers) (*Reader, Header, error) {
	mem, err := bufs.small.take(ctx)
	if err != nil {
		return nil, Header{}, err
	}
	r := &Reader{file: s, pool: &bufs.small, mem: mem, ahead: ahead{pool: &bufs.large}, page: -1}
	if err := r.open(); err != nil {
		r.Close()
		return nil, r.head.Header, err
	}
	return r, r.head.Header, nil
}

func (r *Reader) open() error {
	front := (*r.mem)[:PageSize+BlockSize]
	n, err := r.file.readPages(front, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	front = front[:n]
	if r.head, err = parsePage(&r.file, front[:min(n, PageSize)]); err != nil {
		return err
	}
	if r.head.flags&flagTable == 0 {
		from := r.head.tableText
		r.table = append([]byte(nil), front[from:from+4*int(blocks(r.head.Length))]...)
	}
	want := min(r.head.Length, BlockSize)
	if want == 0 {
		return nil
	}
	if int64(n) < PageSize+want {
		return fmt.Errorf("%w: ends at byte %d", ErrCorrupt, n)
	}
	data := front[PageSize : PageSize+want]
	if err := r.check(data, 0); err != nil {
		return err
	}
	r.data, r.at = data, 0
	return nil
}

// View returns checked bytes of the object from off on: at least one, at most
// n, as many as come at once. They are valid until the next call. At the end of
// the object it returns io.EOF. ErrCorrupt means that a block is damaged.
//
// n is how much the caller is going to read from there on, however many calls
// that takes: nothing behind it is read, but for the rest of its block, and in
// direct mode what is before it is read while the caller is busy. Errors
// of that are those of the call that gets there.
func (r *Reader) View(off, n int64) ([]byte, error) {
	if off < 0 || n <= 0 {
		return nil, fmt.Errorf("a view of %d bytes from %d", n, off)
	}
	if off >= r.head.Length {
		return nil, io.EOF
	}
	n = min(n, r.head.Length-off)
	until := min((off+n+BlockSize-1)/BlockSize*BlockSize, r.head.Length)
	if off < r.at || off >= r.at+int64(len(r.data)) {
		if err := r.load(off/BlockSize*BlockSize, until); err != nil {
			r.ahead.drop()
			return nil, err
		}
	}
	if r.file.direct != nil {
		r.ahead.fill(r.file.file, r.at+int64(len(r.data)), until)
	}
	got := r.data[off-r.at:]
	return got[:min(n, int64(len(got)))], nil
}

// load gets and checks blocks from start on, not beyond until, as many as the buffer
// takes.
func (r *Reader) load(start, until int64) error {
	r.data = nil
	data, err := r.fetch(start, until)
	if err != nil {
		return err
	}
	for i := int64(0); i < int64(len(data)); i += BlockSize {
		if err := r.check(data[i:min(i+BlockSize, int64(len(data)))], (start+i)/BlockSize); err != nil {
			return err
		}
	}
	r.data, r.at = data, start
	return nil
}

// fetch returns what is in the file, from the piece that was read ahead if there is one.
func (r *Reader) fetch(start, until int64) ([]byte, error) {
	want := min(until-start, SmallMax)
	p := r.ahead.get(start)
	if p == nil && r.file.direct != nil {
		r.ahead.fill(r.file.file, start, until)
		p = r.ahead.get(start)
	}
	if p != nil && r.file.refused(p.err) {
		r.ahead.drop()
		if err := r.file.throughCache(); err != nil {
			return nil, err
		}
		p = nil
	}
	if p != nil {
		from := start - p.at
		want = min(want, p.size-from)
		return (*p.mem)[from : from+want], full(p.n, from+want, PageSize+p.at, p.err)
	}
	if r.file.direct == nil {
		data := (*r.mem)[:want]
		return data, readFull(&r.file, data, PageSize+start)
	}
	n, err := r.file.readPages((*r.mem)[:pageUp(want)], PageSize+start)
	return (*r.mem)[:want], full(int64(n), want, PageSize+start, err)
}

// check compares a block with the table.
func (r *Reader) check(data []byte, block int64) error {
	row := block
	if r.head.flags&flagTable != 0 {
		row = block % perPage
		if err := r.loadTable(block / perPage); err != nil {
			return err
		}
	}
	if binary.LittleEndian.Uint32(r.table[4*row:]) != checksum(data) && !planted.ChecksumIgnored { // breaks: the same of files
		return fmt.Errorf("%w: checksum of block %d", ErrCorrupt, block)
	}
	return nil
}

func (r *Reader) loadTable(page int64) error {
	if r.page == page {
		return nil
	}
	if r.table == nil {
		r.table = make([]byte, tablePage)
	}
	r.page = -1
	if err := readFull(&r.file, r.table, r.head.tableAt+page*tablePage); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(r.table[4*perPage:]) != checksum(r.table[:4*perPage]) {
		return fmt.Errorf("%w: checksum of page %d of the table", ErrCorrupt, page)
	}
	r.page = page
	return nil
}

// Close gives the buffers back, once nothing is read into them any more. It may be
// called again.
func (r *Reader) Close() {
	r.ahead.drop()
	if r.mem == nil {
		return
	}
	r.pool.give(r.mem)
	r.mem, r.data, r.head.Length = nil, nil, 0
}
