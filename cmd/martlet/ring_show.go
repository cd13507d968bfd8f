package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/ring"
	"martlet/ring/builder"
	"martlet/ring/picture"
)

// shown is how a builder stands.
type shown struct {
	said
	Builder          string       `json:"builder"`
	Version          int64        `json:"version"`
	PartPower        int          `json:"part_power"`
	Partitions       int          `json:"partitions"`
	Replicas         float64      `json:"replicas"`
	MinPartHours     int          `json:"min_part_hours"`
	Locked           int          `json:"locked"` // partitions that min_part_hours hold back
	NextInSec        int64        `json:"next_seconds,omitempty"`
	AllInSec         int64        `json:"all_seconds,omitempty"`
	Overload         float64      `json:"overload"`
	RequiredOverload float64      `json:"required_overload"`
	Balance          float64      `json:"balance"`
	Dispersion       float64      `json:"dispersion"`
	Balanced         bool         `json:"balanced"` // it has been, once
	Ring             ringState    `json:"ring"`
	Regions          int          `json:"regions"`
	Zones            int          `json:"zones"`
	Nodes            int          `json:"nodes"`
	Devices          []deviceView `json:"devices"`

	level   string
	aimless bool // too few devices: there are no targets
	next    time.Time
	all     time.Time
}

// deviceView is how a device stands.
type deviceView struct {
	deviceInfo
	Partitions int      `json:"partitions"`
	Target     int      `json:"target"`
	Wish       float64  `json:"wish"` // by its weight alone
	Balance    float64  `json:"balance"`
	Flags      []string `json:"flags,omitempty"`
}

func showVerb() verb {
	var svg, level string
	return verb{
		use:   "show BUILDER [--level region|zone|node|device] [--svg FILE]",
		short: "Show how a builder stands: its devices, and what they hold",
		long: `HELD are the partitions a device has, TARGET those it is to have by weights, spread and overload, and
BALANCE is by how many per cent HELD is above what its weight alone asks for.`,
		args: cobra.ExactArgs(1),
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&svg, "svg", "", "draw it into `FILE`, too")
			c.Flags().StringVar(&level, "level", "device", "the `KIND` of lines to end at: region, zone, node or device")
		},
		run: func(_ *cobra.Command, args []string) (answer, error) {
			if !slices.Contains(levels, level) {
				return nil, fmt.Errorf("--level %q is none of region, zone, node and device", level)
			}
			b, err := load(args[0])
			if err != nil {
				return nil, err
			}
			a := &shown{level: level}
			stats, err := a.of(args[0], b, time.Now())
			if err != nil || svg == "" {
				return a, err
			}
			return a, drawTo(svg, func(w io.Writer) error { return picture.Fill(w, args[0], stats.Devices) })
		},
	}
}

var levels = []string{"region", "zone", "node", "device"}

// of fills in how a builder stands.
func (a *shown) of(path string, b *builder.Builder, now time.Time) (builder.Stats, error) {
	a.Builder, a.Version, a.PartPower, a.Partitions, a.Replicas = path, b.Version(), b.PartPower(), b.Partitions(), b.Replicas()
	a.MinPartHours, a.Overload = b.MinPartHours(), b.Overload()
	a.Locked, a.next, a.all = b.LockedUntil(now)
	if a.Locked > 0 {
		a.NextInSec, a.AllInSec = int64(a.next.Sub(now).Seconds()), int64(a.all.Sub(now).Seconds())
	}
	r, err := ownRing(b)
	if err != nil {
		return builder.Stats{}, err
	}
	a.Balanced = r != nil
	a.Ring = lookAt(ringFile(path)).stands(b, r)
	stats, err := b.Stats()
	if errors.Is(err, builder.ErrTooFew) {
		if stats = bare(b, r); len(stats.Devices) > 0 {
			a.warn("%s: %v: no device has a target, and nothing can be rebalanced", path, err)
		} else {
			a.note("note: %s has no devices yet", path)
		}
		a.aimless, err = true, nil
	}
	if err != nil {
		return stats, err
	}
	a.RequiredOverload, a.Balance, a.Dispersion = stats.RequiredOverload, stats.Balance, stats.Dispersion
	slices.SortStableFunc(stats.Devices, func(x, y builder.DeviceStats) int { return inTree(&x.Device, &y.Device) })
	a.Devices = []deviceView{}
	for _, d := range stats.Devices {
		v := deviceView{deviceInfo: infoOf(d.Device), Partitions: d.Held, Target: d.Target, Wish: d.Wish, Balance: d.Balance}
		v.Removed = d.Removed
		switch {
		case d.Removed:
			v.Flags = append(v.Flags, "removed")
		case d.Weight == 0:
			v.Flags = append(v.Flags, "weight 0")
		case d.Held == 0 && a.Balanced:
			v.Flags = append(v.Flags, "new")
		}
		a.Devices = append(a.Devices, v)
	}
	a.count()
	return stats, nil
}

