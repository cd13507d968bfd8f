package proxy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/quorum/nodetest"
)

// A container is there if its account is not deleted. Where nobody can say that of the account, it is not
// waited for long, and the container is there.
func TestContainersOfDeletedAccounts(t *testing.T) {
	deleted := func(context.Context, *backend.Request) (*backend.Response, error) {
		r := nodetest.Status(404, "")
		r.Header.Add(accountStatus, statusDeleted)
		return r, nil
	}
	leave := make(chan struct{})
	hangs := func(context.Context, *backend.Request) (*backend.Response, error) {
		<-leave
		return nil, errs.E(errs.Aborted)
	}
	for what, tt := range map[string]struct {
		path    name.Path
		account backend.HandlerFunc
		exists  bool
	}{
		"an account that is there":   {name.Path{Account: "a", Container: "c"}, nodetest.Always(204, ""), true},
		"one that was never made":    {name.Path{Account: "a", Container: "c"}, nodetest.Always(404, ""), true},
		"one that was deleted":       {name.Path{Account: "a", Container: "c"}, deleted, false},
		"one of the cluster's own":   {name.Path{Account: ".a", Container: "c"}, deleted, true},
		"its servers are broken":     {name.Path{Account: "a", Container: "c"}, nodetest.Always(500, ""), true},
		"its servers say nothing":    {name.Path{Account: "a", Container: "c"}, hangs, true},
		"of the account it is known": {name.Path{Account: "a"}, deleted, false},
	} {
		b := newBench(t)
		for i := range nodetest.Nodes {
			b.fleet.Script(fmt.Sprint("d", i), func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
				to, err := backend.ParseTarget(r.Path)
				if err != nil || to.Path.Container != "" {
					return nodetest.Status(204, ""), err
				}
				return tt.account(ctx, r)
			})
		}
		s := b.server()
		s.cfg.RecoverableNodeTimeout = conf.Duration(time.Minute)
		if what == "its servers say nothing" {
			s.cfg.RecoverableNodeTimeout = conf.Duration(50 * time.Millisecond)
		}
		s.infos = newInfoCache(time.Minute, s.lookUp)
		got, err := s.infos.get(t.Context(), tt.path)
		if what == "its servers say nothing" {
			close(leave)
		}
		if err != nil || got.exists != tt.exists || got.gone == tt.exists {
			t.Errorf("%s: there %v, deleted %v, %v; want there %v", what, got.exists, got.gone, err, tt.exists)
		}
	}
}

// BenchmarkAccountGone is what a request costs that looks whether its account is deleted.
func BenchmarkAccountGone(b *testing.B) {
	s := &Server{cfg: Defaults(), infos: newInfoCache(time.Minute, func(context.Context, name.Path) (facts, error) {
		return facts{exists: true, at: time.Now()}, nil
	})}
	s.accountGone(b.Context(), "AUTH_test")
	b.ReportAllocs()
	for b.Loop() {
		s.accountGone(b.Context(), "AUTH_test")
	}
}
