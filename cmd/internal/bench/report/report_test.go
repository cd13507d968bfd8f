package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"martlet/cmd/internal/bench/result"
)

func sample() *result.Report {
	op := result.Operation{
		Kind: "get", OK: 1000, Errors: 3, Wrong: 1, Rate: 1234, BytesPerSecond: 5e6,
		Latency:  result.Latency{Min: 90, Mean: 300, P50: 250, P90: 800, P99: 5000, P999: 80000, Max: 1.5e6},
		Statuses: map[string]int64{"200": 1000, "503": 2}, Failures: map[string]int64{"timeout": 1},
		Examples: []string{`</p><script>alert("1")</script>`},
		Curve:    []result.Percentile{{Percent: 0, Micros: 90}, {Percent: 50, Micros: 250}, {Percent: 99, Micros: 5000}, {Percent: 100, Micros: 1.5e6}},
		Bars:     []result.Bar{{From: 10, To: 100, Count: 5}, {From: 100, To: 1000, Count: 995}},
	}
	round := result.Round{
		Seconds: 10, Load: 1.5, Operations: []result.Operation{op}, Unsent: 77,
		Servers: &result.Servers{CPU: result.CPU{PerOperation: 180}, RSS: 4e8, Anonymous: 2e8},
		Series:  []result.Point{{Second: 1, Operations: 100}, {Second: 2, Operations: 220}, {Second: 2.05, Operations: 225}},
	}
	return &result.Report{
		Version: result.Version, Martlet: "v1<b>", Began: time.Unix(1e9, 0), Interrupted: true, Rounds: []result.Round{round, round, round},
		Settings: result.Settings{Operation: "get", Size: "4KiB", Mix: "get=1", Concurrency: 32, Objects: 10000, Containers: 4, Seconds: 10, Endpoints: []string{"127.0.0.1:8080"}},
	}
}

// The page is whole markup, needs nothing from elsewhere, and shows what there is.
func TestPage(t *testing.T) {
	var b strings.Builder
	if err := Write(&b, sample()); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	if regexp.MustCompile(`(?i)<script|<link|<img|@import|url\(|src=|href=`).MatchString(got) {
		t.Errorf("the page wants something from elsewhere:\n%s", got)
	}
	for _, want := range []string{
		"1,234/s", "5.00 MB/s", "250 µs", "5.00 ms", "1.50 s", "get answered with 503", "get not answered: timeout", "get brought what was not written",
		"&lt;/p&gt;&lt;script&gt;", "v1&lt;b&gt;", "interrupted", "180 µs", "200 MB", "77 operations were due", "round 3", "99 %", "32 clients",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(got, "<svg"); n != 3 || strings.Count(got, "<polyline") != 6 {
		t.Errorf("%d plots, %d lines, want 3 and 6", n, strings.Count(got, "<polyline"))
	}
	for _, svg := range regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(got, -1) {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("a plot is no XML: %v\n%s", err, svg)
			}
		}
		if regexp.MustCompile(`NaN|Inf`).MatchString(svg) {
			t.Errorf("a plot has a coordinate that is no number:\n%s", svg)
		}
	}
}

// Results of nothing, of a moment, or with numbers that make no sense are pages as well.
func TestPageOfAnything(t *testing.T) {
	odd := sample()
	odd.Rounds[0].Operations[0].Latency = result.Latency{}
	odd.Rounds[1].Series = []result.Point{{Second: math.MaxFloat64, Operations: math.MaxInt64}, {Second: -1, Operations: -1}}
	odd.Rounds[2].Operations[0].Curve = []result.Percentile{{Percent: -5, Micros: -5}, {Percent: 200, Micros: math.MaxFloat64}}
	for name, r := range map[string]*result.Report{"nothing": {}, "a round of nothing": {Rounds: []result.Round{{}}}, "odd": odd} {
		var b strings.Builder
		if err := Write(&b, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.HasSuffix(b.String(), "</html>\n") {
			t.Errorf("%s: the page has no end", name)
		}
	}
}

func TestUnits(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{Micros(0), "0 µs"}, {Micros(1.234), "1.23 µs"}, {Micros(999), "999 µs"}, {Micros(12345), "12.3 ms"}, {Micros(2.5e6), "2.50 s"},
		{Bytes(0), "0 B"}, {Bytes(1234), "1.23 kB"}, {Bytes(999.7), "1.00 kB"}, {Bytes(5e13), "50.0 TB"},
		{number(1234567), "1,234,567"}, {number(-1234), "-1,234"}, {number(999), "999"},
		{Value(12, result.PerSecond), "12/s"}, {Value(1e6, result.BytesRate), "1.00 MB/s"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
