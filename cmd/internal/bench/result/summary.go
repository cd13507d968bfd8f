package result

import (
	"math"
	"slices"
)

// A Summary is one figure in all rounds.
type Summary struct {
	Operation string    `json:"operation"` // of all kinds together where it is "all"
	Figure    string    `json:"figure"`
	Unit      string    `json:"unit"`
	More      bool      `json:"more_is_better"`
	Median    float64   `json:"median"`
	Min       float64   `json:"min"`
	Max       float64   `json:"max"`
	Values    []float64 `json:"-"` // of each round
}

// Units of figures.
const (
	PerSecond = "/s"
	BytesRate = "B/s"
	Micros    = "us"
	Bytes     = "B"
)

// All is the operation of figures that are of all kinds together.
const All = "all"

// figures are what is compared of one kind of operation.
var figures = []struct {
	name, unit string
	more       bool
	of         func(Operation) float64
}{
	{"rate", PerSecond, true, func(o Operation) float64 { return o.Rate }},
	{"bytes", BytesRate, true, func(o Operation) float64 { return o.BytesPerSecond }},
	{"p50", Micros, false, func(o Operation) float64 { return o.Latency.P50 }},
	{"p90", Micros, false, func(o Operation) float64 { return o.Latency.P90 }},
	{"p99", Micros, false, func(o Operation) float64 { return o.Latency.P99 }},
	{"p99.9", Micros, false, func(o Operation) float64 { return o.Latency.P999 }},
}

// together are what is compared of all kinds together; false where nobody looked.
var together = []struct {
	name, unit string
	of         func(Round) (float64, bool)
}{
	{"servers' CPU per operation", Micros, func(r Round) (float64, bool) {
		if r.Servers == nil {
			return 0, false
		}
		return r.Servers.PerOperation, true
	}},
	{"servers' peak anonymous memory", Bytes, func(r Round) (float64, bool) {
		if r.Servers == nil {
			return 0, false
		}
		return float64(r.Servers.Anonymous), true
	}},
	{"servers' peak resident memory", Bytes, func(r Round) (float64, bool) {
		if r.Servers == nil {
			return 0, false
		}
		return float64(r.Servers.RSS), true
	}},
	{"generator's CPU per operation", Micros, func(r Round) (float64, bool) { return r.Generator.PerOperation, true }},
}

// Summarize returns the median and the spread of each figure. A round of which there is nothing to
// be said, because no operation of the kind came to anything, is left out.
func (r *Report) Summarize() (all []Summary) {
	for _, kind := range r.kinds() {
		for _, f := range figures {
			var values []float64
			for _, round := range r.Rounds {
				for _, o := range round.Operations {
					if o.Kind == kind && o.OK > 0 {
						values = append(values, f.of(o))
					}
				}
			}
			if len(values) > 0 && (f.unit != BytesRate || slices.Max(values) > 0) {
				all = append(all, summaryOf(kind, f.name, f.unit, f.more, values))
			}
		}
	}
	for _, f := range together {
		var values []float64
		for _, round := range r.Rounds {
			if v, ok := f.of(round); ok && v > 0 {
				values = append(values, v)
			}
		}
		if len(values) > 0 {
			all = append(all, summaryOf(All, f.name, f.unit, false, values))
		}
	}
	return all
}

// kinds are the kinds of operations that there were, in the order of the first round that has
// them.
func (r *Report) kinds() (all []string) {
	for _, round := range r.Rounds {
		for _, o := range round.Operations {
			if !slices.Contains(all, o.Kind) {
				all = append(all, o.Kind)
			}
		}
	}
	return all
}

func summaryOf(operation, figure, unit string, more bool, values []float64) Summary {
	return Summary{operation, figure, unit, more, Median(values), slices.Min(values), slices.Max(values), values}
}

// Median is the value in the middle, or the mean of the two that are; 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return sorted[half-1]/2 + sorted[half]/2
}

// Spread is the distance of the extremes, as a part of the median.
func (s Summary) Spread() float64 {
	if s.Median == 0 {
		return 0
	}
	return math.Abs((s.Max - s.Min) / s.Median)
}

// Answers says how often which answer came, by words for people, and returns examples of what was wrong, each once. Where wrong is set
// it is of the kinds of operations alone of which some had an error.
func (r *Report) Answers(wrong bool) (counts map[string]int64, examples []string) {
	counts = map[string]int64{}
	for _, round := range r.Rounds {
		for _, o := range round.Operations {
			if wrong && o.Errors == 0 {
				continue
			}
			for status, n := range o.Statuses {
				counts[o.Kind+" answered with "+status] += n
			}
			for why, n := range o.Failures {
				counts[o.Kind+" not answered: "+why] += n
			}
			if o.Wrong > 0 {
				counts[o.Kind+" brought what was not written"] += o.Wrong
			}
			examples = append(examples, o.Examples...)
		}
	}
	slices.Sort(examples)
	return counts, slices.Compact(examples)
}
