package quorum

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/quorum/nodetest"
)

// inBubble runs a test with a fleet whose time is a bubble's. Its connections have
// been made: each primary has answered once.
func inBubble(t *testing.T, cfg Config, test func(t *testing.T, f *fleet, p Place)) {
	synctest.Test(t, func(t *testing.T) {
		nodes := nodetest.InMemory(t, name.Path{Account: "a", Container: "c"})
		client := direct.New(direct.Config{Dial: nodes.Dial})
		c := New(cfg, Rings{Account: nodes.Ring, Container: nodes.Ring}, nodes.Hasher, client)
		t.Cleanup(func() { c.Wait(); client.Close() })
		f := &fleet{c, nodes}
		p := f.Container("a", "c")
		for _, d := range p.Primaries {
			if a := f.Ask(t.Context(), p, 0, d, &backend.Request{Method: "HEAD"}); a.Err != nil {
				t.Fatal(a.Err)
			}
		}
		handoffsLack(f)
		test(t, f, p)
	})
}

// after answers with something when a time has passed.
func after(wait time.Duration, say backend.HandlerFunc) backend.HandlerFunc {
	return func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		select {
		case <-time.After(wait): // of the bubble's clock
			return say(ctx, r)
		case <-ctx.Done():
			return nil, errs.E(errs.Aborted, ctx.Err())
		}
	}
}

const (
	hangs     = time.Hour
	usualTime = 10 * time.Second // that a client waits for an answer
)

var (
	has   = nodetest.Body(200, "", "x")
	lacks = nodetest.Always(404, "")
)

func TestHedgedRead(t *testing.T) {
	const older, newer = "1000000000.00001", "1000000000.00002"
	type say = backend.HandlerFunc
	for what, tt := range map[string]struct {
		primaries [3]say
		want      string // device and status
		took      time.Duration
		asked     string // the devices that were
		sent, won float64
	}{
		"answered in time":               {[3]say{has, has, has}, "d0 200", 0, "d0", 0, 0},
		"answered just in time":          {[3]say{after(49*time.Millisecond, has), has, has}, "d0 200", 49 * time.Millisecond, "d0", 0, 0},
		"the first hangs":                {[3]say{after(hangs, has), has, has}, "d1 200", 50 * time.Millisecond, "d0 d1", 1, 1},
		"the first answers first":        {[3]say{after(60*time.Millisecond, has), after(hangs, has), has}, "d0 200", 60 * time.Millisecond, "d0 d1", 1, 0},
		"the second answers first":       {[3]say{after(90*time.Millisecond, has), after(20*time.Millisecond, has), has}, "d1 200", 70 * time.Millisecond, "d0 d1", 1, 1},
		"the second lacks it":            {[3]say{after(90*time.Millisecond, has), lacks, lacks}, "d0 200", 90 * time.Millisecond, "d0 d1 d2", 1, 0},
		"the first lacks it, at last":    {[3]say{after(60*time.Millisecond, lacks), after(30*time.Millisecond, has), has}, "d2 200", 60 * time.Millisecond, "d0 d1 d2", 1, 0},
		"the second is full":             {[3]say{after(hangs, has), nodetest.Always(507, ""), has}, "d2 200", 50 * time.Millisecond, "d0 d1 d2", 1, 0},
		"the second has no room":         {[3]say{after(hangs, has), refuses, has}, "d2 200", 50 * time.Millisecond, "d0 d1 d2", 1, 0},
		"the first is full":              {[3]say{nodetest.Always(507, ""), has, has}, "d1 200", 0, "d0 d1", 0, 0},
		"the first has no room":          {[3]say{refuses, has, has}, "d1 200", 0, "d0 d1", 0, 0},
		"no more than two":               {[3]say{after(hangs, has), after(hangs, has), has}, "d2 200", 550 * time.Millisecond, "d0 d1 d2", 1, 0},
		"others have deleted it since":   {[3]say{after(60*time.Millisecond, nodetest.Body(200, older, "x")), nodetest.Always(404, newer), nodetest.Always(404, newer)}, "d1 404", 60 * time.Millisecond, "d0 d1 d2 d3 d4 d5", 1, 0},
		"nobody else has it":             {[3]say{after(2*time.Second, has), lacks, lacks}, "d0 200", 0, "", 1, 0},
		"nobody has it, and one is slow": {[3]say{after(60*time.Millisecond, lacks), lacks, lacks}, "404", 60 * time.Millisecond, "", 1, 0},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, f *fleet, p Place) {
				for i, say := range tt.primaries {
					f.Script("d"+strconv.Itoa(i), say)
				}
				before := len(f.Asked())
				began := time.Now()
				reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
				took := time.Since(began)
				got := ""
				if err == nil {
					got = reply.Device.Name + " " + strconv.Itoa(reply.Status)
					if reply.Status == 200 {
						b, err := io.ReadAll(reply.Body)
						if string(b) != "x" || err != nil {
							t.Errorf("its body is %q, %v", b, err)
						}
					}
					if reply.Body != nil {
						_ = reply.Body.Close()
					}
				}
				if what == "nobody else has it" {
					// A majority says no, and the slow one has had its time: it is as it was.
					if !strings.HasSuffix(got, "404") || took != 500*time.Millisecond {
						t.Errorf("got %q after %v, want a 404 of the majority after 500 ms", got, took)
					}
					return
				}
				if !strings.HasSuffix(got, tt.want) || took < tt.took || took > tt.took*9/8+time.Millisecond {
					t.Errorf("got %q, %v after %v, want %q after %v", got, err, took, tt.want, tt.took)
				}
				asked := slices.Sorted(slices.Values(f.Asked()[before:]))
				if tt.asked != "" && strings.Join(asked, " ") != tt.asked {
					t.Errorf("asked %v, want %s", asked, tt.asked)
				}
				if sent, won := testutil.ToFloat64(f.counts.sent), testutil.ToFloat64(f.counts.won); sent != tt.sent || won != tt.won {
					t.Errorf("%v sent, %v won, want %v, %v", sent, won, tt.sent, tt.won)
				}
			})
		})
	}
}

