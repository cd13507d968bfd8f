package seglog

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// Records that are appended together are there in their order, more than a batch of
// them too, and beside those of others.
func TestAppendAll(t *testing.T) {
	c := config(vfs.NewMem())
	c.SegmentSize = 1 << 20
	l := open(t, c)
	var mu sync.Mutex
	applied := map[uint64][]uint64{} // by writer; what apply was called for
	var all sync.WaitGroup
	for w := range uint64(6) {
		all.Go(func() {
			items := make([]Item, 500)
			for i := range items {
				items[i] = Item{Record: *record(w<<32 | uint64(i)), Apply: func(Position) {
					mu.Lock()
					defer mu.Unlock()
					applied[w] = append(applied[w], uint64(i))
				}}
			}
			if err := l.AppendAll(items); err != nil {
				t.Error(err)
			}
			for n := range uint64(20) {
				if _, err := l.Append(record(w<<32|1<<31|n), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got := found(t, l)
	if want := 6 * 520; len(got) != want {
		t.Errorf("found %d records, want %d", len(got), want)
	}
	for w, list := range applied {
		if len(list) != 500 || !slices.IsSorted(list) {
			t.Errorf("writer %d: %d were applied, or not in their order", w, len(list))
		}
		for i := uint64(1); i < 500; i++ {
			if !got[w<<32|(i-1)].Less(got[w<<32|i]) {
				t.Errorf("record %d of %d is before the one before it", i, w)
			}
		}
	}
	if err := l.AppendAll(nil); err != nil {
		t.Errorf("nothing: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.AppendAll([]Item{{Record: *record(1)}}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// Head is what Read says, without the body, and as sure.
func TestHead(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, config(mem))
	for _, head := range []int{0, 10, frontGuess - fixedSize, frontGuess, 5000} {
		for _, body := range []int{0, 7, 9000} {
			r := &Record{Kind: 3, Key: [16]byte{1}, Head: bytes.Repeat([]byte{7}, head), Body: bytes.Repeat([]byte{8}, body)}
			at, err := l.Append(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			size := Size(head, body)
			got, n, _, err := l.Head(at, size, nil)
			if err != nil || n != int64(body) || same(&got, &Record{Kind: 3, Key: r.Key, Head: r.Head}) != nil {
				t.Errorf("head of %d, body of %d: kind %d, head of %d, body of %d, %v", head, body, got.Kind, len(got.Head), n, err)
			}
			for _, wrong := range []int64{-8, 8} {
				if _, _, _, err := l.Head(at, size+wrong, nil); !errs.Is(err, errs.Corrupt) {
					t.Errorf("a record of %d bytes read as one of %d: %v", size, size+wrong, err)
				}
			}
			s, _ := l.segment(at.Segment)
			for _, off := range []int64{0, 9, 20, 40, fixedSize, fixedSize + int64(head) - 1} {
				if off < fixedSize || head > 0 {
					b := make([]byte, 1)
					flip := func() {
						if _, err := s.file.ReadAt(b, at.Offset+off); err != nil {
							t.Fatal(err)
						}
						b[0] ^= 1
						if _, err := s.file.WriteAt(b, at.Offset+off); err != nil {
							t.Fatal(err)
						}
					}
					flip()
					if _, _, _, err := l.Head(at, size, nil); !errs.Is(err, errs.Corrupt) {
						t.Errorf("byte %d of a head of %d was flipped: %v", off, head, err)
					}
					flip()
				}
			}
		}
	}
	if _, _, _, err := l.Head(Position{99, 4096}, 56, nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("a segment that is not there: %v", err)
	}
}

// Of two records that are joined there is never the second without the first, right in
// front of it, and a call that fails leaves neither: however full batches are, and
// wherever writing fails or the power does.
func TestJoined(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		mem := vfs.NewMem()
		faulty := vfs.FailAt(mem, n)
		c := config(faulty)
		c.BatchSize = 300 // fewer than three records
		l, err := Open(c)
		if err != nil {
			fired = faulty.Fired()
			continue
		}
		var mu sync.Mutex
		applied := map[uint64]bool{}
		var all sync.WaitGroup
		for w := range uint64(5) {
			all.Go(func() {
				for i := range uint64(6) {
					k := w<<32 | i<<8
					note := func(k uint64) func(Position) {
						return func(Position) {
							mu.Lock()
							defer mu.Unlock()
							applied[k] = true
						}
					}
					err := l.AppendAll([]Item{{Record: *record(k), Apply: note(k)}, {Record: *record(k | 1), Apply: note(k | 1), Joined: true}})
					mu.Lock()
					if applied[k] != applied[k|1] || applied[k] != (err == nil) {
						t.Errorf("call %d: applied %v and %v, %v", n, applied[k], applied[k|1], err)
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		fired = faulty.Fired()
		for seed := range uint64(3) {
			got := found(t, open(t, config(mem.AfterCrash(seed))))
			for k, at := range got {
				if before, ok := got[k&^1]; k&1 == 1 && (!ok || before.Segment != at.Segment || !before.Less(at)) {
					t.Fatalf("call %d, seed %d: record %d at %v, the one before it at %v, %v", n, seed, k, at, before, ok)
				}
			}
			for k := range applied {
				if _, ok := got[k]; !ok {
					t.Fatalf("call %d, seed %d: record %d is gone", n, seed, k)
				}
			}
		}
	}
}
