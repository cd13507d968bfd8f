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
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/planted"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// Answer is what one replica said to a request.
type Answer struct {
	Device *ring.Device
	Slot   int // which replica it stands for
	Status int // 0 where there was no answer
	Header backend.Header
	Body   []byte // at most 64 KiB of it
	Err    error  // why there was no answer
}

func (a *Answer) String() string {
	where := "nobody"
	if a.Device != nil {
		where = a.Device.Addr() + "/" + a.Device.Name
	}
	if a.Status == 0 {
		return fmt.Sprintf("%s: %v", where, a.Err)
	}
	return fmt.Sprintf("%s: %d", where, a.Status)
}

// Final reports whether nobody else is to be asked in the replica's place: it has answered, and not
// with a failure of its own. That an account has sent too many requests is said in the name of all: they
// are not to fill handoffs instead.
func (a *Answer) Final() bool {
	return a.Status != 0 && a.Status < 500 || overAccount(a.Status, a.Header)
}

// overAccount reports whether an answer says that there are too many requests of the account that
// the request is about.
func overAccount(status int, h backend.Header) bool {
	return status == backend.StatusLimited && h.Get(backend.Limited) == backend.LimitedAccount
}

// Stamp returns what a replica said its newest timestamp of the name is; zero
// where it said nothing.
func (a *Answer) Stamp() timestamp.T {
	t, err := timestamp.Parse(a.Header.Get(backend.BackendStamp))
	if err != nil {
		return timestamp.T{}
	}
	return t
}

// Data returns what a replica said the timestamp of its data is, or of its
// tombstone: the newest of all where it did not say. A replica that missed the
// latest data may have taken later metadata, so that its Stamp is the newest and
// its data is not.
func (a *Answer) Data() timestamp.T {
	if t, err := timestamp.Parse(a.Header.Get(backend.DataStamp)); err == nil {
		return t
	}
	return a.Stamp()
}

// Times returns both: of the metadata what Stamp says.
func (a *Answer) Times() timestamp.Packed { return timestamp.Packed{Data: a.Data(), Meta: a.Stamp()} }

// Build makes the request for the replica of a slot on a device. It is called
// from several goroutines, once for each device that is tried. Path and
// transaction id are filled in where they are empty.
type Build func(slot int, d *ring.Device) *backend.Request

// Write sends a request to every primary of a place at once, and to handoffs
// for those that can't take it, and returns one answer for each slot that gave
// one in time. It waits for all of them, but when the outcome is settled for no
// longer than PostQuorum; later answers are dropped, their writes are not. The
// writes go on when ctx ends.
func (c *Cluster) Write(ctx context.Context, p Place, build Build) []Answer {
	n := len(p.Primaries)
	results := make(chan Answer, n) // has room for all, so that late ones never wait
	spare := c.Spare(p)
	work := detached(ctx)
	under, routes := make([]Under, n), make([]Route, n)
	only := -1
	if planted.QuorumOfOne { // as in Place.Quorum: nobody else is told
		only = rand.IntN(n)
	}
	for slot, d := range p.Primaries {
		if planted.QuorumOfOne && slot != only {
			continue
		}
		routes[slot] = spare.route(d)
		c.late.Add(1)
		go func() {
			defer c.late.Done()
			results <- c.writeSlot(work, p, slot, &routes[slot], &under[slot], build)
		}()
	}
	if planted.QuorumOfOne {
		return p.Gather(ctx, results, 0)
	}
	answers := p.Gather(ctx, results, c.cfg.PostQuorum)
	c.Late(ctx, answers, under)
	return answers
}

// Under is the device that a slot's write is under way to.
type Under struct{ device atomic.Pointer[ring.Device] }

// Set notes the device that is tried now.
func (u *Under) Set(d *ring.Device) { u.device.Store(d) }

// Late counts an error for each device that had not answered when its write was
// settled and waited for no longer. One that is only slow makes it good with its
// answer; one that hangs is soon passed over.
func (c *Cluster) Late(ctx context.Context, answers []Answer, under []Under) {
	if ctx.Err() != nil || len(answers) == len(under) {
		return // nobody waited for long
	}
	heard := make([]bool, len(under))
	for i := range answers {
		heard[answers[i].Slot] = true
	}
	for slot := range under {
		if d := under[slot].device.Load(); d != nil && !heard[slot] {
			c.errors.failed(d, 1)
		}
	}
}

