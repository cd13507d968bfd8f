package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/cmd/internal/node"
	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/name"
	"martlet/internal/rowbatch"
	"martlet/ring"
)

// rows has some replicas of a container take so many rows, as object servers tell of them, without the objects.
func (p *probe) rows(path name.Path, at []*ring.Device, from, to int) {
	p.t.Helper()
	part, _ := p.primaries(path)
	sender := rowbatch.NewSender(rowbatch.Config{}, p.direct)
	defer sender.Close()
	slots, failed := make(chan struct{}, 1024), make(chan string, 1)
	var all sync.WaitGroup
	for i := from; i < to; i++ {
		object := path
		object.Object = fmt.Sprintf("%s-%06d", strings.Repeat("row", 20), i)
		stamp := p.source.Next().String()
		for _, d := range at {
			slots <- struct{}{}
			all.Go(func() {
				defer func() { <-slots }()
				resp, err := sender.Do(p.t.Context(), d.Addr(), &backend.Request{
					Method: http.MethodPut, Path: backend.Target{Device: d.Name, Partition: uint32(part), Path: object}.Quoted(),
					Header: backend.Header{
						{Name: backend.Timestamp, Value: stamp}, {Name: "X-Size", Value: "1"}, {Name: "X-Content-Type", Value: "text/plain"},
						{Name: "X-Etag", Value: "d41d8cd98f00b204e9800998ecf8427e"}, {Name: backend.PolicyIndex, Value: "0"},
					},
				})
				if err == nil && resp.Status/100 == 2 {
					return
				}
				select {
				case failed <- fmt.Sprint(resp, err):
				default:
				}
			})
		}
	}
	all.Wait()
	select {
	case what := <-failed:
		p.t.Fatal(what)
	default:
	}
}

// alike checks that every replica of a container or account answers so, now.
func (p *probe) alike(path name.Path, meta, want string) {
	p.t.Helper()
	for place, got := range p.replicas(path, meta) {
		if got, _, _ := strings.Cut(got, ":"); got != want {
			p.t.Errorf("%s: %s has %q, want %q", path, place, got, want)
		}
	}
	if d := p.databases(); !d.Whole() {
		p.t.Errorf("the containers of the cluster are %+v, want them whole", d)
	}
}

// files returns where a place has a container or an account: the file of its own, and the one that it may share.
func (p *probe) files(d *ring.Device, path name.Path) (own, shared string) {
	folder := "containers"
	if path.Container == "" {
		folder = "accounts"
	}
	hash := p.hasher.Hash(path)
	dir, text := filepath.Join(p.configs[nodeOf(d.IP)-1].Server.Root, d.Name, folder), hash.String()
	return filepath.Join(dir, text[:2], text[2:4], text+".db"), filepath.Join(dir, "048c"[hash[0]>>6:][:1]+".small")
}

// Databases are gone from a device, those that share a file and those that have one of their own: one pass brings
// back all of them.
func TestDatabasesAreLost(t *testing.T) {
	const count, objects = "X-Account-Container-Count", "X-Container-Object-Count"
	p := startProbe(t, withKey)
	account := name.Path{Account: "AUTH_test"}
	few, many := account, account
	few.Container, many.Container = "few", "many"
	for _, c := range []string{few.Container, many.Container} {
		p.want("PUT", p.url+"/"+c, nil, "", 201)
	}
	p.want("PUT", p.url+"/few/o", nil, "x", 201)
	_, at := p.primaries(many)
	const rows = 2000
	p.rows(many, at, 0, rows)
	p.pass(true)
	for i, path := range []name.Path{account, few, many} {
		_, at := p.primaries(path)
		d := at[i]
		own, shared := p.files(d, path)
		gone := shared
		if path == many {
			gone = own
		}
		p.stop(nodeOf(d.IP))
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
		p.start(nodeOf(d.IP))
		if got := p.replicas(path, "")[placeOf(d)]; !strings.HasPrefix(got, "404") {
			t.Fatalf("%s: the device from which it was removed answers %q", path, got)
		}
	}
	if d := p.databases(); d.Whole() {
		t.Errorf("without them the cluster says %+v", d)
	}
	p.pass(true)
	p.alike(account, count, "200 3")
	p.alike(few, objects, "200 1")
	p.alike(many, objects, fmt.Sprint("200 ", rows))
	p.want("GET", p.url+"/few/o", nil, "", 200)
}

// What a fenced device has of a container is not told to its account, whether a request comes or it is the time to tell of
// counts, until the device is readmitted.
func TestFencedTellsNoAccount(t *testing.T) {
	const objects = "X-Account-Object-Count"
	p := startProbe(t)
	account, path := name.Path{Account: "AUTH_test"}, name.Path{Account: "AUTH_test", Container: "c"}
	part, at := p.primaries(path)
	n, d := nodeOf(at[0].IP), at[0]
	c := p.configs[n-1]
	for i, other := range p.configs { // replicas that have none of the rows would say so, and that may come last
		if i+1 != n {
			p.stop(i + 1)
			other.Stats.Enabled = false
			p.start(i + 1)
		}
	}
	p.stop(n)
	p.fence(n)
	c.Admin.Listen, c.Stats.Interval = c.Server.Address+":6209", conf.Duration(20*time.Millisecond)
	p.start(n)
	p.rows(path, at[:1], 0, 7)
	accountPart, accounts := p.primaries(account)
	hosts, devices := make([]string, 3), make([]string, 3)
	for i, a := range accounts {
		hosts[i], devices[i] = a.Addr(), a.Name
	}
	resp, err := p.direct.Do(t.Context(), d.Addr(), &backend.Request{
		Method: http.MethodPut, Path: backend.Target{Device: d.Name, Partition: uint32(part), Path: path}.Quoted(),
		Header: backend.Header{
			{Name: backend.Timestamp, Value: p.source.Next().String()}, {Name: backend.AccountPart, Value: fmt.Sprint(accountPart)},
			{Name: backend.AccountHost, Value: strings.Join(hosts, ",")}, {Name: backend.AccountDevice, Value: strings.Join(devices, ",")},
		},
	})
	if err != nil || resp.Status != http.StatusAccepted {
		t.Fatal(resp, err)
	}
	for place, got := range p.replicas(account, objects) {
		if got != "200 0: c" {
			t.Errorf("the account at %s says %q of what is fenced", place, got)
		}
	}
	p.want("POST", "http://"+c.Admin.Listen+node.ReadmitPath, nil, "", 200)
	p.agree(account, objects, "200 7: c")
}

// fence has all that a stopped node has be fenced.
func (p *probe) fence(n int) {
	p.t.Helper()
	for _, d := range p.configs[n-1].Server.Devices {
		file := filepath.Join(p.configs[n-1].Server.Root, d, "replication", "steps")
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, []byte("damaged"), 0o600)); err != nil {
			p.t.Fatal(err)
		}
	}
}
