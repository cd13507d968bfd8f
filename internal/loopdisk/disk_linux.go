// Package loopdisk is disks that can lose power, fill up, fail and vanish on a machine that has none
// to spare: each is an XFS of its own on a loop-mounted image. The tests of crashes and the lab stand on it.
//
// A power cut (Cut) is as real as the kernel makes it: what no sync has put on the disk, of data or of the
// journal, never gets there, and the next mount replays the journal as it would after a real one. What such
// a disk does not do is lose what it was told to flush.
//
// Making and mounting one takes root, and the programs mkfs.xfs and mount.
package loopdisk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// MinSize is the smallest image that mkfs.xfs makes a file system on, in bytes.
const MinSize = 300 << 20

// A Disk is an image and the folder that it is mounted on. Both paths are absolute.
type Disk struct {
	Image, Path string
}

// Make makes an empty image of so many bytes, MinSize at least, and the folder. The file has holes and takes
// of the machine's disk what is written. Where there is an image already the error is fs.ErrExist.
func (d Disk) Make(ctx context.Context, size int64) error {
	f, err := os.OpenFile(d.Image, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close(), os.MkdirAll(d.Path, 0o750)); err != nil {
		return err
	}
	return said(exec.CommandContext(ctx, "mkfs.xfs", "-q", d.Image)) //nolint:gosec // the path is an argument of its own, and absolute
}

// Mount mounts the image. It must not be mounted.
func (d Disk) Mount(ctx context.Context) error {
	return said(exec.CommandContext(ctx, "mount", "-t", "xfs", "-o", "loop", d.Image, d.Path)) //nolint:gosec // as above
}

// Unmount takes the file system off its folder, with all that was written on the image. The error is
// unix.EBUSY while somebody uses it.
func (d Disk) Unmount() error {
	return unmountError(d.Path, unix.Unmount(d.Path, 0))
}

// Detach takes the file system off its folder though somebody uses it: for who has files open there, it is
// still there; see InUse.
func (d Disk) Detach() error {
	return unmountError(d.Path, unix.Unmount(d.Path, unix.MNT_DETACH))
}

func unmountError(path string, err error) error {
	if err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// said runs a command, whose error has what it said.
func said(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Mounted reports whether a file system is mounted on the disk's folder.
func (d Disk) Mounted() (bool, error) {
	below, err := MountedBelow(d.Path)
	if err != nil {
		return false, err
	}
	for _, path := range below {
		if path == d.Path {
			return true, nil
		}
	}
	return false, nil
}

// MountedBelow lists what is mounted on a folder and on those below it, each path once for each mount, the
// last mounted first.
func MountedBelow(folder string) (paths []string, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for lines := bufio.NewScanner(f); ; {
		if !lines.Scan() {
			return paths, lines.Err()
		}
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if path := unescape.Replace(fields[4]); path == folder || strings.HasPrefix(path, folder+"/") {
			paths = append([]string{path}, paths...)
		}
	}
}

// unescape undoes what the kernel does to paths in its list of mounts.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// InUse reports whether the kernel has the image as a loop device: it is mounted, or was detached and
// somebody still has files open there. Mounting it a second time would damage it.
func (d Disk) InUse() (bool, error) {
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return false, err
	}
	for _, loop := range loops {
		backing, err := os.ReadFile(loop)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
			continue // it has just gone
		}
		if err != nil {
			return false, err
		}
		if strings.TrimSuffix(string(backing), "\n") == d.Image {
			return true, nil
		}
	}
	return false, nil
}

// What <xfs/xfs_fs.h> says of stopping a file system.
const (
	xfsGoingDown  = 0x8004587d // XFS_IOC_GOINGDOWN
	xfsNoLogFlush = 2          // XFS_FSOP_GOING_FLAGS_NOLOGFLUSH
)

// Cut stops disks at one instant as a power cut does: what no sync has put on
// them, of data or of the journal, never gets there. It is what `xfs_io -x -c
// shutdown` does. Whatever is done with them then fails with EIO, until they are unmounted and
// mounted again.
func Cut(disks ...Disk) error {
	var all sync.WaitGroup
	failed := make([]error, len(disks))
	for i, d := range disks {
		all.Go(func() { failed[i] = d.cut() })
	}
	all.Wait()
	return errors.Join(failed...)
}

func (d Disk) cut() error {
	f, err := os.Open(d.Path)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), xfsGoingDown, xfsNoLogFlush); err != nil {
		return errors.Join(fmt.Errorf("shutdown of %s: %w", d.Path, err), f.Close())
	}
	return f.Close()
}
