package metadb

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/vfs"
)

// openFiles are the files below a folder that this process has open.
func openFiles(t *testing.T, folder string) (all []string) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, folder) {
			all = append(all, to)
		}
	}
	return all
}

// watched returns a store over a device that comes and goes, and what polls until
// it can be used, or not.
func watched(t *testing.T, home Config) (s *Store, dev *device.Device, until func(up bool)) {
	t.Helper()
	root, owner := t.TempDir(), device.Owner{Cluster: "c", Fingerprint: "f"}
	if err := os.Mkdir(filepath.Join(root, "sda"), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, _, err := device.Init(filepath.Join(root, "sda"), owner, "sda", false); err != nil {
		t.Fatal(err)
	}
	set, err := device.Open(device.Config{Root: root, Names: []string{"sda"}, Owner: owner, Interval: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	s = New(with(home, Config{Log: quiet}), testSchema{}, set)
	t.Cleanup(s.Close)
	ended := make(chan struct{})
	t.Cleanup(func() { <-ended })
	go func() {
		defer close(ended)
		_ = set.Watch(t.Context())
	}()
	for dev = range set.All() {
	}
	var told atomic.Bool
	dev.Follow(func(c device.Change) { told.Store(c.FS != vfs.Absent) }) // after the store was
	return s, dev, func(up bool) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for (dev.Check() == nil) != up || told.Load() != up {
			select {
			case <-deadline:
				t.Fatalf("the device can be used: %v, want %v", dev.Check(), up)
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// A store lets go of a device that is out of use, writes nothing where it was, and
// reads what is there when it is back.
func TestDeviceGoesAndComes(t *testing.T) { homes(t, testDeviceGoesAndComes) }

func testDeviceGoesAndComes(t *testing.T, home Config) {
	s, dev, until := watched(t, home)
	info := Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}
	loc, other := Location{dev, hashOf(1)}, Location{dev, hashOf(2)}
	if err := s.Ensure(t.Context(), loc, info, nothing); err != nil {
		t.Fatal(err)
	}
	merge(t, s, loc, map[string][]byte{"row": live(5, 4)})

	away := dev.Path() + "-away"
	if err := errors.Join(syscall.Rename(dev.Path(), away), os.Mkdir(dev.Path(), 0o750)); err != nil {
		t.Fatal(err)
	}
	_ = s.Ensure(t.Context(), other, info, nothing) // before it is noticed, or after
	until(false)
	for what, err := range map[string]error{
		"view":   s.View(t.Context(), loc, nothing),
		"update": s.Update(t.Context(), loc, nothing),
		"ensure": s.Ensure(t.Context(), Location{dev, hashOf(3)}, info, nothing),
	} {
		if !errs.Is(err, errs.BadDevice) {
			t.Errorf("%s on a device that is gone: %v, want a bad device", what, err)
		}
	}
	if list, err := os.ReadDir(dev.Path()); err != nil || len(list) != 0 {
		t.Errorf("the empty mount point has %v, %v", list, err)
	}
	if left := openFiles(t, away); len(left) > 0 {
		t.Errorf("of a device that is out of use there are still open: %v", left)
	}

	if err := syscall.Rename(away, dev.Path()); err != nil {
		t.Fatal(err)
	}
	until(true)
	err := s.View(t.Context(), loc, func(tx *Tx) error {
		if stat, err := tx.Stat(0); err != nil || stat.Rows != 1 {
			t.Errorf("back: %+v, %v, want the row", stat, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := s.Ensure(t.Context(), Location{dev, hashOf(3)}, info, nothing); err != nil {
		t.Errorf("a new database on a device that is back: %v", err)
	}
}

// What uses a database while its device goes comes to its end, and the database is
// closed then.
func TestDeviceGoesUnderUse(t *testing.T) { homes(t, testDeviceGoesUnderUse) }

func testDeviceGoesUnderUse(t *testing.T, home Config) {
	s, dev, until := watched(t, home)
	loc := Location{dev, hashOf(1)}
	if err := s.Ensure(t.Context(), loc, Info{Path: name.Path{Account: "a"}, Created: at(1), Put: at(1)}, nothing); err != nil {
		t.Fatal(err)
	}
	away := dev.Path() + "-away"
	err := s.Update(t.Context(), loc, func(tx *Tx) error {
		if err := syscall.Rename(dev.Path(), away); err != nil {
			return err
		}
		until(false)
		_, err := tx.MergeRow(0, "row", live(5, 4))
		return err
	})
	rows := int64(1)
	if errs.Is(err, errs.BadDevice) && home.small >= 0 {
		rows = 0 // the shared file was let go of
	} else if err != nil {
		t.Errorf("an update that was under way: %v", err)
	}
	if left := openFiles(t, away); len(left) > 0 {
		t.Errorf("still open: %v", left)
	}
	if err := syscall.Rename(away, dev.Path()); err != nil {
		t.Fatal(err)
	}
	until(true)
	err = s.View(t.Context(), loc, func(tx *Tx) error {
		if stat, err := tx.Stat(0); err != nil || stat.Rows != rows {
			t.Errorf("back: %+v, %v, want %d rows", stat, err, rows)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
