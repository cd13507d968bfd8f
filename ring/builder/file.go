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
	"os"

	"martlet/ring"
)

const (
	fileFormat  = "martlet ring builder"
	fileVersion = 1
	// maxFile is above what the largest builder takes, 4 bytes of text for 3 of a row.
	maxFile = 4 * ring.MaxAssignments
)

// ErrDamaged is wrapped by errors that say a file is not a whole builder file of a
// version that this package reads.
var ErrDamaged = errors.New("damaged builder file")

// file is the builder file. The checksum is over the builder's JSON without
// spaces between its tokens, so that laying it out anew does no harm.
type file struct {
	Format   string          `json:"format"`
	Version  int             `json:"format_version"`
	Checksum string          `json:"sha256"`
	Builder  json.RawMessage `json:"builder"`
}

type state struct {
	PartPower int       `json:"part_power"`
	Replicas  int       `json:"replicas"`
	Version   int64     `json:"version"`
	Devices   []*member `json:"devices"`
	// Rows is a row per replica of device ids, 16 bits each, little endian, base64.
	Rows []string `json:"rows,omitempty"`
}

// Save replaces the file at path by the builder, as [ring.WriteFile] does: whole or
// not at all, and on stable storage when it returns nil.
func (b *Builder) Save(path string) error {
	return ring.WriteFile(path, b.Write)
}

// Write writes the builder file. Equal builders give equal bytes.
func (b *Builder) Write(w io.Writer) error {
	s := state{PartPower: b.partPower, Replicas: b.replicas, Version: b.version, Devices: b.devices}
	for _, row := range b.rows {
		raw := make([]byte, 0, 2*len(row))
		for _, id := range row {
			raw = binary.LittleEndian.AppendUint16(raw, uint16(id))
		}
		s.Rows = append(s.Rows, base64.StdEncoding.EncodeToString(raw))
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

func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Load reads the builder file at path. Errors are those of [Read], or the file system's.
func Load(path string) (*Builder, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is only read
	b, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// Read reads a builder file to its end. An error wraps [ErrDamaged] or
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
	if f.Format != fileFormat || f.Version != fileVersion {
		return nil, fmt.Errorf("%w: format %q version %d, not %q version %d",
			ErrDamaged, f.Format, f.Version, fileFormat, fileVersion)
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
	return s.builder()
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

// builder checks a state and makes a builder of it.
func (s *state) builder() (*Builder, error) {
	b, err := New(s.PartPower, s.Replicas)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	b.version, b.devices = s.Version, s.Devices
	if err := b.checkDevices(); err != nil {
		return nil, err
	}
	if len(s.Rows) == 0 {
		return b, nil
	}
	if len(s.Rows) != b.replicas {
		return nil, fmt.Errorf("%w: %d rows for %d replicas", ErrDamaged, len(s.Rows), b.replicas)
	}
	for i, text := range s.Rows {
		raw, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("%w: row %d: %w", ErrDamaged, i, err)
		}
		if len(raw) != 2<<b.partPower {
			return nil, fmt.Errorf("%w: row %d has %d bytes, not %d", ErrDamaged, i, len(raw), 2<<b.partPower)
		}
		row := make([]uint32, len(raw)/2)
		for p := range row {
			row[p] = uint32(binary.LittleEndian.Uint16(raw[2*p:]))
		}
		b.rows = append(b.rows, row)
	}
	if _, err := ring.New(b.data()); err != nil {
		return nil, err
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
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return nil
}
