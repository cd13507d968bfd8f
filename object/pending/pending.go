// Package pending is the queue of one device for updates of container listings
// that could not be delivered in time: one small file for each object.
//
// It promises that an update is on stable storage, with its name, when Put has
// returned nil, and that of several updates for one object the newest stays. It
// leaves delivering them to others.
//
// A file is <device>/async_pending[-N]/<2 hex>/<hash>: eight bytes "martpend", a
// byte of version (1), the CRC32C and the length of the rest as four bytes each,
// little endian, and the update as JSON. The checksum leaves out the version. Those of
// later versions are to be as long and in the same place, and of the byte of version and
// the rest: so which of the two is right says whether a file is of a later version, and a
// bit of that byte which has changed is not taken for one.
package pending

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/durable"
)

// Update is one update of a container listing.
type Update struct {
	Policy policy.Index // of the object: which queue it is in
	Hash   name.Hash    // of the object

	Method string    // PUT or DELETE
	Path   name.Path // of the object
	Header backend.Header

	// The times of the object that the update tells of. On one device none of
	// them ever goes back, but for an expiry that is void (timestamp.Packed.CompareData).
	Data, ContentType, Meta timestamp.T

	// Confirmed is the replicas of the container that have the update, as the
	// names of their places: see Place.
	Confirmed []string
}

// Place names a replica of a container.
func Place(addr, device string) string { return addr + "/" + device }

// newer reports whether u tells of a later state than v.
func (u *Update) newer(v *Update) bool {
	if c := u.times().CompareData(v.times()); c != 0 {
		return c > 0
	}
	if c := u.Meta.Compare(v.Meta); c != 0 {
		return c > 0
	}
	return u.ContentType.After(v.ContentType)
}

func (u *Update) times() timestamp.Packed {
	return timestamp.Packed{Data: u.Data, ContentType: u.ContentType, Meta: u.Meta}
}

// Happened returns when the last of what the update tells of took place.
func (u *Update) Happened() timestamp.T { return u.times().Happened() }

func (u *Update) same(v *Update) bool { return !u.newer(v) && !v.newer(u) }

const (
	magic   = "martpend\x01"
	head    = len(magic) + 8
	maxSize = 512 << 10 // bytes of JSON
)

// errLater is the error for an update that a later release has queued: it stays for that one, and nothing takes its place.
var errLater = errors.New("the queued update is of a later format")

// errFormat is the error for a file that is no whole update.
var errFormat = errors.New("not a whole update")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// content is an update in a file. Names and values are bytes there: they need
// not be text that JSON can hold.
type content struct {
	Method    string      `json:"method"`
	Path      [3][]byte   `json:"path"`
	Header    [][2][]byte `json:"header"`
	Data      timestamp.T `json:"data"`
	Type      timestamp.T `json:"type"`
	Meta      timestamp.T `json:"meta"`
	Confirmed []string    `json:"confirmed,omitempty"`
}

