package cluster

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/internal/backend"
	"martlet/internal/clusterkey"
	"martlet/internal/conf"
	"martlet/internal/direct"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// watched is a node whose log and metrics a test reads.
type watched struct {
	mu  sync.Mutex
	log strings.Builder
	reg *prometheus.Registry
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *watched) count(text string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.log.String(), text)
}

// refused returns how many requests were refused because of the key, by why.
func (w *watched) refused(t *testing.T) map[string]float64 {
	t.Helper()
	all, err := w.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			if n := m.GetCounter().GetValue(); f.GetName() == "martlet_replication_without_key_total" && n > 0 {
				got[m.GetLabel()[0].GetValue()] = n
			}
		}
	}
	return got
}

// watch starts node n again, with its log and metrics in sight.
func (p *probe) watch(n int) *watched {
	p.t.Helper()
	w := &watched{reg: prometheus.NewRegistry()}
	if p.nodes[n-1] != nil {
		p.stop(n)
	}
	s, err := node.OpenStorage(p.configs[n-1], node.Options{Log: slog.New(slog.NewTextHandler(w, nil)), Registry: w.reg, Version: "test"})
	if err != nil {
		p.t.Fatal(err)
	}
	p.nodes[n-1] = s
	p.ends[n-1] = p.background(nodeName(n), s.Run)
	return w
}

// from returns a client whose connections leave from node n's address for replication, as
// whoever takes its place would.
func (p *probe) from(n int) *direct.Client {
	c := direct.New(direct.Config{Dial: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(p.configs[n-1].Replication.Address)}}).DialContext})
	p.t.Cleanup(c.Close)
	return c
}

// replicationAt is where node n listens to its peers.
func (p *probe) replicationAt(n int) string {
	return fmt.Sprintf("%s:%d", p.configs[n-1].Replication.Address, p.configs[n-1].Replication.Port)
}

// aPush is a push of something new under the name of an object, which would replace it.
func (p *probe) aPush(method, place, object, body string) *backend.Request {
	_, device, _ := strings.Cut(place, "/")
	part := p.objects.Partition(p.hasher.Hash(path(object)))
	r := &backend.Request{
		Method: method, Path: backend.Target{Device: device, Partition: uint32(part), Path: path(object)}.Quoted(), Length: int64(len(body)),
		Header: backend.Header{
			{Name: replwire.KindHeader, Value: "object"}, {Name: replwire.PartPowerHeader, Value: fmt.Sprint(p.objects.PartPower())},
			{Name: replwire.ReplicationHeader, Value: "true"}, {Name: backend.PolicyIndex, Value: "0"},
			{Name: backend.Timestamp, Value: p.source.Next().String()},
		},
	}
	if method == "PUT" {
		r.Body = strings.NewReader(body)
		r.Header.Add(backend.ContentType, "text/plain")
		r.Header.Add(backend.CommitETag, fmt.Sprintf("%x", md5.Sum([]byte(body))))
		r.Header.Add(backend.CommitCRC, crc(body))
	}
	return r
}

// A cluster that is made with a key has it in each process, for nobody else to read, and one that is made without has none.
func TestMakeWithKey(t *testing.T) {
	dir := t.TempDir()
	o := Defaults()
	o.Network = "127.77"
	for _, with := range []bool{false, true} {
		o.ClusterKey = with
		at := filepath.Join(dir, fmt.Sprint(with))
		f, err := Make(at, o, flags())
		if err != nil {
			t.Fatal(err)
		}
		p, err := config.LoadProxy(f.ProxyFile())
		if err != nil || (p.Cluster.KeyFile != "") != with {
			t.Errorf("with a key %v: the proxy has %q, %v", with, p.Cluster.KeyFile, err)
		}
		for n := 1; n <= o.Nodes; n++ {
			s, err := config.LoadStorage(f.StorageFile(n))
			if err != nil || (s.Cluster.KeyFile != "") != with {
				t.Fatalf("with a key %v: node %d has %q, %v", with, n, s.Cluster.KeyFile, err)
			}
			if info, err := os.Stat(s.Cluster.KeyFile); with && (err != nil || info.Mode().Perm() != 0o600) {
				t.Errorf("the key of node %d: %v, %v", n, info, err)
			}
		}
		other := o
		other.ClusterKey = !with
		if _, err := Make(at, other, flags("cluster-key")); !errors.Is(err, ErrOptions) {
			t.Errorf("made with a key %v, asked for the contrary: %v", with, err)
		}
	}
}

