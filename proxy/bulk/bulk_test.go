package bulk

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"martlet/internal/errs"
	"martlet/proxy/chain"
)

// core keeps what is put, and knows containers. Requests about names in refuse
// have that status.
type core struct {
	mu         sync.Mutex // held while a request is served
	containers map[string]bool
	objects    map[string]string
	headers    map[string]http.Header
	refuse     map[string]int // by "METHOD /a/c/o"
	asked      []string
	slow       time.Duration // that a request takes, in a bubble
}

func newCore(containers ...string) *core {
	c := &core{containers: map[string]bool{}, objects: map[string]string{}, headers: map[string]http.Header{}, refuse: map[string]int{}}
	for _, n := range containers {
		c.containers[n] = true
	}
	return c
}

func (c *core) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	if c.slow > 0 {
		<-time.After(c.slow)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := r.Path
	c.asked = append(c.asked, r.Method+" "+p.String())
	if code := c.refuse[r.Method+" "+p.String()]; code != 0 {
		return chain.Text(code, "")
	}
	name := p.Container + "/" + p.Object
	switch {
	case p.Container == "":
		return chain.Text(http.StatusTeapot, "")
	case p.Object == "" && r.Method == http.MethodPut:
		c.containers[p.Container] = true
		return chain.Empty(201)
	case !c.containers[p.Container]:
		return chain.Text(404, "")
	case p.Object == "" && r.Method == http.MethodDelete:
		delete(c.containers, p.Container)
	case r.Method == http.MethodDelete:
		if _, ok := c.objects[name]; !ok {
			return chain.Text(404, "")
		}
		delete(c.objects, name)
	case r.Method == http.MethodPut:
		data, err := io.ReadAll(r.Body)
		if err == nil && int64(len(data)) != r.Length {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return chain.Fail(ctx, err)
		}
		c.objects[name], c.headers[name] = string(data), r.Header
		return chain.Empty(201)
	}
	return chain.Empty(204)
}

const maxPath = 40

func request(method, base, query, body string) *chain.Request {
	r := &chain.Request{Method: method, Query: query, Header: http.Header{"Accept": {"application/json"}}, Length: int64(len(body)), Body: strings.NewReader(body)}
	r.Path.Account = "a"
	r.Path.Container, r.Path.Object, _ = strings.Cut(base, "/")
	return r
}

// told is a report.
type told struct {
	Status  string      `json:"Response Status"`
	Body    string      `json:"Response Body"`
	Errors  [][2]string `json:"Errors"`
	Deleted int         `json:"Number Deleted"`
	Gone    int         `json:"Number Not Found"`
	Created int         `json:"Number Files Created"`
}

func (t told) String() string {
	s := t.Status + " " + t.Body
	for _, e := range t.Errors {
		s += "; " + e[0] + ": " + e[1]
	}
	return s
}

func serve(t *testing.T, cfg Config, c chain.Handler, r *chain.Request) told {
	t.Helper()
	resp := Link(cfg, maxPath)(c).Serve(t.Context(), r)
	body, err := resp.ReadAll(1 << 20)
	if err != nil || resp.Status != 200 || resp.Get("Content-Type") != "application/json" {
		t.Fatalf("got %d, %v, %q, %v", resp.Status, resp.Header, body, err)
	}
	var out told
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return out
}

