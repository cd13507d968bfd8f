package check

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"martlet/cmd/internal/check/history"
	"martlet/cmd/internal/check/model"
)

const (
	// patience is for what clients have given up on and is under way: the longest that a proxy or a node
	// goes on with it once all is up.
	patience = 3 * time.Second
	lookEach = time.Second
)

// settle waits until all is where it belongs, reads everything, and judges the round.
func (r *run) settle(ctx context.Context, round *Round) error {
	began := time.Now()
	r.Doing("round %d: it settles; %s", round.N, r.left())
	if err := r.sleep(ctx, patience); err != nil {
		return err
	}
	h := r.log.History()
	violations, counts := model.Reads(h)
	round.Reads = counts
	if len(violations) > 0 {
		return r.broken(round, h, nil, violations)
	}
	deadline := began.Add(r.Bound)
	lacks, err := r.whole(ctx, deadline)
	if err != nil {
		return err
	}
	if lacks != "" {
		r.event("round %d: after %v not everything is where it belongs: %s", round.N, r.Bound, lacks)
		r.report.add(round.N, model.Violation{Rule: Converges, Why: fmt.Sprintf("%v after everything was up: %s", r.Bound, lacks)})
		return errBroken
	}
	for {
		r.Doing("round %d: everything is read; %s", round.N, r.left())
		final, err := r.work.Final(ctx)
		if err != nil {
			return err
		}
		violations, floor, counts := model.Settled(h, final)
		round.Settled, round.SettleSeconds = counts, time.Since(began).Seconds()
		if len(violations) == 0 {
			r.settling = time.Since(began)
			r.event("round %d: settled after %.1f s: %d reads of %d names are right", round.N, round.SettleSeconds, counts.Looks, len(floor))
			r.log.NextRound(floor, true)
			return nil
		}
		// What is listed and counted is told by work that comes now and then; what is stored is judged at once.
		if slices.ContainsFunc(violations, func(v model.Violation) bool { return !late(v) }) || time.Now().After(deadline) {
			return r.broken(round, h, &final, violations)
		}
		if err := r.sleep(ctx, lookEach); err != nil {
			return err
		}
	}
}

// late reports whether it may be that somebody has not been told yet.
func late(v model.Violation) bool { return v.Rule == model.Listing || v.Rule == model.Count }

// whole waits until two looks, one after the other, find everything where it belongs, or returns what does not come
// there.
func (r *run) whole(ctx context.Context, deadline time.Time) (lacks string, err error) {
	for good := 0; ; {
		lacks, err = r.cluster.Whole(ctx)
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err != nil {
			lacks = err.Error()
		}
		if lacks == "" {
			if good++; good == 2 {
				return "", nil
			}
		} else {
			good = 0
			if time.Now().After(deadline) {
				return lacks, nil
			}
		}
		if err := r.sleep(ctx, lookEach); err != nil {
			return "", err
		}
	}
}

// shrunk is how many violations the smallest history is looked for of.
const shrunk = 3

// broken takes down violations, with the smallest history of the first ones.
func (r *run) broken(round *Round, h history.History, final *history.Final, violations []model.Violation) error {
	first := len(r.report.Violations)
	r.report.add(round.N, violations...)
	seen := map[string]bool{}
	for i, v := range violations {
		if first+i >= len(r.report.Violations) {
			break
		}
		r.event("VIOLATION: %s: %s", v.Rule, v.Why)
		if len(seen) == shrunk || seen[v.Rule] {
			continue
		}
		seen[v.Rule] = true
		r.Doing("the smallest history of a violation is looked for")
		least := model.Shrink(h, final, v)
		name := fmt.Sprintf("violation-%d-%s.jsonl", len(seen), v.Rule)
		if err := r.save(filepath.Join(r.Dir, name), least, final, v); err != nil {
			return err
		}
		r.report.Violations[first+i].File = name
		for _, line := range tell(least, v) {
			r.Say("          " + line)
		}
	}
	return errBroken
}

// save writes a history, and what was read at its end beside it.
func (r *run) save(path string, h history.History, final *history.Final, v model.Violation) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = history.Save(f, r.log.Header(), h)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil && final != nil {
		err = writeJSON(path[:len(path)-len(".jsonl")]+".final.json", final.Only(v.Names))
	}
	return err
}

// mostTold is how many operations of a history are shown.
const mostTold = 60

// tell shows a history: what happened to the names of a violation, in order.
func tell(h history.History, v model.Violation) (lines []string) {
	for _, f := range h.Floor {
		if slices.Contains(v.Names, f.Name) {
			lines = append(lines, fmt.Sprintf("floor     %s: %+v", f.Name, f.State))
		}
	}
	for i := range h.Ops {
		o := &h.Ops[i]
		if i == mostTold {
			return append(lines, fmt.Sprintf("and %d operations more, in the file", len(h.Ops)-i))
		}
		mark := " "
		if slices.Contains(v.Ops, o.ID) {
			mark = "*"
		}
		line := fmt.Sprintf("%s %8.3f to %8.3f  %d: client %d, proxy %d: %s %s, %d %s", mark, o.Start.Seconds(), o.End.Seconds(), o.ID, o.Client, o.Proxy, o.Kind, o.Name(), o.Status, o.Outcome)
		if o.From != nil {
			line += " from " + o.From.String()
		}
		if o.Size > 0 {
			line += fmt.Sprintf(", %d bytes", o.Size)
		}
		if o.Seen != nil && o.Kind != history.List {
			line += fmt.Sprintf(", saw %+v", o.Seen.State)
		}
		if o.Note != "" {
			line += " (" + o.Note + ")"
		}
		lines = append(lines, line)
	}
	return lines
}
