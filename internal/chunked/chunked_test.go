package chunked

import (
	"strconv"
	"strings"
	"testing"
)

func TestSize(t *testing.T) {
	for line, want := range map[string]int64{
		"0": 0, "a": 10, "Ff": 255, "0010": 16, "10;name=value": 16, "10 \t;x": 16, "fffffffffffffff": 1<<60 - 1,
		"": -1, ";x": -1, "g": -1, "-1": -1, "+1": -1, "0x10": -1, " 10": -1, "10 ": -1, "1000000000000000": -1, "1\r": -1, "1_0": -1,
	} {
		n, ok := Size([]byte(line))
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d, %v, want %d", line, n, ok, want)
		}
	}
}

// FuzzSize compares with what strconv takes for a number.
func FuzzSize(f *testing.F) {
	for _, line := range []string{"0", "Ff", "10 \t;x", "fffffffffffffff", " 10", "1_0", "0x1"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		number, _, extended := strings.Cut(string(line), ";")
		if extended {
			number = strings.TrimRight(number, " \t")
		}
		want, err := strconv.ParseUint(number, 16, 60)
		taken := err == nil && len(number) <= 15
		if n, ok := Size(line); ok != taken || ok && n != int64(want) {
			t.Errorf("%q: %d, %v, want %d, %v", line, n, ok, want, taken)
		}
	})
}
