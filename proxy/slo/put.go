package slo

import (
	"bytes"
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/conditional"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/proxy/chain"
	"martlet/proxy/listings"
	"martlet/proxy/report"
)

// put takes in a manifest, from whom may put one. With heartbeat=on the answer
// begins before the segments are looked at.
func (f *feature) put(ctx context.Context, r *chain.Request) *chain.Response {
	ask := r.Sub(http.MethodPut, r.Path) // before a manifest is read, and a thousand objects looked at
	ask.Header[chain.OnlyAsk] = []string{"true"}
	if resp := f.next.Serve(ctx, ask); resp.OK() {
		resp.Close()
	} else {
		return resp
	}
	list, err := f.take(r)
	if err != nil {
		resp := chain.Fail(ctx, err)
		if errs.Is(err, errs.Invalid) {
			resp = chain.Plain(resp.Status, "text/plain", errs.PublicOf(err))
		}
		return resp
	}
	contentType, ok := listings.Accepted(r.Header)
	if !ok {
		contentType = "text/plain"
	}
	if r.HasFlag("heartbeat") {
		// The work goes on while the answer is sent, for which the client's header is still read.
		own := *r
		own.Header = r.Header.Clone()
		resp := &chain.Response{Status: http.StatusAccepted, Header: http.Header{"Content-Type": {contentType}}, Length: -1}
		resp.Body = report.Heartbeat(ctx, f.cfg.Heartbeat.D(), report.Beat{AtOnce: true}, func(ctx context.Context) string {
			return f.told(f.store(ctx, &own, list)).Text(contentType)
		})
		return resp
	}
	out := f.store(ctx, r, list)
	if len(out.problems) > 0 {
		return chain.Plain(http.StatusBadRequest, contentType, (&report.Report{Root: "upload", Failures: out.problems}).Text(contentType))
	}
	return out.resp
}

// take reads the manifest that a client sends.
func (f *feature) take(r *chain.Request) ([]wanted, error) {
	most := int64(f.cfg.MaxSize)
	tooLarge := errs.Refuse(errs.TooLarge, "Manifest File > %d bytes", most)
	switch {
	case r.Header.Get("X-Copy-From") != "":
		return nil, errs.Refuse(errs.Method, "Multipart Manifest PUTs cannot be COPY requests")
	case r.Length < 0 && r.Body == nil:
		return nil, errs.E(errs.Length)
	case r.Length > most:
		return nil, tooLarge
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, most+1)); err != nil {
			return nil, err
		}
	}
	if int64(len(body)) > most {
		return nil, tooLarge
	}
	if r.Length >= 0 && int64(len(body)) != r.Length {
		return nil, errs.E(errs.Aborted, io.ErrUnexpectedEOF)
	}
	return parse(body, r.Path, f.cfg.MaxSegments)
}

// outcome is what came of a manifest: problems with its segments, or an answer.
type outcome struct {
	problems []report.Failure
	resp     *chain.Response
}

// told makes the report of an outcome, for a client that has its status already.
func (f *feature) told(out outcome) *report.Report {
	rep := &report.Report{Root: "upload", Fields: map[string]any{}, Failures: out.problems}
	if len(out.problems) > 0 {
		out.resp = chain.Plain(http.StatusBadRequest, "", httpapi.Reason(http.StatusBadRequest))
	}
	rep.Fields["Response Status"] = report.Status(out.resp.Status)
	if out.resp.OK() {
		rep.Fields["Etag"] = out.resp.Get("Etag")
		rep.Fields["Last Modified"] = out.resp.Get("Last-Modified")
	}
	body, err := out.resp.ReadAll(64 << 10)
	if err != nil {
		body = nil // the status says what there is to say
	}
	rep.Fields["Response Body"] = string(body)
	return rep
}

// store looks at the segments and keeps the manifest.
func (f *feature) store(ctx context.Context, r *chain.Request, list []wanted) outcome {
	kept, problems := f.verify(ctx, r, list)
	if len(problems) > 0 {
		return outcome{problems: problems}
	}
	etag, size := etagOf(kept), int64(0)
	for i := range kept {
		span, err := kept[i].span()
		if err != nil || size+span.N < size {
			return outcome{resp: chain.Fail(ctx, errs.E(errs.Op("slo.put"), errs.Invalid, err))}
		}
		size += span.N
	}
	if want := strings.Trim(r.Header.Get("Etag"), `"`); want != "" && want != etag {
		return outcome{resp: chain.Fail(ctx, errs.Refuse(errs.Mismatch, "ETag %s is not that of the large object, %s", want, etag))}
	}
	body, err := json.Marshal(kept)
	if err != nil {
		return outcome{resp: chain.Fail(ctx, errs.E(errs.Op("slo.put"), err))}
	}
	return outcome{resp: f.keep(ctx, r, body, etag, size)}
}

