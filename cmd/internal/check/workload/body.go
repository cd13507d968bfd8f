package workload

import (
	"crypto/md5" // the ETag of the API
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
)

// content is the bytes that a write stores: of a base, from an offset on. A write has itself for a base, but
// for those of parts of a large object, whose bytes are pieces of the whole.
type content struct {
	id, base int64
	from     int64
	size     int64
}

// bodies makes bodies, and knows whose an ETag is. It is safe for many clients.
type bodies struct {
	seed uint64

	mu     sync.RWMutex // guards all that follows
	etags  map[[md5.Size]byte]content
	recent [][md5.Size]byte // the latest of them, at most keepRecent
}

// keepRecent is how many ETags conditions are made of.
const keepRecent = 64

func newBodies(seed uint64) *bodies {
	return &bodies{seed: seed, etags: map[[md5.Size]byte]content{}}
}

// word is the n-th eight bytes of a base: the finish of SplitMix64, which is fast and has no state.
func (b *bodies) word(base, n int64) uint64 {
	x := b.seed*0x9e3779b97f4a7c15 ^ uint64(base)*0xd1342543de82ef95 + uint64(n)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fill makes the bytes of a content from an offset on.
func (b *bodies) fill(p []byte, c content, at int64) {
	at += c.from
	var w [8]byte
	for n, skip := at/8, int(at%8); len(p) > 0; n++ {
		if skip == 0 && len(p) >= 8 {
			binary.LittleEndian.PutUint64(p, b.word(c.base, n))
			p = p[8:]
			continue
		}
		binary.LittleEndian.PutUint64(w[:], b.word(c.base, n))
		p = p[copy(p, w[skip:]):]
		skip = 0
	}
}

// reader returns the bytes of a content.
func (b *bodies) reader(c content) *bodyReader { return &bodyReader{b: b, c: c} }

type bodyReader struct {
	b  *bodies
	c  content
	at int64
}

func (r *bodyReader) Read(p []byte) (int, error) {
	n := min(int64(len(p)), r.c.size-r.at)
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	r.b.fill(p[:n], r.c, r.at)
	r.at += n
	return int(n), nil
}

// sum returns the MD5 of a content.
func (b *bodies) sum(c content) [md5.Size]byte {
	h := md5.New()
	_, _ = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{b.reader(c)}, make([]byte, 32<<10)) // neither fails
	var sum [md5.Size]byte
	h.Sum(sum[:0])
	return sum
}

// learn notes whose body an ETag is. It comes before the first byte is sent.
func (b *bodies) learn(sum [md5.Size]byte, c content) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.etags[sum] = c
	if len(b.recent) < keepRecent {
		b.recent = append(b.recent, sum)
	} else {
		b.recent[len(b.etags)%keepRecent] = sum
	}
}

// of returns whose body an ETag is.
func (b *bodies) of(etag string) (content, bool) {
	var sum [md5.Size]byte
	if n, err := hex.Decode(sum[:], []byte(etag)); err != nil || n != len(sum) || len(etag) != 2*len(sum) {
		return content{}, false
	}
	if sum == md5.Sum(nil) {
		return content{}, true // all that are empty look alike
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	c, ok := b.etags[sum]
	return c, ok
}

var buffers = sync.Pool{New: func() any { return new([2][32 << 10]byte) }}

// compare reads bytes that should be those of a content, in a range of it, and says what is wrong with them. An error is one of
// the source's, or io.ErrUnexpectedEOF where it ended early; what came until then was right if wrong is "".
func (b *bodies) compare(from io.Reader, c content, at, length int64) (wrong string, err error) {
	pair, _ := buffers.Get().(*[2][32 << 10]byte)
	defer buffers.Put(pair)
	got, want := pair[0][:], pair[1][:]
	for {
		n, err := from.Read(got)
		if int64(n) > length {
			return fmt.Sprintf("more bytes than the %d that it has", c.size), nil
		}
		b.fill(want[:n], c, at)
		for i := range n {
			if got[i] != want[i] {
				return fmt.Sprintf("a body that is not that of write %d: byte %d is %#02x, not %#02x", c.id, at+int64(i), got[i], want[i]), nil
			}
		}
		at, length = at+int64(n), length-int64(n)
		switch {
		case errors.Is(err, io.EOF) && length > 0:
			return "", io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return "", nil
		case err != nil:
			return "", err
		}
	}
}

// some returns the ETag of a write that is chosen by a number: of one that has stored it, as far as that is known
// now.
func (b *bodies) some(n int64) string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.recent) == 0 {
		return hex.EncodeToString(make([]byte, md5.Size))
	}
	return hex.EncodeToString(b.recent[uint64(n)%uint64(len(b.recent))][:])
}
