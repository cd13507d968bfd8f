package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"martlet/internal/clusterkey"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/httpapi"
	"martlet/internal/metadb"
	"martlet/internal/policy"
	"martlet/internal/vfs"
	"martlet/object"
	"martlet/replicator"
	"martlet/replicator/databases"
	"martlet/replicator/objects"
	"martlet/replicator/steps"
	"martlet/ring"
)

// replication is what the node's servers hand to its replicator while they are
// opened.
type replication struct {
	nodeID string
	paces  *replicator.Paces
	client *direct.Client     // to other nodes, over the replication network
	keys   *clusterkey.Source // nil where the addresses are trusted
	kinds  []replicator.Kind
	steps  *steps.Books // what devices remember of being in step with others
}

// newReplication begins the replication of a node. Requests leave from the node's
// own address on that network, by which peers know it.
func (s *Storage) newReplication(p parts) *replication {
	c := p.c
	cfg := direct.Config{
		ConnectTimeout: c.Server.ConnTimeout.D(), NodeTimeout: c.Replicator.NodeTimeout.D(), UserAgent: "martlet-replicator",
		MaxIdlePerAddr: 16,
	}
	cfg.Dial = leavingFrom(c.Replication.Listens())
	r := &replication{
		nodeID: replicator.NewNodeID(), client: direct.New(cfg), keys: p.keys,
		paces: replicator.NewPaces(c.Server.Devices, c.Replicator.Limits(), p.o.Log),
		steps: steps.NewBooks(p.terms(), vfs.OS, p.devices),
	}
	s.atEnd(func() error { r.client.Close(); return nil })
	return r
}

// leavingFrom returns what connects from an address of the machine; nil where it is none.
func leavingFrom(address string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	ip := net.ParseIP(address)
	if ip == nil {
		return nil
	}
	return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}).DialContext
}

// objects adds the objects of a node, and the server that merges what is pushed.
func (r *replication) objects(p parts, stores object.Stores, server *object.Server) (*objects.Objects, error) {
	cfg := objects.Defaults()
	cfg.Concurrency, cfg.ReclaimAge = p.c.Replicator.Concurrency, p.c.Replicator.ReclaimAge.D()
	neutral := map[string]objects.Store{}
	for device, store := range stores {
		neutral[device] = objectStore{store.Engine}
	}
	kind, err := objects.New(cfg, objects.Deps{
		Stores: neutral, Self: p.self(p.c.Replication.Address, p.c.Replication.Port), NodeID: r.nodeID,
		Ring: func(i policy.Index) *ring.Ring {
			if source := p.rings.objects[i]; source != nil {
				return source.Ring()
			}
			return nil
		},
		Hasher: p.hasher, Merge: server, Peers: r.signing(), Pace: r.paces, Log: p.o.Log, Lost: p.lost, Steps: r.steps.Of,
	})
	if err != nil {
		return nil, err
	}
	r.kinds = append(r.kinds, kind)
	return kind, nil
}

// databases adds the accounts or the containers of a node.
func (r *replication) databases(
	p parts, build func(databases.Config, databases.Deps) (*databases.Databases, error), store *metadb.Store, source *ring.Source,
) error {
	cfg := databases.Defaults()
	cfg.Concurrency = p.c.Replicator.Concurrency
	kind, err := build(cfg, databases.Deps{
		Store: store.Replicas(), Ring: source.Ring, Self: p.self(p.c.Replication.Address, p.c.Replication.Port), NodeID: r.nodeID,
		Hasher: p.hasher, Peers: r.signing(), Pace: r.paces, Log: p.o.Log, Steps: r.steps.Of,
	})
	if err != nil {
		return err
	}
	r.kinds = append(r.kinds, kind)
	return nil
}

