package container

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// names lists a container, with a query.
func names(t *testing.T, s *Server, query string) string {
	t.Helper()
	list, err := listing.DecodeObjects([]byte(want(t, s, 200, "GET /sda/0/a/c?"+query).body))
	if err != nil {
		t.Fatal(err)
	}
	var b []string
	for _, o := range list {
		b = append(b, o.Name)
	}
	return strings.Join(b, " ")
}

func TestLife(t *testing.T) {
	s, _ := start(t, t.TempDir())
	want(t, s, 404, "HEAD /sda/0/a/c")
	want(t, s, 404, "GET /sda/0/a/c")
	want(t, s, 404, "POST /sda/0/a/c", at(1))
	want(t, s, 404, "DELETE /sda/0/a/c", at(1))
	want(t, s, 404, "PUT /sda/0/a/c/o", object(1, 1)...)
	want(t, s, 404, "DELETE /sda/0/a/c/o", at(1))

	want(t, s, 201, "PUT /sda/0/a/c", at(10), "X-Container-Read: .r:*", "X-Container-Meta-A: 1", "X-Backend-Storage-Policy-Default: 3")
	want(t, s, 202, "PUT /sda/0/a/c", at(11), "X-Container-Meta-A: ", "x-container-meta-b: 2")
	want(t, s, 204, "POST /sda/0/a/c", at(12), "X-Container-Write: test")
	policy := "X-Backend-Storage-Policy-Index: 3"
	want(t, s, 201, "PUT /sda/0/a/c/o%2F1", object(13, 100, policy)...)
	want(t, s, 201, "PUT /sda/0/a/c/o2", object(13, 1, policy, "X-Meta-Timestamp: 15", "X-Content-Type-Timestamp: 14")...)
	want(t, s, 201, "PUT /sda/0/a/c/other", object(13, 7)...) // of another policy: hidden
	want(t, s, 201, "PUT /sda/0/a/c/o3", object(13, 5, policy)...)
	want(t, s, 204, "DELETE /sda/0/a/c/o3", at(14), policy)
	want(t, s, 201, "PUT /sda/0/a/c/o3", object(13, 5, policy)...)

	a := want(t, s, 200, "GET /sda/0/a/c")
	const body = `[{"name":"o/1","hash":"d41d8cd98f00b204e9800998ecf8427e","bytes":100,"content_type":"text/plain","last_modified":"1970-01-01T00:00:13.000000"},` +
		`{"name":"o2","hash":"d41d8cd98f00b204e9800998ecf8427e","bytes":1,"content_type":"text/plain","last_modified":"1970-01-01T00:00:15.000000"}]`
	if a.body != body {
		t.Errorf("GET gives %s, want %s", a.body, body)
	}
	for n, v := range map[string]string{
		"Content-Type": "application/json; charset=utf-8", "X-Container-Object-Count": "2", "X-Container-Bytes-Used": "101",
		"X-Backend-Storage-Policy-Index": "3", "X-Timestamp": "0000000010.00000", "X-PUT-Timestamp": "0000000012.00000",
		"X-Backend-PUT-Timestamp": "0000000012.00000", "X-Container-Read": ".r:*", "X-Container-Write": "test",
		"X-Container-Meta-A": "", "X-Container-Meta-B": "2",
	} {
		if got := a.header.Get(n); got != v {
			t.Errorf("header %s is %q, want %q", n, got, v)
		}
	}
	if got := names(t, s, "delimiter=/&reverse=1&limit=2"); got != "o2 o/" {
		t.Errorf("in reverse with a delimiter: %s", got)
	}
	if got := names(t, s, "path=o"); got != "o/1" {
		t.Errorf("by path: %s", got)
	}
	want(t, s, 412, "GET /sda/0/a/c?limit=10001")
	want(t, s, 204, "HEAD /sda/0/a/c?limit=10001")
	if a := want(t, s, 409, "PUT /sda/0/a/c", at(16), "X-Backend-Storage-Policy-Index: 0"); a.header.Get(backend.PolicyIndex) != "3" {
		t.Errorf("a conflict of policies does not say which: %v", a.header)
	}
	want(t, s, 202, "PUT /sda/0/a/c", at(16), policy)
}

