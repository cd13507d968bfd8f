// Package proc is processes that outlive the program which started them, and are told from all others
// later: by pid, the time that they were started at, and the start of the machine. So a process whose pid was
// given to another is never taken for that one.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"martlet/deploy/lab/internal/netns"
)

// A Process is one that was started.
type Process struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // when, in the kernel's ticks since the machine's start
	Boot  string `json:"boot"`  // which start of the machine
}

// Boot returns what tells this start of the machine from others.
func Boot() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text)), err
}

// Start starts a program in a network namespace, in a session of its own. What it says is appended to the
// file at log.
func Start(ctx context.Context, namespace, log, program string, args ...string) (Process, error) {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return Process{}, err
	}
	defer func() { _ = out.Close() }()                                       // the process has its own
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, args...) // it is not to end with us
	cmd.Dir = filepath.Dir(log)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := netns.Do(namespace, cmd.Start); err != nil {
		return Process{}, err
	}
	p, err := Of(cmd.Process.Pid)
	return p, errors.Join(err, cmd.Process.Release())
}

// Of returns the process that has a pid now.
func Of(pid int) (Process, error) {
	boot, err := Boot()
	if err != nil {
		return Process{}, err
	}
	_, start, err := stat(pid)
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return Process{Pid: pid, Start: start, Boot: boot}, nil
}

// stat returns the state and the start time of a pid.
func stat(pid int) (state byte, start uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name, in parentheses, may hold anything.
	_, rest, found := bytes.Cut(text[max(0, bytes.LastIndexByte(text, ')')):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !found || len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat is not what it should be: %q", pid, text)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0][0], start, err
}

// A State is what a process is doing.
type State string

// The states.
const (
	Gone    State = "gone"
	Running State = "running"
	Paused  State = "paused" // by Pause, or by somebody's SIGSTOP
)

// State returns what the process is doing. One that has ended and is not yet waited for is gone.
func (p Process) State() (State, error) {
	boot, err := Boot()
	if err != nil || boot != p.Boot {
		return Gone, err
	}
	state, start, err := stat(p.Pid)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return Gone, nil
	case err != nil:
		return "", err
	case start != p.Start, state == 'Z', state == 'X':
		return Gone, nil
	case state == 'T':
		return Paused, nil
	}
	return Running, nil
}

// signal sends a signal to the process and to no other.
func (p Process) signal(s unix.Signal) error {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", p.Pid, err)
	}
	// From here on the descriptor is that process, whoever it is.
	state, err := p.State()
	if err == nil && state != Gone {
		err = unix.PidfdSendSignal(fd, s, nil, 0)
		if errors.Is(err, unix.ESRCH) {
			err = nil
		}
	}
	return errors.Join(err, unix.Close(fd))
}

// Pause stops the process where it is, and returns when it stands still. One that is gone is an error.
func (p Process) Pause(ctx context.Context) error {
	if err := p.signal(unix.SIGSTOP); err != nil {
		return err
	}
	return p.until(ctx, Paused)
}

// Resume lets it go on.
func (p Process) Resume(ctx context.Context) error {
	if err := p.signal(unix.SIGCONT); err != nil {
		return err
	}
	return p.until(ctx, Running)
}

// Kill ends the process, as it is and at once, and returns when it is gone. One that is gone already is fine.
func (p Process) Kill(ctx context.Context) error {
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	return p.until(ctx, Gone)
}

// until waits until the process is in a state.
func (p Process) until(ctx context.Context, want State) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		state, err := p.State()
		switch {
		case err != nil:
			return err
		case state == want:
			return nil
		case state == Gone:
			return fmt.Errorf("process %d is gone", p.Pid)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d is %s and not %s: %w", p.Pid, state, want, ctx.Err())
		case <-tick.C:
		}
	}
}
