package replicator

import (
	"errors"

	"martlet/internal/backend"
	"martlet/internal/hosts"
	"martlet/internal/replwire"
	"martlet/ring"
)

// A Peer is a primary of a partition other than the device that makes a pass, for
// as long as one batch of that partition is looked at. It is not safe for
// concurrent use.
type Peer struct {
	Addr, Device string
	Has          []bool // which of the batch it is known to have, by their place

	node   string // what it calls itself; empty before it has answered
	denied bool   // one of its answers did not say that it is a primary
}

// Others returns the primaries of a partition other than the device of a node,
// whose replication address is self, and whether that device is none of them: then
// it is a handoff.
func Others(r *ring.Ring, p ring.Partition, device string, self hosts.Self) (others []*Peer, handoff bool) {
	var room [8]*ring.Device
	handoff = true
	for _, d := range r.AppendPrimaries(room[:0], p) {
		if d.Name == device && self.Is(d.ReplicationIP, d.ReplicationPort) {
			handoff = false
			continue
		}
		others = append(others, &Peer{Addr: d.ReplicationAddr(), Device: d.Name})
	}
	return others, handoff
}

// String returns "ip:port/device", nothing for no peer.
func (p *Peer) String() string {
	if p == nil {
		return ""
	}
	return p.Addr + "/" + p.Device
}

// Sender is what requests of a pass over the peer's device have in replwire.SenderHeader; "" before
// it has answered.
func (p *Peer) Sender() string {
	if p.node == "" {
		return ""
	}
	return p.node + "/" + p.Device
}

// Primary reports whether the peer has answered, and each time that it is a primary.
func (p *Peer) Primary() bool { return p.node != "" && !p.denied }

// Why an answer is not taken for a peer's.
var (
	errNameless = errors.New("the answer does not say whose it is")
	errSelf     = errors.New("this is the device itself: its address in the ring is not replication.address, nor a name that is known to lead there")
	errAnother  = errors.New("another process answers there now")
)

// know looks who has answered a request of the device of a node.
func (p *Peer) know(resp *backend.Response, nodeID, device string) error {
	node := resp.Header.Get(NodeHeader)
	switch {
	case node == "" && resp.Status/100 == 2:
		return errNameless
	case node == nodeID && p.Device == device:
		return errSelf
	case node != "" && p.node != "" && p.node != node:
		return errAnother
	case node != "":
		p.node = node
		p.denied = p.denied || resp.Header.Get(replwire.PrimaryHeader) != "true"
	}
	return nil
}

// Heard notes what an answer says of the peer's partition that was about several of them,
// and came to via: whether the device takes itself for a primary.
func (p *Peer) Heard(via *Peer, primary bool) error {
	if p.node != "" && via.node != p.node {
		return errAnother
	}
	p.node = via.node
	p.denied = p.denied || !primary
	return nil
}

// Everywhere reports whether each of the peers, of which there is at least one, is
// known to have what is at a place of the batch.
func Everywhere(peers []*Peer, i int) bool {
	for _, p := range peers {
		if !p.Has[i] {
			return false
		}
	}
	return len(peers) > 0
}

// Doubt returns why what the peers have is no reason to drop anything here, and the
// peer because of whom; "" where nothing is wrong with those who have answered.
func Doubt(peers []*Peer) (at *Peer, why string) {
	for i, a := range peers {
		for _, b := range peers[:i] {
			if a.node != "" && a.node == b.node && a.Device == b.Device {
				return a, "the same device answers as " + b.String() // what both have is there only once
			}
		}
	}
	for _, p := range peers {
		if p.denied {
			return p, "by its own ring it is no primary of the partition, so nothing is dropped here: the nodes' rings differ"
		}
	}
	return nil, ""
}
