package throttle

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/name"
)

// bench is a limiter whose clock stands still unless it is moved.
type bench struct {
	*Limiter
	t        testing.TB
	settings *Settings
	reg      *prometheus.Registry
	time     time.Time
}

func newBench(t testing.TB, level Level, change func(*Rates)) *bench {
	t.Helper()
	rates := Defaults()
	change(&rates)
	b := &bench{t: t, reg: prometheus.NewRegistry(), time: time.Unix(1_800_000_000, 0)}
	var err error
	if b.settings, err = NewSettings(rates); err != nil {
		t.Fatal(err)
	}
	b.Limiter, err = New(b.reg, Config{Server: "test", Level: level, Devices: []string{"d1", "d 2"}, Settings: b.settings, Now: func() time.Time { return b.time }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// send sends a request so often, and returns how many were served.
func (b *bench) send(n int, method, path string) (served int) {
	b.t.Helper()
	h := b.Wrap(backend.HandlerFunc(func(context.Context, *backend.Request) (*backend.Response, error) {
		served++
		return &backend.Response{Status: 200}, nil
	}))
	refused := 0
	for range n {
		resp, err := h.Serve(b.t.Context(), &backend.Request{Method: method, Path: path})
		if err != nil {
			b.t.Fatal(err)
		}
		if resp.Status == backend.StatusLimited && resp.Header.Get(backend.Limited) != "" {
			refused++
		}
	}
	if served+refused != n {
		b.t.Errorf("of %d requests %d were served and %d refused", n, served, refused)
	}
	return served
}

func TestRates(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(*Rates)
		want   [3]int // of 1000 requests: at once, a second later, after a day
	}{
		"no limit":             {func(*Rates) {}, [3]int{1000, 1000, 1000}},
		"ten a second":         {func(r *Rates) { r.Requests = 10 }, [3]int{11, 10, 11}},
		"for this method":      {func(r *Rates) { r.Get = 10 }, [3]int{11, 10, 11}},
		"for another":          {func(r *Rates) { r.Put = 10 }, [3]int{1000, 1000, 1000}},
		"no buffer":            {func(r *Rates) { r.Requests, r.Buffer = 10, 0 }, [3]int{1, 1, 1}},
		"a buffer of 5 s":      {func(r *Rates) { r.Requests, r.Buffer = 10, conf.Duration(5*time.Second) }, [3]int{51, 10, 51}},
		"one in two seconds":   {func(r *Rates) { r.Requests, r.Buffer = .5, conf.Duration(2*time.Second) }, [3]int{2, 0, 2}},
		"the lesser of two":    {func(r *Rates) { r.Requests, r.Get = 20, 10 }, [3]int{11, 10, 11}},
		"the lesser, reversed": {func(r *Rates) { r.Requests, r.Get = 10, 20 }, [3]int{11, 10, 11}},
		"of an account":        {func(r *Rates) { r.Account = 10 }, [3]int{11, 10, 11}},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, Objects, tt.change)
			for i, later := range []time.Duration{0, time.Second, 24 * time.Hour} {
				b.time = b.time.Add(later)
				if got := b.send(1000, "GET", "/d1/0/a/c/o"); got != tt.want[i] {
					t.Errorf("%v later %d were served, want %d", later, got, tt.want[i])
				}
			}
		})
	}
}

// A rate that is raised counts at once, however low it was, and a clock that goes back holds nobody up.
func TestWhatWasCountsNoLongerThanItMay(t *testing.T) {
	for what, change := range map[string]func(b *bench) error{
		"a rate is raised":   func(b *bench) error { return b.settings.Set(url.Values{"requests_per_device_per_second": {"10"}}) },
		"the clock was back": func(b *bench) error { b.time = b.time.Add(-3 * time.Hour); return nil },
	} {
		b := newBench(t, Objects, func(r *Rates) { r.Requests = .01 })
		if got := b.send(10, "GET", "/d1/0/a/c/o"); got != 1 {
			t.Errorf("%s: %d were served before", what, got)
		}
		if err := change(b); err != nil {
			t.Fatal(err)
		}
		if got := b.send(10, "GET", "/d1/0/a/c/o"); got != 1 {
			t.Errorf("%s: %d were served, want 1", what, got)
		}
	}
	b := newBench(t, Objects, func(r *Rates) { r.Requests = 10 })
	b.send(100, "GET", "/d1/0/a/c/o")
	for range 10 { // requests that looked at the clock at nearly one time come in any order
		b.time = b.time.Add(-10 * time.Millisecond)
		if got := b.send(10, "GET", "/d1/0/a/c/o"); got != 0 {
			t.Errorf("a little earlier %d were served", got)
		}
	}
}

