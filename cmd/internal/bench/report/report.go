// Package report draws a benchmark as one HTML page: figures, throughput over time,
// latencies by percentile and as a histogram.
//
// The page needs nothing beside it: its plots are SVG in it, there is no script, nothing
// is fetched. Whatever a result says is text in it and never markup.
package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"martlet/cmd/internal/bench/result"
)

const styles = `
:root{color-scheme:light dark;--ink:#1d242c;--text:#39424e;--faint:#6b7684;--page:#fff;--line:#d8dee6}
@media (prefers-color-scheme:dark){:root{--ink:#eef2f6;--text:#c3ccd6;--faint:#8e99a6;--page:#14181d;--line:#343d48}}
body{font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:var(--text);background:var(--page);max-width:1080px;margin:2em auto;padding:0 1em}
h1,h2{color:var(--ink);font-weight:600}h1{font-size:22px}h2{font-size:16px;margin:2em 0 .4em}
table{border-collapse:collapse}td,th{padding:.15em .9em .15em 0;text-align:left;font-weight:normal}th{color:var(--faint)}
.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#c8501e;font-weight:600}.faint{color:var(--faint)}
svg{width:100%;height:auto}svg text{font-size:12px;fill:var(--text)}.grid{stroke:var(--line)}
.s0{stroke:#4a86c8;fill:#4a86c8}.s1{stroke:#e2963b;fill:#e2963b}.s2{stroke:#5aa469;fill:#5aa469}.s3{stroke:#b5539c;fill:#b5539c}.s4{stroke:#7d6bc9;fill:#7d6bc9}
polyline{fill:none!important;stroke-width:1.8;stroke-linejoin:round}rect{stroke:none;fill-opacity:.55}
`

// page is what is being written.
type page struct{ strings.Builder }

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.Builder, format, args...) }

