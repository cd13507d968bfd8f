package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/ring/builder"
)

// lookVerbs tell of a builder and change nothing.
func lookVerbs() []verb { return []verb{validateVerb(), searchVerb(), partsVerb(), dispersionVerb()} }

// verdict is whether a builder is right.
type verdict struct {
	said
	Builder  string   `json:"builder"`
	Version  int64    `json:"version"`
	Valid    bool     `json:"valid"`
	Problems []string `json:"problems"`
}

func (a *verdict) text(p *page) {
	if a.Valid {
		p.printf("%s: version %d is valid\n", a.Builder, a.Version)
	}
}

func validateVerb() verb {
	return verb{
		use:   "validate BUILDER",
		short: "Check that every replica has a device, and no device a partition twice",
		long: `Prints what is wrong, with exit status 2. What a rebalance has yet to do is no mistake: partitions on
devices that are removed, or fewer replicas than were set. Where the ring file is behind the builder, or
missing, it warns, with exit status 1.`,
		args: cobra.ExactArgs(1),
		run: func(_ *cobra.Command, args []string) (answer, error) {
			b, err := load(args[0])
			if err != nil {
				return nil, err
			}
			a := &verdict{Builder: args[0], Version: b.Version()}
			a.Problems, err = a.check(b)
			if err != nil {
				return nil, err
			}
			a.Valid = len(a.Problems) == 0
			return a, nil
		},
	}
}

// failed makes the exit status 2, with the problems on the standard error.
func (a *verdict) failed() []string {
	lines := make([]string, len(a.Problems))
	for i, p := range a.Problems {
		lines[i] = a.Builder + ": " + p
	}
	return lines
}

// maxProblems bounds the problems of one kind that are told.
const maxProblems = 10

// check finds what is wrong with a builder. Reading it has checked already that every
// row is of the right length and names devices that are there.
func (a *verdict) check(b *builder.Builder) ([]string, error) {
	problems := []string{}
	r, err := b.Ring()
	if err != nil {
		return append(problems, fmt.Sprintf("%v: it has no ring", err)), nil
	}
	rows := r.Rows()
	twice := 0
	for p := range r.Partitions() {
		for i := range rows {
			for j := range i {
				if p < len(rows[i]) && rows[i][p] == rows[j][p] {
					if twice++; twice <= maxProblems {
						problems = append(problems, fmt.Sprintf("partition %d has two replicas on device %d", p, rows[i][p]))
					}
				}
			}
		}
	}
	if twice > maxProblems {
		problems = append(problems, fmt.Sprintf("and %s more have two replicas on one device", some(twice-maxProblems, "partition")))
	}
	stats, err := b.Stats()
	if err != nil {
		return append(problems, err.Error()), nil
	}
	held, target := 0, 0
	for _, d := range stats.Devices {
		held, target = held+d.Held, target+d.Target
		if d.Removed && d.Held > 0 {
			a.note("note: device %d is removed, and holds %s until a rebalance", d.ID, some(d.Held, "partition"))
		}
	}
	if held != b.Total() {
		a.note("note: %s replicas are assigned, %s replicas of each partition are %s: a rebalance is due", number(held), short(b.Replicas(), 6), number(b.Total()))
	}
	if target != b.Total() {
		problems = append(problems, fmt.Sprintf("the targets of the devices add up to %d, there are %d replicas", target, b.Total()))
	}
	switch s := lookAt(ringFile(a.Builder)).stands(b, r); s.State {
	case "damaged", "newer":
		problems = append(problems, fmt.Sprintf("%s is %s", s.Path, s.State))
	case "another":
		problems = append(problems, fmt.Sprintf("%s is of version %d too, but was made from another builder", s.Path, s.Version))
	case "missing":
		a.warn("%s is missing; `martlet ring write-ring` writes it", s.Path)
	case "behind":
		a.warn("%s is behind: version %d, without the changes since; rebalance, or write-ring, brings it up to date", s.Path, s.Version)
	}
	return problems, nil
}

// listed are the devices that a search found.
type listed struct {
	said
	Builder string       `json:"builder"`
	Devices []deviceView `json:"devices"`

	target func(n int) string // for people
}

func (a *listed) text(p *page) {
	rows := [][]cell{head("ID>", "REGION>", "ZONE>", "ADDRESS", "REPLICATION", "NAME", "WEIGHT>", "HELD>", "TARGET>", "BALANCE>", "", "META")}
	for i := range a.Devices {
		d := &a.Devices[i]
		rows = append(rows, []cell{
			right(fmt.Sprint(d.ID)), right(fmt.Sprint(d.Region)), right(fmt.Sprint(d.Zone)), left(d.Addr()), left(d.ReplicationAddr()), left(d.Name),
			right(short(d.Weight, 2)), right(number(d.Partitions)), right(a.target(d.Target)), right(signed(d.Balance)),
			left(strings.Join(d.Flags, ", ")).in(yellow), left(d.Meta).in(dim),
		})
	}
	p.table("", rows)
}

