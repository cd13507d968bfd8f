package quorum

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum/nodetest"
	"martlet/ring"
)

// fragmentBench is six nodes in memory of which the first three have a fragment each, unless
// they are told otherwise.
type fragmentBench struct {
	c     *Cluster
	place Place

	mu    sync.Mutex
	say   map[string]func(index int) *backend.Response // by device; guarded by mu
	asked []string                                     // guarded by mu
}

func newFragmentBench(t *testing.T, cfg Config) *fragmentBench {
	t.Helper()
	path := name.Path{Account: "a", Container: "c", Object: "o"}
	fleet := nodetest.InMemory(t, path)
	client := direct.New(direct.Config{Dial: fleet.Dial})
	t.Cleanup(client.Close)
	b := &fragmentBench{say: map[string]func(int) *backend.Response{}}
	b.c = New(cfg, Rings{Account: fleet.Ring, Container: fleet.Ring, Objects: map[policy.Index]*ring.Source{0: fleet.Ring}}, fleet.Hasher, client)
	t.Cleanup(b.c.Wait)
	var err error
	if b.place, err = b.c.Object(0, path); err != nil {
		t.Fatal(err)
	}
	for i := range nodetest.Nodes {
		d := fmt.Sprint("d", i)
		fleet.Script(d, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			text := r.Header.Get(backend.FragmentIndex)
			b.mu.Lock()
			b.asked = append(b.asked, d+"/"+text)
			say := b.say[d]
			b.mu.Unlock()
			index, err := strconv.Atoi(text)
			if err != nil {
				index = AnyFragment
			}
			if say != nil {
				return say(index), nil
			}
			if index == i {
				return fragment(i), nil
			}
			return nodetest.Status(404, ""), nil
		})
	}
	return b
}

// fragment is an answer with a fragment.
func fragment(index int) *backend.Response {
	r := nodetest.Status(206, "")
	r.Header.Add(backend.FragmentIndex, strconv.Itoa(index))
	r.Length, r.Body = 4, io.NopCloser(strings.NewReader("data"))
	return r
}

func (b *fragmentBench) begin(ctx context.Context, data int) *Fragments {
	return b.c.Fragments(ctx, FragmentRead{
		Place: b.place, Data: data,
		Build: func(index int, but []int) *backend.Request {
			h := backend.Header{{Name: backend.FragmentIndex, Value: strconv.Itoa(index)}}
			if index == AnyFragment {
				h[0].Value = "but " + strings.Trim(fmt.Sprint(but), "[]")
			}
			return &backend.Request{Method: http.MethodGet, Header: h}
		},
		Judge: func(r *backend.Response) (int, error) {
			i, err := strconv.Atoi(r.Header.Get(backend.FragmentIndex))
			if i > 9 {
				err = errors.New("of another write")
			}
			return i, err
		},
	})
}

// order returns whom a read asks first, one after the other.
func order(f *Fragments) (list []string) {
	for _, h := range f.holders {
		list = append(list, h.device.Name)
	}
	return list
}

func TestFragmentOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, err := ParseAffinity("r1z3=1, r1z2=2, r1z1=3")
		if err != nil {
			t.Fatal(err)
		}
		b := newFragmentBench(t, Config{Options: Options{Near: near}})
		for range 20 {
			if got := order(b.begin(t.Context(), 2)); !slices.Equal(got, []string{"d1", "d0", "d2"}) {
				t.Fatalf("those with data first, and the nearest of them: got %v", got)
			}
		}
		for range 10 {
			b.c.Broke(b.place.Primaries[1])
		}
		if got := order(b.begin(t.Context(), 2)); !slices.Equal(got, []string{"d0", "d2", "d1"}) {
			t.Errorf("what has been failing comes last: got %v", got)
		}
		b = newFragmentBench(t, Config{Options: Options{Timing: true}})
		for i, d := range b.place.Primaries {
			b.c.times.of(d).took(time.Duration(30-10*i)*time.Millisecond, time.Now())
		}
		if got := order(b.begin(t.Context(), 2)); !slices.Equal(got, []string{"d1", "d0", "d2"}) {
			t.Errorf("the faster of those with data first: got %v", got)
		}
	})
}

