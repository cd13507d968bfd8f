package main

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		code int
		out  string // what its standard output has
		err  string // what its standard error has
	}{
		"version":            {[]string{"version"}, 0, "martlet ", ""},
		"help":               {[]string{"--help"}, 0, "Available Commands", ""},
		"nothing":            {nil, 0, "Available Commands", ""},
		"unknown":            {[]string{"sotrage"}, exitUsage, "", "martlet: unknown command"},
		"flag":               {[]string{"dev", "--nodes", "many"}, exitUsage, "", "--nodes"},
		"no file":            {[]string{"config", "check"}, exitUsage, "", "martlet: "},
		"replicate for ever": {[]string{"replicate", "--config", "x"}, exitUsage, "", "--once"},
		"replicate what":     {[]string{"replicate", "--once"}, exitUsage, "", "--config"},
		"replicate no file":  {[]string{"replicate", "--once", "--config", "/none.toml"}, exitUsage, "", "/none.toml"},
		"missing file":       {[]string{"storage", "--config", "/none.toml"}, exitUsage, "", "/none.toml"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(tt.args, &stdout, &stderr)
		if code != tt.code || !strings.Contains(stdout.String(), tt.out) || !strings.Contains(stderr.String(), tt.err) {
			t.Errorf("%s: exit status %d, want %d\nstdout: %s\nstderr: %s", name, code, tt.code, stdout.String(), stderr.String())
		}
		if lines := strings.Count(stderr.String(), "\n"); tt.code == 0 && lines != 0 || tt.code != 0 && lines != 1 {
			t.Errorf("%s: %d lines on the standard error:\n%s", name, lines, stderr.String())
		}
	}
}

// The first signal ends the context.
func TestUntilSignal(t *testing.T) {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
		t.Error("SIGTERM did not end the context")
	}
}

// A shell reads back what was quoted for it.
func TestShell(t *testing.T) {
	for _, path := range []string{"/srv/dev", "/srv/my files", "/it's", `/a"b$c` + "`d`\\", "/ü*?[x]~#;&|<>", "-"} {
		out, err := exec.CommandContext(t.Context(), "bash", "-c", "printf %s "+shell(path)).Output()
		if err != nil || string(out) != path {
			t.Errorf("%q is quoted as %s, which is %q, %v", path, shell(path), out, err)
		}
	}
	if got := shell("/srv/dev-1/etc/proxy.toml"); got != "/srv/dev-1/etc/proxy.toml" {
		t.Errorf("a plain path is quoted as %s", got)
	}
}
