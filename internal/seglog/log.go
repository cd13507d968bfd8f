package seglog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// A Position is where a record is. Those of later records are greater.
type Position struct {
	Segment uint64 // from 1
	Offset  int64  // bytes, in the segment
}

// Less reports whether a record was appended before another.
func (p Position) Less(q Position) bool {
	return p.Segment < q.Segment || p.Segment == q.Segment && p.Offset < q.Offset
}

// String returns "segment:offset".
func (p Position) String() string { return fmt.Sprintf("%016x:%d", p.Segment, p.Offset) }

// Config is what a Log can be told.
type Config struct {
	FS     vfs.FS
	Folder string // made if it is not there; its parent must be

	SegmentSize int64 // bytes, from 64 KiB to 16 GiB; at least four of the largest record that is appended fit
	BatchSize   int64 // bytes that are written and synced together at most, but for a single record

	// Zero has room filled with zeros ahead of time, so that a sync need not write
	// metadata; it costs that each byte is written twice.
	Zero bool

	// Ahead is how many bytes of zeros are written behind a batch now and then, while batches are small, for the same
	// reason: at most 1 MiB, 0 for none. Twice as many bytes of records are handed to the file system, and fewer go to the disk. Where
	// the file system copies what is written again (btrfs, ZFS), reserved room is no promise for the second time.
	Ahead int64

	// Fault is told when writing has failed: behind offset end of a segment nothing
	// was written, and what is before it was, but should be looked at. It is called
	// with no lock held, and must not call the log.
	Fault func(segment uint64, end int64, err error)

	Log *slog.Logger // nil for none
}

// Defaults returns the configuration that fits most devices.
func Defaults() Config {
	return Config{FS: vfs.OS, SegmentSize: 1 << 30, BatchSize: 4 << 20, Ahead: 256 << 10}
}

// Log is an open log. It is safe for concurrent use.
type Log struct {
	cfg Config
	dir folder
	id  ID

	mu       sync.Mutex
	waiting  []*ticket           // mu; in order of arrival
	writing  bool                // mu; somebody is
	closed   bool                // mu
	segments map[uint64]*segment // mu; those that there are

	// tickets are those that nobody uses, with their channels and the memory of what comes before the body. A ticket is held by
	// who waits in do, who returns no sooner than it was written or has failed, however long a disk takes for that, and by who has it in his
	// batch, who lets go of it when he says so: so nobody holds it once do has returned. Those of doAll do not come from here. They are of
	// one log, as tests in bubbles of their own may not wait at a channel of another one.
	tickets sync.Pool

	// What follows belongs to whoever writes.
	current *segment  // what is appended to; nil before the first record and after a failure
	left    *segment  // where writing has failed, and which was not cut yet; nil if there is none
	next    uint64    // number of the next segment
	spares  []string  // files that can become segments
	making  chan made // what comes of the spare that is being made beside; nil if none is
	iov     [][]byte
	usual   int64 // bytes in a batch, lately
}

// ticket is a record that waits.
type ticket struct {
	front  []byte
	body   []byte
	size   int64
	urgent bool
	seal   bool
	joined bool // to the one before it
	apply  func(Position)
	at     Position
	err    error
	turn   chan bool // true: it is yours to write; false: done
}

// keptFront is how much memory a ticket keeps for what comes before the body, in bytes.
const keptFront = 4096

// ticket returns a ticket that nobody uses.
func (l *Log) ticket() *ticket {
	if t, _ := l.tickets.Get().(*ticket); t != nil {
		return t
	}
	return &ticket{turn: make(chan bool, 1)}
}

// done gives a ticket back.
func (l *Log) done(t *ticket) {
	if cap(t.front) > keptFront {
		t.front = nil
	}
	*t = ticket{front: t.front[:0], turn: t.turn}
	l.tickets.Put(t)
}

// batches are the memory of batches. One is held by who leads, until he has woken all who are in it.
var batches = sync.Pool{New: func() any { return new([]*ticket) }}

