package steps

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"testing"
)

var rewrite = flag.Bool("update", false, "write the golden file anew")

// The golden file is what version 1 remembers: a device that a later release takes for damaged is fenced whole.
func TestGolden(t *testing.T) {
	const file = "testdata/v1.steps"
	want := map[Set]*pages{
		"account":  {power: 1, looked: start.Unix(), parts: map[uint32]step{}},
		"object-1": {power: 4, looked: start.Unix() + 1, parts: map[uint32]step{2: {at: start.Unix()}, 15: {at: 258, fenced: true}}},
	}
	made := encode(want)
	if *rewrite {
		if err := os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(made, kept) {
		t.Errorf("made is %q, want %q, %v", made, kept, err)
	}
	if got, err := decode(kept); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it is read as %+v, %v, want %+v", got, err, want)
	}
}
