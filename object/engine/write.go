package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
	"martlet/object/index"
)

// Terms say under which terms a write is taken.
type Terms struct {
	// Check, where not nil, is asked with the state that the write would replace,
	// while nothing else can change it. Its error is returned as it is, and
	// nothing is written. It must not call the engine.
	Check func(State) error

	// Merge says that the write comes from another replica: it is joined with
	// what is there, whatever the order. Without it a write must be newer than
	// what it replaces, and there must be an object to update.
	Merge bool

	// over is the time of what replaces what is there as a whole: this need not be read where the index
	// says enough of it, and that it is older. It is zero where it has to be read.
	over timestamp.T
}

// Version is what Commit is told of the data it keeps.
type Version struct {
	Time        timestamp.T
	Name        name.Path
	MD5         [16]byte
	ContentType string
	System      backend.Header // fields that stay as long as the data
	Meta        backend.Header // fields that an update replaces
}

// Outcome is what a write has done: the state of the name before it and after.
// With an error only Before says anything, where it was known. Of what a Delete or a Commit
// has replaced that never expires, and that nobody has asked to look at, Before may have the kind and the times alone.
type Outcome struct {
	Before, After State

	// Already says that another replica had brought this very write, before the one who
	// makes it had. Nothing was written, and what was asked for is as durable as if it had been.
	Already bool
}

// change is what a writer works with who holds the lock of a name.
type change struct {
	*disk
	op  errs.Op
	at  Location
	old index.Entry
	p   parts
	o   Outcome

	head record.Head // what is appended, of who writes one record: it lives as long as the rest
}

// begin looks at what there is, and asks the writer's own condition.
func (d *disk) begin(op errs.Op, at Location, terms Terms) (c change, err error) {
	c = change{disk: d, op: op, at: at}
	if d.gone.Load() {
		return c, errs.E(op, errs.BadDevice, errClosed)
	}
	if d.suspect.Load() > 0 {
		return c, errs.E(op, errs.BadDevice, errSuspect)
	}
	if !terms.over.IsZero() && terms.Check == nil && !terms.Merge {
		if c.old, err = d.get(at); err != nil {
			return c, err
		}
		if s, enough := stateOf(&c.old); enough && s.Time.Before(terms.over) {
			c.o.Before = s
			return c, nil
		}
	}
	if c.old, c.p, err = d.loadLocked(at); err != nil {
		return c, err
	}
	c.o.Before = c.p.state()
	if terms.Check != nil {
		err = terms.Check(c.o.Before)
	}
	return c, err
}

// stateOf returns the kind and the times of what an entry stands for, and whether that is enough for who
// replaces it: nothing but a tombstone, or data in a record, of which nothing was lost, and which never expires. Whether that record is
// still whole does not matter to anybody then: it is dead once the replacement is in the log.
func stateOf(e *index.Entry) (s State, enough bool) {
	switch {
	case e.Kind == index.Data:
		s.Kind = Live
	case e.Kind == index.Tombstone:
		s.Kind = Deleted
	case e.Kind != index.Absent && e.Kind != index.Gone:
		return s, false
	}
	s.Time, s.ContentTypeTime, s.MetaTime = e.Times.Data, e.Times.ContentType, e.Times.Meta
	return s, e.Meta.IsZero() && e.Mark.IsZero() && !e.MetaLost && !e.Blob && e.Expires == 0
}

// change has something done about a name that nobody else changes meanwhile.
func (d *disk) change(op errs.Op, at Location, terms Terms, do func(*change) error) (Outcome, error) {
	defer d.lock(at.Hash).Unlock()
	c, err := d.begin(op, at, terms)
	if err == nil {
		err = c.unless(do(&c))
	}
	return c.o, d.wrap(op, at, err)
}

// errAlready says of a write that exactly it is there: a replica that was sent it a moment earlier has
// pushed it here.
var errAlready = errors.New("it is here already")

// unless makes an outcome of errAlready, and returns other errors as they are.
func (c *change) unless(err error) error {
	if !errors.Is(err, errAlready) {
		return err
	}
	c.o.After, c.o.Already = c.o.Before, true
	return nil
}

// put makes a record of the change durable, and the index knows it when it returns nil.
// The parts are those that the record leaves.
func (c *change) put(h *record.Head, body []byte, urgent bool) error {
	after := c.settle(h)
	if err := c.append(c.at, &c.old, h, body, urgent); err != nil {
		return err
	}
	c.o.After = after
	return nil
}

