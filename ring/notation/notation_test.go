package notation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"martlet/ring"
)

func TestDevice(t *testing.T) {
	for text, want := range map[string]ring.Device{
		"r1z1-10.0.0.1:6200/sdb1":                                     {Region: 1, Zone: 1, IP: "10.0.0.1", Port: 6200, Name: "sdb1"},
		"z3-10.0.0.1:6200/sdb1":                                       {Region: 1, Zone: 3, IP: "10.0.0.1", Port: 6200, Name: "sdb1"},
		"r2z0-10.0.0.1:6200R10.1.0.1:6300/sdb1_rack 4_left":           {Region: 2, Zone: 0, IP: "10.0.0.1", Port: 6200, ReplicationIP: "10.1.0.1", ReplicationPort: 6300, Name: "sdb1", Meta: "rack 4_left"},
		"r1z1-[FE80:0::1]:6200R[::2]:6300/sdb1_":                      {Region: 1, Zone: 1, IP: "fe80::1", Port: 6200, ReplicationIP: "::2", ReplicationPort: 6300, Name: "sdb1"},
		"r1z1-Storage-R1.Example.com:6200RStorageR.example:1/nvme0n1": {Region: 1, Zone: 1, IP: "storage-r1.example.com", Port: 6200, ReplicationIP: "storager.example", ReplicationPort: 1, Name: "nvme0n1"},
	} {
		got, defaulted, err := Device(text)
		if err != nil || got != want || defaulted != strings.HasPrefix(text, "z") {
			t.Errorf("%q: %+v, %v, %v, want %+v", text, got, defaulted, err, want)
		}
	}
}

func TestDeviceRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "it has no zone",
		"r1-10.0.0.1:6200/sdb1":             "it has no zone",
		"rz1-10.0.0.1:6200/sdb1":            "no number is behind \"r\"",
		"r1z-10.0.0.1:6200/sdb1":            "no number is behind \"z\"",
		"r99999999999z1-10.0.0.1:6200/sdb1": "99999999999 is too large",
		"r1z1_10.0.0.1:6200/sdb1":           "between the zone and the address",
		"r1z1-10.0.0.256:6200/sdb1":         "\"10.0.0.256\" is neither an IP address nor a host name",
		"r1z1-bad_host:6200/sdb1":           "\"bad_host\" is neither",
		"r1z1-:6200/sdb1":                   "\"\" is neither",
		"r1z1-10.0.0.1/sdb1":                "the address has no port",
		"r1z1-10.0.0.1:/sdb1":               "the address has no port",
		"r1z1-10.0.0.1:0/sdb1":              "port 0 is not within",
		"r1z1-10.0.0.1:65536/sdb1":          "port 65536 is not within",
		"r1z1-10.0.0.1:6200R10.0.0.2/sdb1":  "the replication address has no port",
		"r1z1-10.0.0.1:6200R:1/sdb1":        "the replication address \"\" is neither",
		"r1z1-fe80::1:6200/sdb1":            "in brackets",
		"r1z1-[fe80::1:6200/sdb1":           "is not closed",
		"r1z1-[10.0.0.1]:6200/sdb1":         "neither",
		"r1z1-10.0.0.1:6200":                "before the name",
		"r1z1-10.0.0.1:6200x/sdb1":          "before the name",
		"r1z1-10.0.0.1:6200/_meta":          "the device has no name",
	} {
		d, _, err := Device(text)
		if !errors.Is(err, ErrSyntax) || !strings.Contains(fmt.Sprint(err), want) || d != (ring.Device{}) {
			t.Errorf("%q: %+v, %v, want %q", text, d, err, want)
		}
	}
}

