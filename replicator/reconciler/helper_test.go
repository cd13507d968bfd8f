package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// Of the containers of a world: where objects belong, and where they are.
const (
	right policy.Index = 1
	wrong policy.Index = 4
)

var (
	container = name.Path{Account: "a", Container: "c"}
	now       = time.Unix(1_700_000_000, 0)
)

// at is n seconds before now, which is before 1000.
func at(n int64) timestamp.T { return timestamp.FromTime(now.Add(time.Duration(n-1000) * time.Second)) }

func moved(t timestamp.T) timestamp.T {
	to, ok := t.Moved()
	if !ok {
		panic(t.String() + " can't be moved")
	}
	return to
}

func left(t timestamp.T) timestamp.T { return t.Left(now.Unix()) }

// object is what one place has of a name.
type object struct {
	live             bool
	data, kind, meta timestamp.T // kind and meta are zero where they are data's
	body             string
	fields           string // "name: value" in lines
	typed            string // the content type
}

func (o object) times() timestamp.Packed {
	return timestamp.Packed{Data: o.data, ContentType: timestamp.Max(o.data, o.kind), Meta: timestamp.Max(o.data, o.meta)}
}

func (o object) String() string {
	if o.data.IsZero() {
		return "nothing"
	}
	if !o.live {
		return "deleted " + o.data.String()
	}
	t := o.times()
	return fmt.Sprintf("%q of %s, %s of %s, %q of %s", o.body, t.Data, o.typed, t.ContentType, o.fields, t.Meta)
}

type key struct {
	policy policy.Index
	name   string
}

// world is objects in the places of policies, each as all replicas have it, and one container.
type world struct {
	t       testing.TB
	own     policy.Index // the container's
	says    map[name.Path]any
	place   int
	settled int
	silent  []int // replicas that can't be asked

	mu        sync.Mutex
	objects   map[key]object // guarded by mu
	rows      map[key]Row    // guarded by mu
	lag       bool           // listings hear of nothing but Unlist; guarded by mu
	calls     []string       // guarded by mu
	paths     []string       // of what was looked for; guarded by mu
	failAt    int            // the call that fails, from 1; 0 for none; guarded by mu
	failed    bool           // guarded by mu
	scattered bool           // of data that is moved too little is left, until it is stored again; guarded by mu
	done      bool           // it fails when it has been done; guarded by mu
	before    func(call string)
}

func newWorld(t testing.TB) *world {
	return &world{t: t, own: right, says: map[name.Path]any{container: right}, objects: map[key]object{}, rows: map[key]Row{}}
}

func (w *world) reconciler(change ...func(*Config)) *Reconciler {
	w.t.Helper()
	cfg := Defaults()
	cfg.Delay, cfg.PerSecond = 0, 0
	for _, c := range change {
		c(&cfg)
	}
	r, err := New(cfg, Deps{Source: w, Containers: w, Objects: w, Now: func() time.Time { return now }})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// call notes a call that has an effect, and runs it, unless it is to fail.
func (w *world) call(what string, do func()) error {
	if w.before != nil {
		w.before(what)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, what)
	if len(w.calls) != w.failAt {
		do()
		return nil
	}
	if w.failed = true; w.done {
		do()
	}
	return errs.E(errs.Unavailable, errors.New("it is to fail"))
}

// put is a write of a client, or of the reconciler.
func (w *world) put(p policy.Index, o string, with object) {
	k := key{p, o}
	was := w.objects[k]
	if (timestamp.Packed{Data: with.data, Meta: was.meta}).CompareData(was.times()) <= 0 {
		return
	}
	if was.meta.After(with.data.Until()) && was.meta.After(with.meta) {
		with.meta, with.fields = was.meta, was.fields
	}
	w.objects[k] = with
	w.tell(k)
}

// tell tells the listing.
func (w *world) tell(k key) {
	if o := w.objects[k]; !w.lag {
		w.row(k, Row{Deleted: !o.live, Times: o.times()})
	}
}

func (w *world) row(k key, r Row) {
	r.Policy, r.Name = k.policy, k.name
	if was, ok := w.rows[k]; ok && r.Times.CompareData(was.Times) < 0 {
		return
	}
	w.rows[k] = r
}

// post is a POST.
func (w *world) post(p policy.Index, o string, c Change) {
	k := key{p, o}
	is := w.objects[k]
	if !is.live || !is.times().Newest().Before(c.Stamp) {
		return
	}
	is.meta, is.fields = c.Stamp, c.Header.Get("X-Object-Meta-F")
	if c.ContentType != "" {
		is.kind, is.typed = c.Stamp, c.ContentType
	}
	w.objects[k] = is
	w.tell(k)
}

func (w *world) Containers(context.Context) []Container {
	return []Container{{Path: container, Device: "d", Place: w.place}}
}

func (w *world) Rows(_ context.Context, _ Container, after policy.Index, afterName string, limit int) (Page, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := Page{Policy: w.own}
	for _, k := range slices.SortedFunc(maps.Keys(w.rows), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.policy, b.policy), cmp.Compare(a.name, b.name))
	}) {
		if k.policy == w.own || k.policy < after || k.policy == after && k.name <= afterName {
			continue
		}
		if p.Rows = append(p.Rows, w.rows[k]); len(p.Rows) == limit {
			break
		}
	}
	return p, nil
}

