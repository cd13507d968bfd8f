package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/object/engine/blob"
	"martlet/ring"
	"martlet/ring/builder"
)

func flags(names ...string) func(string) bool {
	return func(flag string) bool {
		for _, n := range names {
			if n == flag {
				return true
			}
		}
		return false
	}
}

func TestMake(t *testing.T) {
	o := Defaults()
	o.Nodes, o.Devices, o.Replicas, o.PartPower, o.Network = 3, 2, 3, 6, "127.77"
	dir := filepath.Join(t.TempDir(), "c")
	f, err := Make(dir, o, flags())
	if err != nil {
		t.Fatal(err)
	}
	p, err := config.LoadProxy(f.ProxyFile())
	if err != nil {
		t.Fatal(err)
	}
	if p.Server.Listen != o.Listen || p.Admin.Listen != "127.77.0.1:6209" || len(p.Auth.Users) != len(Users()) {
		t.Errorf("the proxy's file says %+v", p)
	}
	for n := 1; n <= o.Nodes; n++ {
		s, err := config.LoadStorage(f.StorageFile(n))
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("127.77.1.%d", n); s.Server.Address != want || s.Cluster.HashPathSuffix != p.Cluster.HashPathSuffix {
			t.Errorf("the file of node %d says %+v", n, s)
		}
		for _, d := range s.Server.Devices {
			if info, err := os.Stat(filepath.Join(s.Server.Root, d)); err != nil || !info.IsDir() {
				t.Errorf("node %d has no folder for device %s: %v", n, d, err)
			}
		}
	}
	for name, port := range map[string]int{"account": 6202, "container": 6201, "object": 6200} {
		r, err := ring.Load(filepath.Join(p.Rings.Folder, name+".ring.gz"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := builder.Load(filepath.Join(p.Rings.Folder, name+".builder"))
		if err != nil {
			t.Fatal(err)
		}
		if own, err := b.Ring(); err != nil || own.Version() != r.Version() || !slices.EqualFunc(own.Rows(), r.Rows(), slices.Equal) {
			t.Errorf("%s: the ring is not its builder's: %v", name, err)
		}
		for part := range ring.Partition(r.Partitions()) {
			zones := map[int]bool{}
			for _, d := range r.AppendPrimaries(nil, part) {
				zones[d.Zone] = true
				if d.Port != port || d.ReplicationPort != 6203 || !strings.HasPrefix(d.ReplicationIP, "127.77.2.") {
					t.Fatalf("%s ring: device %+v, want port %d", name, d, port)
				}
			}
			if len(zones) != 3 {
				t.Fatalf("%s ring: partition %d is in %d zones, want 3", name, part, len(zones))
			}
		}
	}
	other, err := Make(filepath.Join(t.TempDir(), "other"), o, flags())
	if err != nil {
		t.Fatal(err)
	}
	q, err := config.LoadProxy(other.ProxyFile())
	if err != nil {
		t.Fatal(err)
	}
	if p.Cluster.HashPathSuffix == q.Cluster.HashPathSuffix || p.Auth.Secrets[0] == q.Auth.Secrets[0] {
		t.Error("two clusters have the same secrets")
	}
}

func TestMakeAgain(t *testing.T) {
	o := Defaults()
	o.PartPower = 4
	dir := t.TempDir()
	f, err := Make(dir, o, flags("part-power"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(f.ProxyFile())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*Options)
		asked  []string
		says   string // "" is no error
	}{
		"nothing asked":    {func(o *Options) { *o = Defaults(); o.Nodes = 9 }, nil, ""},
		"the same asked":   {func(*Options) {}, []string{"nodes", "devices", "replicas", "part-power", "network", "listen"}, ""},
		"other nodes":      {func(o *Options) { o.Nodes = 5 }, []string{"nodes"}, "--nodes 5"},
		"other devices":    {func(o *Options) { o.Devices = 5 }, []string{"devices"}, "--devices 5"},
		"other replicas":   {func(o *Options) { o.Replicas = 2 }, []string{"replicas"}, "--replicas 2"},
		"other part power": {func(o *Options) { o.PartPower = 5 }, []string{"part-power"}, "--part-power 5"},
		"other network":    {func(o *Options) { o.Network = "127.9" }, []string{"network"}, "--network 127.9"},
		"other listen":     {func(o *Options) { o.Listen = ":1" }, []string{"listen"}, "--listen :1"},
	} {
		want := o
		tt.change(&want)
		f, err := Make(dir, want, flags(tt.asked...))
		switch {
		case tt.says == "" && (err != nil || !reflect.DeepEqual(f.Options, o)):
			t.Errorf("%s: %+v, %v, want the cluster that is there", name, f, err)
		case tt.says != "" && (!errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), tt.says)):
			t.Errorf("%s: error %v, want one that says %q", name, err, tt.says)
		}
	}
	after, err := os.ReadFile(f.ProxyFile())
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("making it again changed the proxy's file: %v", err)
	}
}

