// Package info answers what a client may ask before it has an account: /info,
// what this cluster can do and how much, and /healthcheck, whether this proxy
// wants requests.
//
// The document is Swift's: a section "swift" with version, policies and limits,
// and a section for each feature that is on. It is built once, when the proxy
// starts, and never changes.
package info

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"martlet/internal/httpapi"
	"martlet/internal/policy"
	"martlet/proxy/limits"
)

// Config is the configuration of /info and /healthcheck.
type Config struct {
	Expose      bool     `toml:"expose_info"`         // off: /info is 403
	Hidden      []string `toml:"disallowed_sections"` // left out: "section" or "section.key"
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

// Handler answers /info.
type Handler struct {
	expose bool
	body   []byte
}

// New builds the document: the section "swift", and the features that are on, by
// the names under which Swift's middleware appear. A feature with nothing to say
// is an empty or nil section.
func New(cfg Config, c Cluster, features map[string]Section) (*Handler, error) {
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
	return &Handler{expose: cfg.Expose, body: body}, nil
}

// ServeHTTP implements http.Handler. Any origin may read the document. The
// signed form that shows more to administrators is refused.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		w.Header().Set("Allow", allowed)
		answer(w, http.StatusOK, "", nil)
		return
	default:
		w.Header().Set("Allow", allowed)
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	query := r.URL.Query()
	if !h.expose || query.Get("swiftinfo_sig") != "" || query.Get("swiftinfo_expires") != "" {
		refuse(w, http.StatusForbidden)
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", "x-trans-id")
	}
	answer(w, http.StatusOK, "application/json; charset=UTF-8", h.body)
}

// Healthcheck answers /healthcheck, any method: 200 "OK", or 503 while the file
// exists with which an operator takes this proxy out of a balancer. "" is no
// file.
func Healthcheck(disablePath string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if disablePath != "" {
			if _, err := os.Stat(disablePath); err == nil {
				answer(w, http.StatusServiceUnavailable, "text/plain", []byte("DISABLED BY FILE"))
				return
			}
		}
		answer(w, http.StatusOK, "text/plain", []byte("OK"))
	})
}

func refuse(w http.ResponseWriter, code int) {
	answer(w, code, "text/plain; charset=utf-8", []byte(httpapi.Reason(code)))
}

// answer sends a whole answer. net/http leaves the body out for HEAD.
func answer(w http.ResponseWriter, code int, contentType string, body []byte) {
	h := w.Header()
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	if len(body) > 0 {
		_, _ = w.Write(body) // a client that left needs no answer
	}
}
