// Package timestamp is the cluster's time: Swift's timestamps, their order and
// their text forms, and the source that hands them out.
//
// A timestamp counts units of 10 µs since 1970 and may carry an offset, which
// internal services add to overwrite a version without changing the time that a
// user sees. The text is `1402464677.04188`, sixteen characters so that text
// order is time order, with `_` and sixteen hexadecimal digits behind it where
// the offset is not zero. Source of the format: Swift's internalised
// timestamps (swift/common/utils/timestamp.py).
package timestamp

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"martlet/internal/clock"
)

// Unit is the length of one tick.
const Unit = 10 * time.Microsecond

const (
	perSecond  = int64(time.Second / Unit)
	maxTicks   = 9_999_999_999*perSecond + perSecond - 1 // ten digits of seconds
	normalLen  = 16
	offsetSep  = '_'
	offsetLen  = 16
	timeLayout = "2006-01-02T15:04:05.000000"
)

// ErrFormat is returned for text that is no timestamp.
var ErrFormat = errors.New("not a timestamp")

// T is a timestamp. The zero value is none: it comes before every other.
// Values compare with ==.
type T struct {
	ticks  int64
	offset uint64
}

// FromTicks makes a timestamp of a count of ticks since 1970, held within what
// the text form can say.
func FromTicks(ticks int64) T { return T{ticks: min(max(ticks, 0), maxTicks)} }

// FromTime makes a timestamp of a time, cut down to a whole tick.
func FromTime(t time.Time) T {
	return FromTicks(t.Unix()*perSecond + int64(t.Nanosecond())/int64(Unit))
}

// Now is the clock's time. Requests take theirs from a Source instead.
func Now() T { return FromTime(clock.Now()) }

// Ticks returns the count of 10 µs units since 1970.
func (t T) Ticks() int64 { return t.ticks }

// Offset returns the internal offset, 0 for what clients write.
func (t T) Offset() uint64 { return t.offset }

// IsZero reports whether t is no timestamp at all.
func (t T) IsZero() bool { return t == T{} }

// Compare orders by time, then by offset: -1, 0 or +1.
func (t T) Compare(u T) int {
	return cmp.Or(cmp.Compare(t.ticks, u.ticks), cmp.Compare(t.offset, u.offset))
}

// Before reports whether t comes before u.
func (t T) Before(u T) bool { return t.Compare(u) < 0 }

// After reports whether t comes after u.
func (t T) After(u T) bool { return t.Compare(u) > 0 }

// Max returns the later of the two.
func Max(t, u T) T {
	if t.Before(u) {
		return u
	}
	return t
}

// Add returns t moved by d (cut to a whole tick), without its offset.
func (t T) Add(d time.Duration) T { return FromTicks(t.ticks + int64(d/Unit)) }

// Next returns the next tick after t, without an offset.
func (t T) Next() T { return FromTicks(t.ticks + 1) }

// WithOffset returns the same time with that offset.
func (t T) WithOffset(offset uint64) T { return T{t.ticks, offset} }

// Inverted returns the timestamp whose text sorts the other way round: that of a later
// one is less. Inverted again it is t, without its offset.
func (t T) Inverted() T { return T{ticks: maxTicks - t.ticks} }

// Time returns the time of t in UTC, its offset left out.
func (t T) Time() time.Time {
	return time.Unix(t.ticks/perSecond, t.ticks%perSecond*int64(Unit)).UTC()
}

// Seconds returns the whole seconds, rounded down: what compares with an
// expiry time.
func (t T) Seconds() int64 { return t.ticks / perSecond }

// CeilSecond returns the time rounded up to a whole second, as Last-Modified
// shows it: a client that sends it back in If-Unmodified-Since must match.
func (t T) CeilSecond() time.Time {
	return time.Unix((t.ticks+perSecond-1)/perSecond, 0).UTC()
}

// ISO returns the form that listings show: microseconds, no zone.
func (t T) ISO() string { return t.Time().Format(timeLayout) }

// String returns the text form, with the offset where there is one. The zero
// value is "0000000000.00000".
func (t T) String() string { return string(t.AppendTo(make([]byte, 0, normalLen+1+offsetLen))) }

