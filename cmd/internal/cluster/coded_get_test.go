package cluster

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/ec"
)

// codedProbe starts a probe of nodes with one device each and a policy of erasure coding, whose
// container is /ec; /whole is one of replicas.
func codedProbe(t testing.TB, shape ec.Shape, nodes int) *probe {
	t.Helper()
	p := startProbe(t, func(o *Options) {
		o.Nodes, o.Devices, o.Policies = nodes, 1, []Policy{{Name: "coded", Shape: shape}}
	})
	p.want("PUT", p.url+"/ec", map[string]string{"X-Storage-Policy": "coded"}, "", 201)
	p.want("PUT", p.url+"/whole", nil, "", 201)
	return p
}

// randomText is so many bytes that can be told apart.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

// fetched is the answer to a request of a client.
type fetched struct {
	status int
	header http.Header
	body   string
}

func (p *probe) fetch(ctx context.Context, method, url string, header map[string]string) (f fetched, err error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return f, err
	}
	r.Header.Set("X-Auth-Token", p.token)
	for n, v := range header {
		r.Header.Set(n, v)
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fetched{resp.StatusCode, resp.Header, string(b)}, err
}

// upload sends a PUT, in chunks where the size is not to be known before the end.
func (p *probe) upload(object string, header map[string]string, body string, sized bool) {
	p.t.Helper()
	var content io.Reader = strings.NewReader(body)
	if !sized {
		content = struct{ io.Reader }{content}
	}
	r, err := http.NewRequestWithContext(p.t.Context(), "PUT", p.url+"/"+object, content)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", p.token)
	for n, v := range header {
		r.Header.Set(n, v)
	}
	resp, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 201 {
		p.t.Fatalf("PUT %s: %d", object, resp.StatusCode)
	}
}

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
