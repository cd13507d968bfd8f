// Package updater delivers the updates of container listings that object servers
// could not deliver in time.
//
// A pass goes through the queues of the node's devices once and sends each
// update to every replica of its container that has not confirmed it, several
// updates at a time, so that a sender which batches has something to put together. It
// promises that an update leaves its queue only when a majority has confirmed
// it and the others have confirmed it or have no such container, and that a
// pass is paced and ends. Where fewer have the container it may still be on its
// way to them, so the update waits; after Config.Wait it is dropped, if then
// none of the others has one. It leaves to its caller when passes run and where
// containers are.
package updater

import (
	"cmp"
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
	"martlet/object/pending"
)

// Replica is where one replica of a container is.
type Replica struct {
	Addr, Device string // "ip:port" of the container server, and the device there
}

// Places says where the replicas of a container should be.
type Places interface {
	Container(path name.Path) (partition uint32, replicas []Replica, err error)
}

// Config is what an Updater can be told.
type Config struct {
	PerSecond   int           // updates begun in a second, over all queues
	Concurrency int           // updates under way at one time, and begun in one go
	Timeout     time.Duration // for one replica's answer

	// Wait is how old an update must be to be dropped because most replicas
	// have no such container.
	Wait time.Duration

	// Still is asked about a PUT that is older than Trust, before it is delivered: whether its object is still as it
	// says, and nothing that ended it can have been forgotten by others. Where it is not the update is
	// dropped, and where that can't be said it waits. Nil is that no PUT becomes too old.
	Still func(ctx context.Context, q *pending.Queue, u *pending.Update) (bool, error)
	Trust time.Duration

	// Silent is told who takes updates within Quick, for which a client's write would wait: when the queue of a node is empty its
	// object server knows that all whom it waited for are back, and has the next write told at once, and not queued. Nil is nobody.
	Silent *pending.Silent
	Quick  time.Duration
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config {
	return Config{PerSecond: 200, Concurrency: 32, Timeout: 10 * time.Second, Wait: 7 * 24 * time.Hour}
}

// An Updater makes passes. It is safe for concurrent use.
type Updater struct {
	cfg    Config
	queues []*pending.Queue
	places Places
	sender pending.Sender
	log    *slog.Logger
	last   atomic.Pointer[Left]

	mu     sync.Mutex
	unread time.Time // since when each pass has met something that it could not read; zero for none; guarded by mu
}

// Left is what a pass has left in the queues.
type Left struct {
	Ended  time.Time // of the pass
	Kept   int64     // updates that it could not deliver everywhere, or not read; a folder that it could not list counts as one
	Oldest time.Time // when the earliest of those happened, or, where none could be read, since when that is so; zero where there is none
}

// Left returns what the last pass that came to its end has left; nil before there was one.
func (u *Updater) Left() *Left { return u.last.Load() }

// oldest is the earliest of some times.
type oldest struct {
	mu sync.Mutex
	at time.Time // guarded by mu; zero for none
}

func (o *oldest) add(t time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at.IsZero() || t.Before(o.at) {
		o.at = t
	}
}

// New returns an updater over the queues of a node's devices. A nil log is none.
func New(cfg Config, queues []*pending.Queue, places Places, sender pending.Sender, log *slog.Logger) (*Updater, error) {
	if cfg.PerSecond <= 0 || cfg.Concurrency <= 0 || cfg.Timeout <= 0 || cfg.Wait <= 0 {
		return nil, errs.E(errs.Op("updater.new"), errs.Invalid, fmt.Errorf("rate, concurrency and times must be positive: %+v", cfg))
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Updater{cfg: cfg, queues: slices.Clone(queues), places: places, sender: sender, log: log}, nil
}

// work is one update and the queue it is in.
type work struct {
	queue  *pending.Queue
	update pending.Update
	again  bool // it is in no queue, and has probably been delivered before: see Tell
}

// Pass goes through every queue once. It returns the errors of reading the
// queues; an update that could not be delivered everywhere is no error, it stays
// for the next pass.
func (u *Updater) Pass(ctx context.Context) error {
	var (
		workers    sync.WaitGroup
		done, kept atomic.Int64
		since      oldest
		handed     = make(chan work)
	)
	for range u.cfg.Concurrency {
		workers.Go(func() {
			for w := range handed {
				if u.deliver(ctx, w) {
					done.Add(1)
				} else {
					kept.Add(1)
					since.add(w.update.Happened().Time())
				}
			}
		})
	}
	unread, err := u.feed(ctx, handed)
	close(handed)
	workers.Wait()
	if ctx.Err() == nil {
		kept.Add(unread)
		if at := u.unreadSince(unread); !at.IsZero() {
			since.add(at)
		}
		u.last.Store(&Left{time.Now(), kept.Load(), since.at})
	}
	level := slog.LevelDebug
	if done.Load() > 0 || kept.Load() > 0 {
		level = slog.LevelInfo
	}
	u.log.Log(ctx, level, "updater pass ended", "delivered", done.Load(), "kept", kept.Load())
	return err
}

// unreadSince notes how much a pass could not read, and returns since when each pass has met such; zero for none. What such an update
// tells of is not known, so that is all that can be said of its age.
func (u *Updater) unreadSince(unread int64) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case unread == 0:
		u.unread = time.Time{}
	case u.unread.IsZero():
		u.unread = clock.Now()
	}
	return u.unread
}

