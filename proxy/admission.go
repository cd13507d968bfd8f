package proxy

import (
	"net"
	"net/http"
	"runtime"
	"strings"

	"martlet/internal/httpapi"
)

const (
	// plainCost is what any request may need of buffers, in bytes: those of its answer, and
	// its header.
	plainCost = httpapi.AnswerRoom + 32<<10
	// uploadBytes is the most of a body that is in memory at once, in bytes, once its chunks are large: a queue full for
	// the replica that is behind, one being sent and one being filled. Of what came before, in small chunks, there is less: as
	// many more of them are kept for a handoff. A replica that stalls holds on to its own until it is given up.
	uploadBytes = (queueLen + 2) * largeChunk
)

// Admission returns the bounds that hold: those that are set, or what fits the
// machine. That is 256 requests for each processor, from 512 to 16384, and a
// quarter of the memory (of GOMEMLIMIT, or the limit of a control group, where that is
// less), at least 64 MiB.
func (c Config) Admission() (requests int, bytes int64) {
	requests, bytes = c.MaxRequests, int64(c.MaxBufferBytes)
	if requests == 0 {
		requests = min(max(256*runtime.GOMAXPROCS(0), 512), 16384)
	}
	if bytes == 0 {
		bytes = max(memory()/4, 64<<20)
	}
	return requests, bytes
}

// Connections returns how many connections of clients may be open: what is set, or
// what fits the machine. That is half of the files that the process may have open, or
// what an eighth of the memory holds of those that wait, from 1024 to 65536.
func (c Config) Connections() int {
	const (
		waiting = 24 << 10 // bytes of one: buffers, and the stack of its goroutine
		least   = 1024
		most    = 65536
	)
	if c.MaxConnections > 0 {
		return c.MaxConnections
	}
	return int(min(max(min(files()/2, memory()/8/waiting), least), most))
}

// cost is the most bytes of buffers that a request needs. Bodies that fit a chunk
// are there twice, since a replica may still be sending one that was answered.
func cost(r *http.Request) int64 {
	const most = uploadBytes
	body := r.ContentLength
	switch {
	case r.Method == "COPY" || r.Method == http.MethodPut && r.Header["X-Copy-From"] != nil:
		return plainCost + most // the body comes from elsewhere
	case body == 0:
		return plainCost
	case body < 0 || body > smallChunks*chunkSize:
		return plainCost + most
	}
	return plainCost + max(2*chunkSize, body)
}

// cost is that of cost where there are policies that erasure-code. Which policy a body comes to, or a
// copy of it that a feature makes, is not known yet: it may be the one that takes the most.
func (c codings) cost(r *http.Request) int64 {
	most := cost(r)
	if most == plainCost {
		return most
	}
	body := r.ContentLength
	if r.Method != http.MethodPut || r.Header["X-Copy-From"] != nil {
		body = -1
	}
	for _, of := range c {
		most = max(most, plainCost+of.cost(body))
	}
	return most
}

// cost is the most bytes of buffers that an upload of so many bytes needs, or where that is
// not known, is -1. A body that fits a chunk is encoded at once, and its fragments may still be
// sent to a device that was answered for; of others there is a queue full of segments, as many for a handoff, one
// being sent and one being filled, and one that is being encoded.
func (c coding) cost(body int64) int64 {
	n := int64(c.code.Fragments())
	segment := n * c.code.ArchiveSize(int64(c.code.Segment))
	switch {
	case body >= 0 && body <= c.policy.WholeUpTo:
		return 2 * chunkSize
	case body >= 0 && body < chunkSize:
		return chunkSize + segment + n*c.code.ArchiveSize(body)
	case body >= 0:
		return chunkSize + segment*(1+min(c.code.Segments(body), 2*segmentQueue+2))
	}
	return chunkSize + segment*(1+2*segmentQueue+2)
}

// alwaysIn tells what is answered however busy the proxy is: what load balancers
// ask, so that they do not take a proxy away and make the others busier.
func alwaysIn(r *http.Request) bool {
	return r.URL.Path == "/healthcheck" || r.URL.Path == "/info"
}

// client is whose share of the gate a request takes: that of the account that it is
// about, or of the address that it comes from where it is about none. Behind a load
// balancer all come from one address, so that accounts are what tells clients apart.
// Who somebody is has not been looked at yet: a request that only says that it is about
// somebody's account takes of that account's share until it is refused.
func client(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if _, rest, ok := strings.Cut(path, "/"); ok && isVersion(path) {
		if account, _, _ := strings.Cut(rest, "/"); account != "" {
			return account
		}
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// isVersion tells a path of the API from those of other services.
func isVersion(path string) bool {
	return len(path) > 1 && path[0] == 'v' && path[1] >= '0' && path[1] <= '9'
}

func (c Config) gate(of codings) httpapi.GateConfig {
	requests, bytes := c.Admission()
	return httpapi.GateConfig{Requests: int64(requests), Bytes: bytes, Cost: of.cost, Free: alwaysIn, Client: client}
}
