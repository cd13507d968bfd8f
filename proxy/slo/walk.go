package slo

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"martlet/internal/conditional"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
	"martlet/proxy/segments"
)

// walk hands out the pieces of a stretch of a large object. Manifests in it are
// opened when they are reached, and forgotten when they are done: what is in
// memory is one for each level, and no more bytes of them than maxStored.
type walk struct {
	f     *feature
	r     *chain.Request
	stack []level
	open  int64 // bytes of the manifests on the stack, but for the first
}

// level is one manifest that is walked through.
type level struct {
	m    *manifest
	next int              // segment
	skip int64            // bytes before what is wanted
	left int64            // bytes that are wanted
	cost int64            // bytes of the manifest
	last conditional.Span // of the segment that is handed out
}

func newWalk(f *feature, r *chain.Request, m *manifest, span conditional.Span) *walk {
	return &walk{f: f, r: r, stack: []level{{m: m, skip: span.Off, left: span.N}}}
}

// Next implements segments.Pieces.
func (w *walk) Next(ctx context.Context) (segments.Piece, error) {
	for len(w.stack) > 0 {
		s := w.stack[len(w.stack)-1].advance()
		if s == nil {
			w.open -= w.stack[len(w.stack)-1].cost
			w.stack = w.stack[:len(w.stack)-1]
			continue
		}
		span := w.stack[len(w.stack)-1].last
		if s.Data != nil {
			return segments.Piece{Data: s.Data, Off: span.Off, N: span.N}, nil
		}
		path, _ := pathOf(w.stack[len(w.stack)-1].m.account, s.Name) // read has checked it
		if !s.Sub {
			return segments.Piece{Path: path, Off: span.Off, N: span.N, ETag: s.Hash, Size: s.Bytes}, nil
		}
		if err := w.descend(ctx, path, s, span); err != nil {
			return segments.Piece{}, err
		}
	}
	return segments.Piece{}, io.EOF
}

// advance goes to the next segment of which bytes are wanted, nil where there is
// none, and works out which.
func (l *level) advance() *stored {
	for ; l.next < len(l.m.segments) && l.left > 0; l.next++ {
		span := l.m.spans[l.next]
		if l.skip >= span.N {
			l.skip -= span.N
			continue
		}
		n := min(span.N-l.skip, l.left)
		l.last = conditional.Span{Off: span.Off + l.skip, N: n}
		l.skip, l.left = 0, l.left-n
		l.next++
		return &l.m.segments[l.next-1]
	}
	return nil
}

// descend opens a manifest that is a segment.
func (w *walk) descend(ctx context.Context, path name.Path, s *stored, span conditional.Span) error {
	if len(w.stack) >= MaxDepth {
		return errs.E(errs.Conflict, fmt.Errorf("%s: it is deeper than %d manifests", path, MaxDepth))
	}
	sub := w.r.Sub(http.MethodGet, path)
	sub.Query = "multipart-manifest=get"
	resp := w.f.next.Serve(ctx, sub)
	defer resp.Close()
	switch {
	case resp.Status >= 500:
		return errs.E(errs.Unavailable, fmt.Errorf("%s: status %d: %w", path, resp.Status, resp.Err))
	case !resp.OK():
		return fmt.Errorf("%s: status %d", path, resp.Status)
	case !chain.Truth(resp.Get(hdrStatic)):
		return fmt.Errorf("%s: it is no manifest any more", path)
	}
	cost := resp.Length
	if w.open += cost; w.open > w.f.cfg.maxStored() {
		return errs.E(errs.Conflict, fmt.Errorf("%s: the manifests in each other are more than %d bytes", path, w.f.cfg.maxStored()))
	}
	m, err := w.f.parse(path.Account, resp)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if m.etag != s.Hash || m.size != s.Bytes {
		return fmt.Errorf("%s: it is of %d bytes and ETag %s, the manifest says %d and %s", path, m.size, m.etag, s.Bytes, s.Hash)
	}
	w.stack = append(w.stack, level{m: m, skip: span.Off, left: span.N, cost: cost})
	return nil
}
