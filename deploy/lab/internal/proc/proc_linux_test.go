package proc

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// sleeper starts a process, under a name of the test's choice, that does nothing.
func sleeper(t *testing.T, name string) (*exec.Cmd, Process) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), name)
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, text, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	p, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, p
}

func wantState(t *testing.T, p Process, want State) {
	t.Helper()
	if got, err := p.State(); err != nil || got != want {
		t.Errorf("state of %+v: %s, %v, want %s", p, got, err, want)
	}
}

// A process is paused, goes on and is killed, whatever it is called, and is gone before anybody has waited for it.
func TestStates(t *testing.T) {
	_, p := sleeper(t, "a) Z 1 (b")
	wantState(t, p, Running)
	if err := p.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantState(t, p, Paused)
	if err := p.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantState(t, p, Running)
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantState(t, p, Gone)
	if err := p.Kill(t.Context()); err != nil {
		t.Errorf("killing what is gone: %v", err)
	}
	if err := p.Pause(t.Context()); err == nil {
		t.Error("pausing what is gone is no error")
	}
}

// What has the pid of another one, or its pid in another life of the machine, is not touched.
func TestAnother(t *testing.T) {
	cmd, p := sleeper(t, "other")
	for what, change := range map[string]func(*Process){
		"a process that was started earlier":   func(p *Process) { p.Start-- },
		"one from before the machine's start":  func(p *Process) { p.Boot = "another" },
		"a pid that nobody has, and never had": func(p *Process) { p.Pid = 1 << 29 },
	} {
		other := p
		change(&other)
		wantState(t, other, Gone)
		if err := other.Kill(context.Background()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	wantState(t, p, Running)
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
}
