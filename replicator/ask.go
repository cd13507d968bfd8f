package replicator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/ring"
)

// Ask asks a peer which parts of a question differ, in as many requests as it takes: take
// is given each difference, by its place in the question, and strange the place of each part of
// which the peer says that it is no primary. It returns how many parts, from
// the first on, were answered; all of them where there is no error. header goes with each
// request. What a peer answers is no reason to drop anything.
func (c *Client) Ask(
	ctx context.Context, r *ring.Ring, to *Peer, header backend.Header, q replwire.Question, take func(replwire.Difference), strange func(at int),
) (answered int, err error) {
	for answered < len(q.Parts) {
		part := replwire.Question{Before: q.Before, Parts: q.Parts[answered:min(len(q.Parts), answered+replwire.MaxParts)]}
		a, err := c.ask(ctx, r, to, header, &part)
		if err != nil {
			return answered, err
		}
		for _, d := range a.Differ {
			d.At += answered
			take(d)
		}
		for _, at := range a.Strange {
			strange(at + answered)
		}
		answered += a.Answered
	}
	return answered, nil
}

func (c *Client) ask(ctx context.Context, r *ring.Ring, to *Peer, header backend.Header, q *replwire.Question) (replwire.Answer, error) {
	asked := q.Append(make([]byte, 0, q.Size()))
	b, err := c.whole(ctx, r, to, header, "REPLICATE", asked)
	if err != nil {
		return replwire.Answer{}, err
	}
	a, err := replwire.ParseAnswer(b, q, asked)
	if err != nil {
		return a, c.fail(to, errs.Invalid, err)
	}
	return a, nil
}

// Push pushes many versions at once and returns what has become of each, in their order.
// Peers that are not versed in it, and those that have got something garbled, have taken none of them. What
// they say of a partition is for Peer.Heard.
func (c *Client) Push(ctx context.Context, r *ring.Ring, to *Peer, header backend.Header, all *replwire.Pushes) ([]replwire.Result, error) {
	h := append(append(make(backend.Header, 0, len(header)+4), header...), backend.Field{Name: replwire.ReplicationHeader, Value: "true"})
	n := all.Len()
	for range n - 1 { // each of them is an operation; Do counts one, and the bytes
		if err := c.Pace.Wait(ctx, 0); err != nil {
			return nil, err
		}
	}
	b, err := c.whole(ctx, r, to, h, "PUT", all.Encoded())
	if err != nil {
		return nil, err
	}
	results, err := replwire.ParseResults(b, n)
	if err != nil {
		return nil, c.fail(to, errs.Invalid, err)
	}
	return results, nil
}

// whole sends a request about a device, and returns the list that it was answered with.
func (c *Client) whole(ctx context.Context, r *ring.Ring, to *Peer, header backend.Header, method string, body []byte) ([]byte, error) {
	req := &backend.Request{
		Method: method, Path: "/" + name.Quote(to.Device), Header: append(make(backend.Header, 0, len(header)+2), header...),
		Length: int64(len(body)), Body: bytes.NewReader(body),
	}
	resp, err := c.Do(ctx, About{Ring: r}, to, req)
	if err != nil {
		return nil, err
	}
	b, err := c.Take(to, req, resp)
	if err != nil && slices.ContainsFunc(oldTexts[:], func(text string) bool { return strings.Contains(err.Error(), text) }) {
		err = fmt.Errorf("%w: %w", errOld, err)
	}
	return b, err
}

// oldTexts is how versions refuse that know no requests about a whole device.
var oldTexts = [...]string{"REPLICATE has no body", "path is not /device/partition"}

var errOld = errors.New("the peer is of an earlier version, which compares no digests: nothing is replicated to it before it is brought up to date")
