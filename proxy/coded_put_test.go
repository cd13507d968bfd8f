package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/timestamp"
	"martlet/proxy/chain"
)

func isFragment(r *backend.Request) bool { return r.Header.Has(backend.FragmentIndex) }

func isCommit(r *backend.Request) bool {
	return r.Method == http.MethodPut && r.Header.Has(backend.CodedWrite)
}

// whole fails unless n replicas have a commit of the body and all fragments of it are there, or, where
// it is short, n replicas have the body itself.
func (c *codedNodes) whole(what, object string, data []byte, replicas, fragments int) {
	c.t.Helper()
	all, decoded := c.replicas(object), map[backend.Coded]bool{} // they have the same commit, and decoding takes long
	for d, o := range all {
		if int64(len(data)) <= c.policy.WholeUpTo {
			if !bytes.Equal(o.data, data) || o.header.Has(backend.CodedWrite) {
				c.t.Errorf("%s: %s has %d bytes, coded %v", what, d, len(o.data), o.header.Has(backend.CodedWrite))
			}
			continue
		}
		of, err := backend.ParseCoded(o.header.Get(backend.CodedWrite))
		if err != nil {
			c.t.Fatal(what, err)
		}
		if of.Data != c.policy.Data || of.Parity != c.policy.Parity || of.Size != int64(len(data)) || of.ETag != md5Hex(data) || len(o.data) != 0 {
			c.t.Errorf("%s: %s has %v and %d bytes", what, d, of, len(o.data))
		}
		if decoded[of] {
			continue
		}
		decoded[of] = true
		archives := c.archives(object, o.time, of.Write)
		if len(archives) != fragments {
			c.t.Errorf("%s: there are %d fragments, want %d", what, len(archives), fragments)
		}
		if got, err := c.decode(of, archives); err != nil || !bytes.Equal(got, data) {
			c.t.Errorf("%s: the fragments are %d bytes, %v, want %d", what, len(got), err, len(data))
		}
	}
	if len(all) != replicas {
		c.t.Errorf("%s: %d replicas have it, want %d", what, len(all), replicas)
	}
}

// devices answer in the place of some of a table's devices.
func (c *codedNodes) fail(which func(*backend.Request) bool, slots []int, everywhere bool, answer func(r *backend.Request, keep func() *backend.Response) *backend.Response) {
	c.script(func(device string, r *backend.Request, keep func() *backend.Response) *backend.Response {
		if !which(r) {
			return nil
		}
		for _, slot := range slots {
			if device == fmt.Sprint("d", slot) || everywhere && r.Header.Get(backend.FragmentIndex) == fmt.Sprint(slot) {
				return answer(r, keep)
			}
		}
		return nil
	})
}

// broke drops the connection.
func broke(r *backend.Request, _ func() *backend.Response) *backend.Response {
	if r.Body != nil {
		_, _ = io.CopyN(io.Discard, r.Body, 100)
	}
	return &backend.Response{Status: 200, Length: 10, Body: io.NopCloser(strings.NewReader(""))}
}

// keptAndBroke keeps what it was sent, and drops the connection.
func keptAndBroke(r *backend.Request, keep func() *backend.Response) *backend.Response {
	keep()
	return &backend.Response{Status: 200, Length: 10, Body: io.NopCloser(strings.NewReader(""))}
}

func saying(code int) func(*backend.Request, func() *backend.Response) *backend.Response {
	return func(r *backend.Request, _ func() *backend.Response) *backend.Response {
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		return nodetest.Status(code, "")
	}
}

// full says so before anything has come.
func full(*backend.Request, func() *backend.Response) *backend.Response {
	return nodetest.Status(507, "")
}

func upTo(n int) []int {
	var list []int
	for i := range n {
		list = append(list, i)
	}
	return list
}

