package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
	"martlet/proxy/etagquoter"
	"martlet/proxy/limits"
	"martlet/proxy/ratelimit"
	"martlet/proxy/readonly"
	"martlet/ring"
)

// accountACL is the name under which an account's ACL is kept: clients know it
// as X-Account-Access-Control.
const accountACL = accountSysmeta + "Core-Access-Control"

// accountSysmeta begins the names of what features keep with an account.
const accountSysmeta = "X-Account-Sysmeta-"

// accountStatus tells of an account that was deleted, with statusDeleted, to nodes and
// to clients.
const (
	accountStatus = "X-Account-Status"
	statusDeleted = "Deleted"
)

// account answers requests on an account.
func (s *Server) account(rq *request) error {
	switch rq.Method {
	case http.MethodGet, http.MethodHead:
		return s.accountRead(rq)
	case http.MethodPost:
		return s.accountPost(rq)
	case http.MethodPut, http.MethodDelete:
		if s.cfg.AllowAccountManagement {
			return s.accountManage(rq)
		}
	}
	return rq.notAllowed(s.accountMethods())
}

func (s *Server) accountMethods() string {
	if s.cfg.AllowAccountManagement {
		return "DELETE, GET, HEAD, OPTIONS, POST, PUT"
	}
	return "GET, HEAD, OPTIONS, POST"
}

func (s *Server) accountRead(rq *request) error {
	if err := s.authorize(rq); err != nil {
		return err
	}
	params, err := listing.Parse(rq.Query, s.cfg.Limits.AccountListingLimit)
	if err != nil {
		return err
	}
	place := s.cluster.Account(rq.Path.Account)
	reply, err := s.cluster.Read(rq.ctx, place, func(int, *ring.Device) *backend.Request {
		return &backend.Request{Method: rq.Method, Query: params.Encode(), Header: rq.listingHeader()}
	})
	if err != nil {
		return err
	}
	defer letGo(reply)
	h := rq.out.Header
	switch {
	case reply.Status == http.StatusNotFound && isGone(reply.Header):
		h.Set(accountStatus, statusDeleted)
		return errs.E(errs.Gone, errs.Public("The account was deleted."))
	case reply.Status == http.StatusNotFound && s.cfg.AccountAutocreate:
		for _, n := range []string{"Container", "Object"} {
			h.Set("X-Account-"+n+"-Count", "0")
		}
		h.Set("X-Account-Bytes-Used", "0")
		h.Set("X-Timestamp", s.stamps.Next().Normal())
		return s.list(rq, nil)
	case reply.Status/100 != 2:
		return refusal(s.cluster.Answered(0, reply.Device, reply.Response, nil))
	}
	s.showAccount(rq, reply.Header)
	return s.list(rq, reply.Response)
}

// showAccount copies what a client may see of an account's headers.
func (s *Server) showAccount(rq *request, from backend.Header) {
	h := rq.out.Header
	for _, f := range from {
		n := http.CanonicalHeaderKey(f.Name)
		switch {
		case n == accountACL:
			if rq.owner && f.Value != "" {
				h["X-Account-Access-Control"] = []string{f.Value}
			}
		case n == ratelimit.Meta && s.cfg.RateLimit.Enabled && f.Value != "":
			h[ratelimit.Header] = []string{f.Value}
		case n == readonly.Meta && s.cfg.ReadOnly.Enabled && f.Value != "":
			h[readonly.Header] = []string{f.Value}
		case n == etagquoter.AccountMeta && s.cfg.EtagQuoter.Enabled && f.Value != "":
			h[etagquoter.AccountHeader] = []string{f.Value}
		case strings.HasPrefix(n, "X-Account-Meta-Temp-Url-Key"):
			if rq.owner {
				h[n] = []string{f.Value}
			}
		case strings.HasPrefix(n, "X-Account-Meta-"), strings.HasPrefix(n, accountSysmeta), n == "X-Timestamp",
			n == "X-Account-Container-Count", n == "X-Account-Object-Count", n == "X-Account-Bytes-Used":
			h[n] = []string{f.Value}
		case strings.HasPrefix(n, "X-Backend-Policy-"):
			s.showPolicyStat(h, n[len("X-Backend-Policy-"):], f.Value)
		}
	}
	h.Set("Accept-Ranges", "bytes")
}

