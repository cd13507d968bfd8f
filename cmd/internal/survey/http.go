package survey

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"martlet/cmd/internal/node"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
	"martlet/ring"
)

// An HTTP asks object servers on the storage network, which has to be reachable.
type HTTP struct{ Client *http.Client }

var (
	_ RateAsker     = HTTP{}
	_ CodedAsker    = HTTP{}
	_ DatabaseAsker = HTTP{}
)

// Holdings implements Asker.
func (a HTTP) Holdings(ctx context.Context, d *ring.Device, p policy.Index, power int, lost bool) (all []replwire.Holding, err error) {
	from := uint32(0)
	for {
		query := url.Values{"power": {strconv.Itoa(power)}, "from": {strconv.FormatUint(uint64(from), 10)}}
		if lost {
			query.Set("lost", "true")
		}
		b, err := a.ask(ctx, d, node.HoldingsPath, p, query)
		if err != nil {
			return nil, err
		}
		list, more, err := replwire.ParseHoldings(b, power, from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Addr(), err)
		}
		all = append(all, list...)
		if !more || len(list) == 0 || uint64(from) == 1<<power-1 {
			return all, nil
		}
		from = list[len(list)-1].Partition + 1
	}
}

// States implements Asker.
func (a HTTP) States(ctx context.Context, d *ring.Device, p policy.Index, power int, partition uint32, from name.Hash) ([]replwire.Object, bool, error) {
	return a.states(ctx, d, p, power, partition, from, false)
}

// Coded implements CodedAsker.
func (a HTTP) Coded(ctx context.Context, d *ring.Device, p policy.Index, power int, partition uint32, from name.Hash) ([]replwire.Object, bool, error) {
	return a.states(ctx, d, p, power, partition, from, true)
}

func (a HTTP) states(ctx context.Context, d *ring.Device, p policy.Index, power int, partition uint32, from name.Hash, coded bool) ([]replwire.Object, bool, error) {
	query := url.Values{"power": {strconv.Itoa(power)}, "partition": {strconv.FormatUint(uint64(partition), 10)}, "from": {from.String()}}
	if coded {
		query.Set("coded", "true")
	}
	b, err := a.ask(ctx, d, node.StatesPath, p, query)
	if err != nil {
		return nil, false, err
	}
	list, more, err := replwire.ParseObjects(b, from, name.PartitionRange(power, partition).Last())
	if err != nil {
		err = fmt.Errorf("%s: %w", d.Addr(), err)
	}
	return list, more, err
}

// Name returns the name under a hash on a device, percent-encoded.
func (a HTTP) Name(ctx context.Context, d *ring.Device, p policy.Index, h name.Hash) (string, error) {
	b, err := a.ask(ctx, d, node.NamePath, p, url.Values{"hash": {h.String()}})
	return string(b), err
}

// Databases implements DatabaseAsker.
func (a HTTP) Databases(ctx context.Context, d *ring.Device, kind byte, from name.Hash) ([]replwire.Database, bool, error) {
	query := url.Values{"device": {d.Name}, "from": {from.String()}}
	b, err := a.get(ctx, "http://"+d.Addr()+node.DatabasesPath+"?"+query.Encode())
	if err != nil {
		return nil, false, err
	}
	var last name.Hash
	for i := range last {
		last[i] = 0xff
	}
	list, more, err := replwire.ParseDatabases(b, kind, from, last)
	if err != nil {
		err = fmt.Errorf("%s: %w", d.Addr(), err)
	}
	return list, more, err
}

// Rates implements RateAsker.
func (a HTTP) Rates(ctx context.Context, d *ring.Device) ([]replicator.Rate, error) {
	b, err := a.get(ctx, "http://"+d.Addr()+node.RatesPath)
	if err != nil {
		return nil, err
	}
	var list []replicator.Rate
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Addr(), err)
	}
	return list, nil
}

func (a HTTP) ask(ctx context.Context, d *ring.Device, path string, p policy.Index, query url.Values) ([]byte, error) {
	query.Set("device", d.Name)
	query.Set("policy", p.String())
	return a.get(ctx, "http://"+d.Addr()+path+"?"+query.Encode())
}

// get reads an answer of bounded length.
func (a HTTP) get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.Client.Do(r)
	if err != nil {
		var asked *url.Error
		if errors.As(err, &asked) {
			err = asked.Err // the rest is long, and says nothing
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read from
	b, err := io.ReadAll(io.LimitReader(resp.Body, replwire.MaxList+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the answer broke off: %w", err)
	case len(b) > replwire.MaxList:
		return nil, errs.E(errs.TooLarge, "the answer is too long")
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("answered %d: %s", resp.StatusCode, cmp.Or(strings.TrimSpace(string(b[:min(len(b), 200)])), http.StatusText(resp.StatusCode)))
	}
	return b, nil
}
