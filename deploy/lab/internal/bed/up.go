package bed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"martlet/deploy/lab/internal/links"
	"martlet/deploy/lab/internal/netns"
	"martlet/deploy/lab/internal/proc"
)

// tools are the programs that a lab takes, and the packages of Debian's that they are in.
var tools = [][2]string{
	{"ip", "iproute2"}, {"tc", "iproute2"}, {"mkfs.xfs", "xfsprogs"}, {"mount", "mount"}, {"haproxy", "haproxy"}, {"prometheus", "prometheus"},
}

// Missing names the packages of Debian's without which no lab can be.
func Missing() (packages []string) {
	for _, t := range tools {
		if _, err := exec.LookPath(t[0]); err != nil && (len(packages) == 0 || packages[len(packages)-1] != t[1]) {
			packages = append(packages, t[1])
		}
	}
	return packages
}

// able says what keeps this process from having a lab.
func able(martlet string) error {
	if os.Geteuid() != 0 {
		return wrong("a lab makes network namespaces and mounts: run this as root")
	}
	if missing := Missing(); len(missing) > 0 {
		return fmt.Errorf("programs are missing: apt-get install %s", strings.Join(missing, " "))
	}
	info, err := os.Stat(martlet)
	if err != nil {
		return fmt.Errorf("the program martlet, which `make lab` builds: %w", err)
	}
	if info.Mode()&0o111 == 0 || info.IsDir() {
		return wrong("%s is no program", martlet)
	}
	return nil
}

