package load

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/cmd/internal/bench/work"
)

// server answers after a while, in a bubble's time; with 200, unless it is told otherwise.
type server struct {
	takes func(n int64) time.Duration // of the n-th request
	out   Outcome
	sent  atomic.Int64
}

func (s *server) do(ctx context.Context, _ int, _ work.Op) Outcome {
	t := time.NewTimer(s.takes(s.sent.Add(1) - 1))
	defer t.Stop()
	select {
	case <-t.C:
		return s.out
	case <-ctx.Done():
		return Outcome{Failure: "cut off"}
	}
}

func always(d time.Duration) func(int64) time.Duration { return func(int64) time.Duration { return d } }

// loadOn is of GETs that all work.
func loadOn(s *server, workers int) Load {
	s.out = Outcome{Status: 200, Bytes: 10, OK: true}
	return Load{
		Mix: work.Only(work.Get), Workers: workers, Grace: time.Minute,
		Next: func(int) (work.Op, bool) { return work.Op{Kind: work.Get}, true },
		Do:   s.do,
	}
}

func near(got, want, within float64) bool { return math.Abs(got-want) <= within*want }

// In a closed loop each worker waits for its answer, and the rate is what comes of that.
func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: always(10 * time.Millisecond)}
		l := loadOn(s, 4)
		l.Duration = 5 * time.Second
		var told []Progress
		l.Watch = func(p Progress) { told = append(told, p) }
		m := l.Run(t.Context())
		g := m.Operations[work.Get]
		if g.OK != 2000 || g.Bytes != 20000 || g.Errors != 0 || g.Statuses[200] != 2000 || !near(g.Rate, 400, 0.001) || !near(g.ByteRate, 4000, 0.001) {
			t.Errorf("got %+v, want 2,000 at 400 a second", g)
		}
		for _, q := range []float64{0.1, 50, 100} {
			if got := float64(g.Latencies.ValueAtQuantile(q)); !near(got, 10e6, 0.001) {
				t.Errorf("%v per cent within %v ns, want 10 ms", q, got)
			}
		}
		if m.Elapsed != 5*time.Second || m.Interrupted || m.Unsent != 0 {
			t.Errorf("%v, interrupted %v, %d unsent", m.Elapsed, m.Interrupted, m.Unsent)
		}
		if len(told) < 4 || !near(told[1].Part, 0.4, 0.01) || !near(float64(told[1].Operations), 800, 0.01) {
			t.Errorf("told %+v", told)
		}
		if last := m.Series[len(m.Series)-1]; last.Operations != 2000 || last.Bytes != 20000 {
			t.Errorf("the series ends with %+v", last)
		}
	})
}

// A server that stalls for a second holds back what is due meanwhile: all of that is in the
// percentiles. A closed loop would have seen one slow request of a thousand.
func TestNothingIsOmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stall := func(n int64) time.Duration {
			if n == 500 {
				return time.Second
			}
			return time.Millisecond / 2
		}
		s := &server{takes: stall}
		l := loadOn(s, 1)
		l.Duration, l.Rate = 10*time.Second, 100
		m := l.Run(t.Context())
		g := m.Operations[work.Get]
		if g.OK != 1000 || m.Unsent != 0 || !near(g.Rate, 100, 0.01) {
			t.Fatalf("%d were answered at %v, %d not sent, want 1,000 at 100 a second", g.OK, g.Rate, m.Unsent)
		}
		// 100 were due in the second: the first waited for all of it, the last for hardly any, each also for those
		// before it, half a millisecond for one.
		for q, want := range map[float64]float64{50: 0.5e6, 89: 0.5e6, 95: 0.525e9, 99: 0.905e9, 100: 1e9} {
			if got := float64(g.Latencies.ValueAtQuantile(q)); !near(got, want, 0.03) {
				t.Errorf("%v per cent within %v ns, want %v", q, got, want)
			}
		}

		s = &server{takes: stall}
		l = loadOn(s, 1)
		l.Operations = 1000
		g = l.Run(t.Context()).Operations[work.Get]
		if got := float64(g.Latencies.ValueAtQuantile(99.8)); !near(got, 0.5e6, 0.01) {
			t.Errorf("in a closed loop 99.8 per cent within %v ns, want 0.5 ms", got)
		}
	})
}

// What a server is too slow for counts with the time that it has waited for.
func TestRateThatIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: always(100 * time.Millisecond)} // 10 a second for each of two
		l := loadOn(s, 2)
		l.Duration, l.Rate = 10*time.Second, 100
		m := l.Run(t.Context())
		g := m.Operations[work.Get]
		if g.OK != 200 || m.Unsent != 800 || g.Latencies.TotalCount() != 1000 {
			t.Fatalf("%d answered, %d not sent, %d latencies, want 200, 800 and 1,000", g.OK, m.Unsent, g.Latencies.TotalCount())
		}
		// The last that was sent was due after 2 s, and sent after 9.9 s; all others had waited since they were due.
		if got := float64(g.Latencies.Max()); !near(got, 8e9, 0.02) {
			t.Errorf("the longest is %v ns, want 8 s", got)
		}
		if got := float64(g.Latencies.ValueAtQuantile(50)); got < 3.5e9 || got > 4.5e9 {
			t.Errorf("half are within %v ns, want about 4 s", got)
		}
	})
}

