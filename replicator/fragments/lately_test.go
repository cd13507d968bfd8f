package fragments

import (
	"testing"
	"time"
)

// What there is no room for is not looked for room for each time: that takes as long as there are many remembered.
func TestLatelyFull(t *testing.T) {
	const first, longest = time.Minute, 4 * time.Minute
	now := time.Unix(1_700_000_000, 0)
	cost := func(most int) time.Duration {
		l := newLately[int](most)
		for i := range most {
			l.due(i, now, first, longest)
		}
		least := time.Hour
		for range 5 {
			began := time.Now()
			for i := range 1000 {
				l.due(most+i, now, first, longest)
			}
			least = min(least, time.Since(began))
		}
		return least
	}
	if few, many := cost(16), cost(1<<14); many > 50*few+time.Millisecond {
		t.Errorf("1000 for which there is no room take %v, and %v where a thousand times as many are remembered", few, many)
	}
}

// What was done is not done again for a while, then for twice as long, and at most for the longest; what there is no room for is done each time.
func TestLately(t *testing.T) {
	l, now := newLately[string](2), time.Unix(1_700_000_000, 0)
	due := func(key string, at time.Duration) bool { return l.due(key, now.Add(at), time.Minute, 3*time.Minute) }
	for i, step := range []struct {
		key  string
		at   time.Duration
		want bool
	}{
		{"a", 0, true}, {"a", 0, false}, {"a", 59 * time.Second, false}, {"a", time.Minute, true},
		{"a", 2 * time.Minute, false}, {"a", 3 * time.Minute, true}, {"a", 5 * time.Minute, false}, {"a", 6 * time.Minute, true}, {"a", 8 * time.Minute, false},
		{"b", 8 * time.Minute, true}, {"c", 8 * time.Minute, true}, {"c", 8 * time.Minute, true}, {"b", 8 * time.Minute, false},
		{"c", 9 * time.Minute, true}, {"c", 9 * time.Minute, false}, {"b", 9 * time.Minute, true}, // it has made room
	} {
		if got := due(step.key, step.at); got != step.want {
			t.Errorf("step %d, %s after %v: due %v, want %v", i, step.key, step.at, got, step.want)
		}
	}
	l.forget("c")
	if !due("c", 9*time.Minute) {
		t.Error("what was forgotten is not due")
	}
	if n := len(l.at); n > 2 {
		t.Errorf("%d are remembered", n)
	}
}
