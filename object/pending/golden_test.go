package pending

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"testing"

	"martlet/internal/policy"
)

var rewrite = flag.Bool("update", false, "write the golden file anew")

// The golden file is an update as version 1 queues it: what an older release has left on a device is delivered by a later one, and
// after going back the other way round.
func TestGolden(t *testing.T) {
	const file = "testdata/v1.update"
	want := update(2)
	want.Method, want.Confirmed = "DELETE", []string{Place("127.0.0.1:6201", "d1")}
	want.Path.Object = "o/\xc3\xa9\xff"
	want.Data, want.Meta = ts(3).WithOffset(0x1f), ts(5)
	made, err := encode(&want)
	if err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(made, kept) {
		t.Errorf("made is %q, want %q, %v", made, kept, err)
	}
	got, err := decode(kept)
	got.Policy, got.Hash = policy.Index(1), want.Hash // they are in its name
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it is read as %+v, %v, want %+v", got, err, want)
	}
}
