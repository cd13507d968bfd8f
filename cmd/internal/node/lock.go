package node

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"martlet/internal/device"
)

// locks are the devices that this process holds against every other. The kernel
// lets go of them when the process ends, however it ends.
type locks struct {
	held []*os.File
}

// take locks every usable device of the set. A device that another process holds
// is an error: two processes on one device would each undo what the other wrote.
func (l *locks) take(devices *device.Set) error {
	for d := range devices.All() {
		if d.Check() != nil {
			continue // its requests are answered with 507
		}
		if err := l.lock(d.Path()); err != nil {
			return errors.Join(fmt.Errorf("device %s: %w", d.Name(), err), l.release())
		}
	}
	return nil
}

// lock takes the folder itself, so that nothing is left behind in it.
func (l *locks) lock(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil {
		l.held = append(l.held, f)
		return nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%s is in use by another process", folder)
	} else {
		err = fmt.Errorf("lock %s: %w", folder, err)
	}
	return errors.Join(err, f.Close())
}

// release lets go of all of them.
func (l *locks) release() error {
	var all []error
	for _, f := range l.held {
		all = append(all, f.Close())
	}
	l.held = nil
	return errors.Join(all...)
}