// With a key only who has it is served, from whatever address, and once; who has not is
// refused, logged and counted, and changes nothing.
func TestClusterKey(t *testing.T) {
	p := startProbe(t, withKey)
	const object = "o"
	p.object("PUT", object, nil, "body", 201)
	p.pass(true)
	primaries, _ := p.places(object)
	at, other := nodeAt(primaries[0]), nodeAt(primaries[1])
	w := p.watch(at)
	file := filepath.Join(filepath.Dir(p.folder.ProxyFile()), keyFile)
	keys, err := clusterkey.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(stranger, clusterkey.NewFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong, err := clusterkey.Open(stranger)
	if err != nil {
		t.Fatal(err)
	}
	client := p.from(other)
	// signed sends what a peer would, and again as it was on the wire.
	signed := func(keys *clusterkey.Source, change func(*backend.Request), times int) *clusterkey.Sender {
		return &clusterkey.Sender{Keys: keys, Next: sending(func(ctx context.Context, addr string, r *backend.Request) (resp *backend.Response, err error) {
			body := []byte(nil)
			if r.Body != nil {
				body, _ = io.ReadAll(r.Body)
			}
			for range times {
				if resp != nil && resp.Body != nil {
					resp.Body.Close()
				}
				again := *r
				again.Header = slices.Clone(r.Header)
				if again.Body = nil; body != nil {
					again.Body = strings.NewReader(string(body))
				}
				if change != nil {
					change(&again)
				}
				if resp, err = client.Do(ctx, addr, &again); err != nil {
					return nil, err
				}
			}
			return resp, nil
		})}
	}
	for what, tt := range map[string]struct {
		sender replicator.Sender
		why    string
	}{
		"without a key":   {client, "unsigned"},
		"another key":     {signed(wrong, nil, 1), "key"},
		"another time":    {signed(keys, func(r *backend.Request) { r.Header.Set(backend.Timestamp, p.source.Next().String()) }, 1), "signature"},
		"another body":    {signed(keys, func(r *backend.Request) { r.Body = strings.NewReader(strings.Repeat("x", int(r.Length))) }, 1), "body"},
		"of another node": {toAnother{signed(keys, func(*backend.Request) {}, 1), p.replicationAt(other), p.replicationAt(at)}, "address"},
	} {
		for _, method := range []string{"PUT", "DELETE", "POST"} {
			body := ""
			if method == "PUT" {
				body = "somebody else's"
			} else if tt.why == "body" {
				continue
			}
			before := w.refused(t)[tt.why]
			resp, err := tt.sender.Do(t.Context(), p.replicationAt(at), p.aPush(method, primaries[0], object, body))
			if err == nil && resp.Status != 403 {
				t.Errorf("%s: %s is answered with %d", what, method, resp.Status)
			}
			if err == nil && resp.Body != nil {
				resp.Body.Close()
			}
			if got := w.refused(t)[tt.why]; got != before+1 {
				t.Errorf("%s: %s: refused for %q were %v, before %v", what, method, tt.why, w.refused(t), before)
			}
			if s := p.copies(object)[primaries[0]]; !holds("body")(s) || len(s.Meta) != 0 {
				t.Errorf("%s: after %s there is %+v", what, method, s)
			}
		}
	}
	if n := w.count("peer=" + p.configs[other-1].Replication.Address); n < 5 { // of each reason the first at once
		t.Errorf("the log tells of it %d times", n)
	}
	// Who has the key is served, once.
	resp, err := signed(keys, nil, 1).Do(t.Context(), p.replicationAt(at), p.aPush("PUT", primaries[0], object, "a peer's"))
	if err != nil || resp.Status != 201 {
		t.Fatalf("a peer's: %+v, %v", resp, err)
	}
	if _, err := signed(keys, nil, 2).Do(t.Context(), p.replicationAt(at), p.aPush("POST", primaries[0], object, "")); err == nil || w.refused(t)["replay"] != 1 {
		t.Errorf("what came twice: %v, refused %v", err, w.refused(t))
	}
	if s := p.copies(object)[primaries[0]]; !holds("a peer's")(s) {
		t.Errorf("after a peer's push there is %+v", s)
	}
	p.pass(true)
	p.exactly(object, primaries, holds("a peer's"))
}

// toAnother sends what was signed for one address to another.
type toAnother struct {
	*clusterkey.Sender
	signedFor, sentTo string
}

func (a toAnother) Do(ctx context.Context, _ string, r *backend.Request) (*backend.Response, error) {
	next := a.Next
	elsewhere := &clusterkey.Sender{Keys: a.Keys, Next: sending(func(ctx context.Context, _ string, r *backend.Request) (*backend.Response, error) {
		return next.Do(ctx, a.sentTo, r)
	})}
	return elsewhere.Do(ctx, a.signedFor, r)
}

type sending func(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error)

func (s sending) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	return s(ctx, addr, r)
}