func TestDeleteAndAgain(t *testing.T) {
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/a/c", at(10), "X-Container-Meta-A: 1")
	want(t, s, 201, "PUT /sda/0/a/c/o", object(11, 1)...)
	want(t, s, 409, "DELETE /sda/0/a/c", at(12))
	want(t, s, 204, "DELETE /sda/0/a/c/o", at(13))
	want(t, s, 409, "DELETE /sda/0/a/c", at(9))
	want(t, s, 204, "DELETE /sda/0/a/c", at(20))
	want(t, s, 404, "DELETE /sda/0/a/c", at(21))
	a := want(t, s, 404, "GET /sda/0/a/c")
	if a.header.Get("X-Backend-DELETE-Timestamp") != "0000000021.00000" || a.header.Get("X-Container-Object-Count") != "" {
		t.Errorf("a deleted container says %v", a.header)
	}
	want(t, s, 404, "HEAD /sda/0/a/c")
	want(t, s, 404, "POST /sda/0/a/c", at(22))
	want(t, s, 409, "PUT /sda/0/a/c", at(21))
	want(t, s, 201, "PUT /sda/0/a/c/late", object(12, 1)...) // taken, and hidden
	want(t, s, 404, "GET /sda/0/a/c")

	want(t, s, 201, "PUT /sda/0/a/c", at(30), "X-Backend-Storage-Policy-Index: 3")
	a = want(t, s, 204, "HEAD /sda/0/a/c")
	for n, v := range map[string]string{
		"X-Container-Meta-A": "", "X-Backend-Storage-Policy-Index": "3", "X-Container-Object-Count": "0",
		"X-Backend-Status-Changed-At": "0000000030.00000",
	} {
		if got := a.header.Get(n); got != v {
			t.Errorf("made again, header %s is %q, want %q", n, got, v)
		}
	}
	if got := names(t, s, ""); got != "" {
		t.Errorf("made again, it lists %s", got)
	}
}

// Whoever makes a container anew finds it without metadata, also where a write
// from before the DELETE comes after it.
func TestMetadataOlderThanTheDelete(t *testing.T) {
	var answers []string
	for i, order := range [][]string{
		{"PUT 15", "DELETE 20", "PUT 30", "POST 31"},
		{"DELETE 20", "PUT 30", "PUT 15", "POST 31"},
		{"DELETE 20", "PUT 30", "POST 31", "PUT 15"},
	} {
		s, _ := start(t, t.TempDir())
		want(t, s, 201, "PUT /sda/0/a/c", at(10))
		for _, step := range order {
			method, seconds, _ := strings.Cut(step, " ")
			stamp := fmt.Sprintf("X-Timestamp: 00000000%s.00000", seconds)
			if a := ask(t, s, method+" /sda/0/a/c", stamp, "X-Container-Meta-A: "+seconds, "X-Container-Meta-"+seconds+": x"); a.status/100 != 2 {
				t.Fatalf("order %d, %s: %d %s", i, step, a.status, a.body)
			}
		}
		h := want(t, s, 204, "HEAD /sda/0/a/c").header
		answers = append(answers, fmt.Sprint(h.Get("X-Container-Meta-A"), h.Get("X-Container-Meta-15"), h.Get("X-Container-Meta-30"), h.Get("X-Container-Meta-31")))
	}
	for i, got := range answers {
		if got != "31xx" {
			t.Errorf("order %d ends in the metadata %q, want that of after the DELETE, 31xx", i, got)
		}
	}
}

func TestRowNewerThanTheDelete(t *testing.T) {
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/a/c", at(10))
	want(t, s, 204, "DELETE /sda/0/a/c", at(20))
	want(t, s, 201, "PUT /sda/0/a/c/new", object(21, 1)...)
	if got := names(t, s, ""); got != "new" {
		t.Errorf("listed is %q, want the row that is newer than the DELETE", got)
	}
}

