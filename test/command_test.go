package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// oneLine wants a process to have ended with a status and one line that says all
// of the words.
func oneLine(t *testing.T, p *process, status int, words ...string) {
	t.Helper()
	code := p.wait(t, 10*time.Second)
	text := p.err.String()
	if code != status || strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "martlet: ") {
		t.Errorf("%s: exit status %d, want %d, and one line that begins with martlet:\n%s", p.name, code, status, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: does not say %q:\n%s", p.name, w, text)
		}
	}
}

// A configuration that makes no sense stops the start with one line that names
// file and key.
func TestWrongConfiguration(t *testing.T) {
	c := newCluster(t)
	for _, name := range []string{"proxy.toml", "storage1.toml", "storage4.toml"} {
		if code, out, text := martlet(t, "config", "check", c.file(name)); code != 0 || !strings.Contains(out, c.file(name)) {
			t.Errorf("config check %s: exit status %d, want 0: %s%s", name, code, out, text)
		}
	}
	for name, tt := range map[string]struct {
		role, old, new string
		says           []string
	}{
		"unknown key":       {"proxy", "[proxy]\n", "[proxy]\nlisten_on = 1\n", []string{":", "proxy.listen_on"}},
		"broken syntax":     {"proxy", "[proxy]\n", "[proxy\n", nil},
		"wrong type":        {"proxy", "[proxy]\n", "[proxy]\nclient_timeout = 60\n", []string{"client_timeout", "60"}},
		"no salt":           {"proxy", "hash_path_suffix = ", `hash_path_suffix = "" #`, []string{"cluster.hash_path_suffix"}},
		"no secret":         {"proxy", "secrets = ", "secrets = [] #", []string{"auth", "secret"}},
		"no port":           {"proxy", `listen = "`, `listen = "nowhere" # "`, []string{"proxy.listen", "nowhere"}},
		"no rings folder":   {"proxy", `folder = "rings"`, `folder = ""`, []string{"rings.folder"}},
		"two default":       {"proxy", "[rings]", "[[cluster.policies]]\nindex = 0\nname = \"a\"\n[[cluster.policies]]\nindex = 1\nname = \"b\"\n[rings]", []string{"cluster.policies"}},
		"storage key":       {"storage1", "[object]\n", "[object]\nspeed = 1\n", []string{"object.speed"}},
		"device twice":      {"storage1", `"d2"`, `"d1"`, []string{"storage.devices", "d1"}},
		"device with slash": {"storage1", `"d2"`, `"../d2"`, []string{"storage.devices", "../d2"}},
		"ports clash":       {"storage1", "[account]\nport = 6202", "[account]\nport = 6201", []string{"account.port", "container.port", "6201"}},
		"port too high":     {"storage1", "[account]\nport = 6202", "[account]\nport = 70000", []string{"account.port", "70000"}},
		"no address":        {"storage1", "[storage]\naddress = ", "[storage]\naddress = \"\" #", []string{"storage.address"}},
		"any address":       {"storage1", "[storage]\naddress = ", "[storage]\naddress = \"0.0.0.0\" #", []string{"storage.address", "0.0.0.0"}},
		"interval":          {"storage1", "[updater]\ninterval = \"5s\"", "[updater]\ninterval = \"5 parsec\"", []string{"updater.interval", "5 parsec"}},
		"log level":         {"storage1", "[log]\n", "[log]\nlevel = \"loud\"\n", []string{"log.level", "loud"}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(c.file(tt.role + ".toml"))
			if err != nil {
				t.Fatal(err)
			}
			wrong := strings.Replace(string(text), tt.old, tt.new, 1)
			if wrong == string(text) {
				t.Fatalf("%s.toml has no %q", tt.role, tt.old)
			}
			path := c.file("wrong.toml")
			if err := os.WriteFile(path, []byte(wrong), 0o600); err != nil {
				t.Fatal(err)
			}
			role := strings.TrimRight(tt.role, "0123456789")
			oneLine(t, start(t, role, "--config", path), 2, append(tt.says, path)...)
			oneLine(t, start(t, "config", "check", path), 2, append(tt.says, path)...)
		})
	}
}

