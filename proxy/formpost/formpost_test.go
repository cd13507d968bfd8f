package formpost

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	neturl "net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/auth"
	"martlet/proxy/chain"
)

var now = time.Unix(1_700_000_000, 0)

const boundary = "----b"

// world keeps what is put.
type world struct {
	objects map[string]string
	headers map[string]http.Header
	status  int // of every write; 0 is 201
	wrong   []string
}

func (w *world) Serve(ctx context.Context, r *chain.Request) *chain.Response {
	if r.Method != http.MethodPut {
		return chain.Empty(http.StatusTeapot) // it is no form
	}
	elsewhere := r.Path
	elsewhere.Object += "x"
	if r.Identity != nil || r.Grant == nil || !r.Grant("PUT", r.Path) || r.Grant("GET", r.Path) || r.Grant("PUT", elsewhere) || r.Query != "" {
		w.wrong = append(w.wrong, r.Path.String())
	}
	if w.status != 0 {
		return chain.Text(w.status, "why not")
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return chain.Fail(ctx, err)
	}
	w.objects[r.Path.String()], w.headers[r.Path.String()] = string(data), r.Header
	return chain.Text(http.StatusCreated, "")
}

// keys are "key" of the account, and "ckey" of the container, which is known only when it is asked for again.
func keys(_ context.Context, container name.Path, fresh bool) (account, own []string, err error) {
	if container.Account == "broken" {
		return nil, nil, errs.E(errs.Unavailable)
	}
	if container.Container == "" {
		return []string{"key"}, []string{"key"}, nil
	}
	if fresh {
		own = []string{"ckey"}
	}
	return []string{"key"}, own, nil
}

// signed is a signature of a form.
func signed(digest func() hash.Hash, key, path, redirect, size, count, expires string) string {
	m := hmac.New(digest, []byte(key))
	_, _ = fmt.Fprintf(m, "%s\n%s\n%s\n%s\n%s", path, redirect, size, count, expires)
	return hex.EncodeToString(m.Sum(nil))
}

// field and file are parts of a form.
func field(n, value string) string {
	return "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + n + "\"\r\n\r\n" + value + "\r\n"
}

func file(n, data string, header ...string) string {
	head := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"f\"; filename=\"" + n + "\"\r\n"
	for _, h := range header {
		head += h + "\r\n"
	}
	return head + "\r\n" + data + "\r\n"
}

const end = "--" + boundary + "--\r\n"

// usual are the fields of a form for /v1/a/c/dir- that is good, with a redirect if there is one.
func usual(redirect string) string {
	text := field("max_file_size", "10") + field("max_file_count", "2") + field("expires", "1700000001") +
		field("signature", signed(sha256.New, "key", "/v1/a/c/dir-", redirect, "10", "2", "1700000001"))
	if redirect != "" {
		text = field("redirect", redirect) + text
	}
	return text
}

// post sends a form to a path, and returns the answer and its body.
func (w *world) post(t *testing.T, path string, body io.Reader, cfg Config) (*chain.Response, string) {
	t.Helper()
	if w.objects == nil {
		w.objects, w.headers = map[string]string{}, map[string]http.Header{}
	}
	p, err := name.Parse(strings.TrimPrefix(path, "/v1"))
	if err != nil {
		t.Fatal(err)
	}
	r := &chain.Request{
		Method: http.MethodPost, Path: p, Query: "x=y", Length: -1, Body: body, Identity: &auth.Identity{User: "somebody"},
		Header: http.Header{"Content-Type": {`multipart/form-data; boundary="` + boundary + `"`}, "X-Open-Expired": {"1"}},
		Client: &http.Request{Method: http.MethodPost, URL: &neturl.URL{Path: path}},
	}
	resp := Link(cfg, keys, func() time.Time { return now })(w).Serve(t.Context(), r)
	said, err := resp.ReadAll(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.wrong) > 0 {
		t.Errorf("requests are sent with other rights, or a query: %q", w.wrong)
	}
	return resp, string(said)
}

