// Package account is the account server: it keeps, for each account, the list
// of its containers with what they hold, and the account's metadata.
//
// An account is one database of package metadb. Rows come from container servers,
// at once when a container is made or deleted, later when its counts change. An
// account that was deleted answers 404 with X-Account-Status and takes no PUT
// until it is forgotten, which it is not while it lists anything: Deleted and
// Containers are for who takes that away. What a 2xx answer confirms is on stable
// storage.
//
// Every answer about an account says when it was put or deleted last
// (X-Backend-Data-Timestamp), so that who asks several replicas can tell which of them
// has missed that.
//
// Who may do what, which names are legal and how a listing looks to a client is
// the proxy's business.
package account

import (
	"context"
	"net/http"
	"strconv"

	"martlet/internal/backend"
	"martlet/internal/dbserver"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/rowbatch"
	"martlet/internal/timestamp"
)

// Config is what an operator can set.
type Config = dbserver.Config

// Deps is what a Server is given.
type Deps = dbserver.Deps

// statusHeader tells a deleted account from one that never was.
const statusHeader = "X-Account-Status"

// Server answers requests on accounts. It is a backend.Handler.
type Server struct {
	core *dbserver.Core
}

// New returns the account server of a node's devices. Close ends it.
func New(cfg Config, deps Deps) (*Server, error) {
	kind := dbserver.Kind{
		Schema: schema{},
		Title:  "Account",
		Named:  []string{"X-Account-Access-Control"},
		Owner: func(p name.Path) name.Path {
			if p.Object != "" {
				return name.Path{}
			}
			return name.Path{Account: p.Account}
		},
	}
	return &Server{dbserver.New(cfg, kind, deps)}, nil
}

// Close closes the databases, waiting for requests under way.
func (s *Server) Close() error {
	s.core.Close()
	return nil
}

// Store returns the databases, for the work that goes on beside requests.
func (s *Server) Store() *metadb.Store { return s.core.Store }

// Serve answers one request.
func (s *Server) Serve(ctx context.Context, r *backend.Request) (*backend.Response, error) {
	if r.Method == rowbatch.Method {
		return s.core.Batch(ctx, r, s.core.Rows("a container", isRow, s.serveRow))
	}
	call, err := s.core.Parse(r)
	if err != nil {
		return nil, err
	}
	if isRow(call.Target.Path) {
		return s.serveRow(ctx, &call)
	}
	switch r.Method {
	case http.MethodPut:
		return s.put(ctx, &call)
	case http.MethodPost:
		return s.post(ctx, &call)
	case http.MethodDelete:
		return s.delete(ctx, &call)
	case http.MethodHead, http.MethodGet:
		return s.read(ctx, &call)
	}
	return nil, errs.E(errs.Method)
}

// isRow reports whether a path is that of a row.
func isRow(p name.Path) bool { return p.Container != "" }

func (s *Server) serveRow(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	if call.Method == http.MethodPut {
		return s.putRow(ctx, call)
	}
	return nil, errs.E(errs.Method)
}

func deleted(i metadb.Info) bool { return i.Delete.After(i.Put) }

// fresh is the Info of an account that a call makes.
func fresh(call *dbserver.Call) metadb.Info {
	return metadb.Info{Path: call.Owner, Created: call.Stamp, Put: call.Stamp, StatusChanged: call.Stamp}
}

func (s *Server) put(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	fields := s.core.Fields(call)
	made := false
	var i metadb.Info
	err := s.core.Store.Ensure(ctx, call.At, fresh(call), func(tx *metadb.Tx) error {
		i = tx.Info()
		if deleted(i) {
			return errs.Refuse(errs.Forbidden, "Recently deleted")
		}
		made = tx.Made()
		if err := s.core.MergeFields(tx, fields); err != nil {
			return err
		}
		i.Put = call.Stamp
		return tx.MergeInfo(i)
	})
	switch {
	case errs.Is(err, errs.Forbidden):
		return gone(http.StatusForbidden, i), nil
	case err != nil:
		return nil, err
	case made:
		return dbserver.Respond(http.StatusCreated, nil), nil
	}
	return dbserver.Respond(http.StatusAccepted, nil), nil
}

// gone is the answer about an account that was deleted.
func gone(status int, i metadb.Info) *backend.Response {
	h := backend.Header{{Name: statusHeader, Value: "Deleted"}, {Name: backend.DataStamp, Value: i.Delete.String()}}
	dbserver.AddStamps(&h, i)
	return dbserver.Respond(status, h)
}

// change runs fn, which does not look at rows, over an account that is there and not deleted; else it
// returns the answer to give.
func (s *Server) change(ctx context.Context, call *dbserver.Call, fn func(*metadb.Tx) error) (*backend.Response, error) {
	var i metadb.Info
	err := s.core.Store.UpdateApart(ctx, call.At, func(tx *metadb.Tx) error {
		if i = tx.Info(); deleted(i) {
			return nil
		}
		return fn(tx)
	})
	if err == nil && deleted(i) {
		return gone(http.StatusNotFound, i), nil
	}
	return nil, err
}

