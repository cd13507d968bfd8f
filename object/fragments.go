package object

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"martlet/internal/backend"
	"martlet/internal/conditional"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/object/engine"
)

// Fragments. Under the index that a policy has for them (policy.Index.Fragments) an object's
// path names all its fragments that are here: archives of package ec, each of which is kept
// as an object of its own, under a hash that its time and index give it. They are there or not:
// nothing supersedes one, no listing has one, and one that is not wanted any more is
// dropped. Which of them make an object is not known here: commits say so, and
// whoever reads those.

// maxFragments is how many fragments an object may have.
const maxFragments = ec.MaxData + ec.MaxParity

// FragmentAt returns where a fragment is kept of an object, or of a version, whose path has a
// hash. The policy is the index of its fragments.
func FragmentAt(p policy.Index, of name.Hash, t timestamp.T, index int) engine.Location {
	return engine.Location{Policy: p, Hash: of.Fragment(t, index)}
}

// FragmentVersion returns what the engine is told of a fragment, whoever writes it: so the same
// archive is the same state. Header is the encoded one that the archive begins with. Nobody has
// taken an MD5 of an archive, which has checksums of its own: it is zero.
func FragmentVersion(path name.Path, t timestamp.T, header []byte) engine.Version {
	return engine.Version{
		Time: t, Name: path,
		System: backend.Header{{Name: backend.Fragment, Value: hex.EncodeToString(header)}},
	}
}

// FragmentOf returns which fragment is kept under a hash, and what it says of itself. An object that
// is none is false.
func FragmentOf(s *engine.State) (backend.FragmentID, ec.Header, bool) {
	if s.Kind != engine.Live {
		return backend.FragmentID{}, ec.Header{}, false
	}
	b, err := hex.DecodeString(s.System.Get(backend.Fragment))
	if err != nil {
		return backend.FragmentID{}, ec.Header{}, false
	}
	h, err := ec.ParseHeader(b)
	if err != nil {
		return backend.FragmentID{}, ec.Header{}, false
	}
	return backend.FragmentID{Time: s.Time, Index: h.Index, Write: h.Write.ID}, h, true
}

// verbOfFragments returns what answers a method under an index of fragments.
func (s *Server) verbOfFragments(method string) func(context.Context, *call) (*backend.Response, error) {
	switch method {
	case "GET":
		return s.getFragment
	case "HEAD":
		return s.headFragments
	case "PUT":
		return s.putFragment
	case "DELETE":
		return s.deleteFragment
	}
	return nil
}

func (c *call) fragmentAt(t timestamp.T, index int) engine.Location {
	return FragmentAt(c.at.Policy, c.at.Hash, t, index)
}

// errKept says of a fragment that was sent that exactly this is here.
var errKept = errors.New("it is here already")

// putFragment stores an archive. When it returns 201 the archive and the record that names it are on
// stable storage (see engine.Writer.Commit), be it that they were so before. With any other answer
// nothing of it can be seen, or, where a sync failed, perhaps all of it, whole. It takes
// the place of nothing but of the same fragment that was damaged, and no listing is told.
func (s *Server) putFragment(ctx context.Context, c *call) (*backend.Response, error) {
	ts, err := s.parseStamp(c)
	if err != nil {
		return nil, err
	}
	index, err := c.parseFragmentIndex()
	if err != nil {
		return nil, err
	}
	head := make([]byte, ec.HeaderSize)
	write, err := c.takeHeader(head, index)
	if err != nil {
		return nil, err
	}
	at, v := c.fragmentAt(ts, index), FragmentVersion(c.target.Path, ts, head)
	if c.Length < 0 || c.Length > smallBody {
		state, err := c.store.Stat(ctx, at)
		if err != nil {
			return nil, err
		}
		if f, _, ok := FragmentOf(&state); ok && f.Write != write {
			return nil, c.refuse(errs.Stale, state)
		}
	}
	w, err := c.create(ctx, at)
	if err != nil {
		return nil, err
	}
	defer w.Close() //nolint:errcheck // nothing is kept by it: Commit has said what was
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	if err := c.receive(w); err != nil {
		return nil, err
	}
	if err := c.sum(w); err != nil {
		return nil, err
	}
	length, crc := w.Length(), w.CRC()
	_, err = w.Commit(v, engine.Terms{
		Merge: true, // or it could not take the place of one that was lost
		Check: func(s engine.State) error {
			if s.Kind != engine.Live {
				return nil
			}
			if s.System.Get(backend.Fragment) == v.System[0].Value && s.Length == length && s.CRC == crc {
				return errKept
			}
			return c.refuse(errs.Stale, s)
		},
	})
	if err != nil && !errors.Is(err, errKept) {
		return nil, err
	}
	return &backend.Response{Status: 201, Header: backend.Header{{Name: backend.BackendStamp, Value: ts.String()}}}, nil
}

