package replwire

import (
	"encoding/binary"

	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// The kinds of lists by which digests are compared.
const (
	question byte = 'q'
	answer   byte = 'd'
)

// Digest is a sum over all states that a device holds in a range of hashes, whatever their
// order: a number, high byte first. Nothing has the zero Digest.
type Digest [16]byte

// Extent is what a device holds in a range of hashes.
type Extent struct {
	Range   name.Range
	Sum     Digest
	Objects int64 // that are there: states of kind Data
	Bytes   int64 // of their bodies
}

// Question asks a device which of some ranges it holds something else in.
type Question struct {
	// Before leaves out, on both sides and as far as they can tell, what is of that time
	// or later; the zero time leaves out nothing.
	Before timestamp.T

	// Parts is what the asker holds, in order of their ranges, no two of which have a hash in
	// common. How many objects and bytes there are is not told.
	Parts []Extent
}

// Answer says of the first Answered parts of a question which differ: there may be more
// where those took long, which are to be asked again.
type Answer struct {
	Answered int
	Differ   []Difference // in order of At

	// Strange are those parts, by their places in the question and in order, of which the
	// device is by its own ring no primary. That it holds the same there says little.
	Strange []int
}

// Difference is a part of which the peer holds something else.
type Difference struct {
	At      int    // its place in the question
	Sum     Digest // the peer's
	Objects int64  // the peer's
}

const (
	partSize       = 1 + 8 + 16
	questionHead   = 8 + 8
	differenceSize = 4 + 16 + 8
	answerHead     = 4 + 4 + 4
	strangeSize    = 4
)

// MaxParts is how many parts a question may have: so many that an answer which has them all
// is no longer than MaxList.
const MaxParts = (MaxList - headSize - answerHead - tailSize) / (differenceSize + strangeSize)

// Append appends the encoded question to b, which must be empty. It is as large as Size
// says.
func (q *Question) Append(b []byte) []byte {
	be := binary.BigEndian
	b = Begin(b, question)
	b = be.AppendUint64(be.AppendUint64(b, uint64(q.Before.Ticks())), q.Before.Offset())
	for i := range q.Parts {
		p := &q.Parts[i]
		b = be.AppendUint64(append(b, p.Range.Depth), p.Range.Prefix)
		b = append(b, p.Sum[:]...)
	}
	return End(b, len(q.Parts), false)
}

// Size is that of the encoded question, in bytes.
func (q *Question) Size() int { return headSize + questionHead + len(q.Parts)*partSize + tailSize }

// ParseQuestion reads an encoded question. The error wraps ErrList.
func ParseQuestion(b []byte) (Question, error) {
	records, count, more, err := open(b, question)
	switch {
	case err != nil:
		return Question{}, err
	case count == 0 || count > MaxParts || more || len(records) != questionHead+count*partSize:
		return Question{}, bad("a question about %d parts in %d bytes", count, len(records))
	}
	be := binary.BigEndian
	ticks := int64(be.Uint64(records))
	q := Question{Before: timestamp.FromTicks(ticks).WithOffset(be.Uint64(records[8:])), Parts: make([]Extent, count)}
	if q.Before.Ticks() != ticks {
		return Question{}, bad("a time of %d", ticks)
	}
	records = records[questionHead:]
	for i := range q.Parts {
		p, r := &q.Parts[i], records[i*partSize:]
		p.Range = name.Range{Prefix: be.Uint64(r[1:]), Depth: r[0]}
		copy(p.Sum[:], r[9:])
		if !p.Range.Valid() {
			return Question{}, bad("part %d, %x of %d bits, is no range", i, p.Range.Prefix, p.Range.Depth)
		}
		if i > 0 && !q.Parts[i-1].Range.Before(p.Range) {
			return Question{}, bad("part %d begins before the end of the one before it", i)
		}
	}
	return q, nil
}

// tag tells one encoded question from another: its checksum, which is at its end.
func tag(question []byte) uint32 { return binary.BigEndian.Uint32(question[len(question)-4:]) }

// Append appends the encoded answer to an encoded question to b, which must be empty.
func (a *Answer) Append(b, asked []byte, parts int) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(be.AppendUint32(Begin(b, answer), tag(asked)), uint32(a.Answered))
	b = be.AppendUint32(b, uint32(len(a.Strange)))
	for _, at := range a.Strange {
		b = be.AppendUint32(b, uint32(at))
	}
	for _, d := range a.Differ {
		b = append(be.AppendUint32(b, uint32(d.At)), d.Sum[:]...)
		b = be.AppendUint64(b, uint64(d.Objects))
	}
	return End(b, len(a.Differ), a.Answered < parts)
}

// ParseAnswer reads an encoded answer to a question, of which asked is the encoded form.
// One to another question is refused. The error wraps ErrList.
func ParseAnswer(b []byte, q *Question, asked []byte) (Answer, error) {
	records, count, more, err := open(b, answer)
	if err != nil {
		return Answer{}, err
	}
	be := binary.BigEndian
	strange := 0
	if len(records) >= answerHead {
		strange = int(be.Uint32(records[8:]))
	}
	if strange > len(q.Parts) || len(records) != answerHead+strange*strangeSize+count*differenceSize {
		return Answer{}, bad("%d differences and %d strange parts in %d bytes", count, strange, len(records))
	}
	if be.Uint32(records) != tag(asked) {
		return Answer{}, bad("it is the answer to another question")
	}
	n := be.Uint32(records[4:])
	if n == 0 || int64(n) > int64(len(q.Parts)) || more != (int(n) < len(q.Parts)) || count > int(n) {
		return Answer{}, bad("%d differences in %d answers to %d parts", count, n, len(q.Parts))
	}
	a := Answer{Answered: int(n), Differ: make([]Difference, count)}
	records = records[answerHead:]
	for i := range strange {
		at := be.Uint32(records[i*strangeSize:])
		if at >= n || i > 0 && int(at) <= a.Strange[i-1] {
			return Answer{}, bad("strange part %d is %d", i, at)
		}
		a.Strange = append(a.Strange, int(at))
	}
	records = records[strange*strangeSize:]
	last := -1
	for i := range a.Differ {
		d, r := &a.Differ[i], records[i*differenceSize:]
		at := be.Uint32(r)
		copy(d.Sum[:], r[4:])
		d.Objects = int64(be.Uint64(r[20:]))
		if at >= n || int(at) <= last || d.Objects < 0 || d.Sum == q.Parts[at].Sum {
			return Answer{}, bad("difference %d, of part %d with %d objects, contradicts the question", i, at, d.Objects)
		}
		d.At = int(at)
		last = d.At
	}
	return a, nil
}