func TestForms(t *testing.T) {
	const to = "http://h/p"
	resign := func(path, redirect, size, count, expires string) string {
		text := ""
		for n, v := range map[string]string{"redirect": redirect, "max_file_size": size, "max_file_count": count, "expires": expires} {
			if v != "" {
				text += field(n, v)
			}
		}
		or := func(s string) string {
			if s == "" {
				return "0"
			}
			return s
		}
		return text + field("signature", signed(sha256.New, "ckey", path, redirect, or(size), or(count), or(expires)))
	}
	one, two := file("a", "1"), file("b", "22")
	for what, tt := range map[string]struct {
		path, body string
		status     int
		want       string            // in the body, or where it leads
		stored     map[string]string // by what stands behind /a/c/
		code       int               // of writes
	}{
		"a file":                    {"", usual("") + one + end, 201, "201 Created", map[string]string{"dir-a": "1"}, 0},
		"as many as there may be":   {"", usual("") + one + two + end, 201, "201", map[string]string{"dir-a": "1", "dir-b": "22"}, 0},
		"one more":                  {"", usual("") + one + two + file("c", "") + end, 400, "400 Bad Request\r\nFormPost: " + tooMany, map[string]string{"dir-a": "1", "dir-b": "22"}, 0},
		"as large as it may be":     {"", usual("") + file("a", "0123456789") + end, 201, "201", map[string]string{"dir-a": "0123456789"}, 0},
		"a byte more":               {"", usual(to) + file("a", "0123456789x") + end, 400, "FormPost: " + tooLarge, nil, 0},
		"the second is too large":   {"", usual("") + one + file("b", "0123456789x") + end, 400, "FormPost: " + tooLarge, map[string]string{"dir-a": "1"}, 0},
		"an empty one":              {"", usual("") + file("a", "") + end, 201, "", map[string]string{"dir-a": ""}, 0},
		"none is chosen":            {"", usual("") + file("", "") + end, 400, "FormPost: " + noFiles, nil, 0},
		"no file":                   {"", usual("") + end, 400, "FormPost: " + noFiles, nil, 0},
		"nothing":                   {"", end, 400, "FormPost: " + noFiles, nil, 0},
		"a name with a slash":       {"", usual("") + file("x/y é.txt", "1") + end, 201, "", map[string]string{"dir-x/y é.txt": "1"}, 0},
		"a name as curl has it":     {"", usual("") + file(`a\"b`, "1") + end, 201, "", map[string]string{`dir-a"b`: "1"}, 0},
		"fields that mean nothing":  {"", field("other", strings.Repeat("x", 10000)) + usual("") + one + end, 201, "", map[string]string{"dir-a": "1"}, 0},
		"fields behind the files":   {"", usual("") + one + field("max_file_size", "99") + end, 201, "", map[string]string{"dir-a": "1"}, 0},
		"limits are not changed":    {"", usual("") + one + field("max_file_size", "99") + two + end, 401, "Invalid Signature", map[string]string{"dir-a": "1"}, 0},
		"fields in other case":      {"", strings.ReplaceAll(usual(""), "max_", "MAX_") + one + end, 201, "", map[string]string{"dir-a": "1"}, 0},
		"only line feeds":           {"", strings.ReplaceAll(usual("")+one+end, "\r", ""), 201, "", map[string]string{"dir-a": "1"}, 0},
		"the container itself":      {"/v1/a/c", resign("/v1/a/c", "", "10", "2", "1700000001") + one + end, 201, "", map[string]string{"a": "1"}, 0},
		"that with a slash":         {"/v1/a/c/", resign("/v1/a/c/", "", "10", "2", "1700000001") + one + end, 201, "", map[string]string{"a": "1"}, 0},
		"signed for the other":      {"/v1/a/c", resign("/v1/a/c/", "", "10", "2", "1700000001") + one + end, 401, "FormPost: Invalid Signature", nil, 0},
		"an account":                {"/v1/a", resign("/v1/a", "", "10", "2", "1700000001") + one + end, 401, "FormPost: Invalid Signature", nil, 0},
		"keys that can't be had":    {"/v1/broken/c", usual("") + one + end, 503, "", nil, 0},
		"a key of the container":    {"", resign("/v1/a/c/dir-", "", "10", "2", "1700000001") + one + end, 201, "", map[string]string{"dir-a": "1"}, 0},
		"nothing is limited: so is": {"", resign("/v1/a/c/dir-", "", "", "", "1700000001") + one + end, 400, tooMany, nil, 0},
		"a size of nothing":         {"", resign("/v1/a/c/dir-", "", "", "1", "1700000001") + one + end, 400, tooLarge, nil, 0},
		"it is over":                {"", resign("/v1/a/c/dir-", "", "10", "2", "1699999999") + one + end, 401, "FormPost: Form Expired", nil, 0},
		"it ends now":               {"", resign("/v1/a/c/dir-", "", "10", "2", "1700000000") + one + end, 201, "", map[string]string{"dir-a": "1"}, 0},
		"it has no end":             {"", resign("/v1/a/c/dir-", "", "10", "2", "") + one + end, 401, "FormPost: Form Expired", nil, 0},
		"no signature":              {"", strings.Replace(usual(""), `"signature"`, `"other"`, 1) + one + end, 401, "FormPost: Invalid Signature", nil, 0},
		"a file before the fields":  {"", one + usual("") + end, 401, "FormPost: Form Expired", nil, 0},

		"a redirect":                     {"", usual(to) + one + end, 303, to + "?status=201&message=", map[string]string{"dir-a": "1"}, 0},
		"one with a query":               {"", usual(to+"?a=b") + one + end, 303, to + "?a=b&status=201&message=", map[string]string{"dir-a": "1"}, 0},
		"one with a fragment":            {"", usual(to+"?a=b#c?d") + one + end, 303, to + "?a=b&status=201&message=#c?d", map[string]string{"dir-a": "1"}, 0},
		"one file too many, a redirect":  {"", usual(to) + one + two + two + end, 303, to + "?status=400&message=max%20file%20count%20exceeded", map[string]string{"dir-a": "1", "dir-b": "22"}, 0},
		"no file, a redirect":            {"", usual(to) + end, 303, to + "?status=400&message=no%20files%20to%20process", nil, 0},
		"no file, one of anybody's":      {"", field("redirect", to) + end, 400, "FormPost: " + noFiles, nil, 0},
		"one of anybody's":               {"", field("redirect", to) + one + end, 401, "FormPost: Form Expired", nil, 0},
		"one that is not the signed one": {"", usual(to) + field("redirect", "http://x") + one + end, 401, "FormPost: Invalid Signature", nil, 0},
		"one behind the file":            {"", usual("") + one + field("redirect", "http://x") + end, 201, "201 Created", map[string]string{"dir-a": "1"}, 0},
		"another behind the file":        {"", usual(to) + one + field("redirect", "http://x") + end, 303, to + "?status=201&message=", map[string]string{"dir-a": "1"}, 0},
		"a refusal":                      {"", usual("") + one + two + end, 413, "why not", nil, 413},
		"a refusal, a redirect":          {"", usual(to) + one + two + end, 303, to + "?status=413&message=", nil, 413},

		"a size that is no number":         {"", field("max_file_size", "x") + one + end, 400, "FormPost: max_file_size not an integer", nil, 0},
		"a count that is none":             {"", field("max_file_count", "1e3") + one + end, 400, "FormPost: max_file_count not an integer", nil, 0},
		"a time that is none":              {"", field("expires", "tomorrow") + one + end, 400, "FormPost: expires not an integer", nil, 0},
		"an end of objects that is none":   {"", usual("") + field("x_delete_at", "2.5") + one + end, 400, "FormPost: x_delete_at not an integer", nil, 0},
		"a life that is none":              {"", usual("") + field("x_delete_after", "x") + one + end, 400, "FormPost: x_delete_after not an integer", nil, 0},
		"a field that is too long":         {"", field("redirect", strings.Repeat("x", maxValue+1)) + one + end, 400, "FormPost: redirect is longer than 4096 bytes", nil, 0},
		"a field with a line in it":        {"", field("redirect", "a\r\nb: c") + one + end, 400, "FormPost: redirect has characters", nil, 0},
		"a field that is no text":          {"", field("redirect", "\xff") + one + end, 400, "FormPost: redirect has characters", nil, 0},
		"a name that is no text":           {"", usual("") + file("\xff", "1") + end, 400, "FormPost: The name of a file", nil, 0},
		"a disposition that is none":       {"", usual("") + strings.Replace(one, "form-data;", "form-data; ;;x=", 1) + end, 400, "FormPost: The Content-Disposition", nil, 0},
		"a type that is none":              {"", usual("") + file("a", "1", "Content-Type: a\x01b") + end, 400, "FormPost: A part is malformed", nil, 0},
		"a header without a colon":         {"", usual("") + file("a", "1", "nonsense") + end, 400, "FormPost: A part is malformed", nil, 0},
		"a header that is too long":        {"", usual("") + file("a", "1", "X: "+strings.Repeat("x", maxHead+2*maxAhead)) + end, 400, "FormPost: The header of a part is longer", nil, 0},
		"too many headers":                 {"", usual("") + file("a", "1", strings.Split(strings.Repeat("X: y|", 20000), "|")...) + end, 400, "FormPost: ", nil, 0},
		"no boundary":                      {"", "what is this?", 400, "FormPost: invalid starting boundary", nil, 0},
		"much before the first":            {"", strings.Repeat("x\r\n", maxHead) + usual("") + one + end, 400, "FormPost: The header of a part is longer", nil, 0},
		"nothing at all":                   {"", "", 400, "FormPost: invalid starting boundary", nil, 0},
		"no end":                           {"", usual("") + one, 400, "FormPost: The form ends within a part", nil, 0},
		"no end after a good one":          {"", usual("") + one + "--" + boundary + "\r\n", 201, "", map[string]string{"dir-a": "1"}, 0},
		"no end of a field":                {"", field("redirect", "x"), 400, "FormPost: The form ends within a part", nil, 0},
		"no end of a field that is no one": {"", field("x", "x"), 400, "FormPost: The form ends within a part", nil, 0},
	} {
		w := &world{status: tt.code}
		path := tt.path
		if path == "" {
			path = "/v1/a/c/dir-"
		}
		resp, said := w.post(t, path, strings.NewReader(tt.body), Defaults())
		if got := said + " " + resp.Get("Location"); resp.Status != tt.status || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %d, %q, want %d, %q", what, resp.Status, got, tt.status, tt.want)
		}
		if (resp.Get("Location") != "") != (tt.status == 303) || (resp.Get("Www-Authenticate") != "") != (tt.status == 401) {
			t.Errorf("%s: %d with %v", what, resp.Status, resp.Header)
		}
		for n, data := range tt.stored {
			if got, ok := w.objects["/a/c/"+n]; !ok || got != data {
				t.Errorf("%s: %s is %q, want %q", what, n, got, data)
			}
		}
		if len(w.objects) != len(tt.stored) {
			t.Errorf("%s: stored %q, want %q", what, w.objects, tt.stored)
		}
	}
}

