package fragments

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/replwire"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// closing is a body that says at its end what its checksum is.
type closing struct {
	io.Reader
	req *backend.Request
	crc uint32
}

// Read implements io.Reader.
func (c *closing) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.crc = crc32.Update(c.crc, castagnoli, b[:n])
	if err == io.EOF && c.req.Trailer == nil {
		c.req.Trailer = backend.Header{{Name: backend.CommitCRC, Value: fmt.Sprintf("%08x", c.crc)}}
	}
	return n, err
}

// open asks who has a fragment for it, from a byte of the archive on.
func (p *pass) open(ctx context.Context, m *missing, h holding, from int64) (ec.Part, error) {
	to := h.fresh()
	if why, down := p.peers.Down(to); down {
		return ec.Part{}, errs.E(errs.Op("fragments.read"), errs.Subject(to.String()), errs.Unavailable, why)
	}
	header := p.asks(m, h)
	if from > 0 {
		header.Add("Range", fmt.Sprintf("bytes=%d-", from))
	}
	r := &backend.Request{Method: "GET", Path: pathAt(h.device, m.of, m.commit.Path), Header: header}
	resp, err := p.peers.Do(ctx, m.of.about(), to, r)
	if err != nil {
		return ec.Part{}, err
	}
	if want := map[bool]int{true: 206, false: 200}[from > 0]; resp.Status != want || resp.Body == nil {
		return ec.Part{}, p.peers.Bad(to, r, resp)
	}
	raw, err := hex.DecodeString(resp.Header.Get(backend.Fragment))
	var head ec.Header
	if err == nil {
		head, err = ec.ParseHeader(raw)
	}
	if err != nil {
		return ec.Part{}, errors.Join(fmt.Errorf("%s: %w", to, err), resp.Body.Close())
	}
	return ec.Part{Header: head, Frames: &paced{ctx: ctx, pass: p, body: resp.Body}}, nil
}

// asks is the header of a request about a fragment that somebody has.
func (p *pass) asks(m *missing, h holding) backend.Header {
	return append(policyHeader(m.of.policy.Index.Fragments()),
		backend.Field{Name: replwire.ReplicationHeader, Value: "true"},
		backend.Field{Name: backend.FragmentTime, Value: m.commit.Time.String()},
		backend.Field{Name: backend.FragmentIndex, Value: strconv.Itoa(h.index)},
		backend.Field{Name: backend.FragmentWrite, Value: hex.EncodeToString(m.commit.Coded.Write[:])})
}

// paced is an archive that is read no faster than the device's limits let it be.
type paced struct {
	ctx  context.Context //nolint:containedctx // of the one read that it is for
	pass *pass
	body io.ReadCloser
}

// Read implements io.Reader.
func (r *paced) Read(b []byte) (int, error) {
	n, err := r.body.Read(b)
	if n > 0 {
		if why := r.pass.peers.Pace.Bytes(r.ctx, int64(n)); why != nil && err == nil {
			err = why
		}
	}
	return n, err
}

// Close implements io.Closer.
func (r *paced) Close() error { return r.body.Close() }

// fetch writes the archive that another device has.
func (p *pass) fetch(ctx context.Context, m *missing, h holding, w io.Writer) (err error) {
	part, err := p.open(ctx, m, h, 0)
	if err != nil {
		return err
	}
	body := part.Frames.(*paced)
	defer func() { err = errors.Join(err, body.Close()) }()
	head, size, err := ec.Verify(io.TeeReader(body, w))
	if errs.Is(err, errs.Corrupt) {
		p.accuse(ctx, m, h.index)
	}
	if err == nil && (head != ec.Header{Layout: m.layout, Write: m.write, Index: m.of.index} || size != m.commit.Coded.Size) {
		err = errs.E(errs.Op("fragments.fetch"), errs.Corrupt, fmt.Errorf("%s/%s has another archive than it says", h.addr, h.device))
	}
	return err
}

// reading gives out the archives that one is made from.
type reading struct {
	pass  *pass
	ctx   context.Context //nolint:containedctx // of the one rebuild that it is for
	m     *missing
	left  []holding
	under int // that are being opened, each of which comes on got
	got   chan opened
}

type opened struct {
	part ec.Part
	err  error
}

// read returns the archives to make one from: one of each index first, then those that others
// have of the same.
func (p *pass) read(ctx context.Context, m *missing) *reading {
	r := &reading{pass: p, ctx: ctx, m: m, got: make(chan opened, m.layout.Data)}
	var again []holding
	var seen uint64
	n := len(m.at)
	for i := range n {
		h := m.at[(i+int(m.commit.Hash[15]))%n] // so that all are read from, and not the first of them
		switch {
		case h.index == m.of.index:
		case seen>>h.index&1 == 0:
			seen |= 1 << h.index
			r.left = append(r.left, h)
		default:
			again = append(again, h)
		}
	}
	r.left = append(r.left, again...)
	return r
}

// begin opens the first of them, side by side.
func (r *reading) begin() {
	n := min(len(r.left), r.m.layout.Data)
	first := r.left[:n]
	r.left = r.left[n:]
	r.under = n
	for _, h := range first {
		go func() {
			part, err := r.pass.open(r.ctx, r.m, h, r.m.layout.FrameAt(0))
			r.got <- opened{part, err}
		}()
	}
}

// source is an ec.Source.
func (r *reading) source(segment int64) (ec.Part, error) {
	if r.under > 0 {
		r.under--
		o := <-r.got
		return o.part, o.err
	}
	if len(r.left) == 0 || r.ctx.Err() != nil {
		return ec.Part{}, io.EOF
	}
	h := r.left[0]
	r.left = r.left[1:]
	return r.pass.open(r.ctx, r.m, h, r.m.layout.FrameAt(segment))
}

// end closes what was opened and not read.
func (r *reading) end() {
	for ; r.under > 0; r.under-- {
		if o := <-r.got; o.err == nil {
			_ = o.part.Frames.(*paced).Close() // nothing of it was wanted
		}
	}
}

// rebuild writes the archive that is missing, made from others. It returns the indexes of those that were found damaged, whose devices
// are told, also without an error: others were enough then.
func (p *pass) rebuild(ctx context.Context, m *missing, w io.Writer) (bad []int, err error) {
	code, err := p.code(m.layout)
	if err != nil {
		return nil, err
	}
	if n := m.others(); n < m.layout.Data {
		return nil, errs.E(errs.Op("fragments.rebuild"), errs.Unavailable, fmt.Errorf("%w: %d of the others can be found, and it takes %d", ec.ErrTooFew, n, m.layout.Data))
	}
	r := p.read(ctx, m)
	defer r.end()
	r.begin()
	size, faults, err := code.Rebuild(w, m.write, m.of.index, r.source)
	for _, f := range faults {
		if errs.Is(f.Err, errs.Corrupt) {
			p.fail(m.of, nil, m.commit.Path.String(), fmt.Sprintf("fragment %d is damaged where it is, at segment %d: %v", f.Index, f.Segment, f.Err), 1)
			if f.Index >= 0 && !slices.Contains(bad, f.Index) {
				bad = append(bad, f.Index)
				p.accuse(ctx, m, f.Index)
			}
		}
	}
	if err == nil && size != m.commit.Coded.Size {
		err = errs.E(errs.Op("fragments.rebuild"), errs.Corrupt, fmt.Errorf("the fragments are of %d bytes, and the object has %d", size, m.commit.Coded.Size))
	}
	return bad, err
}
