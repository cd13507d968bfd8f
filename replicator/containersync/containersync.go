// Package containersync brings what containers hold to other clusters, for those
// whose owners have said where to (X-Container-Sync-To, X-Container-Sync-Key). It acts
// like a client of the other cluster, whose requests are signed (package realms).
//
// What there is to bring is known by the changes of a container's listing, which
// each replica counts for itself. Each keeps two points among them, durably: up to the
// first (All) the other cluster has every row, and up to the second (Next) rows were handed
// out. A pass goes through the rows in between first, all of them: who should have
// brought them may have been down, or the other cluster. Then it takes what is new, of which
// each replica brings its share, by the names of objects, and moves the second point
// on whatever comes of it: what failed comes again with the next pass, by all replicas.
// So nothing is left out as long as one replica and the object are there, and mostly
// each object is brought once: the others see that the other cluster has it. A row that can't be
// brought holds the first point where it is, and nothing else up.
//
// A row is brought as what the object is when it is read: a PUT with its data and
// metadata and the time of the last change, or a DELETE with the tombstone's, which count
// there as they do here. A POST is a PUT of all of it. The manifest of a large object
// is brought as it is kept, and a symbolic link as a link.
//
// Passes are finite, and bounded in time for each container: no row begins after that, and
// the next pass goes on where one had no time for more. Who can't be reached, or breaks off again
// and again, is left alone for longer and longer, up to ten minutes.
package containersync

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clock"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/realms"
	"martlet/internal/timestamp"
)

// A Container is one replica of a container on this node, of a primary.
type Container struct {
	Path   name.Path
	Device string
	Mine   int // which of the primaries the device is, from 0
	Of     int // how many there are
}

// State is what a replica says of its container now.
type State struct {
	To, Key   string // empty where it is not synced
	Policy    policy.Index
	Versioned bool

	// Incarnation is of the replica. One that comes anew has another, and numbers of its own.
	Incarnation [16]byte
}

// points is what the points of a target are kept by: they mean nothing to another incarnation,
// which may come between the look at rows and the note that they are there.
func (s State) points(to realms.Target) (id [16]byte) {
	target := to.ID()
	sum := sha256.Sum256(append(target[:], s.Incarnation[:]...))
	copy(id[:], sum[:])
	return id
}

// A Row is one row of a listing, with the number of its latest change in a replica.
type Row struct {
	Number  uint64
	Policy  policy.Index
	Name    string
	Deleted bool
	Data    timestamp.T // of the data, or the tombstone
	Newest  timestamp.T // of all that the object is
}

// Points are how far a replica has come, in change numbers: All is never after Next.
type Points struct{ All, Next uint64 }

// Source is the replicas of containers on this node.
type Source interface {
	// Containers returns those that may be synced.
	Containers(ctx context.Context) []Container

	// State returns what one says. The error is of kind errs.NotFound where it is not
	// there, or deleted.
	State(ctx context.Context, c Container) (State, error)

	// Forget is called for a container that is not synced.
	Forget(c Container)

	// Changes returns up to limit rows that changed after a number, in order.
	Changes(ctx context.Context, c Container, since uint64, limit int) ([]Row, error)

	// Points returns how far it has come with a target; SetPoints keeps that, durably.
	Points(ctx context.Context, c Container, target [16]byte) (Points, error)
	SetPoints(ctx context.Context, c Container, target [16]byte, p Points) error
}

// Object is one as this cluster has it.
type Object struct {
	Status int            // 200; or 404, where Header says of when that is
	Header backend.Header // as storage nodes send it
	Length int64
	Body   Body // nil where there is none
}

// Objects reads the newest version of an object that can be found.
type Objects interface {
	Open(ctx context.Context, p policy.Index, path name.Path) (Object, error)
}

// Config is what a Syncer can be told.
type Config struct {
	Containers    int           // that are synced at one time
	Rows          int           // of one container that are under way at one time
	ContainerTime time.Duration // that one container may take in a pass
	Timeout       time.Duration // for which the other cluster may be silent
}

// Defaults returns the configuration that fits most nodes.
func Defaults() Config {
	return Config{Containers: 4, Rows: 8, ContainerTime: time.Minute, Timeout: 30 * time.Second}
}

// Deps is what a Syncer works with.
type Deps struct {
	Source  Source
	Objects Objects
	Book    *realms.Book
	Remote  *Remote
	Wait    func(ctx context.Context, bytes int64) error // before so many bytes are brought, 0 being until what was is paid for; nil is no limit
	Now     func() time.Time                             // nil for the machine's clock
	Log     *slog.Logger                                 // nil for none
}

// A Syncer brings what the containers of a node hold. It is safe for concurrent use.
type Syncer struct {
	cfg Config
	Deps
	passes sync.Mutex // one at a time
	turn   sync.Mutex // held by the row that waits for bandwidth
	hosts  hosts
	rest   resting

	synced, skipped, failedContainers, puts, deletes, had, failed, bytes atomic.Int64
}

