package chain

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"martlet/internal/name"
	"martlet/proxy/auth"
)

// Request is one request on its way down the chain: a client's, or one that a
// feature makes on its behalf.
type Request struct {
	Method string
	Path   name.Path   // what it is about; zero for what is under no version of the API
	Query  string      // as sent, without the question mark
	Header http.Header // names in canonical form
	Length int64       // of the body in bytes; -1: not known before its end, or not said where there is no Body
	Body   io.Reader   // nil: none

	// Client is the client's request as it came in: its target, address and
	// connection. It is only read, and its body not even that. Requests that
	// features make carry that of the request which they serve.
	Client *http.Request

	// Identity is who sends it; nil is nobody in particular.
	Identity *auth.Identity

	// Grant allows what the sender alone might not do: a signature does so. Where
	// it is set nothing else allows the request.
	Grant Grant
}

// Headers by which features tell the core of the proxy something. The gatekeeper
// lets none of them in or out.
const (
	// EtagIsAt names the header fields of an object, in the order in which they
	// are looked for, that conditions are to be compared with instead of its ETag.
	EtagIsAt = "X-Backend-Etag-Is-At"
	// IgnoreRangeIf names the header fields of an object whose presence makes Range
	// mean nothing: it is about something that the object stands for.
	IgnoreRangeIf = "X-Backend-Ignore-Range-If-Metadata-Present"
	// ListedBytes is the size that the container's listing is to show for an
	// object that is put, where that is not its own.
	ListedBytes = "X-Backend-Listed-Bytes"
	// DeleteMarker on a PUT gives the object the content type of what says that another
	// one was deleted, which clients can't set.
	DeleteMarker = "X-Backend-Delete-Marker"
	// AllowReserved has a listing show names that clients can't reach, too.
	AllowReserved = "X-Backend-Allow-Reserved-Names"
	// AnyPolicy lets a PUT of a container choose a policy that is deprecated: of what belongs to a
	// container that has it already.
	AnyPolicy = "X-Backend-Any-Policy"
	// OnlyAsk makes a write a question: whether its sender may make it and, for one of
	// an object, there is a container for it. Nothing is read or stored.
	OnlyAsk = "X-Backend-Only-Ask"
	// Stamp is the time that a write of an object has, where it is one that another
	// cluster has had already, or a DELETE is to end what the object was at a time and
	// nothing later (timestamp.Expiry). It loses against what is newer.
	Stamp = "X-Backend-Stamp"
	// Replayed says of such a write that what it refers to need not be here yet, and
	// that what is said of that is so.
	Replayed = "X-Backend-Replayed"
	// FoundIn is, on an answer, the account of the object that answers, where that is
	// not the one of the request.
	FoundIn = "X-Backend-Found-In"
	// Generator says, in an answer, which feature made the page that it is: one that
	// is no object.
	Generator = "X-Backend-Content-Generator"
)

// GeneratorStaticWeb is Generator of the pages that list what is in a web site.
const GeneratorStaticWeb = "staticweb"

// OpenExpired is the header field by which a client asks for objects that are past
// their time and not yet gone.
const OpenExpired = "X-Open-Expired"

// A Grant reports whether a method may be used on a path.
type Grant func(method string, p name.Path) bool

// Sub makes a request of the same sender about something else, without query or
// body.
func (r *Request) Sub(method string, p name.Path) *Request {
	sub := &Request{Method: method, Path: p, Header: http.Header{}, Length: -1, Client: r.Client, Identity: r.Identity, Grant: r.Grant}
	// ACLs ask for the one; the other is about what a large object is made of, too.
	for _, n := range []string{"Referer", OpenExpired} {
		if v := r.Header[n]; v != nil {
			sub.Header[n] = v
		}
	}
	return sub
}

// Param returns a parameter of the query and whether it is there. Of a repeated
// one the last counts.
func (r *Request) Param(key string) (value string, ok bool) {
	for rest := r.Query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		k, v, _ := strings.Cut(pair, "=")
		if k != key && unescape(k) != key {
			continue
		}
		value, ok = unescape(v), true
	}
	return value, ok
}

// HasBody reports whether the request has, or may have, a body that is not empty.
func (r *Request) HasBody() bool { return r.Body != nil && r.Length != 0 }

// HasFlag reports whether a parameter of the query is there and says yes.
func (r *Request) HasFlag(key string) bool {
	v, _ := r.Param(key)
	return Truth(v)
}

// unescape decodes a part of a query. One that is broken stays as it is.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// Truth reads a flag as Swift does.
func Truth(text string) bool {
	if text == "" {
		return false
	}
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on", "t", "y":
		return true
	}
	return false
}
