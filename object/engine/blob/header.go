package blob

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// Sizes of the format.
const (
	PageSize  = 4096
	BlockSize = 64 << 10

	// MaxText bounds what is said of one object, in bytes: name, content type and
	// fields. It is far above what requests may carry.
	MaxText = 256 << 10

	// MaxLength bounds the data of one file, in bytes.
	MaxLength = 1 << 46
)

const (
	magic     = "martblb"
	version   = 1
	fixedSize = 192
	room      = PageSize - fixedSize

	flagText, flagTable = 1, 2

	tablePage = 4096
	perPage   = tablePage/4 - 1 // checksums in a page of the table
)

// Kind says what a file is about.
type Kind uint8

// The kinds of files.
const (
	Data      Kind = 1 // an object
	Tombstone Kind = 2 // the record of a delete
	Meta      Kind = 3 // a later content type, later metadata, or both
	Lost      Kind = 4 // what stood here was damaged and is in quarantine
)

// Errors of this package.
var (
	// ErrCorrupt is returned for a file that is not what Seal left: damaged,
	// torn, truncated, or no such file at all.
	ErrCorrupt = errors.New("damaged")
	// ErrLater is returned for a file of a later format than is known here: it is whole, and what it holds is for
	// a later release. The error is of kind errs.BadDevice: others may have it in a form that can be read.
	ErrLater = errs.E(errs.BadDevice, "the file is of a later format")
	// ErrTooMuch is returned for text over MaxText or data over MaxLength or over
	// the announced size.
	ErrTooMuch = errors.New("too large for its file")
)

