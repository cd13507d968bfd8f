//go:build !planted

package main

import (
	"log/slog"

	"github.com/spf13/cobra"
)

// What builds with planted bugs have, and this one has not: see package planted.

func plant() error { return nil }

func plantedText() string { return "" }

func warnPlanted(*slog.Logger) {}

func addPlanted(*cobra.Command) {}
