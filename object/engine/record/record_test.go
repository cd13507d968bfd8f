package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/object/engine/blob"
)

var update = flag.Bool("update", false, "write the golden file anew")

func ts(n int64) timestamp.T { return timestamp.FromTicks(1_700_000_000_00000 + n) }

// samples has a head of each kind.
func samples() []Head {
	path := name.Path{Account: "a", Container: "c", Object: "o/ü"}
	fields := backend.Header{{Name: "X-Object-Meta-A", Value: "1"}}
	full := blob.Header{
		Time: ts(1).WithOffset(7), MD5: [16]byte{9, 8}, Length: 77, CRC: 0xdeadbeef,
		Name: path, ContentType: "text/plain", System: backend.Header{{Name: "X-Object-Sysmeta-S", Value: "s"}}, Meta: fields,
	}
	return []Head{
		{Kind: Data, Policy: 3, Alone: true, Tie: 5, Object: full},
		{Kind: Blob, Policy: 3, Tie: 5, File: 0x1234, Object: full},
		{Kind: Meta, Tie: 6, Object: blob.Header{MetaTime: ts(2), ContentTypeTime: ts(3), ContentType: "x/y", Meta: fields, Name: path}},
		{Kind: Tombstone, Alone: true, Tie: 7, Object: blob.Header{Time: ts(4), Name: path}},
		{Kind: Purge, Alone: true, Object: blob.Header{Time: ts(4), ContentTypeTime: ts(5), MetaTime: ts(6)}},
		{Kind: Quarantine, Tie: 9, Lost: LostData | LostMeta, Reason: "checksum", Object: blob.Header{
			Time: ts(4), ContentTypeTime: ts(5), MetaTime: ts(6), Name: path,
		}},
		{Kind: Journal, Owner: Containers, Update: []byte("update")},
		{Kind: Compacted, Segment: 9, From: 4096, To: 1 << 30, Last: true},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range samples() {
		b, err := want.Append([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(byte(want.Kind), b[6:])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: read back\n%+v, %v, want\n%+v", want.Kind, got, err, want)
		}
		for n := range len(b) - 6 {
			if _, err := Parse(byte(want.Kind), b[6:6+n]); !errors.Is(err, ErrHead) || !errs.Is(err, errs.Corrupt) {
				t.Errorf("%v cut to %d bytes: %v", want.Kind, n, err)
			}
		}
		if _, err := Parse(byte(want.Kind), append(b[6:], 0)); !errors.Is(err, ErrHead) {
			t.Errorf("%v with a byte behind it: %v", want.Kind, err)
		}
	}
}

// Fields are in the caller's memory where that is enough, and read the same.
func TestRoom(t *testing.T) {
	want := samples()[0]
	b, err := want.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for most := range 4 {
		room := make(backend.Header, 1, 4)[:0:most]
		got, err := ParseInto(byte(want.Kind), b, room)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("room for %d: read back\n%+v, %v, want\n%+v", most, got, err, want)
		}
		if most < 2 {
			continue
		}
		if got.Object.System[0] != room[:2][0] || got.Object.Meta[0] != room[:2][1] {
			t.Errorf("room for %d is not used: %v", most, room[:2])
		}
		got.Object.System.Add("a", "b") // neither reaches the other, nor what is behind
		got.Object.Meta.Add("a", "b")
		if room[:2][1] != want.Object.Meta[0] || most > 2 && room[:3][2] != (backend.Field{}) {
			t.Errorf("room for %d: what is added to one list is in another: %v", most, room[:most])
		}
	}
}

func TestRefused(t *testing.T) {
	h := samples()[0]
	h.Object.Meta[0].Value = strings.Repeat("v", blob.MaxText)
	if b, err := h.Append([]byte("x")); !errors.Is(err, blob.ErrTooMuch) || len(b) != 1 {
		t.Errorf("too much text: %d bytes, %v", len(b), err)
	}
	good, err := (&Head{Kind: Purge}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(b []byte) byte{
		"a later format":   func(b []byte) byte { b[0] = 2; return byte(Purge) },
		"an unknown flag":  func(b []byte) byte { b[1] = 4; return byte(Purge) },
		"an unused word":   func(b []byte) byte { b[4] = 1; return byte(Purge) },
		"an unknown kind":  func([]byte) byte { return 77 },
		"the journal":      func([]byte) byte { return 10 },
		"a negative time":  func(b []byte) byte { b[23] = 0x80; return byte(Purge) },
		"nothing was lost": func([]byte) byte { return byte(Quarantine) },
	} {
		b := bytes.Clone(good)
		if _, err := Parse(change(b), b); !errors.Is(err, ErrHead) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The golden file is what format 1 has written; it must be read for ever.
func TestGolden(t *testing.T) {
	var b strings.Builder
	for _, h := range samples() {
		head, err := h.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(h.Kind.String() + " " + hex.EncodeToString(head) + "\n")
	}
	golden := filepath.Join("testdata", "v1.heads")
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, []byte(b.String()), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Error("the format has changed: it needs a new number, and old records must stay readable")
	}
}

// What is taken for a head is one: writing it again gives the same bytes.
func FuzzHead(f *testing.F) {
	for _, h := range samples() {
		b, err := h.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(h.Kind), b)
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		h, err := Parse(kind, b)
		if err != nil {
			if !errs.Is(err, errs.Corrupt) {
				t.Fatalf("%v, want kind Corrupt", err)
			}
			return
		}
		again, err := h.Append(nil)
		if err != nil {
			return // more text than is written
		}
		if back, err := Parse(kind, again); err != nil || !reflect.DeepEqual(back, h) {
			t.Fatalf("%+v is written as what reads as %+v, %v", h, back, err)
		}
	})
}