// What is limited, and what counts for the limit of something else.
func TestWhatCounts(t *testing.T) {
	for what, tt := range map[string]struct {
		level        Level
		method, path string
		counts       bool
	}{
		"an object":                              {Objects, "GET", "/d1/0/a/c/o", true},
		"one with slashes":                       {Objects, "PUT", "/d1/0/a/c/o/o/o", true},
		"on a device with an odd name":           {Objects, "PUT", "/d%202/0/a/c/o", true},
		"a container":                            {Containers, "DELETE", "/d1/0/a/c", true},
		"a row of one":                           {Containers, "PUT", "/d1/0/a/c/o", false},
		"an account":                             {Accounts, "HEAD", "/d1/0/a", true},
		"a row of one, as well":                  {Accounts, "PUT", "/d1/0/a/c", false},
		"many rows":                              {Containers, "BATCH", "/rows", false},
		"a question to the server":               {Objects, "GET", "/recon/d1/a", false},
		"a device that is not the node's":        {Objects, "GET", "/d9/0/a/c/o", false},
		"an escape that is none, not the node's": {Objects, "GET", "/d%zz/0/a/c/o", false},
		"a method that is none of a client's":    {Objects, "REPLICATE", "/d1/0/a/c/o", false},
		"no path":                                {Objects, "GET", "", false},
		"too short a path":                       {Objects, "GET", "/d1/0", false},
		"no account":                             {Accounts, "GET", "/d1/0/", false},
	} {
		b := newBench(t, tt.level, func(r *Rates) { r.Requests, r.Account = 1, 1 })
		if strings.Contains(what, "not the node's") { // its account's limit holds
			if err := b.settings.Set(url.Values{"requests_per_account_per_second": {"0"}}); err != nil {
				t.Fatal(err)
			}
		}
		want := 10
		if tt.counts {
			want = 2
		}
		if got := b.send(10, tt.method, tt.path); got != want {
			t.Errorf("%s: %d of 10 were served, want %d", what, got, want)
		}
	}
	b := newBench(t, Objects, func(r *Rates) { r.Requests, r.Get, r.Account = 10, 2, 5 })
	steps := []struct {
		method, path string
		want         int
	}{
		{"GET", "/d1/0/a/c/o", 3},     // the method's; what it refuses is not the device's
		{"GET", "/d1/0/b/c/o", 0},     // likewise of another account
		{"PUT", "/d1/0/c/c/o", 6},     // the account's
		{"PUT", "/d1/0/d/c/o", 2},     // what is left of the device
		{"PUT", "/d%202/0/c/c/o", 0},  // the account's is for all devices
		{"PUT", "/d%202/0/e/c/o", 6},  // another device, another account
		{"HEAD", "/d%202/0/f/c/o", 5}, // what is left of that device
	}
	for _, s := range steps {
		if got := b.send(20, s.method, s.path); got != s.want {
			t.Errorf("%s %s: %d were served, want %d", s.method, s.path, got, s.want)
		}
	}
	total := 0.0
	for i, reason := range reasonNames {
		n := testutil.ToFloat64(b.refused[i])
		if total += n; n == 0 {
			t.Errorf("none was counted as refused by %s", reason)
		}
	}
	if total != 20*7-22 {
		t.Errorf("%v were counted as refused", total)
	}
}

// A noisy account takes what the device gives, unless it has a limit of its own.
func TestANoisyAccount(t *testing.T) {
	const seconds, noise, quiet = 100, 2000, 20 // requests of each in a second
	for what, tt := range map[string]struct {
		account              float64
		leastQuiet, mostLoud int // of 100
	}{
		"no limit of accounts": {0, 0, 26},
		"with one of accounts": {200, 100, 11},
	} {
		b := newBench(t, Objects, func(r *Rates) { r.Requests, r.Account = 500, tt.account })
		served := map[string]int{}
		for range seconds * quiet {
			for range noise / quiet {
				b.time = b.time.Add(time.Second / noise)
				served["loud"] += b.send(1, "GET", "/d1/0/loud/c/o")
			}
			served["quiet"] += b.send(1, "GET", "/d1/0/quiet/c/o")
		}
		q, l := 100*served["quiet"]/(seconds*quiet), 100*served["loud"]/(seconds*noise)
		t.Logf("%s: %d%% of what the quiet one asked for was served, %d%% of the noisy one", what, q, l)
		if q < tt.leastQuiet || l > tt.mostLoud {
			t.Errorf("%s: want at least %d%% and at most %d%%", what, tt.leastQuiet, tt.mostLoud)
		}
		if tt.account == 0 && q > 50 {
			t.Errorf("%s: the quiet one is served all the same: the test shows nothing", what)
		}
	}
}

// Many at one time get exactly what may be.
func TestAtOneTime(t *testing.T) {
	var b bucket
	var served atomic.Int64
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range 16 {
		all.Go(func() {
			<-begin
			for range 50_000 {
				if b.take(1e18, 10_000, 40*time.Second) {
					served.Add(1)
				}
			}
		})
	}
	close(begin)
	all.Wait()
	if n := served.Load(); n != 400_001 {
		t.Errorf("%d were served, want 400001", n)
	}
}

