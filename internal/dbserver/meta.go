package dbserver

import (
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/metadb"
	"martlet/internal/timestamp"
)

// Fields returns the headers of a write that are metadata.
func (c *Core) Fields(call *Call) []metadb.Field {
	var list []metadb.Field
	for _, f := range call.Header {
		if c.isMeta(f.Name) {
			list = append(list, metadb.Field{Name: metadb.Canonical(f.Name), Value: f.Value, Stamp: call.Stamp})
		}
	}
	return list
}

func (c *Core) isMeta(header string) bool {
	for _, prefix := range []string{c.meta, c.sysmeta} {
		if rest, ok := backend.CutPrefix(header, prefix); ok && rest != "" {
			return true
		}
	}
	for _, n := range c.kind.Named {
		if strings.EqualFold(header, n) {
			return true
		}
	}
	return false
}

// MergeFields merges metadata into a database. If that made it too much, the
// error is of kind errs.Invalid and nothing is merged.
func (c *Core) MergeFields(tx *metadb.Tx, list []metadb.Field) error {
	if len(list) == 0 {
		return nil
	}
	joined, err := tx.JoinFields(list)
	if err != nil {
		return err
	}
	count, size := 0, 0
	for _, f := range joined {
		if rest, ok := strings.CutPrefix(f.Name, c.meta); ok && f.Value != "" {
			count++
			size += len(rest) + len(f.Value)
		}
	}
	if count > c.cfg.MaxMeta {
		return errs.Refuse(errs.Invalid, "Too many metadata items; max %d", c.cfg.MaxMeta)
	}
	if size > c.cfg.MaxMetaLen {
		return errs.Refuse(errs.Invalid, "Total metadata too large; max %d", c.cfg.MaxMetaLen)
	}
	return tx.MergeFields(list)
}

// AddStamps appends what a database says of its own times, which it also says
// when it is deleted.
func AddStamps(h *backend.Header, i metadb.Info) {
	for _, f := range []struct {
		name  string
		stamp timestamp.T
	}{
		{backend.BackendStamp, i.Created},
		{backend.BackendPut, i.Put},
		{backend.BackendDelete, i.Delete},
		{BackendChanged, i.StatusChanged},
	} {
		h.Add(f.name, f.stamp.String())
	}
}

// AddLive appends what a database that is not deleted says of itself: its
// stamps as clients see them, and its metadata.
func AddLive(h *backend.Header, tx *metadb.Tx) error {
	i := tx.Info()
	h.Add(backend.Timestamp, i.Created.Normal())
	h.Add("X-PUT-Timestamp", i.Put.Normal())
	fields, err := tx.Fields()
	for _, f := range fields {
		if f.Value != "" {
			h.Add(f.Name, f.Value)
		}
	}
	return err
}

// Query reads the parameters of a listing.
func (c *Core) Query(call *Call) (metadb.Query, error) {
	p, err := listing.Parse(call.Query, c.cfg.MaxListing)
	return metadb.Query{Params: p, Reserved: listing.Truth(call.Header.Get(backend.AllowReserved))}, err
}

// List returns a page as a JSON array. Entry appends one entry; a nil row is a
// subdir.
func List(tx *metadb.Tx, q metadb.Query, entry func(b []byte, name string, row []byte) ([]byte, error)) ([]byte, error) {
	b := []byte{'['}
	err := tx.List(q, func(name, row []byte) (err error) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b, err = entry(b, string(name), row)
		return err
	})
	return append(b, ']'), err
}
