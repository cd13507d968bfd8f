package account

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/listing"
	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/rowbatch"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

// start returns a server over one device, "sda".
func start(t *testing.T) *Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sda"), 0o750); err != nil {
		t.Fatal(err)
	}
	set, err := device.NewSet(vfs.OS, dir, []string{"sda"})
	if err != nil {
		t.Fatal(err)
	}
	hasher, err := name.NewHasher("p", "s")
	if err != nil {
		t.Fatal(err)
	}
	policies, err := policy.NewSet([]policy.Policy{{Name: "gold", Default: true}, {Index: 3, Name: "tin"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{MaxListing: 100}, Deps{
		Devices: set, Hasher: hasher, Policies: policies, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// answer is what came back of a request.
type answer struct {
	status int
	header backend.Header
	body   string
}

// ask sends "METHOD /path[?query]" with headers given as "Name: value".
func ask(t *testing.T, s *Server, line string, headers ...string) answer {
	t.Helper()
	method, path, _ := strings.Cut(line, " ")
	path, query, _ := strings.Cut(path, "?")
	r := &backend.Request{Method: method, Path: path, Query: query}
	for _, h := range headers {
		n, v, _ := strings.Cut(h, ": ")
		r.Header.Add(n, v)
	}
	resp, err := s.Serve(t.Context(), r)
	if err != nil {
		return answer{status: statusOf(errs.KindOf(err)), body: errs.PublicOf(err)}
	}
	a := answer{status: resp.Status, header: resp.Header}
	if resp.Body != nil {
		b, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || int64(len(b)) != resp.Length {
			t.Fatalf("%s: %d bytes of %d, %v", line, len(b), resp.Length, err)
		}
		a.body = string(b)
	}
	return a
}

func statusOf(k errs.Kind) int {
	return map[errs.Kind]int{
		errs.Invalid: 400, errs.Forbidden: 403, errs.NotFound: 404, errs.Method: 405, errs.Conflict: 409, errs.Stale: 409,
		errs.Precondition: 412, errs.BadDevice: 507, errs.Corrupt: 503, errs.Unavailable: 503,
	}[k]
}

// at is a stamp of so many seconds.
func at(seconds int) string { return fmt.Sprintf("X-Timestamp: %010d.00000", seconds) }

// row is the headers of a container's row.
func row(stamp, put, deleted, objects, bytes, pol int) []string {
	return []string{
		at(stamp), fmt.Sprintf("X-Put-Timestamp: %d", put), fmt.Sprintf("X-Delete-Timestamp: %d", deleted),
		fmt.Sprintf("X-Object-Count: %d", objects), fmt.Sprintf("X-Bytes-Used: %d", bytes),
		fmt.Sprintf("X-Backend-Storage-Policy-Index: %d", pol),
	}
}

func want(t *testing.T, a answer, status int, what string) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: got %d %s, want %d", what, a.status, a.body, status)
	}
}

func TestLife(t *testing.T) {
	s := start(t)
	for _, line := range []string{"HEAD /sda/0/a", "GET /sda/0/a"} {
		want(t, ask(t, s, line), 404, line+" of nothing")
	}
	want(t, ask(t, s, "POST /sda/0/a", at(1)), 404, "POST to nothing")
	want(t, ask(t, s, "DELETE /sda/0/a", at(1)), 404, "DELETE of nothing")
	want(t, ask(t, s, "PUT /sda/0/a/c", row(1, 1, 0, 0, 0, 0)...), 404, "a row for nothing")
	want(t, ask(t, s, "PUT /sda/0/a", at(10), "X-Account-Meta-Colour: red", "X-Other: no"), 201, "PUT")
	want(t, ask(t, s, "PUT /sda/0/a", at(9)), 202, "PUT again")
	want(t, ask(t, s, "POST /sda/0/a", at(11), "x-account-meta-colour: blue", "X-Account-Sysmeta-K: v"), 204, "POST")
	want(t, ask(t, s, "POST /sda/0/a", at(10), "X-Account-Meta-Colour: green"), 204, "POST of something old")
	want(t, ask(t, s, "PUT /sda/0/a/c1", row(12, 12, 0, 5, 50, 0)...), 201, "a row")
	want(t, ask(t, s, "PUT /sda/0/a/c2", row(12, 12, 0, 7, 70, 3)...), 201, "a row of another policy")
	want(t, ask(t, s, "PUT /sda/0/a/c3", row(13, 12, 13, 0, 0, 0)...), 204, "a deleted row")

	a := ask(t, s, "GET /sda/0/a")
	want(t, a, 200, "GET")
	if body := `[{"name":"c1","count":5,"bytes":50,"last_modified":"1970-01-01T00:00:12.000000","storage_policy_index":0},` +
		`{"name":"c2","count":7,"bytes":70,"last_modified":"1970-01-01T00:00:12.000000","storage_policy_index":3}]`; a.body != body {
		t.Errorf("GET gives %s, want %s", a.body, body)
	}
	for n, v := range map[string]string{
		"Content-Type": "application/json; charset=utf-8", "X-Account-Container-Count": "2", "X-Account-Object-Count": "12",
		"X-Account-Bytes-Used": "120", "X-Backend-Policy-3-Container-Count": "1", "X-Backend-Policy-3-Object-Count": "7",
		"X-Backend-Policy-3-Bytes-Used": "70", "X-Timestamp": "0000000010.00000", "X-PUT-Timestamp": "0000000010.00000",
		"X-Backend-DELETE-Timestamp": "0000000000.00000", "X-Account-Meta-Colour": "blue", "X-Account-Sysmeta-K": "v", "X-Other": "",
	} {
		if got := a.header.Get(n); got != v {
			t.Errorf("header %s is %q, want %q", n, got, v)
		}
	}
	want(t, ask(t, s, "HEAD /sda/0/a"), 204, "HEAD")
	if a := ask(t, s, "GET /sda/0/a?prefix=x"); a.status != 200 || a.body != "[]" {
		t.Errorf("a listing of nothing: %d %s, want 200 []", a.status, a.body)
	}

	if got := a.header.Get(backend.DataStamp); got != "0000000010.00000" {
		t.Errorf("the account was put at %q", got)
	}
	a = ask(t, s, "DELETE /sda/0/a", at(10))
	want(t, a, 409, "DELETE that is older than the PUT")
	if got := a.header.Get(backend.BackendStamp); got != "0000000010.00000" {
		t.Errorf("a DELETE that is refused is told of %q", got)
	}
	a = ask(t, s, "DELETE /sda/0/a", at(20))
	want(t, a, 204, "DELETE")
	if a.header.Get(statusHeader) != "Deleted" {
		t.Errorf("the DELETE is answered with %v", a.header)
	}
	for _, line := range []string{"HEAD /sda/0/a", "GET /sda/0/a", "DELETE /sda/0/a", "POST /sda/0/a"} {
		a := ask(t, s, line, at(21))
		want(t, a, 404, line+" after the DELETE")
		if a.header.Get(statusHeader) != "Deleted" || a.header.Get(backend.DataStamp) != "0000000020.00000" || a.header.Get(backend.BackendPut) != "0000000010.00000" {
			t.Errorf("%s after the DELETE does not say so, and when: %v", line, a.header)
		}
	}
	want(t, ask(t, s, "PUT /sda/0/a", at(30)), 403, "PUT after the DELETE")
	want(t, ask(t, s, "PUT /sda/0/a/c1", row(31, 12, 0, 6, 60, 0)...), 404, "a row after the DELETE")
	want(t, ask(t, s, "PUT /sda/0/a/c1", append(row(31, 12, 0, 6, 60, 0), "X-Account-Override-Deleted: yes")...), 201, "one that insists")
}

// Found are the accounts that were deleted and list something, and nothing else.
func TestDeletedThatListSomething(t *testing.T) {
	s := start(t)
	for _, a := range []string{"lives", "empty", "full", "emptied", "others"} {
		want(t, ask(t, s, "PUT /sda/0/"+a, at(1)), 201, "PUT of "+a)
		if a != "empty" {
			for _, c := range []string{"c1", "%00hidden", "c2", "gone"} {
				want(t, ask(t, s, "PUT /sda/0/"+a+"/"+c, row(2, 2, 0, 1, 1, 0)...), 201, "a row")
			}
			want(t, ask(t, s, "PUT /sda/0/"+a+"/gone", row(3, 2, 3, 0, 0, 0)...), 204, "a deleted row")
		}
		if a != "lives" {
			want(t, ask(t, s, "DELETE /sda/0/"+a, at(4)), 204, "DELETE of "+a)
		}
	}
	for _, c := range []string{"c1", "%00hidden", "c2"} {
		want(t, ask(t, s, "PUT /sda/0/emptied/"+c, append(row(5, 2, 5, 0, 0, 0), "X-Account-Override-Deleted: yes")...), 204, "a row that goes")
	}
	others := s.core.Hasher.Hash(name.Path{Account: "others"})
	looked := 0
	var found []Deleted
	for d, err := range s.Deleted(t.Context(), "sda", func(h name.Hash) bool { return h != others }, func(context.Context) error { looked++; return nil }) {
		if err != nil {
			t.Error(err)
		}
		found = append(found, d)
	}
	if len(found) != 1 || found[0].Name != "full" || found[0].Delete.String() != "0000000004.00000" || looked != 4 {
		t.Errorf("found are %v, after %d looks", found, looked)
	}
	for _, tt := range []struct {
		after string
		limit int
		want  string
	}{{"", 2, "\x00hidden c1"}, {"c1", 2, "c2"}, {"c2", 2, ""}} {
		names, err := s.Containers(t.Context(), "sda", "full", tt.after, tt.limit)
		if got := strings.Join(names, " "); err != nil || got != tt.want {
			t.Errorf("after %q it lists %q, %v; want %q", tt.after, got, err, tt.want)
		}
	}
	if _, err := s.Containers(t.Context(), "sda", "lives", "", 9); !errs.Is(err, errs.NotFound) {
		t.Errorf("an account that was not deleted: %v", err)
	}
	for _, err := range s.Deleted(t.Context(), "sdb", nil, nil) {
		if !errs.Is(err, errs.BadDevice) {
			t.Errorf("of a device that there is not: %v", err)
		}
	}
}

func TestRowsMerge(t *testing.T) {
	s := start(t)
	want(t, ask(t, s, "PUT /sda/0/a", at(1)), 201, "PUT")
	for i, step := range []struct {
		row  []string
		want string // count and bytes listed, "" for no row
	}{
		{row(5, 5, 0, 1, 10, 0), "1 10"},
		{row(4, 6, 0, 9, 90, 0), "1 10"}, // older counts, newer PUT
		{row(7, 1, 0, 2, 20, 0), "2 20"},
		{row(8, 1, 7, 2, 20, 0), "2 20"}, // deleted, but not empty
		{row(9, 1, 1, 0, 0, 0), ""},
		{row(10, 8, 0, 0, 0, 0), "0 0"},
	} {
		ask(t, s, "PUT /sda/0/a/c", step.row...)
		list, err := listing.DecodeContainers([]byte(ask(t, s, "GET /sda/0/a").body))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, c := range list {
			got += fmt.Sprintf("%d %d", c.Count, c.Bytes)
		}
		if got != step.want {
			t.Errorf("step %d: listed is %q, want %q", i, got, step.want)
		}
	}
}

func TestAutoCreate(t *testing.T) {
	s := start(t)
	want(t, ask(t, s, "PUT /sda/0/.misplaced/c", row(5, 5, 0, 1, 10, 0)...), 201, "a row for an account with a dot")
	want(t, ask(t, s, "PUT /sda/0/b/c", append(row(5, 5, 0, 1, 10, 0), "X-Backend-Auto-Create: true")...), 201, "a row that asks for the account")
	want(t, ask(t, s, "HEAD /sda/0/.misplaced"), 204, "HEAD")
	want(t, ask(t, s, "HEAD /sda/0/b"), 204, "HEAD")
	want(t, ask(t, s, "PUT /sda/0/.other/c", append(row(5, 5, 0, 1, 10, 0), "X-Backend-Auto-Create: false")...), 404, "a row that asks not to")
}

func TestRefused(t *testing.T) {
	s := start(t)
	want(t, ask(t, s, "PUT /sda/0/a", at(1), "X-Account-Meta-A: 1"), 201, "PUT")
	ahead := "X-Timestamp: " + timestamp.FromTime(time.Now().Add(time.Hour)).String()
	var many []string
	for i := range 91 {
		many = append(many, fmt.Sprintf("X-Account-Meta-%d: x", i))
	}
	long := "X-Account-Meta-A: " + strings.Repeat("x", 4096)
	for what, c := range map[string]struct {
		line    string
		headers []string
		status  int
		says    string
	}{
		"no stamp":         {"PUT /sda/0/a", nil, 400, "Missing X-Timestamp"},
		"a stamp ahead":    {"PUT /sda/0/a", []string{ahead}, 400, "ahead of this node's clock"},
		"not a stamp":      {"PUT /sda/0/a", []string{"X-Timestamp: soon"}, 400, "not a timestamp"},
		"a packed stamp":   {"PUT /sda/0/a", []string{at(2) + "+1"}, 400, "not a timestamp"},
		"no such device":   {"PUT /sdb/0/a", []string{at(2)}, 507, ""},
		"not a path":       {"PUT /sda/0", []string{at(2)}, 400, "path"},
		"an object":        {"PUT /sda/0/a/c/o", []string{at(2)}, 400, "parts"},
		"a verb":           {"COPY /sda/0/a", []string{at(2)}, 405, ""},
		"a verb for a row": {"DELETE /sda/0/a/c", []string{at(2)}, 405, ""},
		"too many items":   {"POST /sda/0/a", append([]string{at(2)}, many...), 400, "max 90"},
		"too large items":  {"POST /sda/0/a", []string{at(2), long}, 400, "max 4096"},
		"limit":            {"GET /sda/0/a?limit=101", nil, 412, "Maximum limit is 100"},
		"no put stamp":     {"PUT /sda/0/a/c", []string{at(2)}, 400, "X-Put-Timestamp"},
		"a put ahead":      {"PUT /sda/0/a/c", append([]string{strings.Replace(ahead, "X-", "X-Put-", 1)}, row(2, 2, 0, 1, 1, 0)...), 400, "ahead"},
		"not a count":      {"PUT /sda/0/a/c", row(2, 2, 0, -1, 1, 0), 400, "X-Object-Count"},
		"no bytes":         {"PUT /sda/0/a/c", row(2, 2, 0, 1, -1, 0), 400, "X-Bytes-Used"},
		"no policy":        {"PUT /sda/0/a/c", row(2, 2, 0, 1, 1, 2), 503, "Storage-Policy-Index 2: this node's configuration has no such policy"},
	} {
		a := ask(t, s, c.line, c.headers...)
		if a.status != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: got %d %q, want %d and %q in it", what, a.status, a.body, c.status, c.says)
		}
	}
	a := ask(t, s, "HEAD /sda/0/a")
	if a.header.Get("X-Account-Meta-A") != "1" || a.header.Get("X-Account-Meta-5") != "" || a.header.Get("X-Account-Container-Count") != "0" {
		t.Errorf("something of what was refused was done: %v", a.header)
	}
}

func rows() *rapid.Generator[Row] {
	return rapid.Custom(func(t *rapid.T) Row {
		stamp := func(what string) timestamp.T {
			return timestamp.FromTicks(rapid.Int64Range(0, 3).Draw(t, what)).WithOffset(rapid.Uint64Range(0, 1).Draw(t, what+" offset"))
		}
		return Row{
			stamp("put"), stamp("delete"), stamp("stamp"), policy.Index(rapid.IntRange(0, 2).Draw(t, "policy")),
			rapid.Int64Range(0, 2).Draw(t, "objects"), rapid.Int64Range(0, 2).Draw(t, "bytes"),
		}
	})
}

func TestJoinHasNoOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := rows().Draw(t, "a"), rows().Draw(t, "b"), rows().Draw(t, "c")
		ab, ba := a.Join(b), b.Join(a)
		if ab != ba {
			t.Fatalf("a then b is %+v, b then a is %+v", ab, ba)
		}
		bc := b.Join(c)
		if l, r := ab.Join(c), a.Join(bc); l != r {
			t.Fatalf("(a b) c is %+v, a (b c) is %+v", l, r)
		}
		if again := ab.Join(a); again != ab {
			t.Fatalf("a again makes %+v of %+v", again, ab)
		}
	})
}

