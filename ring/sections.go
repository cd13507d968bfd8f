package ring

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"strings"
)

// A file of format version 2 goes on with sections, each a length of 64 bits and that
// many bytes; all numbers are big endian.
//
//	swift/ring/metadata        JSON: part_shift, dev_id_bytes, replica_count, version
//	swift/ring/devices         JSON: the list of devices
//	swift/ring/assignments     dev_id_bytes per partition, row after row
//	the index                  JSON: where each section is, and its checksum
//	where the index starts     uint64: in the inflated bytes
//	                           uint64: in the file
//
// They may be in any order, with others among them; the index tells them apart, so
// it is needed first. Each starts where an inflater can start, and the last two
// numbers are stored as they are, so that the end of the file has a fixed size.
const (
	metadataSection    = "swift/ring/metadata"
	devicesSection     = "swift/ring/devices"
	assignmentsSection = "swift/ring/assignments"
	indexSection       = "swift/index"

	maxIndex    = 1 << 20   // bytes of JSON
	maxMetadata = 1 << 20   // likewise
	maxDevices  = 256 << 20 // likewise; 2^20 devices need about 200 MiB

	lengthSize = 8
)

// The end of a file: two blocks of deflate that store a number each, with an empty
// one behind each, the empty one that ends the stream, and gzip's two numbers.
const (
	storedNumber = "\x00\x08\x00\xf7\xff"
	storedEmpty  = "\x00\x00\x00\xff\xff"
	storedEnd    = "\x01\x00\x00\xff\xff"
	tailSize     = 2*(len(storedNumber)+8+len(storedEmpty)) + len(storedEnd) + 8
)

var checksums = map[string]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New,
}

type metadata struct {
	PartShift    *int    `json:"part_shift"`
	IDBytes      int     `json:"dev_id_bytes"`
	ReplicaCount float64 `json:"replica_count"` // written for tools of Swift's; the table says how many there are
	Version      int64   `json:"version"`
	Next         int     `json:"next_part_power,omitempty"`
}

// section is an entry of the index. Offsets are into the inflated bytes.
type section struct {
	name       string
	start, end int64  // end is -1 if the index doesn't say
	limit      int64  // where the next one starts
	method     string // of the checksum; empty if there is none
	sum        string
}

// index is the sections of a file by where they start, and what says so.
type index struct {
	sections []section
	start    int64 // where it is itself
	text     []byte
}

func readV2(file []byte) (*Ring, error) {
	ix, ok := indexByTail(file)
	if !ok {
		var err error
		if ix, err = indexByReading(file); err != nil {
			return nil, err
		}
	}
	if err := ix.parse(); err != nil {
		return nil, err
	}
	return ix.ring(file)
}

// indexByTail follows the two numbers at the file's end. It is not ok where they
// lead nowhere, as after the file was compressed once more.
func indexByTail(file []byte) (ix index, ok bool) {
	if len(file) < tailSize {
		return ix, false
	}
	numbers := make([]byte, 16)
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(file[len(file)-tailSize:])), numbers); err != nil {
		return ix, false
	}
	start, packed := binary.BigEndian.Uint64(numbers), binary.BigEndian.Uint64(numbers[8:])
	if start > MaxFile || packed >= uint64(len(file)) {
		return ix, false
	}
	z := flate.NewReader(bytes.NewReader(file[packed:]))
	var prefix [lengthSize]byte
	if _, err := io.ReadFull(z, prefix[:]); err != nil {
		return ix, false
	}
	var text bytes.Buffer // grows with what arrives
	length := binary.BigEndian.Uint64(prefix[:])
	if length > maxIndex {
		return ix, false
	}
	if _, err := io.CopyN(&text, z, int64(length)); err != nil {
		return ix, false
	}
	return index{start: int64(start), text: text.Bytes()}, true
}

