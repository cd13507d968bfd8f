package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/rowbatch"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
	"martlet/object/engine"
	"martlet/object/engine/blob"
	"martlet/object/pending"
)

const path = "/d1/12/AUTH_t/c/o"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// rig is a server with one device, and the container servers it tells.
type rig struct {
	t      testing.TB
	server *Server
	fs     vfs.FS
	root   string
	device *device.Device
	now    time.Time

	mu     sync.Mutex
	rows   []string       // what the container servers got
	status map[string]int // what they answer, by address; 0 is nothing until time is up
}

func newRig(t testing.TB) *rig { return newRigOn(t, vfs.OS, t.TempDir()) }

func newRigOn(t testing.TB, fs vfs.FS, root string) *rig {
	t.Helper()
	r := &rig{t: t, fs: fs, root: root, now: time.Unix(1_700_000_000, 0), status: map[string]int{}}
	if err := fs.Mkdir(root + "/d1"); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	devices, err := device.NewSet(fs, root, []string{"d1"})
	if err != nil {
		t.Fatal(err)
	}
	if r.device, err = devices.Lookup("d1"); err != nil {
		t.Fatal(err)
	}
	hasher, err := name.NewHasher("", "salt")
	if err != nil {
		t.Fatal(err)
	}
	cfg := engine.Defaults()
	cfg.SegmentSize, cfg.Depth = 4<<20, 12
	cfg.FS, cfg.Buffers = fs, blob.NewGuarded(0) // one of each: a leak is a test that fails
	if _, bench := t.(*testing.B); bench {
		cfg.Buffers = blob.NewBuffers(0)
	}
	sc := Defaults()
	sc.ContainerUpdateTimeout = 20 * time.Millisecond
	r.server, err = New(sc, Deps{
		Devices: devices, Hasher: hasher, Stores: OpenStores(devices, cfg, nil), Sender: r, Now: func() time.Time { return r.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Do is the container servers.
func (r *rig) Do(ctx context.Context, addr string, req *backend.Request) (*backend.Response, error) {
	r.mu.Lock()
	h := req.Header
	r.rows = append(r.rows, strings.Join([]string{addr, req.Method, req.Path, h.Get("X-Timestamp"), h.Get("X-Size"), h.Get("X-Content-Type"), h.Get("X-Etag")}, " "))
	status := r.status[addr]
	r.mu.Unlock()
	if status == 0 {
		<-ctx.Done()
		return nil, errs.E(errs.Unavailable, ctx.Err())
	}
	return &backend.Response{Status: status}, nil
}

func (r *rig) queued() []pending.Update {
	r.t.Helper()
	var all []pending.Update
	for u, err := range r.server.Stores["d1"].Queue.All(context.Background()) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// stamp returns a timestamp n seconds after the rig's beginning.
func stamp(n int) string {
	return timestamp.FromTime(time.Unix(1_700_000_000-1000+int64(n), 0)).String()
}

// header makes a header of names and values in turn.
func header(pairs ...string) backend.Header {
	var h backend.Header
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// answer is a response taken to its end.
type answer struct {
	status int
	header backend.Header
	length int64
	body   string
	err    error
}

func (r *rig) do(req *backend.Request) answer {
	r.t.Helper()
	resp, err := r.server.Serve(context.Background(), req)
	if err != nil {
		return answer{err: err}
	}
	a := answer{status: resp.Status, header: resp.Header, length: resp.Length}
	if resp.Body != nil {
		b, err := io.ReadAll(resp.Body)
		if a.body, a.err = string(b), err; err == nil && int64(len(b)) != resp.Length {
			r.t.Errorf("%s %s: body of %d bytes, length says %d", req.Method, req.Path, len(b), resp.Length)
		}
		if err := resp.Body.Close(); err != nil {
			r.t.Error(err)
		}
	}
	return a
}

func (r *rig) call(method string, pairs ...string) answer {
	r.t.Helper()
	return r.do(&backend.Request{Method: method, Path: path, Header: header(pairs...)})
}

// putRequest is a PUT whose commit stands in the trailer.
func putRequest(ts, data string, pairs ...string) *backend.Request {
	sum := md5.Sum([]byte(data))
	return &backend.Request{
		Method: "PUT", Path: path, Length: int64(len(data)), Body: strings.NewReader(data),
		Header: append(header("X-Timestamp", ts, "Content-Type", "text/plain"), header(pairs...)...),
		Trailer: header("X-Backend-Commit-Etag", hex.EncodeToString(sum[:]),
			"X-Backend-Commit-Crc32c", fmt.Sprintf("%08x", crc32.Checksum([]byte(data), castagnoli))),
	}
}

func (r *rig) put(ts, data string, pairs ...string) answer {
	r.t.Helper()
	return r.do(putRequest(ts, data, pairs...))
}

func (r *rig) want(what string, got answer, status int) {
	r.t.Helper()
	if got.err != nil || got.status != status {
		r.t.Fatalf("%s: %d, %v, want %d", what, got.status, got.err, status)
	}
}

func (r *rig) wantKind(what string, got answer, kind errs.Kind) {
	r.t.Helper()
	if !errs.Is(got.err, kind) {
		r.t.Fatalf("%s: %d, %v, want kind %v", what, got.status, got.err, kind)
	}
}

func TestPutGetHead(t *testing.T) {
	r := newRig(t)
	for i, size := range []int{0, 1, 70_000, 3 << 20} {
		for j, length := range []int64{int64(size), -1} {
			data := strings.Repeat("0123456789", size/10+1)[:size]
			ts := stamp(10*i + j)
			req := putRequest(ts, data, "X-Object-Meta-Color", "blue", "X-Object-Meta-None", "", "X-Object-Sysmeta-K", "v",
				"X-Static-Large-Object", "True", "Content-Encoding", "gzip", "X-Unknown", "no", "Content-Disposition", "inline")
			req.Length = length
			a := r.do(req)
			r.want("put", a, 201)
			sum := md5.Sum([]byte(data))
			etag := hex.EncodeToString(sum[:])
			if a.header.Get("Etag") != etag || a.header.Get("X-Backend-Timestamp") != ts {
				t.Errorf("put answered %v", a.header)
			}
			get, head := r.call("GET"), r.call("HEAD")
			r.want("get", get, 200)
			r.want("head", head, 200)
			if get.body != data || head.length != int64(size) || !slices.Equal(get.header, head.header) {
				t.Errorf("%d bytes: got %d, head says %d, headers %v and %v", size, len(get.body), head.length, get.header, head.header)
			}
			for name, want := range map[string]string{
				"Etag": etag, "Content-Type": "text/plain", "X-Object-Meta-Color": "blue", "X-Object-Sysmeta-K": "v",
				"X-Static-Large-Object": "True", "Content-Encoding": "gzip", "Content-Disposition": "inline", "X-Unknown": "",
				"X-Timestamp": ts, "X-Backend-Timestamp": ts, "X-Backend-Data-Timestamp": ts, "X-Backend-Durable-Timestamp": ts,
				"Accept-Ranges": "bytes",
			} {
				if got := get.header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if get.header.Has("X-Object-Meta-None") {
				t.Error("an empty value was stored")
			}
		}
	}
	r.noLeftovers()
}

func (r *rig) noLeftovers() {
	r.t.Helper()
	err := filepath.WalkDir(r.root, func(path string, d os.DirEntry, err error) error {
		if strings.HasPrefix(d.Name(), ".") && !strings.HasPrefix(d.Name(), ".spare-") {
			r.t.Errorf("%s was left behind", path)
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
}

func TestOverwriteRules(t *testing.T) {
	r := newRig(t)
	r.want("put", r.put(stamp(10), "one"), 201)
	for what, a := range map[string]answer{"same time": r.put(stamp(10), "two"), "older": r.put(stamp(9), strings.Repeat("x", smallBody+1))} {
		r.want(what, a, 409)
		if got := a.header.Get("X-Backend-Timestamp"); got != stamp(10) {
			t.Errorf("%s: X-Backend-Timestamp is %q", what, got)
		}
	}
	r.want("if-none-match", r.put(stamp(11), "two", "If-None-Match", "*"), 412)
	r.wantKind("if-none-match of a tag", r.put(stamp(11), "two", "If-None-Match", "abc"), errs.Invalid)
	r.want("delete", r.call("DELETE", "X-Timestamp", stamp(12)), 204)
	r.want("put below a tombstone", r.put(stamp(12), "two"), 409)
	r.want("if-none-match after delete", r.put(stamp(13), "two", "If-None-Match", "*"), 201)
	if a := r.call("GET"); a.body != "two" {
		t.Errorf("read %q, %v", a.body, a.err)
	}
}

func TestDelete(t *testing.T) {
	r := newRig(t)
	a := r.call("DELETE", "X-Timestamp", stamp(5))
	r.want("delete of nothing", a, 404)
	r.want("put", r.put(stamp(4), "x"), 409) // the tombstone is there
	r.want("the same delete", r.call("DELETE", "X-Timestamp", stamp(5)), 204)
	r.want("delete at an earlier time", r.call("DELETE", "X-Timestamp", stamp(4)), 409)
	r.want("put", r.put(stamp(6), "x"), 201)
	a = r.call("DELETE", "X-Timestamp", stamp(7))
	r.want("delete", a, 204)
	if a.header.Get("X-Backend-Timestamp") != stamp(7) {
		t.Errorf("delete answered %v", a.header)
	}
	for _, method := range []string{"GET", "HEAD"} {
		a = r.call(method)
		r.want(method, a, 404)
		if a.header.Get("X-Backend-Timestamp") != stamp(7) {
			t.Errorf("%s of a tombstone answered %v", method, a.header)
		}
	}
	a = r.call("POST", "X-Timestamp", stamp(8))
	r.want("post", a, 404)
	other := r.do(&backend.Request{Method: "GET", Path: path + "2"})
	r.want("get of nothing", other, 404)
	if other.header.Has("X-Backend-Timestamp") {
		t.Errorf("get of nothing answered %v", other.header)
	}
}

func TestPost(t *testing.T) {
	r := newRig(t)
	r.want("put", r.put(stamp(10), "body", "X-Object-Meta-A", "1", "Content-Encoding", "gzip", "X-Object-Sysmeta-S", "s",
		"X-Static-Large-Object", "True", "X-Object-Transient-Sysmeta-T", "t", "X-Delete-At", "1800000000"), 201)
	r.want("post", r.call("POST", "X-Timestamp", stamp(20), "X-Object-Meta-B", "2", "Content-Type", "image/png", "X-Object-Sysmeta-S", "other"), 202)
	r.want("post without a type", r.call("POST", "X-Timestamp", stamp(30), "X-Object-Meta-C", "3"), 202)
	r.want("old post", r.call("POST", "X-Timestamp", stamp(30), "X-Object-Meta-D", "4"), 409)
	a := r.call("GET")
	r.want("get", a, 200)
	for name, want := range map[string]string{
		"X-Object-Meta-A": "", "X-Object-Meta-B": "", "X-Object-Meta-C": "3", "Content-Encoding": "", "X-Object-Sysmeta-S": "s",
		"X-Static-Large-Object": "True", "X-Object-Transient-Sysmeta-T": "", "X-Delete-At": "", "Content-Type": "image/png",
		"X-Timestamp": stamp(30), "X-Backend-Timestamp": stamp(30), "X-Backend-Data-Timestamp": stamp(10),
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if a.body != "body" {
		t.Errorf("body is %q", a.body)
	}
}

func TestBrokenBodies(t *testing.T) {
	whole := strings.Repeat("x", 700_000)
	for what, tt := range map[string]struct {
		change func(*backend.Request)
		kind   errs.Kind
	}{
		"connection lost": {func(q *backend.Request) {
			q.Body = io.MultiReader(strings.NewReader(whole[:400_000]), failing{io.ErrUnexpectedEOF})
		}, errs.Aborted},
		"silent client": {func(q *backend.Request) {
			q.Body = io.MultiReader(strings.NewReader(whole[:10]), failing{errs.E(errs.Timeout)})
		}, errs.Timeout},
		"short":             {func(q *backend.Request) { q.Body = strings.NewReader(whole[1:]) }, errs.Aborted},
		"long":              {func(q *backend.Request) { q.Body = strings.NewReader(whole + "x") }, errs.Aborted},
		"no commit":         {func(q *backend.Request) { q.Trailer = nil }, errs.Invalid},
		"half a commit":     {func(q *backend.Request) { q.Trailer = q.Trailer[:1] }, errs.Invalid},
		"broken commit":     {func(q *backend.Request) { q.Trailer.Set("X-Backend-Commit-Etag", "xyz") }, errs.Invalid},
		"other bytes":       {func(q *backend.Request) { q.Body = strings.NewReader("y" + whole[1:]) }, errs.Mismatch},
		"no content type":   {func(q *backend.Request) { q.Header.Del("Content-Type") }, errs.Invalid},
		"no timestamp":      {func(q *backend.Request) { q.Header.Del("X-Timestamp") }, errs.Invalid},
		"from the future":   {func(q *backend.Request) { q.Header.Set("X-Timestamp", stamp(1061)) }, errs.Invalid},
		"expiry in words":   {func(q *backend.Request) { q.Header.Set("X-Delete-At", "soon") }, errs.Invalid},
		"expiry gone by":    {func(q *backend.Request) { q.Header.Set("X-Delete-At", "1699999999") }, errs.Invalid},
		"policy in words":   {func(q *backend.Request) { q.Header.Set("X-Backend-Storage-Policy-Index", "gold") }, errs.Invalid},
		"hosts do not fit":  {func(q *backend.Request) { q.Header.Set("X-Container-Host", "a,b") }, errs.Invalid},
		"device of another": {func(q *backend.Request) { q.Path = "/d2/1/a/c/o" }, errs.BadDevice},
		"no object":         {func(q *backend.Request) { q.Path = "/d1/1/a/c" }, errs.Invalid},
		"method":            {func(q *backend.Request) { q.Method = "COPY" }, errs.Method},
		"batch of rows":     {func(q *backend.Request) { q.Method, q.Path = "BATCH", "/rows" }, errs.Method},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.want("put", r.put(stamp(1), "old"), 201)
			for _, said := range []string{"no", "chunked", strconv.Itoa(len(whole))} {
				req := putRequest(stamp(2), whole)
				tt.change(req)
				if said != "no" {
					req.Header.Add(backend.Announced, said)
					if req.Length = -1; what == "short" || what == "long" {
						tt.kind = errs.Mismatch // only the checksum can tell
					}
				}
				r.wantKind(what, r.do(req), tt.kind)
			}
			if a := r.call("GET"); a.body != "old" {
				t.Errorf("afterwards %q is there, %v", a.body, a.err)
			}
			r.noLeftovers()
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// What a sender says of a length that is not known decides nothing, whatever it is.
func TestAnnouncedLength(t *testing.T) {
	r := newRig(t)
	for i, size := range []int{0, 300_000, 1_100_000} {
		for j, said := range []string{"0", "1", strconv.Itoa(size), "4000000", "9223372036854775807", "9223372036854775808", "-1", "0x10"} {
			data := strings.Repeat("0123456789", size/10+1)[:size]
			req := putRequest(stamp(20*i+j), data, backend.Announced, said)
			req.Length = -1
			r.want(fmt.Sprintf("%d bytes, said to be %q", size, said), r.do(req), 201)
			get := r.call("GET")
			if get.body != data || get.header.Has(backend.Announced) {
				t.Errorf("%d bytes, said to be %q: read %d, %v", size, said, len(get.body), get.header)
			}
		}
	}
	r.noLeftovers()
}

func TestCommitInHeader(t *testing.T) {
	r := newRig(t)
	req := putRequest(stamp(1), "data")
	req.Header, req.Trailer = append(req.Header, req.Trailer...), nil
	r.want("put", r.do(req), 201)
}

func TestConditions(t *testing.T) {
	r := newRig(t)
	r.want("put", r.put(stamp(10), "data", "X-Object-Sysmeta-Slo-Etag", "whole"), 201)
	etag := r.call("HEAD").header.Get("Etag")
	modified := r.call("HEAD").header.Get("Last-Modified")
	earlier := time.Unix(1_600_000_000, 0).UTC().Format(http.TimeFormat)
	for _, method := range []string{"GET", "HEAD"} {
		for _, tt := range []struct {
			status int
			pairs  []string
		}{
			{200, []string{"If-Match", `"` + etag + `"`}},
			{412, []string{"If-Match", `"x"`}},
			{304, []string{"If-None-Match", etag}},
			{304, []string{"If-Modified-Since", modified}},
			{200, []string{"If-Modified-Since", earlier}},
			{412, []string{"If-Unmodified-Since", earlier}},
			{200, []string{"If-Match", "whole", "X-Backend-Etag-Is-At", "X-Object-Sysmeta-Other, X-Object-Sysmeta-Slo-Etag"}},
			{200, []string{"If-Match", etag, "X-Backend-Etag-Is-At", "X-Object-Sysmeta-Other"}},
		} {
			a := r.call(method, tt.pairs...)
			r.want(fmt.Sprint(method, tt.pairs), a, tt.status)
			if a.header.Get("Etag") != etag || a.status != 200 && (a.body != "" || a.length != 0) {
				t.Errorf("%s %v: %v, body %q, length %d", method, tt.pairs, a.header, a.body, a.length)
			}
		}
	}
}

func TestRanges(t *testing.T) {
	r := newRig(t)
	data := make([]byte, 900_000)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	r.want("put", r.put(stamp(10), string(data)), 201)
	for field, want := range map[string]string{
		"bytes=0-0": string(data[:1]), "bytes=65530-65545": string(data[65530:65546]), "bytes=-10": string(data[899_990:]),
		"bytes=100000-": string(data[100_000:]),
	} {
		a := r.call("GET", "Range", field)
		r.want(field, a, 206)
		if a.body != want || !strings.HasSuffix(a.header.Get("Content-Range"), "/900000") {
			t.Errorf("%s: %d bytes, %q", field, len(a.body), a.header.Get("Content-Range"))
		}
	}
	a := r.call("GET", "Range", "bytes=900000-")
	r.want("beyond", a, 416)
	if a.header.Get("Content-Range") != "bytes */900000" || a.body != "" {
		t.Errorf("416 answered %v, %q", a.header, a.body)
	}
	r.want("if-range of another", r.call("GET", "Range", "bytes=0-0", "If-Range", `"x"`), 200)
	r.want("ignored", r.call("GET", "Range", "bytes=0-0", "X-Backend-Ignore-Range-If-Metadata-Present", "Content-Disposition"), 206)
	a = r.call("GET", "Range", "bytes=10-19,300000-400000,-5", "X-Backend-Boundary", "border")
	r.want("three ranges", a, 206)
	_, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || params["boundary"] != "border" {
		t.Fatalf("content type is %q, %v", a.header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(strings.NewReader(a.body), "border")
	for _, want := range []struct{ off, end int }{{10, 20}, {300_000, 400_001}, {899_995, 900_000}} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(p)
		if err != nil || !bytes.Equal(got, data[want.off:want.end]) {
			t.Errorf("part has %d bytes, %v, want %d from %d", len(got), err, want.end-want.off, want.off)
		}
		if p.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/900000", want.off, want.end-1) || p.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("part has header %v", p.Header)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("after the parts: %v", err)
	}
	r.want("put", r.put(stamp(11), ""), 201)
	r.want("range of nothing", r.call("GET", "Range", "bytes=0-"), 416)
}

// The body is the same whichever way it is taken.
func TestBodyInPieces(t *testing.T) {
	r := newRig(t)
	data := strings.Repeat("abcdefg", 200_000)
	r.want("put", r.put(stamp(10), data), 201)
	for _, field := range []string{"", "bytes=70000-300000", "bytes=0-9,500000-800000"} {
		h := header("Range", field, "X-Backend-Boundary", "b")
		want := r.do(&backend.Request{Method: "GET", Path: path, Header: h})
		resp, err := r.server.Serve(context.Background(), &backend.Request{Method: "GET", Path: path, Header: h})
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for most := int64(1); ; most = most*3 + 1 {
			b, err := resp.Body.(interface{ Piece(int64) ([]byte, error) }).Piece(most)
			if err == io.EOF {
				break
			}
			if err != nil || len(b) == 0 || int64(len(b)) > most {
				t.Fatalf("%q: a piece of %d bytes where at most %d were wanted, %v", field, len(b), most, err)
			}
			got.Write(b)
		}
		if int64(got.Len()) != resp.Length || got.String() != want.body {
			t.Errorf("%q: the pieces have %d of %d bytes", field, got.Len(), resp.Length)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Who asks as a replica is told of when each part is.
func TestTimesForReplicas(t *testing.T) {
	r := newRig(t)
	times := func(want string, pairs ...string) {
		t.Helper()
		for _, method := range []string{"HEAD", "GET"} {
			h := r.call(method, pairs...).header
			if got := h.Get(backend.DataStamp) + " " + h.Get(backend.TypeStamp) + " " + h.Get(backend.BackendStamp); got != want {
				t.Errorf("%s says %q, want %q", method, got, want)
			}
		}
	}
	r.want("put", r.put(stamp(1), "data"), 201)
	times(stamp(1)+"  "+stamp(1), "X-Backend-Replication", "true")
	r.want("post of a type", r.call("POST", "X-Timestamp", stamp(2), "Content-Type", "a/b"), 202)
	r.want("post", r.call("POST", "X-Timestamp", stamp(3)), 202)
	times(stamp(1)+" "+stamp(2)+" "+stamp(3), "X-Backend-Replication", "true")
	times(stamp(1) + "  " + stamp(3))
}

func TestExpiry(t *testing.T) {
	r := newRig(t)
	at := strconv.FormatInt(r.now.Unix()+10, 10)
	r.want("put", r.put(stamp(1), "data", "X-Delete-At", at), 201)
	r.want("before", r.call("GET"), 200)
	r.want("other time", r.call("DELETE", "X-Timestamp", stamp(2), "X-If-Delete-At", "5"), 412)
	r.now = r.now.Add(10 * time.Second)
	for _, method := range []string{"GET", "HEAD"} {
		a := r.call(method)
		r.want(method, a, 404)
		if a.header.Get("X-Backend-Timestamp") != stamp(1) {
			t.Errorf("%s answered %v", method, a.header)
		}
	}
	r.want("post", r.call("POST", "X-Timestamp", stamp(2)), 404)
	r.want("replicator", r.call("GET", "X-Backend-Replication", "true"), 200)
	r.want("opened", r.call("HEAD", "X-Backend-Open-Expired", "true"), 200)
	r.want("put anew", r.put(stamp(2), "data", "X-Delete-At", strconv.FormatInt(r.now.Unix()+5, 10), "If-None-Match", "*"), 201)
	r.now = r.now.Add(time.Minute)
	r.wantKind("bad time", r.call("DELETE", "X-Timestamp", stamp(3), "X-If-Delete-At", "x"), errs.Invalid)
	r.want("expirer", r.call("DELETE", "X-Timestamp", stamp(3), "X-If-Delete-At", strconv.FormatInt(r.now.Unix()-55, 10)), 204)
	r.want("expirer again", r.call("DELETE", "X-Timestamp", stamp(4), "X-If-Delete-At", "5"), 404)
	r.want("delete of expired", r.put(stamp(5), "x", "X-Delete-At", strconv.FormatInt(r.now.Unix()+1, 10)), 201)
	r.now = r.now.Add(time.Minute)
	r.want("delete of expired", r.call("DELETE", "X-Timestamp", stamp(6)), 404)
}

// Replicas whose clocks differ take the same changes: the stamp says whether an object had expired.
func TestExpiryIsByTheStamp(t *testing.T) {
	r := newRig(t)
	at := r.now.Unix() + 10
	second := func(n int64) string { return timestamp.FromTime(time.Unix(n, 0)).String() }
	r.want("put", r.put(stamp(1), "data", "X-Delete-At", strconv.FormatInt(at, 10)), 201)
	for name, ts := range map[string]string{"at": second(at), "after": second(at + 5)} {
		r.want("post "+name, r.call("POST", "X-Timestamp", ts), 404)
	}
	r.want("post of an expirer", r.call("POST", "X-Timestamp", second(at+6), "X-Backend-Open-Expired", "true", "X-Delete-At", strconv.FormatInt(at, 10)), 202)
	r.want("put anew", r.put(second(at+7), "data", "X-Delete-At", strconv.FormatInt(at+20, 10)), 201)
	r.want("post before", r.call("POST", "X-Timestamp", second(at+19)), 202)
	r.want("without an expiry", r.call("POST", "X-Timestamp", second(at+21)), 202)
}

func TestExpiryIsStoredAsANumber(t *testing.T) {
	r := newRig(t)
	at := strconv.FormatInt(r.now.Unix()+10, 10)
	deleteAt := func() string { return r.call("HEAD").header.Get("X-Delete-At") }
	for i, text := range []string{"+" + at, "000" + at, at} {
		r.want("put "+text, r.put(stamp(2*i+1), "data", "X-Delete-At", text), 201)
		if got := deleteAt(); got != at {
			t.Errorf("PUT with X-Delete-At %q stored %q, want %q", text, got, at)
		}
		r.want("post "+text, r.call("POST", "X-Timestamp", stamp(2*i+2), "X-Delete-At", text), 202)
		if got := deleteAt(); got != at {
			t.Errorf("POST with X-Delete-At %q stored %q, want %q", text, got, at)
		}
	}
	r.want("another replica's", r.put(stamp(9), "data", "X-Delete-At", "+"+at, "X-Backend-Replication", "true"), 201)
	if got := deleteAt(); got != "+"+at {
		t.Errorf("what came from another replica is stored as %q, want %q: replicas must agree", got, "+"+at)
	}
}

func TestContainerUpdates(t *testing.T) {
	r := newRig(t)
	to := []string{"X-Container-Host", "n1:1,n2:2", "X-Container-Device", "sda,sdb", "X-Container-Partition", "77"}
	r.status = map[string]int{"n1:1": 201, "n2:2": 204}
	r.want("put", r.put(stamp(1), "data", to...), 201)
	r.want("post", r.call("POST", append(to, "X-Timestamp", stamp(2), "Content-Type", "a/b")...), 202)
	r.want("delete", r.call("DELETE", append(to, "X-Timestamp", stamp(3))...), 204)
	sum := md5.Sum([]byte("data"))
	etag := hex.EncodeToString(sum[:])
	want := []string{
		"n1:1 PUT /sda/77/AUTH_t/c/o " + stamp(1) + " 4 text/plain " + etag,
		"n1:1 PUT /sda/77/AUTH_t/c/o " + stamp(1) + "+186a0 4 a/b " + etag,
		"n1:1 DELETE /sda/77/AUTH_t/c/o " + stamp(3) + "   ",
	}
	got := slices.DeleteFunc(slices.Clone(r.rows), func(s string) bool { return strings.HasPrefix(s, "n2:2") })
	if !slices.Equal(got, want) || len(r.rows) != 6 {
		t.Errorf("rows sent:\n%s\nwant\n%s", strings.Join(r.rows, "\n"), strings.Join(want, "\n"))
	}
	if q := r.queued(); len(q) != 0 {
		t.Errorf("queued although delivered: %+v", q)
	}
	// One is silent, one has no such container: both wait, and the newest stays.
	r.status = map[string]int{"n1:1": 404}
	r.want("put", r.put(stamp(4), "data", to...), 201)
	r.status = map[string]int{"n1:1": 201}
	r.want("delete", r.call("DELETE", append(to, "X-Timestamp", stamp(5))...), 204)
	q := r.queued()
	if len(q) != 1 || q[0].Method != "DELETE" || !slices.Equal(q[0].Confirmed, []string{pending.Place("n1:1", "sda")}) {
		t.Errorf("queued: %+v", q)
	}
	r.rows = nil
	r.want("replicated put", r.put(stamp(6), "data", append(to, "X-Backend-Replication", "true")...), 201)
	if len(r.rows) != 0 {
		t.Errorf("a replicated put told the container: %v", r.rows)
	}
	r.status = map[string]int{"n1:1": 201, "n2:2": 201}
	r.want("override", r.put(stamp(7), "manifest", append(to, "X-Object-Sysmeta-Container-Update-Override-Size", "1000",
		"X-Object-Sysmeta-Container-Update-Override-Etag", "whole")...), 201)
	if !strings.HasSuffix(r.rows[0], " 1000 text/plain whole") {
		t.Errorf("override was not sent: %v", r.rows)
	}
}

// Where updates travel together, a container server that hangs costs each write no
// more than the time that is configured, all of them are queued, and it is soon not
// waited for at all.
func TestSilentServerAndBatches(t *testing.T) {
	r := newRig(t)
	sender := rowbatch.NewSender(rowbatch.Config{Flights: 1, Patience: 5 * time.Millisecond}, r)
	defer sender.Close()
	r.server.Sender = sender
	clock := time.Now
	r.server.Silent = pending.NewSilent(func() time.Time { return clock() })
	write := func(name string) {
		q := putRequest(stamp(1), "data", "X-Container-Host", "n1:1", "X-Container-Device", "sda", "X-Container-Partition", "77")
		q.Path = path + name
		if resp, err := r.server.Serve(t.Context(), q); err != nil || resp.Status != 201 {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
	const writes = 8
	var all sync.WaitGroup
	for i := range writes {
		all.Go(func() { write(strconv.Itoa(i)) })
	}
	all.Wait()
	if q := r.queued(); len(q) != writes {
		t.Errorf("%d updates are queued, want %d", len(q), writes)
	}
	sender.Close() // nothing is under way any more
	if len(r.rows) == 0 {
		t.Error("nobody was asked")
	}
	r.rows = nil
	clock = func() time.Time { return time.Unix(0, 0) } // the time to ask again has not come
	write("last")
	if q := r.queued(); len(r.rows) != 0 || len(q) != writes+1 {
		t.Errorf("%d updates are queued, want %d; the silent one was sent %q", len(q), writes+1, r.rows)
	}
	r.status = map[string]int{"n1:1": 201}
	clock = func() time.Time { return time.Now().Add(time.Minute) }
	write("again")
	if q := r.queued(); len(r.rows) != 1 || len(q) != writes+1 {
		t.Errorf("%d updates are queued, want %d; sent was %q to the one that is back", len(q), writes+1, r.rows)
	}
}

// Any order of the same pushes ends in the same answer.
func TestReplicatedPushes(t *testing.T) {
	push := map[string]func(r *rig) answer{
		"put": func(r *rig) answer {
			return r.put(stamp(10), "data", "X-Backend-Replication", "true", "X-Object-Meta-A", "1")
		},
		"post": func(r *rig) answer {
			return r.call("POST", "X-Backend-Replication", "true", "X-Timestamp", stamp(30), "X-Object-Meta-A", "2",
				"Content-Type", "a/b", "X-Backend-Content-Type-Timestamp", stamp(20))
		},
		"old delete": func(r *rig) answer { return r.call("DELETE", "X-Backend-Replication", "true", "X-Timestamp", stamp(5)) },
	}
	var want backend.Header
	for _, order := range [][]string{
		{"put", "post", "old delete"}, {"put", "old delete", "post"}, {"post", "put", "old delete"},
		{"post", "old delete", "put"}, {"old delete", "put", "post"}, {"old delete", "post", "put"},
	} {
		r := newRig(t)
		for _, what := range order {
			if a := push[what](r); a.err != nil || a.status != 201 && a.status != 202 && a.status != 404 && a.status != 409 {
				t.Fatalf("%v: %s: %d, %v", order, what, a.status, a.err)
			}
		}
		a := r.call("GET")
		r.want(fmt.Sprint(order), a, 200)
		if want == nil {
			want = a.header
		}
		if !slices.Equal(a.header, want) || a.header.Get("Content-Type") != "a/b" || a.header.Get("X-Object-Meta-A") != "2" {
			t.Errorf("%v ends in %v, another in %v", order, a.header, want)
		}
	}
}

// Metadata that waits for its data says nothing of an end: readers would take it for a tombstone that is newer than
// the data that others have.
func TestWaitingMetadataIsNoTombstone(t *testing.T) {
	r := newRig(t)
	r.want("post", r.call("POST", "X-Backend-Replication", "true", "X-Timestamp", stamp(30), "X-Object-Meta-A", "2"), 202)
	for _, method := range []string{"GET", "HEAD", "POST"} {
		a := r.call(method, "X-Timestamp", stamp(40))
		r.want(method, a, 404)
		if a.header.Has("X-Backend-Timestamp") || a.header.Has("X-Backend-Data-Timestamp") {
			t.Errorf("%s of it answers %v", method, a.header)
		}
	}
}

func TestDamageIsNoAbsence(t *testing.T) {
	r := newRig(t)
	r.want("put", r.put(stamp(1), strings.Repeat("x", 300_000)), 201)
	files, err := filepath.Glob(r.root + "/d1/blobs/*/*-0-*")
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	content[4096+250_000] ^= 1
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	a := r.call("GET") // the first block is sound
	if a.status != 200 || !errs.Is(a.err, errs.Corrupt) || strings.Trim(a.body, "x") != "" {
		t.Fatalf("get: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
	for _, method := range []string{"GET", "HEAD", "POST"} {
		r.wantKind(method, r.call(method, "X-Timestamp", stamp(2)), errs.Corrupt)
	}
	r.want("put of the same", r.put(stamp(1), "x", "X-Backend-Replication", "true"), 201)
	r.want("get", r.call("GET"), 200)
}

func TestFailedDevice(t *testing.T) {
	r := newRig(t)
	r.device.Fail(errors.New("gone"))
	r.wantKind("put", r.put(stamp(1), "x"), errs.BadDevice)
	r.device.Fail(nil)
	r.want("put", r.put(stamp(1), "x"), 201)
}

func TestFullDevice(t *testing.T) {
	fs := vfs.NewMem()
	r := newRigOn(t, fs, "/")
	fs.SetCapacity(12 << 20) // two segments, and 4 MiB
	r.wantKind("put", r.put(stamp(1), strings.Repeat("x", 16<<20)), errs.NoSpace)
	req := putRequest(stamp(1), strings.Repeat("x", 16<<20))
	req.Length = -1
	r.wantKind("chunked put", r.do(req), errs.NoSpace)
	r.want("small put", r.put(stamp(1), "x"), 201)
}

// What was answered with 2xx survives a crash, and so does the record that the
// container must be told, whatever call fails.
func TestFaultsAndCrashes(t *testing.T) {
	to := []string{"X-Container-Host", "n1:1", "X-Container-Device", "sda", "X-Container-Partition", "7"}
	for n, fired := 0, true; fired; n++ {
		disk := vfs.NewMem()
		if err := disk.Mkdir("/d1"); err != nil {
			t.Fatal(err)
		}
		if err := disk.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		faulty := vfs.FailAt(disk, n+1) // the first call is that of the set of devices
		r := newRigOn(t, skipMkdir{faulty}, "")
		r.status = map[string]int{"n1:1": 503}
		acked := ""
		for i, do := range []func() answer{
			func() answer { return r.put(stamp(1), "one", to...) },
			func() answer { return r.put(stamp(2), "two", to...) },
		} {
			if a := do(); a.err == nil && a.status/100 == 2 {
				acked = []string{"one", "two"}[i]
			}
		}
		fired = faulty.Fired()
		for seed := range uint64(12) {
			after := newRigOn(t, skipMkdir{disk.AfterCrash(seed)}, "")
			a := after.call("GET")
			switch ok := a.err == nil && (a.body == "one" || a.body == "two"); {
			case acked == "" && a.status != 404 && !ok, acked == "one" && !ok, acked == "two" && a.body != "two":
				t.Fatalf("fault %d, seed %d: %q was acknowledged, found %d %q, %v", n, seed, acked, a.status, a.body, a.err)
			}
			q := after.queued()
			if acked != "" && len(q) != 1 || acked == "two" && q[0].Data.String() != stamp(2) {
				t.Fatalf("fault %d, seed %d: %q was acknowledged, queued is %+v", n, seed, acked, q)
			}
		}
	}
}

// skipMkdir leaves out the making of the device's own folder.
type skipMkdir struct{ vfs.FS }

func (s skipMkdir) Mkdir(name string) error {
	if name == "/d1" {
		return os.ErrExist
	}
	return s.FS.Mkdir(name)
}

// A server without what it needs does not start.
func TestNewRefuses(t *testing.T) {
	good := newRig(t).server
	for what, change := range map[string]func(*Config, *Deps){
		"no devices": func(_ *Config, d *Deps) { d.Devices = nil },
		"no sender":  func(_ *Config, d *Deps) { d.Sender = nil },
		"no stores":  func(_ *Config, d *Deps) { d.Stores = nil },
		"no timeout": func(c *Config, _ *Deps) { c.ContainerUpdateTimeout = 0 },
		"no skew":    func(c *Config, _ *Deps) { c.ClockSkew = -1 },
	} {
		cfg, deps := good.cfg, good.Deps
		change(&cfg, &deps)
		if _, err := New(cfg, deps); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, want Invalid", what, err)
		}
	}
}
