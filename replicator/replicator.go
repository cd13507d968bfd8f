package replicator

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// NodeHeader is on every answer on the replication network: a name that the
// answering process has made up for itself. Who gets an answer with its own has
// asked itself, which a wrong address in its configuration or in a ring makes it
// do, and must not take the answer for another's.
const NodeHeader = "X-Backend-Node"

// NewNodeID makes the name of a process.
func NewNodeID() string { return rand.Text() }

// Deps is what a Replicator works with.
type Deps struct {
	Devices *device.Set
	Kinds   []Kind // passes go through them in this order
	NodeID  string // of this process, from NewNodeID; kinds have the same

	// Paces hold passes back, and what peers push; kinds have the same. Nil is that of
	// DefaultLimits, for the frame alone.
	Paces *Paces

	// Patience is how long peers wait for an answer: pushes wait in line no longer. 0 is
	// until they are gone.
	Patience time.Duration

	// Peer says whether requests are taken from an address; nil takes them all.
	Peer func(netip.Addr) bool

	Registry prometheus.Registerer // nil for no metrics
	Log      *slog.Logger          // nil for none
}

// A Replicator serves peers and runs passes. It is safe for concurrent use.
type Replicator struct {
	Deps
	metrics *metrics
	setting sync.Mutex               // held while limits are changed
	turns   map[string]chan struct{} // by device: who has put something in makes its pass

	ending context.Context //nolint:containedctx // the replicator's own life
	end    context.CancelFunc
	mu     sync.Mutex
	closed bool           // mu
	passes sync.WaitGroup // Add under mu

	last lastPasses
}

// New returns the replicator of a node.
func New(deps Deps) (*Replicator, error) {
	const op errs.Op = "replicator.new"
	if deps.Devices == nil || deps.NodeID == "" {
		return nil, errs.E(op, errs.Invalid, "devices and a node id are needed")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	r := &Replicator{Deps: deps}
	for i, k := range deps.Kinds {
		if slices.ContainsFunc(deps.Kinds[:i], func(o Kind) bool { return o.Name() == k.Name() }) {
			return nil, errs.E(op, errs.Subject(k.Name()), errs.Invalid, "two kinds have one name")
		}
	}
	if err := r.pace(); err != nil {
		return nil, errs.E(op, err)
	}
	var err error
	if r.metrics, err = newMetrics(deps.Registry, r.Paces); err != nil {
		return nil, errs.E(op, err)
	}
	r.ending, r.end = context.WithCancel(context.Background())
	return r, nil
}

// pace prepares what holds each device back.
func (r *Replicator) pace() error {
	r.turns = map[string]chan struct{}{}
	if r.Paces == nil {
		var names []string
		for d := range r.Devices.All() {
			names = append(names, d.Name())
		}
		r.Paces = NewPaces(names, DefaultLimits(), r.Log)
	}
	for d := range r.Devices.All() {
		r.turns[d.Name()] = make(chan struct{}, 1)
		pace := r.Paces.Of(d.Name())
		if pace == nil {
			return errs.E(errs.Subject(d.Name()), errs.Invalid, "the device has no pace")
		}
		d.Follow(func(device.Change) { pace.setPaused(errNotLooked) }) // it may be another disk
		if d.Check() == nil {
			pace.recall(d)
			_ = pace.look(d) // whoever begins a pass looks again, and says what is wrong
		}
	}
	return nil
}

// named returns the device of a name, or where that is "" all of them.
func (r *Replicator) named(name string) (list []*device.Device, err error) {
	for d := range r.Devices.All() {
		if name == "" || name == d.Name() {
			list = append(list, d)
		}
	}
	if name != "" && len(list) == 0 {
		return nil, errs.E(errs.Subject(name), errs.NotFound, errs.Public("this node has no such device"))
	}
	return list, nil
}

// Close ends the passes that are under way and returns when they have ended. Those
// that are asked for later fail.
func (r *Replicator) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.passes.Wait()
	return nil
}

// Options say what a pass is over.
type Options struct {
	Device string // "" is every device of the node

	// Settled lets the pass leave out what was written in the last seconds: of
	// partitions that are being written to each device has some changes before
	// the other, which is nothing to look at.
	Settled bool
}

// settle is how old changes are that a pass which is Settled looks at.
const settle = 10 * time.Second

// Pass makes one full pass, over all devices at the same time, and reports. Where
// a pass over a device is under way it waits for that to end and then makes its
// own, since what the other has looked at already may have changed. The error is
// of kind errs.NotFound for a device that the node does not have, and errs.Aborted
// where ctx ended; what could not be confirmed is in the report.
func (r *Replicator) Pass(ctx context.Context, o Options) (Report, error) {
	const op errs.Op = "replicator.pass"
	devices, err := r.named(o.Device)
	if err != nil {
		return Report{}, errs.E(op, err)
	}
	ctx, done, err := r.begin(ctx)
	if err != nil {
		return Report{}, errs.E(op, err)
	}
	defer done()
	report := Report{Began: time.Now(), Devices: make([]DeviceReport, len(devices))}
	var before timestamp.T
	if o.Settled {
		before = timestamp.FromTime(report.Began.Add(-settle))
	}
	var all sync.WaitGroup
	for i, d := range devices {
		all.Go(func() { report.Devices[i] = r.device(ctx, d, before) })
	}
	all.Wait()
	report.Seconds = time.Since(report.Began).Seconds()
	if ctx.Err() != nil {
		return report, errs.E(op, errs.Aborted, context.Cause(ctx))
	}
	r.log(ctx, &report)
	return report, nil
}

