package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"

	"martlet/internal/handover"
)

// A node that was told to end while it ended to be started again does not come back.
func TestReplaceAfterEnd(t *testing.T) {
	none := handover.Program{Path: "/nonexistent/martlet", Args: []string{"martlet"}}
	ctx, cancel := context.WithCancel(t.Context())
	if err := replace(ctx, none); err == nil {
		t.Error("a program that is not there was started")
	}
	cancel()
	if err := replace(ctx, none); err != nil {
		t.Errorf("after the end was asked for it was started: %v", err)
	}
}

// A process does not end while a successor that it has started may yet have to be ended.
func TestStopWaitsForAttempt(t *testing.T) {
	began := make(chan struct{})
	var ended atomic.Bool
	ctx, stop := onUSR2(t.Context(), slog.New(slog.DiscardHandler), "trying", errReplaced, func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		ended.Store(true)
		return ctx.Err()
	})
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	<-began
	stop()
	if !ended.Load() {
		t.Error("the attempt was left to itself")
	}
	if errors.Is(context.Cause(ctx), errReplaced) {
		t.Error("an attempt that failed has ended the process")
	}
}
