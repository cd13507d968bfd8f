// Package architecture holds the edges between packages: which must not come to
// depend on which, and why.
package architecture

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "martlet"

// listed is what the go command says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string // its own
	Deps       []string // all that it reaches
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Standard,Imports,Deps", module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// matches says whether a package is the one of a pattern: a path, which "/..."
// behind it extends to what is below it.
func matches(path string, patterns ...string) bool {
	for _, p := range patterns {
		if root, tree := strings.CutSuffix(p, "/..."); path == root || tree && strings.HasPrefix(path, root+"/") {
			return true
		}
	}
	return false
}

func within(paths ...string) []string {
	all := make([]string, len(paths))
	for i, p := range paths {
		all[i] = module + "/" + p
	}
	return all
}

var servers = within("account/...", "container/...", "object/...", "proxy/...", "replicator/...")

func without(all []string, but ...string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(p string) bool { return slices.Contains(but, p) })
}

// What a package must not reach, not even through others.
var unreachable = []struct {
	from, to []string
	why      string
}{
	{
		within("proxy/..."), append(without(servers, module+"/proxy/..."), "go.etcd.io/bbolt/..."),
		"the proxy knows storage nodes only as peers on the network, so that one process or a hundred hosts is the same code",
	},
	{within("account/..."), without(servers, module+"/account/..."), "servers do not know each other"},
	{within("container/..."), without(servers, module+"/container/..."), "servers do not know each other"},
	{within("object/..."), without(servers, module+"/object/..."), "the proxy tells the object server where to send its container update"},
	{
		// object/pending is what the two of them speak, a package of its own.
		within("replicator/..."),
		append(within("account/...", "container/...", "proxy/...", "object", "object/engine/...", "object/index"), "go.etcd.io/bbolt/..."),
		"background work is handed the open stores as interfaces: it does not import who owns them",
	},
	{within("internal/..."), append(slices.Clone(servers), within("cmd/...")...), "what servers share knows none of them"},
	{
		within("ring/..."), append(within("internal/...", "cmd/..."), servers...),
		"a ring is tested with a million partitions and no server",
	},
	{within("ring/..."), []string{"net/http", "log/slog"}, "a ring is a pure value"},
	{servers, within("cmd/..."), "what assembles processes stands above all of them"},
	{
		within("deploy/..."), append(within("cmd/...", "internal/direct", "internal/quorum", "internal/backend"), servers...),
		"the lab knows a cluster as an operator does, by its program, its files and its addresses: what it breaks it must not be part of",
	},
	{
		within("internal/backend", "internal/clusterkey", "internal/direct", "internal/errs", "internal/name", "internal/policy", "internal/rowbatch", "internal/timestamp"), []string{"net/http"},
		"the words of the conversation between nodes mention no HTTP library, so that what carries them can be exchanged",
	},
}

func TestUnreachable(t *testing.T) {
	all := packages(t)
	for _, rule := range unreachable {
		found := false
		for _, p := range all {
			if !matches(p.ImportPath, rule.from...) {
				continue
			}
			found = true
			for _, dep := range p.Deps {
				if matches(dep, rule.to...) {
					t.Errorf("%s reaches %s: %s", p.ImportPath, dep, rule.why)
				}
			}
		}
		if !found {
			t.Errorf("no package is any of %v: the rule holds nothing", rule.from)
		}
	}
}

// Who may import what has one place.
var confined = []struct {
	what string
	to   []string
	why  string
}{
	{
		"go.etcd.io/bbolt", within("internal/metadb/...", "account", "container", "object/engine"),
		"a database belongs to the package that knows its layout",
	},
	{"github.com/klauspost/reedsolomon", within("internal/ec"), "erasure coding is one idea"},
	{"github.com/minio/crc64nvme", within("internal/ec"), "what blocks on a disk have is CRC32C"},
	{"github.com/spf13/cobra", within("cmd/martlet", "deploy/lab"), "only the command line knows flags, that of the cluster's program and that of the lab"},
	{"github.com/HdrHistogram/hdrhistogram-go", within("cmd/internal/bench/load", "cmd/internal/bench/result"), "latencies are recorded in one place, and read in one"},
	{"github.com/gorilla/mux", within("proxy/..."), "only the proxy has routes"},
	{"github.com/pelletier/go-toml/v2", within("internal/conf"), "configuration is read, and its mistakes are told, in one way"},
	{
		module + "/internal/planted", append(servers, within(
			"internal/ec", "internal/metadb", "internal/metadb/boltfile", "internal/quorum", "internal/replwire", "internal/seglog", "cmd/martlet",
		)...),
		"a bug is planted where a promise is kept, and chosen by the program: a part that keeps none has none",
	},
}

func TestConfined(t *testing.T) {
	for _, p := range packages(t) {
		for _, rule := range confined {
			if slices.Contains(p.Imports, rule.what) && !matches(p.ImportPath, rule.to...) {
				t.Errorf("%s imports %s, only %v may: %s", p.ImportPath, rule.what, rule.to, rule.why)
			}
		}
	}
}
