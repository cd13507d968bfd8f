package proxy

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/mux"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/quorum"
	"martlet/proxy/chain"
	"martlet/proxy/cnamelookup"
	"martlet/proxy/crossdomain"
	"martlet/proxy/domainremap"
	"martlet/proxy/healthcheck"
	"martlet/proxy/listendpoints"
)

// router is the whole of what a proxy answers to. Each face has the same chain
// before it: features do nothing about what is no part of the API.
func (s *Server) router(about chain.Handler) http.Handler {
	// The path is routed as it was sent: `//`, `..` and `%2F` are legal in the
	// name of an object.
	m := mux.NewRouter().SkipClean(true).UseEncodedPath()
	m.Path("/healthcheck").Handler(s.face(healthcheck.New(s.cfg.Info.DisablePath), nil))
	m.Path("/info").Handler(s.face(about, nil))
	if s.cfg.CrossDomain.Enabled {
		m.Path("/crossdomain.xml").Handler(s.face(crossdomain.New(s.cfg.CrossDomain, chain.HandlerFunc(nowhere)), nil))
	}
	if s.cfg.ListEndpoints.Enabled {
		m.PathPrefix(s.cfg.ListEndpoints.Prefix()).Handler(s.face(listendpoints.New(s.cfg.ListEndpoints, s.endpoints), nil))
	}
	m.PathPrefix(s.auth.Handler.Prefix()).Handler(s.face(chain.FromHTTP(s.auth.Handler), nil))
	for _, version := range []string{"/v1", "/v1.0"} {
		m.PathPrefix(version + "/").Handler(s.face(s.below(version), func(r *http.Request) name.Path {
			p, err := parsePath(rawPath(r.URL, version))
			if err != nil {
				return name.Path{} // below says what is wrong
			}
			return p
		}))
	}
	m.NotFoundHandler = s.face(chain.HandlerFunc(nowhere), nil)
	// Paths are known behind these, the first of which gives the second its host.
	remap := domainremap.Handler(s.cfg.DomainRemap, matching(m), s.face(badHost("Bad domain in host header"), nil))
	return cnamelookup.Handler(s.cfg.CNAMELookup, cnamelookup.NewDNS(s.cfg.CNAMELookup, "/etc/resolv.conf"), remap, func(text string) http.Handler {
		return s.face(badHost(text), nil)
	})
}

// matching has a router choose a handler, and nothing else: its own ServeHTTP copies each request twice, to keep in
// its context which route it took, with which variables. Nobody asks for either.
func matching(m *mux.Router) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var found mux.RouteMatch
		if !m.Match(r, &found) || found.Handler == nil {
			http.NotFound(w, r) // there is a handler for what no route matches
			return
		}
		found.Handler.ServeHTTP(w, r)
	})
}

// badHost refuses requests to a host that stands for no container or account.
func badHost(text string) chain.Handler {
	return chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response {
		return chain.Text(http.StatusBadRequest, text)
	})
}

// face puts the chain before a handler and carries it over net/http.
func (s *Server) face(last chain.Handler, path func(*http.Request) name.Path) http.Handler {
	return &chain.Face{Handler: chain.Join(last, s.links()...), Path: path, Log: s.log}
}

// below is the core, for what is under one version of the API. A path that leads
// nowhere gets this far without being known to any feature.
func (s *Server) below(version string) chain.Handler {
	return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
		if r.Path.Account == "" {
			_, err := parsePath(rawPath(r.Client.URL, version))
			return chain.Fail(ctx, err)
		}
		return s.Serve(ctx, r)
	})
}

// nowhere answers what is on no path of the API: 404 for the root and for a path
// with nothing between two slashes, 400 where it looks like an account's under
// another version, else 412.
func nowhere(_ context.Context, r *chain.Request) *chain.Response {
	version, rest, _ := strings.Cut(strings.TrimPrefix(r.Client.URL.EscapedPath(), "/"), "/")
	switch {
	case version == "", hasGap(rest):
		return chain.Text(http.StatusNotFound, "")
	case rest != "":
		return chain.Text(http.StatusBadRequest, "")
	}
	return chain.Text(http.StatusPreconditionFailed, badURL)
}

// hasGap reports whether "account/container/object" lacks an account or a
// container that something stands behind.
func hasGap(raw string) bool {
	account, rest, more := strings.Cut(raw, "/")
	container, _, object := strings.Cut(rest, "/")
	return more && account == "" || object && container == ""
}

// badURL is what is said of a path that leads to no account.
const badURL = "Bad URL"

// rawPath returns the path behind the version as it was sent.
func rawPath(u *url.URL, version string) string {
	// EscapedPath encodes anew what holds bytes that should have been encoded, and
	// knows no more then whether a slash was.
	if raw, ok := strings.CutPrefix(u.RawPath, version+"/"); ok {
		return "/" + raw
	}
	return u.EscapedPath()[len(version):]
}

// parsePath reads the part of a URL behind the version.
func parsePath(raw string) (name.Path, error) {
	if hasGap(strings.TrimPrefix(raw, "/")) {
		return name.Path{}, errs.E(errs.Op("proxy.path"), errs.NotFound)
	}
	p, err := name.Parse(raw)
	switch {
	case err == nil:
		return p, nil
	case isText(err):
		return name.Path{}, errs.E(errs.Precondition, errs.Public("Invalid UTF8 or contains NULL"), err)
	}
	return name.Path{}, errs.E(errs.Precondition, errs.Public(badURL), err)
}

// endpoints finds where something is, be it there or not.
func (s *Server) endpoints(ctx context.Context, p name.Path) (listendpoints.Place, error) {
	var (
		place quorum.Place
		of    string
	)
	switch {
	case p.Container == "":
		place = s.cluster.Account(p.Account)
	case p.Object == "":
		place = s.cluster.Container(p.Account, p.Container)
	default:
		c, err := s.container(ctx, p)
		if err != nil {
			return listendpoints.Place{}, err
		}
		if place, err = s.cluster.Object(c.policy, p); err != nil {
			return listendpoints.Place{}, err
		}
		of = c.policy.String()
	}
	at := listendpoints.Place{Partition: uint32(place.Partition), Policy: of}
	for _, d := range place.Primaries {
		at.Devices = append(at.Devices, listendpoints.Device{Addr: d.Addr(), Name: d.Name})
	}
	return at, nil
}
