package vfs

import (
	"io"
	"io/fs"
	"slices"
	"syscall"
	"time"
)

// memFile is an open file of a Mem.
type memFile struct {
	mem           *Mem
	node          *node
	name          string
	reads, writes bool // what it was opened for
	direct        bool
	unnamed       bool // made by CreateUnnamed and not linked yet
	closed        bool
}

// usable returns why a call can't go on: the file is closed, or was not opened
// for that, as allowed says.
func (f *memFile) usable(allowed bool) error {
	if f.closed {
		return fs.ErrClosed
	}
	if !allowed {
		return syscall.EBADF
	}
	return nil
}

// aligned returns EINVAL if direct I/O is on and refuses these.
func (f *memFile) aligned(p []byte, off int64) error {
	if f.direct && len(p) > 0 && (off%defaultAlign != 0 || len(p)%defaultAlign != 0 || misaligned(p, defaultAlign) != 0) {
		return syscall.EINVAL
	}
	return nil
}

// ReadAt implements File.
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	if err := f.usable(f.reads); err != nil {
		return 0, pathError("read", f.name, err)
	}
	if off < 0 {
		return 0, pathError("read", f.name, syscall.EINVAL)
	}
	if err := f.aligned(p, off); err != nil {
		return 0, pathError("read", f.name, err)
	}
	n := f.node.file.cache.read(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements File.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) { return f.WriteVec([][]byte{p}, off) }

// WriteVec implements File. Where the room ends it writes what fits.
func (f *memFile) WriteVec(bufs [][]byte, off int64) (int, error) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	n, err := f.write(bufs, off)
	return n, pathError("write", f.name, err)
}

func (f *memFile) write(bufs [][]byte, off int64) (int, error) {
	if err := f.usable(f.writes); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, syscall.EINVAL
	}
	for _, b := range bufs {
		if err := f.aligned(b, off); err != nil {
			return 0, err
		}
	}
	whole := slices.Concat(bufs...)
	if len(whole) == 0 {
		return 0, nil
	}
	if off > memMaxSize-int64(len(whole)) {
		return 0, syscall.EFBIG
	}
	fits := f.charge(off, int64(len(whole)))
	f.node.file.write(whole[:fits], off)
	f.node.modTime = time.Now()
	if fits < len(whole) {
		return fits, syscall.ENOSPC
	}
	return fits, nil
}

// charge takes room for n > 0 bytes at off and returns for how many there was.
func (f *memFile) charge(off, n int64) int {
	file, m := f.node.file, f.mem
	for number := off / pageSize; number <= (off+n-1)/pageSize; number++ {
		if file.cache.pages[number] != nil || file.reserved.has(number) {
			continue
		}
		if (m.used+1)*pageSize > m.capacity {
			return int(max(0, number*pageSize-off))
		}
		m.used++
		file.charged++
	}
	return int(n)
}

// Sync implements File.
func (f *memFile) Sync() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.usable(true); err != nil {
		return pathError("sync", f.name, err)
	}
	f.node.file.sync()
	return nil
}

// failSync does to the file what a failed fsync does.
func (f *memFile) failSync(seed uint64) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.closed {
		return
	}
	f.node.file.failSync(seed)
	f.mem.recharge(f.node.file)
}

// Truncate implements File.
func (f *memFile) Truncate(size int64) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	err := f.usable(true)
	switch {
	case err != nil:
	case !f.writes || size < 0:
		err = syscall.EINVAL
	case size > memMaxSize:
		err = syscall.EFBIG
	default:
		f.mem.truncate(f.node, size)
	}
	return pathError("truncate", f.name, err)
}

// Preallocate implements File. It reserves one range: a second one joins the
// first, with what is between.
func (f *memFile) Preallocate(off, n int64) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	return pathError("preallocate", f.name, f.preallocate(off, n))
}

func (f *memFile) preallocate(off, n int64) error {
	if err := f.usable(f.writes); err != nil {
		return err
	}
	if off < 0 || n <= 0 {
		return syscall.EINVAL
	}
	if off > memMaxSize-n {
		return syscall.EFBIG
	}
	file, m := f.node.file, f.mem
	before := file.reserved
	file.reserved = before.join(span{off / pageSize, (off + n + pageSize - 1) / pageSize})
	if (m.used-file.charged+file.pagesUsed())*pageSize > m.capacity {
		file.reserved = before
		return syscall.ENOSPC
	}
	m.recharge(file)
	return nil
}

// Size implements File.
func (f *memFile) Size() (int64, error) {
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	if err := f.usable(true); err != nil {
		return 0, pathError("stat", f.name, err)
	}
	return f.node.file.cache.size, nil
}

// SetDirect implements File.
func (f *memFile) SetDirect(on bool) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.usable(true); err != nil {
		return pathError("setdirect", f.name, err)
	}
	f.direct = on
	return nil
}

// Align implements File.
func (f *memFile) Align() (mem, off int) { return defaultAlign, defaultAlign }

// DropCache implements File.
func (f *memFile) DropCache(off, n int64) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.usable(true); err != nil {
		return pathError("fadvise", f.name, err)
	}
	f.node.file.dropCache(off, n)
	f.mem.recharge(f.node.file)
	return nil
}

// Close implements File.
func (f *memFile) Close() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.usable(true); err != nil {
		return pathError("close", f.name, err)
	}
	f.closed = true
	f.node.file.opens--
	f.mem.release(f.node.file)
	return nil
}
