package chain

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/listing"
)

// Response is the answer to a Request.
type Response struct {
	Status int
	Header http.Header // names in canonical form; Content-Length is Length

	// Length is that of the body in bytes; -1: not known before its end. For HEAD
	// it is what the body of a GET would have.
	Length int64

	// Body is nil where there is none. An error from it other than io.EOF means
	// that what was read so far is not the whole.
	Body io.ReadCloser

	// Duplex says that the body is made while that of the request is still read.
	// The connection is used for nothing else afterwards.
	Duplex bool

	// Rows is a listing that has no form yet; there is no Body then.
	Rows *Rows

	// Err is why the request failed, for the log. Clients never see it.
	Err error
}

// Rows is a listing of the objects in a container, or of the containers in an
// account.
type Rows struct {
	Objects    []listing.Object
	Containers []listing.Container

	// OnlyJSON says that no other form has what the rows say.
	OnlyJSON bool
}

// OK reports whether the request was successful.
func (r *Response) OK() bool { return r.Status/100 == 2 }

// Get returns the first value of a header field, "" where there is none. The
// name is in canonical form.
func (r *Response) Get(name string) string {
	if v := r.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Account is the account of the object that answers a request of another's, or of
// that one.
func (r *Response) Account(asked string) string {
	if v := r.Header[FoundIn]; v != nil {
		return v[0]
	}
	return asked
}

// Close lets go of the body, if there is one.
func (r *Response) Close() {
	if r.Body != nil {
		_ = r.Body.Close() // it was only read from
	}
}

// Drop is Close for a response that something else takes the place of.
func (r *Response) Drop() {
	r.Close()
	r.Body, r.Rows, r.Length = nil, nil, 0
}

// SetText makes a text the body.
func (r *Response) SetText(text string) {
	r.Length, r.Body = int64(len(text)), io.NopCloser(strings.NewReader(text))
}

// A StatusError is a refusal whose status is known, be it that a storage node
// gave it.
type StatusError struct {
	Status int
	Text   string // for the client; "" is the usual words
}

// Error says the status.
func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Text) }

// PageType is the content type of answers that have no other, empty ones too.
const PageType = "text/html; charset=UTF-8"

// Fail is the answer to a request that failed. The error's kind, or a StatusError
// in it, says the status; its public text is what the client reads. What fails
// because the client went away is a 499.
func Fail(ctx context.Context, err error) *Response {
	code, text := httpapi.Status(err), errs.PublicOf(err)
	var st *StatusError
	if errors.As(err, &st) {
		code, text = st.Status, st.Text
	}
	if code >= 500 && ctx.Err() != nil { // the work was broken off with the client, or was what it did not wait for
		code, text = httpapi.StatusClientGone, ""
	}
	resp := Text(code, text)
	resp.Err = err
	if code == http.StatusServiceUnavailable {
		resp.Header["Retry-After"] = []string{"1"}
	}
	return resp
}

// Text is a short answer: what is said and nothing else, or the usual words for
// the status in the page that clients of this API are used to.
func Text(code int, said string) *Response {
	r := &Response{Status: code, Header: http.Header{"Content-Type": {PageType}}}
	if said != "" {
		r.SetText(html.EscapeString(said))
	} else {
		r.SetText("<html><h1>" + httpapi.Reason(code) + "</h1><p>" + html.EscapeString(explain[code]) + "</p></html>")
	}
	return r
}

// Empty is an answer without a body.
func Empty(code int) *Response {
	return &Response{Status: code, Header: http.Header{"Content-Type": {PageType}}}
}

// Plain is an answer that is one text of a content type.
func Plain(code int, contentType, text string) *Response {
	r := &Response{Status: code, Header: http.Header{"Content-Type": {contentType}}}
	r.SetText(text)
	return r
}

// ReadAll reads a body of at most most bytes and closes it. A longer one, and one
// that breaks off, is of kind errs.Unavailable.
func (r *Response) ReadAll(most int64) ([]byte, error) {
	const op errs.Op = "chain.body"
	if r.Body == nil {
		return nil, nil
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	switch {
	case err != nil:
		return nil, errs.E(op, errs.Unavailable, err)
	case int64(len(b)) > most:
		return nil, errs.E(op, errs.Unavailable, fmt.Errorf("more than %d bytes", most))
	case r.Length >= 0 && int64(len(b)) != r.Length:
		return nil, errs.E(op, errs.Unavailable, io.ErrUnexpectedEOF)
	}
	return b, nil
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
