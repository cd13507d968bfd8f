// Package expiry ends the objects of a device that have come to their X-Delete-At: a loop
// for each device finds them in the device's own index, tells the listings of their
// containers and leaves tombstones. There is no queue of what is to end, and nothing to
// be kept in step with the objects.
//
// Clients see nothing of it but the listings: an object that has come to its end is not
// there for them from that second on, whether it was ended or not. Each primary ends what
// it holds by itself, at its own time; a handoff leaves that to them, who are brought what it
// has. All of them make the same tombstone, whose time is made of the state that it ends
// (timestamp.Expiry). Where that state was not the last word, since a replica has missed a POST
// that gave the object a longer life, the tombstone is void when that is heard of, and the
// replicas that still have the object bring it back. So nobody need be asked before.
//
// The listings are told first: that the deletes of a batch are taken by the replicas of
// the containers that are this device's to tell, or durably queued on it, is so before the
// first of its tombstones is written. A crash in between, or an error, leaves objects that are
// found again by the next pass, which tells the same anew. Where an object turns out to live
// on, as its POST came meanwhile, the listing is told of that by the POST, and joins the two
// by the rule of the objects.
package expiry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clock"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/object/pending"
)

// Object is one that has come to its end.
type Object struct {
	Policy policy.Index
	Hash   name.Hash
	Path   name.Path
	Stamp  timestamp.T // of the tombstone that it leaves

	// End has it leave that. It is on stable storage when nil is returned; the error is
	// of kind errs.Stale where the object is not what it was, and stays.
	End func(ctx context.Context) error
}

// Store is what is needed of a device's objects.
type Store interface {
	// Due returns how many objects that are the device's to end have come to it at a time, from the index alone.
	Due(ctx context.Context, now time.Time) (int64, error)

	// Expired yields those that the device ends: what it is no primary of may be left out, so
	// that it need not be read. An error that concerns one of them is yielded with it, as far
	// as it is known; one that concerns more ends the iteration.
	Expired(ctx context.Context, now time.Time) iter.Seq2[Object, error]
}

// Replica is where a replica of a container is.
type Replica struct{ Addr, Device string } // "ip:port" of its server

// Places knows which replicas of an object's container a device tells.
type Places interface {
	// Told returns them, and the container's partition. Mine is false where the device is no
	// primary of the object.
	Told(device string, o *Object) (partition uint32, replicas []Replica, mine bool)
}

