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
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/proxy/auth"
	"martlet/proxy/info"
	"martlet/proxy/limits"
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
}

// Server is one proxy. It is an http.Handler, safe for concurrent use.
type Server struct {
	cfg      Config
	policies policy.Set
	cluster  *quorum.Cluster
	client   *direct.Client
	auth     *auth.Auth
	chain    auth.Chain
	stamps   *timestamp.Source
	infos    *infoCache
	log      *slog.Logger
	handler  http.Handler
}

// New builds a proxy. Close ends what it started.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("proxy limits: %w", err)
	}
	metrics, err := httpapi.NewMetrics(deps.Registry, "proxy")
	if err != nil {
		return nil, fmt.Errorf("proxy metrics: %w", err)
	}
	s := &Server{
		cfg: cfg, policies: deps.Policies, auth: deps.Auth, chain: auth.Chain{deps.Auth.Tokens},
		stamps: timestamp.NewSource(nil), log: deps.Log,
		client: direct.New(direct.Config{
			ConnectTimeout: cfg.ConnTimeout.D(), NodeTimeout: cfg.NodeTimeout.D(), UserAgent: "martlet-proxy",
		}),
	}
	s.cluster = quorum.New(quorum.Config{
		PostQuorum: cfg.PostQuorumTimeout.D(), Patience: cfg.RecoverableNodeTimeout.D(), ErrorLimit: cfg.ErrorLimit, ErrorSpan: cfg.ErrorLimitSpan.D(),
	}, deps.Rings, deps.Hasher, s.client)
	s.infos = newInfoCache(cfg.InfoCache.D(), s.lookUp)
	about, err := info.New(cfg.Info, info.Cluster{
		Version: deps.Version, Limits: cfg.Limits, Policies: deps.Policies,
		AllowAccountManagement: cfg.AllowAccountManagement, AccountAutocreate: cfg.AccountAutocreate,
	}, map[string]info.Section{"tempauth": {"account_acls": true}})
	if err != nil {
		return nil, err
	}
	s.handler = s.route(about, metrics)
	return s, nil
}

// Close returns when writes that outlived their requests have ended, at most
// after the timeouts of the nodes they wait for. No request may come any more.
func (s *Server) Close() {
	s.cluster.Wait()
	s.client.Close()
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// route is the whole of what a proxy answers to. What stands around it, from the
// outside in: Observe, because every answer needs a transaction id, a line in the
// log and a count, also one to a request that is refused at once; then the
// gatekeeper, before anything could believe a header that only the cluster may
// send.
func (s *Server) route(about http.Handler, metrics *httpapi.Metrics) http.Handler {
	// The path is routed as it was sent: `//`, `..` and `%2F` are legal in the
	// name of an object.
	m := mux.NewRouter().SkipClean(true).UseEncodedPath()

	m.Path("/healthcheck").Handler(info.Healthcheck(s.cfg.Info.DisablePath))
	m.Path("/info").Handler(about)
	m.PathPrefix(s.auth.Handler.Prefix()).Handler(s.auth.Handler)
	for _, version := range []string{"/v1", "/v1.0"} {
		m.PathPrefix(version + "/").Handler(s.api(version))
	}
	m.NotFoundHandler = http.HandlerFunc(nowhere)
	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code := tooLong(r, s.cfg.Limits); code != 0 {
			newRequest(w, r).text(code, "")
			return
		}
		gatekeep(r.Header)
		m.ServeHTTP(w, r)
	})
	return httpapi.Observe(guarded, httpapi.Observed{
		Server: "proxy", Silence: s.cfg.ClientTimeout.D(), Log: s.log, Level: slog.LevelInfo, Metrics: metrics,
		NewID: func(r *http.Request) string {
			return httpapi.NewTransID(time.Now(), r.Header.Get("X-Trans-Id-Extra"))
		},
	})
}

// nowhere answers what is on no path of the API: 404 for the root, 400 where
// the path looks like an account's under another version, else 412.
func nowhere(w http.ResponseWriter, r *http.Request) {
	rq := newRequest(w, r)
	version, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	switch {
	case version == "":
		rq.text(http.StatusNotFound, "")
	case rest != "" && rest[0] != '/':
		rq.text(http.StatusBadRequest, "")
	default:
		rq.text(http.StatusPreconditionFailed, badURL)
	}
}

// badURL is what is said of a path that leads to no account.
const badURL = "Bad URL"

// request is one request of a client on its way through the proxy.
type request struct {
	w        *httpapi.Writer
	r        *http.Request
	path     name.Path
	id       *auth.Identity // nil is anonymous
	boundary string         // of the parts of an answer with several ranges
	owner    bool           // may see and set what only owners do; set by authorize
}

func newRequest(w http.ResponseWriter, r *http.Request) *request {
	ow, ok := w.(*httpapi.Writer)
	if !ok {
		ow = &httpapi.Writer{ResponseWriter: w}
	}
	return &request{w: ow, r: r}
}

