package objects

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

const (
	// maxAsked and maxTaken bound how many questions a device answers and how many requests
	// of many pushes it takes at one time: each takes some times as much memory as it is long,
	// and one whose disk hangs keeps its own places.
	maxAsked, maxTaken = 4, 8

	// together is how many pushes of those that came together are taken at one time by all
	// devices of a node, each of which has an equal share. They share its syncs: the more, the
	// less each costs. But each has a buffer of its own meanwhile, and the other half of the
	// buffers are for clients.
	together = 120
)

// turn waits for a place.
func turn(ctx context.Context, places chan struct{}) (leave func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, errs.E(errs.Aborted, context.Cause(ctx))
	}
}

// octets is the answer that an encoded list is.
func octets(body []byte) *backend.Response {
	return &backend.Response{
		Status: 200, Length: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		Header: backend.Header{{Name: backend.ContentType, Value: "application/octet-stream"}},
	}
}

// garbled is the error of a body that can't be taken.
func garbled(err error) error {
	if errors.Is(err, replwire.ErrList) {
		return errs.E(errs.Invalid, errs.Public(err.Error()), err)
	}
	return err
}

// compare answers a question: which parts of it differ from what is here. It answers as
// many as it can within listTime.
func (o *Objects) compare(ctx context.Context, store Store, p policy.Index, c *replicator.Call) (*backend.Response, error) {
	leave, err := turn(ctx, o.asked[c.Device])
	if err != nil {
		return nil, err
	}
	defer leave()
	asked, err := replwire.Read(c.Body)
	var q replwire.Question
	if err == nil {
		q, err = replwire.ParseQuestion(asked)
	}
	if err != nil {
		return nil, garbled(err)
	}
	ranges := make([]name.Range, len(q.Parts))
	for i := range ranges {
		ranges[i] = q.Parts[i].Range
	}
	var a replwire.Answer
	r := o.Ring(p)
	last, strange := ring.Partition(0), false
	began := time.Now()
	for here, err := range store.Ranges(ctx, p, ranges, q.Before) {
		if err != nil {
			return nil, err // what is left out would look as if it were the same
		}
		if here.Sum != q.Parts[a.Answered].Sum {
			a.Differ = append(a.Differ, replwire.Difference{At: a.Answered, Sum: here.Sum, Objects: here.Objects})
		}
		if at := r.Partition(here.Range.First()); a.Answered == 0 || at != last {
			_, strange = replicator.Others(r, at, c.Device, o.Self)
			last = at
		}
		if strange {
			a.Strange = append(a.Strange, a.Answered)
		}
		if a.Answered++; time.Since(began) > listTime {
			break
		}
	}
	return octets(a.Append(nil, asked, len(q.Parts))), nil
}

// takeMany takes many pushes side by side, those of one name one after the other, and says
// of each what has become of it: what merge would, if it had come alone.
func (o *Objects) takeMany(ctx context.Context, store Store, p policy.Index, c *replicator.Call) (*backend.Response, error) {
	leave, err := turn(ctx, o.taken[c.Device])
	if err != nil {
		return nil, err
	}
	defer leave()
	body := make([]byte, c.Length)
	if _, err := io.ReadFull(c.Body, body); err != nil {
		return nil, errs.E(errs.Op("objects.take"), errs.Aborted, err)
	}
	list, err := replwire.ParsePushes(body)
	if err != nil {
		return nil, garbled(err)
	}
	m := many{Objects: o, store: store, policy: p, call: c, list: list, results: make([]replwire.Result, len(list)), primary: map[uint32]bool{}}
	m.ask() // before anything is taken: see replicator.Guard
	var workers sync.WaitGroup
	next := make(chan [2]int)
	for range min(together, len(list)) {
		workers.Go(func() {
			for some := range next {
				m.take(ctx, some[0], some[1])
			}
		})
	}
	for from := 0; from < len(list); {
		to := from + 1
		for to < len(list) && list[to].Path == list[from].Path {
			to++
		}
		select {
		case next <- [2]int{from, to}:
		case <-ctx.Done(): // those who take are waited for, and nobody waits for what they say
			close(next)
			workers.Wait()
			return nil, errs.E(errs.Op("objects.take"), errs.Aborted, context.Cause(ctx))
		}
		from = to
	}
	close(next)
	workers.Wait()
	return octets(replwire.AppendResults(nil, m.results)), nil
}

// many is pushes that came together.
type many struct {
	*Objects
	store   Store
	policy  policy.Index
	call    *replicator.Call
	list    []replwire.Push
	results []replwire.Result
	primary map[uint32]bool // by partition
}

// ask finds out of which partitions the device is a primary.
func (m *many) ask() {
	for i := range m.list {
		x := &m.list[i]
		if _, known := m.primary[x.Partition]; known {
			continue
		}
		one, err := m.call.Alone(x)
		m.primary[x.Partition] = err == nil && m.Primary(one)
	}
}

// take takes some of the pushes, one after the other.
func (m *many) take(ctx context.Context, from, to int) {
	turns := m.turns[m.call.Device]
	for i := from; i < to; i++ {
		x := &m.list[i]
		leave, err := turn(ctx, turns)
		if err != nil {
			m.results[i] = replwire.Result{Status: 503, Text: "it was not its turn in time"}
			continue
		}
		resp := httpapi.Part(ctx, backend.HandlerFunc(func(ctx context.Context, _ *backend.Request) (*backend.Response, error) {
			one, err := m.call.Alone(x)
			if err != nil {
				return nil, err
			}
			return m.merge(ctx, m.store, m.policy, one)
		}), &backend.Request{Method: x.Method, Path: backend.Target{Device: m.call.Device, Partition: x.Partition, Path: x.Path}.Quoted(), Header: m.call.Header}, m.Log)
		leave()
		m.results[i] = replwire.Result{Status: resp.Status, Primary: m.primary[x.Partition], Text: textOf(resp)}
	}
}

// textOf is what an answer says of why something was not taken.
func textOf(resp *backend.Response) string {
	if resp.Body == nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }() // it was only read from
	if resp.Status < 400 {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // it is only for a report
	return string(text)
}
