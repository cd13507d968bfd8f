package reaper

import (
	"context"
	"crypto/md5" // shares containers as Swift does
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// shareOf says which of n replicas of its account reaps a container.
func shareOf(container string, n int) int {
	sum := md5.Sum([]byte(container))
	var rest big.Int
	return int(rest.Mod(rest.SetBytes(sum[:]), big.NewInt(int64(n))).Int64())
}

// reaping is one account that is reaped.
type reaping struct {
	*Reaper
	name  string
	place quorum.Place // of the account
	left  atomic.Int64 // containers that could not be reaped

	mu    sync.Mutex
	stamp timestamp.T // of deletes: from before it was asked whether the account is deleted; guarded by mu
	asked time.Time   // when that was; guarded by mu
	over  error       // why nothing more of it is deleted; guarded by mu
	agree []bool      // which replicas said that it is deleted, when they were asked first; guarded by mu
}

// takes reports whether the replica of a slot reaps a container: the one whose share that is or, where that one is
// away or knows nothing of the DELETE, the next that does. Where two differ on that both do, to no harm.
func (a *reaping) takes(slot int, container string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.agree)
	for i := range n {
		if at := (shareOf(container, n) + i) % n; a.agree[at] {
			return at == slot
		}
	}
	return false
}

// ended returns why nothing more of the account is deleted, nil while it is.
func (a *reaping) ended() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.over
}

// stampNow returns the time of deletes that may be made now. The error is of kind errs.Conflict where the
// account was made again, and errs.Unavailable where too few of its replicas say that it is deleted.
func (a *reaping) stampNow(ctx context.Context) (timestamp.T, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over != nil {
		return timestamp.T{}, a.over
	}
	if !a.asked.IsZero() && time.Since(a.asked) < a.trustFor {
		return a.stamp, nil
	}
	stamp, now := a.Clock.Next(), time.Now()
	if a.over = a.confirm(ctx); a.over != nil {
		return timestamp.T{}, a.over
	}
	a.stamp, a.asked = stamp, now
	return stamp, nil
}

// confirm asks the replicas of the account whether it is deleted. It is called with mu held.
func (a *reaping) confirm(ctx context.Context) error {
	const op errs.Op = "reaper.confirm"
	answers := make([]quorum.Answer, len(a.place.Primaries))
	agree := make([]bool, len(answers))
	var all sync.WaitGroup
	for slot, d := range a.place.Primaries {
		all.Go(func() {
			answers[slot] = a.Cluster.Ask(ctx, a.place, slot, d, &backend.Request{Method: http.MethodHead})
		})
	}
	all.Wait()
	var put, gone timestamp.T
	say := 0
	for i := range answers {
		answer := &answers[i]
		if answer.Status == 0 || answer.Status >= 500 {
			continue
		}
		if answer.Status == http.StatusNotFound && answer.Header.Get("X-Account-Status") == "Deleted" {
			say++
			agree[i] = true
		}
		put = timestamp.Max(put, stampOf(answer.Header, backend.BackendPut))
		gone = timestamp.Max(gone, stampOf(answer.Header, backend.BackendDelete))
	}
	switch n := len(answers); {
	case put.After(gone) || put == gone:
		if gone.IsZero() && say == 0 && put.IsZero() {
			break // nobody knows of it
		}
		return errs.E(op, errs.Subject(a.name), errs.Conflict, fmt.Errorf("it was put at %s and deleted at %s", put, gone))
	case say >= quorum.Majority(n):
		if a.agree == nil {
			a.agree = agree
		}
		return nil
	}
	return errs.E(op, errs.Subject(a.name), errs.Unavailable, fmt.Errorf("%d of %d replicas say that it is deleted", say, len(answers)))
}

func stampOf(h backend.Header, field string) timestamp.T {
	t, err := timestamp.Parse(h.Get(field))
	if err != nil {
		return timestamp.T{}
	}
	return t
}

// container deletes the objects of a container and, when all its replicas list none any
// more, the container.
func (a *reaping) container(ctx context.Context, container string) error {
	if err := a.ended(); err != nil {
		return err
	}
	place := a.Cluster.Container(a.name, container)
	var failed failures
	absent := 0
	for _, d := range place.Primaries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		is, err := a.empty(ctx, place, d)
		failed.add(err)
		if !is {
			absent++
		}
	}
	if err := failed.join(); err != nil {
		return err
	}
	nowhere := absent == len(place.Primaries)
	if nowhere {
		if err := a.onNoHandoff(ctx, place); err != nil {
			return err
		}
	}
	if err := a.pace.Wait(ctx, 0); err != nil {
		return err
	}
	stamp, err := a.stampNow(ctx)
	if err != nil {
		return err
	}
	if nowhere {
		err = a.forget(ctx, place.Path, stamp)
	} else {
		err = a.remove(ctx, place, stamp)
	}
	if err == nil {
		a.containers.Add(1)
	}
	return err
}

