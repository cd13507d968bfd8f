// Package splice moves what comes from one socket to another within the kernel: a proxy that hands a large body on copies it
// twice otherwise, into its memory and out of it, which is half of the processor time it has for that (see splice(2)).
//
// A Pipe takes the place of a buffer: it is filled from one socket and drained to another, a step at a time, so that each
// side keeps its own deadlines and has its own errors. It is nothing for whoever has to look at what passes, such as a
// storage node, which verifies.
package splice

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

const (
	// room is how many bytes a pipe is to hold. It is what the kernel lets anybody have by default
	// (/proc/sys/fs/pipe-max-size); where it doesn't, pipes are smaller.
	room = 1 << 20

	// most is how many pipes there are at once, those that are kept for later among them. Each is two file descriptors, and all of
	// them have what the kernel lets a user have by default (/proc/sys/fs/pipe-user-pages-soft).
	most = 64
)

// errBusy is Take's where all pipes are in use.
var errBusy = errors.New("all pipes are in use")

// ErrUnable says that the bytes which come next can't be had this way, and none of them was taken: they are to be read.
var ErrUnable = errors.New("not from a socket")

// Source is a body of which a part may come straight from a socket.
type Source interface {
	io.Reader

	// Splice is Read into p, which is empty. It returns ErrUnable where Read has to be called, now or always.
	Splice(p *Pipe) (int, error)
}

// Pipe is a buffer in the kernel. It is for one goroutine at a time.
type Pipe struct {
	out, in int // file descriptors
	held    int // bytes in it

	// What one call of Fill or Drain is about. They are here, and the functions bound once, so that a call allocates nothing.
	want, n       int
	err           error
	fill1, drain1 func(fd uintptr) bool
}

// pool has the pipes.
var pool struct {
	sync.Mutex

	idle []*Pipe // guarded by the mutex
	open int     // how many there are, whether idle or not; guarded by the mutex
}

// Take returns an empty pipe, which Give takes back. An error says that there is none to be had, as where many are in use, or no more
// files can be open: bytes are copied then.
func Take() (*Pipe, error) {
	pool.Lock()
	defer pool.Unlock()
	if last := len(pool.idle) - 1; last >= 0 {
		p := pool.idle[last]
		pool.idle = pool.idle[:last]
		return p, nil
	}
	if pool.open >= most {
		return nil, errBusy
	}
	p, err := open()
	if err == nil {
		pool.open++
	}
	return p, err
}

// Give takes a pipe back. One that is not empty is closed.
func (p *Pipe) Give() {
	pool.Lock()
	defer pool.Unlock()
	if p.held == 0 {
		pool.idle = append(pool.idle, p)
		return
	}
	p.close()
	pool.open--
}

// Len returns how many bytes are in it.
func (p *Pipe) Len() int { return p.held }

// Fill waits until there is something on a socket, and takes up to atMost bytes of it, of which there is one at least.
// It is called on an empty pipe. Deadlines are those of the socket. io.EOF means that the peer sends nothing more.
func (p *Pipe) Fill(from syscall.RawConn, atMost int64) (int, error) {
	p.want, p.n, p.err = int(min(atMost, room)), 0, nil
	if err := from.Read(p.fill1); err != nil {
		return 0, err
	}
	p.held += p.n
	if p.n == 0 && p.err == nil && p.want > 0 {
		return 0, io.EOF
	}
	return p.n, p.err
}

// Drain waits until a socket takes something of what is in the pipe, and returns how many bytes that was, which may be less
// than all. Deadlines are those of the socket.
func (p *Pipe) Drain(to syscall.RawConn) (int, error) {
	if p.held == 0 {
		return 0, nil
	}
	p.n, p.err = 0, nil
	err := to.Write(p.drain1)
	p.held -= p.n
	if err == nil {
		err = p.err
	}
	return p.n, err
}
