package vfs

import (
	"errors"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"
)

// defaultAlign is enough for direct I/O on any disk in use.
const defaultAlign = 4096

// iovMax is how many buffers one pwritev takes (IOV_MAX).
const iovMax = 1024

// osFile is an open file of the real file system. It holds the descriptor
// itself: os.File would offer each to the poller, in vain for files.
type osFile struct {
	// mu is held shared during calls on fd and alone where the fields below
	// change, so that no call meets a number closed and given out again.
	mu      sync.RWMutex
	fs      osFS // that it was opened in
	fd      int
	name    string
	closed  bool
	direct  bool
	unnamed bool   // made by CreateUnnamed and not linked yet
	temp    string // the temporary name of an unnamed file, if it has one
}

// do calls a system call on the descriptor until no signal interrupts it.
func (f *osFile) do(op string, call func(fd int) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return pathError(op, f.name, fs.ErrClosed)
	}
	return pathError(op, f.name, again(func() error { return call(f.fd) }))
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return 0, pathError("read", f.name, fs.ErrClosed)
	}
	if off < 0 {
		return 0, pathError("read", f.name, unix.EINVAL)
	}
	done := 0
	for done < len(p) {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, pathError("read", f.name, err)
		}
		done += n
		f.fs.tally().got(n)
		// A direct read that stops within a sector has met the end of the file;
		// going on from there would be misaligned.
		if n == 0 || f.direct && done < len(p) && n%sectorSize != 0 {
			return done, io.EOF
		}
	}
	return done, nil
}

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return 0, pathError("write", f.name, fs.ErrClosed)
	}
	n, err := pwrite(f.fd, p, off)
	f.fs.tally().wrote(n)
	return n, pathError("write", f.name, err)
}

func (f *osFile) WriteVec(bufs [][]byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return 0, pathError("write", f.name, fs.ErrClosed)
	}
	n, err := pwritev(f.fd, bufs, off)
	f.fs.tally().wrote(n)
	return n, pathError("write", f.name, err)
}

// pwrite writes all of p, going on after short writes.
func pwrite(fd int, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	done := 0
	for done < len(p) {
		n, err := unix.Pwrite(fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 { // must not happen; do not spin
			return done, io.ErrShortWrite
		}
		done += n
	}
	return done, nil
}

// pwritev writes all of bufs, going on after short writes.
func pwritev(fd int, bufs [][]byte, off int64) (int, error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	done := 0
	for {
		for len(bufs) > 0 && len(bufs[0]) == 0 {
			bufs = bufs[1:]
		}
		if len(bufs) == 0 {
			return done, nil
		}
		n, err := unix.Pwritev(fd, bufs[:min(len(bufs), iovMax)], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 { // must not happen; do not spin
			return done, io.ErrShortWrite
		}
		done += n
		for len(bufs) > 0 && n >= len(bufs[0]) {
			n -= len(bufs[0])
			bufs = bufs[1:]
		}
		if n == 0 {
			continue
		}
		// Stopped inside a buffer: finish that one alone, so that the caller's
		// slices stay as they are.
		rest, err := pwrite(fd, bufs[0][n:], off+int64(done))
		done += rest
		if err != nil {
			return done, err
		}
		bufs = bufs[1:]
	}
}

// Sync makes data and size durable with fdatasync.
func (f *osFile) Sync() error {
	f.fs.tally().synced()
	return f.do("sync", fdatasync)
}

func (f *osFile) Truncate(size int64) error {
	return f.do("truncate", func(fd int) error { return unix.Ftruncate(fd, size) })
}

func (f *osFile) Preallocate(off, n int64) error {
	return f.do("preallocate", func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

func (f *osFile) Size() (int64, error) {
	var st unix.Stat_t
	err := f.do("stat", func(fd int) error { return unix.Fstat(fd, &st) })
	return st.Size, err
}

func (f *osFile) SetDirect(on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return pathError("setdirect", f.name, fs.ErrClosed)
	}
	flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
	if err != nil {
		return pathError("setdirect", f.name, err)
	}
	flags &^= unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(uintptr(f.fd), unix.F_SETFL, flags)
	if err == unix.EINVAL { // how the kernel says that the file system has none
		err = errors.ErrUnsupported
	}
	if err == nil {
		f.direct = on
	}
	return pathError("setdirect", f.name, err)
}

func (f *osFile) Align() (mem, off int) {
	var st unix.Statx_t
	err := f.do("statx", func(fd int) error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	})
	// Kernels before 6.1 don't say; a file without direct I/O says 0.
	if err != nil || st.Mask&unix.STATX_DIOALIGN == 0 || st.Dio_mem_align == 0 || st.Dio_offset_align == 0 {
		return defaultAlign, defaultAlign
	}
	return int(st.Dio_mem_align), int(st.Dio_offset_align)
}

func (f *osFile) DropCache(off, n int64) error {
	return f.do("fadvise", func(fd int) error { return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED) })
}

func (f *osFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	var err error
	if f.unnamed && f.temp != "" {
		err = f.fs.unlink(f.temp, 0)
	}
	if closeErr := closeFD(f.fd); err == nil {
		err = closeErr
	}
	return pathError("close", f.name, err)
}

// link names a file of CreateUnnamed, once.
func (f *osFile) link(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	if !f.unnamed {
		return unix.EINVAL
	}
	var err error
	if f.temp != "" {
		err = f.fs.moveTemp(f.temp, name)
	} else {
		err = f.fs.linkFD(f.fd, name)
	}
	if err == nil {
		f.unnamed, f.name = false, name
	}
	return err
}
