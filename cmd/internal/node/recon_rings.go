package node

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"sync"

	"martlet/ring"
)

// RingsPath is where every process says which rings it has in use, to GET: a list of RingInUse. Servers of a storage
// node say so on the storage network, and every process at its admin address, never where clients are served.
const RingsPath = "/recon/rings"

// RingInUse is a ring that a process goes by.
type RingInUse struct {
	Ring    string `json:"ring"` // the name of its file without the ending: "account", "container", "object", "object-N"
	Version int64  `json:"version"`
	Digest  string `json:"digest"` // ring.Ring.Digest: rings that have it in common say the same
	// Error is why the file that is there now was not taken; the one of before stays in use.
	Error string `json:"error,omitempty"`
}

// ringNotes is what a process knows of its rings beside them. It is safe for concurrent use.
type ringNotes struct {
	mu      sync.Mutex
	digests map[string]ringDigest // by name; guarded by mu
	refused map[string]string     // why a file was not taken, by name; guarded by mu
}

// ringDigest is the digest of a ring, which takes a look at all of it.
type ringDigest struct {
	of     *ring.Ring
	digest string
}

// checked notes what came of a look at the file of a ring.
func (n *ringNotes) checked(name string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refused == nil {
		n.refused = map[string]string{}
	}
	delete(n.refused, name)
	if err != nil {
		n.refused[name] = err.Error()
	}
}

// tell says what there is to say of a ring.
func (n *ringNotes) tell(name string, r *ring.Ring) RingInUse {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.digests[name]
	if d.of != r {
		d = ringDigest{r, r.Digest()}
		if n.digests == nil {
			n.digests = map[string]ringDigest{}
		}
		n.digests[name] = d
	}
	return RingInUse{Ring: name, Version: r.Version(), Digest: d.digest, Error: n.refused[name]}
}

// inUse tells which rings are in use, in order of name.
func (r rings) inUse() []RingInUse {
	all := []RingInUse{}
	for name, source := range r.named {
		all = append(all, r.notes.tell(name, source.Ring()))
	}
	slices.SortFunc(all, func(a, b RingInUse) int { return cmp.Compare(a.Ring, b.Ring) })
	return all
}

// tellRings adds to an admin address which rings are in use.
func (r rings) tellRings(mux *http.ServeMux) {
	mux.HandleFunc("GET "+RingsPath, func(w http.ResponseWriter, _ *http.Request) { tellJSON(w, r.inUse()) })
}

// tellJSON answers an operator. One who is gone needs no answer.
func tellJSON(w http.ResponseWriter, report any) {
	w.Header().Set("Content-Type", "application/json")
	body, err := json.Marshal(report)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(body)
}
