package replicator

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/replwire"
)

// Paces are what holds back the replication of a node, device by device. They are safe
// for concurrent use; nil holds nothing back.
type Paces struct {
	devices map[string]*DevicePace // not changed
}

// NewPaces returns the paces of devices that all begin with the same limits, which are
// in order. A nil log is none.
func NewPaces(devices []string, l Limits, log *slog.Logger) *Paces {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := &Paces{devices: make(map[string]*DevicePace, len(devices))}
	for _, name := range devices {
		d := &DevicePace{device: name, log: log}
		d.Set(l)
		p.devices[name] = d
	}
	return p
}

// Of returns the pace of a device; nil, which holds nothing back, where there is none.
func (p *Paces) Of(device string) *DevicePace {
	if p == nil {
		return nil
	}
	return p.devices[device]
}

// all returns the paces in order of the devices' names.
func (p *Paces) all() []*DevicePace {
	if p == nil {
		return nil
	}
	list := make([]*DevicePace, 0, len(p.devices))
	for _, d := range p.devices {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *DevicePace) int { return strings.Compare(a.device, b.device) })
	return list
}

// DevicePace holds back what one device pushes, and takes: its limits, how it adapts to
// peers that become slow, and whether it is paused. It is safe for concurrent use; nil
// holds nothing back.
type DevicePace struct {
	device string
	log    *slog.Logger
	rate   Pace
	under  gate // partitions under way
	kept   gate // of what was read from peers many at a time, and is stored
	line   gate // pushes of peers
	ease   easing

	progress Progress

	file sync.Mutex // held while the file on the device is read or written

	mu     sync.Mutex
	limits Limits                  // guarded by mu
	paused error                   // guarded by mu; why nothing is pushed, nil while it is
	end    context.CancelCauseFunc // guarded by mu; ends the pass that is under way, nil without one
	waited [ways]time.Duration     // guarded by mu
	sent   map[string]int64        // guarded by mu; bytes of pushes, by kind
}

// What is waited for.
const (
	forLimit   = iota // the limits of bytes and operations
	forLatency        // a peer that takes long
	inLine            // a device that others push to as well
	ways
)

// Set changes the limits, which are in order. What is under way goes on; what waits goes by
// the new ones at once.
func (d *DevicePace) Set(l Limits) {
	d.mu.Lock()
	d.limits = l
	d.mu.Unlock()
	d.rate.Set(l.BytesPerSecond, l.OperationsPerSecond)
	d.under.set(l.Concurrency)
	d.kept.set(l.Concurrency)
	d.line.set(l.Incoming)
}

