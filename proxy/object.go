package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/proxy/chain"
	"martlet/proxy/limits"
	"martlet/ring"
)

const objectMethods = "DELETE, GET, HEAD, OPTIONS, POST, PUT"

// object answers requests on an object.
func (s *Server) object(rq *request) error {
	switch rq.Method {
	case http.MethodGet, http.MethodHead:
		return s.objectRead(rq)
	case http.MethodPut:
		return s.objectPut(rq)
	case http.MethodPost:
		return s.objectPost(rq)
	case http.MethodDelete:
		return s.objectDelete(rq)
	}
	return rq.notAllowed(objectMethods)
}

// allowObject decides whether a method may be used on an object.
func (s *Server) allowObject(rq *request, method string, p name.Path) error {
	return s.allow(rq, method, p, s.containerACL(rq, method, p))
}

// objectPlace returns the container of an object and where the object lives.
// Where there is no container the error is of kind errs.NotFound.
func (s *Server) objectPlace(rq *request, p name.Path) (facts, quorum.Place, error) {
	c, err := s.container(rq.ctx, p)
	if err != nil {
		return facts{}, quorum.Place{}, err
	}
	place, err := s.cluster.Object(c.policy, p)
	return c, place, err
}

func (s *Server) objectRead(rq *request) error {
	if err := s.allowObject(rq, rq.Method, rq.Path); err != nil {
		return err
	}
	began := time.Now()
	c, place, err := s.objectPlace(rq, rq.Path)
	if err != nil {
		return err
	}
	newest := chain.Truth(rq.Header.Get("X-Newest"))
	reply, err := s.readObject(rq, rq.Method, place, c.policy, rq.Header, newest)
	if err != nil {
		return err
	}
	if reply.Status == http.StatusNotFound && s.moved(rq.ctx, rq.Path, c, began) {
		letGo(reply)
		if c, place, err = s.objectPlace(rq, rq.Path); err != nil {
			return err
		}
		if reply, err = s.readObject(rq, rq.Method, place, c.policy, rq.Header, newest); err != nil {
			return err
		}
	}
	coded, err := s.decode(rq, place, c.policy, &reply)
	if err != nil {
		return err
	}
	rq.showVersion(c, reply.Header)
	switch {
	case reply.Status == http.StatusRequestedRangeNotSatisfiable:
		defer letGo(reply)
		showObject(rq.out.Header, reply.Header)
		return refusal(s.cluster.Answered(0, reply.Device, reply.Response, nil))
	case reply.Status >= 400:
		defer letGo(reply)
		return s.refuseObject(rq, reply)
	}
	showObject(rq.out.Header, reply.Header)
	rq.out.Status = reply.Status
	if reply.Status == http.StatusNotModified {
		letGo(reply)
		return nil
	}
	rq.out.Length = reply.Length
	switch {
	case coded:
		rq.out.Body = reply.Body
	case reply.Body != nil:
		rq.out.Body = s.resume(rq, place, c.policy, rq.boundary, reply)
	}
	return nil
}

// refuseObject answers with what the storage nodes say against a read. A
// condition that failed shows what it failed on.
func (s *Server) refuseObject(rq *request, reply quorum.Reply) error {
	if reply.Status == http.StatusNotFound && strings.Contains(rq.Header.Get("If-Match"), "*") {
		return errs.E(errs.Precondition) // anything was wanted, and nothing is there
	}
	switch reply.Status {
	case http.StatusPreconditionFailed:
		showObject(rq.out.Header, reply.Header)
	case http.StatusNotFound: // for features: since when it is gone
		if at := reply.Header.Get(backend.BackendStamp); at != "" {
			rq.out.Header[backend.BackendStamp] = []string{at}
		}
	}
	a := s.cluster.Answered(0, reply.Device, reply.Response, nil)
	a.Body = nil // the words for it are the API's
	return refusal(a)
}

// readObject asks the replicas of an object for it, with the conditions of a
// client's header. Where it has to be the newest all of them, and handoffs for those that do not
// answer, are asked what they have first.
func (s *Server) readObject(rq *request, method string, place quorum.Place, p policy.Index, client http.Header, newest bool) (quorum.Reply, error) {
	if strings.Contains(client.Get("Range"), ",") {
		rq.boundary = newBoundary()
	}
	build := func(method string) quorum.Build {
		return func(int, *ring.Device) *backend.Request {
			h := rq.header(len(conditions) + 3)
			h.Add(backend.PolicyIndex, p.String())
			pick(&h, client, conditions)
			s.openExpired(&h, client)
			if rq.boundary != "" {
				h.Add(backendBoundary, rq.boundary)
			}
			return &backend.Request{Method: method, Header: h}
		}
	}
	if !newest {
		return s.cluster.Read(rq.ctx, place, build(method))
	}
	return s.cluster.ReadNewest(rq.ctx, place, func(int, *ring.Device) *backend.Request {
		h := rq.header(2)
		h.Add(backend.PolicyIndex, p.String())
		s.openExpired(&h, client)
		return &backend.Request{Method: http.MethodHead, Header: h}
	}, build(method))
}

