package objects

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// claims says who is bringing devices what. All who hold the same find out at about the
// same time what a device lacks, and what two send one of them sends in vain. So who has a large
// object to bring asks for it first. In the background so does who comes to a partition that it is
// first of all another one's to bring, or all others': he leaves it where somebody has begun in the last while. It is
// no lock: who has not asked, such as a node of before this was, is not refused. It is safe for
// concurrent use.
type claims struct {
	mu sync.Mutex
	by map[claim]claimed // guarded by mu
}

type claim struct {
	device string
	policy policy.Index
	hash   name.Hash // of the object

	whole     bool // it is of a partition, not of an object
	power     int
	partition uint32
}

type claimed struct {
	sender string
	until  time.Time // where nothing is under way
	under  int       // pushes under way
	idle   int       // how often it was claimed before with nothing coming of it
}

const (
	// claimTime is for how long who has asked may take to begin.
	claimTime = 10 * time.Second
	// maxClaims bounds the claims: beyond it nobody is refused.
	maxClaims = 4096
	// maxIdle is how often who has claimed an object may ask again without having begun: he may not be able to read it.
	maxIdle = 2
)

// take reports whether a sender may bring something, and notes it if so. Who is first always may.
func (c *claims) take(k claim, sender string, first bool, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, ok := c.by[k]
	waits := now.Before(old.until) && (k.whole || old.idle < maxIdle)
	if ok && !first && old.sender != sender && (old.under > 0 || waits) {
		return false
	}
	if !ok && len(c.by) >= maxClaims && !c.forget(now) {
		return true
	}
	idle := 0
	if old.sender == sender && old.under == 0 {
		idle = old.idle + 1
	}
	c.by[k] = claimed{sender: sender, until: now.Add(claimTime), under: old.under, idle: idle}
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

// claimOf is what a call is about that brings an object.
func claimOf(c *replicator.Call, p policy.Index, h name.Hash) (k claim, sender string) {
	return claim{device: c.Device, policy: p, hash: h}, c.Header.Get(replwire.SenderHeader)
}

// mayBring reports whether who asks for a list may bring what he says that he is about to.
func (o *Objects) mayBring(c *replicator.Call, p policy.Index) bool {
	k, sender := claimOf(c, p, c.From)
	switch c.Header.Get(replwire.BringHeader) {
	case replwire.BringObject:
		return o.claims.take(k, sender, false, time.Now())
	case replwire.BringFirst, replwire.BringLate:
		k = claim{device: c.Device, policy: p, whole: true, power: c.PartPower, partition: c.Partition}
		return o.claims.take(k, sender, c.Header.Get(replwire.BringHeader) == replwire.BringFirst, time.Now())
	}
	return true
}

// bring says what a pass tells a peer whom it asks about a partition that it is about to bring him:
// nothing where somebody waits for the pass, who is to hear that all is where it belongs, or where it was left too often.
func (p *pass) bring(of *part) backend.Header {
	switch {
	case p.before.IsZero(), p.left.often(of):
		return nil
	case of.late() > 0:
		return backend.Header{{Name: replwire.BringHeader, Value: replwire.BringLate}}
	}
	return backend.Header{{Name: replwire.BringHeader, Value: replwire.BringFirst}}
}

// leave leaves a partition to the one that brings it to a peer: the next pass looks how far that is.
func (p *pass) leave(of *part, to *replicator.Peer) {
	p.lagging(of, to.String())
	p.left.leave(of)
}

// mostLeft is how many passes in a row leave a partition. Who has it claimed may have other things to bring than the
// device, or nothing that he can bring, and ask about it in each pass of his own: then it is brought beside him.
const mostLeft = 8

// left is what the passes over a device leave to others who are bringing it. It is safe for concurrent use.
type left struct {
	mu     sync.Mutex
	before map[leftPart]int // by how many passes in a row until this one; guarded by mu
	now    map[leftPart]int // with this one, of what it leaves; guarded by mu
}

type leftPart struct {
	policy policy.Index
	at     name.Range
}

func (of *part) leftPart() leftPart { return leftPart{of.policy, of.mine.Range} }

func (l *left) leave(of *part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now[of.leftPart()] = l.before[of.leftPart()] + 1
}

// often reports whether a partition was left so often that it is not left once more.
func (l *left) often(of *part) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.before[of.leftPart()] >= mostLeft
}

// begin begins a pass.
func (l *left) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = map[leftPart]int{}
}

// end ends a pass, and reports whether it has left anything. Whole is whether it has gone through everything.
func (l *left) end(whole bool) (some bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	some = len(l.now) > 0
	if whole {
		l.before = l.now
	} else {
		maps.Copy(l.before, l.now)
	}
	return some
}

// claim asks a peer whether to bring it a large object, and looks at what it has of it by now.
func (x *out) claim(ctx context.Context, v *version) (result, error) {
	r := replicator.ListRequest(v.of.to, v.of.w.Partition, v.state.Hash, v.state.Hash)
	r.Header = append(policyHeader(v.of.w.policy), backend.Field{Name: replwire.BringHeader, Value: replwire.BringObject})
	resp, err := x.peers.Do(ctx, v.of.w.About, v.of.to, r)
	if err != nil {
		return failed, err
	}
	b, err := x.peers.Take(v.of.to, r, resp)
	if errs.Is(err, errs.Conflict) {
		return claimedByAnother, nil
	}
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
