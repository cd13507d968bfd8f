package seglog

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// entries is what Scan says of one segment, from an offset on.
func entries(t testing.TB, l *Log, segment uint64, from int64) (list []Entry) {
	t.Helper()
	for e, err := range l.Scan(Position{segment, from}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.At.Segment != segment {
			break
		}
		list = append(list, e)
	}
	return list
}

func sameEntry(a, b *Entry) bool {
	return a.At == b.At && a.Kind == b.Kind && a.Key == b.Key && bytes.Equal(a.Head, b.Head) && a.Body == b.Body && a.Damage == b.Damage && a.To == b.To
}

// sized is a record with a body of so many bytes.
func sized(r *rand.Rand, n int) *Record {
	rec := &Record{Kind: byte(r.IntN(200)), Head: make([]byte, r.IntN(300)), Body: make([]byte, n)}
	for _, b := range [][]byte{rec.Key[:], rec.Head, rec.Body} {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	return rec
}

// A walk says what Scan does, and what it has in memory is what Read finds, whatever is large, damaged or too
// much for its room, and wherever it is told to go on from.
func TestWalk(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		mem := vfs.NewMem()
		c := config(mem)
		c.SegmentSize = 1 << 20
		l := open(t, c)
		for range 20 + r.IntN(60) {
			n := r.IntN(3000)
			if r.IntN(4) == 0 {
				n = worthSkipping - 100 + r.IntN(worthSkipping)
			}
			if _, err := l.Append(sized(r, n), nil); err != nil {
				t.Fatal(err)
			}
		}
		segment := l.Segments()[0]
		for range r.IntN(4) { // also where a body is skipped, and it is not seen
			s := l.segments[segment]
			at := firstRecord + r.Int64N(s.end-firstRecord-200)
			if _, err := s.file.WriteAt(bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(200)), at); err != nil {
				t.Fatal(err)
			}
		}
		want := entries(t, l, segment, 0)
		start := 0
		if r.IntN(2) == 0 {
			start = r.IntN(len(want))
		}
		w, err := l.Walk(want[start].At, make([]byte, []int{100, 5000, 40_000, 200_000, 2 << 20}[seed%5]))
		if err != nil {
			t.Fatal(err)
		}
		if start == 0 {
			w.Keep(firstRecord)
		}
		kept, whole := start, 0
		for i, steps := start, 0; i < len(want) || !w.Ended(); steps++ {
			if steps > 5000 {
				t.Fatalf("seed %d: it does not end", seed)
			}
			e, more, err := w.Next()
			if err != nil {
				t.Fatalf("seed %d, record %d: %v", seed, i, err)
			}
			if more {
				if i >= len(want) || !sameEntry(&e, &want[i]) {
					t.Fatalf("seed %d, record %d: %+v, want %+v", seed, i, e, want[i])
				}
				i++
			} else if !w.Ended() && i == kept {
				t.Fatalf("seed %d: there is no room for record %d alone", seed, i)
			}
			for _, k := range want[kept:i] {
				if got, ok := w.Record(k.At, k.Size()); ok {
					whole++
					read, _, err := l.Read(k.At, k.Size(), nil)
					if err != nil || same(&got, &read) != nil {
						t.Fatalf("seed %d: record at %v is %+v, %v", seed, k.At, got, same(&got, &read))
					}
				} else if !k.Damage && k.Body <= worthSkipping {
					if _, _, err := l.Read(k.At, k.Size(), nil); err == nil {
						t.Fatalf("seed %d: record at %v is not in memory", seed, k.At)
					}
				}
			}
			if !more && !w.Ended() || r.IntN(20) == 0 { // goes back to one of those that it has
				at := kept + r.IntN(i-kept+1)
				if !more && r.IntN(4) > 0 {
					at = i
				}
				if !more && at == kept && i > kept {
					at = kept + 1
				}
				from := w.end
				if at < len(want) {
					from = want[at].At.Offset
				} else if !w.Ended() {
					from = w.at
				}
				w.Keep(from)
				kept, i = at, at
			}
		}
		if whole == 0 {
			t.Errorf("seed %d: nothing was in memory as a whole", seed)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Bytes are read once, and those of large bodies not at all.
func TestWalkReadsOnce(t *testing.T) {
	for _, tt := range []struct{ body, records, most int }{
		{500, 2000, 1_450_000},
		{4 << 10, 300, 1_400_000},
		{60 << 10, 30, 400_000},
	} {
		t.Run(fmt.Sprint(tt.body), func(t *testing.T) {
			fs := vfs.Count(vfs.NewMem())
			c := config(fs)
			c.SegmentSize = 4 << 20
			l := open(t, c)
			r := rand.New(rand.NewPCG(1, 1))
			var items []Item
			for range tt.records {
				items = append(items, Item{Record: *sized(r, tt.body)})
			}
			if err := l.AppendAll(items); err != nil {
				t.Fatal(err)
			}
			w, err := l.Walk(Position{Segment: 1}, make([]byte, 300_000))
			if err != nil {
				t.Fatal(err)
			}
			before, n := fs.Counts(), 0
			for !w.Ended() {
				_, more, err := w.Next()
				switch {
				case err != nil:
					t.Fatal(err)
				case more:
					n++
				default:
					w.Keep(w.at)
				}
			}
			if read := fs.Counts().Sub(before).BytesRead; n != tt.records || read > int64(tt.most) {
				t.Errorf("%d records, for which %d bytes were read", n, read)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestWalkOfNone(t *testing.T) {
	l := open(t, config(vfs.NewMem()))
	if _, err := l.Walk(Position{Segment: 7}, nil); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
