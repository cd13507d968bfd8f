package object

import (
	"context"
	"iter"
	"strconv"
	"strings"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/object/engine"
	"martlet/object/pending"
)

// store is what the handlers need of a device's engine.
type store interface {
	Stat(ctx context.Context, at engine.Location) (engine.State, error)
	Open(ctx context.Context, at engine.Location) (*engine.Reader, error)
	Create(ctx context.Context, at engine.Location, size int64) (*engine.Writer, error) // for Commit and CommitBeside
	CreateAbout(ctx context.Context, at engine.Location, about int64) (*engine.Writer, error)
	Update(ctx context.Context, at engine.Location, c engine.Change, terms engine.Terms) (engine.Outcome, error)
	Delete(ctx context.Context, at engine.Location, path name.Path, ts timestamp.T, terms engine.Terms) (engine.Outcome, error)
	Drop(ctx context.Context, at engine.Location, still func(*engine.State) bool) (bool, error)
	Walk(ctx context.Context, p policy.Index, from, to name.Hash) iter.Seq2[engine.Entry, error]
	Untold(at engine.Location)
}

// Headers that only this package speaks.
const (
	hdrReplication = "X-Backend-Replication"
	hdrOpenExpired = "X-Backend-Open-Expired"
	hdrEtagIsAt    = "X-Backend-Etag-Is-At"
	hdrNoRangeIf   = "X-Backend-Ignore-Range-If-Metadata-Present"
	hdrBoundary    = "X-Backend-Boundary"
	hdrTypeStamp   = backend.TypeStamp
	hdrDurable     = "X-Backend-Durable-Timestamp"
	hdrDeleteAt    = engine.DeleteAtField
	hdrIfDeleteAt  = "X-If-Delete-At"
)

// call is one request, parsed.
type call struct {
	*backend.Request
	target  backend.Target
	at      engine.Location
	store   store
	queue   *pending.Queue
	updates []place  // of the container's listing, to be told
	only    [1]place // those, where it is one
	hasher  name.Hasher
	now     time.Time
	skew    time.Duration // by how much the clocks of a cluster may differ

	coded      *backend.Coded // what is written says of its fragments; nil where its data comes with it
	newVersion bool           // what is written is to be a version
	preserved  timestamp.T    // data up to then is kept already

	replication bool // it comes from another replica, with what a client wrote once
	expired     bool // objects past their time are still to be seen
}

// place is one replica of the container.
type place struct{ addr, device string }

// parse reads what all methods have in common.
func (s *Server) parse(r *backend.Request) (*call, error) {
	target, err := backend.ParseTarget(r.Path)
	if err != nil {
		return nil, err
	}
	if target.Path.Object == "" {
		return nil, errs.Refuse(errs.Invalid, "path names no object")
	}
	d, err := s.Devices.Lookup(target.Device)
	if err != nil {
		return nil, err
	}
	kept := s.Stores[d.Name()]
	c := &call{Request: r, target: target, store: kept.Engine, queue: kept.Queue, hasher: s.Hasher, now: s.Now(), skew: s.cfg.ClockSkew}
	c.at.Hash = s.Hasher.Hash(target.Path)
	if text := r.Header.Get(backend.PolicyIndex); text != "" {
		if c.at.Policy, err = policy.ParseIndex(text); err != nil {
			return nil, err
		}
	}
	c.replication = truth(r.Header.Get(hdrReplication))
	c.expired = c.replication || truth(r.Header.Get(hdrOpenExpired))
	return c, nil
}

func truth(s string) bool {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on", "t", "y":
		return true
	}
	return false
}

// parseWrite reads what all writes of objects have in common.
func (s *Server) parseWrite(c *call) (timestamp.T, error) {
	ts, err := s.parseStamp(c)
	if err != nil {
		return ts, err
	}
	return ts, c.parsePlaces()
}

// parseStamp reads the time of a write.
func (s *Server) parseStamp(c *call) (timestamp.T, error) {
	ts, err := c.Stamp()
	if err == nil && c.ahead(ts.Earliest().Time()) {
		err = errs.Refuse(errs.Invalid, "X-Timestamp is more than %v ahead of this server's clock", s.cfg.ClockSkew)
	}
	return ts, err
}

// stampText is the text of a write's time: that which the request has it in, if that is the usual form.
func (c *call) stampText(ts timestamp.T) string { return ts.Said(c.Header.Get(backend.Timestamp)) }

