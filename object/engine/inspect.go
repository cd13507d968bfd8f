package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"log/slog"
	"path"
	"slices"
	"strings"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
	"martlet/object/durable"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// Summary is what there is on a device, told without reading any object. What it says of
// one thing is of one moment, and of the whole of several.
type Summary struct {
	Policies    []PolicySummary `json:"policies"` // in order
	Log         LogSummary      `json:"log"`
	Index       IndexSummary    `json:"index"`
	Quarantined int             `json:"quarantined"` // what was found damaged and is kept aside
	Disk        DiskSummary     `json:"disk"`
}

// PolicySummary is what there is of a policy.
type PolicySummary struct {
	Policy  policy.Index `json:"policy"`
	Objects int64        `json:"objects"` // that can be read: no tombstones
	Bytes   int64        `json:"bytes"`   // of their data
	Digest  string       `json:"digest"`  // two devices that have it in common hold the same
}

// LogSummary is what the log takes.
type LogSummary struct {
	ID       string           `json:"id"`
	End      string           `json:"end"` // position behind the last record
	Bytes    int64            `json:"bytes"`
	Live     int64            `json:"live_bytes"` // of records that are in force
	Dead     int64            `json:"dead_bytes"` // all else: what compaction can give back
	Segments []SegmentSummary `json:"segments"`   // in order
}

// SegmentSummary is one file of the log.
type SegmentSummary struct {
	Number    uint64 `json:"number"`
	Bytes     int64  `json:"bytes"`
	Live      int64  `json:"live_bytes"`
	Sealed    bool   `json:"sealed"`    // nothing is appended to it any more
	Compacted int64  `json:"compacted"` // up to that offset what is in force has been written elsewhere
}

// IndexSummary is what the index takes.
type IndexSummary struct {
	Position    string `json:"position"` // in the log: what is behind it is replayed after a crash
	Changes     int    `json:"changes"`  // names that changed since
	ChangeBytes int64  `json:"change_bytes"`
	Runs        int    `json:"runs"`
	Entries     int64  `json:"entries"` // more than there are names, until all runs are merged
	FileBytes   int64  `json:"file_bytes"`
	MemoryBytes int64  `json:"memory_bytes"`
}

// DiskSummary is how full the file system is, by all that is on it.
type DiskSummary struct {
	Total     int64 `json:"total_bytes"`
	Available int64 `json:"available_bytes"`
}

// Summary says what there is on the device. It reads no object and no entry of the index.
func (e *Engine) Summary(ctx context.Context) (Summary, error) {
	const op errs.Op = "engine.summary"
	s := e.now()
	d, err := s.openFor(ctx, op, Location{})
	if err != nil {
		return Summary{}, err
	}
	sum, err := d.summary()
	return sum, s.wrapAll(op, err)
}

func (d *disk) summary() (s Summary, err error) {
	s.Policies = []PolicySummary{}
	for _, set := range d.index.Sets() {
		if set.Part != 0 {
			continue
		}
		all, err := d.index.Digest(set, 0, 0)
		if err != nil {
			return s, err
		}
		s.Policies = append(s.Policies, PolicySummary{set.Policy, all.Objects, all.Bytes, all.Sum.String()})
	}
	id := d.log.ID()
	s.Log.ID, s.Log.End, s.Log.Segments = fmt.Sprintf("%x", id[:]), d.end().String(), []SegmentSummary{}
	for _, f := range d.log.Stat() {
		u := d.usage.get(f.Number)
		one := SegmentSummary{Number: f.Number, Bytes: f.Size, Live: u.live, Sealed: f.Sealed, Compacted: min(u.done, f.Size)}
		s.Log.Segments = append(s.Log.Segments, one)
		s.Log.Bytes += one.Bytes
		s.Log.Live += one.Live
	}
	s.Log.Dead = s.Log.Bytes - s.Log.Live
	x := d.index.Stats()
	s.Index = IndexSummary{
		Position: d.index.Position().String(), Changes: x.Changes, ChangeBytes: x.ChangeBytes,
		Runs: x.Runs, Entries: x.Entries, FileBytes: x.FileBytes, MemoryBytes: x.MemoryBytes,
	}
	if s.Quarantined, err = d.quarantined(); err != nil {
		return s, err
	}
	u, err := d.cfg.FS.Usage(d.root)
	s.Disk = DiskSummary{u.Total, u.Available}
	return s, err
}

