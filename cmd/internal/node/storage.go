package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/vfs"
)

// Storage is one storage process.
type Storage struct {
	process
}

// OpenStorage opens everything that a storage node needs, its listeners included.
// What it returns is to be run, or closed.
func OpenStorage(c *config.Storage, o Options) (*Storage, error) {
	s := &Storage{process{log: o.Log}}
	if err := s.open(c, o); err != nil {
		return nil, errors.Join(fmt.Errorf("storage: %w", err), s.close())
	}
	return s, nil
}

// Run serves until ctx ends, and closes the node.
func (s *Storage) Run(ctx context.Context) error { return s.run(ctx) }

// Close closes a node that was not run.
func (s *Storage) Close() error { return s.close() }

// a service is one of the node's servers, as it is about to listen.
type service struct {
	name    string
	address string
	handler backend.Handler
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
	observed := httpapi.Observed{
		Server: v.name, Silence: c.Server.ClientTimeout.D(), Log: o.Log, Level: level, Metrics: metrics,
	}
	return s.listen(&httpapi.Server{
		Name: v.name, Handler: httpapi.Observe(httpapi.Backend(v.handler, o.Log), observed), Log: o.Log,
		Silence: c.Server.ClientTimeout.D(), Drain: c.Server.DrainTimeout.D(),
	}, v.address)
}

func at(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }

// replication answers on the replication network, where no verb is served yet:
// 405 to all of them.
var replication = backend.HandlerFunc(func(_ context.Context, r *backend.Request) (*backend.Response, error) {
	return nil, errs.E(errs.Op("replication"), errs.Subject(r.Method), errs.Method)
})

// devices opens the node's devices, locked against every other process.
func (s *Storage) devices(c *config.Storage) (*device.Set, error) {
	set, err := device.NewSet(vfs.OS, c.Server.Root, c.Server.Devices)
	if err != nil {
		return nil, err
	}
	var held locks
	if err := held.take(set); err != nil {
		return nil, err
	}
	s.atEnd(held.release)
	return set, nil
}
