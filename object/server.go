// Package object is the object server of a storage node: it answers the backend
// requests for objects on the node's devices.
//
// It promises that what it has answered with 2xx is on stable storage together
// with the record of it, that an update of the container's listing has then been
// delivered or is durably queued, and that a body which broke off leaves nothing
// behind. It leaves to the proxy who may do what, how many replicas there are,
// and the formats that clients see; to the engine how objects are kept; to the
// updater what is queued.
package object

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clock"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/object/engine"
	"martlet/object/pending"
)

// Config is what a Server can be told.
type Config struct {
	// ContainerUpdateTimeout is how long an answer waits for the container's
	// servers before the update is queued instead.
	ContainerUpdateTimeout time.Duration

	// ClockSkew is how far ahead of this node's clock a timestamp may be.
	ClockSkew time.Duration
}

// Defaults returns the configuration that fits most clusters.
func Defaults() Config {
	return Config{ContainerUpdateTimeout: time.Second, ClockSkew: time.Minute}
}

// Store is what is kept on one device.
type Store struct {
	Engine *engine.Engine
	Queue  *pending.Queue
}

// Stores is the stores of a node by name of their device. The server shares
// them with the node's other services.
type Stores map[string]Store

// OpenStores makes the stores of a set of devices. It does nothing to the
// disks. The stores follow their devices: one that is missing now may come later,
// and one that was away is opened afresh. Lost, unless it is nil, takes the place of what
// cfg says, and is told of the device as well.
func OpenStores(devices *device.Set, cfg engine.Config, lost func(device string, at engine.Location)) Stores {
	all := Stores{}
	for d := range devices.All() {
		if lost != nil {
			cfg.Lost = func(at engine.Location) { lost(d.Name(), at) }
		}
		s := Store{engine.New(d.Path(), cfg), pending.New(cfg.FS, d.Path())}
		d.Follow(s.Engine.Follow)
		d.Follow(s.Queue.Follow)
		all[d.Name()] = s
	}
	return all
}

// Deps is what a Server works with.
type Deps struct {
	Devices *device.Set
	Hasher  name.Hasher
	Stores  Stores
	Sender  pending.Sender   // how container servers are reached
	Silent  *pending.Silent  // those that don't answer, shared with who reads the queue; nil for one of its own
	Now     func() time.Time // nil for the machine's clock
	Log     *slog.Logger     // nil for none
}

// A Server is a backend.Handler. It is safe for concurrent use.
type Server struct {
	cfg Config
	Deps
}

// New returns the object server of a node. Every device must have its store.
func New(cfg Config, deps Deps) (*Server, error) {
	const op errs.Op = "object.new"
	if deps.Devices == nil || deps.Sender == nil {
		return nil, errs.E(op, errs.Invalid, "devices and a sender are needed")
	}
	if cfg.ContainerUpdateTimeout <= 0 || cfg.ClockSkew < 0 {
		return nil, errs.E(op, errs.Invalid, "the update timeout must be positive, the clock skew not negative")
	}
	for d := range deps.Devices.All() {
		if s := deps.Stores[d.Name()]; s.Engine == nil || s.Queue == nil {
			return nil, errs.E(op, errs.Subject(d.Name()), errs.Invalid, "the device has no store")
		}
	}
	if deps.Now == nil {
		deps.Now = clock.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Silent == nil {
		deps.Silent = pending.NewSilent(nil)
	}
	return &Server{cfg, deps}, nil
}

var _ backend.Handler = (*Server)(nil)

// Serve answers one request.
func (s *Server) Serve(ctx context.Context, r *backend.Request) (*backend.Response, error) {
	serve := s.verb(r.Method)
	if serve == nil {
		return nil, errs.Refuse(errs.Method, "the object server has no method %.20s", r.Method)
	}
	c, err := s.parse(r)
	if err != nil {
		return nil, err
	}
	if c.at.Policy.IsFragments() {
		if serve = s.verbOfFragments(r.Method); serve == nil {
			return nil, errs.Refuse(errs.Method, "fragments have no method %.20s", r.Method)
		}
	}
	resp, err := serve(ctx, c)
	if err != nil {
		return refusal(err)
	}
	return resp, nil
}

func (s *Server) verb(method string) func(context.Context, *call) (*backend.Response, error) {
	switch method {
	case "GET":
		return s.get
	case "HEAD":
		return s.head
	case "PUT":
		return s.put
	case "POST":
		return s.post
	case "DELETE":
		return s.delete
	}
	return nil
}

// refusal turns an error that carries the state of the name into an answer
// which tells the sender how new that is. Other errors stay.
func refusal(err error) (*backend.Response, error) {
	var plain *unversioned
	if errors.As(err, &plain) {
		return &backend.Response{Status: 409, Header: backend.Header{{Name: backend.Unversioned, Value: plain.at.String()}}}, nil
	}
	var stored *engine.StateError
	if !errors.As(err, &stored) {
		return nil, err
	}
	resp := &backend.Response{}
	switch errs.KindOf(err) {
	case errs.NotFound:
		if resp.Status = 404; stored.State.Kind == engine.Absent {
			return resp, nil // metadata that waits is no tombstone
		}
	case errs.Stale:
		resp.Status = 409
	case errs.Precondition:
		resp.Status = 412
	default:
		return nil, err
	}
	if t := stored.State.Newest(); !t.IsZero() {
		resp.Header.Add(backend.BackendStamp, t.String())
	}
	if t := stored.State.Time; !t.IsZero() {
		resp.Header.Add(backend.DataStamp, t.String())
	}
	return resp, nil
}
