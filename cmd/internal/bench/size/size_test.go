package size

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "17B": 17, "4KiB": 4096, "1.5KiB": 1536, "4kB": 4000, "4KB": 4000, "64MiB": 64 << 20, "5GiB": Most, "1GB": 1e9,
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("Parse(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "B", "KiB", "4 KiB", "-1", "+1", "1e3", "0x10", "1.5", "NaN", "Inf", "6GiB", "4KiBB", "4kib", "1..5KiB", "99999999999999999999"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %d, want an error", text, got)
		}
	}
}

func TestParseDistRefuses(t *testing.T) {
	for _, text := range []string{"", ",", "4KiB,1MiB", "4KiB:70,1MiB", "4KiB:0", "4KiB:-1", "4KiB:x", "4KiB:", "0-4KiB", "4KiB-1KiB", "1-2-3", "4KiB:1e3", "4KiB:NaN", "4KiB:1:2"} {
		if _, err := ParseDist(text); err == nil {
			t.Errorf("ParseDist(%q): want an error", text)
		}
	}
}

// Sizes are picked as often as they should be.
func TestPick(t *testing.T) {
	for text, want := range map[string]map[int64]float64{ // up to a size: which part
		"4KiB":                 {4095: 0, 4096: 1},
		"4KiB:70,1MiB:30":      {4096: 0.7, 1<<20 - 1: 0.7, 1 << 20: 1},
		"1KiB-1MiB":            {1023: 0, 2048: 0.1, 32 << 10: 0.5, 512 << 10: 0.9, 1 << 20: 1},
		"1-2:1,8MiB:1":         {0: 0, 1: 0.315, 2: 0.5, 8 << 20: 1},
		"0:1,1KiB-4KiB:3":      {0: 0.25, 2048: 0.625, 4096: 1},
		"1KiB-1KiB:5,16KiB:15": {1024: 0.25, 16384: 1},
	} {
		d, err := ParseDist(text)
		if err != nil {
			t.Errorf("ParseDist(%q): %v", text, err)
			continue
		}
		const n = 20000
		chance := rand.New(rand.NewPCG(1, 2))
		counts := map[int64]int{}
		for range n {
			s := d.Pick(chance.Uint64(), chance.Uint64())
			if s > d.Largest() {
				t.Fatalf("%s: picked %d, which is more than %d", text, s, d.Largest())
			}
			for upTo := range want {
				if s <= upTo {
					counts[upTo]++
				}
			}
		}
		for upTo, part := range want {
			if got := float64(counts[upTo]) / n; math.Abs(got-part) > 0.02 {
				t.Errorf("%s: %.3f of the sizes are at most %d, want %.3f", text, got, upTo, part)
			}
		}
	}
}

func TestPickFollowsFromItsNumbers(t *testing.T) {
	d, err := ParseDist("1KiB-1MiB:1,1:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{0, 1, 1 << 63, math.MaxUint64} {
		if a, b := d.Pick(n, n), d.Pick(n, n); a != b {
			t.Errorf("Pick(%d) is %d and %d", n, a, b)
		}
	}
	if got := (Dist{}).Pick(1, 2); got != 0 {
		t.Errorf("the zero value picks %d", got)
	}
}

func FuzzParseDist(f *testing.F) {
	for _, text := range []string{"4KiB", "1KiB-1MiB", "4KiB:70,1MiB:30", "0", "1.5MiB:0.1,5GiB:2", "-", ":", "1-", "9999999999999999999999KiB"} {
		f.Add(text, uint64(1), uint64(2))
	}
	f.Fuzz(func(t *testing.T, text string, which, within uint64) {
		d, err := ParseDist(text)
		if err != nil {
			return
		}
		if got := d.Pick(which, within); got < 0 || got > d.Largest() || d.Largest() > Most {
			t.Errorf("%q picks %d, largest %d", text, got, d.Largest())
		}
		again, err := ParseDist(d.String())
		if err != nil || again.Pick(which, within) != d.Pick(which, within) {
			t.Errorf("%q read again picks something else: %v", text, err)
		}
	})
}
