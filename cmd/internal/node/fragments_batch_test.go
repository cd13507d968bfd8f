package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/replicator"
)

// isBatch reports whether a request asks for many fragments.
func isBatch(r *backend.Request) bool {
	return r.Method == "REPLICATE" && strings.Count(r.Path, "/") == 1 && r.Header.Get(replwire.KindHeader) == "fragment" && r.Header.Get(backend.PolicyIndex) != "1"
}

// lacking makes objects, small ones and one of several segments, of which the last node has no fragment.
func (f *cells) lacking(n int) (all []*wholeObject) {
	f.t.Helper()
	last := f.policy.Fragments() - 1
	for i := range n {
		size := i * 100 % 1024
		if i == 0 {
			size = 3000
		}
		o := f.encode(fmt.Sprint("o", i), f.source.Next(), bytes.Repeat([]byte{byte(i + 1)}, size), i%3 > 0)
		f.putAll(o, last)
		f.commit(o)
		all = append(all, o)
	}
	return all
}

// What is small is read from each device in one request, and made again as it was.
func TestFragmentsBatches(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	all := f.lacking(40)
	batches := 0
	f.failing(func(_ *cell, r *backend.Request) error {
		if isBatch(r) {
			f.mu.Lock()
			batches++
			f.mu.Unlock()
		}
		return nil
	})
	before := f.requests("GET")
	if c := f.clean(5); c.Rebuilt != 40 {
		t.Errorf("%+v", c)
	}
	if n := f.requests("GET") - before; n != 4 || batches != 5 {
		t.Errorf("%d requests for many fragments and %d for one, want 5, and 4 for the large one", batches, n)
	}
	f.inPlace("then", all...)
}

// Just the fragment that is missing is read where a device has it, many in one request, too.
func TestFragmentsBatchFetched(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	f.rings.Store(f.ringsOf(0, 6, 2, 3, 4, 5))
	var all []*wholeObject
	for i := range 10 {
		o := f.encode(fmt.Sprint("o", i), f.source.Next(), bytes.Repeat([]byte{byte(i)}, 100*i), true)
		f.putAll(o, 1)
		f.put(o, 1, 6)
		f.commit(o, 0, 6, 2, 3)
		all = append(all, o)
	}
	f.clean()
	f.rings.Store(f.ringsOf(0, 1, 2, 3, 4, 5))
	f.clean(0) // which brings the commits
	gets := f.requests("GET")
	var asked []int
	f.failing(func(to *cell, r *backend.Request) error {
		if isBatch(r) {
			asked = append(asked, to.number)
		}
		return nil
	})
	if c := f.clean(1); c.Rebuilt != 10 || f.requests("GET") != gets || fmt.Sprint(asked) != "[6]" {
		t.Errorf("%+v, %d read alone, asked were %v", c, f.requests("GET")-gets, asked)
	}
	f.failing(nil)
	f.clean()
	f.inPlace("then", all...)
}

// Nodes of an earlier version refuse to be asked for many, and tell more than hashes: they are asked one by one, and the
// question that they refuse is put to each only once.
func TestFragmentsBatchOldPeers(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 4, Parity: 2}, 7)
	f.width = 1 // so that no two batches ask at one time
	f.wipe(5)
	all := f.lacking(20)
	for i := range 20 { // of which fewer fragments are left: they are in a batch of their own
		o := f.encode(fmt.Sprint("few", i), f.source.Next(), bytes.Repeat([]byte{byte(i)}, 100), true)
		f.putAll(o, 4, 5)
		f.commit(o)
	}
	refused := map[int]int{}
	f.failing(func(_ *cell, r *backend.Request) error {
		for i := range r.Header {
			if r.Header[i].Name == replwire.HashesHeader {
				r.Header[i].Name = "X-Unknown"
			}
		}
		return nil
	})
	f.saying(func(to *cell, r *backend.Request, _ []byte, resp *backend.Response) *backend.Response {
		if to.number > 2 || !isBatch(r) {
			return resp
		}
		f.mu.Lock()
		refused[to.number]++
		f.mu.Unlock()
		text := "fragments are not REPLICATE many at a time"
		return &backend.Response{Status: 400, Length: int64(len(text)), Body: io.NopCloser(strings.NewReader(text))} // what is refused does not say by whom
	})
	if c := f.clean(5); c.Rebuilt != 40 {
		t.Errorf("%+v", c)
	}
	if refused[0] != 1 || refused[1] != 1 || refused[2] != 1 || f.requests("GET") == 0 {
		t.Errorf("refused %v, %d read alone", refused, f.requests("GET"))
	}
	f.saying(nil)
	f.failing(nil)
	f.inPlace("then", all...)
	f.clean()
}

