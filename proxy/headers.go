package proxy

import (
	"net/http"
	"strings"

	"martlet/internal/backend"
)

// internalPrefixes are the beginnings of header names that only the cluster's
// own processes use. None comes in from a client, and none goes out.
var internalPrefixes = []string{
	"X-Backend-", "X-Account-Sysmeta-", "X-Container-Sysmeta-", "X-Object-Sysmeta-", "X-Object-Transient-Sysmeta-",
}

// internalNames are the older names of the same sort. A client that could send
// X-Container-Host would make an object server send requests where it likes.
var internalNames = map[string]bool{
	"X-Account-Host": true, "X-Account-Device": true, "X-Account-Partition": true,
	"X-Container-Host": true, "X-Container-Device": true, "X-Container-Partition": true, "X-Container-Root-Db-State": true,
	"X-Delete-At-Host": true, "X-Delete-At-Device": true, "X-Delete-At-Partition": true, "X-Delete-At-Container": true,
	"X-Account-Override-Deleted": true, "X-Put-Timestamp": true, "X-Delete-Timestamp": true,
	"X-Object-Count": true, "X-Bytes-Used": true, "X-Size": true, "X-Etag": true, "X-Content-Type": true,
	"X-Content-Type-Timestamp": true, "X-Meta-Timestamp": true,
}

// internal reports whether a header is the cluster's own. The name may be in any
// case.
func internal(name string) bool {
	for _, p := range internalPrefixes {
		if _, ok := backend.CutPrefix(name, p); ok {
			return true
		}
	}
	return internalNames[http.CanonicalHeaderKey(name)]
}

// gatekeep takes from a client's request what only the cluster may say. The
// client's X-Timestamp is not the cluster's either.
func gatekeep(h http.Header) {
	for name := range h {
		if internal(name) {
			delete(h, name)
		}
	}
	h.Del("X-Timestamp")
}

// storedNames are the headers of an object, besides its own metadata, that are
// kept and come back.
var storedNames = []string{
	"Content-Disposition", "Content-Encoding", "X-Delete-At", "X-Object-Manifest", "X-Static-Large-Object",
	"Cache-Control", "Content-Language", "Expires", "X-Robots-Tag",
}

// isStored is storedNames to look up in.
var isStored = setOf(storedNames...)

// isShown are the headers of an object that the API itself gives it.
var isShown = setOf("Content-Type", "Etag", "Last-Modified", "X-Timestamp", "Content-Range", "Accept-Ranges")

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// showObject copies what a client may see of an object's headers.
func showObject(to http.Header, from backend.Header) {
	for _, f := range from {
		name := http.CanonicalHeaderKey(f.Name)
		if isShown[name] || isStored[name] || strings.HasPrefix(name, "X-Object-Meta-") {
			to[name] = append(to[name], f.Value)
		}
	}
}

// conditions are the headers of a read that the storage node weighs.
var conditions = []string{"Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"}

// pick copies the named headers of a client's request.
func pick(to *backend.Header, from http.Header, names []string) {
	for _, n := range names {
		for _, v := range from[n] {
			to.Add(n, v)
		}
	}
}

// pickPrefix copies the headers of a client's request whose names begin with
// prefix, which is in canonical form.
func pickPrefix(to *backend.Header, from http.Header, prefix string) {
	for n, values := range from {
		if strings.HasPrefix(n, prefix) && len(values) > 0 {
			to.Add(n, strings.Join(values, ","))
		}
	}
}

// metaUpdate collects what a client sets and removes of an account's or a
// container's metadata: X-<kind>-Meta-* and the named headers, each also in its
// X-Remove- form. An empty value means that the name is to go.
func metaUpdate(from http.Header, kind string, named []string) backend.Header {
	var to backend.Header
	prefix, remove := "X-"+kind+"-Meta-", "X-Remove-"+kind+"-Meta-"
	for n, values := range from {
		switch {
		case len(values) == 0:
		case strings.HasPrefix(n, prefix):
			to.Add(n, strings.Join(values, ","))
		case strings.HasPrefix(n, remove) && from.Get(prefix+n[len(remove):]) == "":
			to.Set(prefix+n[len(remove):], "")
		}
	}
	for _, n := range named {
		if values := from[n]; len(values) > 0 {
			to.Add(n, strings.Join(values, ","))
		} else if _, gone := from["X-Remove-"+strings.TrimPrefix(n, "X-")]; gone {
			to.Add(n, "")
		}
	}
	return to
}
