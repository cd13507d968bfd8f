package result

import (
	"math"
	"testing"
)

// The exact chances of textbook tables.
func TestChance(t *testing.T) {
	for name, tt := range map[string]struct {
		a, b []float64
		want float64
	}{
		"3 apart from 3":           {[]float64{1, 2, 3}, []float64{4, 5, 6}, 0.1},
		"4 apart from 4":           {[]float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, 2.0 / 70},
		"4 above 4":                {[]float64{5, 6, 7, 8}, []float64{1, 2, 3, 4}, 2.0 / 70},
		"5 apart from 5":           {[]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}, 2.0 / 252},
		"5 of which one is within": {[]float64{1, 2, 3, 4, 6.5}, []float64{6, 7, 8, 9, 10}, 4.0 / 252},
		"the same":                 {[]float64{1, 1, 1, 1}, []float64{1, 1, 1, 1}, 1},
		"one each":                 {[]float64{1}, []float64{2}, 1},
		"a tie counts for less":    {[]float64{1, 2, 3, 4, 6}, []float64{6, 7, 8, 9, 10}, 4.0 / 252},
		"nothing":                  {nil, []float64{1}, 1},
	} {
		if got := chance(tt.a, tt.b); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// Each order of n and m is counted once.
func TestOrders(t *testing.T) {
	for _, tt := range []struct {
		n, m int
		want []float64
	}{{1, 1, []float64{1, 1}}, {2, 2, []float64{1, 1, 2, 1, 1}}, {3, 1, []float64{1, 1, 1, 1}}} {
		got := orders(tt.n, tt.m)
		if len(got) != len(tt.want) {
			t.Errorf("%d and %d: %v", tt.n, tt.m, got)
			continue
		}
		for u := range got {
			if got[u] != tt.want[u] {
				t.Errorf("%d and %d: %v, want %v", tt.n, tt.m, got, tt.want)
			}
		}
	}
}

// reportOf has rounds with these rates; latencies are the inverse, and the servers take what they take.
func reportOf(rates ...float64) *Report {
	r := &Report{Version: Version, Settings: Settings{Operation: "put", Mix: "put=1", Size: "4KiB", Concurrency: 32}}
	for _, rate := range rates {
		r.Rounds = append(r.Rounds, Round{
			Operations: []Operation{{Kind: "put", OK: 1, Rate: rate, Latency: Latency{P50: 1e6 / rate, P90: 2e6 / rate, P99: 3e6 / rate, P999: 4e6 / rate}}},
			Generator:  CPU{PerOperation: 1e5 / rate},
			Servers:    &Servers{CPU: CPU{PerOperation: 1e6 / rate}, RSS: 2 << 20, Anonymous: 1 << 20},
		})
	}
	return r
}

func TestCompare(t *testing.T) {
	for name, tt := range map[string]struct {
		before, after []float64
		threshold     float64
		want          Verdict // of the rate, and of all that follows from it
	}{
		"slower":                  {[]float64{100, 101, 102, 103}, []float64{80, 81, 82, 83}, 0.02, Worse},
		"faster":                  {[]float64{80, 81, 82, 83}, []float64{100, 101, 102, 103}, 0.02, Better},
		"within the noise":        {[]float64{100, 80, 120, 90, 110}, []float64{105, 85, 125, 95, 115}, 0.02, Same},
		"less than counts":        {[]float64{1000, 1001, 1002, 1003}, []float64{990, 991, 992, 993}, 0.02, Same},
		"the same, to the byte":   {[]float64{100, 100, 100, 100}, []float64{100, 100, 100, 100}, 0, Same},
		"too few rounds to know":  {[]float64{100, 101, 102}, []float64{50, 51, 52}, 0.02, Unsure},
		"one round each":          {[]float64{100}, []float64{50}, 0.02, Unsure},
		"one round, but the same": {[]float64{100}, []float64{101}, 0.02, Same},
	} {
		c := Compare(reportOf(tt.before...), reportOf(tt.after...), tt.threshold)
		seen := 0
		for _, f := range c.Figures {
			switch f.Figure {
			case "servers' peak anonymous memory", "servers' peak resident memory":
				if f.Verdict != Same {
					t.Errorf("%s: %s is %s", name, f.Figure, f.Verdict)
				}
			case "generator's CPU per operation":
				if f.Verdict == Better || f.Verdict == Worse {
					t.Errorf("%s: %s is %s", name, f.Figure, f.Verdict)
				}
			default:
				seen++
				if f.Verdict != tt.want {
					t.Errorf("%s: %s went from %v to %v (p %v), which is %s, want %s", name, f.Figure, f.Old, f.New, f.P, f.Verdict, tt.want)
				}
			}
		}
		if seen != 6 {
			t.Errorf("%s: %d figures: %v", name, seen, c.Figures)
		}
		if counted := c.Worse + c.Better; (counted > 0) != (tt.want == Worse || tt.want == Better) {
			t.Errorf("%s: %d worse, %d better", name, c.Worse, c.Better)
		}
	}
}

func TestDifferentSettingsAreTold(t *testing.T) {
	a, b := reportOf(1), reportOf(1)
	b.Settings.Size, b.Settings.Concurrency = "1MiB", 8
	if c := Compare(a, b, 0.02); len(c.Different) != 2 {
		t.Errorf("got %q", c.Different)
	}
	if c := Compare(a, a, 0.02); len(c.Different) != 0 {
		t.Errorf("of one report: %q", c.Different)
	}
}