func TestCommandLine(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.toml")
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("the only copy"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"no such command": {[]string{"fly"}, 2, []string{"fly"}},
		"no such flag":    {[]string{"proxy", "--fast"}, 2, []string{"--fast"}},
		"no config":       {[]string{"storage"}, 2, []string{"--config"}},
		"missing file":    {[]string{"proxy", "--config", missing}, 2, []string{missing}},
		"extra argument":  {[]string{"version", "please"}, 2, []string{"please"}},
		"too many":        {[]string{"dev", "init", "--dir", t.TempDir(), "--nodes", "1", "--devices", "2"}, 2, []string{"--replicas 3"}},
		"bad network":     {[]string{"dev", "init", "--dir", t.TempDir(), "--network", "8.8"}, 2, []string{"--network"}},
		"bad nodes":       {[]string{"dev", "--dir", t.TempDir(), "--nodes", "0"}, 2, []string{"--nodes 0"}},
		"foreign folder":  {[]string{"dev", "init", "--dir", foreign}, 2, []string{"not the folder of a cluster", "thesis.txt"}},
	} {
		t.Run(name, func(t *testing.T) { oneLine(t, start(t, tt.args...), tt.code, tt.says...) })
	}
	if code, out, _ := martlet(t, "version"); code != 0 || !strings.HasPrefix(out, "martlet v0.0.0-test go") {
		t.Errorf("version: exit status %d, %q", code, out)
	}
	if code, out, _ := martlet(t); code != 0 || !strings.Contains(out, "Available Commands") {
		t.Errorf("without arguments: exit status %d, %q", code, out)
	}
}

// dev init on a folder that has a cluster leaves it as it is, and refuses to make
// another of it.
func TestInitAgain(t *testing.T) {
	c := newCluster(t)
	before, err := os.ReadFile(c.file("proxy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(c.file("proxy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("proxy.toml, which holds secrets, has mode %v, want 0600", got)
	}
	code, out, text := martlet(t, "dev", "init", "--dir", c.dir)
	if code != 0 {
		t.Fatalf("again: exit status %d, %s", code, text)
	}
	for n := 1; n <= c.nodes; n++ {
		if want := fmt.Sprintf("storage --config %s &\n", c.file(fmt.Sprintf("storage%d.toml", n))); !strings.Contains(out, want) {
			t.Errorf("dev init does not print %q:\n%s", want, out)
		}
	}
	if want := fmt.Sprintf("proxy --config %s &\n", c.file("proxy.toml")); !strings.Contains(out, want) {
		t.Errorf("dev init does not print %q:\n%s", want, out)
	}
	after, err := os.ReadFile(c.file("proxy.toml"))
	if err != nil || string(after) != string(before) {
		t.Errorf("dev init changed proxy.toml: %v", err)
	}
	oneLine(t, start(t, "dev", "init", "--dir", c.dir, "--nodes", "5"), 2, "--nodes 5", "made with 4")
	oneLine(t, start(t, "dev", "--dir", c.dir, "--part-power", "11"), 2, "--part-power 11", "made with 10")
}

// A port that is taken, and a device that is in use, end the start with one line.
func TestTaken(t *testing.T) {
	c := newCluster(t)
	taken, err := net.Listen("tcp", c.address())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	oneLine(t, start(t, "proxy", "--config", c.file("proxy.toml")), 1, c.address(), "in use")
	oneLine(t, start(t, "dev", "--dir", c.dir), 1, c.address(), "in use")
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}

	c.start(t)
	text, err := os.ReadFile(c.file("storage1.toml"))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.ReplaceAll(string(text), c.network+".", c.network[:len("127.")]+"19.")
	other = strings.Replace(other, `"d1", "d2"`, `"d1"`, 1) // a line is said of each device
	path := c.file("other.toml")
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	oneLine(t, start(t, "storage", "--config", path), 1, "d1", "in use by another process")
}
