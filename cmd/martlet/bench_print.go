package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/cmd/internal/bench/report"
	"martlet/cmd/internal/bench/result"
)

// benchResult prints a benchmark.
func (p *page) benchResult(r *result.Report) {
	s := r.Settings
	loop := "each sends when the last was answered"
	if s.Rate > 0 {
		loop = short(s.Rate, 3) + "/s are due"
	}
	p.printf("%s: %s, %s, %s; %s\n", p.paint(bold, s.Operation), s.Size, some(s.Concurrency, "client"), some(s.Containers, "container"), loop)
	if s.Operation == "mixed" {
		p.printf("of %s\n", s.Mix)
	}
	p.printf("\n")
	p.benchRounds(r)
	if len(r.Rounds) > 1 {
		p.printf("\n")
		p.benchMedians(r)
	}
	p.benchCosts(r)
	p.benchErrors(r)
}

func (p *page) benchRounds(r *result.Report) {
	rows := [][]cell{head("round>", "operation", "rate>", "bytes>", "p50>", "p90>", "p99>", "p99.9>", "max>", "errors>")}
	for i, round := range r.Rounds {
		for _, o := range round.Operations {
			row := []cell{right(strconv.Itoa(i + 1)), left(o.Kind), right(report.Value(o.Rate, result.PerSecond)), right(report.Value(o.BytesPerSecond, result.BytesRate))}
			for _, us := range []float64{o.Latency.P50, o.Latency.P90, o.Latency.P99, o.Latency.P999, o.Latency.Max} {
				row = append(row, right(report.Micros(us)))
			}
			failed := right(number(int(o.Errors)))
			if o.Errors > 0 {
				failed = failed.in(yellow)
			}
			rows = append(rows, append(row, failed))
		}
	}
	p.table("  ", rows)
}

func (p *page) benchMedians(r *result.Report) {
	rows := [][]cell{head("median of the rounds", "", ">", "least>", "most>")}
	for _, s := range r.Summarize() {
		rows = append(rows, []cell{
			left(s.Operation), left(s.Figure), right(report.Value(s.Median, s.Unit)).in(bold), right(report.Value(s.Min, s.Unit)), right(report.Value(s.Max, s.Unit)),
		})
	}
	p.table("  ", rows)
}

// benchCosts says what it took, of the servers and of the generator.
func (p *page) benchCosts(r *result.Report) {
	p.printf("\n")
	for i, round := range r.Rounds {
		name := ""
		if len(r.Rounds) > 1 {
			name = "round " + strconv.Itoa(i+1) + ": "
		}
		if s := round.Servers; s != nil {
			written := ""
			if s.Written > 0 {
				written = "; " + report.Bytes(float64(s.Written)) + " written"
			}
			p.printf("  %sservers, %s: %s of processor time for each operation; at most %s of memory, %s of it anonymous%s\n",
				name, some(s.Processes, "process"), report.Micros(s.PerOperation), report.Bytes(float64(s.RSS)), report.Bytes(float64(s.Anonymous)), written)
		}
		g := round.Generator
		busy := 0.0
		if round.Seconds > 0 {
			busy = (g.User + g.System) / round.Seconds
		}
		p.printf("  %sgenerator: %s of processor time for each operation, %s of a processor; %s, load %s\n", name, report.Micros(g.PerOperation), short(100*busy, 0)+" %", roundTook(round), short(round.Load, 1))
		if round.Unsent > 0 {
			p.printf("  %s\n", p.paint(yellow, fmt.Sprintf("%s%s were due and could not be sent: the rate was not kept", name, some(int(round.Unsent), "request"))))
		}
	}
}

func roundTook(r result.Round) string {
	return (time.Duration(r.Seconds * float64(time.Second))).Round(time.Millisecond).String()
}

// benchErrors says how often which answer came, where some were not as they should be.
func (p *page) benchErrors(r *result.Report) {
	counts, examples := r.Answers(true)
	if len(counts) == 0 {
		return
	}
	p.printf("\n")
	var rows [][]cell
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		rows = append(rows, []cell{left(what), right(number(int(counts[what])))})
	}
	p.table("  ", rows)
	for _, e := range examples {
		p.printf("  %s\n", strings.ReplaceAll(p.paint(yellow, e), "\n", " "))
	}
}
