// Package delay holds back what goes between two network devices, where the kernel can't do it by itself.
//
// It forwards whole frames, both ways, between two devices that are otherwise unconnected, so that those who talk
// to each other through it see nothing of it but the time it takes. Frames are handed on as the
// kernel has them, large ones unsplit and checksums yet to be made, so that it does not limit the rate.
package delay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxFrame = 64<<10 + 512 // an unsplit one, with the kernel's header and Ethernet's
	waiting  = 8192         // frames of one direction; what comes when there are more is lost, as on a real link
)

// A frame waits for its time.
type frame struct {
	data []byte
	due  time.Time
}

// Run forwards between the devices, each frame so much later, until ctx ends or a device goes away. One that is down it
// waits for. It calls begun when nothing is lost any more. It is to be run in a process of the devices' namespace.
func Run(ctx context.Context, a, b string, delay time.Duration, begun func() error) error {
	from, err := open(a)
	if err != nil {
		return err
	}
	to, err := open(b)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	if err := begun(); err != nil {
		return errors.Join(err, from.Close(), to.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 4)
	for _, way := range []struct{ from, to *os.File }{{from, to}, {to, from}} {
		line := make(chan frame, waiting)
		go func() {
			defer close(line)
			ended <- read(ctx, way.from, line, delay)
		}()
		go func() { ended <- write(way.to, line) }()
	}
	select {
	case <-ctx.Done():
	case err = <-ended:
	}
	err = errors.Join(err, from.Close(), to.Close())
	return err
}

// read takes frames as they come.
func read(ctx context.Context, f *os.File, line chan<- frame, delay time.Duration) error {
	buf := make([]byte, maxFrame)
	for {
		n, err := f.Read(buf)
		if errors.Is(err, unix.ENETDOWN) { // said once: what comes after it is up again is read as before
			if err = up(ctx, f.Name()); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		next := frame{append([]byte(nil), buf[:n]...), time.Now().Add(delay)}
		select {
		case line <- next:
		default: // lost
		}
	}
}

// up waits until a device is up. One that has gone is an error.
func up(ctx context.Context, device string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return fmt.Errorf("device %s: %w", device, err)
		}
		if i.Flags&net.FlagUp != 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// write sends each frame at its time.
func write(f *os.File, line <-chan frame) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for next := range line {
		if wait := time.Until(next.due); wait > 0 {
			timer.Reset(wait)
			<-timer.C
		}
		// What the device does not take, as it is down or has no room, is lost.
		if _, err := f.Write(next.data); errors.Is(err, os.ErrClosed) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
			return err
		}
	}
	return nil
}

// open opens a device for its frames, each with the kernel's header in front, that says what is to be done
// with it yet.
func open(device string) (*os.File, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", device, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", device, err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols, Ifindex: i.Index}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("device %s: %w", device, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), device), nil
}

// allProtocols is ETH_P_ALL in the order of the network.
const allProtocols = uint16(unix.ETH_P_ALL>>8) | uint16(unix.ETH_P_ALL&0xff)<<8
