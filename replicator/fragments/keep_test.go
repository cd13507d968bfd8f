package fragments

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// silent is a network on which nobody answers anything.
type silent struct{}

// Do implements replicator.Sender.
func (silent) Do(context.Context, string, *backend.Request) (*backend.Response, error) {
	return nil, errors.New("no answer")
}

// attached is the store of a device that is never asked for anything else.
type attached struct{ Store }

// Pinned implements Store.
func (s attached) Pinned() Store { return s }

// As many batches are stored at one time as the pace lets be under way, also when that changes while a pass runs.
func TestKeepingIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const batches, each = 12, 2
		limits := replicator.Limits{Concurrency: 2, Incoming: 1}
		var storing atomic.Int64
		free := make(chan struct{})
		r, err := ring.New(ring.Data{PartPower: 1, Rows: [][]uint32{{0, 0}, {1, 1}}, Devices: []*ring.Device{
			{ID: 0, IP: "127.0.0.1", Port: 1, Name: "d", Weight: 1}, {ID: 1, IP: "127.0.0.2", Port: 1, Name: "d", Weight: 1},
		}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := New(Defaults(), Deps{
			Stores: map[string]Store{"d": attached{}}, Ring: func(policy.Index) *ring.Ring { return r }, Self: hosts.At(netip.MustParseAddrPort("127.0.0.1:1"), nil), NodeID: "n",
			Hasher: noHasher{}, Peers: silent{}, Pace: replicator.NewPaces([]string{"d"}, limits, nil),
			May: func(string, policy.Index, *ring.Ring, ring.Partition) error { return nil },
			Server: backend.HandlerFunc(func(ctx context.Context, _ *backend.Request) (*backend.Response, error) {
				storing.Add(1)
				defer storing.Add(-1)
				select {
				case <-free:
				case <-ctx.Done():
				}
				return &backend.Response{Status: 201}, context.Cause(ctx)
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		p := f.newPass("d", timestamp.T{}, replicator.NewTally("fragment"))
		of := &part{policy: policy.Policy{Index: 1, Data: 1, Parity: 1}, rings: rings{now: r}, ring: r, objects: r, index: 0}
		w := &wave{found: []*found{{}}}
		for i := range batches * each {
			w.found[0].missing = append(w.found[0].missing, &missing{
				of: of, commit: &replwire.Commit{Hash: name.Hash{byte(i)}}, layout: ec.Of(ec.Shape{Data: 1, Parity: 1}),
				at: []holding{{peer{"127.0.0.2:1", "d"}, 0}}, left: i / each, // which puts them into batches
			})
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			waves := make(chan *wave, 1)
			waves <- w
			close(waves)
			p.getAll(ctx, waves, func() {})
		}()
		check := func(when string, want int64) {
			t.Helper()
			synctest.Wait()
			if n := storing.Load(); n != want*each {
				t.Errorf("%s: %d fragments are stored, want %d batches of %d", when, n, want, each)
			}
		}
		check("at first", 2)
		limits.Concurrency = 5
		f.Pace.Of("d").Set(limits)
		check("with more", 5)
		limits.Concurrency = 1
		f.Pace.Of("d").Set(limits)
		for range 5 * each {
			free <- struct{}{}
		}
		check("with less", 1)
		stop()
		<-ended
		check("at last", 0)
	})
}
