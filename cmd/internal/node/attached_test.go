package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"martlet/internal/device"
)

// A device is looked through when the process begins, when it comes later and when it comes back, and not while it is out of use.
func TestDevicesAreLookedThroughWhenAttached(t *testing.T) {
	root, owner := t.TempDir(), device.Owner{Cluster: "c", Fingerprint: "f"}
	for _, name := range []string{"d1", "d2"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o750); err != nil {
			t.Fatal(err)
		}
		if _, _, err := device.Init(filepath.Join(root, name), owner, name, false); err != nil {
			t.Fatal(err)
		}
	}
	take := func(from, to string) {
		if err := os.Rename(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
			t.Fatal(err)
		}
	}
	take("d2", "away")
	set, err := device.Open(device.Config{Root: root, Names: []string{"d1", "d2"}, Interval: 5 * time.Millisecond, Patience: time.Minute, Owner: owner, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	var (
		mu    sync.Mutex
		looks = map[string]int{}
	)
	s := &Storage{process: process{log: slog.New(slog.DiscardHandler)}, owned: set}
	s.beside("device watch", set.Watch)
	s.whenAttached(set, "something", func(_ context.Context, name string) error {
		if d, err := set.Lookup(name); err != nil || d.Check() != nil {
			t.Errorf("%s is looked through while it is out of use", name)
		}
		mu.Lock()
		defer mu.Unlock()
		looks[name]++
		return errors.New("it is looked through again all the same")
	})
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, l := range s.loops {
		all.Go(func() { _ = l.run(ctx) }) // it says that it was stopped
	}
	defer all.Wait()
	defer stop()
	want := func(when string, d1, d2 int) {
		t.Helper()
		got := [2]int{}
		for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(time.Millisecond) {
			mu.Lock()
			got = [2]int{looks["d1"], looks["d2"]}
			mu.Unlock()
			if got == [2]int{d1, d2} {
				return
			}
		}
		t.Fatalf("%s: looked through %v times, want %d and %d", when, got, d1, d2)
	}
	out := func(name string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
			if _, err := set.Lookup(name); err != nil {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s is still in use", name)
			}
		}
	}
	want("at the start", 1, 0)
	take("away", "d2")
	want("when the other has come", 1, 1)
	take("d1", "away")
	out("d1")
	take("away", "d1")
	want("when the first is back", 2, 1)
}
