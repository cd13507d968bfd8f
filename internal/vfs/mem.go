package vfs

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Mem is a file system in memory that can lose power: see AfterCrash and the
// rules in the package's comment. It starts as an empty directory "/". It is
// meant for tests; its files may be sparse and large.
type Mem struct {
	mu       sync.RWMutex // of all below, nodes and open files included
	root     *node
	lastIno  uint64
	inodes   int64
	changes  []*change // directory operations that are not durable, in order
	capacity int64     // bytes
	used     int64     // pages
}

const (
	memCapacity = 1 << 40
	memInodes   = 1 << 20
	memMaxSize  = 1 << 44 // bytes in one file
	memDev      = 0x6d656d
)

// NewMem returns an empty file system of 1 TiB.
func NewMem() *Mem {
	m := &Mem{capacity: memCapacity}
	m.root = newDir(m.nextIno())
	return m
}

// SetCapacity sets how many bytes fit, in whole pages of 4 KiB. Writes and
// preallocation past it fail with ENOSPC; a write into what is preallocated, or
// over what is there, does not. What is stored already stays.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// CreateUnnamed implements FS.
func (m *Mem) CreateUnnamed(dir string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.directory(dir); err != nil {
		return nil, pathError("create", dir, err)
	}
	n := newFile(m.nextIno())
	n.file.opens++
	return &memFile{mem: m, node: n, name: path.Join(dir, "(unnamed)"), reads: true, writes: true, unnamed: true}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.OpenFile(name, os.O_RDONLY) }

// OpenFile implements FS.
func (m *Mem) OpenFile(name string, flag int) (File, error) {
	f, err := m.openFile(name, flag)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

func (m *Mem) openFile(name string, flag int) (*memFile, error) {
	access := flag & (os.O_WRONLY | os.O_RDWR)
	if flag&^openFlags != 0 || access == os.O_WRONLY|os.O_RDWR {
		return nil, syscall.EINVAL
	}
	f := &memFile{mem: m, name: name, reads: access != os.O_WRONLY, writes: access != os.O_RDONLY}
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.lookup(name)
	switch {
	case err != nil:
		return nil, err
	case at.node == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case at.node != nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, syscall.EEXIST
	case at.node != nil && at.node.dir != nil:
		return nil, syscall.EISDIR
	case at.node == nil:
		at.node = newFile(m.nextIno())
		at.node.file.links++
		m.change(setting(at))
	case flag&os.O_TRUNC != 0:
		m.truncate(at.node, 0)
	}
	f.node = at.node
	f.node.file.opens++
	return f, nil
}

// Link implements FS.
func (m *Mem) Link(f File, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return pathError("link", name, m.link(f, name))
}

func (m *Mem) link(f File, name string) error {
	file, ok := f.(*memFile)
	if !ok || file.mem != m {
		return syscall.EINVAL
	}
	if file.closed {
		return fs.ErrClosed
	}
	if !file.unnamed {
		return syscall.EINVAL
	}
	at, err := m.lookup(name)
	if err != nil {
		return err
	}
	if at.node != nil {
		return syscall.EEXIST
	}
	file.node.file.links++
	m.change(setting{at.entry, file.node})
	file.unnamed, file.name = false, name
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return pathError("rename", oldName, m.rename(oldName, newName))
}

func (m *Mem) rename(oldName, newName string) error {
	from, err := m.lookup(oldName)
	if err != nil {
		return err
	}
	to, err := m.lookup(newName)
	if err != nil {
		return err
	}
	inside := func(name, dir string) bool { return strings.HasPrefix(clean(name), clean(dir)+"/") }
	switch {
	case from.node == m.root || to.node == m.root:
		return syscall.EBUSY
	case from.node == nil:
		return syscall.ENOENT
	case from.node == to.node:
		return nil
	case from.node.dir != nil && inside(newName, oldName):
		return syscall.EINVAL
	case inside(oldName, newName): // newName is a directory and has something in it
		return syscall.ENOTEMPTY
	}
	if to.node != nil {
		if err := replaceable(from.node, to.node); err != nil {
			return err
		}
	}
	m.change(setting{from.entry, nil}, setting{to.entry, from.node})
	m.unlinked(to.node)
	return nil
}

// replaceable returns why a rename of from can't replace to.
func replaceable(from, to *node) error {
	switch {
	case from.dir == nil && to.dir != nil:
		return syscall.EISDIR
	case from.dir != nil && to.dir == nil:
		return syscall.ENOTDIR
	case to.dir != nil && len(to.dir.entries) > 0:
		return syscall.ENOTEMPTY
	}
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.lookup(name)
	switch {
	case err != nil:
	case at.node == nil:
		err = syscall.ENOENT
	case at.node == m.root:
		err = syscall.EBUSY
	case at.node.dir != nil && len(at.node.dir.entries) > 0:
		err = syscall.ENOTEMPTY
	default:
		m.change(setting{at.entry, nil})
		m.unlinked(at.node)
	}
	return pathError("remove", name, err)
}

// Mkdir implements FS.
func (m *Mem) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.lookup(name)
	switch {
	case err != nil:
	case at.node != nil:
		err = syscall.EEXIST
	default:
		m.change(setting{at.entry, newDir(m.nextIno())})
	}
	return pathError("mkdir", name, err)
}

