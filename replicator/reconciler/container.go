package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
)

var (
	errNotMine = errors.New("another node has a replica that comes before this one, and can be asked")
	errGone    = errors.New("the replica is not there any more")

	// errWait is for what is no failure: there is a time to do it, which has not come.
	errWait = errors.New("it is not time yet")
)

// work is one container in one pass.
type work struct {
	*Reconciler
	c      Container
	policy policy.Index // where its objects belong
	some   bool         // there was something to do

	done, left, bad atomic.Int64 // rows that are, that are not, and those of the latter that have failed
	failed          failures

	mu    sync.Mutex
	asked time.Time // when the policy was asked for last; guarded by mu
	over  error     // why nothing more of it is moved; guarded by mu
}

// all goes through the rows, from where the last pass has left off: those that can't be moved must not keep all behind them
// where they are. The error is why no more of them can be gone through; what failed of rows is in failed.
func (w *work) all(ctx context.Context) error {
	from := w.broken.take(w.c.Path)
	if err := w.span(ctx, from, nil); err != nil || from.Name == "" {
		return err
	}
	return w.span(ctx, Row{}, &from)
}

// span goes through the rows that come after one, up to another one, or all.
func (w *work) span(ctx context.Context, after Row, last *Row) error {
	for ctx.Err() == nil {
		page, err := w.Source.Rows(ctx, w.c, after.Policy, after.Name, w.page)
		if errs.Is(err, errs.NotFound) {
			return errGone
		}
		if err != nil {
			return err
		}
		rows := make([]Row, 0, len(page.Rows))
		over := len(page.Rows) < w.page
		for _, row := range page.Rows {
			if over = over || last != nil && row.behind(last); last != nil && row.behind(last) {
				break
			}
			if row.wants() {
				rows = append(rows, row)
			}
		}
		if len(rows) > 0 {
			if err := w.begin(ctx, page.Policy); err != nil {
				return err
			}
			if err := w.rows(ctx, rows); err != nil {
				return err
			}
		}
		if over {
			return nil
		}
		after = page.Rows[len(page.Rows)-1]
	}
	return context.Cause(ctx)
}

// behind reports whether a row comes after another.
func (r *Row) behind(other *Row) bool {
	return cmp.Or(cmp.Compare(r.Policy, other.Policy), cmp.Compare(r.Name, other.Name)) > 0
}

// begin sees to it that rows may be moved to the policy that a replica says is the container's.
func (w *work) begin(ctx context.Context, own policy.Index) error {
	switch {
	case !w.some:
		w.some, w.policy = true, own
	case own != w.policy:
		return fmt.Errorf("%w: its policy was %d, and is %d now", errWait, w.policy, own)
	}
	return w.confirm(ctx)
}

// confirm asks all replicas what the container's policy is, unless that was done just now. What it says that
// is to be waited for is errWait.
func (w *work) confirm(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := w.Now(); w.over == nil && (w.asked.IsZero() || now.Sub(w.asked) >= w.trustFor) {
		w.over = w.ask(ctx)
		w.asked = now
	}
	return w.over
}

func (w *work) ask(ctx context.Context) error {
	err := w.agree(ctx, w.c.Path)
	if err != nil {
		w.agreed.forget(w.c.Path) // also where another node is to do it now: this one may be later
	}
	for place := range w.c.Place {
		if w.agreed.silence(w.c.Path, place, w.Now()) < max(w.cfg.Absent, 1) {
			return errNotMine // it is there, or will be
		}
	}
	// Versions are found by the policy of the container that they are versions of: their own would lead nowhere. Both are asked each time, so
	// that it is known since when a replica of either can't be.
	if of, ok := name.VersionedContainer(w.c.Path.Container); ok {
		if main := w.agree(ctx, name.Path{Account: w.c.Path.Account, Container: of}); main != nil && !errs.Is(main, errs.NotFound) {
			err = errors.Join(err, main)
		}
	}
	if err != nil {
		w.agreed.forget(w.c.Path)
		return fmt.Errorf("%w: %w", errWait, err)
	}
	if left := w.cfg.Delay - w.agreed.since(w.c.Path, w.policy, w.Now()); left > 0 {
		return fmt.Errorf("%w: its replicas agree on policy %d, for %v more", errWait, w.policy, left)
	}
	return nil
}

