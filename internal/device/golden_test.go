package device

import (
	"os"
	"testing"
	"time"
)

// The golden file is the identity of a device as format 1 has it: one that can't be read is of a device that is not used.
func TestGoldenIdentity(t *testing.T) {
	want := Identity{
		Format: 1, Cluster: "c1", Device: "d1", ID: "000102030405060708090a0b0c0d0e0f", Fingerprint: "0123456789abcdef", Made: time.Unix(1_800_000_000, 0).UTC(),
	}
	kept, err := os.ReadFile("testdata/v1.identity")
	if made := encoded(t, want); err != nil || made != string(kept) {
		t.Errorf("made is %q, want %q, %v", made, kept, err)
	}
	if got, err := parseIdentity(kept); err != nil || got != want {
		t.Errorf("it is read as %+v, %v, want %+v", got, err, want)
	}
}
