package ringpush

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/ring"
	"martlet/ring/whole"
)

// What is newer and right is in use and in its place when the answer comes, and so it is when it
// comes a second time.
func TestTakes(t *testing.T) {
	for what, next := range map[string]shape{
		"newer":                 {of: "object", version: 6, turn: 1},
		"much newer":            {of: "object", version: 500, turn: 3},
		"the same but newer":    {of: "object", version: 6},
		"a higher part power":   {of: "object", version: 6, power: 4},
		"another replica count": {of: "object", version: 6, replicas: 3},
	} {
		w := newWorld(t)
		file := next.file(t)
		for n, changed := range []bool{true, false} {
			got, err := w.put(t, "object", file)
			if err != nil || got.Running != Of(next.ring(t)) || got.Changed != changed || got.Process != w.server.process {
				t.Errorf("%s, time %d: %+v, %v", what, n, got, err)
			}
		}
		if there(t, w.disk, "object") != string(file) || Of(w.of["object"].now) != Of(next.ring(t)) {
			t.Errorf("%s: it is not in use, or not in its place", what)
		}
		if want := []string{"object " + map[bool]string{true: "500", false: "6"}[next.version == 500]}; !slices.Equal(w.taken, want) {
			t.Errorf("%s: told was %v, want %v", what, w.taken, want)
		}
		if names := left(t, w.disk); len(names) != len(ports) {
			t.Errorf("%s: left are %v", what, names)
		}
	}
}

// Whatever is wrong with a ring, or with how it comes, is said, and changes nothing.
func TestRefuses(t *testing.T) {
	newer := shape{of: "object", version: 6, turn: 1}
	file := newer.file(t)
	set := func(name, value string) func(*backend.Request) {
		return func(r *backend.Request) { r.Header.Set(name, value) }
	}
	body := func(src io.Reader, length int64) func(*backend.Request) {
		return func(r *backend.Request) { r.Body, r.Length = src, length }
	}
	damaged := bytes.Clone(file)
	damaged[len(damaged)/2] ^= 1
	for what, tt := range map[string]struct {
		name   string // "object" where empty
		file   []byte
		change func(*backend.Request)
		kind   errs.Kind
		text   string
	}{
		"older":                        {"", shape{of: "object", version: 4, turn: 1}.file(t), nil, errs.Stale, "version 4 of the object ring is older than the one in use, version 5"},
		"the same version, other rows": {"", shape{of: "object", version: 5, turn: 1}.file(t), nil, errs.Conflict, "version 5 of the object ring is in use and says something else"},
		"a lower part power":           {"", shape{of: "object", version: 6, power: 2}.file(t), nil, errs.Conflict, "part power 2, and the one in use 3"},
		"of another kind":              {"", shape{of: "container", version: 6}.file(t), nil, errs.Conflict, "has the servers of the container ring"},
		"of another policy":            {"", shape{of: "object-1", version: 6, turn: 2}.file(t), nil, errs.Conflict, "is the object-1 ring that is in use"},
		"of another cluster":           {"", shape{of: "object", version: 6, network: "10.9.9"}.file(t), nil, errs.Conflict, "no server in common"},
		"of another shape":             {"object-1", shape{of: "object-1", version: 6, replicas: 3}.file(t), nil, errs.Conflict, "not of its shape"},
		"of no policy":                 {"object-2", file, nil, errs.NotFound, "no ring of the name"},
		"of no name":                   {"", file, func(r *backend.Request) { r.Path = Path + "/" }, errs.NotFound, "no ring of the name"},
		"out of the folder":            {"../object", file, nil, errs.NotFound, "no ring of the name"},
		"damaged":                      {"", damaged, nil, errs.Invalid, "it is no ring file"},
		"cut short":                    {"", file[:len(file)-9], nil, errs.Invalid, "it is no ring file"},
		"with something behind it":     {"", append(bytes.Clone(file), 'x'), nil, errs.Invalid, "it is no ring file"},
		"no ring at all":               {"", []byte("{}"), nil, errs.Invalid, "it is no ring file"},
		"damaged on the way":           {"", file, body(bytes.NewReader(damaged), int64(len(file))), errs.Mismatch, "not the checksum"},
		"broken off":                   {"", file, body(cut(file[:100], io.ErrUnexpectedEOF), int64(len(file))), errs.Aborted, ""},
		"broken off by the guard":      {"", file, body(cut(file[:100], errs.Refuse(errs.Forbidden, "no")), int64(len(file))), errs.Forbidden, "no"},
		"empty":                        {"", nil, nil, errs.Invalid, "no ring in the request"},
		"of no length":                 {"", file, body(bytes.NewReader(file), -1), errs.Length, "has a length"},
		"too long":                     {"", file, body(bytes.NewReader(file), ring.MaxFile+1), errs.TooLarge, "at most"},
		"without a checksum":           {"", file, set(ChecksumHeader, ""), errs.Invalid, "is missing"},
		"for another process":          {"", file, set(ProcessHeader, "x"), errs.Conflict, "another process"},
		"with another method":          {"", file, func(r *backend.Request) { r.Method = "POST" }, errs.Method, "takes PUT"},
		"to look with a body":          {"", file, func(r *backend.Request) { r.Method, r.Path = "GET", Path }, errs.Method, "without a body"},
		"elsewhere":                    {"", file, func(r *backend.Request) { r.Path = Path + "s" }, errs.NotFound, ""},
	} {
		w := newWorld(t)
		if tt.name == "" {
			tt.name = "object"
		}
		if tt.change == nil {
			tt.change = func(*backend.Request) {}
		}
		before := map[string]string{}
		for name := range ports {
			before[name] = there(t, w.disk, name)
		}
		got, err := w.put(t, tt.name, tt.file, tt.change)
		if !errs.Is(err, tt.kind) || !strings.Contains(errs.PublicOf(err), tt.text) {
			t.Errorf("%s: %+v, %v, want %v and %q", what, got, err, tt.kind, tt.text)
		}
		for name := range ports {
			if there(t, w.disk, name) != before[name] || w.of[name].now.Version() != 5 {
				t.Errorf("%s: the %s ring has changed", what, name)
			}
		}
		if len(w.taken) > 0 || len(left(t, w.disk)) != len(ports) {
			t.Errorf("%s: told was %v, left are %v", what, w.taken, left(t, w.disk))
		}
		if _, err := w.put(t, "object", file); err != nil {
			t.Errorf("%s: what is right is refused after it: %v", what, err)
		}
	}
}

