package index

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"

	"martlet/internal/timestamp"
)

// A Sum is a sum of terms modulo 2^128.
type Sum struct{ High, Low uint64 }

// Add returns the sum of both.
func (s Sum) Add(t Sum) Sum {
	low, carry := bits.Add64(s.Low, t.Low, 0)
	high, _ := bits.Add64(s.High, t.High, carry)
	return Sum{high, low}
}

// Sub returns what s is without t.
func (s Sum) Sub(t Sum) Sum {
	low, borrow := bits.Sub64(s.Low, t.Low, 0)
	high, _ := bits.Sub64(s.High, t.High, borrow)
	return Sum{high, low}
}

// String returns 32 hexadecimal digits.
func (s Sum) String() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], s.High)
	binary.BigEndian.PutUint64(b[8:], s.Low)
	return hex.EncodeToString(b[:])
}

// A Digest is what a part of the hash space comes to: two devices that hold the same
// states there have the same one.
type Digest struct {
	Sum     Sum
	Objects int64 // entries of kind Data
	Bytes   int64 // of their bodies
}

// IsZero reports whether there is nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// Add returns the digest of both parts.
func (d Digest) Add(e Digest) Digest {
	return Digest{d.Sum.Add(e.Sum), d.Objects + e.Objects, d.Bytes + e.Bytes}
}

// Sub returns the digest of d without e.
func (d Digest) Sub(e Digest) Digest {
	return Digest{d.Sum.Sub(e.Sum), d.Objects - e.Objects, d.Bytes - e.Bytes}
}

// Tie returns what tells apart two states with the same times: the MD5, length and
// CRC32C of the data, and the sums of what goes with it (replwire.Sum), as far as each
// is there.
func Tie(md5 [16]byte, length int64, crc uint32, system, meta, contentType uint64) uint64 {
	var b [16 + 8 + 4 + 3*8]byte
	be := binary.BigEndian
	copy(b[:], md5[:])
	be.PutUint64(b[16:], uint64(length))
	be.PutUint32(b[24:], crc)
	be.PutUint64(b[28:], system)
	be.PutUint64(b[36:], meta)
	be.PutUint64(b[44:], contentType)
	sum := sha256.Sum256(b[:])
	return be.Uint64(sum[:])
}

// DigestOf returns the digest of a single state, which is what the index adds for it.
// It is the same on every device.
func DigestOf(k Key, e *Entry) Digest {
	r := k.raw()
	return digestOf(&r, e)
}

func digestOf(k *rawKey, e *Entry) Digest {
	if e.Kind == Absent || e.Kind == Gone {
		return Digest{}
	}
	var b [keySize - hashAt + 1 + 3*16 + 8]byte
	be := binary.BigEndian
	n := copy(b[:], k[hashAt:])
	b[n] = byte(e.Kind)
	n++
	for _, t := range [...]timestamp.T{e.Times.Data, e.Times.ContentType, e.Times.Meta} {
		be.PutUint64(b[n:], uint64(t.Ticks()))
		be.PutUint64(b[n+8:], t.Offset())
		n += 16
	}
	be.PutUint64(b[n:], e.Tie)
	sum := sha256.Sum256(b[:])
	d := Digest{Sum: Sum{be.Uint64(sum[:]), be.Uint64(sum[8:])}}
	if e.Kind == Data {
		d.Objects, d.Bytes = 1, e.Length
	}
	return d
}
