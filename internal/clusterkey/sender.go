package clusterkey

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clock"
	"martlet/internal/errs"
)

const op errs.Op = "clusterkey"

// Next sends a request. *direct.Client is one.
type Next interface {
	Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error)
}

// A Sender signs requests and believes no answer that is not signed. It is safe for
// concurrent use.
type Sender struct {
	Next Next
	Keys *Source
	Now  func() time.Time // nil for the machine's clock
}

// Do sends a request whose length is known to an address, and returns the answer. One that is
// not a peer's, or not to this request, is an error of kind errs.Unavailable; so is the
// reading of its body as soon as that is not what was signed.
func (s *Sender) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	if r.Length < 0 || r.Length > 0 && r.Body == nil || len(r.Trailer) > 0 {
		return nil, errs.E(op, errs.Invalid, "what is signed has a length, and no trailer")
	}
	keys := s.Keys.Keys()
	k := keys.list[0]
	sig := signature{key: k.id, time: s.now(), to: addr}
	_, _ = rand.Read(sig.nonce[:]) // never fails, its contract says
	sig.mac = k.request(&sig, r, r.Length)
	out := *r
	out.Header = append(append(make(backend.Header, 0, len(r.Header)+1), r.Header...), backend.Field{Name: Header, Value: sig.String()})
	out.Length, out.Body = sealedLength(r.Length), k.seal(sig.mac, r.Body, r.Length)
	resp, err := s.Next.Do(ctx, addr, &out)
	if err != nil {
		return nil, err
	}
	// All keys, not only those of before: the file may have changed meanwhile.
	if err := open(resp, addr, &sig.mac, keys, s.Keys.Keys()); err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Sender) now() time.Time {
	if s.Now != nil {
		return s.Now().Truncate(time.Microsecond)
	}
	return clock.Now().Truncate(time.Microsecond)
}

// open looks whether an answer is one to a request, and has it hold nothing but what was signed.
// Else it closes the answer.
func open(resp *backend.Response, addr string, to *mac, sets ...*Keys) error {
	k, m, length, err := check(resp, to, sets)
	if err != nil {
		return unsigned(resp, addr, err)
	}
	resp.Header = strip(resp.Header, ofAnswer)
	resp.Length = length
	if resp.Body != nil {
		wrong := func(err error) error { return errs.E(op, errs.Subject(addr), errs.Unavailable, err) }
		resp.Body = &answerBody{opener{key: k, of: m, src: resp.Body, left: length, wrong: wrong}, resp.Body}
	}
	return nil
}

func check(resp *backend.Response, to *mac, sets []*Keys) (k *key, m mac, length int64, err error) {
	text, err := single(resp.Header)
	if err != nil {
		return nil, m, 0, err
	}
	id, m, err := parseAnswered(text)
	if err != nil {
		return nil, m, 0, err
	}
	for _, keys := range sets {
		if k == nil {
			k = keys.find(id)
		}
	}
	if k == nil {
		return nil, m, 0, errKey
	}
	if length, err = lengthOf(resp.Length, resp.Body != nil); err != nil {
		return nil, m, 0, err
	}
	if want := k.answer(to, resp, length); !hmac.Equal(m[:], want[:]) {
		return nil, m, 0, errMAC
	}
	return k, m, length, nil
}

// lengthOf returns the length of a body that has so many on the wire.
func lengthOf(wire int64, body bool) (int64, error) {
	if !body {
		return 0, nil
	}
	length, ok := openedLength(wire)
	if !ok {
		return 0, errBody
	}
	return length, nil
}

// single returns the one signature that there is.
func single(h backend.Header) (text string, err error) {
	found := false
	for _, f := range h {
		if !strings.EqualFold(f.Name, Header) {
			continue
		}
		if found {
			return "", errField
		}
		text, found = f.Value, true
	}
	if !found {
		return "", errUnsigned
	}
	return text, nil
}

var (
	errUnsigned = errors.New("it is not signed with the cluster's key")
	errKey      = errors.New("it is signed with a key that this node does not have")
	errMAC      = errors.New("its signature is not right")
)

// unsigned is the error of an answer that is not believed. It shows what that says.
func unsigned(resp *backend.Response, addr string, why error) error {
	var said []byte
	if resp.Body != nil {
		said, _ = io.ReadAll(io.LimitReader(resp.Body, 300)) // it is only to be shown
		_ = resp.Body.Close()
	}
	return errs.E(op, errs.Subject(addr), errs.Unavailable, fmt.Errorf("an answer is not believed: %w; it says %d %q", why, resp.Status, bytes.TrimSpace(said)))
}

// answerBody is the body of an answer.
type answerBody struct {
	opener
	src io.Closer
}

// Close closes the body. It may interrupt a Read.
func (b *answerBody) Close() error { return b.src.Close() }
