package limits

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"martlet/internal/errs"
)

// Target is what metadata is about. Its text is what begins the names of the
// header fields.
type Target string

// The targets of metadata.
const (
	Account   Target = "X-Account-Meta-"
	Container Target = "X-Container-Meta-"
	Object    Target = "X-Object-Meta-"
)

// CheckMetadata checks a request's header: no value of any field over
// MaxHeaderSize, and the target's metadata by name, value, count and overall size.
// Every failure is 400. Several fields of one name count as one whose value is
// all of theirs with commas between, which is how they are stored. An empty value
// counts, too: it is the removal of a name.
func (l Limits) CheckMetadata(t Target, h http.Header) error {
	prefix := string(t)
	count, size := 0, 0
	for key, values := range h {
		length := joined(values)
		if length > l.MaxHeaderSize {
			return errs.Refuse(errs.Invalid, "Header value too long: %.*s; max_header_size is %d", l.MaxMetaNameLength, key, l.MaxHeaderSize)
		}
		if len(key) < len(prefix) || !strings.EqualFold(key[:len(prefix)], prefix) {
			continue
		}
		name := key[len(prefix):]
		if name == "" {
			return errs.Refuse(errs.Invalid, "Metadata name cannot be empty")
		}
		if t != Object && !(text(name) && allText(values)) {
			return errs.Refuse(errs.Invalid, "Metadata must be valid UTF-8")
		}
		if err := l.checkItem(prefix, name, length); err != nil {
			return err
		}
		count++
		size += len(name) + length
	}
	if count > l.MaxMetaCount {
		return errs.Refuse(errs.Invalid, "Too many metadata items; max %d", l.MaxMetaCount)
	}
	if size > l.MaxMetaOverallSize {
		return errs.Refuse(errs.Invalid, "Total metadata too large; max %d", l.MaxMetaOverallSize)
	}
	return nil
}

func (l Limits) checkItem(prefix, name string, length int) error {
	if len(name) > l.MaxMetaNameLength {
		return errs.Refuse(errs.Invalid, "Metadata name too long: %s%.*s; max_meta_name_length is %d",
			prefix, l.MaxMetaNameLength, name, l.MaxMetaNameLength)
	}
	if length > l.MaxMetaValueLength {
		return errs.Refuse(errs.Invalid, "Metadata value longer than %d: %s%s", l.MaxMetaValueLength, prefix, name)
	}
	return nil
}

// joined returns the length of the values with commas between.
func joined(values []string) int {
	n := max(len(values)-1, 0)
	for _, v := range values {
		n += len(v)
	}
	return n
}

func allText(values []string) bool {
	for _, v := range values {
		if !text(v) {
			return false
		}
	}
	return true
}

// text reports whether a string is UTF-8 without NUL.
func text(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }
