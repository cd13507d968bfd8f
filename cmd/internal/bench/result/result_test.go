package result

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"martlet/cmd/internal/bench/load"
	"martlet/cmd/internal/bench/procs"
	"martlet/cmd/internal/bench/work"
)

// measured has so many latencies, of 1 ms, 2 ms and so on.
func measured(n int64) *load.Measured {
	h := hdrhistogram.New(1000, int64(time.Hour), 3)
	for i := range n {
		_ = h.RecordValue((i + 1) * int64(time.Millisecond)) // it is in range
	}
	m := &load.Measured{Elapsed: 10 * time.Second, Series: []load.Point{{At: time.Second, Operations: 7, Bytes: 8, Errors: 9}}}
	m.Operations[work.Get] = load.Stats{
		OK: n, Errors: 2, Wrong: 1, Bytes: n * 4096, Rate: 100, ByteRate: 409600, Latencies: h,
		Statuses: map[int]int64{200: n, 503: 1}, Failures: map[string]int64{"timeout": 1}, Examples: []string{"x"},
	}
	return m
}

func TestRoundOf(t *testing.T) {
	r := RoundOf(measured(1000), procs.Usage{User: time.Second}, &procs.Usage{User: 2 * time.Second, System: time.Second, RSS: 5, Anonymous: 4, Processes: 3, Written: 9}, 1.5)
	if len(r.Operations) != 1 || r.Operations[0].Kind != "get" {
		t.Fatalf("operations: %+v", r.Operations)
	}
	o := r.Operations[0]
	for name, v := range map[string][2]float64{
		"min": {o.Latency.Min, 1e3}, "mean": {o.Latency.Mean, 500.5e3}, "p50": {o.Latency.P50, 500e3}, "p90": {o.Latency.P90, 900e3},
		"p99": {o.Latency.P99, 990e3}, "p99.9": {o.Latency.P999, 999e3}, "max": {o.Latency.Max, 1000e3},
		"generator": {r.Generator.PerOperation, 1000}, "servers": {r.Servers.PerOperation, 3000},
	} {
		if math.Abs(v[0]/v[1]-1) > 0.002 {
			t.Errorf("%s: %v, want %v", name, v[0], v[1])
		}
	}
	if s := r.Servers; s.RSS != 5 || s.Anonymous != 4 || s.Processes != 3 || s.Written != 9 {
		t.Errorf("servers: %+v", s)
	}
	count := int64(0)
	for i, b := range o.Bars {
		count += b.Count
		if i > 0 && b.From != o.Bars[i-1].To {
			t.Errorf("bar %d begins at %v, and the one before ends at %v", i, b.From, o.Bars[i-1].To)
		}
	}
	if count != 1000 {
		t.Errorf("the bars have %d operations", count)
	}
	for i, p := range o.Curve {
		if i > 0 && (p.Percent <= o.Curve[i-1].Percent || p.Micros < o.Curve[i-1].Micros) {
			t.Errorf("the curve goes down: %v", o.Curve)
		}
	}
	if last := o.Curve[len(o.Curve)-1]; last.Percent != 100 || last.Micros != o.Latency.Max {
		t.Errorf("the curve ends at %v", last)
	}
}

func TestWrittenIsRead(t *testing.T) {
	r := &Report{Version: Version, Martlet: "x", Began: time.Unix(1e9, 0).UTC(), Rounds: []Round{RoundOf(measured(10), procs.Usage{}, nil, 0)}}
	r.Summary = r.Summarize()
	var text bytes.Buffer
	if err := Write(&text, r); err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(text.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	got.Summary = got.Summarize() // values are not written
	if !reflect.DeepEqual(got, r) {
		t.Errorf("read\n%+v\nwant\n%+v", got, r)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "hello", "another version": `{"version": 2, "rounds": [{}]}`, "no version": `{"rounds": [{}]}`, "no rounds": `{"version": 1}`, "another form": `[1]`,
	} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	var text bytes.Buffer
	if err := Write(&text, reportOf(1, 2, 3)); err != nil {
		f.Fatal(err)
	}
	f.Add(text.String())
	f.Add(`{"version": 1, "rounds": [{"operations": [{"kind": "put", "ok": 1, "per_second": -1e308}]}]}`)
	f.Fuzz(func(_ *testing.T, text string) {
		if r, err := Read(strings.NewReader(text)); err == nil {
			Compare(r, r, 0.02)
		}
	})
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := Median(tt.values); got != tt.want {
			t.Errorf("Median(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
}
