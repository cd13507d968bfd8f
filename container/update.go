package container

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"martlet/internal/backend"
	"martlet/internal/dbserver"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// maxReplicas bounds how many account servers one request may name.
const maxReplicas = 32

// replicas are where a request says that its account is kept.
type replicas struct {
	partition uint32
	at        []struct{ addr, device string }
}

// accountReplicas reads which account servers to tell. Lists that do not fit
// each other are of kind errs.Invalid.
func (s *Server) accountReplicas(r *backend.Request) (replicas, error) {
	var to replicas
	part := r.Header.Get(backend.AccountPart)
	if part == "" {
		return to, nil
	}
	n, err := strconv.ParseUint(part, 10, 32)
	if err != nil {
		return to, errs.E(errs.Invalid, errs.Public(backend.AccountPart+" is not a number"), err)
	}
	to.partition = uint32(n)
	hosts := strings.Split(r.Header.Get(backend.AccountHost), ",")
	devices := strings.Split(r.Header.Get(backend.AccountDevice), ",")
	if len(hosts) != len(devices) || len(hosts) > maxReplicas {
		return to, errs.Refuse(errs.Invalid, "%s and %s do not fit each other", backend.AccountHost, backend.AccountDevice)
	}
	for i := range hosts {
		at := struct{ addr, device string }{strings.TrimSpace(hosts[i]), strings.TrimSpace(devices[i])}
		if at.addr == "" || at.device == "" {
			return to, errs.Refuse(errs.Invalid, "%s and %s do not fit each other", backend.AccountHost, backend.AccountDevice)
		}
		to.at = append(to.at, at)
	}
	return to, nil
}

// accountHeader is the row of a container as account servers take it. Its
// stamp is that of the counts, which is now.
func (s *Server) accountHeader(i metadb.Info, stat metadb.Stat) backend.Header {
	return backend.Header{
		{Name: backend.Timestamp, Value: s.core.Clock.Next().String()},
		{Name: backend.PutStamp, Value: i.Put.String()},
		{Name: backend.DeleteStamp, Value: i.Delete.String()},
		{Name: backend.ObjectCount, Value: strconv.FormatInt(stat.Rows, 10)},
		{Name: backend.BytesUsed, Value: strconv.FormatInt(stat.Bytes, 10)},
		{Name: backend.PolicyIndex, Value: i.Policy.String()},
	}
}

// ownHeader is the row of a container of which nothing may be told but what the
// request itself has done to it. Its counts are older than any other word on them.
func (s *Server) ownHeader(call *dbserver.Call, i metadb.Info) backend.Header {
	h := backend.Header{
		{Name: backend.Timestamp, Value: timestamp.FromTicks(1).String()},
		{Name: backend.ObjectCount, Value: "0"}, {Name: backend.BytesUsed, Value: "0"},
		{Name: backend.PolicyIndex, Value: i.Policy.String()},
	}
	for _, f := range [...]struct {
		name  string
		stamp timestamp.T
	}{{backend.PutStamp, i.Put}, {backend.DeleteStamp, i.Delete}} {
		if f.stamp != call.Stamp {
			f.stamp = timestamp.T{} // it was so before
		}
		h.Add(f.name, f.stamp.String())
	}
	return h
}

