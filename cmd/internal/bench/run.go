package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"martlet/cmd/internal/bench/body"
	"martlet/cmd/internal/bench/load"
	"martlet/cmd/internal/bench/procs"
	"martlet/cmd/internal/bench/report"
	"martlet/cmd/internal/bench/result"
	"martlet/cmd/internal/bench/swift"
	"martlet/cmd/internal/bench/work"
	"martlet/internal/backend"
)

// run is a benchmark under way.
type run struct {
	o          *Options
	client     *swift.Client
	set        body.Set
	containers []string // quoted
	made       bool     // some of them, by this run
	hands      []*hand
}

// Run makes a benchmark. Where ctx ends while a round is measured the report has what there is; nothing
// more is measured, and what was made is taken away all the same. Where that fails there is a
// report and an error.
func Run(ctx context.Context, o Options) (r *result.Report, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Servers != nil {
		if _, err := o.Servers(); err != nil {
			return nil, err
		}
	}
	client, err := swift.Open(ctx, o.Credentials, swift.Options{Endpoints: o.Endpoints, Connections: o.Concurrency, Timeout: o.Timeout, Agent: "martlet-bench"})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	b := &run{o: &o, client: client, set: body.Set{Seed: o.Seed, Sizes: o.Sizes}}
	for i := range o.Containers {
		b.containers = append(b.containers, swift.Quote(Prefix+o.Name+"-"+strconv.Itoa(i)))
	}
	for i := range o.Concurrency {
		b.hands = append(b.hands, b.newHand(i))
	}
	defer func() {
		if b.made && !o.Keep {
			err = errors.Join(err, b.leave(ctx))
		}
	}()
	if err := b.makeContainers(ctx); err != nil {
		return nil, err
	}
	return b.rounds(ctx)
}

// leave takes away what was made, also after an interruption: the next one ends the process.
func (r *run) leave(ctx context.Context) error {
	if ctx.Err() != nil {
		r.o.say("what was made is taken away; interrupted again, it stays: martlet bench cleanup --name %s", r.o.Name)
	}
	_, err := cleanup(context.WithoutCancel(ctx), r.client, r.o.Name, r.o.Concurrency, r.o.doing)
	if err != nil {
		return fmt.Errorf("clean-up: %w; martlet bench cleanup --name %s takes away the rest", err, r.o.Name)
	}
	return nil
}

// makeContainers makes them, or looks whether they are there.
func (r *run) makeContainers(ctx context.Context) error {
	r.o.doing("containers are made")
	sender := r.client.Sender(0)
	for _, c := range r.containers {
		rq := swift.Request{Method: "PUT", Container: c}
		if r.o.Policy != "" {
			rq.Header = backend.Header{{Name: "X-Storage-Policy", Value: r.o.Policy}}
		}
		if r.o.Filled {
			rq = swift.Request{Method: "HEAD", Container: c}
		}
		a, err := sender.Do(ctx, rq, nil)
		switch {
		case err != nil:
			return fmt.Errorf("container %s: %w", c, err)
		case r.o.Filled && a.Status/100 == 2:
		case r.o.Filled:
			return fmt.Errorf("container %s: answered with %d: --filled wants what an earlier run with --keep and --name %s has left", c, a.Status, r.o.Name)
		case a.Status == 202:
			return fmt.Errorf("container %s is there already: use another --name, or martlet bench cleanup --name %s", c, r.o.Name)
		case a.Status != 201:
			return fmt.Errorf("container %s: answered with %d", c, a.Status)
		default:
			r.made = true
		}
	}
	return nil
}

// rounds makes all rounds.
func (r *run) rounds(ctx context.Context) (*result.Report, error) {
	report := r.newReport()
	deletesAll := r.o.Mix.Share(work.Delete) == 1
	objects := work.New(r.o.plan(0))
	for n := range r.o.Rounds {
		first := int64(0)
		if deletesAll {
			first = int64(n) * r.o.Objects
			objects = work.New(r.o.plan(first)) // the others are gone
		}
		if r.o.fills() && (n == 0 || deletesAll) {
			if err := r.fill(ctx, first); err != nil {
				return some(report, err)
			}
		}
		if n == 0 && r.o.Warmup > 0 {
			if err := r.warmUp(ctx, objects); err != nil {
				return some(report, err)
			}
		}
		if err := r.settle(ctx); err != nil {
			return some(report, err)
		}
		round, interrupted, err := r.round(ctx, objects, n)
		if err != nil {
			return some(report, err)
		}
		report.Rounds = append(report.Rounds, round)
		report.Interrupted = interrupted
		if interrupted {
			break
		}
	}
	report.Summary = report.Summarize()
	return report, nil
}

// some is what there is of a report that was broken off between two rounds.
func some(report *result.Report, err error) (*result.Report, error) {
	if len(report.Rounds) == 0 {
		return nil, err
	}
	report.Interrupted = true
	report.Summary = report.Summarize()
	return report, err
}

