package cluster

import (
	"testing"

	"martlet/cmd/internal/config"
)

// TestFilesOfProcesses: what is written for a cluster of separate processes behind forwarders is a good
// configuration of each, in which what listens where follows from the options.
func TestFilesOfProcesses(t *testing.T) {
	o := Options{Nodes: 2, Devices: 2, Replicas: 3, PartPower: 4, Listen: "127.9.0.1:8080", Network: "127.9", Proxies: 2, Forwarded: true, Apart: true, Brisk: true}
	f, err := Make(t.TempDir()+"/c", o, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	again, err := Make(f.Dir, Options{}, func(string) bool { return false })
	if err != nil || again.Options.Proxies != 2 || !again.Options.Forwarded || !again.Options.Apart || !again.Options.Brisk {
		t.Fatalf("opened again: %+v, %v", again, err)
	}
	for n := 1; n <= 2; n++ {
		p, err := config.LoadProxy(f.ProxyFileOf(n))
		if err != nil {
			t.Fatal(err)
		}
		if p.Server.Listen != o.ProxyListen(n) || p.Admin.Listen != o.proxyAdmin(n) || p.Log.File != f.ProxyLog(n) || p.Rings.Folder != f.RingsDir() {
			t.Errorf("proxy %d: %+v", n, p)
		}
		s, err := config.LoadStorage(f.StorageFile(n))
		if err != nil {
			t.Fatal(err)
		}
		at := o.Place(n)
		if s.Server.Address != at.Storage || s.Server.Listens() != at.BindStorage || s.Replication.Address != at.Replication ||
			s.Replication.Listens() != at.BindReplication || at.BindStorage == at.Storage || at.BindReplication == at.Replication {
			t.Errorf("node %d: %+v, want %+v", n, s, at)
		}
		if s.Admin.Listen != at.Admin || s.Log.File != f.NodeLog(n) || s.Object.Port != at.Object || s.Replication.Port != at.ReplicationPort {
			t.Errorf("node %d: %+v, want %+v", n, s, at)
		}
	}
}
