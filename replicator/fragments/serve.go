package fragments

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

const (
	// maxStates is how many states are in one list.
	maxStates = 8192

	// maxHashes is how many hashes are in one list: the index alone says them.
	maxHashes = 1 << 16

	// listTime is for how long a list is made before what there is is sent: the asker
	// must not take a slow disk for a dead node.
	listTime = time.Second
)

// Primary implements replicator.Kind. Of fragments that is who the one belongs on that the call
// names.
func (f *Fragments) Primary(c *replicator.Call) bool {
	index, err := f.policyOf(c)
	if err != nil {
		return false // Serve says what is wrong
	}
	current := func() *ring.Ring { return f.Ring(index) }
	if !index.IsFragments() {
		return f.guard.Primary(c, f.Self, current)
	}
	at, err := strconv.Atoi(c.Header.Get(backend.FragmentIndex))
	return err == nil && at >= 0 && f.guard.PrimaryAs(c, at, f.Self, current)
}

// policyOf is the index that a call is about: of a policy that codes, or of its fragments.
func (f *Fragments) policyOf(c *replicator.Call) (policy.Index, error) {
	index, err := policy.ParseIndex(c.Header.Get(backend.PolicyIndex))
	if err != nil {
		return 0, err
	}
	if p, ok := f.Policies.ByIndex(index.Objects()); !ok || !p.Coded() || f.Ring(index) == nil {
		return 0, errs.Refuse(errs.Invalid, "this cluster has no storage policy %d with fragments", index.Objects())
	}
	return index, nil
}

// Serve implements replicator.Kind.
func (f *Fragments) Serve(ctx context.Context, c *replicator.Call) (*backend.Response, error) {
	store, ok := f.Stores[c.Device]
	if !ok {
		return nil, errs.E(errs.Op("fragments.serve"), errs.Subject(c.Device), errs.BadDevice, "no such device here")
	}
	index, err := f.policyOf(c)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Whole && c.Method == "REPLICATE" && !index.IsFragments():
		return f.judge(ctx, store, index, c)
	case c.Whole && c.Method == "REPLICATE":
		return f.give(ctx, store, index, c)
	case c.Whole:
		return nil, errs.Refuse(errs.Invalid, "fragments are not %s many at a time", c.Method)
	case c.Method == "REPLICATE" && index.IsFragments() && c.Header.Get(replwire.HashesHeader) == "true":
		return f.listHashes(ctx, store, index, c)
	case c.Method == "REPLICATE" && index.IsFragments():
		return f.listFragments(ctx, store, index, c)
	case c.Method == "REPLICATE":
		return f.listCommits(ctx, store, index, c)
	case !index.IsFragments():
		return nil, errs.Refuse(errs.Invalid, "storage policy %d has no fragments: they are kept as %d", index, index.Fragments())
	case c.Method == "GET" && c.Header.Has(backend.FragmentSuspect):
		return f.suspect(c)
	case c.Method == "PUT", c.Method == "GET":
		return f.carry(ctx, c)
	}
	return nil, errs.Refuse(errs.Method, "no peer has a fragment %s here", c.Method)
}

// carry has the object server take a fragment, on stable storage when that returns 201, or give
// one out.
func (f *Fragments) carry(ctx context.Context, c *replicator.Call) (*backend.Response, error) {
	if c.Path.Object == "" {
		return nil, errs.Refuse(errs.Invalid, "path names no object")
	}
	if h := f.Hasher.Hash(c.Path); !c.Holds(h) {
		return nil, errs.Refuse(errs.Invalid, "the path's hash %s is not in partition %d of part power %d", h, c.Partition, c.PartPower)
	}
	progress := f.Pace.Of(c.Device).Progress()
	if c.Method == "PUT" {
		progress.Arrived(max(0, c.Length))
	}
	resp, err := f.Server.Serve(ctx, c.Request)
	if err == nil && c.Method == "PUT" && resp.Status == 201 {
		progress.Took(c.Length)
	}
	return resp, err
}

// octets is the answer that an encoded list is.
func octets(body []byte) *backend.Response {
	return &backend.Response{
		Status: 200, Length: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		Header: backend.Header{{Name: backend.ContentType, Value: "application/octet-stream"}},
	}
}

// listFragments tells which fragments a device holds in a range.
func (f *Fragments) listFragments(ctx context.Context, store Store, index policy.Index, c *replicator.Call) (*backend.Response, error) {
	body := replwire.Begin(nil, replwire.Objects)
	count, more := 0, false
	began := time.Now()
	for entry, err := range store.Walk(ctx, index, c.From, c.To) {
		if err != nil {
			return nil, err // what is left out would look as if it were not there
		}
		if count == maxStates || count > 0 && time.Since(began) > listTime {
			more = true
			break
		}
		body = replwire.AppendObject(body, &entry.Object)
		count++
	}
	return octets(replwire.End(body, count, more)), nil
}

