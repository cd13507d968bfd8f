package node

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/account"
	"martlet/internal/device"
	"martlet/internal/name"
	"martlet/internal/quorum"
	"martlet/replicator"
	"martlet/replicator/reaper"
	"martlet/ring"
)

// looksPerSecond is how many accounts of a device are looked at in a second to find those that were
// deleted.
const looksPerSecond = 2000

// openReaper has what is in deleted accounts taken away, for each device that has accounts.
func (s *Storage) openReaper(p parts, server *account.Server) error {
	cluster := quorum.New(quorum.Config{Patience: p.c.Server.NodeTimeout.D()}, // nobody waits for it
		p.rings.quorum(), p.hasher, p.client)
	s.atEnd(func() error { cluster.Wait(); return nil })
	c := p.c.Reaper
	cfg := reaper.Config{Delay: c.DelayReaping.D(), WarnAfter: c.ReapWarnAfter.D(), Concurrency: c.Concurrency, PerSecond: c.ObjectsPerSecond}
	self := p.self(p.c.Server.Address, p.c.Account.Port)
	s.reapers = map[string]*reaper.Reaper{}
	for d := range p.devices.All() {
		own := func(of *ring.Device) bool { return of.Name == d.Name() && self.Is(of.IP, of.Port) }
		r, err := reaper.New(cfg, reaper.Deps{
			Store: reapedStore{p, server, d, own, replicator.NewPace(0, looksPerSecond)}, Cluster: cluster, Own: own, Log: p.o.Log,
		})
		if err != nil {
			return err
		}
		s.reapers[d.Name()] = r
		if c.Enabled {
			s.every("reaper of "+d.Name(), c.Interval.D(), func(ctx context.Context) error { return s.reap(ctx, d) })
		}
	}
	if err := p.o.Registry.Register(reaperMetrics{s.reapers}); err != nil {
		return fmt.Errorf("metrics of the reaper: %w", err)
	}
	return nil
}

// reap makes one pass for a device. Of one that can't be used whoever watches it tells, and what it has left is not known.
func (s *Storage) reap(ctx context.Context, d *device.Device) error {
	if d.Check() != nil {
		s.watcher.backlog.forget(QueueReaped, d.Name())
		return nil //nolint:nilerr // see there
	}
	err := s.reapers[d.Name()].Pass(ctx)
	if ctx.Err() == nil {
		s.watcher.backlog.note(QueueReaped, d.Name(), s.reapers[d.Name()].Counts().Overdue)
	}
	return err
}

// Reap takes away what is in deleted accounts now, without waiting for the next pass.
func (s *Storage) Reap(ctx context.Context) error {
	var all []error
	for d := range s.owned.All() {
		if s.reapers[d.Name()] != nil {
			all = append(all, s.reap(ctx, d))
		}
	}
	return errors.Join(all...)
}

// reapedStore is the accounts of a device as its reaper sees them.
type reapedStore struct {
	parts
	server *account.Server
	device *device.Device
	own    func(*ring.Device) bool
	pace   *replicator.Pace
}

var _ reaper.Store = reapedStore{}

// Deleted yields those that were deleted, of which the device is a primary.
func (s reapedStore) Deleted(ctx context.Context) iter.Seq2[reaper.Account, error] {
	var primaries []*ring.Device
	mine := func(h name.Hash) bool {
		r := s.rings.account.Ring()
		primaries = r.AppendPrimaries(primaries[:0], r.Partition(h))
		for _, d := range primaries {
			if s.own(d) {
				return true
			}
		}
		return false
	}
	look := func(ctx context.Context) error { return s.pace.Wait(ctx, 0) }
	return func(yield func(reaper.Account, error) bool) {
		for d, err := range s.server.Deleted(ctx, s.device.Name(), mine, look) {
			if !yield(reaper.Account(d), err) {
				return
			}
		}
	}
}

// Containers returns a page of what an account lists.
func (s reapedStore) Containers(ctx context.Context, account, after string, limit int) ([]string, error) {
	return s.server.Containers(ctx, s.device.Name(), account, after, limit)
}

var (
	reapedObjects    = prometheus.NewDesc("martlet_reaper_objects_total", "Objects of deleted accounts that were deleted.", []string{"device"}, nil)
	reapedContainers = prometheus.NewDesc("martlet_reaper_containers_total", "Containers of deleted accounts that were deleted.", []string{"device"}, nil)
	reaperFailures   = prometheus.NewDesc("martlet_reaper_failures_total", "Objects and containers of deleted accounts that could not be deleted, and accounts of which too few replicas say that they are, each time.", []string{"device"}, nil)
	reaperWaiting    = prometheus.NewDesc("martlet_reaper_waiting_accounts", "Deleted accounts of which something was left after the last pass that is for this device to delete.", []string{"device"}, nil)
	reaperOverdue    = prometheus.NewDesc("martlet_reaper_overdue_accounts", "Those of them for which that is so for longer than reap_warn_after.", []string{"device"}, nil)
)

// reaperMetrics tells what becomes of deleted accounts.
type reaperMetrics struct{ reapers map[string]*reaper.Reaper }

// Describe implements prometheus.Collector.
func (m reaperMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{reapedObjects, reapedContainers, reaperFailures, reaperWaiting, reaperOverdue} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m reaperMetrics) Collect(to chan<- prometheus.Metric) {
	for device, r := range m.reapers {
		c := r.Counts()
		for _, v := range []struct {
			desc *prometheus.Desc
			kind prometheus.ValueType
			n    int64
		}{
			{reapedObjects, prometheus.CounterValue, c.Objects}, {reapedContainers, prometheus.CounterValue, c.Containers},
			{reaperFailures, prometheus.CounterValue, c.Failed}, {reaperWaiting, prometheus.GaugeValue, c.Waiting}, {reaperOverdue, prometheus.GaugeValue, c.Overdue},
		} {
			to <- prometheus.MustNewConstMetric(v.desc, v.kind, float64(v.n), device)
		}
	}
}
