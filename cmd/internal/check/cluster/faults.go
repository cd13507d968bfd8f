package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"martlet/cmd/internal/check/forward"
	"martlet/cmd/internal/check/nemesis"
	"martlet/internal/loopdisk"
	"martlet/internal/vfs"
)

// Why something is not offered.
const (
	whyProxy = "there is one proxy"
	whyBears = "the policies bear no node that is out"
)

// Offers implements nemesis.Cluster.
func (l *Local) Offers() (all []nemesis.Offer) {
	for _, k := range nemesis.Kinds() {
		o := nemesis.Offer{Kind: k}
		switch k {
		case nemesis.Power, nemesis.PowerAll, nemesis.Full, nemesis.Fail:
			o.Why = l.whyDisks
		case nemesis.Clock:
			if !l.o.Clocks {
				o.Why = "only a test build (-tags planted) has a clock that can be moved"
			}
		case nemesis.Proxy:
			if l.o.Proxies < 2 {
				o.Why = whyProxy
			}
		default:
		}
		if o.Why == "" && k != nemesis.Full && l.Shape().Bears < 1 && (&nemesis.Fault{Kind: k, Network: nemesis.Storage}).TakesOut() {
			o.Why = whyBears
		}
		all = append(all, o)
	}
	return all
}

// Begin implements nemesis.Cluster.
func (l *Local) Begin(ctx context.Context, f nemesis.Fault) (note string, err error) {
	switch f.Kind {
	case nemesis.Kill:
		l.storage[f.Node-1].kill()
	case nemesis.KillAll:
		for _, p := range l.storage { // at one instant, as far as there is one
			if _, err := p.signal(unix.SIGKILL, true); err != nil {
				return "", err
			}
		}
		for _, p := range l.storage {
			p.kill()
		}
	case nemesis.Proxy:
		l.proxies[f.Proxy-1].kill()
	case nemesis.Pause:
		return "", l.storage[f.Node-1].pause()
	case nemesis.Restart:
		return "", l.storage[f.Node-1].end(ctx)
	case nemesis.Rolling:
		return "", l.roll(ctx, l.all()...)
	case nemesis.Cut, nemesis.Slow:
		return "", l.network(f)
	case nemesis.Power:
		return "", l.power(f.Node)
	case nemesis.PowerAll:
		all := make([]int, l.o.Nodes)
		for i := range all {
			all[i] = i + 1
		}
		return "", l.power(all...)
	case nemesis.Full:
		at := [2]int{f.Node, f.Device}
		l.full[at] = true
		return "", l.fill(at)
	case nemesis.Fail:
		at := [2]int{f.Node, f.Device}
		l.off[at] = true
		return "", loopdisk.Cut(l.disks[at])
	case nemesis.Flip:
		return flip(l.folder.Device(f.Node, f.Device), f.Seed)
	case nemesis.Ring:
		return changeRings(l.folder.RingsDir(), f.Seed)
	case nemesis.Clock:
		return "", setClock(l.clock(f.Node), f.By)
	case nemesis.Queue:
		return "", l.containers(forward.Condition{Cut: forward.Reset})
	}
	return "", nil
}

// End implements nemesis.Cluster.
func (l *Local) End(ctx context.Context, f nemesis.Fault) error {
	switch f.Kind {
	case nemesis.Kill, nemesis.Restart:
		return l.back(ctx, l.storage[f.Node-1])
	case nemesis.KillAll:
		return l.back(ctx, l.storage...)
	case nemesis.Proxy:
		return l.back(ctx, l.proxies[f.Proxy-1])
	case nemesis.Pause:
		return l.storage[f.Node-1].resume()
	case nemesis.Cut, nemesis.Slow:
		return l.condition(f.Network, f.Node, forward.Condition{})
	case nemesis.Power:
		return l.powered(ctx, f.Node)
	case nemesis.PowerAll:
		all := make([]int, l.o.Nodes)
		for i := range all {
			all[i] = i + 1
		}
		return l.powered(ctx, all...)
	case nemesis.Full:
		return l.free([2]int{f.Node, f.Device})
	case nemesis.Fail:
		return l.again(ctx, [2]int{f.Node, f.Device})
	case nemesis.Clock:
		err := os.Remove(l.clock(f.Node))
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return err
	case nemesis.Queue:
		// What was queued is queued still: it is for those who come now to deliver it.
		return errors.Join(l.roll(ctx, l.storage...), l.containers(forward.Condition{}))
	case nemesis.Rolling, nemesis.Flip, nemesis.Ring:
	}
	return nil
}

