package proxy

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"syscall"

	"martlet/internal/httpapi"
)

const (
	// plainCost is what any request may need of buffers, in bytes: one to copy its
	// answer through, and its header.
	plainCost = 96 << 10
	// uploadChunks is how many chunks of a body are in memory at once: a queue full
	// for the replica that is behind, as many kept for a handoff, one being sent and
	// one being filled. A replica that stalls holds on to its own until it is given
	// up.
	uploadChunks = 2*queueLen + 2
)

// Admission returns the bounds that hold: those that are set, or what fits the
// machine. That is 256 requests for each processor, from 512 to 16384, and a
// quarter of the memory (of GOMEMLIMIT, where that is less), at least 64 MiB.
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

// memory is how much this process may use, in bytes; 0 where that can't be told.
func memory() int64 {
	limit := debug.SetMemoryLimit(-1) // only asks
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return min(limit, int64(info.Totalram)*int64(info.Unit))
}

// cost is the most bytes of buffers that a request needs. Bodies that fit a chunk
// are there twice, since a replica may still be sending one that was answered.
func cost(r *http.Request) int64 {
	const most = uploadChunks * chunkSize
	body := r.ContentLength
	switch {
	case r.Method == "COPY" || r.Method == http.MethodPut && r.Header["X-Copy-From"] != nil:
		return plainCost + most // the body comes from elsewhere
	case body == 0:
		return plainCost
	case body < 0 || body > most:
		return plainCost + most
	}
	return plainCost + max(2*chunkSize, body)
}

// alwaysIn tells what is answered however busy the proxy is: what load balancers
// ask, so that they do not take a proxy away and make the others busier.
func alwaysIn(r *http.Request) bool {
	return r.URL.Path == "/healthcheck" || r.URL.Path == "/info"
}

func (c Config) gate() httpapi.GateConfig {
	requests, bytes := c.Admission()
	return httpapi.GateConfig{Requests: int64(requests), Bytes: bytes, Cost: cost, Free: alwaysIn}
}
