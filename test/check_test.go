package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lastLine is the last line of an output.
func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

// TestCheck: what martlet check starts by itself and breaks keeps its promises. MARTLET_CHECK is for how long it goes on, and
// MARTLET_SEED from which seed. It works as much as leaves room for what else runs: so it is judged by what it does, however
// busy the machine is.
func TestCheck(t *testing.T) {
	length := 12 * time.Second
	if text := os.Getenv("MARTLET_CHECK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("MARTLET_CHECK: %v", err)
		}
	}
	dir := filepath.Join(t.TempDir(), "check")
	args := []string{"check", "--dir", dir, "--duration", length.String(), "--clients", "8", "--rate", "40"}
	if seed := os.Getenv("MARTLET_SEED"); seed != "" {
		args = append(args, "--seed", seed)
	}
	p := start(t, args...)
	code := p.wait(t, 5*time.Minute+2*length)
	out := p.out.String()
	t.Log(lastLine(out))
	if code != 0 || !strings.HasPrefix(lastLine(out), "verdict: kept (") {
		t.Fatalf("exit status %d\n%s", code, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Verdict string         `json:"verdict"`
		Faults  map[string]int `json:"faults"`
		Sum     int            `json:"faults_sum"`
		Ops     int64          `json:"ops_sum"`
		Rounds  []struct {
			Reads   struct{ Reads int } `json:"reads"`
			Settled struct{ Looks int } `json:"settled"`
		} `json:"rounds"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	if report.Verdict != "kept" || report.Sum == 0 || report.Ops == 0 || len(report.Rounds) == 0 || report.Rounds[0].Settled.Looks == 0 {
		t.Errorf("the report says that little was looked at: %s", text)
	}
	left(t, dir)
}

// left fails where processes or mounts of a check are left, once it has ended.
func left(t *testing.T, dir string) {
	t.Helper()
	poll(t, 20*time.Second, "nothing is left", func() error {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		if strings.Contains(string(mounts), dir) {
			return errors.New("something is mounted")
		}
		names, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		for _, name := range names {
			if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), dir+"/cluster") {
				return fmt.Errorf("%s: %q", name, text)
			}
		}
		backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
		if err != nil {
			return err
		}
		for _, name := range backing {
			if text, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(text), dir) {
				return fmt.Errorf("%s: %s", name, text)
			}
		}
		return nil
	})
}

// TestCheckIsStopped: a check that is interrupted says that it came to no verdict, and one that is killed leaves nothing
// either.
func TestCheckIsStopped(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "check")
			p := start(t, "check", "--dir", dir, "--duration", "10m", "--clients", "2", "--nodes", "3", "--devices", "1", "--policy", "gold")
			poll(t, time.Minute, "clients work", func() error {
				if p.ended() {
					t.Fatalf("it ended: %v\n%s%s", p.cmd.ProcessState, p.out.String(), p.err.String())
				}
				if !strings.Contains(p.out.String(), "round 1: clients work") {
					return errors.New("not yet")
				}
				return nil
			})
			p.signal(t, sig)
			code := p.wait(t, time.Minute)
			if sig == syscall.SIGINT && (code != 3 || !strings.HasPrefix(lastLine(p.out.String()), "verdict: incomplete: ")) {
				t.Errorf("exit status %d, and %q", code, lastLine(p.out.String()))
			}
			left(t, dir)
		})
	}
}

// TestCheckUsage: what makes no sense is exit status 2, and one line.
func TestCheckUsage(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "something"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--faults", "earthquake"}, {"--duration", "0s"}, {"--dir", full}, {"--policy", "a=b"}, {"--nodes", "2"},
		{"--endpoint", "http://127.0.0.1:1", "--lab", "x"}, {"--workload", "nothing"}, {"more"},
		{"--clients", "0"}, {"--names", "0"}, {"--rate", "-1"}, {"--proxies", "300", "--disks=false"},
		{"--ahead", "3s"}, // no clock of this build can be moved
	} {
		code, stdout, stderr := martlet(t, append([]string{"check"}, args...)...)
		if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit status %d, %q, %q", args, code, stdout, stderr)
		}
	}
}