func searchVerb() verb {
	var f finder
	return verb{
		use:   "search BUILDER {SEARCH [SEARCH ...] | flags}",
		short: "List the devices that match",
		long: `A SEARCH is d<id>r<region>z<zone>-<ip>:<port>R<ip>:<port>/<device>_<meta>, every part of it optional:

  r1z4            region 1, zone 4            /sdb1       of that name, anywhere
  10.0.0.1        that address                :6200       that port
  R10.1.0.1       on the replication network  _shiny      with that in the text about it
  z1-[fe80::1]    IPv6                        d74         the device with id 74

Host names are taken behind a dash: z1-storage7.example. The exit status is 2 where nothing matches.`,
		args:  cobra.MinimumNArgs(1),
		flags: f.flags.addSearch,
		run: func(c *cobra.Command, args []string) (answer, error) {
			b, found, err := f.all(c, args)
			if err != nil {
				return nil, err
			}
			var all shown
			if _, err := all.of(args[0], b, time.Now()); err != nil {
				return nil, err
			}
			a := &listed{said: all.said, Builder: args[0], Devices: []deviceView{}, target: all.target}
			for _, d := range all.Devices {
				if slices.Contains(found, d.ID) {
					a.Devices = append(a.Devices, d)
				}
			}
			return a, nil
		},
	}
}

// all finds every device of the builder at the first of the arguments that any of the
// searches behind it is for; those removed, too, as they hold what they held until a
// rebalance.
func (f *finder) all(c *cobra.Command, args []string) (b *builder.Builder, ids []int, err error) {
	if b, err = load(args[0]); err != nil {
		return nil, nil, err
	}
	requests, err := f.requests(c, args[1:], "")
	if err != nil {
		return nil, nil, err
	}
	for _, r := range requests {
		before := len(ids)
		for _, d := range match(b.Devices(), r.search) {
			ids = append(ids, d.ID)
		}
		for _, d := range match(b.Removed(), r.search) {
			ids = append(ids, d.ID)
		}
		if len(ids) == before {
			return nil, nil, fmt.Errorf("no device matches %s", r.name)
		}
	}
	slices.Sort(ids)
	return b, slices.Compact(ids), nil
}

// partitions are those on devices that were searched for.
type partitions struct {
	said
	Builder    string      `json:"builder"`
	Devices    int         `json:"devices"`
	Partitions []partition `json:"partitions"`
}

type partition struct {
	Partition int `json:"partition"`
	Matches   int `json:"matches"` // replicas on the devices
}

func (a *partitions) text(p *page) {
	rows := [][]cell{head("PARTITION>", "MATCHES>")}
	for _, x := range a.Partitions {
		rows = append(rows, []cell{right(fmt.Sprint(x.Partition)), right(fmt.Sprint(x.Matches))})
	}
	p.table("", rows)
}

func partsVerb() verb {
	var f finder
	return verb{
		use:   "list-parts BUILDER {SEARCH [SEARCH ...] | flags}",
		short: "List the partitions on the devices that match",
		long: `Each with how many of its replicas are on those devices, the most first: what would be lost, or be at risk,
with them.`,
		args:  cobra.MinimumNArgs(1),
		flags: f.flags.addSearch,
		run: func(c *cobra.Command, args []string) (answer, error) {
			b, ids, err := f.all(c, args)
			if err != nil {
				return nil, err
			}
			r, err := b.Ring()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", args[0], err)
			}
			a := &partitions{Builder: args[0], Devices: len(ids), Partitions: []partition{}}
			counts := make([]int, r.Partitions())
			for _, row := range r.Rows() {
				for p, id := range row {
					if _, ok := slices.BinarySearch(ids, int(id)); ok {
						counts[p]++
					}
				}
			}
			for p, n := range counts {
				if n > 0 {
					a.Partitions = append(a.Partitions, partition{p, n})
				}
			}
			slices.SortStableFunc(a.Partitions, func(x, y partition) int { return cmp.Compare(y.Matches, x.Matches) })
			return a, nil
		},
	}
}

// dispersed is how replicas are spread.
type dispersed struct {
	said
	Builder          string   `json:"builder"`
	Version          int64    `json:"version"`
	Balance          float64  `json:"balance"`
	Dispersion       float64  `json:"dispersion"`
	Overload         float64  `json:"overload"`
	RequiredOverload float64  `json:"required_overload"`
	Tiers            []domain `json:"tiers"`
	kinds            []string // that are printed
	worst            *domain  // of those with too many
}

