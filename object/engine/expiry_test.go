package engine

import (
	"errors"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// expired returns what has come to its end.
func expired(t *testing.T, e *Engine, second int64) (all []Entry) {
	t.Helper()
	for entry, err := range e.Expired(ctx, time.Unix(second, 0), nil) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, entry)
	}
	return all
}

func TestExpire(t *testing.T) {
	fs := vfs.NewMem()
	e := newEngine(fs, "/")
	for i, meta := range []string{"p30", "p31", "p33", "p36"} { // the second one never ends
		if err := put(e, at(byte(i)), ts(10), []byte("data"), meta, Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	if all := expired(t, e, 29); len(all) != 0 {
		t.Fatalf("before its second %v is expired", all)
	}
	all := expired(t, e, 33)
	if len(all) != 2 {
		t.Fatalf("%d objects are expired, want 2", len(all))
	}
	if err := post(e, at(2), 20, 0, "m36", Terms{}); err != nil { // meanwhile
		t.Fatal(err)
	}
	for _, entry := range all {
		o, err := e.Expire(ctx, entry)
		if stays := entry.Hash == at(2).Hash; stays != errs.Is(err, errs.Stale) || !stays && err != nil {
			t.Fatalf("ending %s: %v", show(entry.State), err)
		} else if !stays && (o.After.Kind != Deleted || o.After.Time != timestamp.Expiry(ts(10), ts(10), 30)) {
			t.Fatalf("it ends as %s", show(o.After))
		}
	}
	e = newEngine(fs, "/") // it was killed
	if all := expired(t, e, 33); len(all) != 0 {
		t.Errorf("%v is expired, and was ended", all)
	}
	if all := expired(t, e, 36); len(all) != 2 {
		t.Errorf("%d objects are expired in the end, want 2", len(all))
	}
	for entry, err := range e.Expired(ctx, time.Unix(36, 0), func(l Location) bool { return l == at(3) }) {
		if err != nil || entry.Location != at(3) {
			t.Errorf("%v is expired, %v, and not wanted", entry.Location, err)
		}
	}
}

// What is lost to damage, and was given a longer life, is no end's to settle, and comes back beside
// one that is lost.
func TestExpiryOfWhatIsLost(t *testing.T) {
	l, e := at(1), newEngine(vfs.NewMem(), "/")
	lose := op{what: opLoseData, at: l}
	void := timestamp.Expiry(ts(10), ts(20), 30)
	if err := errors.Join(put(e, l, ts(10), []byte("data"), "p30", Terms{}), post(e, l, 25, 0, "m36", Terms{}), lose.do(e)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Delete(ctx, l, path3(l), void, Terms{Merge: true}); !errs.Is(err, errs.Stale) {
		t.Errorf("a void end of what is lost: %v", err)
	}
	if s, _ := e.Stat(ctx, l); s.Kind != Lost {
		t.Errorf("what is lost is %s then", show(s))
	}

	l = at(2)
	if _, err := e.Delete(ctx, l, path3(l), void, Terms{Merge: true}); err != nil {
		t.Fatal(err)
	}
	lose.at = l
	if err := errors.Join(lose.do(e), post(e, l, 25, 0, "m36", Terms{Merge: true}), put(e, l, ts(10), []byte("data"), "p30", Terms{Merge: true})); err != nil {
		t.Errorf("data whose void end is lost: %v", err)
	}
	if s, _ := e.Stat(ctx, l); s.Kind != Live || s.MetaTime != ts(25) {
		t.Errorf("it comes back as %s", show(s))
	}
}

// A tombstone of an expiry is as old as the expiry, and not as its data.
func TestExpiryIsRemembered(t *testing.T) {
	e := newEngine(vfs.NewMem(), "/")
	due := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	stamp := timestamp.Expiry(ts(10), ts(20), due.Unix())
	if _, err := e.Delete(ctx, at(1), path3(at(1)), stamp, Terms{Merge: true}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		horizon time.Time
		kind    Kind
	}{{due, Deleted}, {due.Add(12 * time.Hour), Deleted}, {due.Add(13 * time.Hour), Absent}} {
		if err := e.Reclaim(ctx, timestamp.FromTime(tt.horizon), nil); err != nil {
			t.Fatal(err)
		}
		s, err := e.Stat(ctx, at(1))
		if err != nil || s.Kind != tt.kind {
			t.Errorf("with a horizon of %v there is %s, %v", tt.horizon, show(s), err)
		}
	}
}

// Where it was not known that an object was to live longer it has ended; what comes from
// where it was known brings it back, and nothing that is older.
func TestExpiryIsVoid(t *testing.T) {
	e := newEngine(vfs.NewMem(), "/")
	merge := Terms{Merge: true}
	d := func(n int64) error { return put(e, at(1), ts(n), []byte("data"), "p30", merge) }
	stamp := timestamp.Expiry(ts(10), ts(12), 30)
	end := func() error { _, err := e.Delete(ctx, at(1), path3(at(1)), stamp, merge); return err }
	for _, step := range []struct {
		what string
		do   func() error
		kind errs.Kind
		then Kind
	}{
		{"the object", func() error { return d(10) }, errs.Other, Live},
		{"its metadata", func() error { return post(e, at(1), 12, 0, "m30", merge) }, errs.Other, Live},
		{"its end", end, errs.Other, Deleted},
		{"the object again", func() error { return d(10) }, errs.Stale, Deleted},
		{"metadata that it took in", func() error { return post(e, at(1), 12, 0, "m30", merge) }, errs.Stale, Deleted},
		{"a longer life", func() error { return post(e, at(1), 15, 0, "m60", merge) }, errs.Other, Deleted},
		{"an older object", func() error { return d(9) }, errs.Stale, Deleted},
		{"the object, which lives", func() error { return d(10) }, errs.Other, Live},
		{"its end, which is void", end, errs.Stale, Live},
		{"a later end of it", func() error {
			_, err := e.Delete(ctx, at(1), path3(at(1)), timestamp.Expiry(ts(10), ts(15), 60), merge)
			return err
		}, errs.Other, Deleted},
		{"a later object", func() error { return d(11) }, errs.Other, Live},
	} {
		err := step.do()
		s, statErr := e.Stat(ctx, at(1))
		if errs.KindOf(err) != step.kind || (err == nil) != (step.kind == errs.Other) || s.Kind != step.then || statErr != nil {
			t.Fatalf("%s: %v, and then %s", step.what, err, show(s))
		}
	}
}