// openReplication opens the listener on the replication network and the passes.
func (s *Storage) openReplication(p parts) error {
	if !p.c.Replication.Enabled {
		return nil
	}
	known := &peers{rings: p.rings, names: p.names, keep: p.c.Replicator.ReclaimAge.D()}
	for _, text := range p.c.Replication.Peers {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("replication.peers: %w", err)
		}
		known.more = append(known.more, prefix)
	}
	known.known(netip.Addr{}) // learns the rings of now, whenever the first peer comes
	r, err := replicator.New(replicator.Deps{
		Devices: p.devices, Kinds: p.replication.kinds, NodeID: p.replication.nodeID, Peer: known.known,
		Paces: p.replication.paces, Patience: p.c.Replicator.NodeTimeout.D(), Registry: p.o.Registry, Log: p.o.Log,
	})
	if err != nil {
		return err
	}
	s.atEnd(r.Close)
	if p.c.Replicator.Enabled {
		for d := range p.devices.All() { // none waits for another that has more to bring
			s.every("replicator of "+d.Name(), p.c.Replicator.Interval.D(), func(ctx context.Context) error {
				_, err := r.Pass(ctx, replicator.Options{Device: d.Name(), Settled: true}) // what it could not confirm it has logged, and the next one tries again
				return err
			})
		}
	}
	s.replicator, s.steps = r, p.replication.steps
	if p.o.Registry != nil {
		if err := p.o.Registry.Register(fenceMetrics{s}); err != nil {
			return fmt.Errorf("metrics of fences: %w", err)
		}
	}
	handler, err := s.guarded(p, r)
	if err != nil {
		return err
	}
	return s.serve(p.c, p.o, service{name: "replication", address: at(p.c.Replication.Listens(), p.c.Replication.Port), handler: handler})
}

// Replicate makes one pass of replication now, over one device or, where that is
// "", all of them.
func (s *Storage) Replicate(ctx context.Context, device string) (replicator.Report, error) {
	if s.replicator == nil {
		return replicator.Report{}, errs.Refuse(errs.Unavailable, "replication is switched off on this node")
	}
	return s.replicator.Pass(ctx, replicator.Options{Device: device})
}

// peers are the addresses that replication requests are taken from: those that the
// rings have for a node on either network, or had while this process ran, up to the
// reclaim age ago, and those that the configuration adds. A node that was taken out of
// the rings has still to bring what it holds to where that belongs now.
type peers struct {
	rings rings
	names *hosts.Names
	more  []netip.Prefix
	keep  time.Duration // how long an address is good after it has left the rings

	mu    sync.Mutex
	seen  map[string]*ring.Ring    // mu; the generations that addrs is of
	turn  int                      // mu; of names, likewise
	addrs map[netip.Addr]time.Time // mu; when it left the rings, zero while it is in one
}

func (p *peers) known(a netip.Addr) bool {
	now := make(map[string]*ring.Ring, 3)
	for name, source := range p.rings.named {
		now[name] = source.Ring()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	turn := p.names.Turn()
	if !maps.Equal(now, p.seen) || turn != p.turn {
		p.turn = turn
		p.learn(now)
	}
	left, ok := p.addrs[a]
	return ok && (left.IsZero() || time.Since(left) < p.keep) ||
		slices.ContainsFunc(p.more, func(n netip.Prefix) bool { return n.Contains(a) })
}

// learn reads the addresses out of new rings.
func (p *peers) learn(all map[string]*ring.Ring) {
	addrs := map[netip.Addr]time.Time{}
	for _, r := range all {
		for d := range r.Devices() {
			for _, text := range []string{d.ReplicationIP, d.IP} {
				for _, a := range p.names.Addrs(text) {
					addrs[a] = time.Time{}
				}
			}
		}
	}
	for a, left := range p.addrs {
		if _, ok := addrs[a]; !ok {
			if left.IsZero() {
				left = time.Now()
			}
			addrs[a] = left
		}
	}
	p.seen, p.addrs = all, addrs
}

// operations adds to the admin address what an operator can ask of a storage node.
func (s *Storage) operations(mux *http.ServeMux) {
	mux.HandleFunc("POST /replicate", func(w http.ResponseWriter, r *http.Request) {
		report, err := s.Replicate(r.Context(), r.URL.Query().Get("device"))
		s.tell(w, r, report, err)
	})
	s.pacing(mux)
	s.limiting(mux)
	s.fencing(mux)
}

// tell answers an operator, in JSON, or with what is wrong.
func (s *Storage) tell(w http.ResponseWriter, r *http.Request, report any, err error) {
	if err != nil {
		text := cmp.Or(errs.PublicOf(err), err.Error()) // it goes to an operator
		http.Error(w, text, httpapi.Status(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(report); err != nil {
		s.log.LogAttrs(r.Context(), slog.LevelWarn, "report was not sent", slog.Any("err", err))
	}
}
