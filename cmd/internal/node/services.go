package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/account"
	"martlet/cmd/internal/config"
	"martlet/container"
	"martlet/internal/clock"
	"martlet/internal/clusterkey"
	"martlet/internal/dbserver"
	"martlet/internal/device"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/rowbatch"
	"martlet/internal/throttle"
	"martlet/internal/timestamp"
	"martlet/object"
	"martlet/object/engine"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
	"martlet/object/pending"
	"martlet/replicator"
	"martlet/replicator/databases"
	"martlet/replicator/fragments"
	"martlet/replicator/objects"
	"martlet/replicator/stats"
	"martlet/replicator/steps"
	"martlet/replicator/updater"
	"martlet/ring"
)

// objectMemory bounds the buffers of all requests for objects on a node, in bytes.
const objectMemory = 128 << 20

// lookupTimeout bounds how long all host names of the rings are looked up.
const lookupTimeout = 10 * time.Second

// sweepEvery is how often what writers have left behind is looked for.
const sweepEvery = time.Hour

// reclaimEvery is how often it is looked whether tombstones may be forgotten, at least.
const reclaimEvery = 15 * time.Minute

// scrubEvery is how often is looked whether anything is due to be scrubbed, at most.
const scrubEvery = time.Hour

// maxLost is how many copies that were found damaged wait to be asked for.
const maxLost = 1024

// maxDepth is how deep the buckets of digests get: 32 bytes for each of those that a device
// holds something near.
const maxDepth = 20

// isolateEvery is how often what requests have found damaged in databases is looked at.
const isolateEvery = 10 * time.Second

// parts is what the services of a node are made of.
type parts struct {
	c        *config.Storage
	o        Options
	policies policy.Set
	devices  *device.Set
	hasher   name.Hasher
	rings    rings
	stores   object.Stores      // of objects, and of the logs in which databases have their journal
	keys     *clusterkey.Source // nil where there is no cluster key
	names    *hosts.Names       // that rings have in the place of addresses
	client   *direct.Client     // to other nodes, over the storage network
	rows     *near              // the same, for updates of listings

	replication   *replication        // nil where it is switched off
	lost          chan objects.Lost   // copies of objects that were found damaged
	lostFragments chan fragments.Lost // likewise, of fragments
	walks         chan struct{}       // of recon
}

// terms say when what was deleted may be forgotten.
func (p parts) terms() steps.Terms { return steps.Terms{ReclaimAge: p.c.Replicator.ReclaimAge.D()} }

// horizon is the time before which it may be, by this node's clock.
func (p parts) horizon() timestamp.T { return p.terms().Horizon(clock.Now()) }

