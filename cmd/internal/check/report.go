package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"martlet/cmd/internal/check/history"
	"martlet/cmd/internal/check/model"
	"martlet/cmd/internal/check/nemesis"
)

// Verdict is what a check comes to.
type Verdict string

// The verdicts.
const (
	Kept       Verdict = "kept"       // every promise was, as far as was looked
	Broken     Verdict = "broken"     // one was not
	Incomplete Verdict = "incomplete" // it could not be carried out to its end
)

// The rules beside those of package model.
const (
	Converges = "converges" // all is up, and not everything comes to where it belongs within the bound
	Starts    = "starts"    // a process does not come up again
	Runs      = "runs"      // a process ended by itself, or panicked
)

// A Violation is a promise that was broken, in a round.
type Violation struct {
	model.Violation
	Round int    `json:"round"`
	File  string `json:"file,omitempty"` // with the smallest history that shows it
}

// A Round is one of a report.
type Round struct {
	N             int              `json:"round"`
	Steady        bool             `json:"steady"` // that it began with a stretch in which nothing was broken
	WorkSeconds   float64          `json:"work_seconds"`
	SettleSeconds float64          `json:"settle_seconds"`
	Faults        []nemesis.Fault  `json:"faults"`
	Reads         model.Counts     `json:"reads"`
	Settled       model.Counts     `json:"settled"`
	Ops           map[string]int64 `json:"ops"` // by kind and outcome
}

// A Report is all of a check.
type Report struct {
	Verdict    Verdict           `json:"verdict"`
	Why        string            `json:"why,omitempty"` // of one that is incomplete
	Seed       uint64            `json:"seed"`
	Began      time.Time         `json:"began"`
	Seconds    float64           `json:"seconds"`
	Version    string            `json:"version,omitempty"`
	Options    map[string]string `json:"options"`
	Offers     []nemesis.Offer   `json:"faults_offered"`
	Faults     map[string]int    `json:"faults"`     // that there were, by kind
	FaultsSum  int               `json:"faults_sum"` //
	Ops        map[string]int64  `json:"ops"`        // by kind and outcome
	OpsSum     int64             `json:"ops_sum"`    //
	Rounds     []*Round          `json:"rounds"`     //
	Violations []Violation       `json:"violations"` // the first of them
	ViolationN int               `json:"violations_sum"`
}

// mostViolations bounds how many are in a report; a store that breaks one promise breaks it often.
const mostViolations = 50

func (r *Report) add(round int, all ...model.Violation) {
	r.ViolationN += len(all)
	for _, v := range all {
		if len(r.Violations) < mostViolations {
			r.Violations = append(r.Violations, Violation{Violation: v, Round: round})
		}
	}
}

// count adds the operations of a round to it.
func (r *Round) count(h history.History) {
	r.Ops = map[string]int64{}
	for i := range h.Ops {
		o := &h.Ops[i]
		r.Ops[o.Kind.String()+" "+o.Outcome.String()]++
	}
}

// sum adds up the rounds.
func (r *Report) sum() {
	r.Faults, r.Ops, r.FaultsSum, r.OpsSum = map[string]int{}, map[string]int64{}, 0, 0
	for _, round := range r.Rounds {
		for _, f := range round.Faults {
			r.Faults[string(f.Kind)]++
			r.FaultsSum++
		}
		for what, n := range round.Ops {
			r.Ops[what] += n
			r.OpsSum += n
		}
	}
}

// leastOf is the part of writes that must have been acknowledged, and of reads that must have seen something: one of so many. What is
// not known allows anything, so that a store which answers nobody breaks no promise.
const leastOf = 10

