// Package logbuffer gathers the lines of a log, so that a server that answers thousands of
// requests a second makes a few calls to write a second for them, and not one for each.
//
// A warning, or worse, is written at once, with all that was logged before it. Other lines
// are written together once there is a block of them, and at the latest Delay after they
// were logged: so much is lost of a process that is killed, and whoever follows a log
// sees it that late. The order of lines is never changed.
package logbuffer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// Delay is how long a line that is no warning waits at most for others.
	Delay = 250 * time.Millisecond

	// block is how much is gathered at most, in bytes.
	block = 32 << 10
)

// Writer is where the lines of a log are gathered. It is safe for concurrent use.
type Writer struct {
	mu     sync.Mutex
	to     io.WriteCloser // guarded by mu, as what is written must be in order
	lines  []byte         // guarded by mu; those that wait
	timer  *time.Timer    // guarded by mu; it writes what waits
	closed bool           // guarded by mu; nothing waits any more
}

// New returns a Writer before one that takes whole lines.
func New(to io.WriteCloser) *Writer { return &Writer{to: to} }

// Write takes a line, or several. An error is of lines that came before them, or of them.
func (w *Writer) Write(lines []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.to.Write(lines)
	}
	if len(w.lines)+len(lines) > block {
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	if len(lines) > block {
		return w.to.Write(lines)
	}
	if len(w.lines) == 0 {
		if w.timer == nil {
			w.timer = time.AfterFunc(Delay, w.late)
		} else {
			w.timer.Reset(Delay)
		}
	}
	w.lines = append(w.lines, lines...)
	return len(lines), nil
}

// late is Delay after the first of the lines that wait. Who would be told of an error? The next is told of its own.
func (w *Writer) late() { _ = w.Flush() }

// Flush writes what waits.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flush()
}

// flush is Flush for a caller that holds mu. What can't be written is gone, as with a log that does not wait.
func (w *Writer) flush() error {
	if len(w.lines) == 0 {
		return nil
	}
	_, err := w.to.Write(w.lines)
	w.lines = w.lines[:0]
	return err
}

// Close writes what waits, and closes what it is written to.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.flush()
	if w.closed = true; w.timer != nil {
		w.timer.Stop()
	}
	return errors.Join(err, w.to.Close())
}

// Handler returns a handler before one that writes to w: what is a warning, or worse, is written at once.
func (w *Writer) Handler(h slog.Handler) slog.Handler { return handler{h, w} }

type handler struct {
	slog.Handler
	w *Writer
}

// Handle logs a record.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		err = errors.Join(err, h.w.Flush())
	}
	return err
}

// WithAttrs is that of slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.w}
}

// WithGroup is that of slog.Handler.
func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name), h.w} }
