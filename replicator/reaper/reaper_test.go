package reaper

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// world is an account on d0, d1 and d2, whose containers and objects are on d3, d4 and d5.
type world struct {
	fleet   *nodetest.Fleet
	cluster *quorum.Cluster
	deleted timestamp.T

	mu         sync.Mutex
	heads      map[string]func() *backend.Response // of the account, by device; mu
	lists      map[string]map[string][]string      // what each device lists of each container; mu
	others     map[string][]string                 // what all list of each container in policy 5, in which it is not; mu
	broken     map[string]bool                     // containers that d5 does not answer about; mu
	objects    map[string][]string                 // stamps of deletes by object, one for each device; mu
	containers map[string]int                      // deletes that were taken, by container; mu
	forgotten  map[string]int                      // rows that the account was told are gone; mu
	largest    int                                 // the longest page that was asked for; mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	account := name.Path{Account: "a"}
	w := &world{
		fleet: nodetest.New(t, account), deleted: timestamp.FromTime(time.Now().Add(-time.Hour)), heads: map[string]func() *backend.Response{},
		lists: map[string]map[string][]string{}, others: map[string][]string{}, broken: map[string]bool{}, objects: map[string][]string{}, containers: map[string]int{}, forgotten: map[string]int{},
	}
	for i := range 3 {
		w.heads[fmt.Sprint("d", i)] = w.says(404, timestamp.T{}, w.deleted)
	}
	for i := range nodetest.Nodes {
		w.fleet.Script(fmt.Sprint("d", i), w.serve)
	}
	client := direct.New(direct.Config{})
	w.cluster = quorum.New(quorum.Config{}, quorum.Rings{
		Account: w.fleet.Ring, Container: w.fleet.Ring, Objects: map[policy.Index]*ring.Source{3: w.fleet.Ring, 5: w.fleet.Ring},
	}, w.fleet.Hasher, client)
	t.Cleanup(func() { w.cluster.Wait(); client.Close() })
	return w
}

// says is a replica of the account: 404 with a time is a deleted one, without a time none at all.
func (w *world) says(status int, put, gone timestamp.T) func() *backend.Response {
	return func() *backend.Response {
		r := nodetest.Status(status, "")
		if put != (timestamp.T{}) || gone != (timestamp.T{}) {
			r.Header.Add(backend.BackendPut, put.String())
			r.Header.Add(backend.BackendDelete, gone.String())
			if status == 404 {
				r.Header.Add("X-Account-Status", "Deleted")
			}
		}
		return r
	}
}

// fill has the devices list objects in a container, all of them the same.
func (w *world) fill(container string, objects int) {
	var names []string
	for i := range objects {
		names = append(names, fmt.Sprintf("o%05d", i))
	}
	w.lists[container] = map[string][]string{}
	for _, d := range []string{"d3", "d4", "d5"} {
		w.lists[container][d] = slices.Clone(names)
	}
}

func (w *world) serve(_ context.Context, r *backend.Request) (*backend.Response, error) {
	to, err := backend.ParseTarget(r.Path)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p, stamp := to.Path, r.Header.Get(backend.Timestamp)
	switch {
	case p.Container == "":
		return w.heads[to.Device](), nil
	case r.Method == "PUT": // the row of a container, to its account
		w.forgotten[p.Container]++
		return nodetest.Status(204, ""), nil
	case w.broken[p.Container] && to.Device == "d5":
		return nodetest.Status(500, ""), nil
	case p.Object != "":
		w.objects[p.Container+"/"+p.Object] = append(w.objects[p.Container+"/"+p.Object], stamp)
		if r.Header.Get(backend.PolicyIndex) == "5" {
			w.others[p.Container] = slices.DeleteFunc(w.others[p.Container], func(n string) bool { return n == p.Object })
			return nodetest.Status(204, stamp), nil
		}
		for d, names := range w.lists[p.Container] {
			w.lists[p.Container][d] = slices.DeleteFunc(names, func(n string) bool { return n == p.Object })
		}
		return nodetest.Status(204, stamp), nil
	case r.Method == "DELETE" && len(w.lists[p.Container][to.Device])+len(w.others[p.Container]) > 0:
		return nodetest.Status(409, ""), nil
	case r.Method == "DELETE":
		w.containers[p.Container]++
		return nodetest.Status(204, ""), nil
	}
	return w.list(to, r)
}

