// Package updater delivers the updates of container listings that object servers
// could not deliver in time.
//
// A pass goes through the queues of the node's devices once and sends each
// update to every replica of its container that has not confirmed it. It
// promises that an update leaves its queue only when a majority has confirmed
// it and the others have confirmed it or have no such container, and that a
// pass is paced and ends. Where fewer have the container it may still be on its
// way to them, so the update waits; after Config.Wait it is dropped, if then
// none of the others has one. It leaves to its caller when passes run and where
// containers are.
package updater

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
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
	Concurrency int           // updates under way at one time
	Timeout     time.Duration // for one replica's answer

	// Wait is how old an update must be to be dropped because most replicas
	// have no such container.
	Wait time.Duration
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config {
	return Config{PerSecond: 50, Concurrency: 8, Timeout: 10 * time.Second, Wait: 7 * 24 * time.Hour}
}

// An Updater makes passes. It is safe for concurrent use.
type Updater struct {
	cfg    Config
	queues []*pending.Queue
	places Places
	sender pending.Sender
	log    *slog.Logger
}

// New returns an updater over the queues of a node's devices. A nil log is none.
func New(cfg Config, queues []*pending.Queue, places Places, sender pending.Sender, log *slog.Logger) (*Updater, error) {
	if cfg.PerSecond <= 0 || cfg.Concurrency <= 0 || cfg.Timeout <= 0 || cfg.Wait <= 0 {
		return nil, errs.E(errs.Op("updater.new"), errs.Invalid, fmt.Errorf("rate, concurrency and times must be positive: %+v", cfg))
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Updater{cfg, slices.Clone(queues), places, sender, log}, nil
}

// work is one update and the queue it is in.
type work struct {
	queue  *pending.Queue
	update pending.Update
}

// Pass goes through every queue once. It returns the errors of reading the
// queues; an update that could not be delivered everywhere is no error, it stays
// for the next pass.
func (u *Updater) Pass(ctx context.Context) error {
	var (
		workers    sync.WaitGroup
		done, kept atomic.Int64
		handed     = make(chan work)
	)
	for range u.cfg.Concurrency {
		workers.Go(func() {
			for w := range handed {
				if u.deliver(ctx, w) {
					done.Add(1)
				} else {
					kept.Add(1)
				}
			}
		})
	}
	err := u.feed(ctx, handed)
	close(handed)
	workers.Wait()
	level := slog.LevelDebug
	if done.Load() > 0 || kept.Load() > 0 {
		level = slog.LevelInfo
	}
	u.log.Log(ctx, level, "updater pass ended", "delivered", done.Load(), "kept", kept.Load())
	return err
}

// feed hands out what is queued, at the pace that is configured.
func (u *Updater) feed(ctx context.Context, handed chan<- work) error {
	pace := time.NewTicker(time.Second / time.Duration(u.cfg.PerSecond))
	defer pace.Stop()
	var failed []error
	for _, q := range u.queues {
		for update, err := range q.All(ctx) {
			if err != nil {
				u.log.Error("queued update can't be read", "err", err)
				failed = append(failed, err)
				continue
			}
			select {
			case handed <- work{q, update}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(failed[:min(len(failed), 10)]...)
}

// deliver sends one update to those who have not confirmed it and reports
// whether it left the queue.
func (u *Updater) deliver(ctx context.Context, w work) bool {
	partition, replicas, err := u.places.Container(w.update.Path.Parent())
	if err != nil {
		u.log.Error("no place for a container", "container", w.update.Path.Parent().String(), "err", err)
		return false
	}
	before := len(w.update.Confirmed)
	have, absent := 0, 0
	for _, r := range replicas {
		place := pending.Place(r.Addr, r.Device)
		if slices.Contains(w.update.Confirmed, place) {
			have++
			continue
		}
		target := backend.Target{Device: r.Device, Partition: partition, Path: w.update.Path}
		err := u.send(ctx, r.Addr, w.update, target)
		switch {
		case err == nil:
			have++
			w.update.Confirmed = append(w.update.Confirmed, place)
		case errs.Is(err, errs.NotFound):
			absent++
		default:
			u.log.Info("queued update stays", "container", place, "err", err)
		}
	}
	settled := have+absent == len(replicas) && (have > len(replicas)/2 || absent > 0 && u.old(&w.update))
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

// old reports whether an update need not wait for its container any longer.
func (u *Updater) old(update *pending.Update) bool {
	newest := timestamp.Max(update.Data, timestamp.Max(update.ContentType, update.Meta))
	return time.Since(newest.Time()) > u.cfg.Wait
}

// send delivers to one replica. The error is of kind errs.NotFound if it has no
// such container.
func (u *Updater) send(ctx context.Context, addr string, update pending.Update, target backend.Target) error {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.Timeout)
	defer cancel()
	return pending.Deliver(ctx, u.sender, addr, update.Method, target, update.Header)
}
