package floor

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"martlet/cmd/internal/bench/load"
	"martlet/cmd/internal/bench/work"
	"martlet/internal/vfs"
)

// started runs servers until the test ends.
func started(t *testing.T, fs vfs.FS, o *Options) *Servers {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	address, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- serve(ctx, fs, o, func(a string) error {
			address <- a
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case a := <-address:
		return &Servers{PID: os.Getpid(), Address: a}
	case err := <-done:
		done <- err
		t.Fatalf("it does not serve: %v", err)
		return nil
	}
}

func options(t *testing.T, kind work.Kind, rows bool) Options {
	o := Defaults()
	o.Kind, o.Rows, o.Devices, o.Dir = kind, rows, 5, t.TempDir()
	return o
}

// What was answered is on three logs, with its rows on three more where they were asked for, and nothing besides.
func TestPut(t *testing.T) {
	for rows, want := range map[bool]int64{false: Replicas * (headSize + 4096), true: Replicas * (2*headSize + 4096)} {
		fs := vfs.Count(vfs.OS)
		o := options(t, work.Put, rows)
		s := started(t, fs, &o)
		h, err := newHand(t.Context(), &o, s.Address)
		if err != nil {
			t.Fatal(err)
		}
		for n := range int64(7) {
			before := fs.Counts()
			if out := h.do(t.Context(), work.Op{Kind: work.Put, Object: n}); !out.OK || out.Bytes != 4096 {
				t.Fatalf("rows %v: %+v", rows, out)
			}
			did := fs.Counts().Sub(before)
			if did.BytesWritten != want || did.Syncs < Replicas {
				t.Errorf("rows %v: %d bytes were written, with %d syncs, when it was answered, want %d", rows, did.BytesWritten, did.Syncs, want)
			}
		}
		if err := h.conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRun(t *testing.T) {
	for _, kind := range []work.Kind{work.Put, work.Get} {
		o := options(t, kind, true)
		o.Rounds, o.Duration, o.Warmup, o.Concurrency = 2, 100*time.Millisecond, 10*time.Millisecond, 8
		s := started(t, vfs.OS, &o)
		r, err := Run(t.Context(), o, s)
		if err != nil {
			t.Fatal(err)
		}
		if failed, _ := r.Failed(); failed > 0 || len(r.Rounds) != 2 || r.Rounds[1].Operations[0].OK == 0 || r.Rounds[1].Servers == nil {
			t.Errorf("floor of %v: %d failed: %+v", kind, failed, r.Rounds)
		}
	}
	if left, err := os.ReadDir(t.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A sync that fails is no answer.
func TestFailedSync(t *testing.T) {
	o := options(t, work.Put, false)
	put := func(fs vfs.FS) load.Outcome {
		h, err := newHand(t.Context(), &o, started(t, fs, &o).Address)
		if err != nil {
			t.Fatal(err)
		}
		return h.do(t.Context(), work.Op{Kind: work.Put})
	}
	whole := vfs.FailAt(vfs.OS, 1<<30)
	if out := put(whole); !out.OK {
		t.Fatalf("where nothing fails: %+v", out)
	}
	last := vfs.FailAt(vfs.OS, whole.Calls()-1)
	if out := put(last); !last.Fired() || out.OK || out.Failure == "" {
		t.Errorf("where the last sync fails: %+v", out)
	}
}

// Those who come at the same time share a sync, and each has its bytes in the file.
func TestGroupCommit(t *testing.T) {
	fs := vfs.Count(vfs.OS)
	l, err := openLog(fs, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 32, 20
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			me := newWaiter()
			for i := range each {
				if err := l.append(me, fmt.Appendf(nil, "%03d,%03d;", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	text := make([]byte, l.end)
	if _, err := l.file.ReadAt(text, 0); err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		last := -1
		for i := range each {
			at := bytes.Index(text, fmt.Appendf(nil, "%03d,%03d;", w, i))
			if at <= last {
				t.Errorf("append %d of writer %d is at %d, and the one before at %d", i, w, at, last)
			}
			last = at
		}
	}
	if n := fs.Counts().Syncs; n < each || n > writers*each {
		t.Errorf("%d syncs of %d appends by %d writers", n, writers*each, writers)
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"a kind":     func(o *Options) { o.Kind = work.Delete },
		"no bytes":   func(o *Options) { o.Size = 0 },
		"many bytes": func(o *Options) { o.Size = MaxSize + 1 },
		"clients":    func(o *Options) { o.Concurrency = 0 },
		"devices":    func(o *Options) { o.Devices = Replicas - 1 },
		"rounds":     func(o *Options) { o.Rounds = 0 },
		"duration":   func(o *Options) { o.Duration = 0 },
		"warm-up":    func(o *Options) { o.Warmup = -1 },
	} {
		o := options(t, work.Get, false)
		if err := o.Check(); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if o.Check() == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

// What is no message ends the connection, and nothing else.
func TestNoMessage(t *testing.T) {
	o := options(t, work.Get, false)
	s := started(t, vfs.OS, &o)
	for name, h := range map[string]head{
		"an operation that there is not": {op: 99},
		"a row from a client":            {op: opRow},
		"more than there is room for":    {op: opPut, size: MaxSize},
		"less than nothing":              {op: opGet, size: -1},
	} {
		c, err := net.Dial("tcp", s.Address)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, headSize)
		h.write(b)
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(b); err == nil {
			t.Errorf("%s was answered with %d bytes", name, n)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	h, err := newHand(t.Context(), &o, s.Address)
	if err != nil {
		t.Fatal(err)
	}
	var out load.Outcome
	if out = h.do(t.Context(), work.Op{Kind: work.Get}); !out.OK {
		t.Errorf("after that: %+v", out)
	}
}
