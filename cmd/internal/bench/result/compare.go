package result

import (
	"fmt"
	"math"
	"slices"
)

// A Verdict is what a comparison of one figure comes to.
type Verdict string

// The verdicts.
const (
	Better Verdict = "better"
	Worse  Verdict = "worse"
	Same   Verdict = "same" // what differs may be chance, or is less than counts
	Unsure Verdict = "unsure"
)

// A Comparison is one figure of two benchmarks.
type Comparison struct {
	Operation string  `json:"operation"`
	Figure    string  `json:"figure"`
	Unit      string  `json:"unit"`
	Old       float64 `json:"old"` // medians
	New       float64 `json:"new"`
	OldSpread float64 `json:"old_spread"` // parts of the median
	NewSpread float64 `json:"new_spread"`
	Change    float64 `json:"change"` // a part of Old
	P         float64 `json:"p"`      // how likely such a difference is where there is none; at most 1
	Verdict   Verdict `json:"verdict"`
}

// Comparisons are two benchmarks beside each other.
type Comparisons struct {
	Different []string     `json:"different_settings,omitempty"` // which make them no comparison of one thing
	Figures   []Comparison `json:"figures"`
	Worse     int          `json:"worse"`
	Better    int          `json:"better"`
}

// Significant is what P has to be below for a difference to count as more than chance.
const Significant = 0.05

// Compare compares two reports. A difference counts where it is at least threshold, a part of the old
// value, and would come by chance in fewer than one of twenty comparisons of what does not differ, by
// the ranks of the rounds (Mann and Whitney's U, exact, on both sides). Four rounds of each are the fewest
// in which that can be seen; with fewer the verdict is Unsure, unless the difference is less than
// threshold. The generator's own use is shown, and is never better or worse.
func Compare(older, newer *Report, threshold float64) Comparisons {
	c := Comparisons{Different: different(older.Settings, newer.Settings)}
	after := newer.Summarize()
	for _, a := range older.Summarize() {
		i := slices.IndexFunc(after, func(b Summary) bool { return b.Operation == a.Operation && b.Figure == a.Figure })
		if i < 0 {
			continue
		}
		one := compare(a, after[i], threshold)
		switch one.Verdict {
		case Worse:
			c.Worse++
		case Better:
			c.Better++
		}
		c.Figures = append(c.Figures, one)
	}
	return c
}

func compare(a, b Summary, threshold float64) Comparison {
	c := Comparison{
		Operation: a.Operation, Figure: a.Figure, Unit: a.Unit, Old: a.Median, New: b.Median,
		OldSpread: a.Spread(), NewSpread: b.Spread(), P: chance(a.Values, b.Values),
	}
	if a.Median != 0 {
		c.Change = b.Median/a.Median - 1
	}
	switch {
	case math.Abs(c.Change) < threshold || c.Change == 0:
		c.Verdict = Same
	case least(len(a.Values), len(b.Values)) >= Significant:
		c.Verdict = Unsure
	case c.P >= Significant || a.Figure == together[len(together)-1].name:
		c.Verdict = Same
	case (c.Change > 0) == a.More:
		c.Verdict = Better
	default:
		c.Verdict = Worse
	}
	return c
}

// different names the settings that differ, of those without which two figures are not of the
// same thing.
func different(a, b Settings) (all []string) {
	add := func(what string, x, y any) {
		if x != y {
			all = append(all, fmt.Sprintf("%s: %v and %v", what, x, y))
		}
	}
	add("operation", a.Operation, b.Operation)
	add("mix", a.Mix, b.Mix)
	add("size", a.Size, b.Size)
	add("concurrency", a.Concurrency, b.Concurrency)
	add("objects", a.Objects, b.Objects)
	add("containers", a.Containers, b.Containers)
	add("rate", a.Rate, b.Rate)
	add("verify", a.Verify, b.Verify)
	add("list limit", a.Limit, b.Limit)
	add("policy", a.Policy, b.Policy)
	return all
}

// maxExact is up to how many rounds of either side chance is worked out exactly: beyond that it is that of
// the first so many.
const maxExact = 50

// chance is how likely it is that two sets of values, between which there is no difference,
// are as far apart in their ranks as these.
func chance(a, b []float64) float64 {
	a, b = a[:min(len(a), maxExact)], b[:min(len(b), maxExact)]
	n, m := len(a), len(b)
	if n == 0 || m == 0 {
		return 1
	}
	// How often a value of a is above one of b, twice, so that a tie is one of two. What is odd is
	// rounded towards the middle: a tie never makes a difference look surer.
	twice := 0
	for _, x := range a {
		for _, y := range b {
			switch {
			case x > y:
				twice += 2
			case x == y:
				twice++
			}
		}
	}
	small := (min(twice, 2*n*m-twice) + 1) / 2
	ways := orders(n, m)
	upTo, all := 0.0, 0.0
	for u, w := range ways {
		all += w
		if u <= small {
			upTo += w
		}
	}
	return min(1, 2*upTo/all)
}

// least is the smallest that chance can be.
func least(n, m int) float64 {
	if n == 0 || m == 0 {
		return 1
	}
	low, high := make([]float64, min(n, maxExact)), make([]float64, min(m, maxExact))
	for i := range high {
		high[i] = 1
	}
	return chance(low, high)
}

// orders counts for each u in how many of the orders in which n values of one kind and m of another can
// stand a value of the first is behind one of the second u times.
func orders(n, m int) []float64 {
	// ways[i] is that of i of the first kind and j of the second, while j grows.
	ways := make([][]float64, n+1)
	for i := range ways {
		ways[i] = []float64{1}
	}
	for j := 1; j <= m; j++ {
		next := make([][]float64, n+1)
		next[0] = []float64{1}
		for i := 1; i <= n; i++ {
			// The last is of the first kind, and behind j of the second; or of the second.
			w := make([]float64, i*j+1)
			for u, c := range next[i-1] {
				w[u+j] += c
			}
			for u, c := range ways[i] {
				w[u] += c
			}
			next[i] = w
		}
		ways = next
	}
	return ways[n]
}
