package handover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Program is this program as it was started. The file of that name may be another one by now: an update.
type Program struct {
	Path string // absolute
	Args []string
	Env  []string
}

// Self is the program that this process is. It is asked for at the start, since the folder that a path is taken from
// may change.
func Self() (Program, error) {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return Program{}, fmt.Errorf("where this program is: %w", err)
	}
	return Program{path, slices.Clone(os.Args), os.Environ()}, nil
}

// environment is that of the program, without what a predecessor of this process said in it: of a variable that is there
// twice the first one counts, so its sockets would be sought where this process got them.
func (p Program) environment(more ...string) []string {
	env := slices.DeleteFunc(slices.Clone(p.Env), func(v string) bool {
		return strings.HasPrefix(v, listenersVar+"=") || strings.HasPrefix(v, readyVar+"=")
	})
	return append(env, more...)
}

// Start starts the program again, with sockets that listen, and returns when it has told that it serves. Where it ends
// before, or has not told within wait, it is killed, and the error says why: the caller goes on serving.
//
// The sockets are the caller's still; both accept from them, until the caller closes its own.
func (p Program) Start(ctx context.Context, listeners map[string]net.Listener, wait time.Duration) (pid int, err error) {
	theirs := []uintptr{0, 1, 2}
	defer func() {
		for _, fd := range theirs[3:] {
			err = errors.Join(err, unix.Close(int(fd)))
		}
	}()
	var names []string
	for name, l := range listeners {
		fd, err := duplicate(l)
		if err != nil {
			return 0, fmt.Errorf("the socket of %s: %w", name, err)
		}
		names = append(names, fmt.Sprintf("%s=%d", name, len(theirs)))
		theirs = append(theirs, fd)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, fmt.Errorf("pipe: %w", err)
	}
	theirs = append(theirs, uintptr(pipe[1]))
	if err := unix.SetNonblock(pipe[0], true); err != nil { // so that it can have a deadline
		return 0, errors.Join(err, unix.Close(pipe[0]))
	}
	told := os.NewFile(uintptr(pipe[0]), "ready")
	defer func() { _ = told.Close() }() // it is only read

	env := p.environment(listenersVar+"="+strings.Join(names, ","), fmt.Sprintf("%s=%d", readyVar, len(theirs)-1))
	// Not package os/exec: it makes each file a blocking one, and the sockets share that with ours.
	pid, _, err = syscall.StartProcess(p.Path, p.Args, &syscall.ProcAttr{Env: env, Files: theirs}) //nolint:gosec // it is this program
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", p.Path, err)
	}
	last := len(theirs) - 1
	err = unix.Close(int(theirs[last])) // so that its end is noticed
	theirs = theirs[:last]
	return pid, errors.Join(err, await(ctx, pid, told, wait))
}

// duplicate is another descriptor of a socket.
func duplicate(l net.Listener) (uintptr, error) {
	c, ok := l.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("%T has no descriptor", l)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var fd int
	var failed error
	err = raw.Control(func(from uintptr) { fd, failed = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 3) })
	return uintptr(fd), errors.Join(err, failed)
}

// await waits until a process tells that it serves; else it is no more when await returns.
func await(ctx context.Context, pid int, told *os.File, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = told.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var b [1]byte
	_, err := io.ReadFull(told, b[:])
	if err == nil {
		return nil
	}
	proc, found := os.FindProcess(pid)
	if found != nil {
		return errors.Join(err, found)
	}
	_ = proc.Kill() // it may have ended by itself
	state, waited := proc.Wait()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the successor, process %d, did not serve within %v", pid, wait)
	case waited != nil:
		return fmt.Errorf("the successor, process %d: %w", pid, waited)
	}
	return fmt.Errorf("the successor, process %d, ended before it served: %s", pid, state)
}

// Replace makes this process the program as its file is now, with nothing that is open. It returns only to say why it
// could not. From then on SIGUSR2 means nothing to this process: it would end the new program, which can't have said yet
// what is to be done at it.
func (p Program) Replace() error {
	signal.Ignore(syscall.SIGUSR2)                                                           // which a program inherits, until it has a handler
	return fmt.Errorf("start %s: %w", p.Path, syscall.Exec(p.Path, p.Args, p.environment())) //nolint:gosec // it is this program
}
