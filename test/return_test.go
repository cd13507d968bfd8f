package test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"martlet/internal/name"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/ring"
)

// held returns what the cluster's devices hold of a kind ("objects", "accounts",
// "containers"): for each hash the devices, as "storageN/dM".
func (c *cluster) held(t *testing.T, kind string) map[name.Hash][]string {
	t.Helper()
	all := map[name.Hash][]string{}
	if kind == "objects" {
		var devices []string
		for n := 1; n <= c.nodes; n++ {
			of, err := filepath.Glob(fmt.Sprintf("%s/storage%d/d*", c.dir, n))
			if err != nil {
				t.Fatal(err)
			}
			devices = append(devices, of...)
		}
		for _, folder := range devices {
			device := filepath.Base(filepath.Dir(folder)) + "/" + filepath.Base(folder)
			for _, h := range objectsOn(t, folder) {
				all[h] = append(all[h], device)
			}
		}
		return all
	}
	file := regexp.MustCompile(`/(storage\d+/d\d+)/` + kind + `/.*?([0-9a-f]{32})\.db$`)
	for _, path := range c.files(t) {
		m := file.FindStringSubmatch(filepath.ToSlash(path))
		if m == nil {
			continue
		}
		h, err := name.ParseHash(m[2])
		if err != nil {
			t.Fatal(err)
		}
		all[h] = append(all[h], m[1])
	}
	for n := 1; n <= c.nodes; n++ {
		shared, err := filepath.Glob(fmt.Sprintf("%s/storage%d/d*/%s/*.small", c.dir, n, kind))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range shared {
			folder := filepath.Dir(filepath.Dir(path))
			device := filepath.Base(filepath.Dir(folder)) + "/" + filepath.Base(folder)
			for _, h := range smallOnes(t, path) {
				all[h] = append(all[h], device)
			}
		}
	}
	return all
}

// smallOnes returns the databases in a file that small ones share. A process has it in use: what
// is read is a copy, which may have been made while it was written.
func smallOnes(t *testing.T, path string) (list []name.Hash) {
	t.Helper()
	var err error
	for range 20 {
		if list, err = readSmall(t, path); err == nil {
			return list
		}
	}
	t.Fatal(err)
	return nil
}

func readSmall(t *testing.T, path string) (list []name.Hash, err error) {
	defer func() {
		if why := recover(); why != nil {
			err = fmt.Errorf("%s: %v", path, why)
		}
	}()
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	own := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(own, content, 0o600); err != nil {
		return nil, err
	}
	db, err := bolt.Open(own, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("values"))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, _ []byte) error {
			list = append(list, name.Hash(k))
			return nil
		})
	})
	return list, err
}

// objectsOn returns the names that a device holds. A process has it in use, and may remove
// files while they are being opened.
func objectsOn(t *testing.T, folder string) (list []name.Hash) {
	t.Helper()
	last := name.Hash{}
	for i := range last {
		last[i] = 0xff
	}
	var err error
	for range 5 {
		cfg := engine.Defaults()
		cfg.FS = vfs.ReadOnly(vfs.OS)
		e := engine.New(folder, cfg)
		list, err = nil, nil
		var entry engine.Entry
		for entry, err = range e.Walk(t.Context(), 0, name.Hash{}, last) {
			if err != nil {
				break
			}
			list = append(list, entry.Hash)
		}
		_ = e.Close() // it has nothing to write
		if err == nil {
			return list
		}
	}
	t.Fatal(err)
	return nil
}

// displaced compares what devices hold with what the ring says, node by node, and
// returns what is wrong.
func (c *cluster) displaced(t *testing.T, kind, ringFile string) error {
	t.Helper()
	r, err := ring.Load(filepath.Join(c.dir, "etc", "rings", ringFile))
	if err != nil {
		t.Fatal(err)
	}
	held := c.held(t, kind)
	wrong := []string{}
	for h, at := range held {
		var want []string
		for _, d := range r.AppendPrimaries(nil, r.Partition(h)) {
			want = append(want, "storage"+d.IP[strings.LastIndex(d.IP, ".")+1:]+"/"+d.Name)
		}
		slices.Sort(want)
		got := slices.Sorted(slices.Values(at))
		if !slices.Equal(got, want) {
			wrong = append(wrong, fmt.Sprintf("%s is on %v, not %v", h, got, want))
		}
	}
	if len(held) == 0 {
		return fmt.Errorf("no %s at all", kind)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d of %d %s: %s", len(wrong), len(held), kind, strings.Join(wrong[:min(3, len(wrong))], "; "))
	}
	return nil
}

