package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// tell is an inspection in words: the entry, then each record.
func tell(i *Inspection) string {
	kinds := [...]string{"nothing", "waiting", "data", "tombstone", "lost", "gone"}
	b := fmt.Sprintf("%s dead %d:", kinds[i.Entry.Kind], i.Entry.Dead)
	for _, r := range i.Records {
		b += fmt.Sprintf(" %s", r.Kind)
		if r.Part != "" {
			b += "=" + r.Part
		}
		if r.Err != nil {
			b += "!"
		}
		if r.File != nil && r.File.Err != nil {
			b += "?"
		}
	}
	return b
}

// What was written to a name is what is found of it, by the engine that has it open and by
// somebody beside it, in force alone and all that there ever was.
func TestInspect(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	for what, tt := range map[string]struct {
		do       func(t *testing.T, e *Engine, fs vfs.FS, l Location) error
		now, all string
		whole    bool
	}{
		"nothing": {func(*testing.T, *Engine, vfs.FS, Location) error { return nil }, "nothing dead 0:", "nothing dead 0:", true},
		"one": {func(_ *testing.T, e *Engine, _ vfs.FS, l Location) error {
			return put(e, l, ts(1), []byte("x"), "a", Terms{})
		}, "data dead 0: data=data", "data dead 0: data=data", true},
		"twice, and metadata": {func(_ *testing.T, e *Engine, _ vfs.FS, l Location) error {
			return errors.Join(put(e, l, ts(1), large, "a", Terms{}), put(e, l, ts(2), []byte("x"), "a", Terms{}), post(e, l, 3, 0, "m", Terms{}))
		}, "data dead 1: data=data metadata=meta", "data dead 1: blob? data=data metadata=meta", true},
		"blob": {func(_ *testing.T, e *Engine, _ vfs.FS, l Location) error {
			return put(e, l, ts(1), large, "a", Terms{})
		},
			"data dead 0: blob=data", "data dead 0: blob=data", true},
		"blob without its file": {func(t *testing.T, e *Engine, fs vfs.FS, l Location) error {
			err := put(e, l, ts(1), large, "a", Terms{})
			file, _ := where(t, e, l, partData)
			return errors.Join(err, fs.Remove(file))
		}, "data dead 0: blob=data?", "data dead 0: blob=data?", false},
		"blob that is damaged far in": {func(t *testing.T, e *Engine, fs vfs.FS, l Location) error {
			err := put(e, l, ts(1), large, "a", Terms{})
			file, _ := where(t, e, l, partData)
			flip(t, fs, file, 500_000)
			return err
		}, "data dead 0: blob=data", "data dead 0: blob=data?", false},
		"data that is damaged": {func(t *testing.T, e *Engine, fs vfs.FS, l Location) error {
			err := errors.Join(put(e, l, ts(1), large[:100_000], "a", Terms{}), put(e, at(7), ts(1), nil, "a", Terms{}), e.Checkpoint(ctx))
			file, off := where(t, e, l, partData)
			flip(t, fs, file, off+90_000)
			return err
		}, "data dead 0: data=data!", "data dead 0: data=data!", false},
		"a head that is damaged": {func(t *testing.T, e *Engine, fs vfs.FS, l Location) error {
			err := errors.Join(put(e, l, ts(1), large[:100], "a", Terms{}), put(e, at(7), ts(1), nil, "a", Terms{}), e.Checkpoint(ctx))
			file, off := where(t, e, l, partData)
			flip(t, fs, file, off+60)
			return err
		}, "data dead 0: kind 0=data!", "data dead 0: kind 0=data!", false},
		"deleted": {func(_ *testing.T, e *Engine, _ vfs.FS, l Location) error {
			return errors.Join(put(e, l, ts(1), []byte("x"), "a", Terms{}), del(e, l, 2, Terms{}))
		}, "tombstone dead 1: tombstone=data", "tombstone dead 1: data tombstone=data", true},
		"dropped": {func(_ *testing.T, e *Engine, _ vfs.FS, l Location) error {
			err := put(e, l, ts(1), []byte("x"), "a", Terms{})
			_, dropErr := e.Drop(ctx, l, func(*State) bool { return true })
			return errors.Join(err, dropErr)
		}, "gone dead 1: purge=data", "gone dead 1: data purge=data", true},
		"only metadata": {func(_ *testing.T, e *Engine, _ vfs.FS, l Location) error {
			return post(e, l, 3, 0, "m", Terms{Merge: true})
		},
			"waiting dead 0: metadata=meta", "waiting dead 0: metadata=meta", true},
		"in quarantine": {func(_ *testing.T, e *Engine, _ vfs.FS, l Location) error {
			err := put(e, l, ts(1), []byte("x"), "a", Terms{})
			s, statErr := e.Stat(ctx, l)
			return errors.Join(err, statErr, e.Quarantine(ctx, l, s, errors.New("said so")))
		}, "lost dead 1: quarantine=mark", "lost dead 1: data quarantine=mark", true},
	} {
		t.Run(what, func(t *testing.T) {
			forEachFS(t, func(t *testing.T, fs vfs.FS, root string) {
				e := newEngine(fs, root)
				defer e.Close()
				l := Location{Policy: 2, Hash: at(1).Hash}
				// What is not to be found: another policy's, and other names'.
				if err := errors.Join(put(e, at(1), ts(9), []byte("other"), "x", Terms{}), put(e, at(2), ts(9), nil, "x", Terms{})); err != nil {
					t.Fatal(err)
				}
				if err := tt.do(t, e, fs, l); err != nil {
					t.Fatal(err)
				}
				view, err := Look(root, Config{FS: fs})
				if err != nil {
					t.Fatal(err)
				}
				defer view.Close()
				for _, how := range []How{{}, {All: true}} {
					want, wantWhole := tt.now, tt.whole
					if how.All {
						want = tt.all
					} else if strings.Contains(tt.all, "?") && !strings.Contains(tt.now, "?") {
						wantWhole = true // what was not read was not found
					}
					for who, inspect := range map[string]func() (Inspection, error){
						"engine": func() (Inspection, error) { return e.Inspect(ctx, l, how) },
						"view":   func() (Inspection, error) { return view.Inspect(ctx, l, how) },
					} {
						got, err := inspect()
						if err != nil || tell(&got) != want || got.Whole() != wantWhole {
							t.Errorf("%s, %+v: %s, whole %v, %v\nwant %s, whole %v", who, how, tell(&got), got.Whole(), err, want, wantWhole)
						}
						for _, r := range got.Records {
							if r.Kind == record.Data && r.Err == nil && (r.Head.Object.Name != path3(l) || r.Head.Object.Time == ts(9)) {
								t.Errorf("%s: found the record of %v", who, r.Head.Object.Name)
							}
						}
						if n := len(got.Quarantined); (n == 2) != (what == "in quarantine") && n != 0 {
							t.Errorf("%s: %d files in quarantine: %v", who, n, got.Quarantined)
						}
					}
				}
			})
		})
	}
}

