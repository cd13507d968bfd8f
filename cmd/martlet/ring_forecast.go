package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/internal/conf"
	"martlet/ring"
	"martlet/ring/builder"
	"martlet/ring/forecast"
	"martlet/ring/notation"
	"martlet/ring/picture"
)

// sizeFlag is a flag for a number of bytes.
type sizeFlag struct {
	conf.Size
	name string
}

func (s *sizeFlag) Set(text string) error { return s.UnmarshalText([]byte(text)) }
func (s *sizeFlag) Type() string          { return s.name }

func (s *sizeFlag) String() string {
	if s.Size == 0 {
		return ""
	}
	text, err := s.MarshalText()
	if err != nil {
		return ""
	}
	return string(text)
}

// forecastFlags are the flags of what tells what a change means.
type forecastFlags struct {
	perPartition, stored, rate, capacity, perWeight sizeFlag
	svg                                             string
	all, measure                                    bool
}

func (f *forecastFlags) add(c *cobra.Command) {
	for _, s := range []struct {
		flag        *sizeFlag
		name, usage string
	}{
		{&f.perPartition, "bytes-per-partition", "one replica of a partition holds `SIZE` on average, as 500MB or 2GiB"},
		{&f.stored, "stored", "all devices together hold `SIZE` now; instead of --bytes-per-partition"},
		{&f.rate, "rate", "each device takes `SIZE` a second, and gives as much, as 50MB"},
		{&f.capacity, "capacity", "`SIZE` fits on each device"},
		{&f.perWeight, "capacity-per-weight", "`SIZE` fits on a device for each 1 of its weight; instead of --capacity"},
	} {
		s.flag.name = "size"
		c.Flags().Var(s.flag, s.name, s.usage)
	}
	c.Flags().BoolVar(&f.measure, "measure", false, "ask the storage nodes in the ring how full their devices are, and how large; instead of --stored and --capacity")
	c.Flags().StringVar(&f.svg, "svg", "", "draw who gives to whom into `FILE`")
	c.Flags().BoolVar(&f.all, "all", false, "list every device, however many there are")
}

// given is the name of a flag of these that was given, empty if none was.
func (f *forecastFlags) given(c *cobra.Command) string {
	for _, name := range []string{"bytes-per-partition", "stored", "rate", "capacity", "capacity-per-weight", "measure", "svg", "all"} {
		if c.Flags().Changed(name) {
			return name
		}
	}
	return ""
}

// options are those of a forecast for a change of a ring, nil for none.
func (f *forecastFlags) options(ctx context.Context, before *ring.Ring) (forecast.Options, error) {
	assigned := assignedIn(before)
	o := forecast.Options{BytesPerPartition: float64(f.perPartition.Size), Rate: float64(f.rate.Size)}
	switch {
	case f.perPartition.Size > 0 && f.stored.Size > 0:
		return o, errors.New("either --bytes-per-partition or --stored tells the size of a partition")
	case f.capacity.Size > 0 && f.perWeight.Size > 0:
		return o, errors.New("either --capacity or --capacity-per-weight tells the size of a device")
	case f.measure && f.perPartition.Size+f.stored.Size+f.capacity.Size+f.perWeight.Size > 0:
		return o, errors.New("--measure tells the size of partitions and devices, so no other flag does")
	case f.measure && assigned == 0:
		return o, errors.New("--measure needs a ring that holds something")
	}
	if f.measure {
		m, err := measure(ctx, before)
		if err != nil {
			return o, err
		}
		o.BytesPerPartition, o.Capacity = m.used/float64(assigned), m.capacity
		return o, nil
	}
	if f.stored.Size > 0 && assigned > 0 {
		o.BytesPerPartition = float64(f.stored.Size) / float64(assigned)
	}
	if o.BytesPerPartition == 0 {
		for name, s := range map[string]sizeFlag{"rate": f.rate, "capacity": f.capacity, "capacity-per-weight": f.perWeight} {
			if s.Size > 0 {
				return o, fmt.Errorf("--%s needs --bytes-per-partition, --stored or --measure", name)
			}
		}
	}
	if f.capacity.Size > 0 {
		o.Capacity = func(*ring.Device) float64 { return float64(f.capacity.Size) }
	}
	if f.perWeight.Size > 0 {
		o.Capacity = func(d *ring.Device) float64 { return float64(f.perWeight.Size) * d.Weight }
	}
	return o, nil
}

