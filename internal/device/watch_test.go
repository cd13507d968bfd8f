package device

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// node is a folder with two devices, of which d1 is looked at.
type node struct {
	root string
	set  *Set
	d    *Device
	log  bytes.Buffer
	seen []Change // what a follower of d1 was told
}

func newNode(t *testing.T, change func(*Config)) *node {
	t.Helper()
	n := &node{root: t.TempDir()}
	for _, name := range []string{"d1", "d2"} {
		if err := os.Mkdir(n.path(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Init(n.path(name), owner, name, false); err != nil {
			t.Fatal(err)
		}
	}
	n.open(t, change)
	return n
}

func (n *node) open(t *testing.T, change func(*Config)) {
	t.Helper()
	cfg := Config{
		Root: n.root, Names: []string{"d1", "d2"}, Owner: owner, Remedy: "device init --device",
		Log: slog.New(slog.NewTextHandler(&n.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if n.set, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.set.Close() })
	n.d = n.set.find("d1")
	n.d.Follow(func(c Change) { n.seen = append(n.seen, c) })
}

func (n *node) path(elem ...string) string {
	return filepath.Join(append([]string{n.root}, elem...)...)
}

// move is rename(2) for as many pairs as are given.
func (n *node) move(t *testing.T, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if err := syscall.Rename(n.path(pairs[i]), n.path(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *node) mkdir(t *testing.T, name string) {
	t.Helper()
	if err := os.Mkdir(n.path(name), 0o750); err != nil {
		t.Fatal(err)
	}
}

// errors are the lines of the log that say why a device can't be used.
func (n *node) errors() (all []string) {
	for line := range strings.Lines(n.log.String()) {
		if strings.Contains(line, "level=ERROR") {
			all = append(all, line)
		}
	}
	return all
}

// A device is out of use while something is wrong with it, the log says what,
// once, the others go on, and it comes back.
func TestFailures(t *testing.T) {
	identity := func(o Owner, device string) func(t *testing.T, n *node) {
		return func(t *testing.T, n *node) {
			n.move(t, "d1/"+IdentityFile, "kept")
			write(t, n.path("d1", IdentityFile), encoded(t, NewIdentity(o, device)))
		}
	}
	back := func(t *testing.T, n *node) { n.move(t, "kept", "d1/"+IdentityFile) }
	for name, tt := range map[string]struct {
		fail, mend func(t *testing.T, n *node)
		says       string
		is         error
	}{
		"folder missing": {
			func(t *testing.T, n *node) { n.move(t, "d1", "away") },
			func(t *testing.T, n *node) { n.move(t, "away", "d1") }, "does not exist", errMissing,
		},
		"not a folder": {
			func(t *testing.T, n *node) { n.move(t, "d1", "away"); write(t, n.path("d1"), "") },
			func(t *testing.T, n *node) {
				n.move(t, "away", "file")
				os.Remove(n.path("d1"))
				n.move(t, "file", "d1")
			}, "not a folder", errNotFolder,
		},
		"empty mount point": {
			func(t *testing.T, n *node) { n.move(t, "d1", "away"); n.mkdir(t, "d1") },
			func(t *testing.T, n *node) { n.move(t, "away", "d1") }, "device init --device d1", ErrNoIdentity,
		},
		"disks in each other's place": {
			func(t *testing.T, n *node) { n.move(t, "d1", "away", "d2", "d1"); n.mkdir(t, "d2") },
			func(t *testing.T, n *node) { n.move(t, "d1", "d2", "away", "d1") }, `it is device \"d2\"`, ErrForeign,
		},
		"another cluster's": {identity(Owner{"c2", owner.Fingerprint}, "d1"), back, `of cluster \"c2\"`, ErrForeign},
		"another suffix":    {identity(Owner{"c1", "fedcba9876543210"}, "d1"), back, "another hash prefix or suffix", ErrForeign},
		"damaged identity": {
			func(t *testing.T, n *node) {
				n.move(t, "d1/"+IdentityFile, "kept")
				write(t, n.path("d1", IdentityFile), "{")
			}, back, "is damaged", ErrDamaged,
		},
		"identity gone": {
			func(t *testing.T, n *node) { n.move(t, "d1/"+IdentityFile, "kept") }, back, "never initialized", ErrNoIdentity,
		},
		"failed by somebody": {
			func(t *testing.T, n *node) { n.d.Fail(syscall.EIO) }, func(*testing.T, *node) {}, "input/output error", syscall.EIO,
		},
		"taken meanwhile": {
			func(t *testing.T, n *node) {
				n.move(t, "d1", "away")
				n.d.pass()
				n.log.Reset()
				n.move(t, "away", "d1")
				hold(t, n.path("d1"))
			},
			nil, "in use by another process", errLocked,
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			if err := n.d.Check(); err != nil {
				t.Fatal(err)
			}
			first := n.seen[0].FS
			tt.fail(t, n)
			n.d.pass()
			if err := n.d.Check(); !errs.Is(err, errs.BadDevice) || !errors.Is(err, tt.is) {
				t.Fatalf("%v, want a bad device because of %v", err, tt.is)
			}
			if _, ok := n.d.Usage(); ok {
				t.Error("it says how full it is")
			}
			if last := n.seen[len(n.seen)-1]; last.FS != vfs.Absent {
				t.Errorf("its followers were told of %v, want that it is absent", last)
			}
			if err := first.Mkdir(n.path("d1", "x")); !errors.Is(err, syscall.ENODEV) {
				t.Errorf("its file system can be used: %v", err)
			}
			if err := n.set.find("d2").Check(); err != nil {
				t.Errorf("the other device: %v", err)
			}
			if tt.mend == nil {
				return
			}
			if lines := n.errors(); len(lines) != 1 || !strings.Contains(lines[0], tt.says) {
				t.Errorf("the log says %q, want one line with %s", lines, tt.says)
			}
			tt.mend(t, n)
			n.d.pass()
			if err := n.d.Check(); err != nil {
				t.Errorf("mended: %v", err)
			}
			if last := n.seen[len(n.seen)-1]; last.FS == vfs.Absent || last.FS == first || last.Fresh || last.Disk != n.seen[0].Disk {
				t.Errorf("its followers were told of %+v, want a new file system of the same disk on the same mount", last)
			}
			if u, ok := n.d.Usage(); !ok || u.Total <= 0 {
				t.Errorf("mended: usage %+v, %v", u, ok)
			}
			if !strings.Contains(n.log.String(), "in use again") {
				t.Errorf("the log does not say that it is back:\n%s", n.log.String())
			}
		})
	}
}

// The same reason is logged once, and another one again.
func TestLoggedOnce(t *testing.T) {
	n := newNode(t, nil)
	n.move(t, "d1", "away")
	for range 3 {
		n.d.pass()
	}
	n.mkdir(t, "d1")
	for range 3 {
		n.d.pass()
	}
	if lines := n.errors(); len(lines) != 2 || !strings.Contains(lines[0], "does not exist") || !strings.Contains(lines[1], IdentityFile) {
		t.Errorf("the log says %q, want each reason once", lines)
	}
}

// Before anybody has noticed that the disk is gone, what is written goes to the
// disk; and nothing ever goes into the empty mount point.
func TestEmptyMountPoint(t *testing.T) {
	n := newNode(t, nil)
	now := n.seen[0].FS
	n.move(t, "d1", "away")
	n.mkdir(t, "d1")
	if err := now.Mkdir(n.path("d1", "objects")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(n.path("away", "objects")); err != nil {
		t.Error(err)
	}
	for range 2 {
		n.d.pass()
		_ = now.Mkdir(n.path("d1", "containers"))
		_ = n.seen[len(n.seen)-1].FS.Mkdir(n.path("d1", "containers"))
		_ = n.d.Room(0)
	}
	if list, err := os.ReadDir(n.path("d1")); err != nil || len(list) != 0 {
		t.Errorf("the empty mount point has %v, %v", list, err)
	}
}

// A disk that is put back before anybody noticed is taken in use at once, afresh.
func TestRemountedUnnoticed(t *testing.T) {
	n := newNode(t, nil)
	n.move(t, "d1", "away")
	n.mkdir(t, "d1")
	write(t, n.path("d1", IdentityFile), encoded(t, NewIdentity(owner, "d1")))
	n.d.pass()
	if err := n.d.Check(); err != nil {
		t.Fatal(err)
	}
	if len(n.seen) != 3 || n.seen[1].FS != vfs.Absent || n.seen[2].FS == n.seen[0].FS {
		t.Errorf("followers were told of %+v, want the old one, none, and the new one", n.seen)
	}
	if len(n.errors()) != 0 {
		t.Errorf("the log has %q", n.errors())
	}
}

// Another disk is told from the one before it by its identity, also on one mount,
// and the one before it is known again: what was in doubt of it is so still.
func TestDisksAreToldApart(t *testing.T) {
	n := newNode(t, nil)
	n.mkdir(t, "other")
	write(t, n.path("other", IdentityFile), encoded(t, NewIdentity(owner, "d1")))
	for _, next := range [][]string{{"d1", "first", "other", "d1"}, {"d1", "other", "first", "d1"}} {
		n.move(t, next...)
		n.d.pass()
	}
	inPlace := encoded(t, NewIdentity(owner, "d1"))
	if err := os.Remove(n.path("d1", IdentityFile)); err != nil {
		t.Fatal(err)
	}
	write(t, n.path("d1", IdentityFile), inPlace)
	n.d.pass()
	if err := n.d.Check(); err != nil {
		t.Fatal(err)
	}
	var disks []string
	var fresh []bool
	for _, c := range n.seen {
		if (c.Disk == "") != (c.FS == vfs.Absent) {
			t.Errorf("followers were told of %+v", c)
		}
		if c.FS != vfs.Absent {
			disks, fresh = append(disks, c.Disk), append(fresh, c.Fresh)
		}
	}
	if len(disks) != 4 || disks[0] == disks[1] || disks[2] != disks[0] || disks[3] == disks[0] || disks[3] == disks[1] {
		t.Errorf("the disks were %q, want one, another, the first again, and a third", disks)
	}
	if want := []bool{true, true, false, true}; !slices.Equal(fresh, want) {
		t.Errorf("known to be fresh were %v, want %v", fresh, want)
	}
}

// Open takes what it can and says of the rest why not; only a device that another
// process has is an error.
func TestOpen(t *testing.T) {
	n := newNode(t, nil)
	if _, err := Open(Config{Root: n.root, Names: []string{"d2", "d3"}, Owner: owner}); !errors.Is(err, errLocked) || !strings.Contains(err.Error(), "d2") {
		t.Errorf("a device in use: %v, want an error that names it", err)
	}
	if err := n.set.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.d.Check(); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	s, err := Open(Config{Root: n.root, Names: []string{"d1", "d3"}, Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Lookup("d1"); err != nil {
		t.Error(err)
	}
	if _, err := s.Lookup("d3"); !errs.Is(err, errs.BadDevice) || !errors.Is(err, errMissing) {
		t.Errorf("a folder that is missing: %v", err)
	}
	none, err := Open(Config{Root: t.TempDir(), Names: []string{"d1"}, Owner: owner})
	if err != nil {
		t.Fatalf("no device at all: %v, want a set that waits for it", err)
	}
	defer none.Close()
	none.find("d1").Follow(func(c Change) {
		if c.FS != vfs.Absent {
			t.Errorf("a device that is missing has %v", c.FS)
		}
	})
}

// Whichever call of a check fails for good, the device is out of use, and it is
// back when the disk is.
func TestEveryCallFails(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.EROFS} {
		for at := 0; ; at++ {
			mem := vfs.NewMem()
			if err := errors.Join(mem.Mkdir("/d1"), mem.SyncDir("/")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := initialize(memMount{mem}, "/d1", owner, "d1", false); err != nil {
				t.Fatal(err)
			}
			disk := vfs.FailAt(mem, -1)
			s, err := Open(Config{Root: "/", Names: []string{"d1"}, Owner: owner, FS: mem, Mount: func(string) (Mount, error) { return memMount{disk}, nil }})
			if err != nil {
				t.Fatal(err)
			}
			d := s.find("d1")
			if err := d.Check(); err != nil {
				t.Fatal(err)
			}
			broken := vfs.FailAt(mem, at, vfs.FaultForever(), vfs.FaultError(cause))
			d.mount = memMount{broken}
			d.pass()
			if (d.Check() == nil) == broken.Fired() {
				t.Fatalf("%v from call %d on, met %v: %v", cause, at, broken.Fired(), d.Check())
			}
			if !broken.Fired() {
				break
			}
			if err := d.Check(); !errors.Is(err, cause) && !errors.Is(err, errReadOnly) {
				t.Errorf("%v from call %d on: %v, want it said", cause, at, err)
			}
			d.pass()
			if err := d.Check(); err != nil {
				t.Errorf("%v from call %d on, then mended: %v", cause, at, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// full is a Mount on which there is no room for anything, once it is filled.
type full struct {
	Mount
	filled *atomic.Bool
}

func (f full) OpenFile(name string, flag int) (vfs.File, error) {
	file, err := f.Mount.OpenFile(name, flag)
	if err != nil || !f.filled.Load() {
		return file, err
	}
	return fullFile{file}, nil
}

type fullFile struct{ vfs.File }

func (fullFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }

// A full disk is no failed one.
func TestFull(t *testing.T) {
	var filled atomic.Bool
	n := newNode(t, func(c *Config) {
		c.Mount = func(folder string) (Mount, error) {
			r, err := vfs.OpenRoot(folder)
			return full{r, &filled}, err
		}
	})
	filled.Store(true)
	n.d.pass()
	if err := n.d.Check(); err != nil {
		t.Error(err)
	}
}

// hanging is a Mount that can be made to hang.
type hanging struct {
	Mount
	hang *atomic.Pointer[chan struct{}]
}

func (h hanging) OpenFile(name string, flag int) (vfs.File, error) {
	if c := h.hang.Load(); c != nil {
		<-*c
	}
	return h.Mount.OpenFile(name, flag)
}

// A disk that hangs is out of use, holds up nobody, and comes back.
func TestHangs(t *testing.T) {
	var hang atomic.Pointer[chan struct{}]
	n := newNode(t, func(c *Config) {
		c.Patience = 20 * time.Millisecond
		c.Mount = func(folder string) (Mount, error) {
			r, err := vfs.OpenRoot(folder)
			return hanging{r, &hang}, err
		}
	})
	until := make(chan struct{})
	hang.Store(&until)
	n.d.pass()
	if err := n.d.Check(); !errors.Is(err, errSilent) {
		t.Fatalf("%v, want that it does not answer", err)
	}
	for range 3 {
		n.d.pass() // begins nothing more
	}
	hang.Store(nil)
	close(until)
	deadline := time.After(10 * time.Second)
	for n.d.Check() != nil {
		n.d.pass()
		select {
		case <-deadline:
			t.Fatalf("it does not come back: %v", n.d.Check())
		default:
		}
	}
	if lines := n.errors(); len(lines) != 1 {
		t.Errorf("the log says %q, want one line", lines)
	}
}

// A device is looked at for errors that may be its fault, and for no others.
func TestBlame(t *testing.T) {
	n := newNode(t, func(*Config) {})
	for kind, wanted := range map[errs.Kind]int{errs.NotFound: 0, errs.NoSpace: 0, errs.Other: 1, errs.BadDevice: 1, errs.Corrupt: 1} {
		n.set.Blame("d1", errs.E(kind, "broken"))
		if got := len(n.d.suspected); got != wanted {
			t.Errorf("after an error of kind %v %d checks are to come, want %d", kind, got, wanted)
		}
		for len(n.d.suspected) > 0 {
			<-n.d.suspected
		}
	}
}

// Watch notices by itself, and at once where a device is suspected.
func TestWatch(t *testing.T) {
	for name, interval := range map[string]time.Duration{"in time": 5 * time.Millisecond, "suspected": time.Hour} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, func(c *Config) { c.Interval = interval })
			ctx, end := context.WithCancelCause(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- n.set.Watch(ctx) }()
			n.move(t, "d1", "away")
			n.set.Suspect("d1")
			n.set.Suspect("stranger")
			deadline := time.After(10 * time.Second)
			for n.d.Check() == nil {
				select {
				case <-deadline:
					t.Fatal("nobody notices that the device is gone")
				case <-time.After(time.Millisecond):
				}
			}
			why := errors.New("the end")
			end(why)
			if err := <-ended; !errors.Is(err, why) {
				t.Errorf("Watch returned %v, want why its context ended", err)
			}
		})
	}
}

func TestRoom(t *testing.T) {
	n := newNode(t, nil)
	u, err := vfs.OS.Usage(n.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.d.Room(u.Available); !errs.Is(err, errs.NoSpace) {
		t.Errorf("all that there is: %v, want that there is no room", err)
	}
	if err := n.d.Room(-u.Total); err != nil {
		t.Errorf("nothing: %v", err)
	}
	n.move(t, "d1", "away")
	n.d.pass()
	if err := n.d.Room(0); !errs.Is(err, errs.BadDevice) {
		t.Errorf("a device that is gone: %v, want a bad device", err)
	}
}

// looking counts how often it is asked how full it is, of which it says what it is told to.
type looking struct {
	vfs.FS
	free  int64 // of 100 GiB
	looks int
}

func (l *looking) Usage(string) (vfs.Usage, error) {
	l.looks++
	return vfs.Usage{Total: 100 << 30, Free: l.free, Available: l.free}, nil
}

// Where there is plenty of room a device is not looked at for each row, but at once where it is
// another one, and each time where little is left.
func TestRoomIsNotLookedAtEachTime(t *testing.T) {
	const gib = 1 << 30
	synctest.Test(t, func(t *testing.T) {
		d := newDevice("/srv", "d1")
		attach := func(l *looking) *looking {
			var fs vfs.FS = l
			d.fs.Store(&fs)
			return l
		}
		ask := func(l *looking, times, looks int, kind errs.Kind) {
			t.Helper()
			l.looks = 0
			for range times {
				if err := d.Room(0); (err == nil) != (kind == errs.Other) || err != nil && !errs.Is(err, kind) {
					t.Fatalf("%d GiB left: %v, want kind %v", l.free/gib, err, kind)
				}
			}
			if l.looks != looks {
				t.Errorf("%d GiB left: looked %d times for %d, want %d", l.free/gib, l.looks, times, looks)
			}
		}
		plenty := attach(&looking{free: 50 * gib})
		ask(plenty, 10, 1, errs.Other)
		ask(attach(&looking{}), 3, 3, errs.NoSpace)
		ask(attach(&looking{free: gib + 4096}), 3, 3, errs.Other)
		ask(attach(plenty), 10, 1, errs.Other)
		time.Sleep(time.Second) // in a bubble: nobody waits
		plenty.free = 0
		ask(plenty, 2, 2, errs.NoSpace)
	})
}
