package lean

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"martlet/internal/backend"
)

// maxFields bounds the fields of a head, and of a trailer.
const maxFields = 2048

// refusedError is why what came is no request.
type refusedError struct {
	status int
	why    string
}

func (r *refusedError) Error() string { return r.why }

func malformed(why string) error { return &refusedError{http.StatusBadRequest, why} }

// head is what stands before the body of a request.
type head struct {
	method, path, query string
	fields              backend.Header
	length              int64 // -1 where it is chunked
	old                 bool  // HTTP/1.0, which knows of no chunks
	closing             bool  // the connection is to end
	kept                bool  // the peer asks for it to be kept
	expects             bool  // the peer waits to be asked for the body
}

var headEnd = []byte("\r\n\r\n")

// readHead reads a head, of which the first byte came at a time: the whole has to have
// come when silence may last no longer, however its bytes trickle. A *refusedError says that
// it is none; other errors are the connection's.
func (c *conn) readHead(began time.Time) (head, error) {
	for searched := 0; ; {
		have := c.b.in[c.r:c.w]
		from := max(0, searched-len(headEnd)+1)
		i := bytes.Index(have[from:], headEnd)
		if i < 0 && bareLine(have[from:], searched-from) {
			return head{}, malformed("a line does not end with CR LF")
		}
		n := from + i + len(headEnd)
		if tooLarge := i < 0 && len(have) >= c.of.maxHeader || i >= 0 && n > c.of.maxHeader; tooLarge {
			return head{}, &refusedError{http.StatusRequestHeaderFieldsTooLarge, "head is too large"}
		}
		if i >= 0 {
			c.r += n
			c.fixed = false
			return parseHead(string(have[:n]))
		}
		if searched == 0 {
			c.readUntilTime(began.Add(c.of.silence))
		}
		searched = len(have)
		c.room()
		if err := c.more(); err != nil {
			return head{}, err
		}
	}
}

// bareLine reports whether a line in b, of which the first from bytes were looked at,
// ends without CR: what waits for its end would wait in vain.
func bareLine(b []byte, from int) bool {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return false
		}
		if from += i; from == 0 || b[from-1] != '\r' {
			return true
		}
		from++
	}
}

// parseHead reads a head, which ends with the empty line. What it returns is parts
// of s.
func parseHead(s string) (head, error) {
	h := head{}
	line, rest, err := cutLine(s[:len(s)-2])
	if err != nil {
		return h, err
	}
	if err := h.parseLine(line); err != nil {
		return h, err
	}
	f := framing{length: -1}
	if h.fields, err = parseFields(rest, &f); err != nil {
		return h, err
	}
	return h, h.settle(&f)
}

// parseLine reads "METHOD target HTTP/1.x".
func (h *head) parseLine(line string) error {
	method, rest, ok := strings.Cut(line, " ")
	target, version, also := strings.Cut(rest, " ")
	if !ok || !also || !all(method, tokenByte) {
		return malformed("malformed request line")
	}
	switch version {
	case "HTTP/1.1":
	case "HTTP/1.0":
		h.old = true
	default:
		if len(version) == len("HTTP/1.1") && strings.HasPrefix(version, "HTTP/") && digit(version[5]) && version[6] == '.' && digit(version[7]) {
			return &refusedError{http.StatusHTTPVersionNotSupported, "unsupported protocol version"}
		}
		return malformed("malformed protocol version")
	}
	if !validTarget(method, target) {
		return malformed("malformed request target")
	}
	h.method = method
	h.path, h.query, _ = strings.Cut(target, "?")
	return nil
}