// New returns a syncer.
func New(cfg Config, deps Deps) (*Syncer, error) {
	if cfg.Containers <= 0 || cfg.Rows <= 0 || cfg.ContainerTime <= 0 || cfg.Timeout <= 0 {
		return nil, errs.E(errs.Op("containersync.new"), errs.Invalid, fmt.Errorf("all limits must be positive: %+v", cfg))
	}
	if deps.Source == nil || deps.Objects == nil || deps.Book == nil || deps.Remote == nil {
		return nil, errs.E(errs.Op("containersync.new"), errs.Invalid, "source, objects, realms and remote are needed")
	}
	if deps.Now == nil {
		deps.Now = clock.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Syncer{
		cfg: cfg, Deps: deps, hosts: hosts{now: deps.Now, most: cfg.Rows, silent: map[string]*silence{}, broken: map[string]int{}},
		rest: resting{at: map[restingAt]uint64{}},
	}, nil
}

// Counts says what has happened since the start.
type Counts struct {
	Synced, Skipped, FailedContainers int64 // containers, each time
	Puts, Deletes                     int64 // that the other cluster has taken
	Had                               int64 // rows that it had already
	Failed                            int64 // rows, each time
	Bytes                             int64 // of objects that were put
}

// Counts returns what there is to count.
func (s *Syncer) Counts() Counts {
	return Counts{
		s.synced.Load(), s.skipped.Load(), s.failedContainers.Load(), s.puts.Load(), s.deletes.Load(), s.had.Load(), s.failed.Load(), s.bytes.Load(),
	}
}

// maxErrors bounds how many errors of a pass are told.
const maxErrors = 10

// Pass brings what there is to bring of each container, as far as that goes in its time. An
// error is of what is left, which the next pass finds.
func (s *Syncer) Pass(ctx context.Context) error {
	s.passes.Lock()
	defer s.passes.Unlock()
	list := s.Source.Containers(ctx)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	var mu sync.Mutex
	var failed []error
	handed := make(chan Container)
	var workers sync.WaitGroup
	for range min(s.cfg.Containers, len(list)) {
		workers.Go(func() {
			for c := range handed {
				if err := s.sync(ctx, c); err != nil && ctx.Err() == nil {
					s.failedContainers.Add(1)
					mu.Lock()
					if len(failed) < maxErrors {
						failed = append(failed, errs.E(errs.Op("containersync.pass"), errs.Subject(c.Path.String()), err))
					}
					mu.Unlock()
				}
			}
		})
	}
	for _, c := range list {
		if ctx.Err() != nil {
			break
		}
		handed <- c
	}
	close(handed)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(failed...)
}

// run is one container in one pass.
type run struct {
	*Syncer
	c      Container
	is     State
	to     realms.Target
	until  time.Time
	points Points
}

// sync brings what there is of one container.
func (s *Syncer) sync(ctx context.Context, c Container) error {
	is, err := s.Source.State(ctx, c)
	switch {
	case errs.Is(err, errs.NotFound), err == nil && (is.To == "" || is.Key == ""):
		s.Source.Forget(c)
		s.rest.forget(c)
		return nil
	case err != nil:
		return err
	case is.Versioned:
		s.skipped.Add(1)
		return nil
	}
	to, err := s.Book.Check(is.To)
	if err != nil {
		return err
	}
	if !s.hosts.ask(to.Container.Host) {
		s.skipped.Add(1)
		return nil
	}
	r := &run{Syncer: s, c: c, is: is, to: to}
	if r.points, err = s.Source.Points(ctx, c, is.points(to)); err != nil {
		return err
	}
	began := s.Now()
	r.until = began.Add(s.cfg.ContainerTime / 2) // what fails again and again leaves time for what is new
	failed := r.again(ctx)
	if ctx.Err() == nil && !errors.Is(failed, errStop) {
		r.until = began.Add(s.cfg.ContainerTime)
		if err := r.fresh(ctx); failed == nil {
			failed = err
		}
	}
	if failed == nil {
		s.synced.Add(1)
	}
	return failed
}

// page is how many rows are read at one time.
const page = 256

// errStop ends a run that can't get on: the other cluster does not answer.
var errStop = errors.New("the other cluster does not answer")

// again goes through all rows that were handed out, of which some may not be there yet. The
// first point gets as far as none failed. Where the time is not enough for all of them it goes on
// with the next pass where it was, so that what fails each time keeps no others from their turn.
func (r *run) again(ctx context.Context) error {
	from := r.rest.of(r.resting())
	if from <= r.points.All || from >= r.points.Next {
		from = r.points.All
	}
	at, failed := r.sweep(ctx, from, r.points.Next)
	if from > r.points.All && at == r.points.Next && ctx.Err() == nil {
		var err error
		if at, err = r.sweep(ctx, r.points.All, from); failed == nil {
			failed = err
		}
		if at == from {
			at = r.points.Next
		}
	}
	if at == r.points.Next {
		at = 0 // all had their turn
	}
	r.rest.set(r.resting(), at)
	return failed
}

func (r *run) resting() restingAt { return restingAt{r.c.Device, r.c.Path, r.is.points(r.to)} }

// sweep brings the rows behind one change up to another, and returns how far it came. Where
// it begins at the first point it moves that on.
func (r *run) sweep(ctx context.Context, from, to uint64) (at uint64, err error) {
	var failed error
	at = from
	good := at == r.points.All
	for at < to && r.Now().Before(r.until) {
		rows, err := r.Source.Changes(ctx, r.c, at, page)
		if err != nil {
			return at, err
		}
		for i := range rows {
			if rows[i].Number > to { // what changed since comes with what is new
				rows = rows[:i]
				break
			}
		}
		got := brought{upTo: to}
		if len(rows) > 0 {
			got = r.bring(ctx, rows, nil)
		}
		at = max(at, got.upTo)
		if failed == nil {
			failed = got.err
		}
		if good {
			all := at
			if got.err != nil {
				good = false
				all = got.failed - 1
			}
			if err := r.move(ctx, Points{all, r.points.Next}); err != nil {
				return at, err
			}
		}
		if errors.Is(got.err, errStop) || ctx.Err() != nil {
			return at, got.err
		}
	}
	return at, failed
}

// fresh goes through what is new, and brings this replica's share. What fails comes again with the
// next pass.
func (r *run) fresh(ctx context.Context) error {
	var failed error
	for r.Now().Before(r.until) {
		rows, err := r.Source.Changes(ctx, r.c, r.points.Next, page)
		if err != nil || len(rows) == 0 {
			return errors.Join(failed, err)
		}
		got := r.bring(ctx, rows, func(row Row) bool { return r.Remote.share(row.Name, r.c) })
		to := Points{r.points.All, max(r.points.Next, got.upTo)}
		if got.err == nil && r.c.Of == 1 && r.points.All == r.points.Next {
			to.All = to.Next // there is nobody else
		}
		if err := r.move(ctx, to); err != nil {
			return err
		}
		if errors.Is(got.err, errStop) || ctx.Err() != nil {
			return got.err
		}
		if failed == nil {
			failed = got.err
		}
	}
	return failed
}

// move keeps how far it has come.
func (r *run) move(ctx context.Context, to Points) error {
	if to == r.points {
		return nil
	}
	// What was brought is there, whoever ends this process.
	if err := r.Source.SetPoints(context.WithoutCancel(ctx), r.c, r.is.points(r.to), to); err != nil {
		return err
	}
	r.points = to
	return nil
}

// brought is what came of bringing rows.
type brought struct {
	upTo   uint64 // the last row that had its turn; 0 is none
	failed uint64 // the first that failed
	err    error  // nil where none did
}

// bring brings rows of this replica's share, nil being all, some at one time, for as long as
// there is time.
func (r *run) bring(ctx context.Context, rows []Row, share func(Row) bool) (got brought) {
	var (
		mu      sync.Mutex
		workers sync.WaitGroup
		over    sync.Once
	)
	handed, stop := make(chan Row), make(chan struct{})
	fail := func(row Row, why error) {
		mu.Lock()
		defer mu.Unlock()
		if got.err == nil || row.Number < got.failed {
			got.failed = row.Number
		}
		if stops := errors.Is(why, errStop); got.err == nil || stops {
			got.err = why
			if stops {
				over.Do(func() { close(stop) })
			}
		}
	}
	for range min(r.cfg.Rows, len(rows)) {
		workers.Go(func() {
			for row := range handed {
				if why := r.row(ctx, row); why != nil {
					r.Log.LogAttrs(ctx, slog.LevelInfo, "an object was not synced", slog.String("object", r.c.Path.String()+"/"+row.Name),
						slog.String("to", r.to.Container.Redacted()), slog.Any("err", why))
					r.failed.Add(1)
					fail(row, why)
				}
			}
		})
	}
	upTo := uint64(0)
feed:
	for _, row := range rows {
		if share != nil && !share(row) {
			upTo = row.Number
			continue
		}
		if !r.Now().Before(r.until) {
			break
		}
		select {
		case handed <- row:
			upTo = row.Number
		case <-stop: // of one that was handed out
			break feed
		case <-ctx.Done():
			fail(row, context.Cause(ctx))
			break feed
		}
	}
	close(handed)
	workers.Wait()
	got.upTo = upTo
	return got
}

// resting is where passes that had no time for all rows go on. It is kept in memory only:
// after a start they begin at the first point.
type resting struct {
	mu sync.Mutex
	at map[restingAt]uint64 // guarded by mu
}

type restingAt struct {
	device string
	path   name.Path
	target [16]byte
}

func (r *resting) of(k restingAt) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at[k]
}

// set says where to go on; 0 is at the begin.
func (r *resting) set(k restingAt, at uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at == 0 {
		delete(r.at, k)
		return
	}
	r.at[k] = at
}

// forget forgets a container that is not synced.
func (r *resting) forget(c Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.at, func(k restingAt, _ uint64) bool { return k.device == c.Device && k.path == c.Path })
}
