package replicator

import "sync"

// patience is after how many failures in a row a peer is left alone for the rest
// of a pass.
const patience = 2

// outages remember which peers can't be reached. They are safe for concurrent use.
type outages struct {
	mu     sync.Mutex
	failed map[string]*outage // mu; by peer
}

type outage struct {
	times int
	why   string // the first time
}

// note takes in how a request to a peer went.
func (o *outages) note(peer string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		delete(o.failed, peer)
		return
	case o.failed == nil:
		o.failed = map[string]*outage{}
	}
	if o.failed[peer] == nil {
		o.failed[peer] = &outage{why: err.Error()}
	}
	o.failed[peer].times++
}

// down reports whether a peer is left alone, and why.
func (o *outages) down(peer string) (why string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.failed[peer]; f != nil && f.times >= patience {
		return f.why, true
	}
	return "", false
}
