package container

import (
	"context"
	"errors"
	"net/http"

	"martlet/internal/backend"
	"martlet/internal/dbserver"
	"martlet/internal/errs"
	"martlet/internal/metadb"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// put makes a container, or renews it.
func (s *Server) put(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	to, err := s.accountReplicas(call.Request)
	if err != nil {
		return nil, err
	}
	asked, isAsked, err := s.core.Policy(call.Request, backend.PolicyIndex)
	if err != nil {
		return nil, err
	}
	wanted := asked
	if !isAsked {
		if wanted, err = s.defaultPolicy(call.Request); err != nil {
			return nil, err
		}
	}
	fields := s.core.Fields(call)
	var made bool
	var now metadb.Info
	var stat metadb.Stat
	renewed := func(tx *metadb.Tx, isGone bool) error {
		if now = tx.Info(); isAsked && !isGone && now.Policy != asked {
			return errOtherPolicy
		}
		if err := renew(tx, call.Stamp, wanted, isGone); err != nil {
			return err
		}
		if err := s.core.MergeFields(tx, fields); err != nil {
			return err
		}
		made, now = tx.Made() || isGone, tx.Info()
		return nil
	}
	count := func(tx *metadb.Tx) (err error) { stat, err = tx.Stat(now.Policy); return err }
	if err = s.apart(ctx, call, func(tx *metadb.Tx) error { return renewed(tx, false) }); err == nil {
		err = s.core.Store.View(ctx, call.At, count)
	}
	if errs.Is(err, errs.NotFound) {
		err = s.core.Store.Ensure(ctx, call.At, fresh(call, wanted), func(tx *metadb.Tx) error {
			isGone, err := deleted(tx)
			if err == nil {
				err = renewed(tx, isGone)
			}
			if err == nil {
				err = count(tx)
			}
			return err
		})
	}
	h := backend.Header{{Name: backend.PolicyIndex, Value: now.Policy.String()}}
	switch {
	case errors.Is(err, errOtherPolicy):
		return dbserver.Respond(http.StatusConflict, h), nil
	case err != nil:
		return nil, err
	}
	if s.tellAccount(ctx, call, to, now, stat) {
		return nil, errs.E(errs.Op("container.put"), errs.NotFound, "no replica of the account is there")
	}
	if made {
		return dbserver.Respond(http.StatusCreated, h), nil
	}
	return dbserver.Respond(http.StatusAccepted, h), nil
}

// errOtherPolicy is for a container that is there under another policy than the
// one asked for.
var errOtherPolicy = errs.Refuse(errs.Conflict, "The container has another storage policy")

func (s *Server) defaultPolicy(r *backend.Request) (policy.Index, error) {
	p, ok, err := s.core.Policy(r, policyDefault)
	if !ok && err == nil {
		p = s.core.Policies.Default().Index
	}
	return p, err
}

// renew notes a PUT. One that makes a deleted container anew must be later than
// the DELETE, and may choose the policy.
func renew(tx *metadb.Tx, stamp timestamp.T, wanted policy.Index, isGone bool) error {
	i := tx.Info()
	if isGone {
		if !stamp.After(i.Delete) {
			return errs.Refuse(errs.Conflict, "The container was deleted at %s", i.Delete)
		}
		i.Policy, i.PolicyAt, i.PolicyAfter, i.StatusChanged = wanted, stamp, i.Delete, stamp
	}
	i.Put = stamp
	return tx.MergeInfo(i)
}

// apart changes what a container says of itself without waiting for its rows. The error is of kind errs.NotFound
// where it takes those to know whether the container is there: when it was deleted, and not put since.
func (s *Server) apart(ctx context.Context, call *dbserver.Call, fn func(*metadb.Tx) error) error {
	return s.core.Store.UpdateApart(ctx, call.At, func(tx *metadb.Tx) error {
		if i := tx.Info(); i.Delete.After(i.Put) {
			return errs.E(errs.NotFound)
		}
		return fn(tx)
	})
}

func (s *Server) post(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	fields := s.core.Fields(call)
	update := func(tx *metadb.Tx) error {
		// A POST counts as the latest PUT: clients see it as Last-Modified.
		i := tx.Info()
		i.Put = call.Stamp.WithOffset(0)
		if err := tx.MergeInfo(i); err != nil {
			return err
		}
		return s.core.MergeFields(tx, fields)
	}
	err := s.apart(ctx, call, update)
	if errs.Is(err, errs.NotFound) {
		err = s.core.Store.Update(ctx, call.At, func(tx *metadb.Tx) error {
			isGone, err := deleted(tx)
			if err == nil && isGone {
				err = errs.E(errs.NotFound)
			}
			if err != nil {
				return err
			}
			return update(tx)
		})
	}
	if err != nil {
		return nil, err
	}
	return dbserver.Respond(http.StatusNoContent, nil), nil
}

// delete deletes a container that is empty. The DELETE is noted also where a
// later PUT outdoes it, so that replicas agree on what came before it.
func (s *Server) delete(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	to, err := s.accountReplicas(call.Request)
	if err != nil {
		return nil, err
	}
	var now metadb.Info
	var was, is bool
	err = s.core.Store.Update(ctx, call.At, func(tx *metadb.Tx) error {
		sum, err := tx.Total()
		if err != nil {
			return err
		}
		if sum.Rows > 0 {
			return errs.Refuse(errs.Conflict, "There are objects in the container")
		}
		if was, err = deleted(tx); err != nil {
			return err
		}
		if err = noteDelete(tx, call.Stamp); err != nil {
			return err
		}
		now = tx.Info()
		is, err = deleted(tx)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case !is:
		return nil, errs.Refuse(errs.Conflict, "The container was put at %s", now.Put)
	case s.tellAccount(ctx, call, to, now, metadb.Stat{}), was:
		return nil, errs.E(errs.Op("container.delete"), errs.NotFound)
	}
	return dbserver.Respond(http.StatusNoContent, nil), nil
}

func noteDelete(tx *metadb.Tx, stamp timestamp.T) error {
	i := tx.Info()
	if !stamp.After(i.Delete) {
		return nil
	}
	i.Delete, i.StatusChanged = stamp, stamp
	return tx.MergeInfo(i)
}
