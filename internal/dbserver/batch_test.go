package dbserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/rowbatch"
	"martlet/internal/vfs"
)

func newCore(t *testing.T) *Core {
	t.Helper()
	set, err := device.NewSet(vfs.NewMem(), "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &Core{Deps: Deps{Devices: set, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}}
	t.Cleanup(c.batches.Close)
	return c
}

func batch(t *testing.T, wait time.Duration, updates int) *backend.Request {
	t.Helper()
	b := rowbatch.Batch{Wait: wait}
	for i := range updates {
		b.Updates = append(b.Updates, rowbatch.Update{Method: "PUT", Path: fmt.Sprintf("/d%d/0/a/c/%d", i%2, i)})
	}
	body, err := b.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &backend.Request{Method: rowbatch.Method, Path: rowbatch.Path, Length: int64(len(body)), Body: bytes.NewReader(body)}
}

func send(t *testing.T, c *Core, r *backend.Request, updates int, row backend.HandlerFunc) []rowbatch.Result {
	t.Helper()
	resp, err := c.Batch(t.Context(), r, row)
	if err != nil {
		t.Fatal(err)
	}
	body, err := rowbatch.Read(resp.Body, resp.Length)
	if err != nil {
		t.Fatal(err)
	}
	results, err := rowbatch.ParseResults(body, updates)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestUpdatesAreMadeBesideEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCore(t)
		var now, most atomic.Int64
		results := send(t, c, batch(t, 0, 3*together), 3*together, func(context.Context, *backend.Request) (*backend.Response, error) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-time.After(time.Second)
			now.Add(-1)
			return &backend.Response{Status: 201}, nil
		})
		for i, r := range results {
			if r.Status != 201 {
				t.Errorf("update %d: %+v", i, r)
			}
		}
		if most.Load() != together {
			t.Errorf("%d at once, want %d", most.Load(), together)
		}
	})
}

// A device that hangs keeps back its own updates and no others.
func TestLateUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCore(t)
		hangs := make(chan struct{})
		var made atomic.Int64
		const updates = 10
		began := time.Now()
		results := send(t, c, batch(t, 300*time.Millisecond, updates), updates, func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Path[:3] == "/d1" {
				<-hangs
			}
			made.Add(1)
			return &backend.Response{Status: 201}, ctx.Err()
		})
		if took := time.Since(began); took != 300*time.Millisecond {
			t.Errorf("the answer took %v", took)
		}
		for i, r := range results {
			wanted := rowbatch.Result{Status: 201}
			if i%2 == 1 {
				wanted = rowbatch.Result{Status: 503, Late: true, Text: "not done in time"}
			}
			if r != wanted {
				t.Errorf("update %d: %+v, want %+v", i, r, wanted)
			}
		}
		close(hangs)
		c.batches.Close()
		if made.Load() != updates {
			t.Errorf("%d of %d updates were made in the end", made.Load(), updates)
		}
	})
}

// Where all that may be under way hangs, the rest is not begun, and not called late.
func TestWhatIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCore(t)
		hangs := make(chan struct{})
		var made atomic.Int64
		results := send(t, c, batch(t, time.Second, together+2), together+2, func(context.Context, *backend.Request) (*backend.Response, error) {
			<-hangs
			made.Add(1)
			return &backend.Response{Status: 201}, nil
		})
		for i, r := range results {
			if r.Status != 503 || r.Late != (i < together) {
				t.Errorf("update %d: %+v", i, r)
			}
		}
		close(hangs)
		c.batches.Close()
		if made.Load() != together {
			t.Errorf("%d were made, want %d", made.Load(), together)
		}
	})
}

func TestPeerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCore(t)
		ctx, leave := context.WithCancel(t.Context())
		hangs := make(chan struct{})
		var made atomic.Int64
		time.AfterFunc(time.Second, leave)
		_, err := c.Batch(ctx, batch(t, time.Minute, together+2), func(ctx context.Context, _ *backend.Request) (*backend.Response, error) {
			<-hangs
			made.Add(1)
			return &backend.Response{Status: 201}, ctx.Err()
		})
		if !errs.Is(err, errs.Aborted) {
			t.Errorf("the error is %v", err)
		}
		close(hangs)
		c.batches.Close()
		if made.Load() != together {
			t.Errorf("%d were made, want those that had begun, %d", made.Load(), together)
		}
	})
}

// A panic is an error of its own update.
func TestPanicInABatch(t *testing.T) {
	c := newCore(t)
	results := send(t, c, batch(t, 0, 3), 3, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		if r.Path == "/d1/0/a/c/1" {
			panic("a bug")
		}
		return nil, errs.Refuse(errs.Conflict, "not %s", r.Path)
	})
	for i, wanted := range []rowbatch.Result{{Status: 409, Text: "not /d0/0/a/c/0"}, {Status: 500}, {Status: 409, Text: "not /d0/0/a/c/2"}} {
		if results[i] != wanted {
			t.Errorf("update %d: %+v, want %+v", i, results[i], wanted)
		}
	}
}

func TestNoBatch(t *testing.T) {
	c := newCore(t)
	never := func(context.Context, *backend.Request) (*backend.Response, error) {
		t.Error("something was done")
		return nil, nil
	}
	for what, r := range map[string]*backend.Request{
		"another path": {Method: rowbatch.Method, Path: "/d/0/a/c"},
		"another verb": {Method: "PUT", Path: rowbatch.Path},
	} {
		if _, err := c.Batch(t.Context(), r, never); !errs.Is(err, errs.Method) {
			t.Errorf("%s: %v", what, err)
		}
	}
	broken := errs.E(errs.Aborted, "it went away")
	r := &backend.Request{Method: rowbatch.Method, Path: rowbatch.Path, Length: 9, Body: io.MultiReader(bytes.NewReader([]byte("MRB")), failing{broken})}
	if _, err := c.Batch(t.Context(), r, never); !errs.Is(err, errs.Aborted) {
		t.Errorf("a body that broke off: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
