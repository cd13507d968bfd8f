package replwire

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"martlet/internal/name"
)

// The kinds of lists by which fragments are read many at a time.
const (
	wanted   byte = 'f'
	archives byte = 'g'
	hashes   byte = 'x'
)

// What an answer with fragments may hold. A question may be about MaxWanted.
const (
	MaxWanted       = 1024
	MaxArchiveBytes = 5 << 20 // an encoded answer

	wantedSize  = 16 + 16
	archiveHead = 1 + 4
)

// Wanted is a fragment that is to be read: the hash that it is kept under, and of which write
// it has to be.
type Wanted struct {
	Hash  name.Hash
	Write [16]byte
}

// AppendWanted appends to b, which must be empty, the encoded question for some fragments: at most
// MaxWanted, and at least one.
func AppendWanted(b []byte, list []Wanted) []byte {
	b = Begin(b, wanted)
	for i := range list {
		b = append(append(b, list[i].Hash[:]...), list[i].Write[:]...)
	}
	return End(b, len(list), false)
}

// ParseWanted reads an encoded question for fragments. The error wraps ErrList.
func ParseWanted(b []byte) ([]Wanted, error) {
	records, count, more, err := Open(b, wanted)
	if err != nil {
		return nil, err
	}
	if more || count == 0 || count > MaxWanted || count*wantedSize != len(records) {
		return nil, bad("%d wanted fragments in %d bytes", count, len(records))
	}
	list := make([]Wanted, count)
	for i := range list {
		r := records[i*wantedSize:]
		copy(list[i].Hash[:], r)
		copy(list[i].Write[:], r[len(list[i].Hash):])
	}
	return list, nil
}

// A Given is what has become of a fragment that was wanted.
type Given byte

// What can have become of one.
const (
	NotHere Given = iota // it is not there, or what is there is of another write
	Here                 // it is in the answer
	Alone                // it is too large to travel with others: it is to be read by itself
	NotNow               // there was no room for it, or no time: it may be asked for again
	Unread               // it is there, or was, and can't be read: it is damaged, or the disk fails
	endOfGiven
)

// Archive is a fragment as it was asked for.
type Archive struct {
	Given Given
	Bytes []byte // of Here: all of the archive; nil of all others
}

// Archives is an answer with fragments that is being made.
type Archives struct {
	b     []byte
	count int
}

// BeginArchives begins the answer to an encoded question for fragments; what room has is overwritten.
func BeginArchives(room, asked []byte) Archives {
	b := Begin(room[:0], archives)
	return Archives{b: binary.BigEndian.AppendUint32(b, crc32.Checksum(asked, castagnoli))}
}

// Room reports whether there is room for an archive of n bytes if as many fragments as more have to be
// told of behind it.
func (a *Archives) Room(n int64, more int) bool {
	return n <= MaxArchiveBytes && int64(len(a.b))+n+int64(more+1)*archiveHead+int64(tailSize) <= MaxArchiveBytes
}

// Tell says of the next one that was asked for what has become of it, which is not Here.
func (a *Archives) Tell(g Given) {
	a.count++
	a.b = append(a.b, byte(g), 0, 0, 0, 0)
}

// Give adds the next one, with as many as more to come behind it: fill is given the n bytes to write its archive to, for which there is Room. Where
// it does not return Here, but what else has become of it, nothing of them is sent.
func (a *Archives) Give(n int64, more int, fill func([]byte) Given) {
	at := len(a.b)
	a.b = binary.BigEndian.AppendUint32(append(a.b, byte(Here)), uint32(n))
	from := len(a.b)
	if need := from + int(n); need > cap(a.b) {
		all := need + more*(archiveHead+int(n)) + tailSize // as if the others were as long
		a.b = append(make([]byte, 0, RoomFor(max(all, 2*need))), a.b...)
	}
	a.b = a.b[:from+int(n)]
	if g := fill(a.b[from:]); g != Here {
		a.b = a.b[:at]
		a.Tell(g)
		return
	}
	a.count++
}

// RoomFor is how large a buffer for an answer of n bytes is made that is used again: up to a quarter more, since the next answer is of about
// that size, and one that has a little more is to fit as well. It is no more than an answer may have.
func RoomFor(n int) int {
	step := 1 << max(10, bits.Len(uint(n))-3)
	return min((n+step-1)/step*step, MaxArchiveBytes)
}

// Encoded returns the encoded answer, and ends it.
func (a *Archives) Encoded() []byte { return End(a.b, a.count, false) }

// ParseArchives reads an encoded answer to a question for n fragments, of which asked is the encoded form. The
// archives are parts of b. Of an answer that was cut short, garbled, or put together of two
// nothing is taken. The error wraps ErrList.
func ParseArchives(b []byte, n int, asked []byte) ([]Archive, error) {
	if len(b) > MaxArchiveBytes {
		return nil, bad("%d bytes of fragments", len(b))
	}
	records, count, more, err := open(b, archives)
	if err != nil {
		return nil, err
	}
	if more || count != n || len(records) < 4+n*archiveHead {
		return nil, bad("%d fragments in %d bytes of %d", count, len(records), n)
	}
	d := decoder{rest: records}
	if d.uint32() != crc32.Checksum(asked, castagnoli) {
		return nil, bad("it answers another question")
	}
	list := make([]Archive, n)
	for i := range list {
		a := &list[i]
		a.Given = Given(d.byte())
		size := d.uint32()
		if a.Given >= endOfGiven || (a.Given == Here) != (size > 0) {
			return nil, bad("fragment %d is %d, of %d bytes", i, a.Given, size)
		}
		if size > 0 {
			a.Bytes = d.take(int(size))
		}
	}
	return list, d.end()
}

// MaxHashes is how many hashes a list may have.
const MaxHashes = 1 << 18

// BeginHashes appends the beginning of a list of hashes to b, which must be empty. They are appended as they are, in order, until End.
func BeginHashes(b []byte) []byte { return Begin(b, hashes) }

// ParseHashes reads a list of hashes: in order, each once, all between from and to. It reports of a list of objects, by which a
// node answers that does not know HashesHeader, that it is none. The error wraps ErrList.
func ParseHashes(b []byte, from, to name.Hash) (list []name.Hash, more, ok bool, err error) {
	if len(b) > headSize && b[len(magic)+1] == Objects {
		return nil, false, false, nil
	}
	records, count, more, err := Open(b, hashes)
	if err != nil {
		return nil, false, false, err
	}
	if count > MaxHashes || count*len(from) != len(records) {
		return nil, false, false, bad("%d hashes in %d bytes", count, len(records))
	}
	list = make([]name.Hash, count)
	for i := range list {
		h := &list[i]
		copy(h[:], records[i*len(h):])
		if bytes.Compare(h[:], from[:]) < 0 || bytes.Compare(h[:], to[:]) > 0 || i > 0 && bytes.Compare(list[i-1][:], h[:]) >= 0 {
			return nil, false, false, bad("hash %s is outside of %s to %s, or out of order", h, from, to)
		}
	}
	return list, more, true, nil
}
