// Package rowbatch carries many updates of listings to one account or container
// server in one request, with an answer for each.
//
// An update is what object servers tell container servers, and those account
// servers: a PUT or DELETE of a row, a header and no body. A Sender sends it by
// itself as long as nothing else is under way to that server, and together with
// what has come meanwhile where something is. The servers take such a request
// apart and treat each update as if it had come alone; Swift's, and older ones,
// know no such request and get each update by itself.
//
// Request and answer are taken whole or not at all: each has a count and a CRC32C
// of everything before. All is bounded, every content has one encoding, and no
// input makes a parser panic or allocate more than a small multiple of that input.
//
// The layout, numbers in big-endian order, a text behind its length in two bytes:
//
//	request  "MRB" version(1) 'q' wait(4) count(2) updates... CRC32C(4)
//	update   method(1) path fields(2) (name value)...
//	answer   "MRB" version(1) 'a' count(2) results... CRC32C(4)
//	result   status(2) late(1) text
//
// Wait is in milliseconds. Method is 'P' or 'D'; a path is percent-encoded as it
// is in a request of its own, and names device and partition as well.
package rowbatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"martlet/internal/backend"
)

// Method and Path are those of the request. No path of Swift's has so few parts,
// and no server of Swift's has such a method.
const (
	Method = "BATCH"
	Path   = "/rows"

	// Type is the content type of request and answer.
	Type = "application/x-martlet-rows"
)

// What a request, and an answer, may hold.
const (
	MaxUpdates = 1024
	MaxBytes   = 1 << 20

	maxFields = 256
	maxUpdate = 64 << 10 // bytes of one update
	maxText   = 256      // bytes of the text in a result
)

// ErrFormat is wrapped by the errors about what can't be taken.
var ErrFormat = errors.New("bad batch of rows")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// Update is one row to put or delete.
type Update struct {
	Method string // PUT or DELETE
	Path   string // percent-encoded, with device and partition
	Header backend.Header
}

// Batch is a request.
type Batch struct {
	// Wait is how long the sender has for the whole of the answer: what is not
	// done then is answered as late. It is kept to a millisecond; 0 is for ever.
	Wait    time.Duration
	Updates []Update
}

// Result is what became of one update, in the order of the request.
type Result struct {
	Status int    // as it would be if the update had come alone
	Late   bool   // it was begun and not done in time, and may yet be
	Text   string // for who reads the log; long ones are cut
}

const (
	magic      = "MRB"
	version    = 1
	request    = 'q'
	answer     = 'a'
	headSize   = len(magic) + 2
	sumSize    = 4
	put        = 'P'
	del        = 'D'
	updateSize = 1 + 2 + 2 // without texts and fields
	resultSize = 2 + 1 + 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (u *Update) append(b []byte) []byte {
	m := byte(put)
	if u.Method == "DELETE" {
		m = del
	}
	b = appendText(append(b, m), u.Path)
	b = binary.BigEndian.AppendUint16(b, uint16(len(u.Header)))
	for _, f := range u.Header {
		b = appendText(appendText(b, f.Name), f.Value)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// size is that of the encoded update, in bytes.
func (u *Update) size() int {
	n := updateSize + len(u.Path)
	for _, f := range u.Header {
		n += 4 + len(f.Name) + len(f.Value)
	}
	return n
}

// fits reports whether an update can be in a batch: it would be taken if it came
// alone, and is not too large.
func (u *Update) fits() bool {
	return u.check() == nil && u.size() <= maxUpdate
}

// check holds an update against what a request of its own may be.
func (u *Update) check() error {
	if u.Method != "PUT" && u.Method != "DELETE" {
		return bad("method %.20q", u.Method)
	}
	if !strings.HasPrefix(u.Path, "/") || strings.ContainsFunc(u.Path, notInPath) {
		return bad("path %.100q", u.Path)
	}
	if len(u.Header) > maxFields {
		return bad("%d header fields", len(u.Header))
	}
	for _, f := range u.Header {
		if !f.Valid() {
			return bad("header field %.100q: %.100q", f.Name, f.Value)
		}
	}
	return nil
}

// notInPath reports whether servers do not take a byte in the path of a request.
func notInPath(r rune) bool { return r <= ' ' || r == 0x7f || r == '?' || r == '#' }

// Append appends the encoded request to b, which must be empty. What a parser
// would refuse is an error.
func (r *Batch) Append(b []byte) ([]byte, error) {
	if len(b) != 0 {
		return b, bad("it does not begin at the beginning")
	}
	if n := len(r.Updates); n == 0 || n > MaxUpdates {
		return b, bad("%d updates", n)
	}
	ms := r.Wait.Milliseconds()
	if ms < 0 || ms > math.MaxUint32 {
		return b, bad("a wait of %v", r.Wait)
	}
	b = append(append(b, magic...), version, request)
	b = binary.BigEndian.AppendUint32(b, uint32(ms))
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Updates)))
	for i := range r.Updates {
		u := &r.Updates[i]
		if err := u.check(); err != nil {
			return b[:0], err
		}
		if n := u.size(); n > maxUpdate || len(b)+n+sumSize > MaxBytes {
			return b[:0], bad("update %d of %d bytes, after %d", i, n, len(b))
		}
		b = u.append(b)
	}
	return sum(b), nil
}

