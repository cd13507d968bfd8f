// Package handover lets a process give the sockets that it listens on to its successor, which may be another version of
// the program: there is no moment at which nobody listens, and no connection that nobody accepts.
//
// The successor gets the sockets as open files, and their names in the environment. It tells on a pipe when it serves;
// until then the predecessor does, and goes on where that never comes. Both tell the service manager, if there is one, by
// systemd's protocol (sd_notify(3)).
package handover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// What a successor finds in its environment.
const (
	listenersVar = "MARTLET_LISTENERS" // NAME=FILE NUMBER, with commas between
	readyVar     = "MARTLET_READY_FD"  // the pipe on which it tells that it serves
	notifyVar    = "NOTIFY_SOCKET"     // systemd's
)

// Inherited is what a process has got from its predecessor: nothing, for the first one.
type Inherited struct {
	listeners map[string]net.Listener
	ready     *os.File
}

// Take takes what the environment tells of, and takes it out of there, so that no other child believes it.
func Take() (*Inherited, error) {
	in := &Inherited{listeners: map[string]net.Listener{}}
	listeners, ready := os.Getenv(listenersVar), os.Getenv(readyVar)
	if err := errors.Join(os.Unsetenv(listenersVar), os.Unsetenv(readyVar)); err != nil {
		return nil, err
	}
	if ready != "" {
		f, err := file(ready, "ready")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", readyVar, err)
		}
		in.ready = f
	}
	for _, item := range strings.Split(listeners, ",") {
		if item == "" {
			continue
		}
		name, number, _ := strings.Cut(item, "=")
		l, err := inherit(name, number)
		if err != nil {
			in.Close()
			return nil, fmt.Errorf("%s: %q: %w", listenersVar, item, err)
		}
		in.listeners[name] = l
	}
	return in, nil
}

func inherit(name, number string) (net.Listener, error) {
	f, err := file(number, name)
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if closed := f.Close(); err == nil { // the listener has a copy
		return l, closed
	}
	return nil, err
}

// file is an open file that a predecessor left.
func file(number, name string) (*os.File, error) {
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n < 3 {
		return nil, fmt.Errorf("%q is no number of a file", number)
	}
	return os.NewFile(uintptr(n), name), nil
}

// Listener returns the inherited socket of a server, if it is one of that address; the port 0 is any. It is given away
// once.
func (in *Inherited) Listener(name, address string) (net.Listener, bool) {
	l, ok := in.listeners[name]
	if !ok || !same(l.Addr(), address) {
		return nil, false
	}
	delete(in.listeners, name)
	return l, true
}

// same reports whether a socket listens on an address.
func same(at net.Addr, address string) bool {
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return false
	}
	got, ok := at.(*net.TCPAddr)
	if !ok || want.Port != 0 && want.Port != got.Port {
		return false
	}
	a, b := plain(want.IP), plain(got.IP)
	return a == b
}

// plain is an address; the zero one is every address of the machine.
func plain(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	if a = a.Unmap(); a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// Close closes what nobody took.
func (in *Inherited) Close() {
	for name, l := range in.listeners {
		_ = l.Close() // of another configuration
		delete(in.listeners, name)
	}
}

// ErrStays means that this process must not serve: the predecessor does.
var ErrStays = errors.New("the predecessor goes on")

// Ready tells the service manager and the predecessor that this process serves, in that order: the manager must know
// whom to watch before the predecessor ends. A manager that can't be told would take the end of the predecessor for that of
// the service, and end this process with it: then nothing is handed over, and the error is ErrStays.
func (in *Inherited) Ready() error {
	state := "READY=1"
	if in.ready != nil {
		state = fmt.Sprintf("MAINPID=%d\nREADY=1", os.Getpid())
	}
	err := Notify(state)
	if in.ready != nil && err != nil {
		err = errors.Join(ErrStays, err, in.ready.Close())
		in.ready = nil
	}
	if in.ready != nil {
		_, told := in.ready.Write([]byte{1})
		err = errors.Join(err, told, in.ready.Close())
		in.ready = nil
	}
	in.Close()
	return err
}

// Notify tells the service manager of the state of this process; without one it does nothing.
func Notify(state string) error {
	name := os.Getenv(notifyVar)
	if name == "" {
		return nil
	}
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // in the abstract namespace
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	_, err = c.Write([]byte(state))
	return errors.Join(err, c.Close())
}
