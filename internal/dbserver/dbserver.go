// Package dbserver is what the account and the container server have in common:
// how a request names a database, which stamps are believed, which headers are
// metadata and how much of it there may be, and how a listing is put together.
//
// It knows no verbs: what a request does to a database is each server's own.
package dbserver

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"martlet/internal/backend"
	"martlet/internal/crew"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// Header names that only these two servers speak.
const (
	AutoCreate     = "X-Backend-Auto-Create"
	BackendChanged = "X-Backend-Status-Changed-At"
)

// autoPrefix begins the accounts that are made when they are first written to.
const autoPrefix = "."

// Config is what an operator can set. Zero values are the defaults.
type Config struct {
	MaxAhead   time.Duration // how far a stamp may be ahead of the clock; default 60 s
	MaxListing int           // entries of one listing; default 10000
	MaxMeta    int           // items of user metadata; default 90
	MaxMetaLen int           // bytes of their names and values; default 4096
	Open       int           // unused databases kept open per device; default metadb.DefaultOpen
}

func (c Config) withDefaults() Config {
	if c.MaxAhead <= 0 {
		c.MaxAhead = time.Minute
	}
	if c.MaxListing <= 0 {
		c.MaxListing = 10_000
	}
	if c.MaxMeta <= 0 {
		c.MaxMeta = 90
	}
	if c.MaxMetaLen <= 0 {
		c.MaxMetaLen = 4096
	}
	return c
}

// Deps is what a server is given.
type Deps struct {
	Devices  *device.Set
	Hasher   name.Hasher
	Policies policy.Set
	Clock    *timestamp.Source // nil is one over the machine's clock
	Log      *slog.Logger      // nil is slog.Default

	// Journal opens the journal of a device for the server's databases (metadb.Config);
	// nil for none.
	Journal func(ctx context.Context, dev *device.Device, hooks metadb.JournalHooks) (metadb.Journal, error)

	// Horizon returns the time before which what was deleted may be forgotten (metadb.Config);
	// nil is never.
	Horizon func() timestamp.T
}

// Kind is what tells one server from the other.
type Kind struct {
	Schema metadb.Schema
	Title  string                      // "Account" or "Container", as it stands in header names
	Named  []string                    // headers that are metadata beside X-<Title>-Meta- and -Sysmeta-
	Owner  func(p name.Path) name.Path // the path of the database that a path belongs to; empty if it names none
	Track  bool                        // remember which databases changed
}

// Core is the common half of a server.
type Core struct {
	Deps
	Store *metadb.Store

	cfg           Config
	kind          Kind
	meta, sysmeta string    // header prefixes
	batches       crew.Crew // of updates that came together
}

// New opens the databases of a kind. Close ends it.
func New(cfg Config, kind Kind, deps Deps) *Core {
	if deps.Clock == nil {
		deps.Clock = timestamp.NewSource(nil)
	}
	if deps.Log == nil {
		deps.Log = slog.Default()
	}
	return &Core{
		Deps:    deps,
		Store:   metadb.New(metadb.Config{Open: cfg.Open, Track: kind.Track, Log: deps.Log, Journal: deps.Journal, Horizon: deps.Horizon}, kind.Schema, deps.Devices),
		cfg:     cfg.withDefaults(),
		kind:    kind,
		meta:    "X-" + kind.Title + "-Meta-",
		sysmeta: "X-" + kind.Title + "-Sysmeta-",
	}
}

// Close closes the databases, waiting for requests under way.
func (c *Core) Close() {
	c.batches.Close()
	c.Store.Close()
}

// A Call is a request, parsed.
type Call struct {
	*backend.Request
	Target backend.Target
	Owner  name.Path        // whose database
	At     metadb.Location  // and where it is
	Stamp  timestamp.T      // of a write; zero in a read
	Times  timestamp.Packed // the same with what an object's row adds
}

// Parse reads what every request says. A stamp too far ahead is of kind
// errs.Invalid, a device that can't be used of errs.BadDevice, and one that is full
// of errs.NoSpace where the request would make it fuller.
func (c *Core) Parse(r *backend.Request) (Call, error) {
	call := Call{Request: r}
	var err error
	if call.Target, err = backend.ParseTarget(r.Path); err != nil {
		return Call{}, err
	}
	if call.Owner = c.kind.Owner(call.Target.Path); call.Owner == (name.Path{}) {
		return Call{}, errs.Refuse(errs.Invalid, "path has the wrong number of parts")
	}
	if call.At.Device, err = c.Devices.Lookup(call.Target.Device); err != nil {
		return Call{}, err
	}
	call.At.Hash = c.Hasher.Hash(call.Owner)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return call, nil
	}
	if call.Target.Path.Object != "" {
		call.Times, err = c.packed(r)
	} else {
		call.Times.Data, err = r.Stamp()
	}
	call.Stamp = call.Times.Data
	if err == nil {
		err = c.CheckStamps(call.Times.Data, call.Times.ContentType, call.Times.Meta)
	}
	if err == nil && wantsRoom(r) {
		err = call.At.Device.Room(0)
	}
	return call, err
}