func (w *world) list(to backend.Target, r *backend.Request) (*backend.Response, error) {
	names, ok := w.lists[to.Path.Container][to.Device]
	switch {
	case !ok:
		return nodetest.Status(404, ""), nil
	case r.Method == "HEAD":
		return nodetest.Status(204, w.deleted.String()), nil
	}
	header := backend.Header{{Name: backend.PolicyIndex, Value: "3"}}
	if others := w.others[to.Path.Container]; len(others) > 0 {
		header.Add(backend.Elsewhere, "5")
	}
	if r.Header.Get(backend.PolicyIndex) == "5" {
		names = slices.Clone(w.others[to.Path.Container])
	}
	q, err := url.ParseQuery(r.Query)
	if err != nil {
		return nil, err
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || r.Header.Get(backend.AllowReserved) != "true" {
		return nil, errs.E(errs.Invalid, err)
	}
	w.largest = max(w.largest, limit)
	at, _ := slices.BinarySearch(names, q.Get("marker")+"\x00")
	body := []byte{'['}
	for i, n := range names[at:min(len(names), at+limit)] {
		if i > 0 {
			body = append(body, ',')
		}
		body = listing.AppendObject(body, &listing.Object{Name: n})
	}
	body = append(body, ']')
	return &backend.Response{
		Status: 200, Header: header, Length: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}, nil
}

// Deleted says that the account is deleted.
func (w *world) Deleted(context.Context) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) { yield(Account{"a", w.deleted}, nil) }
}

// Containers lists them.
func (w *world) Containers(_ context.Context, _, after string, limit int) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := slices.Sorted(maps.Keys(w.lists))
	at, _ := slices.BinarySearch(names, after+"\x00")
	return names[at:min(len(names), at+limit)], nil
}

// reaper returns the reaper of a device.
func (w *world) reaper(t *testing.T, device string, change func(*Config, *Deps)) *Reaper {
	t.Helper()
	cfg, deps := Defaults(), Deps{Store: w, Cluster: w.cluster, Own: func(d *ring.Device) bool { return d.Name == device }}
	cfg.PerSecond = 0
	if change != nil {
		change(&cfg, &deps)
	}
	r, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reapers returns one for each replica of the account.
func (w *world) reapers(t *testing.T) []*Reaper {
	t.Helper()
	var all []*Reaper
	for i := range 3 {
		all = append(all, w.reaper(t, fmt.Sprint("d", i), nil))
	}
	return all
}

// pass makes a pass, and returns when what it has sent is done.
func (w *world) pass(ctx context.Context, r *Reaper) error {
	err := r.Pass(ctx)
	w.cluster.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return err
}

// What is trusted: a majority, and nobody who knows of a later PUT.
func TestTrust(t *testing.T) {
	at := timestamp.FromTime(time.Now().Add(-time.Hour))
	before, after := at.Add(-time.Hour), at.Add(time.Minute)
	for what, tt := range map[string]struct {
		second, third func(*world) func() *backend.Response
		reaps, fails  bool
	}{
		"all say so":                       {gone(at), gone(at), true, false},
		"two say so, one knows nothing":    {gone(at), none, true, false},
		"two say so, one is broken":        {gone(at), broken, true, false},
		"two say so, one missed it":        {gone(at), lives(before, timestamp.T{}), true, false},
		"one says so, two know nothing":    {none, none, false, true},
		"one says so, two are broken":      {broken, broken, false, true},
		"one says so, two missed it":       {lives(before, timestamp.T{}), lives(before, timestamp.T{}), false, true},
		"two say so, one was made again":   {gone(at), lives(after, at), false, false},
		"one says so, one was made again":  {none, lives(after, at), false, false},
		"one says so, two were made again": {lives(after, timestamp.T{}), lives(after, timestamp.T{}), false, false},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.deleted = at
			for c := range 9 {
				w.fill(fmt.Sprint("c", c), 2)
			}
			w.heads["d0"], w.heads["d1"], w.heads["d2"] = gone(at)(w), tt.second(w), tt.third(w)
			var err error
			for _, r := range w.reapers(t) {
				err = w.pass(t.Context(), r)
				if (err != nil) != tt.fails {
					t.Errorf("a pass ends with %v", err)
				}
			}
			if n := len(w.objects); n != map[bool]int{true: 18}[tt.reaps] {
				t.Errorf("%d objects were deleted", n)
			}
			if n := len(w.containers); n != map[bool]int{true: 9}[tt.reaps] {
				t.Errorf("%d containers were deleted", n)
			}
		})
	}
}

