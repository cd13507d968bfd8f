package fragments

import (
	"encoding/binary"
	"testing"
	"time"
)

// Of what might be given up so much is remembered that it takes no more memory than it may, and others have their turn.
func TestDoubtsAreBounded(t *testing.T) {
	s := &seen{doubts: map[doubt]time.Duration{}}
	of := &part{}
	at := func(n int) *piece {
		x := &piece{of: of}
		binary.BigEndian.PutUint64(x.state.Hash[:], uint64(n))
		return x
	}
	begin := time.Unix(1_800_000_000, 0)
	for n := range mostDoubts {
		if age, known := s.doubtful(at(n), begin); !known || age != 0 {
			t.Fatalf("%d: %v, %v", n, age, known)
		}
	}
	if _, known := s.doubtful(at(mostDoubts), begin.Add(time.Hour)); known || len(s.doubts) != mostDoubts {
		t.Errorf("one too many is known, with %d", len(s.doubts))
	}
	if age, known := s.doubtful(at(7), begin.Add(time.Hour)); !known || age != time.Hour {
		t.Errorf("one that was there before: %v, %v", age, known)
	}
	s.decided(at(7), at(mostDoubts))
	if age, known := s.doubtful(at(mostDoubts), begin.Add(2*time.Hour)); !known || age != 0 {
		t.Errorf("where one has gone: %v, %v", age, known)
	}
	end := begin.Add(2 * time.Hour)
	for range int(doubtful / mostBetween) {
		end = end.Add(mostBetween)
		s.watch(end)
	}
	if _, known := s.doubtful(at(mostDoubts+1), end); !known || len(s.doubts) != 2 {
		t.Errorf("days later it is known: %v, with %d", known, len(s.doubts))
	}
}

// Only time in which passes have looked counts: neither that in which there were none, nor by how much a clock has jumped.
func TestDoubtsOfWhoWasAway(t *testing.T) {
	for what, tt := range map[string]struct {
		looks []time.Duration // by how much the clock went on before each
		want  time.Duration
	}{
		"one pass":                {[]time.Duration{time.Hour}, 0}, // nothing was known before it
		"passes":                  {[]time.Duration{0, 30 * time.Second, 30 * time.Second, time.Minute}, 2 * time.Minute},
		"a day without any":       {[]time.Duration{0, time.Hour, 23 * time.Hour}, 3 * time.Hour},
		"days without any, twice": {[]time.Duration{0, 48 * time.Hour, 48 * time.Hour}, 4 * time.Hour},
		"the clock is set ahead":  {[]time.Duration{0, time.Minute, 1000 * time.Hour, time.Minute}, 2*time.Hour + 2*time.Minute},
		"the clock is set back":   {[]time.Duration{0, time.Hour, -1000 * time.Hour, time.Hour}, 2 * time.Hour},
		"there and back":          {[]time.Duration{0, 1000 * time.Hour, -1000 * time.Hour, time.Minute}, 2*time.Hour + time.Minute},
	} {
		s, x, now := &seen{doubts: map[doubt]time.Duration{}}, &piece{of: &part{}}, time.Unix(1_800_000_000, 0)
		var age time.Duration
		for i, by := range tt.looks {
			if now = now.Add(by); i%2 == 1 {
				s.watch(now)
			}
			age, _ = s.doubtful(x, now)
		}
		if age != tt.want {
			t.Errorf("%s: it is known for %v, want %v", what, age, tt.want)
		}
	}
}

// Time counts once, in whichever order those come that have read the clock.
func TestWatchedOnce(t *testing.T) {
	s := &seen{doubts: map[doubt]time.Duration{}}
	began := time.Now()
	for _, at := range []int{0, 10, 5, 10, 8, 12} {
		s.watch(began.Add(time.Duration(at) * time.Second))
	}
	if s.watched != 12*time.Second {
		t.Errorf("12 s are %v", s.watched)
	}
}
