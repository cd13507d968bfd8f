package nemesis

import "slices"

// A Shape is what a cluster is made of, as far as it says what may be broken.
type Shape struct {
	Nodes   int // of storage
	Devices int // of each
	Proxies int
	// Bears is how many nodes may be out at one time, whichever they are, while everything can still be read, and written
	// to what is left.
	Bears int
}

// takesOut reports whether nodes do not do their work while a fault lasts: what was written meanwhile is
// only on others.
func (k Kind) takesOut() bool {
	switch k {
	case Kill, Pause, Restart, Power, Full, Fail:
		return true
	default:
		return false
	}
}

// TakesOut reports whether the fault takes a node out while it lasts. A node without the replication network serves clients as
// ever.
func (f *Fault) TakesOut() bool {
	return f.Kind.takesOut() || (f.Kind == Cut || f.Kind == Slow) && f.Network == Storage
}

// whole reports whether the fault is of the whole cluster at once. The promise that nothing is lost holds for
// any number of nodes that are killed or lose power, so these are borne, but alone: who is
// read and written then is nobody. Listings that nobody can be told of wait in queues, however many.
func (f *Fault) whole() bool {
	return f.Kind == KillAll || f.Kind == PowerAll || f.Kind == Rolling || f.Kind == Queue
}

// ofProcess reports whether the fault is to a node's process, which can have only one of these.
func (f *Fault) ofProcess() bool {
	switch f.Kind {
	case Kill, Pause, Restart, Power, Clock:
		return true
	default:
		return false
	}
}

// ofDevice reports whether the fault is to a device's file system.
func (f *Fault) ofDevice() bool { return f.Kind == Full || f.Kind == Fail || f.Kind == Power }

// May reports whether a fault may begin, while others last, and after those that the round had before. It is what policies
// promise to bear, and nothing that one fault would undo of another:
//
//   - no more nodes are out at one time than Bears; or all at once, and then nothing else is broken. One with full devices is
//     borne by any policy: what is there can be read, and what is written goes elsewhere
//   - one proxy is left
//   - of what is stored only one device of the cluster is damaged in a round: an acknowledged write may be on no more than
//     a bare quorum until the round has settled, and an outage, which loses nothing, may be of another
//   - the rings change once in a round: the data has to follow before they do again
func (s Shape) May(f Fault, last, before []Fault) bool {
	if f.Kind == Ring && slices.ContainsFunc(before, func(b Fault) bool { return b.Kind == Ring }) {
		return false
	}
	if f.Kind == Flip && slices.ContainsFunc(before, func(b Fault) bool {
		return b.Kind == Flip && (b.Node != f.Node || b.Device != f.Device)
	}) {
		return false
	}
	if slices.ContainsFunc(last, func(o Fault) bool { return f.meets(&o) }) {
		return false
	}
	nodes, proxies := map[int]bool{}, map[int]bool{}
	most := max(s.Bears, 1) // of those that can be read from
	for _, o := range append(slices.Clone(last), f) {
		if o.TakesOut() {
			nodes[o.Node] = true
			if o.Kind != Full {
				most = s.Bears
			}
		}
		if o.Kind == Proxy {
			proxies[o.Proxy] = true
		}
	}
	return len(nodes) <= most && (len(proxies) == 0 || len(proxies) < s.Proxies)
}

// meets reports whether two faults can't be at one time.
func (f *Fault) meets(o *Fault) bool {
	switch {
	case f.whole() || o.whole():
		return true
	case f.Kind == Proxy && o.Kind == Proxy:
		return f.Proxy == o.Proxy
	case f.Node != o.Node || f.Node == 0:
		return false
	case f.ofProcess() && o.ofProcess():
		return true
	case f.ofDevice() && o.ofDevice():
		return f.Device == o.Device || f.Device == 0 || o.Device == 0
	case f.ofDevice() && o.ofProcess() || f.ofProcess() && o.ofDevice():
		return f.Kind == Power || o.Kind == Power || f.Kind == Fail || o.Kind == Fail // a device that fails is given back by a process that lives
	case f.Kind == Flip && (o.ofDevice() || o.Kind == Flip) || o.Kind == Flip && f.ofDevice():
		return true // there is nothing to be read on it
	case f.Network != "" && o.Network != "":
		return f.Network == o.Network
	}
	return false
}
