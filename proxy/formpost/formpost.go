// Package formpost takes files from forms in web pages: a form of the owner's, with a
// signature in it, is sent to a container by a browser that has no token. The form,
// its fields and what is signed are Swift's.
//
// The signature is an HMAC over the path, the redirect, the limits of size and number,
// and the time until which the form is good, made with a key of temporary URLs. It
// opens those objects whose names begin with the path, and these only to be written.
//
// Files are stored as they come in, one after the other, with a few KiB in memory. Each
// is as durable as any object that is PUT, before the next is read. The answer is that of
// the last one that was stored, or of the first that was not: nothing after it is.
package formpost

import (
	"context"
	"fmt"
	"html"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"martlet/internal/name"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
	"martlet/proxy/signature"
)

// Config is what an operator may set.
type Config struct {
	Enabled bool              `toml:"enabled"`         // off: such a form is a POST like any other
	Digests signature.Digests `toml:"allowed_digests"` // of "sha1", "sha256", "sha512"
}

// Defaults returns Swift's.
func Defaults() Config { return Config{Enabled: true, Digests: signature.Defaults()} }

// Validate checks the values. An error names the key.
func (c Config) Validate() error { return c.Digests.Validate("allowed_digests") }

// Section is what /info says.
func (c Config) Section() map[string]any { return map[string]any{"allowed_digests": c.Digests} }

// Link returns the feature; nil where it is off. It stands in front of what finds out
// who sends a request.
func Link(cfg Config, keys signature.Keys, now func() time.Time) chain.Link {
	if !cfg.Enabled {
		return nil
	}
	return func(next chain.Handler) chain.Handler {
		return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
			if r.Method != http.MethodPost || r.Path.Account == "" {
				return next.Serve(ctx, r)
			}
			boundary, ok := boundaryOf(r.Header.Get("Content-Type"))
			if !ok {
				return next.Serve(ctx, r)
			}
			if len(boundary) > maxBound {
				return text(http.StatusBadRequest, "FormPost: the boundary is longer than "+strconv.Itoa(maxBound)+" bytes")
			}
			f := &form{cfg: cfg, keys: keys, now: now, next: next, r: r, fields: map[string]string{}, parts: newParts(r.Body, boundary)}
			return f.serve(ctx)
		})
	}
}

// boundaryOf returns what stands between the parts of a form; false is no form.
func boundaryOf(contentType string) (boundary string, ok bool) {
	const of = "multipart/form-data"
	if len(contentType) < len(of) || !strings.EqualFold(contentType[:len(of)], of) {
		return "", false
	}
	kind, params, err := mime.ParseMediaType(contentType)
	return params["boundary"], err == nil && kind == of && params["boundary"] != ""
}

// form is one that is read.
type form struct {
	cfg    Config
	keys   signature.Keys
	now    func() time.Time
	next   chain.Handler
	r      *chain.Request
	parts  *parts
	fields map[string]string // by their names in lower case: those in known
	files  int               // that have come
	good   string            // the text whose signature was found good; "": none yet
	to     string            // the redirect in it
}

// known are the fields that mean something.
var known = map[string]bool{
	"redirect": true, "max_file_size": true, "max_file_count": true, "expires": true, "signature": true,
	"x_delete_at": true, "x_delete_after": true, "content-type": true, "content-encoding": true,
}

// What is said to a client, as Swift says it.
const (
	tooLarge = "max_file_size exceeded"
	tooMany  = "max file count exceeded"
	noFiles  = "no files to process"
)

// serve reads the form to its end, or to the first thing that is wrong.
func (f *form) serve(ctx context.Context) *chain.Response {
	var last *chain.Response
	for {
		p, err := f.parts.next()
		if err != nil {
			return f.broken(ctx, err)
		}
		if p == nil {
			break
		}
		if p.file == "" {
			if err := f.field(p); err != nil {
				return f.broken(ctx, err)
			}
			continue
		}
		if last != nil {
			last.Drop() // it was good
		}
		if refused := f.check(ctx); refused != nil {
			return refused
		}
		if f.files++; int64(f.files) > f.number("max_file_count") {
			return f.done(http.StatusBadRequest, tooMany, nil)
		}
		last = f.store(ctx, p)
		if p.err != nil {
			last.Drop()
			return f.broken(ctx, p.err)
		}
		if !last.OK() {
			return f.done(last.Status, "", last)
		}
	}
	if last == nil {
		if refused := f.check(ctx); refused != nil {
			return text(http.StatusBadRequest, "FormPost: "+noFiles) // nothing says that it may redirect
		}
		return f.done(http.StatusBadRequest, noFiles, nil)
	}
	return f.done(last.Status, "", last)
}

// field reads a field of the form. What is not known is not kept.
func (f *form) field(p *part) error {
	n := strings.ToLower(p.name)
	if !known[n] {
		return nil // the next part skips it
	}
	value, err := p.text()
	if err != nil {
		return err
	}
	f.fields[n] = value
	return nil
}

