package databases

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// ask returns what a peer has in the range of the work's databases.
func (p *pass) ask(ctx context.Context, w *work, to *replicator.Peer) ([]replwire.Database, error) {
	from, last := w.list[0].Hash, w.list[len(w.list)-1].Hash
	theirs := make([]replwire.Database, 0, len(w.list))
	err := p.peers.List(ctx, w.About, to, from, last, nil, func(b []byte, from, last name.Hash) (end name.Hash, more bool, err error) {
		list, more, err := replwire.ParseDatabases(b, p.list, from, last)
		for i := range list {
			if end = list[i].Hash; find(w.list, end) != nil {
				theirs = append(theirs, list[i])
			}
		}
		return end, more, err
	})
	return theirs, err
}

// errForgotten is what a peer says who has no such database, and for whom all of a part is before the
// horizon.
var errForgotten = errors.New("the peer has forgotten it")

// send pushes one part and returns what the peer's database is then. The error is errForgotten where there
// is none, since all of the part may be forgotten.
func (p *pass) send(ctx context.Context, w *work, to *replicator.Peer, part *replwire.Part) (now replwire.Database, err error) {
	list, status, err := p.put(ctx, w, to, part)
	switch {
	case status == http.StatusGone:
		return now, errForgotten
	case err != nil:
		return now, err
	case len(list) != 1:
		return now, errNotSaid
	}
	return list[0], nil
}

// sendWhole pushes one part of a whole, and returns with the last what the peer's database is then. The error
// is errNotWhole where the peer does not take it as that.
func (p *pass) sendWhole(ctx context.Context, w *work, to *replicator.Peer, part *replwire.Part, whole replwire.Whole) (now replwire.Database, err error) {
	list, status, err := p.put(ctx, w, to, part, backend.Field{Name: replwire.WholeHeader, Value: whole.String()})
	switch {
	case status == http.StatusConflict, status == http.StatusGone: // of all that is in this part; there may be more
		return now, errNotWhole
	case err != nil || !whole.Last:
		return now, err
	case len(list) != 1:
		return now, errNotSaid
	}
	return list[0], nil
}

var errNotSaid = errors.New("the answer to a push does not say what is there now")

// put pushes one part. An answer other than 200 is an error, beside the status.
func (p *pass) put(
	ctx context.Context, w *work, to *replicator.Peer, part *replwire.Part, more ...backend.Field,
) (list []replwire.Database, status int, err error) {
	r := &backend.Request{
		Method: "PUT", Path: backend.Target{Device: to.Device, Partition: uint32(w.Partition), Path: part.Path}.Quoted(),
		Header: append(backend.Header{{Name: replwire.ReplicationHeader, Value: "true"}}, more...),
		Length: int64(len(part.Body)), Body: bytes.NewReader(part.Body),
	}
	resp, err := p.peers.Do(ctx, w.About, to, r)
	if err != nil {
		return nil, 0, err
	}
	b, err := p.peers.Take(to, r, resp)
	if err == nil {
		list, _, err = replwire.ParseDatabases(b, p.list, part.Hash, part.Hash)
	}
	if err != nil {
		return nil, resp.Status, err
	}
	p.tally.Add(replicator.Counts{Pushed: int64(max(1, part.Rows)), Bytes: r.Length})
	return list, resp.Status, nil
}
