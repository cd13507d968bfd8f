// Package listing is what a listing of an account or a container is made of:
// the parameters that ask for it, the entries that answer, and the forms in
// which entries travel.
//
// Between a cluster's nodes a listing is compact JSON (AppendObject,
// AppendContainer, DecodeObjects, DecodeContainers). What a client gets is
// formatted once, at the edge, as text, JSON or XML (the Write functions), in the
// forms that Swift's clients know. Which rows belong to a page is decided by
// package metadb; nothing here reads a database.
package listing

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"martlet/internal/errs"
)

// Params say which page of a listing is wanted. Names compare by their bytes.
type Params struct {
	Limit     int    // how many entries at most, subdirs included; 0 asks for none
	Marker    string // only names past it, in the order of the listing; "" is from the start
	EndMarker string // only names before it, in the order of the listing; "" is to the end
	Prefix    string // only names that begin with it
	Delimiter string // what follows its first occurrence behind the prefix is rolled up into a subdir
	Reverse   bool   // from the last name to the first

	// Path asks in Swift's oldest way for what lies directly in a pseudo-folder.
	// With HasPath it takes the place of Prefix and Delimiter, also when empty.
	Path    string
	HasPath bool
}

// Parse reads the parameters of a listing from a query as it stands in a URL;
// others are ignored. Of a repeated parameter the last counts. A limit that is
// no number is ignored; one over maximum is of kind errs.Precondition. A value
// that is not UTF-8 is of kind errs.Invalid. A NUL is legal: no client reaches a
// name that begins with one, but some end a marker with it.
func Parse(query string, maximum int) (Params, error) {
	p := Params{Limit: maximum}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if err := p.set(unescape(key), unescape(value), maximum); err != nil {
			return Params{}, err
		}
	}
	return p, nil
}

func (p *Params) set(key, value string, maximum int) error {
	switch key {
	case "limit":
		return p.setLimit(value, maximum)
	case "marker":
		p.Marker = value
	case "end_marker":
		p.EndMarker = value
	case "prefix":
		p.Prefix = value
	case "delimiter":
		p.Delimiter = value
	case "path":
		p.Path, p.HasPath = value, true
	case "reverse":
		p.Reverse = Truth(value)
	case "format":
	default:
		return nil
	}
	if !utf8.ValidString(value) {
		return errs.Refuse(errs.Invalid, "%q parameter not valid UTF-8", key)
	}
	return nil
}

func (p *Params) setLimit(value string, maximum int) error {
	p.Limit = maximum
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n > maximum { // digits that are no int are too many
		return errs.Refuse(errs.Precondition, "Maximum limit is %d", maximum)
	}
	p.Limit = n
	return nil
}

// unescape decodes a part of a query. Broken percent-encoding stays as it is.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(s):
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				b = append(b, c)
				continue
			}
			b, i = append(b, byte(n)), i+2
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// Truth reads a flag as Swift does.
func Truth(s string) bool {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on", "t", "y":
		return true
	}
	return false
}

// Encode returns the query that Parse reads back, the limit always in it.
func (p Params) Encode() string {
	b := strconv.AppendInt([]byte("limit="), int64(p.Limit), 10)
	add := func(key, value string) {
		b = append(append(append(b, '&'), key...), '=')
		b = append(b, url.QueryEscape(value)...)
	}
	for _, f := range []struct{ key, value string }{
		{"marker", p.Marker}, {"end_marker", p.EndMarker}, {"prefix", p.Prefix}, {"delimiter", p.Delimiter},
	} {
		if f.value != "" {
			add(f.key, f.value)
		}
	}
	if p.HasPath {
		add("path", p.Path)
	}
	if p.Reverse {
		add("reverse", "true")
	}
	return string(b)
}

// String returns Encode, for logs and tests.
func (p Params) String() string { return fmt.Sprintf("?%s", p.Encode()) }
