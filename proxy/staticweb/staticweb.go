// Package staticweb serves a container as a web site: an index page for it and for
// what looks like a folder in it, pages that list what is there, pages for errors.
// The rules are Swift's.
//
// The container's owner says what there is, with X-Container-Meta-Web-Index, -Error,
// -Listings, -Listings-CSS, -Listings-Label and -Directory-Type. It is for those who
// send no token, and for others with X-Web-Mode: true; the container's ACLs decide
// what they see. A page that lists is of one page of the container's listing.
package staticweb

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// Config is what an operator may set.
type Config struct {
	Enabled bool   `toml:"enabled"`  // off: what containers say of web sites means nothing
	URLBase string `toml:"url_base"` // scheme and host of redirects, "https://example.com"; "": those of the request
}

// Defaults returns the values of a file that sets nothing.
func Defaults() Config { return Config{Enabled: true} }

// Validate checks the values. An error names the key.
func (c Config) Validate() error {
	if c.URLBase == "" {
		return nil
	}
	if u, err := url.Parse(c.URLBase); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("key %q: value %q: it is not such as https://example.com", "url_base", c.URLBase)
	}
	return nil
}

// The header fields of a container by which its owner makes it a site.
const (
	MetaIndex    = "X-Container-Meta-Web-Index"
	MetaError    = "X-Container-Meta-Web-Error"
	MetaListings = "X-Container-Meta-Web-Listings"
	MetaCSS      = "X-Container-Meta-Web-Listings-Css"
	MetaLabel    = "X-Container-Meta-Web-Listings-Label"
	MetaDirType  = "X-Container-Meta-Web-Directory-Type"
)

// Site is what a container says. Without Index and Listings it is none.
type Site struct {
	Index    string // the name of an index page, in each folder
	Error    string // what the names of error pages end with, behind the status
	Listings string // a flag: whether there are pages that list
	CSS      string // a style sheet of those: a URL, or a name in the container
	Label    string // what they call the container
	DirType  string // the content type of empty objects that stand for folders
}

// Find returns what a container says; what can't be found out says nothing.
type Find func(ctx context.Context, container name.Path) Site

// Shared returns the beginning of the names that a temporary URL opens, and its
// parameters as the query of a link to others of them; both are "" where the request
// came by none, or by one for a single object.
type Shared func(r *chain.Request) (prefix, query string)

// feature is the link.
type feature struct {
	cfg    Config
	find   Find
	shared Shared
	next   chain.Handler
}

// Link returns the feature; nil where it is off. It stands behind what finds out who
// sends a request, and in front of what gives listings a form.
func Link(cfg Config, find Find, shared Shared) chain.Link {
	if !cfg.Enabled {
		return nil
	}
	return func(next chain.Handler) chain.Handler { return &feature{cfg, find, shared, next} }
}

// Serve implements chain.Handler.
func (f *feature) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	asked := r.Header["X-Web-Mode"] != nil && chain.Truth(r.Header["X-Web-Mode"][0])
	if r.Identity != nil && !asked || r.Path.Container == "" || r.Method != http.MethodGet && r.Method != http.MethodHead || r.Client.Method != r.Method {
		return f.next.Serve(ctx, r)
	}
	container := name.Path{Account: r.Path.Account, Container: r.Path.Container}
	site := f.find(ctx, container)
	on := site.Index != "" || site.Listings != ""
	switch {
	case !on && asked && r.Path.Object == "":
		if resp := f.next.Serve(ctx, r.Sub(http.MethodHead, container)); !resp.OK() {
			return resp
		}
		return chain.Text(http.StatusNotFound, "")
	case !on:
		return f.next.Serve(ctx, r)
	}
	v := &visit{feature: f, Site: site, r: *r, container: container, slash: strings.HasSuffix(r.Client.URL.Path, "/")}
	v.r.Header = r.Header.Clone() // the request is another's once it is sent on
	if r.Path.Object != "" {
		return v.object(ctx, r)
	}
	return v.root(ctx)
}

// visit is one request to a site.
type visit struct {
	*feature
	Site
	r         chain.Request // as it came in
	container name.Path
	slash     bool // its path ends with one
}

// at is a path in the container.
func (v *visit) at(object string) name.Path {
	return name.Path{Account: v.container.Account, Container: v.container.Container, Object: object}
}

// sub sends a request for something else in the container.
func (v *visit) sub(ctx context.Context, method string, p name.Path, query string) *chain.Response {
	sub := v.r.Sub(method, p)
	sub.Query = query
	return v.next.Serve(ctx, sub)
}

// served reports whether an answer is what a client asked for, be it that the client has it.
func served(resp *chain.Response) bool { return resp.Status/100 == 2 || resp.Status/100 == 3 }

// index is the index page of a folder, whose name ends with a slash or is that of the
// container itself, as an answer to the client's own request. Where the client is to
// come again with a slash it is only looked for.
func (v *visit) index(ctx context.Context, folder string) *chain.Response {
	p := v.at(folder + v.Index)
	if !v.slash {
		return v.sub(ctx, http.MethodHead, p, "")
	}
	same := v.r
	same.Path, same.Header = p, v.r.Header.Clone()
	return v.next.Serve(ctx, &same)
}

