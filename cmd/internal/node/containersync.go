package node

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/container"
	"martlet/internal/backend"
	"martlet/internal/ecread"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/realms"
	"martlet/replicator"
	"martlet/replicator/containersync"
	"martlet/replicator/databases"
	"martlet/ring"
)

// Of containers that are synced: how often all are looked at for what nobody told of, besides when their
// device is attached, and how many in a second.
const (
	findSyncedEvery     = 24 * time.Hour
	findSyncedPerSecond = 2000
)

// openContainerSync has what containers hold brought to other clusters, if there is anywhere to.
func (s *Storage) openContainerSync(p parts, server *container.Server) error {
	c := &p.c.Sync
	if !c.Possible() {
		return nil
	}
	book, err := realms.New(c.Config, p.o.Log)
	if err != nil {
		return err
	}
	remote, err := containersync.NewRemote(p.hasher, c.ConnTimeout.D(), c.Proxies)
	if err != nil {
		return err
	}
	s.atEnd(func() error { remote.Close(); return nil })
	cluster := quorum.New(quorum.Config{}, p.rings.quorum(), p.hasher, p.client)
	source := syncSource{p, p.self(p.c.Server.Address, p.c.Container.Port), server}
	var wait func(context.Context, int64) error
	if c.BytesPerSecond > 0 {
		wait = replicator.NewPace(int64(c.BytesPerSecond), 0).Wait
	}
	syncer, err := containersync.New(containersync.Config{
		Containers: c.Concurrency, Rows: c.RowConcurrency, ContainerTime: c.ContainerTime.D(), Timeout: c.Timeout.D(),
	}, containersync.Deps{
		Source: source, Objects: syncObjects{cluster, ecread.New(cluster, ecread.NewCodes())}, Book: book, Remote: remote, Wait: wait, Log: p.o.Log,
	})
	if err != nil {
		return err
	}
	if err := p.o.Registry.Register(syncMetrics{syncer}); err != nil {
		return fmt.Errorf("metrics of container sync: %w", err)
	}
	look := paced(findSyncedPerSecond, server.FindSynced)
	s.whenAttached(p.devices, "containers that are synced", look)
	s.every("containers that are synced", findSyncedEvery, onAll(p.devices, look))
	s.every("container sync", c.Interval.D(), syncer.Pass)
	return nil
}

// syncSource is a containersync.Source.
type syncSource struct {
	parts
	self   hosts.Self // the node's own container server
	server *container.Server
}

var _ containersync.Source = syncSource{}

// Containers returns what ownContainers does.
func (s syncSource) Containers(context.Context) []containersync.Container {
	var list []containersync.Container
	for _, c := range s.ownContainers(s.self, s.server.Synced()) {
		list = append(list, containersync.Container{Path: c.path, Device: c.device, Mine: c.place, Of: c.of})
	}
	return list
}

// ownContainer is a replica of a container on a device of the node, and which of how many primaries that is.
type ownContainer struct {
	path      name.Path
	device    string
	place, of int
}

// ownContainers returns the replicas of containers on those devices of the node, by the address of its container
// server, that are primaries. What a device has that was away for too long may have been deleted elsewhere, and
// is left out.
func (p parts) ownContainers(self hosts.Self, paths []name.Path) []ownContainer {
	var list []ownContainer
	for _, path := range paths {
		_, primaries := p.primaries(p.rings.container, path)
		for i, d := range primaries {
			if self.Is(d.IP, d.Port) && p.may(databases.SetOfContainers, p.rings.container, d.Name, p.hasher.Hash(path)) == nil {
				list = append(list, ownContainer{path, d.Name, i, len(primaries)})
			}
		}
	}
	return list
}

// State returns what a replica says.
func (s syncSource) State(ctx context.Context, c containersync.Container) (containersync.State, error) {
	is, err := s.server.SyncOf(ctx, c.Device, c.Path)
	return containersync.State{To: is.To, Key: is.Key, Policy: is.Policy, Versioned: is.Versioned, Incarnation: is.Incarnation}, err
}

// Forget takes a container off the list.
func (s syncSource) Forget(c containersync.Container) { s.server.NotSynced(c.Path) }

