package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/health"
)

// screen is a report for people, no line of which is wider than the screen: what is too long is cut.
type screen struct {
	*page
	width  int  // columns
	height int  // lines that there is room for; 0 is no bound
	all    bool // nothing is left out

	lines int
}

const red style = "31"

// How much is shown without --all: findings, and processes; of those that nothing is wrong with only where they are few.
const (
	mostFindings  = 20
	mostProcesses = 12
)

func (s *screen) print(r *health.Report) {
	s.line(s.paintLevel(r.Level, cut(r.Summary, s.width)))
	s.findings(r)
	s.processes(r)
	name := cut(fmt.Sprintf("cluster %s, %s", r.Cluster, r.Time.Format(time.DateTime)), s.width)
	s.line(s.paint(dim, name))
}

// line prints a line if there is room for it.
func (s *screen) line(text string) {
	s.lines++
	switch {
	case s.height == 0 || s.all || s.lines < s.height:
		s.printf("%s\n", text)
	case s.lines == s.height:
		s.printf("%s\n", s.paint(dim, cut("... the window is too small for the rest", s.width)))
	}
}

func (s *screen) paintLevel(l health.Level, text string) string {
	return s.paint(map[health.Level]style{health.Note: dim, health.Warning: yellow, health.Critical: red}[l], text)
}

// findings prints what was found: the level, what it is about, where, and what.
func (s *screen) findings(r *health.Report) {
	if len(r.Findings) == 0 {
		return
	}
	s.line("")
	// Where, and what, have what is left of the width.
	room := max(s.width-len("CRITICAL  replication  ")-2, 20)
	where := 0
	for _, f := range r.Findings {
		where = min(max(where, utf8.RuneCountInString(spots(f.Where, room*2/5))), room*2/5)
	}
	for i, f := range r.Findings {
		if i == mostFindings && !s.all && len(r.Findings) > mostFindings+1 {
			s.line(s.paint(dim, cut(fmt.Sprintf("and %d more: --all", len(r.Findings)-i), s.width)))
			return
		}
		level := strings.ToUpper(f.Level.String())
		text := fmt.Sprintf("%-8s  %-11s  %s  %s", level, f.About, pad(spots(f.Where, where), where), f.Text)
		s.line(s.paintLevel(f.Level, strings.TrimRight(cut(text, s.width), " ")))
	}
}

// spots lists as many places as there is room for.
func spots(all []health.Spot, room int) string {
	text := ""
	for i, spot := range all {
		one := spot.Place
		if spot.Detail != "" {
			one += " " + spot.Detail
		}
		if i > 0 {
			one = ", " + one
		}
		rest := ""
		if n := len(all) - i - 1; n > 0 {
			rest = fmt.Sprintf(" +%d", n)
		}
		if i > 0 && utf8.RuneCountInString(text+one+rest) > room {
			return text + fmt.Sprintf(" +%d", len(all)-i)
		}
		if i == 0 {
			one = cut(one, room-utf8.RuneCountInString(rest))
		}
		text += one
	}
	return text
}

// pad fills up with spaces.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// cut shortens a line to so many columns.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	runes := []rune(text)
	return string(runes[:max(width-1, 0)]) + "…"
}

// processes prints a line for each with which something is wrong, and for the others where there are few.
func (s *screen) processes(r *health.Report) {
	var rows [][]cell
	var left [2]int // storage nodes, proxies
	every := s.all || len(r.Processes) <= mostProcesses
	for i := range r.Processes {
		p := &r.Processes[i]
		if !every && (p.Level < health.Warning || len(rows) == mostProcesses) {
			left[map[bool]int{true: 1}[p.Role == config.KindProxy]]++
			continue
		}
		rows = append(rows, processRow(p))
	}
	if len(rows) > 0 {
		s.line("")
		table := &page{colour: s.colour}
		names := []string{"PROCESS", "ROLE", "UP>", "CLOCK>", "DEVICES>", "FULL>", "REPLICATED>", "QUEUED>", "CONFIG", "VERSION"}
		table.table("", append([][]cell{head(names...)}, fitting(rows, names, s.width)...))
		for line := range strings.Lines(table.String()) {
			s.line(strings.TrimSuffix(line, "\n"))
		}
	}
	if n := left[0] + left[1]; n > 0 {
		what := "and %s and %s with nothing wrong"
		if len(rows) == mostProcesses {
			what = "and %s and %s more: --all"
		}
		proxies := some(left[1], "proxy")
		if left[1] != 1 {
			proxies = number(left[1]) + " proxies"
		}
		s.line(s.paint(dim, cut(fmt.Sprintf(what, some(left[0], "storage node"), proxies), s.width)))
	}
	s.line("")
}

// fitting cuts the last columns, and names that are too long, so that no line is wider than the screen.
func fitting(rows [][]cell, names []string, width int) [][]cell {
	for i := range rows {
		rows[i][0].text = cut(rows[i][0].text, max(12, width-68))
	}
	wide := make([]int, len(names))
	for c, n := range names {
		wide[c] = len(strings.TrimSuffix(n, ">"))
		for _, row := range rows {
			wide[c] = max(wide[c], utf8.RuneCountInString(row[c].text))
		}
	}
	last := len(names) - 1
	sum := 0
	for c := range last {
		sum += wide[c] + 2
	}
	for i := range rows {
		rows[i][last].text = cut(rows[i][last].text, max(width-sum, len("VERSION")))
	}
	return rows
}

func processRow(p *health.Process) []cell {
	style := map[health.Level]style{health.Warning: yellow, health.Critical: red}[p.Level]
	row := []cell{left(p.Name).in(style), left(p.Role)}
	if !p.Reachable {
		for range 7 {
			row = append(row, right("?"))
		}
		row[8].right = false
		return append(row, left("?"))
	}
	devices, fullest := "-", "-"
	used, most := 0, 0.0
	ago, known := -1.0, true
	for _, d := range p.Devices {
		if d.Mounted && d.Error == "" && !d.Loading {
			used++
		}
		most = max(most, d.UsedPercent)
		if d.Mounted {
			ago = max(ago, d.Replicated)
			known = known && d.Replicated >= 0
		}
	}
	replicated, queued := "-", "-"
	if p.Role == config.KindStorage {
		devices, fullest = fmt.Sprintf("%d/%d", used, len(p.Devices)), fmt.Sprintf("%.0f%%", most)
		if replicated = "?"; known && ago >= 0 {
			replicated = seconds(ago) + " ago"
		}
		waiting := 0
		for _, q := range p.Queues {
			waiting += int(q.Length)
		}
		queued = number(waiting)
	}
	return append(row, right(seconds(p.Uptime)), right(clockText(p.Skew)), right(devices), right(fullest), right(replicated), right(queued),
		left(p.Checksum), left(p.Version))
}

// clockText writes how far a clock is from the others.
func clockText(skew float64) string {
	switch d := time.Duration(skew * float64(time.Second)); {
	case d.Abs() < 100*time.Millisecond:
		return fmt.Sprintf("%+.1fms", skew*1e3)
	case d.Abs() < 100*time.Second:
		return fmt.Sprintf("%+.1fs", skew)
	default:
		return fmt.Sprintf("%+.0fs", skew)
	}
}

// eachLine ends each line of a text otherwise.
func eachLine(text, end string) string {
	return strings.ReplaceAll(text, "\n", end)
}