// A small fragment, which comes with the head of the answer, says that it is there.
func TestFragmentThatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFragmentBench(t, Config{}).begin(t.Context(), 1)
		defer f.Close()
		got, err := f.Next(1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if b, ok := got.Body.(interface{ Buffered() int }); !ok || b.Buffered() != len("data") {
			t.Errorf("a body %T of which nothing is there", got.Body)
		}
		if err := got.Body.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Whom a read of two fragments asks, and how it comes out.
func TestFragments(t *testing.T) {
	nothing := func(int) *backend.Response { return nodetest.Status(404, "") }
	for name, tt := range map[string]struct {
		say   map[string]func(int) *backend.Response
		want  []int    // the fragments that come, in any order
		asked []string // at least
		not   []string // never
	}{
		"all is well":      {nil, []int{0, 1}, []string{"d0/0", "d1/1"}, []string{"d2/2", "d3/"}},
		"one has nothing":  {map[string]func(int) *backend.Response{"d1": nothing}, []int{0, 2}, []string{"d1/1", "d2/2"}, []string{"d3/"}},
		"of another write": {map[string]func(int) *backend.Response{"d0": func(int) *backend.Response { return fragment(10) }}, []int{1, 2}, []string{"d0/0", "d2/2"}, []string{"d3/"}},
		"on a handoff": {map[string]func(int) *backend.Response{
			"d0": nothing, "d1": func(int) *backend.Response { return nodetest.Status(507, "") },
			"d4": func(i int) *backend.Response { return fragment(1) },
		}, []int{1, 2}, []string{"d4/but 2"}, nil},
		"the same one twice is one": {map[string]func(int) *backend.Response{
			"d0": nothing, "d1": nothing, "d3": func(int) *backend.Response { return fragment(2) }, "d4": func(int) *backend.Response { return fragment(2) },
			"d5": func(int) *backend.Response { return fragment(2) },
		}, []int{2}, []string{"d3/but 2", "d4/but 2", "d5/but 2", "d0/but 2"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFragmentBench(t, Config{})
				for d, say := range tt.say {
					b.say[d] = say
				}
				f := b.begin(t.Context(), 2)
				defer f.Close()
				var got []int
				for len(got) < 2 {
					one, err := f.Next(2-len(got), 0)
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					defer one.Body.Close()
					got = append(got, one.Index)
				}
				slices.Sort(got)
				if !slices.Equal(got, tt.want) {
					t.Errorf("got %v, want %v: %s", got, tt.want, f.Said())
				}
				for _, a := range tt.asked {
					if !slices.Contains(b.asked, a) {
						t.Errorf("%s was not asked: %v", a, b.asked)
					}
				}
				for _, a := range tt.not {
					if slices.ContainsFunc(b.asked, func(s string) bool { return strings.HasPrefix(s, a) }) {
						t.Errorf("%s was asked: %v", a, b.asked)
					}
				}
			})
		})
	}
}

// A device that was asked for any fragment but one, since that was to come from elsewhere, is asked again when it does not.
func TestFragmentThatWasLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFragmentBench(t, Config{Patience: time.Hour})
		b.say["d0"] = func(int) *backend.Response { return nodetest.Status(404, "") }
		b.say["d2"] = b.say["d0"]
		b.say["d1"] = func(int) *backend.Response {
			<-time.After(time.Second)
			return nodetest.Status(404, "")
		}
		b.say["d3"] = func(int) *backend.Response { // it has the one of d1
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.asked[len(b.asked)-1] == "d3/but 1" {
				return nodetest.Status(404, "")
			}
			return fragment(1)
		}
		f := b.begin(t.Context(), 2)
		defer func() { <-time.After(2 * time.Second) }() // d1 may not have answered yet, and is waited for by nobody
		defer f.Close()
		got, err := f.Next(2, 0)
		if err != nil || got.Index != 1 {
			t.Fatalf("got %d, %v: %s; asked were %v", got.Index, err, f.Said(), b.asked)
		}
		if err := got.Body.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait() // others are still being asked
		if !slices.Contains(b.asked, "d3/but 1") {
			t.Errorf("asked were %v", b.asked)
		}
	})
}

// In a later round those that broke off are asked again, after those that did not.
func TestFragmentsOfALaterRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFragmentBench(t, Config{})
		f := b.begin(t.Context(), 1)
		defer f.Close()
		for round, want := range []int{0, 1, 2, 0} {
			if round == 1 || round == 2 {
				b.say["d3"] = func(int) *backend.Response { return nodetest.Status(404, "") }
			}
			got, err := f.Next(1, int64(round))
			if err != nil || round == 0 && got.Index != want {
				t.Fatalf("round %d: got %d, %v, want %d", round, got.Index, err, want)
			}
			got.Broke(io.ErrUnexpectedEOF)
			if err := got.Body.Close(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		first := slices.Clone(b.asked[:3])
		slices.Sort(first)
		if !slices.Equal(first, []string{"d0/0", "d1/1", "d2/2"}) || len(b.asked) != 4 || strings.HasPrefix(b.asked[3], "d3") {
			t.Errorf("asked were %v", b.asked)
		}
		if said := f.Said(); strings.Count(said, "unexpected EOF") != 4 {
			t.Errorf("they said %q", said)
		}
	})
}

// Who has gone away is told so, and nobody is asked for him.
func TestFragmentsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFragmentBench(t, Config{})
		for i := range 3 {
			b.say[fmt.Sprint("d", i)] = func(int) *backend.Response {
				<-time.After(time.Minute)
				return nodetest.Status(404, "")
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		f := b.begin(ctx, 2)
		defer f.Close()
		time.AfterFunc(100*time.Millisecond, cancel)
		began := time.Now()
		if _, err := f.Next(2, 0); !errs.Is(err, errs.Aborted) || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if _, err := f.Next(2, 1); !errs.Is(err, errs.Aborted) {
			t.Errorf("afterwards: %v", err)
		}
		time.Sleep(time.Minute) // in the bubble, for the nodes to end
	})
}

