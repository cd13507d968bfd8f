// Package segments reads a large object: pieces of other objects, one after the
// other, as one body.
//
// What the pieces are is for whoever knows the manifest (Pieces). Each is read by
// a request of the sender's own, so that it is authorized where it lives. A piece
// that is missing, or is not any more what the manifest says, ends the body with
// an error, never with an end that looks like one; before the first byte is out it
// is an answer of its own (Open).
package segments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// Piece is a stretch of a large object that one object holds, or that stands in
// the manifest itself.
type Piece struct {
	Data []byte // of the manifest; nil: it is in an object

	Path   name.Path // of the object
	Off, N int64     // where in it, and how many bytes
	ETag   string    // that it must have; "" is any
	Size   int64     // that it must have; -1 is any
}

// Pieces hands out what a body is made of, in order. After the last it returns
// io.EOF; any other error ends the body.
type Pieces interface {
	Next(ctx context.Context) (Piece, error)
}

// Limits bound what one body may cost the cluster. Past After pieces smaller than
// Under bytes, no more than PerSecond of them are opened in a second.
type Limits struct {
	After     int
	Under     int64
	PerSecond float64       // 0 is no limit
	MaxTime   time.Duration // that one body may take; 0 is no limit
}

// Open begins to read, and returns when the first byte is there, or there is
// none. The handler is what the requests for pieces are sent to; r is what they
// are made of. Where the body can't begin, refused is the answer: 503 where the
// cluster is at fault, else 409.
func Open(ctx context.Context, next chain.Handler, r *chain.Request, pieces Pieces, l Limits) (body io.ReadCloser, refused *chain.Response) {
	b := &reader{ctx: ctx, next: next, of: r, pieces: pieces, limits: l, began: time.Now()}
	if err := b.openFirst(); err != nil && err != io.EOF {
		_ = b.Close() // nothing was read
		if !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.Aborted) {
			err = errs.E(errs.Conflict, err)
		}
		return nil, chain.Fail(ctx, err)
	}
	return b, nil
}

// reader is the body.
type reader struct {
	ctx    context.Context //nolint:containedctx // of the request that the body answers
	next   chain.Handler
	of     *chain.Request
	pieces Pieces
	limits Limits
	began  time.Time

	lead  []Piece   // that stand in the manifest, before the first object
	now   io.Reader // the piece that is read; nil: none is open
	close func()    // of now
	left  int64     // of now
	piece Piece
	over  error // how it ended

	small int       // pieces that count to the rate
	turn  time.Time // of the next of them
}

// Close lets go of the piece that is open.
func (b *reader) Close() error {
	if b.close != nil {
		b.close()
	}
	b.now, b.close = nil, nil
	if b.over == nil {
		b.over = errors.New("the body was closed")
	}
	return nil
}

// Read reads on, from the next piece where one has come to its end.
func (b *reader) Read(p []byte) (int, error) {
	for {
		if len(b.lead) > 0 {
			return b.readLead(p), nil
		}
		if b.over != nil {
			return 0, b.over
		}
		if b.now == nil {
			if err := b.open(); err != nil {
				return 0, err
			}
			continue
		}
		if b.limits.MaxTime > 0 && time.Since(b.began) > b.limits.MaxTime {
			return 0, b.end(fmt.Errorf("it takes more than %v", b.limits.MaxTime))
		}
		n, err := b.now.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		if b.left == 0 {
			b.close()
			b.now, b.close = nil, nil
			return n, nil
		}
		if errors.Is(err, io.EOF) { // it is too early for any, and none is to be in what comes of it
			err = fmt.Errorf("%w: %v", io.ErrUnexpectedEOF, err) //nolint:errorlint // see above
		}
		if err != nil {
			err = b.end(fmt.Errorf("%s: %w", b.piece.Path, err))
		}
		return n, err
	}
}

// openFirst opens pieces until one is in an object: that it is there is known
// before anything is sent.
func (b *reader) openFirst() error {
	for {
		if err := b.open(); err != nil {
			return err
		}
		if b.piece.Data == nil {
			return nil
		}
		b.lead = append(b.lead, b.piece)
		b.now, b.close = nil, nil
	}
}

