package bed

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"martlet/deploy/lab/internal/links"
	"martlet/deploy/lab/internal/proc"
)

// open opens a lab that is nothing but its file.
func open(t *testing.T, change func(*State)) *Lab {
	t.Helper()
	l := &Lab{dir: t.TempDir(), say: func(string, ...any) {}}
	o := Defaults()
	l.State = State{Format: format, Options: o, Martlet: "/bin/martlet", Switch: Namespace{Name: "lab-switch"}, Nodes: o.plan()}
	if change != nil {
		change(&l.State)
	}
	if err := l.save(); err != nil {
		t.Fatal(err)
	}
	opened, err := Open(t.Context(), l.dir, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened
}

// Who has a leg on which network, and that no two have one address or one port, is what the lab is about.
func TestPlan(t *testing.T) {
	o := Defaults()
	o.Nodes, o.Proxies, o.Devices = maxNodes, maxProxies, 3
	l := &Lab{dir: "/lab", State: State{Options: o, Switch: Namespace{Name: "lab-switch"}, Nodes: o.plan()}}
	wants := map[Kind]string{
		Storage: "storage repl", Proxy: "mgmt storage", Balancer: "mgmt", Client: "mgmt", Monitor: "mgmt storage",
	}
	if len(l.Nodes) != maxNodes+maxProxies+3 {
		t.Errorf("%d nodes", len(l.Nodes))
	}
	taken := map[string]string{}
	once := func(what, who string) {
		if other, is := taken[what]; is {
			t.Errorf("%s is both %s's and %s's", what, other, who)
		}
		taken[what] = who
	}
	for _, n := range l.Nodes {
		once(n.Name, n.Name)
		once(n.Namespace.Name, n.Name)
		var on []string
		for _, leg := range n.Legs {
			on = append(on, leg.Network)
			once(leg.Address, n.Name)
			port := l.link(n, leg).Port
			for _, device := range []string{port, links.Far(port), links.Near(port)} {
				once(device, n.Name)
				if len(device) > 15 {
					t.Errorf("%s is longer than the kernel takes", device)
				}
			}
		}
		if got := strings.Join(on, " "); got != wants[n.Kind] {
			t.Errorf("%s is on %s, want %s", n.Name, got, wants[n.Kind])
		}
		if (n.Kind == Storage) != (len(n.Devices) == 3) {
			t.Errorf("%s has %d devices", n.Name, len(n.Devices))
		}
	}
}

func TestOptions(t *testing.T) {
	for flag, change := range map[string]func(*Options){
		"--nodes 0":           func(o *Options) { o.Nodes = 0 },
		"--nodes 100":         func(o *Options) { o.Nodes = 100 },
		"--devices 0":         func(o *Options) { o.Devices = 0 },
		"--devices 21":        func(o *Options) { o.Devices = 21 },
		"--proxies 0":         func(o *Options) { o.Proxies = 0 },
		"--proxies 51":        func(o *Options) { o.Proxies = 51 },
		"--size 1048576":      func(o *Options) { o.Size = 1 << 20 },
		`--name ""`:           func(o *Options) { o.Name = "" },
		`--name "a/b"`:        func(o *Options) { o.Name = "a/b" },
		`--network "127.0"`:   func(o *Options) { o.Network = "127.0" },
		`--network "8.8"`:     func(o *Options) { o.Network = "8.8" },
		`--network "10.77.0"`: func(o *Options) { o.Network = "10.77.0" },
	} {
		o := Defaults()
		change(&o)
		if err := o.Check(); !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: error %v, want one that says it", flag, err)
		}
	}
	if err := Defaults().Check(); err != nil {
		t.Error(err)
	}
	asked := func(flags string) func(string) bool {
		return func(flag string) bool { return strings.Contains(flags, flag) }
	}
	o, other := Defaults(), Defaults()
	other.Nodes, other.Policies = 6, []string{"ec42=4+2"}
	for flags, want := range map[string]string{"": "", "devices": "", "nodes": "--nodes 6", "policy": "--policy ec42=4+2"} {
		if err := o.differ(other, asked(flags)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("asked for %q: %v, want %q", flags, err, want)
		}
	}
}

// What is written of a lab is what is read of it.
func TestState(t *testing.T) {
	p := proc.Process{Pid: 7, Start: 8, Boot: "b"}
	l := open(t, func(s *State) {
		s.Made, s.Boot, s.Options.Policies = true, "x", []string{"ec42=4+2"}
		n := s.Nodes[0]
		n.Process, n.Dark, n.Linked, n.Namespace.Inode = &p, true, true, 4026532000
		n.Devices[0].Fault, n.Devices[1].Full = Failing, true
		*n.Legs[0] = Leg{Network: StorageNet, Address: "10.77.1.1", Cut: Cable, Bits: 8000, Delay: time.Second, Forwarder: &p}
	})
	again, err := Look(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.State, l.State) || again.Nodes[0].Legs[0].Forwarder.Pid != 7 {
		t.Errorf("read %+v, want %+v", again.State, l.State)
	}
}