// wrapAll is wrap for what is no name's.
func (s *store) wrapAll(op errs.Op, err error) error {
	if err == nil {
		return nil
	}
	return errs.E(op, errs.Subject(s.root), errs.KindOf(s.wrap(op, Location{}, err)), err)
}

// quarantined counts what is kept aside.
func (d *disk) quarantined() (n int, err error) {
	top := d.root + quarantineFolder
	folders, err := d.list(top)
	if err != nil {
		return 0, err
	}
	for _, f := range folders {
		if !f.Dir || f.Name != "objects" && !strings.HasPrefix(f.Name, "objects-") {
			continue
		}
		files, err := d.list(top + "/" + f.Name)
		if err != nil {
			return 0, err
		}
		for _, file := range files {
			if strings.HasSuffix(file.Name, reasonSuffix) {
				n++
			}
		}
	}
	return n, nil
}

// How is how closely something is looked at.
type How struct {
	// All has the whole log searched, for records that are not in force any more, too,
	// and all of the data read that a file of its own has.
	All  bool
	Pace Pace // asked with what is about to be read of the log and of files; may be nil
}

// An Inspection is what is stored under a name, as it is. It holds nothing of what was
// found: whoever looks again may find something else.
type Inspection struct {
	Location
	Entry   index.Entry // of kind index.Absent where there is none
	Records []Found     // those in force; with How.All, all of the hash. In order of the log

	// With How.All: where the log can't be read, so that records may be missing here.
	Damage []Region

	Quarantined []string // files that have what was damaged of it, and why
}

// Found is a record.
type Found struct {
	Place index.Place
	Part  string      // of the state: "data", "meta" or "mark"; "" of one that is not in force
	Kind  record.Kind // 0 where that can't be read
	Head  record.Head // zero where it can't be read
	Body  int64       // bytes
	Err   error       // why it is not whole, or not what the index says
	File  *FoundFile  // of a blob
}

// FoundFile is the file that has the data of a version.
type FoundFile struct {
	Path string
	Size int64 // bytes
	Read bool  // all of its data was, and not just its beginning
	Err  error // why it is not there, or not whole
}

// Region is a part of a segment.
type Region struct {
	From, To seglog.Position // To is zero where it is the rest of the segment
	Err      error           // of the disk; nil where what it gave makes no sense
}

// Whole reports whether everything that is in force could be read.
func (i *Inspection) Whole() bool {
	for _, r := range i.Records {
		if r.Part != "" && (r.Err != nil || r.File != nil && r.File.Err != nil) {
			return false
		}
	}
	return true
}

// Inspect looks at what is stored under a name, damaged or not, and changes nothing: what
// it finds damaged stays where it is. The error is of the device, not of what is stored.
func (e *Engine) Inspect(ctx context.Context, at Location, how How) (Inspection, error) {
	const op errs.Op = "engine.inspect"
	s := e.now()
	d, err := s.openFor(ctx, op, at)
	if err != nil {
		return Inspection{}, err
	}
	i, err := d.inspectSteady(ctx, at, how)
	return i, s.wrap(op, at, err)
}

// inspectSteady looks again where something was written to the name meanwhile.
func (d *disk) inspectSteady(ctx context.Context, at Location, how How) (Inspection, error) {
	for range tries {
		i, err := d.inspect(ctx, at, how)
		if err != nil {
			return i, err
		}
		if now, err := d.index.Get(at.key()); err != nil || now == i.Entry {
			return i, err
		}
	}
	return Inspection{}, errs.E(errs.Unavailable, "it is written to all the time")
}

