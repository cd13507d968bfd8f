package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"martlet/internal/errs"
	"martlet/internal/planted"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// maxTogether is how long data may be that travels together with others.
const maxTogether = 256 << 10

// out is what is on its way to one peer. It is not safe for concurrent use.
type out struct {
	*pass
	policy  policy.Index
	ring    *ring.Ring
	via     *replicator.Peer // whom requests about many partitions go to
	load    *load            // what is being gathered
	under   *load            // what is under way; nil for nothing
	spare   *load            // room for what is gathered next; nil for none
	body    []byte           // room for one
	claimed []*version       // what others are bringing
	hurt    bool             // something could not be sent
}

// load is what goes in one request.
type load struct {
	list    replwire.Pushes
	items   []item // what each of the list is
	results []replwire.Result
	err     error
	done    chan struct{} // closed when results, or err, are there
}

func (p *pass) newOut(index policy.Index, r *ring.Ring, via *replicator.Peer) *out {
	return &out{pass: p, policy: index, ring: r, via: via, load: &load{}}
}

// item is one push of a list.
type item struct {
	*version
	bytes int
}

// version is a state that is on its way.
type version struct {
	of     *bringing
	at     int              // its place in the work
	theirs *replwire.Object // what the peer has; nil for nothing
	lack   replwire.Lack    // what of it the peer lacks
	state  State
	sum    result
	err    error
}

// push brings a peer, which has theirs under a name, what is there now: at once, or with
// others when there are enough.
func (x *out) push(ctx context.Context, b *bringing, i int, theirs *replwire.Object) {
	v := &version{of: b, at: i, theirs: theirs, sum: taken}
	if x.find(ctx, v); v.sum == taken {
		if x.together(ctx, v) {
			return
		}
		if v.sum == taken && v.lack&replwire.LackData != 0 && v.state.Kind == replwire.Data {
			v.sum, v.err = x.claim(ctx, v)
		}
		if v.sum == taken {
			v.sum, v.err = x.alone(ctx, b.w, b.to, v)
		}
	}
	if v.sum == claimedByAnother {
		x.claimed = append(x.claimed, v)
		return
	}
	x.settle(v)
	x.askAgain(ctx, b)
}

// find looks what of a version the peer lacks.
func (x *out) find(ctx context.Context, v *version) {
	o := &v.of.w.Items[v.at]
	if v.lack = o.Lacks(v.theirs); o.Kind == replwire.Data && v.lack == replwire.LackData && !typeLast(o, v.theirs) {
		v.state.Object = *o // the data brings all there is to tell with it, and is as new at least
		return
	}
	if v.state, v.err = x.store.Stat(ctx, v.of.w.policy, o.Hash); v.err != nil {
		v.sum = failed
		return
	}
	switch v.lack = v.state.LacksLeft(v.theirs); {
	case v.state.Kind == 0:
		v.sum = changed
	case v.state.Kind != replwire.Lost:
	case o.Kind != replwire.Lost || v.lack == 0 || x.Hasher.Hash(v.state.Name) != o.Hash: // it was found just now, or its name is lost as well
		v.sum = changed
	default:
		v.state.left()
	}
}

// left makes of a state that is lost what is good of it, which is brought as if it were all.
func (s *State) left() {
	t := &s.Times
	if s.Kind = s.Left; s.Left != 0 { // the data has with it what came with it
		t.ContentType, t.Meta = t.Data, t.Data
		s.ContentType, s.Meta, s.MetaSum, s.TypeSum = "", nil, 0, 0
	} else { // later metadata; the content type may be but that of the data
		if s.Kind = replwire.Waiting; !t.ContentType.After(t.Data.Until()) {
			t.ContentType = timestamp.T{}
		}
		t.Data = timestamp.T{}
	}
	s.Left, s.LeftMeta = 0, false
}