// settle says in a record what depends on what is there, and returns the state after it.
func (c *change) settle(h *record.Head) State {
	h.Policy = c.at.Policy
	h.Alone = alone(&c.old, h)
	after := c.p.state()
	h.Tie = tieOf(&after)
	return after
}

// append appends a record of a name whose entry is old, and tells the index. It needs the
// name's lock.
func (d *disk) append(at Location, old *index.Entry, h *record.Head, body []byte, urgent bool) error {
	room := newHead()
	defer room.done()
	item, err := d.item(at, old, h, body, urgent, room)
	if err != nil {
		return err
	}
	if _, err = d.log.Append(&item.Record, item.Apply); err == nil {
		d.due()
	}
	return err
}

// item is a record of a name whose entry is old, and what tells the index of it. Its head is in room.
func (d *disk) item(at Location, old *index.Entry, h *record.Head, body []byte, urgent bool, room *headRoom) (seglog.Item, error) {
	head, err := room.of(h)
	if err != nil {
		return seglog.Item{}, err
	}
	return seglog.Item{
		Record: seglog.Record{Kind: byte(h.Kind), Key: at.Hash, Head: head, Body: body, Urgent: urgent},
		Apply:  d.applier(at, old, h, seglog.Size(len(head), len(body))),
	}, nil
}

// applier returns what tells the index of a record once it is in the log.
func (d *disk) applier(at Location, old *index.Entry, h *record.Head, size int64) func(seglog.Position) {
	return func(p seglog.Position) {
		now := after(old, h, index.Place{Segment: p.Segment, Offset: p.Offset, Size: size})
		d.apply(p, at.key(), old, &now)
	}
}

// replace puts data or a tombstone in its place if it wins: write appends its record.
func (c *change) replace(h *blob.Header, terms Terms, write func() error) error {
	stale := !c.o.Before.Time.Before(h.Time)
	if terms.Merge {
		meta := c.p.meta.MetaTime
		stale = c.p.data.Kind != 0 && compareData(h, &c.p.data, meta) <= 0 || c.p.dataLost() && compareTimes(h, &c.p.lost, meta) < 0
		if planted.OlderOverNewer { // breaks: the order in which replicas hear of versions does not matter
			stale = c.o.Before.Time == h.Time
		}
	}
	switch {
	case stale && !terms.Merge && c.has(h):
		return errAlready
	case stale:
		return refuse(c.op, c.at, errs.Stale, c.o.Before)
	}
	superseded, err := c.blobOf(c.at, &c.old)
	if err != nil {
		return err
	}
	c.p.data, c.p.lost = *h, blob.Header{}
	if !timestamp.Max(c.p.meta.MetaTime, c.p.meta.ContentTypeTime).After(h.Time.Until()) {
		c.p.meta = blob.Header{}
	}
	if err := write(); err != nil {
		return err
	}
	c.unlink(superseded)
	return nil
}

// has reports whether data or a tombstone is what is there.
func (c *change) has(h *blob.Header) bool {
	return c.p.data.Kind != 0 && !c.p.dataLost() && compareData(h, &c.p.data, c.p.meta.MetaTime) == 0
}

// A Writer takes the data of one object. Nobody sees it before Commit. It must
// be closed, and is not safe for concurrent use.
type Writer struct {
	disk  *disk
	at    Location
	size  int64 // as announced, -1 where it was not
	about int64 // what somebody says of it then
	limit int64 // up to which data stays in memory; there is room for one byte more

	mem *[]byte // data that is gathered; nil where blob has it
	sum gathered

	blob *blob.Writer
	file uint64
	ctx  context.Context // of Create: a file may have to be begun later
	err  error
}

// Create is Engine.Create.
func (s *store) Create(ctx context.Context, at Location, size int64) (*Writer, error) {
	return s.create(ctx, at, size, -1)
}

func (s *store) create(ctx context.Context, at Location, size, about int64) (*Writer, error) {
	const op errs.Op = "engine.create"
	d, err := s.open(ctx)
	if err != nil {
		return nil, s.wrap(op, at, err)
	}
	if err := s.reserve(max(size, 0)); err != nil {
		return nil, s.wrap(op, at, err)
	}
	w := &Writer{disk: d, at: at, size: size, about: about, limit: d.threshold, ctx: ctx}
	if size > blob.MaxLength {
		return nil, s.wrap(op, at, fmt.Errorf("%w: %d bytes", blob.ErrTooMuch, size))
	}
	if max(size, about) > w.limit {
		err = w.beginBlob()
	} else {
		err = w.beginMemory()
	}
	if err != nil {
		return nil, s.wrap(op, at, err)
	}
	return w, nil
}

