package model

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"martlet/cmd/internal/check/history"
)

// A sim is a store that keeps its promises, and clients of it: three replicas that take writes in any order, of which
// the last by time wins, majorities that answer, a handoff for who is down, writes that turn up late, listings that are
// told at once or later. Each thing that can be one way or another is chosen.
type sim struct {
	choose func(n int) int // from 0 up to n-1

	now    time.Duration
	stamps int
	ids    int64

	replicas [4]map[history.Name]copied // the last one is the handoff
	rows     [3]map[history.Name]copied // as the containers' replicas have been told
	queued   []func()                   // what they are still to be told
	up       [3]bool
	faults   bool

	clients [3]*job
	late    []*job // nobody waits for them
	h       history.History
	names   []history.Name
}

// copied is what a replica has of a name.
type copied struct {
	data, meta int // stamps
	dead       bool
	state      history.State
}

func (c copied) join(o copied) copied {
	if o.data > c.data {
		c.data, c.dead = o.data, o.dead
		c.state.Data, c.state.Body, c.state.Size = o.state.Data, o.state.Body, o.state.Size
	}
	if o.meta > c.meta {
		c.meta, c.state.Mark = o.meta, o.state.Mark
	}
	return c
}

// seen is what a client sees of it.
func (c copied) seen() history.State {
	if c.data == 0 || c.dead {
		return history.State{Missing: true}
	}
	s := c.state
	if c.meta < c.data {
		s.Mark = s.Data
	}
	return s
}

// A job is an operation on its way.
type job struct {
	op      history.Op
	stamp   int // 0: nobody has begun with it
	left    []int
	ok, no  int // replicas that have taken it, and that say there is something newer
	unknown int // and that have nothing that metadata could be of
	body    history.State
}

const grace = 40 * time.Millisecond

func newSim(choose func(int) int) *sim {
	s := &sim{choose: choose, up: [3]bool{true, true, true}}
	for i := range s.replicas {
		s.replicas[i] = map[history.Name]copied{}
	}
	for i := range s.rows {
		s.rows[i] = map[history.Name]copied{}
	}
	s.names = []history.Name{{Container: "c", Object: "a"}, {Container: "c", Object: "b"}, {Container: "d", Object: "a"}}
	s.h = history.History{Limits: history.Limits{Grace: grace}, Round: 1}
	return s
}

// round has clients work, for so many steps without faults and then with some.
func (s *sim) round(steady, faulty int) {
	s.faults = false
	for range steady {
		s.step()
	}
	s.h.Steady = s.now
	s.faults = true
	for range faulty {
		s.step()
	}
	if faulty == 0 {
		s.h.Steady = time.Hour
	}
	s.heal()
}

func (s *sim) step() {
	s.now += time.Duration(1+s.choose(4)) * time.Millisecond
	if s.faults && s.choose(8) == 0 {
		r := s.choose(3)
		s.up[r] = !s.up[r]
		return
	}
	if len(s.late) > 0 && s.choose(4) == 0 {
		i := s.choose(len(s.late))
		if s.deliver(s.late[i]) {
			s.late = slices.Delete(s.late, i, i+1)
		}
		return
	}
	if len(s.queued) > 0 && s.choose(4) == 0 {
		s.queued[0]()
		s.queued = s.queued[1:]
		return
	}
	c := s.choose(len(s.clients))
	if s.clients[c] == nil {
		s.clients[c] = s.begin(c)
		return
	}
	if s.advance(s.clients[c]) {
		s.clients[c] = nil
	}
}

func (s *sim) begin(client int) *job {
	s.ids++
	n := s.names[s.choose(len(s.names))]
	op := history.Op{ID: s.ids, Client: client, Container: n.Container, Object: n.Object, Start: s.now}
	op.Kind = []history.Kind{history.Put, history.Put, history.Post, history.Delete, history.Copy, history.Get, history.Get, history.Head, history.List}[s.choose(9)]
	switch op.Kind {
	case history.Put:
		op.Size = int64(s.choose(3)) * 100
		op.Body = op.ID
		if op.Size == 0 {
			op.Body = 0
		}
	case history.List:
		op.Object = ""
	}
	j := &job{op: op, left: []int{0, 1, 2}}
	if op.Kind == history.Copy {
		from := s.names[s.choose(len(s.names))]
		if from == n {
			op.Kind = history.Delete
			j.op = op
			return j
		}
		j.op.From = &from
	}
	return j
}

