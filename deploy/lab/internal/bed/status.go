package bed

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"martlet/deploy/lab/internal/proc"
	"martlet/internal/loopdisk"
)

// Status is what a lab looks like now.
type Status struct {
	Name     string       `json:"name"`
	Dir      string       `json:"dir"`
	Endpoint string       `json:"endpoint"` // for clients, from the client's namespace
	Auth     string       `json:"auth"`     // where they sign in
	Up       bool         `json:"up"`       // everything is there and nothing is broken
	Nodes    []NodeStatus `json:"nodes"`
	// Durability is what `martlet status --durability --json` says, unless that was not asked for.
	Durability json.RawMessage `json:"durability,omitempty"`
	// Problem is why it could not be had.
	Problem string `json:"problem,omitempty"`
}

// NodeStatus is what one node looks like.
type NodeStatus struct {
	Name      string         `json:"name"`
	Kind      Kind           `json:"kind"`
	Namespace string         `json:"namespace"`
	State     string         `json:"state"`           // running, paused, gone, dark, idle (nothing is to run there) or missing
	Pid       int            `json:"pid,omitempty"`   // while it is running or paused
	Rings     []string       `json:"rings,omitempty"` // that are yet to be told of it
	Legs      []LegStatus    `json:"legs"`
	Devices   []DeviceStatus `json:"devices,omitempty"`
}

// LegStatus is what a leg looks like.
type LegStatus struct {
	Network string `json:"network"`
	Address string `json:"address"`
	State   string `json:"state"`              // up, slow, silent, cable, or broken
	Bits    int64  `json:"bits,omitempty"`     // that pass in a second, each way
	Delay   int64  `json:"delay_us,omitempty"` // each way, in microseconds
}

// DeviceStatus is what a device looks like.
type DeviceStatus struct {
	Name  string `json:"name"`
	Path  string `json:"path"`
	State string `json:"state"`           // mounted, full, failing, vanished or absent
	Total int64  `json:"total,omitempty"` // bytes
	Free  int64  `json:"free,omitempty"`  // bytes
}

// Status looks at all of the lab, without changing anything. With ask, it asks the cluster as well, for as long as
// that takes.
func (l *Lab) Status(ctx context.Context, ask bool) (*Status, error) {
	s := &Status{Name: l.Options.Name, Dir: l.dir, Endpoint: l.Options.Endpoint(), Auth: l.Options.Endpoint() + "/auth/v1.0", Up: l.Made}
	mounted, err := mounts(l.dir)
	if err != nil {
		return nil, err
	}
	on := map[string]bool{}
	for _, path := range mounted {
		on[path] = true
	}
	for _, n := range l.Nodes {
		of, err := l.statusOf(n, on)
		if err != nil {
			return nil, n.of(err)
		}
		s.Nodes = append(s.Nodes, of)
		s.Up = s.Up && of.whole()
	}
	if ask && l.Made {
		s.Durability, s.Problem = l.durability(ctx)
	}
	return s, nil
}

func (n *NodeStatus) whole() bool {
	whole := n.State == string(proc.Running) || n.State == "idle"
	for _, leg := range n.Legs {
		whole = whole && leg.State == "up"
	}
	for _, d := range n.Devices {
		whole = whole && d.State == "mounted"
	}
	return whole
}

func (l *Lab) statusOf(n *Node, mounted map[string]bool) (NodeStatus, error) {
	s := NodeStatus{Name: n.Name, Kind: n.Kind, Namespace: n.Namespace.Name, Rings: n.Ringless}
	state, err := n.state()
	if err != nil {
		return s, err
	}
	there, err := n.Namespace.is()
	if err != nil {
		return s, err
	}
	switch s.State = string(state); {
	case !there:
		s.State = "missing"
	case n.Dark:
		s.State = "dark"
	case l.command(n) == nil:
		s.State = "idle"
	case state != proc.Gone:
		s.Pid = n.Process.Pid
	}
	for _, leg := range n.Legs {
		of := LegStatus{Network: leg.Network, Address: leg.Address, State: "up", Bits: leg.Bits, Delay: leg.Delay.Microseconds()}
		switch {
		case leg.Cut != "":
			of.State = leg.Cut
		case n.Dark:
			of.State = Silent
		case leg.Bits != 0 || leg.Delay != 0:
			of.State = "slow"
		}
		if leg.Forwarder != nil {
			if state, err := leg.Forwarder.State(); err != nil || state != proc.Running {
				of.State = "broken" // nothing gets through, and that is not what was asked for
			}
		}
		s.Legs = append(s.Legs, of)
	}
	for _, d := range n.Devices {
		disk := l.disk(n, d)
		of := DeviceStatus{Name: d.Name, Path: disk.Path, State: "absent"}
		switch {
		case d.Fault != "":
			of.State = d.Fault
		case mounted[disk.Path] && d.Full:
			of.State = "full"
		case mounted[disk.Path]:
			of.State = "mounted"
		}
		var fs unix.Statfs_t
		if d.Fault == "" && mounted[disk.Path] && unix.Statfs(disk.Path, &fs) == nil {
			of.Total, of.Free = int64(fs.Blocks)*fs.Bsize, int64(fs.Bavail)*fs.Bsize
		}
		s.Devices = append(s.Devices, of)
	}
	return s, nil
}

// asking is how long the cluster may take to say how it is.
const asking = 30 * time.Second

// durability asks all devices which copies there are, from the node of the operator.
func (l *Lab) durability(ctx context.Context) (report json.RawMessage, problem string) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	out, err := l.martlet(ctx, "status", "--durability", "--json", "--config", filepath.Join(l.dir, clusterDir, "etc", "proxy.toml"))
	if text := strings.TrimSpace(out); json.Valid([]byte(text)) && text != "" {
		return json.RawMessage(text), "" // its exit status says no more than that
	}
	if err == nil {
		err = fmt.Errorf("it printed what is no JSON: %q", out)
	}
	return nil, err.Error()
}

// mounts lists what is mounted below a folder.
func mounts(dir string) ([]string, error) { return loopdisk.MountedBelow(dir) }

// PrintDurability has the cluster say for people which data lacks copies.
func (l *Lab) PrintDurability(ctx context.Context, out io.Writer) error {
	if !l.Made {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	text, err := l.martlet(ctx, "status", "--durability", "--config", filepath.Join(l.dir, clusterDir, "etc", "proxy.toml"))
	if text == "" && err != nil {
		text = err.Error() + "\n"
	}
	_, err = fmt.Fprintf(out, "\n%s", text)
	return err
}
