package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"martlet/internal/name"
	"martlet/ring"
)

// What TestBenchRebalance is made of.
const (
	benchSmall, benchSmallSize = 20_000, 4 << 10
	benchLarge, benchLargeSize = 32, 4 << 20
	benchPace                  = "256KiB" // that each device pushes a second
	benchClients               = 8
	benchRate                  = 60 // requests of clients a second, all together
	benchBefore                = 20 * time.Second
	benchWithin                = 8 * time.Minute
)

// A fifth node joins four that hold something, while clients are at work. It is no test that
// must be quick: `make bench-rebalance` runs it. It fails where a request of a client fails,
// and says the rest, for docs/benchmarks.md.
func TestBenchRebalance(t *testing.T) {
	b := newRebalanceBench(t)
	b.fill()
	var before, during latencies
	halt := b.work(&before)
	b.during(benchBefore, "the measurement before")
	halt()

	was, err := ring.Load(b.c.file("rings/object.ring.gz"))
	if err != nil {
		t.Fatal(err)
	}
	held := b.all()
	halt = b.work(&during)
	b.c.startStorage(t, 4)
	b.c.await(t, b.c.storage[4], fmt.Sprintf("http://%s.1.5:6209/healthcheck", b.c.network))
	takenBefore := b.taken()
	b.c.ringed(t, "add %s r1z5-%n.1.5:%dR%n.2.5:6203/d1 100 r1z5-%n.1.5:%dR%n.2.5:6203/d2 100")
	b.c.ringed(t, "pretend-min-part-hours-passed %s")
	b.c.ringed(t, "rebalance %s --cluster "+b.c.file("proxy.toml"))
	now, err := ring.Load(b.c.file("rings/object.ring.gz"))
	if err != nil {
		t.Fatal(err)
	}
	looks := b.watch()
	halt()
	takenThen := b.taken()
	demand := demanded(b.hasher, was, now, held)

	moved := func(metric string) string {
		n := takenThen[metric] - takenBefore[metric]
		return fmt.Sprintf("%.0f, %.3f of it", n, n/demand)
	}
	t.Logf("moved, of %.0f bytes that the rings demand: data taken %s; data that was there already %s; bodies of pushes %s",
		demand, moved("received_bytes_total"), moved("needless_bytes_total"), moved("received_body_bytes_total"))
	tellETA(t, looks)
	before.tell(t, "before")
	during.tell(t, "during")
	for _, l := range []*latencies{&before, &during} {
		for _, why := range l.failed[:min(len(l.failed), 10)] {
			t.Errorf("a client's request failed: %s", why)
		}
	}
	t.Logf("%d requests of clients failed", len(before.failed)+len(during.failed))
}

// rebalanceBench is the cluster, and what clients have put into it.
type rebalanceBench struct {
	t      *testing.T
	c      *cluster
	tok    string
	hasher name.Hasher
	base   string // the container's URL

	mu    sync.Mutex
	sizes map[string]int64 // what is there, by name: guarded by mu
}