// wantsRoom reports whether a write is of those that leave the device's reserve
// alone. It is there for what leads to room: deletes, and the row of a container
// that was deleted.
func wantsRoom(r *backend.Request) bool {
	if r.Method != http.MethodPut && r.Method != http.MethodPost {
		return false
	}
	if !r.Header.Has(backend.DeleteStamp) {
		return true // as with the row of any object: there is nothing to read
	}
	put, errPut := timestamp.Parse(r.Header.Get(backend.PutStamp))
	gone, errGone := timestamp.Parse(r.Header.Get(backend.DeleteStamp))
	return errPut != nil || errGone != nil || !gone.After(put)
}

func (c *Core) packed(r *backend.Request) (timestamp.Packed, error) {
	text := r.Header.Get(backend.Timestamp)
	if !strings.ContainsAny(text, "+-") {
		t, err := r.Stamp()
		return timestamp.Packed{Data: t, ContentType: t, Meta: t}, err
	}
	p, err := timestamp.ParsePacked(text)
	if err != nil || p.Data.IsZero() {
		return p, errs.E(errs.Invalid, errs.Public("X-Timestamp is not a timestamp"), err)
	}
	return p, nil
}

// CheckStamps refuses stamps further ahead of the clock than the clocks of a
// cluster may differ: such a one would win against all that comes in the time
// between. An expiry is one if it can't be due by then.
func (c *Core) CheckStamps(list ...timestamp.T) error {
	limit := c.Clock.Next().Add(c.cfg.MaxAhead)
	for _, t := range list {
		if t.Earliest().After(limit) {
			return errs.Refuse(errs.Invalid, "timestamp %s is more than %s ahead of this node's clock", t, c.cfg.MaxAhead)
		}
	}
	return nil
}

// StampIn reads the timestamp of a header, and returns def if it is not there.
func (c *Core) StampIn(r *backend.Request, header string, def timestamp.T) (timestamp.T, error) {
	text, ok := r.Header.Lookup(header)
	if !ok || text == "" {
		return def, nil
	}
	t, err := timestamp.Parse(text)
	if err != nil {
		return t, errs.E(errs.Invalid, errs.Public(header+" is not a timestamp"), err)
	}
	return t, c.CheckStamps(t)
}

// Number reads a header that must be a number, not negative.
func Number(r *backend.Request, header string) (int64, error) {
	n, err := strconv.ParseInt(r.Header.Get(header), 10, 64)
	if err != nil || n < 0 {
		return 0, errs.Refuse(errs.Invalid, "%s is missing or not a number", header)
	}
	return n, nil
}

// Policy reads the index of a policy that the cluster has from a header; ok
// says whether there is one. An index that this node's configuration does not have is
// of kind errs.Unavailable: proxies choose only what theirs has, so it is the cluster that is
// at fault, and other nodes may know better.
func (c *Core) Policy(r *backend.Request, header string) (index policy.Index, ok bool, err error) {
	text, ok := r.Header.Lookup(header)
	if !ok || text == "" {
		return 0, false, nil
	}
	if index, err = policy.ParseIndex(text); err != nil {
		return 0, false, err
	}
	if _, known := c.Policies.ByIndex(index); !known {
		return 0, false, errs.Refuse(errs.Unavailable, "%s %d: this node's configuration has no such policy", header, index)
	}
	return index, true, nil
}

// AutoCreates reports whether the database of a request is to be made if there
// is none.
func (call *Call) AutoCreates() bool {
	if text, ok := call.Header.Lookup(AutoCreate); ok {
		return listing.Truth(text)
	}
	return strings.HasPrefix(call.Owner.Account, autoPrefix)
}

// MergeRow is Store.MergeRows for the database of a call, which is made with info if it
// makes its own.
func (c *Core) MergeRow(ctx context.Context, call *Call, info metadb.Info, admit func(metadb.Info) error, row metadb.Row) error {
	err := c.Store.MergeRows(ctx, call.At, admit, row)
	if !errs.Is(err, errs.NotFound) || !call.AutoCreates() {
		return err
	}
	return c.Store.Ensure(ctx, call.At, info, func(tx *metadb.Tx) error {
		if admit != nil {
			if err := admit(tx.Info()); err != nil {
				return err
			}
		}
		_, err := tx.MergeRow(row.Space, row.Name, row.Row)
		return err
	})
}

// Respond returns a response of a status without a body.
func Respond(status int, h backend.Header) *backend.Response {
	return &backend.Response{Status: status, Header: h}
}

// JSON returns a response with a listing.
func JSON(h backend.Header, body []byte) *backend.Response {
	h.Add(backend.ContentType, "application/json; charset=utf-8")
	return &backend.Response{
		Status: http.StatusOK, Header: h, Length: int64(len(body)),
		Body: io.NopCloser(bytes.NewReader(body)),
	}
}
