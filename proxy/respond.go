package proxy

import (
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"strconv"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/quorum"
)

// A statusError is a refusal whose status a storage node or the API gave.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.text) }

// refusal turns a replica's answer that is no success into an error for the
// client, and so one that broke off.
func refusal(a quorum.Answer) error {
	if a.Status == 0 {
		return errs.E(errs.Op("proxy.answer"), errs.Unavailable, a.Err)
	}
	return &statusError{a.Status, string(a.Body)}
}

// explain is what the body of an error says where nothing more exact is known.
var explain = map[int]string{
	http.StatusAccepted:                     "The request is accepted and will be carried out.",
	http.StatusBadRequest:                   "The request is malformed, so the server could not make sense of it.",
	http.StatusUnauthorized:                 "Credentials are needed for this, and those that came were missing or wrong.",
	http.StatusForbidden:                    "These credentials do not give access to this resource.",
	http.StatusNotFound:                     "There is nothing under this name.",
	http.StatusMethodNotAllowed:             "This resource does not have that method.",
	http.StatusNotAcceptable:                "The resource has no form that the request accepts.",
	http.StatusRequestTimeout:               "The server waited too long for the request.",
	http.StatusConflict:                     "The resource is in a state that does not allow this.",
	http.StatusGone:                         "The resource was here and is no more.",
	http.StatusLengthRequired:               "A Content-Length header or chunked encoding is needed.",
	http.StatusPreconditionFailed:           "A condition of the request does not hold.",
	http.StatusRequestEntityTooLarge:        "The body of the request is larger than this server takes.",
	http.StatusRequestURITooLong:            "The first line of the request is longer than this server takes.",
	http.StatusRequestedRangeNotSatisfiable: "No byte of the range is within the object.",
	http.StatusUnprocessableEntity:          "The request could not be processed as it stands.",
	httpapi.StatusClientGone:                "The client went away before its request was complete.",
	http.StatusInternalServerError:          "The server has failed in a way that it did not foresee.",
	http.StatusNotImplemented:               "This server does not do that.",
	http.StatusServiceUnavailable:           "The storage can't serve this request now. Try again later.",
	http.StatusInsufficientStorage:          "There is no room left for this.",
}

// fail sends an error to the client, and logs what is the cluster's fault.
func (s *Server) fail(rq *request, err error) {
	code := httpapi.Status(err)
	text := errs.PublicOf(err)
	var st *statusError
	if errors.As(err, &st) {
		code, text = st.status, st.text
	}
	level := slog.LevelError
	failed := code >= 500
	if failed && rq.ctx().Err() != nil { // the work was broken off with the client, or was what it did not wait for
		level, code, text = slog.LevelWarn, httpapi.StatusClientGone, ""
	}
	if failed {
		s.log.LogAttrs(rq.ctx(), level, "request failed", slog.String("trans_id", httpapi.TransID(rq.ctx())),
			slog.String("method", rq.r.Method), slog.String("path", rq.path.String()), slog.Int("status", code), slog.Any("err", err))
	}
	if rq.w.Status() != 0 {
		panic(http.ErrAbortHandler) // never end a broken body as if it were whole
	}
	h := rq.w.Header()
	if code == http.StatusServiceUnavailable && h.Get("Retry-After") == "" {
		h.Set("Retry-After", "1")
	}
	rq.text(code, text)
}

// text sends a short answer: what is said and nothing else, or the usual words
// for the status in the page that clients of this API are used to.
func (rq *request) text(code int, said string) {
	rq.w.Header().Set("Content-Type", pageType)
	if said != "" {
		rq.send(code, html.EscapeString(said))
		return
	}
	rq.send(code, "<html><h1>"+httpapi.Reason(code)+"</h1><p>"+html.EscapeString(explain[code])+"</p></html>")
}

// pageType is the content type of answers that have no other, empty ones too.
const pageType = "text/html; charset=UTF-8"

// send sends an answer whose body is in memory.
func (rq *request) send(code int, body string) {
	h := rq.w.Header()
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	rq.w.WriteHeader(code)
	if rq.r.Method != http.MethodHead && body != "" {
		_, _ = rq.w.Write([]byte(body)) // a client that left needs no answer
	}
}

// done answers a write that has no more to say than its status.
func (rq *request) done(a quorum.Answer) error {
	if a.Status >= 300 {
		return refusal(a)
	}
	switch a.Status {
	case http.StatusNoContent:
		rq.w.Header().Set("Content-Type", pageType)
		rq.send(a.Status, "")
	case http.StatusAccepted:
		rq.text(a.Status, "")
	default:
		rq.created()
	}
	return nil
}

// created sends a 201, which has an empty body.
func (rq *request) created() {
	rq.w.Header().Set("Content-Type", pageType)
	rq.send(http.StatusCreated, "")
}

// header makes the start of every request to a storage node.
func (rq *request) header(room int) backend.Header {
	h := make(backend.Header, 0, room+3)
	h.Add(backend.TransID, httpapi.TransID(rq.ctx()))
	return h
}
