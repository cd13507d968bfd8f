package test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"martlet/internal/loopdisk"
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