// A rate that is kept is the rate that is told, however many workers wait for their turns.
func TestRateThatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loadOn(&server{takes: always(time.Millisecond)}, 8)
		l.Duration, l.Rate = 10*time.Second, 20
		m := l.Run(t.Context())
		if g := m.Operations[work.Get]; g.OK != 200 || m.Unsent != 0 || !near(g.Rate, 20, 0.006) || !near(g.ByteRate, 200, 0.006) {
			t.Errorf("%d answered at %v/s, %v B/s, %d not sent", g.OK, g.Rate, g.ByteRate, m.Unsent)
		}
	})
}

// What was not sent of a mix is told apart by the weights.
func TestUnsentByKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: always(20 * time.Second)}
		l := loadOn(s, 1)
		l.Mix = work.Mix{work.Put: 1, work.Get: 3}
		l.Duration, l.Rate, l.Grace = 10*time.Second, 10, time.Minute
		m := l.Run(t.Context())
		puts, gets := m.Operations[work.Put].Latencies.TotalCount(), m.Operations[work.Get].Latencies.TotalCount()
		if m.Unsent != 99 || puts+gets != 100 || puts < 24 || puts > 26 {
			t.Errorf("%d not sent, %d latencies of PUTs, %d of GETs", m.Unsent, puts, gets)
		}
	})
}

// It ends after so many operations, and not one more, at whatever rate.
func TestOperations(t *testing.T) {
	for _, rate := range []float64{0, 50} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{takes: always(time.Millisecond)}
			l := loadOn(s, 7)
			l.Operations, l.Rate = 101, rate
			m := l.Run(t.Context())
			if g := m.Operations[work.Get]; g.OK != 101 || s.sent.Load() != 101 || m.Unsent != 0 {
				t.Errorf("at %v: %d of %d, %d not sent", rate, g.OK, s.sent.Load(), m.Unsent)
			}
		})
	}
}

// It ends when nothing is left to do.
func TestNothingLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: always(time.Millisecond)}
		l := loadOn(s, 3)
		l.Duration = time.Hour
		var left [3]int
		l.Next = func(i int) (work.Op, bool) {
			left[i]++
			return work.Op{Kind: work.Delete}, left[i] <= 5
		}
		l.Done = func(i int, op work.Op, ok bool) {
			if !ok || op.Kind != work.Delete {
				t.Errorf("done: %d, %v, %v", i, op, ok)
			}
		}
		m := l.Run(t.Context())
		if d := m.Operations[work.Delete]; d.OK != 15 || m.Elapsed > time.Second || m.Interrupted {
			t.Errorf("%d in %v, interrupted %v", d.OK, m.Elapsed, m.Interrupted)
		}
	})
}

// Who interrupts it has what there is: what was under way is waited for, and broken off after the time of grace.
func TestInterrupted(t *testing.T) {
	for name, tt := range map[string]struct {
		takes       time.Duration
		ok, errors  int64
		ended, from time.Duration
	}{
		"soon done":  {time.Second / 2, 8, 0, 2100 * time.Millisecond, 2 * time.Second},
		"never done": {time.Hour, 0, 2, 7100 * time.Millisecond, 6900 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{takes: always(tt.takes)}
				l := loadOn(s, 2)
				l.Duration, l.Grace = time.Hour, 5*time.Second
				ctx, cancel := context.WithTimeout(t.Context(), 1900*time.Millisecond)
				defer cancel()
				m := l.Run(ctx)
				g := m.Operations[work.Get]
				if g.OK != tt.ok || g.Errors != tt.errors || g.Failures["cut off"] != tt.errors || !m.Interrupted {
					t.Errorf("%+v, interrupted %v", g, m.Interrupted)
				}
				if m.Elapsed > tt.ended || m.Elapsed < tt.from-100*time.Millisecond {
					t.Errorf("after %v", m.Elapsed)
				}
			})
		})
	}
}

// Each failure is counted, by status or by what went wrong, and its time is not among the latencies.
func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outs := []Outcome{
			{Status: 201, OK: true, Bytes: 1}, {Status: 503, Detail: "503 for o"}, {Failure: "timeout"}, {Status: 200, Wrong: "byte 7"}, {Status: 503, Detail: "503 for o"},
		}
		l := loadOn(&server{takes: always(0)}, 1)
		n := 0
		l.Do = func(context.Context, int, work.Op) Outcome { n++; return outs[n-1] }
		l.Operations = int64(len(outs))
		g := l.Run(t.Context()).Operations[work.Get]
		if g.OK != 1 || g.Errors != 4 || g.Wrong != 1 || g.Bytes != 1 || g.Statuses[503] != 2 || g.Statuses[201] != 1 || g.Failures["timeout"] != 1 || g.Latencies.TotalCount() != 1 {
			t.Errorf("%+v", g)
		}
		if len(g.Examples) != 2 || g.Examples[0] != "503 for o" || g.Examples[1] != "byte 7" {
			t.Errorf("examples: %q", g.Examples)
		}
	})
}

// The series stays small, and goes on to the end.
func TestSeriesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loadOn(&server{takes: always(time.Second)}, 1)
		l.Duration = 3 * time.Hour
		m := l.Run(t.Context())
		if n := len(m.Series); n > maxPoints || n < maxPoints/4 {
			t.Errorf("%d points", n)
		}
		for i, p := range m.Series {
			if i > 0 && p.At <= m.Series[i-1].At {
				t.Fatalf("point %d is at %v, after %v", i, p.At, m.Series[i-1].At)
			}
		}
		if last := m.Series[len(m.Series)-1]; last.Operations != 3*3600 {
			t.Errorf("it ends with %+v", last)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	s := new(shard)
	out := Outcome{Status: 200, Bytes: 4096, OK: true}
	b.ReportAllocs()
	for i := range b.N {
		s.add(work.Get, out, time.Duration(i%1000)*time.Microsecond)
	}
}
