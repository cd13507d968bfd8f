package cluster

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet/cmd/internal/check/forward"
	"martlet/cmd/internal/check/nemesis"
	made "martlet/cmd/internal/cluster"
	"martlet/ring"
)

// TestFlip: a few bits of what is stored change, nothing else does, and the same ones for the same seed.
func TestFlip(t *testing.T) {
	plain := bytes.Repeat([]byte("stored "), 1000)
	var first [][]byte
	for range 2 {
		dir := t.TempDir()
		paths := []string{"log/1.seg", "blobs/aa/b", "containers/0.small", "index/never", ".martlet-device", "log/.spare"}
		for _, p := range paths {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, p)), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, p), plain, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		where, err := flip(dir, 7)
		if err != nil {
			t.Fatal(err)
		}
		changed := 0
		var all [][]byte
		for i, p := range paths {
			text, err := os.ReadFile(filepath.Join(dir, p))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for i := range text {
				n += bits.OnesCount8(text[i] ^ plain[i])
			}
			if i >= 3 && n > 0 {
				t.Errorf("%s is nothing that is stored, and has changed", p)
			}
			changed += n
			all = append(all, text)
		}
		if changed == 0 || changed > 8 {
			t.Errorf("%d bits have changed: %s", changed, where)
		}
		if first != nil && !slices.EqualFunc(first, all, bytes.Equal) {
			t.Error("the same seed changes other bits")
		}
		first = all
	}
	if where, err := flip(t.TempDir(), 1); err != nil || !strings.Contains(where, "nothing") {
		t.Errorf("of an empty device: %q, %v", where, err)
	}
}

