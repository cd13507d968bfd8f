package cluster

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/direct"
	"martlet/internal/memnet"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/object/engine/blob"
	"martlet/replicator"
	"martlet/ring"
)

// probe is a cluster in this process whose nodes are stopped and started one by
// one, and replicate when they are told to.
type probe struct {
	t          testing.TB
	whole      testing.TB // the test whose end ends the processes
	folder     *Folder
	configs    []*config.Storage   // of node n+1
	nodes      []*node.Storage     // nil where stopped
	ends       []func()            // ends the node
	objects    *ring.Ring          //
	hasher     name.Hasher         //
	client     *http.Client        //
	direct     *direct.Client      //
	url, token string              // of the account
	source     *timestamp.Source   //
	patience   time.Duration       // of the proxy; 0 is the usual
	proxy      func(*config.Proxy) // changes its configuration; nil is as it is

	listen func(server, address string) (net.Listener, error) // nil is the usual

	// memory is where the processes find each other, as those of martlet dev do. Where a test listens otherwise, it wants to see
	// what goes over sockets, and all does, unless beside says that it does not.
	memory *memnet.Network
	beside bool
}

// startProbe starts four nodes of two devices, with three replicas.
func startProbe(t testing.TB, change ...func(*Options)) *probe {
	t.Helper()
	return startPatientProbe(t, 0, change...)
}

// withKey has the nodes know each other by a key.
func withKey(o *Options) { o.ClusterKey = true }

// startPatientProbe is startProbe where nobody goes on without a server that takes its
// time, up to patience; 0 is what is usual.
func startPatientProbe(t testing.TB, patience time.Duration, change ...func(*Options)) *probe {
	t.Helper()
	o := Defaults()
	o.Network, o.PartPower = freeNetwork(t), 5
	o.Listen, o.suffix = o.Network+".0.1:0", t.Name()
	for _, c := range change {
		c(&o)
	}
	f, err := Make(t.TempDir(), o, flags())
	if err != nil {
		t.Fatal(err)
	}
	p := probeOf(t, f, patience)
	p.want("PUT", p.url+"/c", nil, "", 201)
	return p
}

// probeOf is startPatientProbe of a cluster that is there.
func probeOf(t testing.TB, f *Folder, patience time.Duration) *probe {
	t.Helper()
	o := f.Options
	p := &probe{
		memory:   memnet.New(),
		patience: patience, t: t, whole: t, folder: f, nodes: make([]*node.Storage, o.Nodes), ends: make([]func(), o.Nodes), source: timestamp.NewSource(nil),
		client: &http.Client{Transport: &http.Transport{}, Timeout: 2 * time.Minute},
		direct: direct.New(direct.Config{ConnectTimeout: time.Minute, NodeTimeout: time.Minute}), // the machine may be busy
	}
	for n := 1; n <= o.Nodes; n++ {
		c, err := config.LoadStorage(f.StorageFile(n))
		if err != nil {
			t.Fatal(err)
		}
		c.Replicator.Enabled = false // a pass is made when a test says so
		c.Server.DrainTimeout = conf.Duration(time.Second)
		c.Admin.Listen = ""
		if patience > 0 {
			c.Object.ContainerUpdateTimeout = conf.Duration(patience)
		}
		p.configs = append(p.configs, c)
		p.start(n)
	}
	var err error
	if p.hasher, err = name.NewHasher(p.configs[0].Cluster.HashPathPrefix, p.configs[0].Cluster.HashPathSuffix); err != nil {
		t.Fatal(err)
	}
	if p.objects, err = ring.Load(filepath.Join(p.configs[0].Rings.Folder, "object.ring.gz")); err != nil {
		t.Fatal(err)
	}
	p.startProxy()
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		p.direct.Close()
	})
	p.token = p.want("GET", strings.TrimSuffix(p.url, "/v1/AUTH_test")+"/auth/v1.0", nil, "", 200).Header.Get("X-Auth-Token")
	return p
}

// options are such that nodes which use memory that is not theirs any more end the test, but for benchmarks, and under the race detector.
func (p *probe) options() node.Options {
	o := node.Options{Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Version: "test", Listen: p.listen}
	if p.listen == nil || p.beside {
		o.Memory = p.memory
	}
	if _, bench := p.whole.(*testing.B); guarded && !bench {
		o.Buffers = blob.NewGuarded(objectMemory / 4)
	}
	return o
}

