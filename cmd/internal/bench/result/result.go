// Package result is what a benchmark comes to: the figures of each round, their medians
// and spread, and how two benchmarks compare.
//
// A Report is written as JSON and read again. Fields are only ever added; a change of
// what one means raises Version, and Read refuses what it does not know.
package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"martlet/cmd/internal/bench/load"
	"martlet/cmd/internal/bench/procs"
	"martlet/cmd/internal/bench/work"
)

// Version is that of the form of a report.
const Version = 1

// maxReport bounds what is read as a report, in bytes.
const maxReport = 64 << 20

// A Report is a whole benchmark.
type Report struct {
	Version     int       `json:"version"`
	Martlet     string    `json:"martlet"` // the generator's version
	Began       time.Time `json:"began"`
	Settings    Settings  `json:"settings"`
	Machine     Machine   `json:"machine"`
	Interrupted bool      `json:"interrupted,omitempty"` // the last round is not whole
	Rounds      []Round   `json:"rounds"`
	Summary     []Summary `json:"summary"`
}

// Settings are what was asked for.
type Settings struct {
	Operation   string   `json:"operation"` // the command
	Mix         string   `json:"mix"`
	Size        string   `json:"size"`
	Concurrency int      `json:"concurrency"`
	Objects     int64    `json:"objects"`
	Containers  int      `json:"containers"`
	Policy      string   `json:"policy,omitempty"`
	Seconds     float64  `json:"duration_seconds,omitempty"`
	Operations  int64    `json:"operations,omitempty"`
	Rate        float64  `json:"rate,omitempty"` // per second; a closed loop without
	Warmup      float64  `json:"warmup_seconds"`
	Settle      float64  `json:"settle_seconds,omitempty"` // nothing was sent for so long before each round
	Verify      bool     `json:"verify"`
	Limit       int      `json:"list_limit,omitempty"`
	Seed        uint64   `json:"seed"`
	Name        string   `json:"name"`
	Endpoints   []string `json:"endpoints"`
	Servers     string   `json:"servers,omitempty"` // whose use was measured
}

// Machine is where the generator ran.
type Machine struct {
	CPUs   int    `json:"cpus"`
	Go     string `json:"go"`
	Kernel string `json:"kernel,omitempty"`
}

// A Round is one measurement.
type Round struct {
	Seconds    float64     `json:"seconds"`
	Load       float64     `json:"machine_load"` // the load average of a minute, at its end; 0 where nobody says
	Operations []Operation `json:"operations"`
	Unsent     int64       `json:"unsent,omitempty"` // due by the end, and never sent: the rate was not kept
	Generator  CPU         `json:"generator"`
	Servers    *Servers    `json:"servers,omitempty"`
	Series     []Point     `json:"series"`
}

// CPU is processor time.
type CPU struct {
	User         float64 `json:"user_seconds"`
	System       float64 `json:"system_seconds"`
	PerOperation float64 `json:"us_per_operation"`
}

// Servers is what the servers' processes used.
type Servers struct {
	CPU
	Processes int   `json:"processes"`
	RSS       int64 `json:"peak_rss_bytes"`
	Anonymous int64 `json:"peak_anonymous_bytes"`
	Written   int64 `json:"written_bytes,omitempty"` // to disks, with what is still in the page cache; 0 where nobody may know
}

// An Operation is the figures of one kind of operation.
type Operation struct {
	Kind           string           `json:"kind"`
	OK             int64            `json:"ok"`
	Errors         int64            `json:"errors"`
	Wrong          int64            `json:"wrong"`
	Bytes          int64            `json:"bytes"`
	Rate           float64          `json:"per_second"`
	BytesPerSecond float64          `json:"bytes_per_second"`
	Latency        Latency          `json:"latency_us"`
	Statuses       map[string]int64 `json:"statuses"`
	Failures       map[string]int64 `json:"failures,omitempty"`
	Examples       []string         `json:"examples,omitempty"`
	Curve          []Percentile     `json:"percentiles,omitempty"`
	Bars           []Bar            `json:"histogram,omitempty"`
}

