package test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"martlet/internal/apart"
	"martlet/internal/loopdisk"
)

// apartMark tells the process that runs the tests from the one that starts it.
const apartMark = "MARTLET_TEST_APART"

// isApart says that this is the process that startApart made.
func isApart() bool { return apart.Is(apartMark) }

// startApart runs these tests again as a process whose mounts and children are its own,
// and returns its exit status; or -1 where this is that process, or where there is no right to
// make one. Then tests that mount fail and say so.
func startApart() (code int, err error) { return apart.Run(context.Background(), apartMark) }

// imageSize is that of a device, in bytes.
const imageSize = 1 << 30

// disk is a device that can lose power.
type disk struct {
	loopdisk.Disk
	mounted bool
}

// newDisk makes one, mounted on a folder that it makes, and unmounted at the
// test's end.
func newDisk(t *testing.T, path string) *disk {
	t.Helper()
	if !isApart() {
		t.Fatal("power cuts need file systems of their own: run this test as root, with the right to mount (CAP_SYS_ADMIN)")
	}
	d := &disk{Disk: loopdisk.Disk{Image: filepath.Join(t.TempDir(), "image"), Path: path}}
	if err := d.Make(t.Context(), imageSize); err != nil {
		t.Fatal(err)
	}
	d.mount(t)
	t.Cleanup(func() {
		if d.mounted {
			if err := d.Detach(); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	if err := d.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.mounted = true
}

// again takes the file system off and puts it on, as a machine that starts does.
// Nobody may be using it.
func (d *disk) again(t *testing.T) {
	t.Helper()
	poll(t, 10*time.Second, "unmount "+d.Path, d.Unmount)
	d.mounted = false
	d.mount(t)
}

// cut stops disks at one instant as a power cut does.
func cut(disks []*disk) error {
	all := make([]loopdisk.Disk, len(disks))
	for i, d := range disks {
		all[i] = d.Disk
	}
	return loopdisk.Cut(all...)
}
