// Package size reads how large the objects of a benchmark are: one size, a span of
// sizes, or several with weights.
//
//	4KiB                   all of one size
//	1KiB-1MiB              log-uniform: as many between 1 and 2 KiB as between 512 KiB and 1 MiB
//	4KiB:70,1MiB:30        seven of ten are small
//	1KiB-64KiB:9,8MiB:1    spans have weights, too
//
// A size is a number with a unit (B, KiB, MiB, GiB, or the decimal kB, MB, GB) or without
// one, in bytes. What a distribution picks follows from the number that it is given, so
// that who reads an object knows how large it has to be.
package size

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Most is the size that no object may exceed: that of an object of Swift which is no
// large object.
const Most = 5 << 30

// maxParts bounds how many sizes a distribution has.
const maxParts = 64

// units are tried in this order: the longer before what they end in.
var units = []struct {
	name  string
	bytes float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"B", 1},
}

// Parse reads one size, of 0 to Most bytes.
func Parse(text string) (int64, error) {
	number, unit := text, 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = rest, u.bytes
			break
		}
	}
	if number == "" || strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is no size: want a number of bytes, or one with KiB, MiB, GiB, kB, MB or GB", text)
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no size: want a number of bytes, or one with KiB, MiB, GiB, kB, MB or GB", text)
	}
	n *= unit
	switch {
	case n > Most:
		return 0, fmt.Errorf("%q is more than the 5 GiB that an object may have", text)
	case n != math.Trunc(n):
		return 0, fmt.Errorf("%q is no whole number of bytes", text)
	}
	return int64(n), nil
}

// A Dist is a distribution of sizes. The zero value has nothing but empty objects.
type Dist struct {
	text  string
	parts []part
}

type part struct {
	low, high int64 // both are picked
	upTo      float64
}

// ParseDist reads a distribution.
func ParseDist(text string) (Dist, error) {
	d := Dist{text: text}
	fields := strings.Split(text, ",")
	if len(fields) > maxParts {
		return Dist{}, fmt.Errorf("%d sizes are more than %d", len(fields), maxParts)
	}
	sum := 0.0
	for _, field := range fields {
		p, weight, err := parsePart(field, len(fields) > 1)
		if err != nil {
			return Dist{}, err
		}
		sum += weight
		p.upTo = sum
		d.parts = append(d.parts, p)
	}
	for i := range d.parts {
		d.parts[i].upTo /= sum
	}
	return d, nil
}

func parsePart(field string, several bool) (p part, weight float64, err error) {
	sizes, weightText, weighted := strings.Cut(field, ":")
	weight = 1
	if weighted {
		if strings.Trim(weightText, "0123456789.") == "" {
			weight, err = strconv.ParseFloat(weightText, 64)
		}
		if weightText == "" || err != nil || strings.Trim(weightText, "0123456789.") != "" || weight <= 0 || weight > 1e9 {
			return part{}, 0, fmt.Errorf("%q: %q is no weight: want a number above 0", field, weightText)
		}
	} else if several {
		return part{}, 0, fmt.Errorf("%q has no weight: each of several sizes needs one, such as 4KiB:70", field)
	}
	low, high, span := strings.Cut(sizes, "-")
	if p.low, err = Parse(low); err != nil {
		return part{}, 0, err
	}
	p.high = p.low
	if span {
		if p.high, err = Parse(high); err != nil {
			return part{}, 0, err
		}
		if p.low < 1 || p.low > p.high {
			return part{}, 0, fmt.Errorf("%q is no span: want the smaller size first, and at least one byte", sizes)
		}
	}
	return p, weight, nil
}

// String returns what the distribution was read from.
func (d Dist) String() string { return d.text }

// Pick returns the size that follows from two numbers, each of which is spread
// evenly over all that 64 bits can hold.
func (d Dist) Pick(which, within uint64) int64 {
	if len(d.parts) == 0 {
		return 0
	}
	at := fraction(which)
	p := d.parts[len(d.parts)-1]
	for _, candidate := range d.parts {
		if at < candidate.upTo {
			p = candidate
			break
		}
	}
	if p.low == p.high {
		return p.low
	}
	low := math.Log(float64(p.low))
	n := int64(math.Exp(low + fraction(within)*(math.Log(float64(p.high)+1)-low)))
	return min(max(n, p.low), p.high)
}

// Largest returns the largest size that may be picked.
func (d Dist) Largest() (n int64) {
	for _, p := range d.parts {
		n = max(n, p.high)
	}
	return n
}

// fraction is a number as a part of what 64 bits can hold, below 1.
func fraction(n uint64) float64 { return float64(n>>11) / (1 << 53) }
