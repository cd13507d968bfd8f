// Package bed is the lab: what it consists of, how it is put up, broken and taken down.
//
// All that is made is in one file, lab.json in the lab's folder, and is written there before it is made, or,
// where only the kernel can say what it is (the inode of a namespace, the start of a process), at once behind
// it. So a lab that was stopped anywhere, or whose machine was, can be put up again or taken down. Whatever
// is touched is first seen to be the lab's: a namespace by its inode, a process by when it was started, a
// mount by its place below the folder.
//
// Operations can be repeated: what is as it should be is left so. One at a time works on a lab.
package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"martlet/deploy/lab/internal/links"
	"martlet/deploy/lab/internal/netns"
	"martlet/deploy/lab/internal/proc"
	"martlet/internal/loopdisk"
	"martlet/ring/whole"
)

// What is in a lab's folder.
const (
	stateFile  = "lab.json"
	clusterDir = "cluster"    // as `martlet dev init` makes it
	imagesDir  = "images"     // of devices
	outDir     = "out"        // what processes say
	balanceDir = "balancer"   // haproxy's configuration
	watchDir   = "prometheus" // its configuration and data
)

// format is the version of the file.
const format = 1

// A Kind is what a node is.
type Kind string

// The kinds.
const (
	Storage  Kind = "storage"
	Proxy    Kind = "proxy"
	Balancer Kind = "balancer" // haproxy in front of the proxies
	Client   Kind = "client"   // nothing runs there
	Monitor  Kind = "monitor"  // Prometheus, and whatever an operator runs
)

// The networks.
const (
	Management  = "mgmt"
	StorageNet  = "storage"
	Replication = "repl"
)

// Networks are all of them.
func Networks() []string { return []string{Management, StorageNet, Replication} }

// Options are what a lab is made of.
type Options struct {
	Nodes    int      `json:"nodes"`   // storage nodes at first, from 1 to 99
	Devices  int      `json:"devices"` // of each
	Proxies  int      `json:"proxies"` // from 1 to 50
	Policies []string `json:"policies,omitempty"`
	Size     int64    `json:"size"` // of a device, in bytes

	Name    string `json:"name"`    // which the names of namespaces begin with
	Network string `json:"network"` // the first two numbers of all addresses
}

// Namespace is one that was made, or is about to be.
type Namespace struct {
	Name  string `json:"name"`
	Inode uint64 `json:"inode,omitempty"` // 0 until it is known
}

// A Leg is a node's on a network.
type Leg struct {
	Network   string        `json:"network"`
	Address   string        `json:"address"`
	Cut       string        `json:"cut,omitempty"`   // Silent or Cable
	Bits      int64         `json:"bits,omitempty"`  // that pass in a second, each way
	Delay     time.Duration `json:"delay,omitempty"` // each way, in nanoseconds
	Forwarder *proc.Process `json:"forwarder,omitempty"`
}

// How a leg is cut.
const (
	Silent = "silent" // the link is up, and nothing gets through
	Cable  = "cable"  // the link is down
)

// A Device is a disk of a storage node.
type Device struct {
	Name  string `json:"name"`
	Fault string `json:"fault,omitempty"` // Failing or Vanished
	Full  bool   `json:"full,omitempty"`
}

// What is wrong with a device.
const (
	Failing  = "failing"  // everything fails with EIO
	Vanished = "vanished" // nothing is mounted there
)

// A Node is a machine of the lab.
type Node struct {
	Name      string        `json:"name"`
	Kind      Kind          `json:"kind"`
	Number    int           `json:"number"` // of its kind, counted from 1
	Namespace Namespace     `json:"namespace"`
	Linked    bool          `json:"linked,omitempty"` // its legs are there
	Legs      []*Leg        `json:"legs"`
	Devices   []*Device     `json:"devices,omitempty"`
	Process   *proc.Process `json:"process,omitempty"`
	Dark      bool          `json:"dark,omitempty"`     // it has no power
	Added     bool          `json:"added,omitempty"`    // it was not there from the beginning
	Ringless  []string      `json:"ringless,omitempty"` // the rings that are yet to be told of it
}

// State is all that is known of a lab.
type State struct {
	Format  int       `json:"format"`
	Boot    string    `json:"boot"`    // the start of the machine that it was put up in
	Martlet string    `json:"martlet"` // the program
	Options Options   `json:"options"`
	Made    bool      `json:"made,omitempty"`   // the cluster's files are there
	Folder  bool      `json:"folder,omitempty"` // the folder of namespaces was made for it
	Switch  Namespace `json:"switch"`
	Bridges bool      `json:"bridges,omitempty"` // the switch has its bridges
	Nodes   []*Node   `json:"nodes"`
}

// A Lab is one that is worked on.
type Lab struct {
	State
	dir  string
	lock *os.File // nil for one that is only looked at
	say  func(format string, args ...any)
}

// ErrNone says that there is no lab in the folder.
var ErrNone = errors.New("no lab is here")

