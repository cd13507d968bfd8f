package splice

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const flags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK

func open() (*Pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, room) // it is of use as it is
	p := &Pipe{out: fds[0], in: fds[1]}
	p.fill1, p.drain1 = p.fill, p.drain
	return p, nil
}

func (p *Pipe) close() {
	_ = unix.Close(p.out) // nothing is lost by what it says
	_ = unix.Close(p.in)
}

// fill takes what is there. It returns false where that is nothing yet.
func (p *Pipe) fill(fd uintptr) bool {
	for {
		n, err := unix.Splice(int(fd), nil, p.in, nil, p.want, flags)
		switch {
		case err == unix.EINTR: //nolint:errorlint // it is the number itself
			continue
		case err == unix.EAGAIN: //nolint:errorlint // as above
			return false // the pipe is empty, so it is the socket that has nothing
		case err != nil:
			p.err = os.NewSyscallError("splice", err)
		default:
			p.n = int(n)
		}
		return true
	}
}

// drain sends as much as the socket takes without waiting. It returns false where that is nothing yet.
func (p *Pipe) drain(fd uintptr) bool {
	for p.n < p.held {
		n, err := unix.Splice(p.out, nil, int(fd), nil, p.held-p.n, flags)
		switch {
		case err == unix.EINTR: //nolint:errorlint // it is the number itself
		case err == unix.EAGAIN: //nolint:errorlint // as above
			return p.n > 0
		case err != nil:
			p.err = os.NewSyscallError("splice", err)
			return true
		case n == 0:
			p.err = io.ErrNoProgress // it holds something, so there is no such case
			return true
		default:
			p.n += int(n)
		}
	}
	return true
}

// Read takes bytes out of the pipe into memory.
func (p *Pipe) Read(b []byte) (int, error) {
	if p.held == 0 {
		return 0, io.EOF
	}
	for {
		n, err := unix.Read(p.out, b[:min(len(b), p.held)])
		if err == unix.EINTR { //nolint:errorlint // it is the number itself
			continue
		}
		if err != nil {
			return 0, os.NewSyscallError("read", err)
		}
		p.held -= n
		return n, nil
	}
}
