package containersync

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/timestamp"
)

// Each replica brings its share, each object comes once, and then all replicas know that it is there.
func TestShares(t *testing.T) {
	w := newWorld(t)
	const objects = 600 // more than two pages
	for i := range objects {
		w.write(fmt.Sprint("o", i), i+1, fmt.Sprint("data ", i))
	}
	nodes := []*Syncer{w.syncer(0, 3), w.syncer(1, 3), w.syncer(2, 3)}
	for i, s := range nodes {
		if !w.pass(s) {
			t.Errorf("pass of %d fails", i)
		}
		if c := s.Counts(); c.Puts < objects/6 || c.Puts > objects/2 {
			t.Errorf("replica %d brings %d of %d", i, c.Puts, objects)
		}
		if p := w.points[fmt.Sprint("d", i)]; p != (Points{0, objects}) {
			t.Errorf("replica %d is at %v", i, p)
		}
	}
	if n := w.there.count("PUT"); n != objects {
		t.Errorf("%d PUTs for %d objects", n, objects)
	}
	for range 2 {
		for i, s := range nodes {
			if !w.pass(s) {
				t.Errorf("pass of %d fails", i)
			}
			if p := w.points[fmt.Sprint("d", i)]; p != (Points{objects, objects}) {
				t.Errorf("replica %d is at %v", i, p)
			}
		}
	}
	if puts, heads := w.there.count("PUT"), w.there.count("HEAD"); puts != objects || heads != objects+3*objects {
		t.Errorf("%d PUTs and %d HEADs, want %d and %d", puts, heads, objects, 4*objects)
	}
	for i := range objects {
		if got := w.has(fmt.Sprint("o", i)); got != fmt.Sprint("data ", i) {
			t.Errorf("o%d is %q", i, got)
		}
	}
}

// What others should have brought who are not there, one brings with its second pass.
func TestAReplicaIsAlone(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		w.write(fmt.Sprint("o", i), i+1, "x")
	}
	s := w.syncer(1, 3)
	if !w.pass(s) {
		t.Error("a pass fails")
	}
	w.write("o3", 50, "y") // while the rows before it are still gone through by all
	w.write("o4", 51, "")
	for range 2 {
		if !w.pass(s) {
			t.Error("a pass fails")
		}
	}
	for i := range 20 {
		if got, want := w.has(fmt.Sprint("o", i)), map[int]string{3: "y", 4: ""}; got != want[i] && !(got == "x" && i != 3 && i != 4) {
			t.Errorf("o%d is %q", i, got)
		}
	}
	if p := w.points["d1"]; p != (Points{22, 22}) {
		t.Errorf("it is at %v", p)
	}
}

// A row that can't be brought holds up nothing else, and comes when it can.
func TestOneThatFails(t *testing.T) {
	for what, fault := range map[string]func(w *world) (mend func()){
		"the other cluster refuses it": func(w *world) func() {
			w.there.refuse["PUT /v1/AUTH_b/c/o2"] = 500
			return func() { delete(w.there.refuse, "PUT /v1/AUTH_b/c/o2") }
		},
		"it may not": func(w *world) func() {
			w.there.refuse["HEAD /v1/AUTH_b/c/o2"] = 401
			return func() { delete(w.there.refuse, "HEAD /v1/AUTH_b/c/o2") }
		},
		"the other cluster breaks off": func(w *world) func() {
			w.there.refuse["PUT /v1/AUTH_b/c/o2"] = breakOff
			return func() { delete(w.there.refuse, "PUT /v1/AUTH_b/c/o2") }
		},
		"it can't be sent": func(w *world) func() {
			o := w.objects["o2"]
			bad := o
			bad.Header = append(slices.Clone(o.Header), backend.Field{Name: "X-Object-Meta-\xe2", Value: "y"})
			w.objects["o2"] = bad
			return func() { w.objects["o2"] = o }
		},
		"it is not found": func(w *world) func() {
			o := w.objects["o2"]
			w.objects["o2"] = Object{Status: 404}
			return func() { w.objects["o2"] = o }
		},
		"an older one is found": func(w *world) func() {
			o := w.objects["o2"]
			w.objects["o2"] = Object{Status: 200, Header: backend.Header{{Name: backend.BackendStamp, Value: stamp(1).String()}}, Length: o.Length}
			return func() { w.objects["o2"] = o }
		},
	} {
		w := newWorld(t)
		for i := range 5 {
			w.write(fmt.Sprint("o", i), i+1, "x")
		}
		mend := fault(w)
		s := w.syncer(0, 1)
		if w.pass(s) || w.points["d0"] != (Points{0, 5}) {
			t.Errorf("%s: the points are %v", what, w.points["d0"])
		}
		w.write("new", 9, "y")
		if w.pass(s) || w.points["d0"] != (Points{2, 6}) {
			t.Errorf("%s: the points are %v then", what, w.points["d0"])
		}
		if w.has("o4") != "x" || w.has("new") != "y" || w.has("o2") != "" {
			t.Errorf("%s: it has %q", what, w.there.data)
		}
		mend()
		if !w.pass(s) || w.points["d0"] != (Points{6, 6}) || w.has("o2") != "x" {
			t.Errorf("%s: mended, the points are %v, and it has %q", what, w.points["d0"], w.has("o2"))
		}
	}
}

