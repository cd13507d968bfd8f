package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"martlet/cmd/internal/bench/procs"
)

func TestParse(t *testing.T) {
	for name, args := range map[string][]string{
		"a store that there is not": {"-stores", "martlet,gluster"},
		"a part that there is not":  {"-parts", "table,graph"},
		"a floor of somebody else":  {"-stores", "swift,martlet", "-parts", "floor"},
		"a floor of what is large":  {"-stores", "martlet-two,martlet", "-parts", "floor"},
		"scaling of what is large":  {"-stores", "martlet-ec42", "-parts", "scale"},
		"no duration":               {"-duration", "-1s"},
		"rounds below nothing":      {"-rounds", "-1"},
		"no expression":             {"-only", "("},
		"an argument":               {"more"},
		"no such flag":              {"-more"},
	} {
		if _, err := parse(args, new(bytes.Buffer)); err == nil {
			t.Errorf("%s: %q is taken", name, args)
		}
	}
	for _, tt := range []struct {
		args     []string
		rounds   int
		duration time.Duration
		parts    string
	}{
		{nil, 5, 3 * time.Second, "table,floor,scale"},
		{[]string{"-stores", "martlet,martlet-processes,swift"}, 5, 2 * time.Second, "table,floor,scale"},
		{[]string{"-stores", "martlet,martlet-two,martlet-ec42,swift"}, 5, 2200 * time.Millisecond, "table,floor,scale"},
		{[]string{"-stores", "martlet-two", "-parts", "table"}, 5, 6 * time.Second, "table"},
		{[]string{"-short"}, 3, 1500 * time.Millisecond, "table,floor"},
		{[]string{"-short", "-rounds", "1", "-duration", "1s"}, 1, time.Second, "table,floor"},
		{[]string{"-stores", "swift", "-parts", "table", "-only", "GET"}, 5, 6 * time.Second, "table"},
	} {
		o, err := parse(tt.args, new(bytes.Buffer))
		if err != nil || o.rounds != tt.rounds || o.duration != tt.duration || strings.Join(o.parts, ",") != tt.parts {
			t.Errorf("%q: %+v, %v", tt.args, o, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.456: "0.46", 9.99: "9.99", 9.996: "10.0", 12.34: "12.3", 99.96: "100", 123.4: "123", 999.6: "1,000", 1234567: "1,234,567"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) is %q, want %q", v, got, want)
		}
	}
	for us, want := range map[float64]string{43.21: "43.2 µs", 612.4: "612 µs", 33_800: "33.8 ms", 2_150_000: "2.15 s"} {
		if got := micros(us); got != want {
			t.Errorf("micros(%v) is %q, want %q", us, got, want)
		}
	}
}

