package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"martlet/internal/daemon"
	"martlet/internal/device"
	"martlet/internal/vfs"
	"martlet/replicator"
)

// A deviceLook looks through a device for what nobody has told of.
type deviceLook func(ctx context.Context, device string) error

// paced has all looks together go through no more than so many things in a second.
func paced(perSecond int64, look func(ctx context.Context, device string, wait func(context.Context) error) error) deviceLook {
	pace := replicator.NewPace(0, perSecond)
	return func(ctx context.Context, device string) error {
		return look(ctx, device, func(ctx context.Context) error { return pace.Wait(ctx, 0) })
	}
}

// onAll is a pass that looks through all devices that can be used.
func onAll(devices *device.Set, look deviceLook) daemon.Pass {
	return func(ctx context.Context) error {
		var all []error
		for d := range devices.All() {
			if d.Check() == nil {
				all = append(all, look(ctx, d.Name()))
			}
		}
		return errors.Join(all...)
	}
}

// whenAttached has each device looked through soon after it was attached: one that is there when the process begins, one that comes later,
// and one that comes back, which may be another disk. A look that fails is not made again before that; it is for who calls
// this to look through all now and then as well.
func (s *Storage) whenAttached(devices *device.Set, name string, look deviceLook) {
	for d := range devices.All() {
		came := make(chan struct{}, 1)
		d.Follow(func(c device.Change) {
			if c.FS == vfs.Absent {
				return
			}
			select {
			case came <- struct{}{}:
			default: // a look is to come already
			}
		})
		s.beside(name+", of "+d.Name(), func(ctx context.Context) error {
			for inUse(ctx, d, came) {
				if err := look(ctx, d.Name()); err != nil && ctx.Err() == nil {
					s.log.LogAttrs(ctx, slog.LevelWarn, "a device could not be looked through", slog.String("device", d.Name()), slog.String("for", name), slog.Any("err", err))
				}
			}
			return nil
		})
	}
}

// askInUse is how long is waited before it is looked again whether a device can be used that was attached.
const askInUse = 50 * time.Millisecond

// inUse waits until a device was attached and can be used, and reports whether that came before the end of ctx. Who follows a
// device is told before it is used.
func inUse(ctx context.Context, d *device.Device, came <-chan struct{}) bool {
	attached := false
	for !attached || d.Check() != nil {
		var soon <-chan time.Time
		if attached {
			soon = time.After(askInUse)
		}
		select {
		case <-ctx.Done():
			return false
		case <-came:
			attached = true
		case <-soon:
			attached = d.FS() != vfs.Absent // else it has gone again, and it is told when it comes
		}
	}
	return true
}
