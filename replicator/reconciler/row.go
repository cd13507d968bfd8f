package reconciler

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// place sees to it that what a row tells of is where it belongs. When it returns nil that is so, on a majority, and where
// it was there is nothing left that the row has told of.
func (w *work) place(ctx context.Context, row Row) error {
	path := w.path(row)
	if row.Deleted {
		return w.bury(ctx, row.Policy, path, row.Times.Data)
	}
	from, err := w.Objects.Look(ctx, row.Policy, path)
	if err != nil {
		return err
	}
	to, err := w.Objects.Look(ctx, w.policy, path)
	if err != nil {
		return err
	}
	found := from.Times.Data
	switch {
	case from.isVoid() || to.isVoid():
		// It ends later than somebody took it to, and comes back by replication.
		return fmt.Errorf("%w: not all replicas know yet when it ends", errWait)
	case found.IsZero() || found.Before(row.Times.Data):
		return w.missing(ctx, row, path, &to)
	case !from.Live && found.IsLeft():
		return w.Containers.Unlist(ctx, row.Policy, path, found) // it was moved, and only the listing does not know
	case !from.Live:
		if err := w.bury(ctx, row.Policy, path, found); err != nil || !found.IsExpiry() {
			return err
		}
		return w.Containers.Unlist(ctx, row.Policy, path, found)
	case from.Behind || from.Times.Meta.Before(row.Times.Meta) || from.Times.ContentType.Before(row.Times.ContentType):
		return errs.E(errs.Unavailable, fmt.Errorf("metadata that came later than its data of %s is not found", found))
	}
	return w.move(ctx, row.Policy, path, &from, &to)
}

// missing is what to do about an object that is not where its row says. Where it belongs there may be
// something later, so that nothing is to be moved any more; else whoever has it is away.
func (w *work) missing(ctx context.Context, row Row, path name.Path, to *State) error {
	if to.Kept.Before(row.Times.Data) {
		return errs.E(errs.Unavailable, fmt.Errorf("nothing of %s is found, and nothing later in policy %d", row.Times.Data, w.policy))
	}
	w.dropped.Add(1)
	return w.Objects.Delete(ctx, row.Policy, path, w.tombstone(row.Times.Data))
}

// tombstone is the time of the tombstone that is left where something was. It is no older than that, also where the clock is
// behind: it would be forgotten too early.
func (w *work) tombstone(was timestamp.T) timestamp.T {
	return was.Left(max(w.Now().Unix(), was.Seconds()))
}

// bury brings a tombstone to where it belongs, and marks the one that is where it was. One that an expiry has left can't be
// marked: it is brought again when the container is looked at again, which changes nothing.
func (w *work) bury(ctx context.Context, of policy.Index, path name.Path, stamp timestamp.T) error {
	if err := w.Objects.Delete(ctx, w.policy, path, stamp); err != nil {
		return err
	}
	w.deletes.Add(1)
	if stamp.IsExpiry() {
		return nil
	}
	return w.Objects.Delete(ctx, of, path, w.tombstone(stamp))
}

// move moves an object: what is in its place is to.
func (w *work) move(ctx context.Context, of policy.Index, path name.Path, from, to *State) error {
	there, err := w.there(ctx, path, from, to)
	if err != nil {
		return err
	}
	if !there {
		if isOver(from.Header, w.Now().Unix()) {
			return fmt.Errorf("%w: it has come to its end, and is left for the expirer", errWait)
		}
		if err := w.versionFirst(ctx, of, path, from); err != nil {
			return err
		}
		o, err := w.copy(ctx, of, path, from)
		if err != nil {
			return err
		}
		from = &o.State
	} else {
		w.dropped.Add(1)
	}
	if err := w.post(ctx, path, from); err != nil {
		return err
	}
	return w.Objects.Delete(ctx, of, path, w.tombstone(from.Times.Data))
}