func (s *Storage) open(c *config.Storage, o Options) error {
	p := parts{c: c, o: o, walks: make(chan struct{}, 1), lost: make(chan objects.Lost, maxLost), lostFragments: make(chan fragments.Lost, maxLost)}
	var err error
	if p.policies, err = c.Cluster.PolicySet(); err != nil {
		return err
	}
	if p.hasher, err = name.NewHasher(c.Cluster.HashPathPrefix, c.Cluster.HashPathSuffix); err != nil {
		return err
	}
	if s.rates, err = throttle.NewSettings(c.BackendRateLimit); err != nil {
		return err
	}
	if p.rings, err = openRings(c.Rings.Folder, p.policies); err != nil {
		return err
	}
	p.names = hosts.NewNames(o.Lookup)
	if o.Lookup == nil {
		p.names = hosts.NewNames(hosts.System)
	}
	learn := func(ctx context.Context) error {
		ctx, stop := context.WithTimeout(ctx, lookupTimeout)
		defer stop()
		return p.names.Learn(ctx, p.rings.hosts)
	}
	if err := learn(context.Background()); err != nil {
		o.Log.LogAttrs(context.Background(), slog.LevelWarn, "host names in the rings that are not known", slog.Any("err", err)) // it is tried again
	}
	s.reload(p.rings, c.Rings.CheckEvery.D(), learn)
	if p.keys, err = s.openKey(c.Cluster.KeyFile, c.Rings.CheckEvery.D()); err != nil {
		return err
	}
	if err := s.openPushes(p, learn); err != nil {
		return err
	}
	if p.devices, err = s.devices(c, p.hasher, o); err != nil {
		return err
	}
	cfg := direct.Config{ConnectTimeout: c.Server.ConnTimeout.D(), NodeTimeout: c.Server.NodeTimeout.D(), UserAgent: "martlet-storage"}
	if c.Server.Bind != "" {
		cfg.Dial = leavingFrom(c.Server.Bind)
	}
	cfg.Dial = inProcess(c, o).Dialer(cfg.Dial)
	p.client = direct.New(cfg)
	s.atEnd(func() error { p.client.Close(); return nil })
	batches := rowbatch.NewSender(rowbatch.Config{}, p.client)
	s.atEnd(func() error { batches.Close(); return nil })
	p.rows = newNear(batches, o.Log)
	s.near = p.rows
	if err := o.Registry.Register(rowMetrics{batches}); err != nil {
		return fmt.Errorf("metrics of listing updates: %w", err)
	}
	if c.Replication.Enabled {
		p.replication = s.newReplication(p)
	}
	p.stores = s.openStores(p)
	s.watcher = newWatcher(p)
	for _, open := range []func(parts) error{s.openAccount, s.openContainer, s.openObject, s.openExpirer, s.openReplication} {
		if err := open(p); err != nil {
			return err
		}
	}
	s.atEnd(p.rows.Close) // before the servers that it hands to
	return s.admin(c.Admin, o.Gatherer, func(mux *http.ServeMux) {
		s.operations(mux)
		p.rings.tellRings(mux)
		tellStatus(mux, s.Status)
		mux.HandleFunc("GET /healthcheck", s.healthcheck)
	})
}

// self is the node's own address of some kind, as rings have it.
func (p parts) self(address string, port int) hosts.Self {
	ip, err := netip.ParseAddr(address)
	if err != nil { // the configuration has been checked
		return hosts.Self{}
	}
	return hosts.At(netip.AddrPortFrom(ip, uint16(port)), p.names)
}

// openStores opens what is on the devices, and has it looked after.
func (s *Storage) openStores(p parts) object.Stores {
	cfg := engine.Defaults()
	cfg.Buffers, cfg.Log = p.o.Buffers, p.o.Log
	if cfg.Buffers == nil {
		cfg.Buffers = blob.NewBuffers(objectMemory)
	}
	cfg.Threshold, cfg.SegmentSize, cfg.Zero = int64(p.c.Store.Threshold), int64(p.c.Store.SegmentSize), p.c.Store.ZeroSegments
	for _, source := range p.rings.objects {
		// Sums of partitions that are smaller than the buckets would have to be made anew each time.
		cfg.Depth = max(cfg.Depth, min(source.Ring().PartPower(), maxDepth))
	}
	stores := object.OpenStores(p.devices, cfg, p.hasLost)
	for d := range p.devices.All() {
		e := stores[d.Name()].Engine
		s.atEnd(e.Close)
		s.beside("index of "+d.Name(), e.Keep)
		s.keepStore(p, d, e)
	}
	return stores
}

// hasLost is told what a device has lost to damage. A fragment is no replica that others could bring: it is
// made again.
func (p parts) hasLost(device string, at engine.Location) {
	if at.Policy.IsFragments() {
		select {
		case p.lostFragments <- fragments.Lost{Device: device, Policy: at.Policy, Hash: at.Hash}:
		default: // a pass finds it
		}
		return
	}
	select {
	case p.lost <- objects.Lost{Device: device, Policy: at.Policy, Hash: at.Hash}:
	default: // a pass finds it
	}
}

// databases is what the account and the container server have in common, but for whose
// the journal is.
func (p parts) databases(owner byte) (dbserver.Config, dbserver.Deps) {
	return dbserver.Config{
			MaxAhead: p.c.Server.ClockSkew.D(), MaxMeta: p.c.Limits.MaxMetaCount, MaxMetaLen: p.c.Limits.MaxMetaOverallSize,
			Open: p.c.Server.OpenDatabases,
		}, dbserver.Deps{
			Devices: p.devices, Hasher: p.hasher, Policies: p.policies, Log: p.o.Log, Horizon: p.horizon,
			Journal: func(ctx context.Context, dev *device.Device, hooks metadb.JournalHooks) (metadb.Journal, error) {
				j, err := p.stores[dev.Name()].Engine.Journal(ctx, owner, engine.Hooks{Hurry: hooks.Hurry, Needed: hooks.Needed})
				if err != nil {
					return nil, err // not a Journal that is nil
				}
				return j, nil
			},
		}
}

