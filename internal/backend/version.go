package backend

import (
	"errors"
	"strconv"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/timestamp"
)

// DeleteMarker is the content type of the version that a DELETE leaves.
const DeleteMarker = "application/x-deleted;swift_versions_deleted=1"

// A Link is what an object holds in a container with versions: which of them is
// current, and what the listing shows of it.
type Link struct {
	ID    timestamp.T // of the version
	Bytes int64       // of it, as the listing shows them
	ETag  string      // as in the listing
}

// String returns the value of VersionLink.
func (l Link) String() string {
	return l.ID.Normal() + "/" + strconv.FormatInt(l.Bytes, 10) + "/" + l.ETag
}

// ParseLink reads what String writes. What it can't read is of kind errs.Corrupt.
func ParseLink(text string) (Link, error) {
	id, rest, _ := strings.Cut(text, "/")
	size, etag, ok := strings.Cut(rest, "/")
	t, err := timestamp.Parse(id)
	n, sizeErr := strconv.ParseInt(size, 10, 64)
	if err := errors.Join(err, sizeErr); err != nil || !ok || n < 0 {
		return Link{}, errs.E(errs.Op("backend.link"), errs.Corrupt, err, "not the link to a version")
	}
	return Link{t.WithOffset(0), n, etag}, nil
}

// listedVersion is behind the ETag in the listing of an object that is a link, and in
// front of the version's ID.
const listedVersion = "; version_id="

// Listed returns the ETag that the row of the object has.
func (l Link) Listed() string { return l.ETag + listedVersion + l.ID.Normal() }

// CutListed takes the version's ID out of the ETag of a row. ok is false where the object
// is no link.
func CutListed(etag string) (rest string, id timestamp.T, ok bool) {
	at := strings.LastIndex(etag, listedVersion)
	if at < 0 {
		return etag, timestamp.T{}, false
	}
	id, err := timestamp.Parse(etag[at+len(listedVersion):])
	if err != nil {
		return etag, timestamp.T{}, false
	}
	return etag[:at], id, true
}

// listedBytes is the parameter of a content type that says which size a listing shows.
const listedBytes = ";swift_bytes="

// WithListedBytes has the listing show a size for an object of that content type.
func WithListedBytes(contentType string, n int64) string {
	return contentType + listedBytes + strconv.FormatInt(n, 10)
}

// CutListedBytes takes the size out that WithListedBytes has put in; -1 is none.
func CutListedBytes(contentType string) (rest string, n int64) {
	at := strings.Index(contentType, listedBytes)
	if at < 0 {
		return contentType, -1
	}
	text, rest := contentType[at+len(listedBytes):], ""
	if next := strings.IndexByte(text, ';'); next >= 0 {
		text, rest = text[:next], text[next:]
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		n = -1
	}
	return contentType[:at] + rest, n
}
