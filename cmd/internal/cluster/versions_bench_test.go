package cluster

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/rowbatch"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// cpu is what this process has used of processors.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// putMany is putAll of 4 KiB.
func (p *probe) putMany(b *testing.B, container string, from, n, writers, names int) time.Duration {
	b.Helper()
	return p.putAll(b, container, strings.Repeat("x", 4<<10), from, n, writers, names)
}

// putAll puts objects, so many at a time, over connections that cost next to
// nothing, and returns the processor time of all of it.
func (p *probe) putAll(b *testing.B, container, body string, from, n, writers, names int) time.Duration {
	b.Helper()
	at, err := url.Parse(p.url)
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	next.Store(int64(from))
	began := cpu(b)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			conn, err := net.Dial("tcp", at.Host)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }() // its answers have been read
			r := bufio.NewReader(conn)
			for i := next.Add(1) - 1; i < int64(from+n); i = next.Add(1) - 1 {
				_, err := fmt.Fprintf(conn, "PUT %s/%s/object-%d HTTP/1.1\r\nHost: %s\r\nX-Auth-Token: %s\r\nContent-Length: %d\r\n\r\n%s",
					at.Path, container, int(i)%names, at.Host, p.token, len(body), body)
				if err != nil {
					b.Error(err)
					return
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != http.StatusCreated {
					b.Errorf("%v, %v", resp, err)
					return
				}
				_ = resp.Body.Close()
			}
		})
	}
	all.Wait()
	return cpu(b) - began
}

// BenchmarkVersionedPut is the processor time of a PUT that makes a version, of all servers
// together, beside that of one that does not: of new names, and of names that are there.
// Both are measured in turn, so that the machine is the same.
func BenchmarkVersionedPut(b *testing.B) {
	p := startProbe(b)
	p.want("PUT", p.url+"/v", map[string]string{"X-Versions-Enabled": "true"}, "", 201)
	const writers, rounds = 16, 2000
	for what, names := range map[string]int{"new": 1 << 40, "again": 100} {
		b.Run(what, func(b *testing.B) {
			var plain, versioned time.Duration
			n := 0
			for range b.N {
				plain += p.putMany(b, "c", n, rounds, writers, names)
				versioned += p.putMany(b, "v", n, rounds, writers, names)
				n += rounds
			}
			b.ReportMetric(float64(plain.Microseconds())/float64(n), "plain-µs")
			b.ReportMetric(float64(versioned.Microseconds())/float64(n), "versioned-µs")
			b.ReportMetric(float64(versioned)/float64(plain), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// fill tells the servers of a container of objects, as object servers do.
func (p *probe) fill(b *testing.B, container name.Path, n int, row func(i int) (object, etag, contentType string)) {
	b.Helper()
	r, err := ring.Load(filepath.Join(p.configs[0].Rings.Folder, "container.ring.gz"))
	if err != nil {
		b.Fatal(err)
	}
	part := r.Partition(p.hasher.Hash(container))
	to := rowbatch.NewSender(rowbatch.Config{}, p.direct)
	defer to.Close()
	stamp := timestamp.Now().String()
	for _, d := range r.AppendPrimaries(nil, part) {
		var next atomic.Int64
		var all sync.WaitGroup
		for range 512 {
			all.Go(func() {
				for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
					path := container
					var etag, contentType string
					path.Object, etag, contentType = row(int(i))
					resp, err := to.Do(b.Context(), d.Addr(), &backend.Request{
						Method: "PUT", Path: backend.Target{Device: d.Name, Partition: uint32(part), Path: path}.Quoted(),
						Header: backend.Header{
							{Name: backend.Timestamp, Value: stamp}, {Name: backend.PolicyIndex, Value: "0"},
							{Name: "X-Size", Value: "1"}, {Name: "X-Etag", Value: etag}, {Name: "X-Content-Type", Value: contentType},
						},
					})
					if err != nil || resp.Status != 201 {
						b.Errorf("%v, %v", resp, err)
						return
					}
				}
			})
		}
		all.Wait()
	}
}

// BenchmarkListVersions lists pages of a container with as many versions as
// MARTLET_OBJECTS says (1,000,000), of a thousand for each object and of one for each,
// beside one with as many objects that have none.
func BenchmarkListVersions(b *testing.B) {
	n := 1_000_000
	if text := os.Getenv("MARTLET_OBJECTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	p := startProbe(b, func(o *Options) { o.Nodes, o.Replicas = 1, 1 })
	const etag = "d41d8cd98f00b204e9800998ecf8427e"
	id := timestamp.Now()
	of := func(container string) name.Path { return name.Path{Account: "AUTH_test", Container: container} }
	flat := func(i int) (string, string, string) { return fmt.Sprintf("object-%08d", i), etag, "a/b" }
	versioned := func(container string, each int) func() {
		return func() {
			p.want("PUT", p.url+"/"+container, map[string]string{"X-Versions-Enabled": "true"}, "", 201)
			object := func(i int) name.Path { return name.Path{Container: container, Object: fmt.Sprintf("object-%08d", i)} }
			stamp := func(k int) timestamp.T { return timestamp.FromTicks(id.Ticks() - int64(k)) }
			p.fill(b, of(container), n/each, func(i int) (string, string, string) {
				return object(i).Object, backend.Link{ID: stamp(0), ETag: etag}.Listed(), backend.WithListedBytes("a/b", 1)
			})
			p.fill(b, of(container).Versions(), n, func(i int) (string, string, string) {
				return object(i / each).Version(stamp(i % each)).Object, etag, "a/b"
			})
		}
	}
	for _, tt := range []struct {
		what, query string
		objects     int
		fill        func()
	}{
		{"deep", "/deep?versions&marker=object-%08d", n / 1000, versioned("deep", 1000)},
		{"flat", "/flat?versions&marker=object-%08d", n, versioned("flat", 1)},
		{"plain", "/plain?format=json&marker=object-%08d", n, func() {
			p.want("PUT", p.url+"/plain", nil, "", 201)
			p.fill(b, of("plain"), n, flat)
		}},
	} {
		fill := sync.OnceFunc(tt.fill)
		list := func(b *testing.B, pages int) {
			for i := range pages {
				resp := p.want("GET", p.url+fmt.Sprintf(tt.query, i*tt.objects/2/pages), nil, "", 200)
				if resp.Header.Get("X-Container-Object-Count") == "" {
					b.Fatal("no count")
				}
			}
		}
		b.Run(tt.what, func(b *testing.B) {
			fill()
			list(b, b.N)
			p.quiet(b)
			b.ResetTimer()
			began := cpu(b)
			list(b, b.N)
			b.ReportMetric(float64((cpu(b)-began).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// quiet waits until nothing goes on in the background: rows that were taken in are merged.
func (p *probe) quiet(b *testing.B) {
	b.Helper()
	for range 20 { // of as long as until waits
		last, at := cpu(b), time.Now()
		idle := false
		p.until("a second has passed", func() bool {
			if time.Since(at) < time.Second {
				return false
			}
			now := cpu(b)
			idle = now-last < 50*time.Millisecond
			return true
		})
		if idle {
			return
		}
	}
}