func TestBulkDelete(t *testing.T) {
	for what, tt := range map[string]struct {
		body string
		want string // of the report
		n    [2]int // deleted, not found
		left string
	}{
		"objects":           {"/c/o\nc/p", "200 OK ", [2]int{2, 0}, "c/a b,c/é"},
		"blank lines":       {"\n\n/c/o\r\n  \n", "200 OK ", [2]int{1, 0}, "c/a b,c/p,c/é"},
		"quoted":            {"/c/a%20b\n/c/%C3%A9\n", "200 OK ", [2]int{2, 0}, "c/o,c/p"},
		"as it is":          {"/c/a b\n/c/é\n", "200 OK ", [2]int{2, 0}, "c/o,c/p"},
		"not there":         {"/c/x\n/other/x\nc/%zz", "200 OK ", [2]int{0, 3}, "c/a b,c/o,c/p,c/é"},
		"container first":   {"/c\n/c/o\n/c/p\n/c/a b\n/c/é", "200 OK ", [2]int{5, 0}, ""},
		"with a slash":      {"/c/", "200 OK ", [2]int{1, 0}, "c/a b,c/o,c/p,c/é"},
		"no text":           {"/c/%ff\n/c/%00\n/c/o", "400 Bad Request ; /c/%FF: 412 Precondition Failed; /c/%00: 412 Precondition Failed", [2]int{1, 0}, "c/a b,c/p,c/é"},
		"the account":       {"/\n", "400 Bad Request ; /: 405 Method Not Allowed", [2]int{0, 0}, "c/a b,c/o,c/p,c/é"},
		"nothing":           {"", "400 Bad Request Invalid bulk delete.", [2]int{0, 0}, "c/a b,c/o,c/p,c/é"},
		"blanks":            {" \n ", "400 Bad Request Invalid bulk delete.", [2]int{0, 0}, "c/a b,c/o,c/p,c/é"},
		"at the limit":      {"1\n2\n3\n4\n5", "200 OK ", [2]int{0, 5}, "c/a b,c/o,c/p,c/é"},
		"and an end":        {"1\n2\n3\n4\n5\n", "200 OK ", [2]int{0, 5}, "c/a b,c/o,c/p,c/é"},
		"too many":          {"/c/o\n2\n3\n4\n5\n6", "413 Request Entity Too Large Maximum Bulk Deletes: 5 per request", [2]int{0, 0}, "c/a b,c/o,c/p,c/é"},
		"too many blank":    {"/c/o\n\n\n\n\n\n", "413 Request Entity Too Large Maximum Bulk Deletes: 5 per request", [2]int{0, 0}, "c/a b,c/o,c/p,c/é"},
		"too long a line":   {"/c/o\n" + strings.Repeat("x", 3*maxPath+3), "400 Bad Request Invalid File Name", [2]int{0, 0}, "c/a b,c/o,c/p,c/é"},
		"too long a name":   {"/c/" + strings.Repeat("x", maxPath-2), "400 Bad Request ; /c/" + strings.Repeat("x", maxPath-3) + ": 400 Bad Request", [2]int{0, 0}, "c/a b,c/o,c/p,c/é"},
		"all of it encoded": {strings.Repeat("%63", maxPath-1), "200 OK ", [2]int{0, 1}, "c/a b,c/o,c/p,c/é"},
	} {
		for _, method := range []string{"POST", "DELETE"} {
			c := newCore("c")
			for _, n := range []string{"c/o", "c/p", "c/a b", "c/é"} {
				c.objects[n] = "x"
			}
			cfg := Defaults()
			cfg.MaxDeletes, cfg.DeleteConcurrency = 5, 1
			got := serve(t, cfg, c, request(method, "", "bulk-delete", tt.body))
			if left := strings.Join(slices.Sorted(maps.Keys(c.objects)), ","); got.String() != tt.want || [2]int{got.Deleted, got.Gone} != tt.n || left != tt.left {
				t.Errorf("%s %s: got %v, %d deleted, %d not there, %q is left, want %q, %v, %q", method, what, got, got.Deleted, got.Gone, left, tt.want, tt.n, tt.left)
			}
		}
	}
}

// What is wrong with the request itself is in the report, too.
func TestRefused(t *testing.T) {
	for what, tt := range map[string]struct {
		change func(*chain.Request)
		want   string
	}{
		"another type":      {func(r *chain.Request) { r.Header.Set("Content-Type", "text/xml") }, "406 Not Acceptable"},
		"plain text":        {func(r *chain.Request) { r.Header.Set("Content-Type", "text/plain; charset=utf-8") }, "200 OK"},
		"no type":           {func(r *chain.Request) { r.Header.Set("Content-Type", "") }, "200 OK"},
		"no form for it":    {func(r *chain.Request) { r.Header.Set("Accept", "image/png") }, "406 Not Acceptable"},
		"no length":         {func(r *chain.Request) { r.Length, r.Body = -1, nil }, "411 Length Required"},
		"chunked":           {func(r *chain.Request) { r.Length = -1 }, "200 OK"},
		"value of the flag": {func(r *chain.Request) { r.Query = "bulk-delete=false" }, "200 OK"}, // it is there
	} {
		r := request("POST", "", "bulk-delete", "/c/o")
		tt.change(r)
		resp := Link(Defaults(), maxPath)(newCore()).Serve(t.Context(), r)
		body, err := resp.ReadAll(1 << 10)
		if err != nil || resp.Status != 200 || !strings.Contains(string(body), tt.want) {
			t.Errorf("%s: got %d, %q, %v, want %q", what, resp.Status, body, err, tt.want)
		}
	}
	// Whoever left before all was said deletes nothing, and has no report.
	c := newCore("c")
	c.objects["c/o"] = "x"
	r := request("POST", "", "bulk-delete", "")
	r.Length, r.Body = 100, io.MultiReader(strings.NewReader("/c/o\n"), iotest.ErrReader(errs.E(errs.Aborted, io.ErrUnexpectedEOF)))
	if resp := Link(Defaults(), maxPath)(c).Serve(t.Context(), r); resp.Status != 499 || len(c.asked) > 0 {
		t.Errorf("a body that breaks off: got %d, asked %v", resp.Status, c.asked)
	}
}

