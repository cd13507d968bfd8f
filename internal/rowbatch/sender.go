package rowbatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// A Client sends a request to the server at an address. It must return soon
// after ctx ends.
type Client interface {
	Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error)
}

// Config says how a Sender behaves. The zero value of a field stands for its
// default.
type Config struct {
	// Flights is how many requests to one address are under way before updates
	// wait for one of them to end; 2.
	Flights int

	// Updates is how many go in one request at most; 256.
	Updates int

	// Patience is how long updates wait for a request to end before they go all
	// the same, in another: one that hangs must not hold up the others; 100 ms.
	Patience time.Duration
}

const (
	// maxFlights bounds the requests under way to an address, impatience included.
	maxFlights = 16

	// plainFor is how long a server that knows no batches is not sent any.
	plainFor = time.Minute

	// apartFor is how long the updates for a slow device go by themselves.
	apartFor = 10 * time.Second

	// maxLines is how many addresses are remembered while nothing is under way to
	// them.
	maxLines = 4096

	// maxAnswer is how much is read of the body of an update's own answer.
	maxAnswer = 64 << 10
)

const op errs.Op = "rowbatch"

// A Sender is a Client that sends updates together which wait at the same time
// for one server. It is safe for concurrent use. Other requests go through it as
// they are.
//
// An update that comes while no more than a few requests are under way to its
// server is sent at once, by itself, on the calling goroutine. Others wait for
// one of those to end, and then go in one request, for which a goroutine is
// started. Whoever's context ends leaves with its error; the update may then
// still be made, and the others are not disturbed.
type Sender struct {
	to  Client
	cfg Config
	now func() time.Time

	flights sync.WaitGroup // the goroutines

	updates, requests, batches atomic.Int64

	mu    sync.Mutex
	lines map[string]*line // by address; guarded by mu, as is what they hold
}

// line is what is known of one address.
type line struct {
	addr    string
	flying  int       // requests under way that count
	waiting []*waiter // in the order in which they came
	plain   time.Time // until then the server gets no batches
	apart   map[string]time.Time
}

// waiter is an update that waits for its answer.
type waiter struct {
	update   Update
	size     int
	device   string
	deadline time.Time // zero for none

	first  bool    // nobody waited when it came
	flight *flight // that it is in; guarded by the sender's mu

	// What came of it, once done is closed.
	done  chan struct{}
	again bool // it was not sent: the server takes it only by itself
	resp  *backend.Response
	err   error
}

// flight is a request with some updates.
type flight struct {
	ctx     context.Context
	cancel  context.CancelFunc
	latest  time.Time // when the last of them leaves; zero for never
	waiters []*waiter
	left    int // how many have left; guarded by the sender's mu
}

// NewSender returns a sender that sends through a client.
func NewSender(cfg Config, to Client) *Sender {
	if cfg.Flights <= 0 {
		cfg.Flights = 2
	}
	if cfg.Updates <= 0 {
		cfg.Updates = 256
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 100 * time.Millisecond
	}
	cfg.Flights, cfg.Updates = min(cfg.Flights, maxFlights), min(cfg.Updates, MaxUpdates)
	return &Sender{to: to, cfg: cfg, now: time.Now, lines: map[string]*line{}}
}

// Close waits for the requests that are under way. Nothing may be sent meanwhile,
// or later.
func (s *Sender) Close() { s.flights.Wait() }

// Counts is what a Sender has sent.
type Counts struct {
	Updates  int64 // of rows
	Requests int64 // that carried them
	Batches  int64 // those of more than one
}

// Counts returns how much was sent so far.
func (s *Sender) Counts() Counts {
	return Counts{s.updates.Load(), s.requests.Load(), s.batches.Load()}
}

// Do sends an update to a server and returns what the server says of it. Its
// errors are those of the client. The header is the Sender's from then on.
func (s *Sender) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	u := Update{Method: r.Method, Path: r.Path, Header: r.Header}
	if r.Length != 0 || r.Body != nil || r.Query != "" || len(r.Trailer) > 0 || !u.fits() {
		return s.to.Do(ctx, addr, r)
	}
	s.updates.Add(1)
	l, w, alone := s.board(ctx, addr, u)
	switch {
	case w != nil:
		return s.wait(ctx, l, w)
	case alone:
		defer s.land(l)
	}
	s.requests.Add(1)
	return s.to.Do(ctx, addr, r)
}

