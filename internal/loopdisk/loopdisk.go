// Package loopdisk makes disks that can lose power, fail and be full: an XFS each on a
// loop-mounted image. Making one wants root and the right to mount; who takes it in a process
// of package apart leaves none behind.
package loopdisk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Size is that of a disk, in bytes; mkfs.xfs makes nothing smaller than 300 MiB. The image has
// holes and takes what is written.
const Size = 1 << 30

// A Disk is mounted on a folder, or is not. It is for one user at a time.
type Disk struct {
	image, path string
	mounted     bool
}

// Make makes one, of an image that it writes anew, and mounts it on a folder, which it makes.
func Make(ctx context.Context, image, path string) (*Disk, error) {
	d := &Disk{image: image, path: path}
	if err := errors.Join(os.MkdirAll(filepath.Dir(image), 0o750), os.MkdirAll(path, 0o750)); err != nil {
		return nil, err
	}
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(Size), f.Close()); err != nil {
		return nil, err
	}
	if err := run(ctx, "mkfs.xfs", "-q", image); err != nil {
		return nil, err
	}
	return d, d.Mount(ctx)
}

// Path is the folder.
func (d *Disk) Path() string { return d.path }

// Mount mounts it.
func (d *Disk) Mount(ctx context.Context) error {
	if d.mounted {
		return nil
	}
	err := run(ctx, "mount", "-o", "loop", d.image, d.path)
	d.mounted = err == nil
	return err
}

// Unmount takes it off. Nobody may be using it: it tries for a while until nobody does.
func (d *Disk) Unmount(ctx context.Context) error {
	if !d.mounted {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Unmount(d.path, 0)
		if err == nil {
			d.mounted = false
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("unmount %s: %w", d.path, err)
		}
	}
}

// Again takes it off and puts it on, as a machine that starts does: what was left of a power cut
// is replayed.
func (d *Disk) Again(ctx context.Context) error {
	if err := d.Unmount(ctx); err != nil {
		return err
	}
	return d.Mount(ctx)
}

// Close takes it off, also while somebody uses it, who keeps what is open.
func (d *Disk) Close() error {
	if !d.mounted {
		return nil
	}
	d.mounted = false
	if err := unix.Unmount(d.path, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", d.path, err)
	}
	return nil
}

// What <xfs/xfs_fs.h> says of stopping a file system.
const (
	xfsGoingDown  = 0x8004587d // XFS_IOC_GOINGDOWN
	xfsNoLogFlush = 2          // XFS_FSOP_GOING_FLAGS_NOLOGFLUSH
)

// Cut stops disks at one instant as a power cut does: what no sync has put on
// them, of data or of the journal, never gets there, and all that is done to them fails until Again. It is what
// `xfs_io -x -c shutdown` does.
func Cut(disks ...*Disk) error {
	var all sync.WaitGroup
	failed := make([]error, len(disks))
	for i, d := range disks {
		all.Go(func() {
			f, err := os.Open(d.path)
			if err != nil {
				failed[i] = err
				return
			}
			defer func() { _ = f.Close() }() // nothing was written to it
			if err := unix.IoctlSetPointerInt(int(f.Fd()), xfsGoingDown, xfsNoLogFlush); err != nil {
				failed[i] = fmt.Errorf("shutdown of %s: %w", d.path, err)
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// filler is the file that fills a disk, in its folder.
const filler = "filler"

// Fill leaves no room on it, until Free or until the disk is made again.
func (d *Disk) Fill() error {
	f, err := os.OpenFile(filepath.Join(d.path, filler), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	// What is allocated is not written: the image stays as small as it is.
	var at int64
	for step := int64(64 << 20); step >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, step); {
		case err == nil:
			at += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		default:
			return errors.Join(fmt.Errorf("fill %s: %w", d.path, err), f.Close())
		}
	}
	return f.Close()
}

// Free takes away what Fill has put there.
func (d *Disk) Free() error {
	err := os.Remove(filepath.Join(d.path, filler))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