// indexByReading inflates the whole file, for the numbers and the index at its end.
func indexByReading(file []byte) (ix index, err error) {
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return ix, damage("gzip header", err)
	}
	z.Multistream(false)
	const room = lengthSize + maxIndex + 16
	end := make([]byte, 0, 1<<12) // what was read last
	total := int64(0)
	for err == nil {
		switch {
		case len(end) < cap(end):
		case cap(end) < 2*room:
			end = slices.Grow(end, len(end))
		default:
			end = append(end[:0], end[len(end)-room:]...)
		}
		var n int
		n, err = z.Read(end[len(end):cap(end)])
		end = end[:len(end)+n]
		if total += int64(n); total > MaxFile {
			return ix, fmt.Errorf("%w: it holds more than %d bytes", ErrDamaged, int64(MaxFile))
		}
	}
	if err != io.EOF {
		return ix, damage(fmt.Sprintf("sections, after %d bytes", total), err)
	}
	if len(end) < 16 {
		return ix, fmt.Errorf("%w: it ends without an index", ErrDamaged)
	}
	ix.start = int64(min(binary.BigEndian.Uint64(end[len(end)-16:]), MaxFile+1))
	// The index is all that is left between its start and the two numbers.
	size := total - 16 - ix.start
	if size < lengthSize || size > lengthSize+maxIndex {
		return ix, fmt.Errorf("%w: no index where its end says, at %d of %d bytes", ErrDamaged, ix.start, total)
	}
	ix.text = end[len(end)-16-int(size)+lengthSize : len(end)-16]
	return ix, nil
}

// parse decodes the index and compares the places of its sections.
func (ix *index) parse() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: index: %w", ErrDamaged, fmt.Errorf(format, args...))
	}
	if ix.start < int64(magicSize) || ix.start > MaxFile {
		return bad("it starts at %d", ix.start)
	}
	dec := json.NewDecoder(bytes.NewReader(ix.text))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return bad("not a JSON object")
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return bad("%w", err)
		}
		var entry []json.RawMessage
		if err := dec.Decode(&entry); err != nil {
			return bad("section %.100q: %w", name, err)
		}
		s, err := parseSection(name.(string), entry) //nolint:forcetypeassert // keys of JSON are strings
		if err != nil {
			return bad("section %.100q: %w", name, err)
		}
		ix.sections = append(ix.sections, s)
	}
	if _, err := dec.Token(); err != nil {
		return bad("%w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return bad("something follows its end")
	}
	// The index may list itself.
	ix.sections = slices.DeleteFunc(ix.sections, func(s section) bool { return s.name == indexSection && s.start == ix.start })
	slices.SortStableFunc(ix.sections, func(a, b section) int { return cmp.Compare(a.start, b.start) })
	names := map[string]bool{}
	for i, s := range ix.sections {
		if names[s.name] {
			return bad("section %.100q is there twice", s.name)
		}
		names[s.name] = true
		limit, next := ix.start, "the index"
		if i+1 < len(ix.sections) {
			limit, next = ix.sections[i+1].start, ix.sections[i+1].name
		}
		if max(s.start, s.end) > limit {
			return bad("section %.100q, from %d to %d, overlaps %.100q, from %d", s.name, s.start, s.end, next, limit)
		}
		ix.sections[i].limit = limit
	}
	for _, name := range []string{metadataSection, devicesSection, assignmentsSection} {
		if !names[name] {
			return bad("no section %q", name)
		}
	}
	return nil
}

// parseSection decodes compressed start, start, compressed end, end, checksum and its
// value, of which all but the starts may be null. Where a section is in the file is
// for those who read only some of them.
func parseSection(name string, entry []json.RawMessage) (section, error) {
	s := section{name: name, end: -1}
	if len(entry) != 6 {
		return s, fmt.Errorf("%d values, not 6", len(entry))
	}
	var offsets [4]*int64
	for i := range offsets {
		if err := json.Unmarshal(entry[i], &offsets[i]); err != nil {
			return s, err
		}
		if offsets[i] != nil && *offsets[i] < 0 {
			return s, fmt.Errorf("offset %d", *offsets[i])
		}
	}
	for i := range 2 {
		start, end := offsets[i], offsets[i+2]
		if start == nil {
			return s, errors.New("no start")
		}
		if end != nil && *end < *start {
			return s, fmt.Errorf("it ends at %d, before its start at %d", *end, *start)
		}
	}
	if s.start = *offsets[1]; s.start < int64(magicSize) {
		return s, fmt.Errorf("it starts at %d, within the first bytes", s.start)
	}
	if offsets[3] != nil {
		s.end = *offsets[3]
	}
	for i, into := range []*string{&s.method, &s.sum} {
		if err := json.Unmarshal(entry[4+i], into); err != nil {
			return s, err
		}
	}
	return s, nil
}