func (s *Storage) openAccount(p parts) error {
	if !p.c.Account.Enabled {
		return nil
	}
	server, err := account.New(p.databases(record.Accounts))
	if err != nil {
		return err
	}
	s.atEnd(server.Close)
	if err := s.keepDatabases(p, "account", server.Store()); err != nil {
		return err
	}
	if p.replication != nil {
		if err := p.replication.databases(p, databases.Accounts, server.Store(), p.rings.account); err != nil {
			return err
		}
	}
	if err := s.openReaper(p, server); err != nil {
		return err
	}
	self := p.self(p.c.Server.Address, p.c.Account.Port)
	s.compare(map[string]*ring.Ring{"account": p.rings.account.Ring()}, self, p.c.Server.Devices)
	return s.serve(p.c, p.o, service{
		name: "account", address: at(p.c.Server.Listens(), p.c.Account.Port), level: throttle.Accounts, near: self,
		handler: recon{s, p.devices, p.rings, p.walks, nil, server.Store().Replicas(), replwire.Accounts, server},
	})
}

// openContainer opens the container server, and the work that tells accounts how
// much its containers hold.
func (s *Storage) openContainer(p parts) error {
	if !p.c.Container.Enabled {
		return nil
	}
	cfg, deps := p.databases(record.Containers)
	server, err := container.New(container.Config{Config: cfg, NodeTimeout: p.c.Server.NodeTimeout.D()},
		container.Deps{Deps: deps, Accounts: p.rows, May: func(device string, h name.Hash) error {
			return p.may(databases.SetOfContainers, p.rings.container, device, h)
		}})
	if err != nil {
		return err
	}
	s.atEnd(server.Close)
	if err := s.keepDatabases(p, "container", server.Store()); err != nil {
		return err
	}
	if p.replication != nil {
		if err := p.replication.databases(p, databases.Containers, server.Store(), p.rings.container); err != nil {
			return err
		}
	}
	if p.c.Stats.Enabled {
		s.every("stats", p.c.Stats.Interval.D(), stats.New(server, p.accountPlace, p.rows, p.c.Server.NodeTimeout.D()).Pass)
	}
	if err := s.openContainerSync(p, server); err != nil {
		return err
	}
	if err := s.openReconciler(p, server); err != nil {
		return err
	}
	self := p.self(p.c.Server.Address, p.c.Container.Port)
	s.compare(map[string]*ring.Ring{"container": p.rings.container.Ring()}, self, p.c.Server.Devices)
	return s.serve(p.c, p.o, service{
		name: "container", address: at(p.c.Server.Listens(), p.c.Container.Port), level: throttle.Containers, near: self,
		handler: recon{s, p.devices, p.rings, p.walks, nil, server.Store().Replicas(), replwire.Containers, server},
	})
}

// stillThere reports whether a device still has the version that a queued update tells of, and may say so: one that was away
// for too long may have what was deleted and forgotten elsewhere.
func (p parts) stillThere(ctx context.Context, q *pending.Queue, u *pending.Update) (bool, error) {
	for device, store := range p.stores {
		if store.Queue != q {
			continue
		}
		state, err := store.Engine.Stat(ctx, engine.Location{Policy: u.Policy, Hash: u.Hash})
		if err != nil || state.Kind != engine.Live || state.Time != u.Data {
			return false, err
		}
		source := p.rings.objects[u.Policy]
		if source == nil {
			return true, nil
		}
		return true, p.may(objects.SetOf(u.Policy), source, device, u.Hash)
	}
	return false, errs.E(errs.NotFound, "no device has this queue")
}

