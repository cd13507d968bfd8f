package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
)

// What is pushed under limits is within a tenth of them, however many push, whatever a push
// takes, and also where both limits are near each other.
func TestRates(t *testing.T) {
	for what, tt := range map[string]struct {
		limits Limits
		size   int64
		took   time.Duration // by each push
		want   float64       // pushes a second
	}{
		"bytes, one at a time":      {Limits{BytesPerSecond: 1 << 20, Concurrency: 1, Incoming: 1}, 64 << 10, 0, 16},
		"bytes, many":               {Limits{BytesPerSecond: 5e6, Concurrency: 16, Incoming: 1}, 4 << 10, time.Millisecond, 5e6 / 4096},
		"bytes, some take longer":   {Limits{BytesPerSecond: 10e6, Concurrency: 4, Incoming: 1}, 1 << 20, 200 * time.Millisecond, 10e6 / (1 << 20)},
		"operations":                {Limits{OperationsPerSecond: 300, Concurrency: 4, Incoming: 1}, 100, 2 * time.Millisecond, 300},
		"both, bytes are less":      {Limits{BytesPerSecond: 1e6, OperationsPerSecond: 110, Concurrency: 4, Incoming: 1}, 10e3, 0, 100},
		"both, operations are less": {Limits{BytesPerSecond: 1e6, OperationsPerSecond: 90, Concurrency: 4, Incoming: 1}, 10e3, 0, 90},
	} {
		synctest.Test(t, func(t *testing.T) {
			const span = 20 * time.Second
			var pushed atomic.Int64
			c := Client{NodeID: "a", Device: "d", Pace: NewPaces([]string{"d"}, tt.limits, nil).Of("d"), Sender: answers(func(string, *backend.Request) (*backend.Response, error) {
				time.Sleep(tt.took) // in the bubble
				pushed.Add(1)
				return answer(201, "b", "")
			})}
			at := About{testRing(t, 1, []uint32{0, 1}), 1}
			ctx, cancel := context.WithTimeout(t.Context(), span)
			defer cancel()
			Spread(ctx, c.Pace, 0, func(ctx context.Context, _ int) {
				for range 10 {
					_, _ = c.Do(ctx, at, &Peer{Addr: "x:1", Device: "d"}, &backend.Request{Method: "PUT", Length: tt.size})
				}
			}, func(hand func(int) bool) {
				for hand(0) {
				}
			})
			if got := float64(pushed.Load()) / span.Seconds(); math.Abs(got/tt.want-1) > .1 {
				t.Errorf("%s: %.1f pushes a second, want %.1f", what, got, tt.want)
			}
		})
	}
}

// A timer that is late makes the rate no less, and being idle makes it no more for longer than
// a moment.
func TestPaceKeepsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPace(0, 1000)
		began := time.Now()
		for range 2000 {
			if err := p.Wait(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if time.Since(began)%(10*time.Millisecond) < time.Millisecond {
				time.Sleep(1500 * time.Microsecond) // in the bubble: the machine was busy
			}
		}
		if took := time.Since(began); took > 2100*time.Millisecond {
			t.Errorf("2000 operations at 1000 a second took %v", took)
		}
		time.Sleep(time.Hour) // in the bubble
		began = time.Now()
		for range 1000 {
			_ = p.Wait(t.Context(), 0)
		}
		if took := time.Since(began); took < time.Second-slack-time.Millisecond {
			t.Errorf("after an hour 1000 operations took only %v", took)
		}
	})
}

// New limits hold at once, for what waits as well.
func TestPaceIsSet(t *testing.T) {
	for what, tt := range map[string]struct {
		bytes, operations int64
		want              time.Duration
	}{
		"no limit":      {0, 0, time.Second},
		"ten times":     {10, 0, 2 * time.Second},
		"only the half": {1, 0, 11 * time.Second},
		"another one":   {0, 10, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPace(2, 0)
			_ = p.Wait(t.Context(), 12) // ten of them are owed after a second
			time.AfterFunc(time.Second, func() { p.Set(tt.bytes, tt.operations) })
			began := time.Now()
			if err := p.Wait(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took.Round(time.Millisecond) != tt.want {
				t.Errorf("%s: what waited has waited for %v, want %v", what, took, tt.want)
			}
		})
	}
}

