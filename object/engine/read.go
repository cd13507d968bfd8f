package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// part is a record that a state is made of.
type part uint8

const (
	partData part = iota // data or tombstone
	partMeta
	partMark
)

// String is how the files of the part's quarantine end.
func (p part) String() string { return [...]string{"data", "meta", "mark"}[p] }

// damaged is the error of a part that is not whole.
type damaged struct {
	part  part
	place index.Place
	file  uint64 // of a blob whose file it is
	err   error
}

func (d *damaged) Error() string { return d.part.String() + ": " + d.err.Error() }
func (d *damaged) Unwrap() error { return d.err }

// errMoved says that a record is not where it was: compaction has moved it meanwhile. Who
// holds the name's lock, or has looked again often enough, knows by it that the log is
// closed, or has lost a segment.
var errMoved = errors.New("the record was moved")

// errGone is why a part is damaged whose segment is lost. It has no kind: that nothing is
// found is no answer.
var errGone = errors.New("the segment that it was in is gone")

// moved is that of a part. Where the index still says the same, its segment is lost.
type moved struct{ damaged }

func (*moved) Is(err error) bool { return err == errMoved }

// heads are buffers for the fronts of records.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// get returns the entry of a name.
func (d *disk) get(at Location) (index.Entry, error) {
	return d.got(d.index.Get(at.key()))
}

// got sees to it that an index that is damaged is made again.
func (d *disk) got(e index.Entry, err error) (index.Entry, error) {
	if errs.Is(err, errs.Corrupt) || errors.Is(err, index.ErrBroken) {
		err = d.indexFailed(err)
	}
	return e, err
}

func (l Location) key() index.Key { return index.Key{Policy: l.Policy, Hash: l.Hash} }

// head reads what the record of a part says.
func (d *disk) head(at Location, p part, place index.Place) (h record.Head, err error) {
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	r, body, into, err := d.log.Head(place.Position(), place.Size, *buf)
	*buf = into
	if err == nil {
		h, err = parse(at, p, &r, body, nil)
	}
	return h, wrongPart(p, place, err)
}

// wrongPart says of an error of the log which part it is of.
func wrongPart(p part, place index.Place, err error) error {
	switch {
	case err == nil:
		return nil
	case errs.Is(err, errs.NotFound):
		return &moved{damaged{part: p, place: place, err: errGone}}
	case errs.Is(err, errs.Corrupt):
		return &damaged{part: p, place: place, err: err}
	}
	return err
}

// parse reads the head of a record and sees to it that it is what the index says. The
// fields of headers are in room, if they fit.
func parse(at Location, p part, r *seglog.Record, body int64, room backend.Header) (record.Head, error) {
	h, err := record.ParseInto(r.Kind, r.Head, room)
	if err != nil {
		return h, err
	}
	fits := false
	switch p {
	case partData:
		fits = h.Kind == record.Data && body == h.Object.Length || (h.Kind == record.Blob || h.Kind == record.Tombstone) && body == 0
	case partMeta:
		fits = h.Kind == record.Meta
	case partMark:
		fits = h.Kind == record.Quarantine
	}
	if !fits || r.Key != at.Hash || h.Policy != at.Policy {
		return h, errs.E(errs.Corrupt, errors.New("it is the record of something else"))
	}
	h.Object.Hash = at.Hash
	switch h.Kind {
	case record.Data, record.Blob:
		h.Object.Kind = blob.Data
	case record.Tombstone:
		h.Object.Kind = blob.Tombstone
	case record.Meta:
		h.Object.Kind = blob.Meta
	}
	return h, nil
}

// load reads what an entry stands for.
func (d *disk) load(at Location, e *index.Entry) (p parts, err error) {
	switch e.Kind {
	case index.Absent, index.Gone:
		return p, nil
	case index.Data, index.Tombstone:
		h, err := d.head(at, partData, e.Data)
		if err != nil {
			return p, err
		}
		p.data = h.Object
	}
	return p, d.loadRest(at, e, &p)
}

