package node

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/ec"
	"martlet/internal/errs"
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
	"martlet/replicator/fragments"
	"martlet/replicator/objects"
	"martlet/replicator/steps"
	"martlet/ring"
)

// cell is a node with one device that keeps fragments and what goes with them.
type cell struct {
	number int
	disk   vfs.FS
	top    string // the folder that has the device's
	store  *engine.Engine
	server *object.Server
	repl   *replicator.Replicator
	kind   *fragments.Fragments
	lost   chan fragments.Lost
	steps  *steps.Books
	down   atomic.Bool
	ring   atomic.Pointer[cellRings] // the ones it has in use, where those are not the cells'
}

// cellRings are that of the fragments, and what of it is that of the commits.
type cellRings struct{ fragments, commits *ring.Ring }

// cells are nodes that keep the fragments of one policy, 1. They speak with each other
// by calls.
type cells struct {
	t       testing.TB
	nodes   []*cell
	policy  policy.Policy
	set     policy.Set
	code    *ec.Code
	hasher  name.Hasher
	rings   atomic.Pointer[cellRings]
	data    ring.Data
	source  *timestamp.Source
	ahead   atomic.Int64 // of all clocks
	age     time.Duration
	peers   replicator.Sender // how the nodes reach each other
	segment int64             // of their logs, in bytes
	depth   int               // of the buckets of the nodes' sums
	width   int               // how many fragments of a pass are under way
	root    func() string     // the folder of a disk that is to be a real one; nil for disks in memory

	mu    sync.Mutex
	fault func(to *cell, r *backend.Request) error                                                   // guarded by mu; before a request is answered
	says  func(to *cell, r *backend.Request, asked []byte, resp *backend.Response) *backend.Response // guarded by mu; what is answered in the place of an answer
	count map[string]int                                                                             // guarded by mu; requests, by method
}

func (f *cells) clock() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }

// newCells makes nodes, the first of which are the primaries of every partition.
func newCells(t testing.TB, shape ec.Shape, nodes int, change ...func(*cells)) *cells {
	t.Helper()
	f := &cells{width: 2, depth: 8, segment: 4 << 20, t: t, policy: policy.Policy{Index: 1, Name: "ec", Data: shape.Data, Parity: shape.Parity}, age: 7 * 24 * time.Hour, count: map[string]int{}}
	var err error
	if f.set, err = policy.NewSet([]policy.Policy{{Index: 0, Name: "plain", Default: true}, f.policy}); err != nil {
		t.Fatal(err)
	}
	f.peers = calls{f}
	if f.code, err = ec.New(ec.Layout{Shape: shape, Segment: 1 << 10}); err != nil {
		t.Fatal(err)
	}
	if f.hasher, err = name.NewHasher("", "salt"); err != nil {
		t.Fatal(err)
	}
	f.source = timestamp.NewSource(f.clock)
	f.data.PartPower = 2
	var primaries []int
	for i := range nodes {
		f.data.Devices = append(f.data.Devices, &ring.Device{ID: i, Region: 1, Zone: i, IP: "10.0.0." + strconv.Itoa(i+1), Port: 6203, Name: "d", Weight: 1})
		if i < shape.Fragments() {
			primaries = append(primaries, i)
		}
	}
	for _, c := range change {
		c(f)
	}
	f.rings.Store(f.ringsOf(primaries...))
	for i := range nodes {
		n := &cell{number: i, disk: f.blank(), top: "/mem"}
		if f.root != nil {
			n.top = f.root()
		}
		f.nodes = append(f.nodes, n)
		f.open(n)
	}
	return f
}

// ringsOf makes the rings by which some nodes are the primaries of all partitions.
func (f *cells) ringsOf(primaries ...int) *cellRings {
	f.t.Helper()
	data := f.data
	data.Rows = nil
	for _, i := range primaries {
		data.Rows = append(data.Rows, slices.Repeat([]uint32{uint32(i)}, 1<<data.PartPower))
	}
	r, err := ring.New(data)
	if err != nil {
		f.t.Fatal(err)
	}
	return &cellRings{r, r.First(f.policy.Replicas())}
}

func (f *cells) addr(n *cell) string { return f.data.Devices[n.number].ReplicationAddr() }

// blank returns an empty disk.
func (f *cells) blank() vfs.FS {
	f.t.Helper()
	if f.root != nil {
		return vfs.OS
	}
	disk := vfs.NewMem()
	err := errors.Join(disk.Mkdir("/mem"), disk.SyncDir("/"), disk.Mkdir("/mem/d"), disk.SyncDir("/mem"))
	if err != nil {
		f.t.Fatal(err)
	}
	return disk
}

