package objects

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
)

// peer is a primary of a partition other than this device.
type peer struct {
	addr, device string
	node         string // what it calls itself; empty before it has answered
	has          []bool // which of the work's names it is known to have
}

// String returns "ip:port/device", nothing for no peer.
func (t *peer) String() string {
	if t.addr == "" {
		return ""
	}
	return t.addr + "/" + t.device
}

// patience is after how many failures in a row a peer is left alone for the rest
// of a pass.
const patience = 2

// peers remembers who does not answer. It is safe for concurrent use.
type peers struct {
	mu     sync.Mutex
	failed map[string]*outage // mu; by peer
}

type outage struct {
	times int
	why   string // the first time
}

// note takes in how a request went.
func (p *peers) note(to *peer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := to.String()
	if err == nil {
		delete(p.failed, key)
		return
	}
	if p.failed == nil {
		p.failed = map[string]*outage{}
	}
	if p.failed[key] == nil {
		p.failed[key] = &outage{why: err.Error()}
	}
	p.failed[key].times++
}

// down reports whether a peer is left alone, and why.
func (p *peers) down(to *peer) (why string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.failed[to.String()]; f != nil && f.times >= patience {
		return f.why, true
	}
	return "", false
}

// do sends a request about a partition to a peer. An answer of 5xx is an error.
func (p *pass) do(ctx context.Context, w *work, to *peer, r *backend.Request) (*backend.Response, error) {
	r.Header = append(r.Header,
		backend.Field{Name: replwire.KindHeader, Value: p.Name()},
		backend.Field{Name: replwire.PartPowerHeader, Value: strconv.Itoa(w.ring.PartPower())},
		backend.Field{Name: backend.PolicyIndex, Value: w.policy.String()},
	)
	resp, err := p.Peers.Do(ctx, to.addr, r)
	if err == nil && resp.Status/100 == 5 {
		err = p.bad(to, r, resp)
	}
	if ctx.Err() == nil && (err == nil || errs.Is(err, errs.Unavailable)) {
		p.peers.note(to, err)
	}
	if err != nil {
		return nil, err
	}
	return resp, p.know(to, resp)
}

// know looks who has answered.
func (p *pass) know(to *peer, resp *backend.Response) error {
	node := resp.Header.Get(replicator.NodeHeader)
	var err error
	switch {
	case node == "" && resp.Status/100 == 2:
		err = errs.E(errs.Op("objects.peer"), errs.Subject(to.String()), errs.Invalid, "the answer does not say whose it is")
	case node == p.NodeID && to.device == p.device:
		err = errs.E(errs.Op("objects.peer"), errs.Subject(to.String()), errs.Invalid,
			"this is the device itself: its address in the ring is not replication.address")
	case node != "" && to.node != "" && to.node != node:
		err = errs.E(errs.Op("objects.peer"), errs.Subject(to.String()), errs.Invalid, "another process answers there now")
	}
	if err != nil {
		return errors.Join(err, closeBody(resp))
	}
	if node != "" {
		to.node = node
	}
	return nil
}

// bad is the error of an answer that was not wanted. It closes the body.
func (p *pass) bad(to *peer, r *backend.Request, resp *backend.Response) error {
	var text []byte
	if resp.Body != nil {
		text, _ = io.ReadAll(io.LimitReader(resp.Body, 200)) // it is only to be shown
	}
	return errs.E(errs.Op("objects.peer"), errs.Subject(to.String()), errs.Unavailable,
		errors.Join(fmt.Errorf("%s was answered with %d %q", r.Method, resp.Status, text), closeBody(resp)))
}

func closeBody(resp *backend.Response) error {
	if resp.Body == nil {
		return nil
	}
	return resp.Body.Close()
}

// ask returns what a peer has of the work's names.
func (p *pass) ask(ctx context.Context, w *work, to *peer) ([]replwire.Object, error) {
	from, last := w.list[0].Hash, w.list[len(w.list)-1].Hash
	theirs := make([]replwire.Object, 0, len(w.list))
	for {
		list, more, err := p.askRange(ctx, w, to, from, last)
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			if _, ok := find(w.list, o.Hash); ok {
				theirs = append(theirs, o)
			}
		}
		if !more || list[len(list)-1].Hash == last {
			return theirs, nil
		}
		from = next(list[len(list)-1].Hash)
	}
}

