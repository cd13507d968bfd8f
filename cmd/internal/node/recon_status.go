package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"martlet/cmd/internal/config"
	"martlet/internal/clock"
	"martlet/internal/device"
	"martlet/internal/vfs"
	"martlet/object"
	"martlet/replicator"
	"martlet/replicator/updater"
)

// What a process says of itself, to GET. Every server of a storage node says so on the storage network, and every
// process at its admin address; a proxy never says any of it where it serves clients.
const (
	// StatusPath is all of it: a Status.
	StatusPath = "/recon/status"

	// These are parts of it by the names, and in the forms, that Swift's recon has: the version, what time it is in
	// seconds, which devices can't be used, how many updates are queued, and how much is in quarantine.
	VersionPath     = "/recon/version"
	TimePath        = "/recon/time"
	UnmountedPath   = "/recon/unmounted"
	AsyncPath       = "/recon/async"
	QuarantinedPath = "/recon/quarantined"
)

// Status is what a process says of itself.
type Status struct {
	Format  int          `json:"format"`  // statusFormat; fields may come, and keep what they mean
	Process string       `json:"process"` // a name that it has made up: who answers twice under two addresses is one
	Role    string       `json:"role"`    // config.KindStorage or config.KindProxy
	Version string       `json:"version"`
	Asked   time.Time    `json:"asked"`   // when the question came, by its clock
	Time    time.Time    `json:"time"`    // likewise, when the answer goes
	Uptime  float64      `json:"uptime"`  // seconds
	Servers []ServerAt   `json:"servers"` // that it has, as rings have them; of a proxy none
	Rings   []RingInUse  `json:"rings"`
	Config  config.Alike `json:"config"` // what must be alike in a cluster
	Off     []string     `json:"off"`    // background work that its configuration has switched off, by the table's name

	// Of a storage node.
	Devices []DeviceStatus `json:"devices,omitempty"`
	Queues  []QueueStatus  `json:"queues,omitempty"`
}

const statusFormat = 1

// ServerAt is a server of a storage node.
type ServerAt struct {
	Server  string `json:"server"`  // object, container, account, replication
	Address string `json:"address"` // "ip:port"
}

// DeviceStatus is what there is to say of a device without looking through it.
type DeviceStatus struct {
	DeviceUsage           // whether it is in use, and how full
	Error       string    `json:"error,omitempty"`   // why it can't be used, or not looked at
	Loading     bool      `json:"loading,omitempty"` // the index of its objects is not open yet; what needs it waits
	Since       time.Time `json:"since,omitzero"`    // when it was last taken out of use
	Outages     int64     `json:"outages"`           // how often, since the process began

	// Fenced is of how many partitions nothing is pushed, since it was away for too long; -1 is all.
	Fenced int64 `json:"fenced"`
	// Quarantined is how many damaged things are kept aside, by the name of the folder: objects, containers, ...
	Quarantined map[string]int64 `json:"quarantined"`

	Paused string                `json:"paused,omitempty"` // why nothing is pushed, and since when
	Passes []replicator.LastPass `json:"passes"`           // of replication, the last over each kind of data; none where it is off
	ToSend replicator.ToSend     `json:"to_send"`          // what others lack of what it has
	ToGet  replicator.ToGet      `json:"to_get"`           // what it lacks of its fragments
}

// QueueStatus is how much a kind of background work of a node has left.
type QueueStatus struct {
	Queue  string `json:"queue"`  // of queueNames
	Known  bool   `json:"known"`  // a pass has come to its end; else the rest is 0
	Length int64  `json:"length"` // after that
	// Age is for how many seconds: for the updater, how long ago the earliest was that its queue tells of; for others, since
	// when something was left each time.
	Age float64 `json:"age"`
}

// The kinds of background work whose queues are told of.
const (
	QueueUpdates   = "updater"        // rows that containers have still to be told
	QueueExpired   = "expirer"        // objects past their X-Delete-At
	QueueMisplaced = "reconciler"     // containers with objects in the place of another policy
	QueueReaped    = "account_reaper" // accounts that were deleted longer than account_reaper.reap_warn_after ago, of which something is left
)

// lookWithin is how long a device may take to say what it has in quarantine, and what is fenced.
const lookWithin = 3 * time.Second

var errLooking = errors.New("it does not answer: a look at it has not come back")

// identity is what a process is, apart from what it does.
type identity struct {
	name    string
	role    string
	version string
	began   time.Time
	config  config.Alike
	off     []string
}

func newIdentity(role, version string, alike config.Alike, off []string) identity {
	return identity{rand.Text(), role, version, time.Now(), alike, append([]string{}, off...)}
}

// status is what any process can say who was asked at a time, but for when it answers.
func (i *identity) status(asked time.Time, r rings) *Status {
	return &Status{
		Format: statusFormat, Process: i.name, Role: i.role, Version: i.version, Asked: asked, Uptime: time.Since(i.began).Seconds(),
		Servers: []ServerAt{}, Rings: r.inUse(), Config: maps.Clone(i.config), Off: i.off,
	}
}

