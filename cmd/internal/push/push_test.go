package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/clusterkey"
	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/ringpush"
	"martlet/ring"
)

// fake is a process with a folder of rings, at some addresses.
type fake struct {
	kind   string
	folder string
	at     []string // host:port
	url    string
	stop   func()
	taken  []string
	before func(*backend.Request) error // of a PUT; nil for nothing
}

// fleet is a cluster of such.
type fleet struct {
	t    *testing.T
	keys *clusterkey.Source
	all  []*fake
}

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, keys: keysOf(t)}
	return f
}

func keysOf(t *testing.T) *clusterkey.Source {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, clusterkey.NewFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := clusterkey.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// listeners opens so many addresses of one process.
func listeners(t *testing.T, n int) (all []net.Listener) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// start starts a process at listeners, with the rings that are in its folder. Without keys it
// takes none.
func (f *fleet) start(p *fake, secure bool, at []net.Listener, keys *clusterkey.Source) {
	f.t.Helper()
	log := slog.New(slog.DiscardHandler)
	sources := map[string]*ring.Source{}
	paths, _ := filepath.Glob(filepath.Join(p.folder, "*.ring.gz")) // the pattern is right
	for _, path := range paths {
		s, err := ring.Open(path)
		if err != nil {
			f.t.Fatal(err)
		}
		sources[strings.TrimSuffix(filepath.Base(path), ".ring.gz")] = s
	}
	server := ringpush.New(ringpush.Config{
		Kind: p.kind, Version: "v1", Folder: p.folder,
		Rings: func(yield func(string, ringpush.Source) bool) {
			for name, s := range sources {
				if !yield(name, s) {
					return
				}
			}
		},
		Taken: func(_ context.Context, name string, version int64) {
			p.taken = append(p.taken, fmt.Sprint(name, " ", version))
		},
	})
	inner := backend.HandlerFunc(func(ctx context.Context, r *backend.Request) (*backend.Response, error) {
		if r.Method == "PUT" && p.before != nil {
			if err := p.before(r); err != nil {
				return nil, err
			}
		}
		return server.Serve(ctx, r)
	})
	handler := clusterkey.Without(inner)
	if keys != nil {
		handler = clusterkey.NewGuard(clusterkey.Config{
			Keys: keys, Skew: time.Minute, Log: log, Self: func(host string, port int) bool {
				return slices.Contains(p.at, net.JoinHostPort(host, strconv.Itoa(port)))
			},
			Fail: func(ctx context.Context, r *backend.Request, err error) *backend.Response {
				return httpapi.Failure(ctx, log, r, err)
			},
		}, inner)
	}
	h := httpapi.Observe(httpapi.Backend(handler, log), httpapi.Observed{Server: "test", Log: log})
	var servers []*httptest.Server
	for _, l := range at {
		s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
		if p.at = append(p.at, l.Addr().String()); secure {
			s.StartTLS()
		} else {
			s.Start()
		}
		servers = append(servers, s)
		p.url = s.URL
	}
	p.stop = func() {
		for _, s := range servers {
			s.CloseClientConnections()
			s.Close()
		}
	}
	f.t.Cleanup(p.stop)
	f.all = append(f.all, p)
}

// ringAt is a ring whose servers are at addresses.
func ringAt(t *testing.T, version int64, turn int, at ...string) *ring.Ring {
	t.Helper()
	d := ring.Data{PartPower: 2, Version: version}
	row := make([]uint32, 4)
	for i, text := range at {
		host, port, err := net.SplitHostPort(text)
		n, e := strconv.Atoi(port)
		if err != nil || e != nil {
			t.Fatal(err, e)
		}
		d.Devices = append(d.Devices, &ring.Device{ID: i, IP: host, Port: n, Name: "d", Weight: 1})
	}
	for p := range row {
		row[p] = uint32((p + turn) % len(at))
	}
	d.Rows = [][]uint32{row}
	r, err := ring.New(d)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func save(t *testing.T, folder, name string, r *ring.Ring) {
	t.Helper()
	if err := r.Save(filepath.Join(folder, name+".ring.gz")); err != nil {
		t.Fatal(err)
	}
}

// usual is three storage nodes, each with an address in the object ring and the container ring, and a
// plain proxy and one that speaks TLS. All have version 5 of both.
func usual(t *testing.T) (f *fleet, objects, containers []string) {
	t.Helper()
	f = newFleet(t)
	var at [][]net.Listener
	for range 3 {
		l := listeners(t, 2)
		at = append(at, l)
		objects, containers = append(objects, l[0].Addr().String()), append(containers, l[1].Addr().String())
	}
	first := t.TempDir() // a ring is dear to write under the race detector
	save(t, first, "object", ringAt(t, 5, 0, objects...))
	save(t, first, "container", ringAt(t, 5, 0, containers...))
	for i := range 5 {
		p := &fake{kind: ringpush.Storage, folder: t.TempDir()}
		if err := os.CopyFS(p.folder, os.DirFS(first)); err != nil {
			t.Fatal(err)
		}
		if i < 3 {
			f.start(p, false, at[i], f.keys)
			continue
		}
		p.kind = ringpush.Proxy
		f.start(p, i == 4, listeners(t, 1), f.keys)
	}
	return f, objects, containers
}

// push hands out rings.
func (f *fleet) push(change func(*Options), rings map[string]*ring.Ring) *Result {
	f.t.Helper()
	r, err := Run(f.t.Context(), f.options(change, rings))
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fleet) options(change func(*Options), rings map[string]*ring.Ring) Options {
	f.t.Helper()
	dir := f.t.TempDir()
	for name, r := range rings {
		save(f.t, dir, name, r)
	}
	o := Options{Keys: f.keys, Concurrency: 2, Timeout: time.Minute}
	if len(rings) > 0 {
		var err error
		if o.Rings, err = Load([]string{dir}); err != nil {
			f.t.Fatal(err)
		}
	}
	for _, p := range f.all {
		if p.kind == ringpush.Proxy {
			o.Proxies = append(o.Proxies, p.url)
		}
	}
	if change != nil {
		change(&o)
	}
	return o
}

// states is what has come of a ring, in the order of the fleet.
func (f *fleet) states(r *Result, name string) (all []string) {
	f.t.Helper()
	for _, p := range f.all {
		i := slices.IndexFunc(r.Processes, func(o *Process) bool {
			return slices.ContainsFunc(o.Addresses, func(a string) bool { return slices.Contains(p.at, a) || a == p.url })
		})
		if i < 0 {
			all = append(all, "?")
			continue
		}
		if r.Processes[i].Error != "" {
			all = append(all, "!")
			continue
		}
		for _, s := range r.Processes[i].Rings {
			if s.Name == name {
				all = append(all, s.State)
			}
		}
	}
	return all
}

func (f *fleet) want(what string, r *Result, name string, want ...string) {
	f.t.Helper()
	if got := f.states(r, name); !slices.Equal(got, want) {
		f.t.Errorf("%s: the %s ring is %q, want %q", what, name, got, want)
	}
}

// Everybody gets what he lacks, once; one process at several addresses is one; a node that is new in
// the ring is found by it, and one that is not in it any more by those who run the old one.
func TestPush(t *testing.T) {
	f, objects, containers := usual(t)
	fresh := &fake{kind: ringpush.Storage, folder: t.TempDir()}
	l := listeners(t, 1)
	save(t, fresh.folder, "object", ringAt(t, 1, 0, l[0].Addr().String()))
	save(t, fresh.folder, "container", ringAt(t, 5, 0, containers...))
	f.start(fresh, false, l, f.keys)
	f.all[0].before = func(*backend.Request) error {
		if len(f.all[3].taken) > 0 || len(f.all[4].taken) > 0 {
			t.Error("a proxy has it before a storage node")
		}
		return nil
	}
	next := map[string]*ring.Ring{
		"object":    ringAt(t, 6, 1, objects[0], objects[1], fresh.at[0]), // without the third
		"container": ringAt(t, 5, 0, containers...),
	}
	r := f.push(func(o *Options) { o.DryRun = true }, next)
	f.want("a dry run", r, "object", Behind, Behind, Behind, Behind, Behind, Behind)
	r = f.push(nil, next)
	f.want("the first time", r, "object", Sent, Sent, Sent, Sent, Sent, Sent)
	f.want("the first time", r, "container", Has, Has, Has, Has, Has, Has)
	if len(r.Processes) != 6 || r.Stopped || len(r.Conflicts) > 0 || slices.ContainsFunc(r.Processes, func(p *Process) bool { return !p.Good() }) {
		t.Errorf("%d processes, %+v", len(r.Processes), r)
	}
	for i, p := range f.all {
		if !slices.Equal(p.taken, []string{"object 6"}) {
			t.Errorf("process %d has taken %v", i, p.taken)
		}
	}
	f.want("the second time", f.push(nil, next), "object", Has, Has, Has, Has, Has, Has)
	// Who has let go of the third node knows it no more, but for its containers.
	r = f.push(func(o *Options) { o.Others = []*ring.Ring{ringAt(t, 6, 0, objects[0])} }, nil)
	f.want("a look", r, "object", Seen, Seen, Seen, Seen, Seen, Seen)
}

// What is in the way of some is said, and of others not.
func TestInTheWay(t *testing.T) {
	for what, tt := range map[string]struct {
		harm     func(f *fleet, objects, containers []string)
		change   func(*Options)
		version  int64
		turn     int
		want     []string
		conflict string
		stopped  bool
		error    string
	}{
		"an older ring": {
			version: 4, turn: 1, want: []string{Newer, Newer, Newer, Newer, Newer}, conflict: "which is newer than version 4",
		},
		"another of the same version": {
			version: 5, turn: 1, want: []string{Other, Other, Other, Other, Other}, conflict: "which is not what",
		},
		"one has a newer one": {
			harm: func(f *fleet, objects, _ []string) {
				for _, p := range f.all[1:] {
					p.before = func(*backend.Request) error { return errs.Refuse(errs.Unavailable, "not now") }
				}
				f.push(nil, map[string]*ring.Ring{"object": ringAt(t, 7, 2, objects...)})
			},
			version: 6, turn: 1, want: []string{Newer, Held, Held, Held, Held}, conflict: "runs version 7 of the object ring",
		},
		"a node is down": {
			harm:    func(f *fleet, _, _ []string) { f.all[1].stop() },
			version: 6, turn: 1, want: []string{Sent, "!", Sent, Held, Held}, stopped: true, error: "refused",
		},
		"a node is down, in a dry run": {
			harm:    func(f *fleet, _, _ []string) { f.all[1].stop() },
			change:  func(o *Options) { o.DryRun = true },
			version: 6, turn: 1, want: []string{Behind, "!", Behind, Held, Held}, stopped: true, error: "refused",
		},
		"a node is down, in a dry run of what goes on": {
			harm:    func(f *fleet, _, _ []string) { f.all[1].stop() },
			change:  func(o *Options) { o.DryRun, o.GoOn = true, true },
			version: 6, turn: 1, want: []string{Behind, "!", Behind, Behind, Behind}, error: "refused",
		},
		"a node is down, and nothing is to be sent": {
			harm:    func(f *fleet, _, _ []string) { f.all[1].stop() },
			change:  func(o *Options) { o.DryRun, o.Looking = true, true },
			version: 6, turn: 1, want: []string{Behind, "!", Behind, Behind, Behind}, error: "refused",
		},
		"a node is down, and it does not matter": {
			harm:    func(f *fleet, _, _ []string) { f.all[1].stop() },
			change:  func(o *Options) { o.GoOn = true },
			version: 6, turn: 1, want: []string{Sent, "!", Sent, Sent, Sent}, error: "refused",
		},
		"a proxy is down": {
			harm:    func(f *fleet, _, _ []string) { f.all[4].stop() },
			version: 6, turn: 1, want: []string{Sent, Sent, Sent, Sent, "!"}, error: "refused",
		},
		"a node refuses": {
			harm: func(f *fleet, _, _ []string) {
				f.all[1].before = func(*backend.Request) error { return fmt.Errorf("the disk is broken") }
			},
			change:  func(o *Options) { o.GoOn = true },
			version: 6, turn: 1, want: []string{Sent, Failed, Sent, Held, Held}, stopped: true, error: "500",
		},
		"a node breaks off": {
			harm: func(f *fleet, _, _ []string) {
				f.all[1].before = func(r *backend.Request) error {
					_, _ = io.CopyN(io.Discard, r.Body, 10)
					f.all[1].before = nil
					panic(http.ErrAbortHandler)
				}
			},
			version: 6, turn: 1, want: []string{Sent, Failed, Sent, Held, Held}, stopped: true,
		},
	} {
		t.Run(what, func(t *testing.T) {
			f, objects, containers := usual(t)
			if tt.harm != nil {
				tt.harm(f, objects, containers)
			}
			r := f.push(tt.change, map[string]*ring.Ring{"object": ringAt(t, tt.version, tt.turn, objects...)})
			f.want(what, r, "object", tt.want...)
			if r.Stopped != tt.stopped || (len(r.Conflicts) > 0) != (tt.conflict != "") || tt.conflict != "" && !strings.Contains(r.Conflicts[0], tt.conflict) {
				t.Errorf("stopped %v, conflicts %q; want %v and %q", r.Stopped, r.Conflicts, tt.stopped, tt.conflict)
			}
			var errors []string
			for _, p := range r.Processes {
				errors = append(errors, p.Error)
				for _, s := range p.Rings {
					errors = append(errors, s.Error)
				}
			}
			if text := strings.Join(errors, "\n"); !strings.Contains(text, tt.error) {
				t.Errorf("errors %q, want %q", text, tt.error)
			}
		})
	}
}

// A node that is in no new ring and can't be reached is named, and stops nothing.
func TestLeaves(t *testing.T) {
	f, objects, containers := usual(t)
	f.all[2].stop()
	next := map[string]*ring.Ring{"object": ringAt(t, 6, 1, objects[:2]...), "container": ringAt(t, 6, 1, containers[:2]...)}
	r := f.push(nil, next)
	f.want("the first time", r, "object", Sent, Sent, "!", Sent, Sent)
	for _, p := range r.Processes {
		if p.Leaves != (p.Error != "") {
			t.Errorf("%s leaves: %v; %s", p.Name, p.Leaves, p.Error)
		}
	}
	f.want("when nobody knows it", f.push(nil, next), "object", Has, Has, "?", Has, Has)
}

// Who has no key is not believed, and takes nothing of who has none, or another.
func TestKeys(t *testing.T) {
	f, objects, _ := usual(t)
	for i, keys := range []*clusterkey.Source{nil, keysOf(t)} {
		p := &fake{kind: ringpush.Proxy, folder: t.TempDir()}
		save(t, p.folder, "object", ringAt(t, 5, 0, objects...))
		f.start(p, i == 1, listeners(t, 1), keys)
	}
	r := f.push(nil, map[string]*ring.Ring{"object": ringAt(t, 6, 1, objects...)})
	f.want("keys", r, "object", Sent, Sent, Sent, Sent, Sent, "!", "!")
	for _, p := range r.Processes {
		if p.Error != "" && !strings.Contains(p.Error, "an answer is not believed") {
			t.Errorf("%s: %s", p.Name, p.Error)
		}
	}
}

// An address behind which there is now this process, now that one, gets nothing; and one
// that is named twice is told of.
func TestBalancer(t *testing.T) {
	f, objects, _ := usual(t)
	var turn atomic.Int64
	through := &http.Transport{DisableCompression: true} // which would add a field that nobody has signed
	defer through.CloseIdleConnections()
	balancer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := f.all[3]
		if turn.Add(1) > 1 {
			to = f.all[0] // as if it were a second proxy
		}
		r2 := r.Clone(r.Context())
		r2.RequestURI = ""
		r2.URL.Scheme, r2.URL.Host = "http", to.at[0]
		resp, err := through.RoundTrip(r2)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	defer balancer.Close()
	at := strings.TrimPrefix(balancer.URL, "http://")
	f.all[3].at, f.all[0].at = append(f.all[3].at, at), append(f.all[0].at, at)
	r := f.push(func(o *Options) { o.Proxies = []string{balancer.URL} }, map[string]*ring.Ring{"object": ringAt(t, 6, 1, objects...)})
	var said string
	for _, p := range r.Processes {
		for _, s := range p.Rings {
			said += s.Error
		}
	}
	if !strings.Contains(said, "another process") || len(f.all[3].taken) > 0 {
		t.Errorf("a balancer: %q, taken was %v", said, f.all[3].taken)
	}
	f.all[3].at = append(f.all[3].at, strings.Replace(f.all[3].at[0], "127.0.0.1", "localhost", 1))
	r = f.push(func(o *Options) {
		o.Proxies = append(o.Proxies, strings.Replace(f.all[3].url, "127.0.0.1", "localhost", 1))
	}, nil)
	if len(r.Twice) != 1 {
		t.Errorf("named twice: %v", r.Twice)
	}
}

// A process that has a ring in use, and no file of it that the next start would find, is told of, and sent the ring again.
func TestFilesAreMadeGood(t *testing.T) {
	f, objects, _ := usual(t)
	file := func(i int) string { return filepath.Join(f.all[i].folder, "object.ring.gz") }
	was, err := os.ReadFile(file(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(file(0)), os.WriteFile(file(3), []byte("no ring"), 0o600)); err != nil {
		t.Fatal(err)
	}
	said := func(r *Result) (all int) {
		for _, p := range r.Processes {
			for _, s := range p.Rings {
				if s.File != "" {
					all++
				}
			}
		}
		return all
	}
	if r := f.push(nil, nil); said(r) != 2 {
		t.Errorf("a look: it is said of %d files", said(r))
	}
	same := map[string]*ring.Ring{"object": ringAt(t, 5, 0, objects...)}
	f.want("a push of what is in use", f.push(nil, same), "object", Sent, Has, Has, Sent, Has)
	for _, i := range []int{0, 3} {
		if now, err := os.ReadFile(file(i)); err != nil || string(now) != string(was) {
			t.Errorf("process %d has %d bytes, %v", i, len(now), err)
		}
	}
	if r := f.push(nil, same); said(r) != 0 {
		t.Errorf("afterwards: it is said of %d files", said(r))
	}
}

// Who interrupts it is told what was done, and nothing is sent afterwards; before all were asked there is nothing to tell.
func TestInterrupted(t *testing.T) {
	f, objects, _ := usual(t)
	next := map[string]*ring.Ring{"object": ringAt(t, 6, 1, objects...)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for _, p := range f.all {
		p.before = func(*backend.Request) error {
			stop()
			return errs.Refuse(errs.Unavailable, "not now")
		}
	}
	r, err := Run(ctx, f.options(func(o *Options) { o.Concurrency = 1 }, next))
	if err != nil {
		t.Fatal(err)
	}
	states := f.states(r, "object")
	slices.Sort(states)
	if want := []string{Failed, Held, Held, Held, Held}; !slices.Equal(states, want) || !r.Interrupted || r.Stopped {
		t.Errorf("%q, interrupted %v, stopped %v; want %q", states, r.Interrupted, r.Stopped, want)
	}
	ctx, stop = context.WithCancel(t.Context())
	defer stop()
	r, err = Run(ctx, f.options(func(o *Options) { o.Told = func(string, ...any) { stop() } }, next))
	if !errors.Is(err, context.Canceled) || r != nil {
		t.Errorf("while it asks: %+v, %v", r, err)
	}
}

// A process that says nothing is given up after a while, and holds up no other.
func TestHangs(t *testing.T) {
	f, objects, _ := usual(t)
	l := listeners(t, 1)[0]
	t.Cleanup(func() { _ = l.Close() })
	r := f.push(func(o *Options) { o.Timeout = 300 * time.Millisecond; o.GoOn = true; o.Concurrency = 8 }, map[string]*ring.Ring{
		"object": ringAt(t, 6, 1, append(slices.Clone(objects), l.Addr().String())...),
	})
	i := slices.IndexFunc(r.Processes, func(p *Process) bool { return slices.Contains(p.Addresses, l.Addr().String()) })
	if i < 0 || r.Processes[i].Error == "" {
		t.Errorf("who says nothing: %+v", r.Processes)
	}
}

func TestLoad(t *testing.T) {
	dir, empty := t.TempDir(), t.TempDir()
	good := ringAt(t, 1, 0, "10.0.0.1:6200")
	for _, name := range []string{"account", "object", "object-12", "objects", "object-0", "object-x", "sub"} {
		save(t, dir, name, good)
	}
	if err := os.WriteFile(filepath.Join(dir, "container.ring.gz"), []byte("no ring"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name+".ring.gz") }
	for what, tt := range map[string]struct {
		paths []string
		names string
		err   string
	}{
		"two":          {[]string{file("object"), file("account")}, "account object", ""},
		"of a policy":  {[]string{file("object-12")}, "object-12", ""},
		"no name":      {[]string{file("objects")}, "", "says what it is the ring of"},
		"policy 0":     {[]string{file("object-0")}, "", "says what it is the ring of"},
		"no policy":    {[]string{file("object-x")}, "", "says what it is the ring of"},
		"damaged":      {[]string{file("account"), file("container")}, "", "damaged ring file"},
		"twice":        {[]string{file("account"), file("account")}, "", "both the account ring"},
		"gone":         {[]string{filepath.Join(empty, "object.ring.gz")}, "", "no such file"},
		"an empty one": {[]string{empty}, "", "there is no ring in it"},
		"a folder":     {[]string{dir}, "", ""},
	} {
		all, err := Load(tt.paths)
		var names []string
		for _, r := range all {
			names = append(names, r.Name)
		}
		if what == "a folder" {
			if err == nil {
				t.Error("a folder with what is no ring is taken")
			}
			continue
		}
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) || err == nil && strings.Join(names, " ") != tt.names {
			t.Errorf("%s: %v, %v; want %q, %q", what, names, err, tt.names, tt.err)
		}
	}
}

func TestProxyURL(t *testing.T) {
	for text, want := range map[string]string{
		"http://10.0.0.1:8080":  "10.0.0.1:8080",
		"http://10.0.0.1":       "10.0.0.1:80",
		"https://p.example.com": "p.example.com:443",
		"https://[::1]:8443/":   "[::1]:8443",
		"10.0.0.1:8080":         "", "ftp://a": "", "http://": "", "http://a/b": "", "http://u@a": "", "http://a?b": "", "": "",
	} {
		a, err := proxyAt(text)
		if a.at != want || (err == nil) != (want != "") || a.tls != (err == nil && strings.HasPrefix(text, "https")) {
			t.Errorf("%q: %+v, %v, want %q", text, a, err, want)
		}
	}
}

// A proxy that has its rings where a storage node has them gets them with that node, and so not after all nodes: that is said.
func TestSharedFolders(t *testing.T) {
	f, _, _ := usual(t)
	if r := f.push(nil, nil); len(r.Shared) > 0 {
		t.Errorf("nobody shares a folder, and it says %+v", r.Shared)
	}
	p := &fake{kind: ringpush.Proxy, folder: f.all[1].folder}
	f.start(p, false, listeners(t, 1), f.keys)
	r := f.push(func(o *Options) { o.DryRun = true }, nil)
	if len(r.Shared) != 1 || r.Shared[0].Proxy != p.url || !slices.Contains(f.all[1].at, r.Shared[0].Node) && r.Shared[0].Node != "127.0.0.1" {
		t.Errorf("%s shares a folder with %v, and it says %+v", p.url, f.all[1].at, r.Shared)
	}
}
