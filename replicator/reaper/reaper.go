// Package reaper takes away what is in accounts that were deleted: the objects of all
// policies, the containers, hidden ones too, and so the rows of the account itself, which is
// forgotten when it lists nothing any more and the reclaim age is over.
//
// A loop for each device finds the accounts of which it is a primary and which its own replica
// says were deleted longer ago than Delay. The containers of an account are shared among the
// primaries by the hashes of their names, as in Swift, so that each has one who reaps it, or
// where that one is away, the next. Nothing is
// remembered between passes: what is there is found again, so that a kill at any point, a node
// that is away, or an error, costs another pass. Names are read a page at a time, whatever the
// account holds.
//
// # What it trusts
//
// Nothing is deleted on the word of one replica, nor on one that is old. The replicas of
// the account are asked first, and every trustFor again: a majority of them has to say that it is
// deleted, and none may know of a PUT that came later. A replica that has only missed the
// DELETE says nothing against it.
//
// All deletes carry a time from before that was asked. So where an account comes back all the
// same, what is written to it from then on is later than every delete that is still under way on
// the belief that it is gone, and survives by the rule that holds everywhere: the latest wins.
//
// A container is deleted once each of its primaries has been asked and lists nothing more. One
// that can't be asked may list what the others have missed, and rows that are older than the
// container's DELETE are hidden: nobody would find those objects again. Their space is given back
// meanwhile, and the container waits. What object servers have queued for a listing, and a handoff may
// have beside primaries, is not seen: such an object stays on its devices, as in Swift. A container that no
// primary has, and no handoff either, is only taken off the account.
//
// Deletes go out as a client's do, by way of package quorum on the storage network: to a majority,
// with handoffs for those that are away.
package reaper

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// Account is one that was deleted, by what a device's replica of it says, and still lists
// containers.
type Account struct {
	Name   string
	Delete timestamp.T // when
}

// Store is the accounts of a device.
type Store interface {
	// Deleted yields those of which the device is a primary. An error that concerns one of them is
	// yielded beside what is known of it.
	Deleted(ctx context.Context) iter.Seq2[Account, error]

	// Containers returns the names of an account's containers that come after another, in
	// order, limit of them at most; those that clients never see too.
	Containers(ctx context.Context, account, after string, limit int) ([]string, error)
}