// ErrWrong is wrapped by errors about what was asked for.
var ErrWrong = errors.New("not possible")

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrWrong, fmt.Sprintf(format, args...))
}

// Look reads the state of a lab, to be looked at only.
func Look(dir string) (*Lab, error) {
	dir, err := folder(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir, say: func(string, ...any) {}}
	return l, l.read()
}

// Open locks a lab to work on it, waiting for who does so now, until Close. say is told what is done.
func Open(ctx context.Context, dir string, say func(format string, args ...any)) (*Lab, error) {
	l, err := lock(ctx, dir, say)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	if err := l.read(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// folder is the path of a folder as the kernel tells of it, so that mounts below it are recognized.
func folder(dir string) (string, error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return dir, err
	}
	resolved, err := filepath.EvalSymlinks(absolute)
	if err != nil {
		return dir, err
	}
	return resolved, nil
}

// lock locks the folder itself, so that nothing is left behind.
func lock(ctx context.Context, dir string, say func(format string, args ...any)) (*Lab, error) {
	dir, err := folder(dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir, say: say}
	if l.lock, err = os.Open(dir); err != nil {
		return nil, err
	}
	err = until(ctx, 2*time.Minute, func() error { return unix.Flock(int(l.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: another lab command is at work: %w", dir, err), l.lock.Close())
	}
	return l, nil
}

// Close lets others work on the lab.
func (l *Lab) Close() error { return l.lock.Close() }

func (l *Lab) read() error {
	path := filepath.Join(l.dir, stateFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", l.dir, ErrNone)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &l.State); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if l.Format != format {
		return fmt.Errorf("%s: is of version %d, and this program knows version %d", path, l.Format, format)
	}
	return nil
}

// save writes the state, durably.
func (l *Lab) save() error {
	text, err := json.MarshalIndent(&l.State, "", "  ")
	if err != nil {
		return err
	}
	return whole.Replace(whole.OS, filepath.Join(l.dir, stateFile), func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// until calls f, at first every few milliseconds and then ever more seldom, until it returns nil, and returns its
// last error if that takes too long.
func until(ctx context.Context, within time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := f()
		if err == nil {
			return nil
		}
		pause.Reset(wait)
		select {
		case <-ctx.Done():
			return err
		case <-pause.C:
		}
	}
}

// Node returns the node of that name.
func (l *Lab) Node(name string) (*Node, error) {
	for _, n := range l.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	names := make([]string, len(l.Nodes))
	for i, n := range l.Nodes {
		names[i] = n.Name
	}
	return nil, wrong("there is no node %q, only %s", name, strings.Join(names, ", "))
}

// nodes returns several, each once.
func (l *Lab) nodes(names []string) (all []*Node, err error) {
	for _, name := range names {
		n, err := l.Node(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all, nil
}

// Leg returns the leg on a network.
func (n *Node) Leg(network string) (*Leg, error) {
	has := make([]string, len(n.Legs))
	for i, leg := range n.Legs {
		if leg.Network == network {
			return leg, nil
		}
		has[i] = leg.Network
	}
	return nil, wrong("%s has no leg on a network %q, only on %s", n.Name, network, strings.Join(has, ", "))
}

// Device returns the device of that name.
func (n *Node) Device(name string) (*Device, error) {
	has := make([]string, len(n.Devices))
	for i, d := range n.Devices {
		if d.Name == name {
			return d, nil
		}
		has[i] = d.Name
	}
	if len(has) == 0 {
		return nil, wrong("%s has no devices", n.Name)
	}
	return nil, wrong("%s has no device %q, only %s", n.Name, name, strings.Join(has, ", "))
}

// link is a leg as package links knows it.
func (l *Lab) link(n *Node, leg *Leg) links.Leg {
	return links.Leg{
		Namespace: n.Namespace.Name, Switch: l.Switch.Name, Network: leg.Network, Address: leg.Address + "/24",
		Port: n.Name + "-" + leg.Network[:1],
	}
}

func (l *Lab) links(n *Node) []links.Leg {
	all := make([]links.Leg, len(n.Legs))
	for i, leg := range n.Legs {
		all[i] = l.link(n, leg)
	}
	return all
}

// disk is a device as package loopdisk knows it.
func (l *Lab) disk(n *Node, d *Device) loopdisk.Disk {
	return loopdisk.Disk{
		Image: filepath.Join(l.dir, imagesDir, n.Name+"-"+d.Name+".xfs"),
		Path:  filepath.Join(l.dir, clusterDir, n.Name, d.Name),
	}
}

// is reports whether a namespace is there and is the lab's.
func (s Namespace) is() (bool, error) {
	if s.Inode == 0 {
		return false, nil
	}
	return netns.Is(s.Name, s.Inode)
}

// state is what the node's process is doing.
func (n *Node) state() (proc.State, error) {
	if n.Process == nil {
		return proc.Gone, nil
	}
	return n.Process.State()
}

// of names the node in an error.
func (n *Node) of(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", n.Name, err)
}
