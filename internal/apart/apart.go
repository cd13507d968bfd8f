// Package apart runs a program again as a process whose mounts and children are its own, so that
// none is left behind however it ends: a kernel takes all of them away with it.
package apart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Is reports whether this is a process that Run made for the same mark: the first of its kind.
func Is(mark string) bool { return os.Getenv(mark) != "" && os.Getpid() == 1 }

// Run runs this program again with the same arguments, apart, and returns its exit status when it has ended; a signal that ended it is
// an error. It returns -1
// where this is that process, or where there is no right to make one: Is tells which. The mark is a variable of the environment by
// which it knows itself. When ctx ends it is asked to end, by SIGTERM; when this process ends it does at once.
func Run(ctx context.Context, mark string) (code int, err error) {
	if Is(mark) {
		return -1, unix.Mount("proc", "/proc", "proc", 0, "") // with the numbers that processes have here
	}
	if os.Geteuid() != 0 {
		return -1, nil
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread()                                // the child ends with the thread that made it
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...) //nolint:gosec // it is this program, as it was called
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Run()
	if errors.Is(err, syscall.EPERM) {
		runtime.UnlockOSThread()
		return -1, nil
	}
	if cmd.ProcessState != nil {
		if code := cmd.ProcessState.ExitCode(); code >= 0 {
			return code, nil
		}
		return 1, fmt.Errorf("%s: %v", self, cmd.ProcessState) // a signal has ended it
	}
	return 0, err
}
