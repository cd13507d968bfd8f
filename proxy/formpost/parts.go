package formpost

import (
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strings"
	"unicode/utf8"

	"martlet/internal/errs"
)

// Bounds, in bytes, on what of a form is in memory at one time.
const (
	maxHead  = 16 << 10 // what stands before a part's own bytes: its header, and for the first what comes before it
	maxValue = 4096     // a field
	maxAhead = 8 << 10  // what the standard library reads beyond what it is asked for
	maxBound = 256      // what stands between parts; RFC 2046 has 70
)

// parts reads the parts of a form, one after the other, in bounded memory.
type parts struct {
	source *source
	r      *multipart.Reader
	begun  bool
	part   *part // the last that next returned
}

func newParts(body io.Reader, boundary string) *parts {
	if body == nil {
		body = strings.NewReader("")
	}
	s := &source{r: body}
	return &parts{source: s, r: multipart.NewReader(s, boundary)}
}

// next returns the next part, whose bytes are read before next is called again, or are
// skipped; nil is the end. An error is of kind errs.Invalid where the form is malformed, else
// of the kind of what the body broke off with.
func (p *parts) next() (*part, error) {
	if p.part != nil {
		if _, err := io.Copy(io.Discard, p.part.r); err != nil {
			return nil, p.source.why(err, "The form ends within a part")
		}
	}
	p.source.left = maxHead + maxAhead
	raw, err := p.r.NextRawPart()
	p.source.left = -1
	switch {
	case p.source.spent:
		return nil, errs.Refuse(errs.Invalid, "The header of a part is longer than %d bytes", maxHead)
	case err == nil:
	case err == io.EOF: // not errors.Is: that is one where the last boundary is not
		return nil, nil
	case !p.begun:
		return nil, p.source.why(err, "invalid starting boundary")
	default:
		return nil, p.source.why(err, "A part is malformed, or the form ends before its last boundary")
	}
	p.begun = true
	p.part, err = read(raw.Header)
	if err != nil {
		return nil, err
	}
	p.part.r, p.part.from, p.part.left = raw, p.source, -1
	return p.part, nil
}

// source is the body of a request, and remembers how it ended.
type source struct {
	r      io.Reader
	left   int64 // bytes that may be read yet; -1: any number
	spent  bool  // more were wanted
	failed error // other than io.EOF
}

func (s *source) Read(b []byte) (int, error) {
	if s.left == 0 {
		s.spent = true
		return 0, errs.Refuse(errs.Invalid, "A header is too long")
	}
	if s.left > 0 && int64(len(b)) > s.left {
		b = b[:s.left]
	}
	n, err := s.r.Read(b)
	if s.left > 0 {
		s.left -= int64(n)
	}
	if err != nil && err != io.EOF {
		s.failed = err
	}
	return n, err
}

// why is the reason of an error in reading the form: the body's own, or else that the form is as malformed
// as is said.
func (s *source) why(err error, malformed string) error {
	if s.failed != nil {
		return s.failed
	}
	if errs.KindOf(err) == errs.Invalid {
		return err
	}
	return errs.E(errs.Invalid, errs.Public(malformed), err)
}

// part is a field or a file.
type part struct {
	name, file                   string // of a field no file
	contentType, contentEncoding string // "": not said

	r    io.Reader
	from *source
	left int64 // bytes that there may be yet; -1: any number
	err  error // other than io.EOF
}

// read reads the header of a part, whose values can be those of any header.
func read(h textproto.MIMEHeader) (*part, error) {
	p := &part{contentType: h.Get("Content-Type"), contentEncoding: h.Get("Content-Encoding")}
	disposition := h.Get("Content-Disposition")
	if disposition == "" {
		return p, nil
	}
	kind, params, err := mime.ParseMediaType(disposition)
	if err != nil {
		return nil, errs.E(errs.Invalid, errs.Public("The Content-Disposition of a part is malformed"), err)
	}
	if kind != "form-data" {
		return p, nil
	}
	p.name, p.file = params["name"], params["filename"]
	if !utf8.ValidString(p.file) || strings.Contains(p.file, "\x00") {
		return nil, errs.Refuse(errs.Invalid, "The name of a file is not UTF-8, or has a NUL in it")
	}
	return p, nil
}

// printable reports whether a text may be the value of a header field.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// text reads a field. Line ends after it are not of it.
func (p *part) text() (string, error) {
	b, err := io.ReadAll(io.LimitReader(p, maxValue+1))
	switch value := strings.TrimRight(string(b), "\r\n"); {
	case err != nil:
		return "", err
	case len(b) > maxValue:
		return "", errs.Refuse(errs.Invalid, "%s is longer than %d bytes", p.name, maxValue)
	case !utf8.ValidString(value) || !printable(value):
		return "", errs.Refuse(errs.Invalid, "%s has characters that it may not have", p.name)
	default:
		return value, nil
	}
}

// limit has more bytes than that refused.
func (p *part) limit(most int64) io.Reader {
	p.left = max(most, 0)
	return p
}

// Read reads the part. A part that is too long, or broken off, fails before its end,
// so that nothing is stored of it.
func (p *part) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.r.Read(b)
	switch {
	case p.left >= 0 && int64(n) > p.left:
		n, p.err = 0, errs.Refuse(errs.Invalid, tooLarge)
		return n, p.err
	case p.left >= 0:
		p.left -= int64(n)
	}
	if err != nil && err != io.EOF {
		p.err = p.from.why(err, "The form ends within a part")
		err = p.err
	}
	return n, err
}
