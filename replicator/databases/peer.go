package databases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// peer is a primary of a partition other than this device.
type peer struct {
	addr, device string
	node         string // what it calls itself; empty before it has answered
	has          []bool // which of the work's databases it is known to have
}

// String returns "ip:port/device", nothing for no peer.
func (t *peer) String() string {
	if t.addr == "" {
		return ""
	}
	return t.addr + "/" + t.device
}

// distinct reports whether all of the peers, of which there is at least one, have
// answered, and as different devices.
func distinct(all []*peer) bool {
	for i, a := range all {
		if a.node == "" {
			return false
		}
		for _, b := range all[:i] {
			if a.node == b.node && a.device == b.device {
				return false
			}
		}
	}
	return len(all) > 0
}

// patience is after how many failures in a row a peer is left alone for the rest
// of a pass.
const patience = 2

// outages remember who does not answer. They are safe for concurrent use.
type outages struct {
	mu     sync.Mutex
	failed map[string]*outage // mu; by peer
}

type outage struct {
	times int
	why   string // the first time
}

// note takes in how a request went.
func (o *outages) note(to *peer, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := to.String()
	switch {
	case err == nil:
		delete(o.failed, key)
		return
	case o.failed == nil:
		o.failed = map[string]*outage{}
	}
	if o.failed[key] == nil {
		o.failed[key] = &outage{why: err.Error()}
	}
	o.failed[key].times++
}

// down reports whether a peer is left alone, and why.
func (o *outages) down(to *peer) (why string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.failed[to.String()]; f != nil && f.times >= patience {
		return f.why, true
	}
	return "", false
}

// do sends a request about a partition to a peer and returns the list that it
// answers with, of databases from one hash to another. That the peer could not be
// reached, or refused, is an error.
func (p *pass) do(ctx context.Context, w *work, to *peer, r *backend.Request, from, last name.Hash) (list []replwire.Database, more bool, err error) {
	const op errs.Op = "databases.peer"
	r.Header = append(r.Header,
		backend.Field{Name: replwire.KindHeader, Value: p.Name()},
		backend.Field{Name: replwire.PartPowerHeader, Value: strconv.Itoa(w.ring.PartPower())},
	)
	if err := p.Pace.Wait(ctx, r.Length); err != nil {
		return nil, false, err
	}
	resp, err := p.Peers.Do(ctx, to.addr, r)
	if err != nil {
		if ctx.Err() == nil && errs.Is(err, errs.Unavailable) {
			p.outages.note(to, err)
		}
		return nil, false, err
	}
	p.outages.note(to, nil)
	list, more, err = p.read(to, r, resp, from, last)
	if resp.Body != nil {
		err = errors.Join(err, resp.Body.Close())
	}
	if err != nil {
		return nil, false, errs.E(op, errs.Subject(to.String()), err)
	}
	return list, more, nil
}

// read looks who has answered what. The body is the caller's to close.
func (p *pass) read(to *peer, r *backend.Request, resp *backend.Response, from, last name.Hash) ([]replwire.Database, bool, error) {
	if resp.Status != 200 {
		var text []byte
		if resp.Body != nil {
			text, _ = io.ReadAll(io.LimitReader(resp.Body, 200)) // it is only to be shown
		}
		return nil, false, fmt.Errorf("%s was answered with %d %q", r.Method, resp.Status, bytes.TrimSpace(text))
	}
	node := resp.Header.Get(replicator.NodeHeader)
	switch {
	case node == "":
		return nil, false, errors.New("the answer does not say whose it is")
	case node == p.NodeID && to.device == p.device:
		return nil, false, errors.New("this is the device itself: its address in the ring is not replication.address")
	case to.node != "" && to.node != node:
		return nil, false, errors.New("another process answers there now")
	}
	to.node = node
	b, err := replwire.Read(resp.Body)
	if err != nil {
		return nil, false, err
	}
	return replwire.ParseDatabases(b, p.list, from, last)
}

// ask returns what a peer has in the range of the work's databases.
func (p *pass) ask(ctx context.Context, w *work, to *peer) ([]replwire.Database, error) {
	from, last := w.list[0].Hash, w.list[len(w.list)-1].Hash
	theirs := make([]replwire.Database, 0, len(w.list))
	for {
		r := &backend.Request{
			Method: "REPLICATE", Path: "/" + name.Quote(to.device) + "/" + strconv.FormatUint(uint64(w.partition), 10),
			Query: "from=" + from.String() + "&to=" + last.String(),
		}
		list, more, err := p.do(ctx, w, to, r, from, last)
		if err != nil {
			return nil, err
		}
		for i := range list {
			if find(w.list, list[i].Hash) != nil {
				theirs = append(theirs, list[i])
			}
		}
		if !more || list[len(list)-1].Hash == last {
			return theirs, nil
		}
		from = next(list[len(list)-1].Hash)
	}
}

// next is the hash after one that is not the last there is.
func next(h name.Hash) name.Hash {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i]++; h[i] != 0 {
			break
		}
	}
	return h
}

// send pushes one part and returns what the peer's database is then.
func (p *pass) send(ctx context.Context, w *work, to *peer, part *replwire.Part) (replwire.Database, error) {
	r := &backend.Request{
		Method: "PUT", Path: backend.Target{Device: to.device, Partition: uint32(w.partition), Path: part.Path}.Quoted(),
		Header: backend.Header{{Name: replwire.ReplicationHeader, Value: "true"}},
		Length: int64(len(part.Body)), Body: bytes.NewReader(part.Body),
	}
	list, _, err := p.do(ctx, w, to, r, part.Hash, part.Hash)
	if err == nil && len(list) != 1 {
		err = errors.New("the answer to a push does not say what is there now")
	}
	if err != nil {
		return replwire.Database{}, err
	}
	p.tally.Add(replicator.Counts{Pushed: int64(max(1, part.Rows)), Bytes: r.Length})
	return list[0], nil
}