func (d *disk) inspect(ctx context.Context, at Location, how How) (i Inspection, err error) {
	i.Location = at
	if how.All {
		if err := d.search(ctx, &i, how.Pace); err != nil {
			return i, err
		}
	}
	if i.Entry, err = d.index.Get(at.key()); err != nil { // get would have the index made again
		return i, err
	}
	for n := range i.Records {
		i.Records[n] = d.examine(ctx, at, &i.Entry, i.Records[n].Place, how)
	}
	for _, place := range [...]index.Place{i.Entry.Data, i.Entry.Meta, i.Entry.Mark} {
		known := func(f Found) bool { return f.Place.Position() == place.Position() }
		if !place.IsZero() && !slices.ContainsFunc(i.Records, known) {
			i.Records = append(i.Records, d.examine(ctx, at, &i.Entry, place, how))
		}
	}
	slices.SortFunc(i.Records, func(a, b Found) int {
		return cmp.Or(cmp.Compare(a.Place.Segment, b.Place.Segment), cmp.Compare(a.Place.Offset, b.Place.Offset))
	})
	dir := d.root + quarantineFolder + "/objects" + at.Policy.Suffix()
	files, err := d.list(dir)
	if err != nil {
		return i, err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name, at.Hash.String()+".") {
			i.Quarantined = append(i.Quarantined, path.Join(dir, f.Name))
		}
	}
	slices.Sort(i.Quarantined)
	return i, aborted(ctx)
}

// search finds all records of a name that the log has.
func (d *disk) search(ctx context.Context, i *Inspection, pace Pace) error {
	for _, segment := range d.log.Segments() {
		for e, err := range d.log.Scan(seglog.Position{Segment: segment}) {
			if err != nil {
				i.Damage = append(i.Damage, Region{From: seglog.Position{Segment: segment}, Err: err})
				break
			}
			if e.At.Segment != segment {
				break
			}
			if e.Damage {
				i.Damage = append(i.Damage, Region{From: e.At, To: e.To})
				continue
			}
			if err := pace.wait(ctx, e.Size()); err != nil {
				return err
			}
			if name.Hash(e.Key) != i.Hash {
				continue
			}
			h, err := record.Parse(e.Kind, e.Head)
			if err == nil && (h.Policy != i.Policy || !h.Kind.OfObject()) {
				continue
			}
			i.Records = append(i.Records, Found{Place: index.Place{Segment: segment, Offset: e.At.Offset, Size: e.Size()}})
		}
	}
	return aborted(ctx)
}

// aborted is the error of a call that was given up.
func aborted(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return errs.E(errs.Aborted, context.Cause(ctx))
}

// examine reads a record, which the entry may or may not be made of.
func (d *disk) examine(ctx context.Context, at Location, e *index.Entry, place index.Place, how How) Found {
	f := Found{Place: place}
	p, pos := partData, place.Position()
	switch {
	case is(e.Data, pos):
		f.Part = partData.String()
	case is(e.Meta, pos):
		p, f.Part = partMeta, partMeta.String()
	case is(e.Mark, pos):
		p, f.Part = partMark, partMark.String()
	}
	r, _, err := d.log.Read(pos, place.Size, nil)
	if f.Body = int64(len(r.Body)); err != nil {
		// What the head says is worth something also where the data is damaged.
		head, body, _, headErr := d.log.Head(pos, place.Size, nil)
		if headErr != nil {
			f.Err = err
			return f
		}
		r, f.Body = head, body
	}
	f.Kind = record.Kind(r.Kind)
	h, headErr := record.Parse(r.Kind, r.Head)
	if f.Err = cmp.Or(err, headErr); headErr != nil {
		return f
	}
	f.Head = h
	if f.Err == nil {
		f.Err = f.check(at, e, p, &r)
	}
	if h.Kind == record.Blob {
		f.File = d.examineFile(ctx, at, &h, how)
	}
	return f
}

