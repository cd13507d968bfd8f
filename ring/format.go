package ring

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Format is a version of the ring file's format.
type Format int

// The formats that are read and written.
const (
	// Auto writes V1 where the ring fits, which every Swift reads, and V2 otherwise.
	Auto Format = iota
	// V1 holds at most [MaxDevicesV1] devices.
	V1
	// V2 holds any ring. Swift reads it as of 2.36, as this does.
	V2
)

// A file of either version is gzip, and begins, inside, with "R1NG" and its format
// version in 16 bits, big endian. sections.go tells of version 2. In version 1 follow:
//
//	header length              uint32, big endian
//	header                     JSON: devs, part_shift, replica_count, byteorder, version
//	row 0, row 1, ...          uint16 per partition, in the order that byteorder names
//
// The last row may end early. gzip's checksum covers all of it.
const (
	magic     = "R1NG"
	magicSize = len(magic) + 2

	maxHeader = 64 << 20 // bytes of JSON; 65535 devices need about 16 MiB
)

// MaxFile bounds a ring file, and what of it is inflated, in bytes.
const MaxFile = 4*MaxAssignments + maxDevices + maxHeader

// fileTime is the modification time in the gzip header, Swift's: a fixed one, so
// that equal rings are equal files.
var fileTime = time.Unix(1300507380, 0)

// ErrDamaged is wrapped by errors that say a file is not a whole ring file: not
// gzip, of another format, cut short, changed, or with something after its end.
var ErrDamaged = errors.New("damaged ring file")

type header struct {
	Devices      json.RawMessage `json:"devs"`
	PartShift    *int            `json:"part_shift"`
	ReplicaCount int             `json:"replica_count"` // rows, a short one counted as one
	ByteOrder    string          `json:"byteorder"`
	Version      int64           `json:"version"`
	Next         int             `json:"next_part_power,omitempty"`
}

// Read reads a ring file of any format to its end. What it allocates is bounded by
// what the file really holds and by the package's limits, whatever the file says; so
// is the work. An error wraps [ErrDamaged] or [ErrInvalid], or is the reader's own.
func Read(src io.Reader) (*Ring, error) {
	limited := &io.LimitedReader{R: src, N: MaxFile + 1}
	ring, err := read(limited)
	if limited.N <= 0 {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrDamaged, int64(MaxFile))
	}
	return ring, err
}

func read(src io.Reader) (*Ring, error) {
	in := bufio.NewReaderSize(src, 1<<16)
	begin, err := in.Peek(1 << 16)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading the ring file: %w", err)
	}
	version, err := formatOf(begin)
	if err != nil {
		return nil, err
	}
	if version == V2 {
		// Its index comes last, and its parts may be in any order.
		var file bytes.Buffer
		if _, err := file.ReadFrom(in); err != nil {
			return nil, fmt.Errorf("reading the ring file: %w", err)
		}
		return readV2(file.Bytes())
	}
	return readV1(in)
}

// formatOf is the version of a file that begins so.
func formatOf(begin []byte) (Format, error) {
	z, err := gzip.NewReader(bytes.NewReader(begin))
	if err != nil {
		return 0, damage("gzip header", err)
	}
	var first [magicSize]byte
	if _, err := io.ReadFull(z, first[:]); err != nil {
		return 0, damage("first bytes", err)
	}
	if string(first[:4]) != magic {
		return 0, fmt.Errorf("%w: it begins with %q, not %q", ErrDamaged, first[:4], magic)
	}
	switch v := Format(binary.BigEndian.Uint16(first[4:])); v {
	case V1, V2:
		return v, nil
	default:
		return 0, fmt.Errorf("%w: format version %d, this reads %d and %d", ErrDamaged, v, V1, V2)
	}
}

func readV1(in *bufio.Reader) (*Ring, error) {
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, damage("gzip header", err)
	}
	z.Multistream(false) // what follows the stream is found below
	h, err := readHeader(z)
	if err != nil {
		return nil, err
	}
	data, order, err := h.data()
	if err != nil {
		return nil, err
	}
	table, err := readRows(z, order, 1<<data.PartPower, h.ReplicaCount)
	if err != nil {
		return nil, err
	}
	if _, err := in.ReadByte(); err == nil {
		return nil, fmt.Errorf("%w: something follows the end of the gzip stream", ErrDamaged)
	} else if err != io.EOF {
		return nil, fmt.Errorf("reading past the end of the ring: %w", err)
	}
	return build(data, rows{narrow: table})
}

// damage names what was being read when err came up. What gzip says is wrong with
// the bytes is damage; anything else is the reader's own trouble.
func damage(reading string, err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends within the %s", ErrDamaged, reading)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return fmt.Errorf("%w: %s: %w", ErrDamaged, reading, err)
	}
	return fmt.Errorf("reading the %s: %w", reading, err)
}

