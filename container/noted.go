package container

import (
	"sync"
	"time"

	"martlet/internal/name"
)

// noted is containers of a node of which something may be so. It is kept in memory only.
type noted struct {
	now   func() time.Time
	mu    sync.Mutex
	paths map[name.Path]time.Time // since when it is said not to be so, zero if it is not; guarded by mu
}

// doubt is for how long it has to be said of a container that it is not so until it is forgotten: one
// that has just come to be so is added before that is committed.
const doubt = time.Minute

func newNoted() *noted { return &noted{now: time.Now, paths: map[name.Path]time.Time{}} }

func (n *noted) add(p name.Path) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paths[p] = time.Time{}
}

// all returns them, in any order.
func (n *noted) all() []name.Path {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]name.Path, 0, len(n.paths))
	for p := range n.paths {
		list = append(list, p)
	}
	return list
}

// not says that it is not so. When that has been said again after a while the container is
// forgotten, until it is added anew.
func (n *noted) not(p name.Path) {
	n.mu.Lock()
	defer n.mu.Unlock()
	since, known := n.paths[p]
	switch now := n.now(); {
	case !known:
	case since.IsZero():
		n.paths[p] = now
	case now.Sub(since) >= doubt:
		delete(n.paths, p)
	}
}