// number is a field that is a number, 0 where it is not there or, which check has
// refused, none.
func (f *form) number(field string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(f.fields[field]), 10, 64)
	return n
}

// check refuses a form that is not signed, not good any more, or says nonsense. It is asked
// before each file, since fields may come between them.
func (f *form) check(ctx context.Context) *chain.Response {
	for _, n := range []string{"max_file_count", "max_file_size", "x_delete_at", "x_delete_after", "expires"} {
		value := strings.TrimSpace(f.fields[n])
		if _, err := strconv.ParseInt(value, 10, 64); err != nil && value != "" {
			return text(http.StatusBadRequest, "FormPost: "+n+" not an integer")
		}
	}
	if f.number("expires") < f.now().Unix() {
		return f.unauthorized("Form Expired")
	}
	signed := strings.Join([]string{
		f.r.Client.URL.Path, f.fields["redirect"], or0(f.fields["max_file_size"]), or0(f.fields["max_file_count"]), or0(f.fields["expires"]),
	}, "\n")
	if f.good == signed {
		return nil
	}
	sig, ok := f.cfg.Digests.Parse(f.fields["signature"])
	if !ok || f.r.Path.Container == "" {
		return f.unauthorized("Invalid Signature")
	}
	grant, err := sig.Opens(ctx, f.keys, f.r.Path, signed)
	switch {
	case err != nil:
		return chain.Fail(ctx, err)
	case grant == nil:
		return f.unauthorized("Invalid Signature")
	}
	f.good, f.to = signed, f.fields["redirect"]
	return nil
}

// or0 is what is signed of a number that the form does not have.
func or0(value string) string {
	if value == "" {
		return "0"
	}
	return value
}

// store puts a file. What the signature allows is this one write.
func (f *form) store(ctx context.Context, p *part) *chain.Response {
	to := name.Path{Account: f.r.Path.Account, Container: f.r.Path.Container, Object: f.r.Path.Object + p.file}
	put := f.r.Sub(http.MethodPut, to)
	put.Identity, put.Grant = nil, func(method string, of name.Path) bool { return method == http.MethodPut && of == to }
	put.Body = p.limit(f.number("max_file_size"))
	delete(put.Header, chain.OpenExpired)
	for _, h := range []struct{ name, field, part string }{
		{"Content-Type", "content-type", p.contentType}, {"Content-Encoding", "content-encoding", p.contentEncoding},
	} {
		value, said := f.fields[h.field]
		if !said {
			value = h.part
		}
		if value == "" && said && h.name == "Content-Type" {
			value = "application/octet-stream"
		}
		if value != "" {
			put.Header[h.name] = []string{value}
		}
	}
	for field, n := range map[string]string{"x_delete_at": "X-Delete-At", "x_delete_after": "X-Delete-After"} {
		if value := strings.TrimSpace(f.fields[field]); value != "" {
			put.Header[n] = []string{value}
		}
	}
	return f.next.Serve(ctx, put)
}

// broken is the answer to a form that can't be read on.
func (f *form) broken(ctx context.Context, err error) *chain.Response {
	resp := chain.Fail(ctx, err)
	if resp.Status == http.StatusBadRequest {
		said, _ := resp.ReadAll(1 << 10) // it is a text in memory
		return text(http.StatusBadRequest, "FormPost: "+html.UnescapeString(string(said)))
	}
	return resp
}

func (f *form) unauthorized(why string) *chain.Response {
	resp := text(http.StatusUnauthorized, "FormPost: "+why)
	resp.Header["Www-Authenticate"] = []string{auth.Challenge(f.r.Path.Account)}
	return resp
}

// done is the answer to a form whose signature is good: what came of it, or a redirect that says so. last, if
// there is one, is what the last file was answered with. A redirect that came behind the files is none: nobody
// has signed it.
func (f *form) done(status int, message string, last *chain.Response) *chain.Response {
	redirect := f.to
	if redirect == "" && status >= http.StatusBadRequest && last != nil {
		return last
	}
	if last != nil {
		last.Drop()
	}
	if redirect == "" {
		said := fmt.Sprintf("%d %s", status, http.StatusText(status))
		if message != "" {
			said += "\r\nFormPost: " + message
		}
		return text(status, said)
	}
	to := outcome(redirect, status, message)
	resp := chain.Plain(http.StatusSeeOther, chain.PageType, `<html><body><p><a href="`+html.EscapeString(to)+`">Go on</a></p></body></html>`)
	resp.Header["Location"] = []string{to}
	return resp
}

// outcome adds to a URL what came of a form.
func outcome(redirect string, status int, message string) string {
	before, fragment, more := strings.Cut(redirect, "#")
	sign := "?"
	if strings.Contains(before, "?") {
		sign = "&"
	}
	to := before + sign + "status=" + strconv.Itoa(status) + "&message=" + strings.ReplaceAll(url.QueryEscape(message), "+", "%20")
	if more {
		to += "#" + fragment
	}
	return to
}

// text is an answer that is a short text.
func text(status int, said string) *chain.Response { return chain.Plain(status, "text/plain", said) }
