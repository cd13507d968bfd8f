package auth

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/httpapi"
)

// What storage_url_scheme may be: where the scheme of storage URLs comes from.
const (
	SchemeDefault   = "default"   // the connection: https where it is TLS
	SchemeHTTP      = "http"      // always
	SchemeHTTPS     = "https"     // always: TLS ends before the proxy
	SchemeForwarded = "forwarded" // the X-Forwarded-Proto of a balancer that sets it in every request
)

// Handler hands out tokens, the way Swift's tempauth does. Below its prefix:
//
//	GET v1.0, GET auth       X-Auth-User: account:user, X-Auth-Key: key
//	GET v1/<account>/auth    X-Storage-User: user, or X-Auth-User: account:user
//
// X-Storage-User and X-Storage-Pass are other names for the same. The answer is
// 200 with the token and the storage URL in its header and no body, or 401.
type Handler struct {
	users  *Users
	tokens *Tokens
	prefix string
	scheme string
}

// NewHandler returns the handler of the paths below prefix, such as "/auth/".
// The scheme is one of the Scheme constants.
func NewHandler(users *Users, tokens *Tokens, prefix, scheme string) (*Handler, error) {
	word := strings.Trim(prefix, "/")
	if word == "" || strings.ContainsAny(word, "%?#{} \t") {
		return nil, fmt.Errorf("auth_prefix %q: not a path such as \"/auth/\"", prefix)
	}
	switch scheme {
	case SchemeDefault, SchemeHTTP, SchemeHTTPS, SchemeForwarded:
	default:
		return nil, fmt.Errorf("storage_url_scheme %q: none of %q, %q, %q, %q", scheme, SchemeDefault, SchemeHTTP, SchemeHTTPS, SchemeForwarded)
	}
	return &Handler{users: users, tokens: tokens, prefix: "/" + word + "/", scheme: scheme}, nil
}

// Prefix returns the path below which requests belong here, with a slash at
// both ends.
func (h *Handler) Prefix() string { return h.prefix }

// claim is who a request says it comes from.
type claim struct {
	account, user, key string
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	c, code := h.claim(r)
	if code == http.StatusOK && (c.account == "" || c.user == "" || c.key == "") {
		code = http.StatusUnauthorized
	}
	var e *entry
	if code == http.StatusOK {
		var ok bool
		if e, ok = h.users.check(c.account+":"+c.user, c.key); !ok {
			code = http.StatusUnauthorized
		}
	}
	switch code {
	case http.StatusOK:
		h.welcome(w, r, e)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", Challenge(c.account))
		fallthrough
	default:
		refuse(w, code)
	}
}

// claim reads the path and the header of a request. With a status other than 200
// it is incomplete, and its account still good for the challenge.
func (h *Handler) claim(r *http.Request) (claim, int) {
	path, ok := strings.CutPrefix(r.URL.Path, h.prefix)
	if !ok {
		return claim{}, http.StatusNotFound
	}
	parts := strings.SplitN(path, "/", 3)
	switch first := parts[0]; {
	case first == "":
		return claim{}, http.StatusNotFound
	case first == "v1" && len(parts) == 3 && parts[2] == "auth":
		c := claim{account: parts[1], user: header(r, "X-Storage-User", ""), key: header(r, "X-Storage-Pass", "X-Auth-Key")}
		if c.user != "" {
			return c, http.StatusOK
		}
		account, user, ok := strings.Cut(header(r, "X-Auth-User", ""), ":")
		if !ok || account != c.account {
			return c, http.StatusUnauthorized
		}
		c.user = user
		return c, http.StatusOK
	case first == "v1.0" || first == "auth":
		account, user, ok := strings.Cut(header(r, "X-Auth-User", "X-Storage-User"), ":")
		if !ok {
			return claim{}, http.StatusUnauthorized
		}
		return claim{account, user, header(r, "X-Auth-Key", "X-Storage-Pass")}, http.StatusOK
	}
	return claim{}, http.StatusBadRequest
}

// header returns the first of two fields that is not empty.
func header(r *http.Request, name, or string) string {
	if v := r.Header.Get(name); v != "" || or == "" {
		return v
	}
	return r.Header.Get(or)
}

func (h *Handler) welcome(w http.ResponseWriter, r *http.Request, e *entry) {
	token, expires := h.tokens.issue(e)
	left := expires.Unix() - h.tokens.now().Unix()
	head := w.Header()
	head.Set("X-Auth-Token", token)
	head.Set("X-Storage-Token", token)
	head.Set("X-Auth-Token-Expires", strconv.FormatInt(left, 10))
	head.Set("X-Storage-Url", h.storageURL(r, e))
	head.Set("Content-Type", "text/plain; charset=utf-8")
	head.Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
}

// storageURL fills in scheme and host where the user's URL leaves them open. A
// scheme from the configuration holds for all URLs.
func (h *Handler) storageURL(r *http.Request, e *entry) string {
	url := e.url
	if path, ok := strings.CutPrefix(url, hostMark); ok {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		url = scheme + "://" + host(r) + path
	}
	scheme := h.scheme
	if scheme == SchemeForwarded {
		if scheme = strings.ToLower(r.Header.Get("X-Forwarded-Proto")); scheme != SchemeHTTP && scheme != SchemeHTTPS {
			return url
		}
	}
	if scheme != SchemeDefault {
		_, rest, _ := strings.Cut(url, ":")
		url = scheme + ":" + rest
	}
	return url
}

// host is what the client calls this server; where it does not say, the address
// that it reached.
func host(r *http.Request) string {
	if r.Host != "" {
		return r.Host
	}
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return addr.String()
	}
	return "localhost"
}

// refuse answers with a status and its words.
func refuse(w http.ResponseWriter, code int) {
	text := httpapi.Reason(code)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text)) // a client that left needs no answer
}
