package objects

import (
	"bytes"
	"context"
	"iter"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// maxObjects is how many objects are in one list, and in what a pass looks at of a
// partition at once.
const maxObjects = 8192

// listTime is for how long a list is made before what there is is sent: the asker
// must not take a slow disk for a dead node.
const listTime = time.Second

// Primary implements replicator.Kind.
func (o *Objects) Primary(c *replicator.Call) bool {
	index, err := policy.ParseIndex(c.Header.Get(backend.PolicyIndex))
	if err != nil || o.Ring(index) == nil {
		return false // Serve says what is wrong
	}
	return o.guard.Primary(c, o.Self, func() *ring.Ring { return o.Ring(index) })
}

// Serve implements replicator.Kind.
func (o *Objects) Serve(ctx context.Context, c *replicator.Call) (*backend.Response, error) {
	store, ok := o.Stores[c.Device]
	if !ok {
		return nil, errs.E(errs.Op("objects.serve"), errs.Subject(c.Device), errs.BadDevice, "no such device here")
	}
	index, err := policy.ParseIndex(c.Header.Get(backend.PolicyIndex))
	if err != nil {
		return nil, err
	}
	if o.Ring(index) == nil {
		return nil, errs.Refuse(errs.Invalid, "this cluster has no storage policy %d", index)
	}
	switch {
	case c.Whole && c.Method == "REPLICATE":
		return o.compare(ctx, store, index, c)
	case c.Whole:
		o.Pace.Of(c.Device).Progress().Arrived(c.Length)
		return o.takeMany(ctx, store, index, c)
	case c.Method == "REPLICATE":
		if !o.mayBring(c, index) {
			return &backend.Response{Status: 409}, nil
		}
		resp, err := o.list(ctx, store, index, c)
		if err == nil {
			o.want(index, c)
		}
		return resp, err
	}
	o.Pace.Of(c.Device).Progress().Arrived(max(0, c.Length))
	if c.Method == "PUT" {
		k, sender := claimOf(c, index, o.Hasher.Hash(c.Path))
		defer o.claims.begin(k, sender)()
	}
	return o.merge(ctx, store, index, c)
}

// list tells what a device holds in a range, or under those hashes in it that are asked for. It is cut when it has taken its time, at a hash that is not
// there, too, where the asker understands that: else it would wait for as many as it has named, each a look on a slow disk, and would take that for silence.
func (o *Objects) list(ctx context.Context, store Store, p policy.Index, c *replicator.Call) (*backend.Response, error) {
	entries := store.Walk(ctx, p, c.From, c.To)
	if text := c.Header.Get(replwire.NamesHeader); text != "" {
		names, err := replwire.ParseNames(text)
		if err != nil {
			return nil, garbled(err)
		}
		entries = under(ctx, store, p, c, names)
	}
	nothing := c.Header.Get(replwire.NothingHeader) == "true"
	body := replwire.Begin(nil, replwire.Objects)
	count, more := 0, false
	var looked *name.Hash // the last one, where nothing was under it
	began := time.Now()
	for entry, err := range entries {
		if err != nil {
			return nil, err // a name that is left out would look as if it were not there
		}
		if begun := count > 0 || nothing && looked != nil; count == maxObjects || begun && time.Since(began) > listTime {
			more = true
			break
		}
		if looked = nil; entry.Kind == 0 {
			looked = &entry.Hash
			continue
		}
		body = replwire.AppendObject(body, &entry)
		count++
	}
	if more && nothing && looked != nil {
		body = replwire.AppendNothing(body, *looked)
		count++
	}
	return octets(replwire.End(body, count, more)), nil
}

// under yields what is under some hashes, nothing as well, as far as they are in the range of a call.
func under(ctx context.Context, store Store, p policy.Index, c *replicator.Call, names []name.Hash) iter.Seq2[replwire.Object, error] {
	return func(yield func(replwire.Object, error) bool) {
		for _, h := range names {
			if compareHashes(h, c.From) < 0 || compareHashes(h, c.To) > 0 {
				continue
			}
			s, err := store.Stat(ctx, p, h)
			if s.Hash = h; !yield(s.Object, err) {
				return
			}
		}
	}
}

// merge has the object server take what is pushed, on stable storage when this
// returns 2xx: 201, 202, 204; 409 says that what is there is not older, or was
// lost when it was newer, or that metadata was taken of an object that had come to its
// end here: it may have shown in a list before that, and is to be brought again.
func (o *Objects) merge(ctx context.Context, store Store, p policy.Index, c *replicator.Call) (*backend.Response, error) {
	if c.Path.Object == "" {
		return nil, errs.Refuse(errs.Invalid, "path names no object")
	}
	h := o.Hasher.Hash(c.Path)
	if !c.Holds(h) {
		return nil, errs.Refuse(errs.Invalid, "the path's hash %s is not in partition %d of part power %d", h, c.Partition, c.PartPower)
	}
	ts, err := c.Stamp()
	if err != nil {
		return nil, err
	}
	if c.Method != "PUT" {
		if c.Length != 0 {
			return nil, errs.Refuse(errs.Invalid, "%s has no body", c.Method)
		}
		if err := o.remembered(ctx, store, p, h, ts); err != nil {
			return nil, err
		}
	}
	resp, err := o.Merge.Serve(ctx, c.Request)
	if err == nil && c.Method == "DELETE" && resp.Status == 404 && resp.Header.Get(backend.BackendStamp) == ts.String() {
		resp.Status = 204 // the tombstone is there; that nothing was before it does not matter here
	}
	if err == nil && c.Method == "POST" && resp.Status == 202 && void(resp) {
		resp.Status = 409
	}
	if err == nil && c.Method == "PUT" {
		switch progress := o.Pace.Of(c.Device).Progress(); resp.Status {
		case 201:
			progress.Took(c.Length)
		case 409:
			progress.Needless(c.Length)
		}
	}
	return resp, err
}

// void reports whether an answer is of an end that metadata shows to be void.
func void(resp *backend.Response) bool {
	data, err := timestamp.Parse(resp.Header.Get(backend.DataStamp))
	newest, errNewest := timestamp.Parse(resp.Header.Get(backend.BackendStamp))
	return err == nil && errNewest == nil && data.Void(newest)
}

// remembered refuses a tombstone, or metadata without data, that may have been
// forgotten here: else it would go round between devices for ever.
func (o *Objects) remembered(ctx context.Context, store Store, p policy.Index, h name.Hash, ts timestamp.T) error {
	if !ts.Happened().Before(o.horizon()) {
		return nil
	}
	s, err := store.Stat(ctx, p, h)
	if err == nil && s.Kind == 0 {
		err = errs.Refuse(errs.Gone, "%s is before the reclaim age, and nothing older is here", ts)
	}
	return err
}

func compareHashes(a, b name.Hash) int { return bytes.Compare(a[:], b[:]) }