// beginMemory takes memory to gather data in: no more than what was announced needs.
func (w *Writer) beginMemory() (err error) {
	most := w.limit
	if w.size >= 0 {
		most = w.size
	}
	if w.mem, err = w.disk.cfg.Buffers.Take(w.ctx, most+1); err == nil {
		w.limit = min(w.limit, int64(len(*w.mem))-1)
	}
	return err
}

// beginBlob begins a file, with what is gathered so far.
func (w *Writer) beginBlob() error {
	d := w.disk
	dir := d.blobDir(w.at)
	err := d.names.FolderOnce(d.root+blobFolder, d.root)
	if err == nil {
		err = d.names.FolderOnce(dir, d.root+blobFolder)
	}
	if err == nil {
		w.file = rand.Uint64()
		w.blob, err = w.createBlob(dir)
	}
	if err != nil || w.mem == nil {
		return err
	}
	_, err = w.blob.Write((*w.mem)[:w.sum.length])
	d.cfg.Buffers.Give(w.mem)
	w.mem = nil
	return err
}

func (w *Writer) createBlob(dir string) (*blob.Writer, error) {
	if w.size < 0 && w.about >= 0 {
		return blob.CreateAbout(w.ctx, w.disk.cfg.FS, dir, w.about, w.disk.cfg.Buffers)
	}
	return blob.Create(w.ctx, w.disk.cfg.FS, dir, w.size, w.disk.cfg.Buffers)
}

// Write appends data.
func (w *Writer) Write(p []byte) (int, error) {
	done := 0
	for w.mem != nil && done < len(p) && w.err == nil {
		n := copy((*w.mem)[w.sum.length:w.limit], p[done:])
		if n == 0 {
			w.overflow()
			break
		}
		w.gather(n)
		done += n
	}
	if w.err == nil && w.mem == nil && done < len(p) {
		var n int
		n, w.err = w.blob.Write(p[done:])
		done += n
	}
	return done, w.disk.wrap("engine.write", w.at, w.err)
}

// gather counts n bytes that were put into memory.
func (w *Writer) gather(n int) {
	from := w.sum.length
	w.sum.add((*w.mem)[from : from+int64(n)])
	if w.size >= 0 && w.sum.length > w.size {
		w.err = fmt.Errorf("%w: more than %d bytes", blob.ErrTooMuch, w.size)
	}
}

// overflow turns to a file: what is in memory is as much as a record takes.
func (w *Writer) overflow() {
	if w.size >= 0 && w.sum.length >= w.size {
		w.err = fmt.Errorf("%w: more than %d bytes", blob.ErrTooMuch, w.size)
		return
	}
	w.err = w.beginBlob()
}

// looks is how many bytes come between two looks at the room on the device.
const looks = 256 << 20

// ReadFrom appends all that r has, straight into the buffer that goes to disk.
// An error of r is a *blob.ReadError of no kind but that of its cause.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	if w.mem != nil {
		n, ended := w.gatherFrom(r)
		if total = n; ended || w.err != nil {
			return total, w.disk.wrap("engine.write", w.at, w.err)
		}
	}
	for w.err == nil {
		part := io.LimitedReader{R: r, N: looks}
		var n int64
		n, w.err = w.blob.ReadFrom(&part)
		total += n
		if w.err != nil || part.N > 0 {
			break
		}
		w.err = w.disk.reserve(0)
	}
	return total, w.disk.wrap("engine.write", w.at, w.err)
}

// gatherFrom reads into memory until r ends or there is no room. Room for one byte more
// tells the one from the other.
func (w *Writer) gatherFrom(r io.Reader) (total int64, ended bool) {
	for idle := 0; w.err == nil; {
		n, err := r.Read((*w.mem)[w.sum.length : w.limit+1])
		total += int64(n)
		w.gather(n)
		switch {
		case w.err != nil:
			return total, true
		case w.sum.length > w.limit:
			w.overflow()
			ended = err == io.EOF
			if err != nil && !ended && w.err == nil {
				w.err = &blob.ReadError{Err: err}
			}
			return total, ended
		case err == io.EOF:
			return total, true
		case err != nil:
			w.err = &blob.ReadError{Err: err}
		case n > 0:
			idle = 0
		default:
			if idle++; idle > 100 {
				w.err = &blob.ReadError{Err: io.ErrNoProgress}
			}
		}
	}
	return total, true
}

// Length returns how many bytes were written.
func (w *Writer) Length() int64 {
	if w.blob != nil {
		return w.blob.Length()
	}
	return w.sum.length
}