// One ring at a time: who comes meanwhile is told so, and nothing waits.
func TestOneAtATime(t *testing.T) {
	w := newWorld(t)
	file := shape{of: "object", version: 6}.file(t)
	var inner error
	_, err := w.put(t, "object", file, func(r *backend.Request) {
		r.Body = io.MultiReader(readerFunc(func([]byte) (int, error) {
			_, inner = w.put(t, "account", shape{of: "account", version: 6}.file(t))
			return 0, io.EOF
		}), r.Body)
	})
	if err != nil || !errs.Is(inner, errs.Unavailable) || w.of["account"].now.Version() != 5 {
		t.Errorf("%v; meanwhile %v", err, inner)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What is in the file is not always what is in use.
func TestFileIsNotInUse(t *testing.T) {
	same, newer := shape{of: "object", version: 5}, shape{of: "object", version: 7, turn: 1}
	for what, tt := range map[string]struct {
		file []byte // that somebody has put there; nil removes it
		push shape
		ok   bool
	}{
		"it is damaged":                     {[]byte("x"), newer, true},
		"it is damaged, and made good":      {[]byte("x"), same, true},
		"it is gone":                        {nil, newer, true},
		"it is gone, and made good":         {nil, same, true},
		"it is older":                       {shape{of: "object", version: 3}.file(t), newer, true},
		"it is older, and made good":        {shape{of: "object", version: 3}.file(t), same, true},
		"it is newer, and not yet in use":   {shape{of: "object", version: 6}.file(t), newer, true},
		"it is newer than what comes":       {shape{of: "object", version: 8}.file(t), newer, false},
		"it is what comes, not yet in use":  {newer.file(t), newer, true},
		"older than what is in use, though": {shape{of: "object", version: 3}.file(t), shape{of: "object", version: 4}, false},
	} {
		w := newWorld(t)
		on := w.of["object"].fs
		err := on.Remove(w.of["object"].path)
		if tt.file != nil {
			err = errors.Join(err, whole.Replace(on, w.of["object"].path, func(to io.Writer) error { _, err := to.Write(tt.file); return err }))
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.put(t, "object", tt.push.file(t))
		if (err == nil) != tt.ok || tt.ok && (got.Running != Of(tt.push.ring(t)) || there(t, w.disk, "object") != string(tt.push.file(t))) {
			t.Errorf("%s: %+v, %v, want it taken: %v", what, got, err, tt.ok)
		}
	}
}

// What reaches the folder while a ring is coming is not replaced by an older one, and is told of as in use,
// be the ring that came taken or not.
func TestAnotherComesMeanwhile(t *testing.T) {
	for what, tt := range map[string]struct {
		other, push shape
		ok          bool
		taken       string
	}{
		"newer":                   {shape{of: "object", version: 8}, shape{of: "object", version: 7, turn: 1}, false, "object 8"},
		"older":                   {shape{of: "object", version: 6}, shape{of: "object", version: 7, turn: 1}, true, "object 7"},
		"equal":                   {shape{of: "object", version: 7, turn: 1}, shape{of: "object", version: 7, turn: 1}, true, "object 7"},
		"of its version, another": {shape{of: "object", version: 7}, shape{of: "object", version: 7, turn: 1}, false, "object 7"},
	} {
		w := newWorld(t)
		in := w.of["object"]
		file := tt.push.file(t)
		got, err := w.put(t, "object", file, func(r *backend.Request) {
			r.Body = io.MultiReader(bytes.NewReader(file[:len(file)-1]), readerFunc(func([]byte) (int, error) {
				if err := whole.Replace(in.fs, in.path, func(to io.Writer) error { _, err := to.Write(tt.other.file(t)); return err }); err != nil {
					return 0, err
				}
				return 0, io.EOF
			}), bytes.NewReader(file[len(file)-1:]))
		})
		want := tt.push
		if !tt.ok {
			want = tt.other
		}
		if (err == nil) != tt.ok || tt.ok && !got.Changed || there(t, w.disk, "object") != string(want.file(t)) || in.now.Version() != want.version || !slices.Equal(w.taken, []string{tt.taken}) {
			t.Errorf("%s: %+v, %v, told was %v", what, got, err, w.taken)
		}
	}
}

// What another process on the same folder has taken is told of in this one, when it is asked as when it is sent the same.
func TestOtherProcessHasTakenIt(t *testing.T) {
	next := shape{of: "object", version: 6, turn: 1}
	for _, asked := range []bool{false, true} {
		w := newWorld(t)
		in := w.of["object"]
		if err := whole.Replace(in.fs, in.path, func(to io.Writer) error { _, err := to.Write(next.file(t)); return err }); err != nil {
			t.Fatal(err)
		}
		if asked {
			if r := w.server.report(t.Context()); r.Rings["object"] != Of(next.ring(t)) || len(r.Files) > 0 {
				t.Errorf("it says %+v", r)
			}
		}
		if got, err := w.put(t, "object", next.file(t)); err != nil || got.Changed == asked || !slices.Equal(w.taken, []string{"object 6"}) {
			t.Errorf("asked before %v: %+v, %v, told was %v", asked, got, err, w.taken)
		}
	}
}

// A process says what is wrong with the file of a ring that it has in use, until that is made good.
func TestReportsFiles(t *testing.T) {
	same := shape{of: "object", version: 5}
	for what, tt := range map[string]struct {
		file []byte // nil removes it
		text string
	}{
		"damaged": {[]byte("x"), "ring"},
		"gone":    {nil, "no such file"},
		"older":   {shape{of: "object", version: 3}.file(t), "older"},
	} {
		w := newWorld(t)
		on := w.of["object"].fs
		err := on.Remove(w.of["object"].path)
		if tt.file != nil {
			err = errors.Join(err, whole.Replace(on, w.of["object"].path, func(to io.Writer) error { _, err := to.Write(tt.file); return err }))
		}
		if err != nil {
			t.Fatal(err)
		}
		r := w.server.report(t.Context())
		if len(r.Files) != 1 || !strings.Contains(r.Files["object"], tt.text) || r.Rings["object"] != Of(same.ring(t)) {
			t.Errorf("%s: it says %+v, want %q", what, r, tt.text)
		}
		if _, err := w.put(t, "object", same.file(t)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if r := w.server.report(t.Context()); len(r.Files) > 0 {
			t.Errorf("%s, and made good: it says %+v", what, r)
		}
	}
}

// A device may have the name of the path: what is on it is no ring.
func TestPaths(t *testing.T) {
	for path, want := range map[string]bool{
		"/rings": true, "/rings/": true, "/rings/object-1": true, "/rings/123/AUTH_a/c/o": false, "/rings/0/a": false, "/rings/object/": false,
		"/ringss": false, "/ringss/object": false, "//rings": false, "/d/0/rings": false, "": false,
	} {
		if Is(path) != want {
			t.Errorf("%q is one of a ring: %v", path, !want)
		}
	}
}

// What a writer that was killed has left is gone after the next ring.
func TestSweeps(t *testing.T) {
	next := shape{of: "object", version: 6, turn: 1}
	w := newWorld(t)
	on := w.of["object"].fs
	if _, err := on.Temp(folder, "object.ring.gz", nil); err != nil { // what a killed one leaves
		t.Fatal(err)
	}
	if _, err := w.put(t, "object", next.file(t)); err != nil {
		t.Fatal(err)
	}
	if names := left(t, w.disk); len(names) != len(ports) {
		t.Errorf("left are %v", names)
	}
}

// Two processes on one folder take turns: who waits finds that it is done, or is told that it can't be.
func TestSharedFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "object.ring.gz")
	if err := (shape{of: "object", version: 5}).ring(t).Save(path); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Folder: dir})
	release, err := s.hold(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		if _, err := s.hold(t.Context(), path); !errors.Is(err, whole.ErrLocked) {
			t.Errorf("a second one: %v", err)
		}
	})
	done := make(chan error, 1)
	go func() {
		release, err := s.hold(t.Context(), path)
		if err == nil {
			release()
		}
		done <- err
	}()
	if err := (shape{of: "object", version: 6}).ring(t).Save(path); err != nil { // under the first one's lock
		t.Fatal(err)
	}
	release()
	if err := <-done; err != nil {
		t.Errorf("after it was released: %v", err)
	}
	if release, err := s.hold(t.Context(), filepath.Join(dir, "none")); err != nil {
		t.Errorf("of no file: %v", err)
	} else {
		release()
	}
	if _, err := s.hold(t.Context(), dir); err == nil {
		t.Error("a folder is held")
	}
}

