package test

import (
	"context"
	"path/filepath"
	"testing"

	"martlet/internal/apart"
	"martlet/internal/loopdisk"
)

// apartMark tells the process that runs the tests from the one that starts it.
const apartMark = "MARTLET_TEST_APART"

// startApart runs these tests again as a process whose mounts and children are its own, and returns its
// exit status; or -1 where this is that process, or where there is no right to make one. Then tests
// that mount fail and say so.
func startApart() (code int, err error) {
	return apart.Run(context.Background(), apartMark)
}

// newDisk makes a device that can lose power, mounted on a folder that it makes, and unmounted at the
// test's end.
func newDisk(t *testing.T, path string) *loopdisk.Disk {
	t.Helper()
	if !apart.Is(apartMark) {
		t.Fatal("power cuts need file systems of their own: run this test as root, with the right to mount (CAP_SYS_ADMIN)")
	}
	d, err := loopdisk.Make(t.Context(), filepath.Join(t.TempDir(), "image"), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
