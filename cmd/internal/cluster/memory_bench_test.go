package cluster

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkOverMemory compares what a GET and a PUT cost in processor time, client and all, where proxy and nodes are connected in memory and where
// over sockets. The two take turns of a few requests, so that what else the machine does is in both.
func BenchmarkOverMemory(b *testing.B) {
	const workers, turn = 8, 64
	var kinds []*probe
	for _, sockets := range []bool{false, true} {
		p := startProbe(b)
		if p.beside = true; sockets {
			p.memory = nil
			for n := range p.nodes {
				p.stop(n + 1)
				p.start(n + 1)
			}
			p.startProxy()
		}
		p.client.Transport.(*http.Transport).MaxIdleConnsPerHost = workers //nolint:forcetypeassert // it was made as one
		kinds = append(kinds, p)
	}
	send := func(p *probe, method, url, body string) error {
		r, err := http.NewRequestWithContext(b.Context(), method, url, strings.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("X-Auth-Token", p.token)
		resp, err := p.client.Do(r)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode/100 != 2 {
			err = fmt.Errorf("%s of %d bytes", resp.Status, n)
		}
		return err
	}
	used := func() time.Duration {
		var ru syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
			b.Fatal(err)
		}
		return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20, 16 << 20} {
		body := randomText(size)
		for _, p := range kinds {
			if err := send(p, "PUT", p.url+"/c/o", body); err != nil {
				b.Fatal(err)
			}
		}
		for _, method := range []string{"GET", "PUT"} {
			b.Run(fmt.Sprintf("%s/%dKiB", method, size>>10), func(b *testing.B) {
				var took [2]time.Duration
				for left := b.N; left > 0; left -= turn {
					for i, p := range kinds {
						began, n := used(), atomic.Int64{}
						n.Store(int64(min(left, turn)))
						var all sync.WaitGroup
						for w := range workers {
							all.Go(func() {
								url, text := p.url+"/c/o", ""
								if method == "PUT" {
									url, text = p.url+fmt.Sprint("/c/put", w), body
								}
								for n.Add(-1) >= 0 {
									if err := send(p, method, url, text); err != nil {
										b.Error(err)
										return
									}
								}
							})
						}
						all.Wait()
						took[i] += used() - began
					}
				}
				for i, name := range []string{"memory-µs/op", "sockets-µs/op"} {
					b.ReportMetric(float64(took[i].Nanoseconds())/1e3/float64(b.N), name)
				}
			})
		}
	}
}
