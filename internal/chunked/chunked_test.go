package chunked

import "testing"

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
