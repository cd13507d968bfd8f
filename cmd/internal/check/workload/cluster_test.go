package workload

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/check/history"
	"martlet/cmd/internal/check/model"
	"martlet/cmd/internal/cluster"
	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
)

// freeNetwork finds loopback addresses that no other cluster of the machine has.
func freeNetwork(t testing.TB) string {
	t.Helper()
	for i := range 100 {
		n := fmt.Sprintf("127.%d", 190+(os.Getpid()+i)%30)
		if l, err := net.Listen("tcp", n+".1.1:6200"); err == nil {
			l.Close()
			return n
		}
	}
	t.Fatal("no loopback network is free")
	return ""
}

// startCluster runs three nodes with a replicated policy and an erasure-coded one, and two proxies, whose URLs it
// returns.
func startCluster(t testing.TB) []string {
	t.Helper()
	o := cluster.Defaults()
	o.Nodes, o.Devices, o.PartPower, o.Network = 3, 1, 4, freeNetwork(t)
	o.Listen = o.Network + ".0.1:0"
	coded, err := cluster.ParsePolicy("ec21=2+1")
	if err != nil {
		t.Fatal(err)
	}
	o.Policies = []cluster.Policy{coded}
	f, err := cluster.Make(t.TempDir(), o, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= o.Nodes; n++ { // what accounts are told comes soon
		text, err := os.ReadFile(f.StorageFile(n))
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte(`interval = "2s"`), []byte(`interval = "100ms"`))
		text = bytes.ReplaceAll(text, []byte(`interval = "5s"`), []byte(`interval = "200ms"`))
		if err := os.WriteFile(f.StorageFile(n), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	options := func() node.Options {
		return node.Options{Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Version: "test"}
	}
	c, err := f.Open(options(), "")
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	cfg, err := config.LoadProxy(f.ProxyFile())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Admin.Listen = ""
	second, err := node.OpenProxy(cfg, options())
	if err != nil {
		t.Fatal(err)
	}
	run(t, second.Run)
	return []string{"http://" + c.Address(), "http://" + second.Address()}
}

// run runs something until the test ends.
func run(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// settled reads everything until it is as it must be, or the time is up: counts of accounts come late.
func settled(t testing.TB, w *Workload) ([]model.Violation, []history.Entry) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); ; {
		f, err := w.Final(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		v, floor, _ := model.Settled(w.History(), f)
		if len(v) == 0 || time.Now().After(until) {
			return v, floor
		}
	}
}

// Two rounds of everything against a cluster in which nothing is broken.
func TestHealthyCluster(t *testing.T) {
	cfg := Defaults()
	cfg.Endpoints = startCluster(t)
	cfg.Policies = []string{"Policy-0", "ec21"}
	cfg.Clients, cfg.Names, cfg.Largest, cfg.Rate = 8, 8, 3<<20, 0
	var file bytes.Buffer
	cfg.Log = history.NewLog(&file, history.Header{Seed: cfg.Seed, Limits: history.Limits{Grace: 400 * time.Millisecond}})
	w, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		h := w.History()
		found, counts := model.Reads(h)
		done := map[string]int{}
		for i := range h.Ops {
			o := &h.Ops[i]
			done[fmt.Sprintf("%v %d %v", o.Kind, o.Status, o.Outcome)]++
			if o.Status >= 500 || o.Status == 0 && o.Outcome == history.Unknown {
				t.Errorf("%+v", o)
			}
		}
		t.Logf("%+v %v", counts, done)
		last, floor := settled(t, w)
		for _, v := range append(found, last...) {
			t.Errorf("%s: %s", v.Rule, v.Why)
		}
		w.log.NextRound(floor, true)
	}
}
