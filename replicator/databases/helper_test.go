package databases_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"martlet/account"
	"martlet/container"
	"martlet/internal/backend"
	"martlet/internal/dbserver"
	"martlet/internal/device"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/httpapi"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/replicator"
	"martlet/replicator/databases"
	"martlet/replicator/steps"
	"martlet/ring"
)

const partPower = 3

var quiet = slog.New(slog.DiscardHandler)

// node is a node of one device, with its servers and its replication listener.
type node struct {
	t          testing.TB
	device     string
	addr       string
	root       string
	set        *device.Set
	accounts   *account.Server
	containers *container.Server
	repl       *replicator.Replicator
	steps      *steps.Books
	down       atomic.Bool
	pushes     atomic.Int64                                // requests that were pushes, sent by this node
	before     func(addr string, r *backend.Request) error // called with what this node is about to send
	after      func(r *backend.Request)                    // called when that was answered
	horizon    atomic.Int64                                // in seconds; what was deleted before it may be forgotten
	ring       atomic.Pointer[ring.Ring]                   // that it has in use, where it is not the fleet's
}

// fleet is nodes of which the first so many are the primaries of every partition.
type fleet struct {
	nodes  []*node
	hasher name.Hasher
	ring   *ring.Ring
	data   ring.Data // that the ring was made of
	byAddr map[string]*node
	later  atomic.Int64 // by how much the clock of passes is ahead
}

func (f *fleet) now() time.Time { return time.Now().Add(time.Duration(f.later.Load())) }

func (f *fleet) hash(p string) name.Hash {
	path, err := name.Parse(p)
	if err != nil {
		panic(err)
	}
	return f.hasher.Hash(path)
}

// sender is what a node sends with: it does not reach nodes that are down.
func (n *node) sender(f *fleet, client *direct.Client) sender {
	return func(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
		if n.before != nil {
			if err := n.before(addr, r); err != nil {
				return nil, err
			}
		}
		if f.byAddr[addr].down.Load() {
			return nil, errs.E(errs.Unavailable, "connection refused")
		}
		if r.Method == "PUT" {
			n.pushes.Add(1)
		}
		resp, err := client.Do(ctx, addr, r)
		if n.after != nil {
			n.after(r)
		}
		return resp, err
	}
}

type sender func(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error)

func (s sender) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	return s(ctx, addr, r)
}

// nobody is what containers tell accounts through.
type nobody struct{}

func (nobody) Do(context.Context, string, *backend.Request) (*backend.Response, error) {
	return &backend.Response{Status: 201}, nil
}