// Rows of another policy than the container's stand in the way of its DELETE, and are listed for who asks for them.
func TestRowsOfOtherPolicies(t *testing.T) {
	const policy = "X-Backend-Storage-Policy-Index"
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/a/c", at(10))
	want(t, s, 201, "PUT /sda/0/a/c/own", object(11, 1)...)
	if a := want(t, s, 200, "GET /sda/0/a/c"); a.header.Has(backend.Elsewhere) {
		t.Errorf("without such rows: %v", a.header)
	}
	want(t, s, 201, "PUT /sda/0/a/c/other", append(object(12, 1), policy+": 3")...)
	want(t, s, 204, "DELETE /sda/0/a/c/own", at(13))
	for _, tt := range []struct{ asked, listed string }{{"", ""}, {"0", ""}, {"3", "other"}} {
		a := want(t, s, 200, "GET /sda/0/a/c", policy+": "+tt.asked)
		list, err := listing.DecodeObjects([]byte(a.body))
		if err != nil || len(list) > 0 != (tt.listed != "") || len(list) > 0 && list[0].Name != tt.listed || a.header.Get(backend.Elsewhere) != "3" {
			t.Errorf("policy %q: listed is %v, %v, elsewhere are rows of %q", tt.asked, list, err, a.header.Get(backend.Elsewhere))
		}
	}
	want(t, s, 503, "GET /sda/0/a/c", policy+": 7")
	want(t, s, 409, "DELETE /sda/0/a/c", at(14))
	want(t, s, 204, "DELETE /sda/0/a/c/other", at(15), policy+": 3")
	if a := want(t, s, 200, "GET /sda/0/a/c"); a.header.Has(backend.Elsewhere) {
		t.Errorf("when they are gone: %v", a.header)
	}
	want(t, s, 204, "DELETE /sda/0/a/c", at(16))
}

func TestAutoCreate(t *testing.T) {
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/.expiring/c/o", append(object(11, 1), at(11)+"+5")[1:]...)
	if a := want(t, s, 200, "GET /sda/0/.expiring/c"); !strings.Contains(a.body, `"name":"o"`) || a.header.Get("X-Timestamp") != "0000000011.00000" {
		t.Errorf("made on the fly: %v %s", a.header, a.body)
	}
	want(t, s, 204, "DELETE /sda/0/.expiring/d/o", at(1))
	want(t, s, 404, "PUT /sda/0/.expiring/e/o", object(11, 1, "X-Backend-Auto-Create: no")...)
}

func TestRefused(t *testing.T) {
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/a/c", at(1))
	ahead := "X-Timestamp: " + timestamp.FromTime(time.Now().Add(time.Hour)).String()
	early := timestamp.Expiry(timestamp.FromTicks(1), timestamp.FromTicks(1), time.Now().Add(25*time.Hour).Unix())
	long := "X-Container-Meta-A: " + strings.Repeat("x", 4096)
	for what, c := range map[string]struct {
		line    string
		headers []string
		status  int
		says    string
	}{
		"no stamp":            {"PUT /sda/0/a/c", nil, 400, "Missing X-Timestamp"},
		"a stamp ahead":       {"PUT /sda/0/a/c/o", append([]string{ahead}, object(1, 1)...), 400, "ahead of this node's clock"},
		"an end of tomorrow":  {"DELETE /sda/0/a/c/o", []string{"X-Timestamp: " + early.String()}, 400, "ahead of this node's clock"},
		"a packed part ahead": {"PUT /sda/0/a/c/o", append([]string{at(1) + "+ffffffffffff"}, object(1, 1)...), 400, "ahead"},
		"not packed":          {"PUT /sda/0/a/c/o", append([]string{at(1) + "+x"}, object(1, 1)...), 400, "not a timestamp"},
		"a meta ahead":        {"PUT /sda/0/a/c/o", object(1, 1, strings.Replace(ahead, "X-", "X-Meta-", 1)), 400, "ahead"},
		"no size":             {"PUT /sda/0/a/c/o", []string{at(1), "X-Etag: e", "X-Content-Type: t"}, 400, "X-Size"},
		"no type":             {"PUT /sda/0/a/c/o", []string{at(1), "X-Etag: e", "X-Size: 3"}, 400, "X-Content-Type"},
		"no etag":             {"PUT /sda/0/a/c/o", []string{at(1), "X-Content-Type: e", "X-Size: 3"}, 400, "X-Etag"},
		"no such policy":      {"PUT /sda/0/a/c/o", object(1, 1, "X-Backend-Storage-Policy-Index: 9"), 503, "no such policy"},
		"no container":        {"PUT /sda/0/a", []string{at(1)}, 400, "parts"},
		"a verb":              {"REPLICATE /sda/0/a/c", []string{at(1)}, 405, ""},
		"a verb for a row":    {"GET /sda/0/a/c/o", nil, 405, ""},
		"too much metadata":   {"POST /sda/0/a/c", []string{at(2), long}, 400, "max 4096"},
		"lists that differ":   {"PUT /sda/0/a/d", []string{at(2), "X-Account-Partition: 3", "X-Account-Host: a:1,b:1", "X-Account-Device: sda"}, 400, "fit"},
		"an empty host":       {"PUT /sda/0/a/d", []string{at(2), "X-Account-Partition: 3", "X-Account-Host: a:1,", "X-Account-Device: sda,sdb"}, 400, "fit"},
		"bad partition":       {"PUT /sda/0/a/d", []string{at(2), "X-Account-Partition: x", "X-Account-Host: a:1", "X-Account-Device: sda"}, 400, "number"},
		"a device":            {"PUT /sdz/0/a/d", []string{at(2)}, 507, ""},
	} {
		a := ask(t, s, c.line, c.headers...)
		if a.status != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: got %d %q, want %d and %q in it", what, a.status, a.body, c.status, c.says)
		}
	}
	want(t, s, 404, "HEAD /sda/0/a/d")
	if a := want(t, s, 204, "HEAD /sda/0/a/c"); a.header.Get("X-Container-Object-Count") != "0" {
		t.Errorf("something of what was refused was done: %v", a.header)
	}
}

