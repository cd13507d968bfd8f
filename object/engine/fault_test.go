//go:build !race

package engine

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// history is what is done to one name, in order of time.
type step struct {
	name string
	do   func(e *Engine, terms Terms) error
}

func history(size int) []step { return historyBy(size, put) }

func historyBy(size int, put func(*Engine, Location, timestamp.T, []byte, string, Terms) error) []step {
	l := at(3)
	body := func(b byte) []byte { return bytes.Repeat([]byte{b}, size) }
	return []step{
		{"put", func(e *Engine, t Terms) error { return put(e, l, ts(10), body(1), "one", t) }},
		{"post", func(e *Engine, t Terms) error { return post(e, l, 20, 0, "two", t) }},
		{"post with type", func(e *Engine, t Terms) error { return post(e, l, 30, 30, "three", t) }},
		{"overwrite", func(e *Engine, t Terms) error { return put(e, l, ts(40), body(2), "four", t) }},
		{"delete", func(e *Engine, t Terms) error { return del(e, l, 50, t) }},
		{"put again", func(e *Engine, t Terms) error { return put(e, l, ts(60), body(3), "six", t) }},
	}
}

// observe returns the state of the name, and an error if its body is not that
// state's.
func observe(e *Engine) (string, error) {
	s, body, err := get(e, at(3))
	if err != nil && !errs.Is(err, errs.NotFound) {
		return "", err
	}
	if s.Kind == Live && sum(body) != s.MD5 {
		return "", fmt.Errorf("body of %d bytes is not that of %s", len(body), show(s))
	}
	return show(s), nil
}

// outcomes remembers, of the first steps of one history, what expected returns: most calls that fail leave the same steps in doubt.
type outcomes map[string]map[string]bool

// expected returns the states that the acknowledged steps may have come to,
// each of the undecided ones done or not.
func (o outcomes) expected(steps []step, acked, undecided []int) (map[string]bool, error) {
	key := fmt.Sprint(acked, undecided)
	if all := o[key]; all != nil {
		return all, nil
	}
	all := map[string]bool{}
	for subset := range 1 << len(undecided) {
		e := newEngine(vfs.NewMem(), "/")
		done := map[int]bool{}
		for _, i := range acked {
			done[i] = true
		}
		for bit, i := range undecided {
			if subset>>bit&1 == 1 {
				done[i] = true
			}
		}
		for i, s := range steps {
			if !done[i] {
				continue
			}
			if err := s.do(e, Terms{Merge: true}); err != nil && !errs.Is(err, errs.Stale) {
				return nil, err
			}
		}
		got, err := observe(e)
		if err != nil {
			return nil, err
		}
		all[got] = true
	}
	o[key] = all
	return all, nil
}

