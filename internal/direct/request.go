package direct

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// smallBody is the size up to which a body is sent out of the buffer that holds
// the head; blockSize is how much of a larger one is sent at once.
const (
	smallBody = 16 << 10
	blockSize = 64 << 10
)

func refuse(why string) error { return errs.E(op, errs.Invalid, why) }

func checkDo(r *backend.Request) error {
	switch {
	case r.Length < 0:
		return refuse("length of the body is not known")
	case r.Length > 0 && r.Body == nil:
		return refuse("there is a length and no body")
	case len(r.Trailer) > 0:
		return refuse("a body of known length has no trailer")
	}
	return nil
}

// appendHead appends the request line and the header, with the empty line. A
// Length below zero makes the body chunked. What would change its meaning on
// the way is refused.
func appendHead(b []byte, host, agent string, r *backend.Request) ([]byte, error) {
	switch {
	case !all(r.Method, nameByte):
		return b, refuse("method is not a word")
	case !strings.HasPrefix(r.Path, "/") || !all(r.Path, pathByte):
		return b, refuse("path is not percent-encoded")
	case r.Query != "" && !all(r.Query, queryByte):
		return b, refuse("query is not percent-encoded")
	case !all(host, queryByte):
		return b, refuse("address is not host:port")
	case !all(agent, valueByte) && agent != "":
		return b, refuse("user agent holds a line break")
	}
	b = append(append(append(b, r.Method...), ' '), r.Path...)
	if r.Query != "" {
		b = append(append(b, '?'), r.Query...)
	}
	b = append(append(b, " HTTP/1.1\r\nHost: "...), host...)
	b = append(b, "\r\n"...)
	if agent != "" && !r.Header.Has("User-Agent") {
		b = append(append(append(b, "User-Agent: "...), agent...), "\r\n"...)
	}
	b, err := appendFields(b, r.Header)
	if err != nil {
		return b, err
	}
	return appendFraming(b, r)
}

