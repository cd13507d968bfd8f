package workload

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
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

// A counting transport ends a run after so many requests.
type counting struct {
	http.RoundTripper
	left atomic.Int64
	end  atomic.Pointer[context.CancelFunc]
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.left.Add(-1) == 0 {
		(*c.end.Load())()
	}
	return c.RoundTripper.RoundTrip(r)
}

// work has clients do so many things, about.
func (c *counting) work(t testing.TB, w *Workload, requests int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.end.Store(&cancel)
	c.left.Store(requests)
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// small is a workload that a test has time for.
func smallWorkload(endpoints ...string) (Config, *counting) {
	cfg := Defaults()
	cfg.Endpoints = endpoints
	cfg.Policies = []string{"Policy-0", "ec21"}
	cfg.Clients, cfg.Names, cfg.Largest, cfg.Rate, cfg.Timeout = 8, 6, 3<<20, 0, time.Minute
	c := &counting{RoundTripper: &http.Transport{MaxIdleConnsPerHost: cfg.Clients, DisableCompression: true, ExpectContinueTimeout: time.Second}}
	cfg.Transport = c
	return cfg, c
}

func logFor(cfg *Config, to io.Writer) {
	cfg.Log = history.NewLog(to, history.Header{Seed: cfg.Seed, Limits: history.Limits{Grace: 400 * time.Millisecond}})
}

// Two rounds of everything against a cluster in which nothing is broken.
func TestHealthyCluster(t *testing.T) {
	cfg, c := smallWorkload(startCluster(t)...)
	var file bytes.Buffer
	logFor(&cfg, &file)
	w, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := map[string]int{}
	for range 2 {
		began := time.Now()
		c.work(t, w, 200)
		h := w.History()
		found, counts := model.Reads(h)
		for i := range h.Ops {
			o := &h.Ops[i]
			done[fmt.Sprintf("%v %d %v", o.Kind, o.Status, o.Outcome)]++
			if o.Status >= 500 || o.Status == 0 && o.Outcome == history.Unknown {
				t.Errorf("%+v", o)
			}
		}
		worked := time.Since(began)
		last, floor := settled(t, w)
		t.Logf("%+v in %v, settled in %v", counts, worked, time.Since(began)-worked)
		for _, v := range append(found, last...) {
			t.Errorf("%s: %s", v.Rule, v.Why)
		}
		w.log.NextRound(floor, true)
	}
	t.Logf("%v", done)
	for _, what := range []string{
		"put 201 acked", "put 0 refused", "put 422 refused", "copy 201 acked", "post 202 acked", "delete 204 acked",
		"get 200 acked", "get 404 acked", "head 200 acked", "range 206 acked", "list 200 acked",
	} {
		if done[what] == 0 {
			t.Errorf("there was no %q among %v", what, done)
		}
	}
	if err := w.log.Flush(); err != nil {
		t.Fatal(err)
	}
	sameInFile(t, &file)
}

// sameInFile reads a history back, and judges it again.
func sameInFile(t *testing.T, file io.Reader) {
	t.Helper()
	_, rounds, err := history.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for h, err := range rounds {
		if err != nil {
			t.Fatal(err)
		}
		if found, counts := model.Reads(h); len(found) > 0 || counts.Ops == 0 && n < 2 {
			t.Errorf("in the file: %+v, %v", counts, found)
		}
		n++
	}
	if n != 3 { // the last one has not begun
		t.Errorf("the file has %d rounds", n)
	}
}
