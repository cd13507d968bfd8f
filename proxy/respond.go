package proxy

import (
	"net/http"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/quorum"
	"martlet/proxy/chain"
)

// refusal turns a replica's answer that is no success into an error for the
// client, and so one that broke off.
func refusal(a quorum.Answer) error {
	if a.Status == 0 {
		return errs.E(errs.Op("proxy.answer"), errs.Unavailable, a.Err)
	}
	text := string(a.Body)
	if a.Status == http.StatusNotFound {
		text = "" // the words for it are the API's, and the same for GET and HEAD
	}
	return &chain.StatusError{Status: a.Status, Text: text}
}

// fail makes the answer of an error. What the header says already stays.
func (rq *request) fail(err error) {
	resp := chain.Fail(rq.ctx, err)
	for n, v := range rq.out.Header {
		if resp.Header[n] == nil {
			resp.Header[n] = v
		}
	}
	rq.out = *resp
}

// text makes a short answer: what is said and nothing else, or the usual words
// for the status.
func (rq *request) text(code int, said string) {
	resp := chain.Text(code, said)
	for n, v := range resp.Header {
		rq.out.Header[n] = v
	}
	rq.out.Status, rq.out.Length, rq.out.Body = code, resp.Length, resp.Body
}

// empty makes an answer without a body.
func (rq *request) empty(code int) {
	rq.out.Header["Content-Type"] = []string{chain.PageType}
	rq.out.Status, rq.out.Length, rq.out.Body = code, 0, nil
}

// done answers a write that has no more to say than its status.
func (rq *request) done(a quorum.Answer) error {
	if a.Status >= 300 {
		return refusal(a)
	}
	switch a.Status {
	case http.StatusNoContent:
		rq.empty(a.Status)
	case http.StatusAccepted:
		rq.text(a.Status, "")
	default:
		rq.empty(http.StatusCreated)
	}
	return nil
}

// header makes the start of every request to a storage node.
func (rq *request) header(room int) backend.Header {
	h := make(backend.Header, 0, room+3)
	h.Add(backend.TransID, httpapi.TransID(rq.ctx))
	return h
}
