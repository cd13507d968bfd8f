package object

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/object/engine"
	"martlet/object/pending"
)

// news is what has become of one object.
type news struct {
	method string // PUT or DELETE
	path   name.Path
	hash   name.Hash
	state  *engine.State
}

// row is an update as it is sent: nothing in it belongs to who handles the request.
type row struct {
	method string
	path   name.Path
	header backend.Header
}

// own is news of the object of the request.
func (c *call) own(method string, s *engine.State) news {
	return news{method, c.target.Path, c.at.Hash, s}
}

// tellContainer tells the container's servers of what has become of objects: of that of
// the request, and of a version of it, whose container is in the same place.
// When it returns nil each of those that the request named has confirmed all of it, or
// the updates are durably queued. Where neither can be, as on a device that is full, the object is stored all the
// same, and who asked is told that it failed: what was not told is noted, and told once it can be (Engine.Untold).
func (s *Server) tellContainer(ctx context.Context, c *call, list ...news) error {
	if len(c.updates) == 0 {
		return nil
	}
	if planted.ContainerUpdateLost && c.at.Hash[len(c.at.Hash)-1]%4 == 0 { // breaks: what is not told is queued before the write is answered
		return nil
	}
	// Of what has lost a part nobody can say here what it is: the other replicas' listings hear of it, and theirs are compared.
	list = slices.DeleteFunc(list, func(n news) bool { return n.state.Kind == engine.Lost })
	ctx = context.WithoutCancel(ctx) // the object is stored, also if the client is gone
	var room [2]row                  // mostly it is one
	rows := room[:0]
	for i := range list {
		rows = append(rows, row{list[i].method, list[i].path, c.row(&list[i])})
	}
	confirmed, all := s.sendRows(ctx, c, rows)
	if all {
		return nil
	}
	for i, n := range list {
		if len(confirmed[i]) == len(c.updates) {
			continue
		}
		p := n.state.Packed()
		err := c.queue.Put(ctx, pending.Update{
			Policy: c.at.Policy, Hash: n.hash, Method: n.method, Path: n.path, Header: c.row(&list[i]), // made anew: a server that was given up may still have the other
			Data: p.Data, ContentType: p.ContentType, Meta: p.Meta, Confirmed: confirmed[i],
		})
		if err != nil {
			for _, n := range list[i:] {
				c.store.Untold(engine.Location{Policy: c.at.Policy, Hash: n.hash})
			}
			return errs.E(errs.Op("object.update"), errs.Subject(c.at.String()), err)
		}
	}
	return nil
}

// row returns the headers of an update.
func (c *call) row(n *news) backend.Header { return rowOf(c.at.Policy, n.method, n.state, c.Header) }

// Retold returns the update that the listing was told, or was to be told, by the request that has made an object what it is. It is
// false for what is in no listing: nothing, what is damaged, and what is left behind where an object was moved from.
func Retold(at engine.Location, s *engine.State) (pending.Update, bool) {
	method := "PUT"
	switch {
	case s.Kind == engine.Deleted && !s.Time.IsLeft():
		method = "DELETE"
	case s.Kind != engine.Live:
		return pending.Update{}, false
	}
	p := s.Packed()
	return pending.Update{
		Policy: at.Policy, Hash: at.Hash, Method: method, Path: s.Name, Header: rowOf(at.Policy, method, s, nil),
		Data: p.Data, ContentType: p.ContentType, Meta: p.Meta,
	}, true
}

