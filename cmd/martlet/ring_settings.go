package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"martlet/ring/builder"
)

// settingVerbs make a builder, and change what is of the whole of it.
func settingVerbs(cluster clusterCheck) []verb {
	return []verb{
		createVerb(),
		settingVerb("set-replicas BUILDER REPLICAS", "Change how many replicas partitions have",
			`REPLICAS need not be a whole number: with 3.25 a quarter of the partitions have 4 and the others 3, so
that a replica can be added, or taken away, little by little. The next rebalance goes by it.`,
			func(b *builder.File, text string) (string, error) {
				n, err := strconv.ParseFloat(text, 64)
				if err != nil {
					return "", fmt.Errorf("replicas %q is not a number", text)
				}
				was := b.Replicas()
				if err := b.SetReplicas(n); err != nil {
					return "", err
				}
				return fmt.Sprintf("%s replicas from the next rebalance on, were %s", short(b.Replicas(), 6), short(was, 6)), nil
			}),
		settingVerb("set-overload BUILDER OVERLOAD", "Change how much more than their share devices may hold, for the sake of spread",
			`0.1, or 10%, lets a device hold a tenth more than its weight asks for where that spreads replicas
better. The next rebalance goes by it; "martlet ring dispersion" tells what would be needed.`,
			func(b *builder.File, text string) (string, error) {
				n, err := overload(text)
				if err != nil {
					return "", err
				}
				was := b.Overload()
				if err := b.SetOverload(n); err != nil {
					return "", err
				}
				return fmt.Sprintf("overload %s, was %s", short(n, 6), short(was, 6)), nil
			}),
		settingVerb("set-min-part-hours BUILDER HOURS", "Change how long a partition is left alone after one of its replicas has moved",
			`It should be longer than a pass of replication takes, so that of no partition a second replica moves
before the first has arrived.`,
			func(b *builder.File, text string) (string, error) {
				n, err := strconv.Atoi(text)
				if err != nil {
					return "", fmt.Errorf("hours %q is not a whole number", text)
				}
				was := b.MinPartHours()
				if err := b.SetMinPartHours(n); err != nil {
					return "", err
				}
				return fmt.Sprintf("min_part_hours %d, was %d", n, was), nil
			}),
		pretendVerb(), powerVerb(cluster),
	}
}

// setting is what a verb has changed about a builder.
type setting struct {
	said
	Builder      string  `json:"builder"`
	Version      int64   `json:"version"`
	PartPower    int     `json:"part_power"`
	Replicas     float64 `json:"replicas"`
	MinPartHours int     `json:"min_part_hours"`
	Overload     float64 `json:"overload"`
	Ring         string  `json:"ring,omitempty"` // the ring file, where it was written

	line string
}

func (a *setting) text(p *page) { p.printf("%s: %s\n", a.Builder, a.line) }

func (a *setting) of(path string, b *builder.Builder) {
	a.Builder, a.Version, a.PartPower, a.Replicas = path, b.Version(), b.PartPower(), b.Replicas()
	a.MinPartHours, a.Overload = b.MinPartHours(), b.Overload()
}

func settingVerb(use, short, long string, set func(b *builder.File, text string) (string, error)) verb {
	return verb{
		use: use, short: short, long: long,
		args:  cobra.ExactArgs(2),
		flags: func(c *cobra.Command) { negative(c, "") },
		run: func(_ *cobra.Command, args []string) (answer, error) {
			a := &setting{}
			return a, change(args[0], func(b *builder.File) (err error) {
				if a.line, err = set(b, args[1]); err != nil {
					return err
				}
				a.of(args[0], b.Builder)
				return nil
			})
		},
	}
}

// overload reads 0.1 or 10%.
func overload(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("overload %q is not a number, such as 0.1 or 10%%", text)
	}
	if percent {
		n /= 100
	}
	return n, nil
}

func createVerb() verb {
	var power int
	var replicas float64
	var f freshFlags
	return verb{
		use:   "create BUILDER --part-power N --replicas R --min-part-hours H [--overload O]",
		short: "Make a builder file with no devices",
		long: `There will be 2^N partitions: about a hundred for each device that there will ever be is a good number,
and it can be raised later. Each has R replicas, which need not be a whole number. A partition of which a
replica has moved is left alone for H hours. A file that is there already is not touched.`,
		args: cobra.ExactArgs(1),
		flags: func(c *cobra.Command) {
			c.Flags().IntVar(&power, "part-power", 0, "the ring has 2^`N` partitions")
			c.Flags().Float64Var(&replicas, "replicas", 0, "`R` replicas of each partition")
			f.add(c, 0)
		},
		run: func(c *cobra.Command, args []string) (answer, error) {
			for _, name := range []string{"part-power", "replicas", "min-part-hours"} {
				if !c.Flags().Changed(name) {
					return nil, fmt.Errorf("--%s is missing; see %s --help", name, c.CommandPath())
				}
			}
			b, err := builder.New(power, replicas, f.hours)
			if err != nil {
				return nil, err
			}
			a := &setting{}
			a.line = fmt.Sprintf("made, with %s of %s replicas and no devices", some(b.Partitions(), "partition"), short(b.Replicas(), 6))
			return a, a.make(args[0], b, &f)
		},
	}
}

