package node

import (
	"bytes"
	"context"
	"io"
	"iter"
	"net/url"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
)

// DatabasesPath is where account and container servers tell operators, to GET, which databases
// the device that the query names ("device") holds from a hash on ("from"), some at a time:
// replwire.Database, in order of hash. One that can't be read has no incarnation there. Those
// that were deleted are told of until they may be forgotten.
const DatabasesPath = "/recon/databases"

// MaxDatabases is how many databases are told of at once.
const MaxDatabases = 1024

// databaseStore is what is told of: metadb.Replicas.
type databaseStore interface {
	Walk(ctx context.Context, device string, from, to name.Hash) iter.Seq2[name.Hash, error]
	State(ctx context.Context, device string, h name.Hash) (replwire.Database, error)
}

// databases answers what is asked about the databases of a device.
func (r recon) databases(ctx context.Context, req *backend.Request) (*backend.Response, error) {
	values, err := url.ParseQuery(req.Query)
	if err != nil {
		return nil, errs.E(errs.Invalid, errs.Public("query is not percent-encoded"), err)
	}
	d, err := r.devices.Lookup(values.Get("device"))
	if err == nil {
		err = d.Check()
	}
	var from, last name.Hash
	if text := values.Get("from"); err == nil && text != "" {
		if from, err = name.ParseHash(text); err != nil {
			err = errs.Refuse(errs.Invalid, "from is no hash")
		}
	}
	if err != nil {
		return nil, err
	}
	select { // it opens what it tells of: one at a time, whoever asks
	case r.walks <- struct{}{}:
		defer func() { <-r.walks }()
	case <-ctx.Done():
		return nil, errs.E(errs.Aborted, context.Cause(ctx))
	}
	for i := range last {
		last[i] = 0xff
	}
	body, err := r.listDatabases(ctx, d.Name(), from, last)
	if err != nil {
		return nil, err
	}
	return &backend.Response{
		Status: 200, Length: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		Header: backend.Header{{Name: backend.ContentType, Value: "application/octet-stream"}},
	}, nil
}

func (r recon) listDatabases(ctx context.Context, device string, from, last name.Hash) ([]byte, error) {
	body := replwire.Begin(nil, r.list)
	count, more := 0, false
	began := time.Now()
	for h, err := range r.bases.Walk(ctx, device, from, last) {
		if err != nil {
			return nil, err // what is left out would look as if it were not there
		}
		if count == MaxDatabases || count > 0 && time.Since(began) > tellTime {
			more = true
			break
		}
		state, err := r.bases.State(ctx, device, h)
		switch {
		case errs.Is(err, errs.NotFound):
			continue // dropped meanwhile, or it may be forgotten
		case errs.Is(err, errs.Corrupt):
			state = replwire.Database{Hash: h}
		case err != nil:
			return nil, err
		}
		body = replwire.AppendDatabase(body, &state)
		count++
	}
	return replwire.End(body, count, more), nil
}
