// Package conditional evaluates the preconditions and ranges of a GET or HEAD,
// as RFC 9110 (sections 13 and 14) says and Swift bounds them.
//
// It promises time linear in the length of the fields. It leaves to its caller
// what the validators of the representation are and how an answer is sent.
package conditional

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Request is the fields of a request that matter here, as they were sent, "" for
// those that were not.
type Request struct {
	IfMatch, IfNoneMatch               string
	IfModifiedSince, IfUnmodifiedSince string
	IfRange, Range                     string
}

// From reads the fields with what returns those of a header by their names.
func From(get func(name string) string) Request {
	return Request{
		IfMatch:           get("If-Match"),
		IfNoneMatch:       get("If-None-Match"),
		IfModifiedSince:   get("If-Modified-Since"),
		IfUnmodifiedSince: get("If-Unmodified-Since"),
		IfRange:           get("If-Range"),
		Range:             get("Range"),
	}
}

// Validators are those of what would be sent.
type Validators struct {
	ETag     string    // without quotes; "" is none, which only * matches
	Modified time.Time // in whole seconds, as Last-Modified says
}

// Verdict is what comes of the preconditions.
type Verdict uint8

// The verdicts.
const (
	Proceed     Verdict = iota // all hold, or there are none
	NotModified                // 304: the client has it already
	Failed                     // 412
)

// Check evaluates the preconditions in the order of RFC 9110, but for one thing:
// as in Swift, If-Unmodified-Since counts beside If-Match. A date that can't be
// read is as if it were not there.
func (r *Request) Check(v Validators) Verdict {
	if r.IfMatch != "" && !listed(r.IfMatch, v.ETag, false) {
		return Failed
	}
	if t, ok := date(r.IfUnmodifiedSince); ok && v.Modified.After(t) {
		return Failed
	}
	if r.IfNoneMatch != "" {
		if listed(r.IfNoneMatch, v.ETag, true) {
			return NotModified
		}
	} else if t, ok := date(r.IfModifiedSince); ok && !v.Modified.After(t) {
		return NotModified
	}
	return Proceed
}

func date(s string) (time.Time, bool) {
	if s == "" {
		return time.Time{}, false
	}
	t, err := http.ParseTime(s)
	return t, err == nil
}

// listed reports whether a list of entity tags names the given one. Tags may
// come without quotes, as Swift's clients send them. A weak tag matches only
// where weak is set.
func listed(list, etag string, weak bool) bool {
	for list != "" {
		var tag string
		tag, list = cutTag(list)
		if tag == "*" {
			return true
		}
		if rest, isWeak := strings.CutPrefix(tag, "W/"); isWeak {
			if !weak {
				continue
			}
			tag = rest
		}
		if etag != "" && unquote(tag) == etag {
			return true
		}
	}
	return false
}

// cutTag takes the first entry off a list. A comma within quotes is no border.
func cutTag(list string) (tag, rest string) {
	quoted := false
	for i := range len(list) {
		switch {
		case list[i] == '"':
			quoted = !quoted
		case list[i] == ',' && !quoted:
			return strings.TrimSpace(list[:i]), list[i+1:]
		}
	}
	return strings.TrimSpace(list), ""
}

func unquote(tag string) string {
	if len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		return tag[1 : len(tag)-1]
	}
	return tag
}

// Span is a range of bytes that exist: N of them, from Off on.
type Span struct{ Off, N int64 }

// Extent is how much of a representation is asked for.
type Extent uint8

// The extents.
const (
	Whole         Extent = iota // 200
	Partial                     // 206
	Unsatisfiable               // 416
)

// The bounds on one request's ranges, Swift's. Ranges can't be made to cost more
// than the object is worth.
const (
	MaxRanges       = 50
	MaxOverlaps     = 2
	MaxNotAscending = 8
)

// Spans returns what Range asks for of length bytes, in the order asked: at
// least one span where the extent is Partial, none otherwise. A field that is no
// range of bytes, or whose If-Range does not match, asks for the whole.
func (r *Request) Spans(v Validators, length int64) ([]Span, Extent) {
	if r.Range == "" || !r.ifRange(v) {
		return nil, Whole
	}
	unit, list, ok := strings.Cut(r.Range, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return nil, Whole
	}
	var spans []Span
	count := 0
	for more := true; more; {
		var part string
		part, list, more = strings.Cut(list, ",")
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		s, ok := parseSpan(part, length)
		if !ok {
			return nil, Whole
		}
		if count++; count > MaxRanges {
			return nil, Unsatisfiable
		}
		if s.N > 0 {
			spans = append(spans, s)
		}
	}
	switch {
	case count == 0:
		return nil, Whole
	case len(spans) == 0 || excessive(spans):
		return nil, Unsatisfiable
	}
	return spans, Partial
}

// ifRange reports whether the Range is to be honoured.
func (r *Request) ifRange(v Validators) bool {
	if r.IfRange == "" {
		return true
	}
	if t, ok := date(r.IfRange); ok {
		return v.Modified.Equal(t)
	}
	return v.ETag != "" && unquote(strings.TrimSpace(r.IfRange)) == v.ETag // a weak tag never is
}

// parseSpan reads "first-last", "first-" or "-count". One beyond the end is a
// Span without bytes. Anything else is not ok.
func parseSpan(s string, length int64) (Span, bool) {
	from, to, ok := strings.Cut(s, "-")
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	if !ok || from == "" && to == "" {
		return Span{}, false
	}
	if from == "" {
		n, ok := number(to)
		n = min(n, length)
		return Span{length - n, n}, ok
	}
	first, ok := number(from)
	last := length - 1
	if ok && to != "" {
		var n int64
		n, ok = number(to)
		ok = ok && n >= first
		last = min(n, last)
	}
	return Span{first, max(0, last-first+1)}, ok
}

// number reads decimal digits. What is larger than any object is the largest
// number.
func number(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil && s != "" {
		return 1<<63 - 1, true
	}
	return n, err == nil
}

// excessive reports whether ranges overlap or jump about more than an honest
// client's do.
func excessive(spans []Span) bool {
	overlaps, ascending := 0, true
	for i, a := range spans {
		if i > 0 && a.Off < spans[i-1].Off {
			ascending = false
		}
		for _, b := range spans[:i] {
			if a.Off < b.Off+b.N && b.Off < a.Off+a.N {
				overlaps++
			}
		}
	}
	return overlaps > MaxOverlaps || !ascending && len(spans) > MaxNotAscending
}
