package symlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// The headers of large objects that a static link to one has in its own row.
const (
	sloETag = "X-Object-Sysmeta-Slo-Etag"
	sloSize = "X-Object-Sysmeta-Slo-Size"
	listed  = "X-Object-Sysmeta-Container-Update-Override-Etag"

	nothing = "d41d8cd98f00b204e9800998ecf8427e" // the MD5 of no bytes
)

// put keeps a link. What is wrong with it is said before anything is kept.
func (f *feature) put(ctx context.Context, r *chain.Request) *chain.Response {
	if full, err := hasBody(r); err != nil {
		return chain.Fail(ctx, err)
	} else if full {
		return refuse(http.StatusBadRequest, "Symlink requests require a zero byte body", "")
	}
	to, no := target(r)
	if no != nil {
		return no
	}
	row := nothing
	etag := unquoted(r.Header.Get(hdrETag))
	switch {
	case strings.ContainsAny(etag, `;"\`):
		return refuse(http.StatusBadRequest, "Bad "+hdrETag+" format", "")
	case etag != "" && r.Header[chain.Replayed] != nil: // its target may still be on its way
		size, err := strconv.ParseUint(r.Header.Get(hdrBytes), 10, 63)
		if err != nil {
			return refuse(http.StatusBadRequest, "Bad "+hdrBytes+" format", "")
		}
		r.Header[keptETag], r.Header[keptBytes] = []string{etag}, []string{strconv.FormatUint(size, 10)}
	case etag != "":
		head := f.look(ctx, r, to, etag)
		if head.Status != http.StatusOK {
			return head
		}
		size := head.Get(sloSize)
		if size == "" {
			size = strconv.FormatInt(head.Length, 10)
		}
		if large := head.Get(sloETag); large != "" {
			row += "; slo_etag=" + large
		}
		r.Header[keptETag], r.Header[keptBytes] = []string{etag}, []string{size}
		if r.Header.Get("Content-Type") == "" {
			r.Header["Content-Type"] = head.Header["Content-Type"]
		}
	case r.Header.Get("Content-Type") == "":
		r.Header["Content-Type"] = []string{"application/symlink"}
	}
	r.Header[keptTarget] = []string{name.Quote(to.Container + "/" + to.Object)}
	row += targetMark + r.Header[keptTarget][0]
	if r.Header[hdrAccount] != nil { // a link that does not say moves with its account when it is copied to another
		r.Header[keptAccount] = []string{name.Quote(to.Account)}
		row += accountMark + r.Header[keptAccount][0]
	}
	if etag != "" {
		row += etagMark + etag + bytesMark + r.Header[keptBytes][0]
	}
	r.Header[listed] = []string{row}
	return f.next.Serve(ctx, r)
}

// hasBody reports whether a request has a body that is not empty.
func hasBody(r *chain.Request) (bool, error) {
	if r.Body == nil || r.Length >= 0 {
		return r.HasBody(), nil
	}
	n, err := io.ReadFull(r.Body, make([]byte, 1))
	if errors.Is(err, io.EOF) && n == 0 {
		err = nil
		r.Body, r.Length = nil, 0
	}
	return n > 0, err
}

// target reads where a link is to lead.
func target(r *chain.Request) (name.Path, *chain.Response) {
	account := r.Path.Account
	if v := r.Header[hdrAccount]; v != nil {
		given, err := name.Unquote(v[0])
		switch {
		case err != nil || given == "":
			return name.Path{}, refuse(http.StatusPreconditionFailed, "Account name cannot be empty", "")
		case strings.Contains(given, "/"):
			return name.Path{}, refuse(http.StatusPreconditionFailed, "Account name cannot contain slashes", "")
		}
		account = given
	}
	bad := refuse(http.StatusPreconditionFailed, hdrTarget+" header must be of the form <container name>/<object name>", "")
	text, err := name.Unquote(r.Header[hdrTarget][0])
	container, object, ok := strings.Cut(text, "/")
	if err != nil || !ok || container == "" || object == "" {
		return name.Path{}, bad
	}
	p := name.Path{Account: account, Container: container, Object: object}
	if _, err := name.Parse(p.Quoted()); err != nil { // a NUL in it, or no UTF-8
		return name.Path{}, bad
	}
	if p == r.Path {
		return name.Path{}, refuse(http.StatusBadRequest, "Symlink cannot target itself", "")
	}
	return p, nil
}

// unquoted takes the quotes off an ETag.
func unquoted(etag string) string {
	if len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"' {
		return etag[1 : len(etag)-1]
	}
	return etag
}

// look finds what a static link is to stand for: 200 with its head, or the refusal.
// A dynamic link there is an object like others, of no bytes.
func (f *feature) look(ctx context.Context, r *chain.Request, to name.Path, etag string) *chain.Response {
	ask := r.Sub(http.MethodHead, to)
	resp := f.next.Serve(ctx, ask)
	resp = f.follow(ctx, ask, resp, way{at: location(to), etag: etag, stay: true})
	resp.Close()
	switch {
	case resp.Status == http.StatusNotFound:
		return refuse(http.StatusConflict, hdrTarget+" does not exist", resp.Get("Content-Location"))
	case resp.OK() && resp.Length < 0:
		return chain.Fail(ctx, errs.E(errs.Op("symlink.look"), errs.Subject(to.String()), errs.Unavailable, fmt.Errorf("its length is not known")))
	}
	return resp
}

// tooMany is the answer to a way that is too long.
func (f *feature) tooMany() *chain.Response {
	return refuse(http.StatusConflict, "Too many levels of symbolic links, maximum allowed is "+strconv.Itoa(f.cfg.LoopMax), "")
}
