// Package dlo is dynamic large objects: objects that are whatever objects there
// are in a container whose names have a beginning in common.
//
// Segments that are symbolic links count as what they stand for, which is looked up
// for each: the listing knows no size of theirs.
//
// The manifest is an object with X-Object-Manifest: container/prefix. A GET reads
// the container's listing and then its objects in the order of their names. Size
// and ETag of the whole are known where all of them fit on one page of a listing;
// else there is neither, and a range is honoured only where it lies within the
// first page.
package dlo

import (
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"martlet/internal/conditional"
	"martlet/internal/conf"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
	"martlet/proxy/segments"
)

// Config is what an operator may set.
type Config struct {
	RateAfter     int           `toml:"rate_limit_after_segment"`    // segments of a read that are not held back
	RatePerSecond int           `toml:"rate_limit_segments_per_sec"` // segments in a second after that; 0 is no limit
	MaxGetTime    conf.Duration `toml:"max_get_time"`                // that one read may take
}

// Defaults returns Swift's.
func Defaults() Config {
	return Config{RateAfter: 10, RatePerSecond: 1, MaxGetTime: conf.Duration(24 * time.Hour)}
}

// Section is what /info says.
func (c Config) Section() map[string]any {
	return map[string]any{}
}

const (
	hdrManifest = "X-Object-Manifest"
	hdrStatic   = "X-Static-Large-Object"
)

// feature is the link.
type feature struct {
	cfg  Config
	page int // rows of a listing
	next chain.Handler
}

// Link returns the feature. page is how many rows a listing has at most.
func Link(cfg Config, page int) chain.Link {
	return func(next chain.Handler) chain.Handler { return &feature{cfg, page, next} }
}

// The same for every request: that ranges are not about the manifest.
var (
	ignoreRangeIf       = []string{hdrManifest}
	ignoreRangeIfEither = []string{hdrStatic + "," + hdrManifest}
)

// Serve implements chain.Handler.
func (f *feature) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	if r.Path.Object == "" {
		return f.next.Serve(ctx, r)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if r.Query != "" {
			if form, _ := r.Param("multipart-manifest"); form == "get" {
				return f.next.Serve(ctx, r)
			}
		}
		return f.get(ctx, r)
	case http.MethodPut, http.MethodPost:
		if v := r.Header[hdrManifest]; v != nil && v[0] != "" {
			if _, _, err := parse(v[0]); err != nil {
				return chain.Fail(ctx, err)
			}
		}
	}
	return f.next.Serve(ctx, r)
}

// parse reads "container/prefix", percent-encoded.
func parse(value string) (container, prefix string, err error) {
	bad := errs.Refuse(errs.Invalid, "X-Object-Manifest must be in the format container/prefix")
	container, prefix, ok := strings.Cut(value, "/")
	if !ok || container == "" || prefix == "" || strings.ContainsAny(value, "?&") || strings.HasPrefix(prefix, "/") {
		return "", "", bad
	}
	p, err := name.Parse("/a/" + container + "/" + prefix)
	if err != nil || p.Object == "" {
		return "", "", bad
	}
	return p.Container, p.Object, nil
}

// get answers with the large object where there is the manifest of one.
func (f *feature) get(ctx context.Context, r *chain.Request) *chain.Response {
	switch old := r.Header[chain.IgnoreRangeIf]; {
	case old == nil:
		r.Header[chain.IgnoreRangeIf] = ignoreRangeIf
	case old[0] == hdrStatic:
		r.Header[chain.IgnoreRangeIf] = ignoreRangeIfEither
	default:
		r.Header[chain.IgnoreRangeIf] = []string{old[0] + "," + hdrManifest}
	}
	resp := f.next.Serve(ctx, r)
	manifest := resp.Get(hdrManifest)
	if manifest == "" || chain.Truth(resp.Get(hdrStatic)) {
		return resp
	}
	resp.Close()
	if !resp.OK() { // a condition that is about the manifest: ask without
		plain := r.Sub(http.MethodHead, r.Path)
		if resp = f.next.Serve(ctx, plain); !resp.OK() {
			return resp
		}
		manifest = resp.Get(hdrManifest)
	}
	container, prefix, err := parse(manifest)
	if err != nil { // a copy of the header from before it was checked
		return chain.Fail(ctx, errs.E(errs.Conflict, err))
	}
	w := &walk{f: f, r: r, container: name.Path{Account: resp.Account(r.Path.Account), Container: container}, prefix: prefix}
	refused := w.list(ctx, "")
	if refused != nil {
		if r.Method == http.MethodHead {
			refused.Drop()
		}
		return refused
	}
	return f.send(ctx, r, resp, w)
}

// send answers with what is asked for of the large object.
func (f *feature) send(ctx context.Context, r *chain.Request, resp *chain.Response, w *walk) *chain.Response {
	resp.Status, resp.Body, resp.Length = http.StatusOK, nil, -1
	delete(resp.Header, "Content-Range")
	size, etag := w.sums()
	if w.more { // neither is of the whole, and the manifest's ETag is not either
		etag = ""
		delete(resp.Header, "Etag")
	} else {
		resp.Header["Etag"] = []string{`"` + etag + `"`}
		resp.Length = size
	}
	if settled := segments.Precondition(r, resp, etag); settled != nil {
		return settled
	}
	if r.Method == http.MethodHead {
		return resp
	}
	whole := segments.Whole{ETag: etag, Size: size, Pieces: func(span conditional.Span) segments.Pieces {
		stretch := *w
		stretch.skip, stretch.left = span.Off, span.N
		return &stretch
	}}
	if strings.Contains(r.Header.Get("Range"), ",") {
		delete(r.Header, "Range") // as Swift: several ranges of what may change meanwhile are none
	}
	if !w.more {
		return segments.Answer(ctx, f.next, r, resp, whole, f.rates())
	}
	if span, ok := within(r, resp, size); ok {
		resp.Status = http.StatusPartialContent
		resp.Header["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", span.Off, span.Off+span.N-1, size)}
		return segments.Part(ctx, f.next, r, resp, whole, span, f.rates())
	}
	w.left = unknown
	body, refused := segments.Open(ctx, f.next, r, w, f.rates())
	if refused != nil {
		return refused
	}
	resp.Body = body
	return resp
}

