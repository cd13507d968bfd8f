//go:build !race

package ring

import (
	"bytes"
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
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/v2.ring.gz")

// TestGoldenV2: the file of this format that was written once is read, and what is
// written now has the same content. Offsets into the file are the compressor's.
func TestGoldenV2(t *testing.T) {
	const path = "testdata/v2.ring.gz"
	list := devices(3)
	list[1] = nil
	list[2].Meta = "Rücken 🙂"
	want := mustNew(t, Data{Devices: list, PartPower: 1, NextPartPower: 2, Version: 7, Rows: [][]uint32{{0, 2}, {2}}})
	file := encodedAs(t, want, V2)
	if *update {
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Read(bytes.NewReader(golden)); err != nil || !equal(r, want) {
		t.Errorf("read %+v, %v; want %+v", r, err, want)
	}

	length := func(s string) string { return string(binary.BigEndian.AppendUint64(nil, uint64(len(s)))) + s }
	content := "R1NG\x00\x02" +
		length(`{"part_shift":31,"dev_id_bytes":2,"replica_count":1.5,"version":7,"next_part_power":2}`) +
		length(`[{"id":0,"region":1,"zone":0,"ip":"10.0.0.0","port":6200,"replication_ip":"10.1.0.0","replication_port":6300,"device":"sd0","weight":100,"meta":""},`+
			`null,`+
			`{"id":2,"region":1,"zone":1,"ip":"10.0.0.1","port":6200,"replication_ip":"10.1.0.1","replication_port":6300,"device":"sd2","weight":100,"meta":"R\u00fccken \ud83d\ude42"}]`) +
		length("\x00\x00\x00\x02\x00\x02")
	for name, file := range map[string][]byte{"golden": golden, "written": file} {
		if got := string(unzip(t, file)); !strings.HasPrefix(got, content) {
			t.Errorf("%s:\ngot  %q\nwant %q and an index", name, got, content)
		}
		// Magic, deflate, no flags, 19 March 2011, no extra flags, unknown system; then the
		// first bytes as they are.
		if want := "\x1f\x8b\x08\x00\xf4\x2a\x84\x4d\x00\xff" + "\x00\x06\x00\xf9\xffR1NG\x00\x02"; !strings.HasPrefix(string(file), want) {
			t.Errorf("%s begins with %q, want %q", name, file[:20], want)
		}
	}
	if again := encodedAs(t, want, V2); !bytes.Equal(file, again) {
		t.Error("equal rings gave different files")
	}
}

// TestReadsSwiftsV2: what Swift made of testdata/swift.ring.gz.
func TestReadsSwiftsV2(t *testing.T) {
	want, err := Load("testdata/swift.ring.gz")
	if err != nil {
		t.Fatal(err)
	}
	for name, next := range map[string]int{"swift-v2": 0, "swift-v2-wide": 7} { // the latter has ids of four bytes
		r, err := Load("testdata/" + name + ".ring.gz")
		if err != nil {
			t.Error(err)
			continue
		}
		if got, ok := r.NextPartPower(); got != next || ok != (next != 0) {
			t.Errorf("%s: next part power %d, %v; want %d", name, got, ok, next)
		}
		r.nextPartPower = 0
		if !equal(r, want) {
			t.Errorf("%s: read %+v, want %+v", name, r, want)
		}
	}
}

// TestSectionsStandAlone: each section inflates by itself from where the index says,
// and the index is found from 31 bytes before the end, as Swift does it.
func TestSectionsStandAlone(t *testing.T) {
	file := encodedAs(t, medium(t), V2)
	whole := unzip(t, file)
	blob := func(packed uint64) []byte {
		z := flate.NewReader(bytes.NewReader(file[packed:]))
		var length [8]byte
		if _, err := io.ReadFull(z, length[:]); err != nil {
			t.Fatalf("at %d: %v", packed, err)
		}
		b := make([]byte, binary.BigEndian.Uint64(length[:]))
		if _, err := io.ReadFull(z, b); err != nil {
			t.Fatalf("at %d: %v", packed, err)
		}
		return append(length[:], b...)
	}
	var number [8]byte
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(file[len(file)-31:])), number[:]); err != nil {
		t.Fatal(err)
	}
	var ix map[string][]any
	if err := json.Unmarshal(blob(binary.BigEndian.Uint64(number[:]))[8:], &ix); err != nil {
		t.Fatal(err)
	}
	if len(ix) != 3 {
		t.Errorf("%d sections, want 3", len(ix))
	}
	for name, entry := range ix {
		at := func(i int) uint64 { return uint64(entry[i].(float64)) }
		got := blob(at(0))
		if !bytes.Equal(got, whole[at(1):at(3)]) {
			t.Errorf("%s: from the middle and from the start differ", name)
		}
		if sum := sha256.Sum256(got); entry[4] != "sha256" || entry[5] != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: checksum %v %v, want sha256 %x", name, entry[4], entry[5], sum)
		}
		if end := at(2); !bytes.HasSuffix(file[:end], []byte(storedEmpty)[1:]) {
			t.Errorf("%s ends with %x, want an empty block", name, file[end-5:end])
		}
	}
}