// takeHeader reads the header that the body begins with, and sees to it that it is of that
// fragment.
func (c *call) takeHeader(head []byte, index int) (write ec.WriteID, err error) {
	const op errs.Op = "object.put"
	if c.Body == nil {
		return write, errs.Refuse(errs.Mismatch, "a fragment has a body")
	}
	n, err := io.ReadFull(c.Body, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		if errs.KindOf(err) == errs.Other {
			return write, errs.E(op, errs.Aborted, err)
		}
		return write, errs.E(op, err)
	}
	h, err := ec.ParseHeader(head[:n])
	if err != nil {
		return write, errs.E(op, errs.Mismatch, errs.Public("the body does not begin with the header of an archive"), err)
	}
	if h.Index != index {
		return write, errs.Refuse(errs.Mismatch, "the archive is fragment %d, and %s says %d", h.Index, backend.FragmentIndex, index)
	}
	return h.Write.ID, nil
}

// wantedFragment is what a request says of the fragment that it is about.
type wantedFragment struct {
	time     timestamp.T
	index    int // -1 for any
	but      uint32
	write    ec.WriteID
	anyWrite bool
}

// parseFragment reads which fragment is meant.
func (c *call) parseFragment() (f wantedFragment, err error) {
	if f.time, err = timestamp.Parse(c.Header.Get(backend.FragmentTime)); err != nil || f.time.IsZero() {
		return f, errs.E(errs.Invalid, errs.Public(backend.FragmentTime+" is not a timestamp"), err)
	}
	if f.write, f.anyWrite, err = c.parseFragmentWrite(); err != nil {
		return f, err
	}
	if c.Header.Has(backend.FragmentIndex) {
		f.index, err = c.parseFragmentIndex()
		return f, err
	}
	f.index = -1
	for _, text := range list(c.Header.Get(backend.FragmentsBut)) {
		i, err := fragmentIndex(text)
		if err != nil {
			return f, errs.Refuse(errs.Invalid, "%s is not indexes of fragments, 0 to %d", backend.FragmentsBut, maxFragments-1)
		}
		f.but |= 1 << i
	}
	return f, nil
}

func (c *call) parseFragmentIndex() (int, error) {
	i, err := fragmentIndex(c.Header.Get(backend.FragmentIndex))
	if err != nil {
		return 0, errs.Refuse(errs.Invalid, "%s is not the index of a fragment, 0 to %d", backend.FragmentIndex, maxFragments-1)
	}
	return i, nil
}

func fragmentIndex(text string) (int, error) {
	i, err := strconv.ParseUint(text, 10, 8)
	if err == nil && i >= maxFragments {
		err = strconv.ErrRange
	}
	return int(i), err
}

// parseFragmentWrite reads of which write a fragment has to be; every says that it may be of any.
func (c *call) parseFragmentWrite() (id ec.WriteID, every bool, err error) {
	text := c.Header.Get(backend.FragmentWrite)
	if text == "" {
		return id, true, nil
	}
	if id, err = backend.ParseWrite(text); err != nil {
		return id, false, errs.E(errs.Invalid, errs.Public(backend.FragmentWrite+" is not the identity of a write"), err)
	}
	return id, false, nil
}

// fits reports whether a state is a fragment as it is wanted.
func (f *wantedFragment) fits(s *engine.State) bool {
	id, _, ok := FragmentOf(s)
	return ok && id.Time == f.time && (f.anyWrite || id.Write == f.write) && (id.Index == f.index || f.index < 0 && f.but>>id.Index&1 == 0)
}

// getFragment sends an archive or a part of it. What it sends has been checked, block by block;
// damage that is found on the way ends the body with an error. A fragment that was damaged is
// not one that is not here.
func (s *Server) getFragment(ctx context.Context, c *call) (*backend.Response, error) {
	want, err := c.parseFragment()
	if err != nil {
		return nil, err
	}
	if want.index >= 0 {
		return c.sendFragment(ctx, c.fragmentAt(want.time, want.index), &want)
	}
	return c.sendAny(ctx, &want)
}

// sendAny sends a fragment of those that are wanted, of several any.
func (c *call) sendAny(ctx context.Context, want *wantedFragment) (*backend.Response, error) {
	var worst error // of one that could have been it
	for e, err := range c.fragments(ctx) {
		switch {
		case err != nil:
			worst = err
			continue
		case e.State.Kind == engine.Lost && c.wasWanted(&e, want):
			worst = c.refuse(errs.Corrupt, e.State)
			continue
		case !c.owns(&e) || !want.fits(&e.State):
			continue
		}
		resp, err := c.sendFragment(ctx, e.Location, want)
		if err == nil {
			return resp, nil
		}
		if !errs.Is(err, errs.NotFound) { // else it has been dropped since
			worst = err
		}
	}
	if worst != nil {
		return nil, worst
	}
	return nil, c.refuse(errs.NotFound, engine.State{})
}

