package backend

import (
	"slices"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
)

func TestHeader(t *testing.T) {
	var h Header
	h.Add("X-A", "1")
	h.Add("x-b", "2")
	h.Add("X-a", "3")
	h.Add("X-Meta-Key", "v")
	if got := h.Get("x-A"); got != "1" {
		t.Errorf("Get gave %q, want the first value", got)
	}
	h.Set("X-A", "4")
	want := Header{{"X-A", "4"}, {"x-b", "2"}, {"X-Meta-Key", "v"}}
	if !slices.Equal(h, want) {
		t.Errorf("after Set %v, want %v", h, want)
	}
	h.Set("X-New", "")
	if !h.Has("x-new") || h.Has("x-other") {
		t.Errorf("Has is wrong on %v", h)
	}
	h.Del("X-B")
	if h.Has("x-b") {
		t.Errorf("after Del %v", h)
	}
	var keys []string
	for k, v := range h.WithPrefix("x-meta-") {
		keys = append(keys, k+"="+v)
	}
	if !slices.Equal(keys, []string{"Key=v"}) {
		t.Errorf("WithPrefix gave %v", keys)
	}
}

func TestParseTarget(t *testing.T) {
	for raw, want := range map[string]Target{
		"/d1/17/a":                {"d1", 17, name.Path{Account: "a"}},
		"/d1/0/a/c":               {"d1", 0, name.Path{Account: "a", Container: "c"}},
		"/d1/4294967295/a/c/o//p": {"d1", 1<<32 - 1, name.Path{Account: "a", Container: "c", Object: "o//p"}},
		"/d1/1/a/c%2F/%00o":       {"d1", 1, name.Path{Account: "a", Container: "c/", Object: "\x00o"}},
		"":                        {},
		"/d1":                     {},
		"/d1/1":                   {},
		"/d1/x/a":                 {},
		"/d1/-1/a":                {},
		"/d1/4294967296/a":        {},
		"//1/a":                   {},
		"/../1/a":                 {},
		"/d%2Fe/1/a":              {},
		"/d/1/a//o":               {},
		"/d/1//c":                 {},
		"/d/1/a/c/%zz":            {},
		"/d/1/a/c/%ff":            {},
	} {
		got, err := ParseTarget(raw)
		if want == (Target{}) {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("ParseTarget(%q) = %+v, %v, want an invalid request", raw, got, err)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("ParseTarget(%q) = %+v, %v, want %+v", raw, got, err, want)
		}
		if again, err := ParseTarget(got.Quoted()); err != nil || again != want {
			t.Errorf("%q quotes to %q, which is %+v, %v", raw, got.Quoted(), again, err)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add("/d1/17/a/c/o")
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := ParseTarget(raw)
		if err != nil {
			return
		}
		if again, err := ParseTarget(got.Quoted()); err != nil || again != got {
			t.Errorf("%q is %+v, quoted %+v, %v", raw, got, again, err)
		}
	})
}

// A path of ordinary length is written with one allocation, and read with none.
func TestTargetAllocatesLittle(t *testing.T) {
	target := Target{Device: "d1", Partition: 12345, Path: name.Path{Account: "AUTH_test", Container: "some container", Object: "a/b/c"}}
	if n := testing.AllocsPerRun(100, func() { _ = target.Quoted() }); n > 1 {
		t.Errorf("%v allocations to write it, want 1", n)
	}
	target.Path.Container = "container"
	raw := target.Quoted()
	if n := testing.AllocsPerRun(100, func() {
		if got, err := ParseTarget(raw); got != target || err != nil {
			t.Fatal(got, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations to read it, want none", n)
	}
}
