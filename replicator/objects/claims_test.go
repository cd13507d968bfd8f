package objects

import (
	"context"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

func TestClaims(t *testing.T) {
	c := claims{by: map[claim]claimed{}}
	k, other := claim{device: "d1", hash: name.Hash{1}}, claim{device: "d2", hash: name.Hash{1}}
	now := time.Unix(1_000_000, 0)
	want := func(what string, k claim, sender string, ok bool) {
		t.Helper()
		if c.take(k, sender, false, now) != ok {
			t.Errorf("%s: %s may bring it: %v", what, sender, !ok)
		}
	}
	want("nobody else", k, "a", true)
	if k := (claim{whole: true}); !c.take(k, "a", false, now) || !c.take(k, "b", true, now) || c.take(k, "a", false, now) {
		t.Error("who is first is not")
	}
	want("a device beside it", other, "b", true)
	want("somebody else", k, "b", false)
	want("the same again", k, "a", true)
	now = now.Add(claimTime)
	want("he has not begun in time", k, "b", true)
	end := c.begin(k, "b")
	c.begin(k, "a")() // who has not asked is no reason to forget who has
	now = now.Add(time.Hour)
	want("it takes its time", k, "a", false)
	again := c.begin(k, "b")
	end()
	want("he sends it twice", k, "a", false)
	again()
	want("it has ended", k, "a", true)
	for range 3 {
		want("nothing comes of it", other, "b", true)
	}
	want("who has asked so often and sent nothing is not waited for", other, "a", true)
	want("he has just asked", other, "b", false)
	for i := range maxClaims + 10 {
		want("many", claim{device: "d3", hash: name.Hash{byte(i), byte(i >> 8)}}, "a", true)
	}
	if len(c.by) > maxClaims {
		t.Errorf("there are %d claims", len(c.by))
	}
	now = now.Add(claimTime)
	want("later", claim{device: "d4"}, "a", true)
	if len(c.by) > 10 {
		t.Errorf("%d claims are left when their time is over", len(c.by))
	}
}

// gone is a peer that can't be reached.
type gone struct{ asked int }

func (g *gone) Do(context.Context, string, *backend.Request) (*backend.Response, error) {
	g.asked++
	return nil, errs.E(errs.Unavailable)
}

// What was left since another one was bringing it is not asked about one by one where the peer is gone meanwhile.
func TestClaimedByWhoIsGone(t *testing.T) {
	const objects = 100
	peer := new(gone)
	p := &pass{
		Objects: &Objects{}, tally: replicator.NewTally("object"), peers: replicator.Client{Sender: peer, Kind: "object", NodeID: "a", Device: "d"},
	}
	w := &work{Batch: replicator.Batch[replwire.Object]{About: replicator.About{Ring: new(ring.Ring)}}}
	to := &replicator.Peer{Addr: "127.0.0.1:1", Device: "d", Has: make([]bool, objects)}
	x, b := p.newOut(0, w.Ring, to), &bringing{w: w, to: to}
	for i := range objects {
		w.Items = append(w.Items, replwire.Object{Hash: name.Hash{byte(i)}, Kind: replwire.Data, Length: 1 << 20})
		x.claimed = append(x.claimed, &version{of: b, at: i, lack: replwire.LackData})
	}
	x.again(t.Context(), b)
	if len(x.claimed) != objects || peer.asked > 0 {
		t.Errorf("while there is more of the same work %d are kept, and the peer was asked %d times", len(x.claimed), peer.asked)
	}
	x.again(t.Context(), &bringing{})
	if n := len(x.claimed); n > 0 {
		t.Errorf("%d are kept for more than the next work", n)
	}
	if n := p.tally.Counts().Failed; n != objects || peer.asked > 3 {
		t.Errorf("%d of %d could not be brought, and the peer was asked %d times", n, objects, peer.asked)
	}
}
