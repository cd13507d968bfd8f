package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files of a cluster are written one like the other, none over another one.
func TestConfigInit(t *testing.T) {
	dir := t.TempDir()
	proxy, storage := filepath.Join(dir, "proxy.toml"), filepath.Join(dir, "storage.toml")
	for _, tt := range []struct {
		args     []string
		code     int
		out, err string
	}{
		{[]string{"proxy", "-o", proxy, "--listen", ":8080"}, 0, proxy + ": a good configuration", ""},
		{[]string{"proxy", "-o", proxy}, exitFailure, "", proxy + " is there already"},
		{[]string{"storage", "-o", storage, "--like", proxy, "--address", "10.0.1.1"}, 0, `key "storage.devices"`, ""},
		{[]string{"proxy", "--like", storage}, exitUsage, "", `key "storage.devices"`},
		{[]string{"storage", "--like", proxy, "--address", "10.0.1.1", "--devices", "d1,d2"}, 0, `devices = ["d1", "d2"]`, ""},
		{[]string{"router"}, exitUsage, "", `"router"`},
		{[]string{"proxy", "--like", filepath.Join(dir, "none.toml")}, exitUsage, "", "none.toml"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"config", "init"}, tt.args...), &stdout, &stderr)
		if code != tt.code || !strings.Contains(stdout.String(), tt.out) || !strings.Contains(stderr.String(), tt.err) {
			t.Errorf("%q: exit status %d, want %d\nstdout: %.300s\nstderr: %s", tt.args, code, tt.code, stdout.String(), stderr.String())
		}
	}
	info, err := os.Stat(proxy)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of a file with secrets is %v", info.Mode())
	}
}
