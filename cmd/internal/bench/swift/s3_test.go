package swift

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/cmd/internal/bench/sigv4"
)

// buckets answers as S3 does.
type buckets struct {
	t    *testing.T
	mu   sync.Mutex
	held map[string]map[string]string // objects, by bucket
}

func (b *buckets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	s := sigv4.Signer{Access: "access", Secret: "secret", Region: "eu"}
	want := s.Sign(at, r.Method, r.Host, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("X-Amz-Content-Sha256"))
	if err != nil || r.Header.Get("Authorization") != want.Authorization {
		b.t.Errorf("%s %s: signed with %q, want %q", r.Method, r.URL, r.Header.Get("Authorization"), want.Authorization)
		w.WriteHeader(403)
		return
	}
	bucket, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	objects, ok := b.held[bucket]
	switch {
	case bucket == "":
		_, _ = fmt.Fprint(w, `<?xml version="1.0"?><ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>1</ID><DisplayName>me</DisplayName></Owner><Buckets>`)
		for _, n := range slices.Sorted(maps.Keys(b.held)) {
			_, _ = fmt.Fprintf(w, "<Bucket><Name>%s</Name><CreationDate>x</CreationDate></Bucket>", n)
		}
		_, _ = fmt.Fprint(w, "</Buckets></ListAllMyBucketsResult>")
	case object == "" && r.Method == "PUT":
		if ok {
			w.WriteHeader(409)
			return
		}
		b.held[bucket] = map[string]string{}
	case !ok:
		w.WriteHeader(404)
	case object == "" && r.Method == "DELETE":
		if len(objects) > 0 {
			w.WriteHeader(409)
			return
		}
		delete(b.held, bucket)
		w.WriteHeader(204)
	case object == "":
		most, _ := strconv.Atoi(r.URL.Query().Get("max-keys"))
		_, _ = fmt.Fprintf(w, `<ListBucketResult><Name>%s</Name><KeyCount>1</KeyCount>`, bucket)
		for _, n := range slices.Sorted(maps.Keys(objects)) {
			if n > r.URL.Query().Get("start-after") && strings.HasPrefix(n, r.URL.Query().Get("prefix")) && most > 0 {
				most--
				_, _ = fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>1</Size></Contents>", strings.ReplaceAll(n, "&", "&amp;"))
			}
		}
		_, _ = fmt.Fprint(w, "</ListBucketResult>")
	case r.Method == "PUT":
		text, _ := io.ReadAll(r.Body)
		objects[object] = string(text)
	case r.Method == "DELETE":
		delete(objects, object)
		w.WriteHeader(204)
	default:
		text, ok := objects[object]
		if !ok {
			w.WriteHeader(404)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		_, _ = io.WriteString(w, text)
	}
}

func TestS3(t *testing.T) {
	b := &buckets{t: t, held: map[string]map[string]string{"other": {}}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	c, err := Open(t.Context(), Credentials{URL: server.URL, User: "access", Key: "secret", S3: &S3{Region: "eu"}}, Options{Connections: 2, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := c.Sender(0)
	read := func(r Request) (int, string) {
		t.Helper()
		var text strings.Builder
		a, err := s.Do(t.Context(), r, func(p []byte) { text.Write(p) })
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		return a.Status, text.String()
	}
	for i, step := range []struct {
		r    Request
		want int
		text string
	}{
		{Request{Method: "GET", Container: "b", Object: "o"}, 404, ""},
		{Request{Method: "PUT", Container: "b"}, 201, ""},
		{Request{Method: "PUT", Container: "b"}, 202, ""},
		{Request{Method: "PUT", Container: "b", Object: "o", Length: 5, Body: strings.NewReader("hello")}, 201, ""},
		{Request{Method: "PUT", Container: "b", Object: Quote("p q&r"), Length: 0, Body: strings.NewReader("")}, 201, ""},
		{Request{Method: "GET", Container: "b", Object: "o"}, 200, "hello"},
		{Request{Method: "HEAD", Container: "b", Object: "o"}, 200, ""},
		{Request{Method: "GET", Container: "b", List: &Listing{Limit: 10}}, 200, "o\np q&r\n"},
		{Request{Method: "GET", Container: "b", List: &Listing{Limit: 1}}, 200, "o\n"},
		{Request{Method: "GET", Container: "b", List: &Listing{Limit: 10, Marker: "o"}}, 200, "p q&r\n"},
		{Request{Method: "GET", Container: "b", List: &Listing{Limit: 10, Prefix: "p q", Marker: "p +"}}, 200, "p q&r\n"},
		{Request{Method: "GET", List: &Listing{Limit: 10}}, 200, "b\nother\n"},
		{Request{Method: "GET", List: &Listing{Limit: 10, Prefix: "o", Marker: "b"}}, 200, "other\n"},
		{Request{Method: "GET", List: &Listing{Limit: 10, Marker: "other"}}, 200, ""},
		{Request{Method: "DELETE", Container: "b"}, 409, ""},
		{Request{Method: "DELETE", Container: "b", Object: "o"}, 204, ""},
		{Request{Method: "DELETE", Container: "b", Object: Quote("p q&r")}, 204, ""},
		{Request{Method: "DELETE", Container: "b"}, 204, ""},
		{Request{Method: "GET", Container: "b", List: &Listing{Limit: 10}}, 404, ""},
	} {
		if status, text := read(step.r); status != step.want || text != step.text {
			t.Errorf("step %d, %+v: got %d and %q, want %d and %q", i, step.r, status, text, step.want, step.text)
		}
	}
	for _, c := range []Credentials{{URL: server.URL, User: "a", Key: "b", S3: &S3{}}, {URL: server.URL, User: "a", Key: "b", S3: &S3{Region: "eu"}, Keystone: &Keystone{Project: "p"}}, {Token: "t", Storage: server.URL, S3: &S3{Region: "eu"}}} {
		if c.Check() == nil {
			t.Errorf("%+v: want an error", c)
		}
	}
}

// Whatever a server sends is a listing or an error, and no name is from anywhere but where names stand.
// A host is named, and signed, without a port that is its scheme's own.
func TestHosts(t *testing.T) {
	server := httptest.NewServer(&buckets{t: t, held: map[string]map[string]string{"b": {}}}) // which looks at the signature by the host that it is sent
	t.Cleanup(server.Close)
	for text, want := range map[string][2]string{
		"http://h": {"h:80", "h"}, "http://h:80": {"h:80", "h"}, "http://h:8080": {"h:8080", "h:8080"}, "http://h:443": {"h:443", "h:443"},
		"https://h": {"h:443", "h"}, "https://h:443": {"h:443", "h"}, "https://h:80": {"h:80", "h:80"}, "http://[::1]:80": {"[::1]:80", "[::1]"}, "http://[::1]:8": {"[::1]:8", "[::1]:8"},
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Connections: 1, Timeout: 10 * time.Second}
		e := newEndpoint(u, o)
		if e.addr != want[0] || e.host != want[1] {
			t.Errorf("%s: %s is dialled as %s, want %v", text, e.addr, e.host, want)
		}
		if u.Scheme == "https" {
			continue
		}
		c, err := Open(t.Context(), Credentials{URL: text, User: "access", Key: "secret", S3: &S3{Region: "eu"}}, o)
		if err != nil {
			t.Fatal(err)
		}
		c.endpoints[0].addr = server.Listener.Addr().String()
		if a, err := c.Sender(0).Do(t.Context(), Request{Method: "PUT", Container: "b"}, nil); err != nil || a.Status != 202 {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
		c.Close()
	}
}

func FuzzNamesOf(f *testing.F) {
	f.Add("<ListBucketResult><Name>b</Name><Contents><Key>a</Key></Contents></ListBucketResult>")
	f.Add("<Buckets><Bucket><Name>b</Name></Bucket></Buckets>")
	f.Add("<Contents><Key>a")
	f.Fuzz(func(t *testing.T, text string) {
		names, err := namesOf(strings.NewReader(text))
		if err != nil && names != nil {
			t.Errorf("%q: %q, and %v", text, names, err)
		}
		if len(names) > strings.Count(text, "Key")+strings.Count(text, "Name") {
			t.Errorf("%q has the names %q", text, names)
		}
	})
}
