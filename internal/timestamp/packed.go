package timestamp

import (
	"fmt"
	"strconv"
	"strings"
)

// Packed is the three times of an object's row: of its data, of its content
// type and of its metadata. A later part never comes before the data's.
type Packed struct {
	Data, ContentType, Meta T
}

// String returns `t1`, `t1+d2` or `t1+d2+d3`: the deltas in hexadecimal ticks,
// the second against the data's, the third against the content type's. Only
// the data's offset is kept. The form is Swift's, so that rows can be exchanged.
func (p Packed) String() string { return string(p.appendTo(make([]byte, 0, 64))) }

// Said is String for who has a text at hand that may be it: then it is that text, and none is made.
func (p Packed) Said(text string) string {
	var room [64]byte
	b := p.appendTo(room[:0])
	if string(b) == text {
		return text
	}
	return string(b)
}

func (p Packed) appendTo(b []byte) []byte {
	b = p.Data.AppendTo(b)
	ctype := p.Data.ticks
	if !p.ContentType.IsZero() {
		ctype = p.ContentType.ticks
	}
	meta := ctype
	if !p.Meta.IsZero() {
		meta = p.Meta.ticks
	}
	if ctype == p.Data.ticks && meta == ctype {
		return b
	}
	b = appendDelta(b, ctype-p.Data.ticks)
	if meta != ctype {
		b = appendDelta(b, meta-ctype)
	}
	return b
}

func appendDelta(b []byte, d int64) []byte {
	if d < 0 {
		return strconv.AppendInt(append(b, '-'), -d, 16)
	}
	return strconv.AppendInt(append(b, '+'), d, 16)
}

// ParsePacked reads what String writes; parts that are left out take the time
// of the part before.
func ParsePacked(s string) (Packed, error) {
	head, rest := s, ""
	if i := strings.IndexAny(s, "+-"); i >= 0 {
		head, rest = s[:i], s[i:]
	}
	data, err := Parse(head)
	if err != nil {
		return Packed{}, err
	}
	p := Packed{Data: data, ContentType: data, Meta: data}
	if rest == "" {
		return p, nil
	}
	ctype, rest, err := cutDelta(data.ticks, rest)
	if err != nil {
		return Packed{}, fmt.Errorf("%w: %q", err, clip(s))
	}
	meta := ctype
	if rest != "" {
		if meta, rest, err = cutDelta(ctype, rest); err != nil || rest != "" {
			return Packed{}, fmt.Errorf("%w: %q", ErrFormat, clip(s))
		}
	}
	if ctype != data.ticks {
		p.ContentType = T{ticks: ctype}
	}
	p.Meta = p.ContentType
	if meta != ctype {
		p.Meta = T{ticks: meta}
	}
	return p, nil
}

// cutDelta reads one signed hexadecimal delta off the front of s and applies it.
func cutDelta(base int64, s string) (ticks int64, rest string, err error) {
	negative, s := s[0] == '-', s[1:]
	if i := strings.IndexAny(s, "+-"); i >= 0 {
		s, rest = s[:i], s[i:]
	}
	n, err := parseHex(s)
	if err != nil || n > uint64(maxTicks) {
		return 0, "", ErrFormat
	}
	if ticks = base + int64(n); negative {
		ticks = base - int64(n)
	}
	if ticks < 0 || ticks > maxTicks {
		return 0, "", ErrFormat
	}
	return ticks, rest, nil
}