// As many are inside as there may be, who came first comes first, and who leaves the line
// holds nobody up.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.set(2)
		var mu sync.Mutex
		var order []int
		leave := make(chan struct{})
		enter := func(n int, ctx context.Context) {
			go func() {
				if g.enter(ctx) != nil {
					return
				}
				mu.Lock()
				order = append(order, n)
				mu.Unlock()
				<-leave
				g.leave()
			}()
			synctest.Wait()
		}
		check := func(when string, inside, waiting int, want ...int) {
			t.Helper()
			synctest.Wait()
			i, w := g.count()
			mu.Lock()
			defer mu.Unlock()
			if i != inside || w != waiting || fmt.Sprint(order) != fmt.Sprint(want) {
				t.Errorf("%s: %d inside, %d wait, came in: %v; want %d, %d, %v", when, i, w, order, inside, waiting, want)
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		for n := range 6 {
			ctx := t.Context()
			if n == 2 {
				ctx = gone
			}
			enter(n, ctx)
		}
		check("at first", 2, 4, 0, 1)
		cancel()
		check("when one is gone", 2, 3, 0, 1)
		leave <- struct{}{}
		check("when one has left", 2, 2, 0, 1, 3)
		g.set(3)
		check("with room for more", 3, 1, 0, 1, 3, 4)
		g.set(1)
		leave <- struct{}{}
		leave <- struct{}{}
		check("with room for less", 1, 1, 0, 1, 3, 4)
		leave <- struct{}{}
		check("at last", 1, 0, 0, 1, 3, 4, 5)
		leave <- struct{}{}
		check("when all have left", 0, 0, 0, 1, 3, 4, 5)
		if err := g.enter(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("who is gone enters: %v", err)
		}
	})
}

// How many partitions are under way can be changed while a pass runs.
func TestSpreadIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := NewPaces([]string{"d"}, Limits{Concurrency: 2, Incoming: 1}, nil).Of("d")
		free := make(chan struct{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Spread(t.Context(), pace, 0, func(context.Context, int) { <-free }, func(hand func(int) bool) {
				for n := range 20 {
					hand(n)
				}
			})
		}()
		check := func(want int) {
			t.Helper()
			synctest.Wait()
			if r := pace.Report(); r.Partitions != want {
				t.Errorf("%d partitions are under way, want %d", r.Partitions, want)
			}
		}
		check(2)
		pace.Set(Limits{Concurrency: 5, Incoming: 1})
		check(5)
		pace.Set(Limits{Concurrency: 1, Incoming: 1})
		check(5)
		for range 5 {
			free <- struct{}{}
		}
		check(1)
		close(free)
		<-ended
		check(0)
	})
}

// The pace follows how long a device takes, and never comes to a stop.
func TestEase(t *testing.T) {
	const quick, size = 10 * time.Millisecond, 1000
	for what, tt := range map[string]struct {
		took []time.Duration // by one push after the other
		gaps []time.Duration // before each of them
	}{
		"nothing changes": {
			[]time.Duration{quick, quick, quick, quick, quick, quick}, []time.Duration{0, 0, 0, 0, 0, 0},
		},
		"three times is not slow": {
			[]time.Duration{quick, 3 * quick, 3 * quick, 3 * quick, 3 * quick, 3 * quick}, []time.Duration{0, 0, 0, 0, 0, 0},
		},
		"a few slow ones are nothing": {
			[]time.Duration{quick, 40 * quick, 40 * quick, 40 * quick, quick, 40 * quick}, []time.Duration{0, 0, 0, 0, 0, 0},
		},
		"as long as they take, more, and back": {
			[]time.Duration{
				quick, 4 * quick, 4 * quick, 4 * quick, 4 * quick, // then as long
				4 * quick, 4 * quick, 4 * quick, 4 * quick, // then twice that
				quick, quick, quick, quick, // then as long
				quick, quick, quick, quick, // then nothing
				quick,
			},
			[]time.Duration{
				0, 0, 0, 0, 0,
				31e6, 33e6, 35e6, 36e6, // of the average, which comes near to 4 times quick
				74e6, 2 * quick, 2 * quick, 2 * quick,
				quick, quick, quick, quick,
				0,
			},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			var gaps []time.Duration
			var asked time.Time
			c := Client{NodeID: "a", Device: "d", Pace: NewPaces([]string{"d"}, DefaultLimits(), nil).Of("d")}
			c.Sender = answers(func(string, *backend.Request) (*backend.Response, error) {
				gaps = append(gaps, time.Since(asked).Round(time.Millisecond))
				time.Sleep(tt.took[n]) // in the bubble
				return answer(201, "b", "")
			})
			at := About{testRing(t, 1, []uint32{0, 1}), 1}
			for n = range tt.took {
				asked = time.Now()
				if _, err := c.Do(t.Context(), at, &Peer{Addr: "x:1", Device: "d"}, &backend.Request{Method: "PUT", Length: size}); err != nil {
					t.Fatal(err)
				}
			}
			if fmt.Sprint(gaps) != fmt.Sprint(tt.gaps) {
				t.Errorf("%s: pushes take\n%v, before them is left\n%v, want\n%v", what, tt.took, gaps, tt.gaps)
			}
		})
	}
}

