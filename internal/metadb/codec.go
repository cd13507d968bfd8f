package metadb

import (
	"encoding/binary"
	"errors"
	"fmt"

	"martlet/internal/metadb/boltfile"
	"martlet/internal/timestamp"
)

// ErrDecode is returned for bytes that are no record.
var ErrDecode = errors.New("not a record of this version")

// ErrLater is the ErrDecode of what says that it is of a later version than is known here. Where that is under a checksum it
// is not damaged: it stays for the release that has written it, and the error is of kind errs.BadDevice.
var ErrLater = fmt.Errorf("of a later version: %w", ErrDecode)

const sealLen = boltfile.SealLen

func seal(key, b []byte) []byte { return boltfile.Seal(key, b) }

func unseal(key, b []byte) ([]byte, error) { return boltfile.Unseal(key, b) }

// AppendStamp appends a timestamp to a record: its ticks and its offset.
func AppendStamp(b []byte, t timestamp.T) []byte {
	b = binary.AppendUvarint(b, uint64(t.Ticks()))
	return binary.AppendUvarint(b, t.Offset())
}

// AppendString appends a string to a record: its length and its bytes.
func AppendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// A Decoder reads a record from front to back. After the first thing that it
// can't read it returns zero values; Err says so at the end.
type Decoder struct {
	rest   []byte
	failed bool
	later  bool
}

// NewDecoder reads b, which must not change meanwhile. Strings that are read are copies, and hold on to nothing
// of a database.
func NewDecoder(b []byte) Decoder { return Decoder{rest: b} }

// Err returns ErrDecode if anything could not be read or is left over, and ErrLater if that is since Version was later than
// is known.
func (d *Decoder) Err() error {
	if d.later {
		return ErrLater
	}
	if d.failed || len(d.rest) > 0 {
		return ErrDecode
	}
	return nil
}

// Fail makes Err return ErrDecode.
func (d *Decoder) Fail() { d.failed, d.rest = true, nil }

// Version reads the version that a record begins with, of which those from 1 up to known are.
func (d *Decoder) Version(known byte) byte {
	v := d.Byte()
	if v > known && !d.failed {
		d.later = true
	}
	if v == 0 || v > known {
		d.Fail()
	}
	return v
}

// checkVersion reports what is wrong with a record of a size that begins with the version, which is the first one.
func checkVersion(raw []byte, size int, known byte) error {
	switch {
	case len(raw) > 0 && raw[0] > known:
		return ErrLater
	case len(raw) != size || raw[0] != known:
		return ErrDecode
	}
	return nil
}

// Byte reads one byte.
func (d *Decoder) Byte() byte {
	if len(d.rest) == 0 {
		d.failed = true
		return 0
	}
	c := d.rest[0]
	d.rest = d.rest[1:]
	return c
}

// Uvarint reads an unsigned number in its shortest form.
func (d *Decoder) Uvarint() uint64 {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		c := d.Byte()
		if shift == 63 && c > 1 || shift > 0 && c == 0 {
			break // too large, or longer than it need be
		}
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
	d.Fail()
	return 0
}

// Size reads an unsigned number that fits an int64.
func (d *Decoder) Size() int64 {
	n := int64(d.Uvarint())
	if n < 0 {
		d.Fail()
		return 0
	}
	return n
}

// Stamp reads what AppendStamp writes.
func (d *Decoder) Stamp() timestamp.T {
	ticks := d.Size()
	t := timestamp.FromTicks(ticks)
	if t.Ticks() != ticks {
		d.Fail()
	}
	return t.WithOffset(d.Uvarint())
}

// String reads what AppendString writes.
func (d *Decoder) String() string { return string(d.Bytes(d.Size())) }

// Bytes reads n bytes, which are those of what is decoded: they are not copied. What is appended to them is elsewhere.
func (d *Decoder) Bytes(n int64) []byte {
	if n > d.Left() {
		d.Fail()
		return nil
	}
	s := d.rest[:n:n]
	d.rest = d.rest[n:]
	return s
}

// Left returns how many bytes are left.
func (d *Decoder) Left() int64 { return int64(len(d.rest)) }
