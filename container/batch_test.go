package container

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/rowbatch"
)

// batchOf makes a request of updates given as "METHOD /path" and headers.
func batchOf(t testing.TB, list ...*backend.Request) *backend.Request {
	t.Helper()
	var b rowbatch.Batch
	for _, r := range list {
		b.Updates = append(b.Updates, rowbatch.Update{Method: r.Method, Path: r.Path, Header: r.Header})
	}
	body, err := b.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw(body)
}

func raw(body []byte) *backend.Request {
	return &backend.Request{Method: rowbatch.Method, Path: rowbatch.Path, Length: int64(len(body)), Body: bytes.NewReader(body)}
}

// results sends a batch and returns what became of its updates.
func results(t testing.TB, s *Server, list ...*backend.Request) []rowbatch.Result {
	t.Helper()
	resp, err := s.Serve(t.Context(), batchOf(t, list...))
	if err != nil || resp.Status != 200 {
		t.Fatal(resp, err)
	}
	body, err := rowbatch.Read(resp.Body, resp.Length)
	if err != nil {
		t.Fatal(err)
	}
	got, err := rowbatch.ParseResults(body, len(list))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Each update has its own answer, and one that fails takes no other with it.
func TestBatch(t *testing.T) {
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/a/c", at(1))
	long := strings.Repeat("x", 300)
	cases := []struct {
		request *backend.Request
		status  int
		says    string
	}{
		{request("PUT /sda/0/a/c/o", object(5, 7)...), 201, ""},
		{request("PUT /sda/0/a/none/o", object(5, 7)...), 404, ""},
		{request("PUT /sdz/0/a/c/o", object(5, 7)...), 507, ""},
		{request("DELETE /sda/0/a/c/p", at(6)), 204, ""},
		{request("PUT /sda/0/a/c/q", at(6)), 400, "X-Size"},
		{request("PUT /sda/0/a/c/q", object(5, 7, "X-Backend-Storage-Policy-Index: 9")...), 503, "no such policy"},
		{request("PUT /sda/0/a/d", at(6)), 400, "not that of an object"}, // it would make a container
		{request("DELETE /sda/0/a/c", at(6)), 400, "not that of an object"},
		{request("PUT /nonsense", at(6)), 400, "path"},
		{request("PUT /sda/0/a/c/"+long, object(5, 7)...), 201, ""},
		{request("PUT /sda/0/a/c/r", object(5, 7)...), 201, ""},
	}
	list := make([]*backend.Request, len(cases))
	for i := range cases {
		list[i] = cases[i].request
	}
	for i, r := range results(t, s, list...) {
		if c := cases[i]; r.Status != c.status || !strings.Contains(r.Text, c.says) || r.Late {
			t.Errorf("%s %.40s: %+v, want %d and %q", c.request.Method, c.request.Path, r, c.status, c.says)
		}
	}
	if got := names(t, s, ""); got != "o r "+long {
		t.Errorf("listed is %q", got)
	}
	want(t, s, 404, "HEAD /sda/0/a/d")
}

// What can't be read is refused as a whole.
func TestMalformedBatch(t *testing.T) {
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/a/c", at(1))
	good := batchOf(t, request("PUT /sda/0/a/c/o", object(5, 7)...))
	body, err := io.ReadAll(good.Body)
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{"empty": nil, "cut short": body[:len(body)-1], "longer": append(slices.Clone(body), 0), "text": []byte("x=1")} {
		if got := status(t, s, raw(b)); got != 400 {
			t.Errorf("%s: %d", what, got)
		}
	}
	for i := range body {
		garbled := slices.Clone(body)
		garbled[i] ^= 0x20
		if got := status(t, s, raw(garbled)); got != 400 {
			t.Errorf("garbled at %d: %d", i, got)
		}
	}
	elsewhere := raw(body)
	elsewhere.Path = "/sda/0/a/c"
	if got := status(t, s, elsewhere); got != 405 {
		t.Errorf("at the path of a container: %d", got)
	}
	if a := want(t, s, 204, "HEAD /sda/0/a/c"); a.header.Get("X-Container-Object-Count") != "0" {
		t.Errorf("something was done: %v", a.header)
	}
}

// status is the status of a request with a body.
func status(t *testing.T, s *Server, r *backend.Request) int {
	t.Helper()
	resp, err := s.Serve(t.Context(), r)
	if err != nil {
		return statusOf(err)
	}
	return resp.Status
}

// Any mix of updates, however they are put into batches, ends in the rows and the
// answers of the same updates one by one.
func TestBatchesEndInTheSameRows(t *testing.T) {
	single, _ := start(t, t.TempDir())
	batched, _ := start(t, t.TempDir())
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		containers := []string{fmt.Sprintf("a/c%d", round), fmt.Sprintf("b/c%d", round), fmt.Sprintf("a/none%d", round)}
		for _, s := range []*Server{single, batched} {
			for _, c := range containers[:2] {
				want(t, s, 201, "PUT /sda/0/"+c, at(1))
			}
		}
		list := make([]*backend.Request, rapid.IntRange(1, 12).Draw(rt, "n"))
		for i := range list {
			path := "/sda/0/" + rapid.SampledFrom(containers).Draw(rt, "container") + "/" + rapid.SampledFrom([]string{"o", "p"}).Draw(rt, "object")
			at := rapid.IntRange(2, 5).Draw(rt, "at")
			if rapid.Bool().Draw(rt, "delete") {
				list[i] = request("DELETE "+path, fmt.Sprintf("X-Timestamp: %010d.00000", at))
			} else {
				list[i] = request("PUT "+path, object(at, rapid.IntRange(0, 3).Draw(rt, "size"))...)
			}
		}
		var got []int
		for rest := list; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "of one batch")
			for _, r := range results(t, batched, rest[:n]...) {
				got = append(got, r.Status)
			}
			rest = rest[n:]
		}
		for i, r := range list {
			if wanted := status(t, single, r); got[i] != wanted {
				rt.Fatalf("%s %s: %d in a batch, %d alone", r.Method, r.Path, got[i], wanted)
			}
		}
		for _, c := range containers[:2] {
			x, y := want(t, single, 200, "GET /sda/0/"+c), want(t, batched, 200, "GET /sda/0/"+c)
			if x.body != y.body || x.header.Get("X-Container-Bytes-Used") != y.header.Get("X-Container-Bytes-Used") {
				rt.Fatalf("one by one %s, in batches %s", x.body, y.body)
			}
		}
	})
}

