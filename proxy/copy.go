package proxy

import (
	"net/http"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/quorum"
	"martlet/proxy/limits"
)

// objectCopy is the COPY method: the object of the path to the one that
// Destination names, in Destination-Account where that is given.
func (s *Server) objectCopy(rq *request) error {
	h := rq.r.Header
	to, err := copyPath("Destination", h.Get("Destination"), "Destination-Account", h.Get("Destination-Account"), rq.path.Account)
	if err != nil {
		return err
	}
	if rq.r.ContentLength != 0 {
		return errs.Refuse(errs.Invalid, "Copy requests require a zero byte body")
	}
	return s.copyObject(rq, rq.path, to)
}

// copyFrom is a PUT whose content is that of another object: X-Copy-From, in
// X-Copy-From-Account where that is given.
func (s *Server) copyFrom(rq *request, source string) error {
	if rq.r.ContentLength != 0 {
		return errs.Refuse(errs.Invalid, "Copy requests require a zero byte body")
	}
	from, err := copyPath("X-Copy-From", source, "X-Copy-From-Account", rq.r.Header.Get("X-Copy-From-Account"), rq.path.Account)
	if err != nil {
		return err
	}
	return s.copyObject(rq, from, rq.path)
}

// copyPath reads "container/object", percent-encoded, a slash before it or not.
func copyPath(header, value, accountHeader, account, own string) (name.Path, error) {
	bad := errs.Refuse(errs.Precondition, "%s header must be of the form <container name>/<object name>", header)
	container, object, ok := strings.Cut(strings.TrimPrefix(value, "/"), "/")
	if !ok || container == "" || object == "" {
		return name.Path{}, bad
	}
	if account == "" {
		account = name.Quote(own)
	} else if strings.Contains(account, "/") {
		return name.Path{}, errs.Refuse(errs.Precondition, "%s header may not contain slashes", accountHeader)
	}
	p, err := name.Parse("/" + account + "/" + container + "/" + object)
	if err != nil {
		return name.Path{}, bad
	}
	return p, nil
}

// copyObject stores what one object holds as another: the newest version that
// the source has, a part of it where the request has a Range. The metadata comes
// along and the request's is put over it; with X-Fresh-Metadata only the
// request's counts.
func (s *Server) copyObject(rq *request, from, to name.Path) error {
	if err := s.allowObject(rq, http.MethodGet, from); err != nil {
		return err
	}
	if err := s.cfg.Limits.CheckMetadata(limits.Object, rq.r.Header); err != nil {
		return err
	}
	source, err := s.copySource(rq, from)
	if err != nil {
		return err
	}
	defer rq.close(source)
	rq.owner = false // of the source's account perhaps
	if err := s.allowObject(rq, http.MethodPut, to); err != nil {
		return err
	}
	header, err := s.copyHeader(rq, source.Header)
	if err != nil {
		return err
	}
	guessType(header, to.Object)
	if err := s.checkStored(header, limits.Body{Length: source.Length}, to.Object); err != nil {
		return err
	}
	b := body{path: to, header: header, content: source.Body, length: source.Length}
	if source.Body == nil {
		b.content = newBytes(nil)
	}
	if source.Status == http.StatusOK {
		b.etag = source.Header.Get(backend.ETag) // what arrives must be what is there
	}
	done, err := s.store(rq, b)
	if err != nil {
		return err
	}
	h := rq.w.Header()
	showCopied(h, header)
	h.Set("Etag", done.etag)
	h.Set("Last-Modified", done.stamp.CeilSecond().Format(http.TimeFormat))
	h.Set("X-Copied-From", name.Quote(from.Container+"/"+from.Object))
	h.Set("X-Copied-From-Account", name.Quote(from.Account))
	h.Set("X-Copied-From-Last-Modified", source.Header.Get("Last-Modified"))
	rq.created()
	return nil
}

// showCopied tells the client which metadata of its own the copy has.
func showCopied(to, from http.Header) {
	for n, v := range from {
		if strings.HasPrefix(n, "X-Object-Meta-") {
			to[n] = v
		}
	}
}

// copySource opens the object that is copied.
func (s *Server) copySource(rq *request, from name.Path) (quorum.Reply, error) {
	c, place, err := s.objectPlace(rq, from)
	if err != nil {
		return quorum.Reply{}, err
	}
	conditions := rq.r.Header.Clone()
	conditions.Set("X-Newest", "true")
	conditions.Del("If-None-Match") // that of a PUT speaks about the destination
	reply, err := s.readObject(rq, http.MethodGet, place, c.policy, conditions)
	if err != nil {
		return quorum.Reply{}, err
	}
	if reply.Status/100 != 2 {
		a := s.cluster.Answered(0, reply.Device, reply.Response, nil)
		a.Body = nil
		return quorum.Reply{}, refusal(a)
	}
	return reply, nil
}

// copyHeader works out the header that the copy is stored with.
func (s *Server) copyHeader(rq *request, source backend.Header) (http.Header, error) {
	h := http.Header{}
	if !truthy(rq.r.Header.Get("X-Fresh-Metadata")) {
		for _, f := range source {
			n := http.CanonicalHeaderKey(f.Name)
			if strings.HasPrefix(n, "X-Object-Meta-") || isStored[n] {
				h[n] = []string{f.Value}
			}
		}
	}
	if t := source.Get(backend.ContentType); t != "" {
		h.Set("Content-Type", t)
	}
	for n, v := range rq.r.Header {
		if strings.HasPrefix(n, "X-Object-Meta-") || isStored[n] || n == "X-Delete-After" || n == "If-None-Match" {
			h[n] = v
		}
	}
	// An upload without a content type is marked by some clients with this one.
	if t := rq.r.Header.Get("Content-Type"); t != "" {
		h.Set("Content-Type", t)
	}
	if rq.r.Header.Get("X-Delete-After") == "" && rq.r.Header.Get("X-Delete-At") == "" {
		return h, nil // what the source has is in the future: it was found
	}
	return h, s.expiry(h)
}