// begin ties a pass to the life of the replicator.
func (r *Replicator) begin(ctx context.Context) (context.Context, func(), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, errs.E(errs.Unavailable, "the replicator is closed")
	}
	r.passes.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	detach := context.AfterFunc(r.ending, cancel)
	return ctx, func() { detach(); cancel(); r.passes.Done() }, nil
}

// device makes the pass over one device, once it is its turn.
func (r *Replicator) device(ctx context.Context, d *device.Device, before timestamp.T) DeviceReport {
	report := DeviceReport{Device: d.Name(), Kinds: []Counts{}}
	turn := r.turns[d.Name()]
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		report.Error = context.Cause(ctx).Error()
		return report
	}
	defer func() { <-turn }()
	under, done, err := r.Paces.Of(d.Name()).pass(ctx, d)
	if err != nil {
		report.leftOut(err)
		return report
	}
	defer done()
	began := time.Now()
	for _, k := range r.Kinds {
		kindBegan := time.Now()
		if err := d.Check(); err != nil {
			report.Error = err.Error() // it may fail in the middle of a pass
			break
		}
		t := NewTally(k.Name())
		k.Pass(under, d.Name(), before, t)
		report.Kinds = append(report.Kinds, t.Counts())
		if ctx.Err() == nil && under.Err() != nil {
			report.leftOut(context.Cause(under))
			break
		}
		if ctx.Err() == nil && d.Check() == nil {
			r.last.ended(d.Name(), kindBegan, t.Counts())
		}
	}
	report.Seconds = time.Since(began).Seconds()
	if d.Check() == nil {
		r.Paces.Of(d.Name()).keep(d)
	}
	if ctx.Err() == nil {
		r.metrics.count(&report)
	}
	return report
}

// log says what a pass has come to: one line, and one for each failure.
func (r *Replicator) log(ctx context.Context, report *Report) {
	var sum Counts
	for _, d := range report.Devices {
		if d.Error != "" {
			r.Log.LogAttrs(ctx, slog.LevelWarn, "device was left out by replication", slog.String("device", d.Device), slog.String("err", d.Error))
		}
		for _, k := range d.Kinds {
			sum.Compared += k.Compared
			sum.Pushed += k.Pushed
			sum.Bytes += k.Bytes
			sum.Dropped += k.Dropped
			sum.Failed += k.Failed
			for _, f := range k.Failures {
				r.Log.LogAttrs(ctx, slog.LevelWarn, "not replicated", slog.String("device", d.Device), slog.String("kind", k.Kind),
					slog.String("peer", f.Peer), slog.String("policy", f.Policy), slog.Uint64("partition", uint64(f.Partition)), slog.String("name", f.Name),
					slog.String("reason", f.Reason), slog.Int64("count", f.Count))
			}
		}
	}
	r.Log.LogAttrs(ctx, slog.LevelInfo, "replication pass ended", slog.Float64("seconds", report.Seconds), slog.Int64("compared", sum.Compared),
		slog.Int64("pushed", sum.Pushed), slog.Int64("bytes", sum.Bytes), slog.Int64("dropped", sum.Dropped), slog.Int64("failed", sum.Failed))
}

// partitionOf is where a hash belongs in a ring of a part power from 1 to 32.
func partitionOf(h name.Hash, partPower int) uint32 {
	return binary.BigEndian.Uint32(h[:4]) >> (32 - partPower)
}

// rangeOf is the lowest and the highest hash of a partition.
func rangeOf(partition uint32, partPower int) (first, last name.Hash) {
	for i := range last {
		last[i] = 0xff
	}
	low := partition << (32 - partPower)
	binary.BigEndian.PutUint32(first[:4], low)
	binary.BigEndian.PutUint32(last[:4], low|uint32(uint64(1)<<(32-partPower)-1))
	return first, last
}

// String says in one line what was done.
func (c *Counts) String() string {
	text := fmt.Sprintf("%s: %d partitions (%d handoffs), %d compared, %d pushed, %d bytes, %d dropped, %d failed",
		c.Kind, c.Partitions, c.Handoffs, c.Compared, c.Pushed, c.Bytes, c.Dropped, c.Failed)
	if c.Rebuilt > 0 {
		text += fmt.Sprintf(", %d rebuilt, %d bytes", c.Rebuilt, c.RebuiltBytes)
	}
	return text
}