// root answers for the container itself: its index page, for who may read that, and its listing, for
// who may list it. Nobody else learns that it is there.
func (v *visit) root(ctx context.Context) *chain.Response {
	missing := (*chain.Response)(nil)
	if v.Index != "" {
		resp := v.index(ctx, "")
		if served(resp) {
			return v.orSlash(resp)
		}
		missing = resp
	}
	if resp := v.sub(ctx, http.MethodHead, v.container, ""); !resp.OK() {
		if missing != nil {
			missing.Drop()
		}
		return v.failed(ctx, resp)
	}
	switch {
	case !v.slash:
		return v.orSlash(missing)
	case missing != nil && missing.Status != http.StatusNotFound:
		return v.failed(ctx, missing)
	}
	if missing != nil {
		missing.Drop()
	}
	return v.listed(ctx, "")
}

// object answers for an object, or for what would be a folder of that name.
func (v *visit) object(ctx context.Context, r *chain.Request) *chain.Response {
	resp := v.next.Serve(ctx, r)
	if served(resp) && !v.marks(resp) || !served(resp) && resp.Status != http.StatusNotFound {
		return resp
	}
	resp.Drop()
	folder := v.r.Path.Object
	if !v.slash {
		folder += "/"
	}
	if v.Index != "" {
		switch resp := v.index(ctx, folder); {
		case served(resp):
			return v.orSlash(resp)
		case resp.Status != http.StatusNotFound:
			return resp
		default:
			resp.Drop()
		}
	}
	if v.slash {
		return v.listed(ctx, folder)
	}
	rows, resp := v.rows(ctx, "limit=1&delimiter=/&prefix="+url.QueryEscape(folder))
	switch {
	case resp.OK() && len(rows) > 0:
		return v.orSlash(resp)
	case resp.Status >= http.StatusInternalServerError:
		return resp
	}
	resp.Drop()
	return v.failed(ctx, chain.Text(http.StatusNotFound, ""))
}

// marks reports whether what was found only stands for a folder.
func (v *visit) marks(resp *chain.Response) bool {
	dirType := v.DirType
	if dirType == "" {
		dirType = "application/directory"
	}
	return resp.Length <= 1 && resp.Get("Content-Type") == dirType
}

// rows fetches a part of the container's listing. The response has no body left.
func (v *visit) rows(ctx context.Context, query string) ([]listing.Object, *chain.Response) {
	resp := v.sub(ctx, http.MethodGet, v.container, query+"&format=json")
	if !resp.OK() {
		return nil, resp
	}
	body, err := resp.ReadAll(maxListing)
	if err != nil {
		return nil, chain.Fail(ctx, err)
	}
	resp.Drop()
	if len(body) == 0 {
		return nil, resp
	}
	rows, err := listing.DecodeObjects(body)
	if err != nil {
		return nil, chain.Fail(ctx, err)
	}
	return rows, resp
}

// maxListing is how many bytes of a listing are read: more than any can have.
const maxListing = 64 << 20

// orSlash is an answer, or where the client's path ends with no slash, so that links
// in a page would lead nowhere, the word that it should.
func (v *visit) orSlash(resp *chain.Response) *chain.Response {
	if v.slash {
		return resp
	}
	if resp != nil {
		resp.Drop()
	}
	to := chain.Empty(http.StatusMovedPermanently)
	to.Header["Location"] = []string{v.location()}
	return to
}

// location is the client's URL with a slash at its end, and no query. It is the path that the client
// sent, not one that a host name stands for. With a host in front of it, it can't lead to another one.
func (v *visit) location() string {
	c := v.r.Client
	path, _, _ := strings.Cut(c.RequestURI, "?")
	if path, ok := strings.CutPrefix(path, "/"); ok {
		if plain, err := name.Unquote(path); err == nil {
			return v.base() + "/" + name.Quote(plain+"/")
		}
	}
	return v.base() + name.Quote(c.URL.Path+"/")
}

// base is the scheme and host that clients know the cluster by; "" where they say none.
func (v *visit) base() string {
	scheme, host := "http", v.r.Client.Host
	if v.r.Client.TLS != nil {
		scheme = "https"
	}
	if u, err := url.Parse(v.cfg.URLBase); err == nil && u.Host != "" {
		scheme, host = u.Scheme, u.Host
	}
	if host == "" {
		return ""
	}
	return scheme + "://" + host
}

// failed is a failure with the page that the container has for it, if the client may read that.
func (v *visit) failed(ctx context.Context, resp *chain.Response) *chain.Response {
	if v.Error == "" {
		return resp
	}
	page := v.sub(ctx, http.MethodGet, v.at(strconv.Itoa(resp.Status)+v.Error), "")
	if !page.OK() {
		page.Close()
		return resp
	}
	resp.Close()
	page.Status, page.Err = resp.Status, resp.Err
	if asks := resp.Header["Www-Authenticate"]; asks != nil {
		page.Header["Www-Authenticate"] = asks
	}
	return page
}
