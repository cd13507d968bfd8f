package lean

import (
	"bytes"

	"martlet/internal/chunked"
)

const (
	// maxChunkLine bounds the line that says how long a chunk is, in bytes.
	maxChunkLine = 256

	// maxTrailer bounds a trailer, in bytes.
	maxTrailer = 16 << 10
)

// nextChunk reads the end of the chunk before and the line that begins the next; after
// the last one also the trailer.
func (b *body) nextChunk() error {
	if b.inside {
		line, err := b.line(2)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return malformed("a chunk is longer than announced")
		}
		b.inside = false
	}
	line, err := b.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, ok := chunked.Size(line)
	if !ok {
		return malformed("malformed length of a chunk")
	}
	if size == 0 {
		return b.readTrailer()
	}
	b.left, b.inside = size, true
	return nil
}

// readTrailer reads the fields behind the last chunk, and the empty line.
func (b *body) readTrailer() error {
	c := b.c
	for searched := 0; ; {
		have := c.b.in[c.r:c.w]
		if bytes.HasPrefix(have, headEnd[:2]) {
			c.r += 2
			b.ended = true
			return nil
		}
		from := max(0, searched-len(headEnd)+1)
		i := bytes.Index(have[from:], headEnd)
		switch {
		case i < 0 && bareLine(have[from:], searched-from):
			return malformed("a line of the trailer does not end with CR LF")
		case i < 0 && len(have) >= maxTrailer || from+i+len(headEnd) > maxTrailer:
			return malformed("trailer is too large")
		case i >= 0:
			fields, err := parseFields(string(have[:from+i+2]), nil)
			if err != nil {
				return err
			}
			c.r += from + i + len(headEnd)
			*b.trailer, b.ended = fields, true
			return nil
		}
		searched = len(have)
		c.room()
		if err := b.more(); err != nil {
			return err
		}
	}
}

// line reads a line of at most limit bytes, and returns it without its CR LF. It is
// good until the next read.
func (b *body) line(limit int) ([]byte, error) {
	c := b.c
	for {
		have := c.b.in[c.r:c.w]
		i := bytes.IndexByte(have, '\n')
		switch {
		case i >= limit || i < 0 && len(have) >= limit:
			return nil, malformed("overlong line of a chunked body")
		case i == 0 || i > 0 && bytes.IndexByte(have[:i], '\r') != i-1:
			return nil, malformed("a line of a chunked body does not end with CR LF")
		case i > 0:
			c.r += i + 1
			return have[:i-1], nil
		}
		c.room()
		if err := b.more(); err != nil {
			return nil, err
		}
	}
}
