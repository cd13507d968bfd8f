package replicator

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Report is what a pass over a node has done.
type Report struct {
	Began   time.Time      `json:"began"`
	Seconds float64        `json:"seconds"`
	Devices []DeviceReport `json:"devices"` // by name
}

// DeviceReport is what a pass over one device has done.
type DeviceReport struct {
	Device  string   `json:"device"`
	Seconds float64  `json:"seconds"`
	Kinds   []Counts `json:"kinds"`
	Paused  bool     `json:"paused,omitempty"` // there was no pass, or not all of it, since replication is paused
	Error   string   `json:"error,omitempty"`  // why there was no pass: the device can't be used, or is paused
}

// leftOut says why a device is left out, or the rest of it.
func (r *DeviceReport) leftOut(why error) {
	r.Error = why.Error()
	r.Paused = errors.As(why, new(PausedError)) || errors.Is(why, errPauseDamaged)
}

// Counts is what a pass over one kind of data on one device has done.
type Counts struct {
	Kind       string `json:"kind"`
	Partitions int64  `json:"partitions"` // that hold something here
	Handoffs   int64  `json:"handoffs"`   // of them, those this device is no primary of
	Compared   int64  `json:"compared"`   // names, or objects by their sums, each once, whatever the number of peers
	Pushed     int64  `json:"pushed"`     // versions, rows or databases that a peer took
	Bytes      int64  `json:"bytes"`      // of pushed bodies
	Dropped    int64  `json:"dropped"`    // names that left here, since every primary has them; of fragments also those that nobody needs

	// Rebuilt are fragments that the device has got since it lacked them, made from others or read from who had
	// them, and RebuiltBytes their bytes.
	Rebuilt      int64 `json:"rebuilt,omitempty"`
	RebuiltBytes int64 `json:"rebuilt_bytes,omitempty"`

	// Failed counts what could not be confirmed; Failures tells of them, those with
	// the same peer and reason together, and of the first maxFailures only.
	Failed   int64     `json:"failed"`
	Failures []Failure `json:"failures,omitempty"`
}

// Failure is something that could not be confirmed, as often as it happened.
type Failure struct {
	Peer      string `json:"peer,omitempty"`   // "ip:port/device"; empty where it is this node's own fault
	Policy    string `json:"policy,omitempty"` // of objects
	Partition uint32 `json:"partition"`        // the first one
	Name      string `json:"name,omitempty"`   // the first one, where it concerns a name
	Reason    string `json:"reason"`
	Count     int64  `json:"count"`
}

// maxFailures bounds the failures that a report tells of.
const maxFailures = 100

// Whole reports whether everything was confirmed.
func (r *Report) Whole() bool {
	for _, d := range r.Devices {
		if d.Error != "" || slices.ContainsFunc(d.Kinds, func(c Counts) bool { return c.Failed > 0 }) {
			return false
		}
	}
	return true
}

// A Tally counts what a pass does. It is safe for concurrent use.
type Tally struct {
	mu sync.Mutex
	c  Counts         // mu
	at map[string]int // mu; the place in c.Failures by peer and reason
}

// NewTally returns an empty Tally of a kind.
func NewTally(kind string) *Tally { return &Tally{c: Counts{Kind: kind}, at: map[string]int{}} }

// Add adds numbers. What c says of kind and failures is not looked at.
func (t *Tally) Add(c Counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.c.Partitions += c.Partitions
	t.c.Handoffs += c.Handoffs
	t.c.Compared += c.Compared
	t.c.Pushed += c.Pushed
	t.c.Bytes += c.Bytes
	t.c.Dropped += c.Dropped
	t.c.Rebuilt += c.Rebuilt
	t.c.RebuiltBytes += c.RebuiltBytes
}

// Fail adds a failure; a Count of 0 stands for 1.
func (t *Tally) Fail(f Failure) {
	f.Count = max(f.Count, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.c.Failed += f.Count
	key := fmt.Sprintf("%s\x00%s\x00%s", f.Peer, f.Policy, f.Reason)
	if i, ok := t.at[key]; ok {
		t.c.Failures[i].Count += f.Count
		return
	}
	if len(t.c.Failures) < maxFailures {
		t.at[key] = len(t.c.Failures)
		t.c.Failures = append(t.c.Failures, f)
	}
}

// Counts returns what was counted so far.
func (t *Tally) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.c
	c.Failures = slices.Clone(c.Failures)
	slices.SortStableFunc(c.Failures, func(a, b Failure) int { return cmp.Compare(a.Peer, b.Peer) })
	return c
}
