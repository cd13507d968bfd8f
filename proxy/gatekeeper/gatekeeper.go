// Package gatekeeper keeps what the cluster's processes say to each other apart
// from what clients say and hear.
//
// No header that only the cluster may send comes in from a client, and none goes
// out to one: the X-Backend- headers, system metadata of every sort, and the older
// names of the same kind, by which a client could make an object server send
// requests where it likes. A client's X-Timestamp decides nothing: it is moved
// aside, to where only the cluster's own reads it. Inside the gate these headers
// can be trusted.
package gatekeeper

import (
	"context"
	"net/http"

	"martlet/proxy/chain"
)

// InboundTimestamp carries the X-Timestamp that a client sent.
const InboundTimestamp = "X-Backend-Inbound-X-Timestamp"

// prefixes are the beginnings, in lower case, of header names that only the
// cluster's own processes use.
var prefixes = []string{
	"x-backend-", "x-account-sysmeta-", "x-container-sysmeta-", "x-object-sysmeta-",
	"x-account-transient-sysmeta-", "x-container-transient-sysmeta-", "x-object-transient-sysmeta-",
}

// names are older names of the same sort, in lower case.
var names = map[string]bool{
	"x-account-host": true, "x-account-device": true, "x-account-partition": true,
	"x-container-host": true, "x-container-device": true, "x-container-partition": true, "x-container-root-db-state": true,
	"x-delete-at-host": true, "x-delete-at-device": true, "x-delete-at-partition": true, "x-delete-at-container": true,
	"x-account-override-deleted": true, "x-put-timestamp": true, "x-delete-timestamp": true,
	"x-object-count": true, "x-bytes-used": true, "x-size": true, "x-etag": true, "x-content-type": true,
	"x-content-type-timestamp": true, "x-meta-timestamp": true,
}

// longest is more than the length of any of prefixes and names.
const longest = 48

// Internal reports whether a header is the cluster's own. The name may be in any
// case.
func Internal(name string) bool {
	if len(name) < 2 || name[0]|0x20 != 'x' || name[1] != '-' {
		return false
	}
	var room [longest]byte
	lower := room[:min(len(name), longest)]
	for i := range lower {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	for _, p := range prefixes {
		if len(lower) >= len(p) && string(lower[:len(p)]) == p {
			return true
		}
	}
	return len(name) < longest && names[string(lower)]
}

// Link is the gate.
func Link(next chain.Handler) chain.Handler {
	return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
		clean(r.Header)
		if stamp := r.Header["X-Timestamp"]; stamp != nil {
			delete(r.Header, "X-Timestamp")
			r.Header[InboundTimestamp] = stamp
		}
		resp := next.Serve(ctx, r)
		clean(resp.Header)
		return resp
	})
}

func clean(h http.Header) {
	for name := range h {
		if Internal(name) {
			delete(h, name)
		}
	}
}