func sum(b []byte) []byte { return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)) }

// Parse reads an encoded request. The error wraps ErrFormat.
func Parse(b []byte) (Batch, error) {
	d, err := open(b, request)
	if err != nil {
		return Batch{}, err
	}
	r := Batch{Wait: time.Duration(d.uint32()) * time.Millisecond}
	n := d.uint16()
	if n == 0 || n > MaxUpdates || n*updateSize > len(d.rest) {
		return Batch{}, bad("%d updates in %d bytes", n, len(d.rest))
	}
	r.Updates = make([]Update, n)
	for i := range r.Updates {
		before := len(d.rest)
		u := &r.Updates[i]
		d.update(u)
		if d.err == nil {
			d.err = u.check()
		}
		if d.err == nil && before-len(d.rest) > maxUpdate {
			d.err = bad("it has %d bytes", before-len(d.rest))
		}
		if d.err != nil {
			return Batch{}, fmt.Errorf("update %d: %w", i, d.err)
		}
	}
	return r, d.end()
}

// AppendResults appends the encoded answer to b, which must be empty.
func AppendResults(b []byte, results []Result) ([]byte, error) {
	if len(b) != 0 || len(results) > MaxUpdates {
		return b, bad("%d results after %d bytes", len(results), len(b))
	}
	b = append(append(b, magic...), version, answer)
	b = binary.BigEndian.AppendUint16(b, uint16(len(results)))
	for i := range results {
		r := &results[i]
		if !isStatus(r.Status) {
			return b[:0], bad("result %d: status %d", i, r.Status)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(r.Status))
		late := byte(0)
		if r.Late {
			late = 1
		}
		b = appendText(append(b, late), r.Text[:min(len(r.Text), maxText)])
	}
	return sum(b), nil
}

func isStatus(n int) bool { return n >= 200 && n <= 599 }

// ParseResults reads an encoded answer to a request of so many updates. The
// error wraps ErrFormat.
func ParseResults(b []byte, updates int) ([]Result, error) {
	d, err := open(b, answer)
	if err != nil {
		return nil, err
	}
	n := d.uint16()
	if n != updates || n*resultSize > len(d.rest) {
		return nil, bad("%d results in %d bytes for %d updates", n, len(d.rest), updates)
	}
	results := make([]Result, n)
	for i := range results {
		r := &results[i]
		r.Status = d.uint16()
		late := d.byte()
		r.Late, r.Text = late == 1, d.text()
		if d.err == nil && (!isStatus(r.Status) || late > 1 || len(r.Text) > maxText) {
			d.fail("status %d, late %d, a text of %d bytes", r.Status, late, len(r.Text))
		}
		if d.err != nil {
			return nil, fmt.Errorf("result %d: %w", i, d.err)
		}
	}
	return results, d.end()
}

// Read reads an encoded request or answer of a length (-1 where it is not known)
// from its body.
func Read(body io.Reader, length int64) ([]byte, error) {
	if body == nil || length > MaxBytes {
		return nil, bad("%d bytes", max(length, 0))
	}
	b := make([]byte, 0, max(length+1, 4<<10))
	for {
		n, err := body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > MaxBytes:
			return nil, bad("more than %d bytes", MaxBytes)
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return nil, err
		case len(b) == cap(b):
			b = slices.Grow(b, len(b))
		}
	}
}

// decoder reads what is between head and checksum. After the first failure all
// that it returns is zero.
type decoder struct {
	rest []byte
	err  error
}

func open(b []byte, kind byte) (*decoder, error) {
	switch {
	case len(b) < headSize+sumSize:
		return nil, bad("%d bytes are fewer than the shortest has", len(b))
	case len(b) > MaxBytes:
		return nil, bad("%d bytes are more than the longest has", len(b))
	case string(b[:len(magic)]) != magic:
		return nil, bad("it does not begin like one")
	case b[len(magic)] != version:
		return nil, bad("version %d, known is %d", b[len(magic)], version)
	case b[len(magic)+1] != kind:
		return nil, bad("it is of kind %q, wanted was %q", b[len(magic)+1], kind)
	case binary.BigEndian.Uint32(b[len(b)-sumSize:]) != crc32.Checksum(b[:len(b)-sumSize], castagnoli):
		return nil, bad("its checksum does not fit")
	}
	return &decoder{rest: b[headSize : len(b)-sumSize]}, nil
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = bad(format, args...)
	}
	d.rest = nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.rest) {
		d.fail("it ends in the middle")
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() int {
	if b := d.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) text() string { return string(d.take(d.uint16())) }

func (d *decoder) update(u *Update) {
	switch m := d.byte(); m {
	case put:
		u.Method = "PUT"
	case del:
		u.Method = "DELETE"
	default:
		d.fail("method %q", m)
	}
	u.Path = d.text()
	n := d.uint16()
	if n > maxFields || n*4 > len(d.rest) {
		d.fail("%d header fields in %d bytes", n, len(d.rest))
		return
	}
	u.Header = make(backend.Header, n)
	for i := range u.Header {
		u.Header[i] = backend.Field{Name: d.text(), Value: d.text()}
	}
}

// end is the error of everything that was read.
func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes are left over", len(d.rest))
	}
	return d.err
}
