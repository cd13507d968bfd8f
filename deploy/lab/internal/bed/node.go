package bed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"martlet/deploy/lab/internal/proc"
	"martlet/internal/loopdisk"
)

// running wants a node on which there is a process, and returns what that is doing.
func (l *Lab) running(n *Node) (proc.State, error) {
	if l.command(n) == nil {
		return "", wrong("%s: nothing runs there", n.Name)
	}
	state, err := n.state()
	return state, n.of(err)
}

// each does something to the nodes of these names, once it is sure that all are there and have a process.
func (l *Lab) each(names []string, do func(*Node, proc.State) error) error {
	nodes, err := l.nodes(names)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if _, err := l.running(n); err != nil {
			return err
		}
	}
	var failed []error
	for _, n := range nodes {
		state, err := l.running(n)
		if err == nil {
			err = n.of(do(n, state))
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// Pause stops the processes of nodes where they are, as a machine that hangs: connections stay, and nobody
// answers.
func (l *Lab) Pause(ctx context.Context, names ...string) error {
	return l.each(names, func(n *Node, state proc.State) error {
		switch state {
		case proc.Gone:
			return wrong("its process is not running")
		case proc.Paused:
			l.say("%s was paused", n.Name)
			return nil
		}
		if err := n.Process.Pause(ctx); err != nil {
			return err
		}
		l.say("paused %s", n.Name)
		return nil
	})
}

// Resume lets paused processes go on.
func (l *Lab) Resume(ctx context.Context, names ...string) error {
	return l.each(names, func(n *Node, state proc.State) error {
		switch state {
		case proc.Gone:
			return wrong("its process is not running")
		case proc.Running:
			l.say("%s was not paused", n.Name)
			return nil
		}
		if err := n.Process.Resume(ctx); err != nil {
			return err
		}
		l.say("resumed %s", n.Name)
		return nil
	})
}

// Kill ends the processes of nodes with SIGKILL. What they had written stays in the kernel's memory.
func (l *Lab) Kill(ctx context.Context, names ...string) error {
	return l.each(names, func(n *Node, state proc.State) error {
		if state == proc.Gone {
			l.say("the process of %s was not running", n.Name)
			return nil
		}
		if err := n.Process.Kill(ctx); err != nil {
			return err
		}
		l.say("killed %s", n.Name)
		return nil
	})
}

// Start starts the processes of nodes, gives power to those that have none, and waits until they answer.
func (l *Lab) Start(ctx context.Context, names ...string) error {
	nodes, err := l.nodes(names)
	if err != nil {
		return err
	}
	return l.start(ctx, nodes)
}

func (l *Lab) start(ctx context.Context, nodes []*Node) error {
	var failed []error
	var wait []*Node
	for _, n := range nodes {
		state, err := l.running(n)
		if err != nil {
			return err
		}
		if n.Dark {
			if err := l.power(ctx, n); err != nil {
				failed = append(failed, n.of(err))
				continue
			}
		}
		if state == proc.Paused {
			failed = append(failed, n.of(wrong("its process is paused: lab resume %s", n.Name)))
			continue
		}
		did, err := l.launch(ctx, n)
		switch {
		case err != nil:
			failed = append(failed, err)
		case !did:
			l.say("%s was running", n.Name)
		default:
			wait = append(wait, n)
		}
	}
	for _, n := range wait {
		err := n.of(l.await(ctx, n))
		if err == nil {
			l.say("started %s", n.Name)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// PowerCut takes the power from nodes, all at one instant as far as that can be. Their legs fall silent, so that
// nobody is told; their processes stand still, and end; what no sync has put on their devices is lost. Unless
// they are to stay off they then start again: devices are mounted, which replays their journals, legs are as
// they were before, and the processes are awaited.
func (l *Lab) PowerCut(ctx context.Context, off bool, names ...string) error {
	nodes, err := l.nodes(names)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if _, err := l.running(n); err != nil {
			return err
		}
	}
	if err := l.darken(ctx, nodes); err != nil {
		return err
	}
	l.say("cut the power of %s", strings.Join(names, ", "))
	if off {
		return nil
	}
	return l.start(ctx, nodes)
}

func (l *Lab) darken(ctx context.Context, nodes []*Node) error {
	var disks []loopdisk.Disk
	for _, n := range nodes {
		n.Dark = true
		for _, d := range n.Devices {
			mounted, err := l.disk(n, d).Mounted()
			if err != nil {
				return n.of(err)
			}
			if mounted && d.Fault == "" {
				disks = append(disks, l.disk(n, d))
			}
		}
	}
	if err := l.save(); err != nil {
		return err
	}
	for _, n := range nodes {
		for _, leg := range n.Legs {
			if err := l.link(n, leg).Silence(ctx, true, leg.Forwarder != nil); err != nil {
				return n.of(err)
			}
		}
	}
	for _, n := range nodes {
		if state, err := n.state(); err != nil || state != proc.Running {
			continue // it says nothing more in any case
		}
		if err := n.Process.Pause(ctx); err != nil {
			return n.of(err)
		}
	}
	if err := loopdisk.Cut(disks...); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Process != nil {
			if err := n.Process.Kill(ctx); err != nil {
				return n.of(err)
			}
		}
		for _, d := range n.Devices {
			if err := l.unmount(ctx, n, d); err != nil {
				return n.of(err)
			}
		}
	}
	return nil
}

// unmount takes a device off, once nobody uses it.
func (l *Lab) unmount(ctx context.Context, n *Node, d *Device) error {
	disk := l.disk(n, d)
	err := until(ctx, letGo, func() error {
		mounted, err := disk.Mounted()
		if err != nil || !mounted {
			return err
		}
		if err := disk.Unmount(); err != nil {
			return err
		}
		return errors.New("it is mounted more than once")
	})
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("device %s: somebody still uses it, the process of %s or a shell: %w", d.Name, n.Name, err)
	case err != nil:
		return fmt.Errorf("device %s: %w", d.Name, err)
	}
	return until(ctx, letGo, func() error { return l.released(n, d) })
}

// letGo is how long a process may take to let go of a device that has failed: it looks at each every few seconds.
const letGo = 40 * time.Second

// released wants the image of a device not to be in use.
func (l *Lab) released(n *Node, d *Device) error {
	used, err := l.disk(n, d).InUse()
	if err == nil && used {
		err = fmt.Errorf("device %s: the process of %s, or a shell, still has files open on it", d.Name, n.Name)
	}
	return err
}

// power gives a node its power back: its devices but those with a fault, and its legs but those that are cut.
func (l *Lab) power(ctx context.Context, n *Node) error {
	for _, d := range n.Devices {
		if err := l.unmount(ctx, n, d); err != nil { // what a cut that was stopped on the way has left
			return err
		}
	}
	if err := l.attach(ctx, n); err != nil {
		return err
	}
	for _, leg := range n.Legs {
		if leg.Cut != Silent {
			if err := l.link(n, leg).Silence(ctx, false, leg.Forwarder != nil); err != nil {
				return err
			}
		}
	}
	n.Dark = false
	return l.save()
}