// So many fragments can't be stored, nowhere: with k+1 left there is an object, with fewer nothing
// at all.
func TestCodedPutWithoutEnoughFragments(t *testing.T) {
	withoutEnoughFragments(t, 100<<10, [][2]int{{1, 1}, {4, 2}, {8, 4}})
	withoutEnoughFragments(t, 1<<20+5, [][2]int{{4, 2}}) // the others without the race detector, which looks at each byte
}

func withoutEnoughFragments(t *testing.T, size int, shapes [][2]int) {
	t.Helper()
	puts := func(r *backend.Request) bool { return isFragment(r) && r.Method == http.MethodPut }
	for _, shape := range shapes {
		for how, answer := range map[string]func(*backend.Request, func() *backend.Response) *backend.Response{
			"full": full, "full at the end": saying(507), "broken": broke, "stored, and broken": keptAndBroke,
		} {
			for lost := range shape[1] + 2 {
				t.Run(fmt.Sprintf("%d+%d, %d bytes, %d %s", shape[0], shape[1], size, lost, how), func(t *testing.T) {
					c, data := newCodedNodes(t, shape[0], shape[1]), randomBytes(size)
					c.fail(puts, upTo(lost), true, answer)
					resp := c.put(t.Context(), c.server(), nil, bytes.NewReader(data), int64(size))
					if lost < shape[1] { // k+1 are left
						if resp.Status != 201 {
							t.Errorf("got %d, %v, want 201", resp.Status, resp.Err)
						}
						if how != "stored, and broken" {
							c.whole("then", "o", data, c.policy.Replicas(), c.policy.Fragments()-lost)
						}
						return
					}
					if resp.Status != 503 {
						t.Errorf("got %d, %v, want 503", resp.Status, resp.Err)
					}
					if f, o := c.kept(); f != 0 || o != 0 || c.requests("PUT object") != 0 {
						t.Errorf("%d fragments and %d replicas are left, and %d commits were sent", f, o, c.requests("PUT object"))
					}
				})
			}
		}
	}
}

// A fragment whose device can't take it goes to a handoff, and is the same one there, as long as
// all that was sent is in memory.
func TestCodedPutToHandoffs(t *testing.T) {
	for _, size := range []int{100 << 10, segmentQueue << 20} {
		c, data := newCodedNodes(t, 4, 2), randomBytes(size)
		c.fail(func(*backend.Request) bool { return true }, upTo(4), false, full)
		resp := c.put(t.Context(), c.server(), nil, bytes.NewReader(data), int64(size))
		if resp.Status != 201 {
			t.Errorf("%d bytes: got %d, %v", size, resp.Status, resp.Err)
		}
		c.whole(fmt.Sprint(size), "o", data, c.policy.Replicas(), c.policy.Fragments())
	}
}

// The commit is refused or lost by so many replicas: with m+1 there is an object, with fewer
// it is not known, and its fragments stay in any case.
func TestCodedPutWithoutEnoughCommits(t *testing.T) {
	for _, shape := range [][2]int{{1, 1}, {4, 2}, {8, 4}} {
		for how, answer := range map[string]func(*backend.Request, func() *backend.Response) *backend.Response{
			"broken": broke, "stored, and broken": keptAndBroke,
		} {
			for lost := range shape[1] + 2 {
				c, data := newCodedNodes(t, shape[0], shape[1]), randomBytes(100<<10)
				replicas := c.policy.Replicas()
				c.script(func(device string, r *backend.Request, keep func() *backend.Response) *backend.Response {
					var n int
					if _, err := fmt.Sscanf(device, "d%d", &n); err != nil || !isCommit(r) || n >= lost && n < replicas {
						return nil
					}
					return answer(r, keep)
				})
				resp := c.put(t.Context(), c.server(), nil, bytes.NewReader(data), -1)
				want := 201
				if replicas-lost < c.policy.Quorum() {
					want = 503
				}
				f, _ := c.kept()
				if resp.Status != want || f != c.policy.Fragments() {
					t.Errorf("%d+%d, %d of %d commits %s: got %d, %v, and %d fragments, want %d", shape[0], shape[1], lost, replicas, how, resp.Status, resp.Err, f, want)
				}
			}
		}
	}
}

