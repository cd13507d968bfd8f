package seglog

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"

	"martlet/internal/errs"
)

// ensure sees to it that there is a segment with room for that many bytes. A failure
// is of the one that was full: with it there is no room, either.
func (l *Log) ensure(size int64, urgent bool) (*failure, error) {
	if l.current != nil && l.current.end+size+Size(0, 0) <= l.cfg.SegmentSize {
		return nil, nil
	}
	if err := l.provide(urgent); err != nil {
		return nil, err
	}
	if l.current != nil {
		if f := l.sealCurrent(); f != nil {
			return f, f.err
		}
	}
	if err := l.cutLeft(); err != nil {
		return nil, err
	}
	spare := l.spares[0]
	s, err := l.dir.begin(spare, l.next, l.id)
	// Whether it has the number or not, no other gets it.
	l.spares = l.spares[1:]
	l.next++
	if err != nil {
		return nil, err
	}
	l.fillable(s)
	l.mu.Lock()
	l.segments[s.number] = s
	l.mu.Unlock()
	l.current = s
	return nil, nil
}

// provide sees to it that there is a spare to be used, and, unless that is for what
// is urgent, one beside it.
func (l *Log) provide(urgent bool) error {
	for len(l.spares) < 2 {
		before := l.making != nil // what came of it may be long ago
		if !before {
			l.make()
		}
		err := l.takeMade()
		if err == nil || before {
			continue
		}
		if urgent && len(l.spares) > 0 && noSpace(err) {
			return nil
		}
		return err
	}
	return nil
}

// made is a spare that was made, or why there is none.
type made struct {
	name string
	err  error
}

// make begins to make a spare.
func (l *Log) make() {
	l.making = make(chan made, 1)
	go func(to chan<- made) {
		name := fmt.Sprintf("%016x", rand.Uint64())
		err := l.dir.spare(name, l.cfg.SegmentSize, l.cfg.Zero, l.isClosed)
		to <- made{sparePrefix + name, err}
	}(l.making)
}

func (l *Log) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// takeMade waits for the spare that is being made, if one is.
func (l *Log) takeMade() error {
	if l.making == nil {
		return nil
	}
	m := <-l.making
	l.making = nil
	if m.err == nil {
		l.spares = append(l.spares, m.name)
	}
	return m.err
}

// ahead begins to make a spare where that takes long, while there is still room for what
// comes meanwhile.
func (l *Log) ahead() {
	if s := l.current; l.cfg.Zero && l.making == nil && len(l.spares) < 2 && s != nil && s.end > l.cfg.SegmentSize/2 {
		l.make()
	}
}

// sealCurrent ends the segment that is appended to: nothing comes after its seal.
func (l *Log) sealCurrent() *failure {
	s := l.current
	l.current = nil
	seal := &ticket{front: (&Record{Kind: sealKind}).seal(), size: Size(0, 0)}
	if f := l.writeInto(s, []*ticket{seal}, seal.size); f != nil {
		return f
	}
	l.mu.Lock()
	s.sealed = true
	l.mu.Unlock()
	err := s.file.Truncate(s.end)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return &failure{s.number, s.end, err}
	}
	return nil
}

// GiveRoom gives the room of a spare back to the device, for who is about to remove
// segments and needs some to do so. It reports whether there was one; what is appended
// next makes another.
func (l *Log) GiveRoom() (bool, error) {
	const op errs.Op = "seglog.giveroom"
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false, errs.E(op, errs.Unavailable, ErrClosed)
	}
	if l.writing {
		t := &ticket{seal: true, turn: make(chan bool, 1)} // in nobody's batch
		l.waiting = append(l.waiting, t)
		l.mu.Unlock()
		<-t.turn
		l.mu.Lock()
		l.waiting = slices.Clone(l.waiting[1:])
	}
	l.writing = true
	l.mu.Unlock()
	gave, err := l.giveSpare()
	l.mu.Lock()
	if l.writing = len(l.waiting) > 0; l.writing {
		l.waiting[0].turn <- true
	}
	l.mu.Unlock()
	if err != nil {
		return gave, errs.E(op, errs.Subject(l.dir.path), kindOf(err), err)
	}
	return gave, nil
}

func (l *Log) giveSpare() (bool, error) {
	if err := l.takeMade(); err != nil {
		l.cfg.Log.Debug("no spare was made", slog.Any("err", err)) // nor is one wanted now
	}
	if len(l.spares) == 0 {
		return false, nil
	}
	if err := l.dir.fs.Remove(l.dir.file(l.spares[0])); err != nil {
		return false, err
	}
	l.spares = l.spares[1:]
	return true, l.dir.fs.SyncDir(l.dir.path)
}
