package quorum

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/ring"
)

// AnyFragment is the index of a request that asks for any fragment but some.
const AnyFragment = -1

// A FragmentRead says how the fragments of one version of an object are read.
type FragmentRead struct {
	Place Place
	Data  int // how many of the primaries, the first ones, are asked before others

	// Build makes the request for a fragment, or where index is AnyFragment for any but those
	// in but.
	Build func(index int, but []int) *backend.Request
	// Judge says which fragment a good answer has, or what is wrong with it.
	Judge func(r *backend.Response) (index int, err error)
}

// Fragments is the devices that have fragments of one version of an object, as who reads it asks
// them: as many at one time as it takes, in the order of Cluster.Fragments, another for each that has
// nothing, and one beside each that is slow. It is for one goroutine.
type Fragments struct {
	c    *Cluster
	ctx  context.Context //nolint:containedctx // of the read
	read FragmentRead

	manner  *manner
	holders []*holder
	more    int   // which of the lists below are in holders already
	busy    []int // the indexes that are being read

	running []*inquiry
	results chan inquired // of those that are running
	over    chan struct{} // closed when nobody takes results any more
	said    []string
	limited int   // how many said that there are too many requests of the account
	beside  bool  // what is asked for is asked for beside an answer that has begun: of no handoffs
	refused int64 // the last round in which the budget allowed none beside an answer that has begun; -1 is none
}

// holder is a device that may have a fragment.
type holder struct {
	device *ring.Device
	index  int   // that it is asked for
	round  int64 // it was asked last for; -1 is none
	failed int   // how often it gave nothing, or not to the end
	busy   bool  // it was asked, or is being read

	// without is what it was asked to leave out only because others were being asked for it.
	without []int
}

// inquiry is a request to a holder that is under way.
type inquiry struct {
	*holder
	began    time.Time
	cancel   func()
	hedge    bool // it was sent beside one that was slow
	followed bool // it was decided whether another is sent while it has its time
	covered  bool // another was sent beside it
}

type inquired struct {
	of   *inquiry
	resp *backend.Response
	err  error
}

// A Fragment is an answer that has one. Whoever gets it closes its Body.
type Fragment struct {
	Reply
	Index     int
	cancel    func()
	broke     func(error)
	overtaken func(silent time.Duration)
}

// Interrupt ends the reading of the body, by another goroutine.
func (f *Fragment) Interrupt() { f.cancel() }

// Broke counts an error of the device: its answer broke off.
func (f *Fragment) Broke(why error) { f.broke(why) }

// Overtaken notes that the device had said nothing for so long when others had given what
// was wanted of it. It is asked again after those.
func (f *Fragment) Overtaken(silent time.Duration) { f.overtaken(silent) }