// rowOf returns the headers of an update of an object, of which the request that it is told with may say more.
func rowOf(p policy.Index, method string, s *engine.State, said backend.Header) backend.Header {
	h := append(make(backend.Header, 0, 6),
		backend.Field{Name: backend.Timestamp, Value: s.Packed().Said(said.Get(backend.Timestamp))}, backend.Field{Name: backend.PolicyIndex, Value: p.String()})
	if id := said.Get(backend.TransID); id != "" {
		h.Add(backend.TransID, id)
	}
	if method == "DELETE" {
		return h
	}
	if l, ok := linkOf(s); ok {
		return linkRow(h, l, s)
	}
	s, _, _ = whole(s) // what could not be read was not written here
	h.Add("X-Size", override(said, s, overridePrefix+"Size", overrideSaid+"Size", strconv.FormatInt(s.Length, 10)))
	h.Add("X-Content-Type", override(said, s, overridePrefix+"Content-Type", overrideSaid+"Content-Type", s.ContentType))
	h.Add("X-Etag", override(said, s, overridePrefix+"Etag", overrideSaid+"Etag", md5Text(&s.MD5, said.Get(backend.CommitETag))))
	return h
}

// overridePrefix begins the fields by which an object says what its listing is to say.
const overridePrefix = "X-Object-Sysmeta-Container-Update-Override-"

// overrideSaid begins those by which a request says it of what it writes.
const overrideSaid = "X-Backend-Container-Update-Override-"

// override returns what the object wants its listing to say instead, by the field that it is kept in or that the
// request brings: that of a large object tells of the whole and not of its manifest.
func override(said backend.Header, s *engine.State, kept, brought, plain string) string {
	if v := s.System.Get(kept); v != "" {
		return v
	}
	if v := said.Get(brought); v != "" {
		return v
	}
	return plain
}

// sendRows sends updates to all at the same time and returns whether all have confirmed all of it before the time was up; where
// not, of each the places that have.
func (s *Server) sendRows(ctx context.Context, c *call, rows []row) (confirmed [][]string, all bool) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ContainerUpdateTimeout)
	defer cancel()
	partition, err := strconv.ParseUint(c.Header.Get(backend.ContainerPart), 10, 32)
	if err != nil {
		return make([][]string, len(rows)), false // the queue's reader looks the place up itself
	}
	if len(rows) == 1 && len(c.updates) == 1 { // as mostly
		if s.sendRow(ctx, c, c.updates[0], uint32(partition), &rows[0]) {
			return nil, true
		}
		return make([][]string, 1), false
	}
	ok := s.sendAll(ctx, c, uint32(partition), slices.Clone(rows))
	if !slices.Contains(ok, false) {
		return nil, true
	}
	confirmed = make([][]string, len(rows))
	for at := range ok {
		if i, to := at%len(rows), c.updates[at/len(rows)]; ok[at] {
			confirmed[i] = append(confirmed[i], pending.Place(to.addr, to.device))
		}
	}
	return confirmed, false
}

// sendAll sends each of several updates to each place at the same time, and returns which are confirmed: all of the first place, then
// all of the next.
func (s *Server) sendAll(ctx context.Context, c *call, partition uint32, rows []row) []bool {
	ok := make([]bool, len(rows)*len(c.updates))
	var wg sync.WaitGroup
	for at := range ok {
		r := &rows[at%len(rows)]
		send := func() {
			own := row{r.method, r.path, slices.Clone(r.header)}
			ok[at] = s.sendRow(ctx, c, c.updates[at/len(rows)], partition, &own)
		}
		if at == len(ok)-1 {
			send() // the last one needs no goroutine
		} else {
			wg.Go(send)
		}
	}
	wg.Wait()
	return ok
}

// sendRow sends an update to one place and returns whether it has confirmed it. Of one that does not answer that is not even asked.
func (s *Server) sendRow(ctx context.Context, c *call, to place, partition uint32, r *row) bool {
	if !s.Silent.Ask(to.addr) {
		return false
	}
	target := backend.Target{Device: to.device, Partition: partition, Path: r.path}
	err := pending.Deliver(ctx, s.Sender, to.addr, r.method, target, r.header)
	s.Silent.Heard(to.addr, err)
	if err != nil {
		s.Log.Warn("container update is queued", "container", to.addr+"/"+to.device, "trans_id", c.Header.Get(backend.TransID), "err", err)
	}
	return err == nil
}
