package links

import (
	"strings"
	"testing"
	"time"
)

func TestShapes(t *testing.T) {
	for want, got := range map[string][]string{
		"rate 8000bit burst 32768 latency 100ms":         tbf(8_000),
		"rate 10000000bit burst 32768 latency 100ms":     tbf(10_000_000),
		"rate 1000000000bit burst 1250000 latency 100ms": tbf(1_000_000_000),
		"netem delay 1500us limit 20000":                 netem(1500 * time.Microsecond),
	} {
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