// loadRest reads all but the data.
func (d *disk) loadRest(at Location, e *index.Entry, p *parts) error {
	if !e.Meta.IsZero() {
		h, err := d.head(at, partMeta, e.Meta)
		if err != nil {
			return err
		}
		p.meta = h.Object
	}
	if e.Mark.IsZero() {
		return nil
	}
	var mark record.Head
	h, err := d.head(at, partMark, e.Mark)
	var bad *damaged
	switch {
	case err == nil:
		mark = h
	case !errors.As(err, &bad):
		return err
	}
	// All that a damaged mark takes away with it is the name.
	if e.Kind == index.Lost {
		p.lost = blob.Header{Kind: blob.Lost, Hash: at.Hash, Time: e.Times.Data, Name: mark.Object.Name}
	}
	if e.MetaLost {
		p.meta = blob.Header{
			Kind: blob.Lost, Hash: at.Hash, MetaTime: e.Times.Meta, ContentTypeTime: e.Times.ContentType, Name: mark.Object.Name,
		}
	}
	return nil
}

// loadLocked reads what there is for a writer who holds the lock. What is damaged goes to
// quarantine.
func (d *disk) loadLocked(at Location) (e index.Entry, p parts, err error) {
	for range 4 { // at most one damaged record of each part
		if e, err = d.get(at); err != nil {
			return e, p, err
		}
		p, err = d.load(at, &e)
		var bad *damaged
		var gone *moved
		if errors.Is(err, errMoved) && d.gone.Load() {
			return e, p, errs.E(errs.BadDevice, errClosed)
		}
		if errors.As(err, &gone) { // nobody moves it who does not hold the lock
			bad = &gone.damaged
		} else if !errors.As(err, &bad) {
			return e, p, err
		}
		if err := d.isolate(at, &e, bad); err != nil {
			return e, p, err
		}
	}
	return e, p, err
}

// tries is how often a reader looks again where a record has moved, before it takes that
// for an error.
const tries = 100

// Stat is Engine.Stat.
func (s *store) Stat(ctx context.Context, at Location) (State, error) { return s.statBy(ctx, at, nil) }

// statBy is Stat of one of many.
func (s *store) statBy(ctx context.Context, at Location, by *finder) (State, error) {
	const op errs.Op = "engine.stat"
	d, err := s.open(ctx)
	if err != nil {
		return State{}, s.wrap(op, at, err)
	}
	for range tries {
		var e index.Entry
		if e, err = by.get(d, at); err != nil {
			return State{}, s.wrap(op, at, err)
		}
		var p parts
		if p, err = d.load(at, &e); err == nil {
			return p.state(), nil
		}
		if err = d.again(at, err); err != nil {
			break
		}
		if ctx.Err() != nil {
			return State{}, errs.E(op, errs.Aborted, context.Cause(ctx))
		}
		err = errMoved
	}
	return State{}, s.wrap(op, at, err)
}

// again deals with an error of reading what an entry stands for: nil says to look again.
func (d *disk) again(at Location, err error) error {
	var bad *damaged
	var from *moved
	switch {
	case errors.Is(err, errMoved) && d.gone.Load():
		return errs.E(errs.BadDevice, errClosed) // a log that is closed has no segments
	case errors.As(err, &from):
		e, getErr := d.get(at)
		if getErr != nil {
			return getErr
		}
		if e.Data != from.place && e.Meta != from.place && e.Mark != from.place {
			return nil
		}
		return d.again(at, &from.damaged)
	case errors.Is(err, errMoved):
		return nil
	case errors.As(err, &bad):
		if err := d.quarantine(at, bad); err != nil {
			return errs.E(errs.Corrupt, errors.Join(bad, err))
		}
		return nil
	}
	return err
}

// fewFields is how many fields of headers most objects have at most.
const fewFields = 4