// A client that leaves once its body has come whole is not what the object depends on.
func TestCodedPutOutlivesItsClient(t *testing.T) {
	for _, size := range []int{100 << 10, 3<<20 + 5} {
		for _, when := range []string{"fragment", "commit"} {
			c, data := newCodedNodes(t, 4, 2), randomBytes(size)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			c.script(func(_ string, r *backend.Request, keep func() *backend.Response) *backend.Response {
				if (when == "fragment") != isFragment(r) {
					return nil
				}
				resp := keep() // all of its body has come, and so the client's
				leave()
				return resp
			})
			c.put(ctx, c.server(), nil, bytes.NewReader(data), int64(size)) // its answer nobody reads
			c.whole(fmt.Sprint(size, " ", when), "o", data, c.policy.Replicas(), c.policy.Fragments())
		}
	}
}

// A write that finds something newer is sent once more above it, where its body is in memory.
func TestCodedPutThatLoses(t *testing.T) {
	for _, tt := range []struct{ size, want int }{{100, 201}, {100 << 10, 201}, {chunkSize, 409}, {3 << 20, 409}} {
		c, data := newCodedNodes(t, 4, 2), randomBytes(tt.size)
		ahead := timestamp.FromTicks(timestamp.Now().Ticks() + 1e7)
		for i := range c.policy.Replicas() {
			c.objects[fmt.Sprint("d", i)] = map[string]codedObject{"o": {time: ahead}}
		}
		resp := c.put(t.Context(), c.server(), nil, bytes.NewReader(data), int64(tt.size))
		if resp.Status != tt.want {
			t.Errorf("%d bytes: got %d, %v, want %d", tt.size, resp.Status, resp.Err, tt.want)
		}
		c.cluster.Wait()
		if tt.want == 201 {
			c.whole(fmt.Sprint(tt.size), "o", data, c.policy.Replicas(), c.policy.Fragments())
		} else if got := c.replicas("o")["d0"]; got.time != ahead {
			t.Errorf("%d bytes: what was newer is gone", tt.size)
		}
	}
}

// Of four replicas two have something newer, of two clients at one time say: neither is it taken by
// as many as it takes, nor refused by a majority, and it is sent once more as well.
func TestCodedWriteThatLosesOnHalfOfTheReplicas(t *testing.T) {
	for _, tt := range []struct {
		method     string
		size, want int
	}{{http.MethodPut, 100, 201}, {http.MethodPut, 100 << 10, 201}, {http.MethodPut, 3 << 20, 503}, {http.MethodDelete, 0, 201}} {
		c, data := newCodedNodes(t, 4, 2), randomBytes(tt.size)
		ahead := timestamp.FromTicks(timestamp.Now().Ticks() + 1e7)
		for i := range 2 {
			c.objects[fmt.Sprint("d", i)] = map[string]codedObject{"o": {time: ahead}}
		}
		var resp *chain.Response
		if tt.method == http.MethodPut {
			resp = c.put(t.Context(), c.server(), nil, bytes.NewReader(data), int64(tt.size))
		} else {
			rq := newTestRequest(t, tt.method, http.Header{})
			rq.Grant = func(string, name.Path) bool { return true }
			resp = c.server().Serve(t.Context(), rq.Request)
			resp.Close()
		}
		if resp.Status != tt.want {
			t.Errorf("%s of %d bytes: got %d, %v, want %d", tt.method, tt.size, resp.Status, resp.Err, tt.want)
		}
		if tt.want == 201 && tt.method == http.MethodPut {
			c.whole(fmt.Sprint(tt.size), "o", data, c.policy.Replicas(), c.policy.Fragments())
		}
	}
}

