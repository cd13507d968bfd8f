// Package workload is clients of a store that do whatever clients do, on names that they share, and
// take down what they were told. They check every byte that they are sent against what was written, and judge
// nothing else: that is for package model.
//
// What they do follows from the seed: each client has its own source of chance, and asks it the same
// questions whatever it is answered. When they do it does not.
package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"martlet/cmd/internal/check/history"
)

// Config is what a workload is made of.
type Config struct {
	// Endpoints are the proxies, as http://host:port; clients are spread over them.
	Endpoints []string
	// User and Key sign in at each (/auth/v1.0). Where Token is not empty it is used instead, and Account is
	// the path of the account, such as /v1/AUTH_test.
	User, Key      string
	Token, Account string

	// Policies are the names of storage policies; each has a container of its own. None is the default one.
	Policies []string
	// Prefix begins the names of the containers, so that what else is in an account is left alone.
	Prefix string

	Seed    uint64
	Clients int
	Rate    float64       // operations a second, of all clients together; 0 is no bound
	Names   int           // objects in each container
	Largest int64         // of a body, in bytes
	Timeout time.Duration // that an operation without a large body may take; a client then gives up
	Preset  string        // which operations, as Presets names them; "" is all of them

	Log *history.Log
	// Transport carries the requests; nil is one of the workload's own.
	Transport http.RoundTripper
}

// Defaults is a workload of everything, without endpoints.
func Defaults() Config {
	return Config{
		User: "test:tester", Key: "testing", Prefix: "check-", Seed: 1, Clients: 16, Rate: 200, Names: 24,
		Largest: 16 << 20, Timeout: 15 * time.Second,
	}
}

// ErrConfig is wrapped by errors about a configuration.
var ErrConfig = errors.New("bad workload")

// Check returns an error that wraps ErrConfig where something is out of bounds. It looks at no endpoint, and at no log.
func (c *Config) Check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	switch {
	case c.Token != "" && c.Account == "":
		return wrong("a token without the path of its account")
	case c.Clients < 1 || c.Clients > 10_000:
		return wrong("%d clients: must be from 1 to 10000", c.Clients)
	case c.Names < 1 || c.Names > 10_000:
		return wrong("%d names: must be from 1 to 10000", c.Names)
	case c.Rate < 0:
		return wrong("a rate of %v", c.Rate)
	case c.Largest < 0 || c.Largest > 1<<32:
		return wrong("bodies of up to %d bytes: must be at most 4 GiB", c.Largest)
	case c.Timeout <= 0:
		return wrong("a timeout of %v", c.Timeout)
	}
	if _, ok := presets[c.Preset]; !ok {
		return wrong("no workload is called %q; there are %s", c.Preset, strings.Join(Presets(), ", "))
	}
	return nil
}

// Workload is clients, and what they share.
type Workload struct {
	cfg        Config
	mix        preset
	log        *history.Log
	http       *http.Client
	account    string // path
	token      string
	containers []string // those with names that are shared
	segments   string   // the container of parts of large objects
	names      []string
	bodies     *bodies
	versions   versions
	clients    []*client
}

// New checks a configuration, signs in at each endpoint, and makes the containers. The store has to be
// well for that.
func New(ctx context.Context, cfg Config) (*Workload, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if len(cfg.Endpoints) == 0 || cfg.Log == nil {
		return nil, fmt.Errorf("%w: no endpoint, or no log", ErrConfig)
	}
	w := &Workload{
		cfg: cfg, mix: presets[cfg.Preset], log: cfg.Log, account: cfg.Account, token: cfg.Token,
		bodies: newBodies(cfg.Seed), names: names(cfg.Names),
	}
	if w.mix.names > 0 {
		w.names = names(min(cfg.Names, w.mix.names))
	}
	transport := cfg.Transport
	if transport == nil {
		transport = &http.Transport{
			MaxIdleConnsPerHost: cfg.Clients, IdleConnTimeout: time.Minute, DisableCompression: true,
			ExpectContinueTimeout: time.Second,
		}
	}
	w.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for i := range cfg.Endpoints {
		if err := w.signIn(ctx, i); err != nil {
			return nil, err
		}
	}
	if err := w.makeContainers(ctx); err != nil {
		return nil, err
	}
	for i := range cfg.Clients {
		w.clients = append(w.clients, &client{w: w, n: i, proxy: i % len(cfg.Endpoints), chance: rand.New(rand.NewPCG(cfg.Seed, uint64(i)))})
	}
	return w, nil
}

