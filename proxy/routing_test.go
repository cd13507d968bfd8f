package proxy

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"martlet/internal/conf"
	"martlet/internal/policy"
	"martlet/internal/quorum"
)

func twoPolicies(t *testing.T) policy.Set {
	t.Helper()
	set, err := policy.NewSet([]policy.Policy{{Name: "gold", Default: true}, {Index: 3, Name: "bronze", Aliases: []string{"cold"}}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Each key of a Routing is one that a policy may have of its own, and then has.
func TestAPolicyMayHaveAllOfARouting(t *testing.T) {
	of, own := reflect.TypeFor[Routing](), reflect.TypeFor[PolicyRouting]()
	if of.NumField() != own.NumField() {
		t.Errorf("%d keys, of which a policy may have %d", of.NumField(), own.NumField())
	}
	for i := range of.NumField() {
		f := of.Field(i)
		o, ok := own.FieldByName(f.Name)
		if !ok || o.Tag != f.Tag || o.Type != reflect.PointerTo(f.Type) {
			t.Errorf("%s of a policy is %v %q, want a pointer to %v and %q", f.Name, o.Type, o.Tag, f.Type, f.Tag)
			continue
		}
		var p PolicyRouting
		value := reflect.New(f.Type) // zero, which is not the default
		reflect.ValueOf(&p).Elem().FieldByName(f.Name).Set(value)
		want := Routing{ReadAffinity: near(t, "r1"), WriteAffinity: near(t, "r2")}
		from := defaultRouting()
		from.ReadAffinity, from.WriteAffinity = want.ReadAffinity, want.WriteAffinity
		got := reflect.ValueOf(p.Over(from))
		for j := range of.NumField() {
			kept := reflect.DeepEqual(got.Field(j).Interface(), reflect.ValueOf(from).Field(j).Interface())
			if kept == (i == j) {
				t.Errorf("with %s set, %s is the proxy's: %v", f.Name, of.Field(j).Name, kept)
			}
		}
	}
}

func near(t *testing.T, text string) quorum.Affinity {
	t.Helper()
	a, err := quorum.ParseAffinity(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What stands in the file is what the nodes are asked by.
func TestRoutingOfPolicies(t *testing.T) {
	r1, r2 := near(t, "r1"), near(t, "r2")
	byAffinity, byTiming, second, off, six := quorum.ByAffinity, quorum.ByTiming, conf.Duration(time.Second), false, quorum.NodeCount{N: 6}
	c := Defaults()
	c.WriteAffinity = r1
	c.Policies = map[string]PolicyRouting{"COLD": {
		SortingMethod: &byAffinity, ReadAffinity: &r2, WriteAffinity: &r2, RequestNodeCount: &six, ConcurrentGets: &off, ConcurrencyTimeout: &second,
	}}
	got := c.quorum(twoPolicies(t))
	usual := quorum.Options{
		Nodes: quorum.NodeCount{N: 3, Each: true}, Local: r1, LocalNodes: quorum.NodeCount{N: 2, Each: true},
		TimingExpiry: 5 * time.Minute, HedgeAfter: 500 * time.Millisecond, HedgePercent: 10,
	}
	if !reflect.DeepEqual(got.Options, usual) {
		t.Errorf("of all: %+v, want %+v", got.Options, usual)
	}
	cold := usual
	cold.Near, cold.Local, cold.Nodes, cold.HedgePercent, cold.HedgeAfter = r2, r2, six, -1, time.Second
	if !reflect.DeepEqual(got.Policies, map[policy.Index]quorum.Options{3: cold}) {
		t.Errorf("of policies: %+v, want %+v of policy 3 alone", got.Policies, cold)
	}
	c.Policies = map[string]PolicyRouting{"gold": {SortingMethod: &byTiming}}
	if got := c.quorum(twoPolicies(t)).Policies[0]; !got.Timing || !got.Near.Empty() || !reflect.DeepEqual(got.Local, r1) {
		t.Errorf("of gold: %+v, want what all have, and by timing", got)
	}
}

func TestCheckPolicies(t *testing.T) {
	for want, keys := range map[string][]string{
		"":                          {"gold", "bronze"},
		`there is no policy "iron"`: {"iron"},
		"are the same policy":       {"Bronze", "cold"},
		`"GOLD" and "gold"`:         {"gold", "GOLD"},
	} {
		c := Config{Policies: map[string]PolicyRouting{}}
		for _, k := range keys {
			c.Policies[k] = PolicyRouting{}
		}
		if err := c.CheckPolicies(twoPolicies(t)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", keys, err, want)
		}
	}
}
