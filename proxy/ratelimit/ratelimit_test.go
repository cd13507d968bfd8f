package ratelimit

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/conf"
	"martlet/internal/lru"
	"martlet/internal/name"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
)

var (
	account   = name.Path{Account: "a"}
	container = name.Path{Account: "a", Container: "c"}
	object    = name.Path{Account: "a", Container: "c", Object: "o"}
	somebody  = &auth.Identity{User: "a:b"}
)

// heads are what is known of accounts and containers.
type heads map[name.Path]backend.Header

func (h heads) find(_ context.Context, p name.Path) (Fields, bool) {
	header, ok := h[p]
	return header, ok
}

func says(text string) backend.Header { return backend.Header{{Name: Meta, Value: text}} }
func has(n string) backend.Header {
	return backend.Header{{Name: "X-Container-Object-Count", Value: n}}
}

// on is a configuration with the usual values, and a change.
func on(change func(*Config)) Config {
	cfg := Defaults()
	cfg.Enabled = true
	change(&cfg)
	return cfg
}

// ask sends a request, and returns its status and how long it took.
func ask(ctx context.Context, h chain.Handler, method string, p name.Path, id *auth.Identity) (status int, took time.Duration) {
	began := time.Now()
	resp := h.Serve(ctx, &chain.Request{Method: method, Path: p, Identity: id})
	return resp.Status, time.Since(began)
}

func limited(cfg Config, h heads) chain.Handler {
	last := chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response { return chain.Empty(http.StatusTeapot) })
	return New(cfg, h.find, slog.New(slog.DiscardHandler)).Link()(last)
}

// What each limit is of: of twice the same request the second waits, or not.
func TestWhatIsLimited(t *testing.T) {
	rates := on(func(c *Config) {
		c.Account, c.Containers, c.Listings = 1, map[string]float64{"10": 2}, map[string]float64{"10": 4}
		c.Whitelist, c.Blacklist = []string{"white"}, []string{"black"}
	})
	known := heads{
		account: nil, container: has("10"), {Account: "a", Container: "small"}: has("9"), {Account: "a", Container: "odd"}: has("x"),
		{Account: "said"}: says("0.5"), {Account: "allowed"}: says(allowed), {Account: "denied"}: says(denied), {Account: "nonsense"}: says("-1"),
		{Account: "white", Container: "c"}: has("10"), {Account: "allowed", Container: "c"}: has("10"), {Account: "said", Container: "c"}: has("10"),
	}
	at := func(parts ...string) name.Path {
		parts = append(parts, "", "")
		return name.Path{Account: parts[0], Container: parts[1], Object: parts[2]}
	}
	for what, tt := range map[string]struct {
		method string
		p      name.Path
		id     *auth.Identity
		status int
		took   time.Duration // the second
	}{
		"a new container":             {"PUT", container, somebody, 418, time.Second},
		"one that goes":               {"DELETE", container, somebody, 418, time.Second},
		"one that is changed":         {"POST", container, somebody, 418, 0},
		"its head":                    {"HEAD", container, somebody, 418, 0},
		"a listing":                   {"GET", container, somebody, 418, time.Second / 4},
		"one of nobody in particular": {"GET", container, nil, 418, time.Second / 4},
		"a small one":                 {"GET", at("a", "small"), somebody, 418, 0},
		"an object":                   {"PUT", object, somebody, 418, time.Second / 2},
		"its metadata":                {"POST", object, somebody, 418, time.Second / 2},
		"its end":                     {"DELETE", object, somebody, 418, time.Second / 2},
		"its copy":                    {"COPY", object, somebody, 418, time.Second / 2},
		"it is read":                  {"GET", object, somebody, 418, 0},
		"of nobody in particular":     {"PUT", object, nil, 418, 0},
		"in a small container":        {"PUT", at("a", "small", "o"), somebody, 418, 0},
		"in one of which is not said": {"PUT", at("a", "odd", "o"), somebody, 418, 0},
		"in one that is not known":    {"PUT", at("a", "other", "o"), somebody, 418, 0},
		"an account that is unknown":  {"PUT", at("other", "c"), somebody, 418, time.Second},
		"an account":                  {"POST", account, somebody, 418, 0},
		"no account":                  {"PUT", name.Path{}, somebody, 418, 0},
		"said of an account":          {"POST", at("said"), somebody, 418, 2 * time.Second},
		"of all that is in it":        {"POST", at("said", "c"), somebody, 418, 2 * time.Second},
		"both":                        {"PUT", at("said", "c", "o"), somebody, 418, 2 * time.Second},
		"what it says of reads":       {"HEAD", at("said", "c", "o"), somebody, 418, 0},
		"it says nonsense":            {"POST", at("nonsense"), somebody, 418, 0},
		"on the list":                 {"PUT", at("white", "c", "o"), somebody, 418, 0},
		"it says so":                  {"PUT", at("allowed", "c", "o"), somebody, 418, 0},
		"refused":                     {"GET", at("black", "c", "o"), somebody, 497, time.Second},
		"it says that":                {"HEAD", at("denied"), somebody, 497, time.Second},
		"an administrator there":      {"POST", at("denied"), &auth.Identity{Reseller: true}, 418, 0},
		"one who does more there":     {"PUT", at("denied", "c"), &auth.Identity{Reseller: true}, 497, time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := limited(rates, known)
				first, _ := ask(t.Context(), h, tt.method, tt.p, tt.id)
				status, took := ask(t.Context(), h, tt.method, tt.p, tt.id)
				if first != tt.status || status != tt.status || took != tt.took {
					t.Errorf("got %d, %d after %v, want %d after %v", first, status, took, tt.status, tt.took)
				}
			})
		})
	}
}

