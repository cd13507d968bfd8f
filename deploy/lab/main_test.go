package main

import (
	"strings"
	"testing"
)

func TestRates(t *testing.T) {
	for text, want := range map[string]int64{
		"none": 0, "8kbit": 8_000, "8000bit": 8_000, "512kbit": 512_000, "10mbit": 10_000_000, "100gbit": 100_000_000_000,
	} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%s is %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "10", "mbit", "0mbit", "-1mbit", "1.5mbit", "7kbit", "101gbit", "10MB", "9223372036854775807gbit", "10 mbit"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

// A command line that makes no sense is told so, with exit status 2, and what went wrong otherwise has 1.
func TestCommandLine(t *testing.T) {
	none := t.TempDir()
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"cut storage1":                            {2, "cut NODE NETWORK"},
		"nonsense":                                {2, "nonsense"},
		"cut --nonsense storage1 repl":            {2, "--help"},
		"slow storage1 repl fast":                 {1, "no lab is here"},
		"status":                                  {1, "no lab is here"},
		"exec client -- true":                     {1, "no lab is here"},
		"power":                                   {2, "power NODE..."},
		"up --nodes 0 --martlet /bin/true":        {2, "--nodes 0"},
		"up --size 1MiB --martlet /bin/true":      {2, "--size 1048576"},
		"up --network 127.0 --martlet /bin/true":  {2, "--network"},
		"up --martlet /nowhere/martlet --devices": {2, "--devices"},
	} {
		var stdout, stderr strings.Builder
		code := run(append([]string{"--dir", none + "/lab"}, strings.Fields(line)...), &stdout, &stderr)
		if code != want.code || !strings.Contains(stderr.String(), want.says) {
			t.Errorf("lab %s: exit status %d, %q, want %d and %q", line, code, stderr.String(), want.code, want.says)
		}
	}
	var stdout, stderr strings.Builder
	if code := run([]string{"--dir", none + "/lab", "down"}, &stdout, &stderr); code != 0 || !strings.Contains(stdout.String(), "no lab") {
		t.Errorf("down without a lab: exit status %d, %q, %q", code, stdout.String(), stderr.String())
	}
}
