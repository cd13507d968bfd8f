package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
)

// version is that of the form of files.
const version = 1

// A line is one of a file, behind its header: just one of these.
type line struct {
	Round  *roundLine    `json:"round,omitempty"`  // begins a round
	Floor  *Entry        `json:"floor,omitempty"`  // of the round
	Op     *Op           `json:"op,omitempty"`     //
	Event  *Event        `json:"event,omitempty"`  //
	Steady time.Duration `json:"steady,omitempty"` // ends the steady stretch of the round
}

type roundLine struct {
	N     int           `json:"n"`
	Began time.Duration `json:"began"`
}

// lines are those that begin a round.
func (h *History) lines() []line {
	all := make([]line, 0, 1+len(h.Floor))
	all = append(all, line{Round: &roundLine{h.Round, h.Began}})
	for i := range h.Floor {
		all = append(all, line{Floor: &h.Floor[i]})
	}
	return all
}

// Save writes rounds in the form that Read reads.
func Save(w io.Writer, header Header, rounds ...History) error {
	header.Version = version
	b := bufio.NewWriter(w)
	to := json.NewEncoder(b)
	err := to.Encode(header)
	for i := range rounds {
		h := &rounds[i]
		all := h.lines()
		if h.Steady > 0 {
			all = append(all, line{Steady: h.Steady})
		}
		for j := range h.Events {
			all = append(all, line{Event: &h.Events[j]})
		}
		for j := range h.Ops {
			all = append(all, line{Op: &h.Ops[j]})
		}
		for j := range all {
			err = errors.Join(err, to.Encode(all[j]))
		}
	}
	return errors.Join(err, b.Flush())
}

// What bounds a file.
const (
	maxLine = 16 << 20                   // bytes; a listing of 10,000 names is 2 MiB
	maxTime = 100 * 365 * 24 * time.Hour // of a history
	maxSlip = 10 * 365 * 24 * time.Hour  // of a clock
	maxID   = int64(1) << 53             // what every reader of JSON can tell apart
)

// ErrFormat is wrapped by errors about what is no history.
var ErrFormat = errors.New("no history")

func wrong(n int, format string, args ...any) error {
	return fmt.Errorf("line %d: %w: %s", n, ErrFormat, fmt.Sprintf(format, args...))
}

// Read reads the header of a file, and returns its rounds, one after the other. A last line that was
// broken off is passed over. Of a round whose steady stretch nothing has ended it lasts as long as the round.
func Read(r io.Reader) (Header, iter.Seq2[History, error], error) {
	f := &reader{from: bufio.NewReaderSize(r, 64<<10)}
	var h Header
	b, err := f.line()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = wrong(1, "it is empty")
		}
		return h, nil, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, nil, wrong(1, "%v", err)
	}
	switch {
	case h.Version != version:
		return h, nil, wrong(1, "version %d; this reads %d", h.Version, version)
	case h.Skew < 0 || h.Skew > maxSlip || h.Grace < 0 || h.Grace > maxSlip:
		return h, nil, wrong(1, "skew %v, grace %v: each must be from 0 to 10 years", h.Skew, h.Grace)
	}
	f.limits = h.Limits
	return h, f.rounds, nil
}

type reader struct {
	from   *bufio.Reader
	n      int // of the line
	limits Limits
	last   map[int64]bool // IDs of the round
	end    time.Duration  // of its last operation
}

// line returns the next line without its end; io.EOF where there is no whole one.
func (f *reader) line() ([]byte, error) {
	f.n++
	var b []byte
	for {
		part, err := f.from.ReadSlice('\n')
		b = append(b, part...)
		switch {
		case len(b) > maxLine:
			return nil, wrong(f.n, "longer than %d bytes", maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return nil, err // what is left at io.EOF was broken off
		default:
			return bytes.TrimSuffix(b, []byte("\n")), nil
		}
	}
}

func (f *reader) rounds(yield func(History, error) bool) {
	var h *History
	for {
		b, err := f.line()
		if errors.Is(err, io.EOF) {
			if h != nil {
				yield(f.done(h), nil)
			}
			return
		}
		var l line
		if err == nil {
			if l, err = f.parse(b); err == nil && (h == nil) != (l.Round != nil) && h == nil {
				err = wrong(f.n, "it belongs to no round")
			}
		}
		if err != nil {
			yield(History{}, err)
			return
		}
		switch {
		case l.Round != nil:
			if h != nil && !yield(f.done(h), nil) {
				return
			}
			h = &History{Limits: f.limits, Round: l.Round.N, Began: l.Round.Began}
			f.last, f.end = map[int64]bool{}, l.Round.Began
		case l.Floor != nil:
			h.Floor = append(h.Floor, *l.Floor)
		case l.Op != nil:
			h.Ops = append(h.Ops, *l.Op)
		case l.Event != nil:
			h.Events = append(h.Events, *l.Event)
		default:
			h.Steady = l.Steady
		}
	}
}

func (f *reader) done(h *History) History {
	if h.Steady == 0 {
		h.Steady = f.end
	}
	h.sort()
	return *h
}

// parse reads a line, and refuses what can't have happened.
func (f *reader) parse(b []byte) (l line, err error) {
	if err := json.Unmarshal(b, &l); err != nil {
		return l, wrong(f.n, "%v", err)
	}
	is := 0
	for _, there := range []bool{l.Round != nil, l.Floor != nil, l.Op != nil, l.Event != nil, l.Steady != 0} {
		if there {
			is++
		}
	}
	switch {
	case is != 1:
		return l, wrong(f.n, "it is %d things, and must be one", is)
	case l.Round != nil && (l.Round.N < 1 || !moment(l.Round.Began)):
		return l, wrong(f.n, "round %d from %v", l.Round.N, l.Round.Began)
	case l.Event != nil && !moment(l.Event.At), !moment(l.Steady):
		return l, wrong(f.n, "no such time")
	case l.Op != nil:
		return l, f.op(l.Op)
	}
	return l, nil
}

func moment(t time.Duration) bool { return t >= 0 && t <= maxTime }

func (f *reader) op(o *Op) error {
	switch {
	case o.ID < 1 || o.ID > maxID:
		return wrong(f.n, "operation %d: IDs are from 1 to 2^53", o.ID)
	case f.last[o.ID]:
		return wrong(f.n, "operation %d is there twice", o.ID)
	case o.Kind == 0 || o.Outcome == 0:
		return wrong(f.n, "operation %d has no kind or no outcome", o.ID)
	case !moment(o.Start) || !moment(o.End) || o.End < o.Start:
		return wrong(f.n, "operation %d is from %v to %v", o.ID, o.Start, o.End)
	case (o.Kind == Copy) != (o.From != nil):
		return wrong(f.n, "operation %d: a copy has a source, and nothing else has one", o.ID)
	case (o.Kind == List) != (o.Object == ""):
		return wrong(f.n, "operation %d: a listing has no object, and all else has one", o.ID)
	case o.Kind.Writes() && o.Seen != nil && o.Seen.Wrong == "":
		return wrong(f.n, "operation %d writes, and sees nothing but what is wrong", o.ID)
	}
	if f.last == nil {
		return wrong(f.n, "it belongs to no round")
	}
	f.last[o.ID] = true
	f.end = max(f.end, o.End)
	return nil
}
