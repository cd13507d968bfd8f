package clusterkey

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clocked is what is seen by a process whose clock is wrong, and put right.
type clocked struct {
	*seen
	true  time.Time     // what a right clock says
	wrong time.Duration // by how much that of the process is ahead
	began time.Time     // when it began, by a right one
	n     int
}

func newClocked(most int, at time.Time, wrong time.Duration) *clocked {
	return &clocked{seen: newSeen(time.Minute, most, at.Add(wrong)), true: at, wrong: wrong, began: at}
}

// signedAt is a request that a sender signs, whose clock is ahead of a right one by so much.
type signedAt struct {
	at    time.Time
	nonce [nonceSize]byte
}

func (c *clocked) sign(ahead time.Duration) signedAt {
	c.n++
	return signedAt{c.true.Add(ahead), [nonceSize]byte{byte(c.n), byte(c.n >> 8), byte(c.n >> 16)}}
}

func (c *clocked) deliver(r signedAt) error {
	return c.take(r.at, r.nonce, c.true.Add(c.wrong), c.true.Sub(c.began))
}

// A clock that was wrong at the start, either way, and is put right, has requests be served again at once.
func TestClockWrongAtTheStart(t *testing.T) {
	for _, wrong := range []time.Duration{time.Hour, -time.Hour, 30 * 24 * time.Hour, 2 * time.Minute} {
		c := newClocked(maxSeen, time.Unix(1_800_000_000, 0), wrong)
		early := c.sign(-time.Second) // an earlier process has served it
		c.true = c.true.Add(10 * time.Second)
		if err := c.deliver(c.sign(0)); err != errClock {
			t.Errorf("%v ahead: a request of now is %v", wrong, err)
		}
		c.wrong = 0
		if err := c.deliver(c.sign(0)); err != nil {
			t.Errorf("%v ahead at the start: once the clock is right a request of now is refused: %v", wrong, err)
		}
		if err := c.deliver(early); err != errBefore {
			t.Errorf("%v ahead at the start: what was signed before the start is %v", wrong, err)
		}
	}
}

// A clock that goes ahead and comes back has forgotten nothing, and so has one that goes back.
func TestClockJumps(t *testing.T) {
	for _, wrong := range []time.Duration{time.Hour, 24 * time.Hour, -2 * time.Minute} {
		c := newClocked(maxSeen, time.Unix(1_800_000_000, 0), 0)
		c.true = c.true.Add(time.Hour)
		first := c.sign(0)
		if err := c.deliver(first); err != nil {
			t.Fatal(err)
		}
		c.wrong = wrong
		for range 100 { // others are as wrong
			c.true = c.true.Add(200 * time.Millisecond)
			_ = c.deliver(c.sign(wrong))
		}
		c.wrong = 0
		if err := c.deliver(first); err == nil {
			t.Errorf("after a jump by %v and back a request is served a second time", wrong)
		}
		if err := c.deliver(c.sign(0)); err != nil {
			t.Errorf("after a jump by %v and back a request of now is refused: %v", wrong, err)
		}
	}
}

// Whatever clocks do, and whoever repeats what: nothing is served twice by one process, nor what an earlier one has served
// unless the clock was put back to before this one began; and once the clocks are right what is of now is served.
func TestSeenWhateverClocksDo(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		offsets := rapid.SampledFrom([]time.Duration{0, 0, 3 * time.Second, 50 * time.Second, 5 * time.Minute, -5 * time.Minute, time.Hour, -time.Hour, 26 * time.Hour, -26 * time.Hour})
		most := rapid.SampledFrom([]int{10, 40, 1000}).Draw(rt, "most")
		c := newClocked(most, time.Unix(1_800_000_000, 0), 0)
		var began time.Time // of the second process, by a right clock; zero before that
		var before, taken []signedAt
		var history []string
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			step := rapid.IntRange(0, 9).Draw(rt, "step")
			switch step {
			case 0:
				c.wrong = offsets.Draw(rt, "clock")
				history = append(history, fmt.Sprint("clock is ", c.wrong))
			case 1:
				c.true = c.true.Add(rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Minute, 2 * time.Hour}).Draw(rt, "passes"))
				history = append(history, fmt.Sprint("now is ", c.true.Unix()))
			case 2: // a restart
				if began.IsZero() {
					n := c.n
					c = newClocked(most, c.true, c.wrong)
					c.n, before, taken = n, taken, nil
					began = c.true
					history = append(history, "restart")
				}
			default:
				r := c.sign(rapid.SampledFrom([]time.Duration{0, 0, c.wrong, c.wrong - 40*time.Second, c.wrong + 40*time.Second}).Draw(rt, "sender"))
				err := c.deliver(r)
				history = append(history, fmt.Sprint("signed at ", r.at.Unix(), ": ", err))
				if err == nil {
					taken = append(taken, r)
				}
			}
			c.true = c.true.Add(100 * time.Millisecond)
			for _, r := range taken {
				if c.deliver(r) == nil {
					rt.Fatalf("what was signed at %d is served twice: %s", r.at.Unix(), strings.Join(history, "; "))
				}
			}
			if !began.IsZero() && c.true.Add(c.wrong).Before(began.Add(c.skew)) && c.wrong < 0 {
				before = nil // it was put back to when the process began, or before
			}
			for _, r := range before {
				if r.at.Before(began) && c.deliver(r) == nil {
					rt.Fatalf("what was signed at %d is served after a restart: %s", r.at.Unix(), strings.Join(history, "; "))
				}
			}
			if c.count > most || len(c.gone) > maxGone {
				rt.Fatalf("%d are kept in mind of %d, and %d times that are not", c.count, most, len(c.gone))
			}
		}
		if most < 1000 {
			return // then it may take longer
		}
		ahead := time.Duration(0)
		for _, r := range taken {
			ahead = max(ahead, r.at.Sub(c.true))
		}
		c.wrong = 0
		c.true = c.true.Add(c.unit()) // by less it was not put right
		if err := c.deliver(c.sign(0)); err != nil && ahead < keepSeen {
			rt.Fatalf("once the clock is right a request of now is refused: %v: %s", err, strings.Join(history, "; "))
		}
	})
}