func TestNoLab(t *testing.T) {
	dir := t.TempDir()
	for _, where := range []string{dir, filepath.Join(dir, "gone")} {
		if _, err := Look(where); !errors.Is(err, ErrNone) {
			t.Errorf("Look: %v", err)
		}
		if _, err := Open(t.Context(), where, nil); !errors.Is(err, ErrNone) {
			t.Errorf("Open: %v", err)
		}
	}
	for text, want := range map[string]string{`{"format": 2}`: "version 2", `{`: "lab.json"} {
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Look(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of %s: %v, want an error that says %q", text, err, want)
		}
	}
}

// One command works on a lab at a time, and another waits for no longer than it is let.
func TestOneAtATime(t *testing.T) {
	l := open(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, l.dir, nil); err == nil || !strings.Contains(err.Error(), "another lab command") {
		t.Errorf("a second one: %v", err)
	}
}

// What can't be done is refused, with the name of what was asked for, before anything is touched.
func TestRefused(t *testing.T) {
	l := open(t, func(s *State) {
		s.Nodes[1].Dark = true
		s.Nodes[2].Devices[0].Fault = Vanished
	})
	ctx := t.Context()
	for want, err := range map[string]error{
		`no node "storage9"`:              l.Kill(ctx, "storage1", "storage9"),
		"client: nothing runs there":      l.Pause(ctx, "client"),
		"its process is not running":      l.Pause(ctx, "storage1"),
		`proxy1 has no leg on a network`:  l.Cut(ctx, "proxy1", "repl", false),
		`no leg on a network "net"`:       l.Heal(ctx, "client", "net"),
		"client has no devices":           l.Free("client", "d1"),
		`storage1 has no device "d3"`:     l.Mend(ctx, "storage1", "d3"),
		"storage2 has no power":           l.Fail("storage2", "d1", false),
		"d1 of storage3 is vanished":      l.Free("storage3", "d1"),
		"d1 of storage1 is not mounted":   l.Free("storage1", "d1"),
		"client: nothing runs there: all": errors.Join(l.PowerCut(ctx, true, "storage1", "client"), errors.New(": all")),
		"the lab is not up":               func() error { _, err := l.AddNode(ctx, 0); return err }(),
	} {
		want, _ = strings.CutSuffix(want, ": all")
		if !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
	if l.Nodes[0].Dark {
		t.Error("a power cut that was refused has begun")
	}
}

// Prometheus is told of everything that has metrics.
func TestTargets(t *testing.T) {
	l := open(t, nil)
	for _, name := range []string{balanceDir, watchDir} {
		if err := os.Mkdir(filepath.Join(l.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.configure(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(l.dir, watchDir, "targets.json"))
	if err != nil {
		t.Fatal(err)
	}
	var groups []struct {
		Targets []string
		Labels  map[string]string
	}
	if err := json.Unmarshal(text, &groups); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, g := range groups {
		got[g.Labels["node"]] = strings.Join(g.Targets, " ")
	}
	want := map[string]string{
		"storage1": "10.77.1.1:6209", "storage2": "10.77.1.2:6209", "storage3": "10.77.1.3:6209", "storage4": "10.77.1.4:6209",
		"proxy1": "10.77.0.1:6209", "proxy2": "10.77.0.2:6209", "balancer": "10.77.0.250:8404", "monitor": "10.77.0.252:9090",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("targets %v, want %v", got, want)
	}
	balancer, err := os.ReadFile(filepath.Join(l.dir, balanceDir, "haproxy.cfg"))
	if err != nil || !strings.Contains(string(balancer), "server proxy2 10.77.0.2:8080") {
		t.Errorf("the balancer is told %s, %v", balancer, err)
	}
}

// What the kernel had is forgotten when the machine was started anew; what is on disks is not.
func TestAfterRestart(t *testing.T) {
	l := open(t, func(s *State) {
		s.Options.Name = "bed-test-nobody-has-this"
		s.Nodes = s.Options.plan()
		s.Switch = Namespace{Name: s.Options.Name + "-switch", Inode: 7}
		s.Boot, s.Made, s.Bridges = "an earlier one", true, true
		n := s.Nodes[0]
		n.Namespace.Inode, n.Linked, n.Dark, n.Process = 7, true, true, &proc.Process{Pid: 7, Boot: "an earlier one"}
		n.Legs[0].Cut, n.Legs[1].Bits, n.Legs[1].Forwarder = Silent, 8000, &proc.Process{Pid: 8}
		n.Devices[0].Fault = Vanished
	})
	if err := l.afterRestart(); err != nil {
		t.Fatal(err)
	}
	want := l.Options.plan()[0]
	want.Devices[0].Fault = Vanished
	if got := l.Nodes[0]; !reflect.DeepEqual(got, want) || l.Bridges || l.Switch.Inode != 0 || !l.Made {
		t.Errorf("after a restart there is %+v, want %+v; and %+v", got, want, l.State)
	}
	boot, err := proc.Boot()
	if err != nil {
		t.Fatal(err)
	}
	l.Nodes[0].Dark = true
	if err := l.afterRestart(); err != nil || l.Boot != boot || !l.Nodes[0].Dark {
		t.Errorf("without a restart %+v was forgotten, of the start %s: %v", l.Nodes[0], l.Boot, err)
	}
}
