package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/proxy/auth"
	"martlet/proxy/bulk"
	"martlet/proxy/chain"
	"martlet/proxy/containersync"
	"martlet/proxy/copying"
	"martlet/proxy/cors"
	"martlet/proxy/dlo"
	"martlet/proxy/etagquoter"
	"martlet/proxy/formpost"
	"martlet/proxy/gatekeeper"
	"martlet/proxy/info"
	"martlet/proxy/limits"
	"martlet/proxy/listings"
	"martlet/proxy/namecheck"
	"martlet/proxy/quotas"
	"martlet/proxy/ratelimit"
	"martlet/proxy/readonly"
	"martlet/proxy/slo"
	"martlet/proxy/staticweb"
	"martlet/proxy/symlink"
	"martlet/proxy/tempurl"
	"martlet/proxy/versioning"
)

// observed stands around everything, the router included, since every answer
// needs it, also one to a request that is refused at once: a transaction id, a
// line in the access log, a count, limits on silence, an end to panics. The gate
// is next: what is too much is refused before anything else is done for it.
func (s *Server) observed(h http.Handler, metrics *httpapi.Metrics) http.Handler {
	return httpapi.Observe(s.gate.Wrap(h), httpapi.Observed{
		Server: "proxy", Silence: s.cfg.ClientTimeout.D(), LeastPace: int64(s.cfg.ClientMinRate), Pressed: s.gate.Pressed, Log: s.log, Level: slog.LevelInfo, Metrics: metrics,
		NewID: func(r *http.Request, at time.Time) string {
			return httpapi.NewTransID(at, r.Header.Get("X-Trans-Id-Extra"))
		},
	})
}

// links is the chain: every feature, in the order in which a request passes them.
func (s *Server) links() []chain.Link {
	return []chain.Link{
		// What is too large is refused before anything looks at it.
		s.bounds,
		// Everything behind the gate can trust the cluster's own headers, and
		// needs not think of what it leaves in its answers.
		gatekeeper.Link,
		// Around all that refuses: a script is to read why. Outside of temporary
		// URLs, so that it does not name the metadata that they hide.
		cors.Link(s.cfg.CORS, s.origins),
		// In front of authentication: a signature takes the place of a sender.
		tempurl.Link(s.cfg.TempURL, s.keys, time.Now),
		// In front of authentication, too: another cluster signs what it brings.
		containersync.Link(s.cfg.ContainerSync, s.realms, s.syncs),
		// In front of what makes many changes of one request, which is refused whole.
		readonly.Link(s.cfg.ReadOnly, s.readOnly),
		// In front of authentication: a signature in the form takes the place of a sender.
		formpost.Link(s.cfg.FormPost, s.keys, time.Now),
		// In front of authentication: each thing that it does is a request of its
		// sender's, and its report says of each what came of it.
		bulk.Link(s.cfg.Bulk, s.cfg.Limits.MaxContainerNameLength+s.cfg.Limits.MaxObjectNameLength+len("//")),
		// Outside of copies and large objects, which go by the ETags of what they read.
		etagquoter.Link(s.cfg.EtagQuoter, s.quotes),
		// Before all that acts for the sender.
		s.authenticate,
		// Behind what says who asks, of whom some are not held back; in front of what
		// makes more requests of one, which counts as it came.
		s.limiter.Link(),
		// Behind what says who asks; in front of the listings' forms, as its pages are no
		// such form.
		staticweb.Link(s.cfg.StaticWeb, s.site, tempurl.Shared),
		// Outside of what reads listings itself, which wants rows.
		listings.Link,
		// Outside of the large objects, so that their bytes are copied.
		copying.Link,
		// Behind what makes requests about other names of a client's: of copies, in
		// lists and in archives. In front of what reads on: a segment that is there is
		// read, whatever its name.
		namecheck.Link(s.cfg.NameCheck),
		// Behind copies, which it counts as what they write; in front of large
		// objects, whose manifests it counts as they are sent.
		quotas.Link(s.cfg.Quotas, s.policies, s.counts),
		// In front of the dynamic ones: their answers to the look that it takes
		// at segments tell it that they are, and such it does not take.
		slo.Link(s.cfg.SLO),
		dlo.Link(s.cfg.DLO, s.cfg.Limits.ContainerListingLimit),
		// Behind all that reads objects: each finds what a link stands for.
		symlink.Link(s.cfg.Symlink),
		// Behind the large objects, so that it keeps their manifests as they are stored.
		versioning.Link(s.cfg.Versioning, versioning.Limits{
			Objects: s.cfg.Limits.ContainerListingLimit, Containers: s.cfg.Limits.AccountListingLimit,
		}, s.containerFacts),
	}
}

