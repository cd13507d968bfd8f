package objects

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
)

// ask returns what a peer has of the work's names. Header is what it is told beside that.
func (p *pass) ask(ctx context.Context, w *work, to *replicator.Peer, header ...backend.Field) ([]replwire.Object, error) {
	from, last := w.Items[0].Hash, w.Items[len(w.Items)-1].Hash
	theirs := make([]replwire.Object, 0, len(w.Items))
	err := p.peers.List(ctx, w.About, to, from, last, append(policyHeader(w.policy), header...), func(b []byte, from, last name.Hash) (end name.Hash, more bool, err error) {
		list, end, more, err := replwire.ParseNamed(b, from, last)
		for _, o := range list {
			if lookUp(w.Items, o.Hash) != nil {
				theirs = append(theirs, o)
			}
		}
		return end, more, err
	})
	return theirs, err
}

// named is what has a peer say of a work's names what it has of those alone: as a handoff has few of a partition of which a primary has all. It
// is nothing where they are too many.
func (w *work) named() backend.Header {
	if len(w.Items) > replwire.MaxNames {
		return nil
	}
	hashes := make([]name.Hash, len(w.Items))
	for i := range hashes {
		hashes[i] = w.Items[i].Hash
	}
	return backend.Header{{Name: replwire.NamesHeader, Value: replwire.NamesText(hashes)}, {Name: replwire.NothingHeader, Value: "true"}}
}

// result is what has become of a push.
type result uint8

const (
	failed           result = iota // with an error
	taken                          // it is on stable storage there, or was already
	refused                        // the peer says that it has something as new
	past                           // it is before the peer's horizon, and ends nothing there
	changed                        // it is not here any more as it was: the next pass will see
	claimedByAnother               // another device is bringing it
)

// alone pushes what a peer lacks of a state, each part in a request of its own.
func (p *pass) alone(ctx context.Context, w *work, to *replicator.Peer, v *version) (result, error) {
	type put func(context.Context, *work, *replicator.Peer, *State) (result, error)
	var parts []put
	if v.lack&replwire.LackData != 0 {
		if v.state.Kind == replwire.Tombstone {
			parts = append(parts, p.putTombstone)
		} else {
			parts = append(parts, p.putData)
		}
	}
	if v.lack&replwire.LackMeta != 0 {
		parts = append(parts, p.putMeta)
	}
	if v.metaFirst() {
		slices.Reverse(parts)
	}
	if v.lack&replwire.LackData != 0 && typeLast(&v.state.Object, v.theirs) {
		parts = append(parts, p.putMeta)
	}
	sum := taken
	for _, put := range parts {
		switch r, err := put(ctx, w, to, &v.state); {
		case r == failed || r == changed:
			return r, err
		case r != taken:
			sum = r
		}
	}
	return sum, nil
}

var errLost = errors.New("the peer has lost what was newer, and waits for it")

// stamped is what every push has for itself, with room for more.
func stamped(t timestamp.T, room int) backend.Header {
	return append(make(backend.Header, 0, 1+room), backend.Field{Name: backend.Timestamp, Value: t.String()})
}

// pushHeader is what a push begins with that comes alone.
func pushHeader(index policy.Index, t timestamp.T, room int) backend.Header {
	return append(stamped(t, 4+room), backend.Field{Name: backend.PolicyIndex, Value: index.String()},
		backend.Field{Name: replwire.ReplicationHeader, Value: "true"})
}

// dataHeader adds what goes with data.
func dataHeader(h backend.Header, v *Version) backend.Header {
	h.Add(backend.ContentType, v.ContentType)
	h.Add(backend.CommitETag, hex.EncodeToString(v.MD5[:]))
	h.Add(backend.CommitCRC, fmt.Sprintf("%08x", v.CRC))
	return append(h, v.Fields...)
}

// metaHeader has the metadata and the content type, of which the peer takes what is later
// than what it has.
func metaHeader(begin func(timestamp.T, int) backend.Header, s *State) backend.Header {
	h := begin(s.Times.Meta, 2+len(s.Meta))
	if s.Times.ContentType.After(s.Times.Data) {
		h.Add(backend.ContentType, s.ContentType)
		h.Add("X-Backend-Content-Type-Timestamp", s.Times.ContentType.String())
	}
	return append(h, s.Meta...)
}

// putData pushes the data with what came with it.
func (p *pass) putData(ctx context.Context, w *work, to *replicator.Peer, s *State) (result, error) {
	v, err := p.store.Open(ctx, w.policy, s.Hash)
	if errs.Is(err, errs.NotFound) {
		return changed, nil
	}
	if err != nil {
		return failed, err
	}
	h := dataHeader(pushHeader(w.policy, v.Time, 4+len(v.Fields)), v)
	r, err := p.send(ctx, w, to, v.Name, &backend.Request{Method: "PUT", Header: h, Length: v.Length, Body: v.Body})
	if err = errors.Join(err, v.Body.Close()); err != nil {
		return failed, err
	}
	return r, nil
}

func (p *pass) putTombstone(ctx context.Context, w *work, to *replicator.Peer, s *State) (result, error) {
	return p.send(ctx, w, to, s.Name, &backend.Request{Method: "DELETE", Header: pushHeader(w.policy, s.Times.Data, 0)})
}

func (p *pass) putMeta(ctx context.Context, w *work, to *replicator.Peer, s *State) (result, error) {
	begin := func(t timestamp.T, room int) backend.Header { return pushHeader(w.policy, t, room) }
	return p.send(ctx, w, to, s.Name, &backend.Request{Method: "POST", Header: metaHeader(begin, s)})
}

// send pushes one part of a version.
func (p *pass) send(ctx context.Context, w *work, to *replicator.Peer, path name.Path, r *backend.Request) (result, error) {
	r.Path = backend.Target{Device: to.Device, Partition: uint32(w.Partition), Path: path}.Quoted()
	resp, err := p.peers.Do(ctx, w.About, to, r)
	if err != nil {
		return failed, err
	}
	switch {
	case resp.Status/100 == 2:
		p.pushed(r.Length)
		return taken, closeBody(resp)
	case resp.Status == 409:
		return refused, closeBody(resp)
	case resp.Status == 410:
		return past, closeBody(resp)
	}
	return failed, p.peers.Bad(to, r, resp)
}

func closeBody(resp *backend.Response) error {
	if resp.Body == nil {
		return nil
	}
	return resp.Body.Close()
}
