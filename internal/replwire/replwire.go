// Package replwire is what two nodes say to each other when they compare what
// they hold: the encoding of the lists that answer REPLICATE, of the questions by which
// digests are compared, and of what is pushed many at a time.
//
// A list is taken whole or not at all: it ends with the count of its records and a
// CRC32C of everything before, so that one that was cut short, garbled or put
// together of two is refused. Everything is bounded, and no input makes a parser
// panic or allocate more than a small multiple of that input. It leaves to others
// how lists travel, what is in a record of a kind other than its own, and what
// follows from a difference.
//
// The layout, numbers in big-endian order:
//
//	"MRL" version(1) kind(1) records... more(1) count(8) CRC32C(4)
//
// more is 1 where the sender stopped before the end of the range that it was asked
// for: the asker goes on behind the last record. A list with more is never empty.
//
// A question (kind 'q') asks about ranges of hashes, in order and apart from each other,
// each with the sum of what the asker holds there; its answer (kind 'd') has those of which
// the peer holds something else. Both have something before their records:
//
//	question  ticks(8) offset(8)     then  depth(1) prefix(8) sum(16)
//	answer    checksum of the question(4) answered(4) strange(4) place(4)...
//	                                 then  place in the question(4) sum(16) objects(8)
//
// Ticks and offset are the time before which both look; more in an answer is 1 where it is
// about the first parts of the question only, as many as "answered" says.
//
// Pushes (kind 'u') are versions of objects for one device, each as it would be sent alone;
// results (kind 'r') say what has become of each, in the same order. A text is behind
// its length in two bytes:
//
//	push      method(1) partition(4) account container object fields(2) (name value)...
//	          length(4) body
//	result    status(2) primary(1) text
//
// Method is 'P', 'M' or 'D': PUT, POST, DELETE; primary is 1 where PrimaryHeader would be
// "true".
//
// A question for fragments (kind 'f') names some that are kept on one device; its answer (kind 'g')
// says of each in the same order what has become of it, and has its archive behind that if it is there. An
// archive has checksums of its own, of package ec: so what is wrong in one is noticed though the answer is whole.
//
//	wanted    hash(16) write(16)
//	answer    checksum of the question(4)  then  given(1) length(4) archive
//
// Where only the hashes of what is there are wanted (HashesHeader), a list of them (kind 'x') has 16 bytes of each.
package replwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Header names of the requests on the replication network.
const (
	KindHeader        = "X-Backend-Kind"        // object, account or container
	PartPowerHeader   = "X-Backend-Part-Power"  // of the ring that the sender looked into
	ReplicationHeader = "X-Backend-Replication" // "true" on everything that is pushed
	SenderHeader      = "X-Backend-Sender"      // which process sends it, as its answers have it, and the device that it is a pass of: "<node>/<device>"
	BringHeader       = "X-Backend-Bring"       // with a question for a list, of what the asker is about to bring: one of the values below
	HashesHeader      = "X-Backend-Hashes"      // "true" with a question for a list of fragments: of those that are there the hashes will do
	NamesHeader       = "X-Backend-Names"       // with a question for a list of objects: the hashes that it is about, of those in its range (NamesText)
	NothingHeader     = "X-Backend-Nothing"     // "true" with those: the asker understands a list that ends with a hash under which there is nothing (AppendNothing)
	WantHeader        = "X-Backend-Want"        // with a question about one object: the asker's device, to which it is to be brought
)

// What BringHeader says. An answer of 409 says that another one is bringing it.
const (
	BringObject = "object" // the one object that is asked about
	BringFirst  = "first"  // of the partition, and the asker is the one to do so: there is no 409
	BringLate   = "late"   // of the partition, unless another one does
)

// PrimaryHeader is on every answer to what those requests ask of one partition: "true" where the
// device that answers is, by the ring that its own node has in use, a primary of
// every hash in the partition that the request names, "false" where it is not or
// can't be sure. The partition is one of the sender's part power: where the two
// differ, the device must be a primary of all partitions of its own that overlap.
//
// A device that takes itself for a handoff may drop what it has as soon as others
// have it. So what a peer has is reason to drop something only if it said "true"
// when it said so; an answer without the header counts as "false".
const PrimaryHeader = "X-Backend-Primary"

// MaxList bounds an encoded list, in bytes.
const MaxList = 8 << 20

// ErrList is wrapped by the errors about lists that can't be taken.
var ErrList = errors.New("bad replication list")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrList, fmt.Sprintf(format, args...))
}

const (
	magic    = "MRL"
	version  = 1
	headSize = len(magic) + 2
	tailSize = 1 + 8 + 4
)

// The kinds of lists.
const (
	Objects    byte = 'o'
	Accounts   byte = 'a'
	Containers byte = 'c'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Begin appends the beginning of a list of a kind to b, which is usually empty.
// The list is all of what is appended until End.
func Begin(b []byte, kind byte) []byte { return append(append(b, magic...), version, kind) }

// End closes a list, of which b holds nothing else: count is that of its records,
// more whether the range has others behind them.
func End(b []byte, count int, more bool) []byte {
	var m byte
	if more {
		m = 1
	}
	b = binary.BigEndian.AppendUint64(append(b, m), uint64(count))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// Open checks a list of a kind and returns its records, which are a part of b. The
// error wraps ErrList. That there are count of them is for the caller to see, who
// knows how long one is; there are never more than bytes.
func Open(b []byte, kind byte) (records []byte, count int, more bool, err error) {
	records, count, more, err = open(b, kind)
	switch {
	case err != nil:
		return nil, 0, false, err
	case (count == 0) != (len(records) == 0):
		return nil, 0, false, bad("%d records in %d bytes", count, len(records))
	case more && count == 0:
		return nil, 0, false, bad("it goes on after nothing")
	}
	return records, count, more, nil
}

// open is Open for lists that say something beside their records.
func open(b []byte, kind byte) (records []byte, count int, more bool, err error) {
	switch {
	case len(b) < headSize+tailSize:
		return nil, 0, false, bad("%d bytes are fewer than the shortest has", len(b))
	case len(b) > MaxList:
		return nil, 0, false, bad("%d bytes are more than the longest has", len(b))
	case string(b[:len(magic)]) != magic || b[len(magic)] != version:
		return nil, 0, false, bad("it does not begin like one")
	case binary.BigEndian.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli):
		return nil, 0, false, bad("its checksum does not fit")
	case b[len(magic)+1] != kind:
		return nil, 0, false, bad("it is of kind %q, wanted was %q", b[len(magic)+1], kind)
	}
	records = b[headSize : len(b)-tailSize]
	tail := b[len(b)-tailSize:]
	n := binary.BigEndian.Uint64(tail[1:])
	switch {
	case n > uint64(len(records)):
		return nil, 0, false, bad("%d records in %d bytes", n, len(records))
	case tail[0] > 1:
		return nil, 0, false, bad("whether it goes on is %d", tail[0])
	}
	return records, int(n), tail[0] == 1, nil
}

// Read reads an encoded list of at most MaxList bytes from the body of an answer.
func Read(body io.Reader) ([]byte, error) {
	if body == nil {
		return nil, bad("there is none")
	}
	b, err := io.ReadAll(io.LimitReader(body, MaxList+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxList {
		return nil, bad("more than %d bytes", MaxList)
	}
	return b, nil
}

// Last reports whether a list that Open takes has nothing behind it.
func Last(list []byte) bool { return len(list) >= headSize+tailSize && list[len(list)-tailSize] == 0 }
