// Package proxy is the face of the cluster: it speaks the Swift v1 API with
// clients and the backend conversation with storage nodes.
//
// It holds no state that another proxy needs, so any number of them stand behind
// one load balancer. It decides who may do what, where a path lives, and when a
// write has happened: when a majority of its replicas said that it is on stable
// storage. What it can't promise it answers with 503, and then the write may or
// may not turn up later, whole.
//
// It knows storage nodes only through internal/quorum and internal/direct.
package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/direct"
	"martlet/internal/ecread"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/md5lanes"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/realms"
	"martlet/internal/timestamp"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
	"martlet/proxy/info"
	"martlet/proxy/ratelimit"
)

// Deps is what a proxy is handed.
type Deps struct {
	Rings    quorum.Rings
	Hasher   name.Hasher
	Policies policy.Set
	Auth     *auth.Auth
	Log      *slog.Logger
	Registry prometheus.Registerer
	Version  string // shown in /info

	// Now is the clock of the times that writes get; nil is the machine's.
	Now func() time.Time

	// Dial connects to storage nodes; nil is net.Dialer's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Server is one proxy. It is an http.Handler, safe for concurrent use.
type Server struct {
	cfg      Config
	policies policy.Set
	codings  codings
	coded    *ecread.Reader // of the data of objects that are erasure-coded
	cluster  *quorum.Cluster
	client   *direct.Client
	auth     *auth.Auth
	who      auth.Chain
	stamps   *timestamp.Source
	hashes   *md5lanes.Group
	infos    *infoCache
	limiter  *ratelimit.Limiter // nil where it is off
	realms   *realms.Book
	gate     *httpapi.Gate
	log      *slog.Logger
	handler  http.Handler
}

// New builds a proxy. Close ends what it started.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("proxy limits: %w", err)
	}
	if err := cfg.CheckPolicies(deps.Policies); err != nil {
		return nil, fmt.Errorf("proxy policies: %w", err)
	}
	metrics, err := httpapi.NewMetrics(deps.Registry, "proxy")
	if err != nil {
		return nil, fmt.Errorf("proxy metrics: %w", err)
	}
	codings, err := newCodings(deps.Policies)
	if err != nil {
		return nil, err
	}
	gate, err := httpapi.NewGate(deps.Registry, "proxy", cfg.gate(codings))
	if err != nil {
		return nil, fmt.Errorf("proxy metrics: %w", err)
	}
	s := &Server{
		cfg: cfg, gate: gate, policies: deps.Policies, codings: codings, auth: deps.Auth, who: auth.Chain{deps.Auth.Tokens},
		stamps: timestamp.NewSource(deps.Now), hashes: md5lanes.NewGroup(hashBehind), log: deps.Log,
		client: direct.New(direct.Config{
			ConnectTimeout: cfg.ConnTimeout.D(), NodeTimeout: cfg.NodeTimeout.D(), UserAgent: "martlet-proxy", Dial: deps.Dial,
		}),
	}
	s.cluster = quorum.New(cfg.quorum(deps.Policies), deps.Rings, deps.Hasher, s.client)
	s.coded = ecread.New(s.cluster, s.codings.codes())
	if err := s.cluster.Register(deps.Registry); err != nil {
		return nil, fmt.Errorf("proxy metrics: %w", err)
	}
	s.infos = newInfoCache(cfg.InfoCache.D(), s.lookUp)
	s.limiter = ratelimit.New(cfg.RateLimit, s.head, deps.Log)
	if s.realms, err = realms.New(cfg.ContainerSync.Config, deps.Log); err != nil {
		return nil, fmt.Errorf("container sync: %w", err)
	}
	about, err := info.New(cfg.Info, info.Cluster{
		Version: deps.Version, Limits: cfg.Limits, Policies: deps.Policies, StrictCORS: cfg.CORS.Strict,
		AllowAccountManagement: cfg.AllowAccountManagement, AccountAutocreate: cfg.AccountAutocreate, AllowOpenExpired: cfg.AllowOpenExpired,
	}, s.features(), time.Now)
	if err != nil {
		return nil, err
	}
	s.handler = s.observed(s.router(about), metrics)
	return s, nil
}

