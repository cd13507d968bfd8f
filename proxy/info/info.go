// Package info answers at /info what a client may ask before it has an account:
// what this cluster can do, and how much.
//
// The document is Swift's: a section "swift" with version, policies and limits,
// and a section for each feature that is on. It is built once, when the proxy
// starts, and never changes.
// Administrators, who sign their requests with a key, see one section more.
package info

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" // what clients of this API sign with
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/internal/httpapi"
	"martlet/internal/policy"
	"martlet/proxy/chain"
	"martlet/proxy/limits"
)

// Config is the configuration of /info, and of /healthcheck beside it.
type Config struct {
	Expose      bool     `toml:"expose_info"`         // off: /info is 403
	Hidden      []string `toml:"disallowed_sections"` // left out: "section" or "section.key"
	AdminKey    string   `toml:"admin_key"`           // signs requests that see the section "admin"; "" is nobody's
	DisablePath string   `toml:"disable_path"`        // while this file exists, /healthcheck is 503; "" is none
}

// Defaults returns Swift's.
func Defaults() Config {
	return Config{Expose: true, Hidden: []string{"swift.auto_create_account_prefix", "swift.valid_api_versions"}}
}

// Section is one part of the document: what JSON can hold, by key.
type Section map[string]any

// Cluster is what the section "swift" says.
type Cluster struct {
	Version                string
	Limits                 limits.Limits
	Policies               policy.Set
	StrictCORS             bool
	AllowAccountManagement bool
	AccountAutocreate      bool
	AllowOpenExpired       bool
}

// section returns the section "swift".
func (c Cluster) section() Section {
	l := c.Limits
	return Section{
		"version":                    c.Version,
		"strict_cors_mode":           c.StrictCORS,
		"policies":                   policies(c.Policies),
		"allow_account_management":   c.AllowAccountManagement,
		"account_autocreate":         c.AccountAutocreate,
		"allow_open_expired":         c.AllowOpenExpired,
		"max_file_size":              int64(l.MaxFileSize),
		"max_meta_name_length":       l.MaxMetaNameLength,
		"max_meta_value_length":      l.MaxMetaValueLength,
		"max_meta_count":             l.MaxMetaCount,
		"max_meta_overall_size":      l.MaxMetaOverallSize,
		"max_header_size":            l.MaxHeaderSize,
		"max_request_line":           l.MaxRequestLine,
		"max_object_name_length":     l.MaxObjectNameLength,
		"container_listing_limit":    l.ContainerListingLimit,
		"account_listing_limit":      l.AccountListingLimit,
		"max_account_name_length":    l.MaxAccountNameLength,
		"max_container_name_length":  l.MaxContainerNameLength,
		"valid_api_versions":         slices.Clone(l.ValidAPIVersions),
		"extra_header_count":         l.ExtraHeaderCount,
		"auto_create_account_prefix": l.AutoCreateAccountPrefix,
	}
}

// shownPolicy is a policy as clients see it. The aliases begin with the name.
type shownPolicy struct {
	Name    string `json:"name"`
	Aliases string `json:"aliases"`
	Default bool   `json:"default,omitempty"`
}

// policies lists what a new container can choose.
func policies(set policy.Set) []shownPolicy {
	list := []shownPolicy{}
	for _, p := range set.All() {
		if !p.Deprecated {
			list = append(list, shownPolicy{p.Name, strings.Join(append([]string{p.Name}, p.Aliases...), ", "), p.Default})
		}
	}
	return list
}

// allowed is the value of Allow, in Swift's order.
const allowed = "HEAD, GET, OPTIONS"

// jsonType is the content type of the document.
const jsonType = "application/json; charset=UTF-8"

// Handler answers /info.
type Handler struct {
	expose bool
	key    []byte // of signatures by which administrators see more; empty: nobody does
	now    func() time.Time
	body   string
	admin  string // body with the section "admin"
}

// New builds the document: the section "swift", and the features that are on, by
// the names under which Swift's middleware appear. A feature with nothing to say
// is an empty or nil section. The clock says whether a signature is still good.
func New(cfg Config, c Cluster, features map[string]Section, now func() time.Time) (*Handler, error) {
	doc := map[string]Section{"swift": c.section()}
	for name, section := range features {
		switch {
		case name == "swift" || name == "admin" || name == "disallowed_sections":
			return nil, fmt.Errorf("info: the section %q is reserved", name)
		case name == "" || strings.Contains(name, "."):
			return nil, fmt.Errorf("info: the section %q is empty or has a dot in it", name)
		}
		for key := range section {
			if strings.Contains(key, ".") {
				return nil, fmt.Errorf("info: the key %q of section %q has a dot in it", key, name)
			}
		}
		doc[name] = maps.Clone(section)
		if section == nil {
			doc[name] = Section{}
		}
	}
	for _, hidden := range cfg.Hidden {
		name, key, ok := strings.Cut(hidden, ".")
		if ok {
			delete(doc[name], key)
		} else {
			delete(doc, name)
		}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("info: %w", err)
	}
	doc["admin"] = Section{"disallowed_sections": append([]string{}, cfg.Hidden...)}
	admin, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("info: %w", err)
	}
	return &Handler{expose: cfg.Expose, key: []byte(cfg.AdminKey), now: now, body: string(body), admin: string(admin)}, nil
}

// Serve answers one request. Any origin may read the document. Who signs the
// request with the administrators' key sees a section more.
func (h *Handler) Serve(_ context.Context, r *chain.Request) *chain.Response {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		resp := chain.Plain(http.StatusOK, chain.PageType, "")
		resp.Header["Allow"] = []string{allowed}
		return resp
	default:
		resp := refuse(http.StatusMethodNotAllowed)
		resp.Header["Allow"] = []string{allowed}
		return resp
	}
	if !h.expose {
		return refuse(http.StatusForbidden)
	}
	body := h.body
	sig, _ := r.Param("swiftinfo_sig")
	expires, _ := r.Param("swiftinfo_expires")
	if sig != "" || expires != "" {
		if len(h.key) == 0 {
			return refuse(http.StatusForbidden)
		}
		if !h.signed(r.Method, sig, expires) {
			return refuse(http.StatusUnauthorized)
		}
		body = h.admin
	}
	resp := chain.Plain(http.StatusOK, jsonType, body)
	if origin := r.Header.Get("Origin"); origin != "" {
		resp.Header["Access-Control-Allow-Origin"] = []string{origin}
		resp.Header["Access-Control-Expose-Headers"] = []string{"x-trans-id"}
	}
	return resp
}

// signed reports whether a signature is the administrators' and not past its
// time: HMAC-SHA1, in hexadecimal, of method, expiry and path, a line each. That
// of a GET is good for a HEAD.
func (h *Handler) signed(method, sig, expires string) bool {
	at, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || at < h.now().Unix() {
		return false
	}
	got, err := hex.DecodeString(sig)
	if err != nil {
		return false
	}
	for _, m := range []string{method, http.MethodGet} {
		mac := hmac.New(sha1.New, h.key)
		_, _ = fmt.Fprintf(mac, "%s\n%d\n/info", m, at) // never fails
		if hmac.Equal(mac.Sum(nil), got) {
			return true
		}
	}
	return false
}

func refuse(code int) *chain.Response {
	return chain.Plain(code, "text/plain; charset=utf-8", httpapi.Reason(code))
}
