package proxy

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/direct"
	"martlet/internal/ec"
	"martlet/internal/ec/ectest"
	"martlet/internal/ecread"
	"martlet/internal/md5lanes"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
	"martlet/ring"
)

const codedPolicy policy.Index = 1

// codedNodes is scripted storage nodes under a policy of erasure coding, and what they keep, by the rules
// of internal/ec/DESIGN.md.
type codedNodes struct {
	t       testing.TB
	policy  policy.Policy
	fleet   *nodetest.Fleet
	cluster *quorum.Cluster
	codings codings
	nodes   int

	// instead, where it answers, answers a request in the place of a device. What it keeps of that
	// first it keeps by calling keep. Guarded by mu.
	instead func(device string, r *backend.Request, keep func() *backend.Response) *backend.Response

	mu        sync.Mutex
	fragments map[string]map[fragmentKey][]byte // by device; guarded by mu
	objects   map[string]map[string]codedObject // by device and name, the newest; guarded by mu
	seen      []string                          // requests as "method index", in any order; guarded by mu
	announced int                               // how many bodies were announced; guarded by mu
}

type fragmentKey struct {
	path  string
	time  string
	index int
}

// codedObject is what a replica has of an object.
type codedObject struct {
	time   timestamp.T
	header backend.Header
	data   []byte
}

// newCodedNodes makes twice as many nodes as there are fragments. The primaries of /a/c/o are
// the first.
func newCodedNodes(t testing.TB, data, parity int) *codedNodes {
	t.Helper()
	n := data + parity
	path := name.Path{Account: "a", Container: "c", Object: "o"}
	p := policy.Policy{Index: codedPolicy, Name: "coded", Data: data, Parity: parity, WholeUpTo: 8 << 10, Default: true}
	c := &codedNodes{t: t, policy: p, fleet: nodetest.Of(t, path, 2*n, n), nodes: 2 * n, fragments: map[string]map[fragmentKey][]byte{}, objects: map[string]map[string]codedObject{}}
	set, err := policy.NewSet([]policy.Policy{p})
	if err != nil {
		t.Fatal(err)
	}
	if c.codings, err = newCodings(set); err != nil {
		t.Fatal(err)
	}
	client := direct.New(direct.Config{NodeTimeout: 20 * time.Second})
	t.Cleanup(client.Close)
	c.cluster = quorum.New(quorum.Config{PostQuorum: 20 * time.Second}, quorum.Rings{
		Account: c.fleet.Ring, Container: c.fleet.Ring,
		Objects: map[policy.Index]*ring.Source{codedPolicy: c.fleet.Ring.First(p.Replicas()), codedPolicy.Fragments(): c.fleet.Ring},
		Needs:   map[policy.Index]int{codedPolicy: p.Quorum(), codedPolicy.Fragments(): p.FragmentQuorum()},
	}, c.fleet.Hasher, client)
	t.Cleanup(c.cluster.Wait)
	for i := range c.nodes {
		c.fleet.Script(fmt.Sprint("d", i), c.serve)
	}
	return c
}

// server is a proxy in front of them.
func (c *codedNodes) server() *Server {
	cfg := Defaults()
	cfg.PostQuorumTimeout = conf.Duration(20 * time.Second) // nobody is late, only the machine may be busy
	return &Server{
		cfg: cfg, cluster: c.cluster, codings: c.codings, coded: ecread.New(c.cluster, c.codings.codes()), log: slog.New(slog.DiscardHandler), stamps: timestamp.NewSource(nil), hashes: md5lanes.NewGroup(hashBehind),
		infos: newInfoCache(time.Minute, func(context.Context, name.Path) (facts, error) {
			return facts{exists: true, policy: codedPolicy, at: time.Now()}, nil
		}),
	}
}

// put sends a PUT of /a/c/o. A length of -1 is a body in chunks.
func (c *codedNodes) put(ctx context.Context, s *Server, header http.Header, content io.Reader, length int64) *chain.Response {
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "a/b")
	rq := &chain.Request{Method: http.MethodPut, Header: header, Path: name.Path{Account: "a", Container: "c", Object: "o"}, Body: io.NopCloser(content), Length: length}
	rq.Grant = func(string, name.Path) bool { return true }
	resp := s.Serve(ctx, rq)
	resp.Close()
	return resp
}

func (c *codedNodes) serve(_ context.Context, r *backend.Request) (*backend.Response, error) {
	to, err := backend.ParseTarget(r.Path)
	if err != nil {
		return nil, err
	}
	p, err := policy.ParseIndex(r.Header.Get(backend.PolicyIndex))
	if err != nil {
		return nil, err
	}
	of := "object"
	if p.IsFragments() {
		of = r.Header.Get(backend.FragmentIndex)
	}
	c.mu.Lock()
	c.seen = append(c.seen, r.Method+" "+of)
	instead := c.instead
	c.mu.Unlock()
	var broken error
	keep := func() *backend.Response {
		var resp *backend.Response
		resp, broken = c.keep(to, p, r)
		return resp
	}
	if instead != nil {
		if resp := instead(to.Device, r, keep); resp != nil {
			return resp, nil
		}
	}
	if broken != nil {
		return nil, broken
	}
	resp := keep()
	return resp, broken
}