// board finds a place for an update. It gets none where it is to be sent by
// itself; alone then says that others are to wait for that.
func (s *Sender) board(ctx context.Context, addr string, u Update) (l *line, w *waiter, alone bool) {
	device := deviceOf(u.Path)
	s.mu.Lock()
	defer s.mu.Unlock()
	l = s.line(addr)
	switch {
	case l.isPlain(s.now), l.isApart(device, s.now):
		return l, nil, false
	case l.flying < s.cfg.Flights && len(l.waiting) == 0:
		l.flying++
		return l, nil, true
	}
	w = &waiter{update: u, size: u.size(), device: device, first: len(l.waiting) == 0, done: make(chan struct{})}
	w.deadline, _ = ctx.Deadline()
	l.waiting = append(l.waiting, w)
	return l, w, false
}

func deviceOf(path string) string {
	device, _, _ := strings.Cut(path[1:], "/")
	return device
}

// line returns what is known of an address. The caller holds mu.
func (s *Sender) line(addr string) *line {
	l := s.lines[addr]
	if l == nil {
		if len(s.lines) >= maxLines {
			for addr, l := range s.lines {
				if l.flying == 0 && len(l.waiting) == 0 {
					delete(s.lines, addr)
				}
			}
		}
		l = &line{addr: addr}
		s.lines[addr] = l
	}
	return l
}

func (l *line) isPlain(now func() time.Time) bool {
	return !l.plain.IsZero() && now().Before(l.plain)
}

func (l *line) isApart(device string, now func() time.Time) bool {
	until, ok := l.apart[device]
	if ok && !now().Before(until) {
		delete(l.apart, device)
		ok = false
	}
	return ok
}

// wait waits for what becomes of an update, as long as its sender does.
func (s *Sender) wait(ctx context.Context, l *line, w *waiter) (*backend.Response, error) {
	var patience <-chan time.Time
	if w.first { // for all who come behind it
		t := time.NewTicker(s.cfg.Patience)
		defer t.Stop()
		patience = t.C
	}
	for {
		select {
		case <-w.done:
			return s.outcome(ctx, l, w)
		case <-patience:
			s.hurry(l)
		case <-ctx.Done():
			if !s.leave(l, w) {
				<-w.done // it is being settled
				return s.outcome(ctx, l, w)
			}
			kind := errs.Aborted
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				kind = errs.Unavailable
			}
			return nil, errs.E(op, errs.Subject(l.addr), kind, ctx.Err())
		}
	}
}

func (s *Sender) outcome(ctx context.Context, l *line, w *waiter) (*backend.Response, error) {
	if !w.again {
		return w.resp, w.err
	}
	s.requests.Add(1)
	return s.to.Do(ctx, l.addr, &backend.Request{Method: w.update.Method, Path: w.update.Path, Header: w.update.Header})
}

// leave takes an update out, or leaves it to its fate where it is under way. It
// returns whether it did, which is not so where its outcome is known.
func (s *Sender) leave(l *line, w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.flight == nil {
		i := slices.Index(l.waiting, w)
		if i < 0 {
			return false
		}
		l.waiting = slices.Delete(l.waiting, i, i+1)
		if w.first {
			s.sendOff(l) // nobody else is impatient for them
		}
		return true
	}
	select {
	case <-w.done:
		return false
	default:
	}
	if w.flight.left++; w.flight.left == len(w.flight.waiters) {
		w.flight.cancel()
	}
	return true
}

// hurry sends what waits although as many requests are under way as should be.
func (s *Sender) hurry(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendOff(l)
}

// sendOff is hurry for a caller that holds mu.
func (s *Sender) sendOff(l *line) {
	for len(l.waiting) > 0 && l.flying < maxFlights {
		s.start(l, s.depart(l))
	}
}

// depart takes as many of those that wait as go in one request. The caller holds
// mu.
func (s *Sender) depart(l *line) *flight {
	const head = headSize + 4 + 2
	n, size := 0, head+sumSize
	for n < min(len(l.waiting), s.cfg.Updates) && size+l.waiting[n].size <= MaxBytes {
		size += l.waiting[n].size
		n++
	}
	f := &flight{waiters: slices.Clone(l.waiting[:n])}
	l.waiting = slices.Delete(l.waiting, 0, n)
	bounded := true
	for _, w := range f.waiters {
		w.flight = f
		bounded = bounded && !w.deadline.IsZero()
		if w.deadline.After(f.latest) {
			f.latest = w.deadline
		}
	}
	// It belongs to all of its updates and to none of their contexts.
	if !bounded {
		f.latest = time.Time{}
		f.ctx, f.cancel = context.WithCancel(context.Background())
	} else {
		f.ctx, f.cancel = context.WithDeadline(context.Background(), f.latest)
	}
	l.flying++
	return f
}

// start sends a flight on its way.
func (s *Sender) start(l *line, f *flight) {
	s.flights.Go(func() {
		for ; f != nil; f = s.next(l) {
			s.carry(l, f)
		}
	})
}

// land is the end of an update that was sent alone.
func (s *Sender) land(l *line) {
	if f := s.next(l); f != nil {
		s.start(l, f)
	}
}

