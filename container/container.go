// Package container is the container server: it keeps, for each container, the
// list of its objects, and the container's metadata.
//
// A container is one database of package metadb, its rows kept apart by storage
// policy. Rows come from object servers with each write of an object, in any
// order and more than once, and merge by their stamps. What a 2xx answer confirms
// is on stable storage. The account is told at once when a container is made or
// deleted; an update that fails does not fail the request, since Report repeats
// it, which is also how counts get there. A device that may have what was deleted
// elsewhere (Deps.May) tells of a request's own PUT or DELETE, and of nothing else
// that it has.
//
// A container is deleted while its latest DELETE is later than its latest PUT
// and it lists nothing. Rows that are no newer than the DELETE stay hidden.
//
// Who may do what, which names are legal and how a listing looks to a client is
// the proxy's business.
package container

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/dbserver"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/internal/rowbatch"
	"martlet/internal/timestamp"
)

// Config is what an operator can set.
type Config struct {
	dbserver.Config
	NodeTimeout time.Duration // how long an account server may take; default 3 s
}

// Deps is what a Server is given.
type Deps struct {
	dbserver.Deps
	Accounts accountUpdater // how account servers are reached

	// May returns why what a device has of a container is told to nobody, nil where it may be: a device that was
	// away for too long may have what was deleted and forgotten elsewhere. Nil is always.
	May func(device string, h name.Hash) error
}

// accountUpdater sends a request to a storage node.
type accountUpdater interface {
	Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error)
}

// policyDefault is the policy of a container for which none is asked.
const policyDefault = "X-Backend-Storage-Policy-Default"

// Server answers requests on containers. It is a backend.Handler.
type Server struct {
	core     *dbserver.Core
	accounts accountUpdater
	may      func(device string, h name.Hash) error
	timeout  time.Duration

	synced    *noted // the containers that may be synced to other clusters; what was so before a start is found by FindSynced
	misplaced *noted // those that may have rows of another policy than their own, and by FindMisplaced

	reporting sync.Mutex              // held by Report
	unseen    map[*device.Device]bool // whose containers Report has still to look at, all of them; guarded by reporting
}

