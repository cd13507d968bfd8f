// Package check finds out whether a cluster keeps what is promised: clients work on it (workload), it is broken
// meanwhile (nemesis), and what they saw is judged (model). docs/check.md says what is promised, and how to read what comes
// out.
//
// A check goes in rounds, of which each begins and ends settled. It promises that the report says what was not looked at: which
// faults there were none of and why, and how far it came.
package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"martlet/cmd/internal/check/history"
	"martlet/cmd/internal/check/model"
	"martlet/cmd/internal/check/nemesis"
	"martlet/cmd/internal/check/workload"
)

// A Cluster is what is checked.
type Cluster interface {
	nemesis.Cluster
	// Endpoints are the proxies, as http://host:port.
	Endpoints() []string
	// Heal mends all that is broken, and returns once everything answers.
	Heal(ctx context.Context) error
	// Whole says what has not come to where it belongs yet; "" is nothing, as far as can be known.
	Whole(ctx context.Context) (lacks string, err error)
	// Broke returns what processes did that none should ever do, since the last call.
	Broke() []string
}

// Options are what a check is made of.
type Options struct {
	Duration time.Duration // for which new rounds begin; the last one ends later
	Seed     uint64
	Kinds    []nemesis.Kind // those that the cluster offers of these
	Every    time.Duration  // about how often something is broken
	Bound    time.Duration  // within which it has to settle
	Work     time.Duration  // of a round, at most
	Patience time.Duration  // for what clients have given up on and is under way, once all is up
	Workload workload.Config
	Limits   history.Limits
	GoOn     bool   // with new rounds on other names, where a promise was broken
	Dir      string // of what is written; it is there
	Version  string
	About    map[string]string // of the run, for people

	Say   func(line string)                // a line of the timeline; not nil
	Doing func(format string, args ...any) // what is being done; not nil
}

// Defaults are those of a check of one minute.
func Defaults() Options {
	return Options{
		Duration: time.Minute, Kinds: nemesis.Kinds(), Every: time.Second, Bound: 2 * time.Minute, Work: 20 * time.Second, Patience: 3 * time.Second,
		Workload: workload.Defaults(),
		Limits:   history.Limits{Skew: time.Millisecond, Grace: 900 * time.Millisecond},
		Say:      func(string) {}, Doing: func(string, ...any) {},
	}
}

// The files of a check, in its folder.
const (
	HistoryFile  = "history.jsonl"
	ReportFile   = "report.json"
	TimelineFile = "timeline.txt"
)

// run is a check that is under way.
type run struct {
	Options
	cluster  Cluster
	log      *history.Log
	work     *workload.Workload
	kinds    []nemesis.Kind
	report   *Report
	ends     time.Time
	settling time.Duration // how long that took last
}

// errBroken ends a check whose verdict is clear.
var errBroken = errors.New("a promise was broken")

// Run checks a cluster that is up. The error is of what kept it from being carried out, or of writing; the report is there in any
// case, and is in the folder as well.
func Run(ctx context.Context, c Cluster, o Options) (report *Report, err error) {
	report = &Report{Seed: o.Seed, Began: time.Now(), Version: o.Version, Options: o.About, Offers: c.Offers(), Verdict: Incomplete}
	lines, err := os.Create(filepath.Join(o.Dir, HistoryFile))
	if err != nil {
		return report, err
	}
	timeline, err := os.Create(filepath.Join(o.Dir, TimelineFile))
	if err != nil {
		return report, errors.Join(err, lines.Close())
	}
	r := &run{Options: o, cluster: c, report: report, kinds: nemesis.Offered(c, o.Kinds), ends: time.Now().Add(o.Duration), settling: 8 * time.Second}
	r.log = history.NewLog(lines, history.Header{Seed: o.Seed, Options: o.About, Limits: o.Limits})
	say := r.Say
	r.Say = func(line string) {
		say(line)
		_, _ = io.WriteString(timeline, line+"\n") // the report has what counts
	}
	err = r.rounds(ctx)
	report.Seconds = time.Since(report.Began).Seconds()
	report.sum()
	if err == nil {
		err = report.little(len(r.kinds) > 0)
	}
	switch {
	case errors.Is(err, errBroken):
		report.Verdict, err = Broken, nil
	case err != nil:
		report.Why = err.Error()
	default:
		report.Verdict = Kept
	}
	if len(report.Violations) > 0 {
		report.Verdict = Broken
	}
	r.Say(report.Last())
	return report, errors.Join(err, r.log.Flush(), lines.Close(), timeline.Close(), writeJSON(filepath.Join(o.Dir, ReportFile), report))
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o640)
}

// event is a line of the timeline, and of the history.
func (r *run) event(format string, args ...any) {
	e := r.log.Event(fmt.Sprintf(format, args...))
	r.Say(fmt.Sprintf("%8.2f  %s", e.At.Seconds(), e.What))
}