// names are those that clients share: plain ones, and some that have to be escaped or look like folders.
func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		switch i % 6 {
		case 1:
			all[i] = fmt.Sprintf("folder/o%04d", i)
		case 3:
			all[i] = fmt.Sprintf("föl der/%%?&/o%04d", i)
		default:
			all[i] = fmt.Sprintf("o%04d", i)
		}
	}
	return all
}

func (w *Workload) signIn(ctx context.Context, proxy int) error {
	if w.cfg.Token != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(w.cfg.Endpoints[proxy], "/")+"/auth/v1.0", nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	r.Header.Set("X-Auth-User", w.cfg.User)
	r.Header.Set("X-Auth-Key", w.cfg.Key)
	resp, err := w.http.Do(r)
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	drain(resp)
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("sign in at %s as %s: %s", w.cfg.Endpoints[proxy], w.cfg.User, resp.Status)
	}
	_, path, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("X-Storage-Url"), "//"), "://")
	if i := strings.IndexByte(path, '/'); ok && i >= 0 {
		path = path[i:]
	}
	w.account, w.token = strings.TrimSuffix(path, "/"), resp.Header.Get("X-Auth-Token")
	if !strings.HasPrefix(w.account, "/") || w.token == "" {
		return fmt.Errorf("sign in at %s: the answer has no X-Storage-Url or no X-Auth-Token", w.cfg.Endpoints[proxy])
	}
	return nil
}

// makeContainers makes one for each policy, and one for parts. They have to be empty: of what is in
// them nothing is known.
func (w *Workload) makeContainers(ctx context.Context) error {
	stem := fmt.Sprintf("%s%x", w.cfg.Prefix, w.cfg.Seed)
	policies := w.cfg.Policies
	if len(policies) == 0 {
		policies = []string{""}
	}
	for i, p := range policies {
		c := fmt.Sprintf("%s-%d", stem, i)
		if err := w.makeContainer(ctx, c, p); err != nil {
			return err
		}
		w.containers = append(w.containers, c)
	}
	w.segments = stem + "-parts"
	return w.makeContainer(ctx, w.segments, policies[len(policies)-1])
}

func (w *Workload) makeContainer(ctx context.Context, c, policy string) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	for _, method := range []string{http.MethodPut, http.MethodHead} {
		r := w.request(ctx, 0, method, c, "", nil)
		if policy != "" && method == http.MethodPut {
			r.Header.Set("X-Storage-Policy", policy)
		}
		if w.mix.versions > 0 && method == http.MethodPut && c != w.segments {
			r.Header.Set("X-Versions-Enabled", "true")
		}
		resp, err := w.http.Do(r)
		if err != nil {
			return fmt.Errorf("container %s: %w", c, err)
		}
		drain(resp)
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("container %s, policy %q: %s of it is %s", c, policy, method, resp.Status)
		}
		if n := resp.Header.Get("X-Container-Object-Count"); method == http.MethodHead && n != "0" {
			return fmt.Errorf("container %s holds %s objects: choose another seed or prefix", c, n)
		}
	}
	return nil
}

// Run has the clients work until ctx ends, and returns when each has ended what it was doing, which takes
// no longer than Timeout, and a second for each MiB of a body. It may be called again, which goes on. What the store answers is no error of Run's.
func (w *Workload) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, c := range w.clients {
		all.Go(func() { c.run(ctx) })
	}
	all.Wait()
	return w.log.Flush()
}

// History returns the round that is under way.
func (w *Workload) History() history.History { return w.log.History() }