func TestTellsTheAccount(t *testing.T) {
	s, to := start(t, t.TempDir())
	told := []string{"X-Account-Partition: 7", "X-Account-Host: n1:1, n2:2,n3:3", "X-Account-Device: sda,sdb, sdc"}
	to.status["n2:2"], to.status["n3:3"] = 0, -1 // one that refuses and one that is silent: neither matters
	want(t, s, 201, "PUT /sda/0/a/c", append([]string{at(10)}, told...)...)
	row := "put=0000000010.00000 delete=0000000000.00000 0/0 policy=0"
	if got, want := to.heard(), []string{"n1:1 PUT /sda/7/a/c " + row, "n2:2 PUT /sdb/7/a/c " + row, "n3:3 PUT /sdc/7/a/c " + row}; !slices.Equal(got, want) {
		t.Errorf("the accounts heard %q, want %q", got, want)
	}
	clear(to.status)
	want(t, s, 204, "DELETE /sda/0/a/c", append([]string{at(11)}, told...)...)
	if got := to.heard(); len(got) != 3 || !strings.Contains(got[0], "delete=0000000011.00000") {
		t.Errorf("of the DELETE the accounts heard %q", got)
	}
	if to.insisted() {
		t.Error("deleted accounts were to take what a client's request says")
	}
	want(t, s, 404, "DELETE /sda/0/a/c", append([]string{at(12), "X-Account-Override-Deleted: yes"}, told...)...)
	if to.heard(); !to.insisted() {
		t.Error("deleted accounts were not to take what their reaper says")
	}
	for n := range strings.SplitSeq("n1:1 n2:2 n3:3", " ") {
		to.status[n] = 404
	}
	want(t, s, 404, "PUT /sda/0/a/d", append([]string{at(10)}, told...)...)
	to.status["n3:3"] = 0
	want(t, s, 201, "PUT /sda/0/a/e", append([]string{at(10)}, told...)...)
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	report := func(s *Server, all bool, fail error) []string {
		t.Helper()
		var mu sync.Mutex
		var got []string
		err := s.Report(t.Context(), all, func(_ context.Context, p name.Path, h backend.Header) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%s %s/%s %s", p, h.Get("X-Object-Count"), h.Get("X-Bytes-Used"), h.Get("X-Account-Override-Deleted")))
			return fail
		})
		if !errors.Is(err, fail) {
			t.Errorf("Report returns %v, want %v", err, fail)
		}
		return slices.Sorted(slices.Values(got))
	}
	check := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: told was %q, want %q", what, got, want)
		}
	}
	want(t, s, 201, "PUT /sda/0/a/c", at(10))
	want(t, s, 201, "PUT /sda/0/a/d", at(10))
	check("two new ones", report(s, false, nil), "/a/c 0/0 yes", "/a/d 0/0 yes")
	check("no news", report(s, false, nil))
	check("no news of any", report(s, true, nil))
	want(t, s, 201, "PUT /sda/0/a/c/o", object(11, 5)...)
	down := errors.New("the account is down")
	check("told in vain", report(s, false, down), "/a/c 1/5 yes")
	check("told again", report(s, false, nil), "/a/c 1/5 yes")
	want(t, s, 201, "PUT /sda/0/a/d/o", object(11, 6)...)
	want(t, s, 204, "DELETE /sda/0/a/c/o", at(12))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, dir)
	check("after a start what changed is not known", report(s, false, nil))
	check("but is found", report(s, true, nil), "/a/c 0/0 yes", "/a/d 1/6 yes")
	check("once", report(s, true, nil))
}