// Latency is in microseconds.
type Latency struct {
	Min  float64 `json:"min"`
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// A Percentile is a point of the curve of latencies.
type Percentile struct {
	Percent float64 `json:"percent"`
	Micros  float64 `json:"us"`
}

// A Bar is how many latencies are within a span, which ends where the next begins.
type Bar struct {
	From  float64 `json:"from_us"`
	To    float64 `json:"to_us"`
	Count int64   `json:"count"`
}

// A Point is what was done up to a time.
type Point struct {
	Second     float64 `json:"second"`
	Operations int64   `json:"operations"`
	Bytes      int64   `json:"bytes"`
	Errors     int64   `json:"errors"`
}

// RoundOf makes a round of what was measured. Servers is nil where nobody looked.
func RoundOf(m *load.Measured, generator procs.Usage, servers *procs.Usage, machineLoad float64) Round {
	done := m.Sum(func(s load.Stats) int64 { return s.OK })
	r := Round{Seconds: m.Elapsed.Seconds(), Load: machineLoad, Unsent: m.Unsent, Generator: cpuOf(generator, done)}
	for k := range work.Kind(work.Kinds) {
		if s := m.Operations[k]; s.OK+s.Errors > 0 || s.Latencies != nil {
			r.Operations = append(r.Operations, operationOf(k, s))
		}
	}
	if servers != nil {
		r.Servers = &Servers{CPU: cpuOf(*servers, done), Processes: servers.Processes, RSS: servers.RSS, Anonymous: servers.Anonymous, Written: servers.Written}
	}
	for _, p := range m.Series {
		r.Series = append(r.Series, Point{p.At.Seconds(), p.Operations, p.Bytes, p.Errors})
	}
	return r
}

func cpuOf(u procs.Usage, done int64) CPU {
	c := CPU{User: u.User.Seconds(), System: u.System.Seconds()}
	if done > 0 {
		c.PerOperation = float64(u.CPU().Microseconds()) / float64(done)
	}
	return c
}

func operationOf(k work.Kind, s load.Stats) Operation {
	o := Operation{
		Kind: k.String(), OK: s.OK, Errors: s.Errors, Wrong: s.Wrong, Bytes: s.Bytes, Rate: s.Rate, BytesPerSecond: s.ByteRate,
		Statuses: map[string]int64{}, Failures: s.Failures, Examples: s.Examples,
	}
	for status, n := range s.Statuses {
		o.Statuses[strconv.Itoa(status)] = n
	}
	if h := s.Latencies; h != nil {
		us := func(n int64) float64 { return float64(n) / 1e3 }
		o.Latency = Latency{
			Min: us(h.Min()), Mean: h.Mean() / 1e3, Max: us(h.Max()),
			P50: us(h.ValueAtQuantile(50)), P90: us(h.ValueAtQuantile(90)), P99: us(h.ValueAtQuantile(99)), P999: us(h.ValueAtQuantile(99.9)),
		}
		o.Curve, o.Bars = curve(h), bars(h)
	}
	return o
}

// curve is the latencies by percentile: even steps of the part that is slower still, ten each time that it
// is a tenth, up to where there is one operation left.
func curve(h *hdrhistogram.Histogram) (points []Percentile) {
	for i := 0; ; i++ {
		slower := math.Pow(10, -float64(i)/10)
		if slower*float64(h.TotalCount()) < 1 {
			return append(points, Percentile{100, float64(h.Max()) / 1e3})
		}
		percent := 100 * (1 - slower)
		points = append(points, Percentile{percent, float64(h.ValueAtQuantile(percent)) / 1e3})
	}
}

// perDecade is how many bars there are from one latency to its tenfold.
const perDecade = 12

// bars are the latencies in spans that grow by the same factor, without the empty ones at either
// end.
func bars(h *hdrhistogram.Histogram) (all []Bar) {
	edge := func(i int) float64 { return math.Pow(10, float64(i)/perDecade) }
	at := 0
	for _, d := range h.Distribution() {
		us := float64(d.To) / 1e3
		if d.Count == 0 {
			continue
		}
		if all == nil {
			at = int(math.Floor(math.Log10(max(us, 1)) * perDecade))
			all = append(all, Bar{From: edge(at), To: edge(at + 1)})
		}
		for us >= all[len(all)-1].To {
			at++
			all = append(all, Bar{From: edge(at), To: edge(at + 1)})
		}
		all[len(all)-1].Count += d.Count
	}
	return all
}

// Failed reports whether any request was not answered as it should be.
func (r *Report) Failed() (errs, wrong int64) {
	for _, round := range r.Rounds {
		for _, o := range round.Operations {
			errs += o.Errors
			wrong += o.Wrong
		}
	}
	return errs, wrong
}

// Write writes a report.
func Write(w io.Writer, r *Report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(r)
}

// Read reads a report that Write has written.
func Read(from io.Reader) (*Report, error) {
	limited := &io.LimitedReader{R: from, N: maxReport + 1}
	var r Report
	if err := json.NewDecoder(limited).Decode(&r); err != nil {
		if limited.N == 0 {
			return nil, fmt.Errorf("it is larger than %d bytes", maxReport)
		}
		return nil, fmt.Errorf("it is no result of martlet bench: %w", err)
	}
	if r.Version != Version {
		return nil, fmt.Errorf("it has version %d of a result, and %d is known", r.Version, Version)
	}
	if len(r.Rounds) == 0 {
		return nil, errors.New("it has no rounds")
	}
	return &r, nil
}
