package test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	readyWithin = 2 * time.Second
	idleMost    = 150 << 20 // bytes
)

// startDev runs `martlet dev` and returns it when it is ready, with the time that
// took.
func startDev(t *testing.T, args ...string) (*process, time.Duration) {
	t.Helper()
	began := time.Now()
	p := start(t, append([]string{"dev"}, args...)...)
	poll(t, 15*time.Second, "ready", func() error {
		if p.ended() {
			t.Fatalf("%s ended: %v\n%s", p.name, p.cmd.ProcessState, p.err.String())
		}
		if !strings.Contains(p.out.String(), "\nready ") {
			return fmt.Errorf("it prints %q", p.out.String())
		}
		return nil
	})
	return p, time.Since(began)
}

// The whole cluster in one process: soon ready, small, its banner's lines work, and
// everything is there after it was stopped and started.
func TestDev(t *testing.T) {
	n := network(t)
	address := n + ".0.1:8080"
	dir := filepath.Join(t.TempDir(), "dev")
	p, took := startDev(t, "--dir", dir, "--network", n, "--listen", address)
	if took > readyWithin {
		t.Errorf("ready after %v, want within %v", took, readyWithin)
	}
	out := p.out.String()
	if last := out[strings.LastIndex(strings.TrimSuffix(out, "\n"), "\n")+1:]; !strings.HasPrefix(last, "ready http://"+address) {
		t.Errorf("the last line is %q, want it to begin with ready", last)
	}
	// Requests that find nothing make every server do something first.
	tok := token(t, "http://"+address)
	as(t, tok, "GET", "http://"+address+"/v1/AUTH_test?format=json", nil, http.StatusOK)
	idle, err := anonymous(p.pid())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %v, %d MiB of anonymous memory", took, idle>>20)
	if idle > idleMost {
		t.Errorf("%d bytes of anonymous memory while idle, want at most %d", idle, int64(idleMost))
	}

	pasted := regexp.MustCompile(`(?m)^(curl|swift|rclone) .*$`).FindAllString(out, -1)
	if len(pasted) != 3 {
		t.Fatalf("the banner has %d lines to paste, want 3:\n%s", len(pasted), out)
	}
	work := t.TempDir()
	for _, line := range pasted {
		t.Logf("%s\n%s", line, shell(t, work, line, 30*time.Second))
	}
	listing := "http://" + address + "/v1/AUTH_test/first"
	before := string(as(t, tok, "GET", listing, nil, http.StatusOK).body)
	if want := "os-release\nusr/lib/os-release\n"; before != want {
		t.Errorf("after the banner's lines the container lists %q, want %q", before, want)
	}
	want, err := os.ReadFile("/usr/lib/os-release")
	if err != nil {
		t.Fatal(err)
	}

	p.signal(t, syscall.SIGINT)
	if code := p.wait(t, 10*time.Second); code != 0 || p.err.String() != "" {
		t.Errorf("exit status %d after ^C, want 0 and nothing on standard error: %s", code, p.err.String())
	}
	startDev(t, "--dir", dir)
	tok = token(t, "http://"+address)
	if after := string(as(t, tok, "GET", listing, nil, http.StatusOK).body); after != before {
		t.Errorf("started again the container lists %q, before %q", after, before)
	}
	if got := as(t, tok, "GET", listing+"/os-release", nil, http.StatusOK).body; string(got) != string(want) {
		t.Errorf("started again the object is %q, want %q", got, want)
	}
}

// The lines of README.md work as they are, from the repository's folder.
func TestReadme(t *testing.T) {
	n := network(t)
	address := n + ".0.1:8080"
	startDev(t, "--dir", filepath.Join(t.TempDir(), "dev"), "--network", n, "--listen", address)
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	var outputs []string
	for _, b := range blocks {
		if strings.Contains(b[1], "bin/martlet") {
			continue // starts clusters, as other tests do
		}
		outputs = append(outputs, shell(t, "..", strings.ReplaceAll(b[1], "127.0.0.1:8080", address), time.Minute))
	}
	if len(outputs) != 3 {
		t.Fatalf("README.md has %d blocks for a cluster that runs, want those of curl, swift and rclone", len(outputs))
	}
	architecture, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{string(text), string(architecture), "architecture.md"} {
		if !strings.Contains(outputs[i], want) {
			t.Errorf("block %d of README.md prints:\n%s\nwant it to have:\n%s", i+1, outputs[i], want)
		}
	}
}
