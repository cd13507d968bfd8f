package md5lanes

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/cpu"
	"pgregory.net/rapid"
)

// text is bytes by chance.
func text(seed uint64, n int) []byte {
	p := make([]byte, n+8)
	r := rand.NewPCG(seed, 1)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
	return p[:n]
}

// Where the processor has what it takes, lanes are used: else the form of the state is another one by now, or a step is wrong.
func TestUsable(t *testing.T) {
	if usable() != (runtime.GOARCH == "amd64") {
		t.Errorf("on %s it is %v", runtime.GOARCH, usable())
	}
	if wide := cpu.X86.HasAVX512F && cpu.X86.HasAVX512VL; (most == width) != wide {
		t.Errorf("%d go together, where the processor has wide registers: %v", most, wide)
	}
}

// kinds are groups with lanes, where there are any, and without.
func kinds(behind int) map[string]*Group {
	with, without := NewGroup(behind), NewGroup(behind)
	without.lanes = false
	return map[string]*Group{fmt.Sprintf("lanes=%v", with.lanes): with, "without": without, "nil": nil}
}

// loan is what a hash was lent. It is spoiled when it comes back, so that whoever reads it then has another sum.
type loan struct{ back atomic.Int32 }

func (l *loan) lend(h *Hash, p []byte) {
	p = bytes.Clone(p)
	h.Later(p, func() {
		clear(p)
		l.back.Add(1)
	})
}

// However streams are cut, and whatever goes on beside them, each has its own MD5, and all that was lent came back once.
func TestSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		behind := rapid.IntRange(1, 5).Draw(t, "behind")
		for name, g := range kinds(behind) {
			streams := rapid.IntRange(1, 11).Draw(t, "streams")
			hashes, all := make([]*Hash, streams), make([][]byte, streams)
			for i := range hashes {
				hashes[i] = g.New()
			}
			var lent loan
			count := int32(0)
			for n := range rapid.IntRange(0, 60).Draw(t, "pieces") {
				i := rapid.IntRange(0, streams-1).Draw(t, "stream")
				size := rapid.OneOf(rapid.SampledFrom([]int{0, 1, 63, 64, 65, 128, 640}), rapid.IntRange(0, 3000)).Draw(t, "size")
				p := text(uint64(n), size)
				all[i] = append(all[i], p...)
				switch rapid.IntRange(0, 8).Draw(t, "how") {
				case 0:
					_, _ = hashes[i].Write(p)
				case 1:
					lent.lend(hashes[i], p)
					count++
					if got, want := hashes[i].Sum(nil), md5.Sum(all[i]); !bytes.Equal(got, want[:]) {
						t.Fatalf("%s: %x on the way, want %x", name, got, want)
					}
				default:
					lent.lend(hashes[i], p)
					count++
				}
			}
			for i, h := range hashes {
				if i%4 == 3 {
					h.Drop()
					h.Drop()
					continue
				}
				if got, want := h.Sum([]byte("x")), md5.Sum(all[i]); !bytes.Equal(got, append([]byte("x"), want[:]...)) {
					t.Fatalf("%s: stream %d of %d bytes has %x, want %x", name, i, len(all[i]), got, want)
				}
				h.Drop()
			}
			if got := lent.back.Load(); got != count {
				t.Fatalf("%s: of %d pieces %d came back", name, count, got)
			}
			if g != nil && len(g.line) > 0 {
				t.Fatalf("%s: %d hashes are in the line", name, len(g.line))
			}
		}
	})
}

// No more pieces than agreed are out when Later returns, and none is kept when a stream is by itself.
func TestBehind(t *testing.T) {
	for name, g := range kinds(3) {
		h := g.New()
		var lent loan
		for n := int32(1); n <= 10; n++ {
			lent.lend(h, text(uint64(n), 100))
			if out := n - lent.back.Load(); out > 3 || (g == nil || !g.lanes) && out > 0 {
				t.Errorf("%s: %d of %d are out, want at most 3", name, out, n)
			}
		}
		h.Drop()
		if back := lent.back.Load(); back != 10 {
			t.Errorf("%s: %d of 10 came back", name, back)
		}
	}
}