// ErrClosed is wrapped by errors of a log that was closed.
var ErrClosed = errors.New("log is closed")

// ID is the identity of the log: random, and of no meaning before its first record.
func (l *Log) ID() ID { return l.id }

// Open opens the log in a folder, or makes one. What a crash has left at its end is
// cut; damage, of which Scan tells, is not its concern. The error is of the kind of
// what the file system said, or errs.Corrupt if a segment is of another log.
func Open(cfg Config) (*Log, error) {
	const op errs.Op = "seglog.open"
	if cfg.FS == nil || cfg.Folder == "" || cfg.SegmentSize < 1<<16 || cfg.SegmentSize > 1<<34 || cfg.BatchSize <= 0 || cfg.Ahead < 0 || cfg.Ahead > maxAhead {
		return nil, errs.E(op, errs.Invalid, fmt.Errorf("bad configuration %+v", cfg))
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{cfg: cfg, dir: folder{cfg.FS, path.Clean(cfg.Folder)}, segments: map[uint64]*segment{}, next: 1}
	if err := l.open(); err != nil {
		err = errors.Join(err, l.closeFiles())
		return nil, errs.E(op, errs.Subject(cfg.Folder), kindOf(err), err)
	}
	return l, nil
}

func (l *Log) open() error {
	if err := l.dir.make(path.Dir(l.dir.path)); err != nil {
		return err
	}
	numbers, spares, err := l.dir.list()
	if err != nil {
		return err
	}
	// A segment that was removed, and is not there for this reader, must not be there after
	// a crash.
	if err := l.dir.fs.SyncDir(l.dir.path); err != nil {
		return err
	}
	l.spares = spares
	if _, err := rand.Read(l.id[:]); err != nil {
		return err
	}
	known := false
	var damaged []*segment
	for _, n := range numbers {
		s, id, err := l.openSegment(n)
		if err != nil {
			return err
		}
		l.segments[n] = s
		l.next = n + 1
		switch {
		case id == nil:
			l.cfg.Log.Error("the beginning of a segment is damaged", slog.String("segment", l.dir.file(segmentName(n))))
			damaged = append(damaged, s)
			continue
		case known && *id != l.id:
			return errs.E(errs.Corrupt, fmt.Errorf("segment %d is of another log", n))
		}
		l.id, known = *id, true
		sealed, err := s.hasSeal()
		switch {
		case err != nil:
		case sealed:
			s.end -= Size(0, 0) // as if it was just cut
		default:
			err = l.cut(s)
		}
		if err != nil {
			return err
		}
	}
	for _, s := range damaged {
		if err := s.guessOrigin(l.id); err != nil {
			return err
		}
	}
	return nil
}

// guessOrigin finds what records of a segment are bound to whose first block is damaged:
// the log, unless its first record, which no body can be in the place of, says otherwise.
func (s *segment) guessOrigin(id ID) error {
	b := make([]byte, fixedSize)
	n, err := s.file.ReadAt(b, firstRecord)
	if err != nil && err != io.EOF {
		return err
	}
	s.origin = origin{segment: s.number}
	if _, err := parseFixed(b[:n], s.origin); err != nil {
		s.origin = id.of(s.number)
	}
	return nil
}

// openSegment opens a segment that is no longer appended to. One whose first block is
// damaged has no identity.
func (l *Log) openSegment(n uint64) (*segment, *ID, error) {
	f, err := l.dir.fs.OpenFile(l.dir.file(segmentName(n)), os.O_RDWR)
	if err != nil {
		return nil, nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	s := &segment{number: n, file: f, end: size, sealed: true}
	id, from, err := readHeader(f, n)
	if errors.Is(err, errNoHeader) {
		return s, nil, nil
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	s.origin = from
	return s, &id, nil
}

// cut finds the end of a segment that nobody has sealed, after a crash or a failure,
// and cuts it there. What is cut off the last one is of no batch that was synced; in
// an earlier one neither, since writing it has failed.
func (l *Log) cut(s *segment) error {
	if err := s.file.Sync(); err != nil {
		return err
	}
	if err := s.file.DropCache(0, 0); err != nil {
		l.cfg.Log.Debug("page cache was not dropped", slog.Any("err", err)) // it is advice
	}
	end, err := tail(s)
	if err != nil {
		return err
	}
	if end != s.end {
		s.end = end
		if err := s.file.Truncate(end); err != nil {
			return err
		}
		if err := s.file.Sync(); err != nil {
			return err
		}
	}
	if err := s.sealCut(); err != nil {
		// There may be no room. It is read through again the next time, as it was now.
		l.cfg.Log.Debug("segment was not sealed", slog.String("segment", l.dir.file(segmentName(s.number))), slog.Any("err", err))
	}
	return nil
}

// sealCut seals a segment that was cut, so that who opens the log next need not read all
// of it. The seal is behind the end: that the end is not behind what somebody remembers
// is how he sees that something was lost.
func (s *segment) sealCut() error {
	seal := (&Record{Kind: sealKind}).seal()
	place(seal, s.origin, s.end)
	if _, err := s.file.WriteAt(seal, s.end); err != nil {
		return err
	}
	return s.file.Sync()
}

// Append writes a record and returns where it is once it is on stable storage. Before
// that, apply is called with the position, unless it is nil: in the order of the log,
// one call at a time, and by whom does not matter; it must not call the log. The
// error is of kind errs.NoSpace where the device is full, errs.BadDevice where it
// fails, and errs.Invalid for a record that can't be one; the record is not in the
// log then, as far as anybody who asks it can see.
func (l *Log) Append(r *Record, apply func(Position)) (Position, error) {
	const op errs.Op = "seglog.append"
	if err := l.check(op, r); err != nil {
		return Position{}, err
	}
	t := l.ticket()
	defer l.done(t)
	t.of(r, apply)
	if err := l.do(t); err != nil {
		return Position{}, errs.E(op, errs.Subject(l.dir.path), kindOf(err), err)
	}
	return t.at, nil
}

// An Item is one of the records that are appended together.
type Item struct {
	Record Record
	Apply  func(Position) // as in Append; nil for none

	// Joined says that the record is in the log only if the one before it is: they are
	// written together and synced with one call, so that a failure is one of both. A crash
	// may leave the first alone. Both are Urgent, or neither; the second has no body that
	// is large.
	Joined bool
}

// AppendAll appends records in their order, with nobody else's between them unless
// they are more than one batch takes; it shares syncs as if each were appended by
// somebody of his own. It returns when the last of them is on stable storage, or
// the first error there is: then some of them may be in the log, and Apply has been
// called for exactly those. It is what Append says otherwise.
func (l *Log) AppendAll(items []Item) error {
	const op errs.Op = "seglog.append"
	tickets, all, fronts := make([]*ticket, len(items)), make([]ticket, len(items)), 0
	for i := range items {
		if err := l.check(op, &items[i].Record); err != nil {
			return err
		}
		fronts += items[i].Record.before()
	}
	room := make([]byte, fronts)
	for i := range items {
		item, t := &items[i], &all[i]
		n := item.Record.before()
		t.front, room = room[:0:n], room[n:]
		t.turn = make(chan bool, 1)
		t.of(&item.Record, item.Apply)
		t.joined = item.Joined && i > 0
		tickets[i] = t
	}
	if err := l.doAll(tickets); err != nil {
		return errs.E(op, errs.Subject(l.dir.path), kindOf(err), err)
	}
	return nil
}

// check returns why a record can't be one.
func (l *Log) check(op errs.Op, r *Record) error {
	if r.Kind > MaxKind || len(r.Head) > MaxHead || len(r.Body) > MaxBody {
		return errs.E(op, errs.Invalid, fmt.Errorf("kind %d, head of %d bytes, body of %d", r.Kind, len(r.Head), len(r.Body)))
	}
	size := Size(len(r.Head), len(r.Body))
	if size > (l.cfg.SegmentSize-firstRecord)/4 {
		return errs.E(op, errs.Invalid, fmt.Errorf("a record of %d bytes is too large for segments of %d", size, l.cfg.SegmentSize))
	}
	return nil
}

// of makes a ticket stand for a record.
func (t *ticket) of(r *Record, apply func(Position)) {
	t.front, t.body, t.size = r.appendSealed(t.front[:0]), r.Body, Size(len(r.Head), len(r.Body))
	t.urgent, t.apply = r.Urgent, apply
}

// doAll has tickets written.
func (l *Log) doAll(tickets []*ticket) error {
	if len(tickets) == 0 {
		return nil
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errs.E(errs.Unavailable, ErrClosed)
	}
	l.waiting = append(l.waiting, tickets...)
	if lead := !l.writing; lead {
		l.lead(nil)
	} else {
		l.mu.Unlock()
	}
	var first error
	for _, t := range tickets {
		if mine := <-t.turn; mine {
			l.mu.Lock()
			l.lead(nil)
		}
		if first == nil {
			first = t.err
		}
	}
	return first
}

// do has a ticket written: by somebody who writes already, or by the caller.
func (l *Log) do(t *ticket) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errs.E(errs.Unavailable, ErrClosed)
	}
	l.waiting = append(l.waiting, t)
	if l.writing {
		l.mu.Unlock()
		if mine := <-t.turn; !mine {
			return t.err
		}
		l.mu.Lock()
	}
	l.lead(t)
	return t.err
}

// lead writes one batch, which begins with the ticket that has waited longest, and
// wakes all whose tickets are in it but the caller's own. It needs mu, and gives it
// back.
func (l *Log) lead(own *ticket) {
	l.writing = true
	l.mu.Unlock()
	runtime.Gosched() // whoever is about to append, and waits for a processor, shares the sync
	l.mu.Lock()
	room := batches.Get().(*[]*ticket) //nolint:forcetypeassert // the pool holds nothing else
	batch := l.take((*room)[:0])
	l.mu.Unlock()
	fault := l.write(batch)
	l.mu.Lock()
	// Who has waited longest writes next.
	if l.writing = len(l.waiting) > 0; l.writing {
		l.waiting[0].turn <- true
	}
	l.mu.Unlock()
	for _, other := range batch {
		if other != own {
			other.turn <- false // has room: he has taken his turn out of it, if that is what he waited for before
		}
	}
	clear(batch)
	*room = batch
	batches.Put(room)
	if fault != nil && l.cfg.Fault != nil {
		l.cfg.Fault(fault.segment, fault.end, fault.err)
	}
}

// maxRecords is how many records one batch has at most: what one call can write.
const maxRecords = 340

// take takes what is written together, and appends it to batch: the first that waits is among it.
func (l *Log) take(batch []*ticket) []*ticket {
	size, n := int64(0), 0
	for n < len(l.waiting) && (n < maxRecords || l.waiting[n].joined) {
		size += l.waiting[n].size
		if n > 0 && !l.waiting[n].joined && (l.waiting[n].seal || size > l.cfg.BatchSize || size > (l.cfg.SegmentSize-firstRecord)/4) {
			break
		}
		n++
	}
	batch = append(batch, l.waiting[:n]...)
	l.waiting = slices.Delete(l.waiting, 0, n)
	return batch
}

// failure is a segment that could not be written.
type failure struct {
	segment uint64
	end     int64
	err     error
}

// write makes a batch durable, or fails it.
func (l *Log) write(batch []*ticket) *failure {
	size := int64(0)
	urgent := true
	for _, t := range batch {
		size += t.size
		urgent = urgent && t.urgent
	}
	broken, err := l.ensure(size, urgent)
	if err != nil && broken == nil && !urgent && noSpace(err) {
		return l.writeUrgent(batch, err)
	}
	if err != nil {
		fail(batch, err)
		return broken
	}
	return l.writeInto(l.current, batch, size)
}

// writeUrgent fails those of a batch that are not urgent, and writes the others.
func (l *Log) writeUrgent(batch []*ticket, err error) *failure {
	var rest []*ticket
	for _, t := range batch {
		if t.urgent {
			rest = append(rest, t)
		} else {
			t.err = err
		}
	}
	if len(rest) == 0 {
		return nil
	}
	return l.write(rest)
}

func fail(batch []*ticket, err error) {
	for _, t := range batch {
		t.err = err
	}
}

// writeInto writes a batch behind what a segment has, and syncs.
func (l *Log) writeInto(s *segment, batch []*ticket, size int64) *failure {
	l.iov = l.iov[:0]
	at := s.end
	for _, t := range batch {
		place(t.front, s.origin, s.end)
		t.at = Position{s.number, at}
		l.iov = append(l.iov, t.front)
		if len(t.body) > 0 {
			l.iov = append(l.iov, t.body)
		}
		if pad := t.size - int64(len(t.front)) - int64(len(t.body)); pad > 0 {
			l.iov = append(l.iov, padding[:pad])
		}
		at += t.size
	}
	l.seen(size)
	zeros := l.zerosBehind(s, at)
	if len(zeros) > 0 {
		l.iov = append(l.iov, zeros)
	}
	_, err := s.file.WriteVec(l.iov, s.end)
	clear(l.iov) // they hold the bodies
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		l.leave(s)
		fail(batch, err)
		return &failure{s.number, s.end, err}
	}
	s.filled = max(s.filled, at+int64(len(zeros)))
	l.mu.Lock()
	s.end += size
	l.mu.Unlock()
	for _, t := range batch {
		if t.apply != nil {
			t.apply(t.at)
		}
	}
	l.ahead()
	return nil
}

