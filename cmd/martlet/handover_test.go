package main

import (
	"context"
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