// Containers are told of beside each other, so that updates for one server can
// travel together.
func TestReportsAtOnce(t *testing.T) {
	s, _ := start(t, t.TempDir())
	for i := range reportsAtOnce + 8 {
		want(t, s, 201, fmt.Sprintf("PUT /sda/0/a/c%d", i), at(10))
	}
	var all sync.WaitGroup
	all.Add(reportsAtOnce)
	var told atomic.Int64
	err := s.Report(t.Context(), false, func(context.Context, name.Path, backend.Header) error {
		if told.Add(1) <= reportsAtOnce {
			all.Done()
			all.Wait() // for ever, if they came one by one
		}
		return nil
	})
	if err != nil || told.Load() != reportsAtOnce+8 {
		t.Errorf("told of %d, %v", told.Load(), err)
	}
}

// A device that could not be used when all was looked at is looked at once it
// can be.
func TestReportOfADeviceThatComesLater(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	want(t, s, 201, "PUT /sda/0/a/c", at(10))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, dir)
	dev, err := s.core.Devices.Lookup("sda")
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		all   bool
		fault error
		stop  bool
		want  int
	}{
		{all: true, fault: errors.New("not mounted")},
		{fault: errors.New("not mounted")},
		{stop: true},
		{want: 1},
		{},
	} {
		dev.Fail(step.fault)
		told := 0
		ctx, cancel := context.WithCancel(t.Context())
		if step.stop {
			cancel()
		}
		err := s.Report(ctx, step.all, func(context.Context, name.Path, backend.Header) error { told++; return nil })
		if told != step.want || (err != nil) != step.stop {
			t.Errorf("step %d: told %d times, %v; want %d", i, told, err, step.want)
		}
		cancel()
	}
}

// Whatever is done to a container in whatever order, with rows of two policies,
// older than its DELETE and newer, it counts what it lists.
func TestCountsAreWhatIsListed(t *testing.T) {
	s, _ := start(t, t.TempDir())
	dev, err := s.core.Devices.Lookup("sda")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		path := fmt.Sprintf("/sda/0/a/c%d", n)
		var done []string
		for range rapid.IntRange(1, 15).Draw(r, "steps") {
			seconds := rapid.IntRange(1, 9).Draw(r, "stamp")
			policy := "X-Backend-Storage-Policy-Index: " + rapid.SampledFrom([]string{"0", "3"}).Draw(r, "policy")
			line, headers := path, []string{at(seconds), policy}
			if rapid.IntRange(0, 2).Draw(r, "what") > 0 {
				line += rapid.SampledFrom([]string{"/x", "/y"}).Draw(r, "row")
				headers = object(seconds, rapid.IntRange(0, 5).Draw(r, "size"), policy)
			}
			line = rapid.SampledFrom([]string{"PUT ", "PUT ", "DELETE "}).Draw(r, "verb") + line
			a := ask(t, s, line, headers...)
			if done = append(done, fmt.Sprint(line, headers, a.status)); a.status >= 500 {
				r.Fatalf("%q", done)
			}
			a = ask(t, s, "GET "+path)
			if a.status == 404 {
				continue
			}
			list, err := listing.DecodeObjects([]byte(a.body))
			if err != nil {
				r.Fatal(err)
			}
			var bytes int64
			for _, o := range list {
				bytes += o.Bytes
			}
			if got, want := a.header.Get("X-Container-Object-Count")+"/"+a.header.Get("X-Container-Bytes-Used"), fmt.Sprintf("%d/%d", len(list), bytes); got != want {
				r.Fatalf("%q: counted are %s, listed %s", done, got, want)
			}
		}
		hash := s.core.Hasher.Hash(name.Path{Account: "a", Container: fmt.Sprintf("c%d", n)})
		if err := s.Store().Check(t.Context(), metadb.Location{Device: dev, Hash: hash}); err != nil && !errs.Is(err, errs.NotFound) {
			r.Fatalf("%q: %v", done, err)
		}
	})
}

