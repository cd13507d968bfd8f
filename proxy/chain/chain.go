// Package chain is what the features of a proxy are built over: a request, a
// response, and the one interface that turns the first into the second.
//
// A feature is a Link: it gets the rest of the chain as a Handler and returns one
// that stands in front of it. It may answer itself, change the request on its way
// in, change the response on its way out, or send requests of its own down the
// rest of the chain (Request.Sub), which are held to the same rules as those of
// clients. Requests and responses are values: a body is a reader, and nothing has
// been sent to the client when a feature sees a response. So a feature needs no
// knowledge of HTTP servers, of storage nodes, or of the other features.
//
// Which features there are, and in which order, is package proxy's to say. What
// carries requests in and responses out is Face.
package chain

import "context"

// A Handler answers requests. What it returns is never nil: a refusal is a
// response, too (Fail). Whoever receives the response closes its body. The
// request is the handler's to change, and not read any more by who sent it.
type Handler interface {
	Serve(ctx context.Context, r *Request) *Response
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ctx context.Context, r *Request) *Response

// Serve calls f.
func (f HandlerFunc) Serve(ctx context.Context, r *Request) *Response { return f(ctx, r) }

// A Link puts a feature in front of the rest of the chain.
type Link func(next Handler) Handler

// Join makes one handler of links and what is behind the last of them. The first
// link sees a request first and its response last. One that is nil is a feature
// that is off, and costs nothing.
func Join(last Handler, links ...Link) Handler {
	for i := len(links) - 1; i >= 0; i-- {
		if links[i] != nil {
			last = links[i](last)
		}
	}
	return last
}
