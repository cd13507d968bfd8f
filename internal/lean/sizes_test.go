//go:build !race

package lean

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"martlet/internal/backend"
)

// Bodies of every size around those of buffers come whole, in both directions.
func TestSizes(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		b := serve(t, kind, func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			body, err := readAll(r)
			resp := text(200, body)
			resp.Header.Add("X-Long", strings.Repeat("l", len(body)%5000))
			return resp, err
		}, options{})
		p := b.dial()
		for _, n := range []int{1, 4 << 10, 6<<10 - 1, 6 << 10, 6<<10 + 1, 8<<10 + 17, 62 << 10, 64 << 10, 64<<10 + 1, 66 << 10, 1<<20 + 3} {
			body := strings.Repeat("0123456789abcde\n", n/16+1)[:n]
			go func() {
				_, _ = fmt.Fprintf(p, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", n, body)
				_, _ = fmt.Fprintf(p, "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", n/2+1, body[:n/2+1], n, body)
			}()
			if _, got := p.hear("PUT"); got != body {
				t.Fatalf("of %d bytes came back %d others", n, len(got))
			}
			if _, got := p.hear("PUT"); got != body[:n/2+1]+body {
				t.Fatalf("of %d bytes in chunks came back %d others", n, len(got))
			}
		}
	})
}
