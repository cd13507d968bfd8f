package cluster

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
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

// putMany puts objects of 4 KiB, so many at a time, over connections that cost next to
// nothing, and returns the processor time of all of it.
func (p *probe) putMany(b *testing.B, container string, from, n, writers, names int) time.Duration {
	b.Helper()
	at, err := url.Parse(p.url)
	if err != nil {
		b.Fatal(err)
	}
	body := strings.Repeat("x", 4<<10)
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
