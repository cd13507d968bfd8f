package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/unix"
)

// dialIn connects to an IP address with a port from within a named network namespace.
func dialIn(namespace string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and never unlocked: the thread, which is elsewhere then, ends with the goroutine
			fd, failed := unix.Open("/run/netns/"+namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if failed == nil {
				failed = errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
			}
			if failed != nil {
				err = fmt.Errorf("network namespace %s: %w", namespace, failed)
				return
			}
			c, err = new(net.Dialer).DialContext(ctx, network, address)
		}()
		<-done // which the context ends, too
		return c, err
	}
}