// wasWanted reports whether what was lost under a hash can be a fragment that is wanted.
func (c *call) wasWanted(e *engine.Entry, want *wantedFragment) bool {
	for i := range maxFragments {
		if want.but>>i&1 == 0 && c.fragmentAt(want.time, i) == e.Location {
			return true
		}
	}
	return false
}

// fragments yields what there is of the object's fragments here.
func (c *call) fragments(ctx context.Context) func(func(engine.Entry, error) bool) {
	r := c.at.Hash.FragmentRange()
	return c.store.Walk(ctx, c.at.Policy, r.First(), r.Last())
}

// owns reports whether what is under a hash of that range is a fragment of the object. Others
// have such hashes next to never.
func (c *call) owns(e *engine.Entry) bool {
	f, _, ok := FragmentOf(&e.State)
	return ok && c.fragmentAt(f.Time, f.Index) == e.Location
}

func (c *call) sendFragment(ctx context.Context, at engine.Location, want *wantedFragment) (*backend.Response, error) {
	r, err := c.store.Open(ctx, at)
	if err != nil {
		return nil, err
	}
	resp, err := c.part(r, want)
	if err != nil || resp.Body == nil {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}
	return resp, err
}

// part answers with what the request asks for of an archive: several ranges are answered
// with all of it.
func (c *call) part(r *engine.Reader, want *wantedFragment) (*backend.Response, error) {
	s := r.State()
	if !want.fits(s) {
		return nil, c.refuse(errs.NotFound, engine.State{})
	}
	at := s.Time.String()
	resp := &backend.Response{Status: 200, Header: append(make(backend.Header, 0, 5+len(s.System)),
		backend.Field{Name: backend.ContentType, Value: "application/octet-stream"},
		backend.Field{Name: backend.BackendStamp, Value: at},
		backend.Field{Name: backend.DataStamp, Value: at},
	)}
	resp.Header = append(resp.Header, s.System...)
	cond := conditional.Request{Range: c.Header.Get("Range")}
	spans, extent := cond.Spans(conditional.Validators{}, s.Length)
	span := conditional.Span{N: s.Length}
	switch {
	case extent == conditional.Unsatisfiable:
		resp.Status = 416
		resp.Header.Add("Content-Range", fmt.Sprintf("bytes */%d", s.Length))
		return resp, nil
	case len(spans) == 1:
		resp.Status, span = 206, spans[0]
		resp.Header.Add("Content-Range", conditional.ContentRange(span, s.Length))
	}
	b := &body{reader: r, parts: []conditional.Part{{Span: span}}}
	resp.Length, resp.Body = span.N, b
	return resp, b.prime()
}

// headFragments lists the fragments of the object that are here, or those of one time, the newest
// first. One that was damaged is none. What can't be read is an error, never a shorter list.
func (s *Server) headFragments(ctx context.Context, c *call) (*backend.Response, error) {
	var only timestamp.T
	if text := c.Header.Get(backend.FragmentTime); text != "" {
		var err error
		if only, err = timestamp.Parse(text); err != nil {
			return nil, errs.E(errs.Invalid, errs.Public(backend.FragmentTime+" is not a timestamp"), err)
		}
	}
	var held []backend.FragmentID
	for e, err := range c.fragments(ctx) {
		if err != nil {
			return nil, err
		}
		if f, _, _ := FragmentOf(&e.State); c.owns(&e) && (only.IsZero() || f.Time == only) {
			held = append(held, f)
		}
	}
	slices.SortFunc(held, func(a, b backend.FragmentID) int {
		if c := b.Time.Compare(a.Time); c != 0 {
			return c
		}
		return a.Index - b.Index
	})
	held = held[:min(len(held), backend.MaxFragmentIDs)]
	return &backend.Response{Status: 204, Header: backend.Header{{Name: backend.FragmentsHeld, Value: backend.JoinFragmentIDs(held)}}}, nil
}

// deleteFragment drops one fragment of one write, or the mark that it was lost. When it returns 204
// that is durable: no crash brings it back. With 404 nothing has changed.
func (s *Server) deleteFragment(ctx context.Context, c *call) (*backend.Response, error) {
	f, err := c.parseFragment()
	if err != nil {
		return nil, err
	}
	if f.index < 0 || f.anyWrite {
		return nil, errs.Refuse(errs.Invalid, "a fragment is dropped by its index and its write: %s, %s", backend.FragmentIndex, backend.FragmentWrite)
	}
	dropped, err := c.store.Drop(ctx, c.fragmentAt(f.time, f.index), func(s *engine.State) bool {
		return f.fits(s) || s.Kind == engine.Lost
	})
	switch {
	case err != nil:
		return nil, err
	case !dropped:
		return &backend.Response{Status: 404}, nil
	}
	return &backend.Response{Status: 204}, nil
}