// may returns why what a device has under a hash may be told to nobody, nil where it may be: it may have been deleted and
// forgotten elsewhere. A node that does not replicate does not know.
func (p parts) may(set steps.Set, source *ring.Source, device string, h name.Hash) error {
	if p.replication == nil {
		return nil
	}
	book, err := p.replication.steps.Of(device)
	if err != nil {
		return err
	}
	r := source.Ring()
	return book.May(set, r.PartPower(), uint32(r.Partition(h)), clock.Now())
}

// openObject opens the object server, and the updater that delivers what it has
// queued. The queues are delivered, and objects replicated, also while the server
// itself is switched off.
func (s *Storage) openObject(p parts) error {
	stores, silent := p.stores, pending.NewSilent(nil)
	if p.c.Updater.Enabled {
		queues := make([]*pending.Queue, 0, len(stores))
		for d := range p.devices.All() {
			queues = append(queues, stores[d.Name()].Queue)
		}
		cfg := updater.Defaults()
		cfg.Trust, cfg.Still, cfg.Silent = p.terms().Limit(), p.stillThere, silent
		cfg.Quick = p.c.Object.ContainerUpdateTimeout.D()
		u, err := updater.New(cfg, queues, containerPlaces{p}, p.rows, p.o.Log)
		if err != nil {
			return err
		}
		s.watcher.updates = u
		s.every("updater", p.c.Updater.Interval.D(), func(ctx context.Context) error {
			return errors.Join(retell(ctx, stores, u, p.o.Log), u.Pass(ctx))
		})
	}
	settings := object.Defaults()
	settings.ClockSkew = p.c.Server.ClockSkew.D()
	settings.ContainerUpdateTimeout = p.c.Object.ContainerUpdateTimeout.D()
	server, err := object.New(settings, object.Deps{
		Devices: p.devices, Hasher: p.hasher, Stores: stores, Sender: p.rows, Silent: silent, Log: p.o.Log,
	})
	if err != nil {
		return err
	}
	if p.replication != nil {
		kind, err := p.replication.objects(p, stores, server)
		if err != nil {
			return err
		}
		s.beside("repair", kind.Repair)
		pieces, err := p.replication.fragments(p, stores, server)
		if err != nil {
			return err
		}
		s.beside("repair of fragments", pieces.Repair)
	}
	if !p.c.Object.Enabled {
		return nil
	}
	s.every("object sweep", sweepEvery, func(ctx context.Context) error {
		var all []error
		for d := range p.devices.All() {
			if d.Check() == nil {
				all = append(all, stores[d.Name()].Engine.Sweep(ctx))
			}
		}
		return errors.Join(all...)
	})
	objects := map[string]*ring.Ring{}
	for name, source := range p.rings.named {
		if source != p.rings.account && source != p.rings.container {
			objects[name] = source.Ring()
		}
	}
	s.compare(objects, p.self(p.c.Server.Address, p.c.Object.Port), p.c.Server.Devices)
	return s.serve(p.c, p.o, service{
		name: "object", address: at(p.c.Server.Listens(), p.c.Object.Port), level: throttle.Objects,
		handler: recon{s, p.devices, p.rings, p.walks, stores, nil, 0, server},
	})
}

// keepStore has the store of a device compacted and scrubbed.
func (s *Storage) keepStore(p parts, d *device.Device, e *engine.Engine) {
	work := func(what string, c config.Pace, every time.Duration, pass func(context.Context, engine.Pace) error) {
		if !c.Enabled {
			return
		}
		pace := replicator.NewPace(int64(c.BytesPerSecond), 0)
		s.every(what+" of "+d.Name(), every, func(ctx context.Context) error {
			if d.Check() == nil {
				return pass(ctx, pace.Wait)
			}
			return nil // whoever watches the device tells of it
		})
	}
	compaction, scrub := p.c.Store.Compaction, p.c.Store.Scrub
	work("compaction", compaction, compaction.Interval.D(), func(ctx context.Context, pace engine.Pace) error {
		return e.Compact(ctx, p.horizon(), pace)
	})
	pace := replicator.NewPace(int64(compaction.BytesPerSecond), 0).Wait
	s.reclaim(p, d.Name(), d, func(ctx context.Context, horizon timestamp.T) error { return e.Reclaim(ctx, horizon, pace) })
	work("scrub", scrub, min(scrub.Interval.D(), scrubEvery), func(ctx context.Context, pace engine.Pace) (err error) {
		if err := e.Scrub(ctx, time.Now().Add(-scrub.Interval.D()), pace); err != nil {
			return err
		}
		// Only now is it known of everything whether it is lost: an index that was made anew may have forgotten that.
		if age := p.c.Store.QuarantineAge.D(); age > 0 {
			_, err = e.Discard(ctx, time.Now().Add(-age))
		}
		return err
	})
}