// What the form says of all files counts more than what a part says of one.
func TestWhatIsSetOfFiles(t *testing.T) {
	for what, tt := range map[string]struct {
		fields string
		part   []string
		want   http.Header
	}{
		"nothing":            {"", nil, http.Header{}},
		"the part's":         {"", []string{"Content-Type: text/plain", "Content-Encoding: gzip", "X-Object-Manifest: c/x"}, http.Header{"Content-Type": {"text/plain"}, "Content-Encoding": {"gzip"}}},
		"the form's":         {field("Content-Type", "a/b") + field("content-encoding", "br"), []string{"Content-Type: text/plain", "Content-Encoding: gzip"}, http.Header{"Content-Type": {"a/b"}, "Content-Encoding": {"br"}}},
		"the form's, empty":  {field("content-type", ""), []string{"Content-Type: text/plain"}, http.Header{"Content-Type": {"application/octet-stream"}}},
		"an end":             {field("x_delete_at", "1800000000"), nil, http.Header{"X-Delete-At": {"1800000000"}}},
		"a life":             {field("x_delete_after", " 60 "), nil, http.Header{"X-Delete-After": {"60"}}},
		"other fields are 0": {field("x-object-meta-a", "b") + field("x_timestamp", "1"), nil, http.Header{}},
	} {
		w := &world{}
		resp, said := w.post(t, "/v1/a/c/dir-", strings.NewReader(usual("")+tt.fields+file("a", "1", tt.part...)+end), Defaults())
		got := w.headers["/a/c/dir-a"]
		if resp.Status != 201 || fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: got %d, %s, %v, want %v", what, resp.Status, said, got, tt.want)
		}
	}
	w := &world{}
	w.post(t, "/v1/a/c/dir-", strings.NewReader(usual("")+file("a", "1", "Content-Type: a/a")+file("b", "1", "Content-Type: b/b")+end), Defaults())
	if a, b := w.headers["/a/c/dir-a"].Get("Content-Type"), w.headers["/a/c/dir-b"].Get("Content-Type"); a != "a/a" || b != "b/b" {
		t.Errorf("types of two files: got %s, %s", a, b)
	}
}

