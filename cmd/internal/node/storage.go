package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/hosts"
	"martlet/internal/httpapi"
	"martlet/internal/lean"
	"martlet/internal/memnet"
	"martlet/internal/throttle"
	"martlet/replicator"
	"martlet/replicator/expiry"
	"martlet/replicator/reaper"
	"martlet/replicator/reconciler"
	"martlet/replicator/steps"
)

// Storage is one storage process.
type Storage struct {
	process
	owned         *device.Set
	rings         backend.Handler             // tells of rings and takes new ones
	replicator    *replicator.Replicator      // nil where replication is switched off
	steps         *steps.Books                // likewise
	expirers      map[string]*expiry.Reaper   // by device
	rates         *throttle.Settings          // of requests of clients
	reapers       map[string]*reaper.Reaper   // by device; none where the account server is switched off
	reconciler    *reconciler.Reconciler      // nil where there is one policy only, or the container server is switched off
	findMisplaced func(context.Context) error // nil where reconciler is
	watcher       *watcher                    // looks at devices for a status
	near          *near                       // sends updates of listings
}

// OpenStorage opens everything that a storage node needs, its listeners included.
// What it returns is to be run, or closed.
func OpenStorage(c *config.Storage, o Options) (*Storage, error) {
	s := &Storage{process: process{log: o.Log, listener: o.Listen}}
	if err := s.open(c, o); err != nil {
		return nil, errors.Join(fmt.Errorf("storage: %w", err), s.close())
	}
	return s, nil
}

// Devices is how many devices the node has, in use or not.
func (s *Storage) Devices() int { return len(slices.Collect(s.owned.All())) }

// Run serves until ctx ends, and closes the node.
func (s *Storage) Run(ctx context.Context) error { return s.run(ctx) }

// Close closes a node that was not run.
func (s *Storage) Close() error { return s.close() }

// a service is one of the node's servers, as it is about to listen.
type service struct {
	name    string
	address string
	handler backend.Handler
	level   throttle.Level // of what it keeps, whose requests are limited; 0 for none
	near    hosts.Self     // where it is for the node itself, whose updates of listings it takes in memory; nobody's if it doesn't
}

// serve opens the listener of a service, with what every request gets around its
// handler.
func (s *Storage) serve(c *config.Storage, o Options, v service) error {
	metrics, err := httpapi.NewMetrics(o.Registry, v.name)
	if err != nil {
		return fmt.Errorf("%s metrics: %w", v.name, err)
	}
	level, err := config.ParseLevel(c.Log.Requests)
	if err != nil {
		return err
	}
	handler, room, err := s.limited(c, o, v)
	if err != nil {
		return fmt.Errorf("%s metrics: %w", v.name, err)
	}
	if !v.near.IsZero() && c.Server.InProcess {
		s.near.add(v.near, suspecting(s.owned, handler))
	}
	var memory *memnet.Network
	if v.level != 0 { // on the storage network, to which the operator has a way
		handler = s.takingRings(handler)
		memory = inProcess(c, o)
	}
	gate, err := httpapi.NewGate(o.Registry, v.name, room)
	if err != nil {
		return fmt.Errorf("%s metrics: %w", v.name, err)
	}
	return s.listenLean(&lean.Server{
		Name: v.name, Handler: suspecting(s.owned, handler), Log: o.Log, Gate: gate, Drain: c.Server.DrainTimeout.D(),
		Watch: httpapi.Observed{Server: v.name, Silence: c.Server.ClientTimeout.D(), Log: o.Log, Level: level, Metrics: metrics},
	}, v.address, memory)
}

// inProcess is where those who share a node's process find it, and it finds them: nowhere if it is not to be found.
func inProcess(c *config.Storage, o Options) *memnet.Network {
	if !c.Server.InProcess {
		return nil
	}
	return o.Memory
}

func at(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }
