package health

import (
	"net"
	"path/filepath"
	"slices"
	"strings"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/internal/clusterkey"
	"martlet/ring"
)

// Own is what the operator's own files say.
type Own struct {
	File    string // the configuration
	Role    string // config.KindProxy or config.KindStorage
	Cluster string // its name
	Alike   config.Alike
	Rings   []node.RingInUse
	Servers []Server // that the rings name, in order of address
	Proxy   string   // the admin address, where it is the file of a proxy that has one
}

// Server is a server that rings name.
type Server struct {
	Address string   // "ip:port"
	Rings   []string // by which it is named
	Devices []string // that those have there
}

// Load reads a configuration, and the rings that it leads to.
func Load(file string) (*Own, error) {
	kind, err := config.CheckFile(file)
	if err != nil {
		return nil, err
	}
	own := &Own{File: file, Role: kind}
	var cluster config.Cluster
	var folder string
	if kind == config.KindProxy {
		c, err := config.LoadProxy(file)
		if err != nil {
			return nil, err
		}
		cluster, folder, own.Alike, own.Proxy = c.Cluster, c.Rings.Folder, c.Alike(), reachable(c.Admin.Listen)
	} else {
		c, err := config.LoadStorage(file)
		if err != nil {
			return nil, err
		}
		var ids []string
		if c.Cluster.KeyFile != "" {
			keys, err := clusterkey.Load(c.Cluster.KeyFile)
			if err != nil {
				return nil, err
			}
			ids = keys.IDs()
		}
		cluster, folder, own.Alike = c.Cluster, c.Rings.Folder, c.Alike(ids)
	}
	own.Cluster = cluster.Name
	return own, own.rings(cluster, folder)
}

// rings loads those that a process of the cluster has.
func (o *Own) rings(cluster config.Cluster, folder string) error {
	policies, err := cluster.PolicySet()
	if err != nil {
		return err
	}
	names := []string{"account", "container"}
	for _, p := range policies.All() {
		names = append(names, "object"+p.Index.Suffix())
	}
	slices.Sort(names)
	for _, name := range names {
		r, err := ring.Load(filepath.Join(folder, name+".ring.gz"))
		if err != nil {
			return err
		}
		o.add(name, r)
	}
	slices.SortFunc(o.Servers, func(a, b Server) int { return strings.Compare(a.Address, b.Address) })
	return nil
}

// add adds what a ring names.
func (o *Own) add(name string, r *ring.Ring) {
	o.Rings = append(o.Rings, node.RingInUse{Ring: name, Version: r.Version(), Digest: r.Digest()})
	at := map[string]int{}
	for i := range o.Servers {
		at[o.Servers[i].Address] = i
	}
	for d := range r.Devices() {
		i, ok := at[d.Addr()]
		if !ok {
			i = len(o.Servers)
			at[d.Addr()] = i
			o.Servers = append(o.Servers, Server{Address: d.Addr()})
		}
		s := &o.Servers[i]
		if !slices.Contains(s.Rings, name) {
			s.Rings = append(s.Rings, name)
		}
		if !slices.Contains(s.Devices, d.Name) {
			s.Devices = append(s.Devices, d.Name)
		}
	}
}

// reachable is the address of a listener as one to connect to; "" where it listens on none that is known.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// hostOf is an address without its port.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
