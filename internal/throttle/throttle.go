// Package throttle bounds how many requests a storage server takes in a second: of each of
// its devices, of each method on a device, and of each account. What is beyond is answered with
// 529 at once, before anything of its body is read, so that whoever sent it goes on to another
// replica, and nothing waits here that others would have to wait behind.
//
// Only what clients ask for is counted, where it is done: requests on objects at the object
// server, on containers at the container server, on accounts at the account server. The rows that these
// tell each other are not, as what they tell of was counted, nor is what is asked of the server itself
// (/recon). Replication has a server of its own, which has no such limits.
//
// A rate is kept by one number for each bucket, the time of the next request that is on
// time. What was not used for up to the buffer may be used at once, as in Swift. The buckets of accounts
// are a table of fixed size, by a hash that is another one in each process: of a few
// thousand accounts, two may have to share.
package throttle

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"martlet/internal/backend"
	"martlet/internal/name"
)

// Level is what a server keeps: requests with paths that are longer tell it of rows.
type Level int

// The levels, by the parts of a path behind device and partition.
const (
	Accounts Level = iota + 1
	Containers
	Objects
)

// Reasons to refuse, as metrics and answers name them.
const (
	byMethod = iota
	byDevice
	byAccount
	reasons
)

var reasonNames = [reasons]string{byMethod: "method", byDevice: "device", byAccount: backend.LimitedAccount}

// counted are the methods that are counted, in the order of a device's buckets.
var counted = [...]string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}

// accounts is how many buckets there are for accounts; a power of two.
const accounts = 4096

// A Limiter stands before one server. It is safe for concurrent use.
type Limiter struct {
	settings *Settings
	level    Level
	devices  map[string]*device // by name
	accounts []bucket
	seed     maphash.Seed
	now      func() time.Time
	refused  [reasons]prometheus.Counter
}

// device is the buckets of one.
type device struct {
	all     bucket
	methods [len(counted)]bucket
}

// Config says what a Limiter stands before.
type Config struct {
	Server   string // "object", ...: for metrics
	Level    Level
	Devices  []string // of the node; what is asked of others is let through, to be refused for that
	Settings *Settings
	Now      func() time.Time // nil for the machine's clock
}

// New makes a limiter and registers martlet_requests_limited_total by reason ("method", "device",
// "account").
func New(reg prometheus.Registerer, cfg Config) (*Limiter, error) {
	if cfg.Settings == nil || cfg.Level < Accounts || cfg.Level > Objects {
		return nil, fmt.Errorf("throttle: no settings, or no such level: %d", cfg.Level)
	}
	l := &Limiter{
		settings: cfg.Settings, level: cfg.Level, devices: make(map[string]*device, len(cfg.Devices)), accounts: make([]bucket, accounts),
		seed: maphash.MakeSeed(), now: cfg.Now,
	}
	if l.now == nil {
		l.now = time.Now
	}
	for _, d := range cfg.Devices {
		l.devices[d] = new(device)
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "martlet_requests_limited_total", Help: "Requests answered with 529 since there were more of them in a second than may be, by what the limit is of.",
		ConstLabels: prometheus.Labels{"server": cfg.Server},
	}, []string{"reason"})
	for i, reason := range reasonNames {
		l.refused[i] = refused.WithLabelValues(reason)
	}
	return l, reg.Register(refused)
}

// Wrap puts the limiter before a handler.
func (l *Limiter) Wrap(h backend.Handler) backend.Handler {
	return backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		if rates := l.settings.active.Load(); rates != nil {
			if reason := l.over(rates, r); reason >= 0 {
				l.refused[reason].Inc()
				return refusal(reasonNames[reason]), nil
			}
		}
		return h.Serve(ctx, r)
	})
}

// refusal is the answer to a request that is too many.
func refusal(reason string) *backend.Response {
	text := "Too many requests for this " + reason
	return &backend.Response{
		Status: backend.StatusLimited, Length: int64(len(text)), Body: io.NopCloser(strings.NewReader(text)),
		Header: backend.Header{{Name: backend.Limited, Value: reason}, {Name: backend.ContentType, Value: "text/plain; charset=utf-8"}},
	}
}

// over returns which limit a request is beyond, -1 for none. What an account's own limit refuses counts
// for nobody else's, and what that of a method refuses not for the device's.
func (l *Limiter) over(rates *Rates, r *backend.Request) int {
	method := methodOf(r.Method)
	dev, account, level := split(r.Path)
	if method < 0 || level == 0 || level > l.level || account == "" {
		return -1
	}
	now := l.now().UnixNano()
	if rates.Account > 0 && !l.account(account).take(now, rates.Account, rates.AccountBuffer.D()) {
		return byAccount
	}
	d := l.device(dev)
	if d == nil {
		return -1
	}
	if rate := rates.method(method); rate > 0 && !d.methods[method].take(now, rate, rates.Buffer.D()) {
		return byMethod
	}
	if rates.Requests > 0 && !d.all.take(now, rates.Requests, rates.Buffer.D()) {
		return byDevice
	}
	return -1
}

func methodOf(method string) int {
	for i, m := range counted {
		if m == method {
			return i
		}
	}
	return -1
}

// account returns the bucket of an account, as a path has it.
func (l *Limiter) account(account string) *bucket {
	return &l.accounts[maphash.String(l.seed, account)%accounts]
}

func (l *Limiter) device(part string) *device {
	if d, ok := l.devices[part]; ok {
		return d
	}
	if strings.IndexByte(part, '%') < 0 {
		return nil
	}
	text, err := name.Unquote(part)
	if err != nil {
		return nil
	}
	return l.devices[text]
}

// split returns the first and the third part of "/device/partition/account[/container[/object]]", percent-encoded as
// they are, and how many parts come behind the second, the object being one; 0 where the path is another.
func split(path string) (device, account string, level Level) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "", "", 0
	}
	device, rest, ok = strings.Cut(rest, "/")
	if !ok || device == "recon" {
		return "", "", 0
	}
	if _, rest, ok = strings.Cut(rest, "/"); !ok {
		return "", "", 0
	}
	level = Accounts
	account, rest, ok = strings.Cut(rest, "/")
	for ; ok && level < Objects; level++ {
		_, rest, ok = strings.Cut(rest, "/")
	}
	return device, account, level
}

// AccountOf returns the account that a path of a storage server is about, percent-encoded as it is there; "" for none.
func AccountOf(path string) string {
	_, account, _ := split(path)
	return account
}

// bucket is one rate.
type bucket struct{ next atomic.Int64 } // when a request is on time, in nanoseconds since 1970

// slack is how far a clock may go back until what it said before counts for nothing.
const slack = time.Second

// take takes one request of so many a second, and reports whether it may be.
func (b *bucket) take(now int64, rate float64, buffer time.Duration) bool {
	each := int64(math.Ceil(float64(time.Second) / rate))
	for {
		next := b.next.Load()
		from := max(next, now-int64(buffer))
		switch {
		case from > now+each+int64(slack):
			from = now // it is of a lower rate than now, or of a clock that was ahead
		case from > now:
			return false
		}
		if b.next.CompareAndSwap(next, from+each) {
			return true
		}
	}
}