// advance goes on with a client's operation, and reports whether it is over.
func (s *sim) advance(j *job) bool {
	if !j.op.Kind.Writes() {
		s.read(j)
		return true
	}
	if s.faults && s.choose(6) == 0 {
		s.end(j, history.Unknown, []int{0, 503}[s.choose(2)])
		s.late = append(s.late, j)
		return true
	}
	if j.stamp == 0 && j.op.Kind == history.Put && s.choose(20) == 0 {
		s.end(j, history.Refused, 0) // broken off
		return true
	}
	s.deliver(j)
	if j.stamp == 0 && j.op.Kind == history.Copy { // its source was missing
		s.end(j, history.Refused, 404)
		return true
	}
	early := len(j.left) > 0
	if early && (j.ok < 2 || s.choose(6) > 0) {
		return false
	}
	switch {
	case early:
		s.now = max(s.now, j.op.Start+grace+time.Millisecond)
		s.late = append(s.late, j)
		fallthrough
	case j.ok >= 2:
		s.end(j, history.Acked, map[history.Kind]int{history.Delete: 204, history.Post: 202}[j.op.Kind])
		return true
	case j.unknown >= 2:
		s.end(j, history.Unknown, 404)
		return true
	case j.no > 0: // once more, above what is there
		s.stamps++
		*j = job{op: j.op, stamp: s.stamps, left: []int{0, 1, 2}, body: j.body}
		return false
	}
	s.end(j, history.Unknown, 503)
	return true
}

func (s *sim) end(j *job, o history.Outcome, status int) {
	j.op.End, j.op.Outcome, j.op.Status = s.now, o, status
	if status == 0 && o == history.Acked {
		j.op.Status = http.StatusCreated
	}
	if j.op.Kind == history.Copy && o != history.Acked {
		j.op.Body, j.op.Size = 0, 0 // it was not told
	}
	s.h.Ops = append(s.h.Ops, j.op)
}

// deliver brings a write to one more replica, and reports whether that was the last.
func (s *sim) deliver(j *job) bool {
	n := j.op.Name()
	if j.stamp == 0 {
		if j.op.Kind == history.Copy {
			from := s.replicas[s.reader()][*j.op.From].seen()
			if from.Missing {
				return true
			}
			j.op.Body, j.op.Size = from.Body, from.Size
		}
		j.body = history.State{Data: j.op.ID, Body: j.op.Body, Size: j.op.Size, Mark: j.op.ID}
		s.stamps++
		j.stamp = s.stamps
	}
	if len(j.left) == 0 {
		return true
	}
	i := s.choose(len(j.left))
	r := j.left[i]
	j.left = slices.Delete(j.left, i, i+1)
	to := r
	if !s.up[r] {
		if to = 3; s.choose(2) == 0 {
			return len(j.left) == 0 // nobody takes it
		}
	}
	at := s.replicas[to][n]
	w := copied{data: j.stamp, meta: j.stamp, dead: j.op.Kind == history.Delete, state: j.body}
	switch {
	case j.op.Kind == history.Post && (at.data == 0 || at.dead):
		j.unknown++
		return len(j.left) == 0
	case j.op.Kind == history.Post:
		w = copied{meta: j.stamp, state: history.State{Mark: j.op.ID}}
	case at.data > j.stamp:
		j.no++
		return len(j.left) == 0
	}
	j.ok++
	now := at.join(w)
	s.replicas[to][n] = now
	tell := func() { s.rows[r][n] = s.rows[r][n].join(now) }
	if to == 3 || s.faults && s.choose(3) == 0 {
		s.queued = append(s.queued, tell)
	} else {
		tell()
	}
	return len(j.left) == 0
}

// reader chooses the replica that answers a read: one that is up, or the handoff.
func (s *sim) reader() int {
	if !s.faults {
		return s.choose(3)
	}
	return s.choose(4)
}

