package clusterkey

import (
	"context"
	"crypto/hmac"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clock"
	"martlet/internal/errs"
)

// Config is what a Guard works with.
type Config struct {
	Keys *Source

	// Self says whether an address is this node's: requests to another are refused, since
	// they were meant for somebody else.
	Self func(host string, port int) bool

	// Skew is by how much the clocks of two nodes may differ; more than 0.
	Skew time.Duration

	// Fail makes the answer to a request that a handler has failed.
	Fail func(ctx context.Context, r *backend.Request, err error) *backend.Response

	Refused func(why string) // is told of each request that is refused, with one of Reasons; nil for nobody
	Log     *slog.Logger     // nil for none
	Now     func() time.Time // nil for the machine's clock

	// Up returns how long the guard has been there, whatever has become of the clock, when that says now. Nil is what
	// the machine measures, where Now is nil.
	Up func(now time.Time) time.Duration
}

// The reasons for which requests are refused.
var reasons = map[error]string{
	errUnsigned: "unsigned", errField: "unreadable", errKey: "key", errMAC: "signature", errBody: "body", errAddress: "address",
	errClock: "clock", errBefore: "restart", errReplay: "replay", errOlder: "flood",
}

// Reasons returns the words for which requests are refused.
func Reasons() []string {
	var all []string
	for _, word := range reasons {
		all = append(all, word)
	}
	return all
}

var errAddress = errors.New("it was sent to another address than this node's")

// A Guard has a handler serve nobody but who has the cluster's key, and signs the answers. It
// is safe for concurrent use.
type Guard struct {
	Config
	next backend.Handler
	seen *seen
	up   func(now time.Time) time.Duration

	mu   sync.Mutex
	told map[string]*told // mu; by the words for the reasons
}

// told is how the log is told of requests that are refused for one reason.
type told struct {
	last   time.Duration // of up, when it was told
	untold int           // those since
}

// tellEvery is how often the log is told of requests that are refused for the same reason: who has no key must
// not be able to fill it. Each reason is by itself, so that a flood of one does not hide a peer that has another.
const tellEvery = 10 * time.Second

var _ backend.Handler = (*Guard)(nil)

// NewGuard returns a guard before a handler.
func NewGuard(cfg Config, next backend.Handler) *Guard {
	if cfg.Now == nil {
		cfg.Now = clock.Now
		if began := time.Now(); cfg.Up == nil {
			cfg.Up = func(time.Time) time.Duration { return time.Since(began) }
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Refused == nil {
		cfg.Refused = func(string) {}
	}
	began := cfg.Now()
	g := &Guard{Config: cfg, next: next, seen: newSeen(cfg.Skew, maxSeen, began), up: cfg.Up, told: map[string]*told{}}
	if g.up == nil {
		g.up = func(now time.Time) time.Duration { return now.Sub(began) }
	}
	return g
}

// Serve has a request served that is signed, and signs the answer, be it of an error. Another
// one is an error of kind errs.Forbidden, whose answer is not signed: nobody is to take it for
// anything but a refusal.
func (g *Guard) Serve(ctx context.Context, r *backend.Request) (*backend.Response, error) {
	k, m, length, err := g.check(r)
	if err != nil {
		return nil, g.refuse(ctx, r, err)
	}
	in := *r
	in.Header, in.Length, in.Body = strip(r.Header, ofRequest), length, nil
	if length > 0 {
		wrong := func(err error) error { return g.refuse(ctx, r, err) }
		in.Body = &opener{key: k, of: m, src: r.Body, left: length, wrong: wrong}
	}
	resp, err := g.next.Serve(ctx, &in)
	if err != nil {
		resp = g.Fail(ctx, &in, err)
	}
	return seal(resp, k, &m), nil
}

// check looks whether a request is to be served, once, and returns what its body and its
// answer go by.
func (g *Guard) check(r *backend.Request) (k *key, m mac, length int64, err error) {
	text, err := single(r.Header)
	if err != nil {
		return nil, m, 0, err
	}
	s, err := parseSignature(text)
	if err != nil {
		return nil, m, 0, err
	}
	if k = g.Keys.Keys().find(s.key); k == nil {
		return nil, m, 0, errKey
	}
	if length, err = lengthOf(r.Length, r.Length != 0); err != nil {
		return nil, m, 0, err
	}
	if want := k.request(&s, r, length); !hmac.Equal(s.mac[:], want[:]) {
		return nil, m, 0, errMAC
	}
	// From here on it is known to come from somebody with the key.
	host, port, err := net.SplitHostPort(s.to)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || !g.Self(host, n) {
		return nil, m, 0, errAddress
	}
	now := g.Now()
	return k, s.mac, length, g.seen.take(s.time, s.nonce, now, g.up(now))
}

// refuse tells of a request that is refused, and returns the error to answer it with.
func (g *Guard) refuse(ctx context.Context, r *backend.Request, why error) error {
	g.Refused(reasons[why])
	if n := g.tell(reasons[why]); n > 0 {
		g.Log.LogAttrs(ctx, slog.LevelWarn, "a request without the cluster's key was refused", slog.String("peer", clip(r.Remote)),
			slog.String("method", clip(r.Method)), slog.String("path", clip(r.Path)), slog.Int("refused", n), slog.Any("err", why))
	}
	return errs.E(op, errs.Subject(clip(r.Remote)), errs.Forbidden, errs.Public("the request is refused: "+why.Error()), why)
}

// tell counts a request that is refused, and returns how many the log is to be told of now, this one included: 0
// where it was told less than tellEvery ago.
func (g *Guard) tell(why string) int {
	at := g.up(g.Now())
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.told[why]
	if t == nil {
		t = &told{last: at - tellEvery}
		g.told[why] = t
	}
	if t.untold++; at-t.last < tellEvery {
		return 0
	}
	n := t.untold
	*t = told{last: at}
	return n
}

// clip shortens what a stranger said, for the log.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// seal signs an answer to a request.
func seal(resp *backend.Response, k *key, to *mac) *backend.Response {
	length := resp.Length
	if resp.Body == nil || resp.Status == 204 || resp.Status == 304 {
		length = 0
	}
	m := k.answer(to, resp, length)
	out := *resp
	out.Header = append(append(make(backend.Header, 0, len(resp.Header)+1), resp.Header...), backend.Field{Name: Header, Value: answered(k.id, &m)})
	if length > 0 {
		out.Length = sealedLength(length)
		out.Body = &sealedBody{sealer{key: k, of: m, src: resp.Body, left: length}, resp.Body}
	}
	return &out
}

// sealedBody is the body of an answer.
type sealedBody struct {
	sealer
	src io.Closer
}

// Close closes the body.
func (b *sealedBody) Close() error { return b.src.Close() }

// Without has a handler of a node that has no key refuse what is signed: its body is not what
// it would be taken for.
func Without(next backend.Handler) backend.Handler {
	return backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		if r.Header.Has(Header) {
			return nil, errs.Refuse(errs.Forbidden, "the request is signed with a cluster's key, and this node has none (cluster.key_file)")
		}
		return next.Serve(ctx, r)
	})
}
