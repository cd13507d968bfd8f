package slo

import (
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/conditional"
	"martlet/internal/errs"
	"martlet/proxy/chain"
	"martlet/proxy/segments"
)

// maxStored is how many bytes a manifest as it is kept may have: more than what
// was put, by what was found out about each segment.
func (c Config) maxStored() int64 { return 4*int64(c.MaxSize) + int64(c.MaxSegments)*16<<10 }

// The same for every request: that conditions are about the large object, and
// ranges not about the manifest.
var (
	etagIsAt      = []string{hdrETag}
	ignoreRangeIf = []string{hdrStatic}
)

// getManifest answers with the manifest itself: as it is kept, or with format=raw
// as it can be put.
func (f *feature) getManifest(ctx context.Context, r *chain.Request) *chain.Response {
	format, _ := r.Param("format")
	if format == "raw" { // it is made of all of what is kept
		r.Header[chain.IgnoreRangeIf] = ignoreRangeIf
	}
	resp := f.next.Serve(ctx, r)
	if !chain.Truth(resp.Get(hdrStatic)) || !resp.OK() {
		return resp
	}
	if format != "raw" {
		if strings.HasPrefix(resp.Get("Content-Type"), "multipart/byteranges") && resp.Status == http.StatusPartialContent {
			return resp // it says where the ranges are
		}
		resp.Header["Content-Type"] = []string{"application/json; charset=utf-8"}
		return resp
	}
	if r.Method == http.MethodHead {
		sub := r.Sub(http.MethodGet, r.Path)
		sub.Query = "multipart-manifest=get"
		whole := f.next.Serve(ctx, sub)
		resp.Length, resp.Body = whole.Length, whole.Body
	}
	m, err := f.parse(r.Path.Account, resp)
	if err != nil {
		return chain.Fail(ctx, err)
	}
	text, err := m.raw()
	if err != nil {
		return chain.Fail(ctx, err)
	}
	// The content type stays that of the large object, so that a copy has it.
	sum := md5.Sum(text)
	resp.Header["Etag"] = []string{hex.EncodeToString(sum[:])}
	resp.SetText(string(text))
	return resp
}

// get answers with the large object.
func (f *feature) get(ctx context.Context, r *chain.Request) *chain.Response {
	r.Header[chain.EtagIsAt] = etagIsAt
	r.Header[chain.IgnoreRangeIf] = ignoreRangeIf
	resp := f.next.Serve(ctx, r)
	if !chain.Truth(resp.Get(hdrStatic)) {
		return resp
	}
	number, err := partNumber(r)
	if err != nil {
		resp.Close()
		return chain.Fail(ctx, err)
	}
	etag, size, known := about(resp)
	if known && (!resp.OK() || r.Method == http.MethodHead && number == 0) {
		resp.Header[hdrManifest] = resp.Header["Etag"]
		resp.Header["Etag"] = []string{`"` + etag + `"`}
		if resp.OK() {
			resp.Length = size
		}
		return resp
	}
	m, resp, refused := f.open(ctx, r, resp, known)
	if refused != nil {
		return refused
	}
	return f.send(ctx, r, resp, m, number)
}

// about reads what is kept beside a manifest. Manifests of an early Swift have
// nothing: known is false then.
func about(resp *chain.Response) (etag string, size int64, known bool) {
	etag = resp.Get(hdrETag)
	size, err := strconv.ParseInt(resp.Get(hdrSize), 10, 64)
	return etag, size, err == nil && size >= 0 && etag != ""
}

// open reads the manifest, asking for it where the answer has none. Conditions
// that the storage nodes could not know of are settled here.
func (f *feature) open(ctx context.Context, r *chain.Request, resp *chain.Response, known bool) (*manifest, *chain.Response, *chain.Response) {
	if resp.Status != http.StatusOK || r.Method == http.MethodHead {
		resp.Close()
		again := r.Sub(http.MethodGet, r.Path)
		again.Query = r.Query // it may say which version
		resp = f.next.Serve(ctx, again)
		if !resp.OK() || !chain.Truth(resp.Get(hdrStatic)) {
			resp.Close() // it has become something else in between
			return nil, nil, chain.Fail(ctx, errs.E(errs.Op("slo.get"), errs.Unavailable, fmt.Errorf("the manifest is gone: status %d", resp.Status)))
		}
	}
	m, err := f.parse(r.Path.Account, resp)
	if err != nil {
		return nil, nil, chain.Fail(ctx, err)
	}
	resp.Body = nil
	if etag, size, ok := about(resp); ok {
		m.etag = etag
		if size != m.size {
			return nil, nil, chain.Fail(ctx, errs.E(errs.Op("slo.get"), errs.Corrupt, fmt.Errorf("the manifest is of %d bytes, beside it stands %d", m.size, size)))
		}
	}
	resp.Header[hdrManifest] = resp.Header["Etag"]
	resp.Header["Etag"] = []string{`"` + m.etag + `"`}
	if !known {
		if settled := segments.Precondition(r, resp, m.etag); settled != nil {
			return nil, nil, settled
		}
	}
	return m, resp, nil
}

// parse reads the manifest that an account's object was answered with.
func (f *feature) parse(account string, resp *chain.Response) (*manifest, error) {
	body, err := resp.ReadAll(f.cfg.maxStored())
	if err != nil {
		return nil, err
	}
	m, err := read(body)
	if err == nil {
		m.account = resp.Account(account)
	}
	return m, err
}

// send answers with what is asked for of the large object.
func (f *feature) send(ctx context.Context, r *chain.Request, resp *chain.Response, m *manifest, number int) *chain.Response {
	whole := segments.Whole{ETag: m.etag, Size: m.size, Pieces: func(span conditional.Span) segments.Pieces {
		return newWalk(f, r, m, span)
	}}
	delete(resp.Header, "Content-Range")
	if number == 0 {
		if r.Method == http.MethodHead {
			resp.Length = m.size
			return resp
		}
		return segments.Answer(ctx, f.next, r, resp, whole, f.cfg.rates())
	}
	resp.Header["X-Parts-Count"] = []string{strconv.Itoa(len(m.segments))}
	if number > len(m.segments) {
		no := chain.Plain(http.StatusRequestedRangeNotSatisfiable, chain.PageType, "The requested part number is not satisfiable")
		for n, v := range resp.Header {
			if n != "Content-Type" {
				no.Header[n] = v
			}
		}
		no.Header["Content-Range"] = []string{fmt.Sprintf("bytes */%d", m.size)}
		if r.Method == http.MethodHead {
			no.SetText("")
		}
		return no
	}
	span := conditional.Span{N: m.spans[number-1].N}
	for _, before := range m.spans[:number-1] {
		span.Off += before.N
	}
	resp.Status, resp.Length = http.StatusPartialContent, span.N
	resp.Header["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", span.Off, span.Off+span.N-1, m.size)}
	if r.Method == http.MethodHead {
		return resp
	}
	return segments.Part(ctx, f.next, r, resp, whole, span, f.cfg.rates())
}

// partNumber reads the part that is asked for; 0 is none.
func partNumber(r *chain.Request) (int, error) {
	text, ok := "", false
	if r.Query != "" {
		text, ok = r.Param("part-number")
	}
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n <= 0 {
		return 0, errs.Refuse(errs.Invalid, "Part number must be an integer greater than 0")
	}
	if r.Header.Get("Range") != "" {
		return 0, errs.Refuse(errs.Invalid, "Range requests are not supported with part number queries")
	}
	return n, nil
}