// ring reads the file from its beginning to its end, and so past gzip's checksum.
func (ix *index) ring(file []byte) (*Ring, error) {
	var (
		meta    metadata
		devices []*Device
		data    Data
		table   rows
	)
	read := map[string]func(io.Reader, int64) error{
		metadataSection: func(r io.Reader, length int64) (err error) {
			if err = readMetadata(r, length, &meta); err != nil {
				return err
			}
			data.Version, data.NextPartPower = meta.Version, meta.Next
			data.PartPower, err = partPower(meta.PartShift)
			return err
		},
		devicesSection: func(r io.Reader, length int64) (err error) {
			if length > maxDevices {
				return fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, length, maxDevices)
			}
			devices, err = readDevices(r, MaxDevices)
			return err
		},
		assignmentsSection: func(r io.Reader, length int64) (err error) {
			table, err = readTable(r, length, meta.IDBytes, data.PartPower)
			return err
		},
	}
	place := func(name string) int {
		return slices.IndexFunc(ix.sections, func(s section) bool { return s.name == name })
	}
	if place(metadataSection) > place(assignmentsSection) { // it takes them to read the table
		if err := ix.walk(file, map[string]func(io.Reader, int64) error{metadataSection: read[metadataSection]}); err != nil {
			return nil, err
		}
	}
	if err := ix.walk(file, read); err != nil {
		return nil, err
	}
	data.Devices = devices
	return build(data, table)
}

// walk inflates the whole file, and hands sections to what reads those of its name.
// The end must be what the index was found by.
func (ix *index) walk(file []byte, read map[string]func(io.Reader, int64) error) error {
	in := bytes.NewReader(file)
	z, err := gzip.NewReader(in)
	if err != nil {
		return damage("gzip header", err)
	}
	z.Multistream(false)
	at := int64(0)
	skip := func(to int64, what string) error {
		if _, err := io.CopyN(io.Discard, z, to-at); err != nil {
			return damage(what, err)
		}
		at = to
		return nil
	}
	for _, s := range ix.sections {
		into := read[s.name]
		if into == nil {
			continue
		}
		what := fmt.Sprintf("section %q", s.name)
		if err := skip(s.start, fmt.Sprintf("%d bytes before %s", s.start, what)); err != nil {
			return err
		}
		n, err := s.read(z, into)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		at += n
	}
	if err := skip(ix.start, "sections"); err != nil {
		return err
	}
	want := binary.BigEndian.AppendUint64(nil, uint64(len(ix.text)))
	want = append(want, ix.text...)
	want = binary.BigEndian.AppendUint64(want, uint64(ix.start))
	got := make([]byte, len(want)+8)
	if _, err := io.ReadFull(z, got); err != nil {
		return damage("index", err)
	}
	if !bytes.HasPrefix(got, want) {
		return fmt.Errorf("%w: the index is not where the end of the file says, at %d", ErrDamaged, ix.start)
	}
	if n, err := readUpTo(z, got[:1]); n > 0 {
		return fmt.Errorf("%w: something follows the index", ErrDamaged)
	} else if err != io.EOF {
		return damage("end", err)
	}
	if in.Len() > 0 {
		return fmt.Errorf("%w: something follows the end of the gzip stream", ErrDamaged)
	}
	return nil
}

// read reads one section: its length must be what the index says, and its checksum,
// which is of the length as well, if it is of a known kind.
func (s *section) read(z io.Reader, into func(io.Reader, int64) error) (n int64, err error) {
	var prefix [lengthSize]byte
	if s.start+lengthSize > s.limit {
		return 0, fmt.Errorf("%w: no room for a length between %d and %d", ErrDamaged, s.start, s.limit)
	}
	if _, err := io.ReadFull(z, prefix[:]); err != nil {
		return 0, damage("length", err)
	}
	length := binary.BigEndian.Uint64(prefix[:])
	if room := s.limit - s.start - lengthSize; length > uint64(room) {
		return 0, fmt.Errorf("%w: it says that it is %d bytes long, but there are %d before the next", ErrDamaged, length, room)
	}
	n = lengthSize + int64(length)
	if s.end >= 0 && s.start+n != s.end {
		return 0, fmt.Errorf("%w: it says that it is %d bytes long, the index that it is %d", ErrDamaged, length, s.end-s.start-lengthSize)
	}
	content := &io.LimitedReader{R: z, N: int64(length)}
	var src io.Reader = content
	var sum hash.Hash
	if made := checksums[s.method]; made != nil && s.sum != "" {
		sum = made()
		sum.Write(prefix[:])
		src = io.TeeReader(content, sum)
	}
	err = into(src, int64(length))
	// What is wrong with a section that is not what was written says little.
	if _, e := io.Copy(io.Discard, src); e != nil {
		return 0, damage("content", e)
	}
	if content.N > 0 {
		return 0, fmt.Errorf("%w: it ends %d bytes early", ErrDamaged, content.N)
	}
	if sum != nil {
		if got := hex.EncodeToString(sum.Sum(nil)); got != strings.ToLower(s.sum) {
			return 0, fmt.Errorf("%w: its %s is %s, the index says %.128q", ErrDamaged, s.method, got, s.sum)
		}
	}
	return n, err
}