// Config is what a Reaper can be told.
type Config struct {
	// Delay is for how long objects are left as they are that have come to their end, for who may
	// still want them; not negative.
	Delay time.Duration

	PerSecond   int           // objects of a device that are ended in a second; 0 is no limit
	Concurrency int           // that are under way at one time: they share requests and syncs
	Timeout     time.Duration // for the answer of a container's replica
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config { return Config{PerSecond: 1000, Concurrency: 64, Timeout: 10 * time.Second} }

// Deps is what a Reaper works with.
type Deps struct {
	Device string
	Store  Store
	Queue  *pending.Queue
	Places Places
	Sender pending.Sender
	Now    func() time.Time // nil for the machine's clock
	Log    *slog.Logger     // nil for none
}

// A Reaper ends the objects of one device. It is safe for concurrent use.
type Reaper struct {
	cfg Config
	Deps
	silent              *pending.Silent
	passes              sync.Mutex // one at a time
	ended, failed, left atomic.Int64
}

// New returns the reaper of a device.
func New(cfg Config, deps Deps) (*Reaper, error) {
	if cfg.PerSecond < 0 || cfg.Delay < 0 || cfg.Concurrency <= 0 || cfg.Timeout <= 0 {
		return nil, errs.E(errs.Op("expiry.new"), errs.Invalid, fmt.Errorf("concurrency and timeout must be positive, rate and delay not negative: %+v", cfg))
	}
	if deps.Store == nil || deps.Queue == nil || deps.Places == nil || deps.Sender == nil {
		return nil, errs.E(errs.Op("expiry.new"), errs.Invalid, "store, queue, places and sender are needed")
	}
	if deps.Now == nil {
		deps.Now = clock.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Reaper{cfg: cfg, Deps: deps, silent: pending.NewSilent(deps.Now)}, nil
}

// Counts says what became of objects since the start, and how many that are the device's to end had come to it at
// the begin of the last pass, and are still there.
type Counts struct{ Ended, Failed, Left int64 }

// Counts returns what there is to count.
func (r *Reaper) Counts() Counts {
	return Counts{r.ended.Load(), r.failed.Load(), max(0, r.left.Load())}
}

// maxErrors bounds how many errors of a pass are told.
const maxErrors = 10

// Pass ends what has come to its end by now, or Delay before. An error is of what is left, which the next
// pass finds.
func (r *Reaper) Pass(ctx context.Context) error {
	r.passes.Lock()
	defer r.passes.Unlock()
	now := r.Now().Add(-r.cfg.Delay)
	if planted.ExpiresEarly { // breaks: nothing ends before its time
		now = now.Add(48 * time.Hour)
	}
	due, err := r.Store.Due(ctx, now)
	if err != nil {
		return err
	}
	r.left.Store(due)
	if due == 0 {
		return nil
	}
	var workers sync.WaitGroup
	handed := make(chan Object)
	var mu sync.Mutex
	var failed []error
	fail := func(err error) {
		r.failed.Add(1)
		mu.Lock()
		defer mu.Unlock()
		if len(failed) < maxErrors {
			failed = append(failed, err)
		}
	}
	for range r.cfg.Concurrency {
		workers.Go(func() {
			for o := range handed {
				if err := r.end(ctx, &o); err != nil {
					fail(err)
				}
			}
		})
	}
	r.feed(ctx, now, handed, fail)
	close(handed)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(failed...)
}

// feed hands out what has come to its end, no faster than it may.
func (r *Reaper) feed(ctx context.Context, now time.Time, handed chan<- Object, fail func(error)) {
	var pace <-chan time.Time
	if r.cfg.PerSecond > 0 {
		t := time.NewTicker(time.Second * time.Duration(r.cfg.Concurrency) / time.Duration(r.cfg.PerSecond))
		defer t.Stop()
		pace = t.C
	}
	n := 0
	for o, err := range r.Store.Expired(ctx, now) {
		if err != nil {
			fail(errs.E(errs.Op("expiry.pass"), errs.Subject(o.Hash.String()), errs.KindOf(err), err))
			continue
		}
		select {
		case handed <- o:
		case <-ctx.Done():
			return
		}
		if n++; pace == nil || n%r.cfg.Concurrency != 0 {
			continue
		}
		select {
		case <-pace:
		case <-ctx.Done():
			return
		}
	}
}

// end ends one object, if that is for this device to do.
func (r *Reaper) end(ctx context.Context, o *Object) error {
	partition, replicas, mine := r.Places.Told(r.Device, o)
	if !mine {
		return nil
	}
	if err := r.tell(ctx, o, partition, replicas); err != nil {
		return err
	}
	err := o.End(ctx)
	switch {
	case err == nil:
		r.ended.Add(1)
	case !errs.Is(err, errs.Stale):
		return err
	}
	r.left.Add(-1)
	return nil
}

// tell has the listing without the object: when it returns nil that was taken by the replicas
// that this device tells, or is durably queued.
func (r *Reaper) tell(ctx context.Context, o *Object, partition uint32, replicas []Replica) error {
	header := backend.Header{
		{Name: backend.Timestamp, Value: o.Stamp.String()},
		{Name: backend.PolicyIndex, Value: o.Policy.String()},
	}
	var confirmed []string
	for _, to := range replicas {
		if !r.silent.Ask(to.Addr) {
			continue
		}
		target := backend.Target{Device: to.Device, Partition: partition, Path: o.Path}
		sendCtx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
		err := pending.Deliver(sendCtx, r.Sender, to.Addr, "DELETE", target, slices.Clone(header))
		cancel()
		if r.silent.Heard(to.Addr, err); err != nil {
			r.Log.LogAttrs(ctx, slog.LevelInfo, "the end of an object is queued", slog.String("container", to.Addr+"/"+to.Device), slog.Any("err", err))
			continue
		}
		confirmed = append(confirmed, pending.Place(to.Addr, to.Device))
	}
	if len(confirmed) == len(replicas) {
		return nil
	}
	return r.Queue.Put(ctx, pending.Update{
		Policy: o.Policy, Hash: o.Hash, Method: "DELETE", Path: o.Path, Header: header,
		Data: o.Stamp, ContentType: o.Stamp, Meta: o.Stamp, Confirmed: confirmed,
	})
}