func newRebalanceBench(t *testing.T) *rebalanceBench {
	c := &cluster{dir: t.TempDir() + "/cluster", network: network(t), nodes: 5, daemon: program{path: binary}}
	c.init(t, "--part-power", "8", "--nodes", "5")
	c.quickRings(t)
	interval := regexp.MustCompile(`(?s)(\[replicator\].*?)interval = "[^"]*"`)
	salt := ""
	for n := 1; n <= c.nodes; n++ {
		path := c.file(fmt.Sprintf("storage%d.toml", n))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		salt = string(regexp.MustCompile(`hash_path_suffix = "(.*?)"`).FindSubmatch(text)[1])
		text = interval.ReplaceAll(text, []byte("${1}interval = \"5s\"\nbytes_per_second = \""+benchPace+"\""))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hasher, err := name.NewHasher("", salt)
	if err != nil {
		t.Fatal(err)
	}
	c.ringed(t, "remove %s %n.1.5 --yes")
	c.ringed(t, "rebalance %s")
	c.storage = make([]*process, 5)
	for n := range 4 {
		c.startStorage(t, n)
		c.await(t, c.storage[n], fmt.Sprintf("http://%s.1.%d:6209/healthcheck", c.network, n+1))
	}
	c.startProxy(t)
	c.await(t, c.proxy, c.url()+"/healthcheck")
	b := &rebalanceBench{t: t, c: c, hasher: hasher, tok: token(t, c.url()), base: c.url() + "/v1/AUTH_test/papers", sizes: map[string]int64{}}
	as(t, b.tok, http.MethodPut, b.base, nil, http.StatusCreated)
	return b
}

// fill puts what is to be moved.
func (b *rebalanceBench) fill() {
	began := time.Now()
	next := make(chan int)
	var all sync.WaitGroup
	for range 2 * benchClients {
		all.Go(func() {
			for i := range next {
				object, size := fmt.Sprintf("small%05d", i), benchSmallSize
				if i >= benchSmall {
					object, size = fmt.Sprintf("large%d", i-benchSmall), benchLargeSize
				}
				if err := b.request(http.MethodPut, object, int64(size), http.StatusCreated); err != nil {
					b.t.Error(err)
				}
			}
		})
	}
	for i := range benchSmall + benchLarge {
		next <- i
	}
	close(next)
	all.Wait()
	if b.t.Failed() {
		b.t.FailNow()
	}
	b.t.Logf("filled in %v", time.Since(began).Round(time.Second))
}

// request sends one to an object, or to the container for the name "", and wants a status; of a
// GET all of the body.
func (b *rebalanceBench) request(method, object string, size int64, want int) error {
	var body io.Reader
	if method == http.MethodPut {
		body = bytes.NewReader(bytes.Repeat([]byte(object[:1]), int(size)))
	}
	url := b.base + "/" + object
	if object == "" {
		url = b.base + "?limit=100"
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	r.Header.Set("X-Auth-Token", b.tok)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	err = errors.Join(err, resp.Body.Close())
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, object, err)
	case resp.StatusCode != want:
		return fmt.Errorf("%s %s: %s, want %d", method, object, resp.Status, want)
	case method == http.MethodGet && object != "" && n != size:
		return fmt.Errorf("GET %s: %d bytes, want %d", object, n, size)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch method {
	case http.MethodPut:
		b.sizes[object] = size
	case http.MethodDelete:
		delete(b.sizes, object)
	}
	return nil
}

// all returns what is there.
func (b *rebalanceBench) all() map[string]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := map[string]int64{}
	for object, size := range b.sizes {
		held[object] = size
	}
	return held
}

// latencies are how long requests took, and which failed.
type latencies struct {
	mu     sync.Mutex
	took   []time.Duration
	failed []string
}

func (l *latencies) note(took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took)
	if err != nil {
		l.failed = append(l.failed, err.Error())
	}
}

func (l *latencies) tell(t *testing.T, when string) {
	slices.Sort(l.took)
	at := func(part float64) time.Duration {
		return l.took[int(part*float64(len(l.took)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("clients %s: %d requests, p50 %v, p99 %v", when, len(l.took), at(.5), at(.99))
}

// work has clients send requests of all kinds at a bounded rate until it is halted.
func (b *rebalanceBench) work(l *latencies) (halt func()) {
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range benchClients {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano())))
			tick := time.NewTicker(time.Second * benchClients / benchRate)
			defer tick.Stop()
			var own []string
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				began := time.Now()
				err := b.one(random, &own, fmt.Sprintf("own%d-%d-%d", i, random.Uint32(), n))
				l.note(time.Since(began), err)
			}
		})
	}
	return func() { close(stop); all.Wait() }
}

// one sends one request: 30 of 100 PUT, 10 DELETE, 5 list, 15 HEAD, and 40 GET, one of which a large
// object. What they overwrite or delete is their own.
func (b *rebalanceBench) one(random *rand.Rand, own *[]string, fresh string) error {
	small := fmt.Sprintf("small%05d", random.IntN(benchSmall))
	switch n := random.IntN(100); {
	case n < 30:
		*own = append(*own, fresh)
		return b.request(http.MethodPut, fresh, benchSmallSize, http.StatusCreated)
	case n < 40 && len(*own) > 0:
		last := (*own)[0]
		*own = (*own)[1:]
		return b.request(http.MethodDelete, last, 0, http.StatusNoContent)
	case n < 45:
		return b.request(http.MethodGet, "", 0, http.StatusOK)
	case n < 60:
		return b.request(http.MethodHead, small, 0, http.StatusOK)
	case n < 61:
		return b.request(http.MethodGet, fmt.Sprintf("large%d", random.IntN(benchLarge)), benchLargeSize, http.StatusOK)
	}
	return b.request(http.MethodGet, small, benchSmallSize, http.StatusOK)
}