// A request that lost is over at once, for its node as well, and what it leaves of
// connections is in order.
func TestTheLoserOfAHedgeIsCancelled(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, f *fleet, p Place) {
		gone := make(chan struct{})
		f.Script("d0", func(ctx context.Context, _ *backend.Request) (*backend.Response, error) {
			<-ctx.Done()
			close(gone)
			return nil, errs.E(errs.Aborted, ctx.Err())
		})
		f.Script("d1", has)
		began := time.Now()
		reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
		if err != nil || reply.Device.Name != "d1" {
			t.Fatalf("got %+v, %v", reply, err)
		}
		<-gone
		f.Wait()
		if took := time.Since(began); took > 60*time.Millisecond {
			t.Errorf("it ended after %v", took)
		}
		_ = reply.Body.Close()
		dialed := f.Dialed()
		f.Script("d0", has)
		for range 3 {
			for _, d := range p.Primaries {
				if a := f.Ask(t.Context(), p, 0, d, &backend.Request{Method: "GET"}); a.Status/100 != 2 {
					t.Errorf("afterwards %s gave %d, %v", d.Name, a.Status, a.Err)
				}
			}
		}
		if n := f.Dialed() - dialed; n != 1 {
			t.Errorf("%d connections were made anew, want the one that was broken off", n)
		}
	})
}

// A client that leaves ends all of its requests.
func TestHedgesEndWithTheirClient(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, f *fleet, p Place) {
		for _, d := range []string{"d0", "d1", "d2"} {
			f.Script(d, after(hangs, has))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := f.ReadFrom(ctx, p, p.Primaries, request("GET"))
		f.Wait()
		if took := time.Since(began); !errs.Is(err, errs.Aborted) || took != 60*time.Millisecond {
			t.Errorf("%v after %v, want it broken off after 60 ms", err, took)
		}
		for _, d := range p.Primaries {
			if f.errors.behind(d) {
				t.Errorf("%s is taken for slow", d.Name)
			}
		}
	})
}

// However slow all are, no more than their share of reads have a second request,
// after a reserve is used up; the others wait for the first as long as ever.
func TestHedgesHaveABudget(t *testing.T) {
	for percent, want := range map[int]float64{10: burst + 30, 0: burst + 30, 50: burst + 150, -1: 0} {
		inBubble(t, Config{Options: Options{HedgePercent: percent}, ErrorLimit: 1000}, func(t *testing.T, f *fleet, p Place) {
			reg := prometheus.NewRegistry()
			if err := f.Register(reg); err != nil {
				t.Fatal(err)
			}
			for _, d := range []string{"d0", "d1", "d2"} {
				f.Script(d, after(200*time.Millisecond, has))
			}
			const reads = 300
			for range reads {
				// What is known of the devices stays as at first: 50 ms.
				f.times.known.Store(newTimes().known.Load())
				reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
				if err != nil {
					t.Fatal(err)
				}
				_ = reply.Body.Close()
			}
			sent, withheld := testutil.ToFloat64(f.counts.sent), testutil.ToFloat64(f.counts.withheld)
			if sent < want-2 || sent > want+2 {
				t.Errorf("%d %%: %v of %d reads had a second request, want %v", percent, sent, reads, want)
			}
			if percent >= 0 && sent+withheld != reads {
				t.Errorf("%d %%: %v sent and %v withheld of %d", percent, sent, withheld, reads)
			}
		})
	}
}

