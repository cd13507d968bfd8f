package objects

import (
	"context"
	"errors"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// claims says who is bringing devices large objects. All who hold the same find out at about the
// same time what a device lacks. What is small is there before the next one comes to it; of
// what is large two would send all for one to be refused. So who has a large object to bring
// asks for it first. It is no lock: who has not asked, such as a node of before this was, is not
// refused. It is safe for concurrent use.
type claims struct {
	mu sync.Mutex
	by map[claim]claimed // guarded by mu
}

type claim struct {
	device string
	policy policy.Index
	hash   name.Hash
}

type claimed struct {
	sender string
	until  time.Time // where nothing is under way
	under  int       // pushes under way
}

const (
	// claimTime is for how long who has asked may take to begin.
	claimTime = 10 * time.Second
	// maxClaims bounds the claims: beyond it nobody is refused.
	maxClaims = 4096
)

// take reports whether a sender may bring something, and notes it if so.
func (c *claims) take(k claim, sender string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.by[k]
	if ok && old.sender != sender && (old.under > 0 || now.Before(old.until)) {
		return false
	}
	if !ok && len(c.by) >= maxClaims && !c.forget(now) {
		return true
	}
	c.by[k] = claimed{sender: sender, until: now.Add(claimTime), under: old.under}
	return true
}

// forget makes room, and reports whether there is any. It needs mu.
func (c *claims) forget(now time.Time) bool {
	for k, old := range c.by {
		if old.under == 0 && !now.Before(old.until) {
			delete(c.by, k)
		}
	}
	return len(c.by) < maxClaims
}

// begin notes that something is being brought, until the function that it returns is called.
func (c *claims) begin(k claim, sender string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of, ok := c.by[k]
	if !ok || of.sender != sender {
		return func() {}
	}
	of.under++
	c.by[k] = of
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		of := c.by[k]
		if of.under--; of.under <= 0 {
			delete(c.by, k) // it is there, or somebody else may
			return
		}
		c.by[k] = of
	}
}

var errClaimed = errors.New("another device is still bringing it")

// claimOf is what a call is about.
func claimOf(c *replicator.Call, p policy.Index, h name.Hash) (k claim, sender string) {
	return claim{c.Device, p, h}, c.Header.Get(replwire.SenderHeader)
}

// claim asks a peer whether to bring it a large object, and looks at what it has of it by now.
func (x *out) claim(ctx context.Context, v *version) (result, error) {
	r := replicator.ListRequest(v.of.to, v.of.w.Partition, v.state.Hash, v.state.Hash)
	r.Header = append(policyHeader(v.of.w.policy), backend.Field{Name: replwire.BringHeader, Value: "true"})
	resp, err := x.peers.Do(ctx, v.of.w.About, v.of.to, r)
	if err != nil {
		return failed, err
	}
	if resp.Status == 409 {
		return claimedByAnother, closeBody(resp)
	}
	b, err := x.peers.Take(v.of.to, r, resp)
	if err != nil {
		return failed, err
	}
	list, _, err := replwire.ParseObjects(b, v.state.Hash, v.state.Hash)
	if err != nil {
		return failed, err
	}
	v.theirs = lookUp(list, v.state.Hash)
	v.lack = v.state.Lacks(v.theirs)
	return taken, nil
}
