package fragments

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
)

// Fragments whose blocks are as they were written and whose frames are bad: what was stored was damaged before. The scrub of their
// device does not see it. Whoever reads one to make another from it does, and says so to the device, which believes nobody: it reads
// the archive itself, and puts it into quarantine only if it finds the same, and has seen that there are others from end to end that it can be made of:
// frames of it that are good may be wanted until then.

const (
	// mostSuspects is how many wait to be looked at; who finds one damaged that is not looked at says it again.
	mostSuspects = 256
	// mostLooked is of how many is remembered that they were looked at. One is not looked at again for a while, and then for
	// longer and longer: it costs reading as many others.
	mostLooked = 1 << 12

	lookAgain, lookSeldom = time.Hour, 24 * time.Hour
)

// accuse tells devices that a fragment which they gave is damaged.
func (p *pass) accuse(ctx context.Context, m *missing, index int) {
	for _, h := range m.at {
		if h.index != index || ctx.Err() != nil {
			continue
		}
		to := h.fresh()
		r := &backend.Request{Method: "GET", Path: pathAt(h.device, m.of, m.commit.Path), Header: append(p.asks(m, h), backend.Field{Name: backend.FragmentSuspect, Value: "true"})}
		resp, err := p.peers.Do(ctx, m.of.about(), to, r)
		if err == nil {
			err = closeBody(resp)
		}
		if err != nil { // it is found again
			p.Log.LogAttrs(ctx, slog.LevelInfo, "a device could not be told that a fragment is damaged", slog.String("peer", to.String()), slog.String("name", m.commit.Path.String()), slog.Any("err", err))
		}
	}
}

// suspect takes note of what another node has found.
func (f *Fragments) suspect(c *replicator.Call) (*backend.Response, error) {
	at, err := timestamp.Parse(c.Header.Get(backend.FragmentTime))
	if err != nil {
		return nil, errs.E(errs.Invalid, errs.Public(backend.FragmentTime+" is not a timestamp"), err)
	}
	index, err := strconv.Atoi(c.Header.Get(backend.FragmentIndex))
	if err != nil || index < 0 || index >= ec.MaxData+ec.MaxParity {
		return nil, errs.Refuse(errs.Invalid, "%s is not the index of a fragment", backend.FragmentIndex)
	}
	of, err := f.policyOf(c)
	if err != nil {
		return nil, err
	}
	object := f.Hasher.Hash(c.Path)
	if c.Path.Object == "" || !c.Holds(object) {
		return nil, errs.Refuse(errs.Invalid, "the path's hash %s is not in partition %d of part power %d", object, c.Partition, c.PartPower)
	}
	select {
	case f.suspects <- Lost{Device: c.Device, Policy: of, Hash: object.Fragment(at, index)}:
	default: // there are enough
	}
	return &backend.Response{Status: 202}, nil
}

// examine looks at a fragment that another node has found damaged, and puts it into quarantine if it is, and others are there to make it of. It is
// made again then as any that was lost is.
func (f *Fragments) examine(ctx context.Context, l Lost) {
	if !f.looked.due(l, f.Now(), lookAgain, lookSeldom) {
		return
	}
	p, x := f.alone(l)
	if x == nil || x.index < 0 {
		return
	}
	state, header, bad, err := verified(ctx, p.store, l)
	if bad == nil && err == nil {
		return // it was not it
	}
	if err == nil {
		err = p.replaceable(ctx, x, l, header)
	}
	if err == nil {
		err = p.store.Quarantine(ctx, l.Policy, state, bad)
	}
	if err != nil && ctx.Err() == nil {
		what := "a fragment is damaged as it was stored, and is not replaced yet"
		if bad == nil {
			what = "it can't be told whether a fragment is damaged that another node has found to be"
		}
		f.Log.LogAttrs(ctx, slog.LevelWarn, what, slog.String("device", l.Device),
			slog.String("hash", l.Hash.String()), slog.Any("damage", bad), slog.Any("err", err))
	}
}

// verified reads a fragment to its end. bad is what is wrong with it, err why that is not known. What was damaged on the
// disk is neither's: the store deals with that.
func verified(ctx context.Context, s Store, l Lost) (state replwire.Object, header ec.Header, bad, err error) {
	e, err := s.Stat(ctx, l.Policy, l.Hash)
	if err != nil || e.Kind != replwire.Data {
		return state, header, nil, err
	}
	raw, err := hex.DecodeString(e.Fragment)
	if err == nil {
		header, err = ec.ParseHeader(raw)
	}
	if err != nil {
		return state, header, nil, err
	}
	a, err := s.Open(ctx, l.Policy, l.Hash)
	if err != nil {
		return state, header, nil, err
	}
	if a.Object != e.Object { // what is there now would be taken away for what was said of the other
		return state, header, nil, errors.Join(errReplaced, a.Body.Close())
	}
	from := &reader{from: a.Body}
	h, _, bad := ec.Verify(from)
	err = errors.Join(from.err, a.Body.Close())
	switch {
	case err != nil:
		bad = nil
	case bad == nil && h != header:
		bad = errors.New("the archive has another header than was said of it")
	}
	return a.Object, header, bad, err
}

var errReplaced = errors.New("another took its place while it was looked at")

// reader remembers what an archive's own reader has failed with.
type reader struct {
	from io.Reader
	err  error
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// replaceable returns why a fragment that is here can't be made of others that are good from end to end.
func (p *pass) replaceable(ctx context.Context, x *part, l Lost, header ec.Header) error {
	u := unit{of: x, at: l.Hash.FragmentRange()}
	commits, err := p.commits(ctx, u)
	if err != nil {
		return err
	}
	all := p.missing(x, commits, nil)
	i := slices.IndexFunc(all, func(m *missing) bool {
		return m.commit.Hash.Fragment(m.commit.Time, x.index) == l.Hash && m.write == header.Write && m.layout == header.Layout
	})
	if i < 0 {
		return errors.New("no commit is known of it that it belongs to here")
	}
	m := all[i]
	p.locate(ctx, &found{unit: u, missing: all[i : i+1]})
	for range m.layout.Fragments() {
		if m.others() < m.layout.Data {
			p.search(ctx, m)
		}
		bad, err := p.rebuild(ctx, m, io.Discard)
		if err != nil || len(bad) == 0 {
			return err
		}
		// One that is bad from some frame on may have been used up to it: once more, without it.
		m.at = slices.DeleteFunc(m.at, func(h holding) bool { return slices.Contains(bad, h.index) })
	}
	return errs.E(errs.Op("fragments.examine"), errs.Unavailable, fmt.Errorf("%w that are good from end to end", ec.ErrTooFew))
}
