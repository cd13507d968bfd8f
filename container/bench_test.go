package container

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/metadb"
	"martlet/internal/timestamp"
)

const (
	million = 1_000_000
	dirSize = 1000 // rows below each pseudo-folder
)

// rowName is the name of the n-th row: a thousand pseudo-folders of a thousand,
// and one pseudo-folder above half of them.
func rowName(n int) string {
	if n >= million/2 {
		return fmt.Sprintf("m/%03d/object-%07d", n/dirSize, n)
	}
	return fmt.Sprintf("%03d/object-%07d", n/dirSize, n)
}

// fill puts n rows into a container, in large transactions.
func fill(b *testing.B, s *Server, n int) {
	b.Helper()
	want(b, s, 201, "PUT /sda/0/a/c", at(1))
	call, err := s.core.Parse(request("HEAD /sda/0/a/c"))
	if err != nil {
		b.Fatal(err)
	}
	row := NewRow(timestamp.Packed{Data: timestamp.FromTicks(140_246_467_704_188)}, 4096, "d41d8cd98f00b204e9800998ecf8427e", "application/octet-stream")
	const batch = 50_000
	for from := 0; from < n; from += batch {
		err := s.Store().Update(b.Context(), call.At, func(tx *metadb.Tx) error {
			for i := from; i < min(from+batch, n); i++ {
				if _, err := tx.MergeRow(0, rowName(i), row.Append(nil)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMillion(b *testing.B) {
	s, _ := start(b, b.TempDir())
	began := time.Now()
	fill(b, s, million)
	b.Logf("a million rows were made in %v", time.Since(began))
	for _, c := range []struct{ what, line string }{
		{"list10000/start", "GET /sda/0/a/c?limit=10000"},
		{"list10000/middle", "GET /sda/0/a/c?limit=10000&marker=" + rowName(million/2)},
		{"list10000/end", "GET /sda/0/a/c?limit=10000&marker=" + rowName(million-10_001)},
		{"list10000/reverse", "GET /sda/0/a/c?limit=10000&reverse=true"},
		{"list10000/reverse-middle", "GET /sda/0/a/c?limit=10000&reverse=true&marker=" + rowName(million/2)},
		{"list10000/prefix", "GET /sda/0/a/c?limit=10000&prefix=m/"},
		{"delimiter/501-subdirs", "GET /sda/0/a/c?delimiter=/"},
		{"delimiter/501-subdirs-reverse", "GET /sda/0/a/c?delimiter=/&reverse=true"},
		{"delimiter/one-subdir-of-half-a-million", "GET /sda/0/a/c?delimiter=/&marker=499/z"},
		{"head", "HEAD /sda/0/a/c"},
	} {
		b.Run(c.what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				resp, err := s.Serve(b.Context(), request(c.line))
				if err != nil || resp.Status/100 != 2 {
					b.Fatal(resp, err)
				}
			}
		})
	}
	benchmarkPut(b, s, "put-into-million")
}

func BenchmarkSmall(b *testing.B) {
	s, _ := start(b, b.TempDir())
	want(b, s, 201, "PUT /sda/0/a/c", at(1))
	benchmarkPut(b, s, "put")
	b.Run("head", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Serve(b.Context(), request("HEAD /sda/0/a/c")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("make-container", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n++
			want(b, s, 201, fmt.Sprintf("PUT /sda/0/a/new-%d-%d", b.N, n), at(1))
		}
	})
}

// putSoFar numbers the rows of all runs: one that is there already costs no
// commit.
var putSoFar atomic.Int64

// benchmarkPut puts rows with so many writers at once.
func benchmarkPut(b *testing.B, s *Server, what string) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("%s/writers-%d", what, writers), func(b *testing.B) {
			b.ReportAllocs()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for {
						if next.Add(1) > int64(b.N) {
							return
						}
						line := fmt.Sprintf("PUT /sda/0/a/c/%016x", uint64(putSoFar.Add(1))*0x9E3779B97F4A7C15)
						resp, err := s.Serve(b.Context(), request(line, object(5, 1)...))
						if err != nil || resp.Status != http.StatusCreated {
							b.Error(strings.TrimSpace(fmt.Sprint(resp, err)))
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
