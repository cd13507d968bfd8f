package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"martlet/cmd/internal/bench/result"
)

// The size of a plot, and what is left of it for the axes.
const (
	wide   = 1000.0
	high   = 300.0
	left   = 78.0
	right  = 14.0
	top    = 26.0
	bottom = 30.0
)

// colours is how many there are.
const colours = 5

// series is one line.
type series struct {
	name string
	x, y []float64
}

// axis maps what is measured to where it is drawn.
type axis struct {
	from, to float64 // what is shown
	log      bool
	at, size float64 // where it is; a negative size goes upwards
}

func (a axis) place(v float64) float64 {
	from, to := a.from, a.to
	if a.log {
		v, from, to = math.Log10(max(v, a.from)), math.Log10(from), math.Log10(to)
	}
	if to <= from {
		return a.at
	}
	return a.at + a.size*min(max((v-from)/(to-from), 0), 1)
}

// marks are the values at which an axis has a line.
func (a axis) marks() (all []float64) {
	if a.log {
		for v := math.Pow(10, math.Ceil(math.Log10(a.from)-1e-9)); v <= a.to*(1+1e-9) && len(all) < 20; v *= 10 {
			all = append(all, v)
		}
		return all
	}
	step := math.Pow(10, math.Floor(math.Log10(max(a.to-a.from, 1e-9))))
	for _, f := range []float64{0.1, 0.2, 0.5, 1} {
		if (a.to-a.from)/(step*f) <= 8 {
			step *= f
			break
		}
	}
	for v := math.Ceil(a.from/step) * step; v <= a.to*(1+1e-9) && len(all) < 20; v += step {
		all = append(all, v)
	}
	return all
}

// n writes a coordinate.
func n(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// frame draws the axes, the names at their marks, and which colour is what.
func (p *page) frame(x, y axis, atX, atY func(float64) string, names []string) {
	p.printf("<svg viewBox=\"0 0 %s %s\" role=\"img\">\n", n(wide), n(high))
	for _, v := range y.marks() {
		at := y.place(v)
		p.printf("<line class=\"grid\" x1=\"%s\" x2=\"%s\" y1=\"%s\" y2=\"%s\"/><text x=\"%s\" y=\"%s\" text-anchor=\"end\">%s</text>\n", n(left), n(wide-right), n(at), n(at), n(left-8), n(at+4), text(atY(v)))
	}
	for _, v := range x.marks() {
		at := x.place(v)
		p.printf("<line class=\"grid\" x1=\"%s\" x2=\"%s\" y1=\"%s\" y2=\"%s\"/><text x=\"%s\" y=\"%s\" text-anchor=\"middle\">%s</text>\n", n(at), n(at), n(top), n(high-bottom), n(at), n(high-bottom+18), text(atX(v)))
	}
	at := left
	for i, name := range names {
		p.printf("<rect class=\"s%d\" x=\"%s\" y=\"6\" width=\"12\" height=\"12\"/><text x=\"%s\" y=\"16\">%s</text>\n", i%colours, n(at), n(at+17), text(name))
		at += 30 + 7.5*float64(len(name))
	}
}

func (p *page) lines(x, y axis, all []series) {
	for i, s := range all {
		var points strings.Builder
		for j := range s.x {
			fmt.Fprintf(&points, "%s,%s ", n(x.place(s.x[j])), n(y.place(s.y[j])))
		}
		p.printf("<polyline class=\"s%d\" points=\"%s\"><title>%s</title></polyline>\n", i%colours, strings.TrimSpace(points.String()), text(s.name))
	}
}

func across(from, to float64, log bool) axis {
	return axis{from: from, to: to, log: log, at: left, size: wide - left - right}
}

func upwards(from, to float64, log bool) axis {
	return axis{from: from, to: to, log: log, at: high - bottom, size: -(high - bottom - top)}
}

// maxLines bounds how many lines a plot has.
const maxLines = 20

// overTime draws what was done in each second of each round.
func (p *page) overTime(r *result.Report) {
	var all []series
	var names []string
	longest, most := 0.0, 0.0
	for i, round := range r.Rounds[:min(len(r.Rounds), maxLines)] {
		s := series{name: "round " + strconv.Itoa(i+1)}
		before := result.Point{}
		for _, point := range round.Series {
			if took := point.Second - before.Second; took > 0.2 { // the last may be of a moment
				rate := float64(point.Operations-before.Operations) / took
				s.x, s.y = append(s.x, point.Second), append(s.y, rate)
				longest, most = max(longest, point.Second), max(most, rate)
			}
			before = point
		}
		if len(s.x) > 0 {
			all, names = append(all, s), append(names, s.name)
		}
	}
	if most <= 0 || longest <= 0 {
		p.printf("<p class=\"faint\">It was over too soon.</p>\n")
		return
	}
	x, y := across(0, longest, false), upwards(0, most*1.05, false)
	p.frame(x, y, func(v float64) string { return short(v) + " s" }, number, names)
	p.lines(x, y, all)
	p.printf("</svg>\n")
}

// latencies are the operations of all rounds that have some, and from where to where those are.
func latencies(r *result.Report, of func(result.Operation) bool) (all []result.Operation, names []string, low, most float64) {
	low = math.Inf(1)
	for i, round := range r.Rounds {
		for _, o := range round.Operations {
			if len(all) == maxLines || !of(o) || !(o.Latency.Max > 0) {
				continue
			}
			name := o.Kind
			if len(r.Rounds) > 1 {
				name += " " + strconv.Itoa(i+1)
			}
			all, names = append(all, o), append(names, name)
			low, most = min(low, max(o.Latency.Min, 1)), max(most, o.Latency.Max)
		}
	}
	return all, names, math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(max(most, low*1.01))))
}

