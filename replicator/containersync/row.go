package containersync

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// row brings one row. When it returns nil the other cluster has said that it has what
// the row says, or something newer, or there is nothing to be brought any more.
func (r *run) row(ctx context.Context, row Row) error {
	if row.Policy != r.is.Policy {
		return nil // it is not of this life of the container; where it belongs, it is another row
	}
	if row.Deleted {
		return r.delete(ctx, row)
	}
	has, err := r.has(ctx, row)
	if err != nil {
		return err
	}
	if has {
		r.had.Add(1)
		return nil
	}
	path := r.c.Path
	path.Object = row.Name
	o, err := r.open(ctx, row.Policy, path)
	if err != nil {
		return err
	}
	if o.Body != nil {
		defer func() { _ = o.Body.Close() }() // it was only read from
	}
	at, err := newest(o.Header)
	if err != nil {
		return err
	}
	if at.Before(row.Newest) {
		return errs.E(errs.Unavailable, fmt.Errorf("only a version of %s is found, the listing has one of %s", at, row.Newest))
	}
	if o.Status != http.StatusOK {
		return nil // it is gone since, of which another row tells, or at its end
	}
	if text := o.Header.Get("X-Delete-At"); text != "" {
		if end, err := strconv.ParseInt(text, 10, 64); err == nil && end <= r.Now().Unix() {
			return nil
		}
	}
	return r.put(ctx, row, o, at)
}

// open opens an object when there is bandwidth for it. It waits before that, one row at a
// time: who is to send it is not kept waiting, and would give up.
func (r *run) open(ctx context.Context, p policy.Index, path name.Path) (Object, error) {
	if r.Wait == nil {
		return r.Objects.Open(ctx, p, path)
	}
	r.turn.Lock()
	defer r.turn.Unlock()
	if err := r.Wait(ctx, 0); err != nil {
		return Object{}, err
	}
	o, err := r.Objects.Open(ctx, p, path)
	if err == nil && o.Status == http.StatusOK {
		if err = r.Wait(ctx, o.Length); err != nil && o.Body != nil { // nobody else has taken any since
			_ = o.Body.Close() // it was not read from
		}
	}
	return o, err
}

// newest is when an object was last changed.
func newest(h backend.Header) (timestamp.T, error) {
	text := h.Get(backend.BackendStamp)
	if text == "" {
		return timestamp.T{}, nil
	}
	return timestamp.Parse(text)
}

// errRefused is for an answer that is no success.
var errRefused = errors.New("the other cluster refuses it")

// taken says what an answer means: nil is that the other cluster has it.
func (r *run) taken(method string, status int, also ...int) error {
	if status/100 == 2 {
		return nil
	}
	for _, s := range also {
		if s == status {
			return nil
		}
	}
	kind := errs.Conflict
	if status >= 500 {
		kind = errs.Unavailable
	}
	return errs.E(kind, fmt.Errorf("%w: %s is answered with %d", errRefused, method, status))
}

func (r *run) delete(ctx context.Context, row Row) error {
	at := row.Data
	if at.IsExpiry() { // behind what it ended, and before whatever was written since, be that on the same day
		at = timestamp.FromTicks(at.Until().Ticks()).Next()
	}
	resp, err := r.send(ctx, request{method: http.MethodDelete, row: row, stamp: at.WithOffset(0).String()})
	if err != nil {
		return err
	}
	if err := r.taken(http.MethodDelete, resp.status, http.StatusNotFound, http.StatusConflict); err != nil {
		return err
	}
	r.deletes.Add(1)
	return nil
}

// has reports whether the other cluster has the row's version, or a newer one.
func (r *run) has(ctx context.Context, row Row) (bool, error) {
	resp, err := r.send(ctx, request{method: http.MethodHead, row: row, stamp: row.Newest.WithOffset(0).String(), query: "symlink=get&multipart-manifest=get"})
	if err != nil {
		return false, err
	}
	switch {
	case resp.status == http.StatusNotFound:
		return false, nil
	case resp.status/100 != 2:
		return false, r.taken(http.MethodHead, resp.status)
	}
	there, err := timestamp.Parse(resp.stamp)
	return err == nil && !there.Before(row.Newest.WithOffset(0)), nil
}

// along are the fields of an object, besides its metadata, that are brought along.
var along = []string{
	"Content-Disposition", "Content-Encoding", "X-Delete-At", "X-Object-Manifest", "X-Static-Large-Object",
	"Cache-Control", "Content-Language", "Expires", "X-Robots-Tag",
}

// links are the fields of a symbolic link as they are kept, and as clients say them.
var links = map[string]string{
	"X-Object-Sysmeta-Symlink-Target": "X-Symlink-Target", "X-Object-Sysmeta-Symlink-Target-Account": "X-Symlink-Target-Account",
	"X-Object-Sysmeta-Symlink-Target-Etag": "X-Symlink-Target-Etag", "X-Object-Sysmeta-Symlink-Target-Bytes": "X-Symlink-Target-Bytes",
}

func (r *run) put(ctx context.Context, row Row, o Object, at timestamp.T) error {
	h := http.Header{"Etag": {o.Header.Get(backend.ETag)}, "Content-Type": {withoutSize(o.Header.Get(backend.ContentType))}}
	for _, f := range o.Header {
		n := http.CanonicalHeaderKey(f.Name)
		if to := links[n]; to != "" {
			h[to] = []string{f.Value}
		}
		if strings.HasPrefix(n, "X-Object-Meta-") {
			h[n] = []string{f.Value}
		}
		for _, b := range along {
			if n == b {
				h[n] = []string{f.Value}
			}
		}
	}
	resp, err := r.send(ctx, request{method: http.MethodPut, row: row, stamp: at.WithOffset(0).String(), header: h, body: o.Body, length: o.Length})
	if err != nil {
		return err
	}
	if err := r.taken(http.MethodPut, resp.status); err != nil {
		return err
	}
	r.puts.Add(1)
	r.bytes.Add(o.Length)
	return nil
}

// withoutSize takes off a content type what says which size a listing shows.
func withoutSize(contentType string) string {
	at := strings.Index(contentType, ";swift_bytes=")
	if at < 0 {
		return contentType
	}
	rest := contentType[at+1:]
	if next := strings.IndexByte(rest, ';'); next >= 0 {
		return contentType[:at] + rest[next:]
	}
	return contentType[:at]
}
