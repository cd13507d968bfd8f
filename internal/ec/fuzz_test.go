package ec

import (
	"bytes"
	"encoding/binary"
	"hash/crc64"
	"io"
	"testing"
)

// Whatever is read as a header is one that is written so again.
func FuzzHeader(f *testing.F) {
	for _, h := range []Header{
		{Of(Shape{4, 2}), Write{WriteID{1}, 1 << 40}, 5},
		{Layout{Shape{20, 8}, 1}, Write{WriteID{}, UnknownSize}, 27},
	} {
		f.Add(h.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func() {
			h, err := ParseHeader(b)
			if err != nil {
				return
			}
			if again := h.Append(nil); !bytes.Equal(again, b[:HeaderSize]) {
				t.Fatalf("%x reads as %+v, which is %x", b[:HeaderSize], h, again)
			}
		}
		check()
		if len(b) >= HeaderSize {
			b = bytes.Clone(b)
			reseal(b)
			check()
		}
	})
}

// Of what else archives may be, an object comes out exactly or not at all; and with
// checksums made right, what comes out may be anything, but has its length.
func FuzzDecode(f *testing.F) {
	c := code(f, "2+1", 16)
	body := bytesOf(37, 1)
	known, unknown := write(1, len(body)), Write{ID: WriteID{2}, Size: UnknownSize}
	for _, w := range []Write{known, unknown} {
		all := archives(f, c, w, body, 100)
		f.Add(all[0], all[1], all[2], uint8(0), uint8(37))
		f.Add(all[1][:99], all[1], all[0], uint8(16), uint8(16))
		f.Add(all[0], all[1][HeaderSize:], all[2], uint8(36), uint8(1))
	}
	f.Fuzz(func(t *testing.T, a, b, d []byte, off, n uint8) {
		for _, w := range []Write{known, unknown} {
			got, _, err := decoded(c, w, int64(off), int64(n), a, b, d)
			if err == nil && n > 0 && (int(off)+int(n) > len(body) || !bytes.Equal(got, body[off:int(off)+int(n)])) {
				t.Fatalf("%d bytes from %d on are %x", n, off, got)
			}
			h := Header{Layout: c.Layout, Write: w}
			there := [][]byte{a, b, d}
			for i := range there {
				h.Index = i
				if forged := forge(h, there[i]); forged != nil {
					_, _, _ = Verify(bytes.NewReader(forged))
					there[i] = forged
				}
			}
			if got, _, err := decoded(c, w, int64(off), int64(n), there...); err == nil && len(got) != int(n) {
				t.Fatalf("%d bytes from %d on are %d", n, off, len(got))
			}
			_, _, _ = c.Rebuild(io.Discard, w, int(off)%3, from(there...).source)
		}
	})
}

// forge gives an archive a header, and each of its frames, by the length that it says it has,
// a checksum that is right.
func forge(h Header, archive []byte) []byte {
	if len(archive) < HeaderSize {
		return nil
	}
	forged := append(h.Append(nil), archive[HeaderSize:]...)
	for rest := forged[HeaderSize:]; len(rest) >= frameHead; {
		size := h.fragment(int(binary.LittleEndian.Uint32(rest) &^ lastFrame))
		if size > len(rest)-frameHead {
			break
		}
		sum := crc64.Update(crc64.Checksum(forged[:sumAt], nvme), nvme, rest[:8])
		binary.LittleEndian.PutUint64(rest[8:], crc64.Update(sum, nvme, rest[frameHead:frameHead+size]))
		rest = rest[frameHead+size:]
	}
	return forged
}
