package object

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/errs"
	"martlet/internal/policy"
	"martlet/internal/vfs"
	"martlet/object/engine"
)

// coded is the policy of these tests, 1, and its fragments.
var (
	codedIndex     = policy.Index(1).String()
	fragmentIndex1 = policy.Index(1).Fragments().String()
)

// archives encodes an object into the archives of its fragments. The first byte of the identity of
// their write is id.
func archives(t testing.TB, id byte, data string) [][]byte {
	t.Helper()
	code, err := ec.New(ec.Of(ec.Shape{Data: 4, Parity: 2}))
	if err != nil {
		t.Fatal(err)
	}
	all := make([][]byte, code.Fragments())
	e, err := code.Encode(ec.Write{ID: ec.WriteID{id}, Size: int64(len(data))}, func(next [][]byte) error {
		for i := range next {
			all[i] = append(all[i], next[i]...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(e, data); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

func writeOf(id byte) string { return hex.EncodeToString(append([]byte{id}, make([]byte, 15)...)) }

// held is how a HEAD says that a fragment is there.
func held(ts string, index int, id byte) string {
	return ts + "#" + strconv.Itoa(index) + "/" + writeOf(id)
}

// fragmentRequest is a PUT of an archive.
func fragmentRequest(ts string, index int, archive []byte) *backend.Request {
	return &backend.Request{
		Method: "PUT", Path: path, Length: int64(len(archive)), Body: bytes.NewReader(archive),
		Header:  header(backend.Timestamp, ts, backend.PolicyIndex, fragmentIndex1, backend.FragmentIndex, strconv.Itoa(index)),
		Trailer: header(backend.CommitCRC, fmt.Sprintf("%08x", crc32.Checksum(archive, castagnoli))),
	}
}

func (r *rig) putFragment(ts string, index int, archive []byte) answer {
	r.t.Helper()
	return r.do(fragmentRequest(ts, index, archive))
}

func (r *rig) fragment(method string, pairs ...string) answer {
	r.t.Helper()
	return r.call(method, append([]string{backend.PolicyIndex, fragmentIndex1}, pairs...)...)
}

func (r *rig) held(pairs ...string) string {
	r.t.Helper()
	a := r.fragment("HEAD", pairs...)
	r.want("head", a, 204)
	return a.header.Get(backend.FragmentsHeld)
}

// one is what a request says of one fragment.
func one(ts string, index int, id byte) []string {
	return []string{backend.FragmentTime, ts, backend.FragmentIndex, strconv.Itoa(index), backend.FragmentWrite, writeOf(id)}
}

func TestFragments(t *testing.T) {
	for _, size := range []int{20_000, 3 << 20} { // records, files
		r := newRig(t)
		data := strings.Repeat("0123456789", size/10)
		old, all := archives(t, 1, data[:size/2]), archives(t, 2, data)
		if got := r.held(); got != "" {
			t.Errorf("of nothing there is %q", got)
		}
		r.want("old", r.putFragment(stamp(10), 3, old[3]), 201)
		r.want("new", r.putFragment(stamp(20), 5, all[5]), 201)
		chunked := fragmentRequest(stamp(20), 3, all[3])
		chunked.Length = -1
		chunked.Header = append(chunked.Header, header(append(tells, "X-Delete-At", "1700000001", "X-Object-Meta-A", "1")...)...) // none of it is theirs
		r.want("in chunks", r.do(chunked), 201)
		r.now = r.now.Add(time.Minute)
		r.want("again", r.putFragment(stamp(20), 3, all[3]), 201)
		for id := byte(3); id < 7; id++ { // some of which would be more than it, if that counted
			r.want("of another write", r.putFragment(stamp(20), 3, archives(t, id, data+data[:id])[3]), 409)
		}
		r.want("of another write", r.putFragment(stamp(20), 3, old[3]), 409)

		if got, want := r.held(), strings.Join([]string{held(stamp(20), 3, 2), held(stamp(20), 5, 2), held(stamp(10), 3, 1)}, ","); got != want {
			t.Errorf("there is\n%s, want\n%s", got, want)
		}
		if got := r.held(backend.FragmentTime, stamp(10)); got != held(stamp(10), 3, 1) {
			t.Errorf("of the first time there is %s", got)
		}

		a := r.fragment("GET", one(stamp(20), 5, 2)...)
		r.want("get", a, 200)
		if a.body != string(all[5]) || a.header.Get(backend.Fragment) != hex.EncodeToString(all[5][:ec.HeaderSize]) || a.header.Get(backend.DataStamp) != stamp(20) {
			t.Errorf("got %d bytes of %d, %v", len(a.body), len(all[5]), a.header)
		}
		r.want("without a write", r.fragment("GET", one(stamp(20), 5, 2)[:4]...), 200)
		r.want("of another write", r.fragment("GET", one(stamp(20), 5, 1)...), 404)
		r.want("of another time", r.fragment("GET", one(stamp(21), 5, 2)...), 404)
		r.want("of another index", r.fragment("GET", one(stamp(20), 4, 2)...), 404)
		for field, want := range map[string][]byte{"bytes=64-": all[5][64:], "bytes=100-199": all[5][100:200], "bytes=-5": all[5][len(all[5])-5:]} {
			a := r.fragment("GET", append(one(stamp(20), 5, 2), "Range", field)...)
			r.want(field, a, 206)
			if a.body != string(want) || !strings.HasSuffix(a.header.Get("Content-Range"), "/"+itoa(len(all[5]))) || !a.header.Has(backend.Fragment) {
				t.Errorf("%s: got %d bytes, want %d; %v", field, len(a.body), len(want), a.header)
			}
		}
		r.want("beyond", r.fragment("GET", append(one(stamp(20), 5, 2), "Range", "bytes="+itoa(len(all[5]))+"-")...), 416)

		// Any but some.
		for but, want := range map[string][]byte{"": all[3], "0, 3": all[5], "5": all[3]} {
			a := r.fragment("GET", backend.FragmentTime, stamp(20), backend.FragmentWrite, writeOf(2), backend.FragmentsBut, but)
			if r.want("any but "+but, a, 200); !slices.Contains([]string{string(want), string(all[5])}, a.body) || but != "" && a.body != string(want) {
				t.Errorf("any but %q: got %d bytes", but, len(a.body))
			}
		}
		r.want("all others", r.fragment("GET", backend.FragmentTime, stamp(20), backend.FragmentsBut, "3,5"), 404)
		r.want("any of another write", r.fragment("GET", backend.FragmentTime, stamp(20), backend.FragmentWrite, writeOf(1)), 404)

		// The policy's own objects know nothing of them, nor do other names.
		r.want("the object", r.call("GET", backend.PolicyIndex, codedIndex), 404)
		other := r.do(&backend.Request{Method: "HEAD", Path: path + "2", Header: header(backend.PolicyIndex, fragmentIndex1)})
		if other.status != 204 || other.header.Get(backend.FragmentsHeld) != "" {
			t.Errorf("of another name: %d, %v", other.status, other.header)
		}

		// What is dropped is one fragment of one write.
		r.want("delete of another write", r.fragment("DELETE", one(stamp(20), 3, 1)...), 404)
		r.want("delete", r.fragment("DELETE", one(stamp(20), 3, 2)...), 204)
		r.want("delete again", r.fragment("DELETE", one(stamp(20), 3, 2)...), 404)
		r.want("get", r.fragment("GET", one(stamp(20), 3, 2)...), 404)
		if got, want := r.held(), held(stamp(20), 5, 2)+","+held(stamp(10), 3, 1); got != want {
			t.Errorf("there is\n%s, want\n%s", got, want)
		}
		r.want("put of what was dropped", r.putFragment(stamp(20), 3, all[3]), 201)
		if len(r.rows) != 0 || len(r.queued()) != 0 {
			t.Errorf("listings were told of fragments: %v, %v", r.rows, r.queued())
		}
		r.noLeftovers()
	}
}

// Names that clients can't reach have fragments as well: those of versions.
func TestFragmentsOfVersions(t *testing.T) {
	r := newRig(t)
	all := archives(t, 1, "data of a version")
	req := fragmentRequest(stamp(10), 1, all[1])
	req.Path = versionPath(t, stamp(10))
	r.want("put", r.do(req), 201)
	a := r.version(stamp(10), "GET", append(one(stamp(10), 1, 1), backend.PolicyIndex, fragmentIndex1)...)
	if r.want("get", a, 200); a.body != string(all[1]) {
		t.Errorf("got %d bytes", len(a.body))
	}
	if got := r.held(); got != "" {
		t.Errorf("the object itself has %s", got)
	}
}

func TestFragmentsRefused(t *testing.T) {
	all := archives(t, 1, strings.Repeat("x", 200_000))
	lost := errors.New("lost")
	for what, tt := range map[string]struct {
		change func(*backend.Request)
		kind   errs.Kind
	}{
		"no time":              {func(q *backend.Request) { q.Header.Del(backend.Timestamp) }, errs.Invalid},
		"from the future":      {func(q *backend.Request) { q.Header.Set(backend.Timestamp, stamp(1061)) }, errs.Invalid},
		"no index":             {func(q *backend.Request) { q.Header.Del(backend.FragmentIndex) }, errs.Invalid},
		"an index of no shape": {func(q *backend.Request) { q.Header.Set(backend.FragmentIndex, "28") }, errs.Invalid},
		"a negative index":     {func(q *backend.Request) { q.Header.Set(backend.FragmentIndex, "-1") }, errs.Invalid},
		"another index":        {func(q *backend.Request) { q.Header.Set(backend.FragmentIndex, "3") }, errs.Mismatch},
		"no body":              {func(q *backend.Request) { q.Body, q.Length = nil, 0 }, errs.Mismatch},
		"less than a header":   {func(q *backend.Request) { q.Body, q.Length = bytes.NewReader(all[2][:63]), 63 }, errs.Mismatch},
		"no archive":           {func(q *backend.Request) { q.Body = strings.NewReader(strings.Repeat("x", len(all[2]))) }, errs.Mismatch},
		"lost in the header":   {func(q *backend.Request) { q.Body = io.MultiReader(bytes.NewReader(all[2][:10]), failing{lost}) }, errs.Aborted},
		"lost behind it":       {func(q *backend.Request) { q.Body = io.MultiReader(bytes.NewReader(all[2][:1000]), failing{lost}) }, errs.Aborted},
		"silence":              {func(q *backend.Request) { q.Body = failing{errs.E(errs.Timeout)} }, errs.Timeout},
		"short":                {func(q *backend.Request) { q.Body = bytes.NewReader(all[2][:1000]) }, errs.Aborted},
		"no commit":            {func(q *backend.Request) { q.Trailer = nil }, errs.Invalid},
		"no checksum":          {func(q *backend.Request) { q.Trailer.Set(backend.CommitCRC, "x") }, errs.Invalid},
		"other bytes":          {func(q *backend.Request) { q.Trailer.Set(backend.CommitCRC, "00000000") }, errs.Mismatch},
		"POST":                 {func(q *backend.Request) { q.Method = "POST" }, errs.Method},
		"a device of another":  {func(q *backend.Request) { q.Path = "/d2/1/a/c/o" }, errs.BadDevice},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			req := fragmentRequest(stamp(10), 2, all[2])
			tt.change(req)
			r.wantKind(what, r.do(req), tt.kind)
			if got := r.held(); got != "" {
				t.Errorf("afterwards there is %s", got)
			}
			r.noLeftovers()
		})
	}
	r := newRig(t)
	for _, tt := range [][]string{
		{"GET"}, {"GET", backend.FragmentTime, "x"}, {"HEAD", backend.FragmentTime, "x"}, {"DELETE", backend.FragmentTime, stamp(1)},
		append([]string{"DELETE"}, one(stamp(1), 1, 1)[:4]...),
		{"DELETE", backend.FragmentTime, stamp(1), backend.FragmentWrite, writeOf(1)},
		{"GET", backend.FragmentTime, stamp(1), backend.FragmentIndex, "28"},
		{"GET", backend.FragmentTime, stamp(1), backend.FragmentWrite, "00"},
		{"GET", backend.FragmentTime, stamp(1), backend.FragmentsBut, "1,28"},
	} {
		r.wantKind(fmt.Sprint(tt), r.fragment(tt[0], tt[1:]...), errs.Invalid)
	}
}

// A damaged fragment is in no list, its absence is never claimed, and the same one takes its place.
func TestDamagedFragment(t *testing.T) {
	r := newRig(t)
	all := archives(t, 1, strings.Repeat("x", 2<<20))
	r.want("put", r.putFragment(stamp(1), 2, all[2]), 201)
	damage := func() {
		t.Helper()
		files, err := filepath.Glob(r.root + "/d1/blobs/*/*-" + fragmentIndex1 + "-*")
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
		if a := r.fragment("GET", one(stamp(1), 2, 1)...); a.status != 200 || !errs.Is(a.err, errs.Corrupt) || !bytes.HasPrefix(all[2], []byte(a.body)) {
			t.Fatalf("get: %d, %d bytes, %v", a.status, len(a.body), a.err)
		}
	}
	damage()
	r.wantKind("get", r.fragment("GET", one(stamp(1), 2, 1)...), errs.Corrupt)
	r.wantKind("any", r.fragment("GET", backend.FragmentTime, stamp(1)), errs.Corrupt)
	r.want("any but that", r.fragment("GET", backend.FragmentTime, stamp(1), backend.FragmentsBut, "2"), 404)
	r.want("any of another time", r.fragment("GET", backend.FragmentTime, stamp(2)), 404)
	if got := r.held(); got != "" {
		t.Errorf("there is %s", got)
	}
	r.want("another", r.putFragment(stamp(1), 3, all[3]), 201)
	if a := r.fragment("GET", backend.FragmentTime, stamp(1)); a.body != string(all[3]) {
		t.Errorf("any: got %d, %d bytes", a.status, len(a.body))
	}
	r.want("delete of another", r.fragment("DELETE", one(stamp(1), 3, 1)...), 204)
	r.want("put of the same", r.putFragment(stamp(1), 2, all[2]), 201)
	if a := r.fragment("GET", one(stamp(1), 2, 1)...); a.body != string(all[2]) {
		t.Errorf("get: %d, %d bytes, %v", a.status, len(a.body), a.err)
	}
	damage()
	r.want("delete of what is damaged", r.fragment("DELETE", one(stamp(1), 2, 1)...), 204)
	r.want("get", r.fragment("GET", one(stamp(1), 2, 1)...), 404)
}

// Whoever makes a fragment's state finds it as a PUT leaves it.
func TestFragmentVersion(t *testing.T) {
	r := newRig(t)
	all := archives(t, 1, "some data")
	r.want("put", r.putFragment(stamp(1), 2, all[2]), 201)
	e := r.server.Stores["d1"].Engine
	ts := parsed(t, stamp(1))
	at := FragmentAt(policy.Index(1).Fragments(), r.server.Hasher.Hash(visiblePath), ts, 2)
	sent, err := e.Stat(t.Context(), at)
	if err != nil || sent.Kind != engine.Live {
		t.Fatalf("%+v, %v", sent, err)
	}
	if f, h, ok := FragmentOf(&sent); !ok || f.String() != held(stamp(1), 2, 1) || h.Data != 4 {
		t.Errorf("it is %v, %+v, %t", f, h, ok)
	}
	at.Policy = policy.Index(2).Fragments() // not where it is
	w, err := e.Create(t.Context(), at, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(all[2]); err != nil {
		t.Fatal(err)
	}
	o, err := w.Commit(FragmentVersion(visiblePath, ts, all[2][:ec.HeaderSize]), engine.Terms{Merge: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%+v", o.After), fmt.Sprintf("%+v", sent); got != want {
		t.Errorf("made is\n%s, sent was\n%s", got, want)
	}
}

func fragmentsAfterFault(t *testing.T, n int, all [][]byte) (fired bool) {
	disk := vfs.NewMem()
	if err := errors.Join(disk.Mkdir("/d1"), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.FailAt(disk, n+1) // the first call is that of the set of devices
	r := newRigOn(t, skipMkdir{faulty}, "")
	var acked, undecided [3]bool
	for i := range 3 {
		switch a := r.putFragment(stamp(10), i, all[i]); {
		case a.err == nil && a.status == 201:
			acked[i] = true
		case errs.Is(a.err, errs.BadDevice):
			undecided[i] = true
		default:
			t.Fatalf("fault %d: put of %d: %d, %v", n, i, a.status, a.err)
		}
	}
	dropped, mayBeDropped := false, false
	if a := r.fragment("DELETE", one(stamp(10), 0, 1)...); a.err == nil {
		dropped = a.status == 204
		if a.status == 404 && acked[0] {
			t.Fatalf("fault %d: delete of what is there: %d", n, a.status)
		}
	} else {
		mayBeDropped = true
	}
	fired = faulty.Fired()
	for seed := range uint64(4) {
		after := newRigOn(t, skipMkdir{disk.AfterCrash(seed)}, "")
		for i := range 3 {
			a := after.fragment("GET", one(stamp(10), i, 1)...)
			there := a.err == nil && a.status == 200 && a.body == string(all[i])
			gone := a.err == nil && a.status == 404
			must := acked[i] && (i > 0 || !dropped && !mayBeDropped)
			mustNot := !acked[i] && !undecided[i] || i == 0 && dropped
			if must && !there || mustNot && !gone || !there && !gone {
				t.Fatalf("fault %d, seed %d: fragment %d: %d, %d bytes, %v; acknowledged %v, undecided %v, dropped %t", n, seed, i, a.status, len(a.body), a.err, acked, undecided, dropped)
			}
			if listed := strings.Contains(after.held(), held(stamp(10), i, 1)); listed != there {
				t.Fatalf("fault %d, seed %d: fragment %d is there %t, and listed %t", n, seed, i, there, listed)
			}
		}
	}
	return fired
}

// A fragment for which there is no room leaves nothing.
func TestFragmentOnFullDevice(t *testing.T) {
	fs := vfs.NewMem()
	r := newRigOn(t, fs, "/")
	all := archives(t, 1, strings.Repeat("x", 2<<20))
	r.want("put", r.putFragment(stamp(1), 1, all[1]), 201)
	u, err := fs.Usage("/")
	if err != nil {
		t.Fatal(err)
	}
	fs.SetCapacity(u.Total - u.Available + 100<<10)
	chunked := fragmentRequest(stamp(1), 2, all[2])
	chunked.Length = -1
	r.wantKind("put", r.putFragment(stamp(1), 2, all[2]), errs.NoSpace)
	r.wantKind("put in chunks", r.do(chunked), errs.NoSpace)
	if got := r.held(); got != held(stamp(1), 1, 1) {
		t.Errorf("there is %s", got)
	}
	r.want("delete", r.fragment("DELETE", one(stamp(1), 1, 1)...), 204)
}
