package container

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"martlet/internal/metadb"
	"martlet/internal/name"
	"martlet/internal/timestamp"
)

// BenchmarkContainers is MARTLET_CONTAINERS containers of ten rows of 40-byte names, 100,000 if that is not
// set, made by 64 at a time: -benchtime 1x.
func BenchmarkContainers(b *testing.B) {
	n := 100_000
	if m, err := strconv.Atoi(os.Getenv("MARTLET_CONTAINERS")); err == nil {
		n = m
	}
	dir := b.TempDir()
	j := startJournaled(b, dir)
	at := func(i uint64) metadb.Location { return j.at(b, "c"+strconv.FormatUint(i, 10)) }
	row := benchRow()
	b.Run("make", func(b *testing.B) {
		var next atomic.Int64
		var wg sync.WaitGroup
		began, used, before := time.Now(), cpuTime(b), j.syncs(b)
		for range 64 {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
					path := name.Path{Account: "a", Container: "c" + strconv.FormatInt(i, 10)}
					err := j.Store().Ensure(b.Context(), at(uint64(i)), metadb.Info{Path: path, Created: timestamp.FromTicks(5), Put: timestamp.FromTicks(5)}, func(tx *metadb.Tx) error {
						for r := range uint64(10) {
							if _, err := tx.MergeRow(0, name40(0, spread(10*uint64(i)+r)), row); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "made/s")
		b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/1e3/float64(n), "cpu-µs/container")
		b.ReportMetric(float64(j.syncs(b)-before)/float64(n), "syncs/container")
		b.ReportMetric(j.onDisk(b)/float64(n), "disk-B/container")
	})
	memory := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	b.Logf("heap with all of them: %.1f MB", memory())
	j.end(b)
	b.Run("start", func(b *testing.B) {
		began := time.Now()
		j = startJournaled(b, dir)
		loc := at(spread(1) % uint64(n))
		if err := j.Store().View(b.Context(), loc, func(*metadb.Tx) error { return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/1e3, "ms-to-first-view")
		b.Logf("heap after a start: %.1f MB", memory())
	})
	defer func() { j.end(b) }()
	head := func(what string, of func(i uint64) uint64) {
		b.Run("head/"+what, func(b *testing.B) {
			const times = 5000
			used := cpuTime(b)
			for i := range uint64(times) {
				if resp, err := j.Serve(b.Context(), request("HEAD /sda/0/a/c"+strconv.FormatUint(of(i), 10))); err != nil || resp.Status/100 != 2 {
					b.Fatal(resp, err)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-used).Nanoseconds())/1e3/times, "cpu-µs/call")
		})
	}
	head("cold", func(i uint64) uint64 { return spread(i) % uint64(n) })
	head("warm", func(uint64) uint64 { return 1 })
	b.Run("rows", func(b *testing.B) {
		const containers, rows = 1000, 20_000
		var all []metadb.Location
		for i := range uint64(containers) {
			all = append(all, at(i))
		}
		before := j.syncs(b)
		j.insert(b, 64, rows, all, func(n uint64) string { return name40(1, spread(n)) })
		b.ReportMetric(float64(j.syncs(b)-before)/rows, "db-syncs/row")
	})
}

// syncs is about how many of shared files there were: two for each transaction.
func (j *journaled) syncs(b *testing.B) int {
	b.Helper()
	dev, err := j.core.Devices.Lookup("sda")
	if err != nil {
		b.Fatal(err)
	}
	n, err := j.Store().SharedTransactions(dev)
	if err != nil {
		b.Fatal(err)
	}
	return 2 * n
}

// onDisk is what the files of containers take.
func (j *journaled) onDisk(b *testing.B) (bytes float64) {
	b.Helper()
	err := filepath.WalkDir(filepath.Join(j.dir, "sda", "containers"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		bytes += float64(st.Blocks) * 512
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}
