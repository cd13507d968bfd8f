package copies

import (
	"context"
	"fmt"

	"martlet/internal/backend"
	"martlet/internal/ecwrite"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/replicator/reconciler"
)

// decode opens the fragments of an object, which has said that its data is in some.
func (c *Copies) decode(ctx context.Context, p policy.Index, path name.Path, o reconciler.Object) (reconciler.Object, error) {
	coded, err := c.reader.Object(p, path, o.Header)
	if err != nil {
		return o, err
	}
	o.Header.Set(backend.ETag, coded.ETag)
	o.Length = coded.Size
	o.Body, err = coded.Open(ctx, 0, coded.Size)
	return o, err
}

// encode stores an object in fragments. When it returns nil the commit, or what is later, is on stable storage on as many
// replicas as the policy wants, and so are, of the former, as many fragments.
func (c *Copies) encode(ctx context.Context, of policy.Policy, place quorum.Place, o reconciler.Object, stamp timestamp.T) error {
	const op errs.Op = "copies.put"
	fields, tell := append(head(stamp, of.Index), stored(o.Header)...), c.tell(place)
	answers, err := c.writer.Put(ctx, ecwrite.Object{
		Policy: of, Path: place.Path, Stamp: stamp, Size: o.Length, ETag: o.Header.Get(backend.ETag), Body: o.Body,
		Fields: func(slot int) backend.Header {
			h := make(backend.Header, 0, len(fields)+len(tell[slot])+3)
			return append(append(h, fields...), tell[slot]...)
		},
	})
	if err != nil {
		return errs.E(op, errs.Subject(place.Path.String()), errs.Unavailable, err)
	}
	if err := enough(op, place, answers, func(a *quorum.Answer) bool { return isLater(a, stamp) }); err != nil {
		return err
	}
	s, err := c.Look(ctx, of.Index, place.Path)
	if err != nil {
		return err
	}
	stands, err := c.Stands(ctx, of.Index, place.Path, &s)
	if err == nil && !stands {
		err = errs.E(op, errs.Subject(place.Path.String()), errs.Unavailable, fmt.Errorf("too few fragments of %s are there, which has just been stored", s.Times.Data))
	}
	return err
}

// Stands implements reconciler.Objects.
func (c *Copies) Stands(ctx context.Context, p policy.Index, path name.Path, s *reconciler.State) (bool, error) {
	const op errs.Op = "copies.stands"
	text := s.Header.Get(backend.CodedWrite)
	if text == "" {
		return true, nil
	}
	coded, err := backend.ParseCoded(text)
	if err != nil {
		return false, errs.E(op, errs.Subject(path.String()), errs.Unavailable, err)
	}
	of, _ := c.policies.ByIndex(p)
	if !of.Coded() {
		return false, errs.E(op, errs.Subject(path.String()), errs.Unavailable, fmt.Errorf("its data is in fragments, and policy %d does not erasure-code", p))
	}
	want := coded.Data + 1
	held, err := c.writer.Held(ctx, of, path, s.Times.Data, coded.Write, want)
	return held >= want, err
}