// Another write has fragments of the same time: nothing of it is touched. Where the time is one
// that another cluster has given, what counts is whether that write was committed.
func TestCodedPutAtATimeThatIsTaken(t *testing.T) {
	const at = "1400000000.00000"
	for what, tt := range map[string]struct {
		committed bool
		want      int
	}{"committed": {true, 202}, "not committed": {false, 409}} {
		for _, size := range []int{100 << 10, 3<<20 + 5} {
			c := newCodedNodes(t, 4, 2)
			c.fail(func(r *backend.Request) bool { return isCommit(r) && !tt.committed }, upTo(2*c.nodes), false, broke)
			s := c.server()
			first := c.put(t.Context(), s, http.Header{chain.Stamp: {at}}, bytes.NewReader(randomBytes(size+1)), -1)
			if want := map[bool]int{true: 201, false: 503}[tt.committed]; first.Status != want {
				t.Fatalf("%s: got %d, %v, want %d", what, first.Status, first.Err, want)
			}
			c.script(nil)
			before, _ := c.kept()
			resp := c.put(t.Context(), s, http.Header{chain.Stamp: {at}}, bytes.NewReader(randomBytes(size)), int64(size))
			after, _ := c.kept()
			if resp.Status != tt.want || before != after {
				t.Errorf("%s, %d bytes: got %d, %v, want %d; there were %d fragments, and are %d", what, size, resp.Status, resp.Err, tt.want, before, after)
			}
		}
	}
}

// What another cluster sends again at the time that it had there, with its size and MD5, is the same write: what was left
// of one that failed, or whose proxy died, is what it would store. Other bytes are another write.
func TestCodedPutOfAnotherTimeOnceMore(t *testing.T) {
	for _, size := range []int{100 << 10, 3<<20 + 5} {
		c, data := newCodedNodes(t, 4, 2), randomBytes(size)
		header := func(data []byte) http.Header {
			return http.Header{chain.Stamp: {"1400000000.00000"}, "Etag": {md5Hex(data)}}
		}
		c.fail(isCommit, upTo(2*c.nodes), false, broke)
		s := c.server()
		if first := c.put(t.Context(), s, header(data), bytes.NewReader(data), int64(size)); first.Status != 503 {
			t.Fatalf("%d bytes: got %d, %v, want 503", size, first.Status, first.Err)
		}
		c.script(nil)
		other := bytes.Clone(data)
		other[size-1]++
		if resp := c.put(t.Context(), s, header(other), bytes.NewReader(other), int64(size)); resp.Status != 409 {
			t.Errorf("%d other bytes: got %d, %v, want 409", size, resp.Status, resp.Err)
		}
		c.fail(func(r *backend.Request) bool { return isFragment(r) && r.Method == http.MethodPut }, upTo(2), true, saying(507))
		if resp := c.put(t.Context(), s, header(data), bytes.NewReader(data), int64(size)); resp.Status != 503 {
			t.Errorf("%d bytes, where two take nothing: got %d, %v, want 503", size, resp.Status, resp.Err)
		}
		c.script(nil)
		if resp := c.put(t.Context(), s, header(data), bytes.NewReader(data), int64(size)); resp.Status != 201 {
			t.Errorf("%d bytes, once more: got %d, %v, want 201", size, resp.Status, resp.Err)
		}
		c.whole(fmt.Sprint(size), "o", data, c.policy.Replicas(), c.policy.Fragments())
	}
}

// The fragments of a version are under its own name, and its commit asks for a version.
func TestCodedVersion(t *testing.T) {
	for _, size := range []int{100, 100 << 10, 3<<20 + 5} {
		c, data := newCodedNodes(t, 4, 2), randomBytes(size)
		resp := c.put(t.Context(), c.server(), http.Header{backend.NewVersion: {"true"}}, bytes.NewReader(data), int64(size))
		id, err := timestamp.Parse(resp.Get(backend.VersionID))
		if resp.Status != 201 || err != nil {
			t.Fatalf("%d bytes: got %d, %v, version %v", size, resp.Status, resp.Err, err)
		}
		c.whole(fmt.Sprint(size), name.Path{Account: "a", Container: "c", Object: "o"}.Version(id).Object, data, c.policy.Replicas(), c.policy.Fragments())
		if !c.replicas("o")["d0"].header.Has(backend.NewVersion) {
			t.Errorf("%d bytes: no version was asked for", size)
		}
	}
}

