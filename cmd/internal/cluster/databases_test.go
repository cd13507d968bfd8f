package cluster

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/cmd/internal/config"
	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/name"
	"martlet/ring"
)

// replicas asks each primary of a container or account for what it lists, and
// returns the answers, "status metadata: names", by "storageN/dM".
func (p *probe) replicas(path name.Path, meta string) map[string]string {
	p.t.Helper()
	part, primaries := p.primaries(path)
	all := map[string]string{}
	for _, d := range primaries {
		target := backend.Target{Device: d.Name, Partition: uint32(part), Path: path}
		at := placeOf(d)
		resp, err := p.direct.Do(p.t.Context(), d.Addr(), &backend.Request{Method: http.MethodGet, Path: target.Quoted()})
		if err != nil {
			all[at] = "away"
			continue
		}
		var body []byte
		if resp.Body != nil {
			if body, err = io.ReadAll(resp.Body); err != nil {
				p.t.Fatal(err)
			}
			_ = resp.Body.Close() // it was read to its end
		}
		var told strings.Builder // a listing may be of thousands of names
		fmt.Fprintf(&told, "%d %s:", resp.Status, resp.Header.Get(meta))
		for _, part := range strings.Split(string(body), `"name":"`)[1:] {
			listed, _, _ := strings.Cut(part, `"`)
			told.WriteString(" " + listed)
		}
		all[at] = told.String()
	}
	return all
}