// feed hands out what is queued, at the pace that is configured: as many as may
// be under way, and then nothing for as long as those are worth. It returns how much stays that it could not read: what
// is damaged is in quarantine, and waits no more.
func (u *Updater) feed(ctx context.Context, handed chan<- work) (unread int64, err error) {
	pace := u.pace()
	defer pace.tick.Stop()
	var failed []error
	for _, q := range u.queues {
		for update, err := range q.All(ctx) {
			if err != nil {
				u.log.Error("queued update can't be read", "err", err)
				failed = append(failed, err)
				if !errs.Is(err, errs.Corrupt) {
					unread++
				}
				continue
			}
			select {
			case handed <- work{q, update, false}:
			case <-ctx.Done():
				return unread, context.Cause(ctx)
			}
			if err := pace.next(ctx); err != nil {
				return unread, err
			}
		}
	}
	if ctx.Err() != nil {
		return unread, context.Cause(ctx)
	}
	return unread, errors.Join(failed[:min(len(failed), 10)]...)
}

// pacer holds back what hands out updates.
type pacer struct {
	tick        *time.Ticker
	left, burst int
}

func (u *Updater) pace() *pacer {
	each := time.Second * time.Duration(u.cfg.Concurrency) / time.Duration(u.cfg.PerSecond)
	return &pacer{time.NewTicker(each), u.cfg.Concurrency, u.cfg.Concurrency}
}