// assignedIn is how many replicas of partitions a ring has; 0 for none.
func assignedIn(r *ring.Ring) (n int) {
	if r != nil {
		for _, row := range r.Rows() {
			n += len(row)
		}
	}
	return n
}

// draw writes the picture of a change.
func (f *forecastFlags) draw(title string, c *forecast.Change) error {
	if f.svg == "" {
		return nil
	}
	cost := ""
	if c.Bytes > 0 {
		cost = inBytes(c.Bytes) + " to copy"
	}
	if c.Seconds > 0 {
		cost += ", " + seconds(c.Seconds)
	}
	return drawTo(f.svg, func(w io.Writer) error { return picture.Flows(w, title, cost, c) })
}

// dryRun is what a rebalance would do.
type dryRun struct {
	balanced
	DryRun bool             `json:"dry_run"`
	Change *forecast.Change `json:"change"`
	// Rebalances is how many it takes, this one included, until nothing waits.
	Rebalances int        `json:"rebalances"`
	Then       []planStep `json:"then,omitempty"` // the others

	flags *forecastFlags
	sizes forecast.Options
}

// planStep is a rebalance of a plan.
type planStep struct {
	Weights    []forecast.Weight `json:"weights,omitempty"`
	Moved      int               `json:"moved"`
	Assigned   int               `json:"assigned"`
	Waiting    int               `json:"waiting"`
	Bytes      float64           `json:"bytes,omitempty"`
	Seconds    float64           `json:"seconds,omitempty"`
	Peak       int               `json:"peak"` // partitions on the device that gets fullest
	PeakPct    float64           `json:"peak_percent,omitempty"`
	Balance    float64           `json:"balance"`
	Dispersion float64           `json:"dispersion"`
}

func stepsOf(steps []forecast.Step) []planStep {
	all := make([]planStep, len(steps))
	for i, s := range steps {
		all[i] = planStep{
			Weights: s.Weights, Moved: s.Change.Moved, Assigned: s.Change.Assigned, Waiting: s.Result.Waiting,
			Bytes: s.Change.Bytes, Seconds: s.Change.Seconds, Balance: s.Balance, Dispersion: s.Dispersion,
		}
		if n := s.Change.Fullest; n != forecast.Nobody {
			all[i].Peak, all[i].PeakPct = s.Change.Devices[n].Peak, s.Change.Devices[n].PeakPercent
		}
	}
	return all
}

