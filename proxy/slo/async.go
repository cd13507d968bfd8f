package slo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/bulk"
	"martlet/proxy/chain"
)

// deleteQuietly is a delete whose client wants no report (async=yes): the answer
// is that of a DELETE of the manifest. It is for simple large objects: all of
// their segments are in one container, and none is a manifest.
//
// The answer comes when all of it is gone. The manifest goes last: a delete that
// does not come to its end can be asked for again, and leaves nothing behind that
// nobody knows of.
func (f *feature) deleteQuietly(ctx context.Context, r *chain.Request) *chain.Response {
	segments, err := f.segmentsOf(ctx, r, r.Path, versionOf(r))
	if err != nil {
		return chain.Fail(ctx, asStatus(err))
	}
	if err := simple(segments); err != nil {
		return chain.Fail(ctx, err)
	}
	if len(segments) > 0 {
		for _, p := range []name.Path{r.Path, segments[0].Path} {
			if refused := f.mayWrite(ctx, r, p); refused != nil {
				return refused
			}
		}
		targets := func(yield func(bulk.Target) bool) {
			for _, s := range segments {
				if !yield(s.Target) {
					return
				}
			}
		}
		limits := bulk.Limits{Concurrency: f.cfg.DeleteConcurrency, Failures: bulk.MostFailures}
		if done := bulk.Delete(ctx, f.next, r, limits, targets); len(done.Failures) > 0 || ctx.Err() != nil {
			return chain.Fail(ctx, errs.E(errs.Op("slo.delete"), errs.Unavailable, fmt.Errorf("segments are left: %v", done.Failures)))
		}
	}
	r.Query = versionOf(r)
	return f.next.Serve(ctx, r)
}

// asStatus gives what segmentsOf says the kind that a client reads of.
func asStatus(err error) error {
	switch {
	case errs.Is(err, errs.NotFound):
		return err
	case errors.Is(err, errUnauthorized):
		return errs.E(errs.Unauthorized, err)
	case errors.Is(err, errForbidden):
		return errs.E(errs.Forbidden, err)
	case errors.Is(err, errNoManifest):
		return errs.Refuse(errs.Invalid, "%s", err)
	}
	return errs.E(errs.Unavailable, err)
}

// simple is an error where not all segments are in one container, or one is a
// manifest.
func simple(segments []doomed) error {
	var containers []string
	for _, s := range segments {
		if quoted := `"` + name.Quote(s.Path.Container) + `"`; !slices.Contains(containers, quoted) {
			containers = append(containers, quoted)
		}
	}
	switch {
	case len(containers) > 1:
		return errs.Refuse(errs.Invalid, "All segments must be in one container. Found segments in %s", strings.Join(containers, ", "))
	case slices.ContainsFunc(segments, func(s doomed) bool { return s.manifest }):
		return errs.Refuse(errs.Invalid, "No segments may be large objects.")
	}
	return nil
}

// mayWrite asks whether the sender may delete what is on a path: who may put it
// may. It returns the refusal.
func (f *feature) mayWrite(ctx context.Context, r *chain.Request, p name.Path) *chain.Response {
	ask := r.Sub(http.MethodPut, p)
	ask.Header[chain.OnlyAsk] = []string{"true"}
	resp := f.next.Serve(ctx, ask)
	if resp.OK() || resp.Status == http.StatusNotFound { // no container, and nothing in it
		resp.Close()
		return nil
	}
	return resp
}
