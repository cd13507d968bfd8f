package floor

import (
	"encoding/binary"
	"fmt"
	"io"
)

// headSize is what stands before a body: about as much as the head of a small request.
const headSize = 256

// What is asked for.
const (
	opGet byte = 1 + iota
	opPut
	opRow
	opAnswer
)

// head is what a message begins with. Numbers are little endian.
type head struct {
	op      byte
	replica byte  // which of the three a storage server is
	size    int64 // of the body that is asked for, or that comes with a put or an answer
	object  uint64
}

// bodyOf is how many bytes follow a head.
func (h head) bodyOf() int64 {
	if h.op == opPut || h.op == opAnswer {
		return h.size
	}
	return 0
}

func (h head) write(to []byte) {
	to[0], to[1] = h.op, h.replica
	binary.LittleEndian.PutUint64(to[8:], uint64(h.size))
	binary.LittleEndian.PutUint64(to[16:], h.object)
}

func readHead(from []byte) head {
	return head{op: from[0], replica: from[1], size: int64(binary.LittleEndian.Uint64(from[8:])), object: binary.LittleEndian.Uint64(from[16:])}
}

// sumAt is where the MD5 of a body stands in its head.
const sumAt = 32

// readMessage reads a head and what follows it, mostly with one call, and returns its length.
func readMessage(from io.Reader, buf []byte) (int, error) {
	n, err := io.ReadAtLeast(from, buf, headSize)
	if err != nil {
		return n, err
	}
	h := readHead(buf)
	body := h.bodyOf()
	if h.op < opGet || h.op > opAnswer || h.size < 0 || h.size > MaxSize || body > int64(len(buf)-headSize) {
		return n, fmt.Errorf("no message of the floor: operation %d of %d bytes", h.op, h.size)
	}
	all := headSize + int(body)
	if n > all {
		return n, fmt.Errorf("%d bytes behind a message", n-all)
	}
	_, err = io.ReadFull(from, buf[n:all])
	return all, err
}
