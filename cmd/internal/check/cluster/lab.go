package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/cmd/internal/check/nemesis"
	made "martlet/cmd/internal/cluster"
	"martlet/internal/quorum"
)

// A Lab is a cluster on three real networks of this machine, that is up already (docs/lab.md). It is broken by the lab's
// own commands. Its methods are for one caller at a time.
type Lab struct {
	program, dir string
	folder       *made.Folder
	status       labStatus
	proxies      int
	last         map[int]nemesis.Fault // that have begun and not ended, by ID
	used         map[string]int        // of logs, up to where they were looked at
}

// labStatus is what there is to know of what `lab status --json` says.
type labStatus struct {
	Endpoint string `json:"endpoint"`
	Up       bool   `json:"up"`
	Nodes    []struct {
		Name      string `json:"name"`
		Kind      string `json:"kind"`
		Namespace string `json:"namespace"`
		State     string `json:"state"`
	} `json:"nodes"`
	Durability *labDurability `json:"durability"`
	Problem    string         `json:"problem"`
}

// labDurability is what `martlet status --durability --json` says.
type labDurability struct {
	UnderReplicated   int64             `json:"under_replicated"`
	UnknownPartitions int64             `json:"unknown_partitions"`
	Unknown           []json.RawMessage `json:"unknown_devices"`
	Fragments         []struct {
		Lacking int64             `json:"lacking"`
		Unknown []json.RawMessage `json:"unknown_devices"`
	} `json:"fragments"`
	Databases []struct {
		TooFew  int64             `json:"too_few"`
		Differ  int64             `json:"differ"`
		Unknown []json.RawMessage `json:"unknown_devices"`
	} `json:"databases"`
}

