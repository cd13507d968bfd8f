package fragments

import (
	"context"
	"errors"
	"io"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
)

const (
	// maxTogether is how long an archive may be that travels together with others, in bytes.
	maxTogether = 256 << 10

	// maxAsked bounds how many questions for many fragments a device answers at one time: each
	// answer is in memory as a whole until it was sent, and one whose disk hangs keeps its own places.
	maxAsked = 4

	// inLine is for how long a question waits for its turn, until it is answered that there is no time for it: the asker
	// must not take a device that many ask for a dead one.
	inLine = 3 * time.Second
)

// lent is a body in a buffer that goes back when it is closed, and so does the turn. The server sends it without a copy, but where a cluster key has its
// blocks signed.
type lent struct {
	left []byte
	room *[]byte
	to   *rooms
	done func()
}

// Read implements io.Reader.
func (l *lent) Read(b []byte) (int, error) {
	if len(l.left) == 0 {
		return 0, io.EOF
	}
	return copy(b, l.Next(len(b))), nil
}

// Next returns the next n bytes, or what there is.
func (l *lent) Next(n int) []byte {
	b := l.left[:min(n, len(l.left))]
	l.left = l.left[len(b):]
	return b
}

// Close implements io.Closer.
func (l *lent) Close() error {
	l.left = nil
	if l.room != nil {
		l.to.put(l.room)
		l.room = nil
		l.done()
	}
	return nil
}

// turn waits until a question may be answered; ok is false where that takes too long. Who has a turn calls done.
func (f *Fragments) turn(ctx context.Context, device string) (done func(), ok bool, err error) {
	late := time.NewTimer(inLine)
	defer late.Stop()
	select {
	case f.asked[device] <- struct{}{}:
		return func() { <-f.asked[device] }, true, nil
	case <-late.C:
		return func() {}, false, nil
	case <-ctx.Done():
		return nil, false, errs.E(errs.Op("fragments.give"), errs.Aborted, context.Cause(ctx))
	}
}

// give answers a question for many fragments with what there is of them, all that is small and for which
// there is room. Nothing changes by it.
func (f *Fragments) give(ctx context.Context, store Store, index policy.Index, c *replicator.Call) (*backend.Response, error) {
	asked, err := replwire.Read(c.Body)
	var list []replwire.Wanted
	if err == nil {
		list, err = replwire.ParseWanted(asked)
	}
	if err != nil {
		return nil, garbled(err)
	}
	done, ok, err := f.turn(ctx, c.Device)
	if err != nil {
		return nil, err
	}
	var body *lent
	defer func() {
		if body == nil {
			done()
		}
	}()
	room := f.rooms.get(0)
	a := replwire.BeginArchives(*room, asked)
	given := 0
	if ok {
		given, err = giveSome(ctx, store, index, list, &a)
	}
	if err != nil {
		f.rooms.put(room)
		return nil, err
	}
	for range list[given:] {
		a.Tell(replwire.NotNow)
	}
	*room = a.Encoded()
	body = &lent{left: *room, room: room, to: &f.rooms, done: done}
	return &backend.Response{
		Status: 200, Length: int64(len(*room)), Body: body,
		Header: backend.Header{{Name: backend.ContentType, Value: "application/octet-stream"}},
	}, nil
}

// giveSome adds fragments to an answer, in order, as long as there is time: at least one. It returns how many. An error is that of the device.
func giveSome(ctx context.Context, store Store, index policy.Index, list []replwire.Wanted, a *replwire.Archives) (n int, err error) {
	hashes := make([]name.Hash, len(list))
	for i := range list {
		hashes[i] = list[i].Hash
	}
	began := time.Now()
	for x, err := range store.OpenAll(ctx, index, hashes) {
		if err := giveOne(x, err, &list[n], a, len(list)-1-n); err != nil {
			return n, err
		}
		if n++; time.Since(began) > listTime {
			break
		}
	}
	return n, nil
}

// giveOne adds what opening a fragment has come to, to an answer in which as many as more come behind it. An error is that of the device.
func giveOne(x *Archive, err error, w *replwire.Wanted, a *replwire.Archives, more int) error {
	switch {
	case errs.Is(err, errs.NotFound):
		a.Tell(replwire.NotHere)
		return nil
	case errs.Is(err, errs.Corrupt):
		a.Tell(replwire.Unread)
		return nil
	case err != nil:
		return err
	}
	switch {
	case x.Length < ec.HeaderSize:
		a.Tell(replwire.NotHere)
	case x.Length > maxTogether:
		a.Tell(replwire.Alone)
	case !a.Room(x.Length, more):
		a.Tell(replwire.NotNow)
	default:
		a.Give(x.Length, more, func(b []byte) replwire.Given {
			if _, err := io.ReadFull(x.Body, b); err != nil {
				return replwire.Unread // who asks looks elsewhere
			}
			if h, err := ec.ParseHeader(b[:ec.HeaderSize]); err != nil || h.Write.ID != w.Write {
				return replwire.NotHere
			}
			return replwire.Here
		})
	}
	return x.Body.Close()
}

// garbled is the error of a body that can't be taken.
func garbled(err error) error {
	if errors.Is(err, replwire.ErrList) {
		return errs.E(errs.Invalid, errs.Public(err.Error()), err)
	}
	return err
}