// Changes returns rows in the order of their changes.
func (s syncSource) Changes(ctx context.Context, c containersync.Container, since uint64, limit int) ([]containersync.Row, error) {
	changed, err := s.server.SyncChanges(ctx, c.Device, c.Path, since, limit)
	rows := make([]containersync.Row, len(changed))
	for i, r := range changed {
		rows[i] = containersync.Row{Number: r.Number, Policy: r.Policy, Name: r.Name, Deleted: r.Deleted, Data: r.Data, Newest: r.Newest()}
	}
	return rows, err
}

// Points returns how far a replica has come.
func (s syncSource) Points(ctx context.Context, c containersync.Container, target [16]byte) (p containersync.Points, err error) {
	p.All, p.Next, err = s.server.SyncPoints(ctx, c.Device, c.Path, target)
	return p, err
}

// SetPoints keeps that.
func (s syncSource) SetPoints(ctx context.Context, c containersync.Container, target [16]byte, p containersync.Points) error {
	return s.server.SetSyncPoints(ctx, c.Device, c.Path, target, p.All, p.Next)
}

// syncObjects reads objects from the storage nodes, as a proxy does.
type syncObjects struct {
	cluster *quorum.Cluster
	coded   *ecread.Reader
}

var _ containersync.Objects = syncObjects{}

// Open reads the newest version of an object.
func (o syncObjects) Open(ctx context.Context, p policy.Index, path name.Path) (containersync.Object, error) {
	place, err := o.cluster.Object(p, path)
	if err != nil {
		return containersync.Object{}, err
	}
	build := func(method string) quorum.Build {
		return func(int, *ring.Device) *backend.Request {
			return &backend.Request{Method: method, Header: backend.Header{{Name: backend.PolicyIndex, Value: p.String()}}}
		}
	}
	reply, err := o.cluster.ReadNewest(ctx, place, build(http.MethodHead), build(http.MethodGet))
	if err != nil {
		return containersync.Object{}, err
	}
	got := containersync.Object{Status: reply.Status, Header: reply.Header, Length: reply.Length, Body: reply.Body}
	if reply.Status != http.StatusOK && reply.Status != http.StatusNotFound {
		if reply.Body != nil {
			_ = reply.Body.Close() // it says nothing more
		}
		return containersync.Object{}, errs.E(errs.Unavailable, fmt.Errorf("%s: status %d", path, reply.Status))
	}
	if reply.Status == http.StatusOK {
		err = o.decode(ctx, p, path, &got)
	}
	return got, err
}

// decode opens the fragments of an object that is in some. To the other cluster it is its bytes.
func (o syncObjects) decode(ctx context.Context, p policy.Index, path name.Path, got *containersync.Object) error {
	object, err := o.coded.Object(p, path, got.Header)
	if object == nil && err == nil {
		return nil
	}
	if got.Body != nil {
		_ = got.Body.Close() // a commit has none
	}
	if err != nil {
		return err
	}
	got.Header.Del(backend.CodedWrite)
	got.Length = object.Size
	got.Body, err = object.Open(ctx, 0, object.Size)
	return err
}

var (
	syncedContainers = prometheus.NewDesc("martlet_container_sync_containers_total", "Containers that were synced, each pass, by how that ended.", []string{"result"}, nil)
	syncedObjects    = prometheus.NewDesc("martlet_container_sync_objects_total", "Objects that were synced, by what was done: put, delete, there (it was there already), failed.", []string{"what"}, nil)
	syncedBytes      = prometheus.NewDesc("martlet_container_sync_bytes_total", "Bytes of objects that were put into other clusters.", nil, nil)
)

// syncMetrics tells what is brought to other clusters.
type syncMetrics struct{ syncer *containersync.Syncer }

// Describe implements prometheus.Collector.
func (m syncMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- syncedContainers
	to <- syncedObjects
	to <- syncedBytes
}

// Collect implements prometheus.Collector.
func (m syncMetrics) Collect(to chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	c := m.syncer.Counts()
	count(syncedContainers, c.Synced, "synced")
	count(syncedContainers, c.Skipped, "skipped")
	count(syncedContainers, c.FailedContainers, "failed")
	count(syncedObjects, c.Puts, "put")
	count(syncedObjects, c.Deletes, "delete")
	count(syncedObjects, c.Had, "there")
	count(syncedObjects, c.Failed, "failed")
	count(syncedBytes, c.Bytes)
}