// A folder that Make was stopped in is begun again; one that holds anything else is
// left alone.
func TestMakeInterrupted(t *testing.T) {
	o := Defaults()
	o.PartPower = 4
	for name, tt := range map[string]struct {
		file string
		ours bool
	}{
		"while writing etc":    {"etc.new/proxy.toml", true},
		"data without etc":     {"storage1/d1/objects/000/x.data", false},
		"somebody's file":      {"notes.txt", false},
		"etc without manifest": {"etc/proxy.toml", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, tt.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := Make(dir, o, flags())
			if !tt.ours {
				if !errors.Is(err, ErrForeign) {
					t.Fatalf("%+v, %v, want it refused", f, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := config.LoadProxy(f.ProxyFile()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for flag, change := range map[string]func(*Options){
		"--nodes 0":           func(o *Options) { o.Nodes = 0 },
		"--nodes 255":         func(o *Options) { o.Nodes = 255 },
		"--devices 0":         func(o *Options) { o.Devices = 0 },
		"--replicas 0":        func(o *Options) { o.Replicas = 0 },
		"--replicas 9":        func(o *Options) { o.Replicas = 9 },
		"--part-power 0":      func(o *Options) { o.PartPower = 0 },
		"--part-power 21":     func(o *Options) { o.PartPower = 21 },
		`--listen "8080"`:     func(o *Options) { o.Listen = "8080" },
		`--listen "a:b"`:      func(o *Options) { o.Listen = "a:b" },
		"--proxies 0":         func(o *Options) { o.Proxies = 0 },
		`--network "8.8"`:     func(o *Options) { o.Network = "8.8" },
		`--network "127.0.0"`: func(o *Options) { o.Network = "127.0.0" },
		`--network "127.256"`: func(o *Options) { o.Network = "127.256" },
		`--network ""`:        func(o *Options) { o.Network = "" },
	} {
		o := Defaults()
		change(&o)
		if err := o.Check(); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: error %v, want one that says it", flag, err)
		}
	}
	if err := Defaults().Check(); err != nil {
		t.Error(err)
	}
}

func TestReachable(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1:8080",
		"0.0.0.0:8080":   "127.0.0.1:8080",
		"[::]:8080":      "127.0.0.1:8080",
		"[::1]:8080":     "[::1]:8080",
	} {
		if got := reachable(in); got != want {
			t.Errorf("reachable(%q) = %q, want %q", in, got, want)
		}
	}
}

// freeNetwork finds loopback addresses that nothing uses.
func freeNetwork(t testing.TB) string {
	t.Helper()
	for i := range 100 {
		n := fmt.Sprintf("127.%d", 220+(os.Getpid()+i)%30)
		l, err := net.Listen("tcp", n+".1.1:6200")
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatal("no loopback network is free")
	return ""
}

// However many nodes are in a process, what bodies move through has one bound.
func TestNodesShareBuffers(t *testing.T) {
	o := together(node.Options{Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	if a, b := of("one", o, true), of("two", o, false); a.Buffers == nil || a.Buffers != b.Buffers {
		t.Error("two nodes of a process have buffers of their own")
	}
	if own := blob.NewBuffers(0); together(node.Options{Buffers: own}).Buffers != own {
		t.Error("the buffers that were given are not used")
	}
}

// running starts a cluster of a folder and returns its URL and what ends it.
func running(t *testing.T, f *Folder) (url string, end func()) {
	t.Helper()
	registry := prometheus.NewRegistry()
	c, err := f.Open(node.Options{Log: slog.New(slog.DiscardHandler), Registry: registry, Gatherer: registry, Version: "test"}, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	done := false
	end = func() {
		if done {
			return
		}
		done = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the cluster ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the cluster did not end")
		}
	}
	t.Cleanup(end)
	return "http://" + c.Address(), end
}

// What is stored in a cluster is there when it is started again, and one folder is
// never used twice at a time.
func TestRun(t *testing.T) {
	o := Defaults()
	o.Network, o.PartPower = freeNetwork(t), 6
	o.Listen = o.Network + ".0.1:0"
	f, err := Make(t.TempDir(), o, flags())
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute}
	defer client.CloseIdleConnections()
	send := func(method, url, token, body string, want int) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("X-Auth-Token", token)
		} else {
			r.Header.Set("X-Auth-User", "test:tester")
			r.Header.Set("X-Auth-Key", "testing")
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s: %s, %v, want %d\n%s", method, url, resp.Status, err, want, text)
		}
		if method == "GET" && strings.HasSuffix(url, "/o") && string(text) != "kept" {
			t.Errorf("GET %s is %q, want what was stored", url, text)
		}
		return resp
	}
	url, end := running(t, f)
	token := send("GET", url+"/auth/v1.0", "", "", 200).Header.Get("X-Auth-Token")
	send("PUT", url+"/v1/AUTH_test/c", token, "", 201)
	send("PUT", url+"/v1/AUTH_test/c/o", token, "kept", 201)
	send("GET", url+"/v1/AUTH_test/c/o", token, "", 200)

	registry := prometheus.NewRegistry()
	if c, err := f.Open(node.Options{Log: slog.New(slog.DiscardHandler), Registry: registry, Gatherer: registry}, ""); err == nil {
		t.Error("a folder in use was opened again")
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	client.CloseIdleConnections()
	end()

	url, _ = running(t, f)
	send("GET", url+"/v1/AUTH_test/c/o", token, "", 200)
	listing := send("HEAD", url+"/v1/AUTH_test/c", token, "", 204)
	if got := listing.Header.Get("X-Container-Object-Count"); got != "1" {
		t.Errorf("the container has %q objects, want 1", got)
	}
	client.CloseIdleConnections()
}