// The points of a replica say nothing of one that takes its place, be that while rows are brought.
func TestAReplicaComesAnew(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.write(fmt.Sprint("o", i), i+1, "x")
	}
	w.read = func() {
		w.read = nil
		for i := range w.rows { // it has lost them, and is told of them in another order
			w.rows[i].Number = uint64(len(w.rows) - i)
		}
		slices.Reverse(w.rows)
		w.write("new", 9, "y")
		w.rows[0], w.rows[5] = w.rows[5], w.rows[0]
		w.rows[0].Number, w.rows[5].Number = 1, 6
		w.state.Incarnation = [16]byte{1}
	}
	s := w.syncer(0, 1)
	for range 3 {
		w.pass(s)
	}
	if w.has("new") != "y" || w.has("o4") != "x" || w.points["d0"] != (Points{6, 6}) {
		t.Errorf("it is at %v, and the other has %q", w.points["d0"], w.there.data)
	}
}

// Where bandwidth is waited for no object is open meanwhile: storage nodes give up who does not read.
func TestWaitingHoldsNothingOpen(t *testing.T) {
	w := newWorld(t)
	const objects = 40
	for i := range objects {
		w.write(fmt.Sprint("o", i), i+1, "data")
	}
	var events []string // Wait and Open are called by one row at a time
	w.opened = func() { events = append(events, "open") }
	s := w.syncer(0, 1)
	s.Wait = func(_ context.Context, bytes int64) error {
		events = append(events, fmt.Sprint("wait for ", bytes))
		return nil
	}
	if !w.pass(s) || w.there.count("PUT") != objects {
		t.Errorf("%d objects came", w.there.count("PUT"))
	}
	if len(events) != 3*objects {
		t.Fatalf("there were %d events: %q", len(events), events)
	}
	for i := range objects {
		if got := events[3*i : 3*i+3]; !slices.Equal(got, []string{"wait for 0", "open", "wait for 4"}) {
			t.Errorf("for object %d it was %q", i, got)
		}
	}
	s.Wait = func(context.Context, int64) error { return errors.New("the end") }
	w.write("o", objects+1, "x")
	if w.pass(s) || w.has("o") != "" {
		t.Errorf("with no bandwidth %q came", w.has("o"))
	}
}

// Time ends a pass whatever is left, and what fails each time keeps no others from their turn.
func TestThereIsNoTimeForAll(t *testing.T) {
	w := newWorld(t)
	const rows = 200
	for i := range rows {
		w.write(fmt.Sprintf("o%03d", i), i+1, "x")
	}
	for _, i := range []int{0, 1, 100} {
		w.there.refuse[fmt.Sprintf("PUT /v1/AUTH_b/c/o%03d", i)] = 413
	}
	s := w.syncer(1, 3)                                                                               // the others are never there
	s.Now = func() time.Time { return w.now.Add(time.Duration(w.there.served.Load()) * time.Second) } // each request takes one
	s.cfg.ContainerTime = 40 * time.Second
	at := int64(0)
	for range 40 {
		w.pass(s)
		if took := w.there.served.Load() - at; took > 40+2*int64(s.cfg.Rows) {
			t.Fatalf("a pass took %d s", took)
		}
		at = w.there.served.Load()
	}
	for i := range rows {
		if got := w.has(fmt.Sprintf("o%03d", i)); (got == "x") == (i < 2 || i == 100) {
			t.Errorf("o%03d is %q", i, got)
		}
	}
	if p := w.points["d1"]; p != (Points{0, rows}) {
		t.Errorf("it is at %v", p)
	}
	clear(w.there.refuse)
	for range 40 {
		w.pass(s)
	}
	if p := w.points["d1"]; p != (Points{rows, rows}) || w.has("o000") != "x" || len(s.rest.at) != 0 {
		t.Errorf("mended, it is at %v, goes on at %v, and has %q", p, s.rest.at, w.has("o000"))
	}
}