// Header is everything in a file but its data.
type Header struct {
	Kind Kind
	Hash name.Hash

	// Time is that of the data or the tombstone; ContentTypeTime and MetaTime
	// are those of the other parts. Those that a kind does not have are zero.
	Time, ContentTypeTime, MetaTime timestamp.T

	Length int64    // of the data in bytes
	MD5    [16]byte // of the data, as told
	CRC    uint32   // CRC32C of the data

	Name        name.Path
	ContentType string
	System      backend.Header // fields that stay as long as the data
	Meta        backend.Header // fields that an update replaces
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

func blocks(length int64) int64 { return (length + BlockSize - 1) / BlockSize }

func tablePages(length int64) int64 { return (blocks(length) + perPage - 1) / perPage }

// layout says where text and table are.
type layout struct {
	flags     byte
	footer    int64 // length
	tableAt   int64 // offset in the file of the table or of its first page
	tableText int   // offset in the page of a table that fits
}

func layoutOf(text int, length int64) layout {
	var l layout
	free := room
	if text > free {
		l.flags |= flagText
		l.footer = int64(text)
	} else {
		free -= text
		l.tableText = fixedSize + text
	}
	if l.flags&flagText != 0 {
		l.tableText = fixedSize
	}
	l.tableAt = int64(l.tableText)
	if 4*blocks(length) > int64(free) {
		l.flags |= flagTable
		l.tableAt = PageSize + length + l.footer
		l.footer += tablePages(length) * tablePage
	}
	return l
}

// AppendText appends the text of a header, as the package's comment describes it.
func (h *Header) AppendText(b []byte) []byte {
	for _, s := range []string{h.Name.Account, h.Name.Container, h.Name.Object, h.ContentType} {
		b = appendString(b, s)
	}
	for _, fields := range []backend.Header{h.System, h.Meta} {
		b = binary.AppendUvarint(b, uint64(len(fields)))
		for _, f := range fields {
			b = appendString(appendString(b, f.Name), f.Value)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// cutter reads a text from its front. After an error everything it yields is empty.
type cutter struct {
	s   string
	bad bool
}

func (c *cutter) number() uint64 {
	var n uint64
	for i := 0; i < len(c.s) && i < binary.MaxVarintLen32; i++ {
		n |= uint64(c.s[i]&0x7f) << (7 * i)
		if c.s[i] < 0x80 {
			c.s = c.s[i+1:]
			return n
		}
	}
	c.bad, c.s = true, ""
	return 0
}

func (c *cutter) text() string {
	n := c.number()
	if n > uint64(len(c.s)) {
		c.bad, c.s = true, ""
		return ""
	}
	s := c.s[:n]
	c.s = c.s[n:]
	return s
}

// count reads how many fields follow.
func (c *cutter) count() int {
	n := c.number()
	if n > uint64(len(c.s))/2 { // each takes two bytes at least
		c.bad, c.s = true, ""
		return 0
	}
	return int(n)
}

// lists reads two lists of fields into one piece of memory: into room, if they fit.
func (c *cutter) lists(room backend.Header) (a, b backend.Header) {
	n := c.count()
	behind := *c
	for range 2 * n {
		behind.text()
	}
	m := behind.count()
	if behind.bad || n+m == 0 {
		c.bad, c.s = behind.bad, behind.s
		return nil, nil
	}
	all := room
	if n+m > cap(room) {
		all = make(backend.Header, n+m)
	}
	all = all[: n+m : n+m]
	for i := range all {
		if i == n {
			c.count()
		}
		all[i].Name, all[i].Value = c.text(), c.text()
	}
	if m == 0 {
		c.count()
	}
	if n > 0 {
		a = all[:n:n]
	}
	if m > 0 {
		b = all[n:]
	}
	return a, b
}

// ParseText fills in what a text says that AppendText wrote; the fields of headers are in
// room, if they fit into what it could hold. The error wraps ErrCorrupt.
func (h *Header) ParseText(text []byte, room backend.Header) error {
	c := cutter{s: string(text)}
	h.Name = name.Path{Account: c.text(), Container: c.text(), Object: c.text()}
	h.ContentType = c.text()
	h.System, h.Meta = c.lists(room)
	if c.bad || c.s != "" {
		return fmt.Errorf("%w: text of the header", ErrCorrupt)
	}
	return nil
}

// encode fills page with the header and, where it fits, text and table. It
// clears what is left of page.
func (h *Header) encode(page, text []byte, table []uint32) {
	le := binary.LittleEndian
	clear(page)
	l := layoutOf(len(text), h.Length)
	copy(page, magic)
	page[7], page[8], page[9] = version, byte(h.Kind), l.flags
	le.PutUint32(page[12:], BlockSize)
	copy(page[16:], h.Hash[:])
	for i, t := range []timestamp.T{h.Time, h.ContentTypeTime, h.MetaTime} {
		le.PutUint64(page[32+16*i:], uint64(t.Ticks()))
		le.PutUint64(page[40+16*i:], t.Offset())
	}
	le.PutUint64(page[80:], uint64(h.Length))
	copy(page[88:], h.MD5[:])
	le.PutUint32(page[104:], h.CRC)
	le.PutUint32(page[108:], uint32(len(text)))
	le.PutUint32(page[112:], checksum(text))
	if l.footer > 0 {
		le.PutUint64(page[120:], uint64(PageSize+h.Length))
		le.PutUint64(page[128:], uint64(l.footer))
	}
	if l.flags&flagText == 0 {
		copy(page[fixedSize:], text)
	}
	if l.flags&flagTable == 0 {
		for i, c := range table {
			le.PutUint32(page[l.tableText+4*i:], c)
		}
	}
	le.PutUint32(page[184:], checksum(page[fixedSize:PageSize]))
	le.PutUint32(page[188:], checksum(page[:188]))
}

// appendFooter appends what had no room in the page.
func appendFooter(b, text []byte, table []uint32, l layout) []byte {
	if l.flags&flagText != 0 {
		b = append(b, text...)
	}
	if l.flags&flagTable == 0 {
		return b
	}
	for len(table) > 0 {
		n := min(perPage, len(table))
		from := len(b)
		for _, c := range table[:n] {
			b = binary.LittleEndian.AppendUint32(b, c)
		}
		b = append(b, make([]byte, 4*(perPage-n))...)
		b = binary.LittleEndian.AppendUint32(b, checksum(b[from:]))
		table = table[n:]
	}
	return b
}

// fixed is the part of the page with a checksum of its own.
type fixed struct {
	Header
	layout
	textLen uint32
	textCRC uint32
	pageCRC uint32
}

func parseFixed(page []byte) (fixed, error) {
	le := binary.LittleEndian
	if len(page) < fixedSize || string(page[:7]) != magic {
		return fixed{}, fmt.Errorf("%w: no header", ErrCorrupt)
	}
	if le.Uint32(page[188:]) != checksum(page[:188]) {
		return fixed{}, fmt.Errorf("%w: checksum of the header", ErrCorrupt)
	}
	if page[7] > version { // every format has its first checksum where this one has it
		return fixed{}, fmt.Errorf("%w: %d", ErrLater, page[7])
	}
	if page[7] != version || le.Uint32(page[12:]) != BlockSize {
		return fixed{}, fmt.Errorf("%w: format version %d is not known", ErrCorrupt, page[7])
	}
	f := fixed{
		textLen: le.Uint32(page[108:]),
		textCRC: le.Uint32(page[112:]),
		pageCRC: le.Uint32(page[184:]),
	}
	f.Kind = Kind(page[8])
	copy(f.Hash[:], page[16:])
	ok := f.Kind >= Data && f.Kind <= Lost && f.textLen <= MaxText
	for i, t := range []*timestamp.T{&f.Time, &f.ContentTypeTime, &f.MetaTime} {
		ticks := le.Uint64(page[32+16*i:])
		*t = timestamp.FromTicks(int64(ticks)).WithOffset(le.Uint64(page[40+16*i:]))
		ok = ok && t.Ticks() == int64(ticks)
	}
	f.Length = int64(le.Uint64(page[80:]))
	copy(f.MD5[:], page[88:])
	f.CRC = le.Uint32(page[104:])
	ok = ok && f.Length >= 0 && f.Length <= MaxLength && (f.Kind == Data || f.Length == 0)
	if !ok {
		return fixed{}, fmt.Errorf("%w: a field of the header is out of range", ErrCorrupt)
	}
	f.layout = layoutOf(int(f.textLen), f.Length)
	var at int64
	if f.footer > 0 {
		at = PageSize + f.Length
	}
	if page[9] != f.flags || le.Uint64(page[120:]) != uint64(at) || le.Uint64(page[128:]) != uint64(f.footer) {
		return fixed{}, fmt.Errorf("%w: layout of the header", ErrCorrupt)
	}
	return f, nil
}
