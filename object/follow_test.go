package object

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/object/engine"
	"martlet/object/pending"
)

// The stores of a device that is gone write nothing where it was, and serve what is
// there when it is back; also one that was missing at the start.
func TestStoresFollow(t *testing.T) {
	root, owner := t.TempDir(), device.Owner{Cluster: "c", Fingerprint: "f"}
	folder, away := filepath.Join(root, "d1"), filepath.Join(root, "away")
	if err := os.Mkdir(away, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, _, err := device.Init(away, owner, "d1", false); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o750); err != nil {
		t.Fatal(err)
	}
	set, err := device.Open(device.Config{Root: root, Names: []string{"d1"}, Owner: owner, Interval: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	ended := make(chan struct{})
	ctx := t.Context()
	stores := OpenStores(set, engine.Defaults(), nil)
	s := stores["d1"]
	watch, end := context.WithCancel(ctx)
	defer func() { end(); <-ended }()
	go func() {
		defer close(ended)
		_ = set.Watch(watch)
	}()
	until := func(up bool) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			if _, err := set.Lookup("d1"); (err == nil) == up {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("the device does not become usable: %v", up)
			case <-time.After(time.Millisecond):
			}
		}
	}

	path := name.Path{Account: "a", Container: "c", Object: "o"}
	stamp := timestamp.FromTicks(100)
	remove := func(n byte) error {
		at := engine.Location{}
		at.Hash[0] = n
		_, err := s.Engine.Delete(ctx, at, path, stamp, engine.Terms{})
		return err
	}
	queue := func(n byte) error {
		u := pending.Update{Method: "PUT", Path: path, Header: backend.Header{}, Data: stamp, ContentType: stamp, Meta: stamp}
		u.Hash[0] = n
		return s.Queue.Put(ctx, u)
	}
	queued := func() (n int) {
		for _, err := range s.Queue.All(ctx) {
			if err != nil {
				t.Errorf("a queued update: %v", err)
			}
			n++
		}
		return n
	}
	gone := func(when string) {
		t.Helper()
		for what, err := range map[string]error{"delete": remove(9), "queue": queue(9), "sweep": s.Engine.Sweep(ctx)} {
			if !errs.Is(err, errs.BadDevice) {
				t.Errorf("%s, %s: %v, want a bad device", when, what, err)
			}
		}
		if _, err := s.Engine.Create(ctx, engine.Location{}, 1); !errs.Is(err, errs.BadDevice) {
			t.Errorf("%s, create: %v, want a bad device", when, err)
		}
		if n := queued(); n != 0 {
			t.Errorf("%s: %d updates are queued", when, n)
		}
		if list, err := os.ReadDir(folder); err != nil || len(list) != 0 {
			t.Errorf("%s the empty mount point has %v, %v", when, list, err)
		}
	}

	gone("missing at the start")
	if err := syscall.Rename(away, folder); err != nil {
		t.Fatal(err)
	}
	until(true)
	if err := errors.Join(remove(1), queue(1)); err != nil {
		t.Fatalf("a device that came: %v", err)
	}
	if err := errors.Join(syscall.Rename(folder, away), os.Mkdir(folder, 0o750)); err != nil {
		t.Fatal(err)
	}
	_, _ = remove(2), queue(2) // before it is noticed, or after
	until(false)
	gone("away")

	// Another disk takes its place: no folder is there that was there before.
	if _, _, err := device.Init(folder, owner, "d1", false); err != nil {
		t.Fatal(err)
	}
	until(true)
	if err := errors.Join(remove(1), queue(1)); err != nil {
		t.Errorf("a new disk: %v", err)
	}
	if n := queued(); n != 1 {
		t.Errorf("the new disk has %d updates queued, want 1", n)
	}
}