// open starts a node on its disk.
func (f *cells) open(n *cell) {
	f.t.Helper()
	devices, err := device.NewSet(n.disk, n.top, []string{"d"})
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := engine.Defaults()
	cfg.FS, cfg.Reserve, cfg.SegmentSize, cfg.Depth = n.disk, 0, f.segment, f.depth
	n.lost = make(chan fragments.Lost, 100)
	lost := n.lost
	stores := object.OpenStores(devices, cfg, func(device string, at engine.Location) {
		if at.Policy.IsFragments() {
			lost <- fragments.Lost{Device: device, Policy: at.Policy, Hash: at.Hash}
		}
	})
	n.store = stores["d"].Engine
	if n.server, err = object.New(object.Defaults(), object.Deps{Devices: devices, Hasher: f.hasher, Stores: stores, Sender: nobodyThere{}, Now: f.clock}); err != nil {
		f.t.Fatal(err)
	}
	id := replicator.NewNodeID()
	paces := replicator.NewPaces([]string{"d"}, replicator.Limits{Concurrency: f.width, Incoming: 8}, nil)
	n.steps = steps.NewBooks(steps.Terms{ReclaimAge: f.age}, n.disk, devices)
	self := hosts.At(netip.MustParseAddrPort(f.addr(n)), nil)
	rings := func(i policy.Index) *ring.Ring {
		all := n.ring.Load()
		if all == nil {
			all = f.rings.Load()
		}
		switch i {
		case f.policy.Index:
			return all.commits
		case f.policy.Index.Fragments():
			return all.fragments
		}
		return nil
	}
	copies, err := objects.New(objects.Config{Concurrency: 2, ReclaimAge: f.age, Few: 64}, objects.Deps{
		Stores: map[string]objects.Store{"d": objectStore{n.store}}, Self: self, NodeID: id, Hasher: f.hasher, Merge: n.server, Peers: f.peers, Pace: paces, Now: f.clock, Ring: rings, Steps: n.steps.Of,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	n.kind, err = fragments.New(fragments.Config{Concurrency: f.width, ReclaimAge: f.age}, fragments.Deps{
		Stores: map[string]fragments.Store{"d": fragmentStore{objectStore{n.store}}}, Devices: devices, Policies: f.set, Ring: rings, Self: self, NodeID: id, Hasher: f.hasher, Server: n.server,
		Peers: f.peers, Pace: paces, Now: f.clock, Lost: n.lost,
		May: func(device string, p policy.Index, r *ring.Ring, at ring.Partition) error {
			book, err := n.steps.Of(device)
			if err != nil {
				return err
			}
			return book.May(objects.SetOf(p), r.PartPower(), uint32(at), f.clock())
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if n.repl, err = replicator.New(replicator.Deps{Devices: devices, Kinds: []replicator.Kind{copies, n.kind}, NodeID: id, Paces: paces}); err != nil {
		f.t.Fatal(err)
	}
	repl := n.repl
	f.t.Cleanup(func() { repl.Close() })
}

// nobodyThere is who listings are told of by.
type nobodyThere struct{}

func (nobodyThere) Do(context.Context, string, *backend.Request) (*backend.Response, error) {
	return nil, errs.E(errs.Unavailable)
}

// calls is how the nodes reach each other.
type calls struct{ *cells }

// Do implements replicator.Sender.
func (c calls) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	for _, n := range c.nodes {
		if c.addr(n) != addr {
			continue
		}
		c.mu.Lock()
		fault, says := c.fault, c.says
		c.count[r.Method]++
		c.mu.Unlock()
		if n.down.Load() {
			return nil, errs.E(errs.Unavailable, "the node is down")
		}
		by := n
		if fault != nil {
			err := fault(n, r)
			var other *elsewhere
			if errors.As(err, &other) {
				by = other.by
			} else if err != nil {
				return nil, err
			}
		}
		there := *r
		there.Remote = "10.0.0.99:1"
		there.Header = slices.Clone(r.Header)
		if there.Body == nil {
			there.Body = strings.NewReader("")
		}
		if says == nil {
			return httpapi.Part(ctx, by.repl, &there, slog.New(slog.DiscardHandler)), nil
		}
		asked, err := io.ReadAll(there.Body)
		if err != nil {
			return nil, err
		}
		there.Body = bytes.NewReader(asked)
		return says(n, r, asked, httpapi.Part(ctx, by.repl, &there, slog.New(slog.DiscardHandler))), nil
	}
	return nil, errs.E(errs.Unavailable, "there is no such node")
}

func (f *cells) requests(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[method]
}

func (f *cells) failing(fault func(to *cell, r *backend.Request) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// saying has answers be replaced.
func (f *cells) saying(says func(to *cell, r *backend.Request, asked []byte, resp *backend.Response) *backend.Response) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.says = says
}

// whole is an object as it was written: its archives, and what its commit says.
type wholeObject struct {
	path     name.Path
	body     []byte
	at       timestamp.T
	coded    backend.Coded
	archives [][]byte
}

// encode makes an object of a write of its own.
func (f *cells) encode(object string, at timestamp.T, body []byte, sized bool) *wholeObject {
	f.t.Helper()
	sum := md5.Sum(body)
	w := ec.Write{ID: ec.NewWriteID(), Size: int64(len(body))}
	if !sized {
		w.Size = ec.UnknownSize
	}
	o := &wholeObject{
		path: thing(object), body: body, at: at, archives: make([][]byte, f.code.Fragments()),
		coded: backend.Coded{
			Data: f.code.Data, Parity: f.code.Parity, Segment: f.code.Segment, Write: w.ID, Size: int64(len(body)), Sized: sized, ETag: hex.EncodeToString(sum[:]),
		},
	}
	e, err := f.code.Encode(w, func(next [][]byte) error {
		for i := range next {
			o.archives[i] = append(o.archives[i], next[i]...)
		}
		return nil
	})
	if err == nil {
		_, err = e.Write(body)
	}
	if err == nil {
		err = e.Close()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return o
}

// serve has a node's object server do something.
func (n *cell) serve(f *cells, r *backend.Request, index policy.Index, path name.Path) *backend.Response {
	f.t.Helper()
	r.Path = backend.Target{Device: "d", Path: path}.Quoted()
	r.Header.Add(backend.PolicyIndex, index.String())
	resp, err := n.server.Serve(f.t.Context(), r)
	if err != nil {
		f.t.Fatalf("%s %s: %v", r.Method, path, err)
	}
	return resp
}

// put has a node keep a fragment of an object.
func (f *cells) put(o *wholeObject, index int, at ...int) {
	f.t.Helper()
	for _, i := range at {
		b := o.archives[index]
		resp := f.nodes[i].serve(f, &backend.Request{
			Method: "PUT", Length: int64(len(b)), Body: bytes.NewReader(b), Header: backend.Header{
				{Name: backend.Timestamp, Value: o.at.String()}, {Name: backend.FragmentIndex, Value: strconv.Itoa(index)},
				{Name: backend.CommitCRC, Value: fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))},
			},
		}, f.policy.Index.Fragments(), o.path)
		if resp.Status != 201 {
			f.t.Fatalf("fragment %d of %s: %d", index, o.path, resp.Status)
		}
	}
}

// putAll has fragment i on node i, but for some.
func (f *cells) putAll(o *wholeObject, but ...int) {
	f.t.Helper()
	for i := range o.archives {
		if !slices.Contains(but, i) {
			f.put(o, i, i)
		}
	}
}

// commit has nodes keep the commit of an object; of none are given all that are to have it.
func (f *cells) commit(o *wholeObject, at ...int) {
	f.t.Helper()
	if len(at) == 0 {
		for i := range f.policy.Replicas() {
			at = append(at, i)
		}
	}
	for _, i := range at {
		h := append(backend.Header{{Name: backend.Timestamp, Value: o.at.String()}, {Name: backend.CodedWrite, Value: o.coded.String()}}, commit("")...)
		if resp := f.nodes[i].serve(f, &backend.Request{Method: "PUT", Header: h, Body: strings.NewReader("")}, f.policy.Index, o.path); resp.Status != 201 {
			f.t.Fatalf("commit of %s: %d", o.path, resp.Status)
		}
	}
}

// delete has nodes keep a tombstone of an object.
func (f *cells) delete(object string, at timestamp.T, nodes ...int) {
	f.t.Helper()
	for _, i := range nodes {
		h := backend.Header{{Name: backend.Timestamp, Value: at.String()}, {Name: replwire.ReplicationHeader, Value: "true"}}
		if resp := f.nodes[i].serve(f, &backend.Request{Method: "DELETE", Header: h}, f.policy.Index, thing(object)); resp.Status >= 500 {
			f.t.Fatalf("delete of %s: %d", object, resp.Status)
		}
	}
}

// object makes an object that is everywhere where it should be.
func (f *cells) object(object string, size int) *wholeObject {
	f.t.Helper()
	o := f.encode(object, f.source.Next(), bytes.Repeat([]byte(object+"|"), size)[:size], true)
	f.putAll(o)
	f.commit(o)
	return o
}

// held is the archive of a fragment that a node has; nil for none.
func (f *cells) held(o *wholeObject, index, at int) []byte {
	f.t.Helper()
	loc := engine.Location{Policy: f.policy.Index.Fragments(), Hash: f.hasher.Hash(o.path).Fragment(o.at, index)}
	r, err := f.nodes[at].store.Open(f.t.Context(), loc)
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Corrupt) {
		return nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(&checked{r: r, left: r.State().Length})
	if err != nil {
		f.t.Fatal(err)
	}
	h, _, err := ec.Verify(bytes.NewReader(b))
	if err != nil {
		f.t.Fatalf("node %d has a bad archive of fragment %d of %s: %v", at, index, o.path, err)
	}
	if h.Write.ID != o.coded.Write {
		return nil
	}
	return b
}

// where lists what there is of an object: "node:index" with blanks between.
func (f *cells) where(o *wholeObject) string {
	f.t.Helper()
	var all []string
	for i := range f.nodes {
		for index := range o.archives {
			if b := f.held(o, index, i); b != nil {
				all = append(all, fmt.Sprintf("%d:%d", i, index))
				if !bytes.Equal(b, o.archives[index]) {
					f.t.Errorf("node %d has another archive of fragment %d of %s", i, index, o.path)
				}
			}
		}
	}
	return strings.Join(all, " ")
}

// home is where of an object that is in place.
func (f *cells) home() string {
	var all []string
	r := f.rings.Load().fragments
	at := make([]int, 0, f.policy.Fragments())
	for _, d := range r.AppendPrimaries(nil, 0) {
		at = append(at, d.ID)
	}
	for i := range f.nodes {
		if index := slices.Index(at, i); index >= 0 {
			all = append(all, fmt.Sprintf("%d:%d", i, index))
		}
	}
	return strings.Join(all, " ")
}

// inPlace fails the test if an object is not where it should be.
func (f *cells) inPlace(what string, all ...*wholeObject) {
	f.t.Helper()
	for _, o := range all {
		if got, want := f.where(o), f.home(); got != want {
			f.t.Errorf("%s: of %s there is %q, want %q", what, o.path.Object, got, want)
		}
	}
}

// total is how many fragments a node has.
func (f *cells) total(at int) (n int) {
	f.t.Helper()
	first, last := replicator.Whole()
	for _, err := range f.nodes[at].store.Walk(f.t.Context(), f.policy.Index.Fragments(), first, last) {
		if err != nil {
			f.t.Fatal(err)
		}
		n++
	}
	return n
}

// pass makes a pass on each of some nodes, of all if none are given, and returns what they
// counted of fragments together.
func (f *cells) pass(at ...int) (sum replicator.Counts) {
	f.t.Helper()
	if len(at) == 0 {
		for i := range f.nodes {
			at = append(at, i)
		}
	}
	for _, i := range at {
		if f.nodes[i].down.Load() {
			continue
		}
		r, err := f.nodes[i].repl.Pass(f.t.Context(), replicator.Options{})
		if err != nil {
			f.t.Fatal(err)
		}
		if why := r.Devices[0].Error; why != "" {
			f.t.Fatal(errors.New(why))
		}
		c := r.Devices[0].Kinds[1]
		sum.Pushed += c.Pushed
		sum.Dropped += c.Dropped
		sum.Rebuilt += c.Rebuilt
		sum.Failed += c.Failed
		sum.Failures = append(sum.Failures, c.Failures...)
	}
	return sum
}

// clean is pass, which must not fail.
func (f *cells) clean(at ...int) replicator.Counts {
	f.t.Helper()
	sum := f.pass(at...)
	if sum.Failed > 0 {
		f.t.Errorf("not confirmed: %+v", sum.Failures)
	}
	return sum
}

// wipe empties the disk of a node.
func (f *cells) wipe(i int) {
	f.t.Helper()
	n := f.nodes[i]
	n.disk = f.blank()
	f.open(n)
}
