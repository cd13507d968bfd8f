package proxy

import (
	"net/http"
	"slices"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
	"martlet/proxy/etagquoter"
	"martlet/proxy/limits"
	"martlet/proxy/versioning"
	"martlet/ring"
)

// containerNamed are the headers of a container besides its X-Container-Meta-
// ones.
var containerNamed = []string{"X-Container-Read", "X-Container-Write", "X-Container-Sync-Key", "X-Container-Sync-To"}

// ownersOnly are the headers of a container that only an owner of its account
// gets to see.
var ownersOnly = map[string]bool{
	"X-Container-Read": true, "X-Container-Write": true, "X-Container-Sync-Key": true, "X-Container-Sync-To": true,
	"X-Container-Meta-Temp-Url-Key": true, "X-Container-Meta-Temp-Url-Key-2": true,
}

const containerMethods = "DELETE, GET, HEAD, OPTIONS, POST, PUT"

// containerRequest answers requests on a container.
func (s *Server) containerRequest(rq *request) error {
	switch rq.Method {
	case http.MethodGet, http.MethodHead:
		return s.containerRead(rq)
	case http.MethodPut:
		return s.containerPut(rq)
	case http.MethodPost:
		return s.containerPost(rq)
	case http.MethodDelete:
		return s.containerDelete(rq)
	}
	return rq.notAllowed(containerMethods)
}

// containerACL returns the function that fetches the ACL that speaks about a
// method on a path.
func (s *Server) containerACL(rq *request, method string, p name.Path) func(bool) (*auth.ACL, error) {
	access := auth.AccessFor(method, p)
	if access == auth.AccessNone {
		return nil
	}
	return func(fresh bool) (*auth.ACL, error) {
		i, err := s.infos.look(fresh)(rq.ctx, name.Path{Account: p.Account, Container: p.Container})
		if err != nil {
			return nil, err
		}
		if access == auth.AccessRead {
			return auth.ParseACL(i.header.Get("X-Container-Read")), nil
		}
		return auth.ParseACL(i.header.Get("X-Container-Write")), nil
	}
}

func (s *Server) containerRead(rq *request) error {
	if err := s.allow(rq, rq.Method, rq.Path, s.containerACL(rq, rq.Method, rq.Path)); err != nil {
		return err
	}
	params, err := listing.Parse(rq.Query, s.cfg.Limits.ContainerListingLimit)
	if err != nil {
		return err
	}
	if err := s.noContainer(rq); err != nil {
		return err
	}
	place := s.cluster.Container(rq.Path.Account, rq.Path.Container)
	reply, err := s.cluster.Read(rq.ctx, place, func(int, *ring.Device) *backend.Request {
		return &backend.Request{Method: rq.Method, Query: params.Encode(), Header: rq.listingHeader()}
	})
	if err != nil {
		return err
	}
	defer letGo(reply)
	if reply.Status/100 != 2 {
		return refusal(s.cluster.Answered(0, reply.Device, reply.Response, nil))
	}
	s.showContainer(rq, reply.Header)
	return s.list(rq, reply.Response)
}

// showContainer copies what a client may see of a container's headers.
func (s *Server) showContainer(rq *request, from backend.Header) {
	h := rq.out.Header
	for _, f := range from {
		n := http.CanonicalHeaderKey(f.Name)
		switch {
		case ownersOnly[n] && !rq.owner:
		case ownersOnly[n], strings.HasPrefix(n, "X-Container-Meta-"), n == "X-Timestamp",
			n == "X-Container-Object-Count", n == "X-Container-Bytes-Used", strings.HasPrefix(n, versioning.Sysmeta):
			h[n] = []string{f.Value}
		case n == etagquoter.ContainerMeta && s.cfg.EtagQuoter.Enabled && f.Value != "":
			h[etagquoter.ContainerHeader] = []string{f.Value}
		case n == backend.PolicyIndex:
			if i, err := policy.ParseIndex(f.Value); err == nil {
				if of, ok := s.policies.ByIndex(i); ok {
					h.Set("X-Storage-Policy", of.Name)
				}
			}
		case n == "X-Put-Timestamp":
			if t, err := timestamp.Parse(f.Value); err == nil {
				h.Set("Last-Modified", t.CeilSecond().Format(http.TimeFormat))
			}
		}
	}
	h.Set("Accept-Ranges", "bytes")
}

func (s *Server) containerPut(rq *request) error {
	if err := s.authorize(rq); err != nil {
		return err
	}
	if rq.Header[chain.OnlyAsk] != nil {
		rq.empty(http.StatusNoContent)
		return nil
	}
	if !strings.HasPrefix(rq.Path.Container, name.Reserved) { // else it is longer than clients' may be
		if err := s.cfg.Limits.CheckContainer(rq.Path.Container); err != nil {
			return err
		}
	}
	meta, err := s.containerMeta(rq)
	if err != nil {
		return err
	}
	policyHeader, err := s.choosePolicy(rq.Header)
	if err != nil {
		return err
	}
	if err := s.needAccount(rq); err != nil {
		return err
	}
	if err := s.keepsPolicy(rq, policyHeader); err != nil {
		return err
	}
	answer, err := s.containerWrite(rq, "PUT", append(meta, policyHeader))
	if err != nil {
		return err
	}
	return rq.done(answer)
}

