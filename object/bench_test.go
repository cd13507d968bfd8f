package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/timestamp"
)

// cpu returns the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// measure runs requests against a server, of which each has to be answered with a status.
func measure(b *testing.B, r *rig, status int, request func(i int) *backend.Request) {
	b.Helper()
	b.ReportAllocs()
	began, i := cpu(b), 0
	for b.Loop() {
		resp, err := r.server.Serve(context.Background(), request(i))
		if err != nil || resp.Status != status {
			b.Fatalf("%+v, %v", resp, err)
		}
		if resp.Body != nil {
			if _, err := resp.Body.(io.WriterTo).WriteTo(io.Discard); err != nil {
				b.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil {
				b.Fatal(err)
			}
		}
		i++
	}
	b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(i), "cpu-µs/op")
}

// benchStamp is the time of the i-th write.
func benchStamp(i int) string {
	return timestamp.FromTime(time.Unix(1_600_000_000, 0).Add(time.Duration(i) * time.Millisecond)).String()
}

// What a fragment costs, and a commit, beside an object of the same size.
func BenchmarkPut(b *testing.B) {
	const size = 16 << 10
	sum := md5.Sum(make([]byte, size))
	plain := header("Content-Type", "text/plain", backend.CommitETag, hex.EncodeToString(sum[:]),
		backend.CommitCRC, fmt.Sprintf("%08x", crc32.Checksum(make([]byte, size), castagnoli)))
	h := ec.Header{Layout: ec.Of(ec.Shape{Data: 4, Parity: 2}), Write: ec.Write{ID: ec.WriteID{1}, Size: 4 * size}, Index: 3}
	archive := append(h.Append(nil), make([]byte, size-ec.HeaderSize)...)
	part := header(backend.PolicyIndex, fragmentIndex1, backend.FragmentIndex, "3",
		backend.CommitCRC, fmt.Sprintf("%08x", crc32.Checksum(archive, castagnoli)))
	commit := header("Content-Type", "text/plain", backend.PolicyIndex, codedIndex, backend.CodedWrite, commitText(1, 4*size),
		backend.CommitETag, hex.EncodeToString(md5.New().Sum(nil)), backend.CommitCRC, "00000000")
	for _, one := range []struct {
		name   string
		header backend.Header
		body   []byte
	}{{"object", plain, make([]byte, size)}, {"fragment", part, archive}, {"commit", commit, nil}} {
		b.Run(one.name, func(b *testing.B) {
			r := newRig(b)
			measure(b, r, 201, func(i int) *backend.Request {
				return &backend.Request{
					Method: "PUT", Path: path, Length: int64(len(one.body)), Body: bytes.NewReader(one.body),
					Header: append(header(backend.Timestamp, benchStamp(i)), one.header...),
				}
			})
		})
	}
}

// What reading them costs.
func BenchmarkGet(b *testing.B) {
	const size = 16 << 10
	r := newRig(b)
	all := archives(b, 1, strings.Repeat("x", 4*size))
	r.want("object", r.put(stamp(1), strings.Repeat("x", size)), 201)
	r.want("fragment", r.putFragment(stamp(1), 3, all[3]), 201)
	r.want("commit", r.putCommit(stamp(1), 1, 4*size), 201)
	for _, one := range []struct {
		name   string
		header backend.Header
	}{
		{"object", nil},
		{"fragment", header(append(one(stamp(1), 3, 1), backend.PolicyIndex, fragmentIndex1)...)},
		{"any", header(backend.FragmentTime, stamp(1), backend.FragmentsBut, "1,2", backend.PolicyIndex, fragmentIndex1)},
		{"commit", header(backend.PolicyIndex, codedIndex)},
	} {
		b.Run(one.name, func(b *testing.B) {
			measure(b, r, 200, func(int) *backend.Request {
				return &backend.Request{Method: "GET", Path: path, Header: one.header}
			})
		})
	}
}
