package clusterkey

import (
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// blockSize is after how many bytes of a body there is a MAC.
const blockSize = 64 << 10

var blocks = sync.Pool{New: func() any { return new([blockSize + macSize]byte) }}

// sealedLength returns how many bytes a body of n bytes is on the wire.
func sealedLength(n int64) int64 { return n + (n+blockSize-1)/blockSize*macSize }

// openedLength is its inverse; ok is false for what is the length of none.
func openedLength(n int64) (opened int64, ok bool) {
	whole, rest := n/(blockSize+macSize), n%(blockSize+macSize)
	if n < 0 || rest > 0 && rest <= macSize {
		return 0, false
	}
	if rest > 0 {
		rest -= macSize
	}
	return whole*blockSize + rest, true
}

// blockMAC is the MAC of a block of a body.
func (k *key) blockMAC(of *mac, number uint64, block []byte) mac {
	const label = "martlet block 1"
	var head [4 + len(label) + 4 + macSize + 8]byte
	b := text(head[:0]).string(label).bytes(of[:])
	return k.mac(binary.BigEndian.AppendUint64(b, number), block)
}

// sealer reads a body with its MACs.
type sealer struct {
	key    *key
	of     mac
	src    io.Reader
	left   int64 // of src
	number uint64
	room   *[blockSize + macSize]byte // nil while nothing of it is to be read
	at, n  int                        // room[at:n] is to be read
	err    error
}

func (s *sealer) Read(p []byte) (int, error) {
	if s.at == s.n {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.room[s.at:s.n])
	if s.at += n; s.at == s.n {
		s.free()
	}
	return n, nil
}

func (s *sealer) free() {
	if s.room != nil {
		blocks.Put(s.room)
		s.room = nil
	}
}

// next reads a block and seals it.
func (s *sealer) next() error {
	if s.err != nil || s.left == 0 {
		if s.err == nil {
			s.err = io.EOF
		}
		return s.err
	}
	s.room = blocks.Get().(*[blockSize + macSize]byte) //nolint:forcetypeassert // the pool holds nothing else
	size := int(min(s.left, blockSize))
	if _, err := io.ReadFull(s.src, s.room[:size]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		s.free()
		s.err = err
		return err
	}
	m := s.key.blockMAC(&s.of, s.number, s.room[:size])
	copy(s.room[size:], m[:])
	s.left -= int64(size)
	s.number++
	s.at, s.n = 0, size+macSize
	return nil
}

// seekSealer can be read again from the beginning.
type seekSealer struct {
	sealer
	seeker io.Seeker
	start  int64 // of src
	length int64
}

// Seek goes to the beginning, where the source was when it was sealed, and nowhere else.
func (s *seekSealer) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence == io.SeekEnd || whence == io.SeekCurrent && s.left != s.length {
		return 0, errors.New("a sealed body is read from the beginning")
	}
	if whence == io.SeekCurrent {
		return 0, nil
	}
	if _, err := s.seeker.Seek(s.start, io.SeekStart); err != nil {
		return 0, err
	}
	s.free()
	s.left, s.number, s.at, s.n, s.err = s.length, 0, 0, 0, nil
	return 0, nil
}

// seal returns a body of so many bytes with its MACs, nil for an empty one.
func (k *key) seal(of mac, src io.Reader, length int64) io.Reader {
	if length == 0 {
		return nil
	}
	s := sealer{key: k, of: of, src: src, left: length}
	if seeker, ok := src.(io.Seeker); ok {
		if start, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			return &seekSealer{sealer: s, seeker: seeker, start: start, length: length}
		}
	}
	return &s
}

// errBody is the error of a body that is not the one that was sent.
var errBody = errors.New("the body is not what was signed")

// opener reads a body that was sealed. It hands out no byte of a block before that was found
// to be right.
type opener struct {
	key    *key
	of     mac
	src    io.Reader
	left   int64 // of the body
	number uint64
	room   *[blockSize + macSize]byte
	at, n  int
	err    error
	wrong  func(error) error // what is returned where a block is not right
}

func (o *opener) Read(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if o.at == o.n {
		if o.err = o.next(); o.err != nil {
			o.free()
			return 0, o.err
		}
	}
	n := copy(p, o.room[o.at:o.n])
	if o.at += n; o.at == o.n {
		o.free()
	}
	return n, nil
}

func (o *opener) free() {
	if o.room != nil {
		blocks.Put(o.room)
		o.room = nil
	}
}

func (o *opener) next() error {
	if o.left == 0 {
		return o.end()
	}
	o.room = blocks.Get().(*[blockSize + macSize]byte) //nolint:forcetypeassert // the pool holds nothing else
	size := int(min(o.left, blockSize))
	if _, err := io.ReadFull(o.src, o.room[:size+macSize]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	m := o.key.blockMAC(&o.of, o.number, o.room[:size])
	if !hmac.Equal(m[:], o.room[size:size+macSize]) {
		return o.wrong(errBody)
	}
	o.left -= int64(size)
	o.number++
	o.at, o.n = 0, size
	return nil
}

// end sees to it that there is nothing behind the last block.
func (o *opener) end() error {
	var one [1]byte
	for range 100 {
		n, err := o.src.Read(one[:])
		if n > 0 {
			return o.wrong(errBody)
		}
		if err != nil {
			return err // io.EOF, or why it did not come to that
		}
	}
	return io.ErrNoProgress
}