// medium is a ring whose files are more than a few buffers long.
func medium(t testing.TB) *Ring {
	rng := rand.New(rand.NewPCG(1, 2))
	rows := scatter(16, 3, 300)
	for _, row := range rows {
		for p := range row {
			row[p] = uint32(rng.IntN(300))
		}
	}
	return mustNew(t, Data{Devices: devices(300), PartPower: 16, Rows: rows})
}

// part is a section of a file made up for a test.
type part struct{ name, content string }

// parts is a whole file, of one device and two partitions.
func parts() []part {
	return []part{
		{metadataSection, `{"part_shift":31,"dev_id_bytes":2,"version":null}`},
		{devicesSection, "[" + oneDevice + "]"},
		{assignmentsSection, "\x00\x00\x00\x00"},
	}
}

// assemble makes a file of sections. change may alter the index, as the file has it.
func assemble(t testing.TB, list []part, change func(map[string][6]any)) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := newSectionWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if err := w.section(p.name, len(p.content), func(w io.Writer) error {
			_, err := io.WriteString(w, p.content)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(w.index)
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadV2(t *testing.T) {
	want, err := Read(bytes.NewReader(assemble(t, parts(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	digests := func(method string, of func(string) []byte) func(map[string][6]any) {
		return func(ix map[string][6]any) {
			for _, p := range parts() {
				sum := of(string(binary.BigEndian.AppendUint64(nil, uint64(len(p.content)))) + p.content)
				ix[p.name] = [6]any{ix[p.name][0], ix[p.name][1], ix[p.name][2], ix[p.name][3], method, strings.ToUpper(hex.EncodeToString(sum))}
			}
		}
	}
	with := func(i int, value any) func(map[string][6]any) {
		return func(ix map[string][6]any) {
			for name, entry := range ix {
				entry[i] = value
				ix[name] = entry
			}
		}
	}
	unknown := []part{{"acme/1", strings.Repeat("x", 100_000)}, parts()[0], {"swift/new", ""}, parts()[1], parts()[2], {"z", "z"}}
	backwards := parts()
	slices.Reverse(backwards)
	width := func(n int) []part {
		list := parts()
		list[0].content = fmt.Sprintf(`{"part_shift":31,"dev_id_bytes":%d,"replica_count":1.0}`, n)
		list[2].content = strings.Repeat("\x00", 2*n)
		return list
	}
	whole := assemble(t, parts(), nil)
	files := map[string][]byte{
		"compressed again":                zip(t, unzip(t, whole)),
		"sections nobody knows":           assemble(t, unknown, nil),
		"those, compressed again":         zip(t, unzip(t, assemble(t, unknown, nil))),
		"the table first":                 assemble(t, backwards, nil),
		"no ends, no checksums":           assemble(t, unknown, func(ix map[string][6]any) { with(2, nil)(ix); with(3, nil)(ix); with(4, nil)(ix); with(5, nil)(ix) }),
		"checksums of a kind yet unknown": assemble(t, parts(), with(4, "blake3")),
		"md5":                             assemble(t, parts(), digests("md5", func(s string) []byte { b := md5.Sum([]byte(s)); return b[:] })),
		"sha1":                            assemble(t, parts(), digests("sha1", func(s string) []byte { b := sha1.Sum([]byte(s)); return b[:] })),
		"sha512":                          assemble(t, parts(), digests("sha512", func(s string) []byte { b := sha512.Sum512([]byte(s)); return b[:] })),
		"index that lists itself": assemble(t, parts(), func(ix map[string][6]any) {
			end := ix[assignmentsSection]
			ix[indexSection] = [6]any{end[2], end[3], nil, nil, nil, nil}
		}),
	}
	for n := range 8 {
		files[fmt.Sprintf("ids of %d bytes", n+1)] = assemble(t, width(n+1), nil)
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			got, err := Read(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			if !equal(got, want) {
				t.Errorf("read %+v, want %+v", got, want)
			}
		})
	}
}

func TestReadV2Refuses(t *testing.T) {
	of := func(name, content string) []byte {
		list := parts()
		for i := range list {
			if list[i].name == name {
				list[i].content = content
			}
		}
		return assemble(t, list, nil)
	}
	meta := func(content string) []byte { return of(metadataSection, content) }
	entry := func(name string, i int, value any) []byte {
		return assemble(t, parts(), func(ix map[string][6]any) {
			e := ix[name]
			e[i] = value
			ix[name] = e
		})
	}
	// without is a file whose index is other text.
	indexed := func(text string) []byte {
		b := unzip(t, assemble(t, parts(), nil))
		start := binary.BigEndian.Uint64(b[len(b)-16:])
		tail := b[len(b)-16:]
		b = binary.BigEndian.AppendUint64(b[:start:start], uint64(len(text)))
		return zip(t, append(append(b, text...), tail...))
	}
	lying := func(at int, length uint64) []byte { // of section metadata
		b := unzip(t, assemble(t, parts(), nil))
		binary.BigEndian.PutUint64(b[at:], length)
		return zip(t, b)
	}
	tail := func(start uint64) []byte {
		b := unzip(t, assemble(t, parts(), nil))
		binary.BigEndian.PutUint64(b[len(b)-16:], start)
		return zip(t, b)
	}
	whole := assemble(t, parts(), nil)
	lost := func(name string) []byte {
		return assemble(t, parts(), func(ix map[string][6]any) { delete(ix, name) })
	}
	const good = `{"part_shift":31,"dev_id_bytes":2}`
	for name, tt := range map[string]struct {
		file []byte
		want error
		says string
	}{
		"nothing behind the magic":   {zip(t, []byte("R1NG\x00\x02")), ErrDamaged, "ends without an index"},
		"nothing but zeros":          {zip(t, append([]byte("R1NG\x00\x02"), make([]byte, 100)...)), ErrDamaged, "it starts at 0"},
		"index beyond the end":       {tail(1 << 63), ErrDamaged, "no index where its end says"},
		"index at the end":           {tail(uint64(len(unzip(t, whole)))), ErrDamaged, "no index where its end says"},
		"index elsewhere":            {tail(50), ErrDamaged, "index: not a JSON object"},
		"index no JSON":              {indexed(`{`), ErrDamaged, "index"},
		"index an array":             {indexed(`[]`), ErrDamaged, "index: not a JSON object"},
		"index empty":                {indexed(`{}`), ErrDamaged, `no section "swift/ring/metadata"`},
		"index and more":             {indexed(`{} {}`), ErrDamaged, "something follows"},
		"entry an object":            {indexed(`{"a":{}}`), ErrDamaged, `section "a"`},
		"entry of five":              {indexed(`{"a":[1,2,3,4,"md5"]}`), ErrDamaged, `section "a": 5 values`},
		"offset a fraction":          {indexed(`{"a":[1,6.5,3,14,"md5",""]}`), ErrDamaged, `section "a"`},
		"offset negative":            {indexed(`{"a":[1,-6,3,14,"md5",""]}`), ErrDamaged, `section "a": offset -6`},
		"no start":                   {indexed(`{"a":[1,null,3,14,"md5",""]}`), ErrDamaged, `section "a": no start`},
		"start in the magic":         {indexed(`{"a":[1,5,3,14,"md5",""]}`), ErrDamaged, `section "a": it starts at 5`},
		"ends before its start":      {indexed(`{"a":[1,30,3,14,"md5",""]}`), ErrDamaged, `section "a": it ends at 14, before its start at 30`},
		"twice":                      {indexed(`{"a":[1,6,3,14,"md5",""],"a":[1,14,3,22,"md5",""]}`), ErrDamaged, `section "a" is there twice`},
		"overlapping":                {indexed(`{"b":[1,6,3,30,"md5",""],"a":[1,29,3,40,"md5",""]}`), ErrDamaged, `section "b", from 6 to 30, overlaps "a", from 29`},
		"over the index":             {indexed(`{"b":[1,6,3,300000,"md5",""]}`), ErrDamaged, `section "b", from 6 to 300000, overlaps "the index"`},
		"no metadata":                {lost(metadataSection), ErrDamaged, `no section "swift/ring/metadata"`},
		"no devices":                 {lost(devicesSection), ErrDamaged, `no section "swift/ring/devices"`},
		"no assignments":             {lost(assignmentsSection), ErrDamaged, `no section "swift/ring/assignments"`},
		"checksum of something else": {entry(devicesSection, 5, strings.Repeat("0", 64)), ErrDamaged, `section "swift/ring/devices": damaged ring file: its sha256 is`},
		"checksum cut":               {entry(devicesSection, 5, "00"), ErrDamaged, `the index says "00"`},
		"checksum a number":          {entry(devicesSection, 5, 1), ErrDamaged, `section "swift/ring/devices"`},
		"start moved":                {entry(devicesSection, 1, 64), ErrDamaged, "swift/ring/"},
		"end moved":                  {entry(metadataSection, 3, 50), ErrDamaged, `section "swift/ring/metadata": damaged ring file: it says that it is 49 bytes long, the index that it is 36`},
		"length beyond the section":  {lying(6, 50), ErrDamaged, `section "swift/ring/metadata": damaged ring file: it says that it is 50 bytes long, but there are 49`},
		"length without end":         {lying(6, 1<<64-1), ErrDamaged, "it says that it is 18446744073709551615 bytes long"},
		"length short":               {lying(6, 48), ErrDamaged, "it says that it is 48 bytes long, the index that it is 49"},
		"after the end":              {append(bytes.Clone(whole), 'x'), ErrDamaged, "follows the end"},
		"a second gzip stream":       {append(bytes.Clone(whole), zip(t, nil)...), ErrDamaged, "follows the end"},
		"after a recompressed end":   {append(zip(t, unzip(t, whole)), 'x'), ErrDamaged, "follows the end"},
		"metadata no JSON":           {meta(`{`), ErrDamaged, `section "swift/ring/metadata"`},
		"metadata huge":              {meta(`{"x":"` + strings.Repeat("x", 1<<20) + `"}`), ErrDamaged, "at most 1048576"},
		"no part_shift":              {meta(`{"dev_id_bytes":2}`), ErrDamaged, "no part_shift"},
		"part_shift 33":              {meta(`{"part_shift":33,"dev_id_bytes":2}`), ErrInvalid, "part_shift 33"},
		"part power 0":               {meta(`{"part_shift":32,"dev_id_bytes":2}`), ErrInvalid, "part power 0"},
		"part power 32":              {meta(`{"part_shift":0,"dev_id_bytes":2}`), ErrInvalid, "exceeds"},
		"no dev_id_bytes":            {meta(`{"part_shift":31}`), ErrInvalid, "ids of 0 bytes"},
		"ids of nine bytes":          {meta(`{"part_shift":31,"dev_id_bytes":9}`), ErrInvalid, "ids of 9 bytes"},
		"ids of minus one":           {meta(`{"part_shift":31,"dev_id_bytes":-1}`), ErrInvalid, "ids of -1 bytes"},
		"version negative":           {meta(`{"part_shift":31,"dev_id_bytes":2,"version":-1}`), ErrInvalid, "version -1"},
		"next_part_power":            {meta(`{"part_shift":31,"dev_id_bytes":2,"next_part_power":9}`), ErrInvalid, "next part power 9"},
		"devices no list":            {of(devicesSection, `{}`), ErrDamaged, `section "swift/ring/devices": damaged ring file: no list`},
		"devices cut":                {of(devicesSection, `[`+oneDevice), ErrDamaged, `section "swift/ring/devices"`},
		"devices and more":           {of(devicesSection, `[`+oneDevice+`]]`), ErrDamaged, "something follows the list"},
		"device invalid":             {of(devicesSection, `[`+strings.Replace(oneDevice, "6200", "0", 1)+`]`), ErrInvalid, "port 0"},
		"no table":                   {of(assignmentsSection, ""), ErrInvalid, "0 replicas"},
		"half an id":                 {of(assignmentsSection, "\x00\x00\x00"), ErrDamaged, "3 bytes are not a number of ids of 2"},
		"first row short":            {of(assignmentsSection, "\x00\x00"), ErrDamaged, "row of replica 0 ends after 1 of 2"},
		"too many rows":              {of(assignmentsSection, strings.Repeat("\x00", 4*256+2)), ErrInvalid, "257 replicas"},
		"device not there":           {of(assignmentsSection, "\x00\x00\x00\x01"), ErrInvalid, "replica 0 of partition 1 is on device 1"},
		"device none":                {of(assignmentsSection, "\x00\x00\xff\xff"), ErrInvalid, "is on device 65535"},
		"a device that can't be": {assemble(t, []part{
			{metadataSection, `{"part_shift":31,"dev_id_bytes":8}`}, {devicesSection, "[" + oneDevice + "]"},
			{assignmentsSection, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"},
		}, nil), ErrInvalid, "row of replica 0: invalid ring: partition 1 is on device 4294967296, the highest there can be is 1048575"},
		"a device just beyond": {assemble(t, []part{
			{metadataSection, `{"part_shift":31,"dev_id_bytes":4}`}, {devicesSection, "[" + oneDevice + "]"},
			{assignmentsSection, "\x00\x00\x00\x00\x00\x10\x00\x00"},
		}, nil), ErrInvalid, "device 1048576"},
		"good metadata, table of another width": {assemble(t, []part{
			{metadataSection, good}, {devicesSection, "[" + oneDevice + "]"}, {assignmentsSection, "\x00\x00\x00\x00\x00\x00\x00\x01"},
		}, nil), ErrInvalid, "replica 1 of partition 1 is on device 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(tt.file))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q that says %q", err, tt.want, tt.says)
			}
		})
	}
}

func TestReadDevicesStops(t *testing.T) {
	const list = "[null,null,null]"
	if got, err := readDevices(strings.NewReader(list), 3); err != nil || len(got) != 3 {
		t.Errorf("%d devices, %v; want 3", len(got), err)
	}
	if _, err := readDevices(strings.NewReader(list), 2); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "more than 2 devices") {
		t.Errorf("got %v, want an ErrInvalid", err)
	}
}

// TestBombs: what inflates to far more than the file, in a section that nobody knows,
// in one that claims to be the table, or instead of an index, costs little memory.
func TestBombs(t *testing.T) {
	const size = 32 << 20
	zeros := func(w io.Writer) error {
		_, err := io.CopyN(w, zeroReader{}, size)
		return err
	}
	sectioned := func(name string, rest ...part) []byte {
		var b bytes.Buffer
		w, err := newSectionWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range rest {
			if err := w.section(p.name, len(p.content), func(w io.Writer) error {
				_, err := io.WriteString(w, p.content)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.section(name, size, zeros); err != nil {
			t.Fatal(err)
		}
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	p := parts()
	var raw bytes.Buffer
	z := gzip.NewWriter(&raw)
	if _, err := z.Write([]byte("R1NG\x00\x02")); err != nil {
		t.Fatal(err)
	}
	if err := zeros(z); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		file []byte
		ok   bool
	}{
		"unknown section": {sectioned("acme", p...), true},
		"metadata":        {sectioned(metadataSection, p[1:]...), false},
		"devices":         {sectioned(devicesSection, p[0], p[2]), false},
		"table":           {sectioned(assignmentsSection, p[:2]...), false},
		"no index":        {raw.Bytes(), false},
	} {
		t.Run(name, func(t *testing.T) {
			got := allocated(func() {
				if _, err := Read(bytes.NewReader(tt.file)); (err == nil) != tt.ok {
					t.Errorf("got %v, want a ring: %v", err, tt.ok)
				}
			})
			if got > 8<<20 {
				t.Errorf("%d bytes allocated for a file of %d that inflates to %d", got, len(tt.file), size)
			}
		})
	}
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