// A device that takes nothing is left out, and the others are enough.
func TestCodedPutLeavesOutWhoStalls(t *testing.T) {
	c, data := newCodedNodes(t, 4, 4), randomBytes(24<<20) // more than sockets buffer
	s := c.server()
	leave := make(chan struct{})
	var stalled atomic.Bool
	c.script(func(device string, r *backend.Request, _ func() *backend.Response) *backend.Response {
		if device != "d5" || !isFragment(r) {
			return nil
		}
		stalled.Store(true)
		<-leave
		return nodetest.Status(503, "")
	})
	rq := newTestRequest(t, http.MethodPut, http.Header{"Content-Type": {"a/b"}})
	rq.Grant = func(string, name.Path) bool { return true }
	rq.Body, rq.Length = bytes.NewReader(data), int64(len(data))
	s.cfg.PostQuorumTimeout = 0 // it does not come any more
	resp := s.Serve(t.Context(), rq.Request)
	resp.Close()
	close(leave)
	if resp.Status != 201 || !stalled.Load() {
		t.Errorf("got %d, %v", resp.Status, resp.Err)
	}
	if f, o := c.kept(); f < c.policy.FragmentQuorum() || f == c.policy.Fragments() || o < c.policy.Quorum() {
		t.Errorf("there are %d fragments and %d replicas", f, o)
	}
}

// DELETE and POST go to the replicas of the object, and to no other device.
func TestCodedObjectIsDeletedOnItsReplicas(t *testing.T) {
	for _, shape := range [][2]int{{1, 1}, {4, 2}, {2, 4}} {
		for _, method := range []string{http.MethodDelete, http.MethodPost} {
			for lost := range shape[1] + 2 {
				c := newCodedNodes(t, shape[0], shape[1])
				var mu sync.Mutex
				asked := map[string]bool{}
				replicas := c.policy.Replicas()
				c.script(func(device string, r *backend.Request, _ func() *backend.Response) *backend.Response {
					var n int
					_, _ = fmt.Sscanf(device, "d%d", &n)
					if n < lost || n >= replicas {
						return nodetest.Status(507, "")
					}
					mu.Lock()
					defer mu.Unlock()
					if r.Header.Get(backend.PolicyIndex) == codedPolicy.String() {
						asked[device] = true
					}
					return nodetest.Status(map[string]int{http.MethodDelete: 204, http.MethodPost: 202}[method], "")
				})
				rq := newTestRequest(t, method, http.Header{"X-Object-Meta-A": {"b"}, backend.CodedWrite: {"x"}})
				rq.Grant = func(string, name.Path) bool { return true }
				resp := c.server().Serve(t.Context(), rq.Request)
				resp.Close()
				c.cluster.Wait()
				want := 503
				if replicas-lost >= c.policy.Quorum() {
					want = map[string]int{http.MethodDelete: 204, http.MethodPost: 202}[method]
				}
				if resp.Status != want || len(asked) != replicas-lost {
					t.Errorf("%d+%d, %s, %d of %d replicas can't be asked: got %d, %v, want %d; asked %v", shape[0], shape[1], method, lost, replicas, resp.Status, resp.Err, want, asked)
				}
			}
		}
	}
}

