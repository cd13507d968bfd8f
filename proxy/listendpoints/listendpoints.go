// Package listendpoints tells programs inside of the cluster where the replicas of an
// account, a container or an object are, as URLs at which storage nodes have them: for
// those that work on data where it is. The paths and the answers are Swift's.
//
// It is told to anybody who asks, and what it tells is of use to nobody who can't reach
// the storage network.
package listendpoints

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// Config is what an operator may set.
type Config struct {
	Enabled bool   `toml:"enabled"`             // off: there is no such path
	Path    string `toml:"list_endpoints_path"` // below which they are
}

// Defaults returns Swift's path, which nobody is told of before it is enabled.
func Defaults() Config { return Config{Path: "/endpoints/"} }

// Validate checks the values; taken are the beginnings of paths that something else
// answers to. An error names the key.
func (c Config) Validate(taken ...string) error {
	const key = "list_endpoints_path"
	prefix := c.Prefix()
	if u, err := url.Parse(prefix); err != nil || u.EscapedPath() != prefix || prefix[0] != '/' || strings.Contains(prefix, "//") {
		return fmt.Errorf("key %q: value %q: it is no path", key, c.Path)
	}
	for _, t := range taken {
		t = "/" + strings.Trim(t, "/") + "/"
		if strings.HasPrefix(t, prefix) || strings.HasPrefix(prefix, t) {
			return fmt.Errorf("key %q: value %q: something else is at %s", key, c.Path, t)
		}
	}
	return nil
}

// Prefix is what the paths begin with.
func (c Config) Prefix() string { return strings.TrimSuffix(c.Path, "/") + "/" }

// Place is where something is.
type Place struct {
	Partition uint32
	Devices   []Device // those of its replicas, in their order
	Policy    string   // the index of an object's; "" for others
}

// Device is one of a storage node.
type Device struct {
	Addr string // "ip:port", with brackets around an IPv6 address
	Name string
}

// Find finds where an account, a container or an object is, be it there or not. An
// object in no container is of kind errs.NotFound.
type Find func(ctx context.Context, p name.Path) (Place, error)

// New answers a GET below the path with the endpoints of what its rest names.
func New(cfg Config, find Find) chain.Handler {
	prefix := cfg.Prefix()
	return chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
		if r.Method != http.MethodGet {
			resp := chain.Text(http.StatusMethodNotAllowed, "")
			resp.Header["Allow"] = []string{http.MethodGet}
			return resp
		}
		raw := strings.TrimPrefix(r.Client.URL.EscapedPath(), prefix)
		version, p, refused := parse(raw)
		if refused != "" {
			return chain.Text(http.StatusBadRequest, refused)
		}
		at, err := find(ctx, p)
		if err != nil {
			return chain.Fail(ctx, err)
		}
		return answer(ctx, version, p, at)
	})
}

// versions are those of the answers, by what a path may begin with.
const (
	listOnly    = 1
	withHeaders = 2
)

// parse reads a path, or says what is wrong with it.
func parse(raw string) (version int, p name.Path, refused string) {
	first, rest, _ := strings.Cut(raw, "/")
	version, known := versionOf(first)
	switch {
	case known:
		raw = rest
	case strings.HasPrefix(first, "v") && !strings.Contains(first, "_"): // it is no account
		return 0, p, "Unsupported version '" + first + "'"
	default:
		version = listOnly
	}
	if raw == "" || raw[0] == '/' {
		return 0, p, "No account specified"
	}
	p, err := name.Parse("/" + raw)
	if err != nil {
		return 0, p, "The path is not of an account, a container or an object"
	}
	return version, p, ""
}

// versionOf reads a version: "v1", "1", "2.0".
func versionOf(text string) (int, bool) {
	v, err := strconv.ParseFloat(strings.TrimLeft(text, "v"), 64)
	if err != nil || v != listOnly && v != withHeaders {
		return 0, false
	}
	return int(v), true
}

// answer lists the endpoints.
func answer(ctx context.Context, version int, p name.Path, at Place) *chain.Response {
	list := make([]string, len(at.Devices))
	for i, d := range at.Devices {
		list[i] = "http://" + d.Addr + backend.Target{Device: d.Name, Partition: at.Partition, Path: p}.Quoted()
	}
	var said any = list
	if version == withHeaders {
		headers := map[string]string{}
		if at.Policy != "" {
			headers[backend.PolicyIndex] = at.Policy
		}
		said = map[string]any{"endpoints": list, "headers": headers}
	}
	text, err := json.Marshal(said)
	if err != nil {
		return chain.Fail(ctx, err)
	}
	return chain.Plain(http.StatusOK, "application/json", string(text))
}
