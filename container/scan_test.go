package container

import (
	"bytes"
	"testing"

	"martlet/internal/timestamp"
)

// A row joined with itself is what Row.Join makes of it: also where that is not what it was, since a tombstone forgets.
func TestARowJoinedWithItself(t *testing.T) {
	at := timestamp.FromTicks
	for name, r := range map[string]Row{
		"data":                             {Data: at(5), Type: at(5), Meta: at(5), Size: 3, ETag: "d41d8cd98f00b204e9800998ecf8427e", Listed: -1, ContentType: "a/b"},
		"data with later parts":            {Data: at(5), Type: at(6), Meta: at(7), ETag: "text", Listed: 9, ContentType: "a/b"},
		"a tombstone":                      NewTombstone(at(5)),
		"one with earlier parts":           {Data: at(5), Deleted: true, Listed: -1, Type: at(4), ContentType: "a/b", Meta: at(4)},
		"one with later parts":             {Data: at(5), Deleted: true, Listed: -1, Type: at(6), ContentType: "a/b", Meta: at(7)},
		"one with a type that has no time": {Data: at(5), Deleted: true, Listed: -1, ContentType: "a/b"},
	} {
		b := r.Append(nil)
		joined := r.Join(r)
		got, err := schema{}.Join(b, b)
		if want := joined.Append(nil); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x and %v, want %x", name, got, err, want)
		}
		if len(got) > 0 && &got[0] == &b[0] {
			t.Errorf("%s: the argument was kept", name)
		}
	}
}

func TestLookingAtARowCopiesNothing(t *testing.T) {
	r := NewRow(timestamp.Packed{Data: timestamp.FromTicks(5)}, 3, "d41d8cd98f00b204e9800998ecf8427e", "text/plain")
	b := r.Append(nil)
	n := testing.AllocsPerRun(100, func() {
		if w, err := (schema{}).Weigh(0, b, timestamp.T{}); err != nil || !w.Live {
			t.Fatal(w, err)
		}
		if _, err := (schema{}).Newest(b); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
