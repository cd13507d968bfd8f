package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/errs"
)

// A pass goes through every device, tells of those that can't be used, and counts.
func TestPass(t *testing.T) {
	registry := prometheus.NewRegistry()
	r, err := New(Deps{Devices: devices(t), NodeID: "n", Registry: registry, Kinds: []Kind{echo{func(_ context.Context, device string, tally *Tally) {
		tally.Add(Counts{Partitions: 1, Compared: 2, Pushed: 3, Bytes: 4, Dropped: 5})
		if device == "d2" {
			for range 3 {
				tally.Fail(Failure{Peer: "p", Reason: "down"})
			}
		}
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	report, err := r.Pass(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Devices) != 3 || report.Whole() || report.Devices[2].Error == "" || len(report.Devices[2].Kinds) != 0 {
		t.Errorf("report %+v, want three devices, the last of them not usable", report)
	}
	d2 := report.Devices[1].Kinds[0]
	if d2.Failed != 3 || len(d2.Failures) != 1 || d2.Failures[0].Count != 3 || d2.Pushed != 3 || d2.Kind != "object" {
		t.Errorf("d2: %+v, want one failure three times", d2)
	}
	one, err := r.Pass(t.Context(), Options{Device: "d1"})
	if err != nil || len(one.Devices) != 1 || !one.Whole() {
		t.Errorf("a pass over d1: %+v, %v", one, err)
	}
	if _, err := r.Pass(t.Context(), Options{Device: "d7"}); !errs.Is(err, errs.NotFound) {
		t.Errorf("a pass over a device that isn't here: %v", err)
	}
	text, err := json.Marshal(report)
	if err != nil || !strings.Contains(string(text), `"device":"d1"`) || !strings.Contains(string(text), `"handoffs":0`) {
		t.Errorf("as JSON: %s, %v", text, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			seen[f.GetName()] += m.GetCounter().GetValue()
		}
	}
	if seen["martlet_replication_pushed_total"] != 9 || seen["martlet_replication_failures_total"] != 3 || seen["martlet_replication_handoffs_dropped_total"] != 15 {
		t.Errorf("metrics %v", seen)
	}
}

// There is never more than one pass over a device; who comes meanwhile gets one of
// its own, afterwards.
func TestPassTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var under, most, passes atomic.Int64
		r := newReplicator(t, echo{func(context.Context, string, *Tally) {
			most.Store(max(most.Load(), under.Add(1)))
			time.Sleep(time.Minute) // in the bubble
			passes.Add(1)
			under.Add(-1)
		}}, nil, nil)
		began := time.Now()
		ended := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := r.Pass(t.Context(), Options{Device: "d1"})
				ended <- err
			}()
		}
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); passes.Load() != 3 || most.Load() != 1 || took != 3*time.Minute {
			t.Errorf("%d passes, %d at one time, in %v, want 3, 1, 3m", passes.Load(), most.Load(), took)
		}
	})
}

// The end of the caller or of the replicator ends a pass, and Close waits for it.
func TestPassEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var under atomic.Int64
		r := newReplicator(t, echo{func(ctx context.Context, _ string, _ *Tally) {
			under.Add(1)
			<-ctx.Done()
			time.Sleep(time.Second) // in the bubble
			under.Add(-1)
		}}, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		pass := func(ctx context.Context) {
			_, err := r.Pass(ctx, Options{})
			ended <- err
		}
		go pass(ctx)
		synctest.Wait()
		cancel()
		if err := <-ended; !errs.Is(err, errs.Aborted) {
			t.Errorf("a pass whose caller left: %v", err)
		}
		go pass(t.Context())
		synctest.Wait()
		if err := r.Close(); err != nil || under.Load() != 0 {
			t.Errorf("Close returned with %d passes under way, %v", under.Load(), err)
		}
		if err := <-ended; !errs.Is(err, errs.Aborted) {
			t.Errorf("a pass when the replicator was closed: %v", err)
		}
		if _, err := r.Pass(t.Context(), Options{}); !errs.Is(err, errs.Unavailable) {
			t.Errorf("a pass after Close: %v", err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for what, deps := range map[string]Deps{
		"no devices":       {NodeID: "n"},
		"no node id":       {Devices: devices(t)},
		"kinds of a name":  {Devices: devices(t), NodeID: "n", Kinds: []Kind{echo{}, echo{}}},
		"metrics in twice": {Devices: devices(t), NodeID: "n", Registry: twice(t)},
	} {
		if _, err := New(deps); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// twice is a registry that has the metrics already.
func twice(t *testing.T) prometheus.Registerer {
	registry := prometheus.NewRegistry()
	if _, err := newMetrics(registry, nil); err != nil {
		t.Fatal(err)
	}
	return registry
}

// A report tells of a bounded number of failures and counts all of them.
func TestTally(t *testing.T) {
	tally := NewTally("object")
	for i := range 10 * maxFailures {
		tally.Fail(Failure{Peer: "p", Reason: fmt.Sprint("reason ", i), Count: 2})
	}
	if c := tally.Counts(); c.Failed != 20*maxFailures || len(c.Failures) != maxFailures {
		t.Errorf("%d failures, %d told, want %d and %d", c.Failed, len(c.Failures), 20*maxFailures, maxFailures)
	}
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for what, tt := range map[string]struct {
			pace  *Pace
			sizes []int64
			want  time.Duration
		}{
			"none":               {nil, []int64{1 << 40, 1 << 40}, 0},
			"no limit":           {NewPace(0, 0), []int64{1 << 40, 1 << 40}, 0},
			"operations":         {NewPace(0, 10), []int64{0, 0, 0}, 200 * time.Millisecond},
			"bytes":              {NewPace(1000, 0), []int64{500, 500, 1}, time.Second},
			"a fast one":         {NewPace(3e9, 0), []int64{3e9, 1}, time.Second},
			"the first is large": {NewPace(10, 0), []int64{1000}, 0},
		} {
			began := time.Now()
			for _, n := range tt.sizes {
				if err := tt.pace.Wait(t.Context(), n); err != nil {
					t.Error(err)
				}
			}
			if took := time.Since(began); took.Round(time.Millisecond) != tt.want {
				t.Errorf("%s: %v took %v, want %v", what, tt.sizes, took, tt.want)
			}
		}
		left := errors.New("left")
		ctx, cancel := context.WithCancelCause(t.Context())
		slow := NewPace(1, 0)
		if err := slow.Wait(ctx, 1000); err != nil {
			t.Error(err)
		}
		time.AfterFunc(time.Second, func() { cancel(left) })
		if err := slow.Wait(ctx, 1); !errors.Is(err, left) {
			t.Errorf("a wait that was ended: %v", err)
		}
	})
}
