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
// replwire.Database, in order of hash. One that can't be read, or is in quarantine and did not come back, has no
// incarnation there. Those that were deleted are told of until they may be forgotten.
const DatabasesPath = "/recon/databases"

// MaxDatabases is how many databases are told of at once.
const MaxDatabases = 1024

// databaseStore is what is told of: metadb.Replicas.
type databaseStore interface {
	Walk(ctx context.Context, device string, from, to name.Hash) iter.Seq2[name.Hash, error]
	State(ctx context.Context, device string, h name.Hash) (replwire.Database, error)
	Lost(ctx context.Context, device string, from name.Hash) ([]name.Hash, error)
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
	lost, err := r.bases.Lost(ctx, device, from)
	if err != nil {
		return nil, err
	}
	l := listed{body: replwire.Begin(nil, r.list), lost: lost, began: time.Now()}
	for h, err := range r.bases.Walk(ctx, device, from, last) {
		if err != nil {
			return nil, err // what is left out would look as if it were not there
		}
		if !l.upTo(h) {
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
		if !l.add(&state) {
			break
		}
	}
	for ; !l.more && len(l.lost) > 0; l.lost = l.lost[1:] {
		l.add(&replwire.Database{Hash: l.lost[0]})
	}
	return replwire.End(l.body, l.count, l.more), nil
}

// listed is a list that is being made.
type listed struct {
	body  []byte
	count int
	more  bool        // there was no room for all
	lost  []name.Hash // that are to be put in between
	began time.Time
}

// add adds what there is of a database, and reports whether there was room.
func (l *listed) add(d *replwire.Database) bool {
	if l.count == MaxDatabases || l.count > 0 && time.Since(l.began) > tellTime {
		l.more = true
		return false
	}
	l.body = replwire.AppendDatabase(l.body, d)
	l.count++
	return true
}

// upTo adds those that are lost and come before a database which is there, and reports whether there was room.
func (l *listed) upTo(h name.Hash) bool {
	for len(l.lost) > 0 && bytes.Compare(l.lost[0][:], h[:]) < 0 {
		if !l.add(&replwire.Database{Hash: l.lost[0]}) {
			return false
		}
		l.lost = l.lost[1:]
	}
	if len(l.lost) > 0 && l.lost[0] == h { // it has come back
		l.lost = l.lost[1:]
	}
	return true
}
