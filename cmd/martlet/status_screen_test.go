package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/health"
	"martlet/cmd/internal/node"
)

var update = flag.Bool("update", false, "write what is printed to testdata")

// manyFaults is a cluster of forty nodes with which much is wrong.
func manyFaults() *health.Report {
	at := time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)
	r := &health.Report{Cluster: "c", Time: at, Level: health.Critical, Summary: "CRITICAL: 10.0.0.3: does not answer: connection refused; 10.0.0.1/d1 and 2 more: out of use: its folder does not exist; and 6 things more"}
	found := func(l health.Level, about, text string, where ...health.Spot) {
		r.Findings = append(r.Findings, health.Finding{Level: l, About: about, Text: text, Where: where})
	}
	found(health.Critical, health.AboutNode, "does not answer: connection refused", health.Spot{Place: "10.0.0.3"})
	found(health.Critical, health.AboutDevice, "out of use: its folder does not exist", health.Spot{Place: "10.0.0.1/d1", Detail: "for 3 h"},
		health.Spot{Place: "10.0.0.1/d2", Detail: "for 3 h"}, health.Spot{Place: "10.0.0.2/d1", Detail: "for 3 h"})
	found(health.Critical, health.AboutConfig, "cluster.hash_path is not what most have", health.Spot{Place: "this machine", Detail: "/etc/martlet/a-long-folder/proxy.toml: 0123456789ab"})
	found(health.Warning, health.AboutRing, "object: older than version 12, which others have", health.Spot{Place: "10.0.0.2", Detail: "version 11"})
	found(health.Warning, health.AboutClock, "the clock is wrong", health.Spot{Place: "10.0.0.2", Detail: "+63 s"})
	found(health.Warning, health.AboutReplication, "the last pass could not confirm everything with 10.0.2.3: dial tcp 10.0.2.3:6203: connect: connection refused",
		health.Spot{Place: "10.0.0.1/d2", Detail: "object"}, health.Spot{Place: "10.0.0.2/d1", Detail: "object"})
	found(health.Note, health.AboutDevice, "no ring names it", health.Spot{Place: "10.0.0.4/d9"})
	for i := range 20 {
		found(health.Note, health.AboutWork, fmt.Sprintf("[store.scrub%d] is switched off", i), health.Spot{Place: "10.0.0.4"})
	}
	for n := 1; n <= 40; n++ {
		p := health.Process{Name: fmt.Sprint("10.0.0.", n), Role: config.KindStorage, Reachable: true, Version: "v1.2.3-14-g0123456", Uptime: 86400 * 3, Skew: 0.002, Checksum: "0123abcd"}
		for _, d := range []string{"d1", "d2"} {
			s := health.DeviceSummary{UsedPercent: float64(n), Replicated: 12}
			s.Device, s.Mounted = d, true
			p.Devices = append(p.Devices, s)
		}
		p.Queues = []node.QueueStatus{{Queue: node.QueueUpdates, Known: true, Length: 1234}}
		switch n {
		case 1:
			p.Level, p.Devices[0].Mounted, p.Devices[1].Mounted = health.Critical, false, false
		case 2:
			p.Level, p.Devices[0].Mounted, p.Skew, p.Devices[1].Replicated = health.Critical, false, 63, -1
		case 3:
			p = health.Process{Name: p.Name, Role: p.Role, Level: health.Critical, Error: "connection refused"}
		}
		r.Processes = append(r.Processes, p)
	}
	r.Processes = append(r.Processes, health.Process{Name: "10.0.1.1:6209", Role: config.KindProxy, Reachable: true, Version: "v1", Uptime: 60, Checksum: "fedc9876"})
	return r
}

// The screen of a large cluster with many faults is as it was agreed upon, fits its width, and names nobody who is well.
func TestScreen(t *testing.T) {
	for _, width := range []int{80, 120} {
		s := screen{page: &page{}, width: width}
		s.print(manyFaults())
		file := filepath.Join("testdata", fmt.Sprintf("status_%d.txt", width))
		if *update {
			if err := os.WriteFile(file, []byte(s.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if s.String() != string(want) {
			t.Errorf("at %d columns:\n%s\nwant:\n%s", width, s.String(), want)
		}
	}
	for width := 40; width < 200; width++ {
		s := screen{page: &page{}, width: width}
		s.print(manyFaults())
		for line := range strings.Lines(s.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > max(width, 90) || width >= 90 && n > width {
				t.Errorf("%d columns: %d in %q", width, n, line)
			}
		}
	}
}

// Colours come in for a terminal alone, a window bounds the lines, and --all leaves nothing out.
func TestScreenOfATerminal(t *testing.T) {
	s := screen{page: &page{colour: true}, width: 120, height: 10}
	s.print(manyFaults())
	if n := strings.Count(s.String(), "\n"); n != 10 || !strings.Contains(s.String(), "\x1b[31mCRITICAL: ") || !strings.Contains(s.String(), "too small") {
		t.Errorf("%d lines:\n%s", n, s.String())
	}
	s = screen{page: &page{}, width: 120, height: 10, all: true}
	s.print(manyFaults())
	if !strings.Contains(s.String(), "10.0.0.40") || !strings.Contains(s.String(), "store.scrub19") {
		t.Errorf("with --all:\n%s", s.String())
	}
	if got, want := redrawn("a\nb\n", false), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"; got != want {
		t.Errorf("redrawn: %q, want %q", got, want)
	}
}

// What the command line of a status may not be is said, with the exit status of a wrong command line, and nothing on the
// standard output.
func TestStatusArguments(t *testing.T) {
	for args, want := range map[string]string{
		"":                                      "--config is missing",
		"--config x --list":                     "--list is for --durability",
		"--config x --window 1s":                "--window",
		"--config x --durability --rebalance":   "one at a time",
		"--config x --durability --watch":       "--watch is neither",
		"--config x --rebalance --warn-full 8":  "--warn-full is neither",
		"--config x --watch=0s":                 "--watch 0s",
		"--config x --watch soon":               `"soon"`,
		"--config x 5s":                         `"5s"`,
		"--config x --timeout 0s":               "--timeout",
		"--config x --concurrency 0":            "--concurrency",
		"--config x --proxy http://a/b":         "--proxy",
		"--config x --warn-full 99":             "--warn-full",
		"--config /nowhere/x.toml --watch 5s":   "/nowhere/x.toml",
		"--config /nowhere/x.toml --proxy a:80": "/nowhere/x.toml",
	} {
		var out, err bytes.Buffer
		code := run(append([]string{"status"}, strings.Fields(args)...), &out, &err)
		if code != exitUsage || out.Len() > 0 || !strings.Contains(err.String(), want) {
			t.Errorf("%s: %d, %q, %q, want %q", args, code, out.String(), err.String(), want)
		}
	}
}