// Fragments begins a read of fragments. First come the primaries with data, among these and among the others the
// nearest or the fastest first where Options say so, and those that have been failing after all others. When they are
// used up it is handoffs, as many as one request may ask, which are asked for any fragment that isn't
// there yet, and then primaries in the same way, where fragments may be after a change of rings.
func (c *Cluster) Fragments(ctx context.Context, read FragmentRead) *Fragments {
	f := &Fragments{c: c, ctx: ctx, read: read, manner: c.manner(&read.Place), refused: -1}
	heard := time.Now().Add(-f.manner.TimingExpiry)
	type rank struct {
		*holder
		behind, parity bool
		nearness       int
		speed          int64
	}
	order := make([]rank, 0, len(read.Place.Primaries))
	for i, d := range read.Place.Primaries {
		r := rank{holder: &holder{device: d, index: i, round: -1}, behind: c.errors.behind(d), parity: i >= read.Data, nearness: f.manner.Near.priority(d)}
		if f.manner.Timing {
			r.speed = c.times.rank(d, heard)
		}
		order = append(order, r)
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	slices.SortStableFunc(order, func(a, b rank) int {
		return cmp.Or(less(a.behind, b.behind), less(a.parity, b.parity), cmp.Compare(a.speed, b.speed), cmp.Compare(a.nearness, b.nearness))
	})
	for _, r := range order {
		f.holders = append(f.holders, r.holder)
	}
	return f
}

func less(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Next returns the next answer. So many are still needed, and as many are kept under
// way; the others are ended with the last of them. Those that had nothing are asked again in another round, which has
// a higher number. io.EOF says that nobody is left to ask.
func (f *Fragments) Next(need int, round int64) (Fragment, error) {
	one, _, err := f.NextUnless(nil, need, round)
	return one, err
}

// NextUnless is Next until something comes from a channel: then it returns false and no error, and what is under
// way stays so.
func (f *Fragments) NextUnless(wake <-chan struct{}, need int, round int64) (one Fragment, ok bool, err error) {
	f.beside = wake != nil
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if f.ctx.Err() != nil {
			f.end()
			return Fragment{}, false, errs.E(errs.Op("quorum.fragments"), errs.Aborted, context.Cause(f.ctx))
		}
		for f.fresh() < need && f.send(round, false) {
		}
		if len(f.running) == 0 {
			return Fragment{}, false, io.EOF
		}
		select {
		case o := <-f.results:
			f.running = slices.DeleteFunc(f.running, func(a *inquiry) bool { return a == o.of })
			fragment, ok := f.settle(o)
			if !ok {
				timer.Reset(0)
				continue
			}
			if o.of.hedge {
				f.manner.hedges.won.Inc()
			}
			if need <= 1 {
				f.end()
			}
			return fragment, true, nil
		case <-timer.C:
			timer.Reset(f.step(time.Now(), round))
		case <-wake:
			return Fragment{}, false, nil
		case <-f.ctx.Done():
		}
	}
}

// Late says of an answer that was returned, and of which more has been waited for so long in a round, whether another device is
// asked beside its: 0 is that one is, and comes from Next, else it is for how long there is nothing to do. It is as with answers that are
// to begin: after what most take, within the budget, and beyond that after Config.Patience. So long only one is waited for that is slower than others (apart):
// where all are slow nothing is asked for but by the budget. Handoffs are not asked: what is on
// them is for who has nothing.
func (f *Fragments) Late(waited time.Duration, round int64, apart bool) time.Duration {
	const never = time.Hour
	f.beside = true
	h := f.candidate(round)
	if h == nil || f.ctx.Err() != nil {
		return never
	}
	patience := f.c.cfg.Patience
	if f.refused != round && f.mayHedge(h) {
		if delay := f.manner.hedges.delay(f.c.times.of(h.device)); delay < patience {
			if waited < delay {
				return delay - waited
			}
			if f.manner.hedges.take() && f.send(round, true) {
				return 0
			}
			f.refused = round
		}
	}
	switch {
	case !apart:
		return never
	case waited < patience:
		return patience - waited
	}
	f.send(round, false)
	return 0
}

// Close ends the requests that are under way. Answers that were returned are not among them.
func (f *Fragments) Close() { f.end() }

// Said returns what each device said that had no fragment to give, or not all of it.
func (f *Fragments) Said() string { return strings.Join(f.said, "; ") }

// fresh is how many are under way beside which no other was sent.
func (f *Fragments) fresh() int {
	n := 0
	for _, a := range f.running {
		if !a.covered {
			n++
		}
	}
	return n
}

// step sends what is to be sent beside those that are slow, and returns for how long there is nothing else to do.
func (f *Fragments) step(now time.Time, round int64) time.Duration {
	for _, a := range f.running[:len(f.running):len(f.running)] {
		until, hedge := f.patience(a, round)
		switch {
		case a.covered || now.Sub(a.began) < until:
		case hedge:
			a.followed = true
			a.covered = f.manner.hedges.take() && f.send(round, true)
		default:
			a.covered = f.send(round, false)
		}
	}
	wait := time.Hour // some answer, or the lack of it, comes before
	for _, a := range f.running {
		if until, _ := f.patience(a, round); !a.covered && now.Sub(a.began) < until {
			wait = min(wait, until-now.Sub(a.began))
		}
	}
	return wait
}

// patience is how long after its begin another is sent beside a request, and whether that is within
// the budget for those that are only slower than most.
func (f *Fragments) patience(a *inquiry, round int64) (until time.Duration, hedge bool) {
	until = f.c.cfg.Patience
	if h := f.candidate(round); !a.followed && h != nil && f.mayHedge(h) {
		if delay := f.manner.hedges.delay(f.c.times.of(h.device)); delay < until {
			return delay, true
		}
	}
	return until, false
}

// mayHedge reports whether a device may be asked beside one that is only slower than most.
func (f *Fragments) mayHedge(h *holder) bool {
	return f.manner.hedges.share > 0 && h.index != AnyFragment && h.failed == 0 && !f.c.errors.behind(h.device)
}

// candidate returns who is next in a round; nil where there is nobody.
func (f *Fragments) candidate(round int64) (next *holder) {
	for {
		for _, h := range f.holders {
			if !h.busy && h.round < round && !slices.Contains(f.busy, h.index) && !(f.beside && h.index == AnyFragment) && (next == nil || h.failed < next.failed) {
				next = h
			}
		}
		if next != nil || f.beside || !f.load() {
			return next
		}
	}
}

// load adds the devices that are asked for any fragment, and reports whether there were more.
func (f *Fragments) load() bool {
	add := func(d *ring.Device) {
		f.holders = append(f.holders, &holder{device: d, index: AnyFragment, round: -1})
	}
	p := f.read.Place
	if f.limited >= len(p.Primaries) {
		return false // others are not to be asked that much either
	}
	f.more++
	switch f.more {
	case 1:
		spare := f.c.Spare(p)
		for d := spare.Next(); d != nil; d = spare.Next() {
			add(d)
		}
	case 2:
		var seen []*ring.Device
		for _, d := range p.Primaries {
			if !slices.Contains(seen, d) {
				seen = append(seen, d)
				add(d)
			}
		}
	}
	return f.more <= 2
}

// send asks the next one of a round and reports whether there was one.
func (f *Fragments) send(round int64, hedge bool) bool {
	h := f.candidate(round)
	if h == nil || f.ctx.Err() != nil {
		return false
	}
	if !hedge {
		f.manner.hedges.read()
	}
	h.round, h.busy = round, true
	own, cancel := context.WithCancel(f.ctx)
	a := &inquiry{holder: h, began: time.Now(), cancel: cancel, hedge: hedge}
	var but []int
	if h.index == AnyFragment {
		but = slices.Clone(f.busy)
		for _, other := range f.running {
			if other.index != AnyFragment {
				but = append(but, other.index)
				h.without = append(h.without, other.index)
			}
		}
		slices.Sort(but)
	}
	req := f.read.Build(h.index, but)
	f.c.Address(f.ctx, f.read.Place, h.device, req)
	if f.results == nil {
		f.results, f.over = make(chan inquired), make(chan struct{})
	}
	results, over := f.results, f.over
	f.running = append(f.running, a)
	f.c.late.Go(func() {
		resp, err := f.c.client.Do(own, h.device.Addr(), req)
		select {
		case results <- inquired{a, resp, err}:
		case <-over:
			if err == nil {
				dropFragment(resp)
			}
			cancel()
		}
	})
	return true
}

// dropFragment lets go of an answer that is not wanted.
func dropFragment(resp *backend.Response) {
	if resp.Status >= 300 {
		_, _ = sink(resp) // nothing in it is wanted, but its connection is
	} else if resp.Body != nil {
		_ = resp.Body.Close()
	}
}

// settle takes in how a request ended. ok means that it has a fragment.
func (f *Fragments) settle(o inquired) (Fragment, bool) {
	h, now := o.of.holder, time.Now()
	took := now.Sub(o.of.began)
	if o.err != nil || o.resp.Status >= 500 {
		took = max(took, f.c.cfg.Patience) // whoever fails fast is not fast
	}
	if f.ctx.Err() == nil {
		f.c.times.of(h.device).took(took, now)
	}
	if o.err != nil {
		if f.ctx.Err() == nil {
			f.c.errors.failed(h.device, 1)
		}
		f.nothing(o.of, o.err)
		return Fragment{}, false
	}
	f.c.heard(h.device, o.resp)
	var index int
	var err error
	if o.resp.Status/100 != 2 {
		if overAccount(o.resp.Status, o.resp.Header) {
			f.limited++
		}
		err = fmt.Errorf("status %d", o.resp.Status)
	} else if index, err = f.read.Judge(o.resp); err == nil && slices.Contains(f.busy, index) {
		err = fmt.Errorf("fragment %d is there already", index)
		if h.index == AnyFragment {
			f.again(h) // it may have others
		}
	}
	if err != nil {
		dropFragment(o.resp)
		f.nothing(o.of, err)
		return Fragment{}, false
	}
	f.busy = append(f.busy, index)
	if h.index == AnyFragment {
		f.again(h)
	}
	if o.resp.Body == nil {
		o.resp.Body = http.NoBody
	}
	o.resp.Body = &lastingBody{o.resp.Body, func() {
		o.of.cancel()
		h.busy = false
		f.busy = slices.DeleteFunc(f.busy, func(i int) bool { return i == index })
	}}
	return Fragment{
		Reply: Reply{o.resp, h.device}, Index: index, cancel: o.of.cancel,
		broke: func(why error) {
			h.failed++
			f.note(h.device, why)
			if f.ctx.Err() == nil {
				f.c.Broke(h.device)
			}
		},
		overtaken: func(silent time.Duration) {
			if !o.of.hedge { // else it was asked beside one that was faster after all
				h.failed++
			}
			f.overtaken(h.device, silent, !o.of.hedge)
		},
	}, true
}

// mostAgain bounds how often one device is asked for any fragment in a round, whatever it says.
const mostAgain = 32

// again has a device asked once more for any fragment: it may have several.
func (f *Fragments) again(h *holder) {
	n := 0
	for _, other := range f.holders {
		if other.device == h.device {
			n++
		}
	}
	if n < mostAgain {
		f.holders = append(f.holders, &holder{device: h.device, index: AnyFragment, round: -1})
	}
}

// nothing notes that a request has come to nothing.
func (f *Fragments) nothing(a *inquiry, why error) {
	a.cancel()
	a.busy = false
	a.failed++
	f.note(a.device, why)
	if a.index == AnyFragment {
		return
	}
	// Who was asked for any but that one, since it was to come from here, may have it.
	for _, h := range f.holders[:len(f.holders):len(f.holders)] {
		if i := slices.Index(h.without, a.index); i >= 0 {
			h.without = slices.Delete(h.without, i, i+1)
			f.again(h)
		}
	}
}

func (f *Fragments) note(d *ring.Device, why error) {
	const most = 100
	if len(f.said) < most {
		f.said = append(f.said, fmt.Sprintf("%s/%s: %v", d.Addr(), d.Name, why))
	}
}

// end cancels those that are under way, and says of their devices what their silence
// says.
func (f *Fragments) end() {
	if len(f.running) == 0 {
		return
	}
	close(f.over)
	now := time.Now()
	for _, a := range f.running {
		a.cancel()
		silent := now.Sub(a.began)
		f.overtaken(a.device, silent, a.covered)
		a.busy = false
		if a.covered || silent >= f.c.cfg.Patience {
			a.failed++
		}
	}
	f.running, f.results, f.over = nil, nil, nil
}

// overtaken notes what it says of a device that it was silent for so long until others had
// given what was wanted; first is that it had been asked before these.
func (f *Fragments) overtaken(d *ring.Device, silent time.Duration, first bool) {
	if f.ctx.Err() != nil {
		return
	}
	f.c.times.of(d).took(silent, time.Now())
	if silent >= f.c.cfg.Patience {
		f.c.errors.failed(d, 1)
	} else if first {
		f.c.errors.overtaken(d)
	}
	f.note(d, errOvertaken)
}

var errOvertaken = errors.New("others were faster")
