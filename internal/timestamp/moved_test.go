package timestamp

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What is moved to and fro comes each time after what was left behind before, and before what comes later.
func TestMoved(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		data := FromTicks(rapid.Int64Range(1, maxTicks-1).Draw(r, "ticks")).WithOffset(rapid.Uint64Range(0, firstMask).Draw(r, "offset"))
		day := rapid.Int64Range(-1, maxTicks/perSecond+1)
		last := data
		for range rapid.IntRange(1, 5).Draw(r, "moves") {
			left := last.Left(day.Draw(r, "second"))
			to, ok := last.Moved()
			if !ok || !left.After(last) || !to.After(left) || !left.IsLeft() || to.IsLeft() || to.IsExpiry() || left.IsExpiry() {
				t.Fatalf("%v leaves %v and is moved to %v, %v", last, left, to, ok)
			}
			if to.Ticks() != data.Ticks() || left.Ticks() != data.Ticks() || to.offset&firstMask != data.offset || !to.Before(data.Next()) {
				t.Fatalf("%v becomes %v, and leaves %v", data, to, left)
			}
			if e := Expiry(to, to, 1); !e.After(to) || !e.After(left) {
				t.Fatalf("%v does not end %v", e, to)
			}
			if _, ok := left.Moved(); ok {
				t.Fatalf("%v is moved", left)
			}
			for _, x := range []T{to, left} {
				if back, err := Parse(x.String()); err != nil || back != x {
					t.Fatalf("%v comes back as %v, %v", x, back, err)
				}
			}
			last = to
		}
	})
}

// Two that were written in one tick stay two.
func TestMovedKeepsOffsets(t *testing.T) {
	a, _ := at("1700000000.00000").Moved()
	b, _ := at("1700000000.00000_1").Moved()
	if !a.Before(b) {
		t.Errorf("%v is not before %v", a, b)
	}
}

func TestLeft(t *testing.T) {
	data := at("1600000000.00001")
	now := time.Date(2026, 11, 29, 15, 0, 0, 0, time.UTC)
	left := data.Left(now.Unix())
	if got, want := left.Happened().Time(), time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("it happened %v, want the end of the day, %v", got, want)
	}
	if left.Earliest() != left || left.Until() != left || left.Void(data.Next()) {
		t.Errorf("%v is taken for an expiry", left)
	}
	moved, _ := data.Moved()
	if moved.Happened() != moved || moved.IsLeft() || data.IsLeft() || Expiry(data, data, 1).IsLeft() || data.WithOffset(1).IsLeft() {
		t.Error("something else is taken for what was left")
	}
	if again := left.Left(now.Add(48 * time.Hour).Unix()); !again.After(left) {
		t.Errorf("%v, two days later %v", left, again)
	}
}

func TestNotMoved(t *testing.T) {
	data := at("1700000000.00000")
	most := data.WithOffset(movedFlag | mostMoves<<movedShift)
	for _, x := range []T{Expiry(data, data, 1), data.Left(1), data.WithOffset(firstMask + 1), most} {
		if to, ok := x.Moved(); ok {
			t.Errorf("%v is moved to %v", x, to)
		}
	}
	if to, ok := data.WithOffset(movedFlag | (mostMoves-1)<<movedShift).Moved(); !ok || to != most {
		t.Errorf("the last move is to %v, %v", to, ok)
	}
}