// In which fragments an object's data is, is the core's to say, and goes to nobody else.
func TestCodedWriteIsTheCoresAlone(t *testing.T) {
	header := http.Header{backend.CodedWrite: {"x"}, "X-Object-Sysmeta-Other": {"y"}}
	if kept := storedHeaders(header); kept.Has(backend.CodedWrite) || !kept.Has("X-Object-Sysmeta-Other") {
		t.Errorf("of %v this is kept: %v", header, kept)
	}
	shown := http.Header{}
	showSystem(shown, backend.Header{{Name: strings.ToLower(backend.CodedWrite), Value: "x"}, {Name: "X-Object-Sysmeta-Other", Value: "y"}})
	if shown.Get(backend.CodedWrite) != "" || shown.Get("X-Object-Sysmeta-Other") != "y" {
		t.Errorf("features are shown %v", shown)
	}
}

// Some replica has data without a version, so that the commit is written once more. Nothing of the fragments
// is touched then: the first round was of them, and the others have taken their commits.
func TestCodedVersionThatIsWrittenTwice(t *testing.T) {
	plain := timestamp.FromTicks(timestamp.Now().Ticks() - 1e7)
	c, data := newCodedNodes(t, 4, 2), randomBytes(100<<10)
	var asked atomic.Bool
	c.script(func(device string, r *backend.Request, _ func() *backend.Response) *backend.Response {
		switch {
		case isFragment(r) && r.Method == http.MethodPut && asked.Load():
			return saying(507)(r, nil)
		case r.Method == http.MethodGet: // that data has been kept by somebody else
			return nodetest.Status(404, "")
		case r.Method == http.MethodHead:
			return nodetest.Status(200, plain.String())
		case isCommit(r) && device == "d3" && asked.CompareAndSwap(false, true):
			resp := nodetest.Status(409, plain.String())
			resp.Header.Add(backend.Unversioned, plain.String())
			return resp
		}
		return nil
	})
	resp := c.put(t.Context(), c.server(), http.Header{backend.NewVersion: {"true"}}, bytes.NewReader(data), int64(len(data)))
	id, err := timestamp.Parse(resp.Get(backend.VersionID))
	if resp.Status != 201 || err != nil || !asked.Load() {
		t.Fatalf("got %d, %v, version %v", resp.Status, resp.Err, err)
	}
	c.whole("twice", name.Path{Account: "a", Container: "c", Object: "o"}.Version(id).Object, data, c.policy.Replicas(), c.policy.Fragments())
}

// Who keeps once more what is kept already, and can't, leaves what is there: a commit may name it.
func TestCodedUploadOfTheSameUndoesNothing(t *testing.T) {
	for _, size := range []int{100 << 10, 3<<20 + 5} {
		c, data := newCodedNodes(t, 4, 2), randomBytes(size)
		s := c.server()
		if resp := c.put(t.Context(), s, nil, bytes.NewReader(data), int64(size)); resp.Status != 201 {
			t.Fatalf("%d bytes: got %d, %v", size, resp.Status, resp.Err)
		}
		first := c.replicas("o")["d0"]
		c.fail(func(r *backend.Request) bool { return isFragment(r) && r.Method == http.MethodPut }, upTo(2), true, saying(507))
		rq := newTestRequest(t, http.MethodPut, http.Header{})
		path := name.Path{Account: "a", Container: "c", Object: "o"}
		place, err := c.cluster.Object(codedPolicy, path)
		if err != nil {
			t.Fatal(err)
		}
		up := s.upload(place, func(_ int, stamp string) backend.Header {
			return backend.Header{{Name: backend.Timestamp, Value: stamp}, {Name: backend.PolicyIndex, Value: codedPolicy.String()}}
		})
		up.stamp, up.length, up.coded = first.time, int64(size), s.codedUpload(rq, codedPolicy, func(timestamp.T) name.Path { return path })
		if err := up.coded.as(first.header); err != nil {
			t.Fatal(err)
		}
		if _, err := up.run(t.Context(), bytes.NewReader(data)); err == nil {
			t.Errorf("%d bytes: two of six devices took nothing, and it is kept", size)
		}
		c.whole(fmt.Sprint(size), "o", data, c.policy.Replicas(), c.policy.Fragments())
	}
}