// What asks for nothing of the kind goes on as it is.
func TestOthersPass(t *testing.T) {
	for _, tt := range [][2]string{{"PUT", "bulk-delete"}, {"GET", "extract-archive=tar"}, {"POST", "extract-archive=tar"}, {"PUT", ""}, {"GET", "bulk-delete"}} {
		c := newCore("c")
		resp := Link(Defaults(), maxPath)(c).Serve(t.Context(), request(tt[0], "c/o", tt[1], ""))
		if len(c.asked) != 1 || c.asked[0] != tt[0]+" /a/c/o" || resp.Duplex {
			t.Errorf("%s ?%s: asked %v", tt[0], tt[1], c.asked)
		}
	}
	nowhere := request("POST", "", "bulk-delete", "x")
	nowhere.Path.Account = ""
	if resp := Link(Defaults(), maxPath)(newCore()).Serve(t.Context(), nowhere); resp.Status != http.StatusTeapot {
		t.Errorf("no account: got %d", resp.Status)
	}
}

// A list may have as many names as are allowed, and takes no more memory than
// they do.
func TestAListIsBounded(t *testing.T) {
	f := &feature{cfg: Defaults(), maxPath: maxPath}
	r := request("POST", "", "", "")
	r.Body = &endless{text: "/c/object\n"}
	if _, err := f.read(r); !errs.Is(err, errs.TooLarge) {
		t.Errorf("got %v, want too large", err)
	}
	if n := r.Body.(*endless).n; n > (f.cfg.MaxDeletes+1)*10+3*maxPath+2 {
		t.Errorf("%d bytes were read", n)
	}
}

// endless repeats a text for ever.
type endless struct {
	text string
	n    int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.text[e.n%len(e.text)]
		e.n++
	}
	return len(p), nil
}

// entry is one of an archive.
type entry struct {
	name string
	data string
	kind byte
	pax  map[string]string
}

