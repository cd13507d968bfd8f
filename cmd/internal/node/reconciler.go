package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/container"
	"martlet/internal/hosts"
	"martlet/internal/metadb"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/replicator/reconciler"
	"martlet/replicator/reconciler/copies"
)

// Of containers with rows of other policies than their own: how often all are looked at for what nobody told of, besides when their
// device is attached, and how many in a second.
const (
	findMisplacedEvery     = 24 * time.Hour
	findMisplacedPerSecond = 2000
)

// openReconciler has objects moved that lie in the place of another policy than their container's, if there is
// more than one.
func (s *Storage) openReconciler(p parts, server *container.Server) error {
	if len(p.policies.All()) < 2 {
		return nil
	}
	cluster := quorum.New(quorum.Config{Patience: p.c.Server.NodeTimeout.D()}, // nobody waits for it
		p.rings.quorum(), p.hasher, p.client)
	s.atEnd(func() error { cluster.Wait(); return nil })
	c := &p.c.Reconciler
	reached := copies.New(cluster, p.policies)
	var err error
	s.reconciler, err = reconciler.New(reconciler.Config{
		Delay: c.Delay.D(), Absent: reconciler.Defaults().Absent, Concurrency: c.Concurrency, PerSecond: c.ObjectsPerSecond, BytesPerSecond: int64(c.BytesPerSecond),
	}, reconciler.Deps{
		Source: misplacedSource{p, p.self(p.c.Server.Address, p.c.Container.Port), server}, Containers: reached, Objects: reached, Log: p.o.Log,
	})
	if err != nil {
		return err
	}
	if err := p.o.Registry.Register(reconcilerMetrics{s.reconciler}); err != nil {
		return fmt.Errorf("metrics of the reconciler: %w", err)
	}
	look := paced(findMisplacedPerSecond, server.FindMisplaced)
	s.findMisplaced = onAll(p.devices, look)
	if !c.Enabled {
		return nil
	}
	s.whenAttached(p.devices, "containers with rows of other policies", look)
	s.every("containers with rows of other policies", findMisplacedEvery, s.findMisplaced)
	s.every("reconciler", c.Interval.D(), s.reconcile)
	return nil
}

// reconcile makes one pass.
func (s *Storage) reconcile(ctx context.Context) error {
	err := s.reconciler.Pass(ctx)
	if ctx.Err() == nil {
		s.watcher.backlog.note(QueueMisplaced, "", s.reconciler.Counts().Waiting)
	}
	return err
}

// Reconcile looks at all containers, and moves what is misplaced, now, without waiting for the next pass.
func (s *Storage) Reconcile(ctx context.Context) error {
	if s.reconciler == nil {
		return nil
	}
	return errors.Join(s.findMisplaced(ctx), s.reconcile(ctx))
}

// misplacedSource is a reconciler.Source.
type misplacedSource struct {
	parts
	self   hosts.Self // the node's own container server
	server *container.Server
}

var _ reconciler.Source = misplacedSource{}

// Containers returns what ownContainers does.
func (s misplacedSource) Containers(context.Context) []reconciler.Container {
	var list []reconciler.Container
	for _, c := range s.ownContainers(s.self, s.server.Misplaced()) {
		list = append(list, reconciler.Container{Path: c.path, Device: c.device, Place: c.place})
	}
	return list
}

// Rows returns rows of other policies than the container's.
func (s misplacedSource) Rows(ctx context.Context, c reconciler.Container, after policy.Index, name string, limit int) (reconciler.Page, error) {
	own, list, err := s.server.MisplacedRows(ctx, c.Device, c.Path, metadb.RowName{Space: after, Name: name}, limit)
	page := reconciler.Page{Policy: own, Rows: make([]reconciler.Row, len(list))}
	for i := range list {
		r := &list[i]
		page.Rows[i] = reconciler.Row{Policy: r.Policy, Name: r.Name, Deleted: r.Deleted, Hidden: r.Hidden, Times: r.Times()}
	}
	return page, err
}

// Settled takes a container off the list.
func (s misplacedSource) Settled(c reconciler.Container) { s.server.NotMisplaced(c.Path) }

var (
	reconciledObjects = prometheus.NewDesc("martlet_reconciler_objects_total", "Objects and deletes that were found in the place of another policy than their container's, by what was done: moved, deleted (a delete was brought to where it belongs), dropped (something later was there), failed.", []string{"what"}, nil)
	reconciledBytes   = prometheus.NewDesc("martlet_reconciler_bytes_total", "Bytes of objects that were moved to the policy of their container.", nil, nil)
	reconcilerWaiting = prometheus.NewDesc("martlet_reconciler_waiting_containers", "Containers that are this node's to move objects of, of which something was left to be moved after the last pass.", nil, nil)
)

// reconcilerMetrics tells what becomes of misplaced objects.
type reconcilerMetrics struct{ reconciler *reconciler.Reconciler }

// Describe implements prometheus.Collector.
func (m reconcilerMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- reconciledObjects
	to <- reconciledBytes
	to <- reconcilerWaiting
}

// Collect implements prometheus.Collector.
func (m reconcilerMetrics) Collect(to chan<- prometheus.Metric) {
	c := m.reconciler.Counts()
	for what, n := range map[string]int64{"moved": c.Moved, "deleted": c.Deletes, "dropped": c.Dropped, "failed": c.Failed} {
		to <- prometheus.MustNewConstMetric(reconciledObjects, prometheus.CounterValue, float64(n), what)
	}
	to <- prometheus.MustNewConstMetric(reconciledBytes, prometheus.CounterValue, float64(c.Bytes))
	to <- prometheus.MustNewConstMetric(reconcilerWaiting, prometheus.GaugeValue, float64(c.Waiting))
}
