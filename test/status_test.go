package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"martlet/ring"
)

// statusReport is what is looked at of what `martlet status --json` prints.
type statusReport struct {
	Level, Summary string
	Findings       []struct {
		Level, About, Text string
		Where              []struct{ Place, Detail string }
	}
	Processes []struct {
		Name, Role string
		Reachable  bool
		Devices    []struct{ Device string }
	}
}

// has reports whether something was found at a place.
func (r *statusReport) has(level, about, text, place string) bool {
	for _, f := range r.Findings {
		if f.Level != level || f.About != about || !strings.Contains(f.Text, text) {
			continue
		}
		for _, w := range f.Where {
			if w.Place == place {
				return true
			}
		}
	}
	return false
}

// TestStatus: of a cluster of processes that is well `martlet status` says so, and of one with a node that was stopped, a
// device that is away, an older ring and a wrong clock it names each, with the exit status that monitoring wants.
func TestStatus(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	program := program{path: plantedBinary(t)} // with no bug: its clock can be moved
	clocks := t.TempDir()
	// The third node has a folder of its own for its rings.
	rings := filepath.Join(c.dir, "rings3")
	if err := os.CopyFS(rings, os.DirFS(filepath.Join(c.dir, "etc", "rings"))); err != nil {
		t.Fatal(err)
	}
	third, err := os.ReadFile(c.file("storage3.toml"))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(third), "[rings]\n")
	_, after, isFolder := strings.Cut(rest, "\n")
	if !ok || !isFolder || !strings.HasPrefix(rest, "folder = ") {
		t.Fatalf("no folder of rings in\n%s", third)
	}
	if err := os.WriteFile(c.file("storage3.toml"), fmt.Appendf(nil, "%s[rings]\nfolder = %q\n%s", before, rings, after), 0o600); err != nil {
		t.Fatal(err)
	}
	c.storage = make([]*process, c.nodes)
	begin := func(n int) {
		c.daemon = program
		c.daemon.env = []string{fmt.Sprintf("MARTLET_CLOCK_FILE=%s/%d", clocks, n+1)}
		c.startStorage(t, n)
	}
	for n := range c.nodes {
		begin(n)
	}
	c.daemon = program
	c.startProxy(t)
	c.awaitAll(t)
	// How full this machine's disk is is not what is tested.
	args := []string{"status", "--config", c.file("proxy.toml"), "--warn-full", "100", "--crit-full", "100", "--timeout", "15s"}
	look := func() (code int, r statusReport) {
		t.Helper()
		code, stdout, stderr := martlet(t, append(args, "--json")...)
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatalf("exit status %d: %v\n%s%s", code, err, stdout, stderr)
		}
		return code, r
	}
	poll(t, 20*time.Second, "all is well", func() error { // a busy machine is slow to tell what time it is
		if code, r := look(); code != 0 || r.Level != "ok" {
			return fmt.Errorf("exit status %d: %+v", code, r)
		}
		return nil
	})
	if code, stdout, _ := martlet(t, args...); code != 0 || !strings.HasPrefix(stdout, "OK: 4 storage nodes and 1 proxy answer, 8 devices in use") {
		t.Errorf("well: exit status %d\n%s", code, stdout)
	}
	for _, path := range []string{"/recon/status", "/recon/rings"} { // clients are told nothing
		if a := do(t, request(t, "GET", c.url()+path, nil)); a.StatusCode < 400 || strings.Contains(string(a.body), "cluster.") {
			t.Errorf("a client that asks for %s gets %s\n%s", path, a.Status, a.body)
		}
	}

	for n, signal := range map[int]os.Signal{0: syscall.SIGKILL, 2: syscall.SIGTERM} {
		c.storage[n].signal(t, signal)
		c.storage[n].wait(t, 20*time.Second)
	}
	old(t, filepath.Join(rings, "object.ring.gz"))
	begin(2)
	if err := os.Rename(filepath.Join(c.dir, "storage2", "d1"), filepath.Join(c.dir, "storage2", "away")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(clocks, "4"), []byte("90s"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(n int) string { return fmt.Sprintf("%s.1.%d", c.network, n) }
	poll(t, 60*time.Second, "each fault is named", func() error {
		code, r := look()
		if code != 2 || r.Level != "critical" || !r.has("critical", "node", "does not answer", at(1)) || !r.has("critical", "device", "out of use", at(2)+"/d1") ||
			!r.has("warning", "ring", "object: older than version", at(3)) || !r.has("critical", "clock", "the clock is wrong", at(4)) {
			return fmt.Errorf("exit status %d: %+v", code, r)
		}
		return nil
	})
	code, stdout, _ := martlet(t, args...)
	if first, _, _ := strings.Cut(stdout, "\n"); code != 2 || !strings.HasPrefix(first, "CRITICAL: "+at(1)+": does not answer") {
		t.Errorf("with faults: exit status %d\n%s", code, stdout)
	}
}

// old makes a ring file one of the version before.
func old(t *testing.T, path string) {
	t.Helper()
	r, err := ring.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	data := ring.Data{PartPower: r.PartPower(), Version: r.Version() - 1, Rows: r.Rows()}
	for d := range r.Devices() {
		data.Devices = append(data.Devices, d)
	}
	if r, err = ring.New(data); err == nil {
		err = r.Save(path)
	}
	if err != nil {
		t.Fatal(err)
	}
}