func TestDigests(t *testing.T) {
	body := strings.NewReader(strings.Replace(usual(""), signed(sha256.New, "key", "/v1/a/c/dir-", "", "10", "2", "1700000001"), signed(sha1.New, "key", "/v1/a/c/dir-", "", "10", "2", "1700000001"), 1) + file("a", "1") + end)
	for _, tt := range []struct {
		cfg  Config
		want int
	}{{Defaults(), 401}, {Config{Enabled: true, Digests: []string{"sha1"}}, 201}} {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if resp, said := (&world{}).post(t, "/v1/a/c/dir-", body, tt.cfg); resp.Status != tt.want {
			t.Errorf("SHA-1 with %v: got %d, %s, want %d", tt.cfg, resp.Status, said, tt.want)
		}
	}
	for digest, ok := range map[string]bool{"sha1": true, "sha512": true, "md5": false, "": false} {
		if err := (Config{Digests: []string{digest}}).Validate(); (err == nil) != ok {
			t.Errorf("%q: got %v, want good: %v", digest, err, ok)
		}
	}
	if Link(Config{Digests: []string{"sha1"}}, nil, nil) != nil {
		t.Error("it is there where it is off")
	}
}

// What is no form of this kind goes on.
func TestWhatIsNoForm(t *testing.T) {
	for _, tt := range []struct {
		method, account, contentType string
		form                         bool
	}{
		{"POST", "a", "multipart/form-data; boundary=x", true},
		{"POST", "a", "Multipart/Form-Data;boundary=\"x y\"", true},
		{"PUT", "a", "multipart/form-data; boundary=x", false},
		{"POST", "", "multipart/form-data; boundary=x", false},
		{"POST", "a", "multipart/form-data", false},
		{"POST", "a", "multipart/form-data; boundary=", false},
		{"POST", "a", "multipart/form-data; boundary=\"", false},
		{"POST", "a", "multipart/form-datax; boundary=x", false},
		{"POST", "a", "multipart/mixed; boundary=x", false},
		{"POST", "a", "text/plain", false},
		{"POST", "a", "", false},
		{"POST", "a", "multipart/form-data; boundary=" + strings.Repeat("x", 300), true},
	} {
		r := &chain.Request{Method: tt.method, Path: name.Path{Account: tt.account, Container: "c"}, Header: http.Header{"Content-Type": {tt.contentType}}, Client: &http.Request{URL: &neturl.URL{}}}
		last := chain.HandlerFunc(func(context.Context, *chain.Request) *chain.Response { return chain.Empty(http.StatusTeapot) })
		resp := Link(Defaults(), keys, time.Now)(last).Serve(t.Context(), r)
		if want := map[bool]int{true: 400, false: 418}[tt.form]; resp.Status != want {
			t.Errorf("%v: got %d, want %d", tt, resp.Status, want)
		}
	}
}