// A Reader reads the data of one version, also after it was superseded. It must
// be closed, and is not safe for concurrent use.
type Reader struct {
	disk   *disk
	at     Location
	place  index.Place // of the record with the data
	header blob.Header
	state  State

	// One of a record has been read as a whole, and checked.
	mem  *[]byte
	body []byte
	room [fewFields]backend.Field // for those of header and state

	file     vfs.File
	blobFile uint64 // in the file's name
	blob     *blob.Reader
	dropped  int64 // up to where the page cache has been told to forget
}

// Open is Engine.Open.
func (s *store) Open(ctx context.Context, at Location) (*Reader, error) {
	return s.openBy(ctx, at, nil, false)
}

// openBy is Open of one of many; left is as of OpenLeft.
func (s *store) openBy(ctx context.Context, at Location, by *finder, left bool) (*Reader, error) {
	const op errs.Op = "engine.open"
	d, err := s.open(ctx)
	if err != nil {
		return nil, s.wrap(op, at, err)
	}
	for range tries {
		e, err := by.get(d, at)
		if err != nil {
			return nil, s.wrap(op, at, err)
		}
		if e.Kind != index.Data || e.MetaLost && !left {
			if err := d.nothing(ctx, at); err != nil {
				return nil, err
			}
			continue // an object has come meanwhile
		}
		r, err := d.openReader(ctx, at, &e)
		if err == nil {
			return r, nil
		}
		if err = d.again(at, err); err != nil {
			return nil, s.wrap(op, at, err)
		}
		if ctx.Err() != nil {
			return nil, errs.E(op, errs.Aborted, context.Cause(ctx))
		}
	}
	return nil, s.wrap(op, at, errMoved)
}

// nothing is the error for a name of which no data can be read; nil if there is some now.
func (d *disk) nothing(ctx context.Context, at Location) error {
	const op errs.Op = "engine.open"
	s, err := d.Stat(ctx, at)
	switch {
	case err != nil:
		return err
	case s.Kind == Lost:
		return refuse(op, at, errs.Corrupt, s)
	case s.Kind == Live:
		return nil
	}
	return refuse(op, at, errs.NotFound, s)
}

func (d *disk) openReader(ctx context.Context, at Location, e *index.Entry) (*Reader, error) {
	r := &Reader{disk: d, at: at, place: e.Data}
	var err error
	if e.Blob {
		err = r.openBlob(ctx)
	} else {
		err = r.openRecord(ctx)
	}
	if err == nil {
		p := parts{data: r.header}
		if err = d.loadRest(at, e, &p); err == nil {
			r.state = p.state()
			return r, nil
		}
	}
	return nil, errors.Join(err, r.give())
}

// openRecord reads a record with its body, in one read.
func (r *Reader) openRecord(ctx context.Context) (err error) {
	d, place := r.disk, r.place
	if r.mem, err = d.cfg.Buffers.Take(ctx, place.Size); err != nil {
		return err
	}
	rec, _, err := d.log.Read(place.Position(), place.Size, (*r.mem)[:0])
	if err == nil {
		var h record.Head
		h, err = parse(r.at, partData, &rec, int64(len(rec.Body)), r.room[:0])
		r.header, r.body = h.Object, rec.Body
	}
	return wrongPart(partData, place, err)
}

