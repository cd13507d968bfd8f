package fragments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

// bringHome pushes what the device holds for others to where it belongs, and drops what is there.
func (p *pass) bringHome(ctx context.Context, f *found) {
	if f == nil || len(f.strays) == 0 {
		return
	}
	by := make([][]*piece, f.of.policy.Fragments())
	for _, x := range f.strays {
		if x.header.Index >= len(by) {
			p.fail(f.of, nil, x.path.String(), fmt.Sprintf("it is fragment %d, and the storage policy has %d+%d", x.header.Index, f.of.policy.Data, f.of.policy.Parity), 1)
			continue
		}
		by[x.header.Index] = append(by[x.header.Index], x)
	}
	primaries := f.of.primaries()
	for i, some := range by {
		switch {
		case len(some) == 0 || ctx.Err() != nil:
		case i >= len(primaries):
			p.fail(f.of, nil, "", fmt.Sprintf("the ring has %d devices for the partition: fragment %d belongs on none", len(primaries), i), int64(len(some)))
		default:
			d := primaries[i]
			slices.SortFunc(some, func(a, b *piece) int { return bytes.Compare(a.state.Hash[:], b.state.Hash[:]) })
			p.bringTo(ctx, f.of, &replicator.Peer{Addr: d.ReplicationAddr(), Device: d.Name, Has: make([]bool, len(some))}, i, some)
		}
	}
}

// bringTo pushes some fragments of one index, in order of hash, to the device that they belong on.
func (p *pass) bringTo(ctx context.Context, of *part, to *replicator.Peer, index int, some []*piece) {
	if why, ok := p.peers.Down(to); ok {
		p.fail(of, to, "", why, int64(len(some)))
		return
	}
	theirs := map[name.Hash]replwire.Object{}
	err := p.list(ctx, of, to, index, some[0].state.Hash, some[len(some)-1].state.Hash, func(o *replwire.Object) { theirs[o.Hash] = *o })
	if err != nil {
		p.fail(of, to, "", err.Error(), int64(len(some)))
		return
	}
	for i, x := range some {
		if ctx.Err() != nil {
			return
		}
		if theirs[x.state.Hash] == x.state {
			to.Has[i] = true // just this archive, durably
			p.peers.Pace.Progress().Sent(p.Name(), x.state.Length)
			continue
		}
		if why, ok := p.peers.Down(to); ok {
			p.fail(of, to, "", why, int64(len(some)-i))
			break
		}
		switch taken, err := p.push(ctx, of, to, x); {
		case err != nil:
			p.fail(of, to, x.path.String(), err.Error(), 1)
		case taken:
			to.Has[i] = true
			p.tally.Add(replicator.Counts{Pushed: 1, Bytes: x.state.Length})
			p.peers.Pace.Progress().Sent(p.Name(), x.state.Length)
		}
	}
	n := p.guard.DropAll(ctx, replicator.Dropping{
		Device: p.device, Ring: of.ring, Current: func() *ring.Ring { return p.Ring(of.policy.Index.Fragments()) }, Primaries: []*replicator.Peer{to}, N: len(some), Fresh: p.fresh,
		Drop: func(i int) (bool, error) {
			gone, err := p.store.Drop(ctx, of.policy.Index.Fragments(), some[i].state)
			if gone {
				p.seen.decided(some[i])
			}
			return gone, err
		},
		Fail: func(at *replicator.Peer, i int, reason string, count int64) {
			what := ""
			if i >= 0 {
				what = some[i].path.String()
			}
			p.fail(of, at, what, reason, count)
		},
	})
	p.tally.Add(replicator.Counts{Dropped: n})
	of.lookAgain() // what is here now has another sum
}

// list asks a peer, as the primary of an index, which fragments it has from one hash to another.
func (p *pass) list(ctx context.Context, of *part, to *replicator.Peer, index int, from, last name.Hash, take func(*replwire.Object)) error {
	h := append(policyHeader(of.policy.Index.Fragments()), backend.Field{Name: backend.FragmentIndex, Value: strconv.Itoa(index)})
	return p.peers.List(ctx, of.about(), to, from, last, h, func(b []byte, from, last name.Hash) (end name.Hash, more bool, err error) {
		list, more, err := replwire.ParseObjects(b, from, last)
		for i := range list {
			end = list[i].Hash
			take(&list[i])
		}
		return end, more, err
	})
}

// present asks a peer under which hashes it has fragments, from one to another. A node that can't tell
// the hashes alone tells all there is to say, and is taken at its word likewise.
func (p *pass) present(ctx context.Context, of *part, to *replicator.Peer, from, last name.Hash, take func(name.Hash)) error {
	h := append(policyHeader(of.policy.Index.Fragments()), backend.Field{Name: replwire.HashesHeader, Value: "true"})
	return p.peers.List(ctx, of.about(), to, from, last, h, func(b []byte, from, last name.Hash) (end name.Hash, more bool, err error) {
		list, more, ok, err := replwire.ParseHashes(b, from, last)
		if err == nil && !ok {
			var objects []replwire.Object
			objects, more, err = replwire.ParseObjects(b, from, last)
			for i := range objects {
				if end = objects[i].Hash; objects[i].Kind == replwire.Data {
					take(end)
				}
			}
			return end, more, err
		}
		for _, end = range list {
			take(end)
		}
		return end, more, err
	})
}

// push sends a fragment to the device that it belongs on, and reports whether it has it then, durably. One that is gone here
// meanwhile is no error.
func (p *pass) push(ctx context.Context, of *part, to *replicator.Peer, x *piece) (taken bool, err error) {
	a, err := p.store.Open(ctx, of.policy.Index.Fragments(), x.state.Hash)
	if errs.Is(err, errs.NotFound) {
		of.lookAgain()
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, a.Body.Close()) }()
	if a.Object != x.state {
		of.lookAgain()
		return false, nil
	}
	h := append(putHeader(of, &x.state, x.header.Index), backend.Field{Name: backend.CommitCRC, Value: fmt.Sprintf("%08x", x.state.CRC)})
	r := &backend.Request{Method: "PUT", Path: pathAt(to.Device, of, x.path), Header: h, Length: x.state.Length, Body: a.Body}
	resp, err := p.peers.Do(ctx, of.about(), to, r)
	if err != nil {
		return false, err
	}
	if resp.Status != 201 {
		return false, p.peers.Bad(to, r, resp)
	}
	return true, closeBody(resp)
}

// putHeader is what a PUT of a fragment carries.
func putHeader(of *part, state *replwire.Object, index int) backend.Header {
	return backend.Header{
		{Name: backend.Timestamp, Value: state.Times.Data.String()},
		{Name: backend.PolicyIndex, Value: of.policy.Index.Fragments().String()},
		{Name: backend.FragmentIndex, Value: strconv.Itoa(index)},
		{Name: replwire.ReplicationHeader, Value: "true"},
	}
}

// pathAt is the path of an object on a device.
func pathAt(device string, of *part, path name.Path) string {
	return backend.Target{Device: device, Partition: uint32(of.number), Path: path}.Quoted()
}

func wholePath(device string) string { return "/" + name.Quote(device) }

func closeBody(resp *backend.Response) error {
	if resp.Body == nil {
		return nil
	}
	return resp.Body.Close()
}
