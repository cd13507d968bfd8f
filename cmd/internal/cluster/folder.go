package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"martlet/cmd/internal/config"
	"martlet/internal/conf"
	"martlet/internal/device"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/ring"
	"martlet/ring/builder"
)

// What is in a cluster's folder.
const (
	etcDir       = "etc"
	newEtcDir    = "etc.new" // while it is being written
	logDir       = "log"
	ringsDir     = "rings" // in etc
	manifestFile = "cluster.toml"
	keyFile      = "cluster.key"
)

func proxyFile(n int) string   { return proxyName(n) + ".toml" }
func storageFile(n int) string { return nodeName(n) + ".toml" }

// Folder is a cluster on disk.
type Folder struct {
	Dir     string
	Options Options
	Notes   []string // of Options.Fit, where it was made just now
}

// ProxyFile is the path of the configuration of the first proxy, and ProxyFileOf of that of
// proxy n, counted from 1.
func (f *Folder) ProxyFile() string { return f.ProxyFileOf(1) }

// ProxyFileOf is the path of the configuration of proxy n, counted from 1.
func (f *Folder) ProxyFileOf(n int) string { return filepath.Join(f.Dir, etcDir, proxyFile(n)) }

// RingsDir is the folder of the rings and their builders.
func (f *Folder) RingsDir() string { return filepath.Join(f.Dir, etcDir, ringsDir) }

// Device is the folder of a device, both counted from 1.
func (f *Folder) Device(node, device int) string {
	return filepath.Join(f.Dir, nodeName(node), deviceName(device))
}

// NodeLog is the log of storage node n in a process of its own, counted from 1.
func (f *Folder) NodeLog(n int) string { return filepath.Join(f.Dir, logDir, nodeName(n)+".log") }

// ProxyLog is the log of proxy n in a process of its own, counted from 1.
func (f *Folder) ProxyLog(n int) string { return filepath.Join(f.Dir, logDir, proxyName(n)+".log") }

// StorageFile is the path of the configuration of node n, counted from 1.
func (f *Folder) StorageFile(n int) string { return filepath.Join(f.Dir, etcDir, storageFile(n)) }

// LogFile is the path of the log of a cluster in one process.
func (f *Folder) LogFile() string { return filepath.Join(f.Dir, logDir, "martlet.log") }

// ErrForeign is wrapped by the error that refuses a folder with something else in it.
var ErrForeign = errors.New("not the folder of a cluster")

// Make opens the cluster in a folder, and makes it first where there is none. Of
// an existing one, the options that were asked for must be those it has; a new one has
// more nodes or devices where its policies take them (Options.Fit).
//
// The configuration appears at once and last: a folder that Make was stopped in
// has none and is begun again.
func Make(dir string, o Options, asked func(flag string) bool) (*Folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, etcDir)); err == nil {
		return open(dir, o, asked)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	o, notes := o.Fit(asked)
	if err := o.Check(); err != nil {
		return nil, err
	}
	if err := ours(dir); err != nil {
		return nil, err
	}
	f := &Folder{Dir: dir, Options: o, Notes: notes}
	return f, f.write()
}

// Open opens the cluster in a folder. The error is ErrForeign where there is none.
func Open(dir string) (*Folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, etcDir)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it has no %s folder", dir, ErrForeign, etcDir)
	}
	return open(dir, Options{}, func(string) bool { return false })
}

func open(dir string, o Options, asked func(flag string) bool) (*Folder, error) {
	f := &Folder{Dir: dir, Options: Options{Proxies: 1}} // as in folders from before there could be more
	path := filepath.Join(dir, etcDir, manifestFile)
	if err := conf.Load(path, &f.Options); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w: it has an %s folder without %s", dir, ErrForeign, etcDir, manifestFile)
		}
		return nil, config.WrongError{Err: err}
	}
	if err := f.Options.differ(o, asked); err != nil {
		return nil, err
	}
	if err := f.Options.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// ours refuses a folder that holds anything which Make would not have left there:
// it must never give a new secret to somebody's data.
func ours(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path == filepath.Join(dir, newEtcDir):
			return fs.SkipDir
		case d.IsDir(), d.Name() == device.IdentityFile:
			return nil
		}
		return fmt.Errorf("%s: %w: it holds %s", dir, ErrForeign, strings.TrimPrefix(path, dir+"/"))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (f *Folder) write() error {
	o := f.Options
	s := newSecrets()
	if o.suffix != "" {
		s.suffix = o.suffix
	}
	if err := f.makeDevices(s); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(f.Dir, logDir), 0o750); err != nil {
		return err
	}
	fresh := filepath.Join(f.Dir, newEtcDir)
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(fresh, ringsDir), 0o750); err != nil {
		return err
	}
	if err := o.writeRings(filepath.Join(fresh, ringsDir)); err != nil {
		return err
	}
	texts, err := o.configs(s)
	if err != nil {
		return err
	}
	for name, text := range texts {
		if err := writeSynced(filepath.Join(fresh, name), text); err != nil {
			return err
		}
	}
	// The secrets must be as durable as the data that is found by them.
	if err := syncDir(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Join(f.Dir, etcDir)); err != nil {
		return err
	}
	return errors.Join(syncDir(f.Dir), syncDir(filepath.Dir(f.Dir)))
}

// makeDevices makes the devices of a cluster that has no configuration yet: what is
// in an identity is of a cluster that never came to be.
func (f *Folder) makeDevices(s secrets) error {
	hasher, err := name.NewHasher("", s.suffix)
	if err != nil {
		return err
	}
	owner := device.Owner{Cluster: clusterName, Fingerprint: hasher.Fingerprint()}
	for n := 1; n <= f.Options.Nodes; n++ {
		if err := f.makeDevicesOf(n, owner); err != nil {
			return err
		}
	}
	return nil
}

// makeDevicesOf makes the devices of a node that has no configuration yet.
func (f *Folder) makeDevicesOf(n int, owner device.Owner) error {
	for d := 1; d <= f.Options.Devices; d++ {
		folder := filepath.Join(f.Dir, nodeName(n), deviceName(d))
		if err := os.MkdirAll(folder, 0o750); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(folder, device.IdentityFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, _, err := device.Init(folder, owner, deviceName(d), false); err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
	}
	return nil
}

// writeSynced writes a file that only its owner may read, durably.
func writeSynced(path string, text []byte) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeRings makes one ring for each kind of server, and for each policy, the same devices at that server's
// port, and beside it the builder to go on from with `martlet ring`.
func (o Options) writeRings(dir string) error {
	type kind struct {
		name           string
		port, replicas int
	}
	kinds := []kind{{"account", accountPort, o.Replicas}, {"container", containerPort, o.Replicas}, {"object", objectPort, o.Replicas}}
	for i, p := range o.Policies {
		kinds = append(kinds, kind{"object" + policy.Index(i+1).Suffix(), objectPort, o.ReplicasOf(p)})
	}
	for i, kind := range kinds {
		b, err := o.builder(kind.port, kind.replicas, uint64(i))
		if err != nil {
			return fmt.Errorf("%s ring: %w", kind.name, err)
		}
		r, err := b.Ring()
		if err != nil {
			return fmt.Errorf("%s ring: %w", kind.name, err)
		}
		if err := builder.Create(filepath.Join(dir, kind.name+".builder"), b); err != nil {
			return err
		}
		if err := r.Save(filepath.Join(dir, kind.name+".ring.gz")); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) builder(port, replicas int, seed uint64) (*builder.Builder, error) {
	b, err := builder.New(o.PartPower, float64(replicas), 1)
	if err != nil {
		return nil, err
	}
	for n := 1; n <= o.Nodes; n++ {
		for d := 1; d <= o.Devices; d++ {
			_, err := b.Add(ring.Device{
				Region: 1, Zone: n, IP: o.storageIP(n), Port: port, ReplicationIP: o.replicationIP(n), ReplicationPort: replicationPort,
				Name: deviceName(d), Weight: 100,
			})
			if err != nil {
				return nil, err
			}
		}
	}
	_, err = b.Rebalance(builder.Options{Seed: seed})
	return b, err
}