// bare is how a builder stands that has too few devices for its replicas.
func bare(b *builder.Builder, r *ring.Ring) builder.Stats {
	held := map[int]int{}
	if r != nil {
		for _, row := range r.Rows() {
			for _, id := range row {
				held[int(id)]++
			}
		}
	}
	var s builder.Stats
	for d := range b.Devices() {
		s.Devices = append(s.Devices, builder.DeviceStats{Device: d, Held: held[d.ID]})
	}
	for d := range b.Removed() {
		s.Devices = append(s.Devices, builder.DeviceStats{Device: d, Removed: true, Held: held[d.ID]})
	}
	return s
}

// inTree orders devices as a tree has them.
func inTree(a, b *ring.Device) int {
	return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Zone, b.Zone),
		cmp.Compare(addressKey(a.IP), addressKey(b.IP)), cmp.Compare(a.ID, b.ID))
}

// addressKey orders addresses by their numbers.
func addressKey(ip string) string {
	parts := strings.Split(ip, ".")
	for i, p := range parts {
		parts[i] = fmt.Sprintf("%8s", p)
	}
	return strings.Join(parts, ".")
}

// tierName is what a device's region, zone or node is called.
func tierName(d *ring.Device, kind int) string {
	switch kind {
	case 0:
		return fmt.Sprintf("r%d", d.Region)
	case 1:
		return fmt.Sprintf("z%d", d.Zone)
	}
	return d.IP
}

// count counts the regions, zones and nodes.
func (a *shown) count() {
	for i := range a.Devices {
		same := 0
		if i > 0 {
			same = sharedLevels(&a.Devices[i-1].Device, &a.Devices[i].Device)
		}
		if same < 1 {
			a.Regions++
		}
		if same < 2 {
			a.Zones++
		}
		if same < 3 {
			a.Nodes++
		}
	}
}

// sharedLevels is how many of region, zone and node two devices have in common.
func sharedLevels(a, b *ring.Device) int {
	n := 0
	for n < 3 && tierName(a, n) == tierName(b, n) {
		n++
	}
	return n
}

func (a *shown) text(p *page) {
	p.printf("%s  %s\n\n", p.paint(bold, a.Builder), p.paint(dim, fmt.Sprintf("version %d", a.Version)))
	p.printf("%s (part power %d) of %s; %s on %s in %s of %s\n", some(a.Partitions, "partition"), a.PartPower,
		plural(a.Replicas, "replica"), some(len(a.Devices), "device"), some(a.Nodes, "node"), some(a.Zones, "zone"), some(a.Regions, "region"))
	if a.Balanced {
		p.printf("balance %s, dispersion %s", fixed(a.Balance), fixed(a.Dispersion))
	} else {
		p.printf("not balanced yet")
	}
	p.printf(", overload %s", short(a.Overload, 6))
	if a.RequiredOverload > 0 {
		p.printf(" (%s would spread replicas best)", roundUp(a.RequiredOverload))
	}
	p.printf("\nmin_part_hours %d: %s\n", a.MinPartHours, a.clock())
	p.printf("%s: %s\n", a.Ring.Path, a.ringText())
	if len(a.Devices) > 0 {
		p.printf("\n")
		p.table("", a.rows())
	}
}

