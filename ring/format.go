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
)

// The file, inside gzip:
//
//	"R1NG"                     4 bytes
//	format version             uint16, big endian: 1
//	header length              uint32, big endian
//	header                     JSON: devs, part_shift, replica_count, byteorder, version
//	row 0, row 1, ...          uint16 per partition, in the order that byteorder names
//
// The last row may end early. gzip's checksum covers all of it.
const (
	magic         = "R1NG"
	formatVersion = 1

	maxHeader = 64 << 20 // bytes of JSON; 65535 devices need about 16 MiB
	// maxFile bounds what is read, since deflate can go on without giving anything.
	maxFile = 2*MaxAssignments + maxHeader
)

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
}

// Read reads a ring file to its end. What it allocates is bounded by what the file
// really holds and by the package's limits, whatever the header says. An error
// wraps [ErrDamaged] or [ErrInvalid], or is the reader's own.
func Read(src io.Reader) (*Ring, error) {
	limited := &io.LimitedReader{R: src, N: maxFile + 1}
	ring, err := read(limited)
	if limited.N <= 0 {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrDamaged, int64(maxFile))
	}
	return ring, err
}

func read(src io.Reader) (*Ring, error) {
	in := bufio.NewReaderSize(src, 1<<16)
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
	var fixed [10]byte
	if _, err := io.ReadFull(z, fixed[:]); err != nil {
		return h, damage("first bytes", err)
	}
	if string(fixed[:4]) != magic {
		return h, fmt.Errorf("%w: it begins with %q, not %q", ErrDamaged, fixed[:4], magic)
	}
	if v := binary.BigEndian.Uint16(fixed[4:]); v != formatVersion {
		return h, fmt.Errorf("%w: format version %d, this reads %d", ErrDamaged, v, formatVersion)
	}
	length := int64(binary.BigEndian.Uint32(fixed[6:]))
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
	if h.PartShift == nil {
		return Data{}, nil, fmt.Errorf("%w: header has no part_shift", ErrDamaged)
	}
	shift := *h.PartShift
	if shift < 0 || shift > 32 {
		return Data{}, nil, fmt.Errorf("%w: part_shift %d", ErrInvalid, shift)
	}
	if err := checkSize(32-shift, h.ReplicaCount); err != nil {
		return Data{}, nil, err
	}
	devices, err := readDevices(h.Devices)
	if err != nil {
		return Data{}, nil, err
	}
	data := Data{Devices: devices, PartPower: 32 - shift, Version: h.Version}
	switch h.ByteOrder {
	case "little", "": // rings older than the key were written in the host's order
		return data, binary.LittleEndian, nil
	case "big":
		return data, binary.BigEndian, nil
	}
	return Data{}, nil, fmt.Errorf("%w: byteorder %q", ErrDamaged, h.ByteOrder)
}

// readDevices decodes one device at a time, to stop where there are too many.
func readDevices(list json.RawMessage) ([]*Device, error) {
	dec := json.NewDecoder(bytes.NewReader(list))
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return nil, fmt.Errorf("%w: header has no list of devs", ErrDamaged)
	}
	var devices []*Device
	for dec.More() {
		if len(devices) == MaxDevicesV1 {
			return nil, fmt.Errorf("%w: more than %d devices", ErrInvalid, MaxDevicesV1)
		}
		var d *fileDevice
		if err := dec.Decode(&d); err != nil {
			return nil, fmt.Errorf("%w: device %d: %w", ErrDamaged, len(devices), err)
		}
		devices = append(devices, d.device())
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
func (r *Ring) WriteTo(w io.Writer) (int64, error) {
	counted := &countingWriter{w: w}
	z := gzip.NewWriter(counted)
	z.ModTime = fileTime
	if err := r.encode(z); err != nil {
		return counted.n, err
	}
	err := z.Close()
	return counted.n, err
}

func (r *Ring) encode(w io.Writer) error {
	if len(r.devices) > MaxDevicesV1 {
		return fmt.Errorf("%w: %d devices, a file of format version 1 holds %d", ErrInvalid, len(r.devices), MaxDevicesV1)
	}
	devices, err := json.Marshal(r.devices)
	if err != nil {
		return err
	}
	shift := 32 - r.partPower
	text, err := json.Marshal(header{
		Devices:      devices,
		PartShift:    &shift,
		ReplicaCount: r.rows.count(),
		ByteOrder:    "little",
		Version:      r.version,
	})
	if err != nil {
		return err
	}
	out := []byte(magic)
	out = binary.BigEndian.AppendUint16(out, formatVersion)
	out = binary.BigEndian.AppendUint32(out, uint32(len(text)))
	if _, err := w.Write(append(out, text...)); err != nil {
		return err
	}
	chunk := make([]byte, 0, 1<<16)
	for _, row := range r.rows.narrow {
		for len(row) > 0 {
			n := min(len(row), cap(chunk)/2)
			chunk = chunk[:0]
			for _, id := range row[:n] {
				chunk = binary.LittleEndian.AppendUint16(chunk, id)
			}
			if _, err := w.Write(chunk); err != nil {
				return err
			}
			row = row[n:]
		}
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
