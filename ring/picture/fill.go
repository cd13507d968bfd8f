package picture

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"martlet/ring"
	"martlet/ring/builder"
)

// maxBars is how many bars a picture has at most, if it has more than one for each
// zone.
const maxBars = 3000

// bar is a device; or a node or zone, where there are too many devices.
type bar struct {
	title      string
	held, wish float64
	idle       bool // it wants nothing: removed, or without weight
}

// node is the bars that stand together under a name.
type node struct {
	name string
	bars []bar
}

type zone struct {
	name  string
	nodes []node
}

type region struct {
	name  string
	zones []zone
}

// Fill draws the tree of regions, zones, nodes and devices: a bar for each device, as
// high as what it holds, and across it a mark where its wish is. All have one scale.
func Fill(w io.Writer, title string, devices []builder.DeviceStats) error {
	devices = slices.Clone(devices)
	slices.SortStableFunc(devices, func(a, b builder.DeviceStats) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.IP, b.IP), cmp.Compare(a.ID, b.ID))
	})
	per := "device"
	regions := tree(devices, 0)
	if len(devices) > maxBars {
		per = "node"
		regions = tree(devices, 1)
		if bars(regions) > maxBars {
			per = "zone"
			regions = tree(devices, 2)
		}
	}
	c := &canvas{}
	c.text("title", "start", margin, 40, cut(title, width-2*margin, 17))
	c.legend(64, per, len(devices))
	c.high = 92
	f := newFill(regions)
	if len(devices) == 0 {
		c.text("", "start", margin, c.high+14, "no devices")
		c.high += 30
	}
	for _, r := range regions {
		c.region(f, r)
	}
	c.high += margin - 12
	return c.write(w, title)
}

func bars(regions []region) (n int) {
	for _, r := range regions {
		for _, z := range r.zones {
			for _, m := range z.nodes {
				n += len(m.bars)
			}
		}
	}
	return n
}

// tree groups sorted devices. With merge 1 a node's devices are one bar, with 2 a
// zone's.
func tree(devices []builder.DeviceStats, merge int) []region {
	var regions []region
	var last ring.Device
	for i, d := range devices {
		newRegion := i == 0 || d.Region != last.Region
		newZone := newRegion || d.Zone != last.Zone
		newNode := newZone || d.IP != last.IP
		last = d.Device
		if newRegion {
			regions = append(regions, region{name: fmt.Sprintf("region %d", d.Region)})
		}
		r := &regions[len(regions)-1]
		if newZone {
			r.zones = append(r.zones, zone{name: fmt.Sprintf("zone %d", d.Zone)})
		}
		z := &r.zones[len(r.zones)-1]
		if newNode && merge < 2 || newZone {
			name := d.IP
			if merge == 2 {
				name = ""
			}
			z.nodes = append(z.nodes, node{name: name})
		}
		m := &z.nodes[len(z.nodes)-1]
		if merge > 0 && len(m.bars) > 0 {
			m.bars[0].merge(&d)
			continue
		}
		m.bars = append(m.bars, barOf(&d, merge))
	}
	return regions
}

func barOf(d *builder.DeviceStats, merge int) bar {
	b := bar{held: float64(d.Held), wish: d.Wish, idle: d.Wish == 0}
	if merge == 0 {
		b.title = fmt.Sprintf("d%d %s/%s: holds %s, weight %s asks for %s", d.ID, d.Addr(), d.Name, count(d.Held), n(d.Weight), n(d.Wish))
		if d.Removed {
			b.title += ", removed"
		}
		if d.Meta != "" {
			b.title += ", " + d.Meta
		}
	} else {
		b.title = fmt.Sprintf("r%dz%d", d.Region, d.Zone)
		if merge == 1 {
			b.title += "-" + d.IP
		}
	}
	return b
}

func (b *bar) merge(d *builder.DeviceStats) {
	b.held += float64(d.Held)
	b.wish += d.Wish
	b.idle = b.wish == 0
}

// fill is the scale of a picture.
type fill struct {
	most        float64 // what the highest bar stands for
	bar, gap    float64 // widths
	tall        float64 // of the highest bar
	labels      bool    // of nodes
	nodeMinimum float64
	nodeGap     float64 // between nodes
}

// sizes are the widths of bars and gaps and the heights to choose from, the largest
// first.
var sizes = []fill{
	{bar: 22, gap: 7, tall: 120}, {bar: 16, gap: 5, tall: 100}, {bar: 12, gap: 4, tall: 84}, {bar: 9.5, gap: 3, tall: 76},
	{bar: 7, gap: 3, tall: 64}, {bar: 5.5, gap: 2, tall: 56}, {bar: 4, gap: 1.5, tall: 44},
}

// goodHeight is how high the bars may make a picture before they are made smaller.
const goodHeight = 1200

// newFill chooses the largest size with which a picture is not too high.
func newFill(regions []region) fill {
	most, nodes := 1.0, 0
	for _, r := range regions {
		for _, z := range r.zones {
			nodes += len(z.nodes)
			for _, m := range z.nodes {
				for _, b := range m.bars {
					most = max(most, b.held, b.wish)
				}
			}
		}
	}
	var f fill
	for _, f = range sizes {
		f.most, f.labels, f.nodeGap = most, nodes <= 400, 2*f.gap+2
		if f.labels {
			f.nodeMinimum, f.nodeGap = 74, 18
		}
		high := 0.0
		for i := range regions {
			_, h := f.lay(&regions[i])
			high += h
		}
		if high <= goodHeight {
			break
		}
	}
	return f
}