// start makes a fleet.
func start(t testing.TB, nodes, primaries int) *fleet {
	t.Helper()
	hasher, err := name.NewHasher("p", "s")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{hasher: hasher, byAddr: map[string]*node{}}
	data := ring.Data{PartPower: partPower}
	listeners := make([]net.Listener, nodes)
	for i := range nodes {
		if listeners[i], err = httpapi.Listen("127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		n := &node{t: t, device: fmt.Sprintf("sd%c", 'a'+i), addr: listeners[i].Addr().String(), root: t.TempDir()}
		f.nodes = append(f.nodes, n)
		f.byAddr[n.addr] = n
		data.Devices = append(data.Devices, &ring.Device{
			ID: i, Zone: i, IP: "127.0.0.1", Port: 1, ReplicationPort: listeners[i].Addr().(*net.TCPAddr).Port, Name: n.device, Weight: 1,
		})
	}
	f.data = data
	all := make([]uint32, primaries)
	for i := range all {
		all[i] = uint32(i)
	}
	f.ring = f.ringOf(t, all...)
	for i, n := range f.nodes {
		f.open(n, listeners[i])
	}
	return f
}

// ringOf makes a ring of the fleet's nodes in which some are the primaries of
// every partition.
func (f *fleet) ringOf(t testing.TB, primaries ...uint32) *ring.Ring {
	t.Helper()
	data := f.data
	for _, i := range primaries {
		data.Rows = append(data.Rows, slices.Repeat([]uint32{i}, 1<<partPower))
	}
	r, err := ring.New(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fleet) open(n *node, l net.Listener) {
	t := n.t
	if err := os.Mkdir(filepath.Join(n.root, n.device), 0o750); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.set, err = device.NewSet(vfs.OS, n.root, []string{n.device}); err != nil {
		t.Fatal(err)
	}
	policies, err := policy.NewSet([]policy.Policy{{Name: "gold", Default: true}, {Index: 3, Name: "tin"}})
	if err != nil {
		t.Fatal(err)
	}
	deps := dbserver.Deps{
		Devices: n.set, Hasher: f.hasher, Policies: policies, Log: quiet,
		Horizon: func() timestamp.T { return timestamp.FromTime(time.Unix(n.horizon.Load(), 0)) },
	}
	if n.accounts, err = account.New(account.Config{}, deps); err != nil {
		t.Fatal(err)
	}
	if n.containers, err = container.New(container.Config{}, container.Deps{Deps: deps, Accounts: nobody{}}); err != nil {
		t.Fatal(err)
	}
	client := direct.New(direct.Config{ConnectTimeout: 5 * time.Second, NodeTimeout: 30 * time.Second})
	id := replicator.NewNodeID()
	n.steps = steps.NewBooks(steps.Terms{ReclaimAge: 7 * 24 * time.Hour}, vfs.OS, n.set)
	common := databases.Deps{
		Ring: func() *ring.Ring {
			if own := n.ring.Load(); own != nil {
				return own
			}
			return f.ring
		},
		Self: hosts.At(netip.MustParseAddrPort(n.addr), nil), NodeID: id, Hasher: f.hasher, Peers: n.sender(f, client),
		Now: f.now, Steps: n.steps.Of,
	}
	common.Store = n.accounts.Store().Replicas()
	accounts, err := databases.Accounts(databases.Defaults(), common)
	if err != nil {
		t.Fatal(err)
	}
	common.Store = n.containers.Store().Replicas()
	containers, err := databases.Containers(databases.Defaults(), common)
	if err != nil {
		t.Fatal(err)
	}
	n.repl, err = replicator.New(replicator.Deps{Devices: n.set, Kinds: []replicator.Kind{accounts, containers}, NodeID: id})
	if err != nil {
		t.Fatal(err)
	}
	server := httpapi.Server{Name: n.device, Listener: l, Log: quiet, Handler: httpapi.Observe(httpapi.Backend(n.repl, quiet), httpapi.Observed{Log: quiet})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		client.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := n.repl.Close(); err != nil {
			t.Error(err)
		}
		_ = n.accounts.Close()
		_ = n.containers.Close()
	})
}

// pass makes a pass of a node and returns what it did with both kinds.
func (n *node) pass() replicator.Counts {
	n.t.Helper()
	r, err := n.repl.Pass(context.Background(), replicator.Options{})
	if err != nil {
		n.t.Fatal(err)
	}
	var sum replicator.Counts
	for _, k := range r.Devices[0].Kinds {
		sum.Pushed += k.Pushed
		sum.Dropped += k.Dropped
		sum.Failed += k.Failed
		sum.Compared += k.Compared
		sum.Handoffs += k.Handoffs
		sum.Bytes += k.Bytes
		sum.Failures = append(sum.Failures, k.Failures...)
	}
	return sum
}

// whole makes a pass in which nothing may fail.
func (n *node) whole() replicator.Counts {
	n.t.Helper()
	c := n.pass()
	if c.Failed > 0 {
		n.t.Errorf("pass of %s: %+v", n.device, c)
	}
	return c
}

// round makes a pass of each node.
func (f *fleet) round() {
	for _, n := range f.nodes {
		n.t.Helper()
		n.whole()
	}
}

// ask sends "METHOD /a[/c[/o]]" to a server of the node, at a time in seconds.
func (n *node) ask(line string, seconds int, headers ...string) (int, backend.Header, string) {
	n.t.Helper()
	method, path, _ := strings.Cut(line, " ")
	r := &backend.Request{Method: method, Path: "/" + n.device + "/0" + path, Header: backend.Header{
		{Name: backend.Timestamp, Value: fmt.Sprintf("%010d.00000", seconds)},
	}}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Set(k, v)
	}
	var to backend.Handler = n.containers
	if strings.Count(path, "/") == 1 || r.Header.Has(backend.PutStamp) {
		to = n.accounts
	}
	resp, err := to.Serve(context.Background(), r)
	if err != nil {
		return httpapi.Status(err), nil, errs.PublicOf(err)
	}
	text := ""
	if resp.Body != nil {
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			n.t.Fatal(err)
		}
		text = string(b)
	}
	return resp.Status, resp.Header, text
}

// do asks for something that must succeed.
func (n *node) do(line string, seconds int, headers ...string) {
	n.t.Helper()
	if status, _, text := n.ask(line, seconds, headers...); status/100 != 2 {
		n.t.Fatalf("%s at %s: %d %s", line, n.device, status, text)
	}
}

// put puts the row of an object.
func (n *node) put(path string, seconds, size int) {
	n.t.Helper()
	n.do("PUT "+path, seconds, "X-Size: "+strconv.Itoa(size), "X-Content-Type: text/plain", "X-Etag: d41d8cd98f00b204e9800998ecf8427e")
}

func (n *node) store(path string) *metadb.Store {
	if strings.Count(path, "/") == 1 {
		return n.accounts.Store()
	}
	return n.containers.Store()
}

// state returns what a node has of a database; the zero Database for none.
func (f *fleet) state(n *node, path string) replwire.Database {
	d, err := n.store(path).Replicas().State(context.Background(), n.device, f.hash(path))
	if err != nil && !errs.Is(err, errs.NotFound) {
		n.t.Fatal(err)
	}
	return d
}

func (f *fleet) at(n *node, path string) metadb.Location {
	dev, err := n.set.Lookup(n.device)
	if err != nil {
		n.t.Fatal(err)
	}
	return metadb.Location{Device: dev, Hash: f.hash(path)}
}

// agree checks that all of the nodes have one and the same of a database, and that
// it is sound.
func (f *fleet) agree(path string, nodes ...*node) {
	n := nodes[0]
	n.t.Helper()
	first := f.state(n, path)
	for _, n := range nodes {
		d := f.state(n, path)
		if d.Change == 0 && d.Incarnation == [16]byte{} {
			n.t.Errorf("%s has no %s", n.device, path)
		} else if err := n.store(path).Check(context.Background(), f.at(n, path)); err != nil {
			n.t.Error(err)
		}
		if d.Digest != first.Digest {
			n.t.Errorf("%s: %s and %s differ", path, nodes[0].device, n.device)
		}
	}
}

// file is where a database of a node lies.
func (f *fleet) file(n *node, path string) string {
	folder := "containers"
	if strings.Count(path, "/") == 1 {
		folder = "accounts"
	}
	hex := f.hash(path).String()
	return filepath.Join(n.root, n.device, folder, hex[:2], hex[2:4], hex+".db")
}
