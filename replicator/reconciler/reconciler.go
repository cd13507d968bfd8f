// Package reconciler moves objects that lie in the place of another storage policy than their
// container's.
//
// They come to be there when a container is made twice, under two policies, by proxies that can't see
// each other: each has objects written by what it has chosen. When the replicas of the container
// meet they go by the older choice (metadb.Info), and what was written by the other one is
// found by nobody. Its rows tell of it: each is kept under the policy that its object was
// written with. Writes of a proxy that goes by what it knew before come to be there, too.
//
// A loop on each node looks at those containers of which it is known that there are such rows
// (Source), and of which the node has the first primary: so there is one who does it. Two that do it at one
// time, as rings change, do no harm. Nothing is moved until all primaries of the container
// say that they are of one policy, and have said so for a while (Config.Delay): while one is away another, older
// choice may turn up, and proxies remember the policy for a moment. One that can't be asked for long (Config.Absent) is not waited for any more, if a
// majority agrees, and the first of the others is who does it then: should it have the older choice after all, objects are moved back.
//
// # How an object is moved
//
//  1. It is read from where it is, and stored where it belongs, on a majority: with all its fields, and as of
//     its own time, but for an offset (timestamp.T.Moved) that clients don't see. Where something later is there
//     already, be it a tombstone, that stays. Metadata that came later than the data is posted, as of its own time.
//  2. Then a tombstone of just that object (timestamp.T.Left) is left where it was. Whatever is later than
//     it there stays, and is moved in its turn. The row goes with it.
//
// A tombstone in the wrong place is put where it belongs, as it is: what is older there goes, what is later
// stays. Then it is replaced by one that says so. So what is left to be done can be seen in the rows alone:
// a kill between any two steps, an error, a node that is away or takes over, costs another pass,
// which does again what was done, to no effect. What replicas can't say, or don't have, is left for later.
//
// If the policy turns out to be another one after all, objects are moved back. Each move comes after what the
// one before has left there.
//
// # What clients see
//
// Until it was moved, an object is 404, and is not listed, as in Swift. What a client writes or deletes meanwhile is
// later, and stays. A version and the link that leads to it are moved each by itself, the version first. Where the hidden
// container of the versions has another policy than the container, since versions were first enabled in the part of
// the cluster whose choice was the later one, they stay where they are, and wait with their links.
package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clock"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/replicator"
)

// A Container is one replica of a container on this node that may have rows of other policies.
type Container struct {
	Path   name.Path
	Device string
	Place  int // which primary it is that of: the work is the node's of the first, 0, that can be asked
}

// A Row is one of another policy than its container's.
type Row struct {
	Policy  policy.Index
	Name    string
	Deleted bool
	Hidden  bool // the container was deleted since
	Times   timestamp.Packed
}

// wants reports whether anything is to be done about the row.
func (r *Row) wants() bool {
	switch {
	case r.Hidden:
		return false
	case r.Deleted:
		return !r.Times.Data.IsLeft() && !r.Times.Data.Void(r.Times.Meta)
	}
	return true
}

// A Page is some rows of a replica.
type Page struct {
	Policy policy.Index // the container's, by what this replica says
	Rows   []Row        // in order of policy and name
}

// Source is the replicas of containers on this node.
type Source interface {
	// Containers returns those that may have rows of another policy than their own.
	Containers(ctx context.Context) []Container

	// Rows returns up to limit of them that come after the row of a policy and a name. The error is of kind
	// errs.NotFound where the replica is not there.
	Rows(ctx context.Context, c Container, after policy.Index, name string, limit int) (Page, error)

	// Settled is called for a container about whose rows there is nothing left to do.
	Settled(c Container)
}

// Containers is the replicas of a container, on whatever node.
type Containers interface {
	// Policy returns which one all primaries that can be asked say that a container has, also one that was deleted, and the places of those that
	// can't be. The error is of kind errs.NotFound where all primaries say that they know of none, else, where one says something else or
	// less than a majority can be asked, errs.Unavailable; the places are told all the same.
	Policy(ctx context.Context, container name.Path) (of policy.Index, silent []int, err error)

	// Unlist has the listing say that an object of a policy was deleted at a time. When it returns nil that is on stable
	// storage on a majority.
	Unlist(ctx context.Context, p policy.Index, object name.Path, stamp timestamp.T) error
}

