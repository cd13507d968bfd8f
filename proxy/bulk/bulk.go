package bulk

import (
	"context"
	"net/http"
	"strings"
	"time"

	"martlet/internal/conf"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/proxy/chain"
	"martlet/proxy/listings"
	"martlet/proxy/report"
)

// Config is what an operator may set.
type Config struct {
	MaxDeletes           int           `toml:"max_deletes_per_request"`       // names in one list
	MaxFailedDeletes     int           `toml:"max_failed_deletes"`            // failures that end a delete
	DeleteConcurrency    int           `toml:"delete_concurrency"`            // objects that are deleted at once
	MaxContainers        int           `toml:"max_containers_per_extraction"` // containers that one archive may make
	MaxFailedExtractions int           `toml:"max_failed_extractions"`        // failures that end an archive
	Heartbeat            conf.Duration `toml:"yield_frequency"`               // between two signs of life
}

// Defaults returns Swift's.
func Defaults() Config {
	return Config{
		MaxDeletes: 10_000, MaxFailedDeletes: MostFailures, DeleteConcurrency: 2, MaxContainers: 10_000, MaxFailedExtractions: MostFailures,
		Heartbeat: conf.Duration(10 * time.Second),
	}
}

// DeleteSection is what /info says of deleting.
func (c Config) DeleteSection() map[string]any {
	return map[string]any{"max_deletes_per_request": c.MaxDeletes, "max_failed_deletes": c.MaxFailedDeletes}
}

// UploadSection is what /info says of archives.
func (c Config) UploadSection() map[string]any {
	return map[string]any{"max_containers_per_extraction": c.MaxContainers, "max_failed_extractions": c.MaxFailedExtractions}
}

// feature is the link.
type feature struct {
	cfg     Config
	maxPath int // bytes of "/container/object"
	next    chain.Handler
}

// Link returns the feature. maxPath is how many bytes the names of a container
// and of an object have at most, together with the slashes. It stands in front of
// authentication: that a sender may not do something is said of each name.
func Link(cfg Config, maxPath int) chain.Link {
	return func(next chain.Handler) chain.Handler { return &feature{cfg, maxPath, next} }
}

// Serve implements chain.Handler.
func (f *feature) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	if r.Query == "" || r.Path.Account == "" {
		return f.next.Serve(ctx, r)
	}
	switch r.Method {
	case http.MethodPut:
		if format, ok := r.Param("extract-archive"); ok {
			return f.extract(ctx, r, format)
		}
	case http.MethodPost, http.MethodDelete:
		if _, ok := r.Param("bulk-delete"); ok {
			return f.delete(ctx, r)
		}
	}
	return f.next.Serve(ctx, r)
}

// begin makes the answer to a request. The error is why it is refused; the answer
// says so in its report.
func begin(r *chain.Request) (resp *chain.Response, contentType string, refused error) {
	contentType, ok := listings.Accepted(r.Header)
	switch {
	case !ok:
		contentType, refused = "text/plain", errs.E(errs.NotAcceptable)
	case r.Length < 0 && r.Body == nil:
		refused = errs.E(errs.Length)
	}
	return &chain.Response{Status: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, Length: -1}, contentType, refused
}

// counts are the fields of a report that say how many.
type counts map[string]int

// refuse ends an answer with the report of a request that came to nothing. A
// request whose body broke off has no answer.
func refuse(ctx context.Context, resp *chain.Response, root, contentType string, err error, n counts) *chain.Response {
	if errs.Is(err, errs.Aborted) {
		return chain.Fail(ctx, err)
	}
	resp.SetText(reportOf(root, httpapi.Status(err), errs.PublicOf(err), n, nil).Text(contentType))
	return resp
}

func reportOf(root string, status int, body string, n counts, failures []report.Failure) *report.Report {
	fields := map[string]any{"Response Status": report.Status(status), "Response Body": body}
	for k, v := range n {
		fields[k] = v
	}
	return &report.Report{Root: root, Fields: fields, Failures: failures}
}

// delete answers a request that lists what is to be deleted.
func (f *feature) delete(ctx context.Context, r *chain.Request) *chain.Response {
	resp, contentType, err := begin(r)
	if t := r.Header["Content-Type"]; err == nil && t != nil && t[0] != "" && !strings.HasPrefix(t[0], "text/plain") {
		err = errs.E(errs.NotAcceptable)
	}
	var list names
	if err == nil {
		list, err = f.read(r)
	}
	if err != nil {
		return refuse(ctx, resp, "delete", contentType, err, counts{"Number Deleted": 0, "Number Not Found": 0})
	}
	limits := Limits{Concurrency: f.cfg.DeleteConcurrency, Failures: f.cfg.MaxFailedDeletes}
	resp.Body = report.Heartbeat(ctx, f.cfg.Heartbeat.D(), report.Beat{First: report.First(contentType)}, func(ctx context.Context) string {
		return Delete(ctx, f.next, r, limits, list.objects(), list.containers()).Text(contentType)
	})
	return resp
}
