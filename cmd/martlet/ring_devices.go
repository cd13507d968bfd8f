package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"martlet/ring"
	"martlet/ring/builder"
	"martlet/ring/notation"
)

// deviceVerbs change the devices of a builder.
func deviceVerbs() []verb { return []verb{addVerb(), removeVerb(), weightVerb(), infoVerb()} }

// changed is what a verb has changed about devices.
type changed struct {
	said
	Builder string       `json:"builder"`
	Version int64        `json:"version"`
	Devices []deviceInfo `json:"devices"`
	// Was is what the devices were before, where that is known by other than their id.
	Was []deviceInfo `json:"was,omitempty"`

	lines []string
}

func (a *changed) text(p *page) {
	for _, l := range a.lines {
		p.printf("%s\n", l)
	}
}

// done notes what the builder is now.
func (a *changed) done(b *builder.File) {
	a.Builder, a.Version = b.Path(), b.Version()
}

func addVerb() verb {
	var f ringDeviceFlags
	return verb{
		use:   "add BUILDER {DEVICE WEIGHT [DEVICE WEIGHT ...] | --zone N --ip IP --port N --device NAME --weight W ...}",
		short: "Add devices",
		long: `A DEVICE is written [r<region>]z<zone>-<ip>:<port>[R<ip>:<port>]/<device>[_<meta>]:

  martlet ring add object.builder r1z1-10.0.0.1:6200R10.1.0.1:6203/sdb1 8000 r1z1-10.0.0.1:6200R10.1.0.1:6203/sdc1 8000

or in flags, one at a time. Weights are relative to each other; what counts is the share, so the
size of a disk in GB is a good one. Partitions are given to it by the next rebalance.`,
		args: cobra.MinimumNArgs(1),
		flags: func(c *cobra.Command) {
			f.add(c, "the device's")
			c.Flags().Float64Var(&f.d.Weight, "weight", 0, "the device's `WEIGHT`")
			negative(c, "weight ")
		},
		run: func(c *cobra.Command, args []string) (answer, error) {
			a := &changed{}
			devices, err := f.toAdd(c, args[1:], &a.said)
			if err != nil {
				return nil, err
			}
			for i := range devices {
				if err := writable(notation.Search{
					IP: &devices[i].IP, ReplicationIP: &devices[i].ReplicationIP, Name: &devices[i].Name, Meta: &devices[i].Meta,
				}); err != nil {
					return nil, err
				}
			}
			return a, change(args[0], func(b *builder.File) error {
				for _, d := range devices {
					id, err := b.Add(d)
					if err != nil {
						return fmt.Errorf("%s: %w", notation.Format(&d), err)
					}
					d.ID = id
					a.Devices = append(a.Devices, infoOf(d))
					a.lines = append(a.lines, fmt.Sprintf("%s weight %s is added", notation.FormatID(&d), short(d.Weight, 6)))
				}
				a.done(b)
				return nil
			})
		},
	}
}

// toAdd reads the devices of a command line.
func (f *ringDeviceFlags) toAdd(c *cobra.Command, args []string, say *said) ([]ring.Device, error) {
	given, err := f.given(c)
	if err != nil {
		return nil, err
	}
	if !given.Empty() {
		return f.oneToAdd(c, args, say)
	}
	if len(args) == 0 || len(args)%2 != 0 {
		return nil, fmt.Errorf("each DEVICE needs a WEIGHT behind it; see %s --help", c.CommandPath())
	}
	var all []ring.Device
	for i := 0; i < len(args); i += 2 {
		d, defaulted, err := notation.Device(args[i])
		if err != nil {
			return nil, fmt.Errorf("device %w", err)
		}
		if d.Weight, err = weight(args[i+1]); err != nil {
			return nil, fmt.Errorf("%s: %w", args[i], err)
		}
		if defaulted {
			say.note("note: %s names no region, and is put into region 1", args[i])
		}
		all = append(all, d)
	}
	return all, nil
}

func (f *ringDeviceFlags) oneToAdd(c *cobra.Command, args []string, say *said) ([]ring.Device, error) {
	if len(args) > 0 {
		return nil, fmt.Errorf("a device is described by flags or by arguments, not by both; see %s --help", c.CommandPath())
	}
	for _, name := range []string{"zone", "ip", "port", "device", "weight"} {
		if !c.Flags().Changed(name) {
			return nil, fmt.Errorf("--%s is missing; see %s --help", name, c.CommandPath())
		}
	}
	if !c.Flags().Changed("region") {
		say.note("note: no --region is given: the device is put into region 1")
	}
	return []ring.Device{f.d}, nil
}

func removeVerb() verb {
	var f finder
	return verb{
		use:   "remove BUILDER {SEARCH [SEARCH ...] | flags} [--yes]",
		short: "Take devices out",
		long: `What they hold is given to others by the next rebalance, all at once. For devices that work, set
their weight to 0 instead: then they are emptied a replica of a partition at a time, and can be
removed when they hold nothing.`,
		args:  cobra.MinimumNArgs(1),
		flags: f.add,
		run: func(c *cobra.Command, args []string) (answer, error) {
			requests, err := f.requests(c, args[1:], "")
			if err != nil {
				return nil, err
			}
			a := &changed{}
			return a, change(args[0], func(b *builder.File) error {
				var all []ring.Device
				for _, r := range requests {
					found, err := f.devices(b.Builder, r)
					if err != nil {
						return err
					}
					all = append(all, found...)
				}
				for _, d := range unique(all) {
					if err := b.Remove(d.ID); err != nil {
						return err
					}
					info := infoOf(d)
					info.Removed = true
					a.Devices = append(a.Devices, info)
					a.lines = append(a.lines, notation.FormatID(&d)+" is removed, and goes with the next rebalance")
				}
				a.done(b)
				return nil
			})
		},
	}
}