func readHeader(z io.Reader) (header, error) {
	var h header
	var fixed [magicSize + 4]byte
	if _, err := io.ReadFull(z, fixed[:]); err != nil {
		return h, damage("first bytes", err)
	}
	length := int64(binary.BigEndian.Uint32(fixed[magicSize:]))
	if length > maxHeader {
		return h, fmt.Errorf("%w: header of %d bytes, at most %d", ErrDamaged, length, maxHeader)
	}
	var text bytes.Buffer // grows with what arrives, not with what length claims
	if _, err := io.CopyN(&text, z, length); err != nil {
		return h, damage("header", err)
	}
	if err := json.Unmarshal(text.Bytes(), &h); err != nil {
		return h, fmt.Errorf("%w: header: %w", ErrDamaged, err)
	}
	return h, nil
}

// data is the ring but for its rows, and the order of their bytes.
func (h header) data() (Data, binary.ByteOrder, error) {
	power, err := partPower(h.PartShift)
	if err != nil {
		return Data{}, nil, err
	}
	if err := checkSize(power, h.ReplicaCount); err != nil {
		return Data{}, nil, err
	}
	devices, err := readDevices(bytes.NewReader(h.Devices), MaxDevicesV1)
	if err != nil {
		return Data{}, nil, err
	}
	data := Data{Devices: devices, PartPower: power, NextPartPower: h.Next, Version: h.Version}
	switch h.ByteOrder {
	case "little", "": // rings older than the key were written in the host's order
		return data, binary.LittleEndian, nil
	case "big":
		return data, binary.BigEndian, nil
	}
	return Data{}, nil, fmt.Errorf("%w: byteorder %q", ErrDamaged, h.ByteOrder)
}

func partPower(shift *int) (int, error) {
	if shift == nil {
		return 0, fmt.Errorf("%w: header has no part_shift", ErrDamaged)
	}
	if *shift < 0 || *shift > 32 {
		return 0, fmt.Errorf("%w: part_shift %d", ErrInvalid, *shift)
	}
	return 32 - *shift, nil
}

// readDevices decodes one device at a time, to stop where there are too many.
func readDevices(list io.Reader, most int) ([]*Device, error) {
	dec := json.NewDecoder(list)
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return nil, fmt.Errorf("%w: no list of devs", ErrDamaged)
	}
	var devices []*Device
	for dec.More() {
		if len(devices) == most {
			return nil, fmt.Errorf("%w: more than %d devices", ErrInvalid, most)
		}
		var d *fileDevice
		if err := dec.Decode(&d); err != nil {
			return nil, fmt.Errorf("%w: device %d: %w", ErrDamaged, len(devices), err)
		}
		devices = append(devices, d.device())
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("%w: list of devs: %w", ErrDamaged, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows the list of devs", ErrDamaged)
	}
	return devices, nil
}

// fileDevice tells a region that is left out, as rings from before there were
// regions do, from region 0.
type fileDevice struct {
	Device
	Region *int `json:"region"`
}

func (f *fileDevice) device() *Device {
	if f == nil {
		return nil
	}
	d := &f.Device
	d.Region = 1
	if f.Region != nil {
		d.Region = *f.Region
	}
	return d
}

// readRows reads to the end of the stream, which also checks gzip's checksum.
func readRows(z io.Reader, order binary.ByteOrder, partitions, count int) ([][]uint16, error) {
	rows := make([][]uint16, 0, count)
	chunk := make([]byte, 1<<16)
	ended := false
	for i := range count {
		room := partitions
		if i == 0 {
			room = min(partitions, len(chunk)) // until one whole row has arrived, the size is a claim
		}
		row, err := appendRow(make([]uint16, 0, room), z, order, chunk, partitions)
		if err == io.EOF {
			ended = true
		} else if err != nil {
			return nil, damage(fmt.Sprintf("row of replica %d", i), err)
		}
		short := len(row) < partitions
		if short && (i == 0 || i < count-1 || len(row) == 0) {
			return nil, fmt.Errorf("%w: the row of replica %d of %d ends after %d of %d partitions",
				ErrDamaged, i, count, len(row), partitions)
		}
		rows = append(rows, row)
	}
	if ended {
		return rows, nil
	}
	if n, err := readUpTo(z, chunk[:1]); n > 0 {
		return nil, fmt.Errorf("%w: something follows the last row", ErrDamaged)
	} else if err != io.EOF {
		return nil, damage("end", err)
	}
	return rows, nil
}