// Where the other cluster does not answer nothing is lost, and it is left alone for longer each time.
func TestTheOtherIsDown(t *testing.T) {
	w := newWorld(t)
	for i := range 300 {
		w.write(fmt.Sprint("o", i), i+1, "x")
	}
	w.there.server.Close()
	s := w.syncer(0, 3)
	tries := 0
	for range 100 {
		if !w.pass(s) {
			tries++
		}
		w.now = w.now.Add(5 * time.Second)
	}
	if tries < 4 || tries > 8 {
		t.Errorf("it was tried %d times in 500 s", tries)
	}
	if c := s.Counts(); c.Failed > int64(tries*(Defaults().Rows+2)) {
		t.Errorf("%d rows were tried in %d passes", c.Failed, tries)
	}
	if p := w.points["d0"]; p.All != 0 {
		t.Errorf("it is at %v", p)
	}
	w.there.server = newOther(t).server
	w.there = w.there.server.Config.Handler.(*other) //nolint:forcetypeassert // made above
	w.book = newBook(t, w.there.server.URL)
	again := w.syncer(0, 3) // as after a restart
	for range 2 {
		if !w.pass(again) {
			t.Error("a pass fails")
		}
	}
	if n := w.there.count("PUT"); n != 300 {
		t.Errorf("%d are there, want 300", n)
	}
}

// One that is silent ends the pass, and what was sent counts as not brought.
func TestTheOtherIsSilent(t *testing.T) {
	w := newWorld(t)
	w.write("o", 1, "x")
	w.there.hang = make(chan struct{})
	s := w.syncer(0, 1)
	s.cfg.Timeout = 20 * time.Millisecond
	if w.pass(s) || w.points["d0"].All != 0 {
		t.Errorf("the points are %v", w.points["d0"])
	}
	close(w.there.hang)
	w.now = w.now.Add(time.Minute)
	s.cfg.Timeout = time.Minute
	if !w.pass(s) || w.has("o") != "x" {
		t.Errorf("it has %q", w.has("o"))
	}
}

// What an object is made of, and what stays here.
func TestWhatIsBrought(t *testing.T) {
	w := newWorld(t)
	w.write("ä/b", 5, "data", backend.ContentType, "a/b;swift_bytes=9;charset=x", backend.ETag, "e", "X-Object-Meta-A", "1", "Content-Encoding", "gzip",
		"X-Delete-At", "1600000000", "X-Static-Large-Object", "True", "X-Object-Sysmeta-Slo-Etag", "s", "X-Object-Sysmeta-Symlink-Target", "c/o",
		"X-Object-Sysmeta-Symlink-Target-Etag", "t", "X-Object-Sysmeta-Symlink-Target-Bytes", "7", "X-Backend-Durable-Timestamp", "x", "Last-Modified", "y")
	if !w.pass(w.syncer(0, 1)) {
		t.Fatal("the pass fails")
	}
	got := w.there.kept["/v1/AUTH_b/c/%C3%A4/b"]
	for n, want := range map[string]string{
		"Content-Type": "a/b;charset=x", "Etag": "e", "X-Object-Meta-A": "1", "Content-Encoding": "gzip", "X-Delete-At": "1600000000", "X-Static-Large-Object": "True",
		"X-Symlink-Target": "c/o", "X-Symlink-Target-Etag": "t", "X-Symlink-Target-Bytes": "7", "X-Timestamp": stamp(5).String(), "Content-Length": "4",
		"X-Object-Sysmeta-Slo-Etag": "", "X-Backend-Durable-Timestamp": "", "Last-Modified": "",
	} {
		if got.Get(n) != want {
			t.Errorf("%s is %q, want %q", n, got.Get(n), want)
		}
	}
}