// Config is what a Reaper can be told.
type Config struct {
	Delay       time.Duration // after an account was deleted, before anything of it is; not negative
	WarnAfter   time.Duration // that much later the log says that something is still there; more than 0
	Concurrency int           // objects that are deleted at one time; at least 1
	PerSecond   int64         // objects and containers that are deleted in a second; 0 is no limit
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config {
	return Config{WarnAfter: 30 * 24 * time.Hour, Concurrency: 25, PerSecond: 1000}
}

// Deps is what a Reaper works with.
type Deps struct {
	Store   Store
	Cluster *quorum.Cluster
	Own     func(*ring.Device) bool // whether a device of the account ring is the one that is reaped for
	Clock   *timestamp.Source       // nil for one over the machine's clock
	Log     *slog.Logger            // nil for none
}

// A Reaper reaps for one device. It is safe for concurrent use.
type Reaper struct {
	cfg  Config
	pace *replicator.Pace
	Deps

	page     int           // names that are read at a time, at most
	mostPage int64         // bytes of a page of a container's listing
	trustFor time.Duration // how long it is believed that an account is deleted before that is asked again

	passes                      sync.Mutex // one at a time
	objects, containers, failed atomic.Int64
	waiting, overdue            atomic.Int64
}

const (
	pageNames = 1000
	mostPage  = 16 << 20 // many times what the longest row has
	trustFor  = 5 * time.Second
	maxErrors = 10 // of a pass that are told
)

// New returns the reaper of a device.
func New(cfg Config, deps Deps) (*Reaper, error) {
	const op errs.Op = "reaper.new"
	if cfg.Delay < 0 || cfg.WarnAfter <= 0 || cfg.Concurrency <= 0 || cfg.PerSecond < 0 {
		return nil, errs.E(op, errs.Invalid, fmt.Errorf("delay and rate must not be negative, the rest positive: %+v", cfg))
	}
	if deps.Store == nil || deps.Cluster == nil || deps.Own == nil {
		return nil, errs.E(op, errs.Invalid, "store, cluster and own are needed")
	}
	if deps.Clock == nil {
		deps.Clock = timestamp.NewSource(nil)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Reaper{cfg: cfg, pace: replicator.NewPace(0, cfg.PerSecond), Deps: deps, page: pageNames, mostPage: mostPage, trustFor: trustFor}, nil
}

// side is how many containers are reaped at one time, and how many objects of each: together they are
// Concurrency, or a little more.
func (r *Reaper) side() int { return int(math.Ceil(math.Sqrt(float64(r.cfg.Concurrency)))) }

// Counts says what was deleted since the start, and what could not be, each time; and how
// many accounts had something left after the last pass that was this device's to reap, and of how many
// that was so for longer than WarnAfter.
type Counts struct{ Objects, Containers, Failed, Waiting, Overdue int64 }

// Counts returns what there is to count.
func (r *Reaper) Counts() Counts {
	return Counts{r.objects.Load(), r.containers.Load(), r.failed.Load(), r.waiting.Load(), r.overdue.Load()}
}

// Pass reaps what there is. An error is of what is left, which the next pass finds.
func (r *Reaper) Pass(ctx context.Context) error {
	r.passes.Lock()
	defer r.passes.Unlock()
	var failed failures
	var waiting, overdue int64
	for account, err := range r.Store.Deleted(ctx) {
		if err != nil {
			failed.add(err)
			continue
		}
		late := time.Since(account.Delete.Time()) - r.cfg.Delay
		if late <= 0 {
			continue
		}
		left, err := r.account(ctx, account)
		failed.add(err)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if left == 0 {
			continue
		}
		waiting++
		if late > r.cfg.WarnAfter {
			overdue++
			r.Log.LogAttrs(ctx, slog.LevelWarn, "an account that was deleted is not reaped yet", slog.String("account", account.Name),
				slog.Time("deleted", account.Delete.Time()), slog.Int64("containers_left", left))
		}
	}
	r.waiting.Store(waiting)
	r.overdue.Store(overdue)
	return failed.join()
}

// account reaps what is the device's to reap of an account, and returns how much of that
// is left, in containers: at least 1 where that is not known.
func (r *Reaper) account(ctx context.Context, account Account) (left int64, err error) {
	ctx = httpapi.WithTransID(ctx, httpapi.NewTransID(time.Now(), ""))
	a := &reaping{Reaper: r, name: account.Name, place: r.Cluster.Account(account.Name)}
	slot := -1
	for i, d := range a.place.Primaries {
		if r.Own(d) {
			slot = i
		}
	}
	if slot < 0 {
		return 0, nil // by the ring that is in use now
	}
	switch _, err := a.stampNow(ctx); {
	case errs.Is(err, errs.Conflict):
		r.Log.LogAttrs(ctx, slog.LevelInfo, "an account is not reaped: it was made again", slog.String("account", account.Name), slog.Any("err", err))
		return 0, nil // nothing of it is left to reap: replication tells this device, too
	case err != nil:
		r.failed.Add(1)
		return 1, err
	}
	began := r.Counts()
	err = a.all(ctx, slot)
	left = a.left.Load()
	if err != nil {
		left = max(left, 1)
	}
	now := r.Counts()
	r.Log.LogAttrs(ctx, slog.LevelInfo, "an account was reaped", slog.String("account", account.Name), slog.Int64("objects", now.Objects-began.Objects),
		slog.Int64("containers", now.Containers-began.Containers), slog.Int64("containers_left", left), slog.Any("err", err))
	return left, err
}

// all reaps the containers that the replica of a slot takes, several at a time.
func (a *reaping) all(ctx context.Context, slot int) error {
	var failed failures
	var workers sync.WaitGroup
	handed := make(chan string)
	for range a.side() {
		workers.Go(func() {
			for container := range handed {
				err := a.container(ctx, container)
				if err != nil {
					a.left.Add(1)
					a.failed.Add(1)
				}
				failed.add(err)
			}
		})
	}
	after := ""
	for ctx.Err() == nil && a.ended() == nil {
		names, err := a.Store.Containers(ctx, a.name, after, a.page)
		failed.add(err)
		if len(names) == 0 {
			break
		}
		for _, c := range names {
			if a.takes(slot, c) {
				handed <- c // whoever takes it sees when ctx ends
			}
		}
		after = names[len(names)-1]
	}
	close(handed)
	workers.Wait()
	return failed.join()
}

// failures are the first errors of many. It is safe for concurrent use.
type failures struct {
	mu   sync.Mutex
	list []error // mu
	more int     // mu
}

func (f *failures) add(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) == maxErrors {
		f.more++
		return
	}
	f.list = append(f.list, err)
}

// join returns them as one, nil where there are none.
func (f *failures) join() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.more > 0 {
		return errors.Join(append(f.list, fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.list...)
}
