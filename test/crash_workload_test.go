package test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// state is what an object may be: all that a client sees of it. The zero state
// is none.
type state struct {
	etag string // MD5 of the body that the seed says; "" where there is no object
	size int64
	meta string // X-Object-Meta-Seed, another one for each write
	kind string // Content-Type
}

func (s state) String() string {
	if s.etag == "" {
		return "nothing"
	}
	return fmt.Sprintf("{%d bytes, MD5 %s, seed %s, %s}", s.size, s.etag, s.meta, s.kind)
}

// content is the body of a seed.
func content(seed string, size int64) []byte {
	h := fnv.New64a()
	_, _ = io.WriteString(h, seed) // never fails
	var key [32]byte
	copy(key[:], h.Sum(nil))
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// object is one name, and the history of it that its only writer knows.
type object struct {
	container, name string

	// may is what it may be now: the last state that was acknowledged, and those
	// of the writes since then of which nobody knows whether they were done.
	may []state

	acked  bool // whether any write was acknowledged
	posted bool // whether the last that was acknowledged was a POST
	frozen bool // a write may still be on its way: no more of them

	versions []keptVersion   // those that were acknowledged, the latest keepVersions
	bodies   map[string]bool // the MD5 of everything that was ever sent

	// older is what POSTs to the same data have replaced. One POST is acknowledged
	// by those replicas that had missed the data as well, and may have brought only
	// a part of what is seen: until replication joins the replicas, one with the
	// newest data may show what it had before.
	older []state
}

// keptVersion is a version of an object that has been acknowledged.
type keptVersion struct{ id, etag string }

// keepVersions is how many versions of an object are looked at.
const keepVersions = 8

func (o *object) path() string { return "/" + o.container + "/" + o.name }

// sure reports that it is known what the object is, and that it is one.
func (o *object) sure() bool { return !o.frozen && len(o.may) == 1 && o.may[0].etag != "" }

// is reports whether a state that was seen is one the object may be in.
func (o *object) is(seen state) bool {
	return slices.ContainsFunc(o.may, func(s state) bool {
		was := func(same func(state) bool) bool {
			return slices.ContainsFunc(o.older, func(old state) bool { return old.etag == s.etag && same(old) })
		}
		return seen.etag == s.etag && seen.size == s.size &&
			(seen.meta == s.meta || was(func(old state) bool { return old.meta == seen.meta })) &&
			(seen.kind == s.kind || was(func(old state) bool { return old.kind == seen.kind }))
	})
}

// wrote notes a write after which the object is s: acknowledged, or not known.
func (o *object) wrote(s state, acked bool) {
	if s.etag != "" {
		o.bodies[s.etag] = true
	}
	switch {
	case acked:
		o.may, o.acked, o.posted, o.older = []state{s}, true, false, nil
	case !slices.Contains(o.may, s):
		o.may = append(o.may, s)
	}
}

// client writes to names of its own, one request after the other.
type client struct {
	w       *workload
	id      int
	chance  *rand.Rand
	objects []*object
	made    []string // the latest containers that it has made, at most keepMade
	seeds   int
}

// workload is clients that write, and what they know of it.
type workload struct {
	url, token string
	versioned  string // the container with versions, if there is one
	coded      string // the container of policy 1, whose objects are in fragments, if there is one
	clients    []*client
	http       *http.Client

	acks, unknown, requests atomic.Int64 // writes, writes that nobody knows of, all

	left atomic.Int64 // acknowledgements until trigger is called
	fire atomic.Pointer[func()]

	mu     sync.Mutex
	broken error         // the first promise that did not hold
	failed chan struct{} // closed with it
}

const (
	crashClients  = 8
	crashObjects  = 8 // of each client
	crashPatience = 20 * time.Second
	keepMade      = 16
)

// crashContainers are few, so that clients meet in them.
var crashContainers = []string{"crash1", "crash2"}

func newWorkload(url, token string, seed uint64) *workload {
	w := &workload{url: url + "/v1/AUTH_test", token: token, failed: make(chan struct{}), http: &http.Client{
		Timeout:   crashPatience,
		Transport: &http.Transport{MaxIdleConnsPerHost: crashClients},
	}}
	for id := range crashClients {
		c := &client{w: w, id: id, chance: rand.New(rand.NewPCG(seed, uint64(id)))}
		for n := range crashObjects {
			c.objects = append(c.objects, &object{
				container: crashContainers[n%len(crashContainers)], name: fmt.Sprintf("n%d/c%d", n, id),
				may: []state{{}}, bodies: map[string]bool{},
			})
		}
		w.clients = append(w.clients, c)
	}
	return w
}

func (w *workload) objects() []*object {
	var all []*object
	for _, c := range w.clients {
		all = append(all, c.objects...)
	}
	return all
}

// fail notes a promise that did not hold.
func (w *workload) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken == nil {
		w.broken = fmt.Errorf(format, args...)
		close(w.failed)
	}
}