func archive(t testing.TB, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o644, Size: int64(len(e.data)), PAXRecords: e.pax}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeSymlink {
			h.Linkname = "elsewhere"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func gz(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, text)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExtract(t *testing.T) {
	two := archive(t, entry{name: "one/a", data: "1"}, entry{name: "two/b/c", data: "22"})
	for what, tt := range map[string]struct {
		base, format, body string
		refuse             map[string]int
		want               string // of the report
		stored             string // objects, sorted
	}{
		"into the account":    {"", "tar", two, nil, "201 Created ", "one/a=1,two/b/c=22"},
		"into a container":    {"c", "tar", two, nil, "201 Created ", "c/one/a=1,c/two/b/c=22"},
		"under a prefix":      {"c/dir/", "tar", two, nil, "201 Created ", "c/dir/one/a=1,c/dir/two/b/c=22"},
		"gzip":                {"c", "tar.gz", gz(t, two), nil, "201 Created ", "c/one/a=1,c/two/b/c=22"},
		"bzip2":               {"c", ".TAR.bz2", bzipped, nil, "201 Created ", "c/x/y=bz\n"},
		"slashes and dots":    {"c", "tar", archive(t, entry{name: "./a"}, entry{name: "///b"}, entry{name: ".//c"}, entry{name: "../d"}), nil, "201 Created ", "c/../d=,c/a=,c/b=,c/c="},
		"in no container":     {"", "tar", archive(t, entry{name: "a"}, entry{name: "c/b"}), nil, "201 Created ", "c/b="},
		"only files":          {"c", "tar", archive(t, entry{name: "d/", kind: tar.TypeDir}, entry{name: "l", kind: tar.TypeSymlink}, entry{name: "f"}), nil, "201 Created ", "c/f="},
		"nothing in it":       {"c", "tar", archive(t), nil, "400 Bad Request Invalid Tar File: No Valid Files", ""},
		"nothing at all":      {"c", "tar", "", nil, "400 Bad Request Invalid Tar File: No Valid Files", ""},
		"no archive":          {"c", "tar", strings.Repeat("no", 500), nil, "400 Bad Request Invalid Tar File: invalid tar header", ""},
		"no gzip":             {"c", "tar.gz", two, nil, "400 Bad Request Invalid Tar File: gzip: invalid header", ""},
		"no bzip2":            {"c", "tar.bz2", two, nil, "400 Bad Request Invalid Tar File: bzip2 data invalid: bad magic value", ""},
		"no text":             {"c", "tar", archive(t, entry{name: "\xff"}, entry{name: "ok"}), nil, "400 Bad Request ; c/%FF: 412 Precondition Failed", "c/ok="},
		"refused":             {"", "tar", two, map[string]int{"PUT /a/one/a": 413}, "400 Bad Request ; one/a: 413 Request Entity Too Large", "two/b/c=22"},
		"cluster failed":      {"", "tar", two, map[string]int{"PUT /a/one/a": 503, "PUT /a/two/b/c": 403}, "502 Bad Gateway ; one/a: 503 Service Unavailable; two/b/c: 403 Forbidden", ""},
		"nobody":              {"", "tar", two, map[string]int{"HEAD /a/one": 401}, "401 Unauthorized ", ""},
		"nobody for this":     {"", "tar", two, map[string]int{"PUT /a/one/a": 401}, "401 Unauthorized ; one/a: 401 Unauthorized", ""},
		"may not look":        {"c", "tar", two, map[string]int{"HEAD /a/c": 403}, "201 Created ", "c/one/a=1,c/two/b/c=22"},
		"may not make":        {"", "tar", two, map[string]int{"PUT /a/one": 403}, "400 Bad Request ; /v1/a/one: 403 Forbidden; one/a: 404 Not Found", "two/b/c=22"},
		"too many containers": {"", "tar", archive(t, entry{name: "1/a"}, entry{name: "2/a"}, entry{name: "1/b"}, entry{name: "3/a"}, entry{name: "4/a"}), nil, "400 Bad Request More than 3 containers to create from tar.", "1/a=,1/b=,2/a=,3/a="},
		"too many failures": {
			"c", "tar", archive(t, entry{name: "\xff1"}, entry{name: "\xff2"}, entry{name: "\xff3"}, entry{name: "ok"}), nil,
			"400 Bad Request ; c/%FF1: 412 Precondition Failed; c/%FF2: 412 Precondition Failed; c/%FF3: 412 Precondition Failed", "",
		},
		"a long name": {
			"c", "tar", archive(t, entry{name: strings.Repeat("n", 60)}), map[string]int{"PUT /a/c/" + strings.Repeat("n", 60): 400},
			"400 Bad Request ; c/" + strings.Repeat("n", maxPath-2) + ": 400 Bad Request", "",
		},
	} {
		c := newCore("c")
		maps.Copy(c.refuse, tt.refuse)
		cfg := Defaults()
		cfg.MaxContainers, cfg.MaxFailedExtractions = 3, 3
		got := serve(t, cfg, c, request("PUT", tt.base, "extract-archive="+tt.format, tt.body))
		var stored []string
		for _, n := range slices.Sorted(maps.Keys(c.objects)) {
			stored = append(stored, n+"="+c.objects[n])
		}
		if list := strings.Join(stored, ","); got.String() != tt.want || list != tt.stored || got.Created != len(stored) {
			t.Errorf("%s: got %v, %d created, stored %q, want %q, %q", what, got, got.Created, list, tt.want, tt.stored)
		}
	}
}

// bzipped is an archive in the form of bzip2, with "bz\n" in x/y. Nothing in the
// standard library writes one.
var bzipped = func() string {
	b, err := base64.StdEncoding.DecodeString("QlpoOTFBWSZTWYKXkkMAAHD7gMmQAADAAM0AAAJwAB5wCAggAFRGoAAAGgiqYjRo0ANH3tCCITkiJHmsytL8EEuC0C2sljjAThQJNV4JSx0+Gfu+OAAIvi7kinChIQUvJIY=")
	if err != nil {
		panic(err)
	}
	return string(b)
}()

// A container is looked at once.
func TestContainersAreLookedAtOnce(t *testing.T) {
	c := newCore()
	serve(t, Defaults(), c, request("PUT", "", "extract-archive=tar", archive(t, entry{name: "c/a"}, entry{name: "c/b"})))
	if want := "HEAD /a/c,PUT /a/c,PUT /a/c/a,PUT /a/c/b"; strings.Join(c.asked, ",") != want {
		t.Errorf("asked %v, want %s", c.asked, want)
	}
}

// A part of a file is never stored as the whole, wherever the archive ends, and
// whether its length was announced or the connection broke.
func TestAnArchiveThatBreaksOff(t *testing.T) {
	whole := archive(t, entry{name: "a", data: strings.Repeat("a", 700)}, entry{name: "b", data: strings.Repeat("b", 700)})
	for n := range whole {
		for what, end := range map[string]io.Reader{"ends": strings.NewReader(""), "breaks off": iotest.ErrReader(errs.E(errs.Aborted, io.ErrUnexpectedEOF))} {
			c := newCore("c")
			r := request("PUT", "c", "extract-archive=tar", "")
			r.Length, r.Body = -1, io.MultiReader(strings.NewReader(whole[:n]), end)
			got := serve(t, Defaults(), c, r)
			for name, data := range c.objects {
				if len(data) != 700 {
					t.Fatalf("it %s after %d bytes: %s has %d bytes", what, n, name, len(data))
				}
			}
			if ok := got.Status == "201 Created"; ok && len(c.objects) == 0 || ok && what == "breaks off" || got.Created != len(c.objects) {
				t.Fatalf("it %s after %d bytes: got %v of %d objects", what, n, got, len(c.objects))
			}
		}
	}
}

// What an archive says of its files, and the request of all of them.
func TestMetadata(t *testing.T) {
	c := newCore("c")
	r := request("PUT", "c", "extract-archive=tar", archive(t,
		entry{name: "a", pax: map[string]string{
			"SCHILY.xattr.user.mime_type": "application/food-diary", "SCHILY.xattr.user.meta.lunch": "sopa de albóndigas",
			"SCHILY.xattr.user.meta.afternoon-snack": "a gigantic bucket", "SCHILY.xattr.user.stuff": "x", "SCHILY.xattr.security.selinux": "x",
		}},
		entry{name: "b", pax: map[string]string{"LIBARCHIVE.xattr.user.meta.cat": "fluffy", "LIBARCHIVE.xattr.user.notmeta": "x"}},
		entry{name: "bad value", pax: map[string]string{"SCHILY.xattr.user.meta.x": "a\r\nX-Container-Read: .r:*"}},
		entry{name: "bad name", pax: map[string]string{"SCHILY.xattr.user.meta.x y": "1"}},
		entry{name: "nameless", pax: map[string]string{"SCHILY.xattr.user.meta.": "1"}},
	))
	for n, v := range map[string]string{"X-Delete-At": "1577383915", "X-Object-Meta-Dog": "Rantanplan", "X-Object-Meta-Cat": "tabby", "X-Horse": "no", "Content-Type": "application/x-tar"} {
		r.Header.Set(n, v)
	}
	got := serve(t, Defaults(), c, r)
	if want := "400 Bad Request ; c/bad%20value: 400 Bad Request; c/bad%20name: 400 Bad Request"; got.String() != want {
		t.Errorf("got %v, want %s", got, want)
	}
	for name, want := range map[string]map[string]string{
		"c/a": {
			"Content-Type": "application/food-diary", "X-Object-Meta-Lunch": "sopa de albóndigas", "X-Object-Meta-Afternoon-Snack": "a gigantic bucket",
			"X-Delete-At": "1577383915", "X-Object-Meta-Dog": "Rantanplan", "X-Object-Meta-Cat": "tabby",
		},
		"c/b": {"X-Delete-At": "1577383915", "X-Object-Meta-Dog": "Rantanplan", "X-Object-Meta-Cat": "fluffy"},
	} {
		if h := c.headers[name]; len(h) != len(want) {
			t.Errorf("%s: got %v, want %v", name, h, want)
		}
		for n, v := range want {
			if got := c.headers[name].Get(n); got != v {
				t.Errorf("%s: %s is %q, want %q", name, n, got, v)
			}
		}
	}
}

func TestExtractRefused(t *testing.T) {
	c := newCore()
	if resp := Link(Defaults(), maxPath)(c).Serve(t.Context(), request("PUT", "c", "extract-archive=zip", "")); resp.Status != 400 || len(c.asked) > 0 {
		t.Errorf("an unknown format: got %d", resp.Status)
	}
	r := request("PUT", "c", "extract-archive=tar", "")
	r.Length, r.Body = -1, nil
	if got := serve(t, Defaults(), c, r); got.Status != "411 Length Required" {
		t.Errorf("no length: got %v", got)
	}
}

// While it goes on there are signs of life, in front of whatever form.
func TestSignsOfLife(t *testing.T) {
	text := archive(t, entry{name: "a"}, entry{name: "b"})
	for accept, want := range map[string]string{"application/json": " ", "text/plain": " ", "application/xml": `<?xml version="1.0" encoding="UTF-8"?>` + "\n"} {
		for _, query := range []string{"extract-archive=tar", "bulk-delete"} {
			synctest.Test(t, func(t *testing.T) {
				c := newCore("c")
				c.slow = 15 * time.Second
				r := request("PUT", "c", query, text)
				if query == "bulk-delete" {
					r = request("POST", "", query, "/c/a\n/c/b")
				}
				r.Header.Set("Accept", accept)
				resp := Link(Defaults(), maxPath)(c).Serve(t.Context(), r)
				if resp.Duplex != (query != "bulk-delete") {
					t.Errorf("%s: duplex is %v", query, resp.Duplex)
				}
				body, err := resp.ReadAll(1 << 10)
				if start, rest, ok := strings.Cut(string(body), "\r\n\r\n"); err != nil || !ok || !strings.HasPrefix(start, want) || !strings.Contains(rest, "200 OK") && !strings.Contains(rest, "201 Created") {
					t.Errorf("%s as %s: got %q, %v", query, accept, body, err)
				}
			})
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("/c/o\n\n/c/%zz\n\xff")
	f.Fuzz(func(t *testing.T, body string) {
		cfg := Defaults()
		cfg.MaxDeletes = 8
		one := &feature{cfg: cfg, maxPath: maxPath}
		list, err := one.read(request("POST", "", "", body))
		if err != nil && !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.TooLarge) {
			t.Errorf("%q: %v", body, err)
		}
		if len(list) > cfg.MaxDeletes {
			t.Errorf("%d names", len(list))
		}
		for _, n := range list {
			if len(n.Name) > 3*maxPath || n.Err == nil && (n.Path.Account != "a" || n.Path.Container == "" || !utf8.ValidString(n.Path.Object)) {
				t.Errorf("%q: %+v", body, n)
			}
		}
	})
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte(archive(f, entry{name: "a/b", data: "x", pax: map[string]string{"SCHILY.xattr.user.meta.a": "b"}})), "tar", "")
	f.Add([]byte(gz(f, archive(f, entry{name: "a"}))), "tar.gz", "c/d")
	f.Add([]byte(bzipped), "tar.bz2", "c")
	f.Fuzz(func(t *testing.T, body []byte, format, base string) {
		if strings.HasPrefix(base, "/") || len(base) > 100 || formats[format] == nil {
			return
		}
		h := chain.HandlerFunc(func(_ context.Context, r *chain.Request) *chain.Response {
			if r.Path.Account != "a" || r.Path.Container == "" || !utf8.ValidString(r.Path.Container+r.Path.Object) {
				t.Errorf("%s %+v", r.Method, r.Path)
			}
			for n, values := range r.Header {
				if !isToken(n) || !isValue(values[0]) {
					t.Errorf("header %q: %q", n, values)
				}
			}
			if r.Method == http.MethodPut && r.Path.Object != "" {
				n, err := io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20))
				if err == nil && n != r.Length && n < 1<<20 {
					t.Errorf("%d bytes of %d", n, r.Length)
				}
			}
			return chain.Empty(204)
		})
		r := request("PUT", base, "extract-archive="+format, string(body))
		resp := Link(Defaults(), maxPath)(h).Serve(t.Context(), r)
		if text, err := resp.ReadAll(1 << 20); err != nil || resp.Status != 200 || !json.Valid(text) {
			t.Errorf("got %d, %q, %v", resp.Status, text, err)
		}
	})
}

func ExampleConfig_DeleteSection() {
	fmt.Println(Defaults().DeleteSection(), Defaults().UploadSection())
	// Output: map[max_deletes_per_request:10000 max_failed_deletes:1000] map[max_containers_per_extraction:10000 max_failed_extractions:1000]
}
