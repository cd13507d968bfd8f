package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/proxy/limits"
	"martlet/ring"
)

const objectMethods = "COPY, DELETE, GET, HEAD, OPTIONS, POST, PUT"

// object answers requests on an object.
func (s *Server) object(rq *request) error {
	switch rq.r.Method {
	case http.MethodGet, http.MethodHead:
		return s.objectRead(rq)
	case http.MethodPut:
		return s.objectPut(rq)
	case http.MethodPost:
		return s.objectPost(rq)
	case http.MethodDelete:
		return s.objectDelete(rq)
	case "COPY":
		return s.objectCopy(rq)
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
	c, err := s.container(rq.ctx(), p)
	if err != nil {
		return facts{}, quorum.Place{}, err
	}
	place, err := s.cluster.Object(c.policy, p)
	return c, place, err
}

func (s *Server) objectRead(rq *request) error {
	if err := s.allowObject(rq, rq.r.Method, rq.path); err != nil {
		return err
	}
	c, place, err := s.objectPlace(rq, rq.path)
	if err != nil {
		return err
	}
	reply, err := s.readObject(rq, rq.r.Method, place, c.policy, rq.r.Header)
	if err != nil {
		return err
	}
	defer func() { rq.close(reply) }()
	if reply.Status >= 400 && reply.Status != http.StatusRequestedRangeNotSatisfiable {
		return s.refuseObject(rq, reply)
	}
	h := rq.w.Header()
	showObject(h, reply.Header)
	if reply.Status == http.StatusNotModified {
		rq.w.WriteHeader(reply.Status)
		return nil
	}
	if reply.Status == http.StatusRequestedRangeNotSatisfiable {
		return refusal(s.cluster.Answered(0, reply.Device, reply.Response, nil))
	}
	h["Content-Length"] = []string{strconv.FormatInt(reply.Length, 10)}
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // net/http must not guess one from the bytes
	}
	rq.w.WriteHeader(reply.Status)
	if rq.r.Method == http.MethodHead || reply.Body == nil {
		return nil
	}
	reply.Body = s.resume(rq, place, c.policy, rq.boundary, reply)
	if err := httpapi.CopyBody(rq.ctx(), rq.w, reply.Body, reply.Length); err != nil {
		s.log.LogAttrs(rq.ctx(), slog.LevelWarn, "object broke off", slog.String("trans_id", httpapi.TransID(rq.ctx())),
			slog.String("path", rq.path.String()), slog.String("device", reply.Device.Addr()+"/"+reply.Device.Name), slog.Any("err", err))
		panic(http.ErrAbortHandler) // never end a broken body as if it were whole
	}
	return nil
}

// refuseObject answers with what the storage nodes say against a read. A
// condition that failed shows what it failed on.
func (s *Server) refuseObject(rq *request, reply quorum.Reply) error {
	if reply.Status == http.StatusNotFound && strings.Contains(rq.r.Header.Get("If-Match"), "*") {
		return errs.E(errs.Precondition) // anything was wanted, and nothing is there
	}
	if reply.Status == http.StatusPreconditionFailed {
		for _, n := range []string{backend.ETag, "Last-Modified"} {
			if v := reply.Header.Get(n); v != "" {
				rq.w.Header().Set(n, v)
			}
		}
	}
	a := s.cluster.Answered(0, reply.Device, reply.Response, nil)
	a.Body = nil // the words for it are the API's
	return refusal(a)
}

