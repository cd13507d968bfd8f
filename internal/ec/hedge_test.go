package ec

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// uneven is a reader of an archive of which each frame takes a time of its own to come, and some never do.
type uneven struct {
	frames [][]byte
	waits  []time.Duration // of each; negative is for ever
	over   chan struct{}
	once   sync.Once
	close  func()
}

func (u *uneven) Close() error { u.close(); return nil }

func (u *uneven) Read(p []byte) (int, error) {
	if len(u.frames) == 0 {
		return 0, io.EOF
	}
	if u.waits[0] != 0 {
		var when <-chan time.Time
		if u.waits[0] > 0 {
			when = time.After(u.waits[0])
		}
		select {
		case <-when:
		case <-u.over:
			return 0, errBroken
		}
		u.waits[0] = 0
	}
	n := copy(p, u.frames[0])
	if u.frames[0] = u.frames[0][n:]; len(u.frames[0]) == 0 {
		u.frames, u.waits = u.frames[1:], u.waits[1:]
	}
	return n, nil
}

func (u *uneven) Interrupt() { u.once.Do(func() { close(u.over) }) }

// bedside hands out archives, each that is not being read once for a segment, and more of them after a while where one
// is late.
type bedside struct {
	c       *Code
	t       *rapid.T
	all     [][]byte
	manners []manner
	answer  time.Duration // until there is another
	most    int           // how many may be asked for beside others

	late func(segment int64, waited time.Duration, apart bool) time.Duration // instead of what it does; nil is that

	offered []int64 // by archive, behind the segment that it was offered for last
	open    []bool
	ready   time.Time // when the one that is being asked for is there; zero where none is
	started int       // how often one was asked for
	ended   int       // how often that came to an end
}

// manner is what an archive is like.
type manner struct {
	hangs, breaks, damaged int64 // at which frame; -1 is at none
	waits                  []time.Duration
}

func (b *bedside) source(segment int64) (Part, error) {
	for i, a := range b.all {
		if b.open[i] || b.offered[i] > segment {
			continue
		}
		b.open[i], b.offered[i] = true, segment+1
		h, err := ParseHeader(a)
		return Part{Header: h, Frames: b.read(i, segment)}, err
	}
	return Part{}, io.EOF
}

// read reads an archive from a segment on.
func (b *bedside) read(i int, segment int64) *uneven {
	m, a := b.manners[i], b.all[i]
	u := &uneven{over: make(chan struct{}), waits: slices.Clone(m.waits[segment:]), close: func() { b.open[i] = false }}
	for n := segment; b.c.FrameAt(n) < int64(len(a)) && n != m.breaks; n++ {
		f := bytes.Clone(a[b.c.FrameAt(n):min(b.c.FrameAt(n+1), int64(len(a)))])
		switch n {
		case m.hangs:
			u.waits[n-segment] = -1
		case m.damaged:
			f[len(f)-1] ^= 1
		}
		u.frames = append(u.frames, f)
	}
	return u
}

func (b *bedside) Late(segment int64, waited time.Duration, apart bool) time.Duration {
	if b.late != nil {
		return b.late(segment, waited, apart)
	}
	const delay = 20 * time.Millisecond
	if waited < delay {
		return delay - waited
	}
	if b.started == b.most {
		return time.Hour
	}
	b.started++
	return 0
}

func (b *bedside) Beside(segment int64, late int, wake <-chan struct{}) (Part, bool, error) {
	if late == 0 {
		b.t.Error("none is late")
	}
	if b.ready.IsZero() {
		b.ready = time.Now().Add(b.answer)
	}
	select {
	case <-wake:
		return Part{}, false, nil
	case <-time.After(time.Until(b.ready)):
	}
	b.ready = time.Time{}
	p, err := b.source(segment)
	return p, err == nil, err
}

func (b *bedside) Enough() { b.ready, b.ended = time.Time{}, b.ended+1 }

