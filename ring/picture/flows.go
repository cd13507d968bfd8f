package picture

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"martlet/ring/forecast"
)

// maxEnds is how many groups a side of a picture of flows has at most, if they can be
// made fewer.
const maxEnds = 40

// end is a group at one side: what gives, or what takes.
type end struct {
	name  string
	sum   int
	y     float64
	used  float64 // of its height, by bands
	place int
}

// Flows draws who gives to whom: on the left the nodes that give partitions, on the
// right those that take them, and between them bands as wide as what flows. Zones
// stand for nodes where there are too many, and regions for zones. The cost is what
// the caption says beside how many replicas move, "" for nothing.
func Flows(w io.Writer, title, cost string, change *forecast.Change) error {
	kind, names, flows := groups(change)
	drawn := 0
	for _, f := range flows {
		drawn += f.Partitions
	}
	inside := change.Moved + change.Assigned + change.Dropped - drawn
	c := &canvas{}
	c.text("title", "start", margin, 40, cut(title, width-2*margin, 17))
	line := fmt.Sprintf("%s replicas go from one %s to another", count(drawn), kind)
	if inside > 0 {
		line += fmt.Sprintf(", %s stay within one", count(inside))
	}
	if cost != "" {
		line += "; " + cost
	}
	c.text("small", "start", margin, 62, line)
	c.high = 84
	if drawn == 0 {
		c.text("", "start", margin, c.high+14, "nothing flows")
		c.high += 40
		return c.write(w, title)
	}
	left, right := ends(names, flows, false), ends(names, flows, true)
	high := min(1500, max(240, 30*float64(max(len(left), len(right)))))
	c.text("small name", "end", sideLeft-12, c.high, "GIVES")
	c.text("small name", "start", sideRight+thick+12, c.high, "TAKES")
	c.high += 12
	scale := min(fit(left, high), fit(right, high))
	stand(left, c.high, high, scale)
	stand(right, c.high, high, scale)
	c.bands(left, right, flows, scale)
	c.ends(left, sideLeft, "give", scale)
	c.ends(right, sideRight, "take", scale)
	c.high += high + margin
	return c.write(w, title)
}

const (
	sideLeft  = 300.0
	thick     = 12.0 // of an end
	sideRight = width - 300.0 - thick
	endGap    = 8.0
	numbers   = 62.0 // for the number beside an end
)

// groups finds the finest grouping that can be seen.
func groups(c *forecast.Change) (kind string, names []string, flows []forecast.Flow) {
	for _, g := range []struct {
		kind string
		name func(d *forecast.Device) string
	}{
		{"node", func(d *forecast.Device) string { return fmt.Sprintf("r%d z%d %s", d.Region, d.Zone, d.IP) }},
		{"zone", func(d *forecast.Device) string { return fmt.Sprintf("region %d zone %d", d.Region, d.Zone) }},
		{"region", func(d *forecast.Device) string { return fmt.Sprintf("region %d", d.Region) }},
	} {
		kind = g.kind
		names, flows = c.Group(g.name)
		if len(ends(names, flows, false)) <= maxEnds && len(ends(names, flows, true)) <= maxEnds {
			break
		}
	}
	return kind, names, flows
}

// ends sums up one side, in the order of the groups; nobody comes last.
func ends(names []string, flows []forecast.Flow, takes bool) []end {
	sums := make([]int, len(names)+1)
	for _, f := range flows {
		at := f.From
		if takes {
			at = f.To
		}
		if at == forecast.Nobody {
			at = len(names)
		}
		sums[at] += f.Partitions
	}
	var all []end
	for i, sum := range sums {
		if sum == 0 {
			continue
		}
		e := end{sum: sum, place: i}
		switch {
		case i < len(names):
			e.name = names[i]
		case takes:
			e.name, e.place = "no more", forecast.Nobody
		default:
			e.name, e.place = "not assigned before", forecast.Nobody
		}
		all = append(all, e)
	}
	return all
}

// slot is the least room that an end gets, for its name.
const slot = 16.0

// room is how high a side is.
func room(side []end, scale float64) float64 {
	all := endGap * float64(len(side)-1)
	for _, e := range side {
		all += max(slot, float64(e.sum)*scale)
	}
	return all
}

// fit returns how high one partition can be for a side to fit.
func fit(side []end, high float64) float64 {
	below, above := 0.0, high
	for range 60 {
		if middle := (below + above) / 2; room(side, middle) <= high {
			below = middle
		} else {
			above = middle
		}
	}
	return below
}

// stand gives the ends of a side their places, in the middle of the height.
func stand(side []end, from, high, scale float64) {
	y := from + (high-room(side, scale))/2
	for i := range side {
		h := float64(side[i].sum) * scale
		side[i].y = y + (max(slot, h)-h)/2
		y += max(slot, h) + endGap
	}
}

// bands draws what flows, each end's bands in the order of the other ends.
func (c *canvas) bands(left, right []end, flows []forecast.Flow, scale float64) {
	find := func(side []end, place int) *end {
		return &side[slices.IndexFunc(side, func(e end) bool { return e.place == place })]
	}
	flows = slices.Clone(flows)
	slices.SortStableFunc(flows, func(a, b forecast.Flow) int {
		return cmp.Or(cmp.Compare(find(left, a.From).y, find(left, b.From).y), cmp.Compare(find(right, a.To).y, find(right, b.To).y))
	})
	for _, f := range flows {
		from, to := find(left, f.From), find(right, f.To)
		h := float64(f.Partitions) * scale
		y1, y2 := from.y+from.used, to.y+to.used
		from.used += h
		to.used += h
		x1, x2 := sideLeft+thick, sideRight
		middle := (x1 + x2) / 2
		fmt.Fprintf(&c.body, `<path class="flow take" d="M%s %sC%s %s %s %s %s %sV%sC%s %s %s %s %s %sZ"><title>%s</title></path>`+"\n",
			n(x1), n(y1), n(middle), n(y1), n(middle), n(y2), n(x2), n(y2), n(y2+h),
			n(middle), n(y2+h), n(middle), n(y1+h), n(x1), n(y1+h),
			escape(fmt.Sprintf("%s to %s: %s", from.name, to.name, count(f.Partitions))))
	}
}

func (c *canvas) ends(side []end, x float64, class string, scale float64) {
	for _, e := range side {
		h := float64(e.sum) * scale
		c.box(class, x, e.y, thick, max(1, h), min(3, h/2), fmt.Sprintf("%s: %s", e.name, count(e.sum)))
		middle := e.y + h/2 + 4
		if class == "give" {
			c.text("name", "end", x-12, middle, count(e.sum))
			c.text("", "end", x-12-numbers, middle, cut(e.name, sideLeft-12-numbers-margin, 12))
		} else {
			c.text("name", "start", x+thick+12, middle, count(e.sum))
			c.text("", "start", x+thick+12+numbers, middle, cut(e.name, sideLeft-12-numbers-margin, 12))
		}
	}
}
