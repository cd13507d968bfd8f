// Package bulk does many things for one request, and reports on each: it deletes
// what a list names (?bulk-delete), and stores what is in an archive
// (?extract-archive).
//
// The answer is always a 200, once it is known what is asked for. What came of it
// is in the report; white space in front of that keeps the connection alive. Each
// object is a request of the sender's own, which may be refused as any other. The
// form of requests and reports is Swift's.
package bulk

import (
	"context"
	"iter"
	"net/http"
	"sync"

	"martlet/internal/name"
	"martlet/proxy/chain"
	"martlet/proxy/report"
)

// Target is something to be deleted.
type Target struct {
	Name string // in the report
	Path name.Path
	// Version is the query that says which version is meant; "" is the object.
	Version string
	Err     error // why it can't be, for a target that is only to be reported; its text is for the client
	Gone    bool  // it is known not to be there
}

// Limits are those of one delete.
type Limits struct {
	Concurrency int // targets at once
	Failures    int // that end it
}

// MostFailures is how many failures are named in a report, and end the work,
// where nothing else is said.
const MostFailures = 1000

// Delete deletes targets, so many at a time, in about their order, each with a
// request of the sender's own sent to next; those of one sequence when all of the one
// before it have been answered. It returns when all have; the report says how many
// were deleted and how many were not there, and names those that failed. When too
// many have it gives up.
func Delete(ctx context.Context, next chain.Handler, r *chain.Request, limits Limits, targets ...iter.Seq[Target]) *report.Report {
	d := &deleting{most: limits.Failures}
	for _, some := range targets {
		chain.Each(limits.Concurrency, d.toTry(ctx, some), func(t Target) {
			sub := r.Sub(http.MethodDelete, t.Path)
			sub.Query = t.Version
			resp := next.Serve(ctx, sub)
			resp.Close()
			d.answered(t, resp.Status)
		})
	}
	return d.report()
}

// toTry counts the targets of which it is known what comes of them, and hands out
// the others.
func (d *deleting) toTry(ctx context.Context, targets iter.Seq[Target]) iter.Seq[Target] {
	return func(yield func(Target) bool) {
		for t := range targets {
			switch {
			case d.hopeless() || ctx.Err() != nil:
				return
			case t.Gone:
				d.answered(t, http.StatusNotFound)
			case t.Err != nil:
				d.failed(t, t.Err.Error(), http.StatusBadRequest)
			case !yield(t):
				return
			}
		}
	}
}

// deleting is the count of what was deleted.
type deleting struct {
	most int // failures

	mu            sync.Mutex // of all that follows
	deleted, gone int
	status        int // worst of the failures
	failures      []report.Failure
	gaveUp        bool
}

// hopeless reports whether so much has failed that the rest is not tried.
func (d *deleting) hopeless() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gaveUp = len(d.failures) >= d.most
	return d.gaveUp
}

func (d *deleting) answered(t Target, status int) {
	switch {
	case status/100 == 2:
		d.mu.Lock()
		d.deleted++
		d.mu.Unlock()
	case status == http.StatusNotFound:
		d.mu.Lock()
		d.gone++
		d.mu.Unlock()
	case status >= 500:
		d.failed(t, report.Status(status), http.StatusBadGateway)
	default:
		d.failed(t, report.Status(status), http.StatusBadRequest)
	}
}

func (d *deleting) failed(t Target, why string, status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = max(d.status, status)
	if len(d.failures) >= d.most {
		return // one that was under way
	}
	d.failures = append(d.failures, report.Failure{Name: name.Quote(t.Name), Why: why})
}

func (d *deleting) report() *report.Report {
	status, body := http.StatusOK, ""
	switch {
	case d.gaveUp:
		status, body = http.StatusBadRequest, "Max delete failures exceeded"
	case d.status != 0:
		status = d.status
	case d.deleted == 0 && d.gone == 0:
		status, body = http.StatusBadRequest, "Invalid bulk delete."
	}
	return reportOf("delete", status, body, counts{"Number Deleted": d.deleted, "Number Not Found": d.gone}, d.failures)
}