// little is an error where too little was seen to say that promises were kept; broken says that something was to be broken.
func (r *Report) little(broken bool) error {
	var writes, acked, reads, seen int64
	for what, n := range r.Ops {
		kind, outcome, _ := strings.Cut(what, " ")
		switch kind {
		case history.Get.String(), history.Range.String(), history.Head.String(), history.List.String():
			reads += n
		default:
			if writes += n; outcome == history.Acked.String() {
				acked += n
			}
		}
	}
	for _, round := range r.Rounds {
		seen += int64(round.Reads.Reads)
	}
	switch {
	case acked == 0 || acked*leastOf < writes:
		return fmt.Errorf("of %d writes %d were acknowledged: too few to say anything", writes, acked)
	case seen*leastOf < reads:
		return fmt.Errorf("of %d reads %d saw anything: too few to say anything", reads, seen)
	case broken && r.FaultsSum == 0:
		return errors.New("nothing was broken: the rounds were too short for that")
	}
	return nil
}

// Last is the last line of what is printed: the verdict, and how to have the same again.
func (r *Report) Last() string {
	looked := fmt.Sprintf("%d operations, %d faults, %d rounds, seed %d", r.OpsSum, r.FaultsSum, len(r.Rounds), r.Seed)
	switch r.Verdict {
	case Kept:
		return fmt.Sprintf("verdict: kept (%s)", looked)
	case Broken:
		return fmt.Sprintf("verdict: broken: %s (%s)", r.Violations[0].Rule, looked)
	default:
		return fmt.Sprintf("verdict: incomplete: %s (%s)", oneLine(r.Why), looked)
	}
}

func oneLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return first
}

// Text is the report for people, without the last line.
func (r *Report) Text() string {
	var b strings.Builder
	line := func(what string, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", what, fmt.Sprintf(format, args...))
	}
	var faults, not []string
	for _, k := range nemesis.Kinds() {
		if n := r.Faults[string(k)]; n > 0 {
			faults = append(faults, fmt.Sprintf("%s %d", k, n))
		}
	}
	why := map[string][]string{}
	for _, o := range r.Offers {
		if o.Why != "" {
			if why[o.Why] == nil {
				not = append(not, o.Why)
			}
			why[o.Why] = append(why[o.Why], string(o.Kind))
		}
	}
	for i, text := range not {
		not[i] = strings.Join(why[text], ", ") + ": " + text
	}
	var ops []string
	for _, k := range []history.Kind{history.Put, history.Post, history.Delete, history.Copy, history.Get, history.Range, history.Head, history.List} {
		var parts []string
		for _, o := range []history.Outcome{history.Acked, history.Refused, history.Unknown} {
			if n := r.Ops[k.String()+" "+o.String()]; n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n, o))
			}
		}
		if len(parts) > 0 {
			ops = append(ops, k.String()+" "+strings.Join(parts, " "))
		}
	}
	line("operations", "%s", strings.Join(ops, ", "))
	line("faults", "%s", cmp.Or(strings.Join(faults, ", "), "none"))
	for _, text := range not {
		line("not offered", "%s", text)
	}
	var settle []float64
	reads, steady, looks := 0, 0, 0
	for _, round := range r.Rounds {
		settle = append(settle, round.SettleSeconds)
		reads, steady, looks = reads+round.Reads.Reads, steady+round.Reads.Steady, looks+round.Settled.Looks
	}
	if len(settle) > 0 {
		line("settled", "%d times, within %.1f s, half of them within %.1f s", len(settle), slices.Max(settle), median(settle))
	}
	line("judged", "%d reads, of which %d while nothing was broken, and %d of what had settled", reads, steady, looks)
	for i, v := range r.Violations {
		if i == 10 {
			line("", "and %d more, in the report", r.ViolationN-i)
			break
		}
		names := make([]string, len(v.Names))
		for j, n := range v.Names {
			names[j] = n.String()
		}
		line("VIOLATION", "round %d: %s of %s: %s (operations %v)", v.Round, v.Rule, cmp.Or(strings.Join(names, ", "), "the cluster"), v.Why, v.Ops)
	}
	return b.String()
}

func median(all []float64) float64 {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}