// How long a second request waits goes by how fast the one is that it would go to.
func TestTheDelayOfAHedge(t *testing.T) {
	h := newHedges(200*time.Millisecond, 10, newHedgeCounts())
	tm := newTimes()
	nodes := nodetest.New(t, name.Path{Account: "a", Container: "c"})
	d := tm.of(nodes.Ring.Ring().AppendPrimaries(nil, 0)[0])
	for _, tt := range []struct{ usual, rare, least, most time.Duration }{
		{time.Millisecond, 5 * time.Millisecond, shortestDelay, shortestDelay},
		{20 * time.Millisecond, 30 * time.Millisecond, 19 * time.Millisecond, 40 * time.Millisecond},
		{400 * time.Millisecond, time.Second, 200 * time.Millisecond, 200 * time.Millisecond},
		{time.Millisecond, 2 * time.Millisecond, shortestDelay, shortestDelay},
	} {
		for i := range 4000 {
			took := tt.usual
			if i%33 == 0 { // 3 of 100
				took = tt.rare
			}
			d.took(took, time.Now())
		}
		if got := h.delay(d); got < tt.least || got > tt.most {
			t.Errorf("of answers in %v and %v: %v, want %v to %v", tt.usual, tt.rare, got, tt.least, tt.most)
		}
	}
}

// One that hangs is soon asked last, and is still written to; one answer of it is
// enough to have it back.
func TestADeviceThatIsAlwaysOvertaken(t *testing.T) {
	inBubble(t, Config{ErrorLimit: 3, PostQuorum: time.Millisecond}, func(t *testing.T, f *fleet, p Place) {
		f.Script("d0", after(hangs, has))
		f.Script("d1", has)
		f.Script("d2", has)
		for range 3 {
			reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
			if err != nil {
				t.Fatal(err)
			}
			_ = reply.Body.Close()
		}
		if d0 := p.Primaries[0]; !f.errors.behind(d0) || f.errors.limited(d0) {
			t.Errorf("behind %v, limited %v, want it last for reads only", f.errors.behind(d0), f.errors.limited(d0))
		}
		before := len(f.Asked())
		for range 20 {
			reply, err := f.Read(t.Context(), p, request("GET"))
			if err != nil {
				t.Fatal(err)
			}
			_ = reply.Body.Close()
		}
		if slices.Contains(f.Asked()[before:], "d0") {
			t.Error("it is asked before the others")
		}
		f.Script("d0", has)
		f.Write(t.Context(), p, request("PUT"))
		if f.errors.behind(p.Primaries[0]) {
			t.Error("it answers and is still last")
		}
	})
}

// The newest version is asked for beside a slow device only where another has it.
func TestHedgesOfTheNewestAreAsNew(t *testing.T) {
	const older, newer = "1000000000.00001", "1000000000.00002"
	old, young := nodetest.Body(200, older, "old"), nodetest.Body(200, newer, "new")
	head := func(say, get backend.HandlerFunc) backend.HandlerFunc { // get answers a GET
		return func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
			if r.Method == "HEAD" {
				resp, err := say(ctx, r)
				resp.Body, resp.Length = nil, 0
				return resp, err
			}
			return get(ctx, r)
		}
	}
	slow := func(say backend.HandlerFunc) backend.HandlerFunc { return head(say, after(100*time.Millisecond, say)) }
	full := nodetest.Always(507, "")
	for what, tt := range map[string]struct {
		say  [3]backend.HandlerFunc
		want string
		took time.Duration
	}{
		"one has it":  {[3]backend.HandlerFunc{slow(young), old, old}, "new", 100 * time.Millisecond},
		"two have it": {[3]backend.HandlerFunc{slow(young), young, old}, "new", 50 * time.Millisecond},

		// What is older is not asked for while who has it may yet answer.
		"one has it, and is very slow":      {[3]backend.HandlerFunc{head(young, after(2*time.Second, young)), old, old}, "new", 2 * time.Second},
		"one has it, and hangs":             {[3]backend.HandlerFunc{head(young, after(hangs, young)), old, old}, "old", usualTime},
		"one has it, and fails":             {[3]backend.HandlerFunc{head(young, full), old, old}, "old", 0},
		"two have it, and the second fails": {[3]backend.HandlerFunc{slow(young), head(young, full), old}, "new", 100 * time.Millisecond},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, f *fleet, p Place) {
				for i, say := range tt.say {
					f.Script("d"+strconv.Itoa(i), say)
				}
				began := time.Now()
				reply, err := f.ReadNewest(t.Context(), p, request("HEAD"), request("GET"))
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				b, _ := io.ReadAll(reply.Body)
				_ = reply.Body.Close()
				if string(b) != tt.want || took < tt.took || took > tt.took*6/5+time.Millisecond {
					t.Errorf("got %q after %v, want the %s one after %v", b, took, tt.want, tt.took)
				}
			})
		})
	}
}