// check returns why a record is not what it should be.
func (f *Found) check(at Location, e *index.Entry, p part, r *seglog.Record) error {
	gone := f.Part == partData.String() && e.Kind == index.Gone
	switch {
	case f.Part == "" || gone && f.Head.Kind == record.Purge:
		if r.Key != at.Hash || f.Head.Policy != at.Policy {
			return errs.E(errs.Corrupt, "it is the record of something else")
		}
	default:
		if _, err := parse(at, p, r, f.Body, nil); err != nil {
			return err
		}
	}
	if f.Head.Kind == record.Data && crc32.Checksum(r.Body, castagnoli) != f.Head.Object.CRC {
		return errs.E(errs.Corrupt, "its data does not fit the checksum in its head")
	}
	return nil
}

// examineFile looks at the file that a record names.
func (d *disk) examineFile(ctx context.Context, at Location, h *record.Head, how How) *FoundFile {
	f := &FoundFile{Path: d.blobPath(at, h.File)}
	file, err := d.cfg.FS.Open(f.Path)
	if err != nil {
		f.Err = err
		return f
	}
	defer file.Close() //nolint:errcheck // it was only read
	if f.Size, f.Err = file.Size(); f.Err != nil {
		return f
	}
	var r *blob.Reader
	var bh blob.Header
	if how.All {
		r, bh, f.Err = blob.OpenDirect(ctx, file, d.cfg.Buffers)
	} else {
		r, bh, f.Err = blob.Open(ctx, file, d.cfg.Buffers)
	}
	if f.Err != nil {
		return f
	}
	defer r.Close()
	o := &h.Object
	if bh.Kind != blob.Data || bh.Hash != at.Hash || bh.Time != o.Time || bh.MD5 != o.MD5 || bh.Length != o.Length || bh.CRC != o.CRC {
		f.Err = fmt.Errorf("%w: it is the data of another version", blob.ErrCorrupt)
		return f
	}
	if how.All {
		f.Err = readAll(ctx, r, how.Pace)
		f.Read = f.Err == nil
		_ = file.DropCache(0, 0) // advice: nothing depends on it
	}
	return f
}

func readAll(ctx context.Context, r *blob.Reader, pace Pace) error {
	for off := int64(0); ; {
		b, err := r.View(off, blob.MaxLength)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		off += int64(len(b))
		if err := pace.wait(ctx, int64(len(b))); err != nil {
			return err
		}
	}
}

// A View is the store of a device for who looks at it and does not have it: as it would
// be found after a crash at that moment. Nothing is written, and somebody else may have it
// in use. It does not see what is written later; where that removes a file that a View
// is about to read, it finds something missing that is not: look again then.
type View struct{ disk *disk }

// ErrNoIndex is wrapped by errors of Look where the index can't be used as it is, and
// RebuildIndex would help.
var ErrNoIndex = errors.New("the index has to be made again")

// viewChanges is how many names may have changed since the last checkpoint of an index
// that is looked at: they are kept in memory, with some 150 bytes each.
const viewChanges = 4 << 20

// lookBuffers is the memory of a View, in bytes: room to read a file ahead.
const lookBuffers = 16 << 20

// viewTries is how often a View is begun anew where files go while they are opened.
const viewTries = 3

// Look opens a View of the device in a folder. Of the configuration only the file system
// and the log count; that is told what the log has lost. The error wraps ErrNoIndex where the index is damaged, or lacks too much of
// what the log has.
func Look(root string, cfg Config) (*View, error) {
	look := Defaults()
	look.FS, look.Changes, look.Depth = vfs.ReadOnly(cfg.FS), viewChanges, leastDepth
	look.Buffers, look.Log = blob.NewBuffers(lookBuffers), cfg.Log
	if look.Log == nil {
		look.Log = slog.New(slog.DiscardHandler)
	}
	s := newStore(root, look, durable.New(look.FS), nil)
	var err error
	for range viewTries {
		var d *disk
		if d, err = s.openView(); err == nil {
			return &View{d}, nil
		}
		if !notThere(err) && !errs.Is(err, errs.Corrupt) {
			break
		}
	}
	return nil, s.wrapAll("engine.look", err)
}

