//go:build !race

package cluster

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/name"
	"martlet/internal/policy"
)

// These tests are about bytes, of which there are many: other tests of reading and writing fragments are for the race
// detector.

// same fails unless an object under erasure coding is answered as the same one of replicas is, byte for byte
// but for what tells answers apart.
func (p *probe) same(object string, header map[string]string) {
	p.t.Helper()
	for _, method := range []string{"GET", "HEAD"} {
		var got [2]fetched
		for i, container := range []string{"ec", "whole"} {
			f, err := p.fetch(p.t.Context(), method, p.url+"/"+container+"/"+object, header)
			if err != nil {
				p.t.Fatal(method, container, object, header, err)
			}
			if _, boundary, ok := strings.Cut(f.header.Get("Content-Type"), "boundary="); ok {
				f.body = strings.ReplaceAll(f.body, boundary, "B")
				f.header.Set("Content-Type", "multipart")
			}
			for _, n := range []string{"Date", "X-Timestamp", "X-Trans-Id", "X-Openstack-Request-Id", "Last-Modified"} {
				if f.header.Get(n) == "" && f.status < 400 {
					p.t.Errorf("%s %s %s %v: no %s", method, container, object, header, n)
				}
				f.header.Del(n)
			}
			got[i] = f
		}
		if got[0].status != got[1].status || got[0].body != got[1].body || fmt.Sprint(got[0].header) != fmt.Sprint(got[1].header) {
			p.t.Errorf("%s %s %v: %d, %d bytes, %v\nwhole it is %d, %d bytes, %v", method, object, header, got[0].status, len(got[0].body), got[0].header, got[1].status, len(got[1].body), got[1].header)
		}
	}
}