// readLead reads what was opened before the first object.
func (b *reader) readLead(p []byte) int {
	first := &b.lead[0]
	n := copy(p, first.Data[first.Off:first.Off+first.N])
	first.Off, first.N = first.Off+int64(n), first.N-int64(n)
	if first.N == 0 {
		b.lead = b.lead[1:]
	}
	return n
}

// end keeps why the body ends.
func (b *reader) end(err error) error {
	if err != io.EOF { // not errors.Is: a failure may have one in it
		err = errs.E(errs.Op("proxy.segments"), errs.Subject(b.of.Path.String()), err)
	}
	b.over = err
	return err
}

// open opens the next piece that has bytes.
func (b *reader) open() error {
	for {
		p, err := b.pieces.Next(b.ctx)
		if err != nil {
			return b.end(err)
		}
		if p.N == 0 {
			continue
		}
		if p.Data != nil {
			b.now, b.close, b.left, b.piece = bytes.NewReader(p.Data[p.Off:p.Off+p.N]), func() {}, p.N, p
			return nil
		}
		if err := b.wait(p.N); err != nil {
			return b.end(err)
		}
		resp, err := b.get(p)
		if err != nil {
			return b.end(err)
		}
		b.now, b.close, b.left, b.piece = resp.Body, resp.Close, p.N, p
		return nil
	}
}

// wait holds a body back that is made of many small pieces.
func (b *reader) wait(size int64) error {
	if b.limits.PerSecond <= 0 || size >= b.limits.Under {
		return nil
	}
	if b.small++; b.small <= b.limits.After {
		return nil
	}
	now := time.Now()
	pause := b.turn.Sub(now)
	b.turn = now.Add(max(pause, 0) + time.Duration(float64(time.Second)/b.limits.PerSecond))
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-b.ctx.Done():
		return errs.E(errs.Aborted, context.Cause(b.ctx))
	}
}

// get opens an object at a piece of it, and makes sure that it is the one that is
// meant.
func (b *reader) get(p Piece) (*chain.Response, error) {
	r := b.of.Sub(http.MethodGet, p.Path)
	r.Query = "multipart-manifest=get" // a manifest is what is stored there, not what it stands for
	part := p.Off > 0 || p.N != p.Size
	if part {
		r.Header["Range"] = []string{"bytes=" + strconv.FormatInt(p.Off, 10) + "-" + strconv.FormatInt(p.Off+p.N-1, 10)}
	}
	resp := b.next.Serve(b.ctx, r)
	if err := check(p, part, resp); err != nil {
		resp.Close()
		return nil, errs.E(errs.Subject(p.Path.String()), err)
	}
	return resp, nil
}

func check(p Piece, part bool, resp *chain.Response) error {
	switch {
	case resp.Status >= 500 || resp.Err != nil && errs.Is(resp.Err, errs.Unavailable):
		return errs.E(errs.Unavailable, fmt.Errorf("status %d: %w", resp.Status, cause(resp)))
	case !resp.OK() || resp.Body == nil:
		return fmt.Errorf("status %d", resp.Status)
	}
	if etag := strings.Trim(resp.Get("Etag"), `"`); p.ETag != "" && etag != p.ETag {
		return fmt.Errorf("its ETag is %s, the manifest says %s", etag, p.ETag)
	}
	size, got := resp.Length, resp.Length
	if resp.Status == http.StatusPartialContent {
		_, whole, ok := strings.Cut(resp.Get("Content-Range"), "/")
		n, err := strconv.ParseInt(whole, 10, 64)
		if !ok || err != nil {
			return fmt.Errorf("its Content-Range is %q", resp.Get("Content-Range"))
		}
		size = n
	} else if part && p.Off > 0 {
		return fmt.Errorf("status %d to a range", resp.Status)
	}
	if p.Size >= 0 && size != p.Size {
		return fmt.Errorf("it has %d bytes, the manifest says %d", size, p.Size)
	}
	if got < p.N {
		return fmt.Errorf("%d bytes came, %d are wanted", got, p.N)
	}
	return nil
}

func cause(resp *chain.Response) error {
	if resp.Err != nil {
		return resp.Err
	}
	return errors.New("no more is known")
}
