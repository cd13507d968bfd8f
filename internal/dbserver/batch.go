package dbserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/rowbatch"
)

// together is how many updates of one batch are made at a time. Those of one
// device share its syncs, so more is cheaper, up to where a sync is full.
const together = 64

// Batch answers a request of package rowbatch: row answers each update in it as
// it would one that came alone. What can't be read is of kind errs.Invalid, and
// nothing of it is done. Updates that are late go on by themselves, until Close.
func (c *Core) Batch(ctx context.Context, r *backend.Request, row backend.HandlerFunc) (*backend.Response, error) {
	const op errs.Op = "rows.batch"
	if r.Method != rowbatch.Method || r.Path != rowbatch.Path {
		return nil, errs.E(op, errs.Method)
	}
	body, err := rowbatch.Read(r.Body, r.Length)
	var batch rowbatch.Batch
	if err == nil {
		batch, err = rowbatch.Parse(body)
	}
	if errors.Is(err, rowbatch.ErrFormat) {
		return nil, errs.E(op, errs.Invalid, errs.Public(err.Error()))
	}
	if err != nil {
		return nil, errs.E(op, err)
	}
	results, err := c.apply(ctx, r, batch, row)
	if err != nil {
		return nil, errs.E(op, err)
	}
	b, err := rowbatch.AppendResults(nil, results)
	if err != nil {
		return nil, errs.E(op, err)
	}
	return &backend.Response{
		Status: http.StatusOK, Header: backend.Header{{Name: backend.ContentType, Value: rowbatch.Type}},
		Length: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b)),
	}, nil
}

// Rows answers an update that came in a batch, which is of a row and nothing else: isRow says
// so of its path, and what names what a path must be, as in "a container".
func (c *Core) Rows(what string, isRow func(name.Path) bool, serve func(context.Context, *Call) (*backend.Response, error)) backend.HandlerFunc {
	return func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		call, err := c.Parse(r)
		if err == nil && !isRow(call.Target.Path) {
			err = errs.Refuse(errs.Invalid, "the path is not that of %s", what)
		}
		if err != nil {
			return nil, err
		}
		return serve(ctx, &call)
	}
}

// applying is a batch whose updates are being made.
type applying struct {
	updates []rowbatch.Update
	each    func(*rowbatch.Update) rowbatch.Result

	mu      sync.Mutex
	begun   int // how many are, in their order; guarded by mu
	left    int // how many are not done; guarded by mu
	over    bool
	results []rowbatch.Result // the status is 0 of what is not done; guarded by mu
	done    chan struct{}     // closed when nothing is left
}

// apply makes the updates of a batch, and waits for them as long as the batch says.
func (c *Core) apply(ctx context.Context, r *backend.Request, batch rowbatch.Batch, row backend.HandlerFunc) ([]rowbatch.Result, error) {
	// An update that is under way when the peer leaves is made all the same.
	detached := context.WithoutCancel(ctx)
	a := &applying{
		updates: batch.Updates, left: len(batch.Updates), results: make([]rowbatch.Result, len(batch.Updates)), done: make(chan struct{}),
		each: func(u *rowbatch.Update) rowbatch.Result {
			one := &backend.Request{Method: u.Method, Path: u.Path, Header: u.Header, Remote: r.Remote}
			return result(httpapi.Part(detached, c.blaming(row), one, c.Log))
		},
	}
	for range min(together, len(batch.Updates)) {
		c.batches.Go(a.work)
	}
	var late <-chan time.Time
	if batch.Wait > 0 {
		t := time.NewTimer(batch.Wait)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-a.done:
	case <-late:
	case <-ctx.Done():
		a.end()
		return nil, errs.E(errs.Aborted, context.Cause(ctx))
	}
	return a.end(), nil
}

// work makes updates until none is left that nobody has begun.
func (a *applying) work() {
	for i := a.take(); i >= 0; i = a.take() {
		a.put(i, a.each(&a.updates[i]))
	}
}

func (a *applying) take() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over || a.begun == len(a.updates) {
		return -1
	}
	a.begun++
	return a.begun - 1
}

func (a *applying) put(i int, r rowbatch.Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.results[i] = r
	if a.left--; a.left == 0 {
		close(a.done)
	}
}

// end lets nothing more begin and returns what is known.
func (a *applying) end() []rowbatch.Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	results := append([]rowbatch.Result(nil), a.results...)
	for i := range results {
		if results[i].Status != 0 {
			continue
		}
		results[i] = rowbatch.Result{Status: http.StatusServiceUnavailable, Text: "not begun in time"}
		if i < a.begun {
			results[i] = rowbatch.Result{Status: http.StatusServiceUnavailable, Late: true, Text: "not done in time"}
		}
	}
	return results
}

// result is what an answer comes to.
func result(resp *backend.Response) rowbatch.Result {
	r := rowbatch.Result{Status: resp.Status}
	if resp.Body == nil {
		return r
	}
	defer func() { _ = resp.Body.Close() }() // it was only read from
	if resp.Status >= http.StatusBadRequest {
		const most = 200
		text, _ := io.ReadAll(io.LimitReader(resp.Body, most)) // it is only for the log
		r.Text = string(text)
	}
	return r
}

// blaming has the device of an update looked at that may be to blame for an error.
func (c *Core) blaming(h backend.HandlerFunc) backend.HandlerFunc {
	return func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		resp, err := h(ctx, r)
		if err != nil {
			if t, bad := backend.ParseTarget(r.Path); bad == nil {
				c.Devices.Blame(t.Device, err)
			}
		}
		return resp, err
	}
}
