package processors

import (
	"log/slog"
	"runtime"
	"testing"
)

func TestPlaces(t *testing.T) {
	for _, tt := range []struct{ processors, devices, want int }{
		{2, 0, 2},
		{2, 1, 3},
		{2, 8, 8},
		{2, 100, 8},
		{16, 36, 52},
		{64, 4, 68},
		{1, 12, 4},
		{4, -1, 4},
	} {
		if got := Places(tt.processors, tt.devices); got != tt.want {
			t.Errorf("%d processors and %d devices: got %d, want %d", tt.processors, tt.devices, got, tt.want)
		}
	}
}

// What the environment says stays; else there is room for devices, counted from what the process may use, however often it is
// set.
func TestSet(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	defer runtime.SetDefaultGOMAXPROCS()
	log := slog.New(slog.DiscardHandler)
	Set(log, 0)
	usable := runtime.GOMAXPROCS(0)
	for range 2 {
		Set(log, 2)
		if got, want := runtime.GOMAXPROCS(0), Places(usable, 2); got != want || got == usable {
			t.Errorf("two devices, %d processors: got %d, want %d", usable, got, want)
		}
	}
	Set(log, 0)
	if got := runtime.GOMAXPROCS(0); got != usable {
		t.Errorf("no devices: got %d, want %d", got, usable)
	}
	t.Setenv("GOMAXPROCS", "1")
	runtime.GOMAXPROCS(1) // as at the start of a process
	Set(log, 5)
	if got := runtime.GOMAXPROCS(0); got != 1 {
		t.Errorf("GOMAXPROCS is 1 in the environment: got %d", got)
	}
}