// Peers and sizes are told apart; however slow a peer becomes there is a bound; what was quick
// long ago is forgotten.
func TestEaseIsBounded(t *testing.T) {
	var e easing
	now := time.Unix(0, 0)
	slowly := func(peer string, took time.Duration, times int) {
		for range times {
			now = now.Add(took)
			e.note(peer, 1000, took, now)
		}
	}
	gap := func(what, peer string, size int64, want time.Duration) {
		t.Helper()
		if got := e.gapBefore(peer, size); got.Round(time.Millisecond) != want {
			t.Errorf("%s: a gap of %v, want %v", what, got, want)
		}
	}
	slowly("p", 10*time.Millisecond, 1)
	slowly("p", 100*time.Millisecond, 100)
	gap("at the bound", "p", 1000, 800*time.Millisecond)
	gap("of about the size", "p", 600, 800*time.Millisecond)
	gap("another size, of which nothing is known", "p", 1<<20, 0)
	gap("another peer", "q", 1000, 0)
	slowly("p", time.Minute, 8)
	gap("when they take minutes", "p", 1000, longestGap)
	slowly("p", 100*time.Millisecond, int(2*ofLate/(100*time.Millisecond)))
	gap("when that is what it always takes", "p", 1000, 0)
	slowly("r", time.Microsecond, 1)
	slowly("r", quickEnough, 100)
	gap("when it is quick enough", "r", 1000, 0)
	for n := range 2 * maxEased {
		e.note(fmt.Sprint(n), 1, 1, now)
	}
	if len(e.peers) > maxEased {
		t.Errorf("%d peers are kept in mind", len(e.peers))
	}
}

// Questions are not pushes: they wait for no peer, and say nothing of how fast it is.
func TestEaseIsOfPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log safe
		took := 10 * time.Millisecond
		pace := NewPaces([]string{"d"}, DefaultLimits(), slog.New(slog.NewTextHandler(&log, nil))).Of("d")
		c := Client{NodeID: "a", Device: "d", Pace: pace, Sender: answers(func(string, *backend.Request) (*backend.Response, error) {
			time.Sleep(took) // in the bubble
			return answer(200, "b", "")
		})}
		do := func(method string, times int) time.Duration {
			began := time.Now()
			for range times {
				if _, err := c.Do(t.Context(), About{testRing(t, 1, []uint32{0, 1}), 1}, &Peer{Addr: "x:1", Device: "d"}, &backend.Request{Method: method}); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(began)
		}
		do("REPLICATE", 5)
		took = time.Second
		do("REPLICATE", 5)
		if r := pace.Report(); r.Factor != 1 || r.Slowed != 0 {
			t.Errorf("after slow questions: %+v", r)
		}
		took = 10 * time.Millisecond
		do("PUT", 1)
		took = time.Second
		do("PUT", 4)
		if r := pace.Report(); r.Factor != .5 || r.Slowed != 1 {
			t.Errorf("after slow pushes: %+v", r)
		}
		if text := log.take(); strings.Count(text, "the pace to a peer has changed") != 1 || !strings.Contains(text, "peer=x:1/d") {
			t.Errorf("the log has %q", text)
		}
		if d := do("REPLICATE", 1); d != time.Second {
			t.Errorf("a question took %v", d)
		}
		do("PUT", 1)
		if r := pace.Report(); r.Waited.Latency < .5 || r.Waited.Limits != 0 {
			t.Errorf("waited: %+v", r.Waited)
		}
	})
}