// listHashes tells under which hashes in a range a device holds fragments.
func (f *Fragments) listHashes(ctx context.Context, store Store, index policy.Index, c *replicator.Call) (*backend.Response, error) {
	body := replwire.BeginHashes(nil)
	count, more := 0, false
	began := time.Now()
	for h, err := range store.Present(ctx, index, c.From, c.To) {
		if err != nil {
			return nil, err // what is left out would look as if it were not there
		}
		if count == maxHashes || count > 0 && count%256 == 0 && time.Since(began) > listTime { // it may be an index that no memory has
			more = true
			break
		}
		body = append(body, h[:]...)
		count++
	}
	return octets(replwire.End(body, count, more)), nil
}

// listCommits tells which objects a device holds in a range whose data is in fragments.
func (f *Fragments) listCommits(ctx context.Context, store Store, index policy.Index, c *replicator.Call) (*backend.Response, error) {
	r := f.Ring(index)
	if why := f.May(c.Device, index, r, r.Partition(c.From)); why != nil {
		return nil, errs.E(errs.Op("fragments.list"), errs.Subject(c.Device), errs.Unavailable, why)
	}
	var list replwire.CommitList
	more := false
	began := time.Now()
	for entry, err := range store.Walk(ctx, index, c.From, c.To) {
		if err != nil {
			return nil, err
		}
		if entry.Kind != replwire.Data || entry.Coded == "" || entry.Name.Object == "" {
			continue
		}
		if !list.Room() || time.Since(began) > listTime && !list.Empty() {
			more = true
			break
		}
		list.Add(entry.Name, entry.Times.Data, entry.Coded)
	}
	return octets(list.Encoded(more)), nil
}

// judge says what a device knows of some writes.
func (f *Fragments) judge(ctx context.Context, store Store, index policy.Index, c *replicator.Call) (*backend.Response, error) {
	asked, err := replwire.Read(c.Body)
	var list []replwire.Write
	if err == nil {
		list, err = replwire.ParseWrites(asked)
	}
	if err != nil {
		return nil, garbled(err)
	}
	r := f.Ring(index)
	said := make([]replwire.Judged, len(list))
	may := map[ring.Partition]error{}
	for i := range list {
		w := &list[i]
		at := r.Partition(w.Hash)
		why, known := may[at]
		if !known {
			why = f.May(c.Device, index, r, at)
			may[at] = why
		}
		said[i].Primary = replicator.PlaceOf(r, at, c.Device, f.Self) >= 0
		if why != nil {
			continue // it is unsure
		}
		if said[i].Verdict, err = verdict(ctx, store, index, w); err != nil {
			return nil, err
		}
	}
	return octets(replwire.AppendVerdicts(nil, asked, said)), nil
}

// verdict is what a store knows of a write.
func verdict(ctx context.Context, store Store, index policy.Index, w *replwire.Write) (replwire.Verdict, error) {
	e, err := store.Stat(ctx, index, w.Hash)
	if err != nil {
		return replwire.Unsure, err
	}
	return verdictOn(&e, w), nil
}

// verdictOn is what the state of an object says of a write of it.
func verdictOn(e *Entry, w *replwire.Write) replwire.Verdict {
	t := e.Times.Data
	later := t.Compare(w.Time)
	switch {
	case e.Kind == replwire.Lost, e.Kind != 0 && e.Kind != replwire.Waiting && t.IsZero():
		return replwire.Unsure
	case e.Kind == 0:
		return replwire.Unknown
	case e.Kind == replwire.Waiting: // data of some time has been somewhere
		if e.Newest().Before(w.Time) {
			return replwire.Unknown
		}
		return replwire.Unsure
	case e.Kind == replwire.Tombstone && t.IsExpiry() && t.Ticks() == w.Time.Ticks():
		if t.Void(e.Times.Meta) || later < 0 {
			return replwire.Unsure
		}
		return replwire.Ended
	case later > 0 || later == 0 && e.Kind == replwire.Tombstone:
		return replwire.Newer
	case later < 0:
		return replwire.Unknown
	}
	if c, err := backend.ParseCoded(e.Coded); err == nil && c.Write == w.ID {
		return replwire.Current
	} else if err != nil && e.Coded != "" {
		return replwire.Unsure
	}
	return replwire.Another
}