// percentiles draws latencies by the part that is slower, on scales on which each tenth of it, and each
// tenfold latency, has the same room.
func (p *page) percentiles(r *result.Report) {
	ops, names, low, most := latencies(r, func(o result.Operation) bool { return len(o.Curve) > 1 })
	if len(ops) == 0 {
		p.printf("<p class=\"faint\">Nothing was answered.</p>\n")
		return
	}
	var all []series
	rarest := 0.0
	for i, o := range ops {
		s := series{name: names[i]}
		for _, c := range o.Curve {
			if c.Percent < 100 {
				rare := -math.Log10(1 - c.Percent/100)
				s.x, s.y = append(s.x, rare), append(s.y, c.Micros)
				rarest = max(rarest, rare)
			}
		}
		s.x, s.y = append(s.x, rarest), append(s.y, o.Latency.Max)
		all = append(all, s)
	}
	x, y := across(0, max(math.Ceil(rarest), 1), false), upwards(low, most, true)
	p.frame(x, y, func(v float64) string {
		if v != math.Trunc(v) {
			return ""
		}
		return strconv.FormatFloat(100*(1-math.Pow(10, -v)), 'g', 12, 64) + " %"
	}, Micros, names)
	p.lines(x, y, all)
	p.printf("</svg>\n")
}

// histograms draws how many latencies there were of each length, for each kind, all rounds
// together.
func (p *page) histograms(r *result.Report) {
	ops, _, low, most := latencies(r, func(o result.Operation) bool { return len(o.Bars) > 0 })
	var kinds []string
	sums := map[string]map[float64]result.Bar{}
	for _, o := range ops {
		if sums[o.Kind] == nil {
			kinds = append(kinds, o.Kind)
			sums[o.Kind] = map[float64]result.Bar{}
		}
		for _, b := range o.Bars {
			b.Count += sums[o.Kind][b.From].Count
			sums[o.Kind][b.From] = b
		}
	}
	for i, kind := range kinds {
		highest := int64(0)
		for _, b := range sums[kind] {
			highest = max(highest, b.Count)
		}
		x, y := across(low, most, true), upwards(0, float64(highest)*1.05, false)
		p.frame(x, y, Micros, number, nil)
		for _, b := range sums[kind] {
			from, to, upTo := x.place(b.From), x.place(b.To), y.place(float64(b.Count))
			p.printf("<rect class=\"s%d\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\"><title>%s, %s to %s: %s</title></rect>\n",
				i%colours, n(from), n(upTo), n(max(to-from-1, 1)), n(high-bottom-upTo), text(kind), text(Micros(b.From)), text(Micros(b.To)), number(float64(b.Count)))
		}
		p.printf("<text x=\"%s\" y=\"16\">%s</text></svg>\n", n(left), text(kind))
	}
}