// The real file system, and what a process says of itself.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	sources := map[string]*ring.Source{}
	for _, name := range []string{"account", "container"} {
		path := filepath.Join(dir, name+".ring.gz")
		err := (shape{of: name, version: 5}).ring(t).Save(path)
		if err == nil {
			sources[name], err = ring.Open(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := New(Config{Kind: Proxy, Version: "v1", Folder: dir, Rings: func(yield func(string, Source) bool) {
		for name, source := range sources {
			if !yield(name, source) {
				return
			}
		}
	}})
	w := &world{server: s}
	next := shape{of: "account", version: 6, turn: 1}
	if got, err := w.put(t, "account", next.file(t)); err != nil || !got.Changed || got.Running != Of(next.ring(t)) {
		t.Fatalf("%+v, %v", got, err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, "account.ring.gz")); err != nil || string(now) != string(next.file(t)) {
		t.Errorf("%d bytes, %v", len(now), err)
	}
	resp, err := s.Serve(t.Context(), &backend.Request{Method: "GET", Path: Path})
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Process != s.process || got.Kind != Proxy || got.Version != "v1" || len(got.Rings) != 2 || got.Rings["account"] != Of(next.ring(t)) ||
		len(got.Nodes) != 8 || got.Nodes[0] != "10.0.0.0:6201" || New(Config{}).process == s.process {
		t.Errorf("it says %+v", got)
	}
}