// Gather collects up to an answer for each primary. Once their outcome is settled it
// waits for the rest no longer than the given time.
func (p Place) Gather(ctx context.Context, results <-chan Answer, patience time.Duration) []Answer {
	n := len(p.Primaries)
	answers := make([]Answer, 0, n)
	var late <-chan time.Time
	for len(answers) < n {
		select {
		case a := <-results:
			answers = append(answers, a)
		case <-late:
			return answers
		case <-ctx.Done():
			return answers
		}
		if late == nil && len(answers) < n && p.settled(answers) {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			late = timer.C
		}
	}
	return answers
}

// writeSlot tries the devices that can stand for one replica, one after the
// other, until one of them answers with anything but its own failure. The 404 of
// a handoff that knows of no tombstone is no answer either: the name may well be
// on the primaries.
func (c *Cluster) writeSlot(ctx context.Context, p Place, slot int, route *Route, under *Under, build Build) Answer {
	var last Answer
	for d := route.Next(); d != nil; d = route.Next() {
		under.Set(d)
		last = c.Ask(ctx, p, slot, d, build(slot, d))
		if last.Status == http.StatusNotFound && !slices.Contains(p.Primaries, d) && last.Stamp().IsZero() {
			last.Status, last.Err = 0, errs.E(errs.Op("quorum.write"), errs.Unavailable, "handoff that does not know the name")
		}
		if last.Final() {
			return last
		}
	}
	return last
}

// Ask sends one request to one device and reads its answer to the end. It
// keeps count of the device's errors.
func (c *Cluster) Ask(ctx context.Context, p Place, slot int, d *ring.Device, r *backend.Request) Answer {
	c.Address(ctx, p, d, r)
	resp, err := c.client.Do(ctx, d.Addr(), r)
	if err != nil && ctx.Err() != nil {
		return Answer{Device: d, Slot: slot, Err: err} // not the device's fault
	}
	return c.Answered(slot, d, resp, err)
}

// Answered makes the Answer of a response, which it reads to its end, or of the
// error that came instead, and keeps count of the device's errors.
func (c *Cluster) Answered(slot int, d *ring.Device, resp *backend.Response, err error) Answer {
	a := Answer{Device: d, Slot: slot}
	if err == nil {
		a.Body, err = sink(resp)
	}
	if err != nil {
		c.errors.failed(d, 1)
		a.Err = errs.E(errs.Op("quorum.ask"), errs.Subject(d.Addr()), errs.Unavailable, err)
		return a
	}
	c.heard(d, resp)
	a.Status, a.Header = resp.Status, resp.Header
	return a
}

func (c *Cluster) send(ctx context.Context, client *direct.Client, p Place, d *ring.Device, r *backend.Request) (*backend.Response, error) {
	c.Address(ctx, p, d, r)
	resp, err := client.Do(ctx, d.Addr(), r)
	if err != nil {
		if ctx.Err() == nil {
			c.errors.failed(d, 1)
		}
		return nil, err
	}
	c.heard(d, resp)
	return resp, nil
}

// Address fills in what every request to a replica carries.
func (c *Cluster) Address(ctx context.Context, p Place, d *ring.Device, r *backend.Request) {
	if r.Path == "" {
		r.Path = p.Target(d)
	}
	if r.Header.Has(backend.TransID) {
		return
	}
	if id := httpapi.TransID(ctx); id != "" {
		r.Header.Add(backend.TransID, id)
	}
}

// heard keeps count of a device's errors by what it answered.
func (c *Cluster) heard(d *ring.Device, resp *backend.Response) {
	switch {
	case resp.Status == http.StatusInsufficientStorage:
		c.errors.failed(d, c.cfg.ErrorLimit) // it said itself that it can't be used
	case resp.Status == http.StatusServiceUnavailable && resp.Header.Has(backend.RetryAfter):
		// Its server has no room for more requests just now. That says nothing of
		// the device, neither that it fails nor that it works.
	case resp.Status == backend.StatusLimited:
		// Nor does this: there are more requests than it may take.
	case resp.Status >= 500:
		c.errors.failed(d, 1)
	default:
		c.errors.answered(d)
	}
}