// State is what replicas know of an object.
type State struct {
	Live   bool             // there is data; else a tombstone, or nothing
	Times  timestamp.Packed // of the newest version that one has; zero where there is nothing
	Behind bool             // another one has later metadata, without that data
	Kept   timestamp.T      // data or tombstones at least as late as that are on a majority
	Header backend.Header   // with what it is stored, and its ETag; of data only
}

// isVoid reports whether an expiry is there which metadata that is known of has ended.
func (s *State) isVoid() bool { return s.Times.Data.Void(s.Times.Meta) }

// An Object is one that is read, as it is kept: nothing that it leads to or stands for.
type Object struct {
	State
	Length int64         // in bytes
	Body   io.ReadCloser // nil where there is none
}

// A Change is metadata that was posted.
type Change struct {
	Stamp       timestamp.T
	ContentType string // "" where that is not part of it
	Header      backend.Header
}

// Objects is where objects of each policy are kept. Policies that keep them in different ways are
// told apart behind it. What fewer than a majority can say or do is an error of kind errs.Unavailable.
type Objects interface {
	// Look asks all replicas what they know of an object.
	Look(ctx context.Context, p policy.Index, path name.Path) (State, error)

	// Open reads the newest version that can be found, whose end is not to have come: a body that ends with io.EOF is
	// whole. Where there is none the error is of kind errs.NotFound.
	Open(ctx context.Context, p policy.Index, path name.Path) (Object, error)

	// Stands reports whether the data of what Look has found under a policy is there, as far as that is
	// kept apart from what Look asks for. A replica has its own.
	Stands(ctx context.Context, p policy.Index, path name.Path, s *State) (bool, error)

	// Put stores an object as of a time, and tells the listing. When it returns nil that, or what is later, is on stable
	// storage on a majority, and the listing was told or the telling is durably queued. It reads the body, and does not
	// close it.
	Put(ctx context.Context, p policy.Index, path name.Path, o Object, stamp timestamp.T) error

	// Post does so for metadata; where the object was deleted meanwhile that is as good.
	Post(ctx context.Context, p policy.Index, path name.Path, c Change) error

	// Delete does so for a tombstone.
	Delete(ctx context.Context, p policy.Index, path name.Path, stamp timestamp.T) error
}

