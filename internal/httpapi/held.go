package httpapi

import (
	"bytes"
	"sync"
)

const (
	// mostHeld is how long the body of an answer may be that is held back until all of it
	// is there, in bytes.
	mostHeld = 32 << 10

	// heldRoom is the size of the buffers for it. An answer that is longer, for its
	// header, leaves in parts.
	heldRoom = mostHeld + 8<<10

	// AnswerRoom is how much of buffers the answer to a request needs, in bytes: one that its body is copied through, and one in
	// which it is held back if it is small.
	AnswerRoom = copyBlock + heldRoom
)

var heldBuffers = sync.Pool{New: func() any { b := make([]byte, 0, heldRoom); return &b }}

// holding keeps what net/http writes of one answer until all of it is there, so that a
// small answer leaves in one write: net/http has a buffer of 4 KiB, and an object of that
// size with its header takes two.
//
// What ends it is counted and not told: the length that the header says of the body, from
// the end of that header on, however net/http divides them. So nothing that is whole can
// be left unsent. Where less comes net/http closes the connection, since that is no answer,
// and what was held of it is dropped.
type holding struct {
	length int64   // of the body; what is held is bounded by heldRoom, whatever this says
	buf    *[]byte // nil while nothing is held
	on     bool
}

// begin has an answer held back, whose header is yet to be written and says that the body
// has a length, if it is small. There is to be a body.
func (h *holding) begin(length int64) {
	h.on = length > 0 && length <= mostHeld
	h.length = length
}

// take takes what is to be written. It returns what is to go out now, nil for nothing.
func (h *holding) take(p []byte) (out []byte) {
	if h.buf == nil && h.whole(p) {
		h.on = false
		return p
	}
	if h.buf == nil {
		h.buf = heldBuffers.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	}
	*h.buf = append(*h.buf, p...)
	if h.whole(*h.buf) {
		return h.let()
	}
	return nil
}

// whole reports whether an answer of which b is the beginning is to be held no longer.
func (h *holding) whole(b []byte) bool {
	if len(b) >= heldRoom {
		return true
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	return end >= 0 && int64(len(b)-end-len("\r\n\r\n")) >= h.length
}

// let ends it, and returns what was held, nil for nothing. It is good until free.
func (h *holding) let() []byte {
	if h.on = false; h.buf == nil {
		return nil
	}
	return *h.buf
}

// free gives the buffer back.
func (h *holding) free() {
	if h.buf == nil {
		return
	}
	if cap(*h.buf) == heldRoom {
		*h.buf = (*h.buf)[:0]
		heldBuffers.Put(h.buf)
	}
	h.buf = nil
}
