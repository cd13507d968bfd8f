package ecwrite

import (
	"context"
	"net/http"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// Held returns how many different fragments of a write of an object, as of a time, devices say that they have on stable storage. It
// asks all primaries, and handoffs for as long as those are not as many as are wanted. Silence is none.
//
// Devices drop fragments of writes that were not committed by when they are older than the reclaim age, and an object that is moved
// may be older than that from the start: until its commit is there they may be dropped that have just been stored. So
// whoever is to remove another copy asks first, when the commit is there.
func (w *Writer) Held(ctx context.Context, p policy.Policy, path name.Path, at timestamp.T, write [16]byte, want int) (int, error) {
	place, err := w.cluster.Object(p.Index.Fragments(), path)
	if err != nil {
		return 0, err
	}
	found := map[int]bool{}
	var mu sync.Mutex
	ask := func(slot int, d *ring.Device) {
		a := w.cluster.Ask(ctx, place, slot, d, &backend.Request{Method: http.MethodHead, Header: backend.Header{
			{Name: backend.PolicyIndex, Value: p.Index.Fragments().String()}, {Name: backend.FragmentTime, Value: at.String()},
		}})
		mu.Lock()
		defer mu.Unlock()
		for _, f := range listed(&a) {
			if f.Time == at && f.Write == write && f.Index < p.Fragments() {
				found[f.Index] = true
			}
		}
	}
	var all sync.WaitGroup
	for slot, d := range place.Primaries {
		all.Go(func() { ask(slot, d) })
	}
	all.Wait()
	spare := w.cluster.Spare(place)
	for d := spare.Next(); d != nil && len(found) < want && ctx.Err() == nil; d = spare.Next() {
		ask(0, d)
	}
	return len(found), nil
}

// listed returns what a device says that it has.
func listed(a *quorum.Answer) []backend.FragmentID {
	if a.Status/100 != 2 {
		return nil
	}
	list, err := backend.ParseFragmentIDs(a.Header.Get(backend.FragmentsHeld))
	if err != nil {
		return nil
	}
	return list
}