// back starts those of some processes that do not run, and waits for all of them.
func (l *Local) back(ctx context.Context, all ...*process) error {
	for _, p := range all {
		if err := p.start(); err != nil {
			return err
		}
	}
	for _, p := range all {
		if err := p.up(ctx); err != nil {
			return err
		}
	}
	return nil
}

// roll restarts processes in good order, one after the other.
func (l *Local) roll(ctx context.Context, all ...*process) error {
	for _, p := range all {
		if err := p.end(ctx); err != nil {
			return err
		}
		if err := l.back(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// network cuts a node off or makes it slow.
func (l *Local) network(f nemesis.Fault) error {
	c := forward.Condition{Rate: f.Rate, Delay: f.Delay}
	if f.Kind == nemesis.Cut {
		c.Cut = forward.Silent
		if f.Reset {
			c.Cut = forward.Reset
		}
	}
	return l.condition(f.Network, f.Node, c)
}

// condition says what a network is like for a node, with all its servers.
func (l *Local) condition(network string, node int, c forward.Condition) error {
	err := l.nets[network].Set(fmt.Sprintf("storage%d", node), c)
	if err == nil && network == nemesis.Storage {
		err = l.nets[network].Set(containerOf(node), c)
	}
	return err
}

// containerOf is the container server of a node, as the storage network knows it.
func containerOf(node int) string { return fmt.Sprintf("container%d", node) }

// containers says what the network is like for all container servers, and for nothing else.
func (l *Local) containers(c forward.Condition) error {
	for n := range l.storage {
		if err := l.nets[nemesis.Storage].Set(containerOf(n+1), c); err != nil {
			return err
		}
	}
	return nil
}

// disksOf are those of some nodes.
func (l *Local) disksOf(nodes ...int) (at [][2]int) {
	for _, n := range nodes {
		for d := 1; d <= l.o.Devices; d++ {
			at = append(at, [2]int{n, d})
		}
	}
	return at
}

// power cuts the power of nodes: their disks stop at one instant, and the processes, which would have gone with
// them, a moment later.
func (l *Local) power(nodes ...int) error {
	var all []loopdisk.Disk
	for _, at := range l.disksOf(nodes...) {
		l.off[at] = true
		all = append(all, l.disks[at])
	}
	err := loopdisk.Cut(all...)
	for _, n := range nodes {
		l.storage[n-1].kill()
	}
	return err
}

// powered has nodes boot again.
func (l *Local) powered(ctx context.Context, nodes ...int) error {
	back := make([]*process, 0, len(nodes))
	for _, at := range l.disksOf(nodes...) {
		if err := l.again(ctx, at); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		back = append(back, l.storage[n-1])
	}
	return l.back(ctx, back...)
}

// filler is the file that fills a disk, in its folder.
const filler = "filler"

// fill leaves no room on a disk, until it is freed.
func (l *Local) fill(at [2]int) error {
	f, err := os.OpenFile(filepath.Join(l.disks[at].Path, filler), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	// What is allocated is not written: the image stays as small as it is.
	var end int64
	for step := int64(64 << 20); step >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, end, step); {
		case err == nil:
			end += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		case errors.Is(err, unix.EINTR):
		default:
			return errors.Join(fmt.Errorf("fill %s: %w", l.disks[at].Path, err), f.Close())
		}
	}
	return f.Close()
}

// free makes room again, also after a power cut that follows.
func (l *Local) free(at [2]int) error {
	err := os.Remove(filepath.Join(l.disks[at].Path, filler))
	switch {
	case err == nil:
		err = vfs.OS.SyncDir(l.disks[at].Path)
	case errors.Is(err, os.ErrNotExist):
		err = nil
	}
	if err == nil {
		delete(l.full, at)
	}
	return err
}

// setClock has a clock jump.
func setClock(path string, by time.Duration) error {
	if err := os.WriteFile(path+".new", []byte(by.String()+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