// validTarget takes a path, a whole URL, and the asterisk of OPTIONS.
func validTarget(method, target string) bool {
	if !all(target, targetByte) {
		return false
	}
	if target[0] == '/' || target == "*" && method == http.MethodOptions {
		return true
	}
	scheme, rest, ok := strings.Cut(target, "://")
	return ok && rest != "" && rest[0] != '/' && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// parseFields reads lines "Name: value". Names are made canonical. What f takes for
// itself is left out; it is nil for a trailer, in which such fields are refused.
func parseFields(s string, f *framing) (backend.Header, error) {
	if s == "" {
		return nil, nil
	}
	count := strings.Count(s, "\n")
	if count > maxFields {
		return nil, &refusedError{http.StatusRequestHeaderFieldsTooLarge, "too many header fields"}
	}
	fields := make(backend.Header, 0, count)
	for s != "" {
		line, rest, err := cutLine(s)
		if err != nil {
			return nil, err
		}
		s = rest
		colon := strings.IndexByte(line, ':')
		if colon < 1 {
			return nil, malformed("malformed header field")
		}
		name, ok := canonical(line[:colon])
		value := trim(line[colon+1:])
		if !ok || value != "" && !all(value, valueByte) {
			return nil, malformed("malformed header field")
		}
		keep, err := f.take(name, value)
		if err != nil {
			return nil, err
		}
		if keep {
			fields = append(fields, backend.Field{Name: name, Value: value})
		}
	}
	return fields, nil
}

// cutLine cuts a line off, which ends with CR LF. Whether there is another CR in it
// those see who look at its bytes.
func cutLine(s string) (line, rest string, err error) {
	i := strings.IndexByte(s, '\n')
	if i < 1 || s[i-1] != '\r' {
		return "", "", malformed("a line does not end with CR LF")
	}
	return s[:i-1], s[i+1:], nil
}

func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// canonical returns the canonical form of a field's name, which most have, and
// whether it is one.
func canonical(name string) (string, bool) {
	start, is := true, true
	for i := range len(name) {
		b := name[i]
		if byteSets[b]&tokenByte == 0 {
			return "", false
		}
		if start && 'a' <= b && b <= 'z' || !start && 'A' <= b && b <= 'Z' {
			is = false
		}
		start = b == '-'
	}
	if !is {
		name = textproto.CanonicalMIMEHeaderKey(name)
	}
	return name, true
}

// framing is what the fields of a head say of the message and the connection.
type framing struct {
	hosts   int
	length  int64 // -1 where none is given
	chunked bool
	close   bool
	keep    bool
	expects bool
}

// take looks at one field, and says whether it is for the handler.
func (f *framing) take(name, value string) (keep bool, err error) {
	switch name {
	default:
		return true, nil
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Trailer":
	}
	if f == nil {
		return false, malformed("a trailer says how the message is to be read")
	}
	switch name {
	case "Host":
		f.hosts++
		if value != "" && !all(value, hostByte) {
			return false, malformed("malformed Host header")
		}
		return false, nil
	case "Content-Length":
		n, ok := decimal(value)
		if !ok || f.length >= 0 && f.length != n {
			return false, malformed("malformed or conflicting Content-Length")
		}
		again := f.length >= 0
		f.length = n
		return !again, nil
	case "Transfer-Encoding":
		if f.chunked || !strings.EqualFold(value, "chunked") {
			return false, &refusedError{http.StatusNotImplemented, "unsupported transfer encoding"}
		}
		f.chunked = true
		return false, nil
	case "Connection":
		for token := range strings.SplitSeq(value, ",") {
			token = trim(token)
			f.close = f.close || strings.EqualFold(token, "close")
			f.keep = f.keep || strings.EqualFold(token, "keep-alive")
		}
	case "Expect":
		if !strings.EqualFold(value, "100-continue") {
			return false, &refusedError{http.StatusExpectationFailed, "unknown expectation"}
		}
		f.expects = true
	}
	return true, nil
}

// settle decides what the fields come to, all together.
func (h *head) settle(f *framing) error {
	switch {
	case f.hosts > 1:
		return malformed("too many Host headers")
	case f.hosts == 0 && !h.old:
		return malformed("missing required Host header")
	case f.chunked && f.length >= 0:
		return malformed("both Transfer-Encoding and Content-Length")
	case f.chunked && h.old:
		return malformed("Transfer-Encoding in HTTP/1.0")
	}
	h.closing, h.kept = f.close || h.old && !f.keep, f.keep
	switch {
	case f.chunked:
		h.length = -1
		h.fields.Del("Trailer") // which fields are to come, they say themselves
	case f.length > 0:
		h.length = f.length
	}
	h.expects = f.expects && !h.old && h.length != 0
	return nil
}

// decimal reads digits alone, few enough for an int64.
func decimal(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if !digit(s[i]) {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

func digit(b byte) bool { return '0' <= b && b <= '9' }

// The sets of bytes that may stand in the parts of a head.
const (
	tokenByte  uint8 = 1 << iota // method, field name
	targetByte                   // request target
	valueByte                    // field value
	hostByte                     // value of Host
)

var byteSets = func() (t [256]uint8) {
	for i := range t {
		b := byte(i)
		if b > ' ' && b != 0x7f {
			t[b] |= targetByte
		}
		if b >= ' ' && b != 0x7f || b == '\t' {
			t[b] |= valueByte
		}
		letter := 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || digit(b)
		if letter || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0 {
			t[b] |= tokenByte
		}
		if letter || strings.IndexByte("!$%&'()*+,-.:;=[]_~", b) >= 0 {
			t[b] |= hostByte
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
