// Package copies is what the reconciler moves, where each replica has all of an object: reconciler.Objects and
// reconciler.Containers, by way of package quorum, as a client of the storage nodes.
//
// Objects are read as one replica reads them of another: as they are kept, be they past their time, or links. They
// are written as a client's are: to a majority, with handoffs for those that are away, and with word to the listing.
//
// Under a policy of erasure coding that is so of small objects, of deletes, and of metadata, by its own quorum. Data in
// fragments is read by way of package ecread, and stored by way of ecwrite: it comes out of them, and is put into new ones
// where it belongs, if that is another policy of that kind.
package copies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/ecread"
	"martlet/internal/ecwrite"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator/reconciler"
	"martlet/ring"
)

// Copies reaches objects and containers through a cluster. It is safe for concurrent use.
type Copies struct {
	cluster  *quorum.Cluster
	policies policy.Set
	reader   *ecread.Reader
	writer   *ecwrite.Writer
}

// New returns what reaches a cluster, which stays the caller's, of these policies.
func New(cluster *quorum.Cluster, policies policy.Set) *Copies {
	codes := ecread.NewCodes()
	return &Copies{cluster, policies, ecread.New(cluster, codes), ecwrite.New(cluster, codes)}
}

var (
	_ reconciler.Objects    = (*Copies)(nil)
	_ reconciler.Containers = (*Copies)(nil)
)

// ask asks all primaries of a place for a head, and says by whom there was an answer that counts: that of a
// server which could look.
func (c *Copies) ask(ctx context.Context, place quorum.Place, header backend.Header) []quorum.Answer {
	answers := make([]quorum.Answer, len(place.Primaries))
	var all sync.WaitGroup
	for slot, d := range place.Primaries {
		all.Go(func() {
			answers[slot] = c.cluster.Ask(ctx, place, slot, d, &backend.Request{Method: http.MethodHead, Header: slices.Clone(header)})
		})
	}
	all.Wait()
	return answers
}

// looked reports whether a server has looked for what it was asked for.
func looked(a *quorum.Answer) bool { return a.Status/100 == 2 || a.Status == http.StatusNotFound }

// said lists answers, for an error.
func said(answers []quorum.Answer) string {
	list := make([]string, len(answers))
	for i := range answers {
		list[i] = answers[i].String()
	}
	return strings.Join(list, "; ")
}

// Policy implements reconciler.Containers.
func (c *Copies) Policy(ctx context.Context, container name.Path) (as policy.Index, silent []int, err error) {
	const op errs.Op = "copies.policy"
	place := c.cluster.Container(container.Account, container.Container)
	answers := c.ask(ctx, place, nil)
	var of string
	var wrong error
	none := 0
	for i := range answers {
		a := &answers[i]
		switch p := a.Header.Get(backend.PolicyIndex); {
		case a.Status == 0, a.Status >= http.StatusInternalServerError:
			silent = append(silent, i)
		case a.Status == http.StatusNotFound && p == "":
			none++
		case !looked(a) || p == "" || of != "" && of != p:
			wrong = fmt.Errorf("not all replicas say that its policy is %q: %s: %q", cmp.Or(of, "the same"), a, p)
		default:
			of = p
		}
	}
	switch asked := len(answers) - len(silent); {
	case none == len(answers):
		return 0, nil, errs.E(op, errs.Subject(container.String()), errs.NotFound)
	case wrong != nil:
	case asked < quorum.Majority(len(answers)):
		wrong = fmt.Errorf("only %d of %d replicas can be asked: %s", asked, len(answers), said(answers))
	case none > 0:
		wrong = fmt.Errorf("%d of %d replicas don't have it", none, len(answers))
	}
	if wrong != nil {
		return 0, silent, errs.E(op, errs.Subject(container.String()), errs.Unavailable, wrong)
	}
	as, err = policy.ParseIndex(of)
	return as, silent, err
}

// Unlist implements reconciler.Containers.
func (c *Copies) Unlist(ctx context.Context, p policy.Index, object name.Path, stamp timestamp.T) error {
	place := c.cluster.Container(object.Account, object.Container)
	place.Path = object
	answers := c.cluster.Write(ctx, place, func(int, *ring.Device) *backend.Request {
		return &backend.Request{Method: http.MethodDelete, Header: head(stamp, p)}
	})
	return enough("copies.unlist", place, answers, func(*quorum.Answer) bool { return false })
}