// plural is some for a number that need not be whole.
func plural(n float64, noun string) string {
	if n == float64(int(n)) {
		return some(int(n), noun)
	}
	return short(n, 6) + " " + noun + "s"
}

func (a *shown) clock() string {
	if a.Locked == 0 {
		return "every partition may move"
	}
	text := fmt.Sprintf("%s held back, the next for %s", some(a.Locked, "partition"), lasting(time.Duration(a.NextInSec)*time.Second))
	if a.AllInSec > a.NextInSec {
		text += ", the last for " + lasting(time.Duration(a.AllInSec)*time.Second)
	}
	return text
}

func (a *shown) ringText() string {
	switch a.Ring.State {
	case "missing":
		return "not there; rebalance writes it"
	case "damaged":
		return "damaged; write-ring writes it anew"
	case "newer":
		return fmt.Sprintf("version %d, newer than the builder: made from another", a.Ring.Version)
	case "another":
		return fmt.Sprintf("version %d, but not the builder's: made from another", a.Ring.Version)
	case "behind":
		return fmt.Sprintf("version %d, without the changes since", a.Ring.Version)
	}
	if a.Ring.Version != a.Version {
		return fmt.Sprintf("version %d, which says the same", a.Ring.Version)
	}
	return fmt.Sprintf("version %d, as the builder has it", a.Ring.Version)
}

// rows are the tree.
func (a *shown) rows() [][]cell {
	rows := [][]cell{head("", "ID>", "PORT>", "REPLICATION", "WEIGHT>", "HELD>", "TARGET>", "BALANCE>", "", "META")}
	var walk func(devices []deviceView, kind int, indent string)
	walk = func(devices []deviceView, kind int, indent string) {
		for len(devices) > 0 {
			n := 1
			for n < len(devices) && (kind < 3 && tierName(&devices[n].Device, kind) == tierName(&devices[0].Device, kind)) {
				n++
			}
			last := n == len(devices)
			branch, under := "├ ", "│ "
			if last {
				branch, under = "└ ", "  "
			}
			if kind == 0 {
				branch, under = "", ""
			}
			if kind == 3 {
				rows = append(rows, a.deviceRow(indent+branch, &devices[0]))
			} else {
				rows = append(rows, a.tierRow(indent+branch+tierName(&devices[0].Device, kind), devices[:n]))
				if levels[kind] != a.level {
					walk(devices[:n], kind+1, indent+under)
				}
			}
			devices = devices[n:]
		}
	}
	walk(a.Devices, 0, "")
	return rows
}

// tierRow sums up the devices of a tier.
func (a *shown) tierRow(name string, devices []deviceView) []cell {
	var weight, wish float64
	var held, target int
	for _, d := range devices {
		if !d.Removed {
			weight += d.Weight
		}
		held, target, wish = held+d.Partitions, target+d.Target, wish+d.Wish
	}
	balance := ""
	if wish > 0 && a.Balanced {
		balance = signed(100 * (float64(held)/wish - 1))
	}
	return []cell{
		left(name).in(bold), right(""), right(""), left(""), right(short(weight, 2)).in(bold),
		right(number(held)).in(bold), right(a.target(target)).in(bold), right(balance).in(bold), left(""), left(""),
	}
}

// target is a number of partitions that are to be somewhere.
func (a *shown) target(n int) string {
	if a.aimless {
		return "-"
	}
	return number(n)
}

func (a *shown) deviceRow(name string, d *deviceView) []cell {
	balance := ""
	if a.Balanced {
		balance = signed(d.Balance)
	}
	replication := ""
	if d.ReplicationAddr() != d.Addr() {
		replication = d.ReplicationAddr()
	}
	return []cell{
		left(name + d.Name), right(fmt.Sprint(d.ID)), right(fmt.Sprint(d.Port)), left(replication), right(short(d.Weight, 2)),
		right(number(d.Partitions)), right(a.target(d.Target)), right(balance),
		left(strings.Join(d.Flags, ", ")).in(yellow), left(d.Meta).in(dim),
	}
}

// signed is fixed with a plus sign.
func signed(n float64) string {
	text := fixed(n)
	if n > 0 && text != "0.00" {
		text = "+" + text
	}
	return text
}
