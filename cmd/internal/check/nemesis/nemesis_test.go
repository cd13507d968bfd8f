package nemesis

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPlanIsBorne: whatever is planned, of whatever cluster, is no more at any time than the policies bear,
// judged here by what is broken and not by the rule.
func TestPlanIsBorne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Shape{
			Nodes: rapid.IntRange(3, 8).Draw(t, "nodes"), Devices: rapid.IntRange(1, 3).Draw(t, "devices"),
			Proxies: rapid.IntRange(1, 3).Draw(t, "proxies"), Bears: rapid.IntRange(0, 2).Draw(t, "bears"),
		}
		kinds := rapid.SliceOfDistinct(rapid.SampledFrom(Kinds()), func(k Kind) Kind { return k }).Draw(t, "kinds")
		seed := rapid.Uint64().Draw(t, "seed")
		plan := func() []Event { return Plan(seed, s, kinds, time.Minute, 500*time.Millisecond) }
		events := plan()
		if again := plan(); !reflect.DeepEqual(events, again) {
			t.Fatal("the same seed gives another plan")
		}
		var now []Fault
		rings, damaged := 0, map[[2]int]bool{}
		for i, e := range events {
			if i > 0 && e.At < events[i-1].At || e.At > time.Minute {
				t.Fatalf("event %d is at %v, the one before at %v", i, e.At, events[i-1].At)
			}
			if e.Ends {
				n := len(now)
				if now = slices.DeleteFunc(now, func(f Fault) bool { return f.ID == e.Fault.ID }); len(now) != n-1 {
					t.Fatalf("%v ends, and has not begun", e.Fault)
				}
				continue
			}
			if !slices.Contains(kinds, e.Fault.Kind) {
				t.Fatalf("%v was not asked for", e.Fault)
			}
			now = append(now, e.Fault)
			if e.Fault.Kind == Ring {
				rings++
			}
			if e.Fault.Kind == Flip {
				damaged[[2]int{e.Fault.Node, e.Fault.Device}] = true
			}
			borne(t, s, now)
		}
		if len(now) > 0 {
			t.Fatalf("%v do not end", now)
		}
		if rings > 1 || len(damaged) > 1 {
			t.Fatalf("the rings change %d times, %d devices are damaged", rings, len(damaged))
		}
	})
}

// borne looks at what is broken at one time.
func borne(t *rapid.T, s Shape, now []Fault) {
	out, noProxy, dead, filled := map[int]int{}, map[int]bool{}, map[int]int{}, map[[2]int]int{}
	unread := 0
	for _, f := range now {
		switch f.Kind {
		case KillAll, PowerAll, Rolling, Queue:
			if len(now) > 1 {
				t.Fatalf("all at once, and more: %v", now)
			}
		case Proxy:
			noProxy[f.Proxy] = true
		case Kill, Pause, Restart:
			out[f.Node]++
			dead[f.Node]++
		case Power:
			out[f.Node]++
			dead[f.Node]++
			for d := range s.Devices {
				filled[[2]int{f.Node, d + 1}]++
			}
		case Full, Fail:
			out[f.Node]++
			filled[[2]int{f.Node, f.Device}]++
		case Flip:
			filled[[2]int{f.Node, f.Device}]++
		case Cut, Slow:
			if f.Network == Storage {
				out[f.Node]++
			}
		case Ring, Clock:
		}
	}
	for _, f := range now {
		if f.TakesOut() && f.Kind != Full {
			unread++
		}
	}
	if len(out) > s.Bears && (len(out) > 1 || unread > 0) {
		t.Fatalf("%d nodes are out, %d are borne: %v", len(out), s.Bears, now)
	}
	if len(noProxy) > 0 && len(noProxy) >= s.Proxies {
		t.Fatalf("no proxy is left: %v", now)
	}
	for n, times := range dead {
		if times > 1 {
			t.Fatalf("the process of node %d is ended %d times: %v", n, times, now)
		}
	}
	for d, times := range filled {
		if times > 1 {
			t.Fatalf("device %v has %d faults: %v", d, times, now)
		}
	}
}

// TestPlanHasAll: of a long plan no kind is missing, and there are about as many faults as were asked for.
func TestPlanHasAll(t *testing.T) {
	s := Shape{Nodes: 4, Devices: 2, Proxies: 2, Bears: 1}
	got := map[Kind]int{}
	rounds := 0
	for seed := range uint64(40) {
		rounds++
		for _, e := range Plan(seed, s, Kinds(), 30*time.Second, time.Second) {
			if !e.Ends {
				got[e.Fault.Kind]++
			}
		}
	}
	sum := 0
	for _, k := range Kinds() {
		if sum += got[k]; got[k] == 0 {
			t.Errorf("no %s in %d rounds", k, rounds)
		}
	}
	if each := sum / rounds; each < 10 || each > 40 {
		t.Errorf("%d faults in each 30 s, want about 20 to 30: %v", each, got)
	}
}

// TestFullIsBorneByAny: where no node may be out devices of one may still be full, and of no other at the same time.
func TestFullIsBorneByAny(t *testing.T) {
	s := Shape{Nodes: 3, Devices: 2, Proxies: 1}
	now, filled, together := map[int]int{}, 0, 0
	for seed := range uint64(10) {
		for _, e := range Plan(seed, s, []Kind{Full, Fail, Kill}, 30*time.Second, 500*time.Millisecond) {
			switch f := e.Fault; {
			case f.Kind != Full:
				t.Fatalf("%v, and no node may be out", f)
			case e.Ends:
				if now[f.Node]--; now[f.Node] == 0 {
					delete(now, f.Node)
				}
			default:
				now[f.Node]++
				filled, together = filled+1, max(together, len(now))
			}
		}
	}
	if filled == 0 || together != 1 {
		t.Errorf("%d times a device is full, of %d nodes at one time", filled, together)
	}
}

func TestParseKinds(t *testing.T) {
	for text, want := range map[string][]Kind{"": Kinds(), "none": nil, "kill, cut,kill": {Kill, Cut}} {
		if got, err := ParseKinds(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	if _, err := ParseKinds("kill,earthquake"); err == nil {
		t.Error("an earthquake is taken")
	}
}

func TestFaultText(t *testing.T) {
	for want, f := range map[string]Fault{
		"kill node 2":                            {Kind: Kill, Node: 2},
		"proxy 1":                                {Kind: Proxy, Proxy: 1},
		"cut node 3 replication silent":          {Kind: Cut, Node: 3, Network: Replication},
		"slow node 1 storage 64 KiB/s delay 5ms": {Kind: Slow, Node: 1, Network: Storage, Rate: 64 << 10, Delay: 5 * time.Millisecond},
		"flip node 1 d2":                         {Kind: Flip, Node: 1, Device: 2, Seed: 7},
		"clock node 1 by -3s":                    {Kind: Clock, Node: 1, By: -3 * time.Second},
	} {
		if got := f.String(); got != want {
			t.Errorf("%+v is %q, want %q", f, got, want)
		}
	}
}
