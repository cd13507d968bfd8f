package cluster

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"martlet/internal/ec"
)

// BenchmarkCodedPut is the processor time and the allocations of a PUT under 4+2, of all servers
// together, beside those of one that goes to three replicas. Both are measured in turn, so that the
// machine is the same.
func BenchmarkCodedPut(b *testing.B) {
	p := startPatientProbe(b, 20*time.Second, func(o *Options) {
		o.Nodes, o.Devices = 6, 1
		o.Policies = []Policy{{Name: "ec42", Shape: ec.Shape{Data: 4, Parity: 2}}}
	})
	p.want("PUT", p.url+"/coded", map[string]string{"X-Storage-Policy": "ec42"}, "", 201)
	for _, size := range []int{4 << 10, 16 << 10, 64 << 10, 16 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			body := strings.Repeat("x", size)
			rounds, writers := max(4, min(1000, (64<<20)/size)), 4
			var cpu, allocs [2]float64
			n := 0
			for range b.N {
				for i, container := range []string{"c", "coded"} {
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					cpu[i] += float64(p.putAll(b, container, body, n, rounds, writers, 1<<40).Microseconds())
					runtime.ReadMemStats(&after)
					allocs[i] += float64(after.Mallocs - before.Mallocs)
				}
				n += rounds
			}
			for i, what := range []string{"replicas", "coded"} {
				b.ReportMetric(cpu[i]/float64(n), what+"-µs")
				b.ReportMetric(allocs[i]/float64(n), what+"-allocs")
			}
			b.ReportMetric(cpu[1]/cpu[0], "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
