package main

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"martlet/ring"
	"martlet/ring/builder"
)

// rebalanceFlags are the flags of rebalance.
type rebalanceFlags struct {
	seed          uint64
	dryRun, force bool
	dry           forecastFlags
	steps         int

	cluster string // the configuration of a process of the cluster that is asked; "" for none
	check   func(*builder.Builder) error
}

func rebalanceVerb(cluster clusterCheck) verb {
	var f rebalanceFlags
	return verb{
		use:   "rebalance BUILDER [--seed N] [--dry-run] [--cluster CONFIG] [--force]",
		short: "Give partitions to devices, and write the ring",
		long: `The builder is saved, then the ring is written beside it: object.ring.gz for object.builder. Of a partition
one replica moves in a rebalance, and none within min_part_hours of the last; what was on removed devices is
assigned at once. What waits is moved by later ones: when the data has followed, rebalance again, until nothing
waits.

The last line says what is saved, or "nothing saved", where the exit status is 1 for either: "saved" in JSON.

Where partitions have all their replicas on devices that are removed, nothing is done without --force.

A rebalance that changes balance and dispersion by less than 1, while no device has changed, is not worth
moving data for: nothing is saved then without --force.

With --cluster every device is asked first, by the configuration of a process of the cluster: while something of the
last rebalance is left to be moved, or a device can't be asked, nothing is done without --force. Without it
min_part_hours alone decides.

--dry-run tells what would happen and writes nothing: what each device gives and takes, the fullest that any
gets while it happens, and, given sizes and a rate, bytes and hours. --steps K plans bringing new devices in
over K rebalances. Equal builders and seeds give equal rings, so that what a dry run tells is what is done.`,
		args: cobra.ExactArgs(1),
		flags: func(c *cobra.Command) {
			c.Flags().Uint64Var(&f.seed, "seed", 0, "choose by chance with this seed")
			c.Flags().BoolVar(&f.force, "force", false, "save and write even if it changes little, partitions keep no replica, or the ring that is there is newer, or another of the same version")
			c.Flags().BoolVar(&f.dryRun, "dry-run", false, "tell what would happen, and write nothing")
			c.Flags().StringVar(&f.cluster, "cluster", "", "ask the cluster of this configuration `FILE` whether the last rebalance has been carried out, and refuse if not")
			c.Flags().IntVar(&f.steps, "steps", 0, "with --dry-run: plan to bring new devices in over `K` rebalances")
			f.dry.add(c)
		},
		run: func(c *cobra.Command, args []string) (answer, error) {
			running := newProgress(c.ErrOrStderr())
			defer running.end()
			f.check = func(b *builder.Builder) error {
				if f.cluster == "" || f.force || f.dryRun {
					return nil
				}
				running.say("asking the cluster of %s", f.cluster)
				return cluster.unfinished(c.Context(), f.cluster, b)
			}
			if !f.dryRun {
				if name := f.dry.given(c); name != "" || c.Flags().Changed("steps") {
					return nil, fmt.Errorf("--%s is for --dry-run", orSteps(name))
				}
				a := &balanced{running: running}
				return a, a.rebalance(args[0], &f, time.Now())
			}
			return f.dryRunAnswer(c.Context(), running, args[0], c.Flags().Changed("steps"), time.Now())
		},
	}
}

func orSteps(name string) string {
	if name == "" {
		return "steps"
	}
	return name
}

// standing is how a builder stands, in short.
type standing struct {
	Balance    float64 `json:"balance"`
	Dispersion float64 `json:"dispersion"`
}

// balanced is what a rebalance did.
type balanced struct {
	said
	Builder   string `json:"builder"`
	Version   int64  `json:"version"`
	Saved     bool   `json:"saved"`
	Ring      string `json:"ring,omitempty"` // where it was written
	Assigned  int    `json:"assigned"`
	Moved     int    `json:"moved"`
	Removed   []int  `json:"removed"` // ids of devices that are gone
	Waiting   int    `json:"waiting"`
	Locked    int    `json:"locked"`                // of those, how many wait for min_part_hours
	NextInSec int64  `json:"next_seconds"`          // until the next partition may move
	AllInSec  int64  `json:"all_seconds,omitempty"` // until all may

	// KeepNone is how many partitions have no replica but on devices that are removed,
	// and KeepOne how many have one, and more on those.
	KeepNone int `json:"keep_none"`
	KeepOne  int `json:"keep_one"`

	Before           *standing `json:"before,omitempty"`
	After            standing  `json:"after"`
	Overload         float64   `json:"overload"`
	RequiredOverload float64   `json:"required_overload"`

	total   int
	hours   int
	quiet   bool // there is nothing to tell but the warnings
	running *progress
}

