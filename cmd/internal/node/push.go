package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/clusterkey"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/policy"
	"martlet/internal/ringpush"
	"martlet/ring"
)

const (
	// proxySkew is by how much the clocks of a proxy and of who hands it a ring may differ: what
	// storage nodes have by default.
	proxySkew = time.Minute

	// proxyPushes is how many requests about rings, of those who have the key, a proxy works on at one time.
	proxyPushes = 8
)

// pushing is how a process takes new rings from an operator.
type pushing struct {
	kind     string
	folder   string
	rings    rings
	policies policy.Set
	keys     *clusterkey.Source // nil where there is none; then it takes no rings
	self     func(host string, port int) bool
	skew     time.Duration
	most     int                         // requests at one time of those who have the key; 0 is no bound
	learn    func(context.Context) error // what a new ring brings with it; nil for nothing
}

// pushes returns what tells of a process's rings and takes new ones, of nobody but who has the
// cluster's key.
func (p *process) pushes(o Options, c pushing) (backend.Handler, error) {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "martlet_ring_push_without_key_total", Help: "Requests for or with rings that were refused because of the cluster's key, by what was wrong.",
	}, []string{"why"})
	for _, why := range clusterkey.Reasons() {
		refused.WithLabelValues(why)
	}
	if err := o.Registry.Register(refused); err != nil {
		return nil, fmt.Errorf("metrics of ring pushes: %w", err)
	}
	if c.keys == nil {
		return backend.HandlerFunc(func(context.Context, *backend.Request) (*backend.Response, error) {
			return nil, errs.Refuse(errs.Forbidden, "this process has no cluster key (cluster.key_file): it takes no rings, and tells of none")
		}), nil
	}
	var server backend.Handler = ringpush.New(ringpush.Config{
		Kind: c.kind, Version: o.Version, Folder: c.folder,
		Rings: func(yield func(string, ringpush.Source) bool) {
			for name, source := range c.rings.named {
				if !yield(name, source) {
					return
				}
			}
		},
		Check: func(name string, next *ring.Ring) error { return fits(c.policies, name, next) },
		Taken: func(ctx context.Context, name string, version int64) {
			p.log.LogAttrs(ctx, slog.LevelInfo, "new ring in use", slog.String("ring", name), slog.Int64("version", version))
			if c.learn == nil {
				return
			}
			if err := c.learn(ctx); err != nil {
				p.log.LogAttrs(ctx, slog.LevelWarn, "host names in the rings that are not known", slog.Any("err", err)) // it is tried again
			}
		},
	})
	if c.most > 0 {
		server = atMost(c.most, server)
	}
	return clusterkey.NewGuard(clusterkey.Config{
		Keys: c.keys, Self: c.self, Skew: c.skew, Log: o.Log,
		Fail: func(ctx context.Context, r *backend.Request, err error) *backend.Response {
			return httpapi.Failure(ctx, o.Log, r, err)
		},
		Refused: func(why string) { refused.WithLabelValues(why).Inc() },
	}, server), nil
}

// atMost has a handler work on so many requests at one time, and refuses what is beyond. It stands behind a
// Guard: a place before that would be anybody's to take, for as long as he lets his request wait for its answer.
func atMost(most int, next backend.Handler) backend.Handler {
	places := make(chan struct{}, most)
	return backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		select {
		case places <- struct{}{}:
		default:
			return nil, errs.Refuse(errs.Unavailable, "this process works on %d requests about rings already: try again", most)
		}
		defer func() { <-places }()
		return next.Serve(ctx, r)
	})
}

// fits returns why the ring of a policy can't be used for it, nil where it can.
func fits(policies policy.Set, name string, r *ring.Ring) error {
	for _, p := range policies.All() {
		if name == "object"+p.Index.Suffix() && p.Coded() && r.ReplicaCount() != p.Fragments() {
			return errs.Refuse(errs.Conflict, "the %s ring has %d replicas, and the policy %q of erasure coding needs %d+%d", name, r.ReplicaCount(), p.Name, p.Data, p.Parity)
		}
	}
	return nil
}

// openPushes has a storage node take rings at the addresses of its servers.
func (s *Storage) openPushes(p parts, learn func(context.Context) error) (err error) {
	at := []interface {
		Is(host string, port int) bool
	}{
		p.self(p.c.Server.Address, p.c.Object.Port), p.self(p.c.Server.Address, p.c.Container.Port), p.self(p.c.Server.Address, p.c.Account.Port),
	}
	s.rings, err = s.pushes(p.o, pushing{
		kind: ringpush.Storage, folder: p.c.Rings.Folder, rings: p.rings, policies: p.policies, keys: p.keys, skew: p.c.Server.ClockSkew.D(), learn: learn,
		self: func(host string, port int) bool {
			for _, one := range at {
				if one.Is(host, port) {
					return true
				}
			}
			return false
		},
	})
	return err
}

// takingRings puts what takes rings before a server on the storage network.
func (s *Storage) takingRings(next backend.Handler) backend.Handler {
	return backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		if ringpush.Is(r.Path) {
			return s.rings.Serve(ctx, r)
		}
		return next.Serve(ctx, r)
	})
}

// takingRings puts what takes rings before what clients speak to. Only what carries a signature gets
// there, and it is refused if that is not right; to who sends none it is a path like any other. A
// proxy does not know by which addresses it is reached, so it is not looked whether a request was
// sent to this one: a ring is for a process that the sender names by what that has said of itself.
func (p *Proxy) takingRings(c *config.Proxy, o Options, of rings, policies policy.Set, next http.Handler) (http.Handler, error) {
	keys, err := p.openKey(c.Cluster.KeyFile, c.Rings.CheckEvery.D())
	if err != nil {
		return nil, err
	}
	server, err := p.pushes(o, pushing{
		kind: ringpush.Proxy, folder: c.Rings.Folder, rings: of, policies: policies, keys: keys, skew: proxySkew, most: proxyPushes,
		self: func(string, int) bool { return true },
	})
	if err != nil {
		return nil, err
	}
	level, err := config.ParseLevel(c.Log.Requests)
	if err != nil {
		return nil, err
	}
	pushed := httpapi.Observe(httpapi.Backend(server, o.Log), httpapi.Observed{
		Server: "rings", Silence: c.Server.ClientTimeout.D(), Log: o.Log, Level: level,
		NewID: func(_ *http.Request, at time.Time) string { return httpapi.NewTransID(at, "") },
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		if ringpush.Is(path) && r.Header.Get(clusterkey.Header) != "" {
			pushed.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	}), nil
}
