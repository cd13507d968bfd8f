// Package slo is static large objects: objects that are made of other objects, by
// a manifest that names each with its size and ETag.
//
// A client puts the manifest (?multipart-manifest=put). Each segment is looked at,
// and the manifest kept as an object of its own, with the size and the ETag of the
// whole beside it, which is what HEAD, conditions and listings tell of. A GET reads
// the segments one after the other; a segment that is missing or has changed ends
// it (package segments). Segments may be static large objects themselves, to a
// depth of MaxDepth.
//
// The rules, the JSON and the ETag are Swift's.
package slo

import (
	"context"
	"net/http"
	"strings"
	"time"

	"martlet/internal/conf"
	"martlet/internal/errs"
	"martlet/proxy/chain"
	"martlet/proxy/segments"
)

// MaxDepth is how many manifests deep a large object may be.
const MaxDepth = 10

// Config is what an operator may set.
type Config struct {
	MaxSegments       int           `toml:"max_manifest_segments"`       // objects in one manifest
	MaxSize           conf.Size     `toml:"max_manifest_size"`           // bytes of a manifest that is put
	Concurrency       int           `toml:"concurrency"`                 // segments that are looked at at once
	DeleteConcurrency int           `toml:"delete_concurrency"`          // segments that are deleted at once
	AllowAsyncDelete  bool          `toml:"allow_async_delete"`          // async=yes deletes without a report
	Heartbeat         conf.Duration `toml:"yield_frequency"`             // between two signs of life
	RateAfter         int           `toml:"rate_limit_after_segment"`    // small segments of a read that are not held back
	RateUnder         conf.Size     `toml:"rate_limit_under_size"`       // bytes under which a segment is small
	RatePerSecond     int           `toml:"rate_limit_segments_per_sec"` // small segments in a second after that; 0 is no limit
	MaxGetTime        conf.Duration `toml:"max_get_time"`                // that one read may take
}

// Defaults returns Swift's.
func Defaults() Config {
	return Config{
		MaxSegments: 1000, MaxSize: 8 << 20, Concurrency: 2, DeleteConcurrency: 2, AllowAsyncDelete: true, Heartbeat: conf.Duration(10 * time.Second),
		RateAfter: 10, RateUnder: 1 << 20, RatePerSecond: 1, MaxGetTime: conf.Duration(24 * time.Hour),
	}
}

// Section is what /info says.
func (c Config) Section() map[string]any {
	return map[string]any{
		"max_manifest_segments": c.MaxSegments, "max_manifest_size": int64(c.MaxSize),
		"yield_frequency": int(c.Heartbeat.D().Seconds()), "min_segment_size": 1, "allow_async_delete": c.AllowAsyncDelete,
	}
}

func (c Config) rates() segments.Limits {
	return segments.Limits{After: c.RateAfter, Under: int64(c.RateUnder), PerSecond: float64(c.RatePerSecond), MaxTime: c.MaxGetTime.D()}
}

// The headers of a manifest, in canonical form.
const (
	hdrStatic   = "X-Static-Large-Object"
	hdrETag     = "X-Object-Sysmeta-Slo-Etag"
	hdrSize     = "X-Object-Sysmeta-Slo-Size"
	hdrListed   = "X-Object-Sysmeta-Container-Update-Override-Etag"
	hdrManifest = "X-Manifest-Etag"
)

// feature is the link.
type feature struct {
	cfg  Config
	next chain.Handler
}

// Link returns the feature.
func Link(cfg Config) chain.Link {
	return func(next chain.Handler) chain.Handler { return &feature{cfg, next} }
}

// Serve implements chain.Handler.
func (f *feature) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	if r.Path.Object == "" {
		return f.list(ctx, r)
	}
	form := ""
	if r.Query != "" {
		form, _ = r.Param("multipart-manifest")
	}
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		if form == "get" {
			return f.getManifest(ctx, r)
		}
		return f.get(ctx, r)
	case r.Method == http.MethodPut && form == "put":
		return f.put(ctx, r)
	case r.Method == http.MethodDelete && form == "delete" && f.cfg.AllowAsyncDelete && r.HasFlag("async"):
		return f.deleteQuietly(ctx, r)
	case r.Method == http.MethodDelete && form == "delete":
		return f.delete(ctx, r)
	case r.Method == http.MethodPut && r.Header[chain.Replayed] != nil && chain.Truth(r.Header.Get(hdrStatic)):
		return f.replay(ctx, r)
	case r.Header[hdrStatic] != nil:
		return chain.Fail(ctx, errs.Refuse(errs.Invalid,
			"X-Static-Large-Object is set by this server: a static large object is made with multipart-manifest=put."))
	}
	return f.next.Serve(ctx, r)
}

// listedMark stands in the ETag of a container's row before that of the large
// object.
const listedMark = "; slo_etag="

// list splits the ETags of rows: that of the manifest, and that of the large
// object.
func (f *feature) list(ctx context.Context, r *chain.Request) *chain.Response {
	resp := f.next.Serve(ctx, r)
	if resp.Rows != nil {
		for i := range resp.Rows.Objects {
			row := &resp.Rows.Objects[i]
			if hash, etag, ok := strings.Cut(row.Hash, listedMark); ok {
				row.Hash, row.SLOETag = hash, `"`+etag+`"`
			}
		}
	}
	return resp
}
