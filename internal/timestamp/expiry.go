package timestamp

import "time"

// An expiry is the time of the tombstone that an object leaves which has come to its
// X-Delete-At. It is made of what every replica knows that has the same state, so that all
// of them make the same one: the time of the data that it ends, that of the metadata
// which said when, and the day of that. It has the ticks of the data, and
//
//	bit 63      1, which no other offset has
//	bits 15-62  ticks from the data to the metadata
//	bits 0-14   the day of the expiry since 2020, rounded up
//
// as its offset. So it comes after its data and before whatever is written or deleted
// later, and of two of the same data the one with the later metadata comes last. What
// it does not decide by order alone is whether it is in force: metadata that is later
// than its own may have given the object a longer life, where this was not known yet. It is
// void then (Void), and the data is in force again wherever it still is. Its ticks say nothing
// of how old it is: that is what Happened is for.
const (
	expiryFlag = uint64(1) << 63
	dayBits    = 15
	dayMask    = uint64(1)<<dayBits - 1
	sinceMask  = uint64(1)<<(63-dayBits) - 1

	secondsPerDay = 24 * 60 * 60
	firstDay      = 18262 // 2020, since 1970
)

// Expiry returns the expiry of data whose metadata of a time, which is the data's where
// none came later, says that it ends in a second since 1970. What is further apart than
// 89 years, or not between the years 2020 and 2109, is as good as that.
func Expiry(data, meta T, second int64) T {
	since := min(uint64(max(meta.ticks-data.ticks, 0)), sinceMask)
	return T{data.ticks, expiryFlag | since<<dayBits | dayOf(second)}
}

// dayOf returns the day that a second since 1970 is in, rounded up, as offsets have it.
func dayOf(second int64) uint64 {
	day := (min(max(second, 0), maxTicks/perSecond) + secondsPerDay - 1) / secondsPerDay
	return uint64(min(max(day-firstDay, 0), int64(dayMask)))
}

// IsExpiry reports whether t was made by Expiry.
func (t T) IsExpiry() bool { return t.offset&expiryFlag != 0 }

// Until returns the latest time of metadata that data or a tombstone of this time has
// taken in: metadata counts beside it only if it is after that. It is t itself, or the last
// that there can be in the tick of the metadata that an expiry is from.
func (t T) Until() T {
	if since := t.offset >> dayBits & sinceMask; t.IsExpiry() && since > 0 {
		return T{min(t.ticks+int64(since), maxTicks), expiryFlag - 1}
	}
	return t
}

// Void reports whether t is an expiry and metadata of a time shows that the object was
// to live longer.
func (t T) Void(meta T) bool { return t.IsExpiry() && meta.After(t.Until()) }

// Happened returns when what t is the time of took place, for whoever asks how long ago
// that is: t itself, or the end of the day that an expiry was due, or that something was left behind.
func (t T) Happened() T {
	if t.IsExpiry() || t.IsLeft() {
		return FromTicks((firstDay + int64(t.offset&dayMask)) * secondsPerDay * perSecond)
	}
	return t
}

// Earliest returns when what t is the time of took place at the earliest, for whoever asks whether it
// can have: t itself, or the begin of the day that an expiry was due.
func (t T) Earliest() T {
	if t.IsExpiry() {
		return t.Happened().Add(-secondsPerDay * time.Second)
	}
	return t
}

// CompareData orders data and tombstones of one name by the times of the states that
// they are in: -1, 0 or +1. It is Compare of their times, but for an expiry that what is
// known of either state's metadata makes void: that comes before the data it was to end.
func (p Packed) CompareData(q Packed) int {
	c := p.Data.Compare(q.Data)
	if p.Data.ticks != q.Data.ticks || p.Data.IsExpiry() == q.Data.IsExpiry() {
		return c
	}
	if Max(p.Data, q.Data).Void(Max(p.Meta, q.Meta)) {
		return -c
	}
	return c
}

// Newest returns the latest time of all that a state says, up to where its data has taken in metadata.
func (p Packed) Newest() T { return Max(p.Data.Until(), Max(p.ContentType, p.Meta)) }

// Happened returns when the last of a state's parts took place.
func (p Packed) Happened() T {
	t := p.Data.Happened()
	for _, part := range [...]T{p.ContentType, p.Meta} {
		if part != p.Data { // where nothing came later the parts have the data's time
			t = Max(t, part)
		}
	}
	return t
}
