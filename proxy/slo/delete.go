package slo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/bulk"
	"martlet/proxy/chain"
	"martlet/proxy/listings"
	"martlet/proxy/report"
)

// delete deletes a large object with all its segments, the manifests last. The
// answer is a report; while the work goes on it is white space.
func (f *feature) delete(ctx context.Context, r *chain.Request) *chain.Response {
	contentType, ok := listings.Accepted(r.Header)
	if !ok {
		contentType = "text/plain"
	}
	resp := &chain.Response{Status: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, Length: -1}
	resp.Body = report.Heartbeat(ctx, f.cfg.Heartbeat.D(), report.Beat{First: report.First(contentType)}, func(ctx context.Context) string {
		return bulk.Delete(ctx, f.next, r, bulk.Limits{Concurrency: f.cfg.DeleteConcurrency, Failures: bulk.MostFailures}, f.targets(ctx, r)).Text(contentType)
	})
	return resp
}

// doomed is an object that is to be deleted: with its segments before it, or,
// once those are in front of it, by itself.
type doomed struct {
	bulk.Target
	manifest bool
	depth    int // manifests from the large object down to it, itself included
}

// targets hands out what a large object is made of, breadth first as Swift does, and each
// manifest behind what it names itself. A manifest is read once, however many name it:
// they may do so in a circle.
func (f *feature) targets(ctx context.Context, r *chain.Request) iter.Seq[bulk.Target] {
	return func(yield func(bulk.Target) bool) {
		queue := []doomed{{bulk.Target{Name: "/" + r.Path.Container + "/" + r.Path.Object, Path: r.Path, Version: versionOf(r)}, true, 1}}
		seen := map[name.Path]bool{}
		for len(queue) > 0 && ctx.Err() == nil {
			one := queue[0]
			queue = queue[1:]
			if one.manifest {
				one.manifest = false
				if !seen[one.Path] {
					seen[one.Path] = true
					queue = append(queue, f.expand(ctx, r, &one)...)
				}
				if len(queue) > 10*f.cfg.MaxSegments {
					yield(bulk.Target{Name: one.Name, Err: errors.New("Too many buffered slo segments to delete.")}) //nolint:staticcheck // for the client
					return
				}
				queue = append(queue, one)
				continue
			}
			if !yield(one.Target) {
				return
			}
		}
	}
}

// versionOf is what of a query says which version of the object is meant.
func versionOf(r *chain.Request) string {
	if id, ok := r.Param("version-id"); ok {
		return "version-id=" + url.QueryEscape(id)
	}
	return ""
}

// expand returns the segments of a manifest. Where it can't, one says why.
func (f *feature) expand(ctx context.Context, r *chain.Request, one *doomed) []doomed {
	if one.depth > MaxDepth {
		one.Err = errTooDeep
		return nil
	}
	segments, err := f.segmentsOf(ctx, r, one.Path, one.Version)
	switch {
	case errs.Is(err, errs.NotFound):
		one.Gone = true
	case err != nil:
		one.Err = err
	}
	for i := range segments {
		segments[i].depth = one.depth + 1
	}
	return segments
}

var (
	errTooDeep      = fmt.Errorf("It is deeper than %d manifests", MaxDepth) //nolint:staticcheck // for the client
	errNoManifest   = errors.New("Not an SLO manifest")                      //nolint:staticcheck // for the client
	errUnauthorized = errors.New(report.Status(http.StatusUnauthorized))     // for the client
	errForbidden    = errors.New(report.Status(http.StatusForbidden))        // for the client
	errUnreadable   = errors.New("Unable to load SLO manifest or segment.")  //nolint:staticcheck // for the client
)

// linkTo is on an answer about a symbolic link.
const linkTo = "X-Symlink-Target"

// segmentsOf reads which segments a manifest names. Where there is none the error
// is of kind errs.NotFound; of others the text is for the client. A symbolic link has
// none: a delete is of the link itself, and what it leads to may be wanted yet.
func (f *feature) segmentsOf(ctx context.Context, r *chain.Request, p name.Path, version string) ([]doomed, error) {
	sub := r.Sub(http.MethodGet, p)
	if sub.Query = "multipart-manifest=get&symlink=get"; version != "" {
		sub.Query += "&" + version
	}
	sub.Header[chain.IgnoreRangeIf] = ignoreRangeIf
	sub.Header["Range"] = []string{"bytes=-1"} // no more of what is no manifest
	resp := f.next.Serve(ctx, sub)
	defer resp.Close()
	switch {
	case resp.Status == http.StatusNotFound:
		return nil, errs.E(errs.NotFound)
	case resp.Header[linkTo] != nil:
		return nil, nil
	case resp.Status == http.StatusUnauthorized:
		return nil, errUnauthorized
	case resp.Status == http.StatusForbidden:
		return nil, errForbidden
	case resp.Status == http.StatusRequestedRangeNotSatisfiable:
		return nil, errNoManifest // it is empty
	case !resp.OK():
		return nil, errUnreadable
	case !chain.Truth(resp.Get(hdrStatic)):
		return nil, errNoManifest
	}
	m, err := f.parse(p.Account, resp)
	if err != nil {
		return nil, errUnreadable
	}
	var list []doomed
	for _, s := range m.segments {
		if s.Data != nil {
			continue
		}
		path, _ := pathOf(m.account, s.Name) // read has checked it
		list = append(list, doomed{bulk.Target{Name: strings.Clone(s.Name), Path: path}, s.Sub, 0})
	}
	return list, nil
}
