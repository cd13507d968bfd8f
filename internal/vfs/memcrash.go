package vfs

import (
	"maps"
	"slices"
)

// entry is a name in a directory.
type entry struct {
	dir  *node
	name string
}

// setting puts a node at an entry; nil empties it.
type setting struct {
	entry
	node *node
}

// change is one directory operation that is not durable. It reaches the disk
// as a whole or not at all.
type change struct {
	settings []setting
	unsynced []*node // the directories whose SyncDir it waits for
	lost     bool    // a SyncDir failed with it: no later one makes it durable
}

// change makes a directory operation.
func (m *Mem) change(settings ...setting) {
	c := &change{settings: settings}
	for _, s := range settings {
		if s.node == nil {
			delete(s.dir.dir.entries, s.name)
		} else {
			s.dir.dir.entries[s.name] = s.node
		}
		if !slices.Contains(c.unsynced, s.dir) {
			c.unsynced = append(c.unsynced, s.dir)
		}
	}
	m.changes = append(m.changes, c)
}

// syncDir makes durable what waited for d alone.
func (m *Mem) syncDir(d *node) {
	for _, c := range m.changes {
		if !c.lost {
			c.unsynced = slices.DeleteFunc(c.unsynced, func(n *node) bool { return n == d })
		}
	}
	m.settle(func(c *change) bool { return len(c.unsynced) == 0 })
}

// failSyncDir leaves a directory as a failed fsync does: of what was not
// durable some now is, and the rest won't be, though calls go on seeing it.
func (m *Mem) failSyncDir(name string, seed uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.directory(name)
	if err != nil {
		return
	}
	dice := newDice(seed, d.ino)
	m.settle(func(c *change) bool { return slices.Contains(c.unsynced, d) && dice.likely(dice.names) })
	for _, c := range m.changes {
		if slices.Contains(c.unsynced, d) {
			c.lost = true
		}
	}
}

// settle brings the chosen changes to disk.
func (m *Mem) settle(choose func(*change) bool) {
	taken := closure(m.changes, choose)
	var left []*change
	for i, c := range m.changes {
		if !taken[i] {
			left = append(left, c)
			continue
		}
		for _, s := range c.settings {
			s.apply(s.dir.dir.stable)
		}
	}
	m.changes = left
}

func (s setting) apply(names map[string]*node) {
	if s.node == nil {
		delete(names, s.name)
	} else {
		names[s.name] = s.node
	}
}

// closure says which changes reach the disk if the chosen ones do: a name is
// never as some change left it without the earlier changes of that name.
func closure(changes []*change, choose func(*change) bool) (taken []bool) {
	taken = make([]bool, len(changes))
	touched := map[entry]bool{}
	for i, c := range slices.Backward(changes) {
		taken[i] = choose(c) || slices.ContainsFunc(c.settings, func(s setting) bool { return touched[s.entry] })
		if taken[i] {
			for _, s := range c.settings {
				touched[s.entry] = true
			}
		}
	}
	return taken
}

// AfterCrash returns a copy of the file system as a power cut at this moment
// might leave it, chosen by seed; the same seed chooses the same, if the calls
// before were made in the same order. What is synced is all there. Each write
// that is not survives whole, torn at sectors of 512 bytes, or not at all, and
// each size, and each directory operation, survives or does not.
//
// Seeds 0 to 7 are the extremes: bit 0 says whether all names survive or none
// that is not synced, bit 1 the same of data, bit 2 of sizes. All larger seeds
// mix. Everything in the copy is durable. The original goes on as it was.
func (m *Mem) AfterCrash(seed uint64) *Mem {
	m.mu.RLock()
	defer m.mu.RUnlock()
	names := newDice(seed, 0)
	disk := map[*node]map[string]*node{} // of directories that differ from stable
	taken := closure(m.changes, func(*change) bool { return names.likely(names.names) })
	for i, c := range m.changes {
		if !taken[i] {
			continue
		}
		for _, s := range c.settings {
			if disk[s.dir] == nil {
				disk[s.dir] = maps.Clone(s.dir.dir.stable)
			}
			s.apply(disk[s.dir])
		}
	}
	after := &Mem{lastIno: m.lastIno, capacity: m.capacity}
	after.root = after.adopt(m.root, disk, seed)
	return after
}

// adopt copies a node of another Mem, and all below it, as a crash leaves them.
func (m *Mem) adopt(n *node, disk map[*node]map[string]*node, seed uint64) *node {
	m.inodes++
	if n.file != nil {
		f := n.file.afterCrash(newDice(seed, n.ino))
		m.recharge(f)
		return &node{ino: n.ino, modTime: n.modTime, file: f}
	}
	names, ok := disk[n]
	if !ok {
		names = n.dir.stable
	}
	d := &directory{make(map[string]*node, len(names)), make(map[string]*node, len(names))}
	for name, child := range names {
		c := m.adopt(child, disk, seed)
		d.entries[name], d.stable[name] = c, c
	}
	return &node{ino: n.ino, modTime: n.modTime, dir: d}
}