func (s *Server) post(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	fields := s.core.Fields(call)
	answer, err := s.change(ctx, call, func(tx *metadb.Tx) error { return s.core.MergeFields(tx, fields) })
	if answer != nil || err != nil {
		return answer, err
	}
	return dbserver.Respond(http.StatusNoContent, nil), nil
}

func (s *Server) delete(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	var i metadb.Info
	answer, err := s.change(ctx, call, func(tx *metadb.Tx) error {
		if i = tx.Info(); !call.Stamp.After(i.Put) {
			return nil
		}
		i.Delete, i.StatusChanged = call.Stamp, call.Stamp
		return tx.MergeInfo(i)
	})
	switch {
	case answer != nil || err != nil:
		return answer, err
	case i.Delete != call.Stamp: // whoever sent it can send a later one
		return dbserver.Respond(http.StatusConflict, backend.Header{{Name: backend.BackendStamp, Value: i.Put.String()}}), nil
	}
	return gone(http.StatusNoContent, i), nil
}

// putRow takes a container server's word on a container.
func (s *Server) putRow(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	row, err := s.parseRow(call)
	if err != nil {
		return nil, err
	}
	override := listing.Truth(call.Header.Get(backend.OverrideGone))
	admit := func(i metadb.Info) error {
		if deleted(i) && !override {
			return errs.E(errs.NotFound)
		}
		return nil
	}
	err = s.core.MergeRow(ctx, call, fresh(call), admit, metadb.Row{Name: call.Target.Path.Container, Row: row.Append(nil)})
	if err != nil {
		return nil, err
	}
	if row.Delete.After(row.Put) {
		return dbserver.Respond(http.StatusNoContent, nil), nil
	}
	return dbserver.Respond(http.StatusCreated, nil), nil
}

func (s *Server) parseRow(call *dbserver.Call) (Row, error) {
	row := Row{Stamp: call.Stamp}
	var err error
	for _, f := range []struct {
		header string
		to     *timestamp.T
	}{{backend.PutStamp, &row.Put}, {backend.DeleteStamp, &row.Delete}} {
		if !call.Header.Has(f.header) {
			return row, errs.Refuse(errs.Invalid, "Missing %s header", f.header)
		}
		if *f.to, err = s.core.StampIn(call.Request, f.header, timestamp.T{}); err != nil {
			return row, err
		}
	}
	if row.Objects, err = dbserver.Number(call.Request, backend.ObjectCount); err != nil {
		return row, err
	}
	if row.Bytes, err = dbserver.Number(call.Request, backend.BytesUsed); err != nil {
		return row, err
	}
	row.Policy, _, err = s.core.Policy(call.Request, backend.PolicyIndex)
	return row, err
}

// read answers HEAD and GET.
func (s *Server) read(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	list := call.Method == http.MethodGet
	q, err := s.core.Query(call)
	if err != nil && list {
		return nil, err
	}
	q.Path, q.HasPath = "", false // accounts have no pseudo-folders
	var h backend.Header
	var body []byte
	var i metadb.Info
	err = s.core.Store.View(ctx, call.At, func(tx *metadb.Tx) error {
		if i = tx.Info(); deleted(i) {
			return nil
		}
		var err error
		if h, err = head(tx); err == nil && list {
			body, err = dbserver.List(tx, q, entry)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case deleted(i):
		return gone(http.StatusNotFound, i), nil
	case list:
		return dbserver.JSON(h, body), nil
	}
	return dbserver.Respond(http.StatusNoContent, h), nil
}

// head returns the headers of an account that is not deleted.
func head(tx *metadb.Tx) (backend.Header, error) {
	h := make(backend.Header, 0, 16)
	stats, err := tx.Stats()
	if err != nil {
		return nil, err
	}
	var sum metadb.Stat
	for _, s := range stats {
		sum = sum.Plus(s.Stat)
		addCounts(&h, "X-Backend-Policy-"+s.Policy.String()+"-", s.Stat)
	}
	addCounts(&h, "X-Account-", sum)
	dbserver.AddStamps(&h, tx.Info())
	h.Add(backend.DataStamp, tx.Info().Put.String())
	return h, dbserver.AddLive(&h, tx)
}

func addCounts(h *backend.Header, prefix string, s metadb.Stat) {
	h.Add(prefix+"Container-Count", strconv.FormatInt(s.Rows, 10))
	h.Add(prefix+"Object-Count", strconv.FormatInt(s.Objects, 10))
	h.Add(prefix+"Bytes-Used", strconv.FormatInt(s.Bytes, 10))
}
