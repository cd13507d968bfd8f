package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"martlet/cmd/internal/check/history"
)

// mostListed is how many names a listing has at most.
const mostListed = 10_000

// list lists a container, or a part of it.
func (c *client) list(ctx context.Context, n history.Name) {
	q := history.Query{}
	switch c.chance.IntN(6) {
	case 0:
		q.Prefix = "folder/"
	case 1:
		q.Prefix, q.Limit = "o", 1+c.chance.IntN(8)
	case 2:
		q.Marker = n.Object
	case 3:
		q.Marker, q.Limit = n.Object, 1+c.chance.IntN(4)
	case 4:
		q.End = n.Object
	}
	op := c.start(history.List, history.Name{Container: n.Container})
	op.Query = &q
	ctx, cancel := c.w.patience(ctx, 0)
	defer cancel()
	var err error
	op.Status, op.Seen, err = c.w.listing(ctx, c.proxy, n.Container, q)
	op.Outcome = history.Acked
	if err != nil {
		op.Outcome, op.Note = history.Unknown, brief(err)
	}
	c.end(&op)
}

// listing asks for a listing of a container.
func (w *Workload) listing(ctx context.Context, proxy int, container string, q history.Query) (int, *history.Seen, error) {
	v := url.Values{"format": {"json"}}
	for key, value := range map[string]string{"prefix": q.Prefix, "marker": q.Marker, "end_marker": q.End} {
		if value != "" {
			v.Set(key, value)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	resp, err := w.http.Do(w.request(ctx, proxy, http.MethodGet, container, "", v))
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		drain(resp)
		if resp.StatusCode == http.StatusNotFound {
			return resp.StatusCode, &history.Seen{State: history.State{Missing: true}}, nil
		}
		return resp.StatusCode, nil, errors.New(resp.Status)
	}
	seen, err := w.rows(resp.Body)
	if err == nil {
		limit := mostListed
		if q.Limit > 0 {
			limit = q.Limit
		}
		seen.Whole = len(seen.Names) < limit
	}
	return resp.StatusCode, seen, err
}

// rows reads a listing. One that was broken off is an error; of one that makes no sense it says so.
func (w *Workload) rows(from io.Reader) (*history.Seen, error) {
	var list []struct {
		Name string `json:"name"`
		Hash string `json:"hash"`
		SLO  string `json:"slo_etag"`
		Size int64  `json:"bytes"`
		Type string `json:"content_type"`
	}
	text, err := io.ReadAll(io.LimitReader(from, 64<<20))
	if err != nil {
		return nil, err
	}
	seen := &history.Seen{}
	if err := json.Unmarshal(text, &list); err != nil {
		seen.Wrong = "returned no listing: " + err.Error()
		return seen, nil
	}
	for _, l := range list {
		row := history.Listed{Name: l.Name, Size: l.Size}
		etag := l.Hash
		if l.SLO != "" {
			etag = strings.Trim(l.SLO, `"`)
		}
		b, ok := w.bodies.of(etag)
		row.Body = b.id
		switch {
		case !ok:
			seen.Wrong = fmt.Sprintf("had %s with the ETag %q, which is of no body that was written", l.Name, etag)
		case b.size != l.Size:
			seen.Wrong = fmt.Sprintf("had %s with %d bytes and the ETag of write %d, which has %d", l.Name, l.Size, b.id, b.size)
		}
		if row.Data, ok = number(strings.TrimPrefix(l.Type, typeStem)); !ok {
			seen.Wrong = fmt.Sprintf("had %s with the type %q, which no write has given", l.Name, l.Type)
		}
		seen.Names = append(seen.Names, row)
	}
	return seen, nil
}