func gone(at timestamp.T) func(*world) func() *backend.Response {
	return func(w *world) func() *backend.Response { return w.says(404, at.Add(-time.Hour), at) }
}

func lives(put, deleted timestamp.T) func(*world) func() *backend.Response {
	return func(w *world) func() *backend.Response { return w.says(204, put, deleted) }
}

func none(w *world) func() *backend.Response   { return w.says(404, timestamp.T{}, timestamp.T{}) }
func broken(w *world) func() *backend.Response { return w.says(500, timestamp.T{}, timestamp.T{}) }

// Each container has one device that reaps it.
func TestShares(t *testing.T) {
	w := newWorld(t)
	for c := range 20 {
		w.fill(fmt.Sprint("c", c), 1)
	}
	n := 0
	for _, r := range w.reapers(t) {
		if err := w.pass(t.Context(), r); err != nil {
			t.Error(err)
		}
		c := r.Counts()
		if c.Containers == 0 || c.Containers == 20 || c.Objects != c.Containers || c.Failed != 0 || c.Waiting != 0 {
			t.Errorf("one of three has the counts %+v", c)
		}
		n += int(c.Containers)
	}
	if n != 20 || len(w.containers) != 20 {
		t.Errorf("%d containers were reaped, %d of them different, want 20", n, len(w.containers))
	}
	for o, stamps := range w.objects {
		if len(stamps) != 3 || len(slices.Compact(stamps)) != 1 {
			t.Errorf("%s was deleted at %v, want one time on three devices", o, stamps)
		}
	}
	// As Swift shares them: the MD5 of the name, a number of 128 bits, modulo the replicas.
	for c, want := range map[string]int{"c0": 2, "c1": 1, "c2": 2, "\x00v\x00c": 0} {
		if got := shareOf(c, 3); got != want {
			t.Errorf("%q is of share %d, want %d", c, got, want)
		}
	}
}

// What a replica that is away would reap, another does.
func TestSharesOfOthers(t *testing.T) {
	w := newWorld(t)
	for c := range 20 {
		w.fill(fmt.Sprint("c", c), 1)
	}
	w.heads["d1"] = broken(w)
	n := 0
	for _, d := range []string{"d0", "d2"} {
		r := w.reaper(t, d, nil)
		if err := w.pass(t.Context(), r); err != nil {
			t.Error(err)
		}
		n += int(r.Counts().Containers)
	}
	if n != 20 || len(w.containers) != 20 {
		t.Errorf("%d containers were reaped, %d of them different, want 20", n, len(w.containers))
	}
}

// What is written after it was asked whether the account is deleted outdoes every delete.
func TestDeletesAreOfBefore(t *testing.T) {
	w := newWorld(t)
	w.fill("c0", 3)
	var asked timestamp.T
	was := w.heads["d0"]
	w.heads["d0"] = func() *backend.Response {
		asked = timestamp.Now()
		return was()
	}
	r := w.reaper(t, "d2", nil)
	r.trustFor = time.Hour
	if err := w.pass(t.Context(), r); err != nil {
		t.Error(err)
	}
	for o, stamps := range w.objects {
		if stamps[0] > asked.String() {
			t.Errorf("%s was deleted at %s, of which it was asked at %s", o, stamps[0], asked)
		}
	}
	if len(w.objects) != 3 {
		t.Errorf("deleted were %v", w.objects)
	}
}

