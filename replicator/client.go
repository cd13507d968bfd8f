package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

// Sender sends a request to the replication address of a node. *direct.Client is
// one.
type Sender interface {
	Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error)
}

// A Client is how one pass over a device speaks with its peers. It holds requests
// back as its pace says, leaves those alone who can't be reached, and believes no
// answer that is not another device's. It is safe for concurrent use; a Peer is not.
type Client struct {
	Sender Sender
	Pace   *DevicePace // of the device; nil for none
	Kind   string      // of data: Kind.Name
	NodeID string      // of this process
	Device string      // that the pass is over

	// Fresh says why nothing is to be pushed any more, before each push; nil for never.
	Fresh func() error

	outages outages
}

// About is what a request is about: a partition of a generation of the ring.
type About struct {
	Ring      *ring.Ring
	Partition ring.Partition
}

// Down reports whether a peer is left alone for the rest of the pass, and why: it
// could not be reached, or its device not be used, a few times in a row.
func (c *Client) Down(to *Peer) (why string, ok bool) { return c.outages.down(to.String()) }

// Do sends a request about a partition to a peer, with what every request carries
// added to its header. An answer of 5xx, and one of which it is not certain that
// it is the peer's, is an error. The body is the caller's to close.
func (c *Client) Do(ctx context.Context, at About, to *Peer, r *backend.Request) (*backend.Response, error) {
	r.Header = append(r.Header,
		backend.Field{Name: replwire.KindHeader, Value: c.Kind},
		backend.Field{Name: replwire.PartPowerHeader, Value: strconv.Itoa(at.Ring.PartPower())},
		backend.Field{Name: replwire.SenderHeader, Value: c.NodeID + "/" + c.Device},
	)
	answered, err := c.Pace.begin(ctx, to.String(), r)
	if err == nil && c.Fresh != nil && isPush(r) {
		err = c.Fresh() // last of all: what was waited for may have taken any time
	}
	if err != nil {
		return nil, err
	}
	resp, err := c.Sender.Do(ctx, to.Addr, r)
	silent := errs.Is(err, errs.Unavailable)
	if err == nil && resp.Status/100 == 5 {
		silent = resp.Status == 507 // of a device that can't be used; of others it is this request that failed
		err = c.Bad(to, r, resp)
	}
	if ctx.Err() == nil && (err == nil || silent) {
		c.outages.note(to.String(), err)
	}
	if err != nil {
		return nil, err
	}
	answered()
	if err := to.know(resp, c.NodeID, c.Device); err != nil {
		return nil, errors.Join(c.fail(to, errs.Invalid, err), closeBody(resp))
	}
	return resp, nil
}

func (c *Client) fail(to *Peer, kind errs.Kind, err error) error {
	return errs.E(errs.Op(c.Kind+".peer"), errs.Subject(to.String()), kind, err)
}

// Bad is the error of an answer that was not wanted. It closes the body.
func (c *Client) Bad(to *Peer, r *backend.Request, resp *backend.Response) error {
	var text []byte
	if resp.Body != nil {
		text, _ = io.ReadAll(io.LimitReader(resp.Body, 200)) // it is only to be shown
	}
	err := fmt.Errorf("%s was answered with %d %q", r.Method, resp.Status, bytes.TrimSpace(text))
	return c.fail(to, errs.Unavailable, errors.Join(err, closeBody(resp)))
}

// Take reads the list that a peer has answered a request with, which must be 200, or is an
// error of kind errs.Conflict where another device brings what the request was to (replwire.BringHeader).
// It closes the body.
func (c *Client) Take(to *Peer, r *backend.Request, resp *backend.Response) ([]byte, error) {
	if resp.Status == 409 && r.Header.Has(replwire.BringHeader) && resp.Header.Has(NodeHeader) {
		return nil, errors.Join(c.fail(to, errs.Conflict, errors.New("another device is bringing it")), closeBody(resp))
	}
	if resp.Status != 200 {
		return nil, c.Bad(to, r, resp)
	}
	b, err := replwire.Read(resp.Body)
	if err = errors.Join(err, closeBody(resp)); err != nil {
		return nil, c.fail(to, errs.Other, err)
	}
	return b, nil
}

func closeBody(resp *backend.Response) error {
	if resp.Body == nil {
		return nil
	}
	return resp.Body.Close()
}

// ListRequest asks a peer what it has of a partition under the hashes from `from` to `last`,
// both included.
func ListRequest(to *Peer, at ring.Partition, from, last name.Hash) *backend.Request {
	return &backend.Request{
		Method: "REPLICATE", Path: "/" + name.Quote(to.Device) + "/" + strconv.FormatUint(uint64(at), 10),
		Query: "from=" + from.String() + "&to=" + last.String(),
	}
}

// List asks a peer what it has of a partition under the hashes from `from` to
// `to`, both included, as often as it takes. Each answer is given to take with the
// range that it is about; take returns the last hash in it, and whether the peer
// has more behind that. header goes with each request.
func (c *Client) List(
	ctx context.Context, at About, to *Peer, from, last name.Hash, header backend.Header,
	take func(list []byte, from, last name.Hash) (end name.Hash, more bool, err error),
) error {
	for {
		r := ListRequest(to, at.Partition, from, last)
		r.Header = append(r.Header, header...)
		resp, err := c.Do(ctx, at, to, r)
		if err != nil {
			return err
		}
		b, err := c.Take(to, r, resp)
		if err != nil {
			return err
		}
		end, more, err := take(b, from, last)
		if err != nil {
			return c.fail(to, errs.Invalid, err)
		}
		if !more || end == last {
			return nil
		}
		from = next(end)
	}
}

// next is the hash after one that is not the last there is.
func next(h name.Hash) name.Hash {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i]++; h[i] != 0 {
			break
		}
	}
	return h
}