// Config is what a Reconciler can be told.
type Config struct {
	Delay          time.Duration // for which all replicas of a container must have agreed on its policy before; not negative
	Absent         time.Duration // for which the rest waits for a primary that can't be asked; not negative
	Concurrency    int           // objects that are moved at one time; at least 1
	PerSecond      int64         // objects that are moved in a second; 0 is no limit
	BytesPerSecond int64         // of their data; 0 is no limit
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config {
	return Config{Delay: 30 * time.Second, Absent: time.Hour, Concurrency: 9, PerSecond: 100}
}

// Deps is what a Reconciler works with.
type Deps struct {
	Source     Source
	Containers Containers
	Objects    Objects
	Now        func() time.Time // nil for the machine's clock
	Log        *slog.Logger     // nil for none
}

// A Reconciler moves what a node has to move. It is safe for concurrent use.
type Reconciler struct {
	cfg  Config
	pace *replicator.Pace // of objects
	flow *replicator.Pace // of their bytes
	turn sync.Mutex       // held by who waits for flow
	Deps

	page     int           // rows that are read at a time
	trustFor time.Duration // how long it is believed what a container's policy is before that is asked again

	passes sync.Mutex // one at a time
	agreed agreements
	broken breaks

	moved, deletes, dropped, bytes, failed, waiting atomic.Int64
}

const (
	pageRows   = 256
	trustFor   = 5 * time.Second
	mostFailed = 100 // rows of a container in a pass, before what is behind them is left for the next
	maxErrors  = 10  // of a pass that are told
)

// New returns the reconciler of a node.
func New(cfg Config, deps Deps) (*Reconciler, error) {
	const op errs.Op = "reconciler.new"
	if cfg.Delay < 0 || cfg.Absent < 0 || cfg.Concurrency <= 0 || cfg.PerSecond < 0 || cfg.BytesPerSecond < 0 {
		return nil, errs.E(op, errs.Invalid, fmt.Errorf("concurrency must be positive, the rest not negative: %+v", cfg))
	}
	if deps.Source == nil || deps.Containers == nil || deps.Objects == nil {
		return nil, errs.E(op, errs.Invalid, "source, containers and objects are needed")
	}
	if deps.Now == nil {
		deps.Now = clock.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Reconciler{
		cfg: cfg, pace: replicator.NewPace(0, cfg.PerSecond), flow: replicator.NewPace(cfg.BytesPerSecond, 0), Deps: deps, page: pageRows, trustFor: trustFor,
		agreed: agreements{at: map[name.Path]agreement{}, silent: map[name.Path]map[int]time.Time{}}, broken: breaks{at: map[name.Path]Row{}},
	}, nil
}

// side is how many containers are under way at one time, and how many objects of each: together they are
// Concurrency, or a little more.
func (r *Reconciler) side() int { return int(math.Ceil(math.Sqrt(float64(r.cfg.Concurrency)))) }

// Counts says what has happened since the start: Moved are objects that were stored where they belong, and their Bytes; Deletes
// tombstones that were; Dropped objects of which something later was there; Failed rows that were left for later, each
// time. Waiting is how many containers had something left after the last pass.
type Counts struct{ Moved, Bytes, Deletes, Dropped, Failed, Waiting int64 }

// Counts returns what there is to count.
func (r *Reconciler) Counts() Counts {
	return Counts{r.moved.Load(), r.bytes.Load(), r.deletes.Load(), r.dropped.Load(), r.failed.Load(), r.waiting.Load()}
}

// Pass moves what there is to move. An error is of what is left, which the next pass finds.
func (r *Reconciler) Pass(ctx context.Context) error {
	r.passes.Lock()
	defer r.passes.Unlock()
	list := r.Source.Containers(ctx)
	r.agreed.keep(list)
	r.broken.keep(list)
	// A link that comes before its version is there leads nowhere meanwhile.
	slices.SortStableFunc(list, func(a, b Container) int { return cmp.Compare(rank(a), rank(b)) })
	var failed failures
	var waiting atomic.Int64
	var mu sync.Mutex
	unsettled := map[name.Path]bool{} // guarded by mu
	var workers sync.WaitGroup
	handed := make(chan Container)
	for range min(r.side(), len(list)) {
		workers.Go(func() {
			for c := range handed {
				left, mine, err := r.container(ctx, c)
				if left && mine {
					waiting.Add(1)
				}
				if left {
					mu.Lock()
					unsettled[c.Path] = true
					mu.Unlock()
				}
				failed.add(err)
			}
		})
	}
	for _, c := range list {
		if ctx.Err() != nil {
			break
		}
		handed <- c // whoever takes it sees when ctx ends
	}
	close(handed)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, c := range list {
		if !unsettled[c.Path] { // by none of the replicas that the node has
			r.agreed.forget(c.Path)
			r.Source.Settled(c)
		}
	}
	r.waiting.Store(waiting.Load())
	return failed.join()
}

func rank(c Container) int {
	if _, ok := name.VersionedContainer(c.Path.Container); ok {
		return 0
	}
	return 1
}

// container moves what is misplaced of a container, if that is this node's to do (mine), and reports whether something is left.
func (r *Reconciler) container(ctx context.Context, c Container) (left, mine bool, err error) {
	ctx = httpapi.WithTransID(ctx, httpapi.NewTransID(r.Now(), ""))
	w := &work{Reconciler: r, c: c}
	err = w.all(ctx)
	switch {
	case ctx.Err() != nil:
		return true, c.Place == 0, context.Cause(ctx)
	case errors.Is(err, errGone):
		return false, false, nil
	case errors.Is(err, errNotMine):
		return true, false, nil
	case errors.Is(err, errWait):
		r.Log.LogAttrs(ctx, slog.LevelInfo, "objects of a container are not moved to its policy yet", slog.String("container", c.Path.String()), slog.Any("err", err))
		return true, true, nil
	case err == nil:
		err = w.failed.join()
	}
	left = err != nil || w.left.Load() > 0
	if w.some {
		r.Log.LogAttrs(ctx, slog.LevelInfo, "objects of a container were moved to its policy", slog.String("container", c.Path.String()),
			slog.Int("policy", int(w.policy)), slog.Int64("rows", w.done.Load()), slog.Int64("left", w.left.Load()))
	}
	if err != nil {
		err = errs.E(errs.Op("reconciler.pass"), errs.Subject(c.Path.String()), err)
	}
	return left, c.Place == 0 || w.some, err
}

// failures are the first errors of many. It is safe for concurrent use.
type failures struct {
	mu   sync.Mutex
	list []error // guarded by mu
	more int     // guarded by mu
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
		return errors.Join(append(slices.Clone(f.list), fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.list...)
}