// keepsPolicy refuses a PUT that asks for another policy than the container has. Each replica
// refuses it, too, but one that does not know of the container would make it with the policy
// that is asked for, until it hears of the first: so they are asked before any is changed.
func (s *Server) keepsPolicy(rq *request, asked backend.Field) error {
	if asked.Name != backend.PolicyIndex || len(s.policies.All()) < 2 {
		return nil
	}
	p := name.Path{Account: rq.Path.Account, Container: rq.Path.Container}
	for _, fresh := range []bool{false, true} {
		i, err := s.infos.look(fresh)(rq.ctx, p)
		if err != nil || !i.exists || i.policy.String() == asked.Value {
			return nil //nolint:nilerr // where nobody can be asked nothing can be written either
		}
	}
	return &chain.StatusError{Status: http.StatusConflict}
}

// choosePolicy reads the policy that a client asks for with a new container.
func (s *Server) choosePolicy(h http.Header) (backend.Field, error) {
	wanted := h.Get("X-Storage-Policy")
	if wanted == "" {
		return backend.Field{Name: "X-Backend-Storage-Policy-Default", Value: s.policies.Default().Index.String()}, nil
	}
	p, ok := s.policies.ByName(wanted)
	if !ok {
		return backend.Field{}, errs.Refuse(errs.Invalid, "Invalid X-Storage-Policy %q", wanted)
	}
	if p.Deprecated && h[chain.AnyPolicy] == nil {
		return backend.Field{}, errs.Refuse(errs.Invalid, "Storage Policy %q is deprecated", p.Name)
	}
	return backend.Field{Name: backend.PolicyIndex, Value: p.Index.String()}, nil
}

// containerMeta collects and checks what a client sets of a container.
func (s *Server) containerMeta(rq *request) (backend.Header, error) {
	if err := s.cfg.Limits.CheckMetadata(limits.Container, rq.Header); err != nil {
		return nil, err
	}
	named := containerNamed
	if s.cfg.EtagQuoter.Enabled {
		named = append(slices.Clone(named), etagquoter.ContainerHeader)
	}
	meta := metaUpdate(rq.Header, "Container", named)
	pickPrefix(&meta, rq.Header, versioning.Sysmeta) // from features: the gatekeeper lets none in
	if !rq.owner {                                   // what only owners see only owners set
		meta = slices.DeleteFunc(meta, func(f backend.Field) bool { return ownersOnly[f.Name] })
	}
	for i, f := range meta {
		if f.Name == etagquoter.ContainerHeader {
			meta[i] = backend.Field{Name: etagquoter.ContainerMeta, Value: etagquoter.Value(f.Value)}
		}
		if f.Name != "X-Container-Read" && f.Name != "X-Container-Write" {
			continue
		}
		clean, err := auth.CleanACL(f.Name, f.Value)
		if err != nil {
			return nil, err
		}
		meta[i].Value = clean
	}
	return meta, nil
}

func (s *Server) containerPost(rq *request) error {
	if err := s.authorize(rq); err != nil {
		return err
	}
	if rq.Header[chain.OnlyAsk] != nil {
		rq.empty(http.StatusNoContent)
		return nil
	}
	meta, err := s.containerMeta(rq)
	if err != nil {
		return err
	}
	if err := s.noContainer(rq); err != nil {
		return err
	}
	answer, err := s.containerWrite(rq, "POST", meta)
	if err != nil {
		return err
	}
	return rq.done(answer)
}

func (s *Server) containerDelete(rq *request) error {
	if err := s.authorize(rq); err != nil {
		return err
	}
	if err := s.noContainer(rq); err != nil {
		return err
	}
	if rq.Header[chain.OnlyAsk] != nil {
		rq.empty(http.StatusNoContent)
		return nil
	}
	answer, err := s.containerWrite(rq, "DELETE", nil)
	if err != nil {
		return err
	}
	if answer.Status == http.StatusConflict {
		return &chain.StatusError{Status: http.StatusConflict, Text: "There was a conflict when trying to complete your request: the container is not empty."}
	}
	return rq.done(answer)
}

// containerWrite sends a write with a stamp of its own to the container's
// replicas, each of which tells the account's.
func (s *Server) containerWrite(rq *request, method string, meta backend.Header) (quorum.Answer, error) {
	place := s.cluster.Container(rq.Path.Account, rq.Path.Container)
	defer s.infos.forget(place.Path)
	defer s.infos.forget(place.Path.Versions())
	tell := s.tellAccount(rq.Path.Account, method)
	return s.write(rq, place, func(stamp string) quorum.Build {
		return func(int, *ring.Device) *backend.Request {
			h := rq.header(len(meta) + len(tell) + 1)
			h.Add(backend.Timestamp, stamp)
			return &backend.Request{Method: method, Header: append(append(h, meta...), tell...)}
		}
	}, nil)
}

// tellAccount names the replicas of the account that a container's replica is
// to bring up to date when it comes into being or goes.
func (s *Server) tellAccount(account, method string) backend.Header {
	if method == http.MethodPost {
		return nil
	}
	return quorum.TellAccount(s.cluster.Account(account))
}