// showPolicyStat turns the node's "<index>-Object-Count" into the client's
// "X-Account-Storage-Policy-<name>-Object-Count".
func (s *Server) showPolicyStat(h http.Header, text, value string) {
	number, stat, _ := strings.Cut(text, "-")
	i, err := policy.ParseIndex(number)
	if err != nil {
		return
	}
	if p, ok := s.policies.ByIndex(i); ok {
		h.Set("X-Account-Storage-Policy-"+p.Name+"-"+stat, value)
	}
}

func (s *Server) accountPost(rq *request) error {
	if err := s.authorize(rq); err != nil {
		return err
	}
	meta, err := s.accountMeta(rq)
	if err != nil {
		return err
	}
	answer, err := s.accountWrite(rq, "POST", meta)
	if err != nil {
		return err
	}
	if answer.Status == http.StatusNotFound && s.cfg.AccountAutocreate && !isGone(answer.Header) {
		if err := s.createAccount(rq); err != nil {
			return err
		}
		if answer, err = s.accountWrite(rq, "POST", meta); err != nil {
			return err
		}
	}
	return rq.accountDone(answer)
}

// accountDone is done for an account: one that was deleted says so.
func (rq *request) accountDone(answer quorum.Answer) error {
	if isGone(answer.Header) {
		rq.out.Header.Set(accountStatus, statusDeleted)
	}
	return rq.done(answer)
}

// isGone reports whether what a node said of an account says that it was deleted.
func isGone(h backend.Header) bool { return h.Get(accountStatus) == statusDeleted }

// accountMeta collects and checks what a client sets of an account. Keys and
// ACLs are for owners to set: from others they are not taken.
func (s *Server) accountMeta(rq *request) (backend.Header, error) {
	if err := s.cfg.Limits.CheckMetadata(limits.Account, rq.Header); err != nil {
		return nil, err
	}
	meta := metaUpdate(rq.Header, "Account", s.accountNamed())
	if !rq.owner {
		meta = slices.DeleteFunc(meta, func(f backend.Field) bool { return privileged(f.Name) })
	}
	pickPrefix(&meta, rq.Header, accountSysmeta) // from features: the gatekeeper lets none in
	for i, f := range meta {
		if administrative(f.Name) && (rq.Identity == nil || !rq.Identity.Reseller) {
			return nil, errs.E(errs.Op("proxy.account"), errs.Forbidden)
		}
		switch f.Name {
		case "X-Account-Access-Control":
			clean, err := auth.CleanAccountACL(f.Value)
			if err != nil {
				return nil, err
			}
			meta[i] = backend.Field{Name: accountACL, Value: clean}
		case readonly.Header:
			if f.Value != "" {
				f.Value = strconv.FormatBool(chain.Truth(f.Value))
			}
			meta[i] = backend.Field{Name: readonly.Meta, Value: f.Value}
		case ratelimit.Header:
			value, err := ratelimit.Value(f.Value)
			if err != nil {
				return nil, err
			}
			meta[i] = backend.Field{Name: ratelimit.Meta, Value: value}
		case etagquoter.AccountHeader:
			meta[i] = backend.Field{Name: etagquoter.AccountMeta, Value: etagquoter.Value(f.Value)}
		}
	}
	return meta, nil
}

// accountNamed are the headers of an account, besides its X-Account-Meta- ones, that
// are kept.
func (s *Server) accountNamed() []string {
	named := []string{"X-Account-Access-Control"}
	if s.cfg.ReadOnly.Enabled {
		named = append(named, readonly.Header)
	}
	if s.cfg.RateLimit.Enabled {
		named = append(named, ratelimit.Header)
	}
	if s.cfg.EtagQuoter.Enabled {
		named = append(named, etagquoter.AccountHeader)
	}
	return named
}

// privileged reports whether only an owner may set a header of an account.
func privileged(n string) bool {
	return n == "X-Account-Access-Control" || strings.HasPrefix(n, "X-Account-Meta-Temp-Url-Key")
}