// crashTest runs the steps on fs, which is over disk, and then loses power in
// many ways. It returns the first promise that did not hold.
func crashTest(fs vfs.FS, disk *vfs.Mem, steps []step, seeds uint64, known outcomes) error {
	e := newEngine(fs, "/")
	var acked, undecided []int
	for i, s := range steps {
		switch err := s.do(e, Terms{}); {
		case err == nil:
			acked = append(acked, i)
		case errs.Is(err, errs.BadDevice):
			undecided = append(undecided, i)
		case !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Stale):
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	want, err := known.expected(steps, acked, undecided)
	if err != nil {
		return err
	}
	for seed := range seeds {
		after := disk.AfterCrash(seed)
		got, err := observe(newEngine(after, "/"))
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		if !want[got] {
			return fmt.Errorf("seed %d: acknowledged %v, undecided %v, found %s, want one of %v", seed, acked, undecided, got, want)
		}
		if list, err := after.ReadDir("/quarantined"); err == nil {
			return fmt.Errorf("seed %d: a crash alone filled the quarantine: %v", seed, list)
		}
	}
	return nil
}

// Whatever call fails, and whenever power is lost then: what was acknowledged is
// there, what was not is there whole or not at all.
func TestFaultAtEveryCall(t *testing.T) {
	for name, tt := range map[string]struct {
		size    int
		about   int64 // what is said of the size, where it is not known
		options []vfs.FaultOption
	}{
		"small":                   {size: 5000},
		"large":                   {size: 262_200},
		"large, as was said":      {size: 1_100_000, about: 1_100_000},
		"small, said to be large": {size: 5000, about: 600_000},
		"the disk is gone":        {size: 5000, options: []vfs.FaultOption{vfs.FaultForever()}},
		"other parts of it":       {size: 5000, options: []vfs.FaultOption{vfs.FaultSeed(99)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, steps, known := 0, history(tt.size), outcomes{}
			if tt.about > 0 {
				steps = historyBy(tt.size, func(e *Engine, l Location, at timestamp.T, data []byte, meta string, terms Terms) error {
					return putAbout(e, tt.about, l, at, data, meta, terms)
				})
			}
			for fired := true; fired; n++ {
				disk := vfs.NewMem()
				faulty := vfs.FailAt(disk, n, tt.options...)
				if err := crashTest(faulty, disk, steps, 12, known); err != nil {
					t.Fatalf("fault %d: %v", n, err)
				}
				fired = faulty.Fired()
			}
			if n < 40 {
				t.Errorf("only %d calls were failed", n)
			}
		})
	}
}

// Power is lost after each step, with nothing else wrong.
func TestCrashAfterEveryStep(t *testing.T) {
	steps, known := history(600_000), outcomes{}
	for n := range steps {
		disk := vfs.NewMem()
		if err := crashTest(disk, disk, steps[:n+1], 40, known); err != nil {
			t.Errorf("after %s: %v", steps[n].name, err)
		}
	}
}

// Damage is remembered whatever fails while the file goes to quarantine: lost,
// never absent.
func TestFaultDuringQuarantine(t *testing.T) {
	for _, p := range []part{partData, partMeta} {
		for n, fired := 0, true; fired; n++ {
			disk := vfs.NewMem()
			e := newEngine(disk, "/")
			for _, s := range history(100)[:2] {
				if err := s.do(e, Terms{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.Checkpoint(ctx); err != nil {
				t.Fatal(err)
			}
			file, off := where(t, e, at(3), p)
			flip(t, disk, file, off+100)
			faulty := vfs.FailAt(disk, n)
			if _, _, err := get(newEngine(faulty, "/"), at(3)); err == nil || errs.Is(err, errs.NotFound) {
				t.Fatalf("%s, fault %d: damaged object reads with %v", p, n, err)
			}
			fired = faulty.Fired()
			for seed := range uint64(16) {
				_, _, err := get(newEngine(disk.AfterCrash(seed), "/"), at(3))
				if !errs.Is(err, errs.Corrupt) {
					t.Fatalf("%s, fault %d, seed %d: %v, want Corrupt", p, n, seed, err)
				}
			}
		}
	}
}

// lazy is a file system that says it has synced and has not.
type lazy struct {
	vfs.FS
	files, dirs bool // which syncs it leaves out
}

type lazyFile struct {
	vfs.File
	fs *lazy
}

func (l *lazy) CreateUnnamed(dir string) (vfs.File, error) {
	f, err := l.FS.CreateUnnamed(dir)
	if err != nil {
		return nil, err
	}
	return &lazyFile{f, l}, nil
}

func (l *lazy) OpenFile(name string, flag int) (vfs.File, error) {
	f, err := l.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return &lazyFile{f, l}, nil
}

func (l *lazy) Link(f vfs.File, name string) error { return l.FS.Link(f.(*lazyFile).File, name) }

func (l *lazy) SyncDir(dir string) error {
	if l.dirs {
		return nil
	}
	return l.FS.SyncDir(dir)
}

func (f *lazyFile) Sync() error {
	if f.fs.files {
		return nil
	}
	return f.File.Sync()
}

// The tests above are able to fail: they catch each kind of sync left out.
func TestCrashTestCatchesMissingSyncs(t *testing.T) {
	for name, l := range map[string]lazy{"files": {files: true}, "directories": {dirs: true}} {
		disk := vfs.NewMem()
		l.FS = disk
		err := crashTest(&l, disk, history(5000)[:1], 40, outcomes{})
		if err == nil || !strings.Contains(err.Error(), "seed") {
			t.Errorf("syncs of %s left out, and nothing was found: %v", name, err)
		}
	}
}
