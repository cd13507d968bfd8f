package direct

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"martlet/internal/backend"
)

// maxInterim bounds how many 1xx answers stand before one that counts.
const maxInterim = 64

var (
	headEnd   = []byte("\r\n\r\n")
	headBegin = []byte("HTTP/1.")
)

// head is what stands before the body of an answer.
type head struct {
	status  int
	fields  backend.Header
	length  int64 // -1 where none is given
	chunked bool
	closing bool // the node closes the connection afterwards
	old     bool // HTTP/1.0, which knows of no chunks
}

// answer is a Response with the body that it has, if it has one.
type answer struct {
	resp backend.Response
	body body
}

// answer reads the head of the answer to a request, of which not everything was
// sent if whole is false.
func (c *conn) answer(method string, whole bool) (*answer, error) {
	h := c.early
	if h.status == 0 {
		var err error
		if h, err = c.finalHead(); err != nil {
			return nil, err
		}
	}
	if !whole && h.status < 300 {
		return nil, c.malformed("status " + strconv.Itoa(h.status) + " before the request's end")
	}
	a := &answer{resp: backend.Response{Status: h.status, Header: h.fields}}
	a.body.c = c
	c.keep = whole && !h.closing
	switch {
	case method == "HEAD":
		a.resp.Length = h.length
	case h.status == 204 || h.status == 304:
		c.keep = c.keep && !h.chunked && (h.status == 304 || h.length <= 0)
	case h.chunked:
		a.resp.Length = -1
		a.body.chunked = true
		a.resp.Body = &a.body
	case h.length < 0:
		// Such a body ends where the connection does, and so can't be told from one
		// that was cut off.
		return nil, c.malformed("neither Content-Length nor chunked")
	case h.length > 0:
		a.resp.Length = h.length
		a.body.left = h.length
		a.resp.Body = &a.body
	}
	return a, nil
}

// finish hands the answer over. From here on the connection belongs to the body,
// or where there is none to the pool.
func (a *answer) finish() *backend.Response {
	if a.resp.Body == nil {
		a.body.c.release()
	}
	return &a.resp
}

func (c *conn) finalHead() (head, error) {
	for {
		if h, err := c.nextHead(); err != nil || h.status >= 200 {
			return h, err
		}
	}
}

// nextHead reads one head, be it of an interim answer, of which it takes no more
// than there may be.
func (c *conn) nextHead() (head, error) {
	n, err := c.fillHead()
	if err != nil {
		return head{}, err
	}
	h, err := parseHead(c.b.in[c.r:c.r+n], c.host.pool.cfg.MaxHeaders)
	if err != nil {
		return head{}, c.malformed(err.Error())
	}
	c.r += n
	if h.status < 200 {
		if c.interim++; h.status == 101 || c.interim > maxInterim {
			return head{}, c.malformed("interim answer that was not asked for")
		}
	}
	return h, nil
}

// fillHead reads until a whole head stands at b.in[r:] and returns its size. The
// buffer grows to no more than twice the limit.
func (c *conn) fillHead() (int, error) {
	limit := c.host.pool.cfg.MaxHeaderBytes
	for searched := 0; ; {
		have := c.b.in[c.r:c.w]
		if n := min(len(have), len(headBegin)); !bytes.Equal(have[:n], headBegin[:n]) {
			return 0, c.malformed("not HTTP/1")
		}
		from := max(0, searched-len(headEnd)+1)
		if i := bytes.Index(have[from:], headEnd); i >= 0 && from+i+len(headEnd) <= limit {
			return from + i + len(headEnd), nil
		}
		if len(have) >= limit {
			return 0, c.malformed("head is too large")
		}
		searched = len(have)
		c.room()
		if err := c.more(); err != nil {
			return 0, err
		}
	}
}

// room makes room behind b.in[:w].
func (c *conn) room() {
	switch {
	case c.w < len(c.b.in):
		return
	case c.r > 0:
		c.w = copy(c.b.in, c.b.in[c.r:c.w])
		c.r = 0
	default:
		c.b.in = append(c.b.in, make([]byte, len(c.b.in))...)
	}
}

// parseHead reads a head, which ends with the empty line. The fields are parts
// of one string, their values the bytes that came.
func parseHead(b []byte, maxFields int) (head, error) {
	count := bytes.Count(b, []byte{'\n'}) - 2
	if count > maxFields {
		return head{}, errors.New("too many header fields")
	}
	rest := string(b[:len(b)-2])
	line, rest, err := cutLine(rest)
	if err != nil {
		return head{}, err
	}
	h := head{length: -1}
	if err := h.parseStatus(line); err != nil {
		return head{}, err
	}
	if count > 0 {
		h.fields = make(backend.Header, 0, count)
	}
	for rest != "" {
		if line, rest, err = cutLine(rest); err != nil {
			return head{}, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !all(name, nameByte) {
			return head{}, errors.New("malformed header field")
		}
		value = strings.Trim(value, " \t")
		h.fields = append(h.fields, backend.Field{Name: name, Value: value})
		if err := h.frame(name, value); err != nil {
			return head{}, err
		}
	}
	if h.chunked && (h.length >= 0 || h.old) {
		return head{}, errors.New("chunked, and Content-Length or HTTP/1.0")
	}
	return h, nil
}

// cutLine cuts a line off, which ends with CR LF and holds no other CR, nor NUL.
func cutLine(s string) (line, rest string, err error) {
	i := strings.IndexByte(s, '\n')
	if i < 1 || strings.IndexByte(s[:i], '\r') != i-1 || strings.IndexByte(s[:i], 0) >= 0 {
		return "", "", errors.New("malformed line")
	}
	return s[:i-1], s[i+1:], nil
}

// parseStatus reads "HTTP/1.x NNN reason".
func (h *head) parseStatus(line string) error {
	const n = len("HTTP/1.1 200")
	if len(line) < n || len(line) > n && line[n] != ' ' {
		return errors.New("malformed status line")
	}
	switch line[:n-3] {
	case "HTTP/1.1 ":
	case "HTTP/1.0 ":
		h.closing, h.old = true, true
	default:
		return errors.New("not HTTP/1.1")
	}
	code, ok := decimal(line[n-3 : n])
	if !ok || code < 100 {
		return errors.New("malformed status")
	}
	h.status = int(code)
	return nil
}

// frame takes in what a field says of the body and the connection.
func (h *head) frame(name, value string) error {
	switch len(name) {
	case len("Content-Length"):
		if !strings.EqualFold(name, backend.ContentLength) {
			break
		}
		n, ok := decimal(value)
		if !ok || h.length >= 0 && h.length != n {
			return errors.New("malformed or conflicting Content-Length")
		}
		h.length = n
	case len("Transfer-Encoding"):
		if !strings.EqualFold(name, "Transfer-Encoding") {
			break
		}
		if h.chunked || !strings.EqualFold(value, "chunked") {
			return errors.New("unknown Transfer-Encoding")
		}
		h.chunked = true
	case len("Connection"):
		if !strings.EqualFold(name, "Connection") {
			break
		}
		for token := range strings.SplitSeq(value, ",") {
			h.closing = h.closing || strings.EqualFold(strings.Trim(token, " \t"), "close")
		}
	}
	return nil
}

// decimal reads digits alone, few enough for an int64.
func decimal(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}
