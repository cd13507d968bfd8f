// Package cluster makes and runs a whole cluster on one machine: storage nodes and
// a proxy, each on loopback addresses of its own. It is what
// `martlet dev` is, and what probe tests stand on.
//
// A cluster is a folder. Init writes it: the rings, a configuration file for each
// process and a folder for each device. What runs is always what those files say,
// be it in one process (Run) or in one each, so that one can be changed for the
// other on the same data.
package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"martlet/ring"
)

// Options are what a cluster is made of. They can't be changed later.
type Options struct {
	Nodes     int `toml:"nodes"`      // storage nodes, each a zone
	Devices   int `toml:"devices"`    // of each node
	Replicas  int `toml:"replicas"`   // of accounts, containers and objects
	PartPower int `toml:"part_power"` // 2^PartPower partitions

	// Policies are the storage policies beside the default one, which has Replicas.
	Policies []Policy `toml:"policies"`

	// Proxies is how many there are. All do the same work, so that any of them may be asked.
	Proxies int `toml:"proxies"`

	// Listen is where the first proxy listens, host:port. Proxy n of several listens on the
	// address n of the network, at the same port.
	Listen string `toml:"listen"`

	// ClusterKey says that storage nodes know each other on the replication network by a key, and
	// not by their addresses alone.
	ClusterKey bool `toml:"cluster_key"`

	// Forwarded says that something stands at the addresses of the storage nodes, and forwards to them: storage listens
	// on NETWORK.3.N then, and replication on NETWORK.4.N.
	Forwarded bool `toml:"forwarded"`

	// Apart says that nodes send also to themselves over the network.
	Apart bool `toml:"apart"`

	// Brisk says that background work comes every few seconds, for clusters on which somebody waits for it.
	Brisk bool `toml:"brisk"`

	// Network is the first two numbers of the addresses: with "127.0"
	// storage is on 127.0.1.N, replication on 127.0.2.N, and the admin address of
	// proxy N on 127.0.0.N. Clusters beside each other have different ones. Loopback
	// addresses are there already; private ones, such as those of "10.77", whoever starts
	// the processes has to give them.
	Network string `toml:"network"`

	suffix string // of what is hashed, where a test wants the same placement each time; "" is by chance
}

// Defaults is the cluster of `martlet dev`.
func Defaults() Options {
	return Options{Nodes: 4, Devices: 2, Replicas: 3, PartPower: 10, Proxies: 1, Listen: "127.0.0.1:8080", Network: "127.0"}
}

// The ports of a node. Each node has an address of its own, so they are all alike.
const (
	objectPort      = 6200
	containerPort   = 6201
	accountPort     = 6202
	replicationPort = 6203
	adminPort       = 6209
)

// ErrOptions is wrapped by errors about options that make no cluster, or that an
// existing one does not have.
var ErrOptions = errors.New("bad options")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...))
}

// Check says what is wrong with the options, naming the flag.
func (o Options) Check() error {
	if o.Nodes < 1 || o.Nodes > 254 {
		return bad("--nodes %d: must be from 1 to 254", o.Nodes)
	}
	if o.Devices < 1 || o.Devices > 100 {
		return bad("--devices %d: must be from 1 to 100", o.Devices)
	}
	if o.Proxies < 1 || o.Proxies > 254 {
		return bad("--proxies %d: must be from 1 to 254", o.Proxies)
	}
	if o.Replicas < 1 || o.Replicas > maxReplicas {
		return bad("--replicas %d: must be from 1 to %d", o.Replicas, maxReplicas)
	}
	if o.Replicas > o.Nodes*o.Devices {
		return bad("--replicas %d: %d nodes of %d devices have only %d places for them",
			o.Replicas, o.Nodes, o.Devices, o.Nodes*o.Devices)
	}
	if _, err := policySet(o.Policies); err != nil {
		return bad("--policy: %v", err)
	}
	for _, p := range o.Policies {
		if n := o.ReplicasOf(p); n > o.Nodes*o.Devices {
			what := "replicas"
			if p.Coded() {
				what = "fragments"
			}
			return bad("--policy %s: %d nodes of %d devices have only %d places for %d %s",
				p, o.Nodes, o.Devices, o.Nodes*o.Devices, n, what)
		}
	}
	if o.PartPower < ring.MinPartPower || o.PartPower > 20 {
		return bad("--part-power %d: must be from %d to 20", o.PartPower, ring.MinPartPower)
	}
	if err := checkListen(o.Listen); err != nil {
		return err
	}
	if a, err := netip.ParseAddr(o.Network + ".0.1"); err != nil || !a.Is4() || !a.IsLoopback() && !a.IsPrivate() || strings.Count(o.Network, ".") != 1 {
		return bad("--network %q: must be the first two numbers of loopback or private addresses, such as 127.0 or 10.77", o.Network)
	}
	return nil
}