// Names are read a page at a time.
func TestPages(t *testing.T) {
	w := newWorld(t)
	w.fill("c", 250)
	for i := range 30 {
		w.fill(fmt.Sprint("e", i), 0)
	}
	for _, r := range w.reapers(t) {
		r.page = 20
		if err := w.pass(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	if len(w.objects) != 250 || len(w.containers) != 31 || w.largest != 20 {
		t.Errorf("%d objects and %d containers were deleted, in pages of up to %d", len(w.objects), len(w.containers), w.largest)
	}
}

// million is an account of a million containers that another replica reaps.
type million struct {
	*world
	base, most uint64 // bytes of the heap: before, and at most while they are looked at
	names      int
}

func (m *million) Containers(_ context.Context, _, after string, limit int) (names []string, err error) {
	first := 0
	if after != "" {
		if first, err = strconv.Atoi(after[1:8]); err != nil {
			return nil, err
		}
	}
	for i := first + 1; i <= 1_000_000 && len(names) < limit; i++ {
		names = append(names, fmt.Sprintf("c%07d%s", i, strings.Repeat("x", 50)))
	}
	m.names += len(names)
	if m.names%100_000 == 0 {
		var now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&now)
		m.most = max(m.most, now.HeapAlloc)
		if m.base == 0 {
			m.base = now.HeapAlloc
		}
	}
	return names, nil
}

// What a pass needs does not grow with the account.
func TestMillionContainers(t *testing.T) {
	m := &million{world: newWorld(t)}
	r := m.reaper(t, "d0", func(_ *Config, d *Deps) { d.Store = m })
	a := &reaping{Reaper: r, name: "a", place: r.Cluster.Account("a"), agree: []bool{false, true, true}}
	if err := a.all(t.Context(), 0); err != nil {
		t.Error(err)
	}
	grown := int64(m.most) - int64(m.base)
	t.Logf("%d names, and the heap grows by %d bytes from the first 100,000 on", m.names, grown)
	if m.names != 1_000_000 || grown > 4<<20 {
		t.Errorf("%d names, and the heap grows by %d bytes", m.names, grown)
	}
}

// A page whose rows are longer than is read at once is read in smaller ones.
func TestLongRows(t *testing.T) {
	w := newWorld(t)
	w.fill("c", 250)
	for _, r := range w.reapers(t) {
		r.mostPage = 1000 // of rows of more than 100 bytes
		if err := w.pass(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	if len(w.objects) != 250 || w.containers["c"] != 3 {
		t.Errorf("%d objects were deleted, the container has %d deletes", len(w.objects), w.containers["c"])
	}
}

// A container that only a handoff has is not forgotten: it comes to a primary.
func TestOnAHandoff(t *testing.T) {
	w := newWorld(t)
	w.lists["c"] = map[string][]string{"d0": {"o"}}
	r := w.reaper(t, "d1", nil) // whose share it is
	if err := w.pass(t.Context(), r); err == nil || len(w.forgotten)+len(w.containers)+len(w.objects) > 0 || r.Counts().Waiting != 1 {
		t.Errorf("%v, it was forgotten: %v, deleted: %v", err, w.forgotten, w.containers)
	}
	w.lists["c"]["d4"] = []string{"o"}
	delete(w.lists["c"], "d0")
	if err := w.pass(t.Context(), r); err != nil || w.containers["c"] != 3 || len(w.objects["c/o"]) != 3 {
		t.Errorf("%v, deleted: %v, %v", err, w.containers, w.objects)
	}
}

// Objects that are listed under another policy than the container's are deleted there.
func TestObjectsOfOtherPolicies(t *testing.T) {
	w := newWorld(t)
	w.fill("c", 3)
	w.fill("e", 0)
	w.others["c"] = []string{"o00001", "x"} // one is in both
	w.others["e"] = []string{"y"}
	for _, r := range w.reapers(t) {
		r.page = 2
		if err := w.pass(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	if len(w.others["c"])+len(w.others["e"]) > 0 || w.containers["c"] != 3 || w.containers["e"] != 3 || len(w.objects) != 5 {
		t.Errorf("left are %q, the containers have %v deletes, objects %v", w.others, w.containers, w.objects)
	}
}

// An account that is made again while it is reaped keeps all that is written to it from then on.
func TestMadeAgainMeanwhile(t *testing.T) {
	w := newWorld(t)
	for i := range 30 {
		w.fill(fmt.Sprint("c", i), 10)
	}
	var again timestamp.T
	for i := range 3 {
		was := w.heads[fmt.Sprint("d", i)]
		w.heads[fmt.Sprint("d", i)] = func() *backend.Response { // it is called with mu held
			if len(w.objects) < 50 {
				return was()
			}
			if again.IsZero() {
				again = timestamp.Now()
			}
			return w.says(204, again, w.deleted)()
		}
	}
	for _, r := range w.reapers(t) {
		r.trustFor = 0 // it is asked before each delete
		if err := w.pass(t.Context(), r); err != nil && !errs.Is(err, errs.Conflict) {
			t.Error(err)
		}
	}
	if n := len(w.objects); n < 50 || n > 100 {
		t.Errorf("%d objects were deleted, want some more than 50", n)
	}
	for o, stamps := range w.objects {
		if stamps[0] >= again.String() {
			t.Errorf("%s was deleted at %s, and the account made again at %s", o, stamps[0], again)
		}
	}
}

// A container is deleted when each of its replicas lists nothing.
func TestReplicasThatDiffer(t *testing.T) {
	w := newWorld(t)
	w.fill("more", 1)
	w.lists["more"]["d4"] = []string{"missed", "o00000"} // by the others
	w.fill("away", 2)
	w.broken["away"] = true
	w.lists["nowhere"] = map[string][]string{}
	w.fill("partly", 0)
	delete(w.lists["partly"], "d3")
	failed := int64(0)
	for _, r := range w.reapers(t) {
		if err := w.pass(t.Context(), r); err != nil && !strings.Contains(err.Error(), "away") {
			t.Error(err)
		}
		failed += r.Counts().Failed
	}
	if w.containers["more"] != 3 || len(w.objects["more/missed"]) != 3 {
		t.Errorf("what one lists and the others don't: %v, %v", w.containers, w.objects)
	}
	if len(w.objects["away/o00001"]) != 3 || w.containers["away"] != 0 || failed == 0 {
		t.Errorf("a replica is away: its objects have %v, the container %d deletes, %d failures", w.objects, w.containers["away"], failed)
	}
	if w.forgotten["nowhere"] != 3 || w.containers["nowhere"] != 0 || len(w.forgotten) != 1 {
		t.Errorf("the account was told of %v, want of the container that is nowhere", w.forgotten)
	}
	if w.containers["partly"] != 3 {
		t.Errorf("a container that one device lacks has %d deletes", w.containers["partly"])
	}
	w.broken["away"] = false
	for _, r := range w.reapers(t) {
		if err := w.pass(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	if w.containers["away"] != 3 {
		t.Errorf("the next pass leaves %v", w.containers)
	}
}

// Nothing is touched before the delay is over, and what is there long after it is told of.
func TestDelay(t *testing.T) {
	for what, tt := range map[string]struct {
		delay, warn time.Duration
		reaps       bool
		overdue     int64
	}{
		"too early":      {time.Hour + time.Minute, time.Second, false, 0},
		"in time":        {time.Hour - time.Minute, time.Hour, true, 0},
		"late":           {time.Minute, time.Minute, true, 1},
		"not yet so bad": {time.Minute, time.Hour, true, 0},
	} {
		w := newWorld(t)
		w.fill("c0", 1)
		w.broken["c0"] = true
		var log bytes.Buffer
		r := w.reaper(t, "d2", func(c *Config, d *Deps) {
			c.Delay, c.WarnAfter, d.Log = tt.delay, tt.warn, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		})
		err := w.pass(t.Context(), r)
		if (len(w.objects) > 0) != tt.reaps || (err != nil) != tt.reaps {
			t.Errorf("%s: %d objects were deleted, %v", what, len(w.objects), err)
		}
		if c := r.Counts(); c.Overdue != tt.overdue || (c.Waiting == 1) != tt.reaps || strings.Contains(log.String(), "account=a ") != (tt.overdue > 0) {
			t.Errorf("%s: %+v, and the log has %q", what, c, log.String())
		}
	}
}

// A pass ends when it is told to.
func TestEnd(t *testing.T) {
	w := newWorld(t)
	for i := range 50 {
		w.fill(fmt.Sprint("c", i), 20)
	}
	ctx, cancel := context.WithCancel(t.Context())
	was := w.heads["d0"]
	w.heads["d0"] = func() *backend.Response {
		if len(w.objects) > 20 {
			cancel()
		}
		return was()
	}
	r := w.reaper(t, "d0", nil)
	r.trustFor = 0
	if err := w.pass(ctx, r); err != context.Canceled {
		t.Errorf("the pass ends with %v", err)
	}
	if n := len(w.objects); n > 200 {
		t.Errorf("%d objects were deleted by then", n)
	}
}

func TestNew(t *testing.T) {
	w := newWorld(t)
	good := Deps{Store: w, Cluster: w.cluster, Own: func(*ring.Device) bool { return true }}
	for what, change := range map[string]func(*Config, *Deps){
		"delay": func(c *Config, _ *Deps) { c.Delay = -1 }, "warning": func(c *Config, _ *Deps) { c.WarnAfter = 0 },
		"concurrency": func(c *Config, _ *Deps) { c.Concurrency = 0 }, "rate": func(c *Config, _ *Deps) { c.PerSecond = -1 },
		"store": func(_ *Config, d *Deps) { d.Store = nil }, "cluster": func(_ *Config, d *Deps) { d.Cluster = nil }, "own": func(_ *Config, d *Deps) { d.Own = nil },
	} {
		cfg, deps := Defaults(), good
		change(&cfg, &deps)
		if _, err := New(cfg, deps); !errs.Is(err, errs.Invalid) {
			t.Errorf("a bad %s: %v", what, err)
		}
	}
}