// agree reports why it is not so that all replicas of a container are of the policy, but for those that could not be asked for long.
func (w *work) agree(ctx context.Context, container name.Path) error {
	p, silent, err := w.Containers.Policy(ctx, container)
	now := w.Now()
	w.agreed.hears(container, silent, now)
	switch {
	case err != nil:
		return err
	case p != w.policy:
		return errs.E(errs.Unavailable, fmt.Errorf("%s has policy %d, not %d", container, p, w.policy))
	}
	for _, place := range silent {
		if left := w.cfg.Absent - w.agreed.silence(container, place, now); left > 0 {
			return errs.E(errs.Unavailable, fmt.Errorf("replica %d of %s can't be asked what its policy is, and is waited for %v more", place, container, left))
		}
	}
	return nil
}

// rows moves some rows, several at one time.
func (w *work) rows(ctx context.Context, rows []Row) error {
	slots := make(chan struct{}, w.side())
	var under sync.WaitGroup
	defer under.Wait()
	for _, row := range rows {
		if n := w.bad.Load(); n >= mostFailed {
			w.broken.leave(w.c.Path, row)
			return fmt.Errorf("%d objects could not be moved: %w", n, w.failed.join())
		}
		if err := w.pace.Wait(ctx, 0); err != nil {
			return err
		}
		if err := w.confirm(ctx); err != nil {
			return err
		}
		slots <- struct{}{}
		under.Go(func() {
			defer func() { <-slots }()
			w.row(ctx, row)
		})
	}
	return nil
}

// row does what there is to do about a row, and keeps count.
func (w *work) row(ctx context.Context, row Row) {
	err := w.place(ctx, row)
	if err == nil {
		w.done.Add(1)
		return
	}
	w.left.Add(1)
	if errors.Is(err, errWait) || ctx.Err() != nil {
		return
	}
	w.Reconciler.failed.Add(1)
	defer w.bad.Add(1) // who sees it finds the error
	w.failed.add(errs.E(errs.Op("reconciler.move"), errs.Subject(w.path(row).String()), err))
}

func (w *work) path(row Row) name.Path {
	p := w.c.Path
	p.Object = row.Name
	return p
}

// breaks remembers of containers of which too much has failed which row was to be next: the next pass begins behind
// it. It is kept in memory only, and is of no more than containers of which something is left.
type breaks struct {
	mu sync.Mutex
	at map[name.Path]Row // guarded by mu
}

func (b *breaks) leave(p name.Path, next Row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at[p] = next
}

// take returns where to begin, and forgets it.
func (b *breaks) take(p name.Path) Row {
	b.mu.Lock()
	defer b.mu.Unlock()
	row := b.at[p]
	delete(b.at, p)
	return row
}

// keep forgets all that are not of a list.
func (b *breaks) keep(list []Container) {
	known := pathsOf(list)
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.at, func(p name.Path, _ Row) bool { return !known[p] })
}

func pathsOf(list []Container) map[name.Path]bool {
	known := make(map[name.Path]bool, len(list))
	for _, c := range list {
		known[c.Path] = true
		if of, ok := name.VersionedContainer(c.Path.Container); ok { // which is asked as well
			known[name.Path{Account: c.Path.Account, Container: of}] = true
		}
	}
	return known
}

// agreements remembers since when the replicas of containers agree, and since when some can't be asked. It is kept in memory only: after a start
// all is waited for once more.
type agreements struct {
	mu     sync.Mutex
	at     map[name.Path]agreement         // guarded by mu
	silent map[name.Path]map[int]time.Time // by place; guarded by mu
}

// hears notes which replicas of a container can't be asked now: all others can.
func (a *agreements) hears(p name.Path, silent []int, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was, is := a.silent[p], map[int]time.Time{}
	for _, place := range silent {
		is[place] = now
		if since, ok := was[place]; ok {
			is[place] = since
		}
	}
	a.silent[p] = is
	if len(is) == 0 {
		delete(a.silent, p)
	}
}

// silence is for how long a replica could not be asked; 0 where it could be.
func (a *agreements) silence(p name.Path, place int, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	since, ok := a.silent[p][place]
	if !ok {
		return 0
	}
	return now.Sub(since)
}

type agreement struct {
	on    policy.Index
	since time.Time
}

// since says that the replicas of a container agree on a policy now, and returns for how long they have done so.
func (a *agreements) since(p name.Path, on policy.Index, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if was, ok := a.at[p]; ok && was.on == on {
		return now.Sub(was.since)
	}
	a.at[p] = agreement{on, now}
	return 0
}

func (a *agreements) forget(p name.Path) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.at, p)
}

// keep forgets all that are not of a list.
func (a *agreements) keep(list []Container) {
	known := pathsOf(list)
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.at, func(p name.Path, _ agreement) bool { return !known[p] })
	maps.DeleteFunc(a.silent, func(p name.Path, _ map[int]time.Time) bool { return !known[p] })
}