// OpenLab looks at the lab in a folder. Its program is the one given or, where that is "", the one beside this program, or
// that the shell would find.
func OpenLab(ctx context.Context, program, dir string) (*Lab, error) {
	if program == "" {
		program = "lab"
		if self, err := os.Executable(); err == nil {
			if beside := filepath.Join(filepath.Dir(self), "lab"); exists(beside) {
				program = beside
			}
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{program: program, dir: dir, last: map[int]nemesis.Fault{}, used: map[string]int{}}
	if l.status, err = l.look(ctx, true); err != nil {
		return nil, err
	}
	if !l.status.Up {
		return nil, fmt.Errorf("the lab in %s is not whole: lab --dir %s up", dir, dir)
	}
	for _, n := range l.status.Nodes {
		if n.Kind == "proxy" {
			l.proxies++
		}
	}
	l.folder, err = made.Open(filepath.Join(dir, "cluster"))
	return l, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// do runs one of the lab's commands.
func (l *Lab) do(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, l.program, append([]string{"--dir", l.dir}, args...)...) //nolint:gosec // it is what was asked for
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("lab %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.Bytes(), nil
}

func (l *Lab) look(ctx context.Context, quick bool) (s labStatus, err error) {
	args := []string{"status", "--json"}
	if quick {
		args = append(args, "--quick")
	}
	out, err := l.do(ctx, args...)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("lab status: %w", err)
	}
	return s, nil
}

// Endpoints is the load balancer.
func (l *Lab) Endpoints() []string { return []string{l.status.Endpoint} }

// Transport carries requests of clients, from where they belong.
func (l *Lab) Transport() http.RoundTripper {
	t := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, DisableCompression: true, ExpectContinueTimeout: time.Second}
	for _, n := range l.status.Nodes {
		if n.Kind == "client" {
			t.DialContext = dialIn(n.Namespace)
		}
	}
	return t
}

// Policies are the names of the storage policies.
func (l *Lab) Policies() []string {
	all := []string{"Policy-0"}
	for _, p := range l.folder.Options.Policies {
		all = append(all, p.Name)
	}
	return all
}

// Shape implements nemesis.Cluster.
func (l *Lab) Shape() nemesis.Shape {
	o := l.folder.Options
	return nemesis.Shape{Nodes: o.Nodes, Devices: o.Devices, Proxies: l.proxies, Bears: bears(o)}
}

// bears is how many nodes may be out at one time: every policy can be read, and written.
func bears(o made.Options) int {
	n := min(o.Bears(made.Policy{}), o.Nodes-o.Replicas+1) // else writes have nowhere to go
	for _, p := range o.Policies {
		n = min(n, o.Bears(p))
		if !p.Coded() {
			n = min(n, (o.Nodes*o.Devices-quorum.Majority(o.ReplicasOf(p)))/o.Devices) // else writes have nowhere to go
		}
	}
	return n
}

// Offers implements nemesis.Cluster.
func (l *Lab) Offers() (all []nemesis.Offer) {
	for _, k := range nemesis.Kinds() {
		o := nemesis.Offer{Kind: k}
		switch {
		case k == nemesis.Restart || k == nemesis.Rolling || k == nemesis.Upgrade:
			o.Why = "the lab has no command for it"
		case k == nemesis.Queue:
			o.Why = "the lab cuts off nodes, and not one of their servers"
		case k == nemesis.Clock:
			o.Why = "the lab's processes have the machine's clock"
		case k == nemesis.Proxy && l.proxies < 2:
			o.Why = whyProxy
		case l.Shape().Bears < 1 && (&nemesis.Fault{Kind: k, Network: nemesis.Storage}).TakesOut():
			o.Why = whyBears
		}
		all = append(all, o)
	}
	return all
}

func nodeOf(f nemesis.Fault) string   { return "storage" + strconv.Itoa(f.Node) }
func deviceOf(f nemesis.Fault) string { return "d" + strconv.Itoa(f.Device) }

// networkOf is the lab's name of a network.
func networkOf(f nemesis.Fault) string {
	if f.Network == nemesis.Replication {
		return "repl"
	}
	return "storage"
}

// nodes are all storage nodes.
func (l *Lab) nodes() (all []string) {
	for n := 1; n <= l.folder.Options.Nodes; n++ {
		all = append(all, "storage"+strconv.Itoa(n))
	}
	return all
}

// Begin implements nemesis.Cluster.
func (l *Lab) Begin(ctx context.Context, f nemesis.Fault) (note string, err error) {
	l.last[f.ID] = f
	switch f.Kind {
	case nemesis.Flip:
		out, err := l.do(ctx, "flip", nodeOf(f), deviceOf(f), "--bits", strconv.Itoa(1+int(f.Seed%8)), "--seed", strconv.FormatUint(max(1, f.Seed), 10))
		return oneLine(out), err
	case nemesis.Ring:
		return changeRings(l.folder.RingsDir(), f.Seed)
	default:
		_, err = l.do(ctx, l.begins(f)...)
		return "", err
	}
}

func oneLine(out []byte) string {
	return strings.Join(strings.Fields(string(out[:min(len(out), 500)])), " ")
}

// begins is the command that breaks something.
func (l *Lab) begins(f nemesis.Fault) []string {
	switch f.Kind {
	case nemesis.Kill:
		return []string{"kill", nodeOf(f)}
	case nemesis.KillAll:
		return append([]string{"kill"}, l.nodes()...)
	case nemesis.Proxy:
		return []string{"kill", "proxy" + strconv.Itoa(f.Proxy)}
	case nemesis.Pause:
		return []string{"pause", nodeOf(f)}
	case nemesis.Cut:
		args := []string{"cut", nodeOf(f), networkOf(f)}
		if f.Reset { // the node is told; nobody can reset what is on a network
			args = append(args, "--cable")
		}
		return args
	case nemesis.Slow:
		return []string{"slow", nodeOf(f), networkOf(f), strconv.FormatInt(max(8, f.Rate*8/1000), 10) + "kbit", "--delay", f.Delay.String()}
	case nemesis.Power:
		return []string{"power", "--off", nodeOf(f)}
	case nemesis.PowerAll:
		return append([]string{"power", "--off"}, l.nodes()...)
	case nemesis.Full:
		return []string{"fill", nodeOf(f), deviceOf(f)}
	case nemesis.Fail:
		return []string{"fail", nodeOf(f), deviceOf(f)}
	default:
		return []string{"status", "--quick"} // nothing is done
	}
}

// ends is the command that mends it; nil is nothing.
func (l *Lab) ends(f nemesis.Fault) []string {
	switch f.Kind {
	case nemesis.Kill, nemesis.Power:
		return []string{"start", nodeOf(f)}
	case nemesis.KillAll, nemesis.PowerAll:
		return append([]string{"start"}, l.nodes()...)
	case nemesis.Proxy:
		return []string{"start", "proxy" + strconv.Itoa(f.Proxy)}
	case nemesis.Pause:
		return []string{"resume", nodeOf(f)}
	case nemesis.Cut, nemesis.Slow:
		return []string{"heal", nodeOf(f), networkOf(f)}
	case nemesis.Full:
		return []string{"free", nodeOf(f), deviceOf(f)}
	case nemesis.Fail:
		return []string{"mend", nodeOf(f), deviceOf(f)}
	default:
		return nil
	}
}

// End implements nemesis.Cluster.
func (l *Lab) End(ctx context.Context, f nemesis.Fault) error {
	if args := l.ends(f); args != nil {
		if _, err := l.do(ctx, args...); err != nil {
			return err
		}
	}
	delete(l.last, f.ID)
	return nil
}

// Heal mends everything that is broken.
func (l *Lab) Heal(ctx context.Context) error {
	var ids []int
	for id := range l.last {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if err := l.End(ctx, l.last[id]); err != nil {
			return err
		}
	}
	s, err := l.look(ctx, true)
	if err != nil {
		return err
	}
	for _, n := range s.Nodes {
		if n.State == "gone" {
			return DownError{fmt.Errorf("%s ended by itself", n.Name)}
		}
	}
	if !s.Up {
		return errors.New("the lab is not whole though all was mended: lab status")
	}
	return nil
}

// Whole says what `martlet status --durability` finds missing.
func (l *Lab) Whole(ctx context.Context) (lacks string, err error) {
	s, err := l.look(ctx, false)
	if err != nil {
		return "", err
	}
	d := s.Durability
	if d == nil {
		return "nobody knows: " + s.Problem, nil
	}
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if d.UnderReplicated > 0 || d.UnknownPartitions > 0 || len(d.Unknown) > 0 {
		say("%d objects have too few copies in their places, %d partitions and %d devices are unknown", d.UnderReplicated, d.UnknownPartitions, len(d.Unknown))
	}
	for _, f := range d.Fragments {
		if f.Lacking > 0 || len(f.Unknown) > 0 {
			say("%d objects lack fragments, %d devices are unknown", f.Lacking, len(f.Unknown))
		}
	}
	for _, b := range d.Databases {
		if b.TooFew > 0 || b.Differ > 0 || len(b.Unknown) > 0 {
			say("%d accounts or containers have too few copies in their places, copies of %d differ, %d devices are unknown", b.TooFew, b.Differ, len(b.Unknown))
		}
	}
	return strings.Join(all, "; "), nil
}

// Broke returns what the logs tell of that should never be.
func (l *Lab) Broke() (all []string) {
	for _, pattern := range []string{"cluster/log/*", "out/*"} {
		paths, _ := filepath.Glob(filepath.Join(l.dir, pattern)) // the pattern is right
		for _, path := range paths {
			if what := panics(path, l.used); what != "" {
				all = append(all, what)
			}
		}
	}
	return all
}
