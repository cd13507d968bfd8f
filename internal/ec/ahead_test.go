package ec

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/errs"
)

// meeting is a reader of which none gets on before as many as it takes are reading.
type meeting struct {
	io.Reader
	all  *sync.WaitGroup
	once sync.Once
}

func (m *meeting) Read(p []byte) (int, error) {
	m.once.Do(m.all.Done)
	m.all.Wait()
	return m.Reader.Read(p)
}

// Archives are read at one time, from the first frame on.
func TestArchivesAreReadAtOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := code(t, "3+2", 20)
		body := bytesOf(70, 1)
		w := write(1, len(body))
		nodes := from(archives(t, c, w, body, 100)...)
		var all sync.WaitGroup
		all.Add(3)
		nodes.wrap = func(_ int, r io.Reader) io.Reader { return &meeting{Reader: r, all: &all} }
		d, err := c.Decode(w, 0, -1, nodes.source)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, body) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
}

// counted counts what was read.
type counted struct {
	io.Reader
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// The next segment is read while the caller has one, no more of them, and none that is not wanted.
func TestOneSegmentIsReadAhead(t *testing.T) {
	c := code(t, "2+1", 20)
	body := bytesOf(200, 1)
	for name, tt := range map[string]struct {
		size, off, n int64
		frames       int64 // read after Prime
	}{
		"all":                         {200, 0, -1, 2},
		"all of an unknown size":      {UnknownSize, 0, -1, 2},
		"a range of two segments":     {200, 30, 20, 2},
		"a range of one":              {200, 25, 10, 1},
		"the last one":                {200, 185, -1, 1},
		"the last of an unknown size": {UnknownSize, 185, -1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := Write{ID: WriteID{1}, Size: tt.size}
			nodes := from(archives(t, c, w, body, 100)...)
			var n atomic.Int64
			nodes.wrap = func(_ int, r io.Reader) io.Reader { return counted{r, &n} }
			d, err := c.Decode(w, tt.off, tt.n, nodes.source)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := d.Prime(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got, want := n.Load(), 2*tt.frames*c.frame(20); got != want {
				t.Errorf("%s: %d bytes were read after the first segment, want %d", name, got, want)
			}
		})
	}
}

// has says that so many of its bytes are there.
type has struct {
	io.Reader
	n int64
}

func (h has) Buffered() int { return int(h.n) }

// What is there already is read when it is wanted, by who wants it: neither ahead nor by a goroutine. What is
// not all there is read as if nothing was.
func TestWhatIsThereIsReadWhenWanted(t *testing.T) {
	c := code(t, "2+1", 20)
	body := bytesOf(200, 1)
	frame := c.frame(20)
	for name, tt := range map[string]struct {
		there  []int64 // of each archive
		frames int64   // read after Prime
	}{
		"all is there":       {[]int64{frame, frame}, 2},
		"a byte is missing":  {[]int64{frame - 1, frame - 1}, 4},
		"one is to wait for": {[]int64{frame, 0}, 3},
		"the other is":       {[]int64{0, frame}, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := write(1, len(body))
			nodes := from(archives(t, c, w, body, 100)...)
			var n atomic.Int64
			nodes.wrap = func(i int, r io.Reader) io.Reader { return has{counted{r, &n}, tt.there[i]} }
			d, err := c.Decode(w, 0, -1, nodes.source)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := d.Prime(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got, want := n.Load(), tt.frames*frame; got != want {
				t.Errorf("%s: %d bytes were read after the first segment, want %d", name, got, want)
			}
			for i, p := range d.g.parts {
				if waits := p.tasks != nil; i < 2 && waits != (tt.there[i] < frame) {
					t.Errorf("%s: archive %d has a goroutine: %v", name, i, waits)
				}
			}
			if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		})
	}
}

// One that fails is replaced at once, while others are still to be waited for.
func TestFailureDoesNotWaitForTheSlow(t *testing.T) {
	c := code(t, "3+2", 20)
	body := bytesOf(20, 1)
	w := write(1, len(body))
	all := archives(t, c, w, body, 100)
	synctest.Test(t, func(t *testing.T) {
		nodes := from(all[0], all[1], all[2], all[4])
		slow, asked := make(chan struct{}), false
		nodes.wrap = func(i int, r io.Reader) io.Reader {
			switch i {
			case 0:
				return after{r, slow}
			case 1:
				return failing{}
			case 3:
				asked = true
				close(slow)
			}
			return r
		}
		d, err := c.Decode(w, 0, -1, nodes.source)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, body) || !asked {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// after gives nothing before a channel is closed.
type after struct {
	io.Reader
	when chan struct{}
}

func (a after) Read(p []byte) (int, error) {
	<-a.when
	return a.Reader.Read(p)
}

// hangs gives so many bytes and then nothing until it is interrupted.
type hangs struct {
	io.Reader
	over chan struct{}
	once sync.Once
}

func (h *hangs) Read(p []byte) (int, error) {
	if n, err := h.Reader.Read(p); err == nil {
		return n, nil
	}
	<-h.over
	return 0, errBroken
}

func (h *hangs) Interrupt() { h.once.Do(func() { close(h.over) }) }

// Close does not wait for an archive that hangs, and neither does an end for want of others.
func TestWhatHangsIsInterrupted(t *testing.T) {
	c := code(t, "2+1", 20)
	body := bytesOf(100, 1)
	w := write(1, len(body))
	all := archives(t, c, w, body, 100)
	open := func(t *testing.T, there ...[]byte) (*Decoder, *nodes) {
		nodes := from(there...)
		nodes.wrap = func(_ int, r io.Reader) io.Reader {
			return &hangs{Reader: io.LimitReader(r, c.frame(20)), over: make(chan struct{})}
		}
		d, err := c.Decode(w, 0, -1, nodes.source)
		if err != nil {
			t.Fatal(err)
		}
		return d, nodes
	}
	t.Run("closed", func(t *testing.T) {
		d, _ := open(t, all...)
		if n, err := io.ReadFull(d, make([]byte, 20)); err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("too few", func(t *testing.T) {
		damaged := bytes.Clone(all[2])
		damaged[HeaderSize+frameHead]++
		synctest.Test(t, func(t *testing.T) {
			d, _ := open(t, damaged, all[0])
			defer d.Close()
			began := time.Now()
			if err := d.Prime(); !errors.Is(err, ErrTooFew) || !errs.Is(err, errs.Unavailable) || time.Since(began) > 0 {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			if n := len(d.Faults()); n != 1 {
				t.Errorf("%v", d.Faults())
			}
		})
	})
}