// When another device is asked beside one whose answer has begun and does not go on.
func TestFragmentThatIsLate(t *testing.T) {
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		percent int
		waited  time.Duration
		apart   bool
		want    time.Duration // to go on waiting
		sent    float64
	}{
		"as long as most take":                    {0, 20 * ms, false, 30 * ms, 0},
		"longer than most take":                   {0, 50 * ms, false, 0, 1},
		"beyond the budget":                       {-1, 50 * ms, true, 450 * ms, 0},
		"beyond the budget, for as long as it is": {-1, 500 * ms, true, 0, 0},
		"beyond the budget, as slow as others":    {-1, 5000 * ms, false, time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFragmentBench(t, Config{Options: Options{HedgePercent: tt.percent}})
				f := b.begin(t.Context(), 2)
				defer f.Close()
				one, err := f.Next(1, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer one.Body.Close()
				if got := f.Late(tt.waited, 0, tt.apart); got != tt.want {
					t.Errorf("to be waited for %v, want %v", got, tt.want)
				}
				if sent := testutil.ToFloat64(b.c.counts.sent); sent != tt.sent || sent == 1 != (len(f.running) == 1 && f.running[0].hedge) {
					t.Errorf("%v were sent by the budget, want %v", sent, tt.sent)
				}
				if tt.want > 0 {
					return
				}
				wake := make(chan struct{}, 1)
				wake <- struct{}{}
				b.mu.Lock()
				if _, ok, err := f.NextUnless(wake, 1, 0); ok || err != nil { // who is asked waits for b.mu
					t.Errorf("ok is %v, %v, when something has come", ok, err)
				}
				b.mu.Unlock()
				other, ok, err := f.NextUnless(wake, 1, 0)
				if err != nil || !ok || other.Index == one.Index {
					t.Fatalf("got %d, %v, %v", other.Index, ok, err)
				}
				if err := other.Body.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What the budget has refused once it is not asked for again in that round, and handoffs are never asked beside what has begun.
func TestNoneBesideWhatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFragmentBench(t, Config{})
		f := b.begin(t.Context(), 2)
		defer f.Close()
		b.c.usual.hedges.budget.Store(0)
		for i, want := range []float64{1, 1, 2} {
			f.Late(time.Minute, int64(i/2), false)
			if got := testutil.ToFloat64(b.c.counts.withheld); got != want {
				t.Errorf("%v were withheld, want %v", got, want)
			}
		}
		for range b.place.Primaries {
			one, err := f.Next(1, 2)
			if err != nil {
				t.Fatal(err)
			}
			defer one.Body.Close()
		}
		if got := f.Late(time.Minute, 2, true); got != time.Hour {
			t.Errorf("to be waited for %v where only handoffs are left", got)
		}
	})
}

// Who is overtaken comes after others, in reads; who was silent for long as well in writes.
func TestFragmentsThatAreOvertaken(t *testing.T) {
	for silent, limited := range map[time.Duration]bool{100 * time.Millisecond: false, time.Second: true} {
		synctest.Test(t, func(t *testing.T) {
			b := newFragmentBench(t, Config{ErrorLimit: 1})
			f := b.begin(t.Context(), 1)
			defer f.Close()
			one, err := f.Next(1, 0)
			if err != nil {
				t.Fatal(err)
			}
			one.Overtaken(silent)
			if err := one.Body.Close(); err != nil {
				t.Error(err)
			}
			if behind, limit := b.c.errors.behind(one.Device), b.c.errors.limited(one.Device); !behind || limit != limited {
				t.Errorf("silent for %v: behind %v, limited %v", silent, behind, limit)
			}
			if again := f.candidate(1); again.index == one.Index {
				t.Error("it is asked again before the others")
			}
		})
	}
}

// Who was asked beside another, and gives nothing before it, is not slow, and may be asked beside one again.
func TestFragmentThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFragmentBench(t, Config{})
		f := b.begin(t.Context(), 2)
		defer f.Close()
		one, err := f.Next(1, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer one.Body.Close()
		if wait := f.Late(time.Second, 0, true); wait != 0 {
			t.Fatalf("nobody is asked for %v", wait)
		}
		other, err := f.Next(1, 0)
		if err != nil {
			t.Fatal(err)
		}
		other.Overtaken(100 * time.Millisecond)
		if err := other.Body.Close(); err != nil {
			t.Error(err)
		}
		if b.c.errors.behind(other.Device) {
			t.Error("it comes after others now")
		}
		for _, h := range f.holders {
			if h.index == other.Index && (h.failed > 0 || !f.mayHedge(h)) {
				t.Errorf("it counts as failed %d times", h.failed)
			}
		}
	})
}
