// Package backend is the conversation between a cluster's own processes: the
// requests that a proxy or a replicator sends to a storage node and the answers
// it gets.
//
// The types are narrow on purpose and mention no HTTP library. Servers are
// written as Handlers against them, the client (package direct) speaks in them,
// and what carries them is exchanged without touching either. Paths, header
// names and statuses are Swift's: `/device/partition/account/container/object`,
// `X-Timestamp`, `X-Backend-*`.
package backend

import (
	"context"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// Request is one request to a storage node.
type Request struct {
	Method string
	Path   string // percent-encoded, beginning with a slash
	Query  string // as sent, without the question mark
	Header Header

	// Length is that of the body in bytes, -1 where it is not known before its
	// end.
	Length int64

	// Body is nil where there is none. On the serving side reading it to io.EOF
	// means that the whole of it came: a connection that breaks is another
	// error, never io.EOF.
	Body io.Reader

	// Trailer is what the sender said behind the body. On the serving side it is
	// complete once Body has returned io.EOF.
	Trailer Header

	// Remote is the peer's address, on the serving side.
	Remote string
}

// Response is the answer to a Request.
type Response struct {
	Status int
	Header Header

	// Length is that of the body in bytes. For HEAD it is what the body of a GET
	// would have, and Body is nil.
	Length int64

	// Body is nil where there is none. Whoever receives the Response closes it.
	// An error from it other than io.EOF means that what was read so far is not
	// the whole.
	Body io.ReadCloser
}

// A Handler answers requests. An error is turned into a status by its kind; the
// Response is then nil. The context ends when the peer goes away.
type Handler interface {
	Serve(ctx context.Context, r *Request) (*Response, error)
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ctx context.Context, r *Request) (*Response, error)

// Serve calls f.
func (f HandlerFunc) Serve(ctx context.Context, r *Request) (*Response, error) { return f(ctx, r) }

// Target is what a backend path names: a device of the node, the partition that
// the sender took the path for, and the path itself.
type Target struct {
	Device    string
	Partition uint32
	Path      name.Path
}

// Quoted returns the percent-encoded path that ParseTarget reads.
func (t Target) Quoted() string {
	var room [256]byte
	b := append(append(room[:0], '/'), name.Quote(t.Device)...)
	b = strconv.AppendUint(append(b, '/'), uint64(t.Partition), 10)
	return string(t.Path.AppendQuoted(b))
}

// ParseTarget reads "/device/partition/account[/container[/object]]". What it
// can't read is of kind errs.Invalid. Names that clients can't reach are legal
// here.
func ParseTarget(raw string) (Target, error) {
	const op errs.Op = "backend.target"
	var t Target
	var number string
	first, rest, more := strings.Cut(raw, "/")
	if first != "" || strings.Count(rest, "/") < 2 {
		return Target{}, errs.E(op, errs.Invalid, errs.Public("path is not /device/partition/account[/container[/object]]"))
	}
	for _, to := range [...]*string{&t.Device, &number, &t.Path.Account, &t.Path.Container, &t.Path.Object} {
		if !more {
			break
		}
		part := rest
		if to != &t.Path.Object {
			part, rest, more = strings.Cut(rest, "/")
		}
		text, err := name.Unquote(part)
		if err != nil || !utf8.ValidString(text) {
			return Target{}, errs.E(op, errs.Invalid, errs.Public("path is not percent-encoded UTF-8"), err)
		}
		*to = text
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return Target{}, errs.E(op, errs.Invalid, errs.Public("partition is not a number"), err)
	}
	t.Partition = uint32(n)
	if t.Device == "" || t.Device == "." || t.Device == ".." || strings.ContainsAny(t.Device, "/\x00") {
		return Target{}, errs.E(op, errs.Invalid, errs.Public("device is not a name"))
	}
	if t.Path.Account == "" || t.Path.Container == "" && t.Path.Object != "" {
		return Target{}, errs.E(op, errs.Invalid, errs.Public("path has an empty part"))
	}
	return t, nil
}

// Stamp reads the X-Timestamp that every backend write carries. Without one, or
// with one that is no timestamp, the error is of kind errs.Invalid.
func (r *Request) Stamp() (timestamp.T, error) {
	text := r.Header.Get(Timestamp)
	if text == "" {
		return timestamp.T{}, errs.Refuse(errs.Invalid, "Missing X-Timestamp header")
	}
	t, err := timestamp.Parse(text)
	if err != nil || t.IsZero() {
		return timestamp.T{}, errs.E(errs.Invalid, errs.Public("X-Timestamp is not a timestamp"), err)
	}
	return t, nil
}
