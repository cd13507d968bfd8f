package ecread_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/quorum"
)

// Devices that become slow or silent in the middle hold a reader up for a moment: others are
// asked beside them, from the segment on that is waited for, and they are left.
func TestSlowInTheMiddle(t *testing.T) {
	const segment, frame = 40_000, 10_016 // of 4+2
	silent := func(a *archive) { a.stalls = 3*frame + 500 }
	atOnce := func(a *archive) { a.stalls = 0 }
	trickles := func(a *archive) { a.pace = 3 * time.Second } // for half a frame
	for name, tt := range map[string]struct {
		slow    map[int]func(*archive)
		percent int // of reads, 0 is the usual
		asked   int // requests
		most    time.Duration
	}{
		"none":                      {nil, 0, 4, 0},
		"one":                       {map[int]func(*archive){1: silent}, 0, 5, 60 * time.Millisecond},
		"one, from its head on":     {map[int]func(*archive){1: atOnce}, 0, 5, 60 * time.Millisecond},
		"one trickles":              {map[int]func(*archive){2: trickles}, 0, 5, 60 * time.Millisecond},
		"two":                       {map[int]func(*archive){0: silent, 3: silent}, 0, 6, 120 * time.Millisecond},
		"two in different segments": {map[int]func(*archive){0: silent, 3: atOnce}, 0, 6, 120 * time.Millisecond},
		"beyond the budget":         {map[int]func(*archive){1: silent}, -1, 5, 600 * time.Millisecond},
		// Two others don't do in the place of three. One of them is replaced after the usual silence,
		// by what comes of that device anew.
		"more than there are others for": {map[int]func(*archive){0: silent, 1: silent, 2: silent}, 0, 20, 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBenchOf(t, "4+2", segment, true, quorum.Config{Options: quorum.Options{HedgePercent: tt.percent}})
				want := data(9*segment + 77)
				state := b.write(1, want, true)
				for i, how := range tt.slow {
					b.change(i, how)
				}
				began := time.Now()
				got, err := b.read(state, 0, int64(len(want)))
				if took := time.Since(began); err != nil || !bytes.Equal(got, want) || took > tt.most {
					t.Errorf("got %d bytes, %v, after %v, want %d after %v at most", len(got), err, took, len(want), tt.most)
				}
				if len(b.asked) > tt.asked {
					t.Errorf("asked were %v, want %d at most", b.asked, tt.asked)
				}
				b.cluster.Wait()
			})
		})
	}
}

// Where two were replaced by all others, and a third is silent later, one of the two is asked again, and nobody waits for more than that.
func TestSilentOnesAreAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const segment, frame = 40_000, 10_016
		b := newBenchOf(t, "4+2", segment, true, quorum.Config{})
		want := data(9*segment + 77)
		state := b.write(1, want, true)
		for i, stalls := range map[int]int64{0: 3, 3: 3, 1: 6} {
			b.change(i, func(a *archive) { a.stalls = stalls*frame + 500 })
		}
		began := time.Now()
		if got, err := b.read(state, 0, int64(len(want))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		b.cluster.Wait()
	})
}

// Beside one that is slow handoffs are not asked: where no other primary has a fragment, it is waited for.
func TestNoHandoffsBesideASlowOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const segment = 40_000
		b := newBenchOf(t, "4+2", segment, true, quorum.Config{})
		want := data(40 * segment)
		state := b.write(1, want, true)
		b.take("d4")
		b.take("d5")
		b.change(1, func(a *archive) { a.pace = 300 * time.Millisecond })
		if got, err := b.read(state, 0, int64(len(want))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
		}
		if len(b.asked) > 6 {
			t.Errorf("%d requests: %q", len(b.asked), b.asked)
		}
		b.cluster.Wait()
	})
}
