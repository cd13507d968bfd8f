package test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

const (
	largeSize = 160 << 20 // bytes
	growMost  = 100 << 20 // bytes
)

// A watch keeps the most anonymous memory that processes have had.
type watch struct {
	idle, most map[string]int64
	stop       context.CancelFunc
	wg         sync.WaitGroup
	err        error
}

func watchMemory(t *testing.T, all []*process) *watch {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &watch{idle: map[string]int64{}, most: map[string]int64{}, stop: stop}
	for _, p := range all {
		n, err := anonymous(p.pid())
		if err != nil {
			t.Fatal(err)
		}
		w.idle[p.name], w.most[p.name] = n, n
	}
	w.wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for _, p := range all {
				n, err := anonymous(p.pid())
				if err != nil {
					w.err = err
					return
				}
				w.most[p.name] = max(w.most[p.name], n)
			}
		}
	})
	return w
}

// end stops watching and holds each process against what it may have grown.
func (w *watch) end(t *testing.T) {
	t.Helper()
	w.stop()
	w.wg.Wait()
	if w.err != nil {
		t.Fatal(w.err)
	}
	for name, most := range w.most {
		grown := most - w.idle[name]
		t.Logf("%s: %d MiB while idle, %d MiB more at most", name, w.idle[name]>>20, grown>>20)
		if grown > growMost {
			t.Errorf("%s grew by %d bytes, want at most %d", name, grown, int64(growMost))
		}
	}
}

// stream is a body that is never in memory as a whole, and its MD5.
type stream struct {
	io.Reader
	sum hash.Hash
}

func newStream(seed byte, size int64) stream {
	s := stream{sum: md5.New()}
	s.Reader = io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{seed}), size), s.sum)
	return s
}

func (s stream) etag() string { return hex.EncodeToString(s.sum.Sum(nil)) }

// A large object passes through every process without being in the memory of any.
func TestLargeObject(t *testing.T) {
	c := newCluster(t)
	c.start(t)
	tok := token(t, c.url())
	base := c.url() + "/v1/AUTH_test/large"
	as(t, tok, "PUT", base, nil, http.StatusCreated)
	w := watchMemory(t, c.processes())
	for i, chunked := range []bool{false, true} {
		url := fmt.Sprintf("%s/o%d", base, i)
		body := newStream(byte(i), largeSize)
		r := request(t, "PUT", url, body)
		r.Header.Set("X-Auth-Token", tok)
		if !chunked {
			r.ContentLength = largeSize
		}
		began := time.Now()
		a := do(t, r)
		if a.StatusCode != http.StatusCreated || a.Header.Get("Etag") != body.etag() {
			t.Fatalf("PUT, chunked %v: %s, Etag %q, want 201 and %q\n%s", chunked, a.Status, a.Header.Get("Etag"), body.etag(), a.body)
		}
		put := time.Since(began)

		began = time.Now()
		r = request(t, "GET", url, nil)
		r.Header.Set("X-Auth-Token", tok)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		sum := md5.New()
		n, err := io.Copy(sum, resp.Body)
		resp.Body.Close()
		if got := hex.EncodeToString(sum.Sum(nil)); err != nil || n != largeSize || got != body.etag() {
			t.Fatalf("GET: %d bytes, MD5 %s, %v, want %d and %s", n, got, err, int64(largeSize), body.etag())
		}
		rate := func(d time.Duration) float64 { return largeSize / d.Seconds() / 1e6 }
		t.Logf("chunked %v: PUT %.0f MB/s, GET %.0f MB/s", chunked, rate(put), rate(time.Since(began)))
	}
	w.end(t)
}