func (rq *request) ctx() context.Context { return rq.r.Context() }

// api answers what is under one version of the API.
func (s *Server) api(version string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rq := newRequest(w, r)
		if err := s.serve(rq, rawPath(r.URL, version)); err != nil { //nolint:contextcheck // the request carries it
			s.fail(rq, err) //nolint:contextcheck // the request carries it
		}
	})
}

// serve finds out what a request is about and who sends it, and hands it on.
func (s *Server) serve(rq *request, raw string) error {
	var err error
	if rq.path, err = parsePath(raw); err != nil {
		return err
	}
	if rq.id, err = s.chain.Authenticate(rq.ctx(), auth.CredentialsOf(rq.r)); err != nil {
		return s.challenge(rq, err)
	}
	return s.challenge(rq, s.dispatch(rq))
}

func (s *Server) dispatch(rq *request) error {
	switch {
	case rq.r.Method == http.MethodOptions:
		return s.options(rq)
	case rq.path.Object != "":
		return s.object(rq)
	case rq.path.Container != "":
		return s.containerRequest(rq)
	}
	return s.account(rq)
}

// options says which methods a resource has. Scripts of other origins may use
// none of them in a container.
func (s *Server) options(rq *request) error {
	allow := s.accountMethods()
	switch {
	case rq.path.Object != "":
		allow = objectMethods
	case rq.path.Container != "":
		allow = containerMethods
	}
	rq.w.Header().Set("Allow", allow)
	if rq.path.Container != "" && rq.r.Header.Get("Origin") != "" {
		rq.text(http.StatusUnauthorized, "")
		return nil
	}
	rq.w.Header().Set("Content-Type", pageType)
	rq.send(http.StatusOK, "")
	return nil
}

// rawPath returns the path behind the version as it was sent.
func rawPath(u *url.URL, version string) string {
	// EscapedPath encodes anew what holds bytes that should have been encoded, and
	// knows no more then whether a slash was.
	if raw, ok := strings.CutPrefix(u.RawPath, version+"/"); ok {
		return "/" + raw
	}
	return u.EscapedPath()[len(version):]
}

// tooLong returns the status for a request whose first line or whose header is
// beyond the limits; 0 for others.
func tooLong(r *http.Request, l limits.Limits) int {
	if len(r.Method)+len(r.RequestURI)+len(r.Proto)+2 > l.MaxRequestLine {
		return http.StatusRequestURITooLong
	}
	n := 0
	for _, values := range r.Header {
		n += len(values)
	}
	if n > l.MaxHeaderCount() {
		return http.StatusBadRequest
	}
	return 0
}

// challenge puts on a 401 what the client is asked for.
func (s *Server) challenge(rq *request, err error) error {
	if errs.Is(err, errs.Unauthorized) {
		rq.w.Header().Set("WWW-Authenticate", auth.Challenge(rq.path.Account))
	}
	return err
}

// authorize decides by what the account allows: for requests that no container's
// ACL speaks about.
func (s *Server) authorize(rq *request) error {
	return s.allow(rq, rq.r.Method, rq.path, nil)
}

// allow decides whether the request's sender may use a method on a path. acls
// fetches the container's ACL that speaks about it and is nil where none does.
// It is asked only where the account does not allow the request anyway, and again
// without the cache before a refusal.
func (s *Server) allow(rq *request, method string, p name.Path, acls func(fresh bool) (*auth.ACL, error)) error {
	ask := auth.Request{Method: method, Path: p, Referer: rq.r.Referer()}
	owner, err := s.auth.Resellers.Authorize(rq.id, ask)
	if err == nil {
		rq.owner = owner
		return nil
	}
	for _, fresh := range []bool{false, true} {
		var lookErr error
		if ask.ACL, ask.AccountACL, lookErr = s.acls(rq, p, fresh, acls); lookErr != nil {
			return lookErr
		}
		if owner, err = s.auth.Resellers.Authorize(rq.id, ask); err == nil {
			rq.owner = owner
			return nil
		}
	}
	return err
}

// acls fetches what may allow a request that its sender's own rights don't.
func (s *Server) acls(rq *request, p name.Path, fresh bool, container func(bool) (*auth.ACL, error)) (*auth.ACL, *auth.AccountACL, error) {
	look := s.infos.get
	if fresh {
		look = s.infos.fresh
	}
	account, err := look(rq.ctx(), name.Path{Account: p.Account})
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

// parsePath reads the part of a URL behind the version.
func parsePath(raw string) (name.Path, error) {
	p, err := name.Parse(raw)
	switch {
	case err == nil:
		return p, nil
	case isText(err):
		return name.Path{}, errs.E(errs.Precondition, errs.Public("Invalid UTF8 or contains NULL"), err)
	}
	return name.Path{}, errs.E(errs.Precondition, errs.Public(badURL), err)
}
