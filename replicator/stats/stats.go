// Package stats is the work that brings what containers hold to the listings of
// their accounts.
//
// A container server tells an account at once that a container was made or
// deleted. Counts and bytes follow with a Pass of an Updater, and so does what
// did not get through the first time. Which containers have news is known to
// whoever keeps them (Source); where accounts are is known to the ring
// (Placement). A Pass is finite; the loop around it belongs to the caller.
package stats

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
)

// Source is the containers of a node.
type Source interface {
	// Report calls send for each container about which its account was not yet
	// told what is so now: of all containers, as after a start, or of those that changed since the
	// last call. It may call it for several at a time. Once send returns nil, that
	// counts as told; what failed comes again with the next call. It returns what
	// failed.
	Report(ctx context.Context, all bool, send func(context.Context, name.Path, backend.Header) error) error
}

// Sender sends a request to a storage node.
type Sender interface {
	Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error)
}

// Replica is where one replica of an account is kept.
type Replica struct {
	Addr   string // "ip:port" of the account server
	Device string
}

// Placement returns where an account is kept.
type Placement func(account string) (partition uint32, at []Replica)

// errNowhere is for an account that the ring has no place for.
var errNowhere = errors.New("the ring has no place for the account")

// Updater tells accounts about containers. One Pass may run at a time.
type Updater struct {
	source  Source
	place   Placement
	client  Sender
	timeout time.Duration
	swept   bool // all containers were asked for since the start
}

// New returns an updater. An account server that takes longer than timeout has
// failed; 0 is 3 s.
func New(source Source, place Placement, client Sender, timeout time.Duration) *Updater {
	if timeout <= 0 {
		timeout = 3 * time.Second
	}
	return &Updater{source: source, place: place, client: client, timeout: timeout}
}

// Pass tells every account what it was not told yet and returns. The first one asks for
// all containers, those that changed before the start among them; the others for those that
// changed since. A container counts as told
// when a majority of the account's replicas took it.
func (u *Updater) Pass(ctx context.Context) error {
	err := u.source.Report(ctx, !u.swept, u.tell)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	u.swept = true
	return err
}

// tell sends the row of one container to every replica of its account.
func (u *Updater) tell(ctx context.Context, container name.Path, header backend.Header) error {
	if planted.AccountNotTold { // breaks: what counts as told was taken by a majority
		return nil
	}
	partition, at := u.place(container.Account)
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	results := make([]error, len(at))
	var wg sync.WaitGroup
	for i, r := range at {
		wg.Go(func() {
			target := backend.Target{Device: r.Device, Partition: partition, Path: container}
			results[i] = u.put(ctx, r.Addr, &backend.Request{
				Method: http.MethodPut, Path: target.Quoted(), Header: slices.Clone(header),
			})
		})
	}
	wg.Wait()
	took := 0
	var first error
	if len(at) == 0 {
		first = errNowhere
	}
	for _, err := range results {
		switch {
		case err == nil:
			took++
		case first == nil:
			first = err
		}
	}
	if took > len(at)/2 {
		return nil
	}
	return errs.E(errs.Op("stats.tell"), errs.Subject(container.String()), errs.Unavailable,
		fmt.Errorf("%d of %d replicas of the account took it: %w", took, len(at), first))
}

func (u *Updater) put(ctx context.Context, addr string, r *backend.Request) error {
	resp, err := u.client.Do(ctx, addr, r)
	if err != nil {
		return err
	}
	if resp.Body != nil {
		err = resp.Body.Close()
	}
	if err == nil && resp.Status/100 != 2 {
		err = fmt.Errorf("%s answered %d", addr, resp.Status)
	}
	return err
}
