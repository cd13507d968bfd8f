package bench

import (
	"context"
	"crypto/md5" // the ETag of the API
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"

	"martlet/cmd/internal/bench/body"
	"martlet/cmd/internal/bench/load"
	"martlet/cmd/internal/bench/swift"
	"martlet/cmd/internal/bench/work"
	"martlet/internal/backend"
)

// hand is what one worker sends with. It is for its goroutine.
type hand struct {
	sender     *swift.Sender
	set        body.Set
	containers []string // quoted
	verify     bool
	limit      int

	reader  body.Reader
	checker body.Checker
	sum     hash.Hash
	name    []byte
	put     backend.Header
	bytes   func([]byte) // takes what is read, where it is to be verified; bound once
}

func (r *run) newHand(i int) *hand {
	h := &hand{
		sender: r.client.Sender(i), set: r.set, containers: r.containers, verify: r.o.Verify, limit: r.o.Limit,
		sum: md5.New(), put: backend.Header{{Name: "Content-Type", Value: "application/octet-stream"}},
	}
	h.bytes = func(p []byte) {
		h.checker.Add(p)
		h.sum.Write(p)
	}
	return h
}

// do does an operation.
func (h *hand) do(ctx context.Context, op work.Op) load.Outcome {
	h.name = h.set.AppendName(h.name[:0], op.Object)
	container := h.containers[op.Object%int64(len(h.containers))]
	rq := swift.Request{Container: container, Object: string(h.name)}
	switch op.Kind {
	case work.Put:
		return h.store(ctx, rq, op.Object)
	case work.Get:
		return h.read(ctx, rq, op.Object)
	case work.Head:
		return h.head(ctx, rq, op.Object)
	case work.Delete:
		rq.Method = "DELETE"
		a, err := h.sender.Do(ctx, rq, nil)
		return h.outcome(rq, a, err, 204, 0)
	}
	rq = swift.Request{Method: "GET", Container: container, List: &swift.Listing{JSON: true, Limit: h.limit, Marker: string(h.name)}}
	a, err := h.sender.Do(ctx, rq, nil)
	return h.outcome(rq, a, err, 200, a.Bytes)
}

// outcome judges an answer by its status.
func (h *hand) outcome(rq swift.Request, a swift.Answer, err error, want int, bytes int64) load.Outcome {
	switch {
	case err != nil:
		return load.Outcome{Status: a.Status, Failure: swift.Why(err), Detail: told(rq) + ": " + err.Error()}
	case a.Status != want:
		return load.Outcome{Status: a.Status, Detail: told(rq) + ": answered with " + strconv.Itoa(a.Status)}
	}
	return load.Outcome{Status: a.Status, Bytes: bytes, OK: true}
}

// wrong is an outcome that was answered well, and not with what was written.
func wrong(out load.Outcome, rq swift.Request, format string, args ...any) load.Outcome {
	return load.Outcome{Status: out.Status, Wrong: told(rq) + ": " + fmt.Sprintf(format, args...)}
}

func told(rq swift.Request) string {
	text := rq.Method + " " + rq.Container
	if rq.Object != "" {
		text += "/" + rq.Object
	}
	return text
}

// etag is the MD5 of an object, as it has to be.
func (h *hand) etag(n, size int64) string {
	h.sum.Reset()
	h.reader.Reset(h.set, n, size)
	_, _ = h.reader.WriteTo(h.sum) // neither of them fails
	return hex.EncodeToString(h.sum.Sum(nil))
}

func (h *hand) store(ctx context.Context, rq swift.Request, n int64) load.Outcome {
	size := h.set.Size(n)
	rq.Method, rq.Length, rq.Header = "PUT", size, h.put[:1]
	etag := ""
	if h.verify {
		etag = h.etag(n, size)
		rq.Header = append(rq.Header, backend.Field{Name: backend.ETag, Value: etag})
	}
	h.reader.Reset(h.set, n, size)
	rq.Body = &h.reader
	a, err := h.sender.Do(ctx, rq, nil)
	out := h.outcome(rq, a, err, 201, size)
	if out.OK && h.verify && a.ETag != etag {
		return wrong(out, rq, "its ETag is %q, and that of what was sent %q", a.ETag, etag)
	}
	return out
}

func (h *hand) read(ctx context.Context, rq swift.Request, n int64) load.Outcome {
	size := h.set.Size(n)
	rq.Method = "GET"
	var each func([]byte)
	if h.verify {
		h.sum.Reset()
		h.checker.Reset(h.set, n, size)
		each = h.bytes
	}
	a, err := h.sender.Do(ctx, rq, each)
	out := h.outcome(rq, a, err, 200, a.Bytes)
	switch {
	case !out.OK:
	case h.verify && h.checker.Wrong() != "":
		return wrong(out, rq, "%s", h.checker.Wrong())
	case a.Bytes != size:
		return wrong(out, rq, "%d bytes of the %d that it has", a.Bytes, size)
	case h.verify && a.ETag != hex.EncodeToString(h.sum.Sum(nil)):
		return wrong(out, rq, "the ETag %q is not that of its bytes", a.ETag)
	}
	return out
}

func (h *hand) head(ctx context.Context, rq swift.Request, n int64) load.Outcome {
	size := h.set.Size(n)
	rq.Method = "HEAD"
	a, err := h.sender.Do(ctx, rq, nil)
	out := h.outcome(rq, a, err, 200, 0)
	switch {
	case !out.OK:
	case a.Length != size:
		return wrong(out, rq, "it says %d bytes, and has %d", a.Length, size)
	case h.verify && a.ETag != h.etag(n, size):
		return wrong(out, rq, "the ETag %q is not that of its bytes", a.ETag)
	}
	return out
}
