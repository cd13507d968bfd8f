package node

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/direct"
	"martlet/internal/hosts"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object"
	"martlet/object/engine"
	"martlet/replicator"
	"martlet/replicator/objects"
	"martlet/replicator/steps"
	"martlet/ring"
)

// small is a node with one device, with nothing but what replicates objects.
type small struct {
	address string
	store   *engine.Engine
	root    string
	server  *object.Server
	repl    *replicator.Replicator
	steps   *steps.Books
	handler atomic.Pointer[http.Handler] // what its address serves; a test may put another in its place
	now     time.Time                    // not changed while it serves
	ahead   atomic.Int64                 // by how much its clock is ahead of that
	ring    atomic.Pointer[ring.Ring]    // the one that it has in use, where that is not the fleet's
}

// fleet is nodes whose ring has three replicas on the first three of them, so that
// all the others are handoffs for everything.
type fleet struct {
	t      testing.TB
	nodes  []*small
	ring   *ring.Ring
	data   ring.Data // that the ring was made of
	hasher name.Hasher
	client *direct.Client
	names  *hosts.Names // nil where the ring has none

	engines engine.Config  // of the nodes, but for the file system
	objects objects.Config // of the nodes
}

const power = 4

func newFleet(t testing.TB, nodes, replicas int, fs func() vfs.FS, change ...func(*fleet)) *fleet {
	t.Helper()
	f := &fleet{t: t, client: direct.New(direct.Config{ConnectTimeout: 5 * time.Second}), engines: engine.Defaults(), objects: objects.Defaults()}
	f.engines.Reserve, f.engines.SegmentSize, f.engines.Depth = 0, 4<<20, 12
	f.data.PartPower = power
	for _, c := range change {
		c(f)
	}
	t.Cleanup(f.client.Close)
	var err error
	if f.hasher, err = name.NewHasher("", "salt"); err != nil {
		t.Fatal(err)
	}
	listeners := make([]net.Listener, nodes)
	data := ring.Data{PartPower: f.data.PartPower}
	for i := range listeners {
		if listeners[i], err = httpapi.Listen("127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(listeners[i].Addr().String())
		n, _ := strconv.Atoi(port)
		data.Devices = append(data.Devices, &ring.Device{ID: i, Region: 1, Zone: i, IP: host, Port: n, Name: "d", Weight: 1})
	}
	f.data = data
	primaries := make([]uint32, replicas)
	for i := range primaries {
		primaries[i] = uint32(i)
	}
	f.ring = f.ringOf(primaries...)
	for _, l := range listeners {
		n := f.open(fs(), l.Addr().String(), l.Addr().String())
		f.nodes = append(f.nodes, n)
		f.listen(n, l)
	}
	return f
}

// ringOf makes a ring of the fleet's nodes in which some are the primaries of
// every partition.
func (f *fleet) ringOf(primaries ...uint32) *ring.Ring {
	f.t.Helper()
	data := f.data
	for _, i := range primaries {
		data.Rows = append(data.Rows, slices.Repeat([]uint32{i}, 1<<data.PartPower))
	}
	r, err := ring.New(data)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// open makes a node at an address, which takes itself for the one at another.
func (f *fleet) open(fs vfs.FS, address, self string) *small {
	f.t.Helper()
	n := &small{address: address, now: time.Now()}
	top := "/mem"
	if _, memory := fs.(*vfs.Mem); !memory {
		top = f.t.TempDir()
	}
	n.root = filepath.Join(top, "d")
	for _, dir := range []string{top, n.root} {
		if err := fs.Mkdir(dir); err != nil && !os.IsExist(err) {
			f.t.Fatal(err)
		}
	}
	devices, err := device.NewSet(fs, top, []string{"d"})
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := f.engines
	cfg.FS = fs
	stores := object.OpenStores(devices, cfg, nil)
	n.store = stores["d"].Engine
	if n.server, err = object.New(object.Defaults(), object.Deps{Devices: devices, Hasher: f.hasher, Stores: stores, Sender: f.client, Now: n.clock}); err != nil {
		f.t.Fatal(err)
	}
	id := replicator.NewNodeID()
	n.steps = steps.NewBooks(f.terms(), fs, devices)
	kind, err := objects.New(f.objects, objects.Deps{
		Stores: map[string]objects.Store{"d": objectStore{n.store}}, Self: hosts.At(netip.MustParseAddrPort(self), f.names), NodeID: id, Hasher: f.hasher, Merge: n.server, Peers: f.client, Now: n.clock,
		Ring: func(i policy.Index) *ring.Ring {
			if i != 0 {
				return nil
			}
			if own := n.ring.Load(); own != nil {
				return own
			}
			return f.ring
		},
		Steps: n.steps.Of,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if n.repl, err = replicator.New(replicator.Deps{Devices: devices, Kinds: []replicator.Kind{kind}, NodeID: id}); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { n.repl.Close() })
	quiet := slog.New(slog.DiscardHandler)
	n.serve(httpapi.Observe(httpapi.Backend(n.repl, quiet), httpapi.Observed{Server: "replication", Silence: 5 * time.Second, Log: quiet}))
	return n
}

func (f *fleet) listen(n *small, l net.Listener) {
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.serving().ServeHTTP(w, r) })}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	f.t.Cleanup(func() {
		s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			f.t.Error(err)
		}
	})
}