func appendFraming(b []byte, r *backend.Request) ([]byte, error) {
	switch {
	case r.Length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		for i, f := range r.Trailer {
			if !all(f.Name, nameByte) {
				return b, refuse("name of a trailer field is not a word")
			}
			if i == 0 {
				b = append(b, "Trailer: "...)
			} else {
				b = append(b, ", "...)
			}
			b = append(b, f.Name...)
		}
		if len(r.Trailer) > 0 {
			b = append(b, "\r\n"...)
		}
	case r.Length > 0 || !bodiless(r.Method):
		b = strconv.AppendInt(append(b, "Content-Length: "...), r.Length, 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

func bodiless(method string) bool {
	return method == "GET" || method == "HEAD" || method == "DELETE" || method == "OPTIONS"
}

// appendFields appends header lines, leaving out those that are the client's
// own to send.
func appendFields(b []byte, fields backend.Header) ([]byte, error) {
	for i := range fields {
		f := &fields[i]
		if !all(f.Name, nameByte) {
			return b, refuse("name of a header field is not a word: " + strconv.Quote(f.Name))
		}
		if f.Value != "" && !all(f.Value, valueByte) {
			return b, refuse("value of a header field holds a line break: " + f.Name)
		}
		if framing(f.Name) {
			continue
		}
		b = append(append(b, f.Name...), ": "...)
		b = append(append(b, f.Value...), "\r\n"...)
	}
	return b, nil
}

// framing reports whether a field says how the message or the connection is to
// be read, which is not for the caller to say.
func framing(name string) bool {
	switch len(name) {
	case 2:
		return strings.EqualFold(name, "TE")
	case 4:
		return strings.EqualFold(name, "Host")
	case 6:
		return strings.EqualFold(name, "Expect")
	case 7:
		return strings.EqualFold(name, "Trailer") || strings.EqualFold(name, "Upgrade")
	case 10:
		return strings.EqualFold(name, "Connection") || strings.EqualFold(name, "Keep-Alive")
	case 14:
		return strings.EqualFold(name, "Content-Length")
	case 17:
		return strings.EqualFold(name, "Transfer-Encoding")
	}
	return false
}

// The sets of bytes that may stand in the parts of a head.
const (
	nameByte  uint8 = 1 << iota // method, field name
	pathByte                    // path
	queryByte                   // query, address
	valueByte                   // field value
)

var byteSets = func() (t [256]uint8) {
	for i := range t {
		b := byte(i)
		if b != '\r' && b != '\n' && b != 0 {
			t[b] |= valueByte
		}
		if b <= ' ' || b == 0x7f {
			continue
		}
		t[b] |= queryByte
		if b != ':' {
			t[b] |= nameByte
		}
		if b != '?' && b != '#' {
			t[b] |= pathByte
		}
	}
	return t
}()

// all reports whether s is not empty and every byte of it is in the set.
func all(s string, set uint8) bool {
	for i := range len(s) {
		if byteSets[s[i]]&set == 0 {
			return false
		}
	}
	return s != ""
}

// source is a request to send: the head in b.out, with all of a small body
// behind it, and what remains of a larger one.
type source struct {
	b      *buffers
	body   io.Reader
	length int64 // of what is not in b.out
	seeker io.Seeker
	start  int64 // where the body begins in seeker
}

// newSource reads a small body. A larger one is left to be read while it is
// sent.
func newSource(r *backend.Request, b *buffers) (source, error) {
	s := source{b: b}
	switch {
	case r.Length == 0:
		return s, nil
	case r.Length <= smallBody:
		n := len(b.out)
		b.out = append(b.out, make([]byte, r.Length)...)
		if _, err := io.ReadFull(r.Body, b.out[n:]); err != nil {
			return s, bodyError(err)
		}
		return s, nil
	}
	s.body, s.length = r.Body, r.Length
	if sk, ok := r.Body.(io.Seeker); ok {
		if at, err := sk.Seek(0, io.SeekCurrent); err == nil {
			s.seeker, s.start = sk, at
		}
	}
	return s, nil
}

// rewind makes the source ready to be sent again and reports whether it could.
func (s *source) rewind() bool {
	if s.body == nil {
		return true
	}
	if s.seeker == nil {
		return false
	}
	_, err := s.seeker.Seek(s.start, io.SeekStart)
	return err == nil
}

// bodyError is for a request's body that can't be read to its end.
func bodyError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errs.E(op, errs.Invalid, errors.New("body is shorter than its length"), io.ErrUnexpectedEOF)
	}
	return errs.E(op, errs.Subject("request body"), err)
}

var blockPool = sync.Pool{New: func() any { return new([blockSize]byte) }}

// sendAll sends the request. ErrAnswered says that the node did not wait for
// all of it.
func (c *conn) sendAll(s source) error {
	if s.body == nil {
		c.patient = true
		return c.send(s.b.out)
	}
	block := blockPool.Get().(*[blockSize]byte)
	defer blockPool.Put(block)
	first := s.b.out
	for left := s.length; left > 0; {
		n, err := readSome(s.body, block[:min(left, blockSize)])
		if err != nil {
			return err
		}
		left -= int64(n)
		if first != nil {
			err = c.send(first, block[:n])
			first = nil
		} else if answered, lookErr := c.answered(); answered {
			return ErrAnswered
		} else if lookErr != nil {
			return lookErr
		} else {
			err = c.send(block[:n])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readSome reads at least a byte of a request's body. It does not wait for more
// than there is: what a slow client sent goes on to the node at once.
func readSome(r io.Reader, p []byte) (int, error) {
	for range 100 {
		n, err := r.Read(p)
		if n > 0 {
			return n, nil // an error comes again, unless this was the end
		}
		if err != nil {
			return 0, bodyError(err)
		}
	}
	return 0, bodyError(io.ErrNoProgress)
}

// exchange sends a request and reads the head of its answer.
func (c *conn) exchange(method string, s source) (*answer, error) {
	err := c.sendAll(s)
	if err != nil && err != ErrAnswered {
		return nil, err
	}
	return c.answer(method, err == nil)
}
