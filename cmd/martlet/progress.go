package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// quietFor is how long something takes before it is worth a line.
const quietFor = 2 * time.Second

// progress tells on a terminal what takes long, in one line that goes when it is done.
// A nil *progress tells nothing.
type progress struct {
	out io.Writer

	mu    sync.Mutex
	what  string
	since time.Time
	shown bool
	stop  chan struct{}
	ended bool // of who calls end
	done  sync.WaitGroup
}

// newProgress returns a progress that is to be ended; nil where out is no terminal.
func newProgress(out io.Writer) *progress {
	if !terminal(out) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return beginProgress(out)
}

func beginProgress(out io.Writer) *progress {
	p := &progress{out: out, stop: make(chan struct{})}
	p.done.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				p.show()
			}
		}
	})
	return p
}

// say says what is done from now on.
func (p *progress) say(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what, p.since = fmt.Sprintf(format, args...), time.Now()
}

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := time.Since(p.since)
	if p.what == "" || took < quietFor && !p.shown {
		return
	}
	p.shown = true
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s ... %s", p.what, lasting(took)) // it is only to look at
}

// above prints a line that stays, above the one that tells what is done.
func (p *progress) above(out io.Writer, line string) {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.shown {
			_, _ = io.WriteString(p.out, "\r\x1b[K")
			p.shown = false
		}
	}
	_, _ = fmt.Fprintln(out, line) // what counts is in the report
}

// end takes the line away. Nothing is told after it; it may be called again.
func (p *progress) end() {
	if p == nil || p.ended {
		return
	}
	p.ended = true
	close(p.stop)
	p.done.Wait()
	if p.shown {
		_, _ = io.WriteString(p.out, "\r\x1b[K")
	}
}