// appendRow appends up to partitions ids. It returns io.EOF where the stream ended,
// whole, before that many.
func appendRow(row []uint16, z io.Reader, order binary.ByteOrder, chunk []byte, partitions int) ([]uint16, error) {
	little := order == binary.LittleEndian
	for len(row) < partitions {
		n, err := readUpTo(z, chunk[:min(len(chunk), 2*(partitions-len(row)))])
		if n%2 != 0 && (err == nil || err == io.EOF) {
			return row, fmt.Errorf("%w: half a device id", ErrDamaged)
		}
		if little { // a direct call is twice as fast as one through the interface
			for b := chunk[:n]; len(b) >= 2; b = b[2:] {
				row = append(row, binary.LittleEndian.Uint16(b))
			}
		} else {
			for b := chunk[:n]; len(b) >= 2; b = b[2:] {
				row = append(row, binary.BigEndian.Uint16(b))
			}
		}
		if err != nil {
			return row, err
		}
	}
	return row, nil
}

// readUpTo fills b. Unlike io.ReadFull it returns the error as it was, so that a
// stream that ended whole (io.EOF) differs from one that was cut.
func readUpTo(z io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = z.Read(b[n:])
		n += m
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}

// WriteTo writes the ring as a file of format version 1. Equal rings give equal bytes.
// A ring of more than [MaxDevicesV1] devices is refused with [ErrInvalid].
func (r *Ring) WriteTo(w io.Writer) (int64, error) { return r.WriteFormat(w, V1) }

// WriteFormat writes the ring as a file of a format. Equal rings give equal bytes.
// A ring that the format can't hold, or a format that there isn't, is refused with
// [ErrInvalid].
func (r *Ring) WriteFormat(w io.Writer, f Format) (int64, error) {
	fits := len(r.devices) <= MaxDevicesV1
	if f == Auto && fits {
		f = V1
	} else if f == Auto {
		f = V2
	}
	counted := &countingWriter{w: w}
	switch {
	case f == V1 && !fits:
		return 0, fmt.Errorf("%w: %d devices, a file of format version 1 holds %d", ErrInvalid, len(r.devices), MaxDevicesV1)
	case f == V1:
		err := r.writeV1(counted)
		return counted.n, err
	case f == V2:
		err := r.writeV2(counted)
		return counted.n, err
	}
	return 0, fmt.Errorf("%w: format version %d, this writes %d and %d", ErrInvalid, f, V1, V2)
}

func (r *Ring) writeV1(w io.Writer) error {
	z := gzip.NewWriter(w)
	z.ModTime = fileTime
	devices, err := marshal(r.devices)
	if err != nil {
		return err
	}
	shift := 32 - r.partPower
	text, err := marshal(header{
		Devices:      devices,
		PartShift:    &shift,
		ReplicaCount: r.rows.count(),
		ByteOrder:    "little",
		Version:      r.version,
		Next:         r.nextPartPower,
	})
	if err != nil {
		return err
	}
	if len(text) > maxHeader {
		return fmt.Errorf("%w: the header takes %d bytes, at most %d", ErrInvalid, len(text), maxHeader)
	}
	out := beginning(V1)
	out = binary.BigEndian.AppendUint32(out, uint32(len(text)))
	if _, err := z.Write(append(out, text...)); err != nil {
		return err
	}
	for _, row := range r.rows.narrow {
		if err := writeRow(z, row, binary.LittleEndian.AppendUint16); err != nil {
			return err
		}
	}
	return z.Close()
}

// beginning is what a file begins with, inside gzip.
func beginning(f Format) []byte { return binary.BigEndian.AppendUint16([]byte(magic), uint16(f)) }

// marshal is json.Marshal in ASCII, as the format has it.
func marshal(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil || !bytes.ContainsFunc(text, func(c rune) bool { return c >= utf8.RuneSelf }) {
		return text, err
	}
	var plain []byte
	for _, c := range string(text) {
		switch {
		case c < utf8.RuneSelf:
			plain = append(plain, byte(c))
		case c <= 0xffff:
			plain = fmt.Appendf(plain, `\u%04x`, c)
		default:
			high, low := utf16.EncodeRune(c)
			plain = fmt.Appendf(plain, `\u%04x\u%04x`, high, low)
		}
	}
	return plain, nil
}

// writeRow writes ids as put appends them.
func writeRow[ID deviceID](w io.Writer, row []ID, put func([]byte, ID) []byte) error {
	chunk := make([]byte, 0, 1<<16)
	for len(row) > 0 {
		n := min(len(row), cap(chunk)/4)
		chunk = chunk[:0]
		for _, id := range row[:n] {
			chunk = put(chunk, id)
		}
		if _, err := w.Write(chunk); err != nil {
			return err
		}
		row = row[n:]
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
