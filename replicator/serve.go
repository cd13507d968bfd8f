package replicator

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

var _ backend.Handler = (*Replicator)(nil)

// Serve answers a peer. Whatever is refused is logged with the peer's address.
func (r *Replicator) Serve(ctx context.Context, req *backend.Request) (*backend.Response, error) {
	resp, err := r.serve(ctx, req)
	if err != nil {
		r.metrics.refused.Inc()
		r.Log.LogAttrs(ctx, slog.LevelWarn, "replication request refused", slog.String("peer", clip(req.Remote)),
			slog.String("method", clip(req.Method)), slog.String("path", clip(req.Path)), slog.Any("err", err))
		return nil, err
	}
	resp.Header.Set(NodeHeader, r.NodeID)
	return resp, nil
}

// clip shortens what a peer said, for the log.
func clip(s string) string {
	const most = 2048
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

func (r *Replicator) serve(ctx context.Context, req *backend.Request) (*backend.Response, error) {
	kind, c, err := r.check(req)
	if err != nil {
		return nil, err
	}
	if isPush(c.Request) {
		done, err := r.turn(ctx, c)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	if c.Whole { // nothing is dropped for what is said of no partition
		resp, err := kind.Serve(ctx, c)
		if err == nil {
			resp.Header.Set(replwire.PrimaryHeader, "false")
		}
		return resp, err
	}
	primary := kind.Primary(c) // first: see Guard
	resp, err := kind.Serve(ctx, c)
	if err == nil {
		resp.Header.Set(replwire.PrimaryHeader, strconv.FormatBool(primary))
	}
	return resp, err
}

// turn waits until a push may be handled: clients come first, so that a device takes only
// some at one time. Who pushes is not refused but waits, for as long as he is patient.
func (r *Replicator) turn(ctx context.Context, c *Call) (done func(), err error) {
	if r.Patience > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, r.Patience)
		defer stop()
	}
	return r.Paces.Of(c.Device).turn(ctx)
}

// check is everything that Call says has been seen to.
func (r *Replicator) check(req *backend.Request) (Kind, *Call, error) {
	switch req.Method {
	case "REPLICATE", "PUT", "POST", "DELETE", "GET":
	default:
		return nil, nil, errs.Refuse(errs.Method, "the replication network has no method %.20s", req.Method)
	}
	c := &Call{Request: req}
	if err := r.admit(c); err != nil {
		return nil, nil, err
	}
	kind, err := r.kind(req.Header.Get(replwire.KindHeader))
	if err != nil {
		return nil, nil, err
	}
	if _, gives := kind.(Giver); req.Method == "GET" && !gives {
		return nil, nil, errs.Refuse(errs.Method, "of %s nothing is given here", kind.Name())
	}
	if err := c.parse(); err != nil {
		return nil, nil, err
	}
	if _, err := r.Devices.Lookup(c.Device); err != nil {
		return nil, nil, err
	}
	return kind, c, nil
}