// text makes text of what may be anything.
func text(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

// Write writes the page of a result.
func Write(w io.Writer, r *result.Report) error {
	var p page
	title := "martlet bench " + r.Settings.Operation + ", " + r.Settings.Size
	p.printf("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>%s</title><style>%s</style></head><body>\n", text(title), styles)
	p.printf("<h1>%s</h1>\n", text(title))
	p.about(r)
	p.summary(r)
	p.rounds(r)
	p.printf("<h2>Operations a second, over time</h2>\n")
	p.overTime(r)
	p.printf("<h2>Latency by percentile</h2>\n")
	p.percentiles(r)
	p.printf("<h2>Latencies</h2>\n")
	p.histograms(r)
	p.errors(r)
	p.printf("</body></html>\n")
	_, err := io.WriteString(w, p.String())
	return err
}

func (p *page) about(r *result.Report) {
	s := r.Settings
	loop := "closed loop"
	if s.Rate > 0 {
		loop = short(s.Rate) + " operations a second asked for; latencies count from when each was due"
	}
	p.printf("<p>%s clients, %s, %s objects in %s containers. %s, %s of %s.<br><span class=\"faint\">%s, martlet %s, %d processors, %s, seed %d; %s</span></p>\n",
		number(float64(s.Concurrency)), text(loop), number(float64(s.Objects)), number(float64(s.Containers)),
		text(s.Mix), rounds(len(r.Rounds)), text(length(s)),
		r.Began.UTC().Format(time.DateTime+" MST"), text(r.Martlet), r.Machine.CPUs, text(r.Machine.Kernel), s.Seed, text(strings.Join(s.Endpoints, ", ")))
	if r.Interrupted {
		p.printf("<p class=\"bad\">It was interrupted: the last round is not whole.</p>\n")
	}
}

func rounds(n int) string {
	if n == 1 {
		return "one round"
	}
	return strconv.Itoa(n) + " rounds"
}

func length(s result.Settings) string {
	switch {
	case s.Operations > 0:
		return number(float64(s.Operations)) + " operations"
	case s.Seconds > 0:
		return (time.Duration(s.Seconds * float64(time.Second))).String()
	}
	return "all objects"
}

func (p *page) summary(r *result.Report) {
	p.printf("<h2>Medians</h2>\n<table><tr><th>operation<th>figure<th class=\"n\">median<th class=\"n\">least<th class=\"n\">most</tr>\n")
	for _, s := range r.Summarize() {
		p.printf("<tr><td>%s<td>%s<td class=\"n\"><b>%s</b><td class=\"n\">%s<td class=\"n\">%s</tr>\n",
			text(s.Operation), text(s.Figure), value(s.Median, s.Unit), value(s.Min, s.Unit), value(s.Max, s.Unit))
	}
	p.printf("</table>\n")
}

func (p *page) rounds(r *result.Report) {
	p.printf("<h2>Rounds</h2>\n<table><tr><th class=\"n\">round<th>operation<th class=\"n\">rate<th class=\"n\">bytes<th class=\"n\">p50<th class=\"n\">p90<th class=\"n\">p99<th class=\"n\">p99.9<th class=\"n\">max<th class=\"n\">errors<th class=\"n\">servers' CPU<th class=\"n\">load</tr>\n")
	for i, round := range r.Rounds {
		for _, o := range round.Operations {
			servers, class := "", ""
			if round.Servers != nil {
				servers = value(round.Servers.PerOperation, result.Micros)
			}
			if o.Errors > 0 {
				class = " bad"
			}
			p.printf("<tr><td class=\"n\">%d<td>%s<td class=\"n\">%s<td class=\"n\">%s", i+1, text(o.Kind), value(o.Rate, result.PerSecond), value(o.BytesPerSecond, result.BytesRate))
			for _, us := range []float64{o.Latency.P50, o.Latency.P90, o.Latency.P99, o.Latency.P999, o.Latency.Max} {
				p.printf("<td class=\"n\">%s", value(us, result.Micros))
			}
			p.printf("<td class=\"n%s\">%s<td class=\"n\">%s<td class=\"n\">%s</tr>\n", class, number(float64(o.Errors)), servers, short(round.Load))
		}
		if round.Unsent > 0 {
			p.printf("<tr><td><td colspan=\"11\" class=\"bad\">%s operations were due in round %d and could not be sent: the rate was not kept</tr>\n", number(float64(round.Unsent)), i+1)
		}
	}
	p.printf("</table>\n")
}

func (p *page) errors(r *result.Report) {
	all, examples := r.Answers(false)
	p.printf("<h2>Answers</h2>\n<table>")
	for _, key := range slices.Sorted(maps.Keys(all)) {
		p.printf("<tr><td>%s<td class=\"n\">%s</tr>\n", text(key), number(float64(all[key])))
	}
	p.printf("</table>\n")
	for _, e := range examples {
		p.printf("<p class=\"bad\">%s</p>\n", text(e))
	}
}

// value writes a figure in its unit.
func value(v float64, unit string) string {
	switch unit {
	case result.Micros:
		return Micros(v)
	case result.PerSecond:
		return number(v) + "/s"
	case result.BytesRate:
		return Bytes(v) + "/s"
	case result.Bytes:
		return Bytes(v)
	}
	return short(v)
}

// Value writes a figure in its unit, for people.
func Value(v float64, unit string) string { return value(v, unit) }

// Micros writes microseconds with three digits, in the unit that suits them.
func Micros(us float64) string {
	switch {
	case us < 1e3:
		return digits(us) + " µs"
	case us < 1e6:
		return digits(us/1e3) + " ms"
	}
	return digits(us/1e6) + " s"
}

// Bytes writes bytes with three digits, in the unit that suits them.
func Bytes(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	i := 0
	for n >= 999.5 && i < len(units)-1 {
		n /= 1000
		i++
	}
	return digits(n) + " " + units[i]
}

// digits writes a number with three digits, or all of those before the point.
func digits(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return number(v)
}

func short(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// number writes a whole number with its thousands apart.
func number(v float64) string {
	if math.IsNaN(v) || math.Abs(v) >= 1e15 {
		return short(v)
	}
	s := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
