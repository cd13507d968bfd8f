package test

import (
	"fmt"
	"testing"
)

// BenchmarkBuilderAgainstSwift has both builders make large clusters and take in a
// node, a rebalance each. One round of it is enough; the largest keeps the reference
// busy for minutes.
func BenchmarkBuilderAgainstSwift(b *testing.B) {
	for _, size := range []struct{ power, regions, zones, nodes, disks int }{
		{14, 1, 4, 5, 10}, {16, 2, 10, 5, 10}, {20, 5, 40, 5, 10},
	} {
		top := topology{PartPower: size.power, Replicas: 3, Seed: 1, Rounds: 1, Changes: []change{
			{Add: racks(size.regions, size.zones, size.nodes, size.disks)}, {},
		}}
		for d := range size.disks {
			top.Changes[1].Add = append(top.Changes[1].Add, slot(1, 1, size.nodes+1, d+1, 100))
		}
		devices := len(top.Changes[0].Add)
		b.Run(fmt.Sprintf("2^%dx3/%d", size.power, devices), func(b *testing.B) {
			for range b.N {
				top.Name = b.Name()
				ours := through(b, top)
				theirs := reference(b, []topology{top})[0]
				b.ReportMetric(ours[0].Seconds, "first-s")
				b.ReportMetric(theirs[0].Seconds, "first-swift-s")
				b.ReportMetric(ours[1].Seconds, "add-s")
				b.ReportMetric(theirs[1].Seconds, "add-swift-s")
				b.ReportMetric(float64(ours[1].needed), "least-moves")
				b.ReportMetric(float64(ours[1].Moved), "moves")
				b.ReportMetric(float64(theirs[1].Moved), "moves-swift")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}