// admit looks who asks.
func (r *Replicator) admit(c *Call) error {
	host, _, err := net.SplitHostPort(c.Remote)
	if err != nil {
		host = c.Remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil && r.Peer != nil {
		return errs.E(errs.Forbidden, errs.Public("the peer has no address"), err)
	}
	if c.Peer = host; r.Peer != nil && !r.Peer(addr.Unmap().WithZone("")) {
		return errs.Refuse(errs.Forbidden, "%s is no replication address of this cluster", host)
	}
	return nil
}

func (r *Replicator) kind(text string) (Kind, error) {
	for _, k := range r.Kinds {
		if k.Name() == text {
			return k, nil
		}
	}
	return nil, errs.Refuse(errs.Invalid, "%s %.40q is not served here", replwire.KindHeader, text)
}

// parse reads what all kinds have in common.
func (c *Call) parse() error {
	power, err := strconv.ParseUint(c.Header.Get(replwire.PartPowerHeader), 10, 8)
	if err != nil || power < ring.MinPartPower || power > ring.MaxPartPower {
		return errs.Refuse(errs.Invalid, "%s must be from %d to %d", replwire.PartPowerHeader, ring.MinPartPower, ring.MaxPartPower)
	}
	c.PartPower = int(power)
	switch rest := strings.TrimPrefix(c.Request.Path, "/"); {
	case (c.Method == "REPLICATE" || c.Method == "PUT") && !strings.Contains(rest, "/"):
		err = c.parseWhole(rest)
	case c.Method == "REPLICATE":
		err = c.parseRange()
	default:
		err = c.parsePush()
	}
	if err != nil {
		return err
	}
	return nil
}

// parseWhole reads "/device" and sees to it that there is a body that may be a question
// about digests, or many pushes. What is in it is for the kind to see.
func (c *Call) parseWhole(device string) error {
	most := int64(replwire.MaxList)
	if c.Method == "PUT" {
		most = replwire.MaxPushBytes
	}
	switch {
	case !strings.HasPrefix(c.Request.Path, "/"):
		return errs.Refuse(errs.Invalid, "path is not /device")
	case c.Method == "PUT" && c.Header.Get(replwire.ReplicationHeader) != "true":
		return errs.Refuse(errs.Invalid, "%s: true is missing", replwire.ReplicationHeader)
	case c.Query != "":
		return errs.Refuse(errs.Invalid, "%s of a device has no query", c.Method)
	case c.Length < 0:
		return errs.Refuse(errs.Length, "%s of a device has a Content-Length", c.Method)
	case c.Length == 0:
		return errs.Refuse(errs.Invalid, "%s of a device has a body", c.Method)
	case c.Length > most:
		return errs.Refuse(errs.TooLarge, "%s of a device has at most %d bytes", c.Method, most)
	}
	c.Whole = true
	return c.parseDevice(device)
}

func (c *Call) parseDevice(raw string) error {
	device, err := name.Unquote(raw)
	if err != nil || device == "" || !utf8.ValidString(device) || strings.ContainsAny(device, "/\x00") {
		return errs.Refuse(errs.Invalid, "path begins with no device")
	}
	c.Device = device
	return nil
}

// Alone returns the call that one of the many pushes of a Whole call would be if it had come
// alone, with the same checks made, and common to all what the call's own header says of kind,
// part power and policy.
func (c *Call) Alone(x *replwire.Push) (*Call, error) {
	header := make(backend.Header, 0, 5+len(x.Header))
	for _, name := range [...]string{replwire.KindHeader, replwire.PartPowerHeader, replwire.ReplicationHeader, backend.PolicyIndex, backend.TransID} {
		if v, ok := c.Header.Lookup(name); ok {
			header = append(header, backend.Field{Name: name, Value: v}) // the first of a name counts
		}
	}
	one := &Call{Peer: c.Peer, PartPower: c.PartPower, Request: &backend.Request{
		Method: x.Method, Path: backend.Target{Device: c.Device, Partition: x.Partition, Path: x.Path}.Quoted(),
		Header: append(header, x.Header...), Length: int64(len(x.Body)), Remote: c.Remote,
	}}
	if len(x.Body) > 0 {
		one.Body = bytes.NewReader(x.Body)
	}
	return one, one.parsePush()
}

func (c *Call) parsePush() error {
	target, err := backend.ParseTarget(c.Request.Path)
	if err != nil {
		return err
	}
	switch {
	case c.Header.Get(replwire.ReplicationHeader) != "true":
		return errs.Refuse(errs.Invalid, "%s: true is missing", replwire.ReplicationHeader)
	case c.Length < 0:
		return errs.Refuse(errs.Length, "what is pushed has a Content-Length")
	case c.Query != "":
		return errs.Refuse(errs.Invalid, "a push has no query")
	}
	c.Device, c.Partition, c.Path = target.Device, target.Partition, target.Path
	return c.checkPartition()
}

func (c *Call) checkPartition() error {
	if uint64(c.Partition)>>c.PartPower != 0 {
		return errs.Refuse(errs.Invalid, "part power %d has no partition %d", c.PartPower, c.Partition)
	}
	return nil
}

// parseRange reads "/device/partition" and the query of a REPLICATE.
func (c *Call) parseRange() error {
	if c.Length != 0 {
		return errs.Refuse(errs.Invalid, "REPLICATE has no body")
	}
	rest, ok := strings.CutPrefix(c.Request.Path, "/")
	raw, part, split := strings.Cut(rest, "/")
	if !ok || !split {
		return errs.Refuse(errs.Invalid, "path is not /device/partition")
	}
	if err := c.parseDevice(raw); err != nil {
		return err
	}
	n, err := strconv.ParseUint(part, 10, 32)
	if err != nil {
		return errs.E(errs.Invalid, errs.Public("partition is not a number"), err)
	}
	c.Partition = uint32(n)
	if err := c.checkPartition(); err != nil {
		return err
	}
	first, last := rangeOf(c.Partition, c.PartPower)
	c.From, c.To = first, last
	query, err := url.ParseQuery(c.Query)
	if err != nil {
		return errs.E(errs.Invalid, errs.Public("query is not percent-encoded"), err)
	}
	for key, values := range query {
		to := map[string]*name.Hash{"from": &c.From, "to": &c.To}[key]
		if to == nil || len(values) != 1 {
			return errs.Refuse(errs.Invalid, "REPLICATE takes from and to, each once")
		}
		if *to, err = name.ParseHash(values[0]); err != nil {
			return errs.E(errs.Invalid, errs.Public(key+" is not a hash"), err)
		}
	}
	if !c.Holds(c.From) || !c.Holds(c.To) || bytes.Compare(c.From[:], c.To[:]) > 0 {
		return errs.Refuse(errs.Invalid, "from and to are no range of partition %d of part power %d", c.Partition, c.PartPower)
	}
	return nil
}