// ReadDir implements FS.
func (m *Mem) ReadDir(name string) ([]Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	d, err := m.directory(name)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	entries := make([]Entry, 0, len(d.dir.entries))
	for _, key := range slices.Sorted(maps.Keys(d.dir.entries)) {
		entries = append(entries, Entry{Name: key, Dir: d.dir.entries[key].dir != nil})
	}
	return entries, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.directory(name)
	if err != nil {
		return pathError("syncdir", name, err)
	}
	m.syncDir(d)
	return nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	at, err := m.lookup(name)
	if err == nil && at.node == nil {
		err = syscall.ENOENT
	}
	if err != nil {
		return Info{}, pathError("stat", name, err)
	}
	info := Info{Dir: at.node.dir != nil, ModTime: at.node.modTime, Dev: memDev, Ino: at.node.ino}
	if at.node.file != nil {
		info.Size = at.node.file.cache.size
	}
	return info, nil
}

// Usage implements FS.
func (m *Mem) Usage(name string) (Usage, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	at, err := m.lookup(name)
	if err == nil && at.node == nil {
		err = syscall.ENOENT
	}
	if err != nil {
		return Usage{}, pathError("statfs", name, err)
	}
	free := max(0, m.capacity-m.used*pageSize)
	return Usage{
		Total: m.capacity, Free: free, Available: free,
		Files: memInodes, FilesFree: max(0, memInodes-m.inodes),
	}, nil
}

// place is where a name leads: the entry and what is there, nil if nothing.
type place struct {
	entry
	node *node
}

func clean(name string) string { return path.Clean("/" + name) }

// lookup finds the place of a name, whose directory must exist. The place of
// "/" has no directory and nothing may be put there.
func (m *Mem) lookup(name string) (place, error) {
	at := place{node: m.root}
	if name == "" {
		return place{}, syscall.ENOENT
	}
	rest := clean(name)[1:]
	for rest != "" {
		var elem string
		elem, rest, _ = strings.Cut(rest, "/")
		if at.node == nil {
			return place{}, syscall.ENOENT
		}
		if at.node.dir == nil {
			return place{}, syscall.ENOTDIR
		}
		if len(elem) > 255 {
			return place{}, syscall.ENAMETOOLONG
		}
		at = place{entry{at.node, elem}, at.node.dir.entries[elem]}
	}
	return at, nil
}

// directory finds a directory.
func (m *Mem) directory(name string) (*node, error) {
	at, err := m.lookup(name)
	switch {
	case err != nil:
		return nil, err
	case at.node == nil:
		return nil, syscall.ENOENT
	case at.node.dir == nil:
		return nil, syscall.ENOTDIR
	}
	return at.node, nil
}

func (m *Mem) nextIno() uint64 {
	m.lastIno++
	m.inodes++
	return m.lastIno
}

// unlinked notes that n, if any, lost its name.
func (m *Mem) unlinked(n *node) {
	switch {
	case n == nil:
	case n.dir != nil:
		m.inodes--
	default:
		n.file.links--
		m.release(n.file)
	}
}

// release gives back the room of a file that nobody can reach any more.
func (m *Mem) release(f *file) {
	if f.links == 0 && f.opens == 0 {
		m.used -= f.charged
		f.charged = 0
		m.inodes--
	}
}

// recharge counts the room of a file anew.
func (m *Mem) recharge(f *file) {
	used := f.pagesUsed()
	m.used += used - f.charged
	f.charged = used
}

// truncate sets the size of a file.
func (m *Mem) truncate(n *node, size int64) {
	n.file.truncate(size)
	n.modTime = time.Now()
	m.recharge(n.file)
}
