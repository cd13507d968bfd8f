package work

import (
	"fmt"
	"strconv"
	"strings"
)

// A Kind is what an operation does.
type Kind uint8

// The kinds of operations.
const (
	Put Kind = iota
	Get
	Head
	Delete
	List

	Kinds = 5 // how many there are
)

var kindNames = [Kinds]string{"put", "get", "head", "delete", "list"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "operation " + strconv.Itoa(int(k))
}

// KindNames are all kinds, with commas between.
func KindNames() string { return strings.Join(kindNames[:], ", ") }

// A Mix says how often each kind is chosen, relative to the others.
type Mix [Kinds]float64

// Only is a mix of one kind.
func Only(k Kind) (m Mix) {
	m[k] = 1
	return m
}

// ParseMix reads weights such as get=60,put=30,delete=10.
func ParseMix(text string) (m Mix, err error) {
	for field := range strings.SplitSeq(text, ",") {
		name, weightText, _ := strings.Cut(field, "=")
		k := -1
		for i, n := range kindNames {
			if n == name {
				k = i
			}
		}
		if k < 0 {
			return Mix{}, fmt.Errorf("%q: %q is no operation: want %s", field, name, KindNames())
		}
		weight, err := strconv.ParseFloat(weightText, 64)
		switch {
		case err != nil || !(weight > 0 && weight <= 1e9):
			return Mix{}, fmt.Errorf("%q: %q is no weight: want a number above 0", field, weightText)
		case m[k] != 0:
			return Mix{}, fmt.Errorf("%q: %s has a weight already", field, name)
		}
		m[k] = weight
	}
	return m, nil
}

func (m Mix) sum() (sum float64) {
	for _, w := range m {
		sum += w
	}
	return sum
}

// Share is how large a part of all operations those of a kind are.
func (m Mix) Share(k Kind) float64 {
	if sum := m.sum(); sum > 0 {
		return m[k] / sum
	}
	return 0
}

// pick returns the kind that a number from 0 up to 1 chooses.
func (m Mix) pick(at float64) Kind {
	at *= m.sum()
	last := Put
	for k, w := range m {
		if w == 0 {
			continue
		}
		last = Kind(k)
		if at < w {
			break
		}
		at -= w
	}
	return last
}

// String writes a mix as ParseMix reads it.
func (m Mix) String() string {
	var all []string
	for k, w := range m {
		if w > 0 {
			all = append(all, Kind(k).String()+"="+strconv.FormatFloat(w, 'g', -1, 64))
		}
	}
	return strings.Join(all, ",")
}
