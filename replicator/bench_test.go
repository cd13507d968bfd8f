package replicator

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
)

// taking is a kind that takes what is pushed and keeps nothing.
type taking struct{ echo }

func (taking) Serve(_ context.Context, c *Call) (*backend.Response, error) {
	if c.Body != nil {
		if _, err := io.Copy(io.Discard, c.Body); err != nil {
			return nil, err
		}
	}
	return &backend.Response{Status: 201, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// What goes over a real connection under a limit, and how much of the limit that is: at least
// 0.9, and not more than 1.1. The first push is not counted, as it waits for none.
func BenchmarkBounded(b *testing.B) {
	for what, tt := range map[string]struct {
		size  int
		bytes int64
	}{
		"small":  {4 << 10, 4e6},
		"medium": {64 << 10, 20e6},
		"large":  {4 << 20, 100e6},
	} {
		b.Run(what, func(b *testing.B) {
			address := serve(b, newReplicator(b, taking{}, nil, nil))
			client := direct.New(direct.Config{})
			defer client.Close()
			pace := NewPaces([]string{"d"}, Limits{BytesPerSecond: tt.bytes, Concurrency: 4, Incoming: 1}, nil).Of("d")
			c := Client{NodeID: "a", Device: "d", Kind: "object", Sender: client, Pace: pace}
			at := About{testRing(b, 4, make([]uint32, 16)), 1}
			body := make([]byte, tt.size)
			push := func(ctx context.Context) {
				resp, err := c.Do(ctx, at, &Peer{Addr: address, Device: "d1"}, &backend.Request{
					Method: "PUT", Path: "/d1/1/a/c/o", Header: backend.Header{{Name: "X-Backend-Replication", Value: "true"}},
					Length: int64(len(body)), Body: bytes.NewReader(body),
				})
				if err != nil {
					b.Error(err)
				} else if resp.Body != nil {
					resp.Body.Close()
				}
			}
			push(b.Context())
			b.SetBytes(int64(tt.size))
			began := time.Now()
			n := 0
			Spread(b.Context(), pace, 0, func(ctx context.Context, _ int) { push(ctx) }, func(hand func(int) bool) {
				for b.Loop() {
					hand(0)
					n++
				}
			})
			took := time.Since(began)
			share := float64(n) * float64(tt.size) / took.Seconds() / float64(tt.bytes)
			b.ReportMetric(share, "of-limit")
			if took > time.Second && (share < .9 || share > 1.1) {
				b.Errorf("%.3f of the limit went over", share)
			}
		})
	}
}
