//go:build !race

package replicator

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// came is how fast something comes: how many objects at a time, and after how long the next ones, when a part of all, 0 to 1, has come.
type came func(done float64) (objects int, next time.Duration)

// When all that is lacked will be there is told to within a fifth of the time that is left, whether that is seconds or an hour, and though it
// begins slowly, or comes in bursts.
func TestETA(t *testing.T) {
	steady := func(perSecond int) came {
		return func(float64) (int, time.Duration) { return 1, time.Second / time.Duration(perSecond) }
	}
	for what, tt := range map[string]struct {
		objects, bytes int64
		comes          came
		from           int // per cent of the work, from when on
	}{
		"six seconds":   {60_000, 3 << 10, steady(10_000), 10},
		"a minute":      {60_000, 64 << 10, steady(1000), 10},
		"an hour":       {36_000, 64 << 10, steady(10), 10},
		"one by one":    {300, 1 << 30, steady(1), 10},
		"slow at first": {50_000, 3 << 10, func(done float64) (int, time.Duration) { return 1, hurried(done < .06, 200*time.Microsecond) }, 25},
		"slow at first, for long": {600_000, 3 << 10, func(done float64) (int, time.Duration) {
			return 1, hurried(done < .01, 2*time.Millisecond)
		}, 10},
		"by the batch":   {60_000, 3 << 10, func(float64) (int, time.Duration) { return 1024, 100 * time.Millisecond }, 25},
		"in long bursts": {200_000, 3 << 10, func(float64) (int, time.Duration) { return 8192, 900 * time.Millisecond }, 10},
		"with a wait between waves": {100_000, 3 << 10, func(done float64) (int, time.Duration) {
			if int(done*50_000)%4096 < 20 {
				return 32, 100 * time.Millisecond
			}
			return 32, 3200 * time.Microsecond
		}, 10},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told, end := rebuild(tt.objects, tt.bytes, tt.comes)
				for _, x := range told {
					if x.part < tt.from {
						continue
					}
					left := end.Sub(x.at).Seconds()
					if x.eta == nil || math.Abs(*x.eta-left) > .2*left {
						t.Errorf("at %d %% %s are told, and it took %.2f s", x.part, seconds(x.eta), left)
					}
				}
			})
		})
	}
}

// hurried is twice as long while it is slow.
func hurried(slow bool, d time.Duration) time.Duration {
	if slow {
		return 2 * d
	}
	return d / 2
}

func seconds(s *float64) string {
	if s == nil {
		return "none"
	}
	return fmt.Sprintf("%.2f s", *s)
}

// told is what was told when a part of all had come, in per cent.
type told struct {
	part int
	at   time.Time
	eta  *float64
}

// rebuild has so many objects of a size come, and returns what was told on the way, and when it ended.
func rebuild(objects, bytes int64, comes came) (list []told, end time.Time) {
	var p Progress
	p.Lacks(objects, objects*bytes)
	time.Sleep(3 * time.Second) // in the bubble: it is found out what is to be got
	parts := []int{10, 25, 50, 75, 90}
	for left := objects; left > 0; {
		n, next := comes(1 - float64(left)/float64(objects))
		time.Sleep(next) // in the bubble
		for range min(int64(n), left) {
			p.Took(bytes)
			left--
			p.Lacks(left, left*bytes)
		}
		if done := 100 * (objects - left) / objects; len(parts) > 0 && done >= int64(parts[0]) && left > 0 {
			list = append(list, told{parts[0], time.Now(), p.ToGet().ETASeconds})
			parts = parts[1:]
		}
	}
	return list, time.Now()
}

// What a pass did that ended a while ago does not slow down what is told of the next one, and where nothing has come for a while
// the average tells.
func TestETAOfTheNextPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Progress
		one := func(n int64, every time.Duration) {
			for left := n; left > 0; left-- {
				p.Lacks(left, left*1000)
				time.Sleep(every) // in the bubble
				p.Took(1000)
			}
		}
		one(1000, 100*time.Millisecond)
		time.Sleep(5 * time.Minute) // in the bubble
		p.Lacks(20_000, 20_000*1000)
		if eta := p.ToGet().ETASeconds; eta == nil || *eta < 1000 {
			t.Errorf("before anything came it is %s, want what the average says", seconds(eta))
		}
		one(4000, time.Millisecond)
		p.Lacks(16_000, 16_000*1000)
		if eta := p.ToGet().ETASeconds; eta == nil || *eta < 15 || *eta > 17 {
			t.Errorf("at a thousand a second 16,000 are to take %s", seconds(eta))
		}
		time.Sleep(pauseOf + time.Second) // in the bubble
		if eta := p.ToGet().ETASeconds; eta == nil || *eta < 50 {
			t.Errorf("when nothing comes any more it is %s", seconds(eta))
		}
	})
}

// However long something comes, what is remembered of it is bounded, and it is told as it was of late.
func TestTrailIsBounded(t *testing.T) {
	var tr trail
	now := time.Unix(1_000_000, 0)
	for i := range 200_000 {
		every := time.Millisecond
		if i < 100_000 {
			every = 10 * time.Millisecond
		}
		now = now.Add(every)
		tr.add(now, 1)
		if len(tr.marks) > mostMarks {
			t.Fatalf("%d marks", len(tr.marks))
		}
	}
	if s := tr.lasts(now, 60_000, 100); math.Abs(s-60) > 1 {
		t.Errorf("60,000 at a thousand a second take %.2f s", s)
	}
	if tr.add(now.Add(-time.Hour), 1); len(tr.marks) != 1 { // the clock was set back
		t.Errorf("%d marks of a time that is to come", len(tr.marks))
	}
}
