package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"martlet/ring"
	"martlet/ring/builder"
	"martlet/ring/whole"
)

// fileVerbs turn builders into ring files and ring files into builders.
func fileVerbs() []verb { return []verb{writeVerb(), importVerb(), composeVerb()} }

// changeAndWrite has f change a builder, saves it and writes its ring, in this order:
// a ring that is in use has a builder that made it.
func changeAndWrite(path, to string, force bool, f func(b *builder.File) error) (err error) {
	b, err := builder.Open(path)
	if err != nil {
		return explain(path, err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := f(b); err != nil {
		return err
	}
	return saveBoth(b, to, force)
}

// saveBoth saves a builder that has been changed, and writes its ring if it has one.
func saveBoth(b *builder.File, to string, force bool) error {
	r, err := b.Ring()
	if err != nil && !errors.Is(err, builder.ErrNotBalanced) {
		return err
	}
	if r != nil {
		if err := mayWriteRing(to, r, force); err != nil {
			return err
		}
	}
	if r == nil {
		return b.Save()
	}
	if err = b.SaveWithRing(r, to); errors.Is(err, builder.ErrRing) {
		return fmt.Errorf("%w; `martlet ring write-ring` does that", err)
	}
	return err
}

// mayWriteRing refuses to put a ring where something else is, or, unless forced, where
// there is a ring that it does not follow.
func mayWriteRing(path string, r *ring.Ring, force bool) error {
	if err := mayReplace(path, false); err != nil || force {
		return err
	}
	return follows(path, r)
}

// mayReplace refuses to replace what is no earlier form of what is to be written, a ring
// or a picture: a builder above all, which nothing could make again. Whatever writes a
// file that is named on a command line asks it first. That a file is not the one that is
// read follows: what is read to write a ring are builders, and to draw, builders and rings.
func mayReplace(path string, picture bool) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: is there and is not a regular file; it was not touched", path)
	case info.Size() == 0:
		return nil
	}
	head := firstBytes(path)
	switch {
	case head == "":
		return fmt.Errorf("%s: is there and can't be read, so it was not touched", path)
	case strings.HasPrefix(head, "{"), strings.HasPrefix(head, "\x80"), strings.HasSuffix(path, ".builder"), builderInstead(path):
		return fmt.Errorf("%s: is there and is a builder file, or begins as one; it was not touched", path)
	case picture && strings.HasPrefix(head, "\x1f\x8b"):
		return fmt.Errorf("%s: is there and is a ring file; it was not touched", path)
	case picture && !strings.HasPrefix(head, "<"):
		return fmt.Errorf("%s: is there and is no picture; it was not touched", path)
	}
	return nil
}

// drawTo writes a picture.
func drawTo(path string, draw func(io.Writer) error) error {
	if err := mayReplace(path, true); err != nil {
		return err
	}
	return whole.Replace(whole.OS, path, draw)
}

// follows refuses to put a ring in the place of a newer one, or of another one of the
// same version, as nobody could tell then which of the two a process has.
func follows(path string, r *ring.Ring) error {
	there, err := ring.Load(path)
	switch {
	case err != nil:
		return nil //nolint:nilerr // what is no ring may be replaced by one
	case there.Version() > r.Version():
		return fmt.Errorf("%s is of version %d, newer than %d: it was made from another builder, or this one is an old copy. "+
			"Processes refuse an older ring. `martlet ring import` makes a builder of the ring; --force writes all the same",
			path, there.Version(), r.Version())
	case there.Version() == r.Version() && !sameRing(there, r):
		return fmt.Errorf("%s is of version %d too, and says something else: it was made from another builder, or this one is another copy. "+
			"Nobody could tell by the version which of the two a process has. "+
			"`martlet ring diff` tells what differs; --force writes all the same", path, r.Version())
	}
	return nil
}

// sameRing reports whether two rings differ in nothing but perhaps the version.
func sameRing(a, b *ring.Ring) bool {
	return sameDevices(a, b) && a.PartPower() == b.PartPower() && slices.EqualFunc(a.Rows(), b.Rows(), slices.Equal[[]uint32])
}

func sameDevices(a, b *ring.Ring) bool {
	return slices.EqualFunc(slices.Collect(a.Devices()), slices.Collect(b.Devices()), func(a, b *ring.Device) bool { return *a == *b })
}

// written is a ring file that was written.
type written struct {
	said
	Ring       string  `json:"ring"`
	Version    int64   `json:"version"`
	PartPower  int     `json:"part_power"`
	Replicas   float64 `json:"replicas"`
	Devices    int     `json:"devices"`
	Components []int64 `json:"components,omitempty"` // versions of the builders it is composed of
}

func (a *written) text(p *page) {
	p.printf("wrote %s: version %d, %s, %s replicas, %s\n", a.Ring, a.Version,
		some(1<<a.PartPower, "partition"), short(a.Replicas, 6), some(a.Devices, "device"))
}

func (a *written) of(path string, r *ring.Ring) {
	a.Ring, a.Version, a.PartPower, a.Replicas = path, r.Version(), r.PartPower(), r.Replicas()
	for range r.Devices() {
		a.Devices++
	}
}