// domain is a region, zone, node or device.
type domain struct {
	Kind       string  `json:"kind"`
	Name       string  `json:"name"`
	Allowed    int     `json:"allowed"`    // replicas of a partition, if they are spread evenly
	Partitions []int   `json:"partitions"` // by how many replicas they have in it
	Percent    float64 `json:"percent"`    // of the partitions in it, that have more than that
}

func dispersionVerb() verb {
	var kind string
	return verb{
		use:   "dispersion BUILDER [--tier region|zone|node|device]",
		short: "Tell how many partitions have how many replicas in each region, zone, node and device",
		long: `MAX is how many replicas of a partition a tier has if they are spread evenly, and OVER the part, in per
cent, of its partitions that have more. Dispersion is the part of all replicas that are too many somewhere. The
exit status is 1 where it is not 0.`,
		args: cobra.ExactArgs(1),
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&kind, "tier", "", "only the tiers of this `KIND`: region, zone, node or device; all but devices if not given")
		},
		run: func(_ *cobra.Command, args []string) (answer, error) {
			if kind != "" && !slices.Contains(levels, kind) {
				return nil, fmt.Errorf("--tier %q is none of region, zone, node and device", kind)
			}
			b, err := load(args[0])
			if err != nil {
				return nil, err
			}
			a := &dispersed{Builder: args[0], Version: b.Version(), Overload: b.Overload(), kinds: levels[:3]}
			if kind != "" {
				a.kinds = []string{kind}
			}
			return a, a.of(b)
		},
	}
}

func (a *dispersed) of(b *builder.Builder) error {
	if _, err := b.Ring(); err != nil {
		return fmt.Errorf("%s: %w", a.Builder, err)
	}
	stats, err := b.Stats()
	if err != nil {
		return fmt.Errorf("%s: %w", a.Builder, err)
	}
	a.Balance, a.Dispersion, a.RequiredOverload = stats.Balance, stats.Dispersion, stats.RequiredOverload
	devices := map[int]builder.DeviceStats{}
	for _, d := range stats.Devices {
		devices[d.ID] = d
	}
	for _, t := range b.Dispersion() {
		d := domain{Kind: t.Kind, Allowed: t.Allowed, Partitions: t.Partitions, Name: fmt.Sprintf("r%d", t.Region)}
		if t.Kind != "region" {
			d.Name += fmt.Sprintf("z%d", t.Zone)
		}
		if t.Kind == "node" || t.Kind == "device" {
			d.Name += "-" + t.IP
		}
		if t.Kind == "device" {
			d.Name = fmt.Sprintf("d%d %s/%s", t.Device, d.Name, devices[t.Device].Name)
		}
		in, over := 0, 0
		for n, partitions := range t.Partitions {
			if n > 0 {
				in += partitions
			}
			if n > t.Allowed {
				over += partitions
			}
		}
		if over > 0 {
			d.Percent = 100 * float64(over) / float64(in)
		}
		a.Tiers = append(a.Tiers, d)
		if d.Percent > 0 && (a.worst == nil || d.Percent > a.worst.Percent) {
			worst := d
			a.worst = &worst
		}
	}
	a.judge()
	return nil
}

func (a *dispersed) judge() {
	if a.Dispersion == 0 {
		return
	}
	text := fmt.Sprintf("dispersion is %s", fixed(a.Dispersion))
	if a.worst != nil {
		text += fmt.Sprintf(", and %s the worst: %s %% of its partitions have too many replicas in it", a.worst.Name, fixed(a.worst.Percent))
	}
	if a.RequiredOverload > a.Overload {
		text += fmt.Sprintf("; an overload of %s would cure it", roundUp(a.RequiredOverload))
	}
	a.warn("%s", text)
}

func (a *dispersed) text(p *page) {
	p.printf("dispersion %s, balance %s, overload %s (%s would spread replicas best)\n\n",
		fixed(a.Dispersion), fixed(a.Balance), short(a.Overload, 6), roundUp(a.RequiredOverload))
	titles := []string{"TIER", "MAX>", "OVER>"}
	if len(a.Tiers) > 0 {
		for n := range a.Tiers[0].Partitions {
			titles = append(titles, fmt.Sprintf("%d>", n))
		}
	}
	rows := [][]cell{head(titles...)}
	for _, t := range a.Tiers {
		if !slices.Contains(a.kinds, t.Kind) {
			continue
		}
		row := []cell{left(t.Name), right(fmt.Sprint(t.Allowed)), right(fixed(t.Percent))}
		if t.Percent > 0 {
			row[2] = row[2].in(yellow)
		}
		for n, partitions := range t.Partitions {
			c := right(number(partitions))
			if n > t.Allowed && partitions > 0 {
				c = c.in(yellow)
			}
			row = append(row, c)
		}
		rows = append(rows, row)
	}
	p.table("", rows)
}