// tellAccount tells the replicas of the account about a container, all at once,
// and waits for no longer than the node timeout. What fails is logged, and
// repeated by Report. It returns whether every one said that there is no such
// account.
func (s *Server) tellAccount(ctx context.Context, call *dbserver.Call, to replicas, i metadb.Info, stat metadb.Stat) (none bool) {
	held := s.may(call.At.Device.Name(), call.At.Hash) != nil
	if len(to.at) == 0 || held && i.Put != call.Stamp && i.Delete != call.Stamp {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	header := s.accountHeader(i, stat)
	if held {
		header = s.ownHeader(call, i)
	}
	for _, n := range []string{backend.TransID, backend.OverrideGone} {
		if v := call.Header.Get(n); v != "" {
			header.Add(n, v)
		}
	}
	absent := make([]bool, len(to.at))
	var wg sync.WaitGroup
	for n, at := range to.at {
		wg.Go(func() {
			target := backend.Target{Device: at.device, Partition: to.partition, Path: i.Path}
			status, err := s.send(ctx, at.addr, &backend.Request{Method: http.MethodPut, Path: target.Quoted(), Header: slices.Clone(header)})
			absent[n] = status == http.StatusNotFound
			if err != nil || status/100 != 2 && !absent[n] {
				s.core.Log.WarnContext(ctx, "an account was not told of a container; it will be, later",
					"account server", at.addr, "device", at.device, "container", i.Path, "status", status, "err", err)
			}
		})
	}
	wg.Wait()
	for _, a := range absent {
		if !a {
			return false
		}
	}
	return true
}

func (s *Server) send(ctx context.Context, addr string, r *backend.Request) (status int, err error) {
	resp, err := s.accounts.Do(ctx, addr, r)
	if err != nil {
		return 0, err
	}
	if resp.Body != nil {
		err = resp.Body.Close()
	}
	return resp.Status, err
}

// Report calls send for each container about which its account was not yet told
// what is so now, with the path and the headers of the row that account servers
// take: for several at a time, so that what goes to one server can go together.
// Once send returns nil, that counts as told. Of those that nothing may be told of
// (Deps.May) it is not called, until something may. With all it looks at every
// container of the node that was not told of when the process before this one ended, those on a
// device that can't be used as soon as it can; else at those that changed since it last did.
// What could not be told is tried again by the next call, and the errors are returned
// together, the first few of them. One call runs at a time.
func (s *Server) Report(ctx context.Context, all bool, send func(context.Context, name.Path, backend.Header) error) error {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	if all {
		for dev := range s.core.Devices.All() {
			s.unseen[dev] = true
		}
	}
	r := &report{send: send, slots: make(chan struct{}, reportsAtOnce)}
	for _, loc := range s.core.Store.TakeChanged() {
		r.begin(func() error { return s.reportOne(ctx, loc, false, send) })
	}
	for dev := range s.unseen {
		if dev.Check() == nil && s.reportDevice(ctx, dev, r) {
			delete(s.unseen, dev)
		}
	}
	r.tells.Wait()
	return r.failed.join()
}

// reportsAtOnce is how many containers are told of at a time.
const reportsAtOnce = 32

// report is one call of Report.
type report struct {
	send  func(context.Context, name.Path, backend.Header) error
	tells sync.WaitGroup
	slots chan struct{}

	mu     sync.Mutex
	failed errorList // guarded by mu
}

// begin has a container told of, once fewer are than may be.
func (r *report) begin(tell func() error) {
	r.slots <- struct{}{}
	r.tells.Go(func() {
		defer func() { <-r.slots }()
		r.note(tell())
	})
}

func (r *report) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed.add(err)
}

// reportDevice reports what is on a device and was not told of, and returns whether it saw all of it.
func (s *Server) reportDevice(ctx context.Context, dev *device.Device, r *report) bool {
	whole := true
	for hash, err := range s.core.Store.Unreported(ctx, dev) {
		if err != nil {
			whole = false
			r.note(err)
			continue
		}
		r.begin(func() error { return s.reportOne(ctx, metadb.Location{Device: dev, Hash: hash}, true, r.send) })
	}
	return whole
}

// reportOne reports a container. With marked it is noted also if its account knows all that there
// is.
func (s *Server) reportOne(ctx context.Context, loc metadb.Location, marked bool, send func(context.Context, name.Path, backend.Header) error) error {
	if s.may(loc.Device.Name(), loc.Hash) != nil {
		s.core.Store.MarkChanged(loc) // for when it may
		return nil                    //nolint:nilerr // see there
	}
	var now metadb.Info
	var is, told metadb.Report
	err := s.core.Store.View(ctx, loc, func(tx *metadb.Tx) (err error) {
		now = tx.Info()
		if is, err = tx.News(); err == nil {
			told, err = tx.Reported()
		}
		return err
	})
	stat := metadb.Stat{Rows: is.Objects, Bytes: is.Bytes}
	switch {
	case errs.Is(err, errs.NotFound) || err == nil && told == is && !marked:
		return nil
	case err == nil && told != is:
		err = send(ctx, now.Path, append(s.accountHeader(now, stat), backend.Field{Name: backend.OverrideGone, Value: "yes"}))
	}
	if err == nil {
		err = s.core.Store.SetReported(ctx, loc, is)
	}
	if err != nil {
		s.core.Store.MarkChanged(loc)
	}
	return err
}

// errorList is the first few errors of many.
type errorList struct {
	first []error
	more  int
}

func (l *errorList) add(err error) {
	const few = 8
	switch {
	case err == nil:
	case len(l.first) < few:
		l.first = append(l.first, err)
	default:
		l.more++
	}
}

func (l *errorList) join() error {
	if l.more > 0 {
		l.first = append(l.first, errors.New("and "+strconv.Itoa(l.more)+" more"))
	}
	return errors.Join(l.first...)
}