// head begins the header of a write.
func head(stamp timestamp.T, p policy.Index) backend.Header {
	return backend.Header{{Name: backend.Timestamp, Value: stamp.String()}, {Name: backend.PolicyIndex, Value: p.String()}}
}

// replica begins the header of a read.
func replica(p policy.Index) backend.Header {
	return backend.Header{{Name: backend.PolicyIndex, Value: p.String()}, {Name: replwire.ReplicationHeader, Value: "true"}}
}

// Look implements reconciler.Objects.
func (c *Copies) Look(ctx context.Context, p policy.Index, path name.Path) (reconciler.State, error) {
	const op errs.Op = "copies.look"
	place, err := c.cluster.Object(p, path)
	if err != nil {
		return reconciler.State{}, err
	}
	answers := c.ask(ctx, place, replica(p))
	var states []reconciler.State
	kept := make([]timestamp.T, len(answers))
	for i := range answers {
		if !looked(&answers[i]) {
			continue
		}
		s, err := stateOf(answers[i].Status, answers[i].Header)
		if err != nil {
			return reconciler.State{}, errs.E(op, errs.Subject(answers[i].String()), errs.Unavailable, err)
		}
		states = append(states, s)
		kept[i] = s.Times.Data
	}
	most := place.Quorum()
	if len(states) < most {
		return reconciler.State{}, errs.E(op, errs.Subject(path.String()), errs.Unavailable, errors.New(said(answers)))
	}
	s := slices.MaxFunc(states, func(a, b reconciler.State) int {
		return cmp.Or(a.Times.CompareData(b.Times), a.Times.Meta.Compare(b.Times.Meta))
	})
	for i := range states {
		s.Behind = s.Behind || states[i].Live && states[i].Times.Meta.After(s.Times.Meta)
	}
	slices.SortFunc(kept, func(a, b timestamp.T) int { return b.Compare(a) })
	s.Kept = kept[most-1]
	return s, nil
}

// stateOf reads what a replica says of an object.
func stateOf(status int, h backend.Header) (s reconciler.State, err error) {
	parse := func(field string, without timestamp.T) timestamp.T {
		text := h.Get(field)
		if text == "" {
			return without
		}
		t, parseErr := timestamp.Parse(text)
		if parseErr != nil && err == nil {
			err = fmt.Errorf("%s: %w", field, parseErr)
		}
		return t
	}
	s.Live = status/100 == 2
	s.Times.Data = parse(backend.DataStamp, timestamp.T{})
	s.Times.ContentType = parse(backend.TypeStamp, s.Times.Data)
	s.Times.Meta = parse(backend.BackendStamp, s.Times.Data)
	if s.Live {
		s.Header = h
		if s.Times.Data.IsZero() && err == nil {
			err = errors.New("an object without a time")
		}
	}
	return s, err
}

// Open implements reconciler.Objects.
func (c *Copies) Open(ctx context.Context, p policy.Index, path name.Path) (o reconciler.Object, err error) {
	const op errs.Op = "copies.open"
	place, err := c.cluster.Object(p, path)
	if err != nil {
		return o, err
	}
	build := func(method string) quorum.Build {
		return func(int, *ring.Device) *backend.Request { return &backend.Request{Method: method, Header: replica(p)} }
	}
	reply, err := c.cluster.ReadNewest(ctx, place, build(http.MethodHead), build(http.MethodGet))
	if err != nil {
		return o, err
	}
	o.State, err = stateOf(reply.Status, reply.Header)
	if err == nil && reply.Status == http.StatusOK && !o.Header.Has(backend.CodedWrite) {
		o.Length, o.Body = reply.Length, reply.Body
		return o, nil
	}
	if reply.Body != nil {
		_ = reply.Body.Close() // it says nothing more
	}
	switch {
	case err != nil:
		return o, errs.E(op, errs.Subject(path.String()), errs.Unavailable, err)
	case reply.Status == http.StatusOK:
		return c.decode(ctx, p, path, o)
	case reply.Status == http.StatusNotFound:
		return o, errs.E(op, errs.Subject(path.String()), errs.NotFound)
	}
	return o, errs.E(op, errs.Subject(path.String()), errs.Unavailable, fmt.Errorf("it is answered with %d", reply.Status))
}