// TestFlipInWhatIsWritten: what a log has room for is nothing that is stored.
func TestFlipInWhatIsWritten(t *testing.T) {
	for name, used := range map[string]int{"nothing": 0, "one byte": 1, "less than is looked at at once": 1000, "more": 300 << 10} {
		dir := t.TempDir()
		path := filepath.Join(dir, "log", "1.seg")
		if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		was := append(bytes.Repeat([]byte{'x'}, used), make([]byte, 1<<20)...)
		changed := 0
		for seed := range uint64(20) {
			if err := os.WriteFile(path, was, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := flip(dir, seed); err != nil {
				t.Fatal(err)
			}
			is, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(is[used:], was[used:]) {
				t.Fatalf("%s, seed %d: a bit has changed behind what is written", name, seed)
			}
			if !bytes.Equal(is, was) {
				changed++
			}
		}
		if used > 0 && changed == 0 || used == 0 && changed > 0 {
			t.Errorf("%s: a file has changed for %d of 20 seeds", name, changed)
		}
	}
}

// TestChangeRings: each change makes newer rings, of the same devices in all of them, moves one replica of a partition at
// most, and leaves each node a device with its weight.
func TestChangeRings(t *testing.T) {
	policies := []made.Policy{{Name: "gold"}}
	f, err := made.Make(filepath.Join(t.TempDir(), "c"), made.Options{
		Nodes: 4, Devices: 2, Replicas: 3, PartPower: 5, Proxies: 1, Policies: policies, Listen: "127.9.0.1:8080", Network: "127.9", Forwarded: true, Brisk: true,
	}, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	load := func() map[string]*ring.Ring {
		all := map[string]*ring.Ring{}
		for _, name := range []string{"account", "container", "object", "object-1"} {
			r, err := ring.Load(filepath.Join(f.RingsDir(), name+".ring.gz"))
			if err != nil {
				t.Fatal(err)
			}
			all[name] = r
		}
		return all
	}
	was := load()
	for seed := range uint64(8) {
		what, err := changeRings(f.RingsDir(), seed)
		if err != nil || what == "" {
			t.Fatalf("seed %d: %q, %v", seed, what, err)
		}
		now := load()
		weights := ""
		for _, name := range []string{"account", "container", "object", "object-1"} {
			r, old := now[name], was[name]
			if r.Version() <= old.Version() {
				t.Errorf("%s is version %d after %d", name, r.Version(), old.Version())
			}
			var all []string
			for d := range r.Devices() {
				all = append(all, fmt.Sprintf("%s/%s %v", d.IP, d.Name, d.Weight))
				if d.Name == "d1" && d.Weight != 100 {
					t.Errorf("%s: %s/%s has weight %v", name, d.IP, d.Name, d.Weight)
				}
			}
			slices.Sort(all)
			if weights == "" {
				weights = fmt.Sprint(all)
			} else if weights != fmt.Sprint(all) {
				t.Errorf("%s has %v, another ring %s", name, all, weights)
			}
			for p := range ring.Partition(r.Partitions()) {
				moved := 0
				before := old.AppendPrimaries(nil, p)
				for _, d := range r.AppendPrimaries(nil, p) {
					if !slices.ContainsFunc(before, func(o *ring.Device) bool { return o.IP == d.IP && o.Name == d.Name }) {
						moved++
					}
				}
				if moved > 1 {
					t.Fatalf("%s: %d replicas of partition %d move at once", name, moved, p)
				}
			}
		}
		was = now
	}
}

// TestLab: each fault is a command of the lab's, and healing undoes what has not ended.
func TestLab(t *testing.T) {
	dir := t.TempDir()
	if _, err := made.Make(filepath.Join(dir, "cluster"), made.Options{
		Nodes: 4, Devices: 2, Replicas: 3, PartPower: 4, Proxies: 2, Listen: "127.9.0.1:8080", Network: "127.9",
	}, func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	said, program := filepath.Join(dir, "said"), filepath.Join(dir, "lab")
	script := `#!/bin/sh
shift 2
echo "$@" >> ` + said + `
[ "$1" = status ] && cat <<'END'
{"endpoint": "http://10.77.0.250:8080", "up": true,
 "nodes": [{"name": "client", "kind": "client", "namespace": "lab-client", "state": "idle"},
  {"name": "proxy1", "kind": "proxy", "state": "running"}, {"name": "proxy2", "kind": "proxy", "state": "running"}],
 "durability": {"under_replicated": 0, "unknown_devices": [], "databases": [{"kind": "container", "too_few": 1, "differ": 2, "unknown_devices": []}]}}
END
exit 0
`
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := OpenLab(t.Context(), program, dir)
	if err != nil {
		t.Fatal(err)
	}
	if s := l.Shape(); s != (nemesis.Shape{Nodes: 4, Devices: 2, Proxies: 2, Bears: 2}) {
		t.Errorf("shape %+v", s)
	}
	if got := l.Endpoints(); !slices.Equal(got, []string{"http://10.77.0.250:8080"}) {
		t.Errorf("endpoints %v", got)
	}
	if lacks, err := l.Whole(t.Context()); err != nil || !strings.Contains(lacks, "copies of 2 differ") {
		t.Errorf("lacks %q, %v", lacks, err)
	}
	if err := os.Remove(said); err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		f           nemesis.Fault
		begin, ends string
	}{
		{nemesis.Fault{Kind: nemesis.Kill, Node: 2}, "kill storage2", "start storage2"},
		{nemesis.Fault{Kind: nemesis.KillAll}, "kill storage1 storage2 storage3 storage4", "start storage1 storage2 storage3 storage4"},
		{nemesis.Fault{Kind: nemesis.Proxy, Proxy: 1}, "kill proxy1", "start proxy1"},
		{nemesis.Fault{Kind: nemesis.Pause, Node: 1}, "pause storage1", "resume storage1"},
		{nemesis.Fault{Kind: nemesis.Cut, Node: 1, Network: nemesis.Replication}, "cut storage1 repl", "heal storage1 repl"},
		{nemesis.Fault{Kind: nemesis.Cut, Node: 1, Network: nemesis.Storage, Reset: true}, "cut storage1 storage --cable", "heal storage1 storage"},
		{nemesis.Fault{Kind: nemesis.Slow, Node: 3, Network: nemesis.Storage, Rate: 1 << 20, Delay: 5 * time.Millisecond}, "slow storage3 storage 8388kbit --delay 5ms", "heal storage3 storage"},
		{nemesis.Fault{Kind: nemesis.Power, Node: 4}, "power --off storage4", "start storage4"},
		{nemesis.Fault{Kind: nemesis.PowerAll}, "power --off storage1 storage2 storage3 storage4", "start storage1 storage2 storage3 storage4"},
		{nemesis.Fault{Kind: nemesis.Full, Node: 1, Device: 2}, "fill storage1 d2", "free storage1 d2"},
		{nemesis.Fault{Kind: nemesis.Fail, Node: 1, Device: 2}, "fail storage1 d2", "mend storage1 d2"},
		{nemesis.Fault{Kind: nemesis.Flip, Node: 1, Device: 2, Seed: 9}, "flip storage1 d2 --bits 2 --seed 9", ""},
	} {
		tt.f.ID = i + 1
		if _, err := l.Begin(t.Context(), tt.f); err != nil {
			t.Fatal(err)
		}
		ended := l.End
		if i%2 == 1 { // what has not ended is by Heal, which looks at the lab behind that
			ended = func(ctx context.Context, _ nemesis.Fault) error { return l.Heal(ctx) }
			tt.ends += "\nstatus --json --quick"
		}
		if err := ended(t.Context(), tt.f); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(said)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.TrimSpace(string(text)), strings.TrimSpace(strings.ReplaceAll(tt.begin+"\n"+tt.ends, "\n\n", "\n")); got != want {
			t.Errorf("%v is %q, want %q", tt.f, got, want)
		}
		if err := os.Remove(said); err != nil {
			t.Fatal(err)
		}
	}
	offered := nemesis.Offered(l, nemesis.Kinds())
	for _, k := range []nemesis.Kind{nemesis.Restart, nemesis.Rolling, nemesis.Clock, nemesis.Queue} {
		if slices.Contains(offered, k) {
			t.Errorf("%s is offered", k)
		}
	}
	if len(offered) != len(nemesis.Kinds())-4 {
		t.Errorf("offered are %v", offered)
	}
}

// A log that tells of a panic does so once.
func TestPanics(t *testing.T) {
	path, used := filepath.Join(t.TempDir(), "x.log"), map[string]int{}
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := panics(path, used); got != "" {
		t.Errorf("no log: %q", got)
	}
	add("all is well\n")
	if got := panics(path, used); got != "" {
		t.Errorf("a good log: %q", got)
	}
	add("panic in a handler: index out of range\n")
	if got := panics(path, used); !strings.Contains(got, "index out of range") {
		t.Errorf("a panic: %q", got)
	}
	if got := panics(path, used); got != "" {
		t.Errorf("told again: %q", got)
	}
}

// TestWhoIsCutOff: a node that is cut off is so with all its servers, and container servers alone where only they are.
func TestWhoIsCutOff(t *testing.T) {
	network, err := freeNetwork(1)
	if err != nil {
		t.Fatal(err)
	}
	l := &Local{nets: map[string]*forward.Network{nemesis.Storage: forward.New(), nemesis.Replication: forward.New()}, storage: []*process{{}, {}}}
	l.folder = &made.Folder{Options: made.Options{Nodes: 2, Network: network, Forwarded: true}}
	t.Cleanup(func() {
		for _, n := range l.nets {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	type server struct {
		node int
		kind string
	}
	at := map[server]string{}
	for n := 1; n <= 2; n++ {
		if err := l.forward(n); err != nil {
			t.Fatal(err)
		}
		p := l.folder.Options.Place(n)
		for _, s := range []struct {
			kind, bind, address string
			port                int
		}{
			{"object", p.BindStorage, p.Storage, p.Object}, {"container", p.BindStorage, p.Storage, p.Container},
			{"account", p.BindStorage, p.Storage, p.Account}, {"replication", p.BindReplication, p.Replication, p.ReplicationPort},
		} {
			listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", s.bind, s.port))
			if err != nil {
				t.Fatal(err)
			}
			answers := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.NotFoundHandler()}}
			answers.Start()
			t.Cleanup(answers.Close)
			at[server{n, s.kind}] = fmt.Sprintf("http://%s:%d/", s.address, s.port)
		}
	}
	for name, tt := range map[string]struct {
		do  func() error
		off []server
	}{
		"nobody": {func() error { return l.containers(forward.Condition{}) }, nil},
		"a node": {
			func() error {
				return l.network(nemesis.Fault{Kind: nemesis.Cut, Node: 1, Network: nemesis.Storage, Reset: true})
			},
			[]server{{1, "object"}, {1, "container"}, {1, "account"}},
		},
		"its replication": {
			func() error {
				return l.network(nemesis.Fault{Kind: nemesis.Cut, Node: 2, Network: nemesis.Replication, Reset: true})
			},
			[]server{{2, "replication"}},
		},
		"container servers": {
			func() error { return l.containers(forward.Condition{Cut: forward.Reset}) }, []server{{1, "container"}, {2, "container"}},
		},
	} {
		if err := tt.do(); err != nil {
			t.Fatal(err)
		}
		for s, url := range at {
			resp, err := asker.Get(url)
			if err == nil {
				err = resp.Body.Close()
			}
			if off := err != nil; off != slices.Contains(tt.off, s) {
				t.Errorf("%s cut off: the %s server of node %d is: %v (%v)", name, s.kind, s.node, off, err)
			}
		}
		for n := 1; n <= 2; n++ {
			for _, network := range []string{nemesis.Storage, nemesis.Replication} {
				if err := l.condition(network, n, forward.Condition{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
