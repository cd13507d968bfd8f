package limits

import (
	"math"
	"net/http"
	"strings"
	"unicode/utf8"

	"martlet/internal/errs"
	"martlet/internal/timestamp"
)

// Body says how long the body of a request is.
type Body struct {
	Length  int64 // bytes; -1 where the header does not say
	Chunked bool  // it comes in chunks, its length is not known before its end
}

// ParseBody reads Transfer-Encoding and Content-Length, "" where one is missing.
// More than one encoding is 501; one that is not "chunked", and a length that is
// no number or negative, are 400. With "chunked" the length is ignored, as RFC
// 9112 wants.
func ParseBody(transferEncoding, contentLength string) (Body, error) {
	if transferEncoding != "" {
		if strings.Contains(transferEncoding, ",") {
			return Body{}, errs.Refuse(errs.Unsupported, "Unsupported Transfer-Coding header value specified in Transfer-Encoding header")
		}
		if !strings.EqualFold(strings.TrimSpace(transferEncoding), "chunked") {
			return Body{}, errs.Refuse(errs.Invalid, "Invalid Transfer-Encoding header value")
		}
		return Body{Length: -1, Chunked: true}, nil
	}
	if contentLength == "" {
		return Body{Length: -1}, nil
	}
	text := strings.TrimSpace(contentLength)
	if rest, ok := strings.CutPrefix(text, "-"); ok && digits(rest) {
		return Body{}, errs.Refuse(errs.Invalid, "Invalid Content-Length: it is negative")
	}
	if !digits(text) {
		return Body{}, errs.Refuse(errs.Invalid, "Invalid Content-Length header value")
	}
	n, ok := number(text, math.MaxInt64)
	if !ok {
		n = math.MaxInt64 // far over any limit, which is for the limit to say
	}
	return Body{Length: n}, nil
}

// Creation is what is known of an object before its body is read.
type Creation struct {
	Name        string // of the object
	Body        Body
	Copy        bool        // the request has X-Copy-From: its body must be empty
	ContentType string      // as it will be stored, guessed by the proxy if the client sent none
	Header      http.Header // for the metadata
}

// CheckCreation checks a PUT of an object: 413 for a body over MaxFileSize, 411
// for one of unknown length that does not come in chunks, 400 for a name that is
// too long, a missing or malformed content type, bad metadata, or a copy that has
// a body of its own. A chunked body, and the source of a copy, are measured as
// they arrive: see TooLarge.
func (l Limits) CheckCreation(c Creation) error {
	switch {
	case c.Copy && c.Body.Length > 0:
		return errs.Refuse(errs.Invalid, "Copy requests require a zero byte body")
	case c.Body.Length > int64(l.MaxFileSize):
		return l.TooLarge()
	case c.Body.Length < 0 && !c.Body.Chunked && !c.Copy:
		return errs.Refuse(errs.Length, "Missing Content-Length header.")
	}
	if err := l.CheckObject(c.Name); err != nil {
		return err
	}
	if c.ContentType == "" {
		return errs.Refuse(errs.Invalid, "No content type")
	}
	if err := CheckContentType(c.ContentType); err != nil {
		return err
	}
	return l.CheckMetadata(Object, c.Header)
}

// TooLarge is the 413 for an object over MaxFileSize.
func (l Limits) TooLarge() error {
	return errs.Refuse(errs.TooLarge, "Your request is too large: max_file_size is %d bytes.", int64(l.MaxFileSize))
}

// CheckContentType checks a content type that a client sent: 400 where it is not
// UTF-8, or has one of the parameters that are kept for the store's own use.
func CheckContentType(value string) error {
	if !utf8.ValidString(value) || strings.Contains(value, "\x00") {
		return errs.Refuse(errs.Invalid, "Invalid Content-Type")
	}
	_, params, _ := strings.Cut(value, ";")
	for param := range strings.SplitSeq(params, ";") {
		if strings.HasPrefix(strings.TrimLeft(param, " \t"), "swift_") {
			return errs.Refuse(errs.Invalid, "Invalid Content-Type, swift_* is not a valid parameter name.")
		}
	}
	return nil
}

// lastDeleteAt is the largest time that has ten digits: the names in the queue of
// expiring objects sort as text.
const lastDeleteAt = 9_999_999_999

// DeleteAt reads when an object is to be deleted from X-Delete-After, in seconds
// from now, or else X-Delete-At, in seconds since 1970: set says whether there is
// one. A time that is past or not a whole number is 400. Beyond ten digits it is
// cut down to the last time that has ten.
func DeleteAt(h http.Header, now timestamp.T) (at int64, set bool, err error) {
	if values := h["X-Delete-After"]; len(values) > 0 {
		after, ok := integer(values[0])
		if !ok {
			return 0, false, errs.Refuse(errs.Invalid, "Non-integer X-Delete-After")
		}
		// The fraction of now is cut off, so that an object lives a little shorter
		// than asked, not longer; one that is to live for 0 s is refused.
		if at = min(max(after, 0), lastDeleteAt) + now.Seconds(); at <= now.Seconds() {
			return 0, false, errs.Refuse(errs.Invalid, "X-Delete-After in past")
		}
		return min(at, lastDeleteAt), true, nil
	}
	values := h["X-Delete-At"]
	if len(values) == 0 {
		return 0, false, nil
	}
	at, ok := integer(values[0])
	if !ok {
		return 0, false, errs.Refuse(errs.Invalid, "Non-integer X-Delete-At")
	}
	if at <= now.Seconds() {
		return 0, false, errs.Refuse(errs.Invalid, "X-Delete-At in past")
	}
	return min(at, lastDeleteAt), true, nil
}

// integer reads a whole number with an optional sign. One that does not fit is
// held at the end of what does.
func integer(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	sign := int64(1)
	if s != "" && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	if !digits(s) {
		return 0, false
	}
	n, ok := number(s, math.MaxInt64)
	if !ok {
		n = math.MaxInt64
	}
	return sign * n, true
}
