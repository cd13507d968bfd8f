//go:build !race

package ring

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
)

// checkFile reads a file that may be anything. It must be refused with an error of a
// kind or be a ring, for memory in proportion to what is in it; a ring can be looked
// up in, and be written and read back in each format.
func checkFile(t *testing.T, file []byte) {
	t.Helper()
	inflated := uint64(len(file))
	if z, err := gzip.NewReader(bytes.NewReader(file)); err == nil {
		n, _ := io.CopyN(io.Discard, z, 1<<26) // it may be damaged
		inflated += uint64(n)
	}
	var r *Ring
	var err error
	// A device costs most: 3 bytes can make one of 200.
	if got, most := allocated(func() { r, err = Read(bytes.NewReader(file)) }), 4<<20+200*inflated; got > most {
		t.Errorf("%d bytes allocated for a file of %d that inflates to %d", got, len(file), inflated)
	}
	if err != nil {
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrInvalid) {
			t.Fatalf("an error of no kind: %v", err)
		}
		return
	}
	for _, format := range []Format{V1, V2} {
		if format == V1 && len(r.devices) > MaxDevicesV1 {
			continue
		}
		again, err := Read(bytes.NewReader(encodedAs(t, r, format)))
		if err != nil || !equal(again, r) {
			t.Fatalf("format %d: read %+v, wrote it, then read %+v, %v", format, r, again, err)
		}
	}
	for _, p := range []Partition{0, Partition(r.Partitions() - 1), Partition(r.Partitions())} {
		seen := map[*Device]bool{}
		for _, d := range r.AppendPrimaries(nil, p) {
			seen[d] = true
		}
		primaries := len(seen)
		for d := range r.Handoffs(p) {
			if seen[d] {
				t.Fatalf("partition %d: device %d twice", p, d.ID)
			}
			seen[d] = true
		}
		if has := int(p) < r.Partitions(); has != (primaries > 0) || len(seen) > r.tiers.count[byDevice] {
			t.Fatalf("partition %d of %d has %d primaries, and %d devices in all of %d",
				p, r.Partitions(), primaries, len(seen), r.tiers.count[byDevice])
		}
	}
}

// FuzzRead takes any bytes as a file, and as the inside of one.
func FuzzRead(f *testing.F) {
	for _, format := range []Format{V1, V2} {
		whole := encodedAs(f, small(f), format)
		f.Add(whole)
		f.Add(unzip(f, whole))
	}
	for _, name := range []string{"swift", "swift-v2", "swift-v2-wide", "v2"} {
		file, err := os.ReadFile("testdata/" + name + ".ring.gz")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
		f.Add(unzip(f, file))
	}
	f.Add(body(`{"devs":[`+oneDevice+`],"part_shift":31,"replica_count":2,"byteorder":"big"}`, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkFile(t, data)
		checkFile(t, zip(t, data))
	})
}

// FuzzReadV1 takes bytes as the header and rows of a file.
func FuzzReadV1(f *testing.F) {
	whole := unzip(f, encodedAs(f, small(f), V1))
	length := int(binary.BigEndian.Uint32(whole[magicSize:]))
	f.Add(string(whole[magicSize+4:magicSize+4+length]), whole[magicSize+4+length:])
	f.Add(`{"devs":[`+oneDevice+`,null],"part_shift":31,"replica_count":2,"byteorder":"big","next_part_power":2}`, []byte{0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, header string, rows []byte) {
		checkFile(t, zip(t, body(header, rows...)))
	})
}

// FuzzReadV2 takes bytes as the sections of a file whose index and checksums are right,
// in one order and the other.
func FuzzReadV2(f *testing.F) {
	p := parts()
	f.Add(p[0].content, p[1].content, []byte(p[2].content), "acme/more")
	f.Add(`{"part_shift":30,"dev_id_bytes":3,"version":9,"next_part_power":3}`, "[null,"+oneDevice+"]", bytes.Repeat([]byte{0, 0, 1}, 6), "")
	f.Fuzz(func(t *testing.T, metadata, devices string, table []byte, other string) {
		list := []part{
			{metadataSection, metadata}, {other, devices}, {devicesSection, devices}, {assignmentsSection, string(table)},
		}
		checkFile(t, assemble(t, list, nil))
		list[0], list[3] = list[3], list[0]
		checkFile(t, assemble(t, list, nil))
	})
}

// FuzzReadIndex takes bytes as the index of a file, which its end leads to, and as
// the end.
func FuzzReadIndex(f *testing.F) {
	whole := assemble(f, parts(), nil)
	content := unzip(f, whole)
	start := binary.BigEndian.Uint64(content[len(content)-16:])
	f.Add(string(content[start+lengthSize:len(content)-16]), uint64(0))
	f.Add(`{"a":[26,6,null,null,null,null],"swift/index":[30,100,null,null,"md5",null]}`, uint64(1))
	f.Fuzz(func(t *testing.T, text string, off uint64) {
		b := binary.BigEndian.AppendUint64(bytes.Clone(content[:start]), uint64(len(text)))
		b = append(b, text...)
		b = binary.BigEndian.AppendUint64(b, start+off)
		checkFile(t, zip(t, append(b, content[len(content)-8:]...)))

		// The same by the numbers at the end.
		var out bytes.Buffer
		w, err := newSectionWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts() {
			if err := w.section(p.name, len(p.content), func(w io.Writer) error {
				_, err := io.WriteString(w, p.content)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.endWith([]byte(text)); err != nil {
			t.Fatal(err)
		}
		checkFile(t, out.Bytes())
	})
}