func (w *workload) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

// run lets the first clients write until stop is called, which waits for them.
func (w *workload) run(ctx context.Context, clients int) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, c := range w.clients[:clients] {
		all.Go(func() {
			for ctx.Err() == nil && w.failure() == nil {
				select {
				case <-done:
					return
				default:
				}
				if c.step(ctx) {
					continue
				}
				select { // a cluster that is down is not to be asked as fast as it can refuse
				case <-done:
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	return sync.OnceFunc(func() { close(done); all.Wait() })
}

// after calls fire on the n-th acknowledgement from now, on the goroutine of the
// client that got it and before it does anything else, and waits until it has.
func (w *workload) after(ctx context.Context, n int, fire func()) error {
	fired := make(chan struct{})
	call := func() { fire(); close(fired) }
	w.fire.Store(&call)
	w.left.Store(int64(n))
	select {
	case <-fired:
		return nil
	case <-w.failed:
		return w.failure()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(crashPatience + 10*time.Second):
		return fmt.Errorf("%d of %d writes were not acknowledged in time", w.left.Load(), n)
	}
}

// acked counts a write that was acknowledged.
func (w *workload) acked() {
	w.acks.Add(1)
	if w.left.Add(-1) == 0 {
		(*w.fire.Load())()
	}
}

// answered is what became of a request.
type answered struct {
	status int // 0: no answer
	header http.Header
	body   []byte
	whole  bool // the body was read to its end
	late   bool // there was no answer in time: it may be under way still
}

func (a answered) String() string {
	if a.status == 0 {
		return "no answer"
	}
	return strconv.Itoa(a.status)
}

// send sends a request; headers come in pairs. Of an answer that breaks off
// there is what came.
func (w *workload) send(ctx context.Context, method, url string, body io.Reader, headers ...string) answered {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		w.fail("%s %s: %w", method, url, err)
		return answered{}
	}
	r.Header.Set("X-Auth-Token", w.token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w.requests.Add(1)
	resp, err := w.http.Do(r)
	if err != nil {
		var silent net.Error
		return answered{late: errors.As(err, &silent) && silent.Timeout()}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answered{status: resp.StatusCode, header: resp.Header, body: b, whole: err == nil}
}

// sizes are around what the parts of the way an object takes have for limits:
// bodies sent in one piece, blocks with a checksum, chunks, buffers.
var sizes = []int64{
	0, 1, 500, 4096, 4096, 4096, 4096, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 300 << 10, 524_289, 1<<20 + 1, 3 << 20,
}

// step does one thing to one object and reports whether the cluster answered.
func (c *client) step(ctx context.Context) bool {
	o := c.objects[c.chance.IntN(len(c.objects))]
	if o.frozen {
		return false
	}
	c.seeds++
	seed := fmt.Sprintf("%d-%d", c.id, c.seeds)
	switch n := c.chance.IntN(100); {
	case n < 2:
		return c.make(ctx, "made-"+seed)
	case n < 15:
		return c.remove(ctx, o)
	case n < 30 && o.sure():
		return c.post(ctx, o, seed)
	case n < 40:
		if from := c.objects[c.chance.IntN(len(c.objects))]; from.sure() {
			return c.copy(ctx, from, o, seed)
		}
	case n < 50:
		return c.read(ctx, o)
	}
	return c.put(ctx, o, seed)
}

// note keeps what a write that makes s of the object was answered with.
func (c *client) note(o *object, what string, s state, a answered, acked bool) bool {
	o.wrote(s, acked)
	if !acked {
		c.w.unknown.Add(1)
		o.frozen = o.frozen || a.late
		return a.status != 0
	}
	if id := a.header.Get("X-Object-Version-Id"); strings.HasPrefix(what, "PUT") && o.container == c.w.versioned {
		if id == "" {
			c.w.fail("%s %s: no version", what, o.path())
		}
		o.versions = append(o.versions, keptVersion{id, s.etag})
		o.versions = o.versions[max(0, len(o.versions)-keepVersions):]
	}
	if etag := a.header.Get("Etag"); strings.HasPrefix(what, "PUT") && etag != s.etag {
		c.w.fail("%s %s: Etag %q, want %q", what, o.path(), etag, s.etag)
	}
	c.w.acked()
	return true
}

func (c *client) put(ctx context.Context, o *object, seed string) bool {
	size := sizes[c.chance.IntN(len(sizes))]
	b := content(seed, size)
	m := md5.Sum(b)
	s := state{hex.EncodeToString(m[:]), size, seed, "text/x-" + seed}
	var body io.Reader = strings.NewReader(string(b))
	if c.chance.IntN(5) == 0 {
		body = io.MultiReader(body) // of unknown length
	}
	a := c.w.send(ctx, "PUT", c.w.url+o.path(), body, "X-Object-Meta-Seed", seed, "Content-Type", s.kind)
	return c.note(o, "PUT", s, a, a.status == http.StatusCreated)
}

func (c *client) remove(ctx context.Context, o *object) bool {
	a := c.w.send(ctx, "DELETE", c.w.url+o.path(), nil)
	// A majority that knows of nothing may say 404 of what a minority has.
	gone := a.status == http.StatusNoContent || a.status == http.StatusNotFound && len(o.may) == 1 && o.may[0].etag == ""
	return c.note(o, "DELETE", state{}, a, gone)
}

// make makes a container of a name that nobody has had.
func (c *client) make(ctx context.Context, name string) bool {
	a := c.w.send(ctx, "PUT", c.w.url+"/"+name, nil)
	if a.status != http.StatusCreated {
		c.w.unknown.Add(1)
		return a.status != 0
	}
	c.made = append(c.made, name)
	c.made = c.made[max(0, len(c.made)-keepMade):]
	c.w.acked()
	return true
}

// post is only for objects of which everything is known: it is said of the newest
// data there is, whichever that is.
func (c *client) post(ctx context.Context, o *object, seed string) bool {
	s, older := o.may[0], append(o.older, o.may[0])
	s.meta = seed
	headers := []string{"X-Object-Meta-Seed", seed}
	if c.chance.IntN(2) == 0 {
		s.kind = "text/x-" + seed
		headers = append(headers, "Content-Type", s.kind)
	}
	a := c.w.send(ctx, "POST", c.w.url+o.path(), nil, headers...)
	ok := c.note(o, "POST", s, a, a.status == http.StatusAccepted)
	o.older = older
	o.posted = a.status == http.StatusAccepted || o.posted
	return ok
}

func (c *client) copy(ctx context.Context, from, to *object, seed string) bool {
	s := from.may[0]
	// While a node is away the newest that the others have may be older than what
	// was acknowledged: only the state that is known may be copied.
	match := `"` + s.etag + `"`
	s.meta, s.kind = seed, "text/x-"+seed
	a := c.w.send(ctx, "PUT", c.w.url+to.path(), nil,
		"X-Copy-From", from.path(), "If-Match", match, "X-Object-Meta-Seed", seed, "Content-Type", s.kind)
	return c.note(to, "PUT with X-Copy-From "+from.path()+" to", s, a, a.status == http.StatusCreated)
}

// read wants what comes to be something that was once sent, whole. Which of
// it is for later to say, when everything is up.
func (c *client) read(ctx context.Context, o *object) bool {
	a := c.w.send(ctx, "GET", c.w.url+o.path(), nil)
	if a.status != http.StatusOK || !a.whole {
		return a.status != 0
	}
	m := md5.Sum(a.body)
	if etag := hex.EncodeToString(m[:]); etag != a.header.Get("Etag") || !o.bodies[etag] {
		c.w.fail("GET %s: %d bytes with MD5 %s under the Etag %s: %v was ever sent", o.path(), len(a.body), etag, a.header.Get("Etag"), o.bodies[etag])
	}
	return true
}