// replay keeps a manifest as another cluster keeps it. Its segments may still be on
// their way, and are looked at when they are read.
func (f *feature) replay(ctx context.Context, r *chain.Request) *chain.Response {
	most := f.cfg.maxStored()
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, most+1)); err != nil {
			return chain.Fail(ctx, err)
		}
	}
	switch {
	case int64(len(body)) > most:
		return chain.Fail(ctx, errs.Refuse(errs.TooLarge, "Manifest File > %d bytes", most))
	case r.Length >= 0 && int64(len(body)) != r.Length:
		return chain.Fail(ctx, errs.E(errs.Aborted, io.ErrUnexpectedEOF))
	}
	m, err := read(body)
	if err != nil {
		return chain.Fail(ctx, errs.E(errs.Op("slo.replay"), errs.Invalid, errs.Public("Not an SLO manifest"), err))
	}
	sum := md5.Sum(body)
	if want := strings.Trim(r.Header.Get("Etag"), `"`); want != "" && want != hex.EncodeToString(sum[:]) {
		return chain.Fail(ctx, errs.E(errs.Op("slo.replay"), errs.Mismatch))
	}
	return f.keep(ctx, r, body, m.etag, m.size)
}

// keep keeps the text of a manifest, with what is known of the whole beside it.
func (f *feature) keep(ctx context.Context, r *chain.Request, body []byte, etag string, size int64) *chain.Response {
	sum := md5.Sum(body)
	own := hex.EncodeToString(sum[:])
	r.Query, r.Body, r.Length = "", bytes.NewReader(body), int64(len(body))
	for n, v := range map[string]string{
		hdrETag: etag, hdrSize: strconv.FormatInt(size, 10), hdrStatic: "True", "Etag": own, hdrListed: own + listedMark + etag,
		chain.ListedBytes: strconv.FormatInt(size, 10),
	} {
		r.Header[n] = []string{v}
	}
	resp := f.next.Serve(ctx, r)
	if resp.OK() {
		resp.Header["Etag"] = []string{`"` + etag + `"`}
	}
	return resp
}

// verify asks for the head of each segment, a few at a time, each object once.
func (f *feature) verify(ctx context.Context, r *chain.Request, list []wanted) ([]stored, []report.Failure) {
	heads := map[name.Path]*chain.Response{}
	paths := make([]name.Path, 0, len(list))
	for _, w := range list {
		if _, ok := heads[w.path]; !ok && !w.plain {
			heads[w.path] = nil
			paths = append(paths, w.path)
		}
	}
	found := f.heads(ctx, r, paths)
	for i, p := range paths {
		heads[p] = found[i]
	}
	kept := make([]stored, len(list))
	var problems []report.Failure
	for i, w := range list {
		if w.plain {
			kept[i].Data = w.data
			continue
		}
		s, why := fits(w, heads[w.path], i == len(list)-1)
		for _, one := range why {
			problems = append(problems, report.Failure{Name: name.Quote(w.text), Why: one})
		}
		kept[i] = s
	}
	return kept, problems
}

// heads asks for the heads of objects, those of large objects as what they stand
// for.
func (f *feature) heads(ctx context.Context, r *chain.Request, paths []name.Path) []*chain.Response {
	found := make([]*chain.Response, len(paths))
	each := func(yield func(int) bool) {
		for i := range paths {
			if !yield(i) {
				return
			}
		}
	}
	chain.Each(min(f.cfg.Concurrency, len(paths)), each, func(i int) {
		resp := f.Serve(ctx, r.Sub(http.MethodHead, paths[i]))
		resp.Close()
		found[i] = resp
	})
	return found
}

// fits compares an object with what the client says of it, and says what does not
// fit.
func fits(w wanted, head *chain.Response, last bool) (s stored, why []string) {
	if !head.OK() {
		return s, []string{report.Status(head.Status)}
	}
	static := chain.Truth(head.Get(hdrStatic))
	if !static && head.Header["X-Object-Manifest"] != nil { // a read of it would find the manifest, not what was verified
		return s, []string{"A dynamic large object can't be a segment"}
	}
	size := head.Length
	if size < 0 { // nobody knows the length of it
		return s, []string{"Size Mismatch"}
	}
	s = stored{
		Name: "/" + strings.TrimLeft(w.text, "/"), Bytes: size, Hash: strings.Trim(head.Get("Etag"), `"`),
		ContentType: head.Get("Content-Type"), LastModified: modified(head), Sub: static,
	}
	n := size
	if w.span != "" {
		span, extent := spanOf(w.span, size)
		switch {
		case extent != conditional.Partial:
			why = append(why, "Unsatisfiable Range")
		case span.N != size:
			s.Range = fmt.Sprintf("%d-%d", span.Off, span.Off+span.N-1)
		}
		n = span.N
	}
	if n < 1 && !last {
		why = append(why, "Too small; each segment must be at least 1 byte.")
	}
	if w.size >= 0 && w.size != size {
		why = append(why, "Size Mismatch")
	}
	if w.etag != "" && w.etag != s.Hash {
		why = append(why, "Etag Mismatch")
	}
	return s, why
}

// modified is when an object was, in the form that manifests have.
func modified(head *chain.Response) string {
	t, err := http.ParseTime(head.Get("Last-Modified"))
	if err != nil {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000")
}
