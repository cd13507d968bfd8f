package timestamp

// An object that lies in the place of another storage policy than its container's is moved
// (package reconciler): what it is keeps its ticks, which is all that a client sees, and gets an offset
// that says how often it was moved. What it leaves behind is a tombstone of the same ticks, which ends
// it there and nothing that was written later. An object may come back to where it was, when its
// container turns out to have been of that policy all along. So each move comes after what the one before
// has left:
//
//	data  <  left, in the place that it was in first  <  moved once  <  left there  <  moved twice ...
//
// and all of them before an expiry of the data, and before whatever has a later time. The offset is
//
//	bit 63      0, which tells it from an expiry's
//	bit 62      1
//	bits 47-61  how often the data was moved before
//	bit 46      1 for what is left behind
//	bits 0-45   of data the offset that it had at first; of what is left behind
//	            in bits 0-14 the day when that was, since 2020, rounded up
//
// The ticks of what is left behind say nothing of how old it is: that is what Happened is for.
const (
	movedFlag  = uint64(1) << 62
	movedShift = 47
	mostMoves  = movedFlag>>movedShift - 1
	leftFlag   = uint64(1) << 46
	firstMask  = leftFlag - 1
)

// Moved returns the time of data when it has been moved to the place of another policy. It is
// false for what can't be: a tombstone that says so, or data that was moved 32,767 times.
func (t T) Moved() (to T, ok bool) {
	n := t.moves() + 1
	if t.IsExpiry() || t.IsLeft() || !t.isMoved() && t.offset > firstMask || n > mostMoves {
		return T{}, false
	}
	return T{t.ticks, movedFlag | n<<movedShift | t.offset&firstMask}, true
}

// Left returns the time of the tombstone that data of a time, or an older tombstone of that time,
// leaves in a place that is not of its container's policy, in a second since 1970.
func (t T) Left(second int64) T {
	return T{t.ticks, movedFlag | t.moves()<<movedShift | leftFlag | dayOf(second)}
}

// IsLeft reports whether t was made by Left: who moves objects has seen to it that what the place had
// is where it belongs.
func (t T) IsLeft() bool { return t.isMoved() && t.offset&leftFlag != 0 }

func (t T) isMoved() bool { return !t.IsExpiry() && t.offset&movedFlag != 0 }

func (t T) moves() uint64 {
	if !t.isMoved() {
		return 0
	}
	return t.offset &^ movedFlag >> movedShift
}