func (s *Server) accountManage(rq *request) error {
	if err := s.authorize(rq); err != nil {
		return err
	}
	var meta backend.Header
	if rq.Method == http.MethodPut {
		if err := s.cfg.Limits.CheckAccount(rq.Path.Account); err != nil {
			return err
		}
		var err error
		if meta, err = s.accountMeta(rq); err != nil {
			return err
		}
		if err := s.notDeleted(rq); err != nil {
			return err
		}
	} else if rq.Query != "" { // it was meant for some feature, and may be a slip of the pen
		return errs.Refuse(errs.Invalid, "A DELETE of an account takes no parameters.")
	}
	defer s.infos.forgetContainers(rq.Path.Account)
	answer, err := s.accountWrite(rq, rq.Method, meta)
	if err != nil {
		return err
	}
	return rq.accountDone(answer)
}

// notDeleted refuses to make an account that was deleted and is not reclaimed yet, by what
// all replicas say that answer. Nodes refuse that too; one that has missed the DELETE would not, and
// its word, being the later one, would bring the account back.
func (s *Server) notDeleted(rq *request) error {
	head := func(int, *ring.Device) *backend.Request {
		return &backend.Request{Method: http.MethodHead, Header: rq.header(0)}
	}
	reply, err := s.cluster.ReadNewest(rq.ctx, s.cluster.Account(rq.Path.Account), head, head)
	if err != nil {
		return err
	}
	defer letGo(reply)
	if isGone(reply.Header) {
		rq.out.Header.Set(accountStatus, statusDeleted)
		return errs.Refuse(errs.Forbidden, "Recently deleted")
	}
	return nil
}

// accountWrite sends a write with a stamp of its own to the account's replicas.
func (s *Server) accountWrite(rq *request, method string, meta backend.Header) (quorum.Answer, error) {
	place := s.cluster.Account(rq.Path.Account)
	defer s.infos.forget(place.Path)
	return s.write(rq, place, func(stamp string) quorum.Build {
		return func(int, *ring.Device) *backend.Request {
			h := rq.header(len(meta) + 1)
			h.Add(backend.Timestamp, stamp)
			return &backend.Request{Method: method, Header: append(h, meta...)}
		}
	}, nil)
}

// createAccount makes the account of the request's path.
func (s *Server) createAccount(rq *request) error {
	if err := s.cfg.Limits.CheckAccount(rq.Path.Account); err != nil {
		return err
	}
	answer, err := s.accountWrite(rq, "PUT", nil)
	if err != nil {
		return err
	}
	switch {
	case isGone(answer.Header):
		return errUnreclaimed
	case answer.Status/100 != 2:
		return refusal(answer)
	}
	return nil
}

// errUnreclaimed is what whoever would have an account made hears of one that was deleted. As in
// Swift it is no fault of theirs: the same request will do once the account is reclaimed.
var errUnreclaimed = &chain.StatusError{Status: http.StatusServiceUnavailable, Text: "The account was deleted, and can't be made again yet."}

// needAccount makes sure that the account of a path exists, and makes it where
// that is allowed.
func (s *Server) needAccount(rq *request) error {
	i, err := s.infos.get(rq.ctx, name.Path{Account: rq.Path.Account})
	switch {
	case err != nil:
		return err
	case i.exists:
		return nil
	case i.gone && s.cfg.AccountAutocreate:
		return errUnreclaimed
	case !s.cfg.AccountAutocreate:
		return errs.E(errs.NotFound)
	}
	return s.createAccount(rq)
}

// letGo gives the connection of a reply back, or drops it where its body was not
// read.
func letGo(reply quorum.Reply) {
	if reply.Body != nil {
		_ = reply.Body.Close() // it was only read from
	}
}

// notAllowed answers 405 with the methods that there are.
func (rq *request) notAllowed(allow string) error {
	rq.out.Header.Set("Allow", allow)
	return errs.E(errs.Method, errs.Public("The method "+strings.ToUpper(rq.Method)+" is not allowed for this resource."))
}

// administrative reports whether only administrators of all accounts may set a header
// of one.
func administrative(n string) bool { return n == readonly.Header || n == ratelimit.Header }