func TestSettings(t *testing.T) {
	b := newBench(t, Objects, func(*Rates) {})
	before := b.settings.Rates()
	for _, bad := range []string{
		"get_requests_per_device_per_second=x", "put_requests_per_device_per_second=-1", "head_requests_per_device_per_second=NaN",
		"requests_per_device_per_second=1e9", "post_requests_per_device_per_second=0.0001", "requests_per_device_rate_buffer=1", "requests_per_account_rate_buffer=-1s",
		"requests_per_account_rate_buffer=2h", "delete_requests_per_device_per_second=1&delete_requests_per_device_per_second=2", "nothing=1",
		"requests_per_device_per_second=7&requests_per_account_per_second=x",
	} {
		values, err := url.ParseQuery(bad)
		if err != nil {
			t.Fatal(err)
		}
		key, _, _ := strings.Cut(bad, "=")
		if strings.Contains(bad, "account_per_second=x") {
			key = "requests_per_account_per_second"
		}
		if err := b.settings.Set(values); err == nil || !strings.HasPrefix(err.Error(), key+": ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", bad, err)
		}
		if now := b.settings.Rates(); now != before {
			t.Errorf("%s changes %+v", bad, now)
		}
	}
	for i, step := range []struct {
		set  string
		want int // of 100
	}{{"requests_per_device_per_second=10", 11}, {"requests_per_device_per_second=0", 100}, {"get_requests_per_device_per_second=5&requests_per_device_rate_buffer=2s", 11}} {
		values, _ := url.ParseQuery(step.set)
		if err := b.settings.Set(values); err != nil {
			t.Fatal(err)
		}
		if got := b.send(100, "GET", "/d1/0/a/c/o"); got != step.want {
			t.Errorf("step %d: %d were served, want %d", i, got, step.want)
		}
	}
	if err := b.settings.Set(url.Values{"get_requests_per_device_per_second": {"0"}}); err != nil || b.settings.active.Load() != nil {
		t.Errorf("without a limit every request is looked at, %v", err)
	}
	if n := len(Keys()); n != 9 {
		t.Errorf("there are %d keys: %v", n, Keys())
	}
	if _, err := NewSettings(Rates{Requests: -1}); err == nil {
		t.Error("a negative rate is taken")
	}
	if _, err := New(b.reg, Config{Level: Objects}); err == nil {
		t.Error("a limiter without settings")
	}
}

// A request costs nothing where nothing is limited, and little where something is.
func TestCost(t *testing.T) {
	for what, rates := range map[string]func(*Rates){"off": func(*Rates) {}, "on": func(r *Rates) { r.Requests, r.Get, r.Account = 1e6, 1e6, 1e6 }} {
		b := newBench(t, Objects, rates)
		resp := &backend.Response{Status: 200}
		h := b.Wrap(backend.HandlerFunc(func(context.Context, *backend.Request) (*backend.Response, error) { return resp, nil }))
		r := &backend.Request{Method: "GET", Path: "/d1/0/AUTH_test/c/o"}
		if n := testing.AllocsPerRun(100, func() { _, _ = h.Serve(t.Context(), r) }); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

// BenchmarkWrap is what a request costs.
func BenchmarkWrap(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprintf("on=%v", on), func(b *testing.B) {
			l := newBench(b, Objects, func(r *Rates) {
				if on {
					r.Requests, r.Get, r.Account = 1e6, 1e6, 1e6
					r.Buffer, r.AccountBuffer = conf.Duration(mostBuffer), conf.Duration(mostBuffer)
				}
			})
			l.now = time.Now
			resp := &backend.Response{Status: 200}
			h := l.Wrap(backend.HandlerFunc(func(context.Context, *backend.Request) (*backend.Response, error) { return resp, nil }))
			r := &backend.Request{Method: "GET", Path: "/d1/0/AUTH_test/c/o"}
			for b.Loop() {
				_, _ = h.Serve(b.Context(), r)
			}
		})
	}
}

// FuzzSplit: of every path that a server can read, the parts are those that it reads.
func FuzzSplit(f *testing.F) {
	for _, p := range []string{"/d1/0/a/c/o", "/d1/0/a/c", "/d1/0/a", "/d%201/0/%00a/c/o/o", "//", "/recon/0/a", "/d/0//c", "/d/0/a//o", "d/0/a"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		device, account, level := split(path)
		to, err := backend.ParseTarget(path)
		if err != nil || to.Device == "recon" {
			return
		}
		d, errD := name.Unquote(device)
		a, errA := name.Unquote(account)
		want := Accounts
		if to.Path.Container != "" {
			want = Containers
		}
		if to.Path.Object != "" {
			want = Objects
		}
		if errD != nil || errA != nil || d != to.Device || a != to.Path.Account || level != want && !strings.HasSuffix(path, "/") {
			t.Errorf("%q is of %q, %q, level %d; it is read as %+v", path, device, account, level, to)
		}
	})
}
