package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"martlet/ring"
	"martlet/ring/builder"
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
	r, err := ownRing(b.Builder)
	switch {
	case err != nil:
		return err
	case r == nil:
		return b.Save()
	}
	return saveWithRing(b, r, lookAt(to), force)
}

// saveWithRing saves a builder that has been changed, and its ring in the place of
// what is there.
func saveWithRing(b *builder.File, r *ring.Ring, there *beside, force bool) error {
	if err := there.mayBecome(r, force); err != nil {
		return err
	}
	err := b.SaveWithRing(r, there.path)
	if errors.Is(err, builder.ErrRing) {
		return fmt.Errorf("%w; `martlet ring write-ring` does that", err)
	}
	return err
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
	if err := lookAt(to).mayBecome(r, force); err != nil {
		return err
	}
	for d := range b.Removed() {
		a.note("note: device %d is removed, but in this ring until a rebalance", d.ID)
	}
	a.of(to, r)
	return r.Save(to)
}

func importVerb() verb {
	var f freshFlags
	return verb{
		use:   "import RING BUILDER",
		short: "Make a builder file from a ring file, also one of Swift's",
		long: `For when the builder is lost, and to take over rings. What a ring does not tell is as in a new builder: the
overload is what --overload says, and every partition may move.`,
		args:   cobra.ExactArgs(2),
		files:  []string{"ring.gz", "builder"},
		naming: 2,
		flags: func(c *cobra.Command) {
			f.add(c, 1)
		},
		run: func(_ *cobra.Command, args []string) (answer, error) {
			a := &setting{}
			return a, a.from(args[0], args[1], &f)
		},
	}
}

// from makes the builder at path from a ring file.
func (a *setting) from(ringPath, path string, f *freshFlags) error {
	r, err := ring.Load(ringPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no such ring file", ringPath)
	case err != nil && strings.HasPrefix(firstBytes(ringPath), "{"):
		return fmt.Errorf("%s: it is no ring file, and looks like a builder, of which none has to be made", ringPath)
	case err != nil:
		return err
	}
	b, err := builder.FromRing(r, f.hours)
	if err != nil {
		return fmt.Errorf("%s: %w", ringPath, err)
	}
	if err := a.make(path, b, f); err != nil {
		return err
	}
	devices := 0
	for range r.Devices() {
		devices++
	}
	a.line = fmt.Sprintf("made from %s, version %d: %s, %s replicas, %s", ringPath, r.Version(),
		some(r.Partitions(), "partition"), short(r.Replicas(), 6), some(devices, "device"))
	if b.Overload() == 0 {
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
	there := lookAt(to)
	if err := there.mayBecome(r, force); err != nil {
		return err
	}
	if !force {
		if err := there.composedAs(components); err != nil {
			return err
		}
	}
	a.of(to, r)
	return r.Save(to)
}
