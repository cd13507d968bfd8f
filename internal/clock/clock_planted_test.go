//go:build planted

package clock

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A clock is moved by its file, and is right without one.
func TestHook(t *testing.T) {
	h := hook{file: filepath.Join(t.TempDir(), "clock")}
	at := time.Date(2026, 7, 30, 12, 0, 0, 0, time.UTC)
	look := func(want time.Duration) {
		t.Helper()
		at = at.Add(lookEvery)
		if got := h.now(at).Sub(at); got != want {
			t.Errorf("the clock is wrong by %v, want %v", got, want)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(h.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look(0)
	write("-90s\n")
	if got := h.now(at); got != at {
		t.Errorf("the file is read each time")
	}
	look(-90 * time.Second)
	write("48h")
	look(48 * time.Hour)
	write("soon")
	look(0)
	write("1ms")
	look(time.Millisecond)
	if err := os.Remove(h.file); err != nil {
		t.Fatal(err)
	}
	look(0)
	none := hook{}
	if got := none.now(at); got != at {
		t.Errorf("without a file the clock is wrong by %v", got.Sub(at))
	}
}