func (r *run) newReport() *result.Report {
	o := r.o
	objects := o.Objects
	return &result.Report{
		Version: result.Version, Martlet: o.Version, Began: time.Now().UTC(),
		Machine: result.Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Kernel: procs.Kernel()},
		Settings: result.Settings{
			Operation: o.operation(), Mix: o.Mix.String(), Size: o.Sizes.String(), Concurrency: o.Concurrency, Objects: objects, Containers: o.Containers,
			Policy: o.Policy, Seconds: o.Duration.Seconds(), Operations: o.Operations, Rate: o.Rate, Warmup: o.Warmup.Seconds(), Settle: o.Settle.Seconds(), Verify: o.Verify,
			Limit: o.Limit, Seed: o.Seed, Name: o.Name, Endpoints: r.client.Addresses(), Servers: o.ServersText,
		},
	}
}

// load is how operations are sent.
func (r *run) load(objects *work.Objects) load.Load {
	return load.Load{
		Mix: r.o.Mix, Workers: r.o.Concurrency, Rate: r.o.Rate, Duration: r.o.Duration, Operations: r.o.Operations, Grace: grace,
		Next: objects.Next, Done: objects.Done,
		Do: func(ctx context.Context, worker int, op work.Op) load.Outcome { return r.hands[worker].do(ctx, op) },
	}
}

// warmUp sends for a while what is in no figure.
func (r *run) warmUp(ctx context.Context, objects *work.Objects) error {
	l := r.load(objects)
	l.Duration, l.Operations = r.o.Warmup, 0
	l.Watch = r.watch("warming up")
	m := l.Run(ctx)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if m.Sum(func(s load.Stats) int64 { return s.OK }) == 0 {
		return fmt.Errorf("nothing was answered as it should be while warming up%s", example(m))
	}
	return nil
}

// settle waits until what was sent so far has its work in the background behind it, as far as a wait can.
func (r *run) settle(ctx context.Context) error {
	if r.o.Settle == 0 {
		return nil
	}
	r.o.doing("nothing is sent for %v", r.o.Settle)
	t := time.NewTimer(r.o.Settle)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return errInterrupted
	case <-t.C:
		return nil
	}
}

// errInterrupted is of what was interrupted before there was anything to tell.
var errInterrupted = errors.New("interrupted before the round began")

func example(m *load.Measured) string {
	for _, s := range m.Operations {
		if len(s.Examples) > 0 {
			return ": " + s.Examples[0]
		}
	}
	return ""
}

// round measures one.
func (r *run) round(ctx context.Context, objects *work.Objects, n int) (round result.Round, interrupted bool, err error) {
	l := r.load(objects)
	what := r.o.operation()
	if r.o.Rounds > 1 {
		what = fmt.Sprintf("round %d of %d: %s", n+1, r.o.Rounds, what)
	}
	l.Watch = r.watch(what)
	var watch *procs.Watch
	if r.o.Servers != nil {
		if watch, err = procs.Start(r.o.Servers); err != nil {
			return round, false, err
		}
	}
	before := procs.Own()
	m := l.Run(ctx)
	generator := procs.Own().Since(before)
	var servers *procs.Usage
	if watch != nil {
		u := watch.Stop()
		servers = &u
	}
	return result.RoundOf(m, generator, servers, procs.MachineLoad()), m.Interrupted, nil
}

// watch tells how far a load is.
func (r *run) watch(what string) func(load.Progress) {
	if r.o.Doing == nil {
		return nil
	}
	var last load.Progress
	return func(p load.Progress) {
		took := (p.Elapsed - last.Elapsed).Seconds()
		text := fmt.Sprintf("%s: %s, %s/s", what, report.Value(float64(p.Operations-last.Operations)/took, result.PerSecond), report.Bytes(float64(p.Bytes-last.Bytes)/took))
		if p.Errors > 0 {
			text += fmt.Sprintf(", %d errors", p.Errors)
		}
		if p.Part > 0 {
			left := time.Duration(float64(p.Elapsed) * (1/p.Part - 1))
			text += fmt.Sprintf(", %.0f %%, %v left", 100*p.Part, left.Round(time.Second))
		}
		last = p
		r.o.doing("%s", text)
	}
}

// fillTries is how often an object is put before the benchmark is given up.
const fillTries = 3

// fill puts the objects from a number on, before they are read or deleted.
func (r *run) fill(ctx context.Context, first int64) error {
	left := make([]int64, r.o.Objects)
	for i := range left {
		left[i] = first + int64(i)
	}
	for try := 1; ; try++ {
		failed := make([][]int64, r.o.Concurrency)
		var next atomic.Int64
		l := r.load(nothing)
		l.Mix, l.Rate, l.Duration, l.Operations = work.Only(work.Put), 0, 0, int64(len(left))
		l.Next = func(int) (work.Op, bool) {
			n := next.Add(1) - 1
			if n >= int64(len(left)) {
				return work.Op{}, false
			}
			return work.Op{Kind: work.Put, Object: left[n]}, true
		}
		l.Done = func(i int, op work.Op, ok bool) {
			if !ok {
				failed[i] = append(failed[i], op.Object)
			}
		}
		l.Watch = r.watch("objects are put")
		m := l.Run(ctx)
		if ctx.Err() != nil {
			return errInterrupted
		}
		left = slices.Concat(failed...)
		switch {
		case len(left) == 0:
			return nil
		case try == fillTries:
			return fmt.Errorf("%d of %d objects could not be put%s", len(left), r.o.Objects, example(m))
		}
	}
}

// nothing stands for the work of a load that has its own.
var nothing = work.New(work.Plan{})