func TestGoldenRow(t *testing.T) {
	stamp := timestamp.FromTicks(140_246_467_704_188)
	r := Row{stamp, timestamp.T{}, stamp.WithOffset(2), 3, 1000, 1 << 40}
	const want = "01fcea8de7daf11f000000fcea8de7daf11f0203e807808080808020"
	if got := hex.EncodeToString(r.Append(nil)); got != want {
		t.Errorf("the row is %s, want %s", got, want)
	}
}

func FuzzDecodeRow(f *testing.F) {
	r := Row{Put: timestamp.FromTicks(5), Policy: 3, Objects: 4, Bytes: 5}
	f.Add(r.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRow(b)
		if err != nil {
			if !errors.Is(err, metadb.ErrDecode) {
				t.Fatal(err)
			}
			return
		}
		if got := r.Append(nil); string(got) != string(b) {
			t.Fatalf("%x reads as %+v, which is %x", b, r, got)
		}
	})
}

// Containers are told of in batches too, and nothing else is done in one.
func TestBatch(t *testing.T) {
	s := start(t)
	if got := ask(t, s, "PUT /sda/0/a", at(1)); got.status != 201 {
		t.Fatal(got)
	}
	cases := []struct {
		line    string
		headers []string
		status  int
	}{
		{"PUT /sda/0/a/c", row(5, 4, 0, 7, 70, 0), 201},
		{"PUT /sda/0/a/d", row(5, 4, 5, 0, 0, 3), 204},
		{"PUT /sda/0/none/c", row(5, 4, 0, 7, 70, 0), 404},
		{"PUT /sdz/0/a/c", row(5, 4, 0, 7, 70, 0), 507},
		{"PUT /sda/0/a/e", row(5, 4, 0, 7, 70, 0)[:1], 400},
		{"DELETE /sda/0/a/c", row(6, 4, 0, 7, 70, 0), 405},
		{"PUT /sda/0/b", []string{at(5)}, 400}, // it would make an account
		{"DELETE /sda/0/a", []string{at(5)}, 400},
	}
	var batch rowbatch.Batch
	for _, c := range cases {
		u := rowbatch.Update{}
		u.Method, u.Path, _ = strings.Cut(c.line, " ")
		for _, h := range c.headers {
			n, v, _ := strings.Cut(h, ": ")
			u.Header.Add(n, v)
		}
		batch.Updates = append(batch.Updates, u)
	}
	body, err := batch.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Serve(t.Context(), &backend.Request{
		Method: rowbatch.Method, Path: rowbatch.Path, Length: int64(len(body)), Body: strings.NewReader(string(body)),
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := rowbatch.Read(resp.Body, resp.Length)
	if err != nil {
		t.Fatal(err)
	}
	results, err := rowbatch.ParseResults(text, len(cases))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if results[i].Status != c.status {
			t.Errorf("%s: %+v, want %d", c.line, results[i], c.status)
		}
	}
	if a := ask(t, s, "HEAD /sda/0/a"); a.header.Get("X-Account-Container-Count") != "1" || a.header.Get("X-Account-Object-Count") != "7" {
		t.Errorf("the account is %v", a.header)
	}
	for _, gone := range []string{"b", "none"} {
		if a := ask(t, s, "HEAD /sda/0/"+gone); a.status != 404 {
			t.Errorf("%s is there: %v", gone, a)
		}
	}
}

// A row may be forgotten once the newest of what it says may.
func TestNewest(t *testing.T) {
	s := func(n int64) timestamp.T { return timestamp.FromTicks(n) }
	for want, row := range map[int64]Row{
		5: {Put: s(1), Delete: s(5), Stamp: s(4)},
		6: {Put: s(6), Delete: s(5), Stamp: s(4)},
		9: {Put: s(1), Delete: s(5), Stamp: s(9)},
	} {
		if got, err := (schema{}).Newest(row.Append(nil)); err != nil || got != s(want) {
			t.Errorf("%+v: got %s, %v, want %s", row, got, err, s(want))
		}
	}
	if _, err := (schema{}).Newest([]byte("no row")); err == nil {
		t.Error("what is no row has a newest word")
	}
}