// reclaim has what was deleted forgotten on a device, by a pass for each horizon.
func (s *Storage) reclaim(p parts, what string, d *device.Device, pass func(context.Context, timestamp.T) error) {
	var done timestamp.T // the horizon of the last pass over what is attached
	s.every("reclaim of "+what, min(p.terms().Grain()/8, reclaimEvery), func(ctx context.Context) error {
		horizon := p.horizon()
		if d.Check() != nil {
			done = timestamp.T{} // what is there next may be another disk; whoever watches it tells of this one
			return nil           //nolint:nilerr // see there
		}
		if horizon == done {
			return nil
		}
		err := pass(ctx, horizon)
		if err == nil {
			done = horizon
		}
		if errors.Is(err, metadb.ErrLeft) {
			return nil // the log has said which: those alone are tried again
		}
		return err
	})
}

// keepDatabases has the databases of a kind audited and reclaimed, and counted what comes of it. What
// requests find damaged is moved aside also where audits are switched off.
func (s *Storage) keepDatabases(p parts, kind string, store *metadb.Store) error {
	err := prometheus.WrapRegistererWith(prometheus.Labels{"kind": kind}, p.o.Registry).Register(databaseMetrics{store})
	if err != nil {
		return fmt.Errorf("metrics of %s databases: %w", kind, err)
	}
	audit := p.c.Databases.Audit
	for d := range p.devices.All() {
		pace := replicator.NewPace(int64(audit.BytesPerSecond), 0).Wait // of all three
		work := func(what string, every time.Duration, pass func(context.Context) error) {
			s.every(what+" of "+kind+" databases of "+d.Name(), every, func(ctx context.Context) error {
				if d.Check() == nil {
					return pass(ctx)
				}
				return nil // whoever watches the device tells of it
			})
		}
		s.reclaim(p, kind+" databases of "+d.Name(), d, func(ctx context.Context, horizon timestamp.T) error {
			return store.Reclaim(ctx, d, horizon, pace)
		})
		work("isolation", isolateEvery, func(ctx context.Context) error { return store.Isolate(ctx, d, pace) })
		if audit.Enabled {
			work("audit", min(audit.Interval.D(), scrubEvery), func(ctx context.Context) error {
				return store.Audit(ctx, d, audit.Interval.D(), pace)
			})
		}
	}
	return nil
}

// primaries are the partition of a path, and the devices that should hold it.
func (p parts) primaries(in *ring.Source, path name.Path) (uint32, []*ring.Device) {
	r := in.Ring() // one generation for both
	part := r.Partition(p.hasher.Hash(path))
	return uint32(part), r.AppendPrimaries(nil, part)
}

// accountPlace is a stats.Placement.
func (p parts) accountPlace(account string) (uint32, []stats.Replica) {
	part, devices := p.primaries(p.rings.account, name.Path{Account: account})
	at := make([]stats.Replica, len(devices))
	for i, d := range devices {
		at[i] = stats.Replica{Addr: d.Addr(), Device: d.Name}
	}
	return part, at
}

// containerPlaces is an updater.Places.
type containerPlaces struct{ parts }

// Container returns where the replicas of a container should be.
func (c containerPlaces) Container(path name.Path) (uint32, []updater.Replica, error) {
	part, devices := c.primaries(c.rings.container, path)
	at := make([]updater.Replica, len(devices))
	for i, d := range devices {
		at[i] = updater.Replica{Addr: d.Addr(), Device: d.Name}
	}
	return part, at, nil
}