// next is the end of a request, and returns the one to send then.
func (s *Sender) next(l *line) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.flying--
	if len(l.waiting) == 0 || l.flying >= s.cfg.Flights {
		return nil
	}
	return s.depart(l)
}

// carry sends a flight and settles its updates.
func (s *Sender) carry(l *line, f *flight) {
	defer f.cancel()
	s.requests.Add(1)
	if len(f.waiters) == 1 {
		w := f.waiters[0]
		r := &backend.Request{Method: w.update.Method, Path: w.update.Path, Header: w.update.Header}
		resp, err := s.to.Do(f.ctx, l.addr, r)
		if err == nil {
			resp, err = keep(resp)
		}
		w.resp, w.err = resp, err
		s.settle(f.waiters)
		return
	}
	s.batches.Add(1)
	results, status, err := s.send(l.addr, f)
	switch {
	case err == nil && results == nil && status/100 == 4 && status != 408 && status != 429:
		s.refused(l, f)
		return
	case err == nil && results != nil:
		s.noteLate(l, f, results)
	}
	for i, w := range f.waiters {
		switch {
		case err != nil:
			w.err = err
		case results == nil:
			w.resp = &backend.Response{Status: status}
		default:
			w.resp = results[i].response()
		}
	}
	s.settle(f.waiters)
}

// settle tells those who wait that their updates are done.
func (s *Sender) settle(list []*waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range list {
		close(w.done)
	}
}

// send sends a request with many updates. It returns their results, or the
// status of a server that has none.
func (s *Sender) send(addr string, f *flight) (results []Result, status int, err error) {
	b := Batch{Updates: make([]Update, len(f.waiters))}
	for i, w := range f.waiters {
		b.Updates[i] = w.update
	}
	if !f.latest.IsZero() {
		// Half, so that the answer is here before those who wait for it leave.
		b.Wait = max(f.latest.Sub(s.now())/2, time.Millisecond)
	}
	body, err := b.Append(nil)
	if err != nil {
		return nil, 0, errs.E(op, errs.Subject(addr), errs.Invalid, err)
	}
	resp, err := s.to.Do(f.ctx, addr, &backend.Request{
		Method: Method, Path: Path, Length: int64(len(body)), Body: bytes.NewReader(body),
		Header: backend.Header{{Name: backend.ContentType, Value: Type}},
	})
	if err != nil {
		return nil, 0, err
	}
	if resp.Body != nil {
		defer func() { _ = resp.Body.Close() }() // it was only read from
	}
	switch {
	case resp.Status >= 400:
		return nil, resp.Status, nil
	case resp.Status != 200:
		err = bad("status %d", resp.Status)
	default:
		var text []byte
		if text, err = Read(resp.Body, resp.Length); err == nil {
			results, err = ParseResults(text, len(f.waiters))
		}
	}
	if err != nil {
		return nil, 0, errs.E(op, errs.Subject(addr), errs.Unavailable, fmt.Errorf("answer to a batch: %w", err))
	}
	return results, 200, nil
}

// refused has a server's updates sent by themselves, since it takes no batches.
// Nothing of this one was done.
func (s *Sender) refused(l *line, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.plain = s.now().Add(plainFor)
	for _, list := range [][]*waiter{f.waiters, l.waiting} {
		for _, w := range list {
			w.again, w.flight = true, f
			close(w.done)
		}
	}
	l.waiting = nil
}

// noteLate has the updates for slow devices sent by themselves, so that the
// others need not wait for them. Where everything is slow there are no others.
func (s *Sender) noteLate(l *line, f *flight, results []Result) {
	slow, prompt := map[string]bool{}, map[string]bool{}
	for i := range results {
		if d := f.waiters[i].device; results[i].Late {
			slow[d] = true
		} else if results[i].Status < 500 {
			prompt[d] = true
		}
	}
	if len(slow) == 0 || len(prompt) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range slow {
		if prompt[d] {
			continue
		}
		if l.apart == nil {
			l.apart = map[string]time.Time{}
		}
		l.apart[d] = s.now().Add(apartFor)
	}
}

// response is the answer to an update as if it had been sent alone.
func (r *Result) response() *backend.Response {
	resp := &backend.Response{Status: r.Status}
	if r.Text != "" && r.Status != 204 {
		resp.Length, resp.Body = int64(len(r.Text)), io.NopCloser(strings.NewReader(r.Text))
	}
	return resp
}

// keep reads the body of an answer, which ends with the context that it came
// under.
func keep(resp *backend.Response) (*backend.Response, error) {
	if resp.Body == nil {
		return resp, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Length, resp.Body = int64(len(text)), io.NopCloser(bytes.NewReader(text))
	return resp, nil
}
