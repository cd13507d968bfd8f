package ecread

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/quorum"
)

// body is a range of an object, as it is read.
type body struct {
	o    *Object
	ctx  context.Context //nolint:containedctx // of the request that the body answers
	stop func()          // ends ctx

	mu        sync.Mutex // held by who reads or closes; what is below is guarded by it, and used by what that calls
	decoder   *ec.Decoder
	fragments *quorum.Fragments
	segment   int64 // from which on fragments are asked for
	to        int64 // where in archives the end is of what is wanted
	open      int   // fragments that are being read
}

// ask makes the request for a fragment.
func (b *body) ask(index int, but []int) *backend.Request {
	h := make(backend.Header, 0, 6)
	h.Add(backend.PolicyIndex, b.o.policy.Fragments().String())
	h.Add(backend.FragmentTime, b.o.time.String())
	h.Add(backend.FragmentWrite, hex.EncodeToString(b.o.Write[:]))
	if index == quorum.AnyFragment {
		list := make([]string, len(but))
		for i, n := range but {
			list[i] = strconv.Itoa(n)
		}
		h.Add(backend.FragmentsBut, strings.Join(list, ","))
	} else {
		h.Add(backend.FragmentIndex, strconv.Itoa(index))
	}
	h.Add("Range", fmt.Sprintf("bytes=%d-%d", b.o.code.FrameAt(b.segment), b.to-1))
	return &backend.Request{Method: http.MethodGet, Header: h}
}

// judge says which fragment an answer has.
func (b *body) judge(r *backend.Response) (int, error) {
	h, err := header(r.Header)
	switch {
	case err != nil:
		return 0, err
	case h.Layout != b.o.code.Layout || h.Write != b.o.write():
		return 0, fmt.Errorf("fragment of another write, %x of %v", h.Write.ID, h.Shape)
	}
	from := fmt.Sprintf("bytes %d-", b.o.code.FrameAt(b.segment))
	if r.Status != http.StatusPartialContent || !strings.HasPrefix(r.Header.Get("Content-Range"), from) {
		return 0, fmt.Errorf("status %d with the range %q, want %q", r.Status, r.Header.Get("Content-Range"), from)
	}
	return h.Index, nil
}

// header reads which fragment something is.
func header(of backend.Header) (ec.Header, error) {
	text, err := hex.DecodeString(of.Get(backend.Fragment))
	if err != nil || len(text) != ec.HeaderSize {
		return ec.Header{}, fmt.Errorf("%q is no fragment", of.Get(backend.Fragment))
	}
	return ec.ParseHeader(text)
}

// source is an ec.Source.
func (b *body) source(segment int64) (ec.Part, error) {
	p, _, err := b.Beside(segment, 0, nil)
	return p, err
}

// Beside implements ec.Hedge.
func (b *body) Beside(segment int64, late int, wake <-chan struct{}) (p ec.Part, ok bool, err error) {
	b.segment = segment
	f, ok, err := b.fragments.NextUnless(wake, b.o.Data-b.open+late, segment)
	if err != nil {
		if err != io.EOF && b.ctx.Err() != nil {
			err = io.EOF // the decoder's error is replaced by the context's
		}
		return ec.Part{}, false, err
	}
	if !ok {
		return ec.Part{}, false, nil
	}
	h, err := header(f.Header)
	if err != nil { // it was judged
		return ec.Part{}, false, errors.Join(err, f.Body.Close())
	}
	b.open++
	return ec.Part{Header: h, Frames: &frames{body: b, from: f}}, true, nil
}

// Late implements ec.Hedge.
func (b *body) Late(segment int64, waited time.Duration, apart bool) time.Duration {
	b.segment = segment
	return b.fragments.Late(waited, segment, apart)
}

// Enough implements ec.Hedge.
func (b *body) Enough() { b.fragments.Close() }

// frames is what comes of one fragment.
type frames struct {
	body  *body
	from  quorum.Fragment
	began time.Time // when the last Read did
	err   error     // that ended it, but io.EOF
	left  bool      // it was interrupted
}

// Read implements io.Reader.
func (f *frames) Read(p []byte) (int, error) {
	f.began = time.Now()
	n, err := f.from.Body.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// Buffered implements ec.Buffered.
func (f *frames) Buffered() int {
	if in, ok := f.from.Body.(ec.Buffered); ok {
		return in.Buffered()
	}
	return 0
}

// Interrupt implements ec.Interrupter. It is called by who closes it as well.
func (f *frames) Interrupt() {
	f.left = true
	f.from.Interrupt()
}

// Close lets the connection go.
func (f *frames) Close() error {
	f.body.open--
	switch {
	case f.left:
		f.from.Overtaken(time.Since(f.began))
	case f.err != nil:
		f.from.Broke(f.err)
	}
	return f.from.Body.Close()
}

// Read reads the next bytes. io.EOF says that all were read.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.decoder.Read(p)
	return n, b.failed(err)
}

// failed adds what devices said to an error.
func (b *body) failed(err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case b.ctx.Err() != nil:
		return errs.E(op, errs.Aborted, context.Cause(b.ctx))
	case errors.Is(err, ec.ErrTooFew):
		return errs.E(op, errs.Subject(b.o.place.Path.String()), errs.Unavailable, fmt.Errorf("%w; %s", err, b.fragments.Said()))
	}
	return errs.E(op, err)
}

// Close ends all that was begun. It interrupts a Read.
func (b *body) Close() error {
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.decoder.Close()
	b.fragments.Close()
	return err
}
