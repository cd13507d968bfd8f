package replicator

import (
	"sync"
	"time"
)

// LastPass is the last pass over one kind of data on a device that came to its end, be it that not everything was
// confirmed. It is kept in memory: a process that has just begun knows of none.
type LastPass struct {
	Kind    string    `json:"kind"`
	Ended   time.Time `json:"ended,omitzero"`
	Seconds float64   `json:"seconds"`
	Failed  int64     `json:"failed"`         // what it could not confirm
	Peer    string    `json:"peer,omitempty"` // of the most of that, "ip:port/device"; empty where it is this node's own fault
	Why     string    `json:"why,omitempty"`  // the reason of the most of that
	Whole   time.Time `json:"whole,omitzero"` // when the last one ended that confirmed everything
}

// lastPasses is the last pass over each kind on each device.
type lastPasses struct {
	mu  sync.Mutex
	all map[string]map[string]LastPass // by device and kind; guarded by mu
}

// ended notes a pass that began at a time, and has come to its end now.
func (l *lastPasses) ended(device string, began time.Time, c Counts) {
	now := time.Now()
	p := LastPass{Kind: c.Kind, Ended: now, Seconds: now.Sub(began).Seconds(), Failed: c.Failed}
	most := int64(0)
	for _, f := range c.Failures {
		if f.Count > most {
			most, p.Peer, p.Why = f.Count, f.Peer, f.Reason
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[string]map[string]LastPass{}
	}
	if l.all[device] == nil {
		l.all[device] = map[string]LastPass{}
	}
	if p.Whole = l.all[device][c.Kind].Whole; c.Failed == 0 {
		p.Whole = now
	}
	l.all[device][c.Kind] = p
}

// LastPasses returns the last pass over each kind of data on a device, in the order in which passes go through them. A
// kind of which no pass has ended yet is there with no time.
func (r *Replicator) LastPasses(device string) []LastPass {
	r.last.mu.Lock()
	defer r.last.mu.Unlock()
	list := make([]LastPass, len(r.Kinds))
	for i, k := range r.Kinds {
		list[i] = r.last.all[device][k.Name()]
		list[i].Kind = k.Name()
	}
	return list
}

// ToSend returns what peers lack of what a device holds, of all kinds together, as far as its last pass knows.
func (d *DevicePace) ToSend() ToSend {
	if d == nil {
		return ToSend{}
	}
	send, _, _, _, _ := d.progress.now()
	return send
}
