package builder

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"martlet/ring"
)

func written(t testing.TB, b *Builder) []byte {
	t.Helper()
	var text bytes.Buffer
	if err := b.Write(&text); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// sealed is a builder file of that state, whatever it is, with a good checksum.
func sealed(t testing.TB, state string) []byte {
	t.Helper()
	var body bytes.Buffer
	if err := json.Compact(&body, []byte(state)); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(file{fileFormat, fileVersion, checksum(body.Bytes()), body.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// golden is the builder in the golden files.
func golden() *Builder {
	return &Builder{
		partPower: 1, rowCount: 2, last: 2, version: 9,
		devices: []*member{
			{Device: ring.Device{ID: 0, Region: 1, Zone: 2, IP: "10.0.0.1", Port: 6200, Name: "sda", Weight: 1.5, Meta: "a<b"}},
			nil,
			{Device: ring.Device{ID: 2, Region: 1, Zone: 3, IP: "10.0.0.2", Port: 6200, ReplicationIP: "10.1.0.2", ReplicationPort: 6300, Name: "sda", Weight: 1}, Removed: true},
		},
		rows: [][]uint32{{0, 2}, {2, 0}},
	}
}

func TestGoldenFiles(t *testing.T) {
	now := golden()
	now.rowCount, now.last, now.minPartHours, now.overload = 3, 1, 24, 0.125
	now.rows = [][]uint32{{0, 2}, {2, 0}, {0}}
	now.moved = []uint32{0, 1_700_000_000}
	for path, want := range map[string]*Builder{"testdata/golden.v1.builder": golden(), "testdata/golden.v2.builder": now} {
		got, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: loaded %+v, want %+v", path, got, want)
		}
	}
	want, err := os.ReadFile("testdata/golden.v2.builder")
	if err != nil {
		t.Fatal(err)
	}
	if got := written(t, now); !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestLayoutIsFree: people and tools may indent the file as they like.
func TestLayoutIsFree(t *testing.T) {
	b := build(t, 4, 3, grid(1, 2, 2, 1))
	rebalance(t, b, 1)
	var flat bytes.Buffer
	if err := json.Compact(&flat, written(t, b)); err != nil {
		t.Fatal(err)
	}
	if again, err := Read(&flat); err != nil || !reflect.DeepEqual(again, b) {
		t.Errorf("read %+v, %v; want %+v", again, err, b)
	}
}

func TestReadRefuses(t *testing.T) {
	b := build(t, 1, 1, grid(1, 1, 2, 1))
	rebalance(t, b, 1)
	good := string(written(t, b))
	dev := `{"id":0,"region":0,"zone":0,"ip":"10.0.0.1","port":6200,"device":"a","weight":1}`
	second := strings.Replace(dev, `"id":0`, `"id":2`, 1)
	removed := strings.Replace(second, `{`, `{"removed":true,`, 1)
	if _, err := Read(bytes.NewReader(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+dev+`,null,`+removed+`]}`))); err != nil {
		t.Errorf("a disk whose device was removed, and which was added again: %v", err)
	}
	for name, tt := range map[string]struct {
		file string
		want error
		says string
	}{
		"empty":             {"", ErrDamaged, "EOF"},
		"cut":               {good[:len(good)/2], ErrDamaged, "EOF"},
		"more after it":     {good + "{}", ErrDamaged, "follows its end"},
		"edited":            {strings.Replace(good, `"weight": 100`, `"weight": 101`, 1), ErrDamaged, "checksum"},
		"another format":    {strings.Replace(good, fileFormat, "x", 1), ErrDamaged, `format is "x"`},
		"later format":      {strings.Replace(good, `"format_version": 2`, `"format_version": 3`, 1), ErrNewer, "format_version is 3, this one reads up to 2"},
		"unknown key":       {string(sealed(t, `{"part_power":1,"replicas":1,"colour":0.1}`)), ErrDamaged, "colour"},
		"replicas":          {string(sealed(t, `{"part_power":1,"replicas":0.5}`)), ErrDamaged, "0.5 replicas"},
		"overload":          {string(sealed(t, `{"part_power":1,"replicas":1,"overload":-1}`)), ErrDamaged, "overload -1"},
		"min_part_hours":    {string(sealed(t, `{"part_power":1,"replicas":1,"min_part_hours":-1}`)), ErrDamaged, "min_part_hours -1"},
		"moved":             {string(sealed(t, `{"part_power":1,"replicas":1,"moved":"AAAAAA=="}`)), ErrDamaged, "moved has 1 of 2"},
		"part power":        {string(sealed(t, `{"part_power":40,"replicas":1}`)), ErrDamaged, "part power 40"},
		"version":           {string(sealed(t, `{"part_power":1,"replicas":1,"version":-1}`)), ErrDamaged, "version -1"},
		"id not its place":  {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[null,`+dev+`]}`)), ErrDamaged, "place 1"},
		"device":            {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+strings.Replace(dev, "6200", "0", 1)+`]}`)), ring.ErrInvalid, "port 0"},
		"weight":            {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+strings.Replace(dev, `"weight":1`, `"weight":1e300`, 1)+`]}`)), ErrDevice, "weight"},
		"weight's device":   {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+strings.Replace(dev, `"weight":1`, `"weight":1e300`, 1)+`]}`)), ErrDamaged, "device 0: "},
		"two of one disk":   {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+dev+`,null,`+second+`]}`)), ErrDamaged, `devices 0 and 2 are one disk: ip "10.0.0.1", port 6200, device "a"`},
		"of one disk, IPv6": {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+strings.Replace(dev, "10.0.0.1", "fe80::1", 1)+`,null,`+strings.Replace(second, "10.0.0.1", "FE80:0::1", 1)+`]}`)), ErrDamaged, "are one disk"},
		"row not base64":    {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+dev+`],"rows":["?"]}`)), ErrDamaged, "row 0"},
		"row short":         {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+dev+`],"rows":["AAA="]}`)), ErrDamaged, "row 0: 2 bytes"},
		"row too short":     {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+dev+`],"rows":["AAAAAA=="]}`)), ring.ErrInvalid, "row 0 has 1 of 2"},
		"row on nothing":    {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+dev+`],"rows":["AAAAAAEAAAA="]}`)), ring.ErrInvalid, "device 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(tt.file))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q that says %q", err, tt.want, tt.says)
			}
		})
	}
}

// FuzzRead reads any bytes as a builder file, and as the state within one. What is
// accepted must survive being written and read, and, where small, a rebalance.
func FuzzRead(f *testing.F) {
	b := build(f, 2, 2, grid(1, 2, 2, 1))
	f.Add(written(f, b))
	rebalance(f, b, 1)
	f.Add(written(f, b))
	var whole file
	if err := json.Unmarshal(written(f, b), &whole); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(whole.Builder))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := [][]byte{data}
		if json.Valid(data) {
			files = append(files, sealed(t, string(data)))
		}
		for _, text := range files {
			b, err := Read(bytes.NewReader(text))
			if err != nil {
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) && !errors.Is(err, ring.ErrInvalid) {
					t.Fatalf("an error of no kind: %v", err)
				}
				continue
			}
			again, err := Read(bytes.NewReader(written(t, b)))
			if err != nil {
				t.Fatalf("what was written can't be read: %v", err)
			}
			if got := written(t, again); !bytes.Equal(got, written(t, b)) {
				t.Fatalf("written, read and written again:\n%s\nwant\n%s", got, written(t, b))
			}
			if b.partPower > 6 || b.rowCount > 8 {
				continue
			}
			b.minPartHours = 0
			if _, err := settle(b, 1); err == nil {
				err = checkPlan(b)
				if err != nil {
					t.Fatal(err)
				}
			} else if !errors.Is(err, ErrTooFew) {
				t.Fatal(err)
			}
		}
	})
}
