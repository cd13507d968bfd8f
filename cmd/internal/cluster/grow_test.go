package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"martlet/cmd/internal/config"
	"martlet/internal/device"
	"martlet/internal/vfs"
)

// Several proxies differ in nothing but their addresses and logs, and a folder from before there could be
// several has one.
func TestProxies(t *testing.T) {
	o := Defaults()
	o.PartPower, o.Network, o.Proxies, o.Listen = 4, "10.77", 3, "10.77.0.1:8080"
	f, err := Make(t.TempDir(), o, flags())
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{1: "10.77.0.1", 2: "10.77.0.2", 3: "10.77.0.3"} {
		c, err := config.LoadProxy(f.ProxyFileOf(n))
		if err != nil {
			t.Fatal(err)
		}
		if c.Server.Listen != want+":8080" || c.Admin.Listen != want+":6209" || filepath.Base(c.Log.File) != proxyName(n)+".log" {
			t.Errorf("proxy %d listens on %s and %s and logs to %s", n, c.Server.Listen, c.Admin.Listen, c.Log.File)
		}
	}
	manifest := filepath.Join(f.Dir, etcDir, manifestFile)
	if err := os.WriteFile(manifest, []byte("nodes = 4\ndevices = 2\nreplicas = 3\npart_power = 4\nlisten = \"10.77.0.1:8080\"\nnetwork = \"10.77\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = Open(f.Dir); err != nil || f.Options.Proxies != 1 {
		t.Errorf("a folder that says nothing of proxies: %+v, %v", f, err)
	}
}

// A node that was added has what the others have, but its own addresses, and a Grow that was stopped before
// its end is made again.
func TestGrow(t *testing.T) {
	o := Defaults()
	o.PartPower, o.ClusterKey = 4, true
	f, err := Make(t.TempDir(), o, flags())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.StorageFile(5), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Grow(); err != nil || n != 5 {
		t.Fatalf("the fifth node is %d, %v", n, err)
	}
	first, err := config.LoadStorage(f.StorageFile(1))
	if err != nil {
		t.Fatal(err)
	}
	fifth, err := config.LoadStorage(f.StorageFile(5))
	if err != nil {
		t.Fatal(err)
	}
	if fifth.Cluster.HashPathSuffix != first.Cluster.HashPathSuffix || fifth.Cluster.KeyFile != first.Cluster.KeyFile ||
		fifth.Server.Address != "127.0.1.5" || fifth.Replication.Address != "127.0.2.5" {
		t.Errorf("the first node has %+v and %+v, the fifth %+v and %+v", first.Cluster, first.Server, fifth.Cluster, fifth.Server)
	}
	for _, d := range fifth.Server.Devices {
		i, err := device.ReadIdentity(vfs.OS, filepath.Join(fifth.Server.Root, d))
		if err != nil {
			t.Fatal(err)
		}
		is, err := device.ReadIdentity(vfs.OS, filepath.Join(first.Server.Root, d))
		if err != nil {
			t.Fatal(err)
		}
		if err := is.Check(device.Owner{Cluster: i.Cluster, Fingerprint: i.Fingerprint}, d); err != nil || i.ID == is.ID {
			t.Errorf("device %s of the fifth node is %+v, of the first %+v: %v", d, i, is, err)
		}
	}
	again, err := Open(f.Dir)
	if err != nil || again.Options.Nodes != 5 {
		t.Errorf("the folder says %+v, %v, want 5 nodes", again, err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrForeign) {
		t.Errorf("Open of an empty folder: %v", err)
	}
}
