// Package tempurl is temporary URLs: whoever has one may do one thing with one
// object, or with those whose names begin alike, for a time, without being known.
//
// The URL carries an HMAC over the method, the expiry, the path and, where it is
// limited to them, the addresses, made with a key that the owner set as metadata of
// the account or the container. It opens no more than that account, or that
// container. What is uploaded can't point at other data or be a copy of it, and
// what is downloaded shows no metadata but X-Object-Meta-Public-.
//
// The text that is signed, the parameters and the answers are Swift's.
package tempurl

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/internal/name"
	"martlet/proxy/chain"
	"martlet/proxy/signature"
)

// Config is what an operator may set.
type Config struct {
	Methods []string          `toml:"methods"`
	Digests signature.Digests `toml:"allowed_digests"` // of "sha1", "sha256", "sha512"
}

// Defaults returns Swift's.
func Defaults() Config {
	return Config{Methods: []string{"GET", "HEAD", "PUT", "POST", "DELETE"}, Digests: signature.Defaults()}
}

// Validate checks the values. An error names the key.
func (c Config) Validate() error { return c.Digests.Validate("allowed_digests") }

// Section is what /info says.
func (c Config) Section() map[string]any {
	return map[string]any{
		"methods": c.Methods, "allowed_digests": c.Digests,
		"incoming_remove_headers": []string{"x-timestamp", "x-open-expired"}, "incoming_allow_headers": []string{},
		"outgoing_remove_headers": []string{"x-object-meta-*"}, "outgoing_allow_headers": []string{"x-object-meta-public-*"},
	}
}

// Link returns the feature. It stands in front of what finds out who sends a
// request.
func Link(cfg Config, keys signature.Keys, now func() time.Time) chain.Link {
	return func(next chain.Handler) chain.Handler {
		return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
			if r.Query == "" || r.Path.Account == "" || r.Method == http.MethodOptions {
				return next.Serve(ctx, r)
			}
			u, ok := parse(r)
			if !ok {
				return next.Serve(ctx, r)
			}
			return serve(ctx, cfg, keys, now(), next, r, u)
		})
	}
}

// url is what a temporary URL says.
type url struct {
	sig, expires string
	prefix       *string
	filename     string
	inline       bool
	addresses    string
}

// parse reads the parameters. It is false where the URL is no temporary one.
func parse(r *chain.Request) (u url, ok bool) {
	var signed, limited bool
	u.sig, signed = r.Param("temp_url_sig")
	u.expires, limited = r.Param("temp_url_expires")
	if !signed && !limited {
		return u, false
	}
	if p, ok := r.Param("temp_url_prefix"); ok {
		u.prefix = &p
	}
	u.filename, _ = r.Param("filename")
	_, u.inline = r.Param("inline")
	u.addresses, _ = r.Param("temp_url_ip_range")
	return u, true
}

func serve(ctx context.Context, cfg Config, keys signature.Keys, now time.Time, next chain.Handler, r *chain.Request, u url) *chain.Response {
	at, ok := expiry(u.expires)
	if r.Method == "COPY" { // the text that is signed says nothing of where to
		return invalid(r)
	}
	if !ok || at < now.Unix() || !about(r, u) || !slices.Contains(cfg.Methods, r.Method) || u.addresses != "" && !from(r, u.addresses) {
		return invalid(r)
	}
	sig, ok := cfg.Digests.Parse(u.sig)
	if !ok {
		return invalid(r)
	}
	texts, ok := signedTexts(r, u, at)
	if !ok {
		return invalid(r)
	}
	grant, err := sig.Opens(ctx, keys, r.Path, texts...)
	switch {
	case err != nil:
		return chain.Fail(ctx, err)
	case grant == nil:
		return invalid(r)
	}
	for _, n := range []string{"X-Object-Manifest", "X-Symlink-Target", "X-Copy-From"} { // to data that the key's owner did not mean
		if r.Header[n] != nil && (r.Method == http.MethodPut || r.Method == http.MethodPost) {
			return chain.Text(http.StatusBadRequest, "The header "+n+" is not allowed in this tempurl")
		}
	}
	delete(r.Header, chain.OpenExpired)
	r.Query, r.Grant, r.Identity = "", grant, nil // other parameters are not signed
	p, method := r.Path, r.Method                 // before r is another's
	resp := next.Serve(ctx, r)
	page := resp.Get(chain.Generator) == chain.GeneratorStaticWeb
	if p.Object == "" && resp.OK() && !page { // it is no site
		resp.Close()
		return invalid(r)
	}
	u.inline = u.inline || page
	show(resp, method, p, u, at)
	return resp
}

