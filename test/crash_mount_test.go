package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// apartMark tells the process that runs the tests from the one that starts it.
const apartMark = "MARTLET_TEST_APART"

// isApart says that this is the process that apart made, the first of its kind.
func isApart() bool { return os.Getenv(apartMark) != "" && os.Getpid() == 1 }

// apart runs these tests again as a process whose mounts and children are its own,
// so that none is left behind however it ends, and returns its exit status; or -1
// where this is that process, or where there is no right to make one. Then tests
// that mount fail and say so.
func apart() (code int, err error) {
	if isApart() {
		return -1, unix.Mount("proc", "/proc", "proc", 0, "") // with the numbers that processes have here
	}
	if os.Geteuid() != 0 {
		return -1, nil
	}
	runtime.LockOSThread() // the child ends with the thread that made it
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), apartMark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	err = cmd.Run()
	if errors.Is(err, syscall.EPERM) {
		return -1, nil
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// imageSize is that of a device; mkfs.xfs makes nothing smaller than 300 MiB. The
// file has holes and takes what is written.
const imageSize = 1 << 30 // bytes

// disk is a device that can lose power: an XFS on a loop-mounted image.
type disk struct {
	image, path string
	mounted     bool
}

// newDisk makes one, mounted on a folder that it makes, and unmounted at the
// test's end.
func newDisk(t *testing.T, path string) *disk {
	t.Helper()
	if !isApart() {
		t.Fatal("power cuts need file systems of their own: run this test as root, with the right to mount (CAP_SYS_ADMIN)")
	}
	d := &disk{image: filepath.Join(t.TempDir(), "image"), path: path}
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(imageSize), f.Close(), os.MkdirAll(path, 0o750)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.xfs", "-q", d.image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.xfs: %v\n%s", err, out)
	}
	d.mount(t)
	t.Cleanup(func() {
		if d.mounted {
			if err := unix.Unmount(d.path, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", d.path, err)
			}
		}
	})
	return d
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.path).CombinedOutput(); err != nil {
		t.Fatalf("mount %s: %v\n%s", d.path, err, out)
	}
	d.mounted = true
}

// again takes the file system off and puts it on, as a machine that starts does.
// Nobody may be using it.
func (d *disk) again(t *testing.T) {
	t.Helper()
	poll(t, 10*time.Second, "unmount "+d.path, func() error { return unix.Unmount(d.path, 0) })
	d.mounted = false
	d.mount(t)
}

// What <xfs/xfs_fs.h> says of stopping a file system.
const (
	xfsGoingDown  = 0x8004587d // XFS_IOC_GOINGDOWN
	xfsNoLogFlush = 2          // XFS_FSOP_GOING_FLAGS_NOLOGFLUSH
)

// cut stops disks at one instant as a power cut does: what no sync has put on
// them, of data or of the journal, never gets there. It is what `xfs_io -x -c
// shutdown` does.
func cut(disks []*disk) error {
	var all sync.WaitGroup
	failed := make([]error, len(disks))
	for i, d := range disks {
		all.Go(func() {
			f, err := os.Open(d.path)
			if err != nil {
				failed[i] = err
				return
			}
			defer f.Close()
			if err := unix.IoctlSetPointerInt(int(f.Fd()), xfsGoingDown, xfsNoLogFlush); err != nil {
				failed[i] = fmt.Errorf("shutdown of %s: %w", d.path, err)
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}
