// Package lockstep sends what belongs on the devices of a place a piece at a time, each to all of them before the
// next: for who has bytes that come in a stream, and no client that waits. So no more than two pieces are in
// memory, the first, until the second is sent, and one more; and all go as fast as the slowest.
//
// A device that can't be reached is replaced by a handoff, and so is one that refuses or fails before the second piece was sent; one
// that does so later is left out. Where that leaves too few, another go at it finds those that fail behind others.
package lockstep

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/quorum"
	"martlet/ring"
)

// errBroken is what has come of a slot that was broken off from here.
var errBroken = errors.New("given up before it was sent whole")

// What is what is to be sent.
type What struct {
	Place   quorum.Place
	Request quorum.Build              // a PUT without its body
	Good    func(*quorum.Answer) bool // whether an answer is as good as that of a device that has taken all; nil is never
}

// An Upload is under way to one device for each primary of a place. It must be dropped, by whoever has
// made it, who is also the only one to use it.
type Upload struct {
	What
	cluster *quorum.Cluster
	streams []*stream
	pieces  int // that were sent
}

// New begins an upload. No device is told before the first Send.
func New(cluster *quorum.Cluster, what What) *Upload {
	u := &Upload{What: what, cluster: cluster, streams: make([]*stream, len(what.Place.Primaries))}
	spare := cluster.Spare(what.Place)
	for slot, d := range what.Place.Primaries {
		u.streams[slot] = &stream{u: u, slot: slot, route: spare.Route(d), answer: quorum.Answer{Device: d, Slot: slot, Err: errBroken}}
	}
	return u
}

// Send sends to each device what is its own of a piece, by slot, and reports whether it is of any use to go on:
// enough devices can have all of it at the end.
func (u *Upload) Send(ctx context.Context, pieces func(slot int) []byte) bool {
	u.each(func(s *stream) {
		piece := pieces(s.slot)
		switch u.pieces {
		case 0:
			s.first = bytes.Clone(piece)
			s.open(ctx)
			return
		case 1:
			s.send(ctx, piece)
			for s.replaced(ctx) {
				s.send(ctx, piece)
			}
		default:
			s.send(ctx, piece)
		}
		s.first = nil
	})
	u.pieces++
	open, good := 0, 0
	for _, s := range u.streams {
		switch {
		case !s.ended:
			open++
		case u.Good != nil && u.Good(&s.answer):
			good++
		}
	}
	return open > 0 && open+good >= u.Place.Quorum()
}

// Commit closes what has been sent, by slot: without it no device keeps any of it. Answers says what came of that.
func (u *Upload) Commit(ctx context.Context, closing func(slot int) backend.Header) {
	u.each(func(s *stream) {
		s.commit(ctx, closing(s.slot))
		for s.replaced(ctx) {
			s.commit(ctx, closing(s.slot))
		}
	})
}

// Answers returns what came of each slot: of one that was given up, why.
func (u *Upload) Answers() []quorum.Answer {
	answers := make([]quorum.Answer, len(u.streams))
	for i, s := range u.streams {
		answers[i] = s.answer
	}
	return answers
}

// Drop breaks off what was not committed.
func (u *Upload) Drop() {
	for _, s := range u.streams {
		s.drop()
	}
}

// each does something with all streams that have not ended, at the same time.
func (u *Upload) each(do func(*stream)) {
	var all sync.WaitGroup
	for _, s := range u.streams {
		if !s.ended {
			all.Go(func() { do(s) })
		}
	}
	all.Wait()
}

// stream is the upload to one device.
type stream struct {
	u      *Upload
	slot   int
	route  *quorum.Route
	device *ring.Device
	to     *direct.Stream // nil while there is none
	first  []byte         // piece, until it can't be sent to another device any more
	ended  bool
	answer quorum.Answer // once it has, or of a device that was replaced
}

// open finds a device that takes the first piece.
func (s *stream) open(ctx context.Context) {
	for s.device = s.route.Next(); s.device != nil && ctx.Err() == nil; s.device = s.route.Next() {
		r := s.u.Request(s.slot, s.device)
		s.u.cluster.Address(ctx, s.u.Place, s.device, r)
		to, err := s.u.cluster.Client().Open(ctx, s.device.Addr(), r)
		if err != nil {
			s.end(ctx, nil, err)
			continue
		}
		s.to, s.ended = to, false
		s.send(ctx, s.first)
		if !s.ended || s.answer.Final() {
			return
		}
	}
	s.ended = true
}

// replaced reports whether a device that has failed was replaced by one that has taken the first piece, as
// long as there was no other.
func (s *stream) replaced(ctx context.Context) bool {
	if !s.ended || s.answer.Final() || s.first == nil {
		return false
	}
	s.open(ctx)
	return !s.ended
}

// send sends a piece. Where that fails the stream has ended.
func (s *stream) send(ctx context.Context, piece []byte) {
	if _, err := s.to.Write(piece); err != nil {
		var resp *backend.Response
		if errors.Is(err, direct.ErrAnswered) {
			resp, err = s.to.Response()
		}
		s.end(ctx, resp, err)
	}
}

func (s *stream) commit(ctx context.Context, closing backend.Header) {
	resp, err := s.to.Commit(closing)
	s.end(ctx, resp, err)
}

func (s *stream) end(ctx context.Context, resp *backend.Response, err error) {
	if err != nil && ctx.Err() != nil {
		s.answer = quorum.Answer{Device: s.device, Slot: s.slot, Err: err} // broken off here, not there
	} else {
		s.answer = s.u.cluster.Answered(s.slot, s.device, resp, err)
	}
	s.drop()
}

// drop breaks off what has not ended.
func (s *stream) drop() {
	if s.to != nil {
		s.to.Abort()
	}
	s.to, s.ended = nil, true
}
