package builder

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
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

func TestGoldenFile(t *testing.T) {
	b := &Builder{
		partPower: 1, replicas: 2, version: 9,
		devices: []*member{
			{Device: ring.Device{ID: 0, Region: 1, Zone: 2, IP: "10.0.0.1", Port: 6200, Name: "sda", Weight: 1.5, Meta: "a<b"}},
			nil,
			{Device: ring.Device{ID: 2, Region: 1, Zone: 3, IP: "10.0.0.2", Port: 6200, ReplicationIP: "10.1.0.2", ReplicationPort: 6300, Name: "sda", Weight: 1}, Removed: true},
		},
		rows: [][]uint32{{0, 2}, {2, 0}},
	}
	const path = "testdata/golden.builder"
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := written(t, b); !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, b) {
		t.Errorf("loaded %+v, want %+v", again, b)
	}
}

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "object.builder")
	b := build(t, 4, 3, grid(1, 2, 2, 1))
	for _, state := range []string{"new", "balanced", "with one to remove"} {
		if err := b.Save(path); err != nil {
			t.Fatal(err)
		}
		again, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again, b) {
			t.Errorf("%s: loaded %+v, want %+v", state, again, b)
		}
		switch state {
		case "new":
			rebalance(t, b, 1)
		case "balanced":
			if err := b.Remove(2); err != nil {
				t.Fatal(err)
			}
		}
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
	for name, tt := range map[string]struct {
		file string
		want error
		says string
	}{
		"empty":            {"", ErrDamaged, "EOF"},
		"cut":              {good[:len(good)/2], ErrDamaged, "EOF"},
		"more after it":    {good + "{}", ErrDamaged, "follows its end"},
		"edited":           {strings.Replace(good, `"weight": 100`, `"weight": 101`, 1), ErrDamaged, "checksum"},
		"another format":   {strings.Replace(good, fileFormat, "x", 1), ErrDamaged, `format "x"`},
		"later format":     {strings.Replace(good, `"format_version": 1`, `"format_version": 2`, 1), ErrDamaged, "version 2"},
		"unknown key":      {string(sealed(t, `{"part_power":1,"replicas":1,"overload":0.1}`)), ErrDamaged, "overload"},
		"part power":       {string(sealed(t, `{"part_power":40,"replicas":1}`)), ErrDamaged, "part power 40"},
		"version":          {string(sealed(t, `{"part_power":1,"replicas":1,"version":-1}`)), ErrDamaged, "version -1"},
		"id not its place": {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[null,`+dev+`]}`)), ErrDamaged, "place 1"},
		"device":           {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+strings.Replace(dev, "6200", "0", 1)+`]}`)), ring.ErrInvalid, "port 0"},
		"weight":           {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+strings.Replace(dev, `"weight":1`, `"weight":1e300`, 1)+`]}`)), ErrDevice, "weight"},
		"rows missing":     {string(sealed(t, `{"part_power":1,"replicas":2,"devices":[`+dev+`],"rows":["AAAAAA=="]}`)), ErrDamaged, "1 rows for 2"},
		"row not base64":   {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+dev+`],"rows":["?"]}`)), ErrDamaged, "row 0"},
		"row short":        {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+dev+`],"rows":["AAA="]}`)), ErrDamaged, "row 0 has 2 bytes"},
		"row on nothing":   {string(sealed(t, `{"part_power":1,"replicas":1,"devices":[`+dev+`],"rows":["AAABAA=="]}`)), ring.ErrInvalid, "device 1"},
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
				if !errors.Is(err, ErrDamaged) && !errors.Is(err, ring.ErrInvalid) {
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
			if b.partPower > 6 || b.replicas > 8 {
				continue
			}
			if _, err := b.Rebalance(1); err == nil {
				err = checkSpread(b)
				if err != nil {
					t.Fatal(err)
				}
			} else if !errors.Is(err, ErrNoWeight) {
				t.Fatal(err)
			}
		}
	})
}
