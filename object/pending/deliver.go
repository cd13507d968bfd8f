package pending

import (
	"context"
	"fmt"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// A Sender sends a request to the storage server at an address and returns its
// answer. It must return soon after ctx ends.
type Sender interface {
	Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error)
}

// Deliver sends an update to one replica of the container and returns nil if it
// has taken it. The header is the request's own from then on, also once Deliver has returned. The error is of kind errs.NotFound where the replica has no such
// container.
func Deliver(ctx context.Context, to Sender, addr, method string, target backend.Target, header backend.Header) error {
	const op errs.Op = "pending.deliver"
	path := target.Quoted()
	resp, err := to.Do(ctx, addr, &backend.Request{Method: method, Path: path, Header: header})
	if err == nil && resp.Body != nil {
		err = resp.Body.Close()
	}
	if err == nil && resp.Status/100 == 2 {
		return nil
	}
	where := errs.Subject(addr + path)
	switch {
	case err != nil:
		return errs.E(op, where, err)
	case resp.Status == 404:
		return errs.E(op, where, errs.NotFound)
	}
	return errs.E(op, where, errs.Unavailable, fmt.Errorf("answered %d", resp.Status))
}