// Tables have what was measured, medians and how others compare, and say what failed.
func TestTables(t *testing.T) {
	o, err := parse([]string{"-stores", "martlet,swift"}, new(bytes.Buffer))
	if err != nil {
		t.Fatal(err)
	}
	m := &measuring{options: o, stores: []*store{{name: "martlet"}, {name: "swift"}, {name: martletTwo}}, figures: map[string][]*figures{}, began: time.Now()}
	m.stores[0].peak = procs.Usage{Processes: 1, RSS: 300e6, Anonymous: 200e6}
	put := loads[0].String()
	large := loadOf{loads[0].kind, largeSize, 4, 0, ""}.String()
	*m.of(large, 0) = figures{cpu: []float64{400e3}, rate: []float64{3}, p50: []float64{1e6}, p99: []float64{2e6}, written: []float64{3.1, 3.02, 3}}
	*m.of(large, 1) = figures{}
	*m.of(large, 2) = figures{cpu: []float64{200e3}, rate: []float64{6}, p50: []float64{1e6}, p99: []float64{2e6}, written: []float64{2}}
	*m.of(put, 0) = figures{cpu: []float64{500, 700, 600}, rate: []float64{1000, 2000, 3000}, p50: []float64{10e3}, p99: []float64{45e3}}
	*m.of(put, 1) = figures{cpu: []float64{33e3}, rate: []float64{50}, p50: []float64{1}, p99: []float64{2}, failed: 3, example: "PUT x: answered with 503"}
	*m.of(floorLine{kind: loads[0].kind, devices: 3}.String(), 3) = figures{cpu: []float64{300}, rate: []float64{4000}, p50: []float64{1}, p99: []float64{2}}
	*m.of(scaleLine(loads[0].kind, 64), 0) = figures{cpu: []float64{400}, rate: []float64{5000}, p50: []float64{10e3}, p99: []float64{20e3}, anonymous: []float64{123e6}}
	text := m.tables()
	for _, want := range []string{
		"| 4KiB PUT, 32 clients | 600 µs [500 µs–700 µs] (2,000/s) | 33.0 ms [33.0 ms–33.0 ms] (50.0/s); 55.0× CPU, 0.03× rate |  | 0.6 ms |",
		"| 64MiB PUT, 4 clients | 400 ms [400 ms–400 ms] (3.00/s) |  | 200 ms [200 ms–200 ms] (6.00/s); 0.50× CPU, 2.00× rate | 330 ms |",
		"| written to disks for each byte stored | martlet | swift | martlet-two |\n|---|---|---|---|\n",
		"| 64MiB PUT, 4 clients | 3.02× |  | 2.00× |",
		"| 4KiB PUT, 32 clients | 10.0 ms, 45.0 ms (4.50) | 1.00 µs, 2.00 µs (2.00) |  |",
		"| martlet | 1 | 200 MB | 300 MB |",
		"| floor of a PUT: 3 logs | 300 µs [300 µs–300 µs] | 4,000/s | 1.00 µs, 2.00 µs (2.00) | 2.00× | 0.50× |",
		"| 64 | 5,000/s | 400 µs | 10.0 ms, 20.0 ms (2.00) | 123 MB |",
		"swift, 4KiB PUT, 32 clients: 3 failed, such as PUT x: answered with 503",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

// What is sent to whom, and under which policy.
func TestPolicies(t *testing.T) {
	for name := range starters {
		large, policy := 0, policyOf(name)
		for _, l := range loads {
			switch {
			case l.large() && takes(name, l):
				large++
			case policy == "" && !takes(name, l) || policy != "" && takes(name, l):
				t.Errorf("%s, of policy %q, is sent %v: %v", name, policy, l, takes(name, l))
			}
		}
		if large != 2 {
			t.Errorf("%s is sent %d large loads, want 2", name, large)
		}
	}
	for name, want := range map[string]string{martletTwo: "two", martletEC42: "ec42", "martlet": "", "minio": ""} {
		if got := policyOf(name); got != want {
			t.Errorf("the policy of %s is %q, want %q", name, got, want)
		}
	}
}

// A process ends with all that it has started.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	s := &store{name: "shell"}
	if err := s.begin(dir, "shell", nil, "/bin/sh", "-c", "sleep 1000 & echo $! >child; wait"); err != nil {
		t.Fatal(err)
	}
	child := 0
	for deadline := time.Now().Add(time.Minute); child == 0; <-time.After(time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(dir, "child"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			t.Fatal("no child: ", err)
		}
		child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	pids, err := s.finder()()
	if err != nil || len(pids) != 2 || pids[1] != child {
		t.Errorf("its processes are %v, %v, want two, the second %d", pids, err, child)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if !s.processes[0].ended() {
		t.Error("it is not known to have ended")
	}
	for deadline := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) { // who adopts it has to look at it first
		state, err := os.ReadFile("/proc/" + strconv.Itoa(child) + "/stat")
		if err != nil || bytes.Contains(state, []byte(") Z ")) || errors.Is(syscall.Kill(child, 0), syscall.ESRCH) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d goes on", child)
		}
	}
}

// What a store wants is in its files, and no more.
func TestSwiftFiles(t *testing.T) {
	f := swiftFile{Dir: t.TempDir(), Network: "127.9", User: "me", Server: "object", Node: 2, Port: 6200, Filters: swiftFilters}
	if err := errors.Join(f.write("server", swiftServer), f.write("proxy", swiftProxy)); err != nil {
		t.Fatal(err)
	}
	for file, lines := range map[string][]string{
		"server": {"bind_ip = 127.9.1.2", "bind_port = 6200", "pipeline = object-server", "use = egg:swift#object", "user = me", "devices = " + f.Dir + "/node2"},
		"proxy":  {"bind_ip = 127.9.0.1", "[filter:container-quotas]\nuse = egg:swift#container_quotas", "memcache_servers = 127.9.0.1:11211"},
	} {
		text, err := os.ReadFile(filepath.Join(f.Dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if !strings.Contains(string(text), line+"\n") {
				t.Errorf("%s has no %q:\n%s", file, line, text)
			}
		}
	}
}
