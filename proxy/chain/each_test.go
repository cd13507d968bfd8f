package chain

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

func TestEach(t *testing.T) {
	for _, workers := range []int{0, 1, 3, 200} {
		var sum atomic.Int64
		Each(workers, slices.Values(slices.Repeat([]int64{1, 2}, 50)), func(v int64) { sum.Add(v) })
		if sum.Load() != 150 {
			t.Errorf("%d workers: the sum is %d, want 150", workers, sum.Load())
		}
	}
}

// A panic is one of the caller's goroutine, where it is dealt with.
func TestEachPanics(t *testing.T) {
	values := func(last string) func(func(string) bool) {
		return func(yield func(string) bool) {
			for range 100 {
				if !yield("") {
					return
				}
			}
			panic(last)
		}
	}
	for what, each := range map[string]func(){
		"of f":          func() { Each(3, values("too late"), func(string) { panic("oh no") }) },
		"of the values": func() { Each(3, values("oh no"), func(string) {}) },
	} {
		if err := Survive(each); err == nil || !strings.Contains(err.Error(), "oh no") || !strings.Contains(err.Error(), "each_test.go") {
			t.Errorf("%s: got %v, want the panic and where it was", what, err)
		}
	}
	if err := Survive(func() {}); err != nil {
		t.Errorf("no panic: got %v", err)
	}
}