// Limits that make no sense are refused, naming the key and the value.
func TestLimits(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(*Limits)
		want   string
	}{
		"the defaults":         {func(*Limits) {}, ""},
		"all there may be":     {func(l *Limits) { *l = Limits{1, 1, MaxConcurrency, MaxConcurrency} }, ""},
		"negative bytes":       {func(l *Limits) { l.BytesPerSecond = -1 }, "bytes_per_second: -1"},
		"negative operations":  {func(l *Limits) { l.OperationsPerSecond = -2 }, "operations_per_second: -2"},
		"no partitions":        {func(l *Limits) { l.Concurrency = 0 }, "concurrency: 0"},
		"too many partitions":  {func(l *Limits) { l.Concurrency = MaxConcurrency + 1 }, "concurrency: 1025"},
		"nothing that comes":   {func(l *Limits) { l.Incoming = 0 }, "incoming: 0"},
		"too much that comes":  {func(l *Limits) { l.Incoming = 5000 }, "incoming: 5000"},
		"the other is told of": {func(l *Limits) { l.Incoming, l.Concurrency = 0, 0 }, "incoming: 0"},
	} {
		l := DefaultLimits()
		tt.change(&l)
		if err := l.Check(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v gives %v, want %q", what, l, err, tt.want)
		}
	}
}

// A device handles as many pushes at one time as it may; the others wait in line for as long
// as who sent them, and questions don't.
func TestPushesWaitInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := make(chan struct{})
		r := newReplicator(t, blocking{busy: busy}, nil, nil)
		if err := r.Limit("", func(l *Limits) { l.Incoming = 3 }); err != nil {
			t.Fatal(err)
		}
		r.Patience = 10 * time.Second
		var served, refused atomic.Int64
		send := func(ctx context.Context, method, path string) {
			go func() {
				req := &backend.Request{Method: method, Path: path, Remote: "127.0.0.1:1", Header: backend.Header{
					{Name: "X-Backend-Kind", Value: "object"}, {Name: "X-Backend-Part-Power", Value: "4"}, {Name: "X-Backend-Replication", Value: "true"},
				}}
				if _, err := r.Serve(ctx, req); err != nil {
					refused.Add(1)
				} else {
					served.Add(1)
				}
			}()
			synctest.Wait()
		}
		check := func(when string, incoming, inLine int, wantServed, wantRefused int64) {
			t.Helper()
			synctest.Wait()
			p, err := r.Pacing("d1")
			if err != nil || p[0].Incoming != incoming || p[0].InLine != inLine || served.Load() != wantServed || refused.Load() != wantRefused {
				t.Errorf("%s: %+v, %v, %d served, %d refused; want %d handled, %d in line, %d, %d",
					when, p, err, served.Load(), refused.Load(), incoming, inLine, wantServed, wantRefused)
			}
		}
		leaver, leave := context.WithCancel(t.Context())
		for n := range 8 {
			ctx := t.Context()
			if n == 4 {
				ctx = leaver
			}
			send(ctx, []string{"PUT", "POST", "DELETE"}[n%3], "/d1/0/a/c/o")
		}
		check("eight pushes", 3, 5, 0, 0)
		send(t.Context(), "PUT", "/d2/0/a/c/o")
		check("one for another device", 3, 5, 0, 0)
		send(t.Context(), "REPLICATE", "/d1/0")
		check("a question", 3, 5, 1, 0)
		leave()
		check("who is gone", 3, 4, 1, 1)
		busy <- struct{}{}
		busy <- struct{}{}
		check("two are done", 3, 2, 3, 1)
		time.Sleep(11 * time.Second) // in the bubble
		check("when nobody waits any more", 3, 0, 3, 3)
		close(busy)
		check("in the end", 0, 0, 7, 3)
	})
}

// blocking is a kind whose pushes take until something can be read.
type blocking struct {
	echo
	busy chan struct{}
}

func (b blocking) Serve(ctx context.Context, c *Call) (*backend.Response, error) {
	if c.Method != "REPLICATE" {
		<-b.busy
	}
	return &backend.Response{Status: 200, Body: io.NopCloser(strings.NewReader(""))}, nil
}
