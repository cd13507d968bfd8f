package work

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestParseMix(t *testing.T) {
	m, err := ParseMix("get=60,put=30,delete=10")
	if err != nil || m != (Mix{Put: 30, Get: 60, Delete: 10}) || m.Share(Get) != 0.6 || m.Share(List) != 0 {
		t.Errorf("got %v, %v", m, err)
	}
	if again, err := ParseMix(m.String()); err != nil || again != m {
		t.Errorf("%q read again is %v, %v", m, again, err)
	}
	for _, text := range []string{"", "get", "get=", "get=0", "get=-1", "get=x", "copy=1", "get=1,get=2", "get=1,", "get=NaN", "get=Inf", "get=1=2"} {
		if m, err := ParseMix(text); err == nil {
			t.Errorf("ParseMix(%q) = %v, want an error", text, m)
		}
	}
}

func FuzzParseMix(f *testing.F) {
	for _, text := range []string{"get=60,put=30", "put=1", "list=0.5,head=1e3", "=", ",", "delete=-0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMix(text)
		if err != nil {
			return
		}
		if again, err := ParseMix(m.String()); err != nil || again != m || !(m.sum() > 0) {
			t.Errorf("%q is %v, and written and read again %v, %v", text, m, again, err)
		}
	})
}

// Kinds are chosen as often as their weights say.
func TestMixIsKept(t *testing.T) {
	m := Mix{Put: 20, Get: 60, Head: 5, List: 15}
	o := New(Plan{Mix: m, Workers: 1, Objects: 100, Seed: 3})
	var counts [Kinds]int
	const n = 20000
	for range n {
		op, ok := o.Next(0)
		if !ok {
			t.Fatal("there is nothing to do")
		}
		counts[op.Kind]++
	}
	for k := range Kind(Kinds) {
		if got := float64(counts[k]) / n; math.Abs(got-m.Share(k)) > 0.02 {
			t.Errorf("%.3f are %v, want %.3f", got, k, m.Share(k))
		}
	}
}

// Nobody reads or deletes what may not be there, whatever fails; nothing is put twice, or deleted twice.
func TestOnlyWhatIsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Plan{Workers: rapid.IntRange(1, 4).Draw(t, "workers"), Seed: rapid.Uint64().Draw(t, "seed"), First: rapid.Int64Range(0, 1000).Draw(t, "first")}
		p.Objects = rapid.Int64Range(0, 20).Draw(t, "objects")
		p.Mix = Mix{
			Put: rapid.Float64Range(0, 2).Draw(t, "put"), Get: rapid.Float64Range(0, 2).Draw(t, "get"),
			Delete: rapid.Float64Range(0, 3).Draw(t, "delete"), Head: 0.1,
		}
		o := New(p)
		there := map[int64]bool{}
		for n := range p.Objects {
			there[p.First+n] = true
		}
		made := map[int64]bool{}
		for range 200 {
			i := rapid.IntRange(0, p.Workers-1).Draw(t, "worker")
			op, ok := o.Next(i)
			if !ok {
				if p.Mix[Put] > 0 && p.Mix[Delete] > 0 {
					t.Fatal("a worker that may put has nothing to do")
				}
				continue
			}
			works := rapid.Bool().Draw(t, "works")
			switch op.Kind {
			case Put:
				if made[op.Object] || there[op.Object] {
					t.Fatalf("object %d is put again", op.Object)
				}
				made[op.Object] = true
				there[op.Object] = works
			case Delete:
				if !there[op.Object] {
					t.Fatalf("object %d is deleted, and not there", op.Object)
				}
				delete(there, op.Object)
			default:
				if !there[op.Object] {
					t.Fatalf("object %d is read, and not there", op.Object)
				}
			}
			o.Done(i, op, works)
		}
	})
}

// PUTs go round the names that they were given.
func TestNamesGoRound(t *testing.T) {
	o := New(Plan{Mix: Only(Put), Workers: 3, Names: 10, First: 100})
	seen := map[int64]int{}
	for range 20 {
		for i := range 3 {
			op, _ := o.Next(i)
			seen[op.Object]++
		}
	}
	if len(seen) != 10 {
		t.Errorf("%d names: %v", len(seen), seen)
	}
	for n := range seen {
		if n < 100 || n > 109 {
			t.Errorf("object %d is none of them", n)
		}
	}
}