// openExpired lets a request reach what is past its time, where the client asks
// for that and may.
func (s *Server) openExpired(to *backend.Header, client http.Header) {
	if s.cfg.AllowOpenExpired && chain.Truth(client.Get(chain.OpenExpired)) {
		to.Add(backendOpenExpired, "true")
	}
}

// backendOpenExpired makes object servers show what is past its time.
const backendOpenExpired = "X-Backend-Open-Expired"

// backendBoundary carries the boundary of a multipart answer: any replica gives
// the same bytes for it, so that one can go on where another failed.
const backendBoundary = "X-Backend-Boundary"

// newBoundary makes the boundary of one answer.
func newBoundary() string {
	var chance [16]byte
	_, _ = rand.Read(chance[:]) // never fails
	return hex.EncodeToString(chance[:])
}

func (s *Server) objectDelete(rq *request) error {
	if err := s.allowObject(rq, rq.Method, rq.Path); err != nil {
		return err
	}
	c, place, err := s.objectPlace(rq, rq.Path)
	if err != nil {
		return err
	}
	if rq.Header[chain.OnlyAsk] != nil {
		rq.empty(http.StatusNoContent)
		return nil
	}
	if asksForVersion(rq.Header) {
		return s.deleteVersioned(rq, c, place)
	}
	var only backend.Header
	pick(&only, rq.Header, []string{"X-If-Delete-At"})
	answer, err := s.objectWrite(rq, place, c.policy, "DELETE", only, map[int]int{http.StatusNotFound: http.StatusNoContent})
	if err != nil {
		return err
	}
	answer.Body = nil
	return rq.done(answer)
}

func (s *Server) objectPost(rq *request) error {
	if err := s.allowObject(rq, rq.Method, rq.Path); err != nil {
		return err
	}
	c, place, err := s.objectPlace(rq, rq.Path)
	if err != nil {
		return err
	}
	if err := s.cfg.Limits.CheckMetadata(limits.Object, rq.Header); err != nil {
		return err
	}
	if err := s.expiry(rq.Header); err != nil {
		return err
	}
	meta := storedHeaders(rq.Header)
	if t := rq.Header.Get("Content-Type"); t != "" {
		if err := limits.CheckContentType(t); err != nil {
			return err
		}
		meta.Add(backend.ContentType, t)
	}
	s.openExpired(&meta, rq.Header)
	answer, err := s.objectWrite(rq, place, c.policy, "POST", meta, nil)
	if err != nil {
		return err
	}
	showSystem(rq.out.Header, answer.Header)
	answer.Body = nil
	return rq.done(answer)
}

// objectWrite sends a write without a body to the replicas of an object, each of
// which tells the container's.
func (s *Server) objectWrite(rq *request, place quorum.Place, p policy.Index, method string, meta backend.Header, treat map[int]int) (quorum.Answer, error) {
	tell := quorum.Updates(place, s.cluster.Container(place.Path.Account, place.Path.Container))
	return s.write(rq, place, func(stamp string) quorum.Build {
		return func(slot int, _ *ring.Device) *backend.Request {
			h := rq.header(len(meta) + len(tell[slot]) + 2)
			h.Add(backend.Timestamp, stamp)
			h.Add(backend.PolicyIndex, p.String())
			return &backend.Request{Method: method, Header: append(append(h, meta...), tell[slot]...)}
		}
	}, treat)
}

// storedHeaders collects what of a request's header is kept with an object, its
// content type apart. What only the cluster may set comes from features: nothing
// of the kind gets past the gatekeeper. In which fragments the data is, not even
// they may say.
func storedHeaders(from http.Header) backend.Header {
	var to backend.Header
	for _, prefix := range metaPrefixes {
		pickPrefix(&to, from, prefix)
	}
	for _, n := range storedNames {
		if v := from.Get(n); v != "" {
			to.Add(n, v)
		}
	}
	to.Del(backend.CodedWrite)
	return to
}

// expiry settles X-Delete-At and X-Delete-After, which wins, into the first.
func (s *Server) expiry(h http.Header) error {
	at, ok, err := limits.DeleteAt(h, s.stamps.Next())
	if err != nil {
		return err
	}
	h.Del("X-Delete-After")
	h.Del("X-Delete-At")
	if ok {
		h.Set("X-Delete-At", strconv.FormatInt(at, 10))
	}
	return nil
}

// errLost is what a write says that lost against a newer one twice.
var errLost = errs.E(errs.Op("proxy.put"), errs.Stale, errs.Public("A newer version of the object came first."))