func (p *pass) askRange(ctx context.Context, w *work, to *peer, from, last name.Hash) (list []replwire.Object, more bool, err error) {
	r := &backend.Request{
		Method: "REPLICATE", Path: "/" + name.Quote(to.device) + "/" + strconv.FormatUint(uint64(w.partition), 10),
		Query: "from=" + from.String() + "&to=" + last.String(),
	}
	if err := p.Pace.Wait(ctx, 0); err != nil {
		return nil, false, err
	}
	resp, err := p.do(ctx, w, to, r)
	if err != nil {
		return nil, false, err
	}
	if resp.Status != 200 {
		return nil, false, p.bad(to, r, resp)
	}
	b, err := replwire.Read(resp.Body)
	if err = errors.Join(err, closeBody(resp)); err != nil {
		return nil, false, err
	}
	list, more, err = replwire.ParseObjects(b, from, last)
	if err != nil {
		err = errs.E(errs.Op("objects.list"), errs.Subject(to.String()), errs.Invalid, err)
	}
	return list, more, err
}

// result is what has become of a push.
type result uint8

const (
	failed  result = iota // with an error
	taken                 // it is on stable storage there, or was already
	refused               // the peer says that it has something as new
	changed               // it is not here any more as it was: the next pass will see
)

// push brings a peer, which has theirs under a hash, what is there now.
func (p *pass) push(ctx context.Context, w *work, to *peer, h name.Hash, theirs *replwire.Object) (result, error) {
	s, err := p.store.Stat(ctx, w.policy, h)
	if err != nil {
		return failed, err
	}
	if s.Kind == 0 || s.Kind == replwire.Lost {
		return changed, nil
	}
	lack := s.Lacks(theirs)
	if lack == 0 && theirs != nil && theirs.Kind == replwire.Lost {
		return failed, errors.New("the peer has lost what was newer, and waits for it")
	}
	sum := taken
	if lack&replwire.LackData != 0 {
		send := p.putData
		if s.Kind == replwire.Tombstone {
			send = p.putTombstone
		}
		if sum, err = send(ctx, w, to, &s); sum == failed || sum == changed {
			return sum, err
		}
	}
	if lack&replwire.LackMeta != 0 {
		r, err := p.putMeta(ctx, w, to, &s)
		if r != taken {
			return r, err
		}
	}
	return sum, nil
}

// header is what every push begins with.
func header(t timestamp.T, room int) backend.Header {
	return append(make(backend.Header, 0, 8+room),
		backend.Field{Name: backend.Timestamp, Value: t.String()},
		backend.Field{Name: replwire.ReplicationHeader, Value: "true"},
	)
}

// putData pushes the data with what came with it.
func (p *pass) putData(ctx context.Context, w *work, to *peer, s *State) (result, error) {
	v, err := p.store.Open(ctx, w.policy, s.Hash)
	if errs.Is(err, errs.NotFound) {
		return changed, nil
	}
	if err != nil {
		return failed, err
	}
	h := header(v.Time, len(v.Fields))
	h.Add(backend.ContentType, v.ContentType)
	h.Add(backend.CommitETag, hex.EncodeToString(v.MD5[:]))
	h.Add(backend.CommitCRC, fmt.Sprintf("%08x", v.CRC))
	h = append(h, v.Fields...)
	r, err := p.send(ctx, w, to, v.Name, &backend.Request{Method: "PUT", Header: h, Length: v.Length, Body: v.Body})
	if err = errors.Join(err, v.Body.Close()); err != nil {
		return failed, err
	}
	return r, nil
}

func (p *pass) putTombstone(ctx context.Context, w *work, to *peer, s *State) (result, error) {
	return p.send(ctx, w, to, s.Name, &backend.Request{Method: "DELETE", Header: header(s.Times.Data, 0)})
}

// putMeta pushes the metadata and the content type, of which the peer takes what
// is later than what it has.
func (p *pass) putMeta(ctx context.Context, w *work, to *peer, s *State) (result, error) {
	h := header(s.Times.Meta, len(s.Meta))
	if s.Times.ContentType.After(s.Times.Data) {
		h.Add(backend.ContentType, s.ContentType)
		h.Add("X-Backend-Content-Type-Timestamp", s.Times.ContentType.String())
	}
	return p.send(ctx, w, to, s.Name, &backend.Request{Method: "POST", Header: append(h, s.Meta...)})
}

// send pushes one part of a version.
func (p *pass) send(ctx context.Context, w *work, to *peer, path name.Path, r *backend.Request) (result, error) {
	r.Path = backend.Target{Device: to.device, Partition: uint32(w.partition), Path: path}.Quoted()
	if err := p.Pace.Wait(ctx, r.Length); err != nil {
		return failed, err
	}
	resp, err := p.do(ctx, w, to, r)
	if err != nil {
		return failed, err
	}
	switch {
	case resp.Status/100 == 2:
		p.tally.Add(replicator.Counts{Pushed: 1, Bytes: r.Length})
		return taken, closeBody(resp)
	case resp.Status == 409 || resp.Status == 410:
		return refused, closeBody(resp)
	}
	return failed, p.bad(to, r, resp)
}