func checkListen(listen string) error {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return bad("--listen %q: must be host:port", listen)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return bad("--listen %q: has no port from 0 to 65535", listen)
	}
	return nil
}

// storageIP and replicationIP are the addresses of node n, counted from 1.
func (o Options) storageIP(n int) string     { return fmt.Sprintf("%s.1.%d", o.Network, n) }
func (o Options) replicationIP(n int) string { return fmt.Sprintf("%s.2.%d", o.Network, n) }

// Place is the addresses of a storage node.
type Place struct {
	Storage, Replication         string // IP addresses, as the rings have them
	BindStorage, BindReplication string // on which it listens
	Object, Container, Account   int    // ports of the first
	ReplicationPort              int    // of the second
	Admin                        string // host:port
}

// Place returns where node n, counted from 1, is.
func (o Options) Place(n int) Place {
	p := Place{
		Storage: o.storageIP(n), Replication: o.replicationIP(n), BindStorage: o.storageIP(n), BindReplication: o.replicationIP(n),
		Object: objectPort, Container: containerPort, Account: accountPort, ReplicationPort: replicationPort,
		Admin: fmt.Sprintf("%s:%d", o.storageIP(n), adminPort),
	}
	if o.Forwarded {
		p.BindStorage, p.BindReplication = fmt.Sprintf("%s.3.%d", o.Network, n), fmt.Sprintf("%s.4.%d", o.Network, n)
	}
	return p
}

// ProxyListen is where proxy n listens, counted from 1.
func (o Options) ProxyListen(n int) string {
	_, port, err := net.SplitHostPort(o.Listen)
	if n == 1 || err != nil { // Check has refused it
		return o.Listen
	}
	return net.JoinHostPort(fmt.Sprintf("%s.0.%d", o.Network, n), port)
}

// proxyAdmin is the admin address of proxy n; that of the first is also the one of a cluster in one
// process.
func (o Options) proxyAdmin(n int) string { return fmt.Sprintf("%s.0.%d:%d", o.Network, n, adminPort) }

// proxyName names proxy n: the first is plainly the proxy, as it mostly is the only one.
func proxyName(n int) string {
	if n == 1 {
		return "proxy"
	}
	return "proxy" + strconv.Itoa(n)
}

func nodeName(n int) string   { return "storage" + strconv.Itoa(n) }
func deviceName(n int) string { return "d" + strconv.Itoa(n) }

// differ names the first option that was asked for and is not what the cluster
// has. Asked are the flags that were given, by name.
func (o Options) differ(want Options, asked func(flag string) bool) error {
	for _, f := range []struct {
		flag      string
		has, want any
	}{
		{"nodes", o.Nodes, want.Nodes},
		{"devices", o.Devices, want.Devices},
		{"proxies", o.Proxies, want.Proxies},
		{"replicas", o.Replicas, want.Replicas},
		{"part-power", o.PartPower, want.PartPower},
		{"network", o.Network, want.Network},
		{"listen", o.Listen, want.Listen},
		{"cluster-key", o.ClusterKey, want.ClusterKey},
		{"policy", o.policyList(), want.policyList()},
	} {
		if asked(f.flag) && f.has != f.want {
			return bad("--%s %v: the cluster in this folder was made with %v; leave the flag out, or choose another --dir", f.flag, f.want, f.has)
		}
	}
	return nil
}