func (f *fill) nodeWidth(m *node) float64 {
	return max(f.nodeMinimum, float64(len(m.bars))*(f.bar+f.gap)-f.gap)
}

func (f *fill) nodeHeight() float64 {
	if f.labels {
		return f.tall + 42
	}
	return f.tall + 12
}

const (
	pad     = 14.0 // inside a zone
	zoneGap = 12.0
	top     = 32.0 // the name of a zone
)

// zoneSize lays the nodes of a zone out in rows.
func (f *fill) zoneSize(z *zone, room float64) (w, h float64) {
	x, rows := 0.0, 1
	for i := range z.nodes {
		own := f.nodeWidth(&z.nodes[i])
		if x > 0 && x+f.nodeGap+own > room {
			rows++
			x = 0
		}
		if x > 0 {
			x += f.nodeGap
		}
		x += own
		w = max(w, x)
	}
	return max(w, 60) + 2*pad, top + float64(rows)*f.nodeHeight() + pad
}

func (c *canvas) legend(y float64, per string, devices int) {
	x := margin
	item := func(text string, draw func()) {
		draw()
		c.text("small", "start", x+20, y+4, text)
		x += 20 + wide(text, 10.5) + 22
	}
	item("held", func() { c.box("held", x, y-5, 14, 10, 2, "") })
	item("held beyond its wish", func() { c.box("over", x, y-5, 14, 10, 2, "") })
	item("wished for and not held yet", func() { c.box("track", x, y-5, 14, 10, 2, "") })
	item("its weight's share", func() { c.line("wish", x, y, x+14, y) })
	item("removed or without weight", func() { c.box("gone", x, y-5, 14, 10, 2, "") })
	note := fmt.Sprintf("%s devices", count(devices))
	if devices == 1 {
		note = "1 device"
	}
	if per != "device" {
		note += ", too many to draw: a bar is a " + per
	}
	c.text("small", "end", width-margin, y+4, note)
}

// placed is a zone at its place in a region.
type placed struct {
	z          *zone
	x, y, w, h float64
}

// lay places the zones of a region beside each other, as many as there is room for.
func (f *fill) lay(r *region) (all []placed, high float64) {
	const room = width - 2*margin - 2*zoneGap
	x, y, rowHigh := 0.0, 32.0, 0.0
	for i := range r.zones {
		w, h := f.zoneSize(&r.zones[i], room-2*pad)
		if x > 0 && x+w > room {
			x, y, rowHigh = 0, y+rowHigh+zoneGap, 0
		}
		all = append(all, placed{&r.zones[i], margin + zoneGap + x, y, w, h})
		x += w + zoneGap
		rowHigh = max(rowHigh, h)
	}
	return all, y + rowHigh + zoneGap
}

func (c *canvas) region(f fill, r region) {
	all, high := f.lay(&r)
	c.box("region", margin, c.high, width-2*margin, high, 10, "")
	c.text("name", "start", margin+zoneGap+2, c.high+21, r.name)
	for _, p := range all {
		c.zone(f, p.z, p.x, c.high+p.y, p.w, p.h)
	}
	c.high += high + 12
}

func (c *canvas) zone(f fill, z *zone, x, y, w, h float64) {
	c.box("zone", x, y, w, h, 7, "")
	c.text("small name", "start", x+pad, y+18, z.name)
	at, row := 0.0, y+top
	for i := range z.nodes {
		own := f.nodeWidth(&z.nodes[i])
		if at > 0 && at+own > w-2*pad+0.01 {
			at, row = 0, row+f.nodeHeight()
		}
		c.node(f, &z.nodes[i], x+pad+at, row, own)
		at += own + f.nodeGap
	}
}

func (c *canvas) node(f fill, m *node, x, y, w float64) {
	inner := float64(len(m.bars))*(f.bar+f.gap) - f.gap
	at := x + (w-inner)/2
	base := y + f.tall
	held := 0.0
	for _, b := range m.bars {
		c.bar(f, b, at, base)
		at += f.bar + f.gap
		held += b.held
	}
	c.line("base", x, base+.5, x+w, base+.5)
	if f.labels {
		c.text("small", "middle", x+w/2, base+14, cut(m.name, max(w, f.nodeMinimum)+f.nodeGap-4, 10.5))
		c.text("small", "middle", x+w/2, base+27, count(int(held)))
	}
}

func (c *canvas) bar(f fill, b bar, x, base float64) {
	high := func(v float64) float64 { return v / f.most * f.tall }
	round := min(2, f.bar/4)
	title := b.title
	if len(b.title) > 0 && b.title[0] == 'r' {
		title = fmt.Sprintf("%s: holds %s, its weight asks for %s", b.title, count(int(b.held)), n(b.wish))
	}
	if b.idle {
		c.box("gone", x, base-high(b.held), f.bar, high(b.held), round, title)
		return
	}
	if b.wish > b.held {
		c.box("track", x, base-high(b.wish), f.bar, high(b.wish), round, title)
	}
	c.box("held", x, base-high(min(b.held, b.wish)), f.bar, high(min(b.held, b.wish)), 0, title)
	if b.held > b.wish {
		c.box("over", x, base-high(b.held), f.bar, high(b.held-b.wish), 0, title)
	}
	c.line("wish", x-1.5, base-high(b.wish), x+f.bar+1.5, base-high(b.wish))
}
