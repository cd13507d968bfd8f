package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
	"martlet/internal/clusterkey"
	"martlet/internal/httpapi"
	"martlet/replicator"
)

// openKey reads the cluster's keys, where the configuration names a file, and has it looked at
// as often as the rings.
func (p *process) openKey(file string, every time.Duration) (*clusterkey.Source, error) {
	if file == "" {
		return nil, nil
	}
	keys, err := clusterkey.Open(file)
	if err != nil {
		return nil, err
	}
	p.every("cluster key", every, func(ctx context.Context) error {
		reloaded, err := keys.Check()
		if reloaded {
			p.log.LogAttrs(ctx, slog.LevelInfo, "new cluster keys in use", slog.String("keys", keys.Keys().String()))
		}
		return err // the keys in use stay
	})
	return keys, nil
}

// signing returns what requests to peers are sent with.
func (r *replication) signing() replicator.Sender {
	if r.keys == nil {
		return r.client
	}
	return &clusterkey.Sender{Next: r.client, Keys: r.keys}
}

// guarded has the replicator serve nobody but who has the cluster's key, where there is one.
func (s *Storage) guarded(p parts, h backend.Handler) (backend.Handler, error) {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "martlet_replication_without_key_total", Help: "Requests on the replication network that were refused because of the cluster's key, by what was wrong.",
	}, []string{"why"})
	for _, why := range clusterkey.Reasons() {
		refused.WithLabelValues(why)
	}
	if err := p.o.Registry.Register(refused); err != nil {
		return nil, fmt.Errorf("metrics of the cluster key: %w", err)
	}
	if p.replication.keys == nil {
		return clusterkey.Without(h), nil
	}
	return clusterkey.NewGuard(clusterkey.Config{
		Keys: p.replication.keys, Self: p.self(p.c.Replication.Address, p.c.Replication.Port).Is, Skew: p.c.Server.ClockSkew.D(), Log: p.o.Log,
		Fail: func(ctx context.Context, r *backend.Request, err error) *backend.Response {
			return httpapi.Failure(ctx, p.o.Log, r, err)
		},
		Refused: func(why string) { refused.WithLabelValues(why).Inc() },
	}, suspecting(s.owned, h)), nil // what it fails is an answer already when it comes out
}