func writeVerb() verb {
	var force bool
	return verb{
		use:   "write-ring BUILDER [RING]",
		short: "Write the ring file as the last rebalance left it, with the devices of now",
		long: `It moves nothing: for when addresses have changed, or the ring file is gone. RING is by default that
beside the builder.`,
		args: cobra.RangeArgs(1, 2),
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&force, "force", false, "also where the ring that is there is newer, or another of the same version")
		},
		run: func(_ *cobra.Command, args []string) (a answer, err error) {
			to := ringFile(args[0])
			if len(args) == 2 {
				to = args[1]
			}
			w := &written{}
			return w, w.write(args[0], to, force)
		},
	}
}

func (a *written) write(path, to string, force bool) (err error) {
	b, err := builder.Open(path) // so that nobody else writes it now
	if err != nil {
		return explain(path, err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	r, err := b.Ring()
	if err != nil {
		return fmt.Errorf("%s: %w; `martlet ring rebalance` makes its first ring", path, err)
	}
	if err := mayWriteRing(to, r, force); err != nil {
		return err
	}
	for d := range b.Removed() {
		a.note("note: device %d is removed, but in this ring until a rebalance", d.ID)
	}
	a.of(to, r)
	return r.Save(to)
}

func importVerb() verb {
	var hours int
	var over string
	return verb{
		use:   "import RING BUILDER",
		short: "Make a builder file from a ring file, also one of Swift's",
		long: `For when the builder is lost, and to take over rings. What a ring does not tell is as in a new builder: the
overload is what --overload says, and every partition may move.`,
		args:   cobra.ExactArgs(2),
		files:  []string{"ring.gz", "builder"},
		naming: 2,
		flags: func(c *cobra.Command) {
			c.Flags().IntVar(&hours, "min-part-hours", 1, "a partition that has moved is left alone for `H` hours")
			c.Flags().StringVar(&over, "overload", "0", "by which part a device may hold more for the sake of spread, as 0.1 or 10%")
		},
		run: func(_ *cobra.Command, args []string) (answer, error) {
			more, err := overload(over)
			if err != nil {
				return nil, err
			}
			a := &setting{}
			return a, a.from(args[0], args[1], hours, more)
		},
	}
}

// from makes the builder at path from a ring file.
func (a *setting) from(ringPath, path string, hours int, overload float64) error {
	r, err := ring.Load(ringPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no such ring file", ringPath)
	case err != nil:
		return err
	}
	b, err := builder.FromRing(r, hours)
	if err != nil {
		return err
	}
	if overload != 0 {
		if err := b.SetOverload(overload); err != nil {
			return err
		}
	}
	if err := createFile(path, b); err != nil {
		return err
	}
	a.of(path, b)
	devices := 0
	for range r.Devices() {
		devices++
	}
	a.line = fmt.Sprintf("made from %s, version %d: %s, %s replicas, %s", ringPath, r.Version(),
		some(r.Partitions(), "partition"), short(r.Replicas(), 6), some(devices, "device"))
	if overload == 0 {
		a.note("note: the overload is 0: set the one that the ring was made with, or the next rebalance may move much")
	}
	return nil
}

func composeVerb() verb {
	var force bool
	return verb{
		use:   "compose RING BUILDER [BUILDER ...]",
		short: "Lay the rings of builders together into one ring of one policy",
		long: `A partition's replicas are those it has in the first builder, then those in the second, and so on. Each
builder has regions of its own and is rebalanced by itself; no replica ever moves from one to another. Compose
again after each, with the builders in the same order.`,
		args:   cobra.MinimumNArgs(2),
		files:  []string{"ring.gz", "builder"},
		naming: -1,
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&force, "force", false, "also where the ring that is there is newer, or another of the same version")
		},
		run: func(_ *cobra.Command, args []string) (answer, error) {
			a := &written{}
			return a, a.compose(args[0], args[1:], force)
		},
	}
}

func (a *written) compose(to string, paths []string, force bool) error {
	if builderInstead(to) {
		return fmt.Errorf("%s: is a builder; the ring to be written comes first", to)
	}
	components := make([]*builder.Builder, len(paths))
	for i, path := range paths {
		b, err := load(path)
		if err != nil {
			return err
		}
		components[i] = b
		a.Components = append(a.Components, b.Version())
		a.note("note: component %d is %s, version %d", i+1, path, b.Version())
	}
	r, err := builder.Compose(components)
	if err != nil {
		return err
	}
	if err := mayWriteRing(to, r, force); err != nil {
		return err
	}
	if !force {
		if err := sameOrder(to, components); err != nil {
			return err
		}
	}
	a.of(to, r)
	return r.Save(to)
}

// sameOrder refuses components in another order than they have in a ring file: every
// device would have another id, and every replica another place. What a component is, is
// known by its regions, as no two have one in common.
func sameOrder(path string, components []*builder.Builder) error {
	there, err := ring.Load(path)
	if err != nil {
		return nil //nolint:nilerr // there is no order yet
	}
	of := map[int]int{} // by region, its component
	for n, c := range components {
		for d := range c.Devices() {
			of[d.Region] = n
		}
	}
	regions := map[int]int{} // by id
	for d := range there.Devices() {
		regions[d.ID] = d.Region
	}
	last := 0
	for _, row := range there.Rows() {
		n, ok := of[regions[int(row[0])]]
		if !ok {
			continue
		}
		if n < last {
			return fmt.Errorf("%s has component %d before component %d: compose them in the order that they are in there. "+
				"In another one every replica has another place; --force writes all the same", path, last+1, n+1)
		}
		last = n
	}
	return nil
}

// builderInstead reports whether there is a builder at a path that a ring is to have.
func builderInstead(path string) bool {
	_, err := builder.Load(path)
	return err == nil
}