// What one stream has done brings the others along.
func TestTogether(t *testing.T) {
	g := NewGroup(4)
	if !g.lanes || most < width {
		return // fewer are done together
	}
	hashes, lent := make([]*Hash, width+1), make([]loan, width+1)
	for i := range hashes {
		hashes[i] = g.New()
		lent[i].lend(hashes[i], text(uint64(i), 64*(i+1)))
	}
	if got, want := hashes[3].Sum(nil), md5.Sum(text(3, 64*4)); !bytes.Equal(got, want[:]) {
		t.Errorf("%x, want %x", got, want)
	}
	for i := range lent {
		// The first and seven of the line: of the longer ones, as much as it took itself.
		if back := lent[i].back.Load() == 1; back != (i <= 3) {
			t.Errorf("stream %d: done is %v", i, back)
		}
	}
	if hashes[5].done != 64*4 || hashes[width].done != 0 {
		t.Errorf("%d bytes of one that came along are done, want 256; %d of one that had no lane", hashes[5].done, hashes[width].done)
	}
	for i, h := range hashes {
		if got, want := h.Sum(nil), md5.Sum(text(uint64(i), 64*(i+1))); !bytes.Equal(got, want[:]) {
			t.Errorf("stream %d: %x, want %x", i, got, want)
		}
	}
}

// Many goroutines with a stream each.
func TestConcurrent(t *testing.T) {
	for name, g := range kinds(2) {
		var all sync.WaitGroup
		for i := range uint64(20) {
			all.Go(func() {
				r := rand.New(rand.NewPCG(i, 2))
				for range 20 {
					h, whole := g.New(), md5.New()
					var lent loan
					n := int32(0)
					for range r.IntN(8) {
						p := text(r.Uint64(), r.IntN(1000))
						whole.Write(p)
						lent.lend(h, p)
						n++
					}
					if r.IntN(4) == 0 {
						h.Drop()
					} else if got, want := h.Sum(nil), whole.Sum(nil); !bytes.Equal(got, want) {
						t.Errorf("%s: %x, want %x", name, got, want)
					}
					if back := lent.back.Load(); back != n {
						t.Errorf("%s: of %d pieces %d came back", name, n, back)
					}
				}
			})
		}
		all.Wait()
	}
}

// BenchmarkStreams is what eight streams cost, with and without lanes, so many of which have something at one time.
func BenchmarkStreams(b *testing.B) {
	for _, n := range []int{1, 2, 3, 4, 8} {
		for name, g := range kinds(1) {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				p := text(1, 256<<10)
				b.SetBytes(int64(n * len(p)))
				hashes := make([]*Hash, n)
				for i := range hashes {
					hashes[i] = g.New()
				}
				for b.Loop() {
					for _, h := range hashes {
						h.Later(p, func() {})
					}
					hashes[0].settle(0)
				}
				for _, h := range hashes {
					h.Drop()
				}
			})
		}
	}
}

// Whoever panics while it works for others ends itself alone: the others wait for nothing, and have no sum that may be wrong.
func TestPanic(t *testing.T) {
	g := NewGroup(1)
	if !g.lanes {
		return // each works for itself
	}
	mine, other := g.New(), g.New()
	given := 0
	other.Later(make([]byte, 640), func() { given++ })
	mine.Later(make([]byte, 640), func() { panic("the reason") })
	panics := func(h *Hash) (why any) {
		defer func() { why = recover() }()
		h.Sum(nil)
		return nil
	}
	if why := panics(mine); why != "the reason" {
		t.Errorf("it ended with %v", why)
	}
	if why := panics(other); why == nil {
		t.Error("the other stream has a sum")
	}
	mine.Drop()
	other.Drop()
	if given != 1 {
		t.Errorf("what the other lent was given back %d times", given)
	}
	last := g.New()
	last.Later([]byte("abc"), func() {})
	if got := fmt.Sprintf("%x", last.Sum(nil)); got != "900150983cd24fb0d6963f7d28e17f72" {
		t.Errorf("the next has %s", got)
	}
}