// class is the hundred that a status falls into, after its treatment.
func class(status int, treat map[int]int) int {
	if as, ok := treat[status]; ok {
		status = as
	}
	return status / 100
}

// enough is how many answers of a class decide: of good ones a quorum, of others a
// majority.
func (p Place) enough(class int) int {
	if class == 2 || planted.QuorumOfOne { // as in Place.Quorum
		return p.Quorum()
	}
	return Majority(len(p.Primaries))
}

// settled reports whether enough replicas agree on a class of status below 500: more
// answers can't change what the client is told. Refusals are as many as a quorum for that, since they may
// be what counts as done.
func (p Place) settled(answers []Answer) bool {
	var count [5]int
	for i := range answers {
		if k := answers[i].Status / 100; k > 0 && k < 5 {
			count[k]++
			if count[k] >= max(p.enough(k), p.Quorum()) {
				return true
			}
		}
	}
	return false
}

// Best returns the answer that stands for a write to the place: of the class that
// enough replicas agree on, a quorum on what is good and a majority on what is not, the
// one with the highest status. Where there is none, statuses are counted as treat says and looked at again (a DELETE
// takes a 404 for done). What counts as good by that is an answer only where a quorum says so. Without one then, the error is of kind
// errs.Unavailable and lists what each replica said: the write may or may not
// have happened.
func (p Place) Best(answers []Answer, treat map[int]int) (Answer, error) {
	for _, t := range []map[int]int{nil, treat} {
		for k := 2; k < 5; k++ {
			var best *Answer // the first of those that rank highest
			agree := 0
			for i := range answers {
				a := &answers[i]
				if a.Status == 0 || class(a.Status, t) != k {
					continue
				}
				if agree++; best == nil || rank(a, best, t) > 0 {
					best = a
				}
			}
			if best != nil && agree >= p.enough(k) && agree >= p.enough(class(best.Status, treat)) {
				return *best, nil
			}
		}
	}
	return Answer{}, p.noQuorum(answers)
}

// Outrun reports whether a write of a time has lost on some replicas against what they have that is not older,
// and was taken by others, so that there is no answer that stands: a quorum has said the one or the
// other. It may be sent once more above that, as where a majority has refused it. treat is as in Best.
func (p Place) Outrun(answers []Answer, stamp timestamp.T, treat map[int]int) bool {
	lost, all := 0, 0
	for i := range answers {
		switch a := &answers[i]; {
		case a.Status == http.StatusConflict && !a.Stamp().Before(stamp):
			lost++
			all++
		case a.Status != 0 && class(a.Status, treat) == 2:
			all++
		}
	}
	return lost > 0 && all >= p.Quorum()
}

// rank prefers the statuses that are of the class themselves to those that only
// count as it, and the higher of two.
func rank(a, b *Answer, treat map[int]int) int {
	_, ta := treat[a.Status]
	_, tb := treat[b.Status]
	switch {
	case ta && !tb:
		return -1
	case tb && !ta:
		return 1
	}
	return cmp.Or(cmp.Compare(a.Status, b.Status), a.Stamp().Compare(b.Stamp()))
}

func (p Place) noQuorum(answers []Answer) error {
	said := make([]string, len(answers))
	for i := range answers {
		said[i] = answers[i].String()
	}
	return errs.E(errs.Op("quorum.write"), errs.Unavailable,
		fmt.Errorf("no %d of %d replicas agree: %s", p.Quorum(), len(p.Primaries), strings.Join(said, "; ")))
}

// Newest returns the latest timestamp that any of the answers knows of.
func Newest(answers []Answer) timestamp.T {
	var t timestamp.T
	for i := range answers {
		t = timestamp.Max(t, answers[i].Stamp())
	}
	return t
}

func readSome(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}
