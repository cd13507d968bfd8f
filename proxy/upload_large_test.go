//go:build !race

package proxy

import (
	"bytes"
	"testing"
	"time"
)

// Bodies whose chunks grow, each by itself and several at one time. The race detector would look at each of their
// bytes, in many hands: TestUploadsAtOneTime is for it.
func TestLargeUploads(t *testing.T) {
	for _, size := range []int{smallChunks * chunkSize, smallChunks*chunkSize + 1, smallChunks*chunkSize + largeChunk, smallChunks*chunkSize + 2*largeChunk + 5} {
		b, data := newBench(t), randomBytes(size)
		b.stall, b.grace = 20*time.Second, 20*time.Second
		sent, err := b.run(t.Context(), bytes.NewReader(data))
		code, err := verdict(sent, err)
		if err != nil || code != 201 || sent.etag != md5Hex(data) || sent.size != int64(size) {
			t.Errorf("%d bytes: %d, %v, ETag %s, size %d", size, code, err, sent.etag, sent.size)
		}
		if n := b.copies(data); n != 3 {
			t.Errorf("%d bytes: %d copies, want 3", size, n)
		}
	}
	uploadsAtOneTime(t, randomBytes(smallChunks*chunkSize+4*largeChunk), 5)
}