// freshFlags are those of verbs that make a builder.
type freshFlags struct {
	hours int
	over  string
}

func (f *freshFlags) add(c *cobra.Command, hours int) {
	c.Flags().IntVar(&f.hours, "min-part-hours", hours, "a partition that has moved is left alone for `H` hours")
	c.Flags().StringVar(&f.over, "overload", "0", "by which part a device may hold more for the sake of spread, as 0.1 or 10%")
}

// make makes the file of a new builder, where there is none.
func (a *setting) make(path string, b *builder.Builder, f *freshFlags) error {
	switch {
	case path == "":
		return errors.New("the builder file has no name")
	case strings.HasSuffix(path, ".gz"):
		return fmt.Errorf("%s: is the name of a ring file; that of a builder ends in .builder", path)
	}
	more, err := overload(f.over)
	if err != nil {
		return err
	}
	if more != 0 {
		if err := b.SetOverload(more); err != nil {
			return err
		}
	}
	a.of(path, b)
	err = builder.Create(path, b)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: is there already, and was not touched", path)
	}
	return err
}

func pretendVerb() verb {
	return verb{
		use:   "pretend-min-part-hours-passed BUILDER",
		short: "Let the next rebalance move any partition",
		long: `For when all that moved has arrived: a replica that moves while another of its partition is still
being copied leaves the partition with too few for a time.`,
		args: cobra.ExactArgs(1),
		run: func(_ *cobra.Command, args []string) (answer, error) {
			a := &setting{line: "every partition may move at the next rebalance"}
			return a, change(args[0], func(b *builder.File) error {
				b.PretendMinPartHoursPassed()
				a.of(args[0], b.Builder)
				return nil
			})
		},
	}
}

// A clusterCheck asks a running cluster what is where it does not belong.
type clusterCheck interface {
	// handoffs asks every storage node that the rings of a configuration name what its
	// devices hold as handoffs. The error is of a node that could not be asked, or has
	// another ring in use than the one that the builder makes: what it holds is not
	// known then.
	handoffs(ctx context.Context, config string, b *builder.Builder) (handoffReport, error)

	// unfinished returns why the last rebalance of the ring that the builder has made is
	// not known to have been carried out; nil where it has been.
	unfinished(ctx context.Context, config string, b *builder.Builder) error
}

// handoffReport is what is on handoffs in a cluster.
type handoffReport struct {
	Servers  int      `json:"servers"`  // that were asked
	Handoffs int      `json:"handoffs"` // partitions held by devices that are no primaries of them
	Where    []string `json:"where,omitempty"`
}

func powerVerb(cluster clusterCheck) verb {
	var config string
	var offline bool
	return verb{
		use:   "increase-part-power BUILDER {--cluster CONFIG | --force-offline}",
		short: "Double the number of partitions, and write the ring",
		long: `Both halves of each partition stay on its devices, in the same order, and as what is stored is found by its
hash no data moves. What changes is where handoffs are looked for: nothing may be on a handoff when the ring
takes effect. --cluster asks the nodes of a running cluster, by the configuration of one of its processes;
--force-offline says that you have seen to it.`,
		args: cobra.ExactArgs(1),
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&config, "cluster", "", "ask the cluster of this configuration `FILE` whether anything is on handoffs")
			c.Flags().BoolVar(&offline, "force-offline", false, "do not ask: nothing is on handoffs")
		},
		run: func(c *cobra.Command, args []string) (answer, error) {
			if offline == (config != "") {
				return nil, fmt.Errorf("either --cluster or --force-offline is needed; see %s --help", c.CommandPath())
			}
			a := &setting{}
			return a, a.double(args[0], func(b *builder.Builder) error { return nothingAway(c.Context(), cluster, config, b) })
		},
	}
}

// nothingAway returns an error if something of a cluster is on handoffs, or may be.
// With no configuration nobody is asked.
func nothingAway(ctx context.Context, cluster clusterCheck, config string, b *builder.Builder) error {
	if config == "" {
		return nil
	}
	report, err := cluster.handoffs(ctx, config, b)
	if err != nil {
		return fmt.Errorf("the part power was not changed: %w", err)
	}
	if report.Handoffs > 0 {
		return fmt.Errorf("the part power was not changed: %s on handoffs:\n  %s",
			some(report.Handoffs, "partition"), strings.Join(report.Where, "\n  "))
	}
	return nil
}

// double doubles the partitions of a builder that may be said no to, while it is
// locked: nobody rebalances between the check and the ring.
func (a *setting) double(path string, may func(*builder.Builder) error) error {
	to := ringFile(path)
	return changeAndWrite(path, to, false, func(b *builder.File) error {
		if err := may(b.Builder); err != nil {
			return err
		}
		if err := b.IncreasePartPower(); err != nil {
			return err
		}
		a.of(path, b.Builder)
		a.line = fmt.Sprintf("part power %d, %s", b.PartPower(), some(b.Partitions(), "partition"))
		if _, err := b.Ring(); errors.Is(err, builder.ErrNotBalanced) {
			return nil // there is no ring to be written
		}
		a.Ring = to
		a.line += ", no replica on another device; wrote " + to
		return nil
	})
}
