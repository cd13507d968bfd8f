package account

import (
	"context"
	"iter"

	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// A Deleted is an account that was deleted and lists containers still, by what one
// device has of it.
type Deleted struct {
	Name   string
	Delete timestamp.T // when
}

// Deleted yields the accounts of a device that were deleted and list containers still, of those
// that which says so of. Before each that it looks at it waits for pace. What can't be read is an
// error, and it goes on.
func (s *Server) Deleted(ctx context.Context, device string, which func(name.Hash) bool, pace func(context.Context) error) iter.Seq2[Deleted, error] {
	const op errs.Op = "account.deleted"
	return func(yield func(Deleted, error) bool) {
		dev, err := s.core.Devices.Lookup(device)
		if err != nil {
			yield(Deleted{}, errs.E(op, err))
			return
		}
		var last name.Hash
		for i := range last {
			last[i] = 0xff
		}
		for hash, err := range s.core.Store.Replicas().Walk(ctx, device, name.Hash{}, last) {
			var found Deleted
			if err == nil && which(hash) {
				if err = pace(ctx); err == nil {
					found, err = s.deleted(ctx, metadb.Location{Device: dev, Hash: hash})
				}
			}
			switch {
			case ctx.Err() != nil:
				return
			case err != nil && !yield(Deleted{}, errs.E(op, errs.Subject(hash.String()), err)):
				return
			case err == nil && found.Name != "" && !yield(found, nil):
				return
			}
		}
	}
}

// deleted looks at one account. The name is empty where it is not deleted, or lists nothing.
func (s *Server) deleted(ctx context.Context, at metadb.Location) (d Deleted, err error) {
	err = s.core.Store.View(ctx, at, func(tx *metadb.Tx) error {
		i := tx.Info()
		if !deleted(i) {
			return nil
		}
		sum, err := tx.Total()
		if err == nil && sum.Rows > 0 {
			d = Deleted{i.Path.Account, i.Delete}
		}
		return err
	})
	if errs.Is(err, errs.NotFound) {
		err = nil // it is gone by now
	}
	return d, err
}

// Containers returns up to limit names of containers that an account on a device lists after
// another name, in order, those that clients never see too. The error is of kind errs.NotFound
// where it has no such account, or one that is not deleted.
func (s *Server) Containers(ctx context.Context, device, account, after string, limit int) (names []string, err error) {
	const op errs.Op = "account.containers"
	dev, err := s.core.Devices.Lookup(device)
	if err != nil {
		return nil, errs.E(op, err)
	}
	at := metadb.Location{Device: dev, Hash: s.core.Hasher.Hash(name.Path{Account: account})}
	err = s.core.Store.View(ctx, at, func(tx *metadb.Tx) error {
		if !deleted(tx.Info()) {
			return errs.E(op, errs.Subject(account), errs.NotFound)
		}
		names = names[:0]
		q := metadb.Query{Params: listing.Params{Limit: limit, Marker: after}, Reserved: true}
		return tx.List(q, func(entry, _ []byte) error {
			names = append(names, string(entry))
			return nil
		})
	})
	return names, err
}