// about reports whether a URL is about something that one may be about: an object,
// or, where it is for all of them, the page that a web site has of its container.
func about(r *chain.Request, u url) bool {
	site := r.Path.Container != "" && u.prefix != nil && *u.prefix == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	return r.Path.Object != "" || site
}

// Shared returns the beginning of the names that the temporary URL of a request opens,
// and the query of a link to another of them. Both are "" where the request came by no
// such URL, or by one for a single object.
func Shared(r *chain.Request) (prefix, query string) {
	if r.Grant == nil {
		return "", ""
	}
	u, ok := parse(&chain.Request{Query: r.Client.URL.RawQuery})
	if !ok || u.prefix == nil {
		return "", ""
	}
	query = "temp_url_prefix=" + name.Quote(*u.prefix) + "&temp_url_expires=" + name.Quote(u.expires) + "&temp_url_sig=" + name.Quote(u.sig)
	if u.addresses != "" {
		query += "&temp_url_ip_range=" + name.Quote(u.addresses)
	}
	if u.inline {
		query += "&inline"
	}
	return *u.prefix, query
}

// expiry reads when a URL ends, in seconds since 1970: a number, or a time in
// ISO 8601.
func expiry(text string) (int64, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, n > 0
	}
	for _, form := range []string{"2006-01-02T15:04:05Z", "2006-01-02T15:04:05-0700", "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(form, text); err == nil {
			return t.Unix(), t.Unix() > 0
		}
	}
	return 0, false
}

// from reports whether a request comes from one of the addresses: one, or a
// network of them.
func from(r *chain.Request, addresses string) bool {
	host, _, err := net.SplitHostPort(r.Client.RemoteAddr)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if one, err := netip.ParseAddr(addresses); err == nil {
		return one == addr.Unmap()
	}
	network, err := netip.ParsePrefix(addresses)
	return err == nil && network == network.Masked() && network.Contains(addr.Unmap())
}

// signedTexts returns the texts whose signature allows a request: a HEAD goes with
// that of what it tells of as well. It is false where the path has not the prefix.
func signedTexts(r *chain.Request, u url, at int64) ([]string, bool) {
	p := r.Path
	path := "/v1/" + p.Account + "/" + p.Container + "/" + p.Object
	if u.prefix != nil {
		if !strings.HasPrefix(p.Object, *u.prefix) {
			return nil, false
		}
		path = "prefix:/v1/" + p.Account + "/" + p.Container + "/" + *u.prefix
	}
	methods := []string{r.Method}
	if r.Method == http.MethodHead {
		methods = []string{"HEAD", "GET", "POST", "PUT"}
	}
	texts := make([]string, len(methods))
	for i, m := range methods {
		texts[i] = m + "\n" + strconv.FormatInt(at, 10) + "\n" + path
		if u.addresses != "" {
			texts[i] = "ip=" + u.addresses + "\n" + texts[i]
		}
	}
	return texts, true
}

// invalid is the answer to a URL that opens nothing; why is nothing that its
// sender should learn.
func invalid(*chain.Request) *chain.Response {
	resp := chain.Plain(http.StatusUnauthorized, "text/plain", "401 Unauthorized: Temp URL invalid\n")
	resp.Header["Www-Authenticate"] = []string{`Swift realm="unknown"`}
	return resp
}

// show takes from an answer what only the account's own see, and says how it is
// to be kept.
func show(resp *chain.Response, method string, p name.Path, u url, at int64) {
	for n := range resp.Header {
		if strings.HasPrefix(n, "X-Object-Meta-") && !strings.HasPrefix(n, "X-Object-Meta-Public-") {
			delete(resp.Header, n)
		}
	}
	if method != http.MethodGet && method != http.MethodHead || !resp.OK() {
		return
	}
	resp.Header["Content-Disposition"] = []string{strings.ReplaceAll(disposition(resp, p.Object, u), "\n", "%0A")}
	resp.Header["Expires"] = []string{time.Unix(at, 0).UTC().Format(http.TimeFormat)}
}

// disposition is what a browser is to do with an object: what the URL says, else
// what the object says, else keep it under its name.
func disposition(resp *chain.Response, object string, u url) string {
	switch {
	case u.inline && u.filename == "":
		return "inline"
	case u.inline:
		return named("inline", u.filename)
	case u.filename != "":
		return named("attachment", u.filename)
	case resp.Get("Content-Disposition") != "":
		return resp.Get("Content-Disposition")
	}
	object = strings.TrimRight(object, "/")
	return named("attachment", object[strings.LastIndexByte(object, '/')+1:])
}

// named adds a file's name in the forms of RFC 6266 and RFC 5987.
func named(kind, file string) string {
	quoted := name.Quote(file)
	return kind + `; filename="` + strings.ReplaceAll(quoted, "%20", " ") + `"; filename*=UTF-8''` + quoted
}