// openBlob opens the file that a record names.
func (r *Reader) openBlob(ctx context.Context) error {
	d := r.disk
	h, err := d.head(r.at, partData, r.place)
	if err != nil {
		return err
	}
	r.header, r.blobFile = h.Object, h.File
	if r.file, err = d.cfg.FS.Open(d.blobPath(r.at, h.File)); err != nil {
		if notThere(err) && d.current(r.at, r.place) {
			return r.damagedFile(fmt.Errorf("the file of the data is gone: %w", err))
		} else if notThere(err) {
			return errMoved
		}
		return err
	}
	var bh blob.Header
	if h.Object.Length > d.cfg.KeepCache {
		r.blob, bh, err = blob.OpenDirect(ctx, r.file, d.cfg.Buffers)
	} else {
		r.blob, bh, err = blob.Open(ctx, r.file, d.cfg.Buffers)
	}
	if err == nil && (bh.Kind != blob.Data || bh.Hash != r.at.Hash || bh.Time != h.Object.Time || bh.MD5 != h.Object.MD5 ||
		bh.Length != h.Object.Length || bh.CRC != h.Object.CRC) {
		err = fmt.Errorf("%w: it is the data of another version", blob.ErrCorrupt)
	}
	if errors.Is(err, blob.ErrCorrupt) {
		return r.damagedFile(err)
	}
	return err
}

func (r *Reader) damagedFile(err error) *damaged {
	return &damaged{part: partData, place: r.place, file: r.blobFile, err: err}
}

// current reports whether the data of a name is still that at a place.
func (d *disk) current(at Location, place index.Place) bool {
	now, err := d.get(at)
	return err == nil && now.Data == place
}

// Location returns where the object is.
func (r *Reader) Location() Location { return r.at }

// State returns what was under the name when it was opened.
func (r *Reader) State() *State { return &r.state }

// Version returns what was committed with the data: unlike in State nothing later
// has taken the place of any of it.
func (r *Reader) Version() Version {
	h := &r.header
	return Version{Time: h.Time, Name: h.Name, MD5: h.MD5, ContentType: h.ContentType, System: h.System, Meta: h.Meta}
}

// View returns checked bytes from off on: at least one, at most n, valid until
// the next call. n is how much the caller is going to read from there on: a large
// object is read ahead that far. At the end of the data it returns io.EOF. An error of
// kind errs.Corrupt means that the bytes there are damaged; the version is then in
// quarantine.
func (r *Reader) View(off, n int64) ([]byte, error) {
	if r.blob == nil {
		if off < 0 || n <= 0 {
			return nil, fmt.Errorf("a view of %d bytes from %d", n, off)
		}
		if off >= int64(len(r.body)) {
			return nil, io.EOF
		}
		return r.body[off:min(off+n, int64(len(r.body)))], nil
	}
	b, err := r.blob.View(off, n)
	if err == nil {
		r.forget(off)
		return b, nil
	}
	if errors.Is(err, blob.ErrCorrupt) {
		if qErr := r.disk.quarantine(r.at, r.damagedFile(err)); qErr != nil {
			err = fmt.Errorf("%w; and it could not be put into quarantine: %w", err, qErr)
		}
		return nil, errs.E(errs.Op("engine.read"), errs.Subject(r.at.String()), errs.Corrupt, err)
	}
	if err == io.EOF {
		return nil, err
	}
	return nil, r.disk.wrap("engine.read", r.at, err)
}

// forgetEvery is how many bytes are read between two words to the page cache.
const forgetEvery = 8 << 20

// forget tells the page cache that what came before off is not needed, where the
// object is one that it should not keep: the file system may not read directly.
func (r *Reader) forget(off int64) {
	if r.state.Length <= r.disk.cfg.KeepCache || off-r.dropped < forgetEvery {
		return
	}
	_ = r.file.DropCache(blob.PageSize+r.dropped, off-r.dropped) // advice: nothing depends on it
	r.dropped = off
}

// Close gives back what the reader holds. It may be called again.
func (r *Reader) Close() error {
	if r.file != nil && r.state.Length > r.disk.cfg.KeepCache {
		_ = r.file.DropCache(0, 0) // advice: nothing depends on it
	}
	return r.disk.wrap("engine.read", r.at, r.give())
}

func (r *Reader) give() error {
	if r.mem != nil {
		r.disk.cfg.Buffers.Give(r.mem)
		r.mem, r.body = nil, nil
	}
	if r.blob != nil {
		r.blob.Close()
		r.blob = nil
		r.body = nil
	}
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	return f.Close()
}