// readObject asks the replicas of an object for it, with the conditions of a
// client's header. With X-Newest all of them, and handoffs for those that do not
// answer, are asked what they have first.
func (s *Server) readObject(rq *request, method string, place quorum.Place, p policy.Index, client http.Header) (quorum.Reply, error) {
	if strings.Contains(client.Get("Range"), ",") {
		rq.boundary = newBoundary()
	}
	build := func(method string) quorum.Build {
		return func(int, *ring.Device) *backend.Request {
			h := rq.header(len(conditions) + 2)
			h.Add(backend.PolicyIndex, p.String())
			pick(&h, client, conditions)
			if rq.boundary != "" {
				h.Add(backendBoundary, rq.boundary)
			}
			return &backend.Request{Method: method, Header: h}
		}
	}
	if !truthy(client.Get("X-Newest")) {
		return s.cluster.Read(rq.ctx(), place, build(method))
	}
	order := s.cluster.Newest(rq.ctx(), place, func(int, *ring.Device) *backend.Request {
		h := rq.header(1)
		h.Add(backend.PolicyIndex, p.String())
		return &backend.Request{Method: http.MethodHead, Header: h}
	})
	return s.cluster.ReadFrom(rq.ctx(), place, order, build(method))
}

// backendBoundary carries the boundary of a multipart answer: any replica gives
// the same bytes for it, so that one can go on where another failed.
const backendBoundary = "X-Backend-Boundary"

// newBoundary makes the boundary of one answer.
func newBoundary() string {
	var chance [16]byte
	_, _ = rand.Read(chance[:]) // never fails
	return hex.EncodeToString(chance[:])
}

func truthy(text string) bool {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on", "t", "y":
		return true
	}
	return false
}

func (s *Server) objectDelete(rq *request) error {
	if err := s.allowObject(rq, rq.r.Method, rq.path); err != nil {
		return err
	}
	c, place, err := s.objectPlace(rq, rq.path)
	if err != nil {
		return err
	}
	var only backend.Header
	pick(&only, rq.r.Header, []string{"X-If-Delete-At"})
	answer, err := s.objectWrite(rq, place, c.policy, "DELETE", only, map[int]int{http.StatusNotFound: http.StatusNoContent})
	if err != nil {
		return err
	}
	answer.Body = nil
	return rq.done(answer)
}

func (s *Server) objectPost(rq *request) error {
	if err := s.allowObject(rq, rq.r.Method, rq.path); err != nil {
		return err
	}
	c, place, err := s.objectPlace(rq, rq.path)
	if err != nil {
		return err
	}
	if err := s.cfg.Limits.CheckMetadata(limits.Object, rq.r.Header); err != nil {
		return err
	}
	if err := s.expiry(rq.r.Header); err != nil {
		return err
	}
	meta := storedHeaders(rq.r.Header)
	if t := rq.r.Header.Get("Content-Type"); t != "" {
		if err := limits.CheckContentType(t); err != nil {
			return err
		}
		meta.Add(backend.ContentType, t)
	}
	answer, err := s.objectWrite(rq, place, c.policy, "POST", meta, nil)
	if err != nil {
		return err
	}
	answer.Body = nil
	return rq.done(answer)
}

// objectWrite sends a write without a body to the replicas of an object, each of
// which tells the container's.
func (s *Server) objectWrite(rq *request, place quorum.Place, p policy.Index, method string, meta backend.Header, treat map[int]int) (quorum.Answer, error) {
	tell := updates(len(place.Primaries), s.cluster.Container(place.Path.Account, place.Path.Container))
	return s.write(rq, place, func(stamp string) quorum.Build {
		return func(slot int, _ *ring.Device) *backend.Request {
			h := rq.header(len(meta) + len(tell[slot]) + 2)
			h.Add(backend.Timestamp, stamp)
			h.Add(backend.PolicyIndex, p.String())
			return &backend.Request{Method: method, Header: append(append(h, meta...), tell[slot]...)}
		}
	}, treat)
}

// storedHeaders collects what of a client's header is kept with an object, its
// content type apart.
func storedHeaders(from http.Header) backend.Header {
	var to backend.Header
	pickPrefix(&to, from, "X-Object-Meta-")
	for _, n := range storedNames {
		if v := from.Get(n); v != "" && n != "X-Static-Large-Object" {
			to.Add(n, v)
		}
	}
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