// Who sends no token takes no turns of those who do.
func TestListingsByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limited(on(func(c *Config) { c.Listings, c.MaxSleepTime = map[string]float64{"0": 0.1}, 0 }), heads{container: has("10")})
		for n, tt := range []struct {
			id   *auth.Identity
			want int
		}{{nil, 418}, {nil, StatusRateLimited}, {somebody, 418}, {somebody, StatusRateLimited}} {
			if status, _ := ask(t.Context(), h, "GET", container, tt.id); status != tt.want {
				t.Errorf("%d: got %d, want %d", n, status, tt.want)
			}
		}
	})
}

// So many a second go on, and one that would wait too long is refused and takes no turn.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limited(on(func(c *Config) {
			c.Account, c.MaxSleepTime = 10, conf.Duration(2*time.Second)
		}), heads{})
		var (
			all  sync.WaitGroup
			mu   sync.Mutex
			good []time.Duration
			bad  int
		)
		for range 50 {
			all.Go(func() {
				status, took := ask(t.Context(), h, "PUT", container, somebody)
				mu.Lock()
				defer mu.Unlock()
				switch status {
				case 418:
					good = append(good, took)
				case StatusRateLimited:
					bad++
				}
			})
		}
		all.Wait()
		if len(good) != 20 || bad != 30 { // 0 to 1.9 s
			t.Fatalf("%d went on, %d were refused, want 20 and 30", len(good), bad)
		}
		if status, took := ask(t.Context(), h, "PUT", container, somebody); status != 418 || took > 100*time.Millisecond {
			t.Errorf("after those that went on: %d after %v: those that were refused have taken turns", status, took)
		}
	})
}

// What was not used of the last seconds is made up for, and no more.
func TestIdleTimeIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(5*time.Second, time.Minute)
		k := key{ofAccount, account}
		burst := func() (n int) {
			for now := time.Now(); ; n++ {
				if wait, _ := turns.take(k, 1, now); wait > 0 {
					return n
				}
			}
		}
		now := time.Now()
		turns.take(k, 1, now)
		for idle, want := range map[time.Duration]int{4 * time.Second: 4, 20 * time.Second: 1} {
			turns.upTo.Put(k, now.Add(-idle))
			if idle <= 5*time.Second {
				want++ // the one whose turn it is
			}
			if got := burst(); got != want {
				t.Errorf("after %v: %d at once, want %d", idle, got, want)
			}
		}
	})
}

// A client that leaves is not waited with.
func TestWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limited(on(func(c *Config) { c.Account, c.Blacklist = 0.1, []string{"black"} }), heads{})
		ask(t.Context(), h, "PUT", container, somebody)
		for _, p := range []name.Path{container, {Account: "black", Container: "c"}} {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			if status, took := ask(ctx, h, "PUT", p, somebody); status != 499 || took != 500*time.Millisecond {
				t.Errorf("%v: got %d after %v", p, status, took)
			}
			cancel()
		}
	})
}

func TestLongWaitsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		cfg := on(func(c *Config) { c.Account, c.LogSleepTime = 2, conf.Duration(700*time.Millisecond) })
		last := chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response { return chain.Empty(http.StatusTeapot) })
		h := New(cfg, heads{}.find, slog.New(slog.NewTextHandler(&log, nil))).Link()(last)
		var all sync.WaitGroup
		for range 3 { // who wait 0, 0.5 and 1 s
			all.Go(func() { ask(t.Context(), h, "PUT", container, somebody) })
		}
		all.Wait()
		if n := strings.Count(log.String(), "held back"); n != 1 || !strings.Contains(log.String(), "wait=1s") {
			t.Errorf("the log is %q", log.String())
		}
	})
}

