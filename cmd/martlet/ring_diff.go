package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"martlet/ring"
	"martlet/ring/forecast"
	"martlet/ring/notation"
)

// differences are those between two rings.
type differences struct {
	said
	From   ringInfo         `json:"from"`
	To     ringInfo         `json:"to"`
	Same   bool             `json:"same"`
	Change *forecast.Change `json:"change"`

	flags *forecastFlags
	sizes forecast.Options
}

type ringInfo struct {
	Path      string  `json:"path"`
	Version   int64   `json:"version"`
	PartPower int     `json:"part_power"`
	Replicas  float64 `json:"replicas"`
	Devices   int     `json:"devices"`
}

func ringInfoOf(path string, r *ring.Ring) ringInfo {
	i := ringInfo{Path: path, Version: r.Version(), PartPower: r.PartPower(), Replicas: r.Replicas()}
	for range r.Devices() {
		i.Devices++
	}
	return i
}

func diffVerb() verb {
	var f forecastFlags
	return verb{
		use:   "diff FROM TO",
		short: "Compare two rings: devices, and which partitions they gain and lose",
		long: `FROM and TO are ring files, or builder files, whose rings are then compared. The exit status is 0 where they
say the same, 1 where they differ, 2 for an error. A version alone is no difference.`,
		args:   cobra.ExactArgs(2),
		files:  []string{"ring.gz", "builder"},
		naming: 2,
		flags:  f.add,
		run: func(c *cobra.Command, args []string) (answer, error) {
			from, err := loadRing(args[0])
			if err != nil {
				return nil, err
			}
			to, err := loadRing(args[1])
			if err != nil {
				return nil, err
			}
			o, err := f.options(c.Context(), from)
			if err != nil {
				return nil, err
			}
			a := &differences{From: ringInfoOf(args[0], from), To: ringInfoOf(args[1], to), flags: &f, sizes: o}
			if a.Change, err = forecast.Compare(from, to, o); err != nil {
				return nil, err
			}
			a.Same = !a.Change.Differs() && a.From.PartPower == a.To.PartPower
			return a, f.draw(args[0]+" → "+args[1], a.Change)
		},
	}
}

func (a *differences) differs() bool { return !a.Same }

func (a *differences) text(p *page) {
	if a.Same {
		p.printf("%s and %s are the same\n", a.From.Path, a.To.Path)
		return
	}
	p.table("", [][]cell{
		head("", "VERSION>", "PART POWER>", "REPLICAS>", "DEVICES>"),
		a.From.row(), a.To.row(),
	})
	p.printf("\n")
	a.devices(p)
	changeText(p, a.Change, a.sizes, a.flags.all)
	if a.Change.Reordered > 0 {
		p.printf("order        %s at another place in the order of replicas\n", some(a.Change.Reordered, "replica"))
	}
}

func (i ringInfo) row() []cell {
	return []cell{left(i.Path), right(fmt.Sprint(i.Version)), right(fmt.Sprint(i.PartPower)), right(short(i.Replicas, 6)), right(number(i.Devices))}
}

// devices tells what is said of devices otherwise than before.
func (a *differences) devices(p *page) {
	told := false
	for i := range a.Change.Devices {
		d := &a.Change.Devices[i]
		if d.State != forecast.Changed {
			continue
		}
		told = true
		was, now := notation.FormatID(d.Was), notation.FormatID(&d.Device)
		if was == now {
			p.printf("%s: weight %s, was %s\n", now, short(d.Weight, 6), short(d.Was.Weight, 6))
			continue
		}
		p.printf("%s is %s now", was, now)
		if d.Weight != d.Was.Weight {
			p.printf(", weight %s, was %s", short(d.Weight, 6), short(d.Was.Weight, 6))
		}
		p.printf("\n")
	}
	if told {
		p.printf("\n")
	}
}
