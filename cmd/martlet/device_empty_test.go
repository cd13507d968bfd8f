package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/survey"
)

// A node that serves objects alone has its devices emptied without anybody being asked for databases, but not where there are some.
func TestKindsOn(t *testing.T) {
	all := []survey.Kind{{Name: "account"}, {Name: "container"}}
	cfg := &config.Storage{Server: config.StorageServer{Root: t.TempDir()}}
	want := func(n int, why string) {
		t.Helper()
		kinds, err := kindsOn(cfg, "d1", all)
		if len(kinds) != n || (err == nil) != (why == "") || err != nil && !strings.Contains(err.Error(), why) {
			t.Errorf("asked for are %v, %v, want %d and %q", kinds, err, n, why)
		}
	}
	want(0, "")
	if err := os.MkdirAll(filepath.Join(cfg.Server.Root, "d1", "containers"), 0o750); err != nil {
		t.Fatal(err)
	}
	want(0, "there are containers on it")
	cfg.Container.Enabled = true
	want(1, "")
	cfg.Account.Enabled = true
	want(2, "")
}
