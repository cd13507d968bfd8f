// Package cluster is the clusters that a check runs against, as package nemesis breaks them: Local, of
// separate processes that it starts itself, with a forwarder before each address of a storage node and, where it
// may, devices on loop-mounted images; Remote, that somebody else runs, of which nothing is broken; and Lab, of
// three real networks, that its own commands break.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"martlet/cmd/internal/check/forward"
	"martlet/cmd/internal/check/nemesis"
	made "martlet/cmd/internal/cluster"
	"martlet/internal/loopdisk"
)

// Options are what a Local cluster is made of.
type Options struct {
	Dir     string   // of all that is kept; it must be empty, or not there
	Binary  string   // the program
	Other   string   // another version of it, which every other process is at first; "" for none
	Env     []string // of the processes, beside this one's
	Nodes   int
	Devices int
	Proxies int
	// Replicas is how many there are of all that is not coded.
	Replicas int
	// Policies are those beside the default one.
	Policies   []made.Policy
	ClusterKey bool
	// Apart says that nodes send also to themselves over the network, which can be broken; not with Other, which may not know of it.
	Apart bool
	// Disks says that there is the right to mount, in a process of package apart.
	Disks bool
	// Clocks says that the program is a build whose clocks can be moved.
	Clocks bool
	// Ahead is by how much the clock of the last proxy is, from beginning to end; it wants Clocks.
	Ahead time.Duration
}

// clockVariable names to a process the file by which its clock is wrong, in builds that have it.
const clockVariable = "MARTLET_CLOCK_FILE"

// diskSize is that of a device, in bytes.
const diskSize = 512 << 20

// A Local cluster is of processes on this machine. Its methods are for one caller at a time.
type Local struct {
	o        Options
	folder   *made.Folder
	nets     map[string]*forward.Network
	storage  []*process
	proxies  []*process
	disks    map[[2]int]loopdisk.Disk // by node and device
	whyDisks string                   // why there are none
	whyNets  string                   // why no network can be broken
	versions map[string]string        // what programs say that they are
	off      map[[2]int]bool          // disks that have to be mounted anew
	full     map[[2]int]bool          // disks that have no room
	used     map[string]int           // of logs, up to where they were looked at
}