func encode(u *Update) ([]byte, error) {
	c := content{
		Method: u.Method, Data: u.Data, Type: u.ContentType, Meta: u.Meta, Confirmed: u.Confirmed,
		Path: [3][]byte{[]byte(u.Path.Account), []byte(u.Path.Container), []byte(u.Path.Object)},
	}
	for _, f := range u.Header {
		c.Header = append(c.Header, [2][]byte{[]byte(f.Name), []byte(f.Value)})
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if len(body) > maxSize {
		return nil, errs.E(errs.TooLarge, fmt.Errorf("update of %d bytes", len(body)))
	}
	b := append(make([]byte, 0, head+len(body)), magic...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...), nil
}

// plain is how long the magic is without the version, which is behind it.
const plain = len(magic) - 1

// open returns what is in a file that is whole. A version is believed only where a checksum has it: that of version 1 has not, and so
// what has the checksum of version 1 is of version 1, whatever the byte is by now.
func open(b []byte) (body []byte, err error) {
	if len(b) < head || string(b[:plain]) != magic[:plain] {
		return nil, errFormat
	}
	version, sum, body := b[plain:plain+1], binary.LittleEndian.Uint32(b[head-8:]), b[head:]
	switch {
	case uint64(binary.LittleEndian.Uint32(b[head-4:])) != uint64(len(body)):
		return nil, errFormat
	case sum == crc32.Checksum(body, castagnoli):
		return body, nil
	case version[0] > magic[plain] && sum == crc32.Update(crc32.Checksum(version, castagnoli), castagnoli, body):
		return nil, fmt.Errorf("%w: %d", errLater, version[0])
	}
	return nil, errFormat
}

func decode(b []byte) (Update, error) {
	body, err := open(b)
	if err != nil {
		return Update{}, err
	}
	var c content
	if err := json.Unmarshal(body, &c); err != nil {
		return Update{}, fmt.Errorf("%w: %w", errFormat, err)
	}
	u := Update{
		Method: c.Method, Data: c.Data, ContentType: c.Type, Meta: c.Meta, Confirmed: c.Confirmed,
		Path: name.Path{Account: string(c.Path[0]), Container: string(c.Path[1]), Object: string(c.Path[2])},
	}
	for _, f := range c.Header {
		u.Header = append(u.Header, backend.Field{Name: string(f[0]), Value: string(f[1])})
	}
	return u, nil
}

// A Queue is that of one device. It is safe for concurrent use. A call works from
// its beginning to its end with the file system that the device had when it began.
type Queue struct {
	current atomic.Pointer[queue]

	mu    sync.Mutex
	disks map[string]*queue // the latest of each disk that was attached; guarded by mu
}

// queue is a Queue over one file system.
type queue struct {
	fs    vfs.FS
	root  string
	names *durable.Names
	locks *[64]sync.Mutex // by hash: held while a file is looked at and changed
}

// New returns the queue in a device's folder. It does nothing to the disk.
func New(fs vfs.FS, root string) *Queue {
	first := &queue{fs: fs, root: root, names: durable.New(fs), locks: new([64]sync.Mutex)}
	q := &Queue{disks: map[string]*queue{"": first}}
	q.current.Store(first)
	return q
}

// Follow is told what has become of the device: see device.Device.Follow.
func (q *Queue) Follow(c device.Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := &queue{fs: c.FS, root: q.current.Load().root, names: durable.New(c.FS), locks: new([64]sync.Mutex)}
	if old := q.disks[c.Disk]; old != nil && !c.Fresh {
		next.names, next.locks = old.names.Over(c.FS), old.locks // calls may be under way there
	}
	q.disks[c.Disk] = next
	q.current.Store(next)
}

// Put queues an update in the place of an older one for its object; where a
// newer one is there, it stays. When Put returns nil one of them is on stable
// storage: its content synced, then its name and the directories above.
func (q *Queue) Put(ctx context.Context, u Update) error {
	return q.current.Load().put(ctx, u)
}

// Confirm keeps the longer list of those who have an update, unless a newer one
// has taken its place. Should that be lost they are only told again.
func (q *Queue) Confirm(ctx context.Context, u Update) error {
	return q.current.Load().confirm(ctx, u)
}

// Done removes an update, unless a newer one has taken its place. Should the
// removal be lost in a crash the update is only delivered again.
func (q *Queue) Done(ctx context.Context, u Update) error {
	return q.current.Load().done(ctx, u)
}

// All yields what is queued, folder by folder; what comes or goes meanwhile may
// be there or not. A file that is no whole update is moved to the quarantine of
// the device and yielded as an error of kind errs.Corrupt; the walk goes on. One that
// can't be read, or not be moved, stays, and the error is of another kind. Of a
// device that can't be used nothing is yielded.
func (q *Queue) All(ctx context.Context) iter.Seq2[Update, error] {
	return q.current.Load().all(ctx)
}

func (q *queue) top(p policy.Index) string { return q.root + "/async_pending" + p.Suffix() }

func (q *queue) dir(u *Update) string { return q.top(u.Policy) + "/" + u.Hash.String()[:2] }

func (q *queue) lock(h name.Hash) *sync.Mutex {
	l := &q.locks[h[15]%64]
	l.Lock()
	return l
}

func (q *queue) put(ctx context.Context, u Update) error {
	const op errs.Op = "pending.put"
	if err := ctx.Err(); err != nil {
		return errs.E(op, errs.Aborted, err)
	}
	defer q.lock(u.Hash).Unlock()
	old, err := q.read(&u)
	found := !errors.Is(err, fs.ErrNotExist)
	if err != nil && found && !errors.Is(err, errFormat) {
		return q.wrap(op, err)
	}
	if err == nil && old.newer(&u) {
		// Whoever put it may have been killed before its name was durable.
		if err = q.folders(&u); err == nil {
			err = q.names.Settle(q.dir(&u))
		}
		return q.wrap(op, err)
	}
	return q.wrap(op, q.write(&u, found))
}

// folders makes the folders of an update durable.
func (q *queue) folders(u *Update) error {
	if err := q.names.FolderOnce(q.top(u.Policy), q.root); err != nil {
		return err
	}
	return q.names.FolderOnce(q.dir(u), q.top(u.Policy))
}

func (q *queue) write(u *Update, taken bool) error {
	content, err := encode(u)
	if err != nil {
		return err
	}
	dir := q.dir(u)
	if err := q.folders(u); err != nil {
		return err
	}
	f, err := q.fs.CreateUnnamed(dir)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = q.names.Place(dir, u.Hash.String(), taken, func(path string) error { return q.fs.Link(f, path) })
	}
	return errors.Join(err, f.Close())
}

