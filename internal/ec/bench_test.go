package ec

import (
	"bytes"
	"io"
	"syscall"
	"testing"

	"github.com/klauspost/reedsolomon"
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

// Decoding a large object: from the data fragments, and with as many of them lost as can be,
// beside the library's own decoding of that, and the reading of k archives alone, a copy.
func BenchmarkDecode(b *testing.B) {
	const segments = 16
	body := bytesOf(segments*Segment, 1)
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
		for name, there := range map[string][][]byte{"whole": all[:c.Data], "lost": all[lost : lost+c.Data]} {
			b.Run(s+"/decode-"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				defer processorTime(b)()
				for b.Loop() {
					d, err := c.Decode(w, 0, -1, from(there...).source)
					if err != nil {
						b.Fatal(err)
					}
					if n, err := d.WriteTo(io.Discard); n != int64(len(body)) || err != nil {
						b.Fatal(n, err)
					}
					if err := d.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(s+"/rebuild", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			defer processorTime(b)()
			for b.Loop() {
				if _, _, err := c.Rebuild(io.Discard, w, 0, from(all[1:1+c.Data]...).source); err != nil {
					b.Fatal(err)
				}
			}
		})
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
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		defer processorTime(b)()
		for b.Loop() {
			d, err := c.Decode(w, 0, -1, from(all...).source)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := d.WriteTo(io.Discard); err != nil {
				b.Fatal(err)
			}
			if err := d.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