// next is called after an update was handed out, and returns when there may be another one.
func (p *pacer) next(ctx context.Context) error {
	if p.left--; p.left > 0 {
		return nil
	}
	p.left = p.burst
	select {
	case <-p.tick.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Tell delivers updates that are in no queue, at the pace of a pass: of objects whose rows have probably been told, and may not have been.
// When it returns nil of each of them the replicas of its container have it, or none of them has such a container, or it is in the queue, durably.
func (u *Updater) Tell(ctx context.Context, q *pending.Queue, updates iter.Seq[pending.Update]) error {
	var (
		workers sync.WaitGroup
		failed  = make(chan error, u.cfg.Concurrency)
		handed  = make(chan pending.Update)
		pace    = u.pace()
	)
	defer pace.tick.Stop()
	for range u.cfg.Concurrency {
		workers.Go(func() {
			var err error
			for update := range handed {
				if !u.deliver(ctx, work{q, update, true}) {
					err = cmp.Or(err, q.Put(ctx, update))
				}
			}
			failed <- err
		})
	}
	err := func() error {
		defer workers.Wait()
		defer close(handed)
		for update := range updates {
			select {
			case handed <- update:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := pace.next(ctx); err != nil {
				return err
			}
		}
		return nil
	}()
	for range u.cfg.Concurrency {
		err = cmp.Or(err, <-failed)
	}
	return err
}

// deliver sends one update to those who have not confirmed it and reports
// whether it left the queue.
func (u *Updater) deliver(ctx context.Context, w work) bool {
	if told, dropped := u.stale(ctx, w); told {
		return dropped
	}
	partition, replicas, err := u.places.Container(w.update.Path.Parent())
	if err != nil {
		u.log.Error("no place for a container", "container", w.update.Path.Parent().String(), "err", err)
		return false
	}
	before := len(w.update.Confirmed)
	have, absent := 0, 0
	for i, err := range u.sendAll(ctx, &w.update, partition, replicas) {
		place := pending.Place(replicas[i].Addr, replicas[i].Device)
		switch {
		case err == nil:
			have++
			if !slices.Contains(w.update.Confirmed, place) {
				w.update.Confirmed = append(w.update.Confirmed, place)
			}
		case errs.Is(err, errs.NotFound):
			absent++
		default:
			u.log.Info("queued update stays", "container", place, "err", err)
		}
	}
	nobody := have == 0 && w.again // its container is gone, and so is whatever could be wrong there
	settled := have+absent == len(replicas) && (have > len(replicas)/2 || absent > 0 && (u.old(&w.update) || nobody))
	switch {
	case settled:
		err = w.queue.Done(ctx, w.update)
	case len(w.update.Confirmed) > before:
		err = w.queue.Confirm(ctx, w.update)
	}
	if err != nil {
		u.log.Error("queue can't be changed", "err", err)
	}
	return settled && err == nil
}

// stale sees to a PUT that is so old that what has ended it since may be forgotten, and reports whether it has, and whether
// the update left the queue.
func (u *Updater) stale(ctx context.Context, w work) (told, dropped bool) {
	if u.cfg.Still == nil || w.update.Method != "PUT" || age(&w.update) <= u.cfg.Trust {
		return false, false
	}
	object := slog.String("object", w.update.Path.String())
	is, err := u.cfg.Still(ctx, w.queue, &w.update)
	switch {
	case err != nil:
		u.log.Warn("an old update waits until it is known whether it is still so", object, "err", err)
		return true, false
	case is:
		return false, false
	}
	if err := w.queue.Done(ctx, w.update); err != nil {
		u.log.Error("queue can't be changed", "err", err)
		return true, false
	}
	u.log.Warn("an old update is dropped, since its object is another one by now, or gone", object)
	return true, true
}

// age is how long ago the latest was that an update tells of.
func age(update *pending.Update) time.Duration {
	return clock.Now().Sub(update.Happened().Time())
}

// old reports whether an update need not wait for its container any longer.
func (u *Updater) old(update *pending.Update) bool {
	return age(update) > u.cfg.Wait
}

// sendAll delivers an update to all replicas that have not confirmed it, at the same
// time, and returns an error for each replica: nil if it has it, of kind
// errs.NotFound if it has no such container.
func (u *Updater) sendAll(ctx context.Context, update *pending.Update, partition uint32, replicas []Replica) []error {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.Timeout)
	defer cancel()
	failed := make([]error, len(replicas))
	var wg sync.WaitGroup
	for i, r := range replicas {
		if slices.Contains(update.Confirmed, pending.Place(r.Addr, r.Device)) {
			continue
		}
		wg.Go(func() {
			target := backend.Target{Device: r.Device, Partition: partition, Path: update.Path}
			began := time.Now()
			failed[i] = pending.Deliver(ctx, u.sender, r.Addr, update.Method, target, slices.Clone(update.Header))
			if failed[i] == nil && u.cfg.Silent != nil && time.Since(began) < u.cfg.Quick {
				u.cfg.Silent.Back(r.Addr)
			}
		})
	}
	wg.Wait()
	return failed
}
