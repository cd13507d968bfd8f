package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/object"
	"martlet/object/engine"
	"martlet/replicator"
	"martlet/ring"
)

// What every server of a storage node tells operators, to GET, as JSON. It is on the
// storage network, so that it can be read from wherever that is reachable, and no path
// of data: those have more parts.
const (
	// HeldPath is where a node says what its devices hold: a HeldReport.
	HeldPath = "/recon/held"
	// UsagePath is where it says how full they are: a list of DeviceUsage.
	UsagePath = "/recon/diskusage"
	// StorePath is where an object server, and no other, says what its devices' stores are
	// like: a list of DeviceStore.
	StorePath = "/recon/store"
	// RatesPath is where an object server says how fast its devices take what others bring: a
	// list of replicator.Rate.
	RatesPath = "/recon/rates"
)

// HeldReport is what a node's devices hold, by the rings that the node has in use.
type HeldReport struct {
	Devices []replicator.DeviceHeld `json:"devices"`
	// Rings are the digests (ring.Ring.Digest) of those rings, by the names of their
	// files without the ending. One that changed meanwhile is left out.
	Rings map[string]string `json:"rings"`
}

// DeviceUsage is how full a device was when it was last looked at, all that is on it
// together, in bytes. The keys are those of Swift's recon.
type DeviceUsage struct {
	Device  string `json:"device"`
	Mounted bool   `json:"mounted"` // it is in use; if not, nothing else is known
	Size    int64  `json:"size"`
	Used    int64  `json:"used"`
	Avail   int64  `json:"avail"`
}

// DeviceStore is what the store of objects on a device is like.
type DeviceStore struct {
	Device string          `json:"device"`
	Error  string          `json:"error,omitempty"` // why that is not known
	Store  *engine.Summary `json:"store,omitempty"`
}

// storeWithin is how long a device may take to tell.
const storeWithin = 10 * time.Second

// recon answers what operators ask of a storage node on the storage network, and
// leaves the rest to a server.
type recon struct {
	node    *Storage
	devices *device.Set
	rings   rings
	walks   chan struct{} // of the node: who has put something in reads the names on its devices
	stores  object.Stores // nil of a server that keeps no objects
	bases   databaseStore // nil of a server that keeps no databases
	list    byte          // the kind of their lists
	server  backend.Handler
}

// Serve implements backend.Handler.
func (r recon) Serve(ctx context.Context, req *backend.Request) (*backend.Response, error) {
	if r.stores != nil && (req.Path == HoldingsPath || req.Path == StatesPath || req.Path == NamePath) {
		if req.Method != "GET" || req.Length > 0 {
			return nil, errs.Refuse(errs.Method, "%s takes GET without a body", req.Path)
		}
		return r.objects(ctx, req)
	}
	if r.bases != nil && req.Path == DatabasesPath {
		if req.Method != "GET" || req.Length > 0 {
			return nil, errs.Refuse(errs.Method, "%s takes GET without a body", req.Path)
		}
		return r.databases(ctx, req)
	}
	tell := r.told(req.Path)
	if tell == nil || (req.Path == StorePath || req.Path == RatesPath) && r.stores == nil {
		return r.server.Serve(ctx, req)
	}
	switch {
	case req.Method != "GET":
		return nil, errs.Refuse(errs.Method, "%s takes GET", req.Path)
	case req.Length > 0 || strings.TrimSpace(req.Query) != "":
		return nil, errs.Refuse(errs.Invalid, "%s has neither a query nor a body", req.Path)
	}
	report, err := tell(ctx)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(report)
	if err != nil {
		return nil, err
	}
	return &backend.Response{
		Status: 200, Length: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		Header: backend.Header{{Name: backend.ContentType, Value: "application/json"}},
	}, nil
}

// told returns what tells what is asked about at a path, nil for none.
func (r recon) told(path string) func(context.Context) (any, error) {
	part := func(of func(*Status) any) func(context.Context) (any, error) {
		return func(ctx context.Context) (any, error) { return of(r.node.Status(ctx)), nil }
	}
	switch path {
	case HeldPath:
		return r.held
	case UsagePath:
		return r.usage
	case StorePath:
		return r.store
	case RatesPath:
		return r.rates
	case RingsPath:
		return r.tellRings
	case StatusPath:
		return part(func(s *Status) any { return s })
	case VersionPath:
		return r.node.tellVersion
	case TimePath:
		return r.node.tellTime
	case UnmountedPath:
		return part((*Status).unmounted)
	case AsyncPath:
		return part((*Status).async)
	case QuarantinedPath:
		return part((*Status).quarantined)
	}
	return nil
}

func (r recon) held(ctx context.Context) (any, error) {
	if r.node.replicator == nil {
		return nil, errs.Refuse(errs.Unavailable, "replication is switched off on this node")
	}
	// It reads everything there is: one at a time, whoever asks.
	select {
	case r.walks <- struct{}{}:
		defer func() { <-r.walks }()
	case <-ctx.Done():
		return nil, errs.E(errs.Aborted, context.Cause(ctx))
	}
	before := map[string]*ring.Ring{}
	for name, source := range r.rings.named {
		before[name] = source.Ring()
	}
	report := HeldReport{Devices: r.node.replicator.Held(ctx), Rings: map[string]string{}}
	for name, source := range r.rings.named {
		if now := source.Ring(); now == before[name] {
			report.Rings[name] = now.Digest()
		}
	}
	return report, nil
}

func (r recon) tellRings(context.Context) (any, error) { return r.rings.inUse(), nil }

func (r recon) usage(context.Context) (any, error) {
	all := []DeviceUsage{}
	for d := range r.devices.All() {
		all = append(all, usageOf(d))
	}
	return all, nil
}

// usageOf says how full a device was at the last check.
func usageOf(d *device.Device) DeviceUsage {
	if u, ok := d.Usage(); ok && d.Check() == nil {
		return DeviceUsage{Device: d.Name(), Mounted: true, Size: u.Total, Used: u.Total - u.Free, Avail: u.Available}
	}
	return DeviceUsage{Device: d.Name()}
}

func (r recon) rates(context.Context) (any, error) {
	if r.node.replicator == nil {
		return nil, errs.Refuse(errs.Unavailable, "replication is switched off on this node")
	}
	return r.node.replicator.Rates(), nil
}

// store has all devices tell at once: one that hangs keeps none of the others.
func (r recon) store(ctx context.Context) (any, error) {
	ctx, stop := context.WithTimeoutCause(ctx, storeWithin, errors.New("it does not answer"))
	defer stop()
	var answers []chan DeviceStore
	for d := range r.devices.All() {
		answer := make(chan DeviceStore, 1)
		answers = append(answers, answer)
		go func() { answer <- storeOf(ctx, d, r.stores[d.Name()].Engine) }()
	}
	all := []DeviceStore{}
	for d := range r.devices.All() {
		select {
		case one := <-answers[len(all)]:
			all = append(all, one)
		case <-ctx.Done():
			all = append(all, DeviceStore{Device: d.Name(), Error: context.Cause(ctx).Error()})
		}
	}
	return all, nil
}

func storeOf(ctx context.Context, d *device.Device, e *engine.Engine) DeviceStore {
	one := DeviceStore{Device: d.Name()}
	err := d.Check()
	if err == nil {
		var s engine.Summary
		if s, err = e.Summary(ctx); err == nil {
			one.Store = &s
			return one
		}
	}
	one.Error = err.Error()
	return one
}
