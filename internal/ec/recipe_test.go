package ec

import (
	"bytes"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// drawn is a set of n of the indexes of a shape.
func drawn(t *rapid.T, s Shape, n int, label string) (some set) {
	for _, i := range rapid.Permutation(indexes(s.Fragments())).Draw(t, label)[:n] {
		some |= 1 << i
	}
	return some
}

// What a recipe makes is what the library does, whichever fragments there are, and whichever are wanted.
func TestRecipesMakeWhatTheLibraryDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Shape{rapid.IntRange(1, MaxData).Draw(t, "k"), rapid.IntRange(1, MaxParity).Draw(t, "m")}
		each := rapid.IntRange(1, 300).Draw(t, "each")
		c, err := New(Layout{s, each * s.Data})
		if err != nil {
			t.Fatal(err)
		}
		whole := make([][]byte, s.Fragments())
		for i := range whole {
			whole[i] = bytesOf(each, uint64(i))
		}
		if err := c.rs.Encode(whole); err != nil {
			t.Fatal(err)
		}
		have := drawn(t, s, s.Data, "have")
		b := newBuffer(s, c.Segment)
		var last *recipe
		for range 3 {
			want := drawn(t, s, rapid.IntRange(0, s.Fragments()).Draw(t, "n"), "want")
			for i := range whole {
				clear(b.slots[i])
				b.shards[i] = nil
				if have.has(i) {
					b.shards[i] = b.slots[i][fragmentAt : fragmentAt+copy(b.slots[i][fragmentAt:], whole[i])]
				}
			}
			if last, err = c.restore(b, want, last); err != nil {
				t.Fatal(err)
			}
			for i, shard := range b.shards {
				if (have | want).has(i) != bytes.Equal(shard, whole[i]) {
					t.Fatalf("of %b, for %b, fragment %d is %x, want %x", have, want, i, shard, whole[i])
				}
			}
		}
	})
}

// choices returns so many choices of eight data fragments that are lost.
func choices(n int) (all []choice) {
	for have := set(1<<20 - 1); len(all) < n; have++ {
		if have.len() == 20 && have < 1<<28 {
			all = append(all, choice{have, ^have & (1<<20 - 1)})
		}
	}
	return all[1:]
}

// There are no more recipes than there may be, whatever is asked for: what is used stays, and what
// was not used for longest goes.
func TestRecipesAreBounded(t *testing.T) {
	c := code(t, "20+8", Segment)
	all := choices(maxRecipes + 100)
	first, err := c.recipe(all[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range all[1:] {
		if _, err := c.recipe(of); err != nil {
			t.Fatal(err)
		}
		if again, err := c.recipe(all[0]); err != nil || again != first {
			t.Fatalf("what is used over and over was made again: %v", err)
		}
	}
	if n, used := len(c.recipes.by), c.recipes.used.Len(); n != maxRecipes || used != n {
		t.Errorf("%d recipes are kept, %d in order of use, want %d", n, used, maxRecipes)
	}
	for i, of := range all[1:] {
		if kept := c.recipes.find(of) != nil; kept != (i >= len(all)-maxRecipes) {
			t.Fatalf("recipe %d of %d is kept: %v", i+1, len(all), kept)
		}
	}
}

// As many recipes as are kept take what the constant says.
func TestRecipesAreSmall(t *testing.T) {
	c := code(t, "20+8", Segment)
	all := choices(maxRecipes + 1)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, of := range all {
		if _, err := c.recipe(of); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / maxRecipes; each > 5<<9 || len(c.recipes.by) != maxRecipes {
		t.Errorf("%d recipes take %d bytes each", len(c.recipes.by), each)
	}
	runtime.KeepAlive(c)
}
