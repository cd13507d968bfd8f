package cluster

import (
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"martlet/internal/ec"
)

// BenchmarkCodedGet reads an object of 64 MiB that is erasure-coded 4+2, with no node down, one and two,
// beside the same object of three replicas: processor time of the whole cluster, client and all, which is one
// process here.
func BenchmarkCodedGet(b *testing.B) {
	const size = 64 << 20
	p := codedProbe(b, ec.Shape{Data: 4, Parity: 2}, 7)
	body := randomText(size)
	p.upload("ec/o", nil, body, true)
	p.upload("whole/o", nil, body, true)
	p.upload("ec/small", nil, body[:64<<10], true)
	p.upload("whole/small", nil, body[:64<<10], true)
	for _, object := range []string{"small", "o"} {
		b.Run(object+"/replicas", func(b *testing.B) { p.benchGet(b, "whole/"+object) })
		b.Run(object+"/4+2", func(b *testing.B) { p.benchGet(b, "ec/"+object) })
	}
	_, devices := p.primariesOf("o")
	for down, d := range devices[:2] {
		p.stop(nodeOf(d.IP))
		b.Run(fmt.Sprintf("o/4+2/%d-down", down+1), func(b *testing.B) { p.benchGet(b, "ec/o") })
	}
}

func (p *probe) benchGet(b *testing.B, object string) {
	get := func() (n int64) {
		r, err := http.NewRequestWithContext(b.Context(), "GET", p.url+"/"+object, nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("X-Auth-Token", p.token)
		resp, err := p.client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err = io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			b.Fatal(resp.Status, err)
		}
		return n
	}
	b.SetBytes(get())
	b.ReportAllocs()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	n := int64(0)
	for b.Loop() {
		n += get()
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	b.ReportMetric(float64(used.Microseconds())/(float64(n)/(1<<20)), "cpu-µs/MiB")
}
