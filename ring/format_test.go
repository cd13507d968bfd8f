package ring

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func encoded(t testing.TB, r *Ring) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := r.WriteTo(&b)
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
		r, err := New(Data{Devices: list, PartPower: power, Version: rapid.Int64Min(0).Draw(t, "version"), Rows: rows})
		if err != nil {
			t.Fatal(err)
		}
		var file bytes.Buffer
		if _, err := r.WriteTo(&file); err != nil {
			t.Fatal(err)
		}
		// However the bytes arrive.
		got, err := Read(iotest.HalfReader(&file))
		if err != nil {
			t.Fatal(err)
		}
		if !equal(got, r) {
			t.Fatalf("read %+v, wrote %+v", got, r)
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
		"unknown keys":     {`{"devs":` + two + `,"part_shift":31,"replica_count":1,"next_part_power":3,"x":{"y":[]}}`, "\x01\x00\x00\x00", "1,0", 1},
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
		"format 2":                {zip(t, []byte("R1NG\x00\x02\x00\x00\x00\x00")), ErrDamaged, "format version 2"},
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
	file := encoded(t, small(t))
	for n := range file {
		if _, err := Read(bytes.NewReader(file[:n])); !errors.Is(err, ErrDamaged) {
			t.Errorf("the first %d of %d bytes: %v, want an ErrDamaged", n, len(file), err)
		}
	}
}

// TestFlippedAnywhere: a bit that changed is noticed, or is one that says nothing.
func TestFlippedAnywhere(t *testing.T) {
	want := small(t)
	file := encoded(t, want)
	for i := range 8 * len(file) {
		bad := bytes.Clone(file)
		bad[i/8] ^= 1 << (i % 8)
		if got, err := Read(bytes.NewReader(bad)); err == nil && !equal(got, want) {
			t.Errorf("bit %d of byte %d flipped: read another ring", i%8, i/8)
		}
	}
}

func TestReaderErrorsPassThrough(t *testing.T) {
	file := encoded(t, small(t))
	broken := errors.New("broken")
	for _, n := range []int{0, 5, 20, len(file) - 4, len(file)} {
		_, err := Read(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
			t.Errorf("reader fails after %d bytes: %v, want its own error and no ErrDamaged", n, err)
		}
	}
}

// FuzzRead reads any bytes as a file, and as the inside of one. What is accepted
// must survive being written and read, and lookups.
func FuzzRead(f *testing.F) {
	whole := encoded(f, small(f))
	f.Add(whole)
	f.Add(unzip(f, whole))
	f.Add(body(`{"devs":[`+oneDevice+`],"part_shift":31,"replica_count":2,"byteorder":"big"}`, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range [][]byte{data, zip(t, data)} {
			r, err := Read(bytes.NewReader(file))
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrInvalid) {
					t.Fatalf("an error of no kind: %v", err)
				}
				continue
			}
			again, err := Read(bytes.NewReader(encoded(t, r)))
			if err != nil || !equal(again, r) {
				t.Fatalf("read %+v, wrote it, then read %+v, %v", r, again, err)
			}
			for _, p := range []Partition{0, Partition(r.Partitions() - 1)} {
				primaries := len(r.AppendPrimaries(nil, p))
				for range r.Handoffs(p) {
					primaries++
				}
				if primaries < 1 || primaries > len(r.devices) {
					t.Fatalf("partition %d has %d primaries and handoffs of %d devices", p, primaries, len(r.devices))
				}
			}
		}
	})
}

// large has 2^20 partitions of 3 replicas on 1000 devices, at random, as hard to
// compress as a real one.
func large(b *testing.B) *Ring {
	rng := rand.New(rand.NewPCG(1, 2))
	rows := scatter(20, 3, 1000)
	for _, row := range rows {
		for p := range row {
			row[p] = uint32(rng.IntN(1000))
		}
	}
	return mustNew(b, Data{Devices: devices(1000), PartPower: 20, Rows: rows})
}

func BenchmarkRead(b *testing.B) {
	file := encoded(b, large(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(bytes.NewReader(file)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	r := large(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