// in is the same probe, in a subtest.
func (p *probe) in(t *testing.T) *probe {
	sub := *p
	sub.t = t
	return &sub
}

// background runs a process until the function that it returns is called.
func (p *probe) background(what string, run func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(p.whole.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	done := false
	end := func() {
		if done {
			return
		}
		done = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				p.whole.Errorf("%s ended with %v", what, err)
			}
		case <-time.After(20 * time.Second):
			p.whole.Errorf("%s did not end", what)
		}
	}
	p.whole.Cleanup(end)
	return end
}

func (p *probe) startProxy() {
	p.t.Helper()
	c, err := config.LoadProxy(p.folder.ProxyFile())
	if err != nil {
		p.t.Fatal(err)
	}
	c.Admin.Listen = ""
	if p.patience > 0 {
		c.Server.PostQuorumTimeout = conf.Duration(p.patience)
	}
	if p.proxy != nil {
		p.proxy(c)
	}
	proxy, err := node.OpenProxy(c, p.options())
	if err != nil {
		p.t.Fatal(err)
	}
	p.url = "http://" + proxy.Address() + "/v1/AUTH_test"
	p.background("the proxy", proxy.Run)
}

// start starts node n, counted from 1.
func (p *probe) start(n int) {
	p.t.Helper()
	s, err := node.OpenStorage(p.configs[n-1], p.options())
	if err != nil {
		p.t.Fatal(err)
	}
	p.nodes[n-1] = s
	p.ends[n-1] = p.background(nodeName(n), s.Run)
}

func (p *probe) stop(n int) {
	p.t.Helper()
	p.ends[n-1]()
	p.nodes[n-1] = nil
}

// pass has each running node make one pass, one after the other, and returns the
// reports. Where whole, everything must be confirmed.
func (p *probe) pass(whole bool) []replicator.Report {
	p.t.Helper()
	var all []replicator.Report
	for i, s := range p.nodes {
		if s == nil {
			continue
		}
		r, err := s.Replicate(p.t.Context(), "")
		if err != nil {
			p.t.Fatal(err)
		}
		if whole && !r.Whole() {
			p.t.Errorf("%s could not confirm everything: %+v", nodeName(i+1), r)
		}
		all = append(all, r)
	}
	return all
}

// still checks that another pass finds nothing to do for objects.
func (p *probe) still() {
	p.t.Helper()
	for _, r := range p.pass(true) {
		for _, d := range r.Devices {
			for _, k := range d.Kinds {
				if k.Kind == "object" && (k.Pushed != 0 || k.Dropped != 0 || k.Handoffs != 0) {
					p.t.Errorf("another pass on %s did something: %s", d.Device, k.String())
				}
			}
		}
	}
}