// during waits for a time to pass.
func (b *rebalanceBench) during(d time.Duration, what string) {
	end := time.Now().Add(d)
	poll(b.t, d+time.Minute, what, func() error {
		if time.Now().Before(end) {
			return errors.New("it is not over")
		}
		return nil
	})
}

// taken adds up what the nodes' metrics say devices have taken of peers, and what has arrived for it.
func (b *rebalanceBench) taken() map[string]float64 {
	b.t.Helper()
	sums := map[string]float64{}
	line := regexp.MustCompile(`(?m)^martlet_replication_(received_bytes_total|received_body_bytes_total|needless_bytes_total)\{.*\} (\S+)$`)
	for n := 1; n <= b.c.nodes; n++ {
		a := do(b.t, request(b.t, http.MethodGet, fmt.Sprintf("http://%s.1.%d:6209/metrics", b.c.network, n), nil))
		for _, m := range line.FindAllStringSubmatch(string(a.body), -1) {
			value, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				b.t.Fatal(err)
			}
			sums[m[1]] += value
		}
	}
	return sums
}

// demanded adds up what has another place by one ring than by another, each replica that moves.
func demanded(hasher name.Hasher, was, now *ring.Ring, held map[string]int64) (bytes float64) {
	for object, size := range held {
		h := hasher.Hash(name.Path{Account: "AUTH_test", Container: "papers", Object: object})
		old := map[string]bool{}
		for _, d := range was.AppendPrimaries(nil, was.Partition(h)) {
			old[d.Addr()+d.Name] = true
		}
		for _, d := range now.AppendPrimaries(nil, now.Partition(h)) {
			if !old[d.Addr()+d.Name] {
				bytes += float64(size)
			}
		}
	}
	return bytes
}

// look is what status says of a rebalance at one time.
type look struct {
	at         time.Time
	Objects    int64    `json:"objects"`
	Bytes      int64    `json:"bytes"`
	Handoffs   int64    `json:"handoffs"`
	ETASeconds *float64 `json:"eta_seconds"`
}

// watch looks again and again until all is moved but what clients are just writing: less than
// a five hundredth of what there was, since no moment is without that.
func (b *rebalanceBench) watch() (looks []look) {
	b.t.Helper()
	var most look
	poll(b.t, benchWithin, "the rebalance", func() error {
		p := start(b.t, "status", "--rebalance", "--json", "--config", b.c.file("proxy.toml"))
		code := p.wait(b.t, time.Minute)
		one := look{at: time.Now()}
		if code > 1 {
			return fmt.Errorf("status: exit status %d", code)
		}
		if err := json.Unmarshal([]byte(p.out.String()), &one); err != nil {
			return err
		}
		looks = append(looks, one)
		most.Objects, most.Bytes = max(most.Objects, one.Objects), max(most.Bytes, one.Bytes)
		if one.Objects*500 > most.Objects || one.Bytes*500 > most.Bytes || most.Objects < benchSmall/10 {
			b.during(time.Second, "the next look")
			return fmt.Errorf("left are %d objects, %d bytes", one.Objects, one.Bytes)
		}
		return nil
	})
	return looks
}

// tellETA compares what was promised with what came true.
func tellETA(t *testing.T, looks []look) {
	began, end := looks[0].at, looks[len(looks)-1].at
	whole := end.Sub(began).Seconds()
	var most int64
	worst, worstOfRest, promised, silent := 0.0, 0.0, 0, 0
	for _, l := range looks {
		most = max(most, l.Bytes)
		gone, rest := l.at.Sub(began).Seconds(), end.Sub(l.at).Seconds()
		said := "nothing"
		if l.ETASeconds != nil {
			said = fmt.Sprintf("%.1f s", *l.ETASeconds)
		}
		t.Logf("after %5.1f s: %6d objects, %9d bytes left, %4d on handoffs; said %s, took %.1f s", gone, l.Objects, l.Bytes, l.Handoffs, said, rest)
		if gone < whole/5 || rest == 0 {
			continue
		}
		if l.ETASeconds == nil {
			silent++
			continue
		}
		promised++
		off := math.Abs(*l.ETASeconds - rest)
		worst = max(worst, off/whole)
		if rest > whole/5 {
			worstOfRest = max(worstOfRest, off/rest)
		}
	}
	t.Logf("rebalance: %.1f s, %d bytes left at most; from one fifth on %d ETAs, %d looks without; worst error %.0f%% of the whole, %.0f%% of the rest until the last fifth",
		whole, most, promised, silent, 100*worst, 100*worstOfRest)
}
