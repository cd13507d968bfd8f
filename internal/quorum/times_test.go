package quorum

import (
	"strings"
	"testing"
	"time"
)

// Those that are fastest are read first, and those of which nothing is known before
// them, which become known that way.
func TestReadsByTiming(t *testing.T) {
	inBubble(t, Config{Options: Options{Timing: true, TimingExpiry: time.Minute, HedgePercent: -1}}, func(t *testing.T, f *fleet, p Place) {
		f.Script("d0", after(40*time.Millisecond, has))
		f.Script("d1", has)
		f.Script("d2", after(20*time.Millisecond, has))
		reads := func(n int) string {
			before := len(f.Asked())
			for range n {
				reply, err := f.Read(t.Context(), p, request("GET"))
				if err != nil {
					t.Fatal(err)
				}
				_ = reply.Body.Close()
			}
			return strings.Join(f.Asked()[before:], " ")
		}
		if got := reads(3); !sameSet(strings.Fields(got), "d0", "d1", "d2") {
			t.Errorf("at first %s are asked, want each once", got)
		}
		if got := reads(3); got != "d1 d1 d1" {
			t.Errorf("then %s, want the fastest", got)
		}
		f.Script("d1", after(100*time.Millisecond, has))
		if got := reads(20); !strings.HasSuffix(got, "d2 d2 d2") {
			t.Errorf("when it is slow: %s, want the one that was second", got)
		}
		time.Sleep(50 * time.Second) // the bubble's time
		reads(1)
		time.Sleep(20 * time.Second) // the bubble's time
		if got := reads(3); !strings.Contains(got, "d0") || !strings.Contains(got, "d1") || !strings.HasSuffix(got, "d2") {
			t.Errorf("a minute later %s, want those of which nothing was heard, and the fastest", got)
		}
	})
}

// Those that are as fast to the millisecond share the reads.
func TestTimingSharesReads(t *testing.T) {
	inBubble(t, Config{Options: Options{Timing: true}}, func(t *testing.T, f *fleet, p Place) {
		for _, d := range []string{"d0", "d1", "d2"} {
			f.Script(d, has)
		}
		seen := map[string]int{}
		for range 100 {
			reply, err := f.Read(t.Context(), p, request("GET"))
			if err != nil {
				t.Fatal(err)
			}
			_ = reply.Body.Close()
			seen[reply.Device.Name]++
		}
		if len(seen) != 3 {
			t.Errorf("read from %v, want all three", seen)
		}
	})
}

// One that refuses at once is not the fastest.
func TestFailingIsNotFast(t *testing.T) {
	inBubble(t, Config{Options: Options{Timing: true}, ErrorLimit: 1000}, func(t *testing.T, f *fleet, p Place) {
		f.Script("d0", refuses)
		f.Script("d1", after(5*time.Millisecond, has))
		f.Script("d2", after(5*time.Millisecond, has))
		for range 30 {
			reply, err := f.Read(t.Context(), p, request("GET"))
			if err != nil {
				t.Fatal(err)
			}
			_ = reply.Body.Close()
		}
		n := 0
		for _, d := range f.Asked()[len(p.Primaries):] {
			if d == "d0" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("one that refuses was asked %d times, want once", n)
		}
	})
}
