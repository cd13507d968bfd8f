package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/url"
	"strconv"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/object/engine"
	"martlet/ring"
)

// What an object server tells operators of what its devices hold, to GET, as the lists of
// package replwire. The query names the device and, by its number, the storage policy.
const (
	// HoldingsPath tells what the device holds of each partition of a part power ("power"),
	// from a partition on ("from"): replwire.Holding. It reads sums alone; with "lost=true" the
	// index, too, and counts what was damaged.
	HoldingsPath = "/recon/holdings"
	// StatesPath tells the states in a partition of a part power ("power", "partition"),
	// from a hash on ("from"): replwire.Object; with "coded=true" those alone of objects whose data is in fragments.
	StatesPath = "/recon/states"
	// NamePath tells the name under a hash ("hash"), percent-encoded: 404 if there is none.
	NamePath = "/recon/name"
)

const (
	// maxStates is how many states are told at once, and tellTime for how long they are
	// looked for: the rest is asked for again.
	maxStates = 8192
	tellTime  = time.Second
)

// wanted is what a query asks about.
type wanted struct {
	engine *engine.Engine
	policy policy.Index
	power  int
	values url.Values
}

// objects answers what is asked about the objects of a device.
func (r recon) objects(ctx context.Context, req *backend.Request) (*backend.Response, error) {
	w, err := r.wanted(req.Query)
	if err != nil {
		return nil, err
	}
	if req.Path == HoldingsPath && w.values.Get("lost") == "true" { // it reads an index: see recon.held
		select {
		case r.walks <- struct{}{}:
			defer func() { <-r.walks }()
		case <-ctx.Done():
			return nil, errs.E(errs.Aborted, context.Cause(ctx))
		}
	}
	var body []byte
	switch req.Path {
	case HoldingsPath:
		body, err = w.holdings(ctx)
	case StatesPath:
		body, err = w.states(ctx)
	case NamePath:
		body, err = w.name(ctx)
	}
	if err != nil {
		return nil, err
	}
	return &backend.Response{
		Status: 200, Length: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		Header: backend.Header{{Name: backend.ContentType, Value: "application/octet-stream"}},
	}, nil
}

func (r recon) wanted(query string) (w wanted, err error) {
	if w.values, err = url.ParseQuery(query); err != nil {
		return w, errs.E(errs.Invalid, errs.Public("query is not percent-encoded"), err)
	}
	d, err := r.devices.Lookup(w.values.Get("device"))
	if err != nil {
		return w, err
	}
	if err := d.Check(); err != nil {
		return w, err
	}
	if w.policy, err = policy.ParseIndex(w.values.Get("policy")); err != nil {
		return w, err
	}
	w.power = ring.MinPartPower
	if text := w.values.Get("power"); text != "" {
		if w.power, err = strconv.Atoi(text); err != nil || w.power < ring.MinPartPower || w.power > ring.MaxPartPower {
			return w, errs.Refuse(errs.Invalid, "power must be from %d to %d", ring.MinPartPower, ring.MaxPartPower)
		}
	}
	w.engine = r.stores[d.Name()].Engine.Pinned()
	return w, nil
}

// partition reads the number of a partition; 0 where none is given.
func (w *wanted) partition(key string) (uint32, error) {
	text := w.values.Get(key)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n>>w.power != 0 {
		return 0, errs.Refuse(errs.Invalid, "%s is no partition of part power %d", key, w.power)
	}
	return uint32(n), nil
}

func (w *wanted) holdings(ctx context.Context) ([]byte, error) {
	from, err := w.partition("from")
	if err != nil {
		return nil, err
	}
	lost, err := w.lost(ctx)
	if err != nil {
		return nil, err
	}
	var list []replwire.Holding
	for e, err := range extents(w.engine.Partitions(ctx, w.policy, w.power, timestamp.T{})) {
		if err != nil {
			return nil, err // what is left out would look as if it were not there
		}
		number := uint32(e.Range.Prefix >> 32 >> (32 - w.power))
		if number < from {
			continue
		}
		if len(list) == replwire.MaxHoldings {
			return replwire.AppendHoldings(nil, list, true), nil
		}
		list = append(list, replwire.Holding{Partition: number, Sum: e.Sum, Objects: e.Objects, Bytes: e.Bytes, Lost: lost[number]})
	}
	return replwire.AppendHoldings(nil, list, false), nil
}

// lost counts what was damaged and not replaced, by partition, if that is asked for.
func (w *wanted) lost(ctx context.Context) (map[uint32]int64, error) {
	if w.values.Get("lost") != "true" {
		return nil, nil
	}
	counts := map[uint32]int64{}
	for h, err := range w.engine.Losses(ctx, w.policy) {
		if err != nil {
			return nil, err
		}
		counts[binary.BigEndian.Uint32(h[:])>>(32-w.power)]++
	}
	return counts, nil
}

func (w *wanted) states(ctx context.Context) ([]byte, error) {
	number, err := w.partition("partition")
	if err != nil {
		return nil, err
	}
	all := name.PartitionRange(w.power, number)
	from := all.First()
	if text := w.values.Get("from"); text != "" {
		if from, err = name.ParseHash(text); err != nil || !all.Has(from) {
			return nil, errs.Refuse(errs.Invalid, "from is no hash of the partition")
		}
	}
	coded := w.values.Get("coded") == "true"
	body := replwire.Begin(nil, replwire.Objects)
	count, more := 0, false
	began := time.Now()
	for e, err := range w.engine.Walk(ctx, w.policy, from, all.Last()) {
		if err != nil {
			return nil, err
		}
		if coded && (e.State.Kind != engine.Live || !e.State.System.Has(backend.CodedWrite)) {
			continue
		}
		if count == maxStates || count > 0 && time.Since(began) > tellTime {
			more = true
			break
		}
		o := wireObject(e.Hash, &e.State)
		body = replwire.AppendObject(body, &o)
		count++
	}
	return replwire.End(body, count, more), nil
}

func (w *wanted) name(ctx context.Context) ([]byte, error) {
	h, err := name.ParseHash(w.values.Get("hash"))
	if err != nil {
		return nil, errs.E(errs.Invalid, errs.Public("hash is not a hash"), err)
	}
	s, err := w.engine.Stat(ctx, engine.Location{Policy: w.policy, Hash: h})
	if err != nil {
		return nil, err
	}
	if s.Name == (name.Path{}) {
		return nil, errs.E(errs.NotFound, errs.Public("there is nothing under that hash"))
	}
	return []byte(s.Name.Quoted()), nil
}