func TestManyWriters(t *testing.T) {
	s, _ := start(t, t.TempDir())
	want(t, s, 201, "PUT /sda/0/a/c", at(1))
	const writers, each = 16, 8
	done := make(chan error)
	for w := range writers {
		go func() {
			var err error
			for i := range each {
				_, e := s.Serve(context.Background(), request(fmt.Sprintf("PUT /sda/0/a/c/%d-%d", w, i), object(5+i, 2)...))
				err = errors.Join(err, e)
			}
			done <- err
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	a := want(t, s, 204, "HEAD /sda/0/a/c")
	if n, b := a.header.Get("X-Container-Object-Count"), a.header.Get("X-Container-Bytes-Used"); n != "128" || b != "256" {
		t.Errorf("%s objects of %s bytes, want 128 of 256", n, b)
	}
}

// Of a container that may have been deleted elsewhere nothing is told but what a request does to it now; what there is
// to tell is told once it may be, also after a start.
func TestHeldBack(t *testing.T) {
	dir := t.TempDir()
	s, to := start(t, dir)
	fenced := errors.New("fenced")
	hold := func(s *Server, held *error) {
		s.may = func(device string, h name.Hash) error {
			if device != "sda" || h != s.core.Hasher.Hash(name.Path{Account: "a", Container: "c"}) {
				t.Errorf("asked was about %s of %s", h, device)
			}
			return *held
		}
	}
	report := func(s *Server, all bool) (told int) {
		t.Helper()
		err := s.Report(t.Context(), all, func(context.Context, name.Path, backend.Header) error { told++; return nil })
		if err != nil {
			t.Error(err)
		}
		return told
	}
	held := fenced
	hold(s, &held)
	want(t, s, 201, "PUT /sda/0/a/c", at(10))
	want(t, s, 201, "PUT /sda/0/a/c/o", object(11, 5)...)
	if n := report(s, false) + report(s, true); n != 0 {
		t.Errorf("told was of %d that may not be", n)
	}
	place := []string{"X-Account-Partition: 7", "X-Account-Host: n1:1", "X-Account-Device: sda"}
	want(t, s, 202, "PUT /sda/0/a/c", append([]string{at(12)}, place...)...)
	if got, row := to.heard(), "put=0000000012.00000 delete=0000000000.00000 0/0 policy=0"; len(got) != 1 || !strings.HasSuffix(got[0], row) {
		t.Errorf("of the PUT the account heard %q, want %q, and not that it has an object", got, row)
	}
	want(t, s, 202, "PUT /sda/0/a/c", append([]string{at(9)}, place...)...)
	if got := to.heard(); len(got) != 0 {
		t.Errorf("of a PUT that changes nothing the account heard %q", got)
	}
	want(t, s, 204, "DELETE /sda/0/a/c/o", at(13))
	want(t, s, 204, "DELETE /sda/0/a/c", append([]string{at(14)}, place...)...)
	if got, row := to.heard(), "put=0000000000.00000 delete=0000000014.00000 0/0 policy=0"; len(got) != 1 || !strings.HasSuffix(got[0], row) {
		t.Errorf("of the DELETE the account heard %q, want %q", got, row)
	}
	held = nil
	if n := report(s, false); n != 1 {
		t.Errorf("once it may be told of, %d were", n)
	}
	held = fenced
	want(t, s, 201, "PUT /sda/0/a/c", at(15))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = start(t, dir)
	hold(s, &held)
	if n := report(s, true); n != 0 {
		t.Errorf("after a start told was of %d that may not be", n)
	}
	held = nil
	if n := report(s, false); n != 1 {
		t.Errorf("once it may be told of after a start, %d were", n)
	}
}