func (w *world) Settled(Container) { w.settled++ }

func (w *world) Policy(_ context.Context, p name.Path) (policy.Index, []int, error) {
	switch says := w.says[p].(type) {
	case policy.Index:
		return says, w.silent, nil
	case error:
		return 0, w.silent, says
	}
	return 0, nil, errs.E(errs.NotFound)
}

func (w *world) Unlist(_ context.Context, p policy.Index, path name.Path, stamp timestamp.T) error {
	return w.call("unlist", func() {
		w.row(key{p, path.Object}, Row{Deleted: true, Times: timestamp.Packed{Data: stamp, ContentType: stamp, Meta: stamp}})
	})
}

func (w *world) state(p policy.Index, path name.Path) State {
	o := w.objects[key{p, path.Object}]
	s := State{Live: o.live, Times: o.times(), Kept: o.data}
	if o.live {
		s.Header = backend.Header{{Name: backend.ContentType, Value: o.typed}, {Name: "X-Object-Meta-F", Value: o.fields}}
		if n, v, ok := strings.Cut(o.fields, "="); ok {
			s.Header.Add(n, v)
		}
	}
	return s
}

func (w *world) Look(_ context.Context, p policy.Index, path name.Path) (s State, err error) {
	err = w.call("look "+p.String(), func() { s = w.state(p, path); w.paths = append(w.paths, path.Object) })
	return s, err
}

// Stands says no once where data is scattered.
func (w *world) Stands(_ context.Context, p policy.Index, _ name.Path, s *State) (is bool, err error) {
	if !s.Live || p != w.own {
		w.t.Errorf("asked whether %+v of policy %d stands", s, p)
	}
	err = w.call("stands", func() { is, w.scattered = !w.scattered, false })
	return is, err
}

func (w *world) Open(_ context.Context, p policy.Index, path name.Path) (o Object, err error) {
	err = w.call("open", func() {
		o.State = w.state(p, path)
		body := w.objects[key{p, path.Object}].body
		o.Length, o.Body = int64(len(body)), io.NopCloser(strings.NewReader(body))
	})
	if err == nil && !o.Live {
		err = errs.E(errs.NotFound)
	}
	return o, err
}

func (w *world) Put(_ context.Context, p policy.Index, path name.Path, o Object, stamp timestamp.T) error {
	b, err := io.ReadAll(o.Body)
	if err != nil {
		return err
	}
	return w.call("put", func() {
		w.put(p, path.Object, object{live: true, data: stamp, body: string(b), fields: o.Header.Get("X-Object-Meta-F"), typed: o.Header.Get(backend.ContentType)})
	})
}

func (w *world) Post(_ context.Context, p policy.Index, path name.Path, c Change) error {
	return w.call("post", func() { w.post(p, path.Object, c) })
}

func (w *world) Delete(_ context.Context, p policy.Index, path name.Path, stamp timestamp.T) error {
	return w.call("delete "+p.String(), func() { w.put(p, path.Object, object{data: stamp}) })
}

// written is an object as a client writes it.
func written(n int64) object {
	return object{live: true, data: at(n), body: "body " + strconv.FormatInt(n, 10), typed: "a/b", fields: "f"}
}

// posted is one with a POST of fields, and of a content type if there is one.
func (o object) posted(n int64, fields, typed string) object {
	o.meta, o.fields = at(n), fields
	if typed != "" {
		o.kind, o.typed = at(n), typed
	}
	return o
}

// as is the same object with another time of its data.
func (o object) as(t timestamp.T) object {
	o.data = t
	return o
}

func gone(t timestamp.T) object { return object{data: t} }
