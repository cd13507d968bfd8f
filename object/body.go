package object

import (
	"io"

	"martlet/internal/conditional"
	"martlet/object/engine"
)

// body is what a GET sends. What it reads of the object goes from the reader's
// buffer straight to whoever takes it.
type body struct {
	reader *engine.Reader
	parts  []conditional.Part
}

// prime reads the first bytes, so that damage there is an answer of its own.
func (b *body) prime() error {
	if s := b.parts[0].Span; s.N > 0 {
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
		if p.Text != "" {
			return []byte(p.Text), nil
		}
		if p.Span.N > 0 {
			got, err := b.reader.View(p.Span.Off, p.Span.N)
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
	if p.Text != "" {
		p.Text = p.Text[n:]
		return
	}
	p.Span.Off += int64(n)
	p.Span.N -= int64(n)
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

// Piece returns what comes next, up to most bytes, from where it is: nothing is copied. They are good until something else is
// read. io.EOF is the end.
func (b *body) Piece(most int64) ([]byte, error) {
	got, err := b.next()
	if err != nil {
		return nil, err
	}
	got = got[:min(int64(len(got)), most)]
	b.took(len(got))
	return got, nil
}

// Close gives back the file and the buffer.
func (b *body) Close() error { return b.reader.Close() }