// keep does what an object server does with a write.
func (c *codedNodes) keep(to backend.Target, p policy.Index, r *backend.Request) (*backend.Response, error) {
	var data []byte
	if r.Body != nil {
		var err error
		if data, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	said := r.Header.Get(backend.Announced)
	if said != "" && said != strconv.Itoa(len(data)) {
		c.t.Errorf("%s was told of %s bytes, and %d came", to.Device, said, len(data))
	}
	if r.Method == http.MethodPut {
		crc := r.Header.Get(backend.CommitCRC) + r.Trailer.Get(backend.CommitCRC)
		if want := fmt.Sprintf("%08x", crc32.Checksum(data, castagnoli)); crc != want {
			return nodetest.Status(422, ""), nil
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if said != "" {
		c.announced++
	}
	if p.IsFragments() {
		return c.fragment(to, r, data)
	}
	return c.object(to, r, data)
}

func headerOf(archive []byte) (ec.Header, bool) {
	h, err := ec.ParseHeader(archive)
	return h, err == nil
}

func (c *codedNodes) fragment(to backend.Target, r *backend.Request, data []byte) (*backend.Response, error) {
	index, err := strconv.Atoi(r.Header.Get(backend.FragmentIndex))
	if err != nil {
		return nil, err
	}
	has := c.fragments[to.Device]
	if has == nil {
		has = map[fragmentKey][]byte{}
		c.fragments[to.Device] = has
	}
	switch r.Method {
	case http.MethodPut:
		k := fragmentKey{to.Path.Object, r.Header.Get(backend.Timestamp), index}
		if h, ok := headerOf(data); !ok || h.Index != index {
			return nodetest.Status(422, ""), nil
		}
		if old, ok := has[k]; ok && !bytes.Equal(old, data) {
			return nodetest.Status(409, r.Header.Get(backend.Timestamp)), nil
		}
		has[k] = data
		return nodetest.Status(201, r.Header.Get(backend.Timestamp)), nil
	case http.MethodDelete:
		k := fragmentKey{to.Path.Object, r.Header.Get(backend.FragmentTime), index}
		if h, ok := headerOf(has[k]); !ok || fmt.Sprintf("%x", h.Write.ID) != r.Header.Get(backend.FragmentWrite) {
			return nodetest.Status(404, ""), nil
		}
		delete(has, k)
		return nodetest.Status(204, ""), nil
	}
	return nil, fmt.Errorf("no %s of fragments", r.Method)
}

func (c *codedNodes) object(to backend.Target, r *backend.Request, data []byte) (*backend.Response, error) {
	has := c.objects[to.Device]
	if has == nil {
		has = map[string]codedObject{}
		c.objects[to.Device] = has
	}
	at, err := timestamp.Parse(r.Header.Get(backend.Timestamp))
	if err != nil && r.Method != http.MethodHead {
		return nil, err
	}
	object := to.Path.Object
	old, there := has[object]
	stamped := func(code int, t timestamp.T) *backend.Response {
		resp := nodetest.Status(code, t.String())
		resp.Header.Add(backend.DataStamp, t.String())
		return resp
	}
	version := r.Header.Has(backend.NewVersion)
	switch {
	case r.Method == http.MethodHead && !there:
		return nodetest.Status(404, ""), nil
	case r.Method == http.MethodHead:
		return stamped(200, old.time), nil
	case there && !old.time.Before(at):
		return stamped(409, old.time), nil
	}
	o := codedObject{at, append(backend.Header(nil), r.Header...), data}
	has[object] = o
	resp := stamped(201, at)
	if version {
		has[to.Path.Version(at).Object] = o
		resp.Header.Add(backend.VersionID, at.Normal())
	}
	return resp, nil
}

// archives returns the fragments of a name as of a time, by index, of one write; how many there are
// of others is an error.
func (c *codedNodes) archives(object string, at timestamp.T, write [16]byte) map[int][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[int][]byte{}
	for _, has := range c.fragments {
		for k, data := range has {
			if h, err := ec.ParseHeader(data); err == nil && k.path == object && k.time == at.String() && h.Write.ID == write {
				all[k.index] = data
			}
		}
	}
	return all
}

// script has somebody answer in the place of devices from now on.
func (c *codedNodes) script(instead func(device string, r *backend.Request, keep func() *backend.Response) *backend.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instead = instead
}

// reset has the nodes forget all.
func (c *codedNodes) reset() *codedNodes {
	c.cluster.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.instead, c.seen, c.announced = nil, nil, 0
	clear(c.fragments)
	clear(c.objects)
	return c
}

// replicas returns what each device has of an object, once all is over.
func (c *codedNodes) replicas(object string) map[string]codedObject {
	c.cluster.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]codedObject{}
	for d, has := range c.objects {
		if o, ok := has[object]; ok {
			all[d] = o
		}
	}
	return all
}

// kept is how many fragments there are, and how many replicas of the object.
func (c *codedNodes) kept() (fragments, objects int) {
	c.cluster.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, has := range c.fragments {
		fragments += len(has)
	}
	for _, has := range c.objects {
		objects += len(has)
	}
	return fragments, objects
}

// decode returns the bytes that archives are of.
func (c *codedNodes) decode(of backend.Coded, archives map[int][]byte) ([]byte, error) {
	return ectest.Decode(c.codings[codedPolicy].code, of, archives)
}

// requests counts those that begin so.
func (c *codedNodes) requests(prefix string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, s := range c.seen {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}