func weightVerb() verb {
	var f finder
	return verb{
		use:   "set-weight BUILDER {SEARCH WEIGHT [SEARCH WEIGHT ...] | flags WEIGHT} [--yes]",
		short: "Change how much devices get",
		long: `The next rebalance goes by it. With weight 0 a device is emptied, as fast as min_part_hours let it,
and stays in the ring.`,
		args: cobra.MinimumNArgs(2),
		flags: func(c *cobra.Command) {
			f.add(c)
			negative(c, "weight ")
		},
		run: func(c *cobra.Command, args []string) (answer, error) {
			requests, err := f.requests(c, args[1:], "and a WEIGHT")
			if err != nil {
				return nil, err
			}
			a := &changed{}
			return a, change(args[0], func(b *builder.File) error {
				for _, r := range requests {
					w, err := weight(r.value)
					if err != nil {
						return err
					}
					if err := a.weigh(&f, b, r, w); err != nil {
						return err
					}
				}
				a.done(b)
				return nil
			})
		},
	}
}

// weigh gives what a request finds a weight.
func (a *changed) weigh(f *finder, b *builder.File, r request, w float64) error {
	found, err := f.devices(b.Builder, r)
	if err != nil {
		return err
	}
	for _, d := range found {
		if err := b.SetWeight(d.ID, w); err != nil {
			return fmt.Errorf("%s: %w", notation.FormatID(&d), err)
		}
		a.Was = append(a.Was, infoOf(d))
		a.lines = append(a.lines, fmt.Sprintf("%s has weight %s, had %s", notation.FormatID(&d), short(w, 6), short(d.Weight, 6)))
		d.Weight = w
		a.Devices = append(a.Devices, infoOf(d))
	}
	return nil
}

func infoVerb() verb {
	var f finder
	to := ringDeviceFlags{prefix: "change-"}
	return verb{
		use:   "set-info BUILDER {SEARCH INFO [SEARCH INFO ...] | flags --change-ip IP ...} [--yes]",
		short: "Change where devices are, and what is said of them",
		long: `INFO is written as a search without an id, [r<region>z<zone>-]<ip>:<port>[R<ip>:<port>]/<device>_<meta>,
every part optional: what is left out stays. Or devices are looked for and described in flags.
Replicas are spread by the new regions, zones and addresses at the next rebalance; write-ring
writes a ring that has them without moving anything.`,
		args: cobra.MinimumNArgs(1),
		flags: func(c *cobra.Command) {
			f.add(c)
			to.add(c, "change to this")
		},
		run: func(c *cobra.Command, args []string) (answer, error) {
			requests, infos, err := infosOf(c, &f, &to, args[1:])
			if err != nil {
				return nil, err
			}
			for _, info := range infos {
				if err := writable(info); err != nil {
					return nil, err
				}
			}
			a := &changed{}
			return a, change(args[0], func(b *builder.File) error {
				for i, r := range requests {
					if err := a.inform(&f, b, r, infos[i]); err != nil {
						return err
					}
				}
				a.done(b)
				return nil
			})
		},
	}
}

// infosOf reads what is to be changed about which devices.
func infosOf(c *cobra.Command, f *finder, to *ringDeviceFlags, args []string) ([]request, []notation.Search, error) {
	info, err := to.given(c)
	if err != nil {
		return nil, nil, err
	}
	if !info.Empty() {
		requests, err := f.requests(c, args, "")
		if err == nil && len(requests) != 1 {
			err = fmt.Errorf("it takes one SEARCH with --change flags; see %s --help", c.CommandPath())
		}
		return requests, []notation.Search{info}, err
	}
	requests, err := f.requests(c, args, "and an INFO")
	if err != nil {
		return nil, nil, err
	}
	infos := make([]notation.Search, len(requests))
	for i, r := range requests {
		if infos[i], err = notation.ParseInfo(r.value); err != nil {
			return nil, nil, fmt.Errorf("info %w", err)
		}
	}
	return requests, infos, nil
}

// inform changes what is said of the devices that a request finds.
func (a *changed) inform(f *finder, b *builder.File, r request, info notation.Search) error {
	found, err := f.devices(b.Builder, r)
	if err != nil {
		return err
	}
	for _, d := range found {
		was := d
		info.Apply(&d)
		if err := b.Set(d); err != nil {
			return fmt.Errorf("%s: %w", notation.FormatID(&was), err)
		}
		a.Was, a.Devices = append(a.Was, infoOf(was)), append(a.Devices, infoOf(d))
		a.lines = append(a.lines, fmt.Sprintf("%s is %s now", notation.FormatID(&was), notation.Format(&d)))
	}
	return nil
}