// A node of an earlier version that is told that it has given a damaged fragment gives it once more: the object is made of others as
// far as there are others, and nothing is taken for what it is not.
func TestFragmentsOldPeerAccused(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 2}, 5)
	var accused atomic.Int64
	f.failing(func(_ *cell, r *backend.Request) error {
		for i := range r.Header {
			if r.Header[i].Name == backend.FragmentSuspect {
				r.Header[i].Name = "X-Unknown"
				accused.Add(1)
			}
		}
		return nil
	})
	var all []*wholeObject
	var bad [][]byte
	for i := range 4 { // so that fragment 2 of some is read to make fragment 3
		o := f.encode(fmt.Sprint("o", i), f.source.Next(), bytes.Repeat([]byte("data"), 1000), true)
		f.putAll(o, 2, 3)
		bad = append(bad, f.bent(o, 2, 2))
		f.commit(o)
		all = append(all, o)
	}
	if c := f.pass(3); c.Rebuilt != int64(len(all)) || accused.Load() == 0 {
		t.Errorf("%+v, %d times accused", c, accused.Load())
	}
	for i, o := range all {
		if got := f.stored(o, 3, 3); !bytes.Equal(got, o.archives[3]) {
			t.Errorf("%s: fragment 3 is %d bytes that differ from what it was", o.path.Object, len(got))
		}
		if !bytes.Equal(f.stored(o, 2, 2), bad[i]) {
			t.Errorf("%s: fragment 2 is not what its device had", o.path.Object)
		}
	}
}

// Whatever is wrong with an answer with many fragments, nothing wrong is stored, and what is missing is got otherwise.
func TestFragmentsBatchGarbled(t *testing.T) {
	whole := func(b []byte) *backend.Response {
		return &backend.Response{Status: 200, Length: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b))}
	}
	again := func(asked []byte, list []replwire.Archive) *backend.Response {
		a := replwire.BeginArchives(nil, asked)
		for i, x := range list {
			if x.Given != replwire.Here {
				a.Tell(x.Given)
				continue
			}
			a.Give(int64(len(x.Bytes)), len(list)-1-i, func(b []byte) replwire.Given { copy(b, x.Bytes); return replwire.Here })
		}
		return whole(a.Encoded())
	}
	for what, garble := range map[string]func(b, asked []byte, list []replwire.Archive) *backend.Response{
		"cut short": func(b, _ []byte, _ []replwire.Archive) *backend.Response {
			resp := whole(b)
			resp.Body = io.NopCloser(bytes.NewReader(b[:len(b)/2]))
			return resp
		},
		"shorter":        func(b, _ []byte, _ []replwire.Archive) *backend.Response { return whole(b[:len(b)-1]) },
		"empty":          func([]byte, []byte, []replwire.Archive) *backend.Response { return whole(nil) },
		"a byte changed": func(b, _ []byte, _ []replwire.Archive) *backend.Response { b[len(b)/2] ^= 1; return whole(b) },
		"far too long":   func(b, _ []byte, _ []replwire.Archive) *backend.Response { r := whole(b); r.Length = 1 << 40; return r },
		"another's":      func(_, asked []byte, list []replwire.Archive) *backend.Response { return again(asked[1:], list) },
		"without a body": func([]byte, []byte, []replwire.Archive) *backend.Response { return &backend.Response{Status: 200} },
		"nothing is here": func(_, asked []byte, list []replwire.Archive) *backend.Response {
			return again(asked, make([]replwire.Archive, len(list)))
		},
		"never now": func(_, asked []byte, list []replwire.Archive) *backend.Response {
			for i := range list {
				list[i] = replwire.Archive{Given: replwire.NotNow}
			}
			return again(asked, list)
		},
		"swapped": func(_, asked []byte, list []replwire.Archive) *backend.Response {
			list[0], list[1] = list[1], list[0]
			return again(asked, list)
		},
		"damaged inside": func(_, asked []byte, list []replwire.Archive) *backend.Response {
			for i := range list {
				list[i].Bytes[len(list[i].Bytes)-1] ^= 1
			}
			return again(asked, list)
		},
		"archives cut": func(_, asked []byte, list []replwire.Archive) *backend.Response {
			for i := range list {
				list[i].Bytes = list[i].Bytes[:len(list[i].Bytes)-1]
			}
			return again(asked, list)
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 3)
			all := f.lacking(6)
			garbled := false
			f.saying(func(to *cell, r *backend.Request, asked []byte, resp *backend.Response) *backend.Response {
				if to.number != 0 || !isBatch(r) {
					return resp
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				wanted, err := replwire.ParseWanted(asked)
				if err != nil {
					t.Fatal(err)
				}
				list, err := replwire.ParseArchives(b, len(wanted), asked)
				if err != nil {
					t.Fatal(err)
				}
				garbled = true
				other := garble(b, asked, list)
				other.Header = resp.Header
				return other
			})
			if c := f.clean(2); c.Rebuilt != 6 || !garbled {
				t.Errorf("%+v, garbled %v", c, garbled)
			}
			f.saying(nil)
			f.inPlace("then", all...)
			f.clean()
		})
	}
}

