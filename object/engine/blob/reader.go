package blob

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: ends at byte %d", ErrCorrupt, off+int64(n))
	}
	return err
}

// A Reader reads one file and hands out no byte whose block has not been
// checked. It holds one buffer of 264 KiB until it is closed. It is not safe
// for concurrent use. It does not close the file.
type Reader struct {
	head fixed
	file io.ReaderAt
	pool *class
	mem  *[]byte

	data  []byte // checked bytes
	at    int64  // offset of data among the object's bytes
	table []byte // of the page, or the page of the footer that was read last
	page  int64  // which page of the footer that is, -1 for none
}

// Open reads the header and with it the first block, of which nothing is handed
// out unchecked. It takes a buffer from bufs, which can block. Errors are those
// of ReadHeader; the Reader is then nil.
func Open(ctx context.Context, f io.ReaderAt, bufs *Buffers) (*Reader, Header, error) {
	mem, err := bufs.small.take(ctx)
	if err != nil {
		return nil, Header{}, err
	}
	r := &Reader{file: f, pool: &bufs.small, mem: mem, page: -1}
	if err := r.open(); err != nil {
		r.Close()
		return nil, r.head.Header, err
	}
	return r, r.head.Header, nil
}

func (r *Reader) open() error {
	front := (*r.mem)[:PageSize+BlockSize]
	n, err := r.file.ReadAt(front, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	front = front[:n]
	if r.head, err = parsePage(r.file, front[:min(n, PageSize)]); err != nil {
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
func (r *Reader) View(off, n int64) ([]byte, error) {
	if off < 0 || n <= 0 {
		return nil, fmt.Errorf("a view of %d bytes from %d", n, off)
	}
	if off >= r.head.Length {
		return nil, io.EOF
	}
	if off < r.at || off >= r.at+int64(len(r.data)) {
		if err := r.load(off, n); err != nil {
			return nil, err
		}
	}
	got := r.data[off-r.at:]
	return got[:min(n, int64(len(got)))], nil
}

// load reads and checks the blocks that cover n bytes from off, as many as the
// buffer takes.
func (r *Reader) load(off, n int64) error {
	first := off / BlockSize
	last := (min(n, r.head.Length-off) + off - 1) / BlockSize
	start := first * BlockSize
	end := min((last+1)*BlockSize, r.head.Length, start+SmallMax)
	data := (*r.mem)[:end-start]
	r.data = nil
	if err := readFull(r.file, data, PageSize+start); err != nil {
		return err
	}
	for i := int64(0); i < int64(len(data)); i += BlockSize {
		if err := r.check(data[i:min(i+BlockSize, int64(len(data)))], first+i/BlockSize); err != nil {
			return err
		}
	}
	r.data, r.at = data, start
	return nil
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
	if binary.LittleEndian.Uint32(r.table[4*row:]) != checksum(data) {
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
	if err := readFull(r.file, r.table, r.head.tableAt+page*tablePage); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(r.table[4*perPage:]) != checksum(r.table[:4*perPage]) {
		return fmt.Errorf("%w: checksum of page %d of the table", ErrCorrupt, page)
	}
	r.page = page
	return nil
}

// Close gives the buffer back. It may be called again.
func (r *Reader) Close() {
	if r.mem == nil {
		return
	}
	r.pool.give(r.mem)
	r.mem, r.data, r.head.Length = nil, nil, 0
}