// Post implements reconciler.Objects.
func (c *Copies) Post(ctx context.Context, p policy.Index, path name.Path, change reconciler.Change) error {
	place, err := c.cluster.Object(p, path)
	if err != nil {
		return err
	}
	tell := c.tell(place)
	answers := c.cluster.Write(ctx, place, func(slot int, _ *ring.Device) *backend.Request {
		h := append(append(head(change.Stamp, p), tell[slot]...), metadata(change.Header)...)
		if change.ContentType != "" {
			h.Add(backend.ContentType, change.ContentType)
		}
		return &backend.Request{Method: http.MethodPost, Header: h}
	})
	return enough("copies.post", place, answers, func(a *quorum.Answer) bool {
		return a.Status == http.StatusConflict && !a.Stamp().Before(change.Stamp) || a.Status == http.StatusNotFound && !a.Data().IsZero()
	})
}

// Delete implements reconciler.Objects.
func (c *Copies) Delete(ctx context.Context, p policy.Index, path name.Path, stamp timestamp.T) error {
	place, err := c.cluster.Object(p, path)
	if err != nil {
		return err
	}
	tell := c.tell(place)
	answers := c.cluster.Write(ctx, place, func(slot int, _ *ring.Device) *backend.Request {
		return &backend.Request{Method: http.MethodDelete, Header: append(head(stamp, p), tell[slot]...)}
	})
	return enough("copies.delete", place, answers, func(a *quorum.Answer) bool {
		if a.Status == http.StatusConflict && stamp.Void(a.Stamp()) {
			return true // what it was to end has been given a longer life there
		}
		return a.Status == http.StatusNotFound && !a.Stamp().IsZero() || isLater(a, stamp)
	})
}

// isLater reports whether a write was refused for what is there, which is as late or later.
func isLater(a *quorum.Answer, stamp timestamp.T) bool {
	return a.Status == http.StatusConflict && !a.Data().Before(stamp)
}

// tell names for each replica of an object the replicas of the container that it tells of a write.
func (c *Copies) tell(place quorum.Place) []backend.Header {
	return quorum.Updates(place, c.cluster.Container(place.Path.Account, place.Path.Container))
}

// enough reports why a write is not done on a majority: where it was taken, and where good says that there is no need.
func enough(op errs.Op, place quorum.Place, answers []quorum.Answer, good func(*quorum.Answer) bool) error {
	n := 0
	for i := range answers {
		if a := &answers[i]; a.Status/100 == 2 || good(a) {
			n++
		}
	}
	if n >= place.Quorum() {
		return nil
	}
	return errs.E(op, errs.Subject(place.Path.String()), errs.Unavailable,
		fmt.Errorf("%d of %d replicas have it: %s", n, len(place.Primaries), said(answers)))
}

// replaceable are the fields of an object that metadata replaces, besides those with a prefix.
var replaceable = []string{
	"Content-Disposition", "Content-Encoding", "X-Delete-At", "X-Object-Manifest", "Cache-Control", "Content-Language", "Expires", "X-Robots-Tag",
}

// metadata returns the fields of an object that a POST replaces.
func metadata(of backend.Header) (h backend.Header) {
	for _, f := range of {
		if isMetadata(f.Name) {
			h = append(h, f)
		}
	}
	return h
}

func isMetadata(field string) bool {
	return hasPrefix(field, "X-Object-Meta-") || hasPrefix(field, "X-Object-Transient-Sysmeta-") ||
		slices.ContainsFunc(replaceable, func(r string) bool { return strings.EqualFold(r, field) })
}

func hasPrefix(field, prefix string) bool {
	_, ok := backend.CutPrefix(field, prefix)
	return ok
}

// stored returns all fields that an object is stored with, but for where its data is.
func stored(of backend.Header) (h backend.Header) {
	for _, f := range of {
		if strings.EqualFold(f.Name, backend.CodedWrite) {
			continue
		}
		if isMetadata(f.Name) || hasPrefix(f.Name, "X-Object-Sysmeta-") || strings.EqualFold(f.Name, "X-Static-Large-Object") || strings.EqualFold(f.Name, backend.ContentType) {
			h = append(h, f)
		}
	}
	return h
}