// A device that fails at any call while batches are stored on it has after a crash what was counted, and each fragment
// whole or not at all.
func TestFragmentsBatchDiskFails(t *testing.T) {
	for n, begun := -1, false; ; n++ {
		f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 3)
		all := f.lacking(5)
		c := f.nodes[2]
		disk := c.disk.(*vfs.Mem)
		faulty := vfs.FailAt(disk, n)
		c.disk = faulty
		f.open(c)
		if !begun {
			n = faulty.Calls() - 1 // so many does it take to begin
		}
		r, err := c.repl.Pass(t.Context(), replicator.Options{})
		if err != nil {
			t.Fatal(err)
		}
		fired := faulty.Fired() || !begun
		begun = true
		counted := int64(0)
		if kinds := r.Devices[0].Kinds; len(kinds) > 1 {
			counted = kinds[1].Rebuilt
		}
		for seed := range uint64(2) {
			c.disk = disk.AfterCrash(uint64(n) + seed)
			f.open(c)
			there := int64(0)
			for _, o := range all {
				if b := f.held(o, 2, 2); b != nil {
					there++
					if !bytes.Equal(b, o.archives[2]) {
						t.Fatalf("call %d failed: another archive of %s", n, o.path.Object)
					}
				}
			}
			if there < counted {
				t.Fatalf("call %d failed, seed %d: %d were stored, and %d are there", n, seed, counted, there)
			}
		}
		f.clean(2)
		f.inPlace(fmt.Sprintf("call %d failed", n), all...)
		if !fired {
			break
		}
		n += n / 10 // a few are like others
	}
}

// What a device says to a question for many fragments of each that it has, and has not.
func TestFragmentsGiven(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 3, func(f *cells) {
		var err error
		if f.code, err = ec.New(ec.Of(ec.Shape{Data: 2, Parity: 1})); err != nil {
			t.Fatal(err)
		}
	})
	one, large, hurt := f.object("one", 100), f.object("large", 600<<10), f.object("hurt", 100)
	wanted := func(o *wholeObject, index int) replwire.Wanted {
		return replwire.Wanted{Hash: f.hasher.Hash(o.path).Fragment(o.at, index), Write: o.coded.Write}
	}
	at := engine.Location{Policy: f.policy.Index.Fragments(), Hash: wanted(hurt, 1).Hash}
	s, err := f.nodes[1].store.Stat(t.Context(), at)
	if err == nil {
		err = f.nodes[1].store.Quarantine(t.Context(), at, s, errors.New("it was damaged"))
	}
	if err != nil {
		t.Fatal(err)
	}
	another := wanted(one, 1)
	another.Write[0] ^= 1
	list := []replwire.Wanted{wanted(one, 1), wanted(one, 0), another, wanted(large, 1), wanted(hurt, 1), {Hash: name.Hash{1}}}
	want := []replwire.Given{replwire.Here, replwire.NotHere, replwire.NotHere, replwire.Alone, replwire.Unread, replwire.NotHere}
	ask := func(body []byte) (*backend.Response, error) {
		return f.nodes[1].repl.Serve(t.Context(), &backend.Request{
			Method: "REPLICATE", Path: "/d", Remote: "10.0.0.99:1", Length: int64(len(body)), Body: bytes.NewReader(body), Header: backend.Header{
				{Name: replwire.KindHeader, Value: "fragment"}, {Name: replwire.PartPowerHeader, Value: "2"}, {Name: backend.PolicyIndex, Value: f.policy.Index.Fragments().String()},
			},
		})
	}
	given := func(list []replwire.Wanted) []replwire.Archive {
		asked := replwire.AppendWanted(nil, list)
		resp, err := ask(asked)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.Length != int64(len(b)) || resp.Body.Close() != nil {
			t.Fatal(len(b), resp.Length, err)
		}
		got, err := replwire.ParseArchives(b, len(list), asked)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for i, x := range given(list) {
		if x.Given != want[i] {
			t.Errorf("fragment %d is %d, want %d", i, x.Given, want[i])
		}
		if x.Given == replwire.Here && !bytes.Equal(x.Bytes, one.archives[1]) {
			t.Errorf("another archive")
		}
	}
	var many []replwire.Wanted
	for i := range 30 {
		many = append(many, wanted(f.object(fmt.Sprint("many", i), 480<<10), 1))
	}
	here := 0
	for i, x := range given(many) {
		if x.Given == replwire.Here {
			here++
		} else if x.Given != replwire.NotNow || i == 0 {
			t.Errorf("fragment %d is %d", i, x.Given)
		}
	}
	if here < 10 || here == len(many) {
		t.Errorf("%d of %d were given at once", here, len(many))
	}
	if _, err := ask([]byte("garbage")); err == nil || !strings.Contains(err.Error(), "bad replication list") {
		t.Errorf("garbage is answered: %v", err)
	}
}

