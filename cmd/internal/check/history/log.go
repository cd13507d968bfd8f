package history

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// A Log takes down a history as it happens. It is safe for many clients. All lines
// go to a writer; the round that is under way is in memory as well, to be judged.
type Log struct {
	began time.Time

	mu     sync.Mutex // guards all that follows
	to     *bufio.Writer
	err    error // the first of writing
	last   int64 // ID
	round  History
	header Header
}

// NewLog begins a history, and its first round, in which everything is missing. A writer of nil keeps no lines.
// The time of the history begins now.
func NewLog(to io.Writer, h Header) *Log {
	h.Version = version
	l := &Log{began: time.Now(), header: h}
	if to != nil {
		l.to = bufio.NewWriterSize(to, 64<<10)
	}
	l.round = History{Limits: h.Limits, Round: 1}
	l.write(h)
	l.begin()
	return l
}

// Now is the time of the history.
func (l *Log) Now() time.Duration { return time.Since(l.began) }

// Header returns the header.
func (l *Log) Header() Header { return l.header }

// Start begins an operation: its ID and the time. What is started is added once it is over.
func (l *Log) Start() (id int64, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	return l.last, l.Now()
}

// Add takes down an operation that is over.
func (l *Log) Add(op Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.round.Ops = append(l.round.Ops, op)
	l.write(line{Op: &op})
}

// Event takes down something that happened just now, and returns it.
func (l *Log) Event(what string) Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := Event{At: l.Now(), What: what}
	l.round.Events = append(l.round.Events, e)
	l.write(line{Event: &e})
	return e
}

// Unsteady ends the steady stretch of the round: something is going to be broken. It comes before
// the first fault begins. Later calls change nothing.
func (l *Log) Unsteady() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.round.Steady == 0 {
		l.round.Steady = max(l.Now(), 1)
		l.write(line{Steady: l.round.Steady})
	}
}

// NextRound begins a round on the floor of what the one before ended with. What was in memory of that is forgotten.
// Steady says whether all is up and reachable: else the new round has no steady stretch.
func (l *Log) NextRound(floor []Entry, steady bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.round = History{Limits: l.header.Limits, Round: l.round.Round + 1, Floor: floor, Began: l.Now()}
	if !steady {
		l.round.Steady = l.round.Began
	}
	l.begin()
	if !steady {
		l.write(line{Steady: l.round.Steady})
	}
}

// History returns the round that is under way, up to now. While nothing has ended the steady stretch it lasts.
func (l *Log) History() History {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.round
	h.Ops, h.Events, h.Floor = slices.Clone(h.Ops), slices.Clone(h.Events), slices.Clone(h.Floor)
	h.sort()
	if h.Steady == 0 {
		h.Steady = l.Now()
	}
	return h
}

func (h *History) sort() {
	slices.SortFunc(h.Ops, func(a, b Op) int { return cmp.Compare(a.ID, b.ID) })
}

// begin writes how the round does; the caller has the lock, or the only pointer.
func (l *Log) begin() {
	for _, line := range l.round.lines() {
		l.write(line)
	}
}

// Flush hands what was taken down to the writer, and returns the first error that writing had.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		return nil
	}
	return errors.Join(l.err, l.to.Flush())
}

// write puts down a line; the caller has the lock.
func (l *Log) write(v any) {
	if l.to == nil || l.err != nil {
		return
	}
	b, err := json.Marshal(v)
	if err == nil {
		_, err = l.to.Write(append(b, '\n'))
	}
	l.err = err
}
