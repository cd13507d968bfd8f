package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// page is text for people, coloured where it goes to a terminal.
type page struct {
	strings.Builder
	colour bool
}

func newPage(out io.Writer) *page {
	return &page{colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && terminal(out)}
}

func terminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.Builder, format, args...) }

// A style is what an escape sequence switches on.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	yellow style = "33"
)

func (p *page) paint(s style, text string) string {
	if s == plain || !p.colour || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// cell is a field of a table.
type cell struct {
	text  string
	style style
	right bool
}

func left(text string) cell        { return cell{text: text} }
func right(text string) cell       { return cell{text: text, right: true} }
func (c cell) in(style style) cell { c.style = style; return c }

// table prints rows with their columns aligned, each line indented.
func (p *page) table(indent string, rows [][]cell) {
	var width []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, c := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c.text))
			if c.right {
				line.WriteString(pad + p.paint(c.style, c.text))
			} else {
				line.WriteString(p.paint(c.style, c.text) + pad)
			}
		}
		p.printf("%s%s\n", indent, strings.TrimRight(line.String(), " "))
	}
}

// head is the first row of a table: names, those that end in > aligned to the right.
func head(names ...string) []cell {
	row := make([]cell, len(names))
	for i, n := range names {
		n, toRight := strings.CutSuffix(n, ">")
		row[i] = cell{text: n, style: dim, right: toRight}
	}
	return row
}

// number writes a whole number with its thousands apart.
func number(n int) string {
	text := strconv.Itoa(n)
	sign, digits := "", text
	if n < 0 {
		sign, digits = "-", text[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// some is number with a noun behind it: 1 replica, 2 replicas.
func some(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "x"):
		return number(n) + " " + noun + "es"
	}
	return number(n) + " " + noun + "s"
}

// short writes a number with as many decimals as it needs, at most.
func short(n float64, decimals int) string {
	text := strconv.FormatFloat(n, 'f', decimals, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if text == "-0" {
		return "0"
	}
	return text
}

// fixed writes a number with two decimals.
func fixed(n float64) string {
	if math.Abs(n) < 0.005 {
		return "0.00"
	}
	return strconv.FormatFloat(n, 'f', 2, 64)
}

// inBytes writes a size in the unit that suits it, as disks are sold.
func inBytes(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	i := 0
	for n >= 999.5 && i < len(units)-1 {
		n /= 1000
		i++
	}
	decimals := 0
	if i > 0 && n < 99.95 {
		decimals = 1
	}
	return strconv.FormatFloat(n, 'f', decimals, 64) + " " + units[i]
}

// lasting writes a span of time in its two largest units.
func lasting(d time.Duration) string {
	s := int64(math.Ceil(d.Seconds()))
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm %02ds", s/60, s%60)
	case s < 48*3600:
		return fmt.Sprintf("%dh %02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd %dh", s/86400, s/3600%24)
}

// seconds is lasting for a number of seconds.
func seconds(s float64) string {
	return lasting(time.Duration(min(s, 1e9) * float64(time.Second)))
}
