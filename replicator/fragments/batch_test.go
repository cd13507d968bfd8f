package fragments

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

// answering is a network on which all questions for many fragments are answered alike.
type answering func(asked []byte, wanted []replwire.Wanted) []byte

// Do implements replicator.Sender.
func (a answering) Do(_ context.Context, _ string, r *backend.Request) (*backend.Response, error) {
	asked, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	wanted, err := replwire.ParseWanted(asked)
	if err != nil {
		return nil, err
	}
	b := a(asked, wanted)
	return &backend.Response{Status: 200, Header: backend.Header{{Name: replicator.NodeHeader, Value: "other"}}, Length: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b))}, nil
}

// A device that sends far more than was wanted of it, a fragment in each answer, does not fill the memory.
func TestReadTooMuch(t *testing.T) {
	const fragments, each = 64, 4 << 20
	var mu sync.Mutex
	sent := 0
	sender := answering(func(asked []byte, wanted []replwire.Wanted) []byte {
		a := replwire.BeginArchives(nil, asked)
		a.Give(each, len(wanted)-1, func([]byte) replwire.Given { return replwire.Here })
		for range wanted[1:] {
			a.Tell(replwire.NotNow)
		}
		b := a.Encoded()
		mu.Lock()
		defer mu.Unlock()
		sent += len(b)
		return b
	})
	r, err := ring.New(ring.Data{PartPower: 1, Rows: [][]uint32{{0, 0}}, Devices: []*ring.Device{{IP: "127.0.0.1", Port: 1, Name: "d", Weight: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	p := &pass{Fragments: &Fragments{}, unversed: map[peer]bool{}, peers: replicator.Client{Sender: sender, Kind: "fragment", NodeID: "self", Device: "d"}}
	b := batch{pass: p, wanted: map[source][]want{}}
	of := &part{policy: policy.Policy{Index: 1}, ring: r, index: 1}
	from := source{peer{"127.0.0.1:1", "e"}, 1}
	for i := range fragments {
		m := &missing{of: of, layout: ec.Of(ec.Shape{Data: 1, Parity: 1}), commit: &replwire.Commit{Hash: name.Hash{byte(i)}, Coded: backend.Coded{Size: 100}}}
		x := &plan{missing: m, parts: make([][]byte, 1)}
		b.plans = append(b.plans, x)
		b.wanted[from] = append(b.wanted[from], want{x, 0, 0})
	}
	b.read(t.Context())
	b.release()
	if b.plans[0].parts[0] == nil || sent > 3*each {
		t.Errorf("%d bytes were taken", sent)
	}
}

// However many devices a node has, their batches leave most of its buffers to clients; and one of them has not all turns.
func TestTurns(t *testing.T) {
	for _, devices := range []int{1, 2, 12, 60} {
		synctest.Test(t, func(t *testing.T) {
			stores := map[string]Store{}
			for i := range devices {
				stores[fmt.Sprint(i)] = empty{}
			}
			f, err := New(Defaults(), Deps{
				Stores: stores, Ring: func(policy.Index) *ring.Ring { return nil }, Self: hosts.At(netip.MustParseAddrPort("127.0.0.1:1"), nil), NodeID: "n",
				Hasher: noHasher{}, Server: noServer{}, Peers: answering(nil), May: func(string, policy.Index, *ring.Ring, ring.Partition) error { return nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			var inside atomic.Int64
			var all sync.WaitGroup
			for device := range stores {
				for range allTurns + 1 {
					all.Go(func() {
						leave, ok := f.enter(ctx, device)
						if !ok {
							return
						}
						inside.Add(1)
						<-ctx.Done()
						leave()
					})
				}
			}
			synctest.Wait()
			if n := inside.Load(); n < allTurns*9/10 || n > allTurns {
				t.Errorf("%d devices: %d are stored at one time", devices, n)
			}
			stop()
			all.Wait()
			if len(f.allTurns) != 0 || len(f.turns["0"]) != 0 {
				t.Errorf("%d devices: %d turns, %d of one, were not given back", devices, len(f.allTurns), len(f.turns["0"]))
			}
		})
	}
}

type noHasher struct{}

func (noHasher) Hash(name.Path) name.Hash { return name.Hash{} }

type noServer struct{ backend.Handler }