// breaking fails at its end.
type breaking struct {
	io.Reader
	err error
}

func (b breaking) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

// Nothing of a file is stored where the form breaks off, and the client is told as of any upload.
func TestBrokenForms(t *testing.T) {
	for kind, status := range map[error]int{errs.E(errs.Aborted, io.ErrUnexpectedEOF): 499, errs.E(errs.Timeout, os.ErrDeadlineExceeded): 408, errors.New("disk"): 500} {
		for what, body := range map[string]string{
			"nowhere": "", "in a header": usual("") + "--" + boundary + "\r\nContent-D", "in a field": field("redirect", "x"), "in a skipped field": field("x", "x"), "in a file": usual("") + "--" + boundary + "\r\n" +
				"Content-Disposition: form-data; filename=\"a\"\r\n\r\nabc",
		} {
			w := &world{}
			resp, said := w.post(t, "/v1/a/c/dir-", breaking{strings.NewReader(body), kind}, Defaults())
			if resp.Status != status || len(w.objects) > 0 {
				t.Errorf("%v %s: got %d, %s, want %d; stored %q", kind, what, resp.Status, said, status, w.objects)
			}
		}
	}
}

// A file of any size is a few KiB in memory.
func TestLargeFilesAreStreamed(t *testing.T) {
	const size = 64 << 20
	fields := field("max_file_size", strconv.Itoa(size)) + field("max_file_count", "1") + field("expires", "1700000001") +
		field("signature", signed(sha256.New, "key", "/v1/a/c/dir-", "", strconv.Itoa(size), "1", "1700000001"))
	head, tail, _ := strings.Cut(file("a", "|"), "|")
	body := io.MultiReader(strings.NewReader(fields+head), io.LimitReader(zeros{}, size), strings.NewReader(tail+end))
	var most, n int64
	last := chain.HandlerFunc(func(ctx context.Context, r *chain.Request) *chain.Response {
		buf := make([]byte, 64<<10)
		for {
			k, err := r.Body.Read(buf)
			n, most = n+int64(k), max(most, int64(k))
			if err == io.EOF {
				return chain.Empty(http.StatusCreated)
			}
			if err != nil {
				return chain.Fail(ctx, err)
			}
		}
	})
	r := &chain.Request{
		Method: http.MethodPost, Path: name.Path{Account: "a", Container: "c", Object: "dir-"}, Body: body,
		Header: http.Header{"Content-Type": {"multipart/form-data; boundary=" + boundary}}, Client: &http.Request{URL: &neturl.URL{Path: "/v1/a/c/dir-"}},
	}
	h := Link(Defaults(), keys, func() time.Time { return now })(last)
	var resp *chain.Response
	if allocs := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		if resp == nil {
			resp = h.Serve(b.Context(), r)
		}
	}).MemBytes; allocs > 256<<10 {
		t.Errorf("a file of %d bytes costs %d bytes of memory", size, allocs)
	}
	if resp.Status != 201 || n != size {
		said, err := resp.ReadAll(1 << 10)
		t.Errorf("got %d, %s, %v, %d bytes", resp.Status, said, err, n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
