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
	"strings"

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

// names are older names of the same sort, in canonical form.
var names = map[string]bool{
	"X-Account-Host": true, "X-Account-Device": true, "X-Account-Partition": true,
	"X-Container-Host": true, "X-Container-Device": true, "X-Container-Partition": true, "X-Container-Root-Db-State": true,
	"X-Delete-At-Host": true, "X-Delete-At-Device": true, "X-Delete-At-Partition": true, "X-Delete-At-Container": true,
	"X-Account-Override-Deleted": true, "X-Put-Timestamp": true, "X-Delete-Timestamp": true,
	"X-Object-Count": true, "X-Bytes-Used": true, "X-Size": true, "X-Etag": true, "X-Content-Type": true,
	"X-Content-Type-Timestamp": true, "X-Meta-Timestamp": true,
}

// Internal reports whether a header is the cluster's own. The name may be in any
// case.
func Internal(name string) bool {
	if len(name) < 2 || name[0]|0x20 != 'x' || name[1] != '-' {
		return false
	}
	for _, p := range prefixes {
		if len(name) >= len(p) && strings.EqualFold(name[:len(p)], p) {
			return true
		}
	}
	return names[name] || names[http.CanonicalHeaderKey(name)]
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
