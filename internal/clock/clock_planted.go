//go:build planted

package clock

import (
	"os"
	"strings"
	"sync"
	"time"
)

// Variable is the environment variable that names the file by which the clock of a process is wrong. The
// file holds by how much, as Go writes durations: "-30s", "48h". It may be made, replaced and removed at
// any time: the clock jumps within lookEvery of that. Where there is no file, or nothing that is a
// duration in it, the clock is right. A file that is replaced by a rename is never seen in half.
const Variable = "MARTLET_CLOCK_FILE"

// lookEvery is how long what the file says is gone by.
const lookEvery = 20 * time.Millisecond

// Now is the present, as the file has it. It is of the wall alone: times of two calls are as far apart
// as clocks say that they are, and not as they were.
func Now() time.Time { return ours.now(time.Now()) }

// ours is the clock of the process.
var ours = hook{file: os.Getenv(Variable)}

// hook is a clock that a file moves.
type hook struct {
	file string // "" for none

	mu     sync.Mutex
	looked time.Time     // when it was read last; guarded by mu
	by     time.Duration // what it said; guarded by mu
}

func (h *hook) now(t time.Time) time.Time {
	if h.file == "" {
		return t
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := t.Sub(h.looked); d < 0 || d >= lookEvery {
		h.looked, h.by = t, 0
		if text, err := os.ReadFile(h.file); err == nil {
			h.by, _ = time.ParseDuration(strings.TrimSpace(string(text))) // else it is 0
		}
	}
	return t.Round(0).Add(h.by)
}