func TestSearch(t *testing.T) {
	devices := []ring.Device{
		{ID: 0, Region: 1, Zone: 1, IP: "10.0.0.1", Port: 6200, ReplicationIP: "10.1.0.1", ReplicationPort: 6300, Name: "sdb1", Meta: "shiny and new"},
		{ID: 1, Region: 1, Zone: 2, IP: "10.0.0.2", Port: 6200, Name: "sdc1"},
		{ID: 12, Region: 2, Zone: 1, IP: "FE80:0::1", Port: 6201, Name: "sdb1"},
		{ID: 3, Region: 2, Zone: 11, IP: "host.example", Port: 6200, Name: "d1"},
		{ID: 6, Region: 9, Zone: 9, IP: "10.9.0.6", Port: 1, Name: "sdd", Meta: "a blue one"},
		{ID: 7, Region: 9, Zone: 9, IP: "10.9.0.7", Port: 1, Name: "sdd_b", Meta: "blue"},
	}
	for text, want := range map[string]string{
		"d1": "[1]", "d12": "[12]", "d8": "[]", "r1": "[0 1]", "z1": "[0 12]", "r2z11": "[3]", "d0r1": "[0]", "d0r2": "[]",
		"10.0.0.1": "[0]", "-10.0.0.1": "[0]", "z1-10.0.0.1": "[0]", "z2-10.0.0.1": "[]", "z1:6201": "[12]", ":6200": "[0 1 3]",
		"[fe80::1]": "[12]", "z1-[FE80::0:1]:6201": "[12]", "-host.example:6200": "[3]", "r2-HOST.example": "[3]",
		"R10.1.0.1": "[0]", "R:6300": "[0]", "R10.0.0.2": "[1]", "R:6200": "[1 3]", "10.0.0.1R10.1.0.1:6300": "[0]", "R[fe80::1]:6201": "[12]",
		"/sdb1": "[0 12]", "r1/sdb1": "[0]", "_shiny": "[0]", "/sdb1_new": "[0]", "_": "[0 1 12 3 6 7]", "/d1": "[3]",
		"d0r1z1-10.0.0.1:6200R10.1.0.1:6300/sdb1_shiny and new": "[0]",
		"/sdd_b": "[6 7]", "/sdd_b_blue": "[7]", "/sdd": "[6]", "/sdd_": "[6]", "/sdd_b_": "[7]", "d7/sdd_b": "[7]", "/sdd_bl": "[6]",
	} {
		f, err := ParseSearch(text)
		got := []int{}
		for _, d := range devices {
			if f.Match(&d) {
				got = append(got, d.ID)
			}
		}
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
	for i := range devices {
		f, err := ParseSearch(FormatID(&devices[i]))
		if err != nil || !f.Match(&devices[i]) {
			t.Errorf("%s does not find itself: %v", FormatID(&devices[i]), err)
		}
	}
}

// TestFormatIDFinds: whatever a ring may hold, the search that is printed for a device
// finds it and nothing else.
func TestFormatIDFinds(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	dice := rand.New(rand.NewPCG(seed, 1))
	pick := func(of []string, most int) (text string) {
		for range 1 + dice.IntN(most) {
			text += of[dice.IntN(len(of))]
		}
		return text
	}
	hosts := []string{"10.0.0.1", "10.1.0.1", "fe80::1", "FE80:0::1", "[::2]", "fe80::1%eth0", "storage7.example", "Storage-R1.Example", "bad_host", "a..b", "300.1.1.1", "[", "R", "-"}
	parts := []string{"s", "d", "_", "_", "R", "z1", "-", ":", "é", "%", "[", "]", "\\", "d1", "."}
	texts := append([]string{" ", "/", "\x1b", "\n"}, parts...)
	device := func(id int) ring.Device {
		d := ring.Device{ID: id, Region: dice.IntN(3), Zone: dice.IntN(3), IP: hosts[dice.IntN(len(hosts))], Port: 1 + dice.IntN(3), Name: pick(parts, 4)}
		if dice.IntN(2) == 0 {
			d.ReplicationIP, d.ReplicationPort = hosts[dice.IntN(len(hosts))], dice.IntN(3)
		}
		if dice.IntN(2) == 0 {
			d.Meta = pick(texts, 5)
		}
		return d
	}
	tried := 0
	for tried < 20000 {
		d := device(dice.IntN(30))
		if d.Validate() != nil {
			continue
		}
		tried++
		text := FormatID(&d)
		f, err := ParseSearch(text)
		if err != nil || !f.Match(&d) {
			t.Fatalf("seed %d: %q does not find %+v: %v", seed, text, d, err)
		}
		if f.Name == nil {
			t.Errorf("seed %d: %q has no name, of %+v", seed, text, d)
		}
		if other := device(d.ID + 1); f.Match(&other) {
			t.Fatalf("seed %d: %q finds %+v, too", seed, text, other)
		}
	}
}

func TestSearchRefused(t *testing.T) {
	for text, want := range map[string]string{
		"": "it has no part", "d": "no number", "dx": "no number", "x": "\"x\" is no part", "z1r1": "\"r1\" is no part",
		"10.0.0": "neither", "r1 z1": "\" z1\" is no part", "R": "nothing is behind", ":": "no port", ":70000": "port 70000",
		"[::1": "not closed", "/": "no name", "host.example": "is no part",
	} {
		if f, err := ParseSearch(text); !errors.Is(err, ErrSyntax) || !strings.Contains(fmt.Sprint(err), want) || !f.Empty() {
			t.Errorf("%q: %+v, %v, want %q", text, f, err, want)
		}
	}
	if _, err := ParseInfo("/_x"); !errors.Is(err, ErrSyntax) {
		t.Errorf("no name among what is to be changed: %v", err)
	}
	if _, err := ParseInfo("d1:6200"); !errors.Is(err, ErrSyntax) {
		t.Errorf("an id among what is to be changed: %v", err)
	}
}

func TestApply(t *testing.T) {
	d := ring.Device{ID: 4, Region: 1, Zone: 1, IP: "10.0.0.1", Port: 6200, Name: "sdb1", Meta: "old", Weight: 5}
	f, err := ParseInfo("r2z3-10.0.0.9:1R10.0.0.8:2/sdc_new")
	f.Apply(&d)
	if want := (ring.Device{ID: 4, Region: 2, Zone: 3, IP: "10.0.0.9", Port: 1, ReplicationIP: "10.0.0.8", ReplicationPort: 2, Name: "sdc", Meta: "new", Weight: 5}); err != nil || d != want {
		t.Errorf("%+v, %v", d, err)
	}
	f, err = ParseInfo("_")
	f.Apply(&d)
	if err != nil || d.Meta != "" || d.Name != "sdc" {
		t.Errorf("%+v, %v", d, err)
	}
}

// Whatever is read is written so that it is read the same again.
func FuzzDevice(f *testing.F) {
	for _, s := range []string{"r1z1-10.0.0.1:6200R10.1.0.1:6300/sdb1_meta", "z0-[::1]:1/d", "r1z1-host.example:1R[fe80::1]:2/d_", "d1r1z1-:1", "R:1/x_y", "[fe80::1%eth0]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, _, err := Device(text); err == nil {
			again, defaulted, err := Device(Format(&d))
			settle(&d)
			settle(&again)
			if err != nil || defaulted || again != d {
				t.Errorf("%q is %+v, written as %q, and that is %+v, %v", text, d, Format(&d), again, err)
			}
			if s, err := ParseSearch(FormatID(&d)); err != nil || !s.Match(&d) {
				t.Errorf("%q does not find %+v: %v", FormatID(&d), d, err)
			}
		}
		if s, err := ParseSearch(text); err == nil && s.Empty() {
			t.Errorf("%q is a search for everything", text)
		}
		_, _ = ParseInfo(text)
	})
}

// settle fills in what Format leaves out.
func settle(d *ring.Device) {
	if d.ReplicationAddr() == d.Addr() {
		d.ReplicationIP, d.ReplicationPort = "", 0
	}
}