// Limits returns those that are in force; none of a device without a pace.
func (d *DevicePace) Limits() Limits {
	if d == nil {
		return Limits{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.limits
}

// Wait takes one operation of so many bytes and returns when it may begin, by the limits
// alone. It returns early, with the cause, when ctx ends or the device is paused.
func (d *DevicePace) Wait(ctx context.Context, bytes int64) error {
	if d == nil {
		return context.Cause(ctx)
	}
	if err := d.pausedNow(); err != nil {
		return err
	}
	defer d.waiting(forLimit, time.Now())
	return d.rate.Wait(ctx, bytes)
}

// Bytes takes so many bytes that were read from a peer, and returns when more may be: they are no
// operation of their own. It returns early, as Wait does.
func (d *DevicePace) Bytes(ctx context.Context, bytes int64) error {
	if d == nil {
		return context.Cause(ctx)
	}
	if err := d.pausedNow(); err != nil {
		return err
	}
	if d.Limits().BytesPerSecond == 0 {
		return context.Cause(ctx)
	}
	defer d.waiting(forLimit, time.Now())
	return d.rate.WaitBytes(ctx, bytes)
}

// begin holds a request to a peer back, by the limits and, if it is a push, by how long
// others have taken. The function that it returns is to be told when an answer came.
func (d *DevicePace) begin(ctx context.Context, peer string, r *backend.Request) (answered func(), err error) {
	if d == nil {
		return func() {}, context.Cause(ctx)
	}
	if err := d.Wait(ctx, r.Length); err != nil || !isPush(r) {
		return func() {}, err
	}
	if gap := d.ease.gapBefore(peer, r.Length); gap > 0 {
		defer d.waiting(forLatency, time.Now())
		if err := pause(ctx, gap); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	if d.sent == nil {
		d.sent = map[string]int64{}
	}
	d.sent[r.Header.Get(replwire.KindHeader)] += max(0, r.Length)
	d.mu.Unlock()
	began := time.Now()
	return func() {
		now := time.Now()
		if gap, changed := d.ease.note(peer, r.Length, now.Sub(began), now); changed {
			d.log.LogAttrs(ctx, slog.LevelInfo, "the pace to a peer has changed", slog.String("device", d.device), slog.String("peer", peer),
				slog.Float64("pace_factor", factorOf(gap)), slog.Float64("seconds", now.Sub(began).Seconds()), slog.Int64("bytes", r.Length))
		}
	}, nil
}

// isPush reports whether a request brings something.
func isPush(r *backend.Request) bool { return r.Method != "REPLICATE" && r.Method != "GET" }

// factorOf is what is left of the pace where pushes are followed by a gap of so many times
// what they take: 1 for all of it.
func factorOf(gap float64) float64 { return 1 / (1 + gap) }

// enter waits until a partition may be begun; leave is called when it is done.
func (d *DevicePace) enter(ctx context.Context) error { return d.under.enter(ctx) }
func (d *DevicePace) leave()                          { d.under.leave() }

// Keep waits until one thing more that was read from peers may be stored, of which there are as many at one time as partitions may be
// under way, and returns what to call when it is. Whoever waits may have a place among those: they are other places, so that something
// is read while others are stored, and nobody waits for his own. The error is the cause when ctx ends before.
func (d *DevicePace) Keep(ctx context.Context) (done func(), err error) {
	if d == nil {
		return func() {}, context.Cause(ctx)
	}
	if err := d.kept.enter(ctx); err != nil {
		return nil, err
	}
	return d.kept.leave, nil
}

// turn waits in line until a push of a peer may be handled, and returns what to call when
// it is. The error is of kind errs.Aborted when ctx ends before.
func (d *DevicePace) turn(ctx context.Context) (done func(), err error) {
	if d == nil {
		return func() {}, nil
	}
	defer d.waiting(inLine, time.Now())
	if err := d.line.enter(ctx); err != nil {
		return nil, errs.E(errs.Op("replicator.line"), errs.Subject(d.device), errs.Aborted, err)
	}
	return d.line.leave, nil
}

// waiting counts what was waited since.
func (d *DevicePace) waiting(way int, since time.Time) {
	waited := time.Since(since)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waited[way] += waited
}

func (d *DevicePace) pausedNow() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.paused
}

// PaceReport is what holds back the replication of a device.
type PaceReport struct {
	Device string `json:"device"`
	Paused string `json:"paused,omitempty"` // why, and since when; empty while it is not
	Limits Limits `json:"limits"`           // in force

	Partitions int `json:"partitions"` // under way
	Incoming   int `json:"incoming"`   // pushes of peers that are handled
	InLine     int `json:"in_line"`    // pushes of peers that wait

	// Factor is what is left of the pace to the peer that takes longest, compared with
	// how it was of late: 1 for all of it, down to 1/9. Slowed is how many peers there is
	// less than all of it to.
	Factor float64 `json:"pace_factor"`
	Slowed int     `json:"slowed_peers"`

	Waited Waited `json:"waited"`

	// ToGet is what the device lacks of its fragments, and how long it takes to get that.
	ToGet ToGet `json:"to_get"`

	// Sent is the bytes of pushes since the process began, whether they were taken or not, by kind of data.
	Sent map[string]int64 `json:"sent_bytes"`
}

// Waited is what was waited since the process began, in seconds, each push for itself.
type Waited struct {
	Limits  float64 `json:"limits"`  // for the limits of bytes and operations
	Latency float64 `json:"latency"` // since a peer took long
	Line    float64 `json:"line"`    // of peers, for others that pushed to this device
}

// Report returns what holds the device back now.
func (d *DevicePace) Report() PaceReport {
	r := PaceReport{Device: d.device, ToGet: d.progress.ToGet()}
	r.Partitions, _ = d.under.count()
	r.Incoming, r.InLine = d.line.count()
	gap, slowed := d.ease.most()
	r.Factor, r.Slowed = factorOf(gap), slowed
	d.mu.Lock()
	defer d.mu.Unlock()
	r.Limits = d.limits
	if d.paused != nil {
		r.Paused = d.paused.Error()
	}
	r.Waited = Waited{d.waited[forLimit].Seconds(), d.waited[forLatency].Seconds(), d.waited[inLine].Seconds()}
	r.Sent = maps.Clone(d.sent)
	return r
}
