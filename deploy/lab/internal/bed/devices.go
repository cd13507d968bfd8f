package bed

import (
	"context"
	"errors"
	"math/rand/v2"

	"martlet/deploy/lab/internal/damage"
	"martlet/deploy/lab/internal/proc"
	"martlet/internal/loopdisk"
)

// device returns a node and its device.
func (l *Lab) device(name, device string) (*Node, *Device, error) {
	n, err := l.Node(name)
	if err != nil {
		return nil, nil, err
	}
	d, err := n.Device(device)
	return n, d, err
}

// usable wants a device that is mounted and has no fault.
func (l *Lab) usable(n *Node, d *Device) error {
	mounted, err := l.disk(n, d).Mounted()
	switch {
	case err != nil:
		return err
	case n.Dark:
		return wrong("%s has no power: lab start %s", n.Name, n.Name)
	case d.Fault != "":
		return wrong("device %s of %s is %s: lab mend %s %s", d.Name, n.Name, d.Fault, n.Name, d.Name)
	case !mounted:
		return wrong("device %s of %s is not mounted: lab up", d.Name, n.Name)
	}
	return nil
}

// Fill fills a device to its last block, and returns the bytes that it took for that.
func (l *Lab) Fill(name, device string) (taken int64, err error) {
	n, d, err := l.device(name, device)
	if err != nil {
		return 0, err
	}
	if err := l.usable(n, d); err != nil {
		return 0, err
	}
	d.Full = true
	if err := l.save(); err != nil {
		return 0, err
	}
	if taken, err = damage.Fill(l.disk(n, d).Path); err != nil {
		return taken, n.of(err)
	}
	l.say("filled %s of %s with %d bytes", d.Name, n.Name, taken)
	return taken, nil
}

// Free gives back what Fill took.
func (l *Lab) Free(name, device string) error {
	n, d, err := l.device(name, device)
	if err != nil {
		return err
	}
	if err := l.usable(n, d); err != nil {
		return err
	}
	if err := damage.Free(l.disk(n, d).Path); err != nil {
		return n.of(err)
	}
	if !d.Full {
		l.say("%s of %s was not filled", d.Name, n.Name)
		return nil
	}
	d.Full = false
	l.say("freed %s of %s", d.Name, n.Name)
	return l.save()
}

// Fail breaks a device: whatever is done with it fails with EIO, and what no sync had put on it is lost; or, with
// vanish, nothing is mounted at its place any more, and only who has files open there still has them.
func (l *Lab) Fail(name, device string, vanish bool) error {
	n, d, err := l.device(name, device)
	if err != nil {
		return err
	}
	fault := map[bool]string{false: Failing, true: Vanished}[vanish]
	if d.Fault == fault {
		l.say("%s of %s was %s", d.Name, n.Name, fault)
		return nil
	}
	if err := l.usable(n, d); err != nil {
		return err
	}
	d.Fault = fault
	if err := l.save(); err != nil {
		return err
	}
	if vanish {
		err = l.disk(n, d).Detach()
	} else {
		err = loopdisk.Cut(l.disk(n, d))
	}
	if err != nil {
		return n.of(err)
	}
	l.say("%s of %s is %s", d.Name, n.Name, fault)
	return nil
}

// Mend mends what Fail broke: the device is mounted anew, with what it had. The node has to have let go of it,
// which takes it a few seconds.
func (l *Lab) Mend(ctx context.Context, name, device string) error {
	n, d, err := l.device(name, device)
	if err != nil {
		return err
	}
	if d.Fault == "" {
		l.say("%s of %s was whole", d.Name, n.Name)
		return nil
	}
	if err := l.unmount(ctx, n, d); err != nil {
		return n.of(err)
	}
	if !n.Dark {
		if err := l.disk(n, d).Mount(ctx); err != nil {
			return n.of(err)
		}
	}
	d.Fault = ""
	l.say("mended %s of %s", d.Name, n.Name)
	return l.save()
}

// Flip changes bits of what is stored on a device, in files below the given areas, and returns which. The
// node's process stands still for that moment, so that it writes to none of them.
func (l *Lab) Flip(ctx context.Context, name, device string, areas []string, bits int, seed uint64) (flips []damage.Flip, err error) {
	n, d, err := l.device(name, device)
	if err != nil {
		return nil, err
	}
	if err := l.usable(n, d); err != nil {
		return nil, err
	}
	state, err := n.state()
	if err != nil {
		return nil, n.of(err)
	}
	if state == proc.Running {
		if err := n.Process.Pause(ctx); err != nil {
			return nil, n.of(err)
		}
		defer func() { err = errors.Join(err, n.of(n.Process.Resume(context.WithoutCancel(ctx)))) }()
	}
	flips, err = damage.Flips(l.disk(n, d).Path, areas, bits, rand.New(rand.NewPCG(seed, 0)))
	for _, f := range flips {
		l.say("flipped bit %d of byte %d of %s, on %s of %s", f.Bit, f.Offset, f.File, d.Name, n.Name)
	}
	return flips, n.of(err)
}