// features is what /info tells of them.
func (s *Server) features() map[string]info.Section {
	all := map[string]info.Section{
		"tempauth": {"account_acls": true}, "slo": s.cfg.SLO.Section(), "dlo": s.cfg.DLO.Section(), "tempurl": s.cfg.TempURL.Section(),
		"container_sync": s.realms.Section(s.cfg.ContainerSync.Current),
		"symlink":        s.cfg.Symlink.Section(),
		"bulk_delete":    s.cfg.Bulk.DeleteSection(), "bulk_upload": s.cfg.Bulk.UploadSection(),
	}
	c := &s.cfg
	for _, f := range []struct {
		on      bool
		name    string
		section info.Section
	}{
		{c.Versioning.Allow, "object_versioning", info.Section{}},
		{c.Versioning.AllowLegacy, "versioned_writes", info.Section{"allowed_flags": []string{"x-versions-location", "x-history-location"}}},
		{c.Quotas.Containers, "container_quotas", info.Section{}},
		{c.Quotas.Accounts, "account_quotas", info.Section{}},
		{c.CrossDomain.Enabled, "crossdomain", c.CrossDomain.Section()},
		{c.NameCheck.Enabled, "name_check", c.NameCheck.Section()},
		{c.ReadOnly.Enabled, "read_only", info.Section{}},
		{c.EtagQuoter.Enabled, "etag_quoter", c.EtagQuoter.Section()},
		{c.FormPost.Enabled, "formpost", c.FormPost.Section()},
		{c.RateLimit.Enabled, "ratelimit", c.RateLimit.Section()},
		{c.StaticWeb.Enabled, "staticweb", info.Section{}},
		{len(c.CNAMELookup.Domains) > 0, "cname_lookup", c.CNAMELookup.Section()},
		{len(c.DomainRemap.Domains) > 0, "domain_remap", c.DomainRemap.Section()},
	} {
		if f.on {
			all[f.name] = f.section
		}
	}
	return all
}

// countsWithin is how long quotas are looked for before a write goes on without: they are no
// reason to stand still for accounts that nobody else needs.
const countsWithin = time.Second

// counts finds the quotas of a container or an account, and what is in it.
func (s *Server) counts(ctx context.Context, p name.Path, fresh bool) (quotas.Facts, bool) {
	within, stop := context.WithTimeout(ctx, countsWithin)
	defer stop()
	known, err := s.infos.look(fresh)(within, p)
	if err != nil || !known.exists {
		return quotas.Facts{}, false
	}
	return quotas.Facts{Header: s.withVersions(ctx, p, known, fresh), Policy: known.policy}, true
}

// head is what is known of a container or an account, if that can be found out in time.
func (s *Server) head(ctx context.Context, p name.Path) (ratelimit.Fields, bool) {
	known, ok := s.counts(ctx, p, false)
	return known.Header, ok
}

// syncs finds what a container says of other clusters.
func (s *Server) syncs(ctx context.Context, container name.Path, fresh bool) (containersync.Facts, error) {
	known, err := s.infos.look(fresh)(ctx, container)
	if err != nil || !known.exists {
		return containersync.Facts{}, err
	}
	h := known.header
	return containersync.Facts{Key: h.Get("X-Container-Sync-Key"), Versioned: h.Get("X-Container-Sysmeta-Versions-Enabled") != ""}, nil
}

// origins finds what a container says of scripts that use it.
func (s *Server) origins(ctx context.Context, container name.Path, fresh bool) cors.Rules {
	known, err := s.infos.look(fresh)(ctx, container)
	if err != nil {
		return cors.Rules{}
	}
	h := known.header
	return cors.Rules{AllowOrigin: h.Get(cors.MetaAllowOrigin), MaxAge: h.Get(cors.MetaMaxAge), ExposeHeaders: h.Get(cors.MetaExposeHeaders)}
}