// metaFirst reports whether the metadata of a version goes before its data: where the peer
// has taken the object for expired, it takes the data again only once it knows of its longer life.
func (v *version) metaFirst() bool {
	return v.lack == replwire.LackData|replwire.LackMeta && v.theirs != nil && v.theirs.Times.Data.IsExpiry()
}

// typeLast reports whether the metadata of an object goes behind its data, whether or not it went before: the end that
// the peer has taken has taken in the content type, and is void.
func typeLast(o, theirs *replwire.Object) bool {
	if o.Kind != replwire.Data || theirs == nil || !theirs.Times.Data.IsExpiry() || o.Times.Data.Ticks() != theirs.Times.Data.Ticks() {
		return false
	}
	return o.Times.ContentType.After(o.Times.Data) && !o.Times.ContentType.After(theirs.Times.Data.Until())
}

// together puts a version with others, and reports false where it has to go alone, or has
// changed or can't be read, which v says.
func (x *out) together(ctx context.Context, v *version) bool {
	s := &v.state
	var pushes [3]replwire.Push
	n := 0
	if v.lack&replwire.LackData != 0 {
		if s.Kind == replwire.Data {
			if s.Length > maxTogether {
				return false
			}
			if pushes[n], v.sum, v.err = x.data(ctx, v.of.w, s); v.sum != taken {
				return false
			}
		} else {
			pushes[n] = replwire.Push{Method: "DELETE", Path: s.Name, Header: stamped(s.Times.Data, 0)}
		}
		n++
	}
	if v.lack&replwire.LackMeta != 0 {
		pushes[n] = replwire.Push{Method: "POST", Path: s.Name, Header: metaHeader(stamped, s)}
		n++
	}
	if v.metaFirst() {
		pushes[0], pushes[1] = pushes[1], pushes[0]
	}
	if v.lack&replwire.LackData != 0 && typeLast(&s.Object, v.theirs) {
		pushes[n] = replwire.Push{Method: "POST", Path: s.Name, Header: metaHeader(stamped, s)}
		n++
	}
	for i := range pushes[:n] {
		if pushes[i].Partition = uint32(v.of.w.Partition); !pushes[i].Fits() {
			return false
		}
	}
	if !x.load.list.Room(pushes[:n]...) {
		x.flush(ctx)
	}
	if n == 0 || !x.load.list.Room(pushes[:n]...) {
		return false
	}
	for i := range pushes[:n] { // all of a version in one request: it is settled with that
		x.load.list.Add(&pushes[i])
		x.load.items = append(x.load.items, item{v, len(pushes[i].Body)})
	}
	return true
}

// data reads the data of a version with what came with it.
func (x *out) data(ctx context.Context, w *work, s *State) (replwire.Push, result, error) {
	v, err := x.store.Open(ctx, w.policy, s.Hash)
	if errs.Is(err, errs.NotFound) {
		return replwire.Push{}, changed, nil
	}
	if err != nil {
		return replwire.Push{}, failed, err
	}
	if v.Length > maxTogether { // it is another one by now
		return replwire.Push{}, changed, v.Body.Close()
	}
	if int64(cap(x.body)) < v.Length {
		x.body = make([]byte, maxTogether)
	}
	body := x.body[:v.Length]
	_, err = io.ReadFull(v.Body, body)
	if err = errors.Join(err, v.Body.Close()); err != nil {
		return replwire.Push{}, failed, err
	}
	return replwire.Push{Method: "PUT", Path: v.Name, Header: dataHeader(stamped(v.Time, 4+len(v.Fields)), v), Body: body}, taken, nil
}

// flush sends what was gathered, once it is settled what has become of what was sent before:
// more can be gathered while it is under way.
func (x *out) flush(ctx context.Context) {
	x.wait(ctx)
	l := x.load
	if l.list.Len() == 0 {
		return
	}
	if x.load = x.spare; x.load == nil {
		x.load = &load{}
	}
	x.under, x.spare = l, nil
	l.done = make(chan struct{})
	go func() {
		defer close(l.done)
		if planted.PushNotSent { // breaks: what counts as taken was confirmed by who has taken it
			l.results = slices.Repeat([]replwire.Result{{Status: 201, Primary: true}}, len(l.items))
			return
		}
		if l.err = context.Cause(ctx); l.err == nil {
			l.results, l.err = x.peers.Push(ctx, x.ring, x.via, policyHeader(x.policy), &l.list)
		}
	}()
}