// rebalance does it, under the builder's lock.
func (a *balanced) rebalance(path string, f *rebalanceFlags, now time.Time) (err error) {
	a.running.say("%s: reading", path)
	b, err := builder.Open(path)
	if err != nil {
		return explain(path, err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	was, there := b.Version(), lookAt(ringFile(path))
	a.Builder, a.Version = path, was // until it is saved
	asItWas, err := ownRing(b.Builder)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if asItWas != nil {
		if err := f.check(b.Builder); err != nil {
			return fmt.Errorf("%s: nothing was moved, as the last rebalance is not known to have been carried out (--force does it): %w", path, err)
		}
	}
	stale := there.behind(b.Builder, asItWas) // before anything is moved
	result, own, err := a.try(b.Builder, asItWas, f.seed, now)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if a.KeepNone > 0 && !f.force {
		return fmt.Errorf("%s: nothing was moved: %s. Where they still work, they can be emptied by a weight of 0 instead of being removed "+
			"(the builder as it was before that is in %s beside it); --force does it", path, a.keepNone(), builder.BackupDir)
	}
	changed := result.Changed() || b.Version() != was // by moves, or as rows have come or gone
	switch {
	case f.force:
	case changed && a.little(result, there, b.Builder, own):
		a.quiet = true
		a.warn("nothing was saved: %s would move, for a balance of %s instead of %s and a dispersion of %s instead of %s; --force does it",
			some(a.Moved, "replica"), fixed(a.After.Balance), fixed(a.Before.Balance), fixed(a.After.Dispersion), fixed(a.Before.Dispersion))
		if !stale || asItWas == nil {
			return nil
		}
		if err := there.mayBecome(asItWas, false); err != nil {
			return err
		}
		a.Ring = there.path
		a.warn("%s was behind, and is version %d of the builder now", there.path, was)
		return asItWas.Save(there.path)
	case changed || there.behind(b.Builder, own):
	case a.Waiting > 0:
		a.quiet = true
		a.warn("nothing can move yet: %s", a.waits())
		return nil
	default:
		a.quiet = true
		a.warn("nothing to do: every device has what it should, and %s is up to date", there.path)
		return nil
	}
	a.running.say("%s: saving", path)
	if err := saveWithRing(b, own, there, f.force); err != nil {
		return err
	}
	a.Saved, a.Version, a.Ring = true, b.Version(), there.path
	if a.KeepNone > 0 {
		a.warn("%s", a.keepNone())
	}
	a.warnOfOne()
	if !changed && a.Waiting > 0 {
		a.warn("nothing can move yet: %s", a.waits())
	}
	a.judge()
	return nil
}

// try rebalances a builder, which had a ring or nil, and notes what that did. It
// returns the ring that it has now.
func (a *balanced) try(b *builder.Builder, was *ring.Ring, seed uint64, now time.Time) (result builder.Result, own *ring.Ring, err error) {
	a.running.say("%s: looking what has to move", a.Builder)
	before, err := b.Stats()
	if err != nil {
		return result, nil, err
	}
	if was != nil {
		a.Before = &standing{before.Balance, before.Dispersion}
	}
	a.KeepNone, a.KeepOne = keeps(b, was)
	a.running.say("%s: placing %s", a.Builder, some(b.Total(), "replica"))
	if result, err = b.Rebalance(builder.Options{Seed: seed, Now: now}); err != nil {
		return result, nil, err
	}
	a.running.say("%s: looking what has moved", a.Builder)
	if own, err = b.Ring(); err != nil {
		return result, nil, err
	}
	after, err := b.Stats()
	if err != nil {
		return result, nil, err
	}
	a.After = standing{after.Balance, after.Dispersion}
	a.Overload, a.RequiredOverload = b.Overload(), after.RequiredOverload
	a.Assigned, a.Moved, a.Waiting, a.Locked = result.Assigned, result.Moved, result.Waiting, result.Locked
	a.Removed = append([]int{}, result.Removed...)
	a.total, a.hours = b.Total(), b.MinPartHours()
	if _, next, all := b.LockedUntil(now); !next.IsZero() {
		a.NextInSec, a.AllInSec = int64(math.Ceil(next.Sub(now).Seconds())), int64(math.Ceil(all.Sub(now).Seconds()))
	}
	return result, own, nil
}

// keeps counts the partitions of which devices that are removed have all replicas, and
// those of which they have two or more, and one is left. r is the builder's ring.
func keeps(b *builder.Builder, r *ring.Ring) (none, one int) {
	removed := map[uint32]bool{}
	for d := range b.Removed() {
		removed[uint32(d.ID)] = true
	}
	if r == nil || len(removed) == 0 {
		return 0, 0 // nothing is anywhere, or all of it stays
	}
	rows := r.Rows()
	for p := range r.Partitions() {
		stay, leave := 0, 0
		for _, row := range rows {
			switch {
			case p >= len(row):
			case removed[row[p]]:
				leave++
			default:
				stay++
			}
		}
		switch {
		case stay == 0:
			none++
		case stay == 1 && leave > 1:
			one++
		}
	}
	return none, one
}

// keepNone says what KeepNone counts.
func (a *balanced) keepNone() string {
	verb := "keep"
	if a.KeepNone == 1 {
		verb = "keeps"
	}
	return fmt.Sprintf("%s %s no replica in its place: all are on devices that are removed, and lost if those are broken", some(a.KeepNone, "partition"), verb)
}

// warnOfOne warns of what is left with one copy at once.
func (a *balanced) warnOfOne() {
	if a.KeepOne == 0 {
		return
	}
	verb := "keep"
	if a.KeepOne == 1 {
		verb = "keeps"
	}
	a.warn("%s %s one replica in its place: the others are on devices that are removed; until replicas have been made of it, it may be the only one",
		some(a.KeepOne, "partition"), verb)
}

// little reports whether a rebalance that nobody asked for, by a change of devices or of
// the ring's shape, changes neither balance nor dispersion by 1. A device that is to be
// emptied has the greatest balance until it is: that is no standstill.
func (a *balanced) little(r builder.Result, there *beside, b *builder.Builder, own *ring.Ring) bool {
	switch {
	case r.Assigned > 0 || len(r.Removed) > 0 || there.otherDevices(b, own) || there.reshaped(own):
		return false
	case a.Before == nil || a.Before.Balance == builder.MaxBalance && a.After.Balance == builder.MaxBalance:
		return false
	}
	return math.Abs(a.Before.Balance-a.After.Balance) < 1 && math.Abs(a.Before.Dispersion-a.After.Dispersion) < 1
}

// judge warns of what is left to be wished for.
func (a *balanced) judge() {
	if a.After.Dispersion == 0 {
		return
	}
	text := fmt.Sprintf("dispersion is %s: that part of all replicas, in per cent, shares a region, zone, node or device with more of its partition than need be",
		fixed(a.After.Dispersion))
	switch {
	case a.RequiredOverload > a.Overload:
		a.warn("%s; an overload of %s would cure it, it is %s", text, roundUp(a.RequiredOverload), short(a.Overload, 6))
	case a.Waiting > 0:
		a.warn("%s; it falls as what waits is moved", text)
	default:
		a.warn("%s; the weights leave no other way", text)
	}
}

// roundUp writes an overload that is no less.
func roundUp(n float64) string { return short(math.Ceil(n*1000)/1000, 3) }

// waits says how much waits, and for what.
func (a *balanced) waits() string {
	text := some(a.Waiting, "replica") + " wait"
	if a.Waiting == 1 {
		text += "s"
	}
	switch {
	case a.Waiting == 0:
		return "nothing waits"
	case a.Locked == a.Waiting:
		text += fmt.Sprintf(" for min_part_hours (%d)", a.hours)
	case a.Locked == 0:
		text += " for another one of their partition, which moves now"
	default:
		text += fmt.Sprintf(": %s for another one of their partition, which moves now, %s for min_part_hours (%d)",
			number(a.Waiting-a.Locked), number(a.Locked), a.hours)
	}
	if a.NextInSec > 0 {
		text += "; the next partition may move in " + lasting(time.Duration(a.NextInSec)*time.Second)
		if a.AllInSec > a.NextInSec {
			text += ", all in " + lasting(time.Duration(a.AllInSec)*time.Second)
		}
	}
	return text
}

func (a *balanced) text(p *page) {
	if a.quiet {
		p.printf("%s\n", a.end())
		return
	}
	p.printf("%s: %s\n", a.Builder, a.did("moved", "assigned", "gone"))
	was := ""
	if a.Before != nil {
		was = fixed(a.Before.Balance) + " → "
	}
	p.printf("balance %s%s", was, fixed(a.After.Balance))
	if a.Before != nil {
		was = fixed(a.Before.Dispersion) + " → "
	}
	p.printf(", dispersion %s%s\n", was, fixed(a.After.Dispersion))
	if a.Waiting > 0 {
		p.printf("%s: rebalance again when what moved has arrived\n", a.waits())
	}
	p.printf("%s\n", a.end())
}

// end is the last line: what is saved, or that nothing is.
func (a *balanced) end() string {
	switch {
	case a.Saved:
		return fmt.Sprintf("saved version %d, wrote %s", a.Version, a.Ring)
	case a.Ring != "":
		return fmt.Sprintf("nothing saved, wrote %s: version %d", a.Ring, a.Version)
	}
	return "nothing saved"
}

// did says what moved, or would move.
func (a *balanced) did(moved, assigned, gone string) string {
	var parts []string
	if a.Moved+a.Assigned+len(a.Removed) == 0 {
		if a.Waiting > 0 {
			return "nothing can move yet"
		}
		return "nothing has to move"
	}
	if a.Moved > 0 || a.Assigned == 0 {
		text := some(a.Moved, "replica") + " " + moved
		if a.Moved > 0 {
			text += fmt.Sprintf(" (%s %% of all)", short(100*float64(a.Moved)/float64(a.total), 2))
		}
		parts = append(parts, text)
	}
	if a.Assigned > 0 {
		parts = append(parts, some(a.Assigned, "replica")+" "+assigned)
	}
	if n := len(a.Removed); n > 0 {
		parts = append(parts, some(n, "device")+" "+gone)
	}
	return strings.Join(parts, ", ")
}