// want sends a client's request and checks the status.
func (p *probe) want(method, url string, header map[string]string, body string, want int) *http.Response {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if p.token == "" {
		r.Header.Set("X-Auth-User", "test:tester")
		r.Header.Set("X-Auth-Key", "testing")
	} else {
		r.Header.Set("X-Auth-Token", p.token)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != want {
		p.t.Fatalf("%s %s: %s, %v, want %d\n%s", method, url, resp.Status, err, want, text)
	}
	return resp
}

// object sends a client's request about an object in the container c.
func (p *probe) object(method, object string, header map[string]string, body string, want int) {
	p.t.Helper()
	p.want(method, p.url+"/c/"+object, header, body, want)
}

func path(object string) name.Path {
	return name.Path{Account: "AUTH_test", Container: "c", Object: object}
}

// places returns the primaries of an object as "storageN/dM", in the ring's order,
// and then its handoffs.
func (p *probe) places(object string) (primaries, handoffs []string) {
	part := p.objects.Partition(p.hasher.Hash(path(object)))
	for _, d := range p.objects.AppendPrimaries(nil, part) {
		primaries = append(primaries, placeOf(d))
	}
	for d := range p.objects.Handoffs(part) {
		handoffs = append(handoffs, placeOf(d))
	}
	return primaries, handoffs
}

func placeOf(d *ring.Device) string {
	return nodeName(nodeOf(d.IP)) + "/" + d.Name
}

func nodeOf(ip string) (n int) {
	_, _ = fmt.Sscan(ip[strings.LastIndexByte(ip, '.')+1:], &n)
	return n
}

// nodeAt is the number of a place's node.
func nodeAt(place string) (n int) {
	_, _ = fmt.Sscanf(place, "storage%d/", &n)
	return n
}

// copies returns what each device has of an object, looked up in its folder: a node has
// it in use, so what is seen is what a crash at this moment would leave.
func (p *probe) copies(object string) map[string]engine.State {
	p.t.Helper()
	all := map[string]engine.State{}
	at := engine.Location{Hash: p.hasher.Hash(path(object))}
	for i, c := range p.configs {
		for _, d := range c.Server.Devices {
			s, err := look(p.t.Context(), filepath.Join(c.Server.Root, d), at)
			if err != nil {
				p.t.Fatal(err)
			}
			if s.Kind != engine.Absent || !s.Newest().IsZero() {
				all[nodeName(i+1)+"/"+d] = s
			}
		}
	}
	return all
}

// look returns what is stored on a device that somebody else may have in use, who may
// remove files while they are being opened.
func look(ctx context.Context, root string, at engine.Location) (s engine.State, err error) {
	for range 5 {
		cfg := engine.Defaults()
		cfg.FS = vfs.ReadOnly(vfs.OS)
		e := engine.New(root, cfg)
		if s, err = e.Stat(ctx, at); err == nil {
			break
		}
	}
	return s, err
}

// exactly checks that an object's copies are at these places and no others, and
// that each is as it should be.
func (p *probe) exactly(object string, places []string, right func(engine.State) bool) {
	p.t.Helper()
	copies := p.copies(object)
	for _, place := range places {
		if s, ok := copies[place]; !ok || !right(s) {
			p.t.Errorf("%s: %s has %+v, want the right copy", object, place, s)
		}
		delete(copies, place)
	}
	for place, s := range copies {
		p.t.Errorf("%s: %s has a copy that should not be there: %+v", object, place, s)
	}
}

func holds(body string) func(engine.State) bool {
	return func(s engine.State) bool {
		return s.Kind == engine.Live && s.MD5 == md5.Sum([]byte(body)) && s.Length == int64(len(body))
	}
}

// greater is the body whose checksum wins where two have one time.
func greater(a, b string) string {
	x, y := md5.Sum([]byte(a)), md5.Sum([]byte(b))
	if bytes.Compare(x[:], y[:]) > 0 {
		return a
	}
	return b
}

func deleted(s engine.State) bool { return s.Kind == engine.Deleted }

// at sends a request to the object server of one place, as a proxy or another
// replica does, and checks the status.
func (p *probe) at(place, method, object string, ts timestamp.T, header backend.Header, body string, want int) {
	p.t.Helper()
	part := p.objects.Partition(p.hasher.Hash(path(object)))
	_, dev, _ := strings.Cut(place, "/")
	c := p.configs[nodeAt(place)-1]
	r := &backend.Request{
		Method: method, Path: backend.Target{Device: dev, Partition: uint32(part), Path: path(object)}.Quoted(),
		Header: append(backend.Header{{Name: backend.Timestamp, Value: ts.String()}}, header...), Length: int64(len(body)),
	}
	if method == "PUT" {
		r.Body = strings.NewReader(body)
		r.Header.Add(backend.ContentType, "text/plain")
		r.Header.Add(backend.CommitETag, fmt.Sprintf("%x", md5.Sum([]byte(body))))
		r.Header.Add(backend.CommitCRC, crc(body))
	}
	resp, err := p.direct.Do(p.t.Context(), fmt.Sprintf("%s:%d", c.Server.Address, c.Object.Port), r)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.Body != nil {
		resp.Body.Close()
	}
	if resp.Status != want {
		p.t.Fatalf("%s %s at %s: %d, want %d", method, object, place, resp.Status, want)
	}
}

// empty removes what a device holds of objects, as if it were a new one.
func (p *probe) empty(place string) {
	p.t.Helper()
	n := nodeAt(place)
	_, dev, _ := strings.Cut(place, "/")
	p.stop(n)
	for _, what := range []string{"log", "index", "blobs"} {
		if err := os.RemoveAll(filepath.Join(p.configs[n-1].Server.Root, dev, what)); err != nil {
			p.t.Fatal(err)
		}
	}
	p.start(n)
}
