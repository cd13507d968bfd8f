//go:build !race

package ring

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func encoded(t testing.TB, r *Ring) []byte {
	t.Helper()
	return encodedAs(t, r, V1)
}

func encodedAs(t testing.TB, r *Ring, format Format) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := r.WriteFormat(&b, format)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d, said %d, %v", b.Len(), n, err)
	}
	return b.Bytes()
}

func unzip(t testing.TB, file []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func zip(t testing.TB, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// body is the inside of a ring file of that header and those rows.
func body(header string, rows ...byte) []byte {
	b := append([]byte("R1NG\x00\x01"), binary.BigEndian.AppendUint32(nil, uint32(len(header)))...)
	return append(append(b, header...), rows...)
}

// small is a ring with a hole and a short last row.
func small(t testing.TB) *Ring {
	list := devices(3)
	list[1] = nil
	return mustNew(t, Data{Devices: list, PartPower: 1, Version: 7, Rows: [][]uint32{{0, 2}, {2}}})
}

func TestGoldenFile(t *testing.T) {
	file := encoded(t, small(t))
	// Magic, deflate, no flags, 19 March 2011, no extra flags, unknown system.
	if got, want := hex.EncodeToString(file[:10]), "1f8b0800"+"f42a844d"+"00ff"; got != want {
		t.Errorf("gzip header %s, want %s", got, want)
	}
	want := "R1NG\x00\x01\x00\x00\x01\x78" +
		`{"devs":[` +
		`{"id":0,"region":1,"zone":0,"ip":"10.0.0.0","port":6200,"replication_ip":"10.1.0.0","replication_port":6300,"device":"sd0","weight":100,"meta":""},` +
		`null,` +
		`{"id":2,"region":1,"zone":1,"ip":"10.0.0.1","port":6200,"replication_ip":"10.1.0.1","replication_port":6300,"device":"sd2","weight":100,"meta":""}],` +
		`"part_shift":31,"replica_count":2,"byteorder":"little","version":7}` +
		"\x00\x00\x02\x00" + "\x02\x00"
	if got := string(unzip(t, file)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if again := encoded(t, small(t)); !bytes.Equal(file, again) {
		t.Error("equal rings gave different files")
	}
}

func TestReadsSwiftsFile(t *testing.T) {
	r, err := Load("testdata/swift.ring.gz")
	if err != nil {
		t.Fatal(err)
	}
	if r.PartPower() != 6 || r.Replicas() != 3.1875 || r.Version() != 17 {
		t.Errorf("part power %d, replicas %v, version %d; want 6, 3.1875, 17", r.PartPower(), r.Replicas(), r.Version())
	}
	want := Device{ID: 5, Region: 0, Zone: 1, IP: "10.0.1.0", Port: 6200, ReplicationIP: "10.9.1.0", ReplicationPort: 6300,
		Name: "sd1", Weight: 100, Meta: "m5", addr: "10.0.1.0:6200", replicationAddr: "10.9.1.0:6300"}
	for d := range r.Devices() {
		if d.ID == want.ID && *d != want {
			t.Errorf("got %+v, want %+v", *d, want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "devices")
		list := devices(n)
		for _, d := range list {
			d.Meta = rapid.String().Draw(t, "meta")
			d.Weight = rapid.Float64Range(0, 1e12).Draw(t, "weight")
			d.Region = rapid.IntRange(0, 5).Draw(t, "region")
		}
		power := rapid.IntRange(1, 8).Draw(t, "part power")
		rows := scatter(power, rapid.IntRange(2, 5).Draw(t, "replicas"), n)
		last := &rows[len(rows)-1]
		*last = (*last)[:rapid.IntRange(1, 1<<power).Draw(t, "last row")]
		r, err := New(Data{
			Devices: list, PartPower: power, Version: rapid.Int64Min(0).Draw(t, "version"), Rows: rows,
			NextPartPower: rapid.SampledFrom([]int{0, power, power + 1}).Draw(t, "next part power"),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []Format{V1, V2} {
			var file bytes.Buffer
			if n, err := r.WriteFormat(&file, format); err != nil || n != int64(file.Len()) {
				t.Fatalf("format %d: wrote %d, said %d, %v", format, file.Len(), n, err)
			}
			// However the bytes arrive.
			got, err := Read(iotest.HalfReader(&file))
			if err != nil {
				t.Fatal(err)
			}
			if !equal(got, r) {
				t.Fatalf("format %d: read %+v, wrote %+v", format, got, r)
			}
		}
	})
}

const oneDevice = `{"id":0,"region":0,"zone":0,"ip":"10.0.0.1","port":6200,"device":"sda","weight":1.5}`

func TestReadHeaders(t *testing.T) {
	two := `[` + oneDevice + `,` + strings.Replace(strings.Replace(oneDevice, `"id":0,"region":0`, `"id":1`, 1), "sda", "sdb", 1) + `]`
	for name, tt := range map[string]struct {
		header string
		rows   string
		want   string // the first row's devices
		region int    // of device 1
	}{
		"little":           {`{"devs":` + two + `,"part_shift":31,"replica_count":1,"byteorder":"little"}`, "\x01\x00\x00\x00", "1,0", 1},
		"big":              {`{"devs":` + two + `,"part_shift":31,"replica_count":1,"byteorder":"big"}`, "\x00\x01\x00\x00", "1,0", 1},
		"no byteorder":     {`{"devs":` + two + `,"part_shift":31,"replica_count":1}`, "\x01\x00\x00\x00", "1,0", 1},
		"unknown keys":     {`{"devs":` + two + `,"part_shift":31,"replica_count":1,"next_part_power":2,"x":{"y":[]}}`, "\x01\x00\x00\x00", "1,0", 1},
		"pythonic spacing": {`{"devs": ` + two + `, "part_shift": 31, "replica_count": 1, "version": null} `, "\x01\x00\x00\x00", "1,0", 1},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Read(bytes.NewReader(zip(t, body(tt.header, []byte(tt.rows)...))))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%d,%d", r.rows.narrow[0][0], r.rows.narrow[0][1]); got != tt.want {
				t.Errorf("row %s, want %s", got, tt.want)
			}
			if r.devices[0].Region != 0 || r.devices[1].Region != tt.region {
				t.Errorf("regions %d and %d, want 0 and %d", r.devices[0].Region, r.devices[1].Region, tt.region)
			}
			if got := r.devices[1].ReplicationAddr(); got != "10.0.0.1:6200" {
				t.Errorf("replication address %q, want that of the storage network", got)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	ok := `{"devs":[` + oneDevice + `],"part_shift":31,"replica_count":1,"byteorder":"little"}`
	swap := func(was, is string) string { return strings.Replace(ok, was, is, 1) }
	row := []byte{0, 0, 0, 0}
	lying := body(ok, row...)
	binary.BigEndian.PutUint32(lying[6:], 1<<26)
	huge := bytes.Clone(lying)
	binary.BigEndian.PutUint32(huge[6:], 1<<32-1)
	for name, tt := range map[string]struct {
		file []byte
		want error
		says string
	}{
		"empty":                   {nil, ErrDamaged, "ends within the gzip header"},
		"not gzip":                {[]byte("hello, this is no ring"), ErrDamaged, "invalid header"},
		"empty gzip":              {zip(t, nil), ErrDamaged, "ends within the first bytes"},
		"pickle":                  {zip(t, []byte("\x80\x02}q\x00(U\x04devs")), ErrDamaged, "begins with"},
		"format 0":                {zip(t, []byte("R1NG\x00\x00\x00\x00\x00\x00")), ErrDamaged, "format version 0"},
		"format 3":                {zip(t, []byte("R1NG\x00\x03\x00\x00\x00\x00")), ErrDamaged, "format version 3"},
		"header cut":              {zip(t, lying), ErrDamaged, "ends within the header"},
		"header huge":             {zip(t, huge), ErrDamaged, "header of 4294967295 bytes"},
		"not JSON":                {zip(t, body("{", row...)), ErrDamaged, "header"},
		"no devs":                 {zip(t, body(`{"part_shift":31,"replica_count":1}`, row...)), ErrDamaged, "no list of devs"},
		"devs not a list":         {zip(t, body(swap(`[`+oneDevice+`]`, `{}`), row...)), ErrDamaged, "no list of devs"},
		"device not an object":    {zip(t, body(swap(oneDevice, `3`), row...)), ErrDamaged, "device 0"},
		"no part_shift":           {zip(t, body(swap(`"part_shift":31,`, ``), row...)), ErrDamaged, "no part_shift"},
		"part_shift negative":     {zip(t, body(swap(`31`, `-1`), row...)), ErrInvalid, "part_shift -1"},
		"part_shift 33":           {zip(t, body(swap(`31`, `33`), row...)), ErrInvalid, "part_shift 33"},
		"part power 0":            {zip(t, body(swap(`31`, `32`), row...)), ErrInvalid, "part power 0"},
		"oversize":                {zip(t, body(swap(`31`, `0`), row...)), ErrInvalid, "exceeds"},
		"no replicas":             {zip(t, body(swap(`"replica_count":1`, `"replica_count":0`), row...)), ErrInvalid, "0 replicas"},
		"replicas by the million": {zip(t, body(swap(`"replica_count":1`, `"replica_count":1000000`), row...)), ErrInvalid, "1000000 replicas"},
		"byteorder":               {zip(t, body(swap(`little`, `middle`), row...)), ErrDamaged, "middle"},
		"port":                    {zip(t, body(swap(`6200`, `0`), row...)), ErrInvalid, "port 0"},
		"next_part_power":         {zip(t, body(swap(`31`, `31,"next_part_power":3`), row...)), ErrInvalid, "next part power 3"},
		"too many devices":        {zip(t, body(swap(oneDevice, oneDevice+strings.Repeat(`,null`, 65535)), row...)), ErrInvalid, "more than 65535 devices"},
		"device not there":        {zip(t, body(ok, 0, 0, 1, 0)), ErrInvalid, "partition 1 is on device 1"},
		"no rows":                 {zip(t, body(ok)), ErrDamaged, "ends after 0 of 2 partitions"},
		"first row short":         {zip(t, body(ok, 0, 0)), ErrDamaged, "ends after 1 of 2 partitions"},
		"row missing":             {zip(t, body(swap(`"replica_count":1`, `"replica_count":3`), 0, 0, 0, 0, 0, 0)), ErrDamaged, "replica 1 of 3 ends after 1 of 2"},
		"last row missing":        {zip(t, body(swap(`"replica_count":1`, `"replica_count":2`), row...)), ErrDamaged, "replica 1 of 2 ends after 0 of 2"},
		"claims 2^26 partitions":  {zip(t, body(swap(`31`, `6`), row...)), ErrDamaged, "ends after 2 of 67108864 partitions"},
		"half an id":              {zip(t, body(ok, 0, 0, 0)), ErrDamaged, "half a device id"},
		"more than the rows":      {zip(t, body(ok, 0, 0, 0, 0, 0)), ErrDamaged, "follows the last row"},
		"after the end":           {append(zip(t, body(ok, row...)), 'x'), ErrDamaged, "follows the end"},
		"a second gzip stream":    {append(zip(t, body(ok, row...)), zip(t, nil)...), ErrDamaged, "follows the end"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(tt.file))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q that says %q", err, tt.want, tt.says)
			}
		})
	}
}

// TestLiesCostLittle: what a header claims must not be allocated before it arrives.
func TestLiesCostLittle(t *testing.T) {
	header := `{"devs":[` + oneDevice + `],"part_shift":5,"replica_count":1,"byteorder":"little"}`
	file := zip(t, body(header, make([]byte, 1000)...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Read(bytes.NewReader(file)); err == nil {
		t.Fatal("read a ring of 2^27 partitions from 1000 bytes")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("%d bytes allocated for a file that claims 2^27 partitions and has 500", got)
	}
}

// TestCutAnywhere: no beginning of a file is taken for a whole one.
func TestCutAnywhere(t *testing.T) {
	for _, format := range []Format{V1, V2} {
		file := encodedAs(t, small(t), format)
		for n := range file {
			if _, err := Read(bytes.NewReader(file[:n])); !errors.Is(err, ErrDamaged) {
				t.Errorf("format %d: the first %d of %d bytes: %v, want an ErrDamaged", format, n, len(file), err)
			}
		}
	}
}

// TestFlippedAnywhere: a bit that changed is noticed, or is one that says nothing.
func TestFlippedAnywhere(t *testing.T) {
	want := small(t)
	for _, format := range []Format{V1, V2} {
		file := encodedAs(t, want, format)
		for i := range 8 * len(file) {
			bad := bytes.Clone(file)
			bad[i/8] ^= 1 << (i % 8)
			if got, err := Read(bytes.NewReader(bad)); err == nil && !equal(got, want) {
				t.Errorf("format %d: bit %d of byte %d flipped: read another ring", format, i%8, i/8)
			}
		}
	}
}

func TestReaderErrorsPassThrough(t *testing.T) {
	broken := errors.New("broken")
	for _, format := range []Format{V1, V2} {
		file := encodedAs(t, medium(t), format)
		for _, n := range []int{0, 5, 20, 70_000, len(file) - 4, len(file)} {
			_, err := Read(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
			if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
				t.Errorf("format %d: reader fails after %d bytes: %v, want its own error and no ErrDamaged", format, n, err)
			}
		}
	}
}

func TestWriteFormatRefuses(t *testing.T) {
	list := make([]*Device, MaxDevicesV1+1)
	for _, id := range []int{0, MaxDevicesV1 - 1, MaxDevicesV1} {
		list[id] = &Device{ID: id, IP: "10.0.0.1", Port: 6200, Name: fmt.Sprintf("sd%d", id)}
	}
	full := mustNew(t, Data{Devices: list[:MaxDevicesV1], PartPower: 1, Rows: [][]uint32{{0, MaxDevicesV1 - 1}}})
	over := mustNew(t, Data{Devices: list, PartPower: 1, Rows: [][]uint32{{0, MaxDevicesV1}}})
	for name, tt := range map[string]struct {
		ring   *Ring
		format Format
		want   Format // 0 if it is refused
	}{
		"as many as fit, 1":    {full, V1, V1},
		"as many as fit, auto": {full, Auto, V1},
		"as many as fit, 2":    {full, V2, V2},
		"one more, 1":          {over, V1, 0},
		"one more, auto":       {over, Auto, V2},
		"one more, 2":          {over, V2, V2},
		"no format":            {full, 3, 0},
		"nor this":             {full, -1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var file bytes.Buffer
			_, err := tt.ring.WriteFormat(&file, tt.format)
			if tt.want == 0 {
				if !errors.Is(err, ErrInvalid) || file.Len() > 0 {
					t.Errorf("wrote %d bytes, %v; want an ErrInvalid and nothing written", file.Len(), err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := Format(unzip(t, file.Bytes())[5]); got != tt.want {
				t.Errorf("format %d, want %d", got, tt.want)
			}
			if got, err := Read(&file); err != nil || !equal(got, tt.ring) {
				t.Errorf("read another ring, or %v", err)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	r := fleet(b)
	for _, format := range []Format{V1, V2} {
		b.Run(fmt.Sprintf("v%d", format), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "object.ring.gz")
			if err := os.WriteFile(path, encodedAs(b, r, format), 0o600); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Load(path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	r := fleet(b)
	for _, format := range []Format{V1, V2} {
		b.Run(fmt.Sprintf("v%d", format), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.WriteFormat(io.Discard, format); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