// Archives come as slowly as they like, some never, some break off, some are damaged, and others are asked for
// beside them or are not to be had: the bytes are the right ones, nothing stays open, and what never comes is not
// waited for.
func TestLateArchives(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		const segment = 60
		c, err := New(Layout{Shape{rapid.IntRange(1, 5).Draw(r, "k"), rapid.IntRange(1, 4).Draw(r, "m")}, segment})
		if err != nil {
			r.Fatal(err)
		}
		n := c.Fragments()
		body := bytesOf(rapid.IntRange(1, 6*segment).Draw(r, "size"), rapid.Uint64().Draw(r, "seed"))
		w := write(1, len(body))
		b := &bedside{
			c: c, t: r, all: archives(t, c, w, body, 100), offered: make([]int64, n), open: make([]bool, n),
			answer: time.Duration(rapid.SampledFrom([]int{0, 5, 60, 900}).Draw(r, "answer")) * time.Millisecond,
			most:   rapid.SampledFrom([]int{1000, 1000, 1, 0}).Draw(r, "most"),
		}
		bad := rapid.Permutation(indexes(n)).Draw(r, "order")[:rapid.IntRange(0, c.Parity).Draw(r, "bad")]
		for i := range n {
			m := manner{-1, -1, -1, nil}
			for range 6 {
				m.waits = append(m.waits, time.Duration(rapid.SampledFrom([]int{0, 0, 0, 3, 25, 120, 700}).Draw(r, "wait"))*time.Millisecond)
			}
			if slices.Contains(bad, i) {
				how := []*int64{&m.breaks, &m.damaged, &m.hangs}
				if b.most < 1000 {
					how = how[:2] // nobody would be asked beside it
				}
				*rapid.SampledFrom(how).Draw(r, "how") = rapid.Int64Range(0, 5).Draw(r, "where")
			}
			b.manners = append(b.manners, m)
		}
		stay := time.Duration(rapid.SampledFrom([]int{0, 0, 40}).Draw(r, "stay")) * time.Millisecond

		synctest.Test(t, func(*testing.T) {
			d, err := c.Decode(w, 0, -1, b.source)
			if err != nil {
				r.Fatal(err)
			}
			d.Hedge(b)
			var got []byte
			for p := make([]byte, 50); err == nil; {
				var n int
				n, err = d.Read(p)
				got = append(got, p[:n]...)
				open := 0
				for _, o := range b.open {
					if o {
						open++
					}
				}
				if open > c.Data {
					r.Errorf("%d archives are being read where %d are enough", open, c.Data)
				}
				time.Sleep(stay) // in the bubble
			}
			if err != io.EOF || !bytes.Equal(got, body) {
				r.Errorf("got %d bytes, %v, want %d: %v", len(got), err, len(body), d.Faults())
			}
			if err := d.Close(); err != nil || slices.Contains(b.open, true) {
				r.Errorf("%v, open: %v", err, b.open)
			}
			if b.started > 0 && b.ended == 0 {
				r.Error("nobody said that it is enough")
			}
		})
	})
}

// What is taken for late, and when: what is slower than others in its segment, or than all were in those before it, and no more
// than could be had of others.
func TestWhatIsLate(t *testing.T) {
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		waits [][]time.Duration // of each archive its frames
		want  string            // segment, and after how long, and whether it is apart
	}{
		"none is waited for":         {[][]time.Duration{{0, 0, 0, 0}, {0, 0, 0, 0}}, ""},
		"one":                        {[][]time.Duration{{1 * ms, 1 * ms, 1 * ms, 1 * ms}, {1 * ms, 1 * ms, 90 * ms, 1 * ms}}, "2 10ms true"},
		"twice as slow, from 100 on": {[][]time.Duration{{50 * ms, 50 * ms, 0, 0}, {50 * ms, 50 * ms, 120 * ms, 0}}, "2 100ms true"},
		"not twice as slow":          {[][]time.Duration{{50 * ms, 50 * ms, 50 * ms, 50 * ms}, {95 * ms, 95 * ms, 95 * ms, 95 * ms}}, ""},
		"the first frame":            {[][]time.Duration{{30 * ms, 0, 0, 0}, {300 * ms, 0, 0, 0}}, "0 60ms true"},
		"all wait for the slowest, and have the next ones ready": {[][]time.Duration{{50 * ms, 0, 0, 0}, {80 * ms, 80 * ms, 80 * ms, 80 * ms}}, ""},
		"more than are to be had of others":                      {[][]time.Duration{{0, 0, 900 * ms, 0}, {0, 0, 900 * ms, 0}}, ""},
		"one that all others wait for":                           {[][]time.Duration{{0, 0, 900 * ms, 0}}, "2 10ms false"},
		"one that was faster before":                             {[][]time.Duration{{8 * ms, 8 * ms, 900 * ms, 0}}, "2 16ms true"},
	} {
		t.Run(name, func(t *testing.T) {
			const segment = 60
			k := len(tt.waits)
			c, err := New(Layout{Shape{k, 1}, segment})
			if err != nil {
				t.Fatal(err)
			}
			w := write(1, 4*segment)
			synctest.Test(t, func(t *testing.T) {
				b := &bedside{c: c, all: archives(t, c, w, bytesOf(4*segment, 1), 100), offered: make([]int64, k+1), open: make([]bool, k+1)}
				for i := range k + 1 {
					m := manner{-1, -1, -1, make([]time.Duration, 4)}
					if i < k {
						m.waits = tt.waits[i]
					}
					b.manners = append(b.manners, m)
				}
				got := ""
				b.late = func(segment int64, waited time.Duration, apart bool) time.Duration {
					if got == "" {
						got = fmt.Sprint(segment, waited, apart)
					}
					return time.Hour
				}
				d, err := c.Decode(w, 0, -1, b.source)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				d.Hedge(b)
				if _, err := io.Copy(io.Discard, d); err != nil {
					t.Fatal(err)
				}
				if got != tt.want {
					t.Errorf("late was %q, want %q", got, tt.want)
				}
			})
		})
	}
}