// rounds is all of them.
func (r *run) rounds(ctx context.Context) (err error) {
	r.event("%d clients on %v, seed %d", r.Workload.Clients, r.cluster.Endpoints(), r.Seed)
	if err := r.begin(ctx, r.Workload.Prefix); err != nil {
		return err
	}
	for n := 1; ; n++ {
		left := time.Until(r.ends) - r.settling
		length := min(r.Work, left)
		if n == 1 {
			length = max(length, min(r.Work, r.Duration/2)) // one round there is in any case
		}
		if n > 1 && length < 3*time.Second {
			return nil
		}
		err := r.round(ctx, n, length)
		if errors.Is(err, errBroken) && r.GoOn {
			r.log.NextRound(nil, true)
			err = r.begin(ctx, fmt.Sprintf("%sfrom-%d-", r.Workload.Prefix, n+1))
		}
		if err != nil {
			return err
		}
	}
}

// begin makes clients who know of nothing that is there, in containers of a prefix.
func (r *run) begin(ctx context.Context, prefix string) (err error) {
	cfg := r.Workload
	cfg.Log, cfg.Seed, cfg.Endpoints, cfg.Prefix = r.log, r.Seed, r.cluster.Endpoints(), prefix
	r.work, err = workload.New(ctx, cfg)
	return err
}

// round is one: work, faults, healing, settling, judging.
func (r *run) round(ctx context.Context, n int, length time.Duration) error {
	round := &Round{N: n, Steady: true}
	r.report.Rounds = append(r.report.Rounds, round)
	steady := min(4*time.Second, length/4)
	if len(r.kinds) == 0 {
		steady = length
	}
	r.event("round %d: clients work for %.0f s, of which nothing is broken for %.0f", n, length.Seconds(), steady.Seconds())
	r.Doing("round %d: clients work, nothing is broken; %s", n, r.left())
	began := time.Now()
	working, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- r.work.Run(working) }()
	broke := r.sleep(ctx, steady)
	if broke == nil && len(r.kinds) > 0 {
		r.log.Unsteady()
		broke = r.breakIt(ctx, round, length-steady)
	}
	healed := r.heal(ctx, n)
	stop()
	if err := <-ended; err != nil && ctx.Err() == nil {
		return err
	}
	round.WorkSeconds = time.Since(began).Seconds()
	round.count(r.log.History())
	if err := errors.Join(broke, healed); err != nil {
		return err
	}
	err := r.settle(ctx, round)
	if ctx.Err() != nil {
		return err
	}
	if broke := r.broke(n); err == nil { // also of what settles: it is the round's last chance to be seen
		err = broke
	}
	return err
}

// left says how long the check goes on, for people.
func (r *run) left() string {
	return fmt.Sprintf("about %v left of %v", max(0, time.Until(r.ends)).Round(time.Second), r.Duration)
}

func (r *run) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// breakIt carries out a plan.
func (r *run) breakIt(ctx context.Context, round *Round, length time.Duration) error {
	began := time.Now()
	events := nemesis.Plan(r.Seed+uint64(round.N)<<32, r.cluster.Shape(), r.kinds, length, r.Every)
	for _, e := range events {
		if err := r.sleep(ctx, time.Until(began.Add(e.At))); err != nil {
			return err
		}
		if e.Ends {
			err := r.cluster.End(ctx, e.Fault)
			r.event("fault %d ends: %v", e.Fault.ID, e.Fault)
			if err != nil {
				return r.fault(ctx, round, e, err)
			}
			continue
		}
		r.Doing("round %d, fault %d: %v; %s", round.N, e.Fault.ID, e.Fault, r.left())
		note, err := r.cluster.Begin(ctx, e.Fault)
		if note != "" {
			note = " (" + note + ")"
		}
		r.event("fault %d begins: %v%s", e.Fault.ID, e.Fault, note)
		round.Faults = append(round.Faults, e.Fault)
		if err != nil {
			return r.fault(ctx, round, e, err)
		}
	}
	return r.sleep(ctx, time.Until(began.Add(length)))
}

// fault is what comes of one that could not be carried out: a process that does not come up is a broken promise, and
// all else is the machine's.
func (r *run) fault(ctx context.Context, round *Round, e nemesis.Event, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.event("fault %d, %v: %v", e.Fault.ID, e.Fault, err)
	if down := (interface{ Down() bool })(nil); errors.As(err, &down) && down.Down() {
		r.report.add(round.N, model.Violation{Rule: Starts, Why: err.Error()})
		return errBroken
	}
	return fmt.Errorf("fault %d, %v: %w", e.Fault.ID, e.Fault, err)
}

// heal mends everything.
func (r *run) heal(ctx context.Context, n int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.Doing("round %d: everything is mended; %s", n, r.left())
	err := r.cluster.Heal(ctx)
	if err != nil {
		return r.fault(ctx, &Round{N: n}, nemesis.Event{Fault: nemesis.Fault{Kind: "heal"}}, err)
	}
	r.event("round %d: all is mended and up", n)
	return r.broke(n)
}

// broke looks whether processes did what none should ever do.
func (r *run) broke(n int) error {
	all := r.cluster.Broke()
	if len(all) == 0 {
		return nil
	}
	for _, what := range all {
		r.event("%s", what)
		r.report.add(n, model.Violation{Rule: Runs, Why: oneLine(what)})
	}
	return errBroken
}