// there reports whether there is no need to store an object where it belongs, since that, or what is later, is there. Of
// what a pass has stored that was broken off it has to be seen once more: its data may be gone where it was not committed in time.
func (w *work) there(ctx context.Context, path name.Path, from, to *State) (bool, error) {
	if to.Kept.Before(from.Times.Data) {
		return false, nil
	}
	if !to.Live || to.Times.Data.Ticks() != from.Times.Data.Ticks() {
		return true, nil
	}
	return w.Objects.Stands(ctx, w.policy, path, to)
}

// versionFirst has a link wait while the version that it leads to is still where the link is: moved before it,
// it would lead nowhere. The version is a row of the hidden container, which is moved by itself.
func (w *work) versionFirst(ctx context.Context, of policy.Index, path name.Path, from *State) error {
	text := from.Header.Get(backend.VersionLink)
	if text == "" {
		return nil
	}
	link, err := backend.ParseLink(text)
	if err != nil {
		return nil //nolint:nilerr // it leads nowhere in any place
	}
	version, err := w.Objects.Look(ctx, of, path.Version(link.ID))
	if err == nil && version.Live {
		err = fmt.Errorf("%w: its version has not been moved", errWait)
	}
	return err
}

// copy stores an object where it belongs, and returns what was stored.
func (w *work) copy(ctx context.Context, of policy.Index, path name.Path, from *State) (o Object, err error) {
	if o, err = w.open(ctx, of, path); err != nil {
		return o, err
	}
	if o.Body != nil {
		defer func() { _ = o.Body.Close() }() // it was only read from
	}
	if o.Times.Data.Before(from.Times.Data) || o.Times.Meta.Before(from.Times.Meta) {
		return o, errs.E(errs.Unavailable, fmt.Errorf("only a version of %s is found, of %s there was one", o.Times, from.Times))
	}
	stamp, ok := o.Times.Data.Moved()
	if !ok {
		return o, errs.E(errs.Invalid, fmt.Errorf("data of %s can't be moved", o.Times.Data))
	}
	if err := w.Objects.Put(ctx, w.policy, path, o, stamp); err != nil {
		return o, err
	}
	w.moved.Add(1)
	w.bytes.Add(o.Length)
	return o, nil
}

// open opens an object when there is bandwidth for it. It waits before that, one at a time: who is to send it
// is not kept waiting, and would give up.
func (w *work) open(ctx context.Context, of policy.Index, path name.Path) (Object, error) {
	if w.cfg.BytesPerSecond == 0 {
		return w.Objects.Open(ctx, of, path) // nobody waits for one who is slow to answer
	}
	w.turn.Lock()
	defer w.turn.Unlock()
	if err := w.flow.Wait(ctx, 0); err != nil {
		return Object{}, err
	}
	o, err := w.Objects.Open(ctx, of, path)
	if err == nil {
		if err = w.flow.Wait(ctx, o.Length); err != nil && o.Body != nil { // nobody else has taken any since
			_ = o.Body.Close() // it was not read from
		}
	}
	return o, err
}

// post posts metadata that came later than the data. Of a link it is not: all that is its own is stored with
// it, and what is posted to it goes to the version.
func (w *work) post(ctx context.Context, path name.Path, from *State) error {
	t := from.Times
	if !t.Meta.After(t.Data) || from.Header.Has(backend.VersionLink) {
		return nil
	}
	kind := from.Header.Get(backend.ContentType)
	if kindOnly := t.ContentType; kindOnly.After(t.Data) && kindOnly.Before(t.Meta) {
		// A POST of that time has set the type, and a later one has not.
		if err := w.Objects.Post(ctx, w.policy, path, Change{kindOnly, kind, from.Header}); err != nil {
			return err
		}
	}
	if t.ContentType != t.Meta {
		kind = ""
	}
	return w.Objects.Post(ctx, w.policy, path, Change{t.Meta, kind, from.Header})
}

// isOver reports whether an object is past its time in a second since 1970.
func isOver(h backend.Header, second int64) bool {
	at, err := strconv.ParseInt(strings.TrimSpace(h.Get("X-Delete-At")), 10, 64)
	return err == nil && at <= second
}
