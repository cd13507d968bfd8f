package ec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

func shape(t testing.TB, s string) Shape {
	t.Helper()
	shape, err := ParseShape(s)
	if err != nil {
		t.Fatal(err)
	}
	return shape
}

// code returns one for segments that are short enough to try everything.
func code(t testing.TB, s string, segment int) *Code {
	t.Helper()
	c, err := New(Layout{Shape: shape(t, s), Segment: segment})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bytesOf(n int, seed uint64) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// write is one with a known size.
func write(id byte, size int) Write { return Write{ID: WriteID{id, 15: 0xff}, Size: int64(size)} }

// archives encodes a body that is written piece by piece.
func archives(t testing.TB, c *Code, w Write, body []byte, piece int) [][]byte {
	t.Helper()
	e, all := encoder(t, c, w)
	for len(body) > 0 {
		n := min(piece, len(body))
		if got, err := e.Write(body[:n]); err != nil || got != n {
			t.Fatalf("wrote %d of %d: %v", got, n, err)
		}
		body = body[n:]
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return *all
}

func encoder(t testing.TB, c *Code, w Write) (*Encoder, *[][]byte) {
	t.Helper()
	all := make([][]byte, c.Fragments())
	e, err := c.Encode(w, func(next [][]byte) error {
		for i := range next {
			all[i] = append(all[i], next[i]...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return e, &all
}

// stream is a body of frames that may fail, and knows whether it was closed.
type stream struct {
	io.Reader
	open *int
}

func (s stream) Close() error { *s.open--; return nil }

func (s stream) Interrupt() {
	if in, ok := s.Reader.(Interrupter); ok {
		in.Interrupt()
	}
}

func (s stream) Buffered() int {
	if b, ok := s.Reader.(Buffered); ok {
		return b.Buffered()
	}
	return 0
}

// here has all of its bytes, and says so.
type here struct{ *bytes.Reader }

func (h here) Buffered() int { return h.Len() }

// nodes hands out archives in their order, each as it is or with what goes wrong.
type nodes struct {
	archives [][]byte
	segments []int64 // from which each was asked for
	given    int
	open     int
	here     set // which say that all of them can be read without waiting
	wrap     func(i int, r io.Reader) io.Reader
}

func (n *nodes) source(segment int64) (Part, error) {
	if n.given == len(n.archives) {
		return Part{}, io.EOF
	}
	i := n.given
	n.given++
	n.segments = append(n.segments, segment)
	a := n.archives[i]
	h, err := ParseHeader(a)
	if err != nil {
		return Part{}, err
	}
	all := bytes.NewReader(a[min(h.FrameAt(segment), int64(len(a))):])
	var r io.Reader = all
	if n.here.has(i) {
		r = here{all}
	}
	if n.wrap != nil {
		r = n.wrap(i, r)
	}
	n.open++
	return Part{Header: h, Frames: stream{r, &n.open}}, nil
}

func from(archives ...[]byte) *nodes { return &nodes{archives: archives} }

// everyone says that all archives are read without waiting.
const everyone = ^set(0)

// decoded reads a range by Read and by WriteTo, of archives that are waited for and of such that are there, which
// must not differ.
func decoded(c *Code, w Write, off, n int64, archives ...[]byte) ([]byte, []Fault, error) {
	return decodedFrom(c, w, off, n, func() *nodes { return from(archives...) })
}

func decodedFrom(c *Code, w Write, off, n int64, sources func() *nodes) ([]byte, []Fault, error) {
	var results [4][]byte
	var failed [4]error
	var faults []Fault
	for i := range results {
		nodes := sources()
		if i >= 2 {
			nodes.here = ^nodes.here
		}
		d, err := c.Decode(w, off, n, nodes.source)
		if err != nil {
			return nil, nil, err
		}
		var b bytes.Buffer
		if i%2 == 0 {
			_, failed[i] = b.ReadFrom(struct{ io.Reader }{d})
		} else {
			_, failed[i] = d.WriteTo(&b)
		}
		results[i], faults = b.Bytes(), d.Faults()
		if err := d.Close(); err != nil {
			return nil, faults, err
		}
		if nodes.open != 0 {
			return nil, faults, fmt.Errorf("%d archives are still open", nodes.open)
		}
		if !bytes.Equal(results[i], results[0]) || (failed[i] == nil) != (failed[0] == nil) {
			return nil, faults, fmt.Errorf("ways of reading differ: %d bytes, %w; %d bytes, %w", len(results[0]), failed[0], len(results[i]), failed[i])
		}
	}
	return results[0], faults, failed[0]
}

// readAll reads all of an object and lets it go.
func readAll(c *Code, w Write, of *nodes) error {
	d, err := c.Decode(w, 0, -1, of.source)
	if err != nil {
		return err
	}
	if _, err := d.WriteTo(io.Discard); err != nil {
		return err
	}
	return d.Close()
}

var errBroken = errors.New("the connection broke")

// breaking fails after n bytes.
func breaking(r io.Reader, n int64) io.Reader {
	return io.MultiReader(io.LimitReader(r, n), failing{})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }
