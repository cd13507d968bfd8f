// Package load sends the operations of a benchmark, at as many hands as it is told, and
// measures them.
//
// Closed loop: each worker sends the next operation when the last was answered. So a
// server that stalls is asked less, and what would have been asked meanwhile is in no
// figure.
//
// Open loop: operations are due at a fixed rate whatever the server does, and a latency
// counts from when its operation was due, not from when a worker was free to send it. What
// was due and could not be sent by the end counts with the time that it has waited by
// then. So a stall of a second at 1,000/s is in the percentiles as a thousand operations
// of up to a second, not as one (no coordinated omission). Where a worker was there
// in time, and only this machine's timer woke it late, the latency counts from when
// it sent.
package load

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"martlet/cmd/internal/bench/work"
)

// An Outcome is what an operation came to.
type Outcome struct {
	Status  int    // 0 where there was no answer
	Bytes   int64  // of the object, or the listing, that were moved
	OK      bool   // it was answered as it should be
	Failure string // in a word or two, one of a few, why there was no answer
	Wrong   string // what is wrong with what was read; OK is false then
	Detail  string // for people, one example of its kind is kept
}

// A Load is how operations are sent.
type Load struct {
	Mix     work.Mix // only to know of which kind what was not sent would have been
	Workers int      // how many operations are under way at one time, at most
	Rate    float64  // operations a second, of all workers; closed loop where it is 0

	// It ends at the first of these; 0 is no limit.
	Duration   time.Duration
	Operations int64

	// Grace is how long what is under way at the end is waited for, before it is broken off.
	Grace time.Duration

	Next func(worker int) (work.Op, bool) // false: nothing is left for this worker
	Do   func(ctx context.Context, worker int, op work.Op) Outcome
	Done func(worker int, op work.Op, ok bool) // may be nil

	// Watch, where it is not nil, is told about once a second how far it is. It may not wait.
	Watch func(Progress)
}

// Progress is how far a load is.
type Progress struct {
	Elapsed    time.Duration
	Operations int64 // that were answered as they should be
	Bytes      int64
	Errors     int64
	Part       float64 // of the whole, 0 to 1; 0 where that is not known
}

// A Point is what was done up to a time since the beginning.
type Point struct {
	At         time.Duration
	Operations int64
	Bytes      int64
	Errors     int64
}

// Measured is what came of a load.
type Measured struct {
	Elapsed     time.Duration // until the last operation had ended
	Operations  [work.Kinds]Stats
	Series      []Point // about one each second, the last at the end
	Unsent      int64   // operations that were due by the end, and for which nobody was free
	Interrupted bool
}

// every is how often progress is told.
const every = time.Second

// maxPoints bounds the series: of longer loads every second point goes, again and again.
const maxPoints = 600

// running is a load that is under way.
type running struct {
	Load
	begin    time.Time
	deadline time.Time // zero where there is none
	tickets  atomic.Int64
	arrivals atomic.Int64
	shards   []*shard
	rates    []workerRates
	series   []Point
	stride   int
	skipped  int
}

// Run sends operations until the load is at its end, nothing is left to be done, or ctx
// ends. It returns when no goroutine of it is left.
func (l Load) Run(ctx context.Context) *Measured {
	r := &running{Load: l, begin: time.Now(), shards: newShards(l.Workers), rates: make([]workerRates, l.Workers), stride: 1}
	if l.Duration > 0 {
		r.deadline = r.begin.Add(l.Duration)
	}
	inner, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	ended := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { r.cutLate(ctx, ended, cut) })
	helpers.Go(func() { r.tell(ended) })
	var workers sync.WaitGroup
	for i := range l.Workers {
		workers.Go(func() { r.work(ctx, inner, i) })
	}
	workers.Wait()
	close(ended)
	helpers.Wait()
	return r.measured(ctx)
}

// cutLate breaks off what is under way when the time of grace is over.
func (r *running) cutLate(ctx context.Context, ended <-chan struct{}, cut func()) {
	over := make(<-chan time.Time)
	if !r.deadline.IsZero() {
		t := time.NewTimer(time.Until(r.deadline))
		defer t.Stop()
		over = t.C
	}
	select {
	case <-ended:
		return
	case <-ctx.Done():
	case <-over:
	}
	grace := time.NewTimer(r.Grace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		cut()
	}
}

// tell tells how far it is, and keeps the series.
func (r *running) tell(ended <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			r.point(true)
			return
		case <-tick.C:
			p := r.point(false)
			if r.Watch != nil {
				r.Watch(Progress{Elapsed: p.At, Operations: p.Operations, Bytes: p.Bytes, Errors: p.Errors, Part: r.part(p)})
			}
		}
	}
}

func (r *running) part(p Point) (part float64) {
	if r.Duration > 0 {
		part = float64(p.At) / float64(r.Duration)
	}
	if r.Operations > 0 {
		part = max(part, float64(p.Operations+p.Errors)/float64(r.Operations))
	}
	return min(part, 1)
}

// point adds what there is now to the series.
func (r *running) point(last bool) Point {
	p := Point{At: time.Since(r.begin)}
	for _, s := range r.shards {
		p.Operations += s.ok.Load()
		p.Bytes += s.bytes.Load()
		p.Errors += s.errors.Load()
	}
	if r.skipped++; r.skipped < r.stride && !last {
		return p
	}
	r.skipped = 0
	r.series = append(r.series, p)
	if len(r.series) >= maxPoints {
		kept := r.series[:0]
		for i, p := range r.series {
			if i%2 == 1 {
				kept = append(kept, p)
			}
		}
		r.series = kept
		r.stride *= 2
	}
	return p
}

// work is one worker. What it has begun it ends, in a context of its own.
func (r *running) work(ctx, inner context.Context, i int) {
	s := r.shards[i%len(r.shards)]
	rates := &r.rates[i]
	for {
		due, ok := r.turn(ctx)
		if !ok {
			return
		}
		op, ok := r.Next(i)
		if !ok {
			return
		}
		out := r.Do(inner, i, op)
		now := time.Now()
		if r.Done != nil {
			r.Done(i, op, out.OK)
		}
		rates.add(op.Kind, out, now.Sub(r.begin))
		s.add(op.Kind, out, now.Sub(due))
	}
}

// turn waits until there is something to be sent, and returns since when its latency
// counts; false at the end.
func (r *running) turn(ctx context.Context) (due time.Time, ok bool) {
	now := time.Now()
	if ctx.Err() != nil || r.over(now) {
		return now, false
	}
	if r.Operations > 0 && r.tickets.Add(1) > r.Operations {
		return now, false
	}
	if r.Rate <= 0 {
		return now, true
	}
	due = r.due(r.arrivals.Add(1) - 1)
	if r.over(due) {
		return now, false
	}
	if now.Before(due) {
		t := time.NewTimer(due.Sub(now))
		defer t.Stop()
		select {
		case <-ctx.Done():
			return now, false
		case <-t.C:
			due = time.Now() // it was free in time: how late the timer is, is no fault of the server
		}
	}
	return due, true
}

func (r *running) over(t time.Time) bool { return !r.deadline.IsZero() && !t.Before(r.deadline) }

// due is when the n-th operation of an open loop is, counted from 0.
func (r *running) due(n int64) time.Time {
	return r.begin.Add(time.Duration(float64(n) / r.Rate * float64(time.Second)))
}

// maxUnsent bounds how many latencies are worked out one by one of operations that were
// never sent.
const maxUnsent = 100_000

// unsent counts what was due by the end and never sent, with the time that it has waited by
// then for a latency: it would have been at least that.
func (r *running) unsent(end time.Time) int64 {
	if r.Rate <= 0 {
		return 0
	}
	if !r.deadline.IsZero() && r.deadline.Before(end) {
		end = r.deadline
	}
	all := int64(math.Ceil(end.Sub(r.begin).Seconds() * r.Rate))
	if r.Operations > 0 {
		all = min(all, r.Operations)
	}
	first := r.arrivals.Load()
	n := all - first
	if n <= 0 {
		return 0
	}
	step := (n + maxUnsent - 1) / maxUnsent
	for k := range work.Kind(work.Kinds) {
		share := r.Mix.Share(k)
		for at := int64(0); at < n && share > 0; at += step {
			count := min(step, n-at)
			// Of each kind its share, without a fraction being lost on the way.
			before, after := math.Round(float64(at)*share), math.Round(float64(at+count)*share)
			if c := int64(after - before); c > 0 {
				r.shards[0].waited(k, end.Sub(r.due(first+at)), c)
			}
		}
	}
	return n
}

func (r *running) measured(ctx context.Context) *Measured {
	m := &Measured{Elapsed: time.Since(r.begin), Series: r.series, Interrupted: ctx.Err() != nil}
	m.Unsent = r.unsent(time.Now())
	for k := range work.Kind(work.Kinds) {
		s := merge(r.shards, r.rates, k)
		if r.Rate > 0 {
			s.Rate, s.ByteRate = float64(s.OK)/m.Elapsed.Seconds(), float64(s.Bytes)/m.Elapsed.Seconds()
		}
		m.Operations[k] = s
	}
	return m
}