// Start makes a cluster and starts it. An error leaves nothing running.
func Start(ctx context.Context, o Options) (l *Local, err error) {
	l = &Local{
		o: o, nets: map[string]*forward.Network{nemesis.Storage: forward.New(), nemesis.Replication: forward.New()},
		disks: map[[2]int]loopdisk.Disk{}, off: map[[2]int]bool{}, full: map[[2]int]bool{}, used: map[string]int{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	settings := made.Options{
		Nodes: o.Nodes, Devices: o.Devices, Proxies: o.Proxies, Replicas: o.Replicas, PartPower: 6, Policies: o.Policies,
		ClusterKey: o.ClusterKey, Forwarded: true, Brisk: true, Apart: o.Apart && o.Other == "",
	}
	at := func(network string) { settings.Network, settings.Listen = network, network+".0.1:8080" }
	at("127.0") // any, for what follows
	if err := settings.Check(); err != nil {
		return l, err
	}
	network, err := freeNetwork(o.Proxies)
	if err != nil {
		return l, err
	}
	at(network)
	if o.Other != "" {
		if err := l.meet(ctx, &settings); err != nil {
			return l, err
		}
	}
	l.mountDisks(ctx)
	if l.folder, err = made.Make(o.Dir, settings, func(string) bool { return true }); err != nil {
		return l, err
	}
	for n := 1; n <= o.Nodes; n++ {
		if l.whyNets == "" {
			if err := l.forward(n); err != nil {
				return l, err
			}
		}
		name := fmt.Sprintf("storage%d", n)
		p := l.process(n, name, "storage", l.folder.StorageFile(n), "http://"+settings.Place(n).Admin+"/healthcheck")
		if o.Clocks {
			p.env = append(p.env, clockVariable+"="+l.clock(n))
		}
		l.storage = append(l.storage, p)
	}
	for n := 1; n <= o.Proxies; n++ {
		name := map[bool]string{true: "proxy", false: fmt.Sprintf("proxy%d", n)}[n == 1]
		p := l.process(n, name, "proxy", l.folder.ProxyFileOf(n), "http://"+settings.ProxyListen(n)+"/healthcheck")
		if o.Ahead != 0 && n == o.Proxies {
			path := filepath.Join(l.folder.Dir, name+".clock")
			if err := setClock(path, o.Ahead); err != nil {
				return l, err
			}
			p.env = append(p.env, clockVariable+"="+path)
		}
		l.proxies = append(l.proxies, p)
	}
	return l, l.back(ctx, l.all()...)
}

// freeNetwork is one of the loopback networks on which nobody listens.
func freeNetwork(proxies int) (string, error) {
	free := func(address string) bool {
		l, err := net.Listen("tcp", address) //nolint:noctx // it takes no time
		return err == nil && l.Close() == nil
	}
	first := rand.IntN(200)
	for i := range 200 {
		n := fmt.Sprintf("127.%d", 20+(first+i*7)%200)
		ok := free(n+".1.1:6200") && free(n+".3.1:6200")
		for p := 1; p <= proxies; p++ {
			ok = ok && free(fmt.Sprintf("%s.0.%d:8080", n, p))
		}
		if ok {
			return n, nil
		}
	}
	return "", errors.New("no loopback network is free")
}

// process is the n-th of a role.
func (l *Local) process(n int, name, role, file, health string) *process {
	binary, other := l.o.Binary, l.o.Other
	if n%2 == 0 && other != "" {
		binary, other = other, binary
	}
	return &process{
		name: name, binary: binary, other: other, args: []string{role, "--config", file}, env: slices.Clone(l.o.Env), health: health, out: outFile(l.folder.Dir, name),
	}
}

// mountDisks mounts a disk for each device, or says why there are none.
func (l *Local) mountDisks(ctx context.Context) {
	if !l.o.Disks {
		l.whyDisks = "devices are plain folders: mounting wants root, and the right to (CAP_SYS_ADMIN)"
		return
	}
	if err := l.tryDisks(ctx); err != nil {
		l.whyDisks = "devices are plain folders: " + err.Error()
		for _, d := range l.disks {
			_ = d.Detach() // it goes with the process at the latest
		}
		l.disks = map[[2]int]loopdisk.Disk{}
	}
}

func (l *Local) tryDisks(ctx context.Context) error {
	dir, err := filepath.Abs(l.o.Dir)
	if err != nil {
		return err
	}
	images := dir + ".images" // beside it: the folder of a cluster holds nothing else
	if err := os.MkdirAll(images, 0o750); err != nil {
		return err
	}
	for n := 1; n <= l.o.Nodes; n++ {
		for d := 1; d <= l.o.Devices; d++ {
			disk := loopdisk.Disk{
				Image: filepath.Join(images, fmt.Sprintf("storage%d-d%d", n, d)),
				Path:  filepath.Join(dir, fmt.Sprintf("storage%d", n), fmt.Sprintf("d%d", d)),
			}
			err := disk.Make(ctx, diskSize)
			if err == nil {
				err = disk.Mount(ctx)
			}
			if err != nil {
				return err
			}
			l.disks[[2]int{n, d}] = disk
		}
	}
	return nil
}

// forward puts a forwarder before each address of a node.
func (l *Local) forward(n int) error {
	at := l.folder.Options.Place(n)
	name := fmt.Sprintf("storage%d", n)
	for _, one := range []struct {
		network, address, bind string
		ports                  []int
	}{
		{nemesis.Storage, at.Storage, at.BindStorage, []int{at.Object, at.Container, at.Account}},
		{nemesis.Replication, at.Replication, at.BindReplication, []int{at.ReplicationPort}},
	} {
		address, err := netip.ParseAddr(one.address)
		if err != nil {
			return err
		}
		bind, err := netip.ParseAddr(one.bind)
		if err != nil {
			return err
		}
		l.nets[one.network].Host(name, bind, address)
		for _, port := range one.ports {
			from, to := netip.AddrPortFrom(address, uint16(port)), netip.AddrPortFrom(bind, uint16(port))
			who := name
			if one.network == nemesis.Storage && port == at.Container {
				who = containerOf(n) // which can be cut off alone
				l.nets[one.network].Host(who, netip.Addr{}, address)
			}
			if err := l.nets[one.network].Forward(who, from.String(), to.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// all are the processes, in the order of their start.
func (l *Local) all() []*process { return slices.Concat(l.storage, l.proxies) }

// Endpoints are the proxies, as http://host:port.
func (l *Local) Endpoints() []string {
	all := make([]string, len(l.proxies))
	for i := range l.proxies {
		all[i] = "http://" + l.folder.Options.ProxyListen(i+1)
	}
	return all
}

// Policies are the names of the storage policies.
func (l *Local) Policies() []string {
	all := []string{"Policy-0"}
	for _, p := range l.o.Policies {
		all = append(all, p.Name)
	}
	return all
}

// Config is a configuration of the cluster, by which its rings are found.
func (l *Local) Config() string { return l.folder.ProxyFile() }

// Images is the folder of the images of disks, where there are any. They stay when the cluster is closed.
func (l *Local) Images() string { return l.folder.Dir + ".images" }

// Shape implements nemesis.Cluster.
func (l *Local) Shape() nemesis.Shape {
	return nemesis.Shape{Nodes: l.o.Nodes, Devices: l.o.Devices, Proxies: l.o.Proxies, Bears: bears(l.folder.Options)}
}

// Versions says which process is of which version, where there are two.
func (l *Local) Versions() string {
	if l.o.Other == "" {
		return ""
	}
	var all []string
	for _, p := range l.all() {
		all = append(all, p.name+" is "+l.versions[p.binary])
	}
	return strings.Join(all, ", ")
}

// Heal mends everything that is broken, and waits until every process answers and has its devices.
func (l *Local) Heal(ctx context.Context) error {
	for network := range l.nets {
		for n := 1; n <= l.o.Nodes && l.whyNets == ""; n++ {
			if err := l.condition(network, n, forward.Condition{}); err != nil {
				return err
			}
		}
	}
	for _, p := range l.all() {
		if err := p.resume(); err != nil {
			return err
		}
	}
	for at := range l.full {
		if err := l.free(at); err != nil {
			return err
		}
	}
	for at := range l.off {
		if err := l.again(ctx, at); err != nil {
			return err
		}
	}
	if l.o.Clocks {
		for n := range l.storage {
			if err := os.Remove(l.clock(n + 1)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return l.back(ctx, l.all()...)
}

// Broke returns what processes did that none should ever do, since the last call: that they ended by themselves,
// or that their logs tell of a panic.
func (l *Local) Broke() (all []string) {
	for _, p := range l.all() {
		all = append(all, p.took()...)
		for _, path := range []string{p.out, strings.TrimSuffix(p.out, ".out") + ".log"} {
			if what := panics(path, l.used); what != "" {
				all = append(all, what)
			}
		}
	}
	return all
}

// panics returns what a log tells of panics behind where it was looked at last.
func panics(path string, used map[string]int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "" // nothing was written
	}
	from := min(used[path], len(text))
	used[path] = len(text)
	for _, mark := range []string{"panic in a ", "DATA RACE", "panic: "} {
		if i := bytes.Index(text[from:], []byte(mark)); i >= 0 {
			i += from
			return fmt.Sprintf("%s tells of a panic: %s", filepath.Base(path), text[i:min(len(text), i+1500)])
		}
	}
	return ""
}

// Close ends every process, takes off every disk and closes every forwarder. The folder stays.
func (l *Local) Close() error {
	for _, p := range l.all() {
		p.kill()
	}
	var all []error
	for _, n := range l.nets {
		all = append(all, n.Close())
	}
	for at, d := range l.disks {
		all = append(all, d.Detach())
		delete(l.disks, at)
	}
	return errors.Join(all...)
}

// Stop ends every process in good order, proxies first. What can't be ended so is an error.
func (l *Local) Stop(ctx context.Context) error {
	var all []error
	for _, p := range slices.Concat(l.proxies, l.storage) {
		all = append(all, p.end(ctx))
	}
	return errors.Join(all...)
}

// again mounts a disk anew.
func (l *Local) again(ctx context.Context, at [2]int) error {
	d := l.disks[at]
	err := until(ctx, 30*time.Second, func() error {
		mounted, err := d.Mounted()
		if err != nil || !mounted {
			return err
		}
		return d.Unmount()
	})
	if err == nil {
		err = until(ctx, 30*time.Second, func() error {
			if used, err := d.InUse(); err != nil || used {
				return errors.Join(err, fmt.Errorf("%s is still in use", d.Image))
			}
			return nil
		})
	}
	if err == nil {
		err = d.Mount(ctx)
	}
	if err == nil {
		delete(l.off, at)
		delete(l.full, at)
	}
	return err
}

// until tries something until there is no error.
func until(ctx context.Context, within time.Duration, try func() error) error {
	ctx, stop := context.WithTimeout(ctx, within)
	defer stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// clock is the file by which the clock of a node is wrong.
func (l *Local) clock(n int) string {
	return filepath.Join(l.folder.Dir, fmt.Sprintf("storage%d.clock", n))
}
