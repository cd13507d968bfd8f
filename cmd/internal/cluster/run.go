package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/internal/daemon"
	"martlet/object/engine/blob"
)

// Cluster is a whole cluster in this process.
type Cluster struct {
	storage []*node.Storage
	proxies []*node.Proxy
}

// Open opens every process of a cluster as its files say, except that they share
// one log, one registry and the first proxy's admin address. A listen address that is
// not empty takes the place of the one in that proxy's file.
func (f *Folder) Open(o node.Options, listen string) (*Cluster, error) {
	c := &Cluster{}
	err := c.open(f, o, listen)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// objectMemory bounds the buffers of all requests for objects on all nodes of a process, in bytes: an upload takes one
// on each of three.
const objectMemory = 256 << 20

func (c *Cluster) open(f *Folder, o node.Options, listen string) error {
	o = together(o)
	for n := 1; n <= f.Options.Nodes; n++ {
		cfg, err := config.LoadStorage(f.StorageFile(n))
		if err != nil {
			return err
		}
		s, err := node.OpenStorage(cfg, of(nodeName(n), o, false))
		if err != nil {
			return err
		}
		c.storage = append(c.storage, s)
	}
	for n := 1; n <= f.Options.Proxies; n++ {
		cfg, err := config.LoadProxy(f.ProxyFileOf(n))
		if err != nil {
			return err
		}
		if n == 1 && listen != "" {
			cfg.Server.Listen = listen
		}
		p, err := node.OpenProxy(cfg, of(proxyName(n), o, n == 1))
		if err != nil {
			return err
		}
		c.proxies = append(c.proxies, p)
	}
	return nil
}

// together is options for all of several nodes in a process.
func together(o node.Options) node.Options {
	if o.Buffers == nil {
		o.Buffers = blob.NewBuffers(objectMemory)
	}
	return o
}

// of is the options for one of several nodes in a process.
func of(name string, o node.Options, admin bool) node.Options {
	o.Log = o.Log.With(slog.String("node", name))
	o.Registry = prometheus.WrapRegistererWith(prometheus.Labels{"node": name}, o.Registry)
	if !admin {
		o.Gatherer = nil
	}
	return o
}

// Address is where the first proxy listens, as host:port that can be connected to.
func (c *Cluster) Address() string { return reachable(c.proxies[0].Address()) }

// reachable turns the address of a listener on every interface into one to
// connect to.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

// Run serves until ctx ends or a node fails, and closes everything. The proxies end
// before the storage nodes do, so that their requests can be finished.
func (c *Cluster) Run(ctx context.Context) error {
	storage, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	all := daemon.NewGroup(storage)
	for i, s := range c.storage {
		all.Go(nodeName(i+1), s.Run)
	}
	var serving sync.WaitGroup
	for i, p := range c.proxies {
		serving.Add(1)
		all.Go(proxyName(i+1), func(failed context.Context) error {
			defer serving.Done()
			proxy, end := context.WithCancel(ctx)
			defer end()
			defer context.AfterFunc(failed, end)()
			return p.Run(proxy)
		})
	}
	all.Go("proxies", func(context.Context) error {
		defer stop()
		serving.Wait()
		return nil
	})
	return all.Wait()
}

// Close closes a cluster that was not run.
func (c *Cluster) Close() error {
	var all []error
	for _, p := range c.proxies {
		all = append(all, p.Close())
	}
	for _, s := range c.storage {
		all = append(all, s.Close())
	}
	return errors.Join(all...)
}
