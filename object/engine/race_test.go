package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
)

// All goes on at once while the disk goes and comes back, another one is there for a while,
// the index fails, and the store is closed: what was acknowledged is on the disk that it
// was written to.
func TestEverythingAtOnceWhileDisksCome(t *testing.T) {
	disks := map[string]*vfs.Mem{"first": vfs.NewMem(), "second": vfs.NewMem()}
	cfg := smallConfig(disks["first"])
	e := New("/", cfg)
	e.Follow(device.Change{FS: disks["first"], Disk: "first", Fresh: true})
	var stop atomic.Bool
	var wg sync.WaitGroup
	acceptable := func(what string, err error) {
		if err != nil && !errs.Is(err, errs.BadDevice) && !errs.Is(err, errs.Stale) && !errs.Is(err, errs.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	const workers = 4
	var done atomic.Int64
	acked := [workers]map[*store]int64{} // the latest time that was acknowledged, by the store that was pinned
	for i := range workers {
		acked[i] = map[*store]int64{}
		wg.Go(func() {
			l := worldName(i)
			r := rand.New(rand.NewPCG(uint64(i), 4))
			for n := int64(1); !stop.Load(); n++ {
				p := e.Pinned()
				var err error
				if r.IntN(5) == 0 {
					err = put(p, l, ts(n), bytes.Repeat([]byte{byte(n)}, largeBody), "x", Terms{Merge: true})
				} else {
					err = put(p, l, ts(n), fmt.Append(nil, n), "x", Terms{Merge: true})
				}
				acceptable("put", err)
				if err == nil {
					acked[i][p.now()] = n
					done.Add(1)
				}
				_, _, err = get(e, worldName(r.IntN(workers)))
				acceptable("get", err)
			}
		})
	}
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			switch i % 5 {
			case 0:
				acceptable("compact", e.Compact(ctx, ts(0), nil))
			case 1:
				acceptable("checkpoint", e.Checkpoint(ctx))
			case 2:
				acceptable("scrub", e.Scrub(ctx, time.Now().Add(time.Hour), nil))
			case 3:
				acceptable("sweep", e.Sweep(ctx))
			case 4:
				for _, err := range e.Walk(ctx, 0, worldName(0).Hash, lastHash()) {
					acceptable("walk", err)
				}
			}
		}
	})
	keep, end := context.WithCancel(ctx)
	wg.Go(func() { _ = e.Keep(keep) })
	diskOf := map[*store]string{e.now(): "first"}
	for i := 0; i < 24 || done.Load() < 4*workers; i++ { // on a busy machine it is a while until they run
		// Something is done with each.
		acceptable("delete", del(e, worldName(9), int64(100+i), Terms{Merge: true}))
		switch i % 3 {
		case 0:
			name := [...]string{"first", "second"}[i/3%2]
			e.Follow(device.Change{FS: disks[name], Disk: name, Fresh: i%2 == 0})
			diskOf[e.now()] = name
		case 1:
			if d, err := e.now().open(ctx); err == nil {
				name := diskOf[d.store]
				_ = d.indexFailed(errs.E([]errs.Kind{errs.Corrupt, errs.BadDevice}[i%2], errors.New("said to be damaged")))
				diskOf[e.now()] = name
			}
		case 2:
			e.Follow(device.Change{FS: vfs.Absent})
		}
	}
	e.Follow(device.Change{FS: disks["first"], Disk: "first"})
	diskOf[e.now()] = "first"
	stop.Store(true)
	if err := e.Close(); err != nil && !errs.Is(err, errs.BadDevice) {
		t.Error(err)
	}
	end()
	wg.Wait()
	if _, err := e.Stat(ctx, worldName(0)); !errs.Is(err, errs.BadDevice) {
		t.Errorf("a closed engine says %v", err)
	}
	some := 0
	for name, disk := range disks {
		again := New("/", smallConfig(disk))
		for i := range workers {
			least := int64(0)
			for s, n := range acked[i] {
				if diskOf[s] == name {
					least = max(least, n)
				}
			}
			if least == 0 {
				continue
			}
			some++
			s, body, err := get(again, worldName(i))
			if err != nil || s.Time.Before(ts(least)) || sum(body) != s.MD5 {
				t.Errorf("on the %s disk %v is %s, %v, and was acknowledged at %d", name, worldName(i), show(s), err, least)
			}
		}
		if _, err := look(again); err != nil {
			t.Error(err)
		}
	}
	if some == 0 {
		t.Error("nothing was acknowledged")
	}
}

// With memory for one request at a time, whatever fails gives back what it had.
func TestBuffersComeBack(t *testing.T) {
	broken := errors.New("the client is gone")
	for n, fired := 0, true; fired; n++ {
		disk := vfs.NewMem()
		faulty := vfs.FailAt(disk, n)
		cfg := smallConfig(faulty)
		cfg.Buffers = blob.NewGuarded(0)
		e := New("/", cfg)
		for i, size := range []int{100, largeBody, 300_000} {
			body := make([]byte, size)
			for _, create := range []func() (*Writer, error){
				func() (*Writer, error) { return e.Create(ctx, at(byte(i)), int64(size)) },
				func() (*Writer, error) { return e.Create(ctx, at(byte(i)), -1) },
				func() (*Writer, error) { return e.CreateAbout(ctx, at(byte(i)), 400_000) },
			} {
				w, err := create()
				if err != nil {
					continue
				}
				_, _ = w.ReadFrom(io.MultiReader(bytes.NewReader(body[:size/2]), errReader{broken}))
				_, _ = w.Commit(Version{Time: ts(9), Name: path3(at(1))}, Terms{})
				if err := w.Close(); err != nil && !errs.Is(err, errs.BadDevice) {
					t.Fatal(err)
				}
				if w, err = create(); err == nil {
					_, _ = w.Write(body)
					_, _ = w.Write(body)
					_ = w.Close()
				}
			}
			_ = put(e, at(byte(i)), ts(1), body, "x", Terms{})
			_ = put(e, at(byte(i)), ts(1), body, "x", Terms{}) // stale
			_, _, _ = get(e, at(byte(i)))
			settled(e)
		}
		fired = faulty.Fired()
		short, end := context.WithCancel(ctx)
		end() // nothing is waited for
		for _, size := range []int64{1, blob.SmallMax} {
			some, err := cfg.Buffers.Take(short, size)
			if err != nil {
				t.Fatalf("fault %d: %v", n, err)
			}
			cfg.Buffers.Give(some)
		}
		// A large upload has all there is.
		if w, err := blob.Create(short, vfs.NewMem(), "/", 300_000, cfg.Buffers); err != nil {
			t.Fatalf("fault %d: %v", n, err)
		} else if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
