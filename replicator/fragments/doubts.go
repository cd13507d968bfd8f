package fragments

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"martlet/internal/device"
	"martlet/internal/policy"
	"martlet/internal/vfs"
)

// For how long fragments are known of which no commit is known is kept on the device, in <device>/replication/doubts: a node that is
// started again every day would never have known one for a day. It is time in which passes have looked (seen.watch), and not since when: that a node was
// down for a day, or that a clock has jumped, is nothing that is known of a fragment. The file is, numbers little-endian,
//
//	8   "MARTDBT2"
//	4   how many there are
//	42  each, in order: policy of the object 2, hash of the fragment 16, its write 16, for how long in nanoseconds 8
//	4   CRC32C of all that
//
// In "MARTDBT1" it was since when, in nanoseconds since 1970: how much of that somebody has looked nobody knows, so that such a fragment is known
// from now on. The file is there whole or not at all. What is lost with it costs a day, and so does one that is damaged: nothing is given up sooner for it.
const (
	doubtsFolder = "replication"
	doubtsFile   = "doubts"
	doubtsMagic  = "MARTDBT2"
	doubtsMagic1 = "MARTDBT1"
	doubtSize    = 2 + 16 + 16 + 8

	// keepDoubts is how often it is written at most. What was seen since is seen anew by the next process.
	keepDoubts = 10 * time.Minute

	// keepAges is how often it is written where they have but grown older.
	keepAges = time.Hour
)

var errDoubts = errors.New("it is damaged")

// encodeDoubts is the file of some doubts, and for how long they were known.
func encodeDoubts(all map[doubt]time.Duration) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, len(doubtsMagic)+4+len(all)*doubtSize+4)
	b = le.AppendUint32(append(b, doubtsMagic...), uint32(len(all)))
	for _, d := range slices.SortedFunc(maps.Keys(all), doubt.compare) {
		b = append(append(le.AppendUint16(b, uint16(d.policy)), d.hash[:]...), d.write[:]...)
		b = le.AppendUint64(b, uint64(all[d]))
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func (d doubt) compare(o doubt) int {
	return cmp.Or(cmp.Compare(d.policy, o.policy), bytes.Compare(d.hash[:], o.hash[:]), bytes.Compare(d.write[:], o.write[:]))
}

func decodeDoubts(b []byte) (map[doubt]time.Duration, error) {
	le := binary.LittleEndian
	head := len(doubtsMagic) + 4
	if len(b) < head+4 || le.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli) {
		return nil, errDoubts
	}
	magic := string(b[:len(doubtsMagic)])
	n, rest := int64(le.Uint32(b[head-4:])), b[head:len(b)-4]
	if magic != doubtsMagic && magic != doubtsMagic1 || n > mostDoubts || int64(len(rest)) != n*doubtSize {
		return nil, errDoubts
	}
	all := make(map[doubt]time.Duration, n)
	var last doubt
	for i := range n {
		one := rest[i*doubtSize:]
		d := doubt{policy: policy.Index(le.Uint16(one))}
		copy(d.hash[:], one[2:])
		copy(d.write[:], one[18:])
		age := time.Duration(le.Uint64(one[34:]))
		if magic == doubtsMagic1 {
			age = 0
		}
		if i > 0 && last.compare(d) >= 0 || age < 0 {
			return nil, errDoubts
		}
		all[d], last = age, d
	}
	return all, nil
}

// note is where a device has what is kept of its doubts. It is safe for concurrent use.
type note struct {
	device *device.Device
	log    *slog.Logger

	work sync.Mutex // held by the one who reads or writes, for as long as the disk takes; taken before mu

	mu      sync.Mutex // never held while the disk is waited for: who detaches a disk that hangs wants it
	disk    vfs.FS     // that is attached; guarded by mu
	which   uint64     // of those that were; guarded by mu
	read    bool       // of that; guarded by mu
	written time.Time  // when it was last tried; guarded by mu
}

// newNote returns that of a device.
func newNote(d *device.Device, log *slog.Logger) *note {
	n := &note{device: d, log: log, disk: d.FS()}
	d.Follow(func(c device.Change) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.disk, n.read, n.written = c.FS, false, time.Time{}
		n.which++
	})
	return n
}

func (n *note) dir() string { return filepath.Join(n.device.Path(), doubtsFolder) }

// recall has what passes remember take in what is kept on the device, once for each disk that is attached. What both know is known for as long as the one
// that has known it longer says.
func (n *note) recall(ctx context.Context, s *seen) {
	if n == nil {
		return
	}
	n.work.Lock()
	defer n.work.Unlock()
	n.mu.Lock()
	disk, which, read := n.disk, n.which, n.read
	n.mu.Unlock()
	if read {
		return
	}
	b, err := readAll(disk, filepath.Join(n.dir(), doubtsFile))
	var kept map[doubt]time.Duration
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err == nil:
		kept, err = decodeDoubts(b)
	}
	n.mu.Lock()
	if n.which == which {
		n.read = err == nil || errors.Is(err, errDoubts)
	}
	n.mu.Unlock()
	if err != nil {
		n.log.LogAttrs(ctx, slog.LevelWarn, "for how long there are fragments that are not committed is not known: they stay for a day more",
			slog.String("device", n.device.Name()), slog.Any("err", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for d, age := range kept {
		since := s.watched - age
		if known, ok := s.doubts[d]; (!ok || since < known) && (ok || len(s.doubts) < mostDoubts) {
			s.doubts[d] = since
		}
	}
}

// keep writes down what passes remember, if it has changed or is older by a while, what was kept was read, and that was not done just now. Where it can't it says so.
func (n *note) keep(ctx context.Context, s *seen, now time.Time) {
	if n == nil {
		return
	}
	n.work.Lock()
	defer n.work.Unlock()
	n.mu.Lock()
	disk, which, read, passed := n.disk, n.which, n.read, now.Sub(n.written)
	n.mu.Unlock()
	if !read || passed >= 0 && passed < keepDoubts {
		return
	}
	s.mu.Lock()
	changed, all := s.changed || len(s.doubts) > 0 && (passed < 0 || passed >= keepAges), []byte(nil)
	if changed {
		all, s.changed = encodeDoubts(s.ages()), false
	}
	s.mu.Unlock()
	if !changed {
		return
	}
	err := n.write(disk, all)
	n.mu.Lock()
	same := n.which == which
	if same {
		n.written = now
	}
	n.mu.Unlock()
	if err != nil || !same {
		s.mu.Lock()
		s.changed = true
		s.mu.Unlock()
	}
	if err != nil {
		n.log.LogAttrs(ctx, slog.LevelWarn, "for how long there are fragments that are not committed was not kept", slog.String("device", n.device.Name()), slog.Any("err", err))
	}
}

// write puts a file in the place of the one that is there: one of the two is there whole at every moment, and the new one is on stable storage when it returns nil.
func (n *note) write(disk vfs.FS, content []byte) error {
	dir := n.dir()
	if err := disk.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := disk.CreateUnnamed(dir)
	if err != nil {
		return err
	}
	next := filepath.Join(dir, doubtsFile+".new")
	if err := disk.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, f.Close())
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = disk.Link(f, next)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(next, filepath.Join(dir, doubtsFile)); err != nil {
		return err
	}
	return errors.Join(disk.SyncDir(dir), disk.SyncDir(filepath.Dir(dir)))
}

// readAll reads a file that is no longer than such a file may be.
func readAll(disk vfs.FS, name string) (b []byte, err error) {
	f, err := disk.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > int64(len(doubtsMagic)+4+mostDoubts*doubtSize+4) {
		return nil, errDoubts
	}
	b = make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}