func (f *fleet) terms() steps.Terms { return steps.Terms{ReclaimAge: f.objects.ReclaimAge} }

func (n *small) clock() time.Time { return n.now.Add(time.Duration(n.ahead.Load())) }

func (n *small) serve(h http.Handler)  { n.handler.Store(&h) }
func (n *small) serving() http.Handler { return *n.handler.Load() }

func onDisk() vfs.FS   { return vfs.OS }
func inMemory() vfs.FS { return vfs.NewMem() }

func thing(object string) name.Path {
	return name.Path{Account: "a", Container: "c", Object: object}
}

func (f *fleet) at(object string) engine.Location {
	return engine.Location{Hash: f.hasher.Hash(thing(object))}
}

// write has a node's object server take a write, as a push if merge.
func (f *fleet) write(n *small, method, object string, ts timestamp.T, header backend.Header, body string, merge bool) {
	f.t.Helper()
	r := &backend.Request{
		Method: method, Path: backend.Target{Device: "d", Path: thing(object)}.Quoted(), Length: int64(len(body)),
		Header: append(backend.Header{{Name: backend.Timestamp, Value: ts.String()}}, header...),
	}
	if method == "PUT" {
		r.Header = append(r.Header, commit(body)...)
		r.Body = strings.NewReader(body)
	}
	if merge {
		r.Header.Add(replwire.ReplicationHeader, "true")
	}
	resp, err := n.server.Serve(f.t.Context(), r)
	if err != nil || resp.Status >= 500 {
		f.t.Fatalf("%s %s: %+v, %v", method, object, resp, err)
	}
}

func commit(body string) backend.Header {
	sum := md5.Sum([]byte(body))
	return backend.Header{
		{Name: backend.ContentType, Value: "text/plain"},
		{Name: backend.CommitETag, Value: hex.EncodeToString(sum[:])},
		{Name: backend.CommitCRC, Value: fmt.Sprintf("%08x", crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)))},
	}
}

func (f *fleet) state(n *small, object string) engine.State {
	f.t.Helper()
	s, err := n.store.Stat(f.t.Context(), f.at(object))
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// pass makes a pass on each of some nodes and returns what they counted together.
func (f *fleet) pass(nodes ...*small) replicator.Counts {
	f.t.Helper()
	var sum replicator.Counts
	for _, n := range nodes {
		r, err := n.repl.Pass(f.t.Context(), replicator.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		c := r.Devices[0].Kinds[0]
		sum.Pushed += c.Pushed
		sum.Bytes += c.Bytes
		sum.Dropped += c.Dropped
		sum.Failed += c.Failed
		sum.Compared += c.Compared
		sum.Failures = append(sum.Failures, c.Failures...)
	}
	return sum
}

// push sends a push to a node over the network.
func (f *fleet) push(n *small, method, object string, header backend.Header, body string) (int, string) {
	f.t.Helper()
	part := f.ring.Partition(f.at(object).Hash)
	r := &backend.Request{
		Method: method, Path: backend.Target{Device: "d", Partition: uint32(part), Path: thing(object)}.Quoted(), Length: int64(len(body)),
		Header: backend.Header{
			{Name: replwire.KindHeader, Value: "object"}, {Name: replwire.PartPowerHeader, Value: strconv.Itoa(power)},
			{Name: replwire.ReplicationHeader, Value: "true"}, {Name: backend.PolicyIndex, Value: "0"},
		},
	}
	for _, h := range header {
		switch h.Name {
		case "path":
			r.Path = h.Value
		case "query":
			r.Query = h.Value
		default:
			r.Header.Set(h.Name, h.Value)
		}
	}
	if body != "" {
		r.Body = strings.NewReader(body)
	}
	resp, err := f.client.Do(f.t.Context(), n.address, r)
	if err != nil {
		f.t.Fatal(err)
	}
	if resp.Body == nil {
		return resp.Status, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.Status, string(text)
}

// truncated sends half of a push, and the end of the connection.
func (f *fleet) truncated(n *small, stamp string) {
	f.t.Helper()
	c, err := net.Dial("tcp", n.address)
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	part := f.ring.Partition(f.at("o").Hash)
	var text strings.Builder
	fmt.Fprintf(&text, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nX-Timestamp: %s\r\n%s: object\r\n%s: %d\r\n%s: true\r\n%s: 0\r\nContent-Type: a/b\r\n",
		backend.Target{Device: "d", Partition: uint32(part), Path: thing("o")}.Quoted(), stamp, replwire.KindHeader, replwire.PartPowerHeader, power,
		replwire.ReplicationHeader, backend.PolicyIndex)
	for _, h := range commit("body") {
		fmt.Fprintf(&text, "%s: %s\r\n", h.Name, h.Value)
	}
	if _, err := io.WriteString(c, text.String()+"\r\nbody"); err != nil {
		f.t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		f.t.Fatal(err)
	}
}