// Many writers, over the network, with all that is between them.
func TestSenderAndServer(t *testing.T) {
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/a/c", at(1))
	client := direct.New(direct.Config{NodeTimeout: time.Minute})
	defer client.Close()
	sender := rowbatch.NewSender(rowbatch.Config{Flights: 1}, client)
	addr := serveHTTP(t, s)
	const writers, each = 32, 8
	expected := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				line, status := fmt.Sprintf("PUT /sda/0/a/c/%d-%d", w, i), 201
				if i%4 == 3 {
					line, status = fmt.Sprintf("PUT /sda/0/a/none/%d", i), 404
				}
				resp, err := sender.Do(context.Background(), addr, request(line, object(5+i, 2)...))
				if err != nil || resp.Status != status {
					t.Errorf("%s: %v, %v, want %d", line, resp, err, status)
					continue
				}
				if resp.Body != nil {
					_ = resp.Body.Close()
				}
				if status == 201 {
					mu.Lock()
					expected[fmt.Sprintf("%d-%d", w, i)]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	sender.Close()
	if got, all := names(t, s, ""), strings.Join(slices.Sorted(maps.Keys(expected)), " "); got != all {
		t.Errorf("listed is %q, want %q", got, all)
	}
	if c := sender.Counts(); c.Updates != writers*each || c.Batches == 0 || c.Requests >= c.Updates {
		t.Errorf("sent %+v", c)
	}
}
