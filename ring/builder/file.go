package builder

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"martlet/ring"
)

const (
	fileFormat  = "martlet ring builder"
	fileVersion = 2
	// maxFile is above what the largest builder takes: 16 bytes of text for 3 numbers
	// of each assignment and, with one replica, as many for when partitions moved.
	maxFile = 12*ring.MaxAssignments + 1<<30
)

// ErrDamaged is wrapped by errors that say a file is not a whole builder file of a
// version that this package reads.
var ErrDamaged = errors.New("damaged builder file")

// ErrNewer says that a builder file was written by a newer release, in a format that
// this one does not read. It is not damaged.
var ErrNewer = errors.New("builder file of a newer release")

// file is the builder file. The checksum is over the builder's JSON without
// spaces between its tokens, so that laying it out anew does no harm.
type file struct {
	Format   string          `json:"format"`
	Version  int             `json:"format_version"`
	Checksum string          `json:"sha256"`
	Builder  json.RawMessage `json:"builder"`
}

// state is the builder of format version 2. Version 1 had a whole number of replicas,
// neither min_part_hours, overload nor moved, and 16 bits for an id in a row.
type state struct {
	PartPower    int       `json:"part_power"`
	Replicas     float64   `json:"replicas"`
	MinPartHours int       `json:"min_part_hours"`
	Overload     float64   `json:"overload"`
	Version      int64     `json:"version"`
	Devices      []*member `json:"devices"`
	// Rows is a row per replica of device ids, 32 bits each, little endian, base64.
	Rows []string `json:"rows,omitempty"`
	// Moved is when each partition last moved, in seconds of Unix time, encoded
	// likewise; missing where that was long ago for all.
	Moved string `json:"moved,omitempty"`
}

// Write writes the builder file. Equal builders give equal bytes.
func (b *Builder) Write(w io.Writer) error {
	s := state{
		PartPower: b.partPower, Replicas: b.Replicas(), MinPartHours: b.minPartHours, Overload: b.overload,
		Version: b.version, Devices: b.devices, Moved: encodeNumbers(b.moved),
	}
	for _, row := range b.rows {
		s.Rows = append(s.Rows, encodeNumbers(row))
	}
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(file{fileFormat, fileVersion, checksum(body), body}, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func encodeNumbers(numbers []uint32) string {
	raw := make([]byte, 0, 4*len(numbers))
	for _, n := range numbers {
		raw = binary.LittleEndian.AppendUint32(raw, n)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// decodeNumbers reads numbers of that many bytes, 2 or 4.
func decodeNumbers(text string, size int) ([]uint32, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, err
	}
	if len(raw)%size != 0 {
		return nil, fmt.Errorf("%d bytes are no numbers of %d", len(raw), size)
	}
	numbers := make([]uint32, len(raw)/size)
	for i := range numbers {
		if size == 2 {
			numbers[i] = uint32(binary.LittleEndian.Uint16(raw[2*i:]))
		} else {
			numbers[i] = binary.LittleEndian.Uint32(raw[4*i:])
		}
	}
	return numbers, nil
}

func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Read reads a builder file to its end. An error wraps [ErrDamaged], [ErrNewer] or
// [ring.ErrInvalid], or is the reader's own.
func Read(r io.Reader) (*Builder, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrDamaged, maxFile)
	}
	var f file
	if err := decode(text, &f); err != nil {
		return nil, err
	}
	switch {
	case f.Format != fileFormat:
		return nil, fmt.Errorf("%w: its format is %q, not %q", ErrDamaged, f.Format, fileFormat)
	case f.Version > fileVersion:
		return nil, fmt.Errorf("%w: its format_version is %d, this one reads up to %d", ErrNewer, f.Version, fileVersion)
	case f.Version < 1:
		return nil, fmt.Errorf("%w: format_version %d", ErrDamaged, f.Version)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, f.Builder); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if sum := checksum(body.Bytes()); sum != f.Checksum {
		return nil, fmt.Errorf("%w: its checksum is %s, not %q", ErrDamaged, sum, f.Checksum)
	}
	var s state
	if err := decode(f.Builder, &s); err != nil {
		return nil, err
	}
	return s.builder(f.Version)
}

// decode takes no key that it doesn't know: it would be lost at the next save.
func decode(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	return nil
}

// builder checks a state of a format version and makes a builder of it.
func (s *state) builder(version int) (*Builder, error) {
	b, err := New(s.PartPower, s.Replicas, s.MinPartHours)
	if err == nil {
		err = b.SetOverload(s.Overload)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	b.version, b.devices = s.Version, s.Devices
	if err := b.checkDevices(); err != nil {
		return nil, err
	}
	size := 4
	if version == 1 {
		size = 2
	}
	if s.Moved != "" {
		if b.moved, err = decodeNumbers(s.Moved, 4); err != nil {
			return nil, fmt.Errorf("%w: moved: %w", ErrDamaged, err)
		}
		if len(b.moved) != b.Partitions() {
			return nil, fmt.Errorf("%w: moved has %d of %d partitions", ErrDamaged, len(b.moved), b.Partitions())
		}
	}
	if len(s.Rows) == 0 {
		return b, nil
	}
	for i, text := range s.Rows {
		row, err := decodeNumbers(text, size)
		if err != nil {
			return nil, fmt.Errorf("%w: row %d: %w", ErrDamaged, i, err)
		}
		b.rows = append(b.rows, row)
	}
	if _, err := ring.New(b.data()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return b, nil
}

func (b *Builder) checkDevices() error {
	if b.version < 0 {
		return fmt.Errorf("%w: version %d", ErrDamaged, b.version)
	}
	if len(b.devices) > ring.MaxDevices {
		return fmt.Errorf("%w: %d devices", ErrDamaged, len(b.devices))
	}
	for id, m := range b.devices {
		if m == nil {
			continue
		}
		if m.ID != id {
			return fmt.Errorf("%w: device %d stands at place %d", ErrDamaged, m.ID, id)
		}
		if err := m.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if err := checkWeight(m.Weight); err != nil {
			return fmt.Errorf("%w: device %d: %w", ErrDamaged, id, err)
		}
	}
	if err := b.checkDisks(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}
