package quorum

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"martlet/ring"
)

// The orders in which replicas are read.
const (
	Shuffle      = "shuffle"  // by chance
	ByAffinity   = "affinity" // nearest first, by chance among those that are as near
	ByTiming     = "timing"   // fastest first, by chance among those that are as fast
	maxAffinity  = 1024       // rules in one text
	maxNodeCount = 10000
)

// Affinity says which devices are near. The zero value knows of none.
type Affinity struct {
	text  string
	rules []nearness
}

// nearness is the priority of a region, or of one zone of it.
type nearness struct {
	region, zone int // zone is -1 for all of the region
	priority     int // the lower the nearer
}

// ParseAffinity reads "r1z1=100, r1=200, r2=300": regions, and zones of them, each
// with a priority, of which the lowest is asked first. Without a priority it is 0,
// as in "r1, r2z3". What is named nowhere comes last. A text of white space is
// none.
func ParseAffinity(text string) (Affinity, error) {
	a := Affinity{text: strings.TrimSpace(text)}
	if a.text == "" {
		return Affinity{}, nil
	}
	for item := range strings.SplitSeq(text, ",") {
		n, err := parseNearness(strings.TrimSpace(item))
		if err != nil {
			return Affinity{}, err
		}
		if slices.ContainsFunc(a.rules, func(o nearness) bool { return o.region == n.region && o.zone == n.zone }) {
			return Affinity{}, fmt.Errorf("%q is there twice", strings.TrimSpace(item))
		}
		if a.rules = append(a.rules, n); len(a.rules) > maxAffinity {
			return Affinity{}, fmt.Errorf("more than %d regions and zones", maxAffinity)
		}
	}
	return a, nil
}

func parseNearness(item string) (nearness, error) {
	bad := fmt.Errorf("%q is not of the form r<region>, r<region>z<zone> or either with =<priority>", item)
	place, priority, weighed := strings.Cut(item, "=")
	region, isRegion := strings.CutPrefix(strings.TrimSpace(place), "r")
	region, zone, zoned := strings.Cut(region, "z")
	n := nearness{zone: -1}
	ok := isRegion && number(region, &n.region)
	if zoned {
		ok = ok && number(zone, &n.zone)
	}
	if weighed {
		ok = ok && number(strings.TrimSpace(priority), &n.priority)
	}
	if !ok {
		return nearness{}, bad
	}
	return n, nil
}

// number reads decimal digits alone.
func number(text string, to *int) bool {
	n, err := strconv.ParseUint(text, 10, 31)
	*to = int(n)
	return err == nil
}

// UnmarshalText is ParseAffinity.
func (a *Affinity) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAffinity(string(text))
	return err
}

// MarshalText gives the text back that was read.
func (a Affinity) MarshalText() ([]byte, error) { return []byte(a.text), nil }

func (a Affinity) String() string { return a.text }

// Empty reports whether no device is near.
func (a Affinity) Empty() bool { return len(a.rules) == 0 }

// priority is that of the most exact rule for a device. A zone goes before its
// region.
func (a Affinity) priority(d *ring.Device) int {
	best := math.MaxInt
	for _, n := range a.rules {
		if n.region != d.Region {
			continue
		}
		if n.zone == d.Zone {
			return n.priority
		}
		if n.zone < 0 {
			best = n.priority
		}
	}
	return best
}

// near reports whether a device is named.
func (a Affinity) near(d *ring.Device) bool { return a.priority(d) != math.MaxInt }

// order puts the nearest devices first and keeps the order of those that are as
// near.
func (a Affinity) order(list []*ring.Device) {
	if a.Empty() {
		return
	}
	slices.SortStableFunc(list, func(x, y *ring.Device) int {
		px, py := a.priority(x), a.priority(y)
		switch {
		case px < py:
			return -1
		case px > py:
			return 1
		}
		return 0
	})
}

// NodeCount is a number of devices: N of them, or N for each replica. The zero
// value is not set.
type NodeCount struct {
	N    int
	Each bool
}

// ParseNodeCount reads "6" or "2 * replicas".
func ParseNodeCount(text string) (NodeCount, error) {
	head, rest, each := strings.Cut(text, "*")
	var c NodeCount
	if !number(strings.TrimSpace(head), &c.N) || c.N < 1 || c.N > maxNodeCount || each && strings.TrimSpace(rest) != "replicas" {
		return NodeCount{}, fmt.Errorf("%q is not of the form \"6\" or \"2 * replicas\", with a number from 1 to %d", text, maxNodeCount)
	}
	c.Each = each
	return c, nil
}

// UnmarshalText is ParseNodeCount.
func (c *NodeCount) UnmarshalText(text []byte) (err error) {
	*c, err = ParseNodeCount(string(text))
	return err
}

// MarshalText is what ParseNodeCount reads.
func (c NodeCount) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func (c NodeCount) String() string {
	if c.Each {
		return strconv.Itoa(c.N) + " * replicas"
	}
	return strconv.Itoa(c.N)
}

// Of returns the number for a path of so many replicas.
func (c NodeCount) Of(replicas int) int {
	if c.Each {
		return c.N * replicas
	}
	return c.N
}
