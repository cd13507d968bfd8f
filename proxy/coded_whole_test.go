//go:build !race

package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
)

// codedSizes are on both sides of every border of the code; the first are kept whole.
var codedSizes = []int{0, 1, 8 << 10, 8<<10 + 1, 64 << 10, chunkSize - 1, chunkSize, chunkSize + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 7}

func TestCodedPut(t *testing.T) {
	for _, shape := range [][2]int{{1, 1}, {4, 2}, {8, 4}} {
		nodes := newCodedNodes(t, shape[0], shape[1])
		for _, size := range codedSizes {
			for _, sized := range []bool{true, false} {
				c, data := nodes.reset(), randomBytes(size)
				what := fmt.Sprintf("%d+%d, %d bytes, sized %v", shape[0], shape[1], size, sized)
				length := int64(size)
				if !sized {
					length = -1
				}
				resp := c.put(t.Context(), c.server(), http.Header{"X-Object-Meta-A": {"b"}, backend.CodedWrite: {"nonsense"}}, bytes.NewReader(data), length)
				if resp.Status != 201 || resp.Get("Etag") != md5Hex(data) {
					t.Errorf("%s: got %d, ETag %s, %v", what, resp.Status, resp.Get("Etag"), resp.Err)
				}
				c.whole(what, "o", data, c.policy.Replicas(), c.policy.Fragments())
				for d, o := range c.replicas("o") {
					if o.header.Get("X-Object-Meta-A") != "b" || o.header.Get(backend.ContentType) != "a/b" || o.header.Get(backend.ContainerDevice) == "" {
						t.Errorf("%s: %s was sent %v", what, d, o.header)
					}
				}
				c.mu.Lock()
				if want := sized && size > chunkSize; size != chunkSize && (c.announced > 0) != want {
					t.Errorf("%s: %d archives were announced", what, c.announced)
				}
				for d, has := range c.fragments {
					for k := range has {
						if fmt.Sprint("d", k.index) != d {
							t.Errorf("%s: %s has fragment %d", what, d, k.index)
						}
					}
				}
				c.mu.Unlock()
			}
		}
	}
}

// What fails a check that is made before the commit leaves nothing at all.
func TestCodedPutThatIsRefusedLeavesNothing(t *testing.T) {
	gone, nodes := errs.E(errs.Aborted, "gone"), newCodedNodes(t, 4, 2)
	for _, size := range []int{0, 1, 8 << 10, 8<<10 + 1, chunkSize, 1 << 20, 1<<20 + 1} {
		data := randomBytes(size)
		for what, tt := range map[string]struct {
			header http.Header
			body   io.Reader
			length int
			most   int
			want   errs.Kind
		}{
			"another MD5":         {http.Header{"Etag": {md5Hex([]byte("x"))}}, bytes.NewReader(data), size, 0, errs.Mismatch},
			"another MD5, chunks": {http.Header{"Etag": {md5Hex([]byte("x"))}}, bytes.NewReader(data), -1, 0, errs.Mismatch},
			"too short":           {nil, bytes.NewReader(data), size + 1, 0, errs.Aborted},
			"far too short":       {nil, bytes.NewReader(data), size + 3<<20, 0, errs.Aborted},
			"too long":            {nil, bytes.NewReader(data), size - 1, 0, errs.Aborted},
			"breaks off":          {nil, &failing{bytes.NewReader(data), gone}, size + 1, 0, errs.Aborted},
			"breaks off, chunks":  {nil, &failing{bytes.NewReader(data), gone}, -1, 0, errs.Aborted},
			"too large":           {nil, bytes.NewReader(data), -1, size - 1, errs.TooLarge},
		} {
			if (what == "too long" || what == "too large") && size < 2 {
				continue
			}
			c := nodes.reset()
			s := c.server()
			if tt.most > 0 {
				s.cfg.Limits.MaxFileSize = limitOf(s.cfg.Limits.MaxFileSize, tt.most)
			}
			resp := c.put(t.Context(), s, tt.header, tt.body, int64(tt.length))
			if !errs.Is(resp.Err, tt.want) {
				t.Errorf("%d bytes, %s: got %d, %v, want %v", size, what, resp.Status, resp.Err, tt.want)
			}
			if f, o := c.kept(); f != 0 || o != 0 {
				t.Errorf("%d bytes, %s: %d fragments and %d replicas are left", size, what, f, o)
			}
			if c.requests("PUT object") != 0 {
				t.Errorf("%d bytes, %s: replicas were asked", size, what)
			}
		}
	}
}

func limitOf[T ~int64 | ~int](_ T, n int) T { return T(n) }

// TestCodedPutWithoutEnoughFragments of more than one segment, in the shapes that it leaves out.
func TestCodedPutOfSegmentsWithoutEnoughFragments(t *testing.T) {
	withoutEnoughFragments(t, 1<<20+5, [][2]int{{1, 1}, {8, 4}})
}