// onNoHandoff makes sure that a container which no primary has is on none of the devices that stand in for them either:
// replication is to bring it to a primary then, or the ring is an old one.
func (a *reaping) onNoHandoff(ctx context.Context, place quorum.Place) error {
	const op errs.Op = "reaper.handoffs"
	reply, err := a.Cluster.Read(ctx, place, func(int, *ring.Device) *backend.Request { return &backend.Request{Method: http.MethodHead} })
	if err != nil {
		return errs.E(op, errs.Subject(place.Path.String()), err)
	}
	if reply.Body != nil {
		_ = reply.Body.Close() // a HEAD has none
	}
	if reply.Status != http.StatusNotFound {
		return errs.E(op, errs.Subject(place.Path.String()+" on "+reply.Device.Addr()+"/"+reply.Device.Name), errs.Unavailable,
			fmt.Errorf("no primary has it, and a handoff answers %d", reply.Status))
	}
	return nil
}

// empty deletes the objects that one replica of a container lists, those of other policies than its own too, and
// reports whether there is one on the device.
func (a *reaping) empty(ctx context.Context, place quorum.Place, d *ring.Device) (is bool, err error) {
	var failed failures
	from := listed{place: place, device: d}
	others, err := a.emptyPolicy(ctx, from, &failed)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	failed.add(err)
	for _, of := range others {
		if from.policy = of; a.ended() != nil {
			break
		}
		if _, err := a.emptyPolicy(ctx, from, &failed); !errs.Is(err, errs.NotFound) { // else it went meanwhile
			failed.add(err)
		}
	}
	if ctx.Err() != nil {
		failed.add(context.Cause(ctx))
	}
	return true, failed.join()
}

// listed is what a replica of a container lists.
type listed struct {
	place  quorum.Place
	device *ring.Device
	policy string // of the objects; "" is that of the container
}

// emptyPolicy deletes the objects that are listed, and returns of which other policies there are more. The error is that of list.
func (a *reaping) emptyPolicy(ctx context.Context, from listed, failed *failures) (others []string, err error) {
	for marker := ""; ctx.Err() == nil && a.ended() == nil; {
		p, err := a.list(ctx, from, marker)
		if err != nil && marker != "" && errs.Is(err, errs.NotFound) {
			err = nil // it went meanwhile
		}
		if err != nil || len(p.names) == 0 {
			return p.others, err
		}
		others, marker = p.others, p.names[len(p.names)-1]
		a.delete(ctx, from.place, p.of, p.names, failed)
	}
	return others, nil
}

// page is a part of a listing.
type page struct {
	of     policy.Index // of the objects
	names  []string
	others []string // policies of which there are rows besides that of the container
}

// list returns a page of what is listed; a smaller one where rows are so long that a page of them is more than is read
// at a time. The error is of kind errs.NotFound where the replica has no such container.
func (a *reaping) list(ctx context.Context, from listed, marker string) (p page, err error) {
	for limit := a.page; limit > 0; limit /= 4 {
		p, err = a.listSome(ctx, from, marker, limit)
		if !errs.Is(err, errs.TooLarge) {
			break
		}
	}
	return p, err
}

// listSome is list for as many names. The error is of kind errs.TooLarge where those are too many.
func (a *reaping) listSome(ctx context.Context, from listed, marker string, limit int) (page, error) {
	const op errs.Op = "reaper.list"
	d := from.device
	fail := func(kind errs.Kind, err error) (page, error) {
		return page{}, errs.E(op, errs.Subject(from.place.Path.String()+" on "+d.Addr()+"/"+d.Name), kind, err)
	}
	query := url.Values{"limit": {strconv.Itoa(limit)}, "marker": {marker}}
	header := backend.Header{{Name: backend.AllowReserved, Value: "true"}}
	if from.policy != "" {
		header.Add(backend.PolicyIndex, from.policy)
	}
	resp, err := a.Cluster.From(ctx, from.place, d, &backend.Request{Method: http.MethodGet, Query: query.Encode(), Header: header})
	if err != nil {
		return fail(errs.Unavailable, err)
	}
	body, err := readAll(resp, a.mostPage)
	switch {
	case errs.Is(err, errs.TooLarge):
		return fail(errs.TooLarge, err)
	case err != nil:
		return fail(errs.Unavailable, err)
	case resp.Status == http.StatusNotFound:
		return fail(errs.NotFound, nil)
	case resp.Status != http.StatusOK:
		return fail(errs.Unavailable, fmt.Errorf("it answers %d", resp.Status))
	}
	of := from.policy
	if of == "" {
		of = resp.Header.Get(backend.PolicyIndex)
	}
	p := page{}
	if p.of, err = policy.ParseIndex(of); err != nil {
		return fail(errs.Unavailable, err)
	}
	list, err := listing.DecodeObjects(body)
	if err != nil {
		return fail(errs.Unavailable, err)
	}
	p.names = make([]string, len(list))
	for i := range list {
		p.names[i] = list[i].Name
	}
	if text := resp.Header.Get(backend.Elsewhere); text != "" {
		p.others = strings.Split(text, ",")
	}
	return p, nil
}