// Up puts a lab up in a folder: a new one where there is none, and of an existing one whatever is missing, be it
// since it was stopped on the way or since the machine was started anew. Of an existing one the options that were
// asked for must be those it has. Faults stay; only processes that were killed and nodes without power come
// back. It returns the lab, to be closed, when everything answers.
func Up(ctx context.Context, dir, martlet string, o Options, asked func(flag string) bool, say func(format string, args ...any)) (*Lab, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if err := able(martlet); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l, err := lock(ctx, dir, say)
	if err != nil {
		return nil, err
	}
	err = l.read()
	switch {
	case errors.Is(err, ErrNone):
		err = l.begin(martlet, o)
	case err == nil:
		l.Martlet = martlet
		err = l.Options.differ(o, asked)
	}
	if err == nil {
		err = l.raise(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// differ names the first option that was asked for and is not what the lab has.
func (o Options) differ(want Options, asked func(flag string) bool) error {
	for _, f := range []struct {
		flag      string
		has, want any
	}{
		{"nodes", o.Nodes, want.Nodes},
		{"devices", o.Devices, want.Devices},
		{"proxies", o.Proxies, want.Proxies},
		{"policy", strings.Join(o.Policies, ", "), strings.Join(want.Policies, ", ")},
		{"size", o.Size, want.Size},
		{"name", o.Name, want.Name},
		{"network", o.Network, want.Network},
	} {
		if asked(f.flag) && f.has != f.want {
			return wrong("--%s %v: the lab in this folder was made with %v; leave the flag out, or choose another --dir", f.flag, f.want, f.has)
		}
	}
	return nil
}

// begin writes down what a new lab is to be, before any of it is made.
func (l *Lab) begin(martlet string, o Options) error {
	there, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return wrong("%s holds %s, and no lab: choose an empty folder", l.dir, there[0].Name())
	}
	l.State = State{Format: format, Martlet: martlet, Options: o, Switch: Namespace{Name: o.Name + "-switch"}, Nodes: o.plan()}
	if l.Boot, err = proc.Boot(); err != nil {
		return err
	}
	if err := l.free(); err != nil {
		return err
	}
	return l.save()
}

// raise makes whatever is missing.
func (l *Lab) raise(ctx context.Context) error {
	if err := l.afterRestart(); err != nil {
		return err
	}
	for _, name := range []string{clusterDir, imagesDir, outDir, balanceDir, watchDir} {
		if err := os.MkdirAll(filepath.Join(l.dir, name), 0o755); err != nil {
			return err
		}
	}
	made, err := netns.Prepare()
	if err != nil {
		return err
	}
	l.Folder = l.Folder || made
	if err := l.connect(ctx); err != nil {
		return err
	}
	if err := l.everyNode(func(n *Node) error { return l.attach(ctx, n) }); err != nil {
		return err
	}
	if err := l.makeCluster(ctx); err != nil {
		return err
	}
	if err := l.configure(); err != nil {
		return err
	}
	return l.run(ctx)
}

// afterRestart forgets what a machine has lost that was started anew since.
func (l *Lab) afterRestart() error {
	boot, err := proc.Boot()
	if err != nil || boot == l.Boot {
		return err
	}
	// The names may be another lab's by now.
	for _, s := range l.namespaces() {
		if live, err := netns.Live(s.Name); err != nil || live {
			return errors.Join(err, wrong("there is a network namespace %s, which is not this lab's", s.Name))
		}
	}
	l.say("the machine was started anew since: faults of networks are gone, those of devices stay")
	l.Boot, l.Bridges, l.Switch.Inode = boot, false, 0
	for _, n := range l.Nodes {
		n.Namespace.Inode, n.Linked, n.Process, n.Dark = 0, false, nil, false
		for _, leg := range n.Legs {
			*leg = Leg{Network: leg.Network, Address: leg.Address}
		}
	}
	return l.save()
}

// everyNode calls f for all nodes, a few at one time, as most of what it does is waiting.
func (l *Lab) everyNode(f func(*Node) error) error {
	var all sync.WaitGroup
	room := make(chan struct{}, 4)
	failed := make([]error, len(l.Nodes))
	for i, n := range l.Nodes {
		all.Go(func() {
			room <- struct{}{}
			failed[i] = n.of(f(n))
			<-room
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// namespace makes one that is not there. Nobody else's has the name: that was looked at before the lab was begun.
func (l *Lab) namespace(s *Namespace) (made bool, err error) {
	is, err := s.is()
	if err != nil || is {
		return false, err
	}
	if s.Inode != 0 {
		if taken, err := netns.Named(s.Name); err != nil || taken {
			return false, errors.Join(err, wrong("the namespace %s is another than the one that was made", s.Name))
		}
	} else if err := netns.Delete(s.Name); err != nil { // of an up that was stopped just here
		return false, err
	}
	if s.Inode, err = netns.Create(s.Name); err != nil {
		return false, err
	}
	return true, l.save()
}

// connect makes the switch, and all nodes with their legs.
func (l *Lab) connect(ctx context.Context) error {
	made, err := l.namespace(&l.Switch)
	if err != nil {
		return err
	}
	if made || !l.Bridges {
		if !made { // of an up that was stopped on the way
			if err := l.renew(&l.Switch); err != nil {
				return err
			}
		}
		for _, n := range l.Nodes {
			n.Linked = false // what was linked to another switch ended with it
		}
		if err := links.MakeSwitch(ctx, l.Switch.Name, Networks()); err != nil {
			return err
		}
		l.Bridges = true
		l.say("made the bridges br-mgmt, br-storage and br-repl, in the namespace %s", l.Switch.Name)
	}
	for _, n := range l.Nodes {
		if err := l.connectNode(ctx, n); err != nil {
			return n.of(err)
		}
	}
	return nil
}

// renew makes a namespace again that is not in use.
func (l *Lab) renew(s *Namespace) error {
	if err := netns.Delete(s.Name); err != nil {
		return err
	}
	s.Inode = 0
	_, err := l.namespace(s)
	return err
}

func (l *Lab) connectNode(ctx context.Context, n *Node) error {
	made, err := l.namespace(&n.Namespace)
	if err != nil {
		return err
	}
	if n.Linked && !made {
		return nil
	}
	for _, leg := range n.Legs {
		if leg.Forwarder != nil && leg.Forwarder.Pid != 0 {
			if err := leg.Forwarder.Kill(ctx); err != nil {
				return err
			}
		}
		*leg = Leg{Network: leg.Network, Address: leg.Address}
	}
	links.Unplug(ctx, l.links(n))
	if err := links.Plug(ctx, l.links(n)); err != nil {
		return err
	}
	if err := strict(n.Namespace.Name); err != nil {
		return err
	}
	var at []string
	for _, leg := range n.Legs {
		at = append(at, leg.Address+" on "+leg.Network)
	}
	l.say("connected %s: %s", n.Name, strings.Join(at, ", "))
	n.Linked = true
	return l.save()
}

// strict keeps a node from passing anything on between its networks, from answering on one for its address on
// another, and from speaking IPv6.
func strict(namespace string) error {
	return netns.Do(namespace, func() error {
		for name, value := range map[string]string{
			"ipv4/ip_forward": "0", "ipv4/conf/all/arp_ignore": "1", "ipv4/conf/all/arp_announce": "2", "ipv6/conf/all/disable_ipv6": "1",
		} {
			err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
			if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, "ipv6") {
				continue
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// attach makes the devices of a node, and mounts those that should be.
func (l *Lab) attach(ctx context.Context, n *Node) error {
	for _, d := range n.Devices {
		if err := l.attachDevice(ctx, n, d); err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	return nil
}

func (l *Lab) attachDevice(ctx context.Context, n *Node, d *Device) error {
	disk := l.disk(n, d)
	mounted, err := disk.Mounted()
	if err != nil || mounted || d.Fault != "" {
		return err
	}
	if _, err := os.Stat(disk.Image); errors.Is(err, fs.ErrNotExist) {
		// Under another name first, so that an image is whole where there is one.
		fresh := disk
		fresh.Image += ".new"
		if err := os.Remove(fresh.Image); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := fresh.Make(ctx, l.Options.Size); err != nil {
			return err
		}
		if err := os.Rename(fresh.Image, disk.Image); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return disk.Mount(ctx)
}

// makeCluster has martlet write the files of the cluster.
func (l *Lab) makeCluster(ctx context.Context) error {
	if l.Made {
		return nil
	}
	o := l.Options
	args := []string{
		"dev", "init", "--dir", filepath.Join(l.dir, clusterDir), "--cluster-key", "--network", o.Network,
		"--listen", fmt.Sprintf("%s:%d", o.address(Management, 1), clientPort),
		"--nodes", strconv.Itoa(o.Nodes), "--devices", strconv.Itoa(o.Devices), "--proxies", strconv.Itoa(o.Proxies),
	}
	if places := o.Nodes * o.Devices; places < 3 {
		args = append(args, "--replicas", strconv.Itoa(places))
	}
	for _, p := range o.Policies {
		args = append(args, "--policy", p)
	}
	if _, err := l.martlet(ctx, args...); err != nil {
		return err
	}
	l.Made = true
	l.say("made a cluster of %d storage nodes with %d devices each, and %d proxies", o.Nodes, o.Devices, o.Proxies)
	return l.save()
}

// martlet runs the program on the node of the operator, if that is there yet, and returns what it prints.
func (l *Lab) martlet(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.Martlet, args...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	n, err := l.Node(string(Monitor))
	if err != nil {
		return "", err
	}
	if err := netns.Do(n.Namespace.Name, cmd.Run); err != nil {
		return out.String(), fmt.Errorf("martlet %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()+out.String()))
	}
	return out.String(), nil
}

// run starts every process that is not there, and waits for all.
func (l *Lab) run(ctx context.Context) error {
	var started []string
	for _, n := range l.Nodes {
		if n.Dark {
			if err := l.power(ctx, n); err != nil {
				return n.of(err)
			}
		}
		did, err := l.launch(ctx, n)
		if err != nil {
			return err
		}
		if did {
			started = append(started, n.Name)
		}
	}
	if len(started) == 0 {
		l.say("every process was there")
		return nil
	}
	l.say("started %s", strings.Join(started, ", "))
	return l.everyNode(func(n *Node) error {
		state, err := n.state()
		if err != nil || state != proc.Running {
			return err // paused: it stays so
		}
		return l.await(ctx, n)
	})
}

// Down takes away all that there is of a lab, whatever state it is in, and its folder. What it can't take away it
// goes around, keeps the state, and tells in its error: then it can be repeated. The lab is closed.
func (l *Lab) Down(ctx context.Context) error {
	failed := []error{l.endProcesses(ctx)}
	unmounted, err := l.unmountAll(ctx)
	failed = append(failed, err)
	names := l.namespaces()
	for _, s := range names {
		failed = append(failed, l.remove(s))
	}
	if l.Folder {
		failed = append(failed, netns.Retire())
	}
	if err := errors.Join(failed...); err != nil {
		return errors.Join(err, l.Close())
	}
	for _, name := range []string{clusterDir, imagesDir, outDir, balanceDir, watchDir, stateFile} {
		if err := os.RemoveAll(filepath.Join(l.dir, name)); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	l.say("took away the processes, %d mounts, %d namespaces and all files", unmounted, len(names))
	if err := os.Remove(l.dir); err != nil {
		l.say("%s stays: %v", l.dir, err)
	}
	return l.Close()
}

// remove takes a namespace away, if it is the lab's.
func (l *Lab) remove(s Namespace) error {
	boot, err := proc.Boot()
	if err != nil {
		return err
	}
	ours, err := s.is()
	if err != nil {
		return err
	}
	if boot != l.Boot {
		// All of the lab's ended with the machine. What it may have left is a name without a namespace.
		live, err := netns.Live(s.Name)
		if err != nil {
			return err
		}
		ours = !live
	} else if s.Inode == 0 {
		ours = true // it was about to be made when all was stopped, and the name was free
	}
	if !ours {
		return nil
	}
	return netns.Delete(s.Name)
}

// namespaces are all that the lab has.
func (l *Lab) namespaces() []Namespace {
	all := []Namespace{l.Switch}
	for _, n := range l.Nodes {
		all = append(all, n.Namespace)
	}
	return all
}

// endProcesses ends those that the lab has started, and whatever else is in its namespaces: those are its own,
// and what is in them was brought there by `lab exec` and `lab shell`.
func (l *Lab) endProcesses(ctx context.Context) error {
	var failed []error
	inodes := map[uint64]bool{}
	for _, n := range l.Nodes {
		if n.Process != nil {
			failed = append(failed, n.of(n.Process.Kill(ctx)))
		}
		for _, leg := range n.Legs {
			if leg.Forwarder != nil && leg.Forwarder.Pid != 0 {
				failed = append(failed, n.of(leg.Forwarder.Kill(ctx)))
			}
		}
		if is, err := n.Namespace.is(); err == nil && is {
			inodes[n.Namespace.Inode] = true
		}
	}
	if is, err := l.Switch.is(); err == nil && is {
		inodes[l.Switch.Inode] = true
	}
	pids, err := netns.Processes(inodes)
	failed = append(failed, err)
	for _, pid := range pids {
		p, err := proc.Of(pid)
		if err != nil {
			continue // it has ended
		}
		failed = append(failed, p.Kill(ctx))
	}
	return errors.Join(failed...)
}

// unmountAll takes off what is mounted below the lab's folder, and waits until no image is in use.
func (l *Lab) unmountAll(ctx context.Context) (n int, err error) {
	paths, err := mounts(l.dir)
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		err := until(ctx, 10*time.Second, func() error { return unix.Unmount(path, 0) })
		if err != nil {
			// Somebody looks at it. It is gone when they are done.
			err = unix.Unmount(path, unix.MNT_DETACH)
		}
		if err != nil {
			return n, fmt.Errorf("unmount %s: %w", path, err)
		}
		n++
	}
	if paths, err := mounts(l.dir); err != nil || len(paths) > 0 {
		return n, errors.Join(err, fmt.Errorf("still mounted: %s", strings.Join(paths, ", ")))
	}
	for _, node := range l.Nodes {
		for _, d := range node.Devices {
			if err := until(ctx, 10*time.Second, func() error { return l.released(node, d) }); err != nil {
				return n, node.of(err)
			}
		}
	}
	return n, nil
}
