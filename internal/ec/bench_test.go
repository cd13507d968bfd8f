package ec

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/klauspost/reedsolomon"
	"github.com/minio/crc64nvme"
)

var benched = []string{"1+1", "4+2", "8+3", "10+4", "20+8"}

// Encoding a large object with all checksums, once of bytes that are in place, once read
// from memory, which is a copy, beside the library's own encoding of segments that are in place:
// as it comes, and on one goroutine as here.
func BenchmarkEncode(b *testing.B) {
	const segments = 16
	body := bytesOf(segments*Segment, 1)
	for _, s := range benched {
		c, err := New(Of(shape(b, s)))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s+"/library", func(b *testing.B) { benchLibrary(b, c, 0, false) })
		b.Run(s+"/library-alone", func(b *testing.B) { benchLibrary(b, c, 1, false) })
		b.Run(s+"/encode", func(b *testing.B) { benchEncode(b, c, len(body), func() io.Reader { return &inPlace{len(body)} }) })
		b.Run(s+"/encode-read", func(b *testing.B) { benchEncode(b, c, len(body), func() io.Reader { return bytes.NewReader(body) }) })
	}
}

// inPlace has so many bytes, and they are whatever there is where they are read to.
type inPlace struct{ left int }

func (r *inPlace) Read(p []byte) (int, error) {
	n := min(len(p), r.left)
	r.left -= n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func benchEncode(b *testing.B, c *Code, size int, body func() io.Reader) {
	b.ReportAllocs()
	b.SetBytes(int64(size))
	defer processorTime(b)()
	for b.Loop() {
		e, err := c.Encode(write(1, size), func([][]byte) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.ReadFrom(body()); err != nil {
			b.Fatal(err)
		}
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// Decoding a large object: from the data fragments, and with as many of them lost as can be, of archives
// that are there, and of such that may have to be waited for; once of bytes that are in place, once read from
// memory, which is a copy. Beside it the library's own decoding of a segment that is in place, the reading of k
// archives alone, and what no decoder of archives that are in memory can do without: that the library decodes them where they
// are, and they are checksummed.
func BenchmarkDecode(b *testing.B) {
	const segments = 16
	body := bytes.Repeat(bytesOf(Segment, 1), segments)
	for _, s := range benched {
		c, err := New(Of(shape(b, s)))
		if err != nil {
			b.Fatal(err)
		}
		w := write(1, len(body))
		all := archives(b, c, w, body, Segment)
		b.Run(s+"/library-lost", func(b *testing.B) { benchLibrary(b, c, 0, true) })
		b.Run(s+"/library-alone-lost", func(b *testing.B) { benchLibrary(b, c, 1, true) })
		b.Run(s+"/read-only", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			room := make([]byte, c.Data*int(c.frame(Segment)))
			defer processorTime(b)()
			for b.Loop() {
				readers := make([]*bytes.Reader, c.Data)
				for i := range readers {
					readers[i] = bytes.NewReader(all[i][HeaderSize:])
				}
				for range segments {
					rest := room
					for _, r := range readers {
						n, err := r.Read(rest[:c.frame(Segment)])
						if err != nil {
							b.Fatal(err)
						}
						rest = rest[n:]
					}
				}
			}
		})
		lost := min(c.Parity, c.Data)
		b.Run(s+"/floor-lost", func(b *testing.B) { benchFloor(b, c, all, lost, segments) })
		for _, how := range []struct {
			name  string
			here  set
			place bool
		}{{"", everyone, true}, {"-waited", 0, true}, {"-read", everyone, false}, {"-read-waited", 0, false}} {
			from := func(there [][]byte) Source {
				n := &nodes{archives: there, here: how.here}
				if how.place {
					n.wrap = func(i int, _ io.Reader) io.Reader {
						r := &framesInPlace{l: c.Layout, archive: there[i]}
						if how.here == 0 {
							return r
						}
						return has{r, 1 << 30}
					}
				}
				return n.source
			}
			decode := func(there [][]byte) func() (int64, error) {
				return func() (int64, error) {
					d, err := c.Decode(w, 0, -1, from(there))
					if err != nil {
						return 0, err
					}
					n, err := d.WriteTo(io.Discard)
					return n, errors.Join(err, d.Close())
				}
			}
			b.Run(s+"/decode-whole"+how.name, func(b *testing.B) { benchDecode(b, len(body), decode(all[:c.Data])) })
			b.Run(s+"/decode-lost"+how.name, func(b *testing.B) { benchDecode(b, len(body), decode(all[lost:lost+c.Data])) })
			b.Run(s+"/rebuild"+how.name, func(b *testing.B) {
				benchDecode(b, len(body), func() (int64, error) {
					n, _, err := c.Rebuild(io.Discard, w, 0, from(all[1:1+c.Data]))
					return n, err
				})
			})
		}
	}
}

// framesInPlace gives the frames of an archive whose fragments are all the same. They are where they
// are read to, but when a buffer is used first.
type framesInPlace struct {
	l       Layout
	archive []byte
	next    int64
}

func (r *framesInPlace) Read(p []byte) (int, error) {
	frame := r.archive[r.l.FrameAt(r.next):r.l.FrameAt(r.next+1)]
	r.next++
	n := len(frame)
	if !bytes.Equal(p[frameHead:frameHead+64], frame[frameHead:frameHead+64]) || !bytes.Equal(p[n-64:n], frame[n-64:]) {
		copy(p, frame)
	}
	return copy(p, frame[:frameHead]) + n - frameHead, nil
}

// benchFloor has the library make the first data fragments of k others where they are in archives,
// after the checksums of these.
func benchFloor(b *testing.B, c *Code, all [][]byte, lost, segments int) {
	rs, err := reedsolomon.New(c.Data, c.Parity, reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		b.Fatal(err)
	}
	each := c.fragment(Segment)
	made := reedsolomon.AllocAligned(lost, each)
	shards := make([][]byte, c.Fragments())
	b.SetBytes(int64(segments * Segment))
	defer processorTime(b)()
	for b.Loop() {
		for segment := range int64(segments) {
			for i := range made {
				shards[i] = made[i][:0]
			}
			for i := lost; i < lost+c.Data; i++ {
				frame := all[i][c.FrameAt(segment):c.FrameAt(segment+1)]
				shards[i] = frame[frameHead:]
				if crc64nvme.Checksum(frame) == 0 {
					b.Fatal("no such checksum is likely")
				}
			}
			if err := rs.ReconstructData(shards); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func benchDecode(b *testing.B, size int, decode func() (int64, error)) {
	b.ReportAllocs()
	b.SetBytes(int64(size))
	defer processorTime(b)()
	for b.Loop() {
		if n, err := decode(); n != int64(size) || err != nil {
			b.Fatal(n, err)
		}
	}
}

// processorTime reports, once what it returns is called, the processor time of the whole process,
// in µs: what the goroutines of the library cost is in it.
func processorTime(b *testing.B) func() {
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
			b.Fatal(err)
		}
		took := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(took)/1e3/float64(b.N), "cpu-µs/op")
	}
}

func benchLibrary(b *testing.B, c *Code, goroutines int, decode bool) {
	rs, err := reedsolomon.New(c.Data, c.Parity, reedsolomon.WithMaxGoroutines(goroutines))
	if err != nil {
		b.Fatal(err)
	}
	each := c.fragment(Segment)
	shards := reedsolomon.AllocAligned(c.Fragments(), each)
	for i, shard := range shards[:c.Data] {
		copy(shard, bytesOf(each, uint64(i)))
	}
	b.ReportAllocs()
	b.SetBytes(Segment)
	defer processorTime(b)()
	for b.Loop() {
		if decode {
			for i := range min(c.Parity, c.Data) {
				shards[i] = shards[i][:0]
			}
			err = rs.ReconstructData(shards)
		} else {
			err = rs.Encode(shards)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// An object of 4 KiB, as it is written and read.
func BenchmarkSmall(b *testing.B) {
	c, err := New(Of(Shape{4, 2}))
	if err != nil {
		b.Fatal(err)
	}
	body := bytesOf(4096, 1)
	w := write(1, len(body))
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		defer processorTime(b)()
		for b.Loop() {
			e, err := c.Encode(w, func([][]byte) error { return nil })
			if err != nil {
				b.Fatal(err)
			}
			if _, err := e.Write(body); err != nil {
				b.Fatal(err)
			}
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	all := archives(b, c, w, body, len(body))
	for name, here := range map[string]set{"decode": everyone, "decode-waited": 0} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			defer processorTime(b)()
			for b.Loop() {
				if err := readAll(c, w, &nodes{archives: all, here: here}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