// onlyPassesOnDemand keeps the nodes from replicating by themselves.
func (c *cluster) onlyPassesOnDemand(t *testing.T) {
	t.Helper()
	every := regexp.MustCompile(`(?s)(\[replicator\].*?interval = )"[^"]*"`)
	for n := 1; n <= c.nodes; n++ {
		path := c.file(fmt.Sprintf("storage%d.toml", n))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !every.Match(text) {
			t.Fatalf("%s says nothing of the replicator's interval", path)
		}
		if err := os.WriteFile(path, every.ReplaceAll(text, []byte(`${1}"100h"`)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// replicate runs one full pass on every node.
func (c *cluster) replicate(t *testing.T) {
	t.Helper()
	for n := 1; n <= c.nodes; n++ {
		began := time.Now()
		p := start(t, "replicate", "--once", "--json", "--config", c.file(fmt.Sprintf("storage%d.toml", n)))
		if code := p.wait(t, 3*time.Minute); code != 0 {
			t.Fatalf("replicate on node %d: exit status %d\n%s%s", n, code, p.out.String(), p.err.String())
		}
		t.Logf("node %d: one pass in %v", n, time.Since(began).Round(time.Millisecond))
	}
}

// While a tree goes in and comes out, a storage node is killed: no client command
// fails. It comes back, and after one pass of each node everything is where the
// ring says, and nowhere else.
func TestANodeReturnsAndNothingIsMissing(t *testing.T) {
	tree := sourceTree(t, "net", "go", "os")
	want := sums(t, tree)
	c := newCluster(t)
	c.onlyPassesOnDemand(t)
	c.start(t)
	swift := fmt.Sprintf("swift -A %s/auth/v1.0 -U test:tester -K testing ", c.url())
	rclone := fmt.Sprintf("rclone --swift-auth %s/auth/v1.0 --swift-user test:tester --swift-key testing ", c.url())
	tok := token(t, c.url())

	var clients sync.WaitGroup
	upload := func(script string) { clients.Go(func() { shell(t, tree, script, 4*time.Minute) }) }
	upload(swift + "upload --quiet bySwift .")
	upload(rclone + "copy --transfers 8 --checkers 8 --retries 1 --low-level-retries 1 . :swift:byRclone")
	poll(t, time.Minute, "the uploads are under way", func() error {
		r := request(t, http.MethodGet, c.url()+"/v1/AUTH_test/byRclone", nil)
		r.Header.Set("X-Auth-Token", tok)
		if a := do(t, r); strings.Count(string(a.body), "\n") < 100 {
			return fmt.Errorf("%s, %d objects", a.Status, strings.Count(string(a.body), "\n"))
		}
		return nil
	})
	c.storage[1].signal(t, os.Kill)
	c.storage[1].wait(t, 10*time.Second)
	clients.Wait()
	if t.Failed() {
		return
	}
	download := func(when string) {
		for client, script := range map[string]string{
			"swift":  swift + "download --quiet bySwift --output-dir ",
			"rclone": rclone + "copy --transfers 8 --retries 1 --low-level-retries 1 :swift:byRclone ",
		} {
			to := filepath.Join(t.TempDir(), "back")
			shell(t, tree, script+to, 3*time.Minute)
			same(t, client+" "+when, sums(t, to), want)
		}
	}
	download("with a node gone")
	// What is deleted while a node is away stays deleted.
	shell(t, tree, rclone+"delete :swift:byRclone --include 'os/*'", time.Minute)

	c.storage[1] = start(t, "storage", "--config", c.file("storage2.toml"))
	c.await(t, c.storage[1], fmt.Sprintf("http://%s.1.2:6209/healthcheck", c.network))
	c.replicate(t)
	for kind, file := range map[string]string{"objects": "object.ring.gz", "containers": "container.ring.gz", "accounts": "account.ring.gz"} {
		if err := c.displaced(t, kind, file); err != nil {
			t.Error(err)
		}
	}
	for name := range want {
		if strings.HasPrefix(name, "os/") && strings.Count(name, "/") == 1 {
			delete(want, name)
		}
	}
	// Every replica by itself: only the node that was away is asked for what it has.
	poll(t, 30*time.Second, "every replica of the listing is right", func() error {
		for range 9 {
			a := as(t, tok, http.MethodGet, c.url()+"/v1/AUTH_test/byRclone", nil, http.StatusOK)
			if n := strings.Count(string(a.body), "\n"); n != len(want) {
				return fmt.Errorf("%d objects listed, want %d", n, len(want))
			}
		}
		return nil
	})
	to := filepath.Join(t.TempDir(), "back")
	shell(t, tree, rclone+"copy --transfers 8 :swift:byRclone "+to, 3*time.Minute)
	same(t, "rclone after the return", sums(t, to), want)
}
