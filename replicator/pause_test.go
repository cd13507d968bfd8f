package replicator

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// A device that is paused makes no pass and pushes nothing, also after a restart and in
// whatever process, until it is resumed. Reports, metrics and the log say so.
func TestPause(t *testing.T) {
	var log safe
	set := devices(t)
	passes := map[string]int{}
	open := func() *Replicator {
		registry := prometheus.NewRegistry()
		names := []string{"d1", "d2", "missing"}
		r, err := New(Deps{
			Devices: set, NodeID: "n", Registry: registry, Paces: NewPaces(names, DefaultLimits(), nil), Log: slog.New(slog.NewTextHandler(&log, nil)),
			Kinds: []Kind{echo{func(_ context.Context, device string, _ *Tally) { passes[device]++ }}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	check := func(when string, r *Replicator, device string, paused bool) {
		t.Helper()
		clear(passes)
		log.take()
		report, err := r.Pass(t.Context(), Options{Device: device})
		if err != nil {
			t.Fatal(err)
		}
		d := report.Devices[0]
		if d.Paused != paused || strings.Contains(d.Error, "paused since 20") != paused || report.Whole() == paused || (passes[device] == 0) != paused {
			t.Errorf("%s: the report is %+v, %d passes, want paused %v", when, d, passes[device], paused)
		}
		if text := log.take(); strings.Contains(text, "paused since 20") != paused {
			t.Errorf("%s: the log has\n%s", when, text)
		}
		pacing, err := r.Pacing(device)
		if err != nil || (pacing[0].Paused != "") != paused {
			t.Errorf("%s: %+v, %v, want paused %v", when, pacing, err, paused)
		}
		c := Client{NodeID: "n", Device: device, Kind: "object", Pace: r.Paces.Of(device), Sender: answers(func(string, *backend.Request) (*backend.Response, error) {
			return answer(200, "b", "")
		})}
		_, err = c.Do(t.Context(), About{testRing(t, 1, []uint32{0, 1}), 1}, &Peer{Addr: "x:1", Device: "d"}, &backend.Request{Method: "PUT"})
		if errors.As(err, new(PausedError)) != paused || (err == nil) == paused {
			t.Errorf("%s: a push: %v, want paused %v", when, err, paused)
		}
		if got := gauge(t, r, "martlet_replication_paused", device); got != map[bool]float64{true: 1}[paused] {
			t.Errorf("%s: the metric says %v", when, got)
		}
	}
	r := open()
	check("at first", r, "d1", false)
	if err := r.Pause("d1"); err != nil {
		t.Fatal(err)
	}
	check("when it is paused", r, "d1", true)
	check("the other one", r, "d2", false)
	if err := r.Pause("d1"); err != nil {
		t.Errorf("again: %v", err)
	}
	r = open()
	check("after a restart", r, "d1", true)
	check("the other one after a restart", r, "d2", false)
	if err := r.Resume("d1"); err != nil {
		t.Fatal(err)
	}
	check("when it is resumed", r, "d1", false)
	if err := r.Resume("d1"); err != nil {
		t.Errorf("again: %v", err)
	}
	r = open()
	check("resumed, after a restart", r, "d1", false)

	// All of the node: those that can't be paused are named, the others are.
	if err := r.Pause(""); err == nil || !strings.Contains(err.Error(), "missing") || strings.Contains(err.Error(), "d1") {
		t.Errorf("with a device that is missing: %v", err)
	}
	check("all", r, "d1", true)
	check("all", r, "d2", true)
	if err := r.Pause("d9"); !errs.Is(err, errs.NotFound) {
		t.Errorf("no such device: %v", err)
	}
	if err := r.Resume(""); err == nil {
		t.Error("a device that is missing is resumed")
	}
	check("all, resumed", r, "d2", false)

	// What was damaged pauses until it is resumed, or paused again.
	d1, _ := set.Lookup("d1")
	for what, mend := range map[string]func(string) error{"resumed": r.Resume, "paused again": r.Pause} {
		if err := r.Pause("d1"); err != nil {
			t.Fatal(err)
		}
		file := d1.Dir(pauseFolder, pauseFile)
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, bytes.Replace(text, []byte("20"), []byte("19"), 1), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		report, err := r.Pass(t.Context(), Options{Device: "d1"})
		if d := report.Devices[0]; err != nil || !d.Paused || !strings.Contains(d.Error, "damaged") {
			t.Errorf("a file that is damaged: %+v, %v", d, err)
		}
		if err := mend("d1"); err != nil {
			t.Error(err)
		}
		check(what, r, "d1", what == "paused again")
	}
}

// gauge reads a metric of a device.
func gauge(t *testing.T, r *Replicator, name, device string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(paceMetrics{r.Paces})
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "device" && l.GetValue() == device {
					return m.GetGauge().GetValue()
				}
			}
		}
	}
	t.Fatalf("there is no %s of %s", name, device)
	return 0
}

// A pause ends the pass that is under way, and its report says so.
func TestPauseEndsAPass(t *testing.T) {
	began := make(chan struct{})
	var ended error
	r := newReplicator(t, echo{func(ctx context.Context, device string, tally *Tally) {
		tally.Add(Counts{Pushed: 3})
		close(began)
		<-ctx.Done()
		ended = context.Cause(ctx)
	}}, nil, nil)
	result := make(chan Report)
	go func() {
		report, err := r.Pass(t.Context(), Options{Device: "d1"})
		if err != nil {
			t.Error(err)
		}
		result <- report
	}()
	<-began
	if err := r.Pause("d1"); err != nil {
		t.Fatal(err)
	}
	d := (<-result).Devices[0]
	if !errors.As(ended, new(PausedError)) || !d.Paused || len(d.Kinds) != 1 || d.Kinds[0].Pushed != 3 {
		t.Errorf("the pass ended for %v, its report is %+v", ended, d)
	}
}

// Whatever call fails, and whenever power is lost, a device is paused or not, as it was
// before or as was wanted; and what was acknowledged holds.
func TestPauseCrash(t *testing.T) {
	for what, tt := range map[string]struct {
		before bool // it is paused
		do     func(*DevicePace, *device.Device) error
		after  bool
	}{
		"pause":        {false, (*DevicePace).pause, true},
		"pause again":  {true, (*DevicePace).pause, true},
		"resume":       {true, (*DevicePace).resume, false},
		"resume again": {false, (*DevicePace).resume, false},
	} {
		for n, fired := 0, true; fired; n++ {
			mem := vfs.NewMem()
			if err := errors.Join(mem.Mkdir("/d"), mem.SyncDir("/")); err != nil {
				t.Fatal(err)
			}
			if tt.before {
				if err := writePause(mem, "/d", time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			disk := vfs.FailAt(mem, n, vfs.FaultForever())
			pace := NewPaces([]string{"d"}, DefaultLimits(), nil).Of("d")
			var err error
			if set, setErr := device.NewSet(disk, "/", []string{"d"}); setErr != nil {
				t.Fatal(setErr)
			} else if d, lookErr := set.Lookup("d"); lookErr != nil {
				err = lookErr
			} else {
				err = tt.do(pace, d)
			}
			if fired = disk.Fired(); (err != nil) != fired {
				t.Fatalf("%s, call %d fails is %v: %v", what, n, fired, err)
			}
			if err == nil && (pace.pausedNow() != nil) != tt.after {
				t.Errorf("%s: paused for %v", what, pace.pausedNow())
			}
			for seed := range uint64(8) {
				paused, readErr := readPause(mem.AfterCrash(seed), "/d")
				is := errors.As(paused, new(PausedError))
				if readErr != nil || paused != nil && !is {
					t.Fatalf("%s, call %d, seed %d: %v, %v, want it whole or not at all", what, n, seed, paused, readErr)
				}
				if err == nil && is != tt.after || is != tt.before && is != tt.after {
					t.Fatalf("%s, call %d, seed %d: after a crash paused is %v", what, n, seed, is)
				}
			}
		}
	}
}

// A disk in the place of another is not paused, and nobody pushes from it before that is
// known.
func TestPauseIsOfTheDisk(t *testing.T) {
	root := t.TempDir()
	owner := device.Owner{Cluster: "c", Fingerprint: "f"}
	for _, name := range []string{"d", "other"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, _, err := device.Init(filepath.Join(root, name), owner, "d", false); err != nil {
			t.Fatal(err)
		}
	}
	set, err := device.Open(device.Config{Root: root, Names: []string{"d"}, Owner: owner, Interval: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	go func() { _ = set.Watch(t.Context()) }()
	r, err := New(Deps{Devices: set, NodeID: "n", Kinds: []Kind{echo{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Pause("d"); err != nil {
		t.Fatal(err)
	}
	for _, move := range [][2]string{{"d", "away"}, {"other", "d"}} {
		if err := os.Rename(filepath.Join(root, move[0]), filepath.Join(root, move[1])); err != nil {
			t.Fatal(err)
		}
	}
	pace := r.Paces.Of("d")
	until(t, "the disk is away", func() bool { set.Suspect("d"); return errors.Is(pace.pausedNow(), errNotLooked) })
	if err := pace.Wait(t.Context(), 0); !errors.Is(err, errNotLooked) {
		t.Errorf("before anyone has looked: %v", err)
	}
	until(t, "the other one is there", func() bool { _, err := set.Lookup("d"); return err == nil })
	report, err := r.Pass(t.Context(), Options{})
	if err != nil || !report.Whole() {
		t.Errorf("a pass over another disk: %+v, %v", report, err)
	}
}

// until polls a condition that has to come true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 20_000 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatalf("never: %s", what)
}

func FuzzPause(f *testing.F) {
	good, err := (&pauseNote{pauseFormat, time.Unix(1, 0).UTC()}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}\ncrc32c 00000000\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parsePause(b)
		if err != nil {
			return
		}
		if again, err := n.encode(); err != nil || n.Format != pauseFormat || n.Since.IsZero() || len(again) == 0 {
			t.Errorf("%q is %+v, %v", b, n, err)
		}
	})
}
