package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/hosts"
	"martlet/object/engine"
	"martlet/replicator/expiry"
	"martlet/ring"
)

// openExpirer has the objects of each device ended that have come to their X-Delete-At.
func (s *Storage) openExpirer(p parts) error {
	cfg := expiry.Defaults()
	cfg.PerSecond, cfg.Delay = p.c.Expirer.ObjectsPerSecond, p.c.Expirer.Delay.D()
	s.expirers = map[string]*expiry.Reaper{}
	places := toldPlaces{p, p.self(p.c.Server.Address, p.c.Object.Port)}
	for d := range p.devices.All() {
		mine := func(at engine.Location) bool { return places.mine(d.Name(), at) }
		r, err := expiry.New(cfg, expiry.Deps{
			Device: d.Name(), Store: expiringStore{p.stores[d.Name()].Engine, mine}, Queue: p.stores[d.Name()].Queue,
			Places: places, Sender: p.rows, Log: p.o.Log,
		})
		if err != nil {
			return err
		}
		s.expirers[d.Name()] = r
		if p.c.Expirer.Enabled {
			s.every("expiry of "+d.Name(), p.c.Expirer.Interval.D(), func(ctx context.Context) error { return s.expire(ctx, d.Name()) })
		}
	}
	if err := p.o.Registry.Register(expiryMetrics{s.expirers}); err != nil {
		return fmt.Errorf("metrics of expiry: %w", err)
	}
	return nil
}

// expire makes one pass over a device. Of one that can't be used whoever watches it tells, and what it has left is not known.
func (s *Storage) expire(ctx context.Context, device string) error {
	if d, err := s.owned.Lookup(device); err != nil || d.Check() != nil {
		s.watcher.backlog.forget(QueueExpired, device)
		return err
	}
	err := s.expirers[device].Pass(ctx)
	if ctx.Err() == nil {
		s.watcher.backlog.note(QueueExpired, device, s.expirers[device].Counts().Left)
	}
	return err
}

// Expire ends the objects of all devices that have come to their X-Delete-At, without waiting for the
// next pass.
func (s *Storage) Expire(ctx context.Context) error {
	var all []error
	for device := range s.expirers {
		all = append(all, s.expire(ctx, device))
	}
	return errors.Join(all...)
}

// expiringStore is a device's engine as the expirer sees it.
type expiringStore struct {
	engine *engine.Engine
	mine   func(engine.Location) bool // the device is a primary of it
}

var _ expiry.Store = expiringStore{}

// Due returns how many objects have come to their end that the device is a primary of. What it holds for others is not in
// arrears: they end it, and it goes when replication has brought it to them.
func (s expiringStore) Due(ctx context.Context, now time.Time) (int64, error) {
	return s.engine.Due(ctx, now, s.mine)
}

// Expired yields those that the device is a primary of, of the disk that is attached now: what it
// holds for others, which may be much and for long, is not read in each pass.
func (s expiringStore) Expired(ctx context.Context, now time.Time) iter.Seq2[expiry.Object, error] {
	return func(yield func(expiry.Object, error) bool) {
		e := s.engine.Pinned()
		for entry, err := range e.Expired(ctx, now, s.mine) {
			o := expiry.Object{Policy: entry.Policy, Hash: entry.Hash, Path: entry.State.Name, Stamp: entry.State.Expiry()}
			o.End = func(ctx context.Context) error { _, err := e.Expire(ctx, entry); return err }
			if !yield(o, err) {
				return
			}
		}
	}
}

// toldPlaces is an expiry.Places: each primary of an object tells its share of the
// container's replicas, as in a client's write. Of what was due so long ago that they may
// soon forget its end, and need not have told each other before, it tells all of them: the others'
// devices may hear of the end from this one before they come to it, and then tell nobody.
type toldPlaces struct {
	parts
	self hosts.Self // the node's own object server
}

// Told returns whom a device of the node tells.
func (t toldPlaces) Told(device string, o *expiry.Object) (partition uint32, replicas []expiry.Replica, mine bool) {
	at, of := t.primaryOf(device, engine.Location{Policy: o.Policy, Hash: o.Hash})
	if at < 0 {
		return 0, nil, false
	}
	partition, all := t.primaries(t.rings.container, o.Path.Parent())
	late := time.Since(o.Stamp.Happened().Time()) > t.terms().Limit()
	for i, d := range all {
		if late || i%of == at {
			replicas = append(replicas, expiry.Replica{Addr: d.Addr(), Device: d.Name})
		}
	}
	return partition, replicas, true
}

// mine reports whether a device of the node is a primary of an object.
func (t toldPlaces) mine(device string, o engine.Location) bool {
	at, _ := t.primaryOf(device, o)
	return at >= 0
}

// primaryOf returns which of an object's primaries, and of how many, a device of the node is; -1
// for none, also where the cluster has no such policy.
func (t toldPlaces) primaryOf(device string, o engine.Location) (at, of int) {
	source := t.rings.objects[o.Policy]
	if source == nil {
		return -1, 0
	}
	r := source.Ring()
	primaries := r.AppendPrimaries(nil, r.Partition(o.Hash))
	return t.place(primaries, device), len(primaries)
}

// place returns which of some devices is one of the node's own, -1 for none.
func (t toldPlaces) place(of []*ring.Device, device string) int {
	for i, d := range of {
		if d.Name == device && t.self.Is(d.IP, d.Port) {
			return i
		}
	}
	return -1
}

var (
	expiredObjects  = prometheus.NewDesc("martlet_expired_objects_total", "Objects that have come to their X-Delete-At and were ended.", []string{"device"}, nil)
	expiryFailures  = prometheus.NewDesc("martlet_expiry_failures_total", "Objects that could not be ended, each time.", []string{"device"}, nil)
	expiringBacklog = prometheus.NewDesc("martlet_expiry_backlog_objects", "Objects that had come to their X-Delete-At at the begin of the last pass and are still there; those that the device holds for others are not counted.", []string{"device"}, nil)
)

// expiryMetrics tells what becomes of objects that have come to their end.
type expiryMetrics struct{ reapers map[string]*expiry.Reaper }

// Describe implements prometheus.Collector.
func (m expiryMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- expiredObjects
	to <- expiryFailures
	to <- expiringBacklog
}

// Collect implements prometheus.Collector.
func (m expiryMetrics) Collect(to chan<- prometheus.Metric) {
	for device, r := range m.reapers {
		c := r.Counts()
		to <- prometheus.MustNewConstMetric(expiredObjects, prometheus.CounterValue, float64(c.Ended), device)
		to <- prometheus.MustNewConstMetric(expiryFailures, prometheus.CounterValue, float64(c.Failed), device)
		to <- prometheus.MustNewConstMetric(expiringBacklog, prometheus.GaugeValue, float64(c.Left), device)
	}
}