// agree waits until every replica answers alike: by passes, or by the updates that
// were queued.
func (p *probe) agree(path name.Path, meta, want string) {
	p.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		all := p.replicas(path, meta)
		wrong := 0
		for _, got := range all {
			if got != want {
				wrong++
			}
		}
		if wrong == 0 {
			return
		}
		select {
		case <-deadline:
			p.t.Fatalf("%s: the replicas have %v, want %q", path, all, want)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// primaries returns the partition of a container or account, and the devices that
// hold its replicas.
func (p *probe) primaries(path name.Path) (ring.Partition, []*ring.Device) {
	p.t.Helper()
	file := "container.ring.gz"
	if path.Container == "" {
		file = "account.ring.gz"
	}
	r, err := ring.Load(filepath.Join(p.configs[0].Rings.Folder, file))
	if err != nil {
		p.t.Fatal(err)
	}
	part := r.Partition(p.hasher.Hash(path))
	return part, r.AppendPrimaries(nil, part)
}

// nodeOf returns the node, counted from 1, that holds the n-th replica of a
// container or account.
func (p *probe) nodeOf(path name.Path, n int) int {
	p.t.Helper()
	_, primaries := p.primaries(path)
	return nodeOf(primaries[n].IP)
}

// Containers and accounts while a node that holds them is away.
func TestDatabasesReturn(t *testing.T) {
	whole := startProbe(t, withKey)
	const meta = "X-Container-Meta-A"

	t.Run("updates wait for a container server that is away", func(t *testing.T) {
		p := whole.in(t)
		path := name.Path{Account: "AUTH_test", Container: "queued"}
		url := p.url + "/queued"
		p.want("PUT", url, nil, "", 201)
		p.want("PUT", url+"/before", nil, "x", 201)
		down := p.nodeOf(path, 1)
		p.stop(down)
		p.want("PUT", url+"/during", nil, "x", 201)
		p.want("DELETE", url+"/before", nil, "", 204)
		p.start(down)
		// No pass is made: the queues are drained by themselves.
		p.agree(path, meta, "200 : during")
	})

	t.Run("a container is deleted and made again while a replica is away", func(t *testing.T) {
		p := whole.in(t)
		path := name.Path{Account: "AUTH_test", Container: "again"}
		url := p.url + "/again"
		p.want("PUT", url, map[string]string{meta: "old"}, "", 201)
		p.want("PUT", url+"/old", nil, "x", 201)
		down := p.nodeOf(path, 0)
		p.stop(down)
		p.want("DELETE", url+"/old", nil, "", 204)
		p.want("DELETE", url, nil, "", 204)
		p.want("PUT", url, map[string]string{meta: "new"}, "", 201)
		p.want("PUT", url+"/new", nil, "x", 201)
		p.start(down)
		p.pass(true)
		p.agree(path, meta, "200 new: new")
	})

	t.Run("a container is made and another deleted while a replica is away", func(t *testing.T) {
		p := whole.in(t)
		made, gone := name.Path{Account: "AUTH_test", Container: "made"}, name.Path{Account: "AUTH_test", Container: "gone"}
		base := p.url
		p.want("PUT", base+"/gone", nil, "", 201)
		down := p.nodeOf(made, 2)
		p.stop(down)
		p.want("PUT", base+"/made", map[string]string{meta: "1"}, "", 201)
		p.want("DELETE", base+"/gone", nil, "", 204)
		p.start(down)
		p.pass(true)
		p.agree(made, meta, "200 1:")
		p.agree(gone, meta, "404 :")
		p.want("DELETE", base+"/made", nil, "", 204)
	})

	t.Run("a replica is damaged", func(t *testing.T) {
		p := whole.in(t)
		path := name.Path{Account: "AUTH_test", Container: "damaged"}
		url := p.url + "/damaged"
		p.want("PUT", url, map[string]string{meta: "1"}, "", 201)
		p.want("PUT", url+"/o", nil, "x", 201)
		p.pass(true)
		_, primaries := p.primaries(path)
		p.ruin(path, primaries[0])
		p.pass(true)
		p.agree(path, meta, "200 1: o")
	})

	t.Run("all primaries of an object are down", func(t *testing.T) {
		p := whole.in(t)
		const object = "unreachable"
		p.object("PUT", object, nil, "body", 201)
		primaries, _ := p.places(object)
		for _, place := range primaries {
			p.stop(nodeAt(place))
		}
		p.object("GET", object, nil, "", 503)
		p.object("HEAD", object, nil, "", 503)
		for _, place := range primaries {
			p.start(nodeAt(place))
		}
		p.object("GET", object, nil, "", 200)
	})
}

// Account servers that are away learn by one pass what has become of containers
// meanwhile, also where only one was left, and clients notice nothing.
func TestAccountServersAway(t *testing.T) {
	p := startProbe(t)
	path := name.Path{Account: "AUTH_test"}
	const count = "X-Account-Container-Count"
	away := func(n int, meanwhile func()) {
		for i := range n {
			p.stop(p.nodeOf(path, i))
		}
		meanwhile()
		p.want("GET", p.url, nil, "", 200)
		for i := range n {
			p.start(p.nodeOf(path, i))
		}
		p.pass(true)
	}
	p.want("PUT", p.url+"/gone", nil, "", 201)
	p.agree(path, count, "200 2: c gone")
	away(1, func() {
		p.want("DELETE", p.url+"/gone", nil, "", 204)
		p.want("PUT", p.url+"/one", nil, "", 201)
		p.want("PUT", p.url+"/one/o", nil, "body", 201)
	})
	p.agree(path, count, "200 2: c one")
	away(2, func() {
		p.want("PUT", p.url+"/two", nil, "", 201)
		p.want("PUT", p.url+"/two/o", nil, "body", 201)
	})
	p.agree(path, count, "200 3: c one two")
}

// ruin damages the replica of a small container on a device, and waits until it is in quarantine.
func (p *probe) ruin(path name.Path, d *ring.Device) {
	p.t.Helper()
	n, hash := nodeOf(d.IP), p.hasher.Hash(path)
	p.stop(n)
	c := p.configs[n-1]
	_, shared := p.files(d, path)
	spoil(p.t, shared, hash[:])
	was := c.Databases.Audit
	c.Databases.Audit = config.Pace{Loop: config.Loop{Enabled: true, Interval: conf.Duration(10 * time.Millisecond)}}
	p.start(n)
	c.Databases.Audit = was
	aside := filepath.Join(c.Server.Root, d.Name, "quarantined", "containers", hash.String()+".*")
	p.until("it is in quarantine", func() bool { list, _ := filepath.Glob(aside); return len(list) == 2 })
}

// spoil changes a byte of the value that a shared file has behind a key, wherever that is. What else is
// behind the key is left alone: damage of pages is another thing, and another test's.
func spoil(t testing.TB, file string, key []byte) {
	t.Helper()
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var entry []byte
	if err := db.View(func(tx *bolt.Tx) error {
		entry = append(bytes.Clone(key), tx.Bucket([]byte("values")).Get(key)...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(entry) == len(key) || !bytes.Contains(b, entry) {
		t.Fatalf("%s has no value behind %x", file, key)
	}
	bad := bytes.Clone(entry)
	bad[(len(key)+len(bad))/2] ^= 1
	if err := os.WriteFile(file, bytes.ReplaceAll(b, entry, bad), 0o600); err != nil {
		t.Fatal(err)
	}
}
