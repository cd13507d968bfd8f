package metadb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"testing"

	"martlet/internal/errs"
	"martlet/internal/name"
)

// sampleImage is a small database with something of everything in it.
func sampleImage(t testing.TB) *image {
	t.Helper()
	info := Info{Path: name.Path{Account: "a", Container: "c"}, Incarnation: ID{1, 2, 3}, Created: at(1), PolicyAt: at(1), Put: at(2)}
	i := newImage(&info)
	tx, err := beginImage(testSchema{}, i)
	if err == nil {
		for _, r := range []Row{{0, "photos/1.jpeg", live(5, 4)}, {0, "photos/2.jpeg", live(5, 1)}, {1, "photos/2.jpeg", dead(6)}, {0, "photos/1.jpeg", live(7, 4)}} {
			if _, e := tx.MergeRow(r.Space, r.Name, r.Row); e != nil {
				t.Fatal(e)
			}
		}
		err = errors.Join(
			tx.MergeFields([]Field{{"X-A", "1", at(5)}, {"X-B", "", at(6)}}), tx.SetKnown(ID{9}, Known{3, 4}),
			tx.setReported(Report{at(2), at(0), 1, 4}), tx.setMerged(mark{}), tx.finish(),
		)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// The format of a value stays readable.
func TestGoldenValue(t *testing.T) {
	const file = "testdata/value-1.hex"
	got, err := sampleImage(t).encode(smallLimit)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; a value is now %x", err, got)
	}
	want, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x, %v", got, want, err)
	}
	i, err := decodeImage(want)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := beginImage(testSchema{}, i)
	a := newAudit()
	for done := false; err == nil && !done; {
		done, err = a.slice(tx)
	}
	if err != nil {
		t.Error(err)
	}
}

// Whatever a value holds, it is a database or is refused, in bounded memory, and one that is written
// again is the same.
func FuzzValue(f *testing.F) {
	whole, err := sampleImage(f).encode(smallLimit)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte{imageVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decodeImage(b)
		if err != nil {
			if !errs.Is(err, errs.Corrupt) {
				t.Errorf("%x: got %v, want an error of kind corrupt", b, err)
			}
			return
		}
		if i.size > mostInMemory {
			t.Errorf("%d bytes take %d", len(b), i.size)
		}
		again, err := i.encode(longestValue)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is written as %x, %v", b, again, err)
		}
	})
}
