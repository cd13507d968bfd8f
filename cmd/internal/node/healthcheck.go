package node

import (
	"net/http"
	"strings"
)

// healthcheck answers "OK" once the node has opened what its devices had when it began, and before that 503 with the
// names of those that it is still loading: what needs them waits until then, so that whoever restarts one node after the
// other waits for it. A device that can't be used, or opened, is not waited for, and one that is attached later neither:
// once it is OK it stays so. It is no sign that a process has to be ended.
func (s *Storage) healthcheck(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if loading := s.loading(); len(loading) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("loading: " + strings.Join(loading, ", "))) // a client that left needs no answer
		return
	}
	_, _ = w.Write([]byte("OK")) // likewise
}

// loading returns the devices that the node is still loading for the first time.
func (s *Storage) loading() (names []string) {
	if s.watcher.loaded.Load() {
		return nil
	}
	for d := range s.owned.All() {
		if d.Check() != nil {
			continue
		}
		if loading, _ := s.watcher.stores[d.Name()].Engine.Loading(); loading {
			names = append(names, d.Name())
		}
	}
	if len(names) == 0 {
		s.watcher.loaded.Store(true)
	}
	return names
}