// unknown stands for a length that is not known: more than there can be.
const unknown = 1<<63 - 1

// within returns the range that is asked for of a large object of unknown size,
// where it is one that lies within the first size bytes. A range without a last
// byte, or from the end, reaches beyond them however long the object is.
func within(r *chain.Request, resp *chain.Response, size int64) (conditional.Span, bool) {
	cond := conditional.From(r.Header.Get)
	modified, _ := http.ParseTime(resp.Get("Last-Modified"))
	spans, extent := cond.Spans(conditional.Validators{Modified: modified}, unknown)
	if extent != conditional.Partial || len(spans) != 1 || spans[0].Off+spans[0].N > size {
		return conditional.Span{}, false
	}
	return spans[0], true
}

func (f *feature) rates() segments.Limits {
	return segments.Limits{After: f.cfg.RateAfter, Under: 1 << 62, PerSecond: float64(f.cfg.RatePerSecond), MaxTime: f.cfg.MaxGetTime.D()}
}

// walk hands out the pieces of a stretch of a large object, page by page of the
// listing.
type walk struct {
	f          *feature
	r          *chain.Request
	container  name.Path
	prefix     string
	rows       []listing.Object
	more       bool  // there may be more behind rows
	skip, left int64 // bytes before, and of, what is wanted
}

// list reads a page. The response is nil where it could.
func (w *walk) list(ctx context.Context, marker string) *chain.Response {
	sub := w.r.Sub(http.MethodGet, w.container)
	sub.Query = "prefix=" + url.QueryEscape(w.prefix)
	if marker != "" {
		sub.Query += "&marker=" + url.QueryEscape(marker)
	}
	resp := w.f.next.Serve(ctx, sub)
	if !resp.OK() {
		return resp
	}
	resp.Close()
	w.rows, w.more = nil, false
	if resp.Rows != nil {
		w.rows = resp.Rows.Objects
		w.more = len(w.rows) >= w.f.page
	}
	return w.follow(ctx)
}

// linksAtOnce is how many links among the segments are looked at at one time.
const linksAtOnce = 4

// follow gives rows of links the size and the ETag of what is read there, which the
// listing does not know. The response is nil where it could: a link that leads
// nowhere is a segment that is missing, not an empty one.
func (w *walk) follow(ctx context.Context) *chain.Response {
	type look struct {
		row  *listing.Object
		head *chain.Response
	}
	var looks []*look
	for i := range w.rows {
		if w.rows[i].SymlinkPath != "" {
			looks = append(looks, &look{row: &w.rows[i]})
		}
	}
	if len(looks) == 0 {
		return nil
	}
	chain.Each(min(linksAtOnce, len(looks)), slices.Values(looks), func(l *look) {
		p := w.container
		p.Object = l.row.Name
		l.head = w.f.next.Serve(ctx, w.r.Sub(http.MethodHead, p))
		l.head.Close()
	})
	for _, l := range looks {
		if l.head.OK() && l.head.Length >= 0 {
			l.row.Bytes, l.row.Hash = l.head.Length, l.head.Get("Etag")
			continue
		}
		kind := errs.Conflict
		if l.head.Status >= 500 {
			kind = errs.Unavailable
		}
		return chain.Fail(ctx, errs.E(errs.Op("dlo.follow"), kind, fmt.Errorf("%s: status %d", l.row.Name, l.head.Status)))
	}
	return nil
}

// sums returns the size and the ETag of what is on the first page.
func (w *walk) sums() (size int64, etag string) {
	sum := md5.New()
	for _, row := range w.rows {
		size += row.Bytes
		hash, _, _ := strings.Cut(row.Hash, ";")
		_, _ = io.WriteString(sum, strings.Trim(hash, `"`)) // never fails
	}
	return size, hex.EncodeToString(sum.Sum(nil))
}

// Next implements segments.Pieces.
func (w *walk) Next(ctx context.Context) (segments.Piece, error) {
	for w.left > 0 {
		if len(w.rows) == 0 {
			return segments.Piece{}, io.EOF
		}
		row := w.rows[0]
		w.rows = w.rows[1:]
		if len(w.rows) == 0 && w.more {
			if err := w.turn(ctx, row.Name); err != nil {
				return segments.Piece{}, err
			}
		}
		if w.skip >= row.Bytes {
			w.skip -= row.Bytes
			continue
		}
		p := segments.Piece{Path: w.container, Off: w.skip, N: min(row.Bytes-w.skip, w.left), Size: row.Bytes}
		p.Path.Object = row.Name
		w.skip, w.left = 0, w.left-p.N
		return p, nil
	}
	return segments.Piece{}, io.EOF
}

// turn goes to the next page.
func (w *walk) turn(ctx context.Context, marker string) error {
	if refused := w.list(ctx, marker); refused != nil {
		refused.Close()
		return errs.E(errs.Unavailable, fmt.Errorf("the listing behind %q: status %d: %w", marker, refused.Status, refused.Err))
	}
	return nil
}
