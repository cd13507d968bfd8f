package node

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"martlet/cmd/internal/config"
	"martlet/internal/logbuffer"
)

// OpenLog returns the logger that a configuration asks for, and what to close once
// nothing logs any more: until then lines that are no warnings may not be written yet
// (package logbuffer).
func OpenLog(c config.Log) (*slog.Logger, io.Closer, error) {
	level, err := config.ParseLevel(c.Level)
	if err != nil {
		return nil, nil, err
	}
	out := io.WriteCloser(standardError{})
	if c.File != "" {
		// Appending, so that a log that was cut by another program goes on at its end.
		f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("log: %w", err)
		}
		out = f
	}
	options, lines := &slog.HandlerOptions{Level: level}, logbuffer.New(out)
	switch c.Format {
	case "text":
		return slog.New(lines.Handler(slog.NewTextHandler(lines, options))), lines, nil
	case "json":
		return slog.New(lines.Handler(slog.NewJSONHandler(lines, options))), lines, nil
	}
	return nil, nil, errors.Join(fmt.Errorf("log: format %q is neither text nor json", c.Format), out.Close())
}

type standardError struct{}

func (standardError) Write(b []byte) (int, error) { return os.Stderr.Write(b) }
func (standardError) Close() error                { return nil }