// Close returns when writes that outlived their requests have ended, at most
// after the timeouts of the nodes they wait for. No request may come any more.
func (s *Server) Close() {
	s.infos.settling.Wait() // they ask the cluster
	s.cluster.Wait()
	s.client.Close()
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// request is one request on its way through the core, and the answer that is
// made to it.
type request struct {
	*chain.Request
	ctx      context.Context //nolint:containedctx // of the request
	out      chain.Response
	boundary string // of the parts of an answer with several ranges
	owner    bool   // may see and set what only owners do; set by authorize
}

func newRequest(ctx context.Context, r *chain.Request) *request {
	// A map of up to eight is one allocation, which most answers are content with; one that is made for more is four.
	return &request{Request: r, ctx: ctx, out: chain.Response{Header: make(http.Header, 8)}}
}

// Serve is the core, behind all features: accounts, containers and objects as
// the storage nodes keep them.
func (s *Server) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	rq := newRequest(ctx, r)
	if err := s.dispatch(rq); err != nil {
		rq.fail(err)
		s.ask(&rq.out, r)
	}
	return &rq.out
}

func (s *Server) dispatch(rq *request) error {
	switch {
	case rq.Method == http.MethodOptions:
		return s.options(rq)
	case rq.Path.Object != "":
		return s.object(rq)
	case rq.Path.Container != "":
		return s.containerRequest(rq)
	}
	return s.account(rq)
}

// options says which methods a resource has.
func (s *Server) options(rq *request) error {
	allow := s.accountMethods()
	switch {
	case rq.Path.Object != "":
		allow = objectMethods
	case rq.Path.Container != "":
		allow = containerMethods
	}
	rq.out.Header.Set("Allow", allow)
	rq.empty(http.StatusOK)
	return nil
}

// authorize decides by what the account allows: for requests that no container's
// ACL speaks about.
func (s *Server) authorize(rq *request) error {
	return s.allow(rq, rq.Method, rq.Path, nil)
}

// allow decides whether the request's sender may use a method on a path. acls
// fetches the container's ACL that speaks about it and is nil where none does.
// It is asked only where the account does not allow the request anyway, and again
// without the cache before a refusal.
func (s *Server) allow(rq *request, method string, p name.Path, acls func(fresh bool) (*auth.ACL, error)) error {
	if rq.Grant != nil {
		if rq.Grant(method, p) {
			return nil
		}
		return errs.E(errs.Op("proxy.allow"), errs.Unauthorized)
	}
	ask := auth.Request{Method: method, Path: p, Referer: rq.Header.Get("Referer")}
	owner, err := s.auth.Resellers.Authorize(rq.Identity, ask)
	if err == nil {
		rq.owner = owner
		return nil
	}
	for _, fresh := range []bool{false, true} {
		var lookErr error
		if ask.ACL, ask.AccountACL, lookErr = s.acls(rq, p, fresh, acls); lookErr != nil {
			return lookErr
		}
		if owner, err = s.auth.Resellers.Authorize(rq.Identity, ask); err == nil {
			rq.owner = owner
			return nil
		}
	}
	return err
}

// acls fetches what may allow a request that its sender's own rights don't.
func (s *Server) acls(rq *request, p name.Path, fresh bool, container func(bool) (*auth.ACL, error)) (*auth.ACL, *auth.AccountACL, error) {
	account, err := s.infos.look(fresh)(rq.ctx, name.Path{Account: p.Account})
	if err != nil {
		return nil, nil, err
	}
	of := auth.ParseAccountACL(account.header.Get(accountACL))
	if container == nil {
		return nil, of, nil
	}
	acl, err := container(fresh)
	return acl, of, err
}