// Where the log itself can't be read is told with all that could be found.
func TestInspectTellsOfDamage(t *testing.T) {
	fs := vfs.NewMem()
	e := newEngine(fs, "/")
	var file string
	var second int64
	for n := range int64(3) {
		if err := put(e, at(1), ts(n+1), []byte("x"), "a", Terms{}); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			file, second = where(t, e, at(1), partData)
		}
	}
	flip(t, fs, file, second+2)
	got, err := e.Inspect(ctx, at(1), How{All: true})
	if err != nil || tell(&got) != "data dead 2: data data=data" || len(got.Damage) != 1 || got.Damage[0].From.Offset != second {
		t.Errorf("%s, damage %v, %v", tell(&got), got.Damage, err)
	}
}

func TestSummary(t *testing.T) {
	forEachFS(t, func(t *testing.T, fs vfs.FS, root string) {
		e := newEngine(fs, root)
		defer e.Close()
		large := make([]byte, 300_000)
		other := Location{Policy: 1, Hash: at(4).Hash}
		for _, err := range []error{
			put(e, at(1), ts(1), make([]byte, 1000), "a", Terms{}), put(e, at(1), ts(2), make([]byte, 500), "a", Terms{}),
			put(e, at(2), ts(1), large, "a", Terms{}), put(e, at(3), ts(1), []byte("x"), "a", Terms{}), del(e, at(3), 2, Terms{}),
			put(e, other, ts(1), []byte("xyz"), "a", Terms{}), e.Checkpoint(ctx), post(e, other, 5, 0, "m", Terms{}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		view, err := Look(root, Config{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		for who, summary := range map[string]func() (Summary, error){
			"engine": func() (Summary, error) { return e.Summary(ctx) }, "view": view.Summary,
		} {
			s, err := summary()
			if err != nil {
				t.Fatalf("%s: %v", who, err)
			}
			if len(s.Policies) != 2 || s.Policies[0].Objects != 2 || s.Policies[0].Bytes != 300_500 || s.Policies[1].Objects != 1 || s.Policies[1].Bytes != 3 {
				t.Errorf("%s: %+v", who, s.Policies)
			}
			// What is in force are four names and the metadata of one.
			live := int64(0)
			for _, l := range []Location{at(1), at(2), at(3), other} {
				i, err := e.Inspect(ctx, l, How{})
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range i.Records {
					live += r.Place.Size
				}
			}
			if s.Log.Live != live || s.Log.Dead != s.Log.Bytes-live || s.Log.Dead < 1000 || len(s.Log.Segments) != 1 || s.Log.Segments[0].Live != live {
				t.Errorf("%s: %+v, want %d bytes alive", who, s.Log, live)
			}
			if s.Index.Changes != 1 || s.Index.Runs != 1 || s.Index.Entries != 4 || s.Index.Position >= s.Log.End || s.Quarantined != 0 {
				t.Errorf("%s: %+v, end %s, %d in quarantine", who, s.Index, s.Log.End, s.Quarantined)
			}
		}
	})
}

// files is everything below a folder.
func files(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = "a folder"
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Looking changes no byte on the device, also where what is there is damaged, and whoever
// has it open goes on.
func TestLookChangesNothing(t *testing.T) {
	root := t.TempDir()
	e := newEngine(vfs.OS, root)
	defer e.Close()
	if err := errors.Join(put(e, at(1), ts(1), []byte("x"), "a", Terms{}), e.Checkpoint(ctx), put(e, at(2), ts(1), []byte("y"), "a", Terms{})); err != nil {
		t.Fatal(err)
	}
	file, off := where(t, e, at(1), partData)
	flip(t, vfs.OS, file, off+60)
	before := files(t, root)
	view, err := Look(root, Config{FS: vfs.OS})
	if err != nil {
		t.Fatal(err)
	}
	bad, err := view.Inspect(ctx, at(1), How{All: true})
	if _, sumErr := view.Summary(); err != nil || sumErr != nil || bad.Whole() {
		t.Errorf("%s, %v, %v", tell(&bad), err, sumErr)
	}
	if err := view.Close(); err != nil {
		t.Error(err)
	}
	after := files(t, root)
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s has changed", path)
		}
		delete(after, path)
	}
	if len(after) > 0 {
		t.Errorf("%d files have come", len(after))
	}
	if err := put(e, at(2), ts(2), []byte("z"), "a", Terms{}); err != nil {
		t.Error(err)
	}
}

// Without an index, or with one that is damaged, looking says so or finds all the same;
// and the index made again from the log alone has what there was.
func TestRebuildIndex(t *testing.T) {
	large := make([]byte, 300_000)
	for what, tt := range map[string]struct {
		harm func(t *testing.T, root string, runs []string)
		look bool // finds everything
	}{
		"whole":          {func(*testing.T, string, []string) {}, true},
		"no index":       {func(t *testing.T, root string, _ []string) { remove(t, root+"/index") }, true},
		"no manifest":    {func(t *testing.T, root string, _ []string) { remove(t, root+"/index/manifest") }, true},
		"no run":         {func(t *testing.T, _ string, runs []string) { remove(t, runs[0]) }, false},
		"a bad manifest": {func(t *testing.T, root string, _ []string) { flip(t, vfs.OS, root+"/index/manifest", 30) }, false},
		"a bad run":      {func(t *testing.T, _ string, runs []string) { flip(t, vfs.OS, runs[0], 10) }, false},
	} {
		t.Run(what, func(t *testing.T) {
			root := t.TempDir()
			e := newEngine(vfs.OS, root)
			for n := range byte(20) {
				data := []byte{n}
				if n%7 == 0 {
					data = large
				}
				if err := put(e, at(n), ts(1), data, "a", Terms{}); err != nil {
					t.Fatal(err)
				}
				if n%5 == 0 {
					if err := del(e, at(n), 2, Terms{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			want, err := e.Summary(ctx)
			if err := errors.Join(err, e.Close()); err != nil {
				t.Fatal(err)
			}
			runs, err := filepath.Glob(root + "/index/*.run")
			if err != nil || len(runs) == 0 {
				t.Fatalf("runs %v, %v", runs, err)
			}
			tt.harm(t, root, runs)
			same := func(who string, got Summary) {
				t.Helper()
				if len(got.Policies) != 1 || got.Policies[0] != want.Policies[0] || got.Log.Live != want.Log.Live {
					t.Errorf("%s: %+v, want %+v", who, got, want)
				}
			}
			view, err := Look(root, Config{FS: vfs.OS})
			switch {
			case tt.look && err != nil || !tt.look && !errors.Is(err, ErrNoIndex):
				t.Fatalf("Look: %v", err)
			case err == nil:
				got, err := view.Summary()
				if err != nil {
					t.Fatal(err)
				}
				same("Look", got)
				view.Close()
			}
			cfg := Defaults()
			got, err := RebuildIndex(ctx, root, cfg)
			if err != nil {
				t.Fatal(err)
			}
			same("RebuildIndex", got)
			e = newEngine(vfs.OS, root)
			defer e.Close()
			for n := range byte(20) {
				_, data, err := get(e, at(n))
				if gone := errs.Is(err, errs.NotFound); gone != (n%5 == 0) || !gone && (err != nil || n%7 != 0 && !bytes.Equal(data, []byte{n})) {
					t.Errorf("%d: %q, %v", n, data, err)
				}
			}
			if s, err := e.Summary(ctx); err != nil || s.Index.Changes != 0 {
				t.Errorf("after a start there is something to replay: %+v, %v", s.Index, err)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// Whoever gives up does so with an error, never with a part for the whole.
func TestInspectGivenUp(t *testing.T) {
	e := newEngine(vfs.NewMem(), "/")
	for n := range byte(3) {
		if err := put(e, at(n), ts(1), nil, "a", Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := e.Inspect(ctx, at(1), How{All: true, Pace: func(context.Context, int64) error { return errs.E(errs.Aborted, "enough") }})
	if !errs.Is(err, errs.Aborted) {
		t.Errorf("it returned %v", err)
	}
}

// Beside somebody who writes, checkpoints and compacts, looking finds what was there all the
// time: whole, and wherever it is moved to.
func TestLookBesideAWriter(t *testing.T) {
	root := t.TempDir()
	e := newEngine(vfs.OS, root)
	defer e.Close()
	large := make([]byte, 300_000)
	for n, data := range [][]byte{[]byte("small"), large} {
		if err := put(e, at(byte(n)), ts(1), data, "stays", Terms{}); err != nil {
			t.Fatal(err)
		}
	}
	end, ended := make(chan struct{}), make(chan error)
	go func() {
		for n := int64(1); ; n++ {
			select {
			case <-end:
				ended <- nil
				return
			default:
			}
			var err error
			for i := range byte(8) {
				err = errors.Join(err, put(e, at(10+i), ts(n), large[:100_000], "goes", Terms{}))
			}
			if n%2 == 0 {
				err = errors.Join(err, e.Checkpoint(ctx), e.Compact(ctx, timestamp.T{}, nil))
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 20 {
		view, err := Look(root, Config{FS: vfs.OS})
		if err != nil {
			t.Errorf("Look: %v", err)
			continue
		}
		for n := range byte(2) {
			i, err := view.Inspect(ctx, at(n), How{All: n == 0})
			if err != nil || i.Entry.Kind != index.Data || !i.Whole() || len(i.Damage) > 0 {
				t.Errorf("%s, damage %v, %v", tell(&i), i.Damage, err)
			}
		}
		if s, err := view.Summary(); err != nil || s.Policies[0].Objects < 2 || s.Log.Live < 400 || s.Log.Dead < 0 {
			t.Errorf("%+v, %v", s, err)
		}
		if err := view.Close(); err != nil {
			t.Error(err)
		}
	}
	close(end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// meanwhileFS does something before a file is opened.
type meanwhileFS struct {
	vfs.FS
	do func(name string)
}

func (m meanwhileFS) Open(name string) (vfs.File, error) {
	m.do(name)
	return m.FS.Open(name)
}

// An index that was written after the log was looked at knows more than that; it is not
// damaged. Who looks looks again, but not for ever.
func TestLookAgain(t *testing.T) {
	for writes, want := range map[int]error{1: nil, 100: ErrNoIndex} {
		fs := vfs.NewMem()
		e := newEngine(fs, "/")
		if err := errors.Join(put(e, at(1), ts(1), nil, "a", Terms{}), e.Checkpoint(ctx)); err != nil {
			t.Fatal(err)
		}
		done := 0
		view, err := Look("/", Config{FS: meanwhileFS{fs, func(name string) {
			if !strings.HasSuffix(name, "/manifest") || done == writes {
				return
			}
			done++
			if err := errors.Join(put(e, at(2), ts(int64(done)), nil, "a", Terms{}), e.Checkpoint(ctx)); err != nil {
				t.Error(err)
			}
		}}})
		if !errors.Is(err, want) || done == 0 {
			t.Errorf("%d writes: %v, want %v", done, err, want)
		}
		if err != nil {
			continue
		}
		if i, err := view.Inspect(ctx, at(2), How{}); err != nil || i.Entry.Kind != index.Data || !i.Whole() {
			t.Errorf("%s, %v", tell(&i), err)
		}
		view.Close()
	}
}
