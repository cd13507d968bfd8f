package forecast

import (
	"errors"
	"fmt"
	"math"
	"time"

	"martlet/ring"
	"martlet/ring/builder"
)

// MaxSteps bounds the steps of a plan, and the rebalances that follow until nothing
// waits.
const MaxSteps = 1000

// Weight is a weight that a device is to be given.
type Weight struct {
	Device int     `json:"id"`
	Weight float64 `json:"weight"`
}

// Step is one rebalance of a plan.
type Step struct {
	// Weights are to be set before it.
	Weights []Weight `json:"weights,omitempty"`
	// Result is what the rebalance did.
	Result builder.Result `json:"-"`
	// Change is what it means.
	Change *Change `json:"change"`

	Balance    float64 `json:"balance"` // after it
	Dispersion float64 `json:"dispersion"`
}

// PlanOptions are what a plan depends on beside the builder.
type PlanOptions struct {
	Options
	// Steps is in how many steps the weights of new devices are raised. With 0 or 1
	// they have their weight from the start.
	Steps int
	Seed  uint64
	Now   time.Time // of the first step; zero is the time of day
}

// Fresh are the devices that hold nothing and have weight: those that a plan brings in.
func Fresh(b *builder.Builder) []ring.Device {
	holds := map[int]bool{}
	if r, err := b.Ring(); err == nil {
		for _, row := range r.Rows() {
			for _, id := range row {
				holds[int(id)] = true
			}
		}
	}
	var fresh []ring.Device
	for d := range b.Devices() {
		if d.Weight > 0 && !holds[d.ID] {
			fresh = append(fresh, d)
		}
	}
	return fresh
}

// Plan says what rebalance after rebalance would do, without changing the builder:
// first with the weights of devices that hold nothing raised to what they are in equal
// steps, then until nothing waits any more. From the second on, min_part_hours count as
// passed, as they do when each waits for the one before to be done. What a rebalance
// means is told by what it changes, so that the sum over the steps is what is copied.
func Plan(b *builder.Builder, o PlanOptions) ([]Step, error) {
	if o.Steps < 0 || o.Steps > MaxSteps {
		return nil, fmt.Errorf("%w: %d steps are not within 0 and %d", ErrOptions, o.Steps, MaxSteps)
	}
	return from(1, b.Clone(), o)
}

// Rest says what the rebalances after one that was made of the builder, with this result,
// would do until nothing waits any more, as Plan does for all of them.
func Rest(b *builder.Builder, r builder.Result, o PlanOptions) ([]Step, error) {
	if r.Waiting == 0 {
		return nil, nil
	}
	o.Steps = 0
	return from(2, b.Clone(), o)
}

// from makes the steps of a plan, the first of which has a number.
func from(first int, b *builder.Builder, o PlanOptions) ([]Step, error) {
	fresh := Fresh(b)
	var steps []Step
	for n := first; n <= o.Steps+MaxSteps; n++ {
		var weights []Weight
		if o.Steps > 1 && n <= o.Steps {
			weights = part(fresh, n, o.Steps)
		}
		s, err := step(b, n, weights, o)
		if err != nil {
			return nil, err
		}
		if n > max(1, o.Steps) && !s.Result.Changed() {
			return steps, nil
		}
		steps = append(steps, s)
		if n >= o.Steps && s.Result.Waiting == 0 {
			return steps, nil
		}
	}
	return nil, fmt.Errorf("after %d rebalances some replicas still wait", len(steps))
}

// part is the weights of the n-th of so many steps.
func part(fresh []ring.Device, n, steps int) []Weight {
	weights := make([]Weight, len(fresh))
	for i, d := range fresh {
		weights[i] = Weight{d.ID, max(builder.MinWeight, round(d.Weight*float64(n)/float64(steps)))}
		if n == steps {
			weights[i].Weight = d.Weight
		}
	}
	return weights
}

// round leaves six decimals, so that a weight can be typed.
func round(w float64) float64 { return math.Round(w*1e6) / 1e6 }

// step makes one rebalance.
func step(b *builder.Builder, n int, weights []Weight, o PlanOptions) (Step, error) {
	s := Step{Weights: weights}
	for _, w := range weights {
		if err := b.SetWeight(w.Device, w.Weight); err != nil {
			return s, err
		}
	}
	if n > 1 {
		b.PretendMinPartHoursPassed()
	}
	before, err := ringOf(b)
	if err != nil {
		return s, err
	}
	if s.Result, err = b.Rebalance(builder.Options{Seed: o.Seed, Now: o.Now}); err != nil {
		return s, err
	}
	after, err := b.Ring()
	if err != nil {
		return s, err
	}
	if s.Change, err = Compare(before, after, o.Options); err != nil {
		return s, err
	}
	stats, err := b.Stats()
	if err != nil {
		return s, err
	}
	s.Balance, s.Dispersion = stats.Balance, stats.Dispersion
	return s, nil
}

// ringOf is the ring of a builder, nil before its first rebalance.
func ringOf(b *builder.Builder) (*ring.Ring, error) {
	r, err := b.Ring()
	if errors.Is(err, builder.ErrNotBalanced) {
		return nil, nil
	}
	return r, err
}
