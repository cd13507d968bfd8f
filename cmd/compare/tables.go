package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"martlet/cmd/internal/bench/result"
	"martlet/cmd/internal/bench/work"
)

// tables is what came of it, as Markdown.
func (m *measuring) tables() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of UTC, %d processors, %s. Medians of %d rounds of %v, least and most in brackets; it took %v.\n",
		m.began.UTC().Format("2006-01-02 15:04"), runtime.NumCPU(), m.machine(), m.rounds, m.duration, time.Since(m.began).Round(time.Second))
	for _, table := range []string{m.costs(), m.latencies(), m.disks(), m.memory(), m.floorTable(), m.curve(), m.failures()} {
		if table != "" {
			b.WriteString("\n" + table)
		}
	}
	return b.String()
}

// table is rows of cells as Markdown; "" where there are none but the head.
func table(rows [][]string) string {
	if len(rows) < 2 {
		return ""
	}
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}

// perStore is a table with a column for each store; cell is "" where nothing was measured.
func (m *measuring) perStore(first string, last string, cell func(l loadOf, f, ours *figures) string) string {
	head := []string{first}
	for _, s := range m.stores {
		head = append(head, s.name)
	}
	if last != "" {
		head = append(head, last)
	}
	rows := [][]string{head}
	for _, l := range loads {
		all := m.figures[l.String()]
		if len(all) == 0 {
			continue
		}
		row := []string{l.String()}
		for i := range m.stores {
			text := ""
			if i < len(all) && len(all[i].cpu) > 0 {
				text = cell(l, all[i], all[0])
			}
			row = append(row, text)
		}
		if strings.Join(row[1:], "") == "" {
			continue
		}
		if last != "" {
			row = append(row, l.most)
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// costs is processor time and rates, of the others also how many times it is that of the first.
func (m *measuring) costs() string {
	return m.perStore("CPU of all servers for each (rate)", "at most", func(_ loadOf, f, ours *figures) string {
		text := fmt.Sprintf("%s [%s–%s] (%s/s)", micros(result.Median(f.cpu)), micros(slices.Min(f.cpu)), micros(slices.Max(f.cpu)), number(result.Median(f.rate)))
		if f != ours && len(ours.cpu) > 0 {
			text += fmt.Sprintf("; %s× CPU, %s× rate", number(result.Median(f.cpu)/result.Median(ours.cpu)), number(result.Median(f.rate)/result.Median(ours.rate)))
		}
		return text
	})
}

func (m *measuring) latencies() string {
	return m.perStore("p50, p99 (p99/p50)", "", func(_ loadOf, f, _ *figures) string {
		return latency(f)
	})
}

// disks is how many bytes were written for each that was stored, by which it can be seen whose figures are of as many.
func (m *measuring) disks() string {
	return m.perStore("written to disks for each byte stored", "", func(l loadOf, f, _ *figures) string {
		if l.kind != work.Put || len(f.written) == 0 {
			return ""
		}
		return number(result.Median(f.written)) + "×"
	})
}

func latency(f *figures) string {
	p50, p99 := result.Median(f.p50), result.Median(f.p99)
	if p50 <= 0 {
		return ""
	}
	return fmt.Sprintf("%s, %s (%s)", micros(p50), micros(p99), number(p99/p50))
}

func (m *measuring) memory() string {
	rows := [][]string{{"peak of all servers", "processes", "anonymous", "resident, added up"}}
	for _, s := range m.stores {
		if s.peak.Processes > 0 {
			rows = append(rows, []string{s.name, fmt.Sprint(s.peak.Processes), megabytes(s.peak.Anonymous), megabytes(s.peak.RSS)})
		}
	}
	return table(rows)
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }

// floorTable has each floor, and how many times it Martlet takes.
func (m *measuring) floorTable() string {
	rows := [][]string{{"4 KiB, 32 clients", "CPU of servers", "rate", "p50, p99 (p99/p50)", m.stores[0].name + " takes, of CPU", "of its rate"}}
	for _, l := range floorLines {
		all := m.figures[l.String()]
		if len(all) == 0 {
			continue
		}
		f := all[len(all)-1]
		ours := m.figures[loadOf{l.kind, floorSize, floorClients, 0, ""}.String()][0]
		cpu := fmt.Sprintf("%s [%s–%s]", micros(result.Median(f.cpu)), micros(slices.Min(f.cpu)), micros(slices.Max(f.cpu)))
		rows = append(rows, []string{
			l.String(), cpu, number(result.Median(f.rate)) + "/s", latency(f),
			number(result.Median(ours.cpu)/result.Median(f.cpu)) + "×", number(result.Median(ours.rate)/result.Median(f.rate)) + "×",
		})
	}
	return table(rows)
}

// curve is how it scales.
func (m *measuring) curve() string {
	rows := [][]string{{"clients, 4 KiB", "PUT: rate", "CPU", "p50, p99 (p99/p50)", "anonymous", "GET: rate", "CPU", "p50, p99 (p99/p50)", "anonymous"}}
	for _, clients := range scale {
		row := []string{fmt.Sprint(clients)}
		for _, kind := range []work.Kind{work.Put, work.Get} {
			all := m.figures[scaleLine(kind, clients)]
			if len(all) == 0 {
				row = append(row, "", "", "", "")
				continue
			}
			f := all[0]
			row = append(row, number(result.Median(f.rate))+"/s", micros(result.Median(f.cpu)), latency(f), megabytes(int64(result.Median(f.anonymous))))
		}
		if strings.Join(row[1:], "") != "" {
			rows = append(rows, row)
		}
	}
	return table(rows)
}

// failures says what was not answered as it should be.
func (m *measuring) failures() string {
	var b strings.Builder
	for _, l := range loads {
		for i, f := range m.figures[l.String()] {
			if f.failed > 0 {
				fmt.Fprintf(&b, "%s, %v: %d failed, such as %s\n", m.stores[i].name, l, f.failed, f.example)
			}
		}
	}
	return b.String()
}

// micros is microseconds, for people: three digits.
func micros(us float64) string {
	switch {
	case us >= 1e6:
		return number(us/1e6) + " s"
	case us >= 1e3:
		return number(us/1e3) + " ms"
	}
	return number(us) + " µs"
}

// number has three digits, and commas between thousands.
func number(v float64) string {
	switch {
	case v >= 999.5:
		text := fmt.Sprintf("%.0f", v)
		for i := len(text) - 3; i > 0; i -= 3 {
			text = text[:i] + "," + text[i:]
		}
		return text
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
