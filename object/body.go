package object

import (
	"io"

	"martlet/internal/conditional"
	"martlet/object/engine"
)

// part is some text and then some bytes of the object.
type part struct {
	text string
	span conditional.Span
}

// body is what a GET sends. What it reads of the object goes from the reader's
// buffer straight to whoever takes it.
type body struct {
	reader *engine.Reader
	parts  []part
}

func (b *body) length() int64 {
	var n int64
	for _, p := range b.parts {
		n += int64(len(p.text)) + p.span.N
	}
	return n
}

// prime reads the first bytes, so that damage there is an answer of its own.
func (b *body) prime() error {
	if s := b.parts[0].span; s.N > 0 {
		_, err := b.reader.View(s.Off, s.N)
		return err
	}
	return nil
}

// next returns what comes next; io.EOF at the end. The caller says with took how
// much of it was used.
func (b *body) next() ([]byte, error) {
	for len(b.parts) > 0 {
		p := &b.parts[0]
		if p.text != "" {
			return []byte(p.text), nil
		}
		if p.span.N > 0 {
			got, err := b.reader.View(p.span.Off, p.span.N)
			if err == io.EOF {
				err = io.ErrUnexpectedEOF // never the end of what was promised
			}
			return got, err
		}
		b.parts = b.parts[1:]
	}
	return nil, io.EOF
}

func (b *body) took(n int) {
	p := &b.parts[0]
	if p.text != "" {
		p.text = p.text[n:]
		return
	}
	p.span.Off += int64(n)
	p.span.N -= int64(n)
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	got, err := b.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, got)
	b.took(n)
	return n, nil
}

// WriteTo implements io.WriterTo.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		got, err := b.next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(got)
		total += int64(n)
		b.took(n)
		if err != nil {
			return total, err
		}
	}
}

// Close gives back the file and the buffer.
func (b *body) Close() error { return b.reader.Close() }