// ahead reports whether a time is further ahead of this server's clock than the clocks
// of a cluster may differ.
func (c *call) ahead(t time.Time) bool { return t.Sub(c.now) > c.skew }

// parsePlaces reads who is to be told of the write.
func (c *call) parsePlaces() error {
	host, device := c.Header.Get(backend.ContainerHost), c.Header.Get(backend.ContainerDevice)
	if host == "" || c.replication {
		return nil
	}
	if !strings.Contains(host, ",") && !strings.Contains(device, ",") && device != "" { // mostly it is one
		c.only[0] = place{strings.TrimSpace(host), strings.TrimSpace(device)}
		c.updates = c.only[:]
		return nil
	}
	hosts, devices := list(host), list(device)
	if len(hosts) != len(devices) || len(hosts) > 32 {
		return errs.Refuse(errs.Invalid, "%s and %s do not fit", backend.ContainerHost, backend.ContainerDevice)
	}
	for i, host := range hosts {
		c.updates = append(c.updates, place{host, devices[i]})
	}
	return nil
}

// list splits a list at its commas.
func list(s string) []string {
	if s == "" {
		return nil
	}
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// firstOf cuts the first item that says something off a list with commas. At the end it is empty.
func firstOf(list string) (item, rest string) {
	for item == "" && list != "" {
		item, list, _ = strings.Cut(list, ",")
		item = strings.TrimSpace(item)
	}
	return item, list
}

// replaceable are the header fields that an object keeps until its metadata is
// replaced; the X-Object-Meta- and transient ones are as well.
var replaceable = []string{
	"Content-Disposition", "Content-Encoding", hdrDeleteAt, "X-Object-Manifest",
	"Cache-Control", "Content-Language", "Expires", "X-Robots-Tag",
}

const staticLargeObject = "X-Static-Large-Object"

// fields sorts out what of the header is stored: what stays as long as the data
// and what metadata replaces. An empty value stores nothing.
func (c *call) fields() (system, meta backend.Header) {
	for _, f := range c.Header {
		if f.Value == "" {
			continue
		}
		switch {
		case hasPrefix(f.Name, "X-Object-Meta-"), hasPrefix(f.Name, "X-Object-Transient-Sysmeta-"), isReplaceable(f.Name):
			meta = append(meta, f)
		case hasPrefix(f.Name, "X-Object-Sysmeta-"), strings.EqualFold(f.Name, staticLargeObject):
			system = append(system, f)
		}
	}
	return system, meta
}

func hasPrefix(name, prefix string) bool {
	_, ok := backend.CutPrefix(name, prefix)
	return ok
}

func isReplaceable(name string) bool {
	for _, r := range replaceable {
		if sameField(r, name) {
			return true
		}
	}
	return false
}

func sameField(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// parseDeleteAt checks the time of expiry of a write, if it has one. What a client
// wrote is stored as a plain number, whatever its form was; another replica's is
// stored as it is there.
func (c *call) parseDeleteAt() error {
	text := c.Header.Get(hdrDeleteAt)
	if text == "" {
		return nil
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil || at < 0 {
		return errs.Refuse(errs.Invalid, "Non-integer X-Delete-At")
	}
	if c.replication {
		return nil
	}
	if at < c.now.Unix() {
		return errs.Refuse(errs.Invalid, "X-Delete-At in past")
	}
	c.Header.Set(hdrDeleteAt, strconv.FormatInt(at, 10))
	return nil
}

// gone reports whether an object is past its time, by this server's clock.
func (c *call) gone(s *engine.State) bool { return c.goneBy(s, c.now.Unix()) }

// goneBy reports whether an object is past its time in a second since 1970.
func (c *call) goneBy(s *engine.State, second int64) bool {
	if c.expired || s.Kind != engine.Live {
		return false
	}
	at, ok := s.DeleteAt()
	return ok && at <= second
}

// visible returns the error for a name that a client sees nothing under.
func (c *call) visible(s engine.State) error {
	switch {
	case s.Kind == engine.Lost:
		return c.refuse(errs.Corrupt, s)
	case s.Kind != engine.Live, c.gone(&s):
		return c.refuse(errs.NotFound, s)
	}
	return nil
}

func (c *call) refuse(kind errs.Kind, s engine.State) error {
	return errs.E(errs.Op("object."+strings.ToLower(c.Method)), errs.Subject(c.at.String()), kind, &engine.StateError{State: s})
}