// Said is String for who has a text at hand that may be it: then it is that text, and none is made.
func (t T) Said(text string) string {
	var room [normalLen + 1 + offsetLen]byte
	b := t.AppendTo(room[:0])
	if string(b) == text {
		return text
	}
	return string(b)
}

// AppendTo appends the text form to b.
func (t T) AppendTo(b []byte) []byte {
	b = appendPadded(b, t.ticks/perSecond, 10)
	b = append(b, '.')
	b = appendPadded(b, t.ticks%perSecond, 5)
	if t.offset == 0 {
		return b
	}
	return fmt.Appendf(b, "%c%016x", offsetSep, t.offset)
}

// Normal returns the sixteen characters without the offset: what a client sees.
func (t T) Normal() string { return T{ticks: t.ticks}.String() }

// MarshalText writes the text form, and nothing for the zero value.
func (t T) MarshalText() ([]byte, error) {
	if t.IsZero() {
		return []byte{}, nil
	}
	return t.AppendTo(nil), nil
}

// UnmarshalText reads what MarshalText writes.
func (t *T) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*t = T{}
		return nil
	}
	u, err := Parse(string(b))
	*t = u
	return err
}

func appendPadded(b []byte, n int64, width int) []byte {
	var digits [20]byte
	s := strconv.AppendInt(digits[:0], n, 10)
	for range width - len(s) {
		b = append(b, '0')
	}
	return append(b, s...)
}

// Parse reads a timestamp's text: seconds, up to five decimals (more are cut
// off), and an optional offset of one to sixteen hexadecimal digits. Any other
// text is ErrFormat.
func Parse(s string) (T, error) {
	body, off, hasOffset := strings.Cut(s, string(offsetSep))
	secs, frac, hasFrac := strings.Cut(body, ".")
	if !digits(secs) || len(secs) > 10 || hasFrac && !digits(frac) || len(frac) > 20 {
		return T{}, fmt.Errorf("%w: %q", ErrFormat, clip(s))
	}
	n, _ := strconv.ParseInt(secs, 10, 64) // ten digits fit
	frac = (frac + "00000")[:5]
	f, _ := strconv.ParseInt(frac, 10, 64)
	t := T{ticks: n*perSecond + f}
	if hasOffset {
		var err error
		if t.offset, err = parseHex(off); err != nil {
			return T{}, fmt.Errorf("%w: %q", ErrFormat, clip(s))
		}
	}
	return t, nil
}

func parseHex(s string) (uint64, error) {
	if len(s) == 0 || len(s) > offsetLen || strings.ContainsAny(s, "+-_") {
		return 0, ErrFormat
	}
	return strconv.ParseUint(s, 16, 64)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) > 0
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// A Source hands out the stamps of one process: each later than the one
// before, also when the clock stands still or goes back, but for those of After
// that are far ahead of it. Safe for concurrent use.
type Source struct {
	now func() time.Time

	mu   sync.Mutex
	last T // the latest handed out; guarded by mu
}

// NewSource returns a source over a clock; nil is the machine's.
func NewSource(now func() time.Time) *Source {
	if now == nil {
		now = clock.Now
	}
	return &Source{now: now}
}

// Next returns a stamp later than every one before it.
func (s *Source) Next() T { return s.After(T{}) }

// Now returns the time of the clock.
func (s *Source) Now() T { return FromTime(s.now()) }

// lead is how far ahead of the clock a stamp may be that all later ones come after.
const lead = 5 * time.Minute

// After returns a stamp later than every one before it and later than t: for a
// write that lost against t and is tried again. Where t is more than five minutes
// ahead of the clock the stamp is up to 82 ms after t, by chance, and no other comes
// after it: what one name has of a wrong clock is not to be handed on to all.
func (s *Source) After(t T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	if t.After(now.Add(lead)) {
		return FromTicks(t.ticks + 1 + rand.Int64N(1<<13))
	}
	s.last = Max(now, Max(s.last.Next(), t.Next()))
	return s.last
}
