package containersync

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/realms"
	"martlet/internal/timestamp"
)

// world is a cluster with one container that is synced, of which all replicas have the same rows.
type world struct {
	t       *testing.T
	there   *other
	hasher  name.Hasher
	book    *realms.Book
	now     time.Time
	state   State
	rows    []Row
	objects map[string]Object // by name; body by bodies
	bodies  map[string]string
	forgot  int
	points  map[string]Points   // by device
	targets map[string][16]byte // that points are of, by device
	opened  func()              // before an object is opened, if it is not nil
	read    func()              // after rows were read, if it is not nil
}

// other is the other cluster: it keeps what comes last by its time.
type other struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex
	stamps map[string]string // by path; guarded by mu
	kept   map[string]http.Header
	data   map[string]string
	refuse map[string]int // status by "METHOD path"
	asked  []string       // "METHOD path"
	hang   chan struct{}  // closed: it answers
	served atomic.Int64   // requests
}

// breakOff as a status is no answer at all.
const breakOff = -1

func newOther(t *testing.T) *other {
	o := &other{t: t, stamps: map[string]string{}, kept: map[string]http.Header{}, data: map[string]string{}, refuse: map[string]int{}}
	o.server = httptest.NewServer(o)
	t.Cleanup(o.server.Close)
	return o
}

func (o *other) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if o.hang != nil {
		select {
		case <-o.hang:
		case <-r.Context().Done():
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	o.served.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	path, stamp := r.URL.EscapedPath(), r.Header.Get("X-Timestamp")
	o.asked = append(o.asked, r.Method+" "+path)
	parts := strings.Fields(r.Header.Get("X-Container-Sync-Auth"))
	if len(parts) != 3 || parts[0] != "US" || parts[2] != realms.Sign(r.Method, path, stamp, parts[1], "realm key", "user key") {
		o.t.Errorf("%s %s is signed with %q", r.Method, path, parts)
	}
	if code := o.refuse[r.Method+" "+path]; code == breakOff {
		panic(http.ErrAbortHandler)
	} else if code != 0 {
		w.WriteHeader(code)
		return
	}
	if err != nil {
		return // it broke off
	}
	was := o.stamps[path]
	switch r.Method {
	case http.MethodHead:
		if o.kept[path] == nil {
			w.WriteHeader(404)
			return
		}
		w.Header().Set("X-Timestamp", was)
		return
	case http.MethodPut:
		if stamp > was {
			o.stamps[path], o.kept[path], o.data[path] = stamp, r.Header.Clone(), string(body)
		}
		w.WriteHeader(201)
	case http.MethodDelete:
		switch {
		case stamp <= was:
			w.WriteHeader(409)
			return
		case o.kept[path] == nil:
			w.WriteHeader(404)
		default:
			w.WriteHeader(204)
		}
		o.stamps[path] = stamp
		delete(o.kept, path)
		delete(o.data, path)
	}
}

// count says how many requests of a method there were.
func (o *other) count(method string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.asked {
		if strings.HasPrefix(a, method+" ") {
			n++
		}
	}
	return n
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, there: newOther(t), now: time.Unix(1500000000, 0), objects: map[string]Object{}, bodies: map[string]string{}, points: map[string]Points{}, targets: map[string][16]byte{},
		state: State{To: "//us/there/AUTH_b/c", Key: "user key"},
	}
	var err error
	if w.hasher, err = name.NewHasher("", "salt"); err != nil {
		t.Fatal(err)
	}
	w.book = newBook(t, w.there.server.URL)
	return w
}

func newBook(t *testing.T, url string) *realms.Book {
	t.Helper()
	b, err := realms.New(realms.Config{Realms: map[string]realms.Realm{"us": {Key: "realm key", Clusters: map[string]string{"there": url + "/v1"}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func stamp(n int) timestamp.T { return timestamp.FromTicks(1400000000_00000 + int64(n)) }

// write has an object changed at a time: "" is a delete.
func (w *world) write(object string, at int, data string, header ...string) {
	row := Row{Number: uint64(len(w.rows)) + 1, Name: object, Data: stamp(at), Newest: stamp(at), Deleted: data == ""}
	if len(w.rows) > 0 {
		row.Number = w.rows[len(w.rows)-1].Number + 1
	}
	for i, r := range w.rows {
		if r.Name == object {
			w.rows = append(w.rows[:i], w.rows[i+1:]...)
			break
		}
	}
	w.rows = append(w.rows, row)
	h := backend.Header{{Name: backend.BackendStamp, Value: stamp(at).String()}, {Name: backend.ContentType, Value: "a/b"}}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	w.bodies[object] = data
	w.objects[object] = Object{Status: http.StatusOK, Header: h, Length: int64(len(data))}
	if data == "" {
		w.objects[object] = Object{Status: http.StatusNotFound, Header: h}
	}
}

// node is the node of one of three replicas, each with a device of its own.
type node struct {
	*world
	mine, of int
}

func (n node) Containers(context.Context) []Container {
	return []Container{{Path: name.Path{Account: "a", Container: "c"}, Device: fmt.Sprint("d", n.mine), Mine: n.mine, Of: n.of}}
}

func (n node) State(context.Context, Container) (State, error) { return n.state, nil }
func (n node) Forget(Container)                                { n.forgot++ }

func (n node) Changes(_ context.Context, _ Container, since uint64, limit int) (list []Row, _ error) {
	for _, r := range n.rows {
		if r.Number > since && len(list) < limit {
			list = append(list, r)
		}
	}
	if n.read != nil {
		n.read()
	}
	return list, nil
}

func (n node) Points(_ context.Context, c Container, target [16]byte) (Points, error) {
	if n.targets[c.Device] != target {
		return Points{}, nil
	}
	return n.points[c.Device], nil
}

func (n node) SetPoints(_ context.Context, c Container, target [16]byte, p Points) error {
	if n.targets[c.Device] != target {
		n.targets[c.Device], n.points[c.Device] = target, Points{}
	}
	if old := n.points[c.Device]; p.All < old.All || p.Next < old.Next || p.All > p.Next {
		n.t.Errorf("points go from %v to %v", old, p)
	}
	n.points[c.Device] = p
	return nil
}

func (w *world) Open(_ context.Context, _ policy.Index, p name.Path) (Object, error) {
	if w.opened != nil {
		w.opened()
	}
	o, ok := w.objects[p.Object]
	if !ok {
		return Object{}, errs.E(errs.Unavailable)
	}
	if o.Status == http.StatusOK {
		o.Body = io.NopCloser(strings.NewReader(w.bodies[p.Object]))
	}
	return o, nil
}

// syncer is that of one of so many replicas.
func (w *world) syncer(mine, of int) *Syncer {
	w.t.Helper()
	remote, err := NewRemote(w.hasher, time.Second, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(remote.Close)
	s, err := New(Defaults(), Deps{
		Source: node{w, mine, of}, Objects: w, Book: w.book, Remote: remote, Now: func() time.Time { return w.now },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// pass makes a pass, and says whether all went well.
func (w *world) pass(s *Syncer) bool {
	w.t.Helper()
	return s.Pass(w.t.Context()) == nil
}

// has says what the other cluster has of an object.
func (w *world) has(object string) string {
	w.there.mu.Lock()
	defer w.there.mu.Unlock()
	return w.there.data["/v1/AUTH_b/c/"+name.Quote(object)]
}