// watcher looks at devices for a status.
type watcher struct {
	self    identity
	servers []ServerAt
	rings   rings
	devices *device.Set
	stores  object.Stores
	keys    func() []string // ids of the cluster's keys; nil for none
	updates *updater.Updater
	looks   map[string]*look // by device
	backlog backlog
	loaded  atomic.Bool // what the devices had when the process began is loaded
}

// newWatcher returns what looks at the devices of a node.
func newWatcher(p parts) *watcher {
	w := &watcher{rings: p.rings, devices: p.devices, stores: p.stores, looks: map[string]*look{}}
	for d := range p.devices.All() {
		w.looks[d.Name()] = &look{}
	}
	if p.keys != nil {
		w.keys = func() []string { return p.keys.Keys().IDs() }
	}
	w.self = newIdentity(config.KindStorage, p.o.Version, p.c.Alike(nil), p.c.Off())
	for _, s := range []struct {
		name, address string
		config.Service
	}{
		{"object", p.c.Server.Address, p.c.Object.Service}, {"container", p.c.Server.Address, p.c.Container}, {"account", p.c.Server.Address, p.c.Account},
		{"replication", p.c.Replication.Address, config.Service{Enabled: p.c.Replication.Enabled, Port: p.c.Replication.Port}},
	} {
		if s.Enabled {
			w.servers = append(w.servers, ServerAt{s.name, at(s.address, s.Port)})
		}
	}
	return w
}

// look is what was last seen of a device's disk.
type look struct {
	mu    sync.Mutex
	under chan struct{} // closed when the look ends that is under way; guarded by mu, as are all
	seen  seen
}

// seen is what a look at a disk has shown.
type seen struct {
	quarantined map[string]int64
	fenced      int64
	err         error
}

// at returns what is on the disk of a device, looked at by one at a time: of a disk that hangs nothing is waited for but
// the first look.
func (l *look) at(ctx context.Context, see func() seen) seen {
	l.mu.Lock()
	under := l.under
	if under == nil {
		under = make(chan struct{})
		l.under = under
		go func() {
			s := see()
			l.mu.Lock()
			defer l.mu.Unlock()
			l.seen, l.under = s, nil
			close(under)
		}()
	}
	l.mu.Unlock()
	select {
	case <-under:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.seen
	case <-ctx.Done():
		return seen{err: errLooking}
	}
}

// backlog is since when something has been left after each pass of some background work. It is safe for concurrent use.
type backlog struct {
	mu  sync.Mutex
	all map[string]*behind // by the name of the queue, and who has it; guarded by mu
}

type behind struct {
	queue, of string
	left      int64
	since     time.Time // zero where nothing is left
}

// note says how much a pass has left of a queue, of which each device may have its own.
func (b *backlog) note(queue, of string, left int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil {
		b.all = map[string]*behind{}
	}
	one := b.all[queue+"/"+of]
	if one == nil {
		one = &behind{queue: queue, of: of}
		b.all[queue+"/"+of] = one
	}
	switch one.left = left; {
	case left == 0:
		one.since = time.Time{}
	case one.since.IsZero():
		one.since = time.Now()
	}
}

// forget takes back what was noted, as nothing is known of it any more: of a device that can't be used nothing is done, and what it
// has left is no older for that.
func (b *backlog) forget(queue, of string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, queue+"/"+of)
}

// status is what is left of a queue, of all who have one together but for those that are out of use.
func (b *backlog) status(queue string, out func(of string) bool) QueueStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := QueueStatus{Queue: queue}
	for _, one := range b.all {
		if one.queue != queue || out(one.of) {
			continue
		}
		q.Known = true
		q.Length += one.left
		if !one.since.IsZero() {
			q.Age = max(q.Age, time.Since(one.since).Seconds())
		}
	}
	return q
}

// Status says how the node is. What a device does not answer within lookWithin, or before ctx ends, is an error of that
// device alone.
func (s *Storage) Status(ctx context.Context) *Status {
	w := s.watcher
	asked := clock.Now()
	ctx, stop := context.WithTimeout(ctx, lookWithin)
	defer stop()
	var devices []*device.Device
	for d := range w.devices.All() {
		devices = append(devices, d)
	}
	list := make([]DeviceStatus, len(devices))
	var all sync.WaitGroup
	for i, d := range devices {
		all.Go(func() { list[i] = s.deviceStatus(ctx, d) })
	}
	all.Wait()
	st := w.self.status(asked, w.rings)
	st.Devices, st.Queues = list, s.queues()
	st.Servers = append(st.Servers, w.servers...)
	if w.keys != nil {
		ids := slices.Sorted(slices.Values(w.keys()))
		st.Config[config.AlikeKeys] = strings.Join(ids, " ")
	}
	st.Time = clock.Now()
	return st
}

// out reports whether a name is of a device that can't be used.
func (w *watcher) out(name string) bool {
	d, _ := w.devices.Lookup(name) // nil for what is of no device
	return d != nil && d.Check() != nil
}