// finish sends what was gathered, and settles what has become of all.
func (x *out) finish(ctx context.Context) {
	x.flush(ctx)
	x.wait(ctx)
	x.again(ctx, nil)
}

// again comes back to what others were bringing, but of one work: it may be there by now, or who was to bring it has
// given up.
func (x *out) again(ctx context.Context, but *bringing) {
	var kept []*version
	for _, v := range x.claimed {
		if v.of == but {
			kept = append(kept, v)
			continue
		}
		if why, ok := x.peers.Down(v.of.to); ok {
			v.sum, v.err = failed, errors.New(why)
		} else if v.sum, v.err = x.claim(ctx, v); v.sum == taken {
			v.sum, v.err = x.alone(ctx, v.of.w, v.of.to, v)
		}
		if v.sum == claimedByAnother {
			v.sum, v.err = failed, errClaimed
		}
		x.settle(v)
		x.askAgain(ctx, v.of)
	}
	x.claimed = kept
}

// wait settles what has become of what is under way.
func (x *out) wait(ctx context.Context) {
	l := x.under
	if l == nil {
		return
	}
	<-l.done // it ends with ctx
	x.under = nil
	for i, one := range l.items {
		if l.err != nil {
			one.sum, one.err = failed, l.err
		} else {
			one.take(x.pass, x.via, &l.results[i])
		}
	}
	for i, one := range l.items {
		if i+1 == len(l.items) || l.items[i+1].version != one.version {
			x.settle(one.version)
		}
	}
	for i, one := range l.items {
		if i+1 == len(l.items) || l.items[i+1].of != one.of {
			x.askAgain(ctx, one.of)
		}
	}
	l.list.Reset()
	clear(l.items)
	l.items, l.results, l.err = l.items[:0], nil, nil
	x.spare = l
}

// take notes what has become of a part of a version.
func (v *item) take(p *pass, via *replicator.Peer, r *replwire.Result) {
	if err := v.of.to.Heard(via, r.Primary); err != nil {
		v.sum, v.err = failed, fmt.Errorf("%s: %w", v.of.to, err)
		return
	}
	switch {
	case r.Status/100 == 2:
		p.pushed(int64(v.bytes))
	case r.Status == 409 && (v.sum == taken || v.sum == past):
		v.sum = refused
	case r.Status == 410 && v.sum == taken:
		v.sum = past
	case r.Status == 409 || r.Status == 410:
	default:
		v.sum, v.err = failed, fmt.Errorf("%s: a push was answered with %d %q", v.of.to, r.Status, r.Text)
	}
}

// settle notes what has become of a version.
func (x *out) settle(v *version) {
	if v.sum != failed && v.sum != changed && v.lack&replwire.LackData == 0 && v.theirs != nil && v.theirs.Kind == replwire.Lost {
		v.sum, v.err = failed, errLost // whatever it has taken: see the package's text
	}
	o := &v.of.w.Items[v.at]
	if o.Kind == replwire.Lost && (v.sum == taken || v.sum == past) {
		v.sum = refused // it has what is left, which is not all that there was
	}
	if v.sum == past && o.Kind != replwire.Tombstone && o.Kind != replwire.Waiting {
		v.sum = refused // nothing is lost with those alone
	}
	switch v.sum {
	case taken, past:
		v.of.to.Has[v.at] = true
	case refused:
		v.of.unsure = append(v.of.unsure, v.at)
	case failed:
		x.hurt = true
		x.fail(v.of.w, v.of.to, v.of.w.Items[v.at].Hash.String(), v.err.Error(), 1)
	}
}