// New returns the container server of a node's devices. Close ends it.
func New(cfg Config, deps Deps) (*Server, error) {
	if deps.Accounts == nil {
		return nil, errs.E(errs.Op("container.new"), errs.Invalid, "no way to reach account servers")
	}
	if cfg.NodeTimeout <= 0 {
		cfg.NodeTimeout = 3 * time.Second
	}
	if deps.May == nil {
		deps.May = func(string, name.Hash) error { return nil }
	}
	synced, misplaced := newNoted(), newNoted()
	kind := dbserver.Kind{
		Schema: schema{synced, misplaced},
		Title:  "Container",
		Named: []string{
			"X-Container-Read", "X-Container-Write", "X-Container-Sync-Key", "X-Container-Sync-To",
			"X-Versions-Location", "X-History-Location",
		},
		Owner: func(p name.Path) name.Path {
			if p.Container == "" {
				return name.Path{}
			}
			return name.Path{Account: p.Account, Container: p.Container}
		},
		Track: true,
	}
	return &Server{
		core: dbserver.New(cfg.Config, kind, deps.Deps), accounts: deps.Accounts, may: deps.May, timeout: cfg.NodeTimeout,
		unseen: map[*device.Device]bool{}, synced: synced, misplaced: misplaced,
	}, nil
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
		return s.core.Batch(ctx, r, s.core.Rows("an object", isRow, s.serveRow))
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
func isRow(p name.Path) bool { return p.Object != "" }

func (s *Server) serveRow(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	switch call.Method {
	case http.MethodPut:
		return s.putRow(ctx, call)
	case http.MethodDelete:
		return s.deleteRow(ctx, call)
	}
	return nil, errs.E(errs.Method)
}

// deleted reports whether the container is deleted.
func deleted(tx *metadb.Tx) (bool, error) {
	i := tx.Info()
	if !i.Delete.After(i.Put) {
		return false, nil
	}
	s, err := tx.Stat(i.Policy)
	return s.Rows == 0, err
}

// read answers HEAD and GET. A GET lists the rows of the container's policy, or of the one that it asks for.
func (s *Server) read(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	list := call.Method == http.MethodGet
	q, err := s.core.Query(call)
	if err != nil && list {
		return nil, err
	}
	asked, isAsked, err := s.core.Policy(call.Request, backend.PolicyIndex)
	if err != nil {
		return nil, err
	}
	var h backend.Header
	var body []byte
	isGone := false
	err = s.core.Store.View(ctx, call.At, func(tx *metadb.Tx) error {
		var err error
		if isGone, err = deleted(tx); err != nil {
			return err
		}
		if q.Space = tx.Info().Policy; isAsked {
			q.Space = asked
		}
		if h, err = head(tx, isGone); err == nil && list && !isGone {
			if err = addElsewhere(&h, tx); err == nil {
				body, err = dbserver.List(tx, q, entry)
			}
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case isGone:
		return dbserver.Respond(http.StatusNotFound, h), nil
	case list:
		return dbserver.JSON(h, body), nil
	}
	return dbserver.Respond(http.StatusNoContent, h), nil
}

// addElsewhere says of which other policies than its own a container has rows: of a proxy that went by what the
// container was before, or of another replica, in whose policy it was made.
func addElsewhere(h *backend.Header, tx *metadb.Tx) error {
	stats, err := tx.Stats()
	var others []string
	for _, s := range stats {
		if s.Policy != tx.Info().Policy && s.Rows > 0 {
			others = append(others, s.Policy.String())
		}
	}
	if others != nil {
		h.Add(backend.Elsewhere, strings.Join(others, ","))
	}
	return err
}

// head returns the headers of a container. Of a deleted one they are only what
// other nodes want to know.
func head(tx *metadb.Tx, isGone bool) (backend.Header, error) {
	h := make(backend.Header, 0, 16)
	i := tx.Info()
	dbserver.AddStamps(&h, i)
	h.Add(backend.PolicyIndex, i.Policy.String())
	if isGone {
		return h, nil
	}
	stat, err := tx.Stat(i.Policy)
	if err != nil {
		return nil, err
	}
	h.Add("X-Container-Object-Count", strconv.FormatInt(stat.Rows, 10))
	h.Add("X-Container-Bytes-Used", strconv.FormatInt(stat.Bytes, 10))
	return h, dbserver.AddLive(&h, tx)
}

// fresh is the Info of a container that a call makes.
func fresh(call *dbserver.Call, p policy.Index) metadb.Info {
	t := call.Stamp.WithOffset(0)
	return metadb.Info{Path: call.Owner, Policy: p, Created: t, Put: t, StatusChanged: t}
}

func (s *Server) putRow(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	p, row, err := s.parseRow(call)
	if err == nil {
		err = s.mergeRow(ctx, call, p, row)
	}
	if err != nil {
		return nil, err
	}
	return dbserver.Respond(http.StatusCreated, nil), nil
}

func (s *Server) deleteRow(ctx context.Context, call *dbserver.Call) (*backend.Response, error) {
	p, _, err := s.core.Policy(call.Request, backend.PolicyIndex)
	if err == nil {
		if planted.DeleteRowForgotten { // breaks: what was deleted is not listed
			return dbserver.Respond(http.StatusNoContent, nil), nil
		}
		err = s.mergeRow(ctx, call, p, NewTombstone(call.Stamp))
	}
	if err != nil {
		return nil, err
	}
	return dbserver.Respond(http.StatusNoContent, nil), nil
}

func (s *Server) mergeRow(ctx context.Context, call *dbserver.Call, p policy.Index, row Row) error {
	return s.core.MergeRow(ctx, call, fresh(call, p), nil, metadb.Row{Space: p, Name: call.Target.Path.Object, Row: row.Append(make([]byte, 0, rowRoom))})
}

// parseRow reads what an object server says of an object.
func (s *Server) parseRow(call *dbserver.Call) (policy.Index, Row, error) {
	size, err := dbserver.Number(call.Request, "X-Size")
	if err != nil {
		return 0, Row{}, err
	}
	for _, h := range []string{"X-Content-Type", "X-Etag"} {
		if !call.Header.Has(h) {
			return 0, Row{}, errs.Refuse(errs.Invalid, "Missing %s header", h)
		}
	}
	t := call.Times
	if t.ContentType, err = s.core.StampIn(call.Request, "X-Content-Type-Timestamp", t.ContentType); err != nil {
		return 0, Row{}, err
	}
	if t.Meta, err = s.core.StampIn(call.Request, "X-Meta-Timestamp", timestamp.Max(t.Meta, t.ContentType)); err != nil {
		return 0, Row{}, err
	}
	p, _, err := s.core.Policy(call.Request, backend.PolicyIndex)
	return p, NewRow(t, size, call.Header.Get("X-Etag"), call.Header.Get("X-Content-Type")), err
}
