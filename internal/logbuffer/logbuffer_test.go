package logbuffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// file remembers what each call has written.
type file struct {
	mu     sync.Mutex
	calls  []string // guarded by mu
	closed bool     // guarded by mu
	err    error    // guarded by mu; what writing gives
}

func (f *file) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	f.calls = append(f.calls, string(b))
	return len(b), nil
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (f *file) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// written returns what each call has written since it was asked last.
func (f *file) written() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// logger returns a log of messages alone.
func logger(w *Writer) *slog.Logger {
	return slog.New(w.Handler(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})))
}

func check(t *testing.T, f *file, want ...string) {
	t.Helper()
	got := f.written()
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("written were %q, want %q", got, want)
	}
}

func TestLinesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{}
		w := New(f)
		log := logger(w)
		log.Info("a")
		time.Sleep(Delay / 2) // in the bubble
		log.With("k", 1).Info("b")
		log.WithGroup("g").Info("c", "k", 2)
		check(t, f)
		time.Sleep(Delay / 2) // in the bubble
		synctest.Wait()
		check(t, f, "msg=a\nmsg=b k=1\nmsg=c g.k=2\n")
		time.Sleep(time.Hour) // in the bubble
		check(t, f)
		log.Info("d")
		time.Sleep(Delay) // in the bubble
		synctest.Wait()
		check(t, f, "msg=d\n")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWarningsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{}
		w := New(f)
		log := logger(w)
		log.Info("a")
		log.With("k", 1).Warn("b")
		check(t, f, "msg=a\nmsg=b k=1\n")
		log.WithGroup("g").Error("c", "k", 2)
		check(t, f, "msg=c g.k=2\n")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCloseWritesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &file{}
		w := New(f)
		log := logger(w)
		log.Info("a")
		if err := w.Close(); err != nil || !f.closed {
			t.Fatal(err, f.closed)
		}
		check(t, f, "msg=a\n")
		log.Info("late") // whoever still logs
		check(t, f, "msg=late\n")
	})
}

func TestBlocks(t *testing.T) {
	f := &file{}
	w := New(f)
	var want bytes.Buffer
	for i := range 5000 {
		line := fmt.Sprintf("%d %s\n", i, strings.Repeat("x", i%200))
		if i == 2500 {
			line = strings.Repeat("y", 2*block) + "\n"
		}
		want.WriteString(line)
		if n, err := io.WriteString(w, line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	calls := f.written()
	if got := strings.Join(calls, ""); got != want.String() {
		t.Errorf("%d bytes were written that are not the %d logged", len(got), want.Len())
	}
	if most := 2 * want.Len() / block; len(calls) > most {
		t.Errorf("%d calls for %d bytes, want at most %d", len(calls), want.Len(), most)
	}
	for _, c := range calls {
		if !strings.HasSuffix(c, "\n") {
			t.Fatalf("a call has written a part of a line: %.40q...", c)
		}
	}
}

func TestFailures(t *testing.T) {
	f := &file{}
	w := New(f)
	full := errors.New("full")
	f.fail(full)
	if _, err := io.WriteString(w, "a\n"); err != nil {
		t.Fatal(err) // it waits
	}
	if err := w.Flush(); !errors.Is(err, full) {
		t.Fatalf("got %v, want what writing has said", err)
	}
	f.fail(nil)
	if _, err := io.WriteString(w, "b\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, f, "b\n")
}

func TestTogether(t *testing.T) {
	f := &file{}
	w := New(f)
	log := logger(w)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 200 {
				if log.Info("line"); i%40 == 0 {
					log.Warn("line")
				}
			}
		})
	}
	all.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(strings.Join(f.written(), ""), "msg=line\n"); n != 8*205 {
		t.Errorf("%d lines, want %d", n, 8*205)
	}
}

func BenchmarkLine(b *testing.B) {
	w := New(&file{})
	line := bytes.Repeat([]byte("x"), 200)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}