// What clients get of coded objects is what they get of those that are kept whole: of every size that
// is kept in another way, and of every kind of range.
func TestCodedObjectsAreAnsweredAsWholeOnes(t *testing.T) {
	p := codedProbe(t, ec.Shape{Data: 4, Parity: 2}, 7)
	sizes := []int{0, 1, 8 << 10, 8<<10 + 1, 64 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 17}
	for _, size := range sizes {
		object, body := fmt.Sprint("o", size), randomText(size)
		for _, container := range []string{"ec", "whole"} {
			h := map[string]string{"Content-Type": "text/plain", "X-Object-Meta-Colour": "red"}
			p.upload(container+"/"+object, h, body, size%2 == 0)
		}
		if f, err := p.fetch(t.Context(), "GET", p.url+"/ec/"+object, nil); err != nil || f.body != body {
			t.Fatalf("%d bytes: got %d, %d bytes, %v", size, f.status, len(f.body), err)
		}
		p.same(object, nil)
		for _, r := range []string{
			"bytes=0-0", "bytes=0-", "bytes=1-1", "bytes=-1", "bytes=-70000", "bytes=5-3", "bytes=a-b", "lines=1-2", "bytes=100-8191", "bytes=8191-8192",
			"bytes=65535-65536", "bytes=1048575-1048576", "bytes=1048576-", "bytes=1048570-3145735", "bytes=9999999-", "bytes=0-99999999", "bytes=-0",
			"bytes=0-1,5-6", "bytes=0-1,2097151-2097152", "bytes=-2,0-0", "bytes=0-0,9999999-", "bytes=9999999-,8888888-", "bytes=0-9,0-9,0-9,0-9", "bytes=0-99999999,1-2",
		} {
			p.same(object, map[string]string{"Range": r})
		}
	}
	whole, err := p.fetch(t.Context(), "HEAD", p.url+"/ec/o1048577", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []map[string]string{
		{"If-Range": whole.header.Get("Etag")}, {"If-Range": `"` + whole.header.Get("Etag") + `"`}, {"If-Range": "another"}, {"If-Range": "Mon, 02 Jan 2006 15:04:05 GMT"},
		{"If-Match": whole.header.Get("Etag")}, {"If-Match": "another"}, {"If-None-Match": whole.header.Get("Etag")}, {"If-None-Match": "another"},
		{"If-Modified-Since": "Mon, 02 Jan 2006 15:04:05 GMT"}, {"If-Unmodified-Since": "Mon, 02 Jan 2006 15:04:05 GMT"}, {"X-Newest": "true"},
	} {
		h["Range"] = "bytes=1048570-1048580"
		p.same("o1048577", h)
	}
}

// With as many nodes down as there is parity for, whichever, all is read as before. With one
// more it is a 503, and nothing else, where the object was there.
func TestCodedObjectsWithNodesDown(t *testing.T) {
	p := codedProbe(t, ec.Shape{Data: 2, Parity: 2}, 5)
	bodies := map[string]string{}
	for i, size := range []int{100, 8<<10 + 1, 1 << 20, 1<<20 + 1, 3<<20 + 17} {
		object := fmt.Sprint("o", size)
		bodies[object] = randomText(size)
		p.upload("ec/"+object, nil, bodies[object], i%2 == 0)
	}
	p.stop(5)
	bodies["late"] = randomText(2<<20 + 1) // a fragment of it is on a handoff, or none is missing
	p.upload("ec/late", nil, bodies["late"], true)
	p.start(5)
	check := func(down string) {
		t.Helper()
		for object, body := range bodies {
			got, err := p.fetch(t.Context(), "GET", p.url+"/ec/"+object, nil)
			if err != nil || got.status != 200 || got.body != body {
				t.Errorf("%s down: GET %s: %d, %d bytes, %v", down, object, got.status, len(got.body), err)
			}
			off := len(body) / 2
			got, err = p.fetch(t.Context(), "GET", p.url+"/ec/"+object, map[string]string{"Range": fmt.Sprintf("bytes=%d-%d", off, off+40)})
			if err != nil || got.status != 206 || got.body != body[off:off+41] {
				t.Errorf("%s down: a range of %s: %d, %d bytes, %v", down, object, got.status, len(got.body), err)
			}
		}
	}
	check("none")
	for a := 1; a <= 5; a++ {
		p.stop(a)
		for b := a + 1; b <= 5; b++ {
			p.stop(b)
			check(fmt.Sprint(a, " and ", b))
			p.start(b)
		}
		p.start(a)
	}
	_, devices := p.primariesOf("o1048577")
	for _, d := range devices[:3] {
		p.stop(nodeOf(d.IP))
	}
	got, err := p.fetch(t.Context(), "GET", p.url+"/ec/o1048577", nil)
	if err != nil || got.status != 503 || got.header.Get("X-Trans-Id") == "" || strings.HasPrefix(got.body, bodies["o1048577"][:8]) {
		t.Errorf("with three down: %d, %d bytes, %v", got.status, len(got.body), err)
	}
}

// What a PUT under erasure coding leaves on devices: up to whole_up_to bytes whole on the replicas of
// the object, and of others commits there, and fragments that are the bytes.
func TestCodedPutOnDisk(t *testing.T) {
	shapes := []ec.Shape{{Data: 1, Parity: 1}, {Data: 4, Parity: 2}, {Data: 8, Parity: 4}}
	p := startPatientProbe(t, 20*time.Second, func(o *Options) { // the machine may be busy
		o.Nodes, o.Devices = 12, 1
		for _, s := range shapes {
			o.Policies = append(o.Policies, Policy{Name: fmt.Sprintf("ec%d-%d", s.Data, s.Parity), Shape: s})
		}
	})
	const wholeUpTo = 8 << 10
	chance := rand.NewChaCha8([32]byte{1})
	for i, shape := range shapes {
		index := policy.Index(i + 1)
		container := fmt.Sprint("coded", i)
		p.want("PUT", p.url+"/"+container, map[string]string{"X-Storage-Policy": fmt.Sprintf("ec%d-%d", shape.Data, shape.Parity)}, "", 201)
		replicas := min(shape.Fragments(), shape.Parity+2)
		code, err := ec.New(ec.Of(shape))
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, wholeUpTo, wholeUpTo + 1, 64 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 7} {
			for _, chunked := range []bool{false, true} {
				what := fmt.Sprintf("%v, %d bytes, chunked %v", shape, size, chunked)
				data := make([]byte, size)
				_, _ = chance.Read(data)
				o := fmt.Sprint("o", size, chunked)
				var body io.Reader = bytes.NewReader(data)
				if chunked {
					body = struct{ io.Reader }{body}
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.url+"/"+container+"/"+o, body)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("X-Auth-Token", p.token)
				resp, err := p.client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				sum := md5.Sum(data)
				if etag := fmt.Sprintf("%x", sum); resp.StatusCode != 201 || resp.Header.Get("Etag") != etag {
					t.Errorf("%s: got %s, ETag %s, want %s", what, resp.Status, resp.Header.Get("Etag"), etag)
				}
				have, archives := p.stored(index, name.Path{Account: "AUTH_test", Container: container, Object: o}, shape)
				if len(have) != replicas {
					t.Errorf("%s: %d replicas have it, want %d", what, len(have), replicas)
				}
				for place, s := range have {
					text := s.System.Get(backend.CodedWrite)
					if size <= wholeUpTo {
						if s.Length != int64(size) || s.MD5 != sum || text != "" || len(archives) > 0 {
							t.Errorf("%s: %s has %d bytes, %q, and there are %d fragments", what, place, s.Length, text, len(archives))
						}
						continue
					}
					of, err := backend.ParseCoded(text)
					if err != nil || s.Length != 0 || of.Size != int64(size) || of.ETag != fmt.Sprintf("%x", sum) || of.Sized == (chunked && size >= 256<<10) {
						t.Errorf("%s: %s has %d bytes and says %q, %v", what, place, s.Length, text, err)
					}
					if len(archives) != shape.Fragments() {
						t.Errorf("%s: there are %d fragments, want %d", what, len(archives), shape.Fragments())
					}
					if got, err := decode(code, of, archives, shape.Parity); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%s: the fragments are %d bytes, %v", what, len(got), err)
					}
				}
			}
		}
	}
}
