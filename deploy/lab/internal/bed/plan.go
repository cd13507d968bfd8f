package bed

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"martlet/deploy/lab/internal/netns"
	"martlet/internal/loopdisk"
)

// Defaults are the options of `lab up`.
func Defaults() Options {
	return Options{Nodes: 4, Devices: 2, Proxies: 2, Size: 1 << 30, Name: "lab", Network: "10.77"}
}

// The most there may be, so that all have an address, and names that the kernel takes.
const (
	maxNodes   = 99
	maxProxies = 50
	maxDevices = 20
)

// Where nodes are in their networks. A storage node and a proxy have their number on all, but for proxies on the
// storage network.
const (
	proxiesFrom    = 100
	balancerNumber = 250
	clientNumber   = 251
	monitorNumber  = 252
)

// The ports that something listens on.
const (
	clientPort   = 8080 // of proxies, and of the balancer
	metricsPort  = 8404 // of the balancer
	adminPort    = 6209 // of Martlet's processes
	watchPort    = 9090 // of Prometheus
	objectPort   = 6200
	replicasPort = 6203
)

var goodName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// Check says what is wrong with the options, naming the flag.
func (o Options) Check() error {
	switch {
	case o.Nodes < 1 || o.Nodes > maxNodes:
		return wrong("--nodes %d: must be from 1 to %d", o.Nodes, maxNodes)
	case o.Devices < 1 || o.Devices > maxDevices:
		return wrong("--devices %d: must be from 1 to %d", o.Devices, maxDevices)
	case o.Proxies < 1 || o.Proxies > maxProxies:
		return wrong("--proxies %d: must be from 1 to %d", o.Proxies, maxProxies)
	case o.Size < loopdisk.MinSize:
		return wrong("--size %d: must be %d bytes at least, as XFS is not made smaller", o.Size, loopdisk.MinSize)
	case !goodName.MatchString(o.Name):
		return wrong("--name %q: must be of lower-case letters, digits and hyphens", o.Name)
	}
	if a, err := netip.ParseAddr(o.Network + ".0.1"); err != nil || !a.Is4() || !a.IsPrivate() || strings.Count(o.Network, ".") != 1 {
		return wrong("--network %q: must be the first two numbers of private addresses, such as 10.77", o.Network)
	}
	return nil
}

// address is the one of a number in a network.
func (o Options) address(network string, number int) string {
	third := map[string]int{Management: 0, StorageNet: 1, Replication: 2}[network]
	return fmt.Sprintf("%s.%d.%d", o.Network, third, number)
}

// plan is the nodes of a new lab.
func (o Options) plan() []*Node {
	var all []*Node
	for i := range o.Nodes {
		all = append(all, o.storage(i+1))
	}
	for i := range o.Proxies {
		n := o.node(Proxy, i+1, Proxy.named(i+1))
		n.Legs = []*Leg{o.leg(Management, i+1), o.leg(StorageNet, proxiesFrom+i+1)}
		all = append(all, n)
	}
	for _, one := range []struct {
		kind     Kind
		number   int
		networks []string
	}{
		{Balancer, balancerNumber, []string{Management}},
		{Client, clientNumber, []string{Management}},
		{Monitor, monitorNumber, []string{Management, StorageNet}},
	} {
		n := o.node(one.kind, 1, string(one.kind))
		for _, network := range one.networks {
			n.Legs = append(n.Legs, o.leg(network, one.number))
		}
		all = append(all, n)
	}
	return all
}

func (k Kind) named(number int) string { return string(k) + strconv.Itoa(number) }

// storage is storage node number n.
func (o Options) storage(n int) *Node {
	node := o.node(Storage, n, Storage.named(n))
	node.Legs = []*Leg{o.leg(StorageNet, n), o.leg(Replication, n)}
	for d := range o.Devices {
		node.Devices = append(node.Devices, &Device{Name: "d" + strconv.Itoa(d+1)})
	}
	return node
}

func (o Options) node(kind Kind, number int, name string) *Node {
	return &Node{Name: name, Kind: kind, Number: number, Namespace: Namespace{Name: o.Name + "-" + name}}
}

func (o Options) leg(network string, number int) *Leg {
	return &Leg{Network: network, Address: o.address(network, number)}
}

// Endpoint is the URL that clients use.
func (o Options) Endpoint() string {
	return fmt.Sprintf("http://%s:%d", o.address(Management, balancerNumber), clientPort)
}

// free refuses a plan whose namespaces are somebody else's.
func (l *Lab) free() error {
	for _, s := range l.namespaces() {
		free, err := s.free()
		if err != nil {
			return err
		}
		if !free {
			return wrong("there is a network namespace %s already, which is not this lab's: choose another --name", s.Name)
		}
	}
	return nil
}

// free reports whether nobody has a namespace of that name.
func (s Namespace) free() (bool, error) {
	taken, err := netns.Named(s.Name)
	return !taken, err
}