// dryRunAnswer tells what a rebalance would do, or a plan of several.
func (f *rebalanceFlags) dryRunAnswer(ctx context.Context, running *progress, path string, steps bool, now time.Time) (answer, error) {
	running.say("%s: reading", path)
	b, err := load(path)
	if err != nil {
		return nil, err
	}
	before, err := ownRing(b)
	if err != nil {
		return nil, err
	}
	o, err := f.dry.options(ctx, before)
	if err != nil {
		return nil, err
	}
	if steps {
		running.say("%s: planning", path)
		return f.planned(path, b, before, o, now)
	}
	a := &dryRun{DryRun: true, flags: &f.dry, sizes: o}
	a.Builder, a.Version, a.running = path, b.Version(), running
	result, after, err := a.try(b, before, f.seed, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if a.Change, err = forecast.Compare(before, after, o); err != nil {
		return nil, err
	}
	running.say("%s: looking what follows", path)
	rest, err := forecast.Rest(b, result, forecast.PlanOptions{Options: o, Seed: f.seed, Now: now})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a.Rebalances, a.Then = 1+len(rest), stepsOf(rest)
	if a.KeepNone > 0 {
		a.warn("%s; rebalance does it only with --force", a.keepNone())
	}
	a.warnOfOne()
	switch {
	case result.Changed():
		if a.little(result, lookAt(ringFile(path)), b, after) {
			a.warn("that is little: rebalance would save it only with --force")
		}
		a.judge()
	case a.Waiting > 0:
		a.warn("nothing can move yet: %s", a.waits())
	default:
		a.warn("nothing to do: every device has what it should")
	}
	return a, f.dry.draw("Rebalance of "+path, a.Change)
}

func (a *dryRun) text(p *page) {
	p.printf("%s: %s; nothing is written\n\n", a.Builder, a.did("would move", "would be assigned", "would go"))
	if a.Before != nil {
		p.table("", [][]cell{
			head("", "NOW>", "AFTER>"),
			{left("balance"), right(fixed(a.Before.Balance)), right(fixed(a.After.Balance))},
			{left("dispersion"), right(fixed(a.Before.Dispersion)), right(fixed(a.After.Dispersion))},
		})
		p.printf("\n")
	}
	changeText(p, a.Change, a.sizes, a.flags.all)
	if a.Waiting > 0 {
		p.printf("\n%s.\n", a.waits())
	}
	if a.Rebalances > 1 {
		p.printf("It takes %d rebalances until nothing waits; then:\n\n", a.Rebalances)
		stepsText(p, a.Then, 2, a.sizes)
	}
}

// changeText tells what a change means, for every device if that are not too many.
func changeText(p *page, c *forecast.Change, o forecast.Options, all bool) {
	rows, kind := changeRows(c, o, all)
	if len(rows) > 1 {
		p.table("", rows)
		if kind != "device" {
			p.printf("%s\n", p.paint(dim, "(by "+kind+"; --all lists devices)"))
		}
		p.printf("\n")
	}
	p.printf("%s", strings.Join(changeLines(c, o), "\n"))
	p.printf("\n")
}

// changeLines are the sums.
func changeLines(c *forecast.Change, o forecast.Options) []string {
	copied := c.Moved + c.Assigned
	line := fmt.Sprintf("to copy      %s", some(copied, "replica"))
	if o.BytesPerPartition > 0 {
		line += ", " + inBytes(c.Bytes)
	}
	if n := c.Gone - c.Alone; n > 0 {
		line += fmt.Sprintf("; %s from devices that are gone, read from other replicas", number(n))
	}
	if c.Alone > 0 {
		line += fmt.Sprintf("; %s from devices that are gone, with no other replica to read", number(c.Alone))
	}
	lines := []string{line}
	if c.Dropped > 0 {
		lines = append(lines, fmt.Sprintf("to drop      %s that are no more", some(c.Dropped, "replica")))
	}
	if copied == 0 {
		return lines
	}
	between := fmt.Sprintf("in between   %s of %s short of a replica in its place", some(c.Short(), "partition"), number(c.Partitions))
	if len(c.Moving) > 2 {
		var parts []string
		for n, partitions := range c.Moving[1:] {
			if partitions > 0 {
				parts = append(parts, fmt.Sprintf("%s of %d", number(partitions), n+1))
			}
		}
		between = fmt.Sprintf("in between   %s of %s short of replicas in their places: %s", some(c.Short(), "partition"), number(c.Partitions), strings.Join(parts, ", "))
	}
	lines = append(lines, between)
	if c.Fullest != forecast.Nobody {
		d := c.Devices[c.Fullest]
		text := fmt.Sprintf("fullest      %s: %s", notation.FormatID(&d.Device), some(d.Peak, "partition"))
		if o.BytesPerPartition > 0 {
			text += ", " + inBytes(d.PeakBytes)
		}
		if d.PeakPercent > 0 {
			text += fmt.Sprintf(", %s %% of its capacity", short(d.PeakPercent, 1))
		}
		lines = append(lines, text)
	}
	if c.Seconds > 0 {
		d := c.Devices[c.Slowest]
		what := "taking " + inBytes(d.TakesBytes)
		if d.GivesBytes > d.TakesBytes {
			what = "giving " + inBytes(d.GivesBytes)
		}
		lines = append(lines, fmt.Sprintf("time         %s at %s/s: %s is the slowest, %s",
			seconds(c.Seconds), inBytes(o.Rate), notation.FormatID(&d.Device), what))
	}
	return lines
}

// maxRows is how many lines a table of devices may have before it is one of nodes.
const maxRows = 60

// changeRows are the table of who gives and takes.
func changeRows(c *forecast.Change, o forecast.Options, all bool) (rows [][]cell, kind string) {
	groups := []struct {
		kind string
		name func(d *forecast.Device) string
	}{
		{"device", func(d *forecast.Device) string { return notation.FormatID(&d.Device) }},
		{"node", func(d *forecast.Device) string { return fmt.Sprintf("r%dz%d-%s", d.Region, d.Zone, d.IP) }},
		{"zone", func(d *forecast.Device) string { return fmt.Sprintf("r%dz%d", d.Region, d.Zone) }},
	}
	for _, g := range groups {
		rows = sums(c, o, g.name)
		if all || len(rows) <= maxRows || g.kind == "zone" {
			return rows, g.kind
		}
	}
	return rows, "zone"
}

// sums adds up what devices give and take by the names of groups.
func sums(c *forecast.Change, o forecast.Options, name func(d *forecast.Device) string) [][]cell {
	type group struct {
		name                       string
		before, gives, takes, peak int
		after                      int
		state                      string
		givesB, takesB, peakB      float64
	}
	var groups []group
	for i := range c.Devices {
		d := &c.Devices[i]
		if d.Gives+d.Takes == 0 && d.State == forecast.Same {
			continue
		}
		n := name(d)
		if len(groups) == 0 || groups[len(groups)-1].name != n {
			groups = append(groups, group{name: n, state: d.State})
		}
		g := &groups[len(groups)-1]
		g.before, g.after, g.gives, g.takes, g.peak = g.before+d.Before, g.after+d.After, g.gives+d.Gives, g.takes+d.Takes, g.peak+d.Peak
		g.givesB, g.takesB, g.peakB = g.givesB+d.GivesBytes, g.takesB+d.TakesBytes, g.peakB+d.PeakBytes
		if g.state != d.State {
			g.state = ""
		}
	}
	titles := []string{"DEVICE", "HAS>", "GIVES>", "TAKES>", "THEN>", "PEAK>"}
	sized := o.BytesPerPartition > 0
	if sized {
		titles = append(titles, "GIVES>", "TAKES>", "PEAK>")
	}
	rows := [][]cell{append(head(titles...), left(""))}
	for _, g := range groups {
		row := []cell{left(g.name), right(number(g.before)), right(orDash(g.gives)), right(orDash(g.takes)), right(number(g.after)), right(number(g.peak))}
		if sized {
			row = append(row, right(bytesOrDash(g.givesB)), right(bytesOrDash(g.takesB)), right(inBytes(g.peakB)))
		}
		state := g.state
		if state == forecast.Same {
			state = ""
		}
		rows = append(rows, append(row, left(state).in(yellow)))
	}
	return rows
}

func orDash(n int) string {
	if n == 0 {
		return "-"
	}
	return number(n)
}

func bytesOrDash(n float64) string {
	if n == 0 {
		return "-"
	}
	return inBytes(n)
}

// stepsText is a table of rebalances, the first of which has a number.
func stepsText(p *page, steps []planStep, first int, o forecast.Options) {
	titles := []string{"STEP>", "COPIED>", "WAITING>", "PEAK>"}
	if o.BytesPerPartition > 0 {
		titles = append(titles, "BYTES>")
	}
	if o.Capacity != nil {
		titles = append(titles, "FULLEST>")
	}
	if o.Rate > 0 {
		titles = append(titles, "TIME>")
	}
	rows := [][]cell{head(append(titles, "BALANCE>", "DISPERSION>")...)}
	for i, s := range steps {
		row := []cell{right(number(first + i)), right(number(s.Moved + s.Assigned)), right(orDash(s.Waiting)), right(number(s.Peak))}
		if o.BytesPerPartition > 0 {
			row = append(row, right(inBytes(s.Bytes)))
		}
		if o.Capacity != nil {
			row = append(row, right(short(s.PeakPct, 1)+" %"))
		}
		if o.Rate > 0 {
			row = append(row, right(seconds(s.Seconds)))
		}
		rows = append(rows, append(row, right(fixed(s.Balance)), right(fixed(s.Dispersion))))
	}
	p.table("", rows)
}

// planned is a plan of several rebalances.
type planned struct {
	said
	Builder string     `json:"builder"`
	Version int64      `json:"version"`
	DryRun  bool       `json:"dry_run"`
	Steps   []planStep `json:"steps"`
	Copied  int        `json:"copied"` // replicas, over all steps
	Bytes   float64    `json:"bytes,omitempty"`
	Seconds float64    `json:"seconds,omitempty"`
	AtOnce  int        `json:"copied_at_once"` // what it would be without steps
	Fresh   []int      `json:"devices"`        // that are brought in

	k     int
	fresh []ring.Device
	sizes forecast.Options
}

func (f *rebalanceFlags) planned(path string, b *builder.Builder, r *ring.Ring, o forecast.Options, now time.Time) (answer, error) {
	if f.steps < 1 || f.steps > forecast.MaxSteps {
		return nil, fmt.Errorf("--steps %d is not within 1 and %d", f.steps, forecast.MaxSteps)
	}
	if f.dry.svg != "" {
		return nil, errors.New("--svg draws one rebalance, not a plan of --steps")
	}
	a := &planned{Builder: path, Version: b.Version(), DryRun: true, k: f.steps, fresh: forecast.Fresh(b), sizes: o}
	if len(a.fresh) == 0 {
		return nil, fmt.Errorf("%s: --steps brings new devices in, and every device with weight holds something already", path)
	}
	for _, d := range a.fresh {
		a.Fresh = append(a.Fresh, d.ID)
	}
	if none, _ := keeps(b, r); none > 0 {
		a.warn("%s; rebalance does it only with --force", (&balanced{KeepNone: none}).keepNone())
	}
	steps, err := forecast.Plan(b, forecast.PlanOptions{Options: o, Steps: f.steps, Seed: f.seed, Now: now})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	once, err := forecast.Plan(b, forecast.PlanOptions{Options: o, Seed: f.seed, Now: now})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a.Steps = stepsOf(steps)
	for _, s := range a.Steps {
		a.Copied, a.Bytes, a.Seconds = a.Copied+s.Moved+s.Assigned, a.Bytes+s.Bytes, a.Seconds+s.Seconds
	}
	for _, s := range once {
		a.AtOnce += s.Change.Moved + s.Change.Assigned
	}
	return a, nil
}

// maxCommand is how many devices a command line of a plan names.
const maxCommand = 24

func (a *planned) text(p *page) {
	p.printf("%s: a plan that brings %s in over %s; nothing is written\n\n", a.Builder, some(len(a.fresh), "device"), some(a.k, "rebalance"))
	stepsText(p, a.Steps, 1, a.sizes)
	p.printf("\nin all %s to copy", some(a.Copied, "replica"))
	if a.Bytes > 0 {
		p.printf(", %s", inBytes(a.Bytes))
	}
	if a.Seconds > 0 {
		p.printf(", %s", seconds(a.Seconds))
	}
	p.printf("; all at once it would be %s\n", number(a.AtOnce))
	if len(a.Steps) > a.k {
		p.printf("%s beyond the %d move what still waits\n", some(len(a.Steps)-a.k, "rebalance"), a.k)
	}
	p.printf("\nEach step, when what the last one moved has arrived:\n\n")
	for i, s := range a.Steps {
		if len(s.Weights) > 0 && len(s.Weights) <= maxCommand {
			p.printf("  martlet ring set-weight %s%s\n", shell(a.Builder), weightArguments(s.Weights))
		} else if len(s.Weights) > 0 {
			p.printf("  # step %d: give the new devices %d/%d of their weight\n", i+1, i+1, a.k)
		}
		p.printf("  martlet ring rebalance %s\n", shell(a.Builder))
	}
}

func weightArguments(weights []forecast.Weight) string {
	var b strings.Builder
	for _, w := range weights {
		fmt.Fprintf(&b, " d%d %s", w.Device, short(w.Weight, 6))
	}
	return b.String()
}
