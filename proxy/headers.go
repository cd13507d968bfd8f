package proxy

import (
	"net/http"
	"strings"

	"martlet/internal/backend"
	"martlet/proxy/chain"
)

// metaPrefixes are the beginnings of the names of an object's metadata: the
// client's, and what features of the proxy keep beside it.
var metaPrefixes = []string{"X-Object-Meta-", "X-Object-Sysmeta-", "X-Object-Transient-Sysmeta-"}

// storedNames are the headers of an object, besides its own metadata, that are
// kept and come back.
var storedNames = []string{
	"Content-Disposition", "Content-Encoding", "X-Delete-At", "X-Object-Manifest", "X-Static-Large-Object",
	"Cache-Control", "Content-Language", "Expires", "X-Robots-Tag",
}

// isStored is storedNames to look up in.
var isStored = setOf(storedNames...)

// isShown are the headers of an object that the API itself gives it.
var isShown = setOf("Etag", "Last-Modified", "X-Timestamp", "Content-Range", "Accept-Ranges", backend.BackendStamp)

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// showObject copies what is an object's own of a storage node's answer. What only
// the cluster may see is for the features further out; the gatekeeper keeps it in. In which fragments the
// data is not even they see: to them an object is its bytes.
func showObject(to http.Header, from backend.Header) {
	values := make([]string, len(from)) // one allocation for all
	for i, f := range from {
		name := http.CanonicalHeaderKey(f.Name)
		values[i] = f.Value
		own := values[i : i+1 : i+1]
		switch {
		case name == backend.ContentType:
			own[0] = withoutSize(f.Value)
			to[name] = own
		case name == backend.CodedWrite:
		case !isShown[name] && !isStored[name] && !isMeta(name):
		case to[name] == nil:
			to[name] = own
		default:
			to[name] = append(to[name], f.Value)
		}
	}
}

// showSystem copies what features keep with an object of a storage node's answer
// to a write, for those further out.
func showSystem(to http.Header, from backend.Header) {
	for _, f := range from {
		if name := http.CanonicalHeaderKey(f.Name); strings.HasPrefix(name, "X-Object-Sysmeta-") && name != backend.CodedWrite {
			to[name] = []string{f.Value}
		}
	}
}

func isMeta(name string) bool {
	for _, prefix := range metaPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// sizeParam is the parameter of a content type by which a container's listing
// shows another size than the object's own: that of the large object of which it
// is the manifest.
const sizeParam = ";swift_bytes="

// withoutSize takes the parameter off a content type.
func withoutSize(contentType string) string {
	at := strings.Index(contentType, sizeParam)
	if at < 0 {
		return contentType
	}
	rest := contentType[at+len(sizeParam):]
	if next := strings.IndexByte(rest, ';'); next >= 0 {
		return contentType[:at] + rest[next:]
	}
	return contentType[:at]
}

// conditions are the headers of a read that the storage node weighs, and what
// features say of how.
var conditions = []string{
	"Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
	chain.EtagIsAt, chain.IgnoreRangeIf,
}

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