func (s *Storage) queues() []QueueStatus {
	all := []QueueStatus{}
	if u := s.watcher.updates; u != nil {
		q := QueueStatus{Queue: QueueUpdates}
		if left := u.Left(); left != nil {
			q.Known, q.Length = true, left.Kept
			if !left.Oldest.IsZero() {
				q.Age = max(0, clock.Now().Sub(left.Oldest).Seconds())
			}
		}
		all = append(all, q)
	}
	for _, name := range []string{QueueExpired, QueueMisplaced, QueueReaped} {
		if q := s.watcher.backlog.status(name, s.watcher.out); q.Known {
			all = append(all, q)
		}
	}
	return all
}

func (s *Storage) deviceStatus(ctx context.Context, d *device.Device) DeviceStatus {
	one := DeviceStatus{DeviceUsage: usageOf(d), Quarantined: map[string]int64{}, Passes: []replicator.LastPass{}}
	if o := d.Outage(); !o.Since.IsZero() {
		one.Since, one.Outages = o.Since, o.Times
	}
	if s.replicator != nil {
		pace := s.replicator.Paces.Of(d.Name())
		report := pace.Report()
		one.Paused, one.ToGet, one.ToSend = report.Paused, report.ToGet, pace.ToSend()
		one.Passes = s.replicator.LastPasses(d.Name())
	}
	if err := d.Check(); err != nil {
		one.Error, one.Paused = cmp.Or(errors.Unwrap(err), err).Error(), "" // what is said of its disk is not known
		return one
	}
	if e := s.watcher.stores[d.Name()].Engine; e != nil {
		var failed error
		if one.Loading, failed = e.Loading(); failed != nil {
			one.Error = failed.Error()
		}
	}
	saw := s.watcher.looks[d.Name()].at(ctx, func() seen { return s.see(d) })
	if saw.err != nil {
		one.Error = saw.err.Error()
	}
	one.Fenced = saw.fenced
	if saw.quarantined != nil {
		one.Quarantined = saw.quarantined
	}
	return one
}

// see looks at the disk of a device.
func (s *Storage) see(d *device.Device) (saw seen) {
	if saw.quarantined, saw.err = quarantinedOn(d); saw.err != nil {
		return saw
	}
	if s.steps != nil {
		f := fencesOf(d, s.steps, keepFences)
		for _, one := range f.Fenced {
			saw.fenced += int64(one.Partitions)
		}
		switch {
		case f.Damaged != "":
			saw.fenced = -1
		case f.Error != "":
			saw.err = errors.New(f.Error)
		}
	}
	return saw
}

// quarantinedOn counts what a device keeps aside: each has a file beside it that tells the reason, but for updates of
// listings. What has come back, and is known not to be missed any more, is not counted.
func quarantinedOn(d *device.Device) (map[string]int64, error) {
	disk, top := d.FS(), d.Dir("quarantined")
	folders, err := entries(disk, top)
	if err != nil {
		return nil, err
	}
	all := map[string]int64{}
	for _, folder := range folders {
		if !folder.Dir {
			continue
		}
		files, err := entries(disk, top+"/"+folder.Name)
		if err != nil {
			return nil, err
		}
		n := int64(0)
		for _, f := range files {
			if strings.HasSuffix(f.Name, ".reason") || strings.HasPrefix(folder.Name, "async_pending") {
				n++
			}
		}
		if n > 0 {
			all[folder.Name] = n
		}
	}
	return all, nil
}

// entries lists a folder; one that is not there is empty.
func entries(disk vfs.FS, folder string) ([]vfs.Entry, error) {
	list, err := disk.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// tellStatus adds to an admin address how a process is.
func tellStatus(mux *http.ServeMux, status func(context.Context) *Status) {
	mux.HandleFunc("GET "+StatusPath, func(w http.ResponseWriter, r *http.Request) { tellJSON(w, status(r.Context())) })
}

// What Swift's recon has of it: the first two without a look at the devices.

func (s *Storage) tellVersion(context.Context) (any, error) {
	return map[string]string{"version": s.watcher.self.version}, nil
}

func (s *Storage) tellTime(context.Context) (any, error) {
	return float64(clock.Now().UnixMicro()) / 1e6, nil
}

func (s *Status) unmounted() any {
	all := []DeviceUsage{}
	for _, d := range s.Devices {
		if !d.Mounted {
			all = append(all, d.DeviceUsage)
		}
	}
	return all
}

func (s *Status) async() any {
	for _, q := range s.Queues {
		if q.Queue == QueueUpdates && q.Known {
			return map[string]int64{"async_pending": q.Length}
		}
	}
	return map[string]any{"async_pending": nil} // no pass has looked yet
}

func (s *Status) quarantined() any {
	sum := map[string]int64{"accounts": 0, "containers": 0, "objects": 0}
	policies := map[string]map[string]int64{}
	for _, d := range s.Devices {
		for folder, n := range d.Quarantined {
			kind, of, other := strings.Cut(folder, "-")
			if _, ok := sum[kind]; !ok {
				continue
			}
			sum[kind] += n
			if kind == "objects" {
				if !other {
					of = "0"
				}
				if policies[of] == nil {
					policies[of] = map[string]int64{}
				}
				policies[of]["objects"] += n
			}
		}
	}
	report := map[string]any{"policies": policies}
	for kind, n := range sum {
		report[kind] = n
	}
	return report
}
