package lru

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// It is a list of which the end is cut off.
func TestIsAListThatIsCutOff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type pair struct{ key, value int }
		capacity := rapid.IntRange(0, 5).Draw(t, "capacity")
		m, model := New[int, int](capacity), []pair{}
		for range rapid.IntRange(0, 50).Draw(t, "steps") {
			key := rapid.IntRange(0, 7).Draw(t, "key")
			at := slices.IndexFunc(model, func(p pair) bool { return p.key == key })
			if rapid.Bool().Draw(t, "put") {
				value := rapid.Int().Draw(t, "value")
				m.Put(key, value)
				if at >= 0 {
					model = slices.Delete(model, at, at+1)
				}
				model = slices.Insert(model, 0, pair{key, value})
				model = model[:min(len(model), max(capacity, 1))]
			} else {
				value, ok := m.Get(key)
				if ok != (at >= 0) || ok && value != model[at].value {
					t.Fatalf("get %d: %d, %v; the list is %v", key, value, ok, model)
				}
				if ok {
					p := model[at]
					model = slices.Insert(slices.Delete(model, at, at+1), 0, p)
				}
			}
			if m.Len() != len(model) {
				t.Fatalf("there are %d, want %v", m.Len(), model)
			}
		}
	})
}