// CRC returns the CRC32C of what was written.
func (w *Writer) CRC() uint32 {
	if w.blob != nil {
		return w.blob.CRC()
	}
	return w.sum.crc
}

// Commit makes the data the newest version of its name. The error is of kind errs.Stale,
// with a *StateError, where what is there is not older, unless it is this version (Outcome.Already).
//
// When it returns nil the record of the version has been synced, data and all, or, where
// the data has a file of its own, that file, then the folder that holds its name, then
// the record: the object survives any crash, and the loss of the index. When it returns
// an error the name has the old version or, where a sync failed, perhaps the new one,
// whole.
func (w *Writer) Commit(v Version, terms Terms) (Outcome, error) {
	const op errs.Op = "engine.commit"
	h, err := w.seal(v)
	if err != nil {
		return Outcome{}, w.disk.wrap(op, w.at, err)
	}
	terms.over = v.Time
	return w.disk.change(op, w.at, terms, func(c *change) error {
		return c.replace(&h, terms, func() error {
			return w.put(&h, &c.head, func(body []byte) error { return c.put(&c.head, body, false) })
		})
	})
}

// seal ends the data, and returns what there is to say of it.
func (w *Writer) seal(v Version) (blob.Header, error) {
	if w.err == nil && w.size >= 0 && w.size != w.Length() {
		w.err = fmt.Errorf("%d bytes of %d: %w", w.Length(), w.size, io.ErrUnexpectedEOF)
	}
	h := v.header(w.at)
	h.Length, h.CRC = w.Length(), w.CRC()
	if w.err != nil || w.inRecord() {
		return h, w.err
	}
	return h, w.blob.Seal(h)
}

// inRecord reports whether the data goes into the record. So it may where a file was begun, for what somebody has said of
// its length: then the file, which has no name, and nothing in it, is dropped.
func (w *Writer) inRecord() bool {
	return w.blob == nil || w.Length() <= w.limit && w.blob.Unwritten() != nil
}

// body is the data that goes into the record.
func (w *Writer) body() []byte {
	if w.blob != nil {
		return w.blob.Unwritten()
	}
	return (*w.mem)[:w.sum.length]
}

// header is what there is to say of data, but for its length.
func (v *Version) header(at Location) blob.Header {
	return blob.Header{
		Kind: blob.Data, Hash: at.Hash, Time: v.Time, MD5: v.MD5,
		Name: v.Name, ContentType: v.ContentType, System: v.System, Meta: v.Meta,
	}
}

// put gives the data its place: in a record, or in a file that a record names. Write
// makes that record durable, whose head is there by then.
func (w *Writer) put(h *blob.Header, head *record.Head, write func(body []byte) error) error {
	if w.inRecord() {
		*head = record.Head{Kind: record.Data, Object: *h}
		return write(w.body())
	}
	d := w.disk
	if err := d.names.Place(d.blobDir(w.at), d.blobName(w.at, w.file), false, w.blob.Link); err != nil {
		return err
	}
	path := d.blobPath(w.at, w.file)
	if planted.BlobAfterRecord { // breaks: the file has its name before a record has it
		d.nameLater(path)
	}
	*head = record.Head{Kind: record.Blob, File: w.file, Object: *h}
	err := write(nil)
	switch {
	case errs.Is(err, errs.BadDevice): // the record may be on the disk, and be there after a crash
		d.undecided.Store(path, true)
	case err != nil:
		d.unlink(path)
	}
	return err
}

// errWriterClosed is what a writer says that was closed: it is made once, as every write ends so.
var errWriterClosed = errs.E(errs.Op("engine.write"), "closed")

// Close gives back what the writer holds. Data that was not committed is gone.
func (w *Writer) Close() error {
	if w.err == nil {
		w.err = errWriterClosed
	}
	if w.mem != nil {
		w.disk.cfg.Buffers.Give(w.mem)
		w.mem = nil
	}
	if w.blob == nil {
		return nil
	}
	return w.disk.wrap("engine.write", w.at, w.blob.Close())
}

// Delete is Engine.Delete.
func (s *store) Delete(ctx context.Context, at Location, path name.Path, ts timestamp.T, terms Terms) (Outcome, error) {
	const op errs.Op = "engine.delete"
	d, err := s.openFor(ctx, op, at)
	if err != nil {
		return Outcome{}, err
	}
	h := blob.Header{Kind: blob.Tombstone, Hash: at.Hash, Time: ts, Name: path}
	terms.over = ts
	o, err := d.change(op, at, terms, func(c *change) error {
		return c.replace(&h, terms, func() error {
			c.head = record.Head{Kind: record.Tombstone, Object: h}
			return c.put(&c.head, nil, true)
		})
	})
	if planted.TombstoneEarly && err == nil { // breaks: a tombstone stays until the horizon has passed it
		_, err = s.Drop(ctx, at, func(now *State) bool { return now.Kind == Deleted })
	}
	return o, err
}

