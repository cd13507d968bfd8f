package metadb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// What is on disk may not change without a new version.
func TestGolden(t *testing.T) {
	stamp := timestamp.FromTicks(140_246_467_704_188).WithOffset(3)
	info := Info{
		Path: name.Path{Account: "AUTH_a", Container: "ç"}, Incarnation: ID{1, 2, 15: 255}, Policy: 300,
		Created: stamp, Put: stamp.Next(), Delete: timestamp.T{}, StatusChanged: stamp,
		PolicyAt: stamp.Next(), PolicyAfter: stamp,
	}
	const first = "0106415554485f6102c3a7010200000000000000000000000000ffac02fcea8de7daf11f03fdea8de7daf11f000000fcea8de7daf11f03"
	for what, c := range map[string]struct {
		got  []byte
		want string
	}{
		"info":   {appendInfo(nil, &info), "02" + first[2:] + "fdea8de7daf11f00" + "fcea8de7daf11f03"},
		"report": {appendReport(nil, Report{stamp, stamp, 5, -1}), "01fcea8de7daf11f03fcea8de7daf11f030a01"},
		"field":  {appendField(nil, &Field{"X", "välue", stamp}), "01fcea8de7daf11f030676c3a46c7565"},
		"stat":   {appendStat(nil, Stat{1, 200, -3}), "0102900305"},
		"seal":   {seal([]byte("key"), []byte("value")), "76616c7565" + "448900e8"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is %s, want %s", what, got, c.want)
		}
	}
	if got, err := decodeInfo(appendInfo(nil, &info)); err != nil || got != info {
		t.Errorf("info comes back as %+v, %v", got, err)
	}
	old, err := hex.DecodeString(first)
	if err != nil {
		t.Fatal(err)
	}
	want := info
	want.PolicyAt, want.PolicyAfter = stamp, timestamp.T{}
	if got, err := decodeInfo(old); err != nil || got != want {
		t.Errorf("info of version 1 comes back as %+v, %v; want %+v", got, err, want)
	}
	if _, err := decodeInfo(append([]byte{3}, appendInfo(nil, &info)[1:]...)); !errors.Is(err, ErrDecode) {
		t.Errorf("an unknown version: %v", err)
	}
	if _, err := unseal([]byte("kez"), seal([]byte("key"), []byte("value"))); !errors.Is(err, errChecksum) {
		t.Errorf("a value under another's key: %v", err)
	}
}

func TestRecordsComeBack(t *testing.T) {
	stamps := rapid.Custom(func(t *rapid.T) timestamp.T {
		return timestamp.FromTicks(rapid.Int64Min(0).Draw(t, "ticks")).WithOffset(rapid.Uint64().Draw(t, "offset"))
	})
	rapid.Check(t, func(t *rapid.T) {
		f := Field{"N", rapid.String().Draw(t, "value"), stamps.Draw(t, "stamp")}
		if got, err := decodeField([]byte("N"), appendField(nil, &f)); err != nil || got != f {
			t.Fatalf("%+v comes back as %+v, %v", f, got, err)
		}
		s := Stat{rapid.Int64().Draw(t, "rows"), rapid.Int64().Draw(t, "objects"), rapid.Int64().Draw(t, "bytes")}
		if got, err := decodeStat(appendStat(nil, s)); err != nil || got != s {
			t.Fatalf("%+v comes back as %+v, %v", s, got, err)
		}
		r := Report{stamps.Draw(t, "put"), stamps.Draw(t, "delete"), s.Objects, s.Bytes}
		if got, err := decodeReport(appendReport(nil, r)); err != nil || got != r {
			t.Fatalf("%+v comes back as %+v, %v", r, got, err)
		}
		i := Info{Path: name.Path{Account: f.Value, Container: f.Value}, Policy: policy.Index(rapid.Uint16().Draw(t, "policy")), Put: r.Put, Delete: r.Delete}
		if got, err := decodeInfo(appendInfo(nil, &i)); err != nil || got != i {
			t.Fatalf("%+v comes back as %+v, %v", i, got, err)
		}
	})
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"x-container-META-fooBar": "X-Container-Meta-Foobar",
		"":                        "",
		"a--b":                    "A--B",
		"X-Meta-É":                "X-Meta-É",
		"3a_b-c d":                "3a_b-C d",
	} {
		if got := Canonical(in); got != want {
			t.Errorf("Canonical(%q) = %q, want %q", in, got, want)
		}
	}
}

// Every record that decodes has one form only, so that equal bytes mean equal
// records.
func FuzzDecode(f *testing.F) {
	f.Add(appendInfo(nil, &Info{Path: name.Path{Account: "a"}, Policy: math.MaxUint16, Put: at(5)}))
	f.Add(appendReport(nil, Report{at(1), at(2), 3, 4}))
	f.Add(appendField(nil, &Field{"X", "v", at(3)}))
	f.Add(appendStat(nil, Stat{1, 2, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, err := decodeInfo(b); err == nil && !bytes.Equal(appendInfo(nil, &i), b) {
			t.Errorf("info %x reads as %+v, which is %x", b, i, appendInfo(nil, &i))
		}
		if r, err := decodeReport(b); err == nil && !bytes.Equal(appendReport(nil, r), b) {
			t.Errorf("report %x reads as %+v", b, r)
		}
		if x, err := decodeField([]byte("X"), b); err == nil && !bytes.Equal(appendField(nil, &x), b) {
			t.Errorf("field %x reads as %+v", b, x)
		}
		if s, err := decodeStat(b); err == nil && !bytes.Equal(appendStat(nil, s), b) {
			t.Errorf("stat %x reads as %+v", b, s)
		}
	})
}