// Who takes a peer's address and says yes to everything has nothing dropped by it.
func TestStrangerInAPeersPlace(t *testing.T) {
	p := startProbe(t, withKey)
	const object = "o"
	primaries, _ := p.places(object)
	down := nodeAt(primaries[2])
	p.stop(down)
	p.object("PUT", object, nil, "body", 201)
	before := p.copies(object)
	l, err := net.Listen("tcp", p.replicationAt(down))
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked++
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set(replicator.NodeHeader, "stranger")
		rw.Header().Set(replwire.PrimaryHeader, "true")
		if r.Method != "REPLICATE" {
			rw.WriteHeader(http.StatusCreated)
			return
		}
		_, _ = rw.Write(replwire.End(replwire.Begin(nil, replwire.Objects), 0, false)) // it lacks all, and takes it
	})}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	reports := p.pass(false)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	said := false
	for _, r := range reports {
		for _, d := range r.Devices {
			for _, k := range d.Kinds {
				if k.Dropped > 0 {
					t.Errorf("%s has dropped %d", d.Device, k.Dropped)
				}
				for _, f := range k.Failures {
					said = said || strings.Contains(f.Reason, "an answer is not believed")
				}
			}
		}
	}
	if asked == 0 || !said {
		t.Errorf("the stranger was asked %d times, and the reports say so: %v", asked, said)
	}
	if after := p.copies(object); len(after) != len(before) || len(before) < 3 {
		t.Errorf("copies are on %d devices, before on %d", len(after), len(before))
	}
	p.start(down)
	p.pass(true)
	p.exactly(object, primaries, holds("body"))
}

// Keys are replaced while the nodes run, in three steps, and replication goes on in all of
// them. A node that has left one out is not understood until it has the key.
func TestKeyRotates(t *testing.T) {
	p := startProbe(t, withKey)
	file := filepath.Join(filepath.Dir(p.folder.ProxyFile()), keyFile)
	var all []*watched
	for n := range p.nodes {
		p.configs[n].Rings.CheckEvery = conf.Duration(10 * time.Millisecond)
		all = append(all, p.watch(n+1))
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	fresh := clusterkey.NewFile()
	large := strings.Repeat("body", 1<<18) // of many blocks, and a file of its own
	for i, keys := range [][]byte{slices.Concat(old, fresh), slices.Concat(fresh, old), fresh} {
		object := fmt.Sprint("o", i)
		primaries, _ := p.places(object)
		down := nodeAt(primaries[0])
		p.stop(down)
		p.object("PUT", object, nil, large, 201)
		all[down-1] = p.watch(down)
		seen := make([]int, len(all))
		for n, w := range all {
			seen[n] = w.count("new cluster keys in use")
		}
		if err := os.WriteFile(file+".new", keys, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		p.pass(true) // whoever has read it already, and whoever has not
		p.exactly(object, primaries, holds(large))
		p.until("all nodes have the new keys", func() bool {
			for n, w := range all {
				if w.count("new cluster keys in use") == seen[n] {
					return false
				}
			}
			return true
		})
		p.pass(true)
	}
	for n, w := range all {
		if got := w.refused(t); len(got) > 0 {
			t.Errorf("node %d has refused %v", n+1, got)
		}
	}

	// One that keeps an old key is refused, and says so.
	p.stop(1)
	own := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(own, old, 0o600); err != nil {
		t.Fatal(err)
	}
	was := p.configs[0].Cluster.KeyFile
	p.configs[0].Cluster.KeyFile = own
	p.start(1)
	p.object("PUT", "later", nil, "body", 201)
	if r := p.pass(false); r[0].Whole() || !strings.Contains(fmt.Sprintf("%+v", r[0]), "signed with a key that this node does not have") {
		t.Errorf("with an old key: %+v", r[0])
	}
	p.stop(1)
	p.configs[0].Cluster.KeyFile = was
	p.start(1)
	p.pass(true)

	// One without any, too.
	p.stop(1)
	p.configs[0].Cluster.KeyFile = ""
	p.start(1)
	reports := p.pass(false)
	if text := fmt.Sprintf("%+v", reports[0]); reports[0].Whole() || !strings.Contains(text, "not signed with the cluster's key") {
		t.Errorf("without a key: %s", text)
	}
	if !slices.ContainsFunc(reports[1:], func(r replicator.Report) bool { // which of them share a partition with it is by chance
		return !r.Whole() && strings.Contains(fmt.Sprintf("%+v", r), "this node has none")
	}) {
		t.Errorf("its peers: %+v", reports[1:])
	}
}

// until polls a condition that has to come true.
func (p *probe) until(what string, ok func() bool) {
	p.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 10_000 {
		if ok() {
			return
		}
		<-tick.C
	}
	p.t.Fatalf("never: %s", what)
}
