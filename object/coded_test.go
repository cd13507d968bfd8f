package object

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/timestamp"
	"martlet/object/engine"
)

const wholeETag = "0123456789abcdef0123456789abcdef"

// commitText is what a commit says of a whole of a size.
func commitText(id byte, size int64) string {
	return backend.Coded{Data: 4, Parity: 2, Segment: 1 << 20, Write: [16]byte{id}, Size: size, Sized: true, ETag: wholeETag}.String()
}

// ofCoded are the fields of all requests of a coded policy.
func ofCoded(pairs ...string) []string {
	return append([]string{backend.PolicyIndex, codedIndex}, pairs...)
}

func (r *rig) putCommit(ts string, id byte, size int64, pairs ...string) answer {
	r.t.Helper()
	return r.put(ts, "", append(ofCoded(backend.CodedWrite, commitText(id, size)), pairs...)...)
}

func TestCommit(t *testing.T) {
	r := newRig(t)
	r.status["1.1.1.1:1"] = 201
	a := r.putCommit(stamp(10), 1, 70_000, append([]string{"X-Object-Meta-A", "1"}, tells...)...)
	r.want("put", a, 201)
	if a.header.Get("Etag") != wholeETag || a.header.Get(backend.BackendStamp) != stamp(10) {
		t.Errorf("put answered %v", a.header)
	}
	row := func(ts, contentType string, size int) string {
		return fmt.Sprintf("1.1.1.1:1 PUT /c1/7/AUTH_t/c/o %s %d %s %s", ts, size, contentType, wholeETag)
	}
	if got, want := r.told(), []string{row(stamp(10), "text/plain", 70_000)}; !slices.Equal(got, want) {
		t.Errorf("the container was told %q, want %q", got, want)
	}
	get, head := r.call("GET", ofCoded()...), r.call("HEAD", ofCoded()...)
	r.want("get", get, 200)
	r.want("head", head, 200)
	if get.body != "" || head.length != 70_000 || !slices.Equal(get.header, head.header) {
		t.Errorf("get has %q and %v, head %d and %v", get.body, get.header, head.length, head.header)
	}
	for name, want := range map[string]string{
		"Etag": wholeETag, backend.CodedWrite: commitText(1, 70_000), "X-Object-Meta-A": "1", backend.DataStamp: stamp(10), "Accept-Ranges": "bytes",
	} {
		if got := get.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, method := range []string{"GET", "HEAD"} {
		for _, tt := range []struct {
			status int
			pairs  []string
		}{
			{200, []string{"Range", "bytes=5-9", hdrBoundary, "b"}},
			{200, []string{"Range", "bytes=100000-"}},
			{200, []string{"If-Match", wholeETag}},
			{412, []string{"If-Match", "d41d8cd98f00b204e9800998ecf8427e"}},
			{304, []string{"If-None-Match", `"` + wholeETag + `"`}},
			{200, []string{"X-Newest", "true"}},
		} {
			a := r.call(method, ofCoded(tt.pairs...)...)
			r.want(fmt.Sprint(method, tt.pairs), a, tt.status)
			if a.body != "" || a.header.Has("Content-Range") {
				t.Errorf("%s %v: %d bytes, %v", method, tt.pairs, len(a.body), a.header)
			}
		}
	}
	r.want("must be new", r.putCommit(stamp(15), 2, 5, "If-None-Match", "*"), 412)
	r.want("older", r.putCommit(stamp(9), 2, 5), 409)
	a = r.call("POST", ofCoded(append(tells, "X-Timestamp", stamp(20), "X-Object-Meta-A", "2", "Content-Type", "a/b")...)...)
	r.want("post", a, 202)
	if got := r.told(); len(got) != 1 || !strings.HasSuffix(got[0], " 70000 a/b "+wholeETag) {
		t.Errorf("post: the container was told %q", got)
	}
	if a := r.call("HEAD", ofCoded()...); a.length != 70_000 || a.header.Get("X-Object-Meta-A") != "2" || !a.header.Has(backend.CodedWrite) {
		t.Errorf("after the post: %d, %v", a.length, a.header)
	}
	r.want("put again", r.putCommit(stamp(30), 3, 80_000, "X-Delete-At", "1700000010"), 201)
	if a := r.call("HEAD", ofCoded()...); a.length != 80_000 {
		t.Errorf("after a second: %d", a.length)
	}
	r.now = r.now.Add(20e9)
	r.want("past its end", r.call("GET", ofCoded()...), 404)
	r.want("expirer", r.call("DELETE", ofCoded("X-Timestamp", stamp(1015), hdrIfDeleteAt, "1700000010")...), 204)
	r.want("whole again", r.put(stamp(1020), "small", ofCoded()...), 201)
	if a := r.call("GET", ofCoded()...); a.body != "small" || a.header.Has(backend.CodedWrite) {
		t.Errorf("small: %q, %v", a.body, a.header)
	}
	r.want("commit", r.putCommit(stamp(1030), 4, 90_000), 201)
	r.want("delete", r.call("DELETE", ofCoded("X-Timestamp", stamp(1031))...), 204)
	r.want("get of what was deleted", r.call("GET", ofCoded()...), 404)
}

// Whatever its sender says that the MD5 of no bytes is, a commit is stored with what it is, so that it is the same everywhere.
func TestCommitMD5(t *testing.T) {
	r := newRig(t)
	for i, etag := range []string{wholeETag, hex.EncodeToString(md5.New().Sum(nil))} {
		req := putRequest(stamp(i+1), "", ofCoded(backend.CodedWrite, commitText(1, 70_000))...)
		req.Trailer.Set(backend.CommitETag, etag)
		r.want("put", r.do(req), 201)
		s, err := r.server.Stores["d1"].Engine.Stat(t.Context(), engine.Location{Policy: 1, Hash: r.server.Hasher.Hash(visiblePath)})
		if err != nil || s.MD5 != md5.Sum(nil) {
			t.Errorf("sent with %s is stored with %x, %v", etag, s.MD5, err)
		}
	}
}

func TestCommitOverrides(t *testing.T) {
	r := newRig(t)
	r.status["1.1.1.1:1"] = 201
	r.want("put", r.putCommit(stamp(10), 1, 70_000, append([]string{overridePrefix + "Size", "9", overridePrefix + "Etag", "other", "X-Object-Sysmeta-Slo-Etag", "slo"}, tells...)...), 201)
	if got := r.told(); len(got) != 1 || !strings.HasSuffix(got[0], " 9 text/plain other") {
		t.Errorf("the container was told %q", got)
	}
	r.want("if-match", r.call("GET", ofCoded("If-Match", "slo", hdrEtagIsAt, "X-Object-Sysmeta-Slo-Etag")...), 200)
}

func TestCommitRefused(t *testing.T) {
	r := newRig(t)
	r.want("old", r.putCommit(stamp(1), 1, 5), 201)
	good := commitText(1, 70_000)
	r.wantKind("no commit", r.put(stamp(10), "", ofCoded(backend.CodedWrite, "2"+good[1:])...), errs.Invalid)
	r.wantKind("a body", r.put(stamp(10), "x", ofCoded(backend.CodedWrite, good)...), errs.Invalid)
	req := putRequest(stamp(10), "x", ofCoded(backend.CodedWrite, good)...)
	req.Length = -1
	r.wantKind("a body in chunks", r.do(req), errs.Invalid)
	req = putRequest(stamp(10), "", ofCoded(backend.CodedWrite, good)...)
	req.Trailer = nil
	r.wantKind("no end", r.do(req), errs.Invalid)
	if a := r.call("HEAD", ofCoded()...); a.length != 5 {
		t.Errorf("afterwards %d is there", a.length)
	}
}

func TestCommitOfVersion(t *testing.T) {
	r := newRig(t)
	r.status["1.1.1.1:1"] = 201
	a := r.putCommit(stamp(10), 1, 70_000, append([]string{backend.NewVersion, "true"}, tells...)...)
	r.want("put", a, 201)
	if a.header.Get("Etag") != wholeETag || a.header.Get(backend.VersionID) != stamp(10) {
		t.Errorf("put answered %v", a.header)
	}
	if got, want := r.told(), []string{
		"1.1.1.1:1 PUT /c1/7/AUTH_t/%00versions%00c/%00o%008300000989.99999 " + stamp(10) + " 70000 text/plain " + wholeETag,
		"1.1.1.1:1 PUT /c1/7/AUTH_t/c/o " + stamp(10) + " 0 text/plain;swift_bytes=70000 " + wholeETag + "; version_id=" + stamp(10),
	}; !slices.Equal(got, want) {
		t.Errorf("containers were told\n%q, want\n%q", got, want)
	}
	get, head := r.call("GET", ofCoded("Range", "bytes=0-1")...), r.call("HEAD", ofCoded()...)
	r.want("get", get, 200)
	r.want("head", head, 200)
	if get.body != "" || head.length != 70_000 || !slices.Equal(get.header, head.header) || get.header.Get("Etag") != wholeETag ||
		get.header.Get(backend.VersionID) != stamp(10) || get.header.Get(backend.FragmentTime) != stamp(10) || get.header.Get(backend.CodedWrite) != commitText(1, 70_000) || get.header.Has(backend.VersionLink) {
		t.Errorf("get has %q, %v; head %d, %v", get.body, get.header, head.length, head.header)
	}
	own := r.version(stamp(10), "HEAD", ofCoded()...)
	if own.status != 200 || own.length != 70_000 || !own.header.Has(backend.CodedWrite) {
		t.Errorf("the version: %d, %d, %v", own.status, own.length, own.header)
	}
	r.want("if-none-match", r.call("GET", ofCoded("If-None-Match", wholeETag)...), 304)
	a = r.call("POST", ofCoded(append(tells, "X-Timestamp", stamp(20), "X-Object-Meta-B", "2")...)...)
	r.want("post", a, 202)
	if got := r.told(); len(got) != 2 || !strings.Contains(got[0], " 70000 text/plain "+wholeETag) {
		t.Errorf("post: containers were told %q", got)
	}
	r.want("data of before", r.putCommit(stamp(5), 2, 60_000, backend.NewVersion, "true"), 409) // and it is kept
	if a := r.version(stamp(5), "HEAD", ofCoded()...); a.length != 60_000 {
		t.Errorf("the version of before: %d, %d", a.status, a.length)
	}
	if a := r.call("HEAD", ofCoded(backend.Unversioned, backend.AnyData)...); a.status != 200 || a.header.Get(backend.VersionID) != stamp(10) {
		t.Errorf("any data: %d, %v", a.status, a.header)
	}
}

// What was there before there were versions says of itself what it is like.
func TestCommitBeforeVersions(t *testing.T) {
	r := newRig(t)
	r.want("put", r.putCommit(stamp(10), 1, 70_000), 201)
	a := r.putCommit(stamp(20), 2, 80_000, backend.NewVersion, "true")
	if r.want("a version", a, 409); a.header.Get(backend.Unversioned) != stamp(10) {
		t.Errorf("answered %v", a.header)
	}
	a = r.call("GET", ofCoded(backend.Unversioned, stamp(10))...)
	if r.want("get of that", a, 200); a.header.Get(backend.CodedWrite) != commitText(1, 70_000) {
		t.Errorf("got %v", a.header)
	}
	a = r.call("HEAD", ofCoded(backend.Unversioned, backend.AnyData)...)
	if r.want("any", a, 200); a.header.Get("Etag") != wholeETag {
		t.Errorf("got %v", a.header)
	}
}

// A commit that nobody here can read is no empty object, and can still be replaced.
func TestCommitOfAnotherForm(t *testing.T) {
	r := newRig(t)
	e := r.server.Stores["d1"].Engine
	at := engine.Location{Policy: 1, Hash: r.server.Hasher.Hash(visiblePath)}
	w, err := e.Create(t.Context(), at, 0)
	if err != nil {
		t.Fatal(err)
	}
	v := engine.Version{Time: parsed(t, stamp(1)), Name: visiblePath, ContentType: "a/b", System: header(backend.CodedWrite, "2"+commitText(1, 5)[1:])}
	if _, err := w.Commit(v, engine.Terms{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "HEAD", "POST"} {
		r.wantKind(method, r.call(method, ofCoded("X-Timestamp", stamp(2))...), errs.Corrupt)
	}
	r.want("put", r.putCommit(stamp(3), 1, 70_000), 201)
	r.want("get", r.call("GET", ofCoded()...), 200)
}

func parsed(t testing.TB, stamp string) timestamp.T {
	t.Helper()
	ts, err := timestamp.Parse(stamp)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}
