// Package listings gives the listings of accounts and containers the form that a
// client wants: text, JSON or XML.
//
// It is the one place that does. Further in a listing is rows (chain.Rows), which
// other features read and change.
package listings

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// form is how a listing is written for a client.
type form uint8

const (
	formText form = iota
	formJSON
	formXML        // application/xml
	formTextXML    // the same, as text/xml
	charsetSuffix  = "; charset=utf-8"
	acceptTooLarge = 8 << 10 // bytes of Accept that are looked at
)

// types are the content types of the forms, in the order in which they are
// preferred where the client likes several as much.
var types = [...]string{formText: "text/plain", formJSON: "application/json", formXML: "application/xml", formTextXML: "text/xml"}

func (f form) contentType() string { return types[f] + charsetSuffix }

// Accepted returns which of the types that reports and listings can have a
// client wants, by its Accept header: text/plain where it says nothing or nothing
// that can be read. None that it accepts is false.
func Accepted(h http.Header) (contentType string, ok bool) {
	f, err := accepted(h)
	switch {
	case err == nil:
		return types[f], true
	case errs.Is(err, errs.NotAcceptable):
		return "", false
	}
	return types[formText], true
}

// Accepts reports whether a client whose Accept header is that takes a content type.
func Accepts(accept, contentType string) bool {
	return len(accept) <= acceptTooLarge && quality(accept, contentType) > 0
}

// formOf finds the form that a client wants: by the format parameter where it
// names one, else by its Accept header. None that it accepts is of kind
// errs.NotAcceptable.
func formOf(r *chain.Request) (form, error) {
	format, _ := r.Param("format")
	switch strings.ToLower(format) {
	case "json":
		return formJSON, nil
	case "xml":
		return formXML, nil
	case "plain":
		return formText, nil
	}
	return accepted(r.Header)
}

func accepted(h http.Header) (form, error) {
	accept := strings.Join(h["Accept"], ",")
	if strings.TrimSpace(accept) == "" {
		return formText, nil
	}
	if len(accept) > acceptTooLarge {
		return 0, errs.Refuse(errs.Invalid, "Accept header is longer than %d bytes", acceptTooLarge)
	}
	best, found := -1.0, formText
	for f := range types {
		if q := quality(accept, types[f]); q > best && q > 0 {
			best, found = q, form(f)
		}
	}
	if best <= 0 {
		return 0, errs.E(errs.NotAcceptable)
	}
	return found, nil
}

// quality returns how much an Accept header likes a type: the q of the most
// exact range that covers it, -1 where none does. Linear in the header's length.
func quality(accept, typ string) float64 {
	q, exactness := -1.0, -1
	major, _, _ := strings.Cut(typ, "/")
	for item := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(item, ";")
		exact := -1
		switch strings.ToLower(strings.TrimSpace(name)) {
		case typ:
			exact = 2
		case major + "/*":
			exact = 1
		case "*/*":
			exact = 0
		}
		if exact > exactness {
			q, exactness = qOf(params), exact
		}
	}
	return q
}

func qOf(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
			q, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil || q < 0 || q > 1 {
				return 0
			}
			return q
		}
	}
	return 1
}

// Link is the feature. A listing in no form that the client accepts is refused
// before anyone looks for it.
func Link(next chain.Handler) chain.Handler {
	return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
		p, head := r.Path, r.Method == http.MethodHead
		if p.Account == "" || p.Object != "" || r.Method != http.MethodGet && !head {
			return next.Serve(ctx, r)
		}
		f, err := formOf(r)
		if err != nil {
			return chain.Fail(ctx, err)
		}
		resp := next.Serve(ctx, r)
		if !resp.OK() {
			return resp
		}
		if resp.Rows != nil && resp.Rows.OnlyJSON {
			f = formJSON
		}
		resp.Header["Content-Type"] = []string{f.contentType()}
		if _, said := r.Param("format"); !said {
			resp.Header["Vary"] = []string{"Accept"}
		}
		if rows := resp.Rows; rows != nil {
			resp.Rows = nil
			return write(ctx, resp, p, f, rows)
		}
		return resp
	})
}

// write makes a listing the body of its answer. A plain one that is empty is a
// 204.
func write(ctx context.Context, resp *chain.Response, p name.Path, f form, rows *chain.Rows) *chain.Response {
	var out bytes.Buffer
	if err := format(&out, p, f, rows); err != nil {
		return chain.Fail(ctx, err)
	}
	if out.Len() == 0 {
		resp.Status = http.StatusNoContent
		return resp
	}
	resp.SetText(out.String())
	return resp
}

func format(out *bytes.Buffer, p name.Path, f form, rows *chain.Rows) error {
	if p.Container == "" {
		switch f {
		case formText:
			return listing.WriteContainersText(out, rows.Containers)
		case formJSON:
			return listing.WriteContainersJSON(out, rows.Containers)
		}
		return listing.WriteContainersXML(out, p.Account, rows.Containers)
	}
	switch f {
	case formText:
		return listing.WriteObjectsText(out, rows.Objects)
	case formJSON:
		return listing.WriteObjectsJSON(out, rows.Objects)
	}
	return listing.WriteObjectsXML(out, p.Container, rows.Objects)
}
