package databases

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
)

const (
	// maxDatabases is how many databases are in one list, and in what a pass looks
	// at of a partition at once.
	maxDatabases = 4096

	// listTime is for how long a list is made before what there is is sent: the
	// asker must not take a slow disk for a dead node.
	listTime = time.Second
)

// Primary implements replicator.Kind.
func (d *Databases) Primary(c *replicator.Call) bool { return d.guard.Primary(c, d.Self, d.Ring) }

// Serve implements replicator.Kind.
func (d *Databases) Serve(ctx context.Context, c *replicator.Call) (*backend.Response, error) {
	switch {
	case c.Whole:
		return nil, errs.Refuse(errs.Invalid, "%ss are compared and pushed by partitions", d.name)
	case c.Method == "REPLICATE":
		return d.tell(ctx, c)
	case c.Method == "PUT":
		return d.merge(ctx, c)
	}
	return nil, errs.Refuse(errs.Method, "%s can only be PUT", d.name)
}

// tell lists what a device holds in a range.
func (d *Databases) tell(ctx context.Context, c *replicator.Call) (*backend.Response, error) {
	body := replwire.Begin(nil, d.list)
	count, more := 0, false
	began := time.Now()
	for hash, err := range d.Store.Walk(ctx, c.Device, c.From, c.To) {
		if err != nil {
			return nil, err // databases that are left out would look as if they were not there
		}
		if count == maxDatabases || count > 0 && time.Since(began) > listTime {
			more = true
			break
		}
		state, err := d.Store.State(ctx, c.Device, hash)
		switch {
		case errs.Is(err, errs.NotFound):
			continue // dropped meanwhile, or it may be forgotten
		case errs.Is(err, errs.Corrupt):
			d.Log.LogAttrs(ctx, slog.LevelError, "a database that can't be read was left out for a peer", slog.String("peer", c.Peer),
				slog.String("device", c.Device), slog.String("kind", d.name), slog.String("hash", hash.String()), slog.Any("err", err))
			continue
		case err != nil:
			return nil, err
		}
		body = replwire.AppendDatabase(body, &state)
		count++
	}
	return answer(replwire.End(body, count, more)), nil
}

func answer(list []byte) *backend.Response {
	return &backend.Response{
		Status: 200, Length: int64(len(list)), Body: io.NopCloser(bytes.NewReader(list)),
		Header: backend.Header{{Name: backend.ContentType, Value: "application/octet-stream"}},
	}
}

// merge takes a part of a database.
func (d *Databases) merge(ctx context.Context, c *replicator.Call) (*backend.Response, error) {
	if !d.owns(c.Path) {
		return nil, errs.Refuse(errs.Invalid, "path names no %s", d.name)
	}
	hash := d.Hasher.Hash(c.Path)
	if !c.Holds(hash) {
		return nil, errs.Refuse(errs.Invalid, "the path's hash %s is not in partition %d of part power %d", hash, c.Partition, c.PartPower)
	}
	if c.Length > replwire.MaxList {
		return nil, errs.Refuse(errs.TooLarge, "a part of a database has at most %d bytes", replwire.MaxList)
	}
	select {
	case d.merges <- struct{}{}:
		defer func() { <-d.merges }()
	case <-ctx.Done():
		return nil, errs.E(errs.Aborted, context.Cause(ctx))
	}
	part, err := replwire.Read(c.Body)
	if errors.Is(err, replwire.ErrList) {
		err = errs.E(errs.Invalid, errs.Public(err.Error()), err)
	}
	if err != nil {
		return nil, err
	}
	text, isWhole := c.Header.Lookup(replwire.WholeHeader)
	if isWhole {
		return d.build(ctx, c, hash, text, part)
	}
	now, err := d.Store.Merge(ctx, c.Device, c.Path, hash, part)
	if err == nil && c.Header.Get(replwire.RetellHeader) == "true" {
		err = d.Store.Retell(ctx, c.Device, hash)
	}
	if err != nil {
		return nil, err // errs.Gone is 410
	}
	return d.merged(c, &now, part), nil
}

// build takes a part of a database that is made when the last has come.
func (d *Databases) build(ctx context.Context, c *replicator.Call, hash name.Hash, text string, part []byte) (*backend.Response, error) {
	whole, err := replwire.ParseWhole(text)
	if err != nil {
		return nil, errs.E(errs.Invalid, errs.Public(err.Error()), err)
	}
	now, err := d.Store.Build(ctx, c.Device, c.Path, hash, whole, part)
	switch {
	case err != nil:
		return nil, err
	case whole.Last:
		return d.merged(c, &now, part), nil
	}
	return answer(replwire.End(replwire.Begin(nil, d.list), 0, false)), nil
}

// merged says what a database is after a part.
func (d *Databases) merged(c *replicator.Call, now *replwire.Database, part []byte) *backend.Response {
	if replwire.Last(part) {
		d.brought.note(c.Device, bringer{now.Hash, c.Header.Get(replwire.SenderHeader)}, d.Now())
	}
	return answer(replwire.End(replwire.AppendDatabase(replwire.Begin(nil, d.list), now), 1, false))
}
