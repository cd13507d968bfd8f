package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
)

const (
	manifestMagic = "MARTIDX2"
	manifestHead  = 76
	manifestRun   = 28
	manifestName  = "manifest"
	manifestNew   = "manifest.new"
	extension     = ".run"
	maxRuns       = 1 << 16 // in one manifest
)

// folder is where the files of an index are.
type folder struct {
	fs   vfs.FS
	path string

	leaving sync.RWMutex
	left    bool // leaving; the folder may be another index's by now
}

// leave has nothing removed any more.
func (d *folder) leave() {
	d.leaving.Lock()
	defer d.leaving.Unlock()
	d.left = true
}

// discard removes a run that is of no use. What stays is removed by the next Open.
func (d *folder) discard(number uint64) {
	d.leaving.RLock()
	defer d.leaving.RUnlock()
	if !d.left {
		_ = d.fs.Remove(d.run(number))
	}
}

func (d *folder) file(name string) string  { return path.Join(d.path, name) }
func (d *folder) run(number uint64) string { return d.file(runName(number)) }
func runName(number uint64) string         { return fmt.Sprintf("%016x%s", number, extension) }
func (d *folder) remove(name string) error { return d.fs.Remove(d.file(name)) }

// runNumber reads the name of a run.
func runNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, extension)
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, ok && err == nil && runName(n) == name
}

// manifest is what an index consists of.
type manifest struct {
	id, log  ID
	depth    int
	next     uint64 // number
	position seglog.Position
	extra    []byte
	runs     []known // newest first
}

func (m *manifest) append(b []byte) []byte {
	le, start := binary.LittleEndian, len(b)
	b = append(append(append(b, manifestMagic...), m.id[:]...), m.log[:]...)
	b = le.AppendUint32(le.AppendUint32(b, uint32(m.depth)), uint32(len(m.runs)))
	b = le.AppendUint64(le.AppendUint64(b, m.next), m.position.Segment)
	b = le.AppendUint32(le.AppendUint64(b, uint64(m.position.Offset)), uint32(len(m.extra)))
	for _, r := range m.runs {
		b = le.AppendUint64(le.AppendUint64(le.AppendUint64(b, r.number), uint64(r.size)), uint64(r.entries))
		b = le.AppendUint32(b, r.sum)
	}
	b = append(b, m.extra...)
	return le.AppendUint32(b, checksum(b[start:]))
}

func (m *manifest) parse(b []byte) error {
	le := binary.LittleEndian
	if len(b) < manifestHead+4 || !hasPrefix(b, manifestMagic) || checksum(b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return damaged("the manifest does not fit its checksum")
	}
	*m = manifest{
		id: ID(b[8:24]), log: ID(b[24:40]), depth: int(le.Uint32(b[40:])), next: le.Uint64(b[48:]),
		position: seglog.Position{Segment: le.Uint64(b[56:]), Offset: int64(le.Uint64(b[64:]))},
	}
	count, extra := int(le.Uint32(b[44:])), int(le.Uint32(b[72:]))
	if count > maxRuns || extra > MaxExtra || len(b) != manifestHead+count*manifestRun+extra+4 || m.depth < minDepth || m.depth > maxDepth || m.position.Offset < 0 {
		return damaged("the manifest contradicts itself")
	}
	b = b[manifestHead:]
	for range count {
		r := known{le.Uint64(b), int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:])), le.Uint32(b[24:])}
		if r.number >= m.next || r.size < 0 || r.entries < 0 {
			return damaged("the manifest contradicts itself")
		}
		m.runs = append(m.runs, r)
		b = b[manifestRun:]
	}
	m.extra = slices.Clone(b[:extra])
	return nil
}

// readManifest reads the manifest of a folder; nil if there is none.
func (d *folder) readManifest() (m *manifest, err error) {
	file, err := d.fs.Open(d.file(manifestName))
	if err != nil {
		if isNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > manifestHead+maxRuns*manifestRun+MaxExtra+4 {
		return nil, damaged("the manifest has %d bytes", size)
	}
	b := make([]byte, size)
	if err := readFull(file, b, 0); err != nil {
		return nil, err
	}
	m = &manifest{}
	return m, m.parse(b)
}

// prepare writes a manifest beside the one that there is. It is durable when that
// returns nil, and so are the names of all runs.
func (d *folder) prepare(m *manifest) (err error) {
	file, err := d.fs.OpenFile(d.file(manifestNew), os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteAt(m.append(nil), 0); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return d.fs.SyncDir(d.path)
}

// replace makes a manifest that was prepared the one that counts, durably. After an
// error either may be.
func (d *folder) replace() error {
	if err := d.fs.Rename(d.file(manifestNew), d.file(manifestName)); err != nil {
		return err
	}
	return d.fs.SyncDir(d.path)
}

// begin makes the folder, durably. One that is there is made anew if nothing of others
// is in it: its name may be one that an earlier sync could not make durable, and no
// later one would.
func (d *folder) begin() error {
	if err := d.sweep(nil, 0); err != nil && !isNotExist(err) {
		return err
	}
	_ = d.fs.Remove(d.path)
	if err := d.fs.Mkdir(d.path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return d.fs.SyncDir(path.Dir(d.path))
}

// settle makes durable what was found, and removes the rest. A manifest that is seen
// need not be on the disk, if this process or one before it could not sync the folder,
// and no later sync would put it there: that takes another rename. Until then what it
// does not name may be all that there is after a crash.
func (d *folder) settle(m *manifest) error {
	if err := d.sweep(m.runs, m.next); err != nil { // those no manifest has named
		return err
	}
	if err := d.prepare(m); err != nil {
		if kindOf(err) == errs.NoSpace {
			// A full device has to be of use, too. What a crash may undo until then is
			// durable with the next checkpoint that finds room.
			return nil
		}
		return err
	}
	if err := d.replace(); err != nil {
		return err
	}
	return d.sweep(m.runs, 0)
}

// sweep removes all files that are not among some runs, but for runs of lower numbers than
// one.
func (d *folder) sweep(runs []known, least uint64) error {
	keep := map[string]bool{manifestName: true}
	for _, r := range runs {
		keep[runName(r.number)] = true
	}
	names, err := d.fs.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range names {
		number, isRun := runNumber(e.Name)
		if keep[e.Name] || e.Dir || isRun && number < least || !isRun && e.Name != manifestNew && !strings.HasPrefix(e.Name, vfs.TempPrefix) {
			continue
		}
		if err := d.remove(e.Name); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes the index in a folder, durably: the next Open finds an empty one. It
// is for who rebuilds it. The index must not be open.
func Remove(fs vfs.FS, at string) error {
	const op errs.Op = "index.remove"
	d := folder{fs: fs, path: path.Clean(at)}
	err := d.remove(manifestName) // first: without it the others mean nothing
	if err != nil && !isNotExist(err) {
		return errs.E(op, errs.Subject(at), kindOf(err), err)
	}
	if _, err := fs.Stat(d.path); isNotExist(err) {
		return nil
	}
	if err := fs.SyncDir(d.path); err != nil {
		return errs.E(op, errs.Subject(at), kindOf(err), err)
	}
	if err := d.sweep(nil, 0); err != nil {
		return errs.E(op, errs.Subject(at), kindOf(err), err)
	}
	return nil
}