// What is remembered is bounded; what was forgotten holds nobody back.
func TestOnlySomeAreRemembered(t *testing.T) {
	turns := newTurns(time.Second, time.Minute)
	turns.upTo = lru.New[key, time.Time](10)
	now := time.Unix(1_700_000_000, 0)
	of := func(i int) key { return key{ofContainer, name.Path{Account: "a", Container: fmt.Sprint(i)}} }
	for i := range 10 {
		turns.take(of(i), 1, now)
	}
	if wait, _ := turns.take(of(0), 1, now); wait != time.Second {
		t.Errorf("the first waits %v", wait)
	}
	turns.take(of(10), 1, now) // in place of 1, which was not used for longest
	if wait, _ := turns.take(of(0), 1, now); wait != 2*time.Second {
		t.Errorf("the first waits %v", wait)
	}
	if wait, _ := turns.take(of(1), 1, now); wait != 0 {
		t.Errorf("one that is forgotten waits %v", wait)
	}
	if turns.upTo.Len() != 10 {
		t.Errorf("%d are remembered, want 10", turns.upTo.Len())
	}
}

func TestLowestRate(t *testing.T) {
	turns := newTurns(time.Second, 100*time.Hour)
	now := time.Unix(1_700_000_000, 0)
	for _, want := range []time.Duration{0, 24 * time.Hour, 48 * time.Hour} {
		if wait, ok := turns.take(key{}, math.SmallestNonzeroFloat64, now); wait != want || !ok {
			t.Errorf("got %v, %v, want %v", wait, ok, want)
		}
	}
	turns.most = 0
	if _, ok := turns.take(key{kind: ofListing}, 1, now); !ok {
		t.Error("one that needs not wait is refused where nobody may wait")
	}
	if _, ok := turns.take(key{kind: ofListing}, 1, now); ok {
		t.Error("one that must wait is let through where nobody may wait")
	}
	if _, ok := turns.take(key{kind: ofListing}, 1, now.Add(1500*time.Millisecond)); !ok {
		t.Error("one whose turn has come is refused where nobody may wait")
	}
}

func TestSteps(t *testing.T) {
	s := stepsOf(map[string]float64{"100": 50, "10": 100, "200": 50, "1000": 0})
	for count, want := range map[string]float64{
		"0": 0, "9": 0, "10": 100, "55": 75, "100": 50, "150": 50, "200": 50, "600": 25, "1000": 0, "1000000": 0, "": 0, "x": 0, "-1": 0,
	} {
		if got := s.at(count); got != want {
			t.Errorf("%s objects: got %v, want %v", count, got, want)
		}
	}
}

func TestValue(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "10": "10", "0.5": "0.5", "0": "0", "whitelist": allowed, " BLACKLIST ": denied, "-1": "!", "nan": "!", "inf": "!", "1e9": "!", "x": "!", "1 2": "!",
	} {
		got, err := Value(text)
		if want == "!" {
			want = ""
		} else if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if got != want || (err != nil) != (want == "" && text != "") {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestConfig(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(*Config)
		key    string
	}{
		"good":            {func(c *Config) { c.Account, c.Containers = 5, map[string]float64{"0": 1, "50": 0.5} }, ""},
		"a negative rate": {func(c *Config) { c.Account = -1 }, "account_ratelimit"},
		"no number":       {func(c *Config) { c.Account = math.NaN() }, "account_ratelimit"},
		"too high":        {func(c *Config) { c.Containers = map[string]float64{"0": math.Inf(1)} }, "container_ratelimit.0"},
		"a negative size": {func(c *Config) { c.Listings = map[string]float64{"-1": 1} }, "container_listing_ratelimit"},
		"no size":         {func(c *Config) { c.Listings = map[string]float64{"x": 1} }, "container_listing_ratelimit"},
		"a size twice":    {func(c *Config) { c.Listings = map[string]float64{"05": 1} }, "container_listing_ratelimit"},
		"on both lists":   {func(c *Config) { c.Whitelist, c.Blacklist = []string{"a"}, []string{"a"} }, "account_blacklist"},
	} {
		err := on(tt.change).Validate()
		if tt.key == "" && err != nil || tt.key != "" && (err == nil || !strings.Contains(err.Error(), `"`+tt.key+`"`)) {
			t.Errorf("%s: got %v, want one about %q", what, err, tt.key)
		}
	}
	about := fmt.Sprint(on(func(c *Config) { c.Account, c.Containers = 5, map[string]float64{"50": 0.5, "0": 1} }).Section())
	if want := "map[account_ratelimit:5 container_listing_ratelimits:[] container_ratelimits:[[0 1] [50 0.5]] max_sleep_time_seconds:60]"; about != want {
		t.Errorf("/info has %s, want %s", about, want)
	}
	if New(Defaults(), nil, nil).Link() != nil {
		t.Error("it is on where nothing switches it on")
	}
}
