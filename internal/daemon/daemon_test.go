package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestForeverKeepsThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var runs []time.Time
		err := Forever(ctx, slog.New(slog.DiscardHandler), time.Minute, func(context.Context) error {
			runs = append(runs, time.Now())
			<-time.After(10 * time.Second) // of the bubble's clock: a pass that takes its time
			return nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
		if len(runs) < 54 || len(runs) > 61 {
			t.Errorf("%d passes in an hour at one a minute", len(runs))
		}
		for i := 1; i < len(runs); i++ {
			if gap := runs[i].Sub(runs[i-1]); gap < time.Minute || gap > 66*time.Second {
				t.Errorf("gap %d is %v, want a minute and at most a tenth more", i, gap)
			}
		}
	})
}

func TestForeverOutlivesFailureAndPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var logged bytes.Buffer
		n := 0
		_ = Forever(ctx, slog.New(slog.NewTextHandler(&logged, nil)), time.Second, func(context.Context) error {
			n++
			switch n {
			case 1:
				return errors.New("first failed")
			case 2:
				panic("second broke")
			}
			cancel()
			return nil
		})
		for _, want := range []string{"first failed", "second broke"} {
			if !strings.Contains(logged.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, &logged)
			}
		}
		if n != 3 {
			t.Errorf("%d passes, want 3", n)
		}
	})
}

func TestGroupEndsTogether(t *testing.T) {
	boom := errors.New("boom")
	g := NewGroup(t.Context())
	ended := false
	g.Go("waits", func(ctx context.Context) error {
		<-ctx.Done()
		ended = true
		return context.Cause(ctx)
	})
	g.Go("fails", func(context.Context) error { return boom })
	if err := g.Wait(); !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "fails: ") {
		t.Errorf("Wait returned %v", err)
	}
	if !ended {
		t.Error("the other one was not ended")
	}
}

func TestGroupEndOfContextIsNoError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := NewGroup(ctx)
	g.Go("waits", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	cancel()
	if err := g.Wait(); err != nil {
		t.Errorf("Wait returned %v", err)
	}
}