func readMetadata(r io.Reader, length int64, into *metadata) error {
	if length > maxMetadata {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrDamaged, length, maxMetadata)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return damage("content", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// readTable reads a table of that many bytes.
func readTable(r io.Reader, length int64, width, power int) (table rows, err error) {
	if width < 1 || width > 8 {
		return table, fmt.Errorf("%w: ids of %d bytes are not within 1 and 8", ErrInvalid, width)
	}
	if length%int64(width) != 0 {
		return table, fmt.Errorf("%w: %d bytes are not a number of ids of %d", ErrDamaged, length, width)
	}
	total, partitions := int(length/int64(width)), 1<<power
	count := (total + partitions - 1) / partitions
	if err := checkSize(power, count); err != nil {
		return table, err
	}
	if total < partitions {
		return table, fmt.Errorf("%w: the row of replica 0 ends after %d of %d partitions", ErrDamaged, total, partitions)
	}
	in := bufio.NewReaderSize(r, 1<<16)
	if width <= 2 {
		table.narrow, err = readIDs[uint16](in, width, partitions, total)
	} else {
		table.wide, err = readIDs[uint32](in, width, partitions, total)
	}
	return table, err
}

func readIDs[ID deviceID](in *bufio.Reader, width, partitions, total int) ([][]ID, error) {
	var table [][]ID
	for total > 0 {
		n := min(total, partitions)
		total -= n
		room := n
		if table == nil {
			room = min(n, 1<<16) // until one whole row has arrived, the size is a claim
		}
		row, err := appendIDs(make([]ID, 0, room), in, width, n)
		if err != nil {
			return nil, fmt.Errorf("row of replica %d: %w", len(table), err)
		}
		table = append(table, row)
	}
	return table, nil
}

// appendIDs appends n ids of that many bytes each.
func appendIDs[ID deviceID](row []ID, in *bufio.Reader, width, n int) ([]ID, error) {
	for len(row) < n {
		chunk, err := in.Peek(min(in.Size()/width, n-len(row)) * width)
		if err != nil {
			return nil, damage("ids", err)
		}
		switch width {
		case 2:
			for b := chunk; len(b) >= 2; b = b[2:] {
				row = append(row, ID(binary.BigEndian.Uint16(b)))
			}
		default:
			for b := chunk; len(b) >= width; b = b[width:] {
				id := uint64(0)
				for _, c := range b[:width] {
					id = id<<8 | uint64(c)
				}
				if id >= MaxDevices {
					return nil, fmt.Errorf("%w: partition %d is on device %d, the highest there can be is %d",
						ErrInvalid, len(row), id, MaxDevices-1)
				}
				row = append(row, ID(id))
			}
		}
		if _, err := in.Discard(len(chunk)); err != nil {
			return nil, damage("ids", err)
		}
	}
	return row, nil
}

func (r *Ring) writeV2(w io.Writer) error {
	shift := 32 - r.partPower
	width := 4
	if r.rows.narrow != nil {
		width = 2
	}
	meta, err := marshal(metadata{
		PartShift: &shift, IDBytes: width, ReplicaCount: r.Replicas(), Version: r.version, Next: r.nextPartPower,
	})
	if err != nil {
		return err
	}
	devices, err := marshal(r.devices)
	if err != nil {
		return err
	}
	if len(devices) > maxDevices {
		return fmt.Errorf("%w: the devices take %d bytes, at most %d", ErrInvalid, len(devices), maxDevices)
	}
	ids := 0
	for i := range r.rows.count() {
		ids += r.rows.length(i)
	}
	out, err := newSectionWriter(w)
	if err != nil {
		return err
	}
	bytesOf := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		}
	}
	if err := out.section(metadataSection, len(meta), bytesOf(meta)); err != nil {
		return err
	}
	if err := out.section(devicesSection, len(devices), bytesOf(devices)); err != nil {
		return err
	}
	if err := out.section(assignmentsSection, ids*width, func(w io.Writer) error {
		for _, row := range r.rows.narrow {
			if err := writeRow(w, row, binary.BigEndian.AppendUint16); err != nil {
				return err
			}
		}
		for _, row := range r.rows.wide {
			if err := writeRow(w, row, binary.BigEndian.AppendUint32); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return out.end()
}

// sectionWriter writes a gzip stream with sections at which an inflater can start.
// compress/gzip can't: it lets what follows a flush refer to what came before.
type sectionWriter struct {
	out      *countingWriter // the file
	z        *flate.Writer   // into out
	inflated int64           // bytes that went in
	crc      hash.Hash32     // of them
	index    map[string][6]any
}

func newSectionWriter(w io.Writer) (*sectionWriter, error) {
	s := &sectionWriter{out: &countingWriter{w: w}, crc: crc32.NewIEEE(), index: map[string][6]any{}}
	head := []byte("\x1f\x8b\x08\x00")
	head = binary.LittleEndian.AppendUint32(head, uint32(fileTime.Unix()))
	head = append(head, 0, 0xff) // no level to speak of, no operating system
	if _, err := s.out.Write(head); err != nil {
		return nil, err
	}
	// The magic as it is, so that tools that look at files see it.
	first := beginning(V2)
	block := []byte{0, byte(len(first)), 0, ^byte(len(first)), 0xff}
	if err := s.store(append(block, first...), first); err != nil {
		return nil, err
	}
	var err error
	s.z, err = flate.NewWriter(s.out, flate.DefaultCompression)
	return s, err
}

// store writes what deflate has for what went in, and an empty block.
func (s *sectionWriter) store(block, in []byte) error {
	s.crc.Write(in)
	s.inflated += int64(len(in))
	_, err := s.out.Write(append(block, storedEmpty...))
	return err
}

// section writes one of that many bytes, which write gives.
func (s *sectionWriter) section(name string, length int, write func(io.Writer) error) error {
	packed, start := s.out.n, s.inflated
	sum := sha256.New()
	if err := s.blob(length, sum, write); err != nil {
		return fmt.Errorf("section %s: %w", name, err)
	}
	s.index[name] = [6]any{packed, start, s.out.n, s.inflated, "sha256", hex.EncodeToString(sum.Sum(nil))}
	return nil
}

func (s *sectionWriter) blob(length int, sum io.Writer, write func(io.Writer) error) error {
	s.z.Reset(s.out) // forgets what it could refer to
	in := &countingWriter{w: io.MultiWriter(s.z, s.crc, sum)}
	if _, err := in.Write(binary.BigEndian.AppendUint64(nil, uint64(length))); err != nil {
		return err
	}
	if err := write(in); err != nil {
		return err
	}
	if in.n != int64(lengthSize+length) {
		return fmt.Errorf("%d bytes long, not %d", in.n-lengthSize, length)
	}
	s.inflated += in.n
	return s.z.Flush() // to a whole byte, with an empty block
}

// end writes the index and the end of the file.
func (s *sectionWriter) end() error {
	text, err := json.Marshal(s.index)
	if err != nil {
		return err
	}
	return s.endWith(text)
}

func (s *sectionWriter) endWith(text []byte) error {
	packed, start := s.out.n, s.inflated
	if err := s.blob(len(text), io.Discard, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}); err != nil {
		return err
	}
	for _, number := range []int64{start, packed} {
		in := binary.BigEndian.AppendUint64(nil, uint64(number))
		if err := s.store(append([]byte(storedNumber), in...), in); err != nil {
			return err
		}
	}
	tail := []byte(storedEnd)
	tail = binary.LittleEndian.AppendUint32(tail, s.crc.Sum32())
	tail = binary.LittleEndian.AppendUint32(tail, uint32(s.inflated))
	_, err := s.out.Write(tail)
	return err
}