// What need not be brought counts as brought.
func TestNothingToBring(t *testing.T) {
	for what, change := range map[string]func(w *world){
		"deleted since": func(w *world) {
			w.objects["o"] = Object{Status: 404, Header: backend.Header{{Name: backend.BackendStamp, Value: stamp(9).String()}}}
		},
		"at its end":       func(w *world) { w.write("o", 2, "x", "X-Delete-At", strconv.FormatInt(w.now.Unix(), 10)) },
		"another policy":   func(w *world) { w.rows[0].Policy = 3 },
		"a delete of none": func(w *world) { w.write("o", 2, "") },
		"a newer there": func(w *world) {
			w.there.stamps["/v1/AUTH_b/c/o"], w.there.kept["/v1/AUTH_b/c/o"] = stamp(50).String(), http.Header{}
		},
		"a delete, a newer there": func(w *world) {
			w.there.stamps["/v1/AUTH_b/c/o"], w.there.kept["/v1/AUTH_b/c/o"] = stamp(50).String(), http.Header{}
			w.write("o", 2, "")
		},
	} {
		w := newWorld(t)
		w.write("o", 1, "x")
		change(w)
		s := w.syncer(0, 1)
		if last := w.rows[len(w.rows)-1].Number; !w.pass(s) || w.points["d0"] != (Points{last, last}) || w.there.count("PUT") != 0 {
			t.Errorf("%s: the points are %v after %d PUTs", what, w.points["d0"], w.there.count("PUT"))
		}
	}
}

// An object that came to its end is gone there too, and what takes its place on the same day is not.
func TestAnEndIsNoLaterThanWhatComesNext(t *testing.T) {
	w := newWorld(t)
	s := w.syncer(0, 1)
	w.write("o", 1, "old")
	if !w.pass(s) {
		t.Fatal("a pass fails")
	}
	w.write("o", 1, "")
	w.rows[len(w.rows)-1].Data = timestamp.Expiry(stamp(1), stamp(1), stamp(3).Seconds())
	if !w.pass(s) || w.has("o") != "" || w.there.count("DELETE") != 1 {
		t.Errorf("at its end it has %q after %v", w.has("o"), w.there.asked)
	}
	w.write("o", 4, "new")
	if !w.pass(s) || w.has("o") != "new" {
		t.Errorf("written anew, it has %q", w.has("o"))
	}
	w.write("p", 10, "of a longer life")
	if !w.pass(s) {
		t.Fatal("a pass fails")
	}
	w.write("p", 10, "")
	w.rows[len(w.rows)-1].Data = timestamp.Expiry(stamp(5), stamp(9), stamp(3).Seconds()) // not known of that life
	if !w.pass(s) || w.has("p") != "of a longer life" {
		t.Errorf("an end that is void leaves %q", w.has("p"))
	}
}

// Containers that are not synced, or can't be.
func TestContainersThatAreNotSynced(t *testing.T) {
	for what, tt := range map[string]struct {
		change  func(w *world)
		ok      bool
		forgets bool
		skipped int64
	}{
		"nowhere to":      {func(w *world) { w.state.To = "" }, true, true, 0},
		"no key":          {func(w *world) { w.state.Key = "" }, true, true, 0},
		"with versions":   {func(w *world) { w.state.Versioned = true }, true, false, 1},
		"a realm is gone": {func(w *world) { w.state.To = "//gone/x/a/c" }, false, false, 0},
	} {
		w := newWorld(t)
		w.write("o", 1, "x")
		tt.change(w)
		s := w.syncer(0, 1)
		if ok := w.pass(s); ok != tt.ok || (w.forgot > 0) != tt.forgets || s.Counts().Skipped != tt.skipped || len(w.there.asked) > 0 {
			t.Errorf("%s: well %v, forgotten %d times, skipped %d, asked %v", what, ok, w.forgot, s.Counts().Skipped, w.there.asked)
		}
	}
}

func TestProxies(t *testing.T) {
	for text, ok := range map[string]bool{"http://h:80": true, "https://h": true, "h:80": false, "": false, "ftp://h": false, "http://": false, "%": false} {
		if err := CheckProxy(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	w := newWorld(t)
	w.write("o", 1, "x")
	s := w.syncer(0, 1)
	var err error
	if s.Remote, err = NewRemote(w.hasher, time.Second, []string{w.there.server.URL}); err != nil {
		t.Fatal(err)
	}
	defer s.Remote.Close()
	w.book = newBook(t, "http://not.there.invalid")
	s.Book = w.book
	if !w.pass(s) || w.has("o") != "x" {
		t.Errorf("through a proxy: it has %q, asked %v", w.has("o"), w.there.asked)
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	good := w.syncer(0, 1).Deps
	for _, change := range []func(*Config, *Deps){
		func(c *Config, _ *Deps) { c.Rows = 0 }, func(c *Config, _ *Deps) { c.Timeout = -1 }, func(_ *Config, d *Deps) { d.Source = nil }, func(_ *Config, d *Deps) { d.Book = nil },
	} {
		cfg, deps := Defaults(), good
		change(&cfg, &deps)
		if _, err := New(cfg, deps); err == nil || !strings.Contains(err.Error(), "containersync.new") {
			t.Errorf("%v", err)
		}
	}
}