// leave gives a segment up after a failure: nothing is appended to it any more.
func (l *Log) leave(s *segment) {
	l.mu.Lock()
	s.sealed = true
	l.mu.Unlock()
	l.current, l.left = nil, s
	if err := l.cutLeft(); err != nil {
		l.cfg.Log.Warn("segment was not cut after a failure", slog.Uint64("segment", s.number), slog.Any("err", err))
	}
}

// cutLeft cuts off, durably, what a batch that failed may have left behind the end of its
// segment: once there is a later segment, a crash must not bring back what whoever reads
// the log has been told is not there. Where it fails it is tried again before the next
// batch; the size changes each time, so that a sync has something to write.
func (l *Log) cutLeft() error {
	s := l.left
	if s == nil {
		return nil
	}
	err := s.file.Truncate(s.end + alignment)
	if err == nil {
		err = s.file.Truncate(s.end)
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err == nil {
		l.left = nil
	}
	return err
}

func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// Close seals the log: what is there is known to be all there was. Records that are
// appended later are refused.
func (l *Log) Close() error {
	const op errs.Op = "seglog.close"
	seal := &ticket{front: (&Record{Kind: sealKind}).seal(), size: Size(0, 0), urgent: true, seal: true}
	err := l.finish(seal)
	if errors.Is(err, ErrClosed) {
		return nil
	}
	if err = errors.Join(err, l.closeFiles()); err != nil {
		return errs.E(op, errs.Subject(l.dir.path), kindOf(err), err)
	}
	return nil
}

// finish lets nobody in any more, waits for those who are, and seals.
func (l *Log) finish(seal *ticket) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	if l.writing {
		seal.turn = make(chan bool, 1)
		l.waiting = append(l.waiting, seal) // the last: nobody comes after it
		l.mu.Unlock()
		if mine := <-seal.turn; !mine {
			return seal.err
		}
		l.mu.Lock()
		l.waiting = nil
	}
	l.writing = true
	l.mu.Unlock()
	if err := l.takeMade(); err != nil {
		l.cfg.Log.Debug("no spare was made", slog.Any("err", err)) // the next start needs none before it writes
	}
	if l.current == nil {
		return nil
	}
	if f := l.sealCurrent(); f != nil {
		return f.err
	}
	return nil
}

func (l *Log) closeFiles() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []error
	for _, s := range l.segments {
		all = append(all, s.file.Close())
	}
	clear(l.segments)
	return errors.Join(all...)
}