// openFor is open for a call that was not given up yet.
func (s *store) openFor(ctx context.Context, op errs.Op, at Location) (*disk, error) {
	if ctx.Err() != nil {
		return nil, errs.E(op, errs.Aborted, context.Cause(ctx))
	}
	d, err := s.open(ctx)
	return d, s.wrap(op, at, err)
}

// Change is new metadata, a new content type, or both; the time of what is not
// given is zero.
type Change struct {
	Name            name.Path
	MetaTime        timestamp.T
	Meta            backend.Header
	ContentTypeTime timestamp.T
	ContentType     string
}

// Update is Engine.Update.
func (s *store) Update(ctx context.Context, at Location, u Change, terms Terms) (Outcome, error) {
	const op errs.Op = "engine.update"
	d, err := s.openFor(ctx, op, at)
	if err != nil {
		return Outcome{}, err
	}
	return d.change(op, at, terms, func(c *change) error { return c.update(u, terms) })
}

func (c *change) update(u Change, terms Terms) error {
	if !terms.Merge {
		if err := updatable(c.op, c.at, c.o.Before, u); err != nil {
			if errs.Is(err, errs.Stale) && c.says(&u) {
				return errAlready
			}
			return err
		}
		if planted.PostLost { // breaks: what was answered is on stable storage
			c.o.After = c.o.Before
			return nil
		}
	}
	h := blob.Header{
		Kind: blob.Meta, Hash: c.at.Hash, Name: u.Name,
		MetaTime: u.MetaTime, Meta: u.Meta, ContentTypeTime: u.ContentTypeTime, ContentType: u.ContentType,
	}
	// What is not later than data that was lost is of no use to its replacement.
	old, since := c.p.meta, timestamp.Max(c.p.data.Time.Until(), c.p.lost.Time.Until())
	if old.Kind == blob.Lost {
		if !repairs(&old, &h, since) {
			return refuse(c.op, c.at, errs.Corrupt, c.o.Before)
		}
		old = blob.Header{}
	}
	next, changed := joinMeta(&old, &h, since)
	if !changed {
		return refuse(c.op, c.at, errs.Stale, c.o.Before)
	}
	next.Hash, next.Name = c.at.Hash, u.Name
	c.p.meta = next
	c.head = record.Head{Kind: record.Meta, Object: next}
	return c.put(&c.head, nil, true)
}

// says reports whether an update is what is there, and all that is newer than the data.
func (c *change) says(u *Change) bool {
	m := &c.p.meta
	return m.Kind == blob.Meta && m.MetaTime == u.MetaTime && compareFields(m.Meta, u.Meta) == 0 &&
		(u.ContentType == "" || m.ContentTypeTime == u.ContentTypeTime && m.ContentType == u.ContentType)
}

// updatable returns why a client's update can't be taken.
func updatable(op errs.Op, at Location, s State, c Change) error {
	switch {
	case s.Kind == Lost:
		return refuse(op, at, errs.Corrupt, s)
	case s.Kind != Live:
		return refuse(op, at, errs.NotFound, s)
	case !s.Newest().Before(c.MetaTime):
		return refuse(op, at, errs.Stale, s)
	}
	return nil
}

// Drop is Engine.Drop.
func (s *store) Drop(ctx context.Context, at Location, still func(*State) bool) (bool, error) {
	const op errs.Op = "engine.drop"
	d, err := s.openFor(ctx, op, at)
	if err != nil {
		return false, err
	}
	dropped := false
	_, err = d.change(op, at, Terms{}, func(c *change) (err error) {
		dropped, err = c.drop(still)
		return err
	})
	return dropped, err
}

func (c *change) drop(still func(*State) bool) (bool, error) {
	now := c.o.Before
	if now.Kind == Absent && now.Newest().IsZero() || !still(&now) {
		return false, nil
	}
	file, err := c.blobOf(c.at, &c.old)
	if err != nil {
		return false, err
	}
	c.p = parts{}
	err = c.put(&record.Head{Kind: record.Purge, Object: blob.Header{
		Time: now.Time, ContentTypeTime: now.ContentTypeTime, MetaTime: now.MetaTime,
	}}, nil, true)
	if err != nil {
		return false, err
	}
	c.unlink(file)
	return true, nil
}