// site finds what a container says of the web site that it is.
func (s *Server) site(ctx context.Context, container name.Path) staticweb.Site {
	known, err := s.infos.get(ctx, container)
	if err != nil || !known.exists {
		return staticweb.Site{}
	}
	of := func(n string) string { return strings.TrimSpace(known.header.Get(n)) }
	site := staticweb.Site{Index: of(staticweb.MetaIndex), Listings: of(staticweb.MetaListings)}
	if site == (staticweb.Site{}) {
		return site // the most are none
	}
	site.Error, site.CSS, site.Label, site.DirType = of(staticweb.MetaError), of(staticweb.MetaCSS), of(staticweb.MetaLabel), of(staticweb.MetaDirType)
	return site
}

// keys finds the keys of temporary URLs and forms that an account and a container have.
func (s *Server) keys(ctx context.Context, container name.Path, fresh bool) (account, own []string, err error) {
	look := s.infos.look(fresh)
	of := func(p name.Path, prefix string) (list []string, err error) {
		known, err := look(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, n := range []string{"Temp-Url-Key", "Temp-Url-Key-2"} {
			if key := known.header.Get(prefix + n); key != "" {
				list = append(list, key)
			}
		}
		return list, nil
	}
	if account, err = of(name.Path{Account: container.Account}, "X-Account-Meta-"); err != nil {
		return nil, nil, err
	}
	own, err = of(container, "X-Container-Meta-")
	return account, own, err
}

// readOnly finds what an account says of whether it may be changed.
func (s *Server) readOnly(ctx context.Context, account string) (string, error) {
	known, err := s.infos.get(ctx, name.Path{Account: account})
	if err != nil {
		return "", err
	}
	return known.header.Get(readonly.Meta), nil
}

// quotes finds what a container, or else its account, says of quotes around ETags.
func (s *Server) quotes(ctx context.Context, container name.Path) (string, error) {
	known, err := s.infos.get(ctx, container)
	if err != nil {
		return "", err
	}
	if said := known.header.Get(etagquoter.ContainerMeta); said != "" {
		return said, nil
	}
	known, err = s.infos.get(ctx, container.Parent())
	return known.header.Get(etagquoter.AccountMeta), err
}

// bounds refuses requests whose first line or header is beyond the limits, and
// whose body has a length that makes no sense.
func (s *Server) bounds(next chain.Handler) chain.Handler {
	return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
		if code := tooLong(r.Client, s.cfg.Limits); code != 0 {
			return chain.Text(code, "")
		}
		if te := r.Client.TransferEncoding; len(te) > 0 {
			if _, err := limits.ParseBody(strings.Join(te, ","), ""); err != nil {
				return chain.Fail(ctx, err)
			}
		}
		return next.Serve(ctx, r)
	})
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

// authenticate finds out who sends a request. What they may do is decided where
// it is known what the request touches: in the core.
func (s *Server) authenticate(next chain.Handler) chain.Handler {
	return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
		if r.Path.Account == "" || r.Grant != nil {
			return next.Serve(ctx, r)
		}
		id, err := s.who.Authenticate(ctx, auth.CredentialsOf(r.Client))
		if err != nil {
			resp := chain.Fail(ctx, err)
			s.ask(resp, r)
			return resp
		}
		if service, ok := auth.ServiceOf(r.Client); ok && id != nil {
			if id, err = s.serving(ctx, id, service); err != nil {
				return chain.Fail(ctx, err)
			}
		}
		r.Identity = id
		return next.Serve(ctx, r)
	})
}

// serving is who sends a request with the token of a service besides their own.
// One that is not good adds nothing.
func (s *Server) serving(ctx context.Context, id *auth.Identity, token auth.Credentials) (*auth.Identity, error) {
	service, err := s.who.Authenticate(ctx, token)
	if err != nil && !errs.Is(err, errs.Unauthorized) {
		return nil, err
	}
	if service != nil {
		id = id.With(service)
	}
	return id, nil
}

// ask puts on a 401 what the client is asked for.
func (s *Server) ask(resp *chain.Response, r *chain.Request) {
	if resp.Status == http.StatusUnauthorized {
		resp.Header["Www-Authenticate"] = []string{auth.Challenge(r.Path.Account)}
	}
}