func (s *sim) read(j *job) {
	r := s.reader()
	j.op.Seen = &history.Seen{}
	if j.op.Kind == history.List {
		r = s.choose(3)
		j.op.Seen.Names, j.op.Seen.Whole = s.list(r, j.op.Container), true
	} else {
		if _, ok := s.replicas[r][j.op.Name()]; r == 3 && !ok {
			r = s.choose(3) // it knows nothing of the name
		}
		j.op.Seen.State = s.replicas[r][j.op.Name()].seen()
		if j.op.Kind == history.Head && s.choose(3) == 0 && !j.op.Seen.Missing {
			j.op.Seen.Data, j.op.Seen.Mark = 0, 0 // a 304
		}
	}
	s.end(j, history.Acked, 200)
}

func (s *sim) list(r int, container string) []history.Listed {
	var all []history.Listed
	for _, n := range slices.SortedFunc(maps.Keys(s.rows[r]), func(a, b history.Name) int { return strings.Compare(a.Object, b.Object) }) {
		if is := s.rows[r][n].seen(); n.Container == container && !is.Missing {
			all = append(all, history.Listed{Name: n.Object, Data: is.Data, Body: is.Body, Size: is.Size})
		}
	}
	return all
}

// heal ends what is under way, or loses it, and brings all replicas together.
func (s *sim) heal() {
	s.up = [3]bool{true, true, true}
	for c, j := range s.clients {
		if j != nil && j.op.Kind.Writes() {
			s.now += time.Millisecond
			s.end(j, history.Unknown, 0)
			s.late = append(s.late, j)
		}
		s.clients[c] = nil
	}
	for _, j := range s.late {
		for s.choose(4) > 0 && !s.deliver(j) {
		}
	}
	s.late = nil
	for _, n := range s.names {
		var all copied
		for r := range s.replicas {
			all = all.join(s.replicas[r][n])
		}
		for r := range s.replicas {
			s.replicas[r][n] = all
		}
		delete(s.replicas[3], n)
		for r := range s.rows {
			s.rows[r][n] = all
		}
	}
	s.queued = nil
	slices.SortFunc(s.h.Ops, func(a, b history.Op) int { return int(a.ID - b.ID) })
}

// final is what everybody reads then.
func (s *sim) final() history.Final {
	var f history.Final
	var account history.Account
	for _, c := range []string{"c", "d"} {
		e := history.AccountEntry{Container: c}
		for _, n := range s.names {
			if is := s.replicas[0][n].seen(); n.Container == c && !is.Missing {
				e.Objects++
				e.Bytes += is.Size
			}
		}
		account.Listed = append(account.Listed, e)
		account.Containers++
		account.Objects += e.Objects
		account.Bytes += e.Bytes
	}
	for proxy := range 2 {
		for _, n := range s.names {
			for _, how := range []history.Kind{history.Get, history.Head} {
				f.Looks = append(f.Looks, history.Look{Name: n, Proxy: proxy, How: how, Seen: history.Seen{State: s.replicas[proxy][n].seen()}})
			}
		}
		for _, e := range account.Listed {
			f.Containers = append(f.Containers, history.Container{Container: e.Container, Proxy: proxy, Names: s.list(proxy, e.Container), Objects: e.Objects, Bytes: e.Bytes})
		}
		account.Proxy = proxy
		f.Accounts = append(f.Accounts, account)
	}
	return f
}

// next begins another round on what this one has ended with.
func (s *sim) next(floor []history.Entry) {
	s.h = history.History{Limits: s.h.Limits, Round: s.h.Round + 1, Floor: floor, Began: s.now}
}

// told is a history, for messages.
func told(h history.History, f *history.Final) string {
	var b strings.Builder
	for _, e := range h.Floor {
		fmt.Fprintf(&b, "floor %v %+v\n", e.Name, e.State)
	}
	for i := range h.Ops {
		o := &h.Ops[i]
		fmt.Fprintf(&b, "%v-%v %d: %v %v %v body %d size %d", o.Start, o.End, o.ID, o.Kind, o.Name(), o.Outcome, o.Body, o.Size)
		if o.From != nil {
			fmt.Fprintf(&b, " from %v", *o.From)
		}
		if o.Seen != nil {
			fmt.Fprintf(&b, " saw %+v", *o.Seen)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "steady up to %v\n", h.Steady)
	if f != nil {
		for _, l := range f.Looks {
			fmt.Fprintf(&b, "%v: %+v\n", l.Name, l.Seen.State)
		}
	}
	return b.String()
}