// A refusal that is the answer in the end can be read to its end, though others were asked after it.
func TestARefusalOfAHedgeIsWhole(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, f *fleet, p Place) {
		text := strings.Repeat("it is not here. ", 2000)
		f.Script("d0", after(60*time.Millisecond, lacks))
		f.Script("d1", nodetest.Body(404, "1000000000.00002", text))
		f.Script("d2", lacks)
		reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
		if err != nil || reply.Device.Name != "d1" || reply.Status != 404 {
			t.Fatalf("got %+v, %v", reply, err)
		}
		b, err := io.ReadAll(reply.Body)
		if string(b) != text || err != nil {
			t.Errorf("it is %d bytes, %v, want %d", len(b), err, len(text))
		}
		if err := reply.Body.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A refusal that is not the answer in the end gives its connection back.
func TestARefusalThatIsNotTheAnswer(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, f *fleet, p Place) {
		f.Script("d0", nodetest.Body(404, "", "it is not here"))
		f.Script("d1", has)
		before := f.Dialed()
		for range 10 {
			reply, err := f.ReadFrom(t.Context(), p, p.Primaries, request("GET"))
			if err != nil || reply.Device.Name != "d1" {
				t.Fatalf("got %+v, %v", reply, err)
			}
			if _, err := io.Copy(io.Discard, reply.Body); err != nil {
				t.Fatal(err)
			}
			if err := reply.Body.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.Dialed() - before; n != 0 {
			t.Errorf("%d connections were made for 10 reads", n)
		}
	})
}

// What a device that is slow, or hangs, costs reads that are sent one after the
// other: the time that so many of 1000 take at most. The figures are in
// docs/benchmarks.md.
func TestReadsBesideASlowDevice(t *testing.T) {
	const usual = 2 * time.Millisecond
	without := Config{Options: Options{HedgePercent: -1}}
	for what, tt := range map[string]struct {
		cfg      Config
		slow     time.Duration
		p90, p99 time.Duration // at most
	}{
		"hangs":                    {Config{}, hangs, usual, usual + shortestDelay},
		"hangs, no hedges":         {without, hangs, usual, 500*time.Millisecond + usual},
		"slow":                     {Config{}, 200 * time.Millisecond, usual, usual + shortestDelay},
		"slow, no hedges":          {without, 200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond},
		"slow, by timing":          {Config{Options: Options{Timing: true}}, 200 * time.Millisecond, usual, usual},
		"slow at times":            {Config{}, -200 * time.Millisecond, usual, usual + shortestDelay},
		"slow at times, no hedges": {without, -200 * time.Millisecond, usual, 200 * time.Millisecond},
	} {
		inBubble(t, tt.cfg, func(t *testing.T, f *fleet, p Place) {
			var n atomic.Int64
			slow := after(tt.slow, has)
			if tt.slow < 0 { // one of ten
				slow = func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
					wait := usual
					if n.Add(1)%10 == 0 {
						wait = -tt.slow
					}
					return after(wait, has)(ctx, r)
				}
			}
			f.Script("d1", after(usual, has))
			f.Script("d2", after(usual, has))
			reads := func() (took []time.Duration) {
				for range 1000 {
					began := time.Now()
					reply, err := f.Read(t.Context(), p, request("GET"))
					if err != nil {
						t.Fatal(err)
					}
					_ = reply.Body.Close()
					took = append(took, time.Since(began))
				}
				return took
			}
			f.Script("d0", after(usual, has))
			reads() // as they are on other days
			f.Script("d0", slow)
			took := reads()
			slices.Sort(took)
			t.Logf("%-24s p50 %v, p90 %v, p99 %v, longest %v; %v sent, %v withheld", what, took[500], took[900], took[990], took[999],
				testutil.ToFloat64(f.counts.sent), testutil.ToFloat64(f.counts.withheld))
			if took[900] > tt.p90*9/8 || took[990] > tt.p99*9/8 {
				t.Errorf("%s: p90 %v and p99 %v, want at most %v and %v", what, took[900], took[990], tt.p90, tt.p99)
			}
		})
	}
}