// leastDepth is that of digests which are not asked for.
const leastDepth = 8

// openView is openDisk for who may not write, so that an index that can't be used can't
// be made again.
func (s *store) openView() (*disk, error) {
	if err := s.refuseOld(); err != nil {
		return nil, err
	}
	d := &disk{store: s}
	d.usage.clear()
	var err error
	d.log, err = seglog.Open(seglog.Config{
		FS: s.cfg.FS, Folder: s.root + logFolder, SegmentSize: s.cfg.SegmentSize, BatchSize: seglog.Defaults().BatchSize,
	})
	if err != nil {
		return nil, err
	}
	d.index, err = index.Open(index.Config{
		FS: s.cfg.FS, Folder: s.root + indexFolder, LogID: index.ID(d.log.ID()), Depth: s.cfg.Depth, Log: s.cfg.Log,
	})
	if err == nil {
		err = d.usage.decode(d.index.Extra())
	}
	if last := d.end(); err == nil && d.index.Position() != (seglog.Position{}) && !d.index.Position().Less(last) {
		err = errs.E(errs.Corrupt, "the index knows more than the log has, which ends at "+last.String())
	}
	if err == nil {
		err = d.replay()
	}
	if err != nil {
		if errs.Is(err, errs.Corrupt) || d.index != nil && d.index.Stats().Changes >= viewChanges {
			err = fmt.Errorf("%w: %w", ErrNoIndex, err)
		}
		if d.index != nil {
			d.index.Close()
		}
		return nil, errors.Join(err, d.log.Close())
	}
	return d, nil
}

// Summary is Engine.Summary.
func (v *View) Summary() (Summary, error) {
	s, err := v.disk.summary()
	return s, v.disk.wrapAll("engine.summary", err)
}

// Inspect is Engine.Inspect. The error wraps ErrNoIndex where the index is damaged.
func (v *View) Inspect(ctx context.Context, at Location, how How) (Inspection, error) {
	i, err := v.disk.inspect(ctx, at, how)
	if errs.Is(err, errs.Corrupt) {
		err = fmt.Errorf("%w: %w", ErrNoIndex, err)
	}
	return i, v.disk.wrap("engine.inspect", at, err)
}

// Hashes yields the hashes of a policy from one to another, both included, under which there is
// anything, or was until it was dropped, in order and from the index alone. An error ends it.
func (v *View) Hashes(p policy.Index, from, to name.Hash) iter.Seq2[name.Hash, error] {
	return func(yield func(name.Hash, error) bool) {
		for item, err := range v.disk.index.Range(p, from, to) {
			if errs.Is(err, errs.Corrupt) {
				err = fmt.Errorf("%w: %w", ErrNoIndex, err)
			}
			if err != nil {
				yield(name.Hash{}, v.disk.wrapAll("engine.hashes", err))
				return
			}
			if !yield(item.Key.Hash, nil) {
				return
			}
		}
	}
}

// Close closes what is open.
func (v *View) Close() error { return v.disk.release() }

// RebuildIndex makes the index of the device in a folder again, from the log alone, and
// says what there is. Nobody may have the device open. The index is durable when it returns
// nil; after an error, or a crash, it is made again when the device is opened.
func RebuildIndex(ctx context.Context, root string, cfg Config) (Summary, error) {
	e := New(root, cfg)
	e.now().fresh = true
	sum, err := Summary{}, e.Checkpoint(ctx)
	if err == nil {
		sum, err = e.Summary(ctx)
	}
	return sum, errors.Join(err, e.now().close(ctx, false))
}