// readAll reads the body of a response and closes it. The error is of kind errs.TooLarge where it has more than most
// bytes.
func readAll(resp *backend.Response, most int64) ([]byte, error) {
	if resp.Body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if int64(len(b)) > most {
		err = errs.E(errs.TooLarge, fmt.Errorf("a page of more than %d bytes", most))
	}
	return b, errors.Join(err, resp.Body.Close())
}

// delete deletes objects, several at a time and no faster than may be.
func (a *reaping) delete(ctx context.Context, container quorum.Place, of policy.Index, names []string, failed *failures) {
	slots := make(chan struct{}, a.side())
	var under sync.WaitGroup
	defer under.Wait()
	for _, object := range names {
		if a.pace.Wait(ctx, 0) != nil {
			return
		}
		stamp, err := a.stampNow(ctx)
		if err != nil {
			failed.add(err)
			return
		}
		slots <- struct{}{}
		under.Go(func() {
			defer func() { <-slots }()
			err := a.object(ctx, container, of, object, stamp)
			if err == nil {
				a.objects.Add(1)
			} else {
				a.failed.Add(1)
			}
			failed.add(err)
		})
	}
}

// object deletes an object. It is gone, or has a tombstone, on a majority when nil is returned.
func (a *reaping) object(ctx context.Context, container quorum.Place, of policy.Index, object string, stamp timestamp.T) error {
	path := name.Path{Account: a.name, Container: container.Path.Container, Object: object}
	place, err := a.Cluster.Object(of, path)
	if err != nil {
		return err
	}
	tell := quorum.Updates(place, container)
	return a.write(ctx, place, stamp, func(slot int) *backend.Request {
		header := backend.Header{{Name: backend.Timestamp, Value: stamp.String()}, {Name: backend.PolicyIndex, Value: of.String()}}
		return &backend.Request{Method: http.MethodDelete, Header: append(header, tell[slot]...)}
	})
}

// remove deletes a container that lists nothing. Its servers tell the account.
func (a *reaping) remove(ctx context.Context, place quorum.Place, stamp timestamp.T) error {
	tell := quorum.TellAccount(a.place)
	return a.write(ctx, place, stamp, func(int) *backend.Request {
		header := backend.Header{{Name: backend.Timestamp, Value: stamp.String()}, {Name: backend.OverrideGone, Value: "yes"}}
		return &backend.Request{Method: http.MethodDelete, Header: append(header, tell...)}
	})
}

// forget takes a container off the account that no server has any more, so that none would.
func (a *reaping) forget(ctx context.Context, container name.Path, stamp timestamp.T) error {
	place := a.place
	place.Path = container
	return a.write(ctx, place, stamp, func(int) *backend.Request {
		return &backend.Request{Method: http.MethodPut, Header: backend.Header{
			{Name: backend.Timestamp, Value: stamp.String()}, {Name: backend.PutStamp, Value: timestamp.T{}.String()},
			{Name: backend.DeleteStamp, Value: stamp.String()}, {Name: backend.ObjectCount, Value: "0"},
			{Name: backend.BytesUsed, Value: "0"}, {Name: backend.OverrideGone, Value: "yes"},
		}}
	})
}

// write sends a delete to all replicas of a place. That there was nothing, or that the same delete
// came before, is as good.
func (a *reaping) write(ctx context.Context, place quorum.Place, stamp timestamp.T, build func(slot int) *backend.Request) error {
	const op errs.Op = "reaper.write"
	answers := a.Cluster.Write(ctx, place, func(slot int, _ *ring.Device) *backend.Request { return build(slot) })
	for i := range answers {
		if answers[i].Status == http.StatusConflict && answers[i].Stamp() == stamp {
			answers[i].Status = http.StatusNoContent
		}
	}
	best, err := place.Best(answers, map[int]int{http.StatusNotFound: http.StatusNoContent})
	switch {
	case err != nil:
		return errs.E(op, errs.Subject(place.Path.String()), errs.Unavailable, err)
	case best.Status >= 300 && best.Status != http.StatusNotFound:
		return errs.E(op, errs.Subject(place.Path.String()), errs.Unavailable, fmt.Errorf("its replicas answer %d: %s", best.Status, best.Body))
	}
	return nil
}
