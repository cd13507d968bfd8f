package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"martlet/ring"
	"martlet/ring/builder"
	"martlet/ring/whole"
)

// ringFile is where the ring of a builder file is: beside it.
func ringFile(builderPath string) string {
	return strings.TrimSuffix(builderPath, ".builder") + ".ring.gz"
}

// beside is a ring file, as it was when it was looked at: once in a command.
type beside struct {
	path string
	ring *ring.Ring // nil where there is none that can be read
	err  error      // why
}

func lookAt(path string) *beside {
	f := &beside{path: path}
	f.ring, f.err = ring.Load(path)
	return f
}

// ownRing is the ring of a builder; nil where it has none yet.
func ownRing(b *builder.Builder) (*ring.Ring, error) {
	r, err := b.Ring()
	if errors.Is(err, builder.ErrNotBalanced) {
		return nil, nil
	}
	return r, err
}

// behind reports whether the file is not what a builder would write, but for the
// version: own is that.
func (f *beside) behind(b *builder.Builder, own *ring.Ring) bool {
	return f.otherDevices(b, own) || !sameRing(f.ring, own)
}

// otherDevices reports whether the file has other devices than a builder, or some that
// are to go.
func (f *beside) otherDevices(b *builder.Builder, own *ring.Ring) bool {
	for range b.Removed() {
		return true // in both, but not for long
	}
	return f.ring == nil || own == nil || !sameDevices(f.ring, own)
}

// reshaped reports whether the file has another number of partitions or replicas than
// a ring.
func (f *beside) reshaped(own *ring.Ring) bool {
	return f.ring == nil || f.ring.PartPower() != own.PartPower() || f.ring.Replicas() != own.Replicas()
}

// mayBecome refuses to put a ring where something else is, or, unless forced, where
// there is a ring that it does not follow: a newer one, or another one of the same
// version, as nobody could tell then which of the two a process has.
func (f *beside) mayBecome(r *ring.Ring, force bool) error {
	if err := mayReplace(f.path, false); err != nil || force {
		return err
	}
	switch {
	case f.ring == nil: // what is no ring may be replaced by one
	case f.ring.Version() > r.Version():
		return fmt.Errorf("%s is of version %d, newer than %d: it was made from another builder, or this one is an old copy. "+
			"Processes refuse an older ring. `martlet ring import` makes a builder of the ring; --force writes all the same",
			f.path, f.ring.Version(), r.Version())
	case f.ring.Version() == r.Version() && !sameRing(f.ring, r):
		return fmt.Errorf("%s is of version %d too, and says something else: it was made from another builder, or this one is another copy. "+
			"Nobody could tell by the version which of the two a process has. "+
			"`martlet ring diff` tells what differs; --force writes all the same", f.path, r.Version())
	}
	return nil
}

// composedAs refuses components in another order than they have in the file: every
// device would have another id, and every replica another place. What a component is, is
// known by its regions, as no two have one in common.
func (f *beside) composedAs(components []*builder.Builder) error {
	if f.ring == nil {
		return nil // there is no order yet
	}
	of := map[int]int{} // by region, its component
	for n, c := range components {
		for d := range c.Devices() {
			of[d.Region] = n
		}
	}
	regions := map[int]int{} // by id
	for d := range f.ring.Devices() {
		regions[d.ID] = d.Region
	}
	last := 0
	for _, row := range f.ring.Rows() {
		n, ok := of[regions[int(row[0])]]
		if !ok {
			continue
		}
		if n < last {
			return fmt.Errorf("%s has component %d before component %d: compose them in the order that they are in there. "+
				"In another one every replica has another place; --force writes all the same", f.path, last+1, n+1)
		}
		last = n
	}
	return nil
}

// ringState is the ring file beside a builder.
type ringState struct {
	Path    string `json:"path"`
	Version int64  `json:"version"`
	State   string `json:"state"` // current, behind, newer, another (of the same version), missing or damaged
}

// stands says how the file compares to a builder, and to the ring that is its own, nil
// where it has none.
func (f *beside) stands(b *builder.Builder, own *ring.Ring) ringState {
	s := ringState{Path: f.path}
	switch {
	case errors.Is(f.err, fs.ErrNotExist):
		s.State = "missing"
		return s
	case f.err != nil:
		s.State = "damaged"
		return s
	}
	s.Version = f.ring.Version()
	switch {
	case s.Version > b.Version():
		s.State = "newer"
	case s.Version == b.Version() && (own == nil || !sameRing(f.ring, own)):
		s.State = "another"
	case f.behind(b, own):
		s.State = "behind"
	default:
		s.State = "current"
	}
	return s
}

// sameRing reports whether two rings differ in nothing but perhaps the version.
func sameRing(a, b *ring.Ring) bool {
	return sameDevices(a, b) && a.PartPower() == b.PartPower() && slices.EqualFunc(a.Rows(), b.Rows(), slices.Equal[[]uint32])
}

func sameDevices(a, b *ring.Ring) bool {
	return slices.EqualFunc(slices.Collect(a.Devices()), slices.Collect(b.Devices()), func(a, b *ring.Device) bool { return *a == *b })
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
	case strings.HasPrefix(head, "{"), strings.HasPrefix(head, "\x80"), strings.HasSuffix(path, ".builder"), head != gzipMagic && builderInstead(path):
		return fmt.Errorf("%s: is there and is a builder file, or begins as one; it was not touched", path)
	case picture && head == gzipMagic:
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

// builderInstead reports whether there is a builder at a path that a ring is to have.
func builderInstead(path string) bool {
	_, err := builder.Load(path)
	return err == nil
}
