package object

import (
	"context"
	"encoding/hex"
	"strconv"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/object/engine"
	"martlet/object/pending"
)

// tellContainer tells the container's servers of what has become of an object.
// When it returns nil each of those that the request named has confirmed it, or
// the update is durably queued.
func (s *Server) tellContainer(ctx context.Context, c *call, method string, state *engine.State) error {
	if len(c.updates) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // the object is stored, also if the client is gone
	header := c.row(method, state)
	confirmed := s.sendRow(ctx, c, method, header)
	if len(confirmed) == len(c.updates) {
		return nil
	}
	p := state.Packed()
	err := c.queue.Put(ctx, pending.Update{
		Policy: c.at.Policy, Hash: c.at.Hash, Method: method, Path: c.target.Path, Header: header,
		Data: p.Data, ContentType: p.ContentType, Meta: p.Meta, Confirmed: confirmed,
	})
	if err != nil {
		return errs.E(errs.Op("object.update"), errs.Subject(c.at.String()), err)
	}
	return nil
}

// row returns the headers of the update.
func (c *call) row(method string, s *engine.State) backend.Header {
	h := backend.Header{
		{Name: backend.Timestamp, Value: s.Packed().String()},
		{Name: backend.PolicyIndex, Value: c.at.Policy.String()},
	}
	if id := c.Header.Get(backend.TransID); id != "" {
		h.Add(backend.TransID, id)
	}
	if method == "DELETE" {
		return h
	}
	h.Add("X-Size", c.override(s, "Size", strconv.FormatInt(s.Length, 10)))
	h.Add("X-Content-Type", c.override(s, "Content-Type", s.ContentType))
	h.Add("X-Etag", c.override(s, "Etag", hex.EncodeToString(s.MD5[:])))
	return h
}

// override returns what the object wants its listing to say instead: that of a
// large object tells of the whole and not of its manifest.
func (c *call) override(s *engine.State, what, plain string) string {
	if v := s.System.Get("X-Object-Sysmeta-Container-Update-Override-" + what); v != "" {
		return v
	}
	if v := c.Header.Get("X-Backend-Container-Update-Override-" + what); v != "" {
		return v
	}
	return plain
}

// sendRow sends the update to all at the same time and returns the places that
// have confirmed it before the time was up.
func (s *Server) sendRow(ctx context.Context, c *call, method string, header backend.Header) []string {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ContainerUpdateTimeout)
	defer cancel()
	partition, err := strconv.ParseUint(c.Header.Get(backend.ContainerPart), 10, 32)
	if err != nil {
		return nil // the queue's reader looks the place up itself
	}
	ok := make([]bool, len(c.updates))
	var wg sync.WaitGroup
	for i, to := range c.updates {
		if !s.silent.Ask(to.addr) {
			continue
		}
		send := func() {
			target := backend.Target{Device: to.device, Partition: uint32(partition), Path: c.target.Path}
			err := pending.Deliver(ctx, s.Sender, to.addr, method, target, header)
			s.silent.Heard(to.addr, err)
			if ok[i] = err == nil; err != nil {
				s.Log.Warn("container update is queued", "container", to.addr+"/"+to.device, "trans_id", c.Header.Get(backend.TransID), "err", err)
			}
		}
		if i == len(c.updates)-1 {
			send() // the last one needs no goroutine
		} else {
			wg.Go(send)
		}
	}
	wg.Wait()
	var confirmed []string
	for i, to := range c.updates {
		if ok[i] {
			confirmed = append(confirmed, pending.Place(to.addr, to.device))
		}
	}
	return confirmed
}