// A pass that is ended at any question for fragments is over soon, has stored nothing that is not whole, and the next one gets the rest.
func TestFragmentsBatchEnded(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 3)
	var all []*wholeObject
	for i := range 600 { // several batches
		o := f.encode(fmt.Sprint("o", i), f.source.Next(), []byte(fmt.Sprint(i)), true)
		f.putAll(o, 2)
		f.commit(o)
		all = append(all, o)
	}
	for end := 1; end < 8; end += 2 {
		ctx, stop := context.WithCancel(t.Context())
		asked := 0
		f.failing(func(_ *cell, r *backend.Request) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if isBatch(r) {
				if asked++; asked == end {
					stop()
				}
			}
			return nil
		})
		_, _ = f.nodes[2].repl.Pass(ctx, replicator.Options{}) // it says that it was ended
		stop()
	}
	f.failing(nil)
	left := int64(0)
	for _, o := range all {
		b := f.held(o, 2, 2)
		if b == nil {
			left++
		} else if !bytes.Equal(b, o.archives[2]) {
			t.Errorf("another archive of %s", o.path)
		}
	}
	if c := f.clean(2); left == 0 || c.Rebuilt != left {
		t.Errorf("%d were got by the last pass, want the %d that were left: %+v", c.Rebuilt, left, c)
	}
	f.inPlace("then", all[:50]...)
}

// How much there is to be got is known before any of it was, and nothing is when it is here; what can't be got stays.
func TestFragmentsToGet(t *testing.T) {
	f := newCells(t, ec.Shape{Data: 2, Parity: 1}, 3)
	all := f.lacking(40)
	bytes := int64(0)
	for _, o := range all {
		bytes += int64(len(o.archives[2]))
	}
	progress := f.nodes[2].repl.Paces.Of("d").Progress()
	first := true
	f.failing(func(_ *cell, r *backend.Request) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if get := progress.ToGet(); (isBatch(r) || r.Method == "GET") && first { // one is large: it is got beside the others
			first = false
			if get.Objects != 40 || get.Bytes != bytes || get.ETASeconds != nil {
				t.Errorf("before anything was got: %+v, want 40 of %d bytes", get, bytes)
			}
		}
		return nil
	})
	f.clean(2)
	if get := progress.ToGet(); first || get.Objects != 0 || get.Bytes != 0 {
		t.Errorf("then: %+v", get)
	}
	lost := f.encode("lost", f.source.Next(), []byte("of which one is left"), true)
	f.put(lost, 0, 0)
	f.commit(lost)
	f.failing(nil)
	if c := f.pass(2); c.Failed != 1 {
		t.Errorf("%+v", c)
	}
	if get := progress.ToGet(); get.Objects != 1 {
		t.Errorf("what can't be made again: %+v", get)
	}
}