// read reads what is queued for the object of u.
func (q *queue) read(u *Update) (Update, error) {
	f, err := q.fs.Open(q.dir(u) + "/" + u.Hash.String())
	if err != nil {
		return Update{}, err
	}
	got, err := readFile(f)
	got.Policy, got.Hash = u.Policy, u.Hash
	return got, errors.Join(err, f.Close())
}

func readFile(f vfs.File) (Update, error) {
	size, err := f.Size()
	if err != nil {
		return Update{}, err
	}
	if size > int64(head+maxSize) {
		return Update{}, errFormat
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return Update{}, err
	} else if n < len(b) {
		return Update{}, errFormat
	}
	return decode(b)
}

func (q *queue) confirm(ctx context.Context, u Update) error {
	return q.change(ctx, "pending.confirm", u, func() error { return q.write(&u, true) })
}

func (q *queue) done(ctx context.Context, u Update) error {
	return q.change(ctx, "pending.done", u, func() error { return q.fs.Remove(q.dir(&u) + "/" + u.Hash.String()) })
}

func (q *queue) change(ctx context.Context, op errs.Op, u Update, change func() error) error {
	if err := ctx.Err(); err != nil {
		return errs.E(op, errs.Aborted, err)
	}
	defer q.lock(u.Hash).Unlock()
	now, err := q.read(&u)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !now.same(&u) {
		return nil
	}
	if err == nil {
		err = change()
	}
	return q.wrap(op, err)
}

func (q *queue) all(ctx context.Context) iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		if q.fs == vfs.Absent {
			return
		}
		tops, err := q.list(q.root)
		if errors.Is(err, syscall.ENODEV) {
			return // it has gone, and the queue is about to hear of it
		}
		if err != nil {
			yield(Update{}, q.wrap("pending.all", err))
			return
		}
		for _, top := range tops {
			p, ok := policyOf(top.Name)
			if ok && top.Dir && !q.policy(ctx, p, yield) {
				return
			}
		}
	}
}

func policyOf(dir string) (policy.Index, bool) {
	rest, ok := strings.CutPrefix(dir, "async_pending")
	if !ok || rest == "" {
		return 0, ok
	}
	i, err := policy.ParseIndex(strings.TrimPrefix(rest, "-"))
	return i, err == nil && i.Suffix() == rest
}

func (q *queue) policy(ctx context.Context, p policy.Index, yield func(Update, error) bool) bool {
	dirs, err := q.list(q.top(p))
	if err != nil {
		return yield(Update{}, q.wrap("pending.all", err))
	}
	for _, dir := range dirs {
		files, err := q.list(q.top(p) + "/" + dir.Name)
		if err != nil {
			return yield(Update{}, q.wrap("pending.all", err))
		}
		for _, file := range files {
			h, err := name.ParseHash(file.Name)
			if err != nil {
				continue // on its way to its name, or not ours
			}
			if ctx.Err() != nil {
				return false
			}
			if planted.QueueLostAtRestart && q.isOlder(q.top(p)+"/"+dir.Name+"/"+file.Name) { // breaks: what is queued is delivered
				continue
			}
			u, err := q.read(&Update{Policy: p, Hash: h})
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if errors.Is(err, errFormat) {
				if failed := q.isolate(&u); failed != nil {
					err = errors.Join(err, failed) // it stays where it is
				} else {
					err = errs.E(errs.Corrupt, err)
				}
			}
			if !yield(u, q.wrap("pending.all", err)) {
				return false
			}
		}
	}
	return true
}

// isOlder reports whether a file is from before the process began: what planted.QueueLostAtRestart passes over.
func (q *queue) isOlder(path string) bool {
	info, err := q.fs.Stat(path)
	return err == nil && info.ModTime.Before(planted.Began())
}

// isolate moves a damaged file away.
func (q *queue) isolate(u *Update) error {
	defer q.lock(u.Hash).Unlock()
	if _, err := q.read(u); !errors.Is(err, errFormat) {
		return nil // replaced meanwhile
	}
	top := q.root + "/quarantined"
	into := top + "/async_pending" + u.Policy.Suffix()
	if err := errors.Join(q.names.Folder(top, q.root), q.names.Folder(into, top)); err != nil {
		return err
	}
	if err := q.fs.Rename(q.dir(u)+"/"+u.Hash.String(), into+"/"+u.Hash.String()); err != nil {
		return err
	}
	return errors.Join(q.names.Sync(into), q.names.Sync(q.dir(u)))
}

func (q *queue) list(dir string) ([]vfs.Entry, error) {
	list, err := q.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

// wrap says where an error was; what has no kind is the device's fault.
func (q *queue) wrap(op errs.Op, err error) error {
	if err == nil {
		return nil
	}
	kind := errs.KindOf(err)
	switch {
	case kind != errs.Other:
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind = errs.NoSpace
	default:
		kind = errs.BadDevice
	}
	return errs.E(op, errs.Subject(q.root), kind, err)
}
