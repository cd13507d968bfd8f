package quorum

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"martlet/internal/quorum/nodetest"
	"martlet/ring"
)

func TestParseAffinity(t *testing.T) {
	r1z1, r1z2, r2z1, r3z1 := &ring.Device{Region: 1, Zone: 1}, &ring.Device{Region: 1, Zone: 2}, &ring.Device{Region: 2, Zone: 1}, &ring.Device{Region: 3, Zone: 1}
	for text, want := range map[string]string{
		"":                         "r3z1 r2z1 r1z2 r1z1",
		"r1z1=100, r1=200, r2=300": "r1z1 r1z2 r2z1 r3z1",
		" r2 = 1 ,r1z2=2":          "r2z1 r1z2 r3z1 r1z1",
		"r1":                       "r1z2 r1z1 r3z1 r2z1",
		"r1=1, r1z1=5":             "r1z2 r1z1 r3z1 r2z1",
		"r1, r2z3":                 "r1z2 r1z1 r3z1 r2z1",
	} {
		a, err := ParseAffinity(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		list := []*ring.Device{r3z1, r2z1, r1z2, r1z1}
		a.order(list)
		var got []string
		for _, d := range list {
			got = append(got, "r"+strconv.Itoa(d.Region)+"z"+strconv.Itoa(d.Zone))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q orders %s, want %s", text, s, want)
		}
	}
	for _, text := range []string{"z1", "r", "rz1", "r1z", "r1=", "r1=-1", "r1,", "r1,,r2", "r1 r2", "1", "r1z1z1", "r+1", "r1=a", "r99999999999", "r1=1, r1=2"} {
		if a, err := ParseAffinity(text); err == nil || !strings.Contains(err.Error(), `"`) {
			t.Errorf("%q is read as %v, error %v; want one that quotes it", text, a, err)
		}
	}
}

func TestParseNodeCount(t *testing.T) {
	for text, want := range map[string]int{"6": 6, "2 * replicas": 8, "1*replicas": 4, " 3 ": 3} {
		c, err := ParseNodeCount(text)
		if err != nil || c.Of(4) != want {
			t.Errorf("%q of 4 replicas is %d, %v, want %d", text, c.Of(4), err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "a", "2 *", "2 * nodes", "* replicas", "2 * replicas * 2", "10001", "99999999999999999999"} {
		if c, err := ParseNodeCount(text); err == nil {
			t.Errorf("%q is read as %v", text, c)
		}
	}
}

// What is read is written as it can be read again, and orders the same.
func FuzzAffinity(f *testing.F) {
	for _, s := range []string{"r1z1=100, r1=200", "r1, r2z3", "r", "=", "2 * replicas", "6"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := ParseAffinity(text); err == nil {
			b, err := ParseAffinity(a.String())
			if err != nil || !slices.Equal(a.rules, b.rules) {
				t.Errorf("%q is written as %q and read as %v, %v", text, a, b.rules, err)
			}
		}
		if c, err := ParseNodeCount(text); err == nil {
			if d, err := ParseNodeCount(c.String()); err != nil || c != d || c.Of(3) < 1 {
				t.Errorf("%q is written as %q and read as %v, %v", text, c, d, err)
			}
		}
	})
}

func affinity(t *testing.T, text string) Affinity {
	t.Helper()
	a, err := ParseAffinity(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Device dN is in zone N+1.
func TestReadAsksTheNearest(t *testing.T) {
	f := newFleet(t, Config{Options: Options{Near: affinity(t, "r1z2=1, r1z3=2"), HedgePercent: -1}})
	for i := range nodetest.Nodes {
		f.Script("d"+strconv.Itoa(i), nodetest.Body(200, "", "it"))
	}
	for range 20 {
		if got, err := read(t, f); got != "200 it" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if got := f.Asked(); slices.ContainsFunc(got, func(d string) bool { return d != "d1" }) {
		t.Errorf("asked %v, want the nearest alone", got)
	}
	for _, d := range []string{"d1", "d2", "d0"} {
		if got, err := read(t, f); got != "200 it" {
			t.Errorf("%q, %v", got, err)
		}
		if got := f.Asked(); got[len(got)-1] != d {
			t.Errorf("asked %s, want %s", got[len(got)-1], d)
		}
		f.Script(d, nodetest.Always(507, ""))
	}
	if got, err := read(t, f); got != "200 it" {
		t.Errorf("with handoffs alone: %q, %v", got, err)
	}
}

func TestNodesBoundsARead(t *testing.T) {
	for n, want := range map[int]int{1: 3, 4: 4, 6: 6, 100: 6} {
		f := newFleet(t, Config{Options: Options{Nodes: NodeCount{N: n}, HedgePercent: -1}})
		for i := range nodetest.Nodes {
			f.Script("d"+strconv.Itoa(i), nodetest.Always(503, ""))
		}
		if _, err := read(t, f); err == nil {
			t.Errorf("%d nodes: nobody answered, and there is no error", n)
		}
		if got := f.Asked(); len(got) != want {
			t.Errorf("%d nodes: asked %v, want %d", n, got, want)
		}
	}
}

// Local devices go first, but a majority of the primaries always has a write: it
// is found before anything has been moved. And nobody is left out.
func TestWriteGoesToLocalDevices(t *testing.T) {
	for what, tt := range map[string]struct {
		local string
		nodes NodeCount
		down  []string
		want  []string // who has it
	}{
		"no affinity":            {"", NodeCount{}, nil, []string{"d0", "d1", "d2"}},
		"all are local":          {"r1", NodeCount{}, nil, []string{"d0", "d1", "d2"}},
		"one of them":            {"r1z1, r1z4, r1z5", NodeCount{}, nil, []string{"d0", "d3 or d4", "d1 or d2"}},
		"the last handoff":       {"r1z1, r1z6", NodeCount{}, nil, []string{"d0", "d1 or d2", "d5"}},
		"none of them":           {"r1z4, r1z5, r1z6", NodeCount{}, nil, []string{"two of d0 to d2", "d3 to d5"}},
		"as many as are allowed": {"r1z1, r1z4", NodeCount{N: 1}, nil, []string{"d0", "d1", "d2"}},
		"local handoff is down":  {"r1z1, r1z4", NodeCount{}, []string{"d3"}, []string{"d0", "d1", "d2"}},
		"primaries are down":     {"r1z4", NodeCount{}, []string{"d0", "d1"}, []string{"three, of them d3"}},
	} {
		f := newFleet(t, Config{Options: Options{Local: affinity(t, tt.local), LocalNodes: tt.nodes}})
		for i := range nodetest.Nodes {
			d := "d" + strconv.Itoa(i)
			if slices.Contains(tt.down, d) {
				f.Script(d, nodetest.Always(507, ""))
			}
		}
		answers := f.Write(t.Context(), f.Container("a", "c").Locally(), request("PUT"))
		if best, err := three.Best(answers, nil); err != nil || best.Status != 201 || len(answers) != 3 {
			t.Errorf("%s: %v, %v", what, answers, err)
		}
		var got []string
		primaries := 0
		for _, a := range answers {
			if a.Status == 201 {
				got = append(got, a.Device.Name)
				if a.Device.Name < "d3" {
					primaries++
				}
			}
		}
		slices.Sort(got)
		ok := len(got) == 3 && len(slices.Compact(slices.Clone(got))) == 3
		has := func(d string) bool { return slices.Contains(got, d) }
		switch what {
		case "one of them":
			ok = ok && has("d0") && (has("d3") || has("d4")) && primaries == 2
		case "the last handoff":
			ok = ok && has("d0") && has("d5") && primaries == 2
		case "none of them":
			ok = ok && primaries == 2
		case "primaries are down":
			ok = ok && has("d3")
		default:
			ok = ok && slices.Equal(got, tt.want)
		}
		if !ok {
			t.Errorf("%s: %v have it, want %v", what, got, tt.want)
		}
	}
}
