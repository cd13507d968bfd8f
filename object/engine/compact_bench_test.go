package engine

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"martlet/internal/name"
	"martlet/internal/seglog"
	"martlet/internal/vfs"
	"martlet/object/engine/blob"
	"martlet/object/engine/record"
)

// compacting is a store of which segments are filled and compacted.
type compacting struct {
	*disk
	fs   *vfs.Counter
	next int // name
	time int64
	size int64 // of the records that were written for somebody
}

const benchSegment = 16 << 20

// beginCompacting begins one whose index has many names beside those that are compacted.
func beginCompacting(b *testing.B, others int) *compacting {
	b.Helper()
	fs := vfs.Count(vfs.OS)
	cfg := Defaults()
	cfg.FS, cfg.Buffers, cfg.SegmentSize = fs, testBufs, benchSegment
	e := New(b.TempDir(), cfg)
	b.Cleanup(func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	d, err := e.now().open(ctx)
	if err != nil {
		b.Fatal(err)
	}
	c := &compacting{disk: d, fs: fs}
	c.write(b, c.names(others), 1)
	return c
}

// names returns new names, which lie evenly.
func (c *compacting) names(n int) []Location {
	list := make([]Location, n)
	for i := range list {
		c.next++
		var h name.Hash
		binary.BigEndian.PutUint64(h[:], uint64(c.next)*0x9e3779b97f4a7c15)
		binary.BigEndian.PutUint64(h[8:], uint64(c.next)*0xd1342543de82ef95)
		list[i].Hash = h
	}
	return list
}

// write writes data of a size under each of some names, or tombstones where it is less than 0. It is
// not what requests do: many records share a sync.
func (c *compacting) write(b *testing.B, to []Location, size int) {
	b.Helper()
	body := make([]byte, max(size, 0))
	for len(to) > 0 {
		some := to[:min(len(to), 256)]
		to = to[len(some):]
		items := make([]seglog.Item, len(some))
		for i, l := range some {
			c.time++
			h := record.Head{Kind: record.Data, Alone: true}
			h.Object = blob.Header{Time: ts(c.time), Length: int64(size), ContentType: "application/octet-stream"}
			if size < 0 {
				h.Kind, h.Object = record.Tombstone, blob.Header{Time: ts(c.time)}
			}
			h.Object.Name = name.Path{Account: "AUTH_bench", Container: "container", Object: fmt.Sprintf("object-%s", l.Hash)}
			old, err := c.get(l)
			if err != nil {
				b.Fatal(err)
			}
			if items[i], err = c.item(l, &old, &h, body, false, new(headRoom)); err != nil {
				b.Fatal(err)
			}
		}
		if err := c.log.AppendAll(items); err != nil {
			b.Fatal(err)
		}
		for i := range items {
			c.size += seglog.Size(len(items[i].Record.Head), len(items[i].Record.Body))
		}
	}
}

// rows appends records of a journal.
func (c *compacting) rows(b *testing.B, n int) {
	b.Helper()
	h := record.Head{Kind: record.Journal, Owner: record.Containers, Update: make([]byte, 300)}
	head, err := h.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	for n > 0 {
		items := make([]seglog.Item, min(n, 256))
		n -= len(items)
		for i := range items {
			items[i].Record = seglog.Record{Kind: byte(record.Journal), Head: head}
			items[i].Apply = func(at seglog.Position) { c.applyJournal(at, record.Containers) }
		}
		if err := c.log.AppendAll(items); err != nil {
			b.Fatal(err)
		}
	}
}

// last is the segment that is appended to.
func (c *compacting) last() uint64 {
	all := c.log.Segments()
	return all[len(all)-1]
}

// fill calls more until a segment is sealed of which it has filled all, and returns that.
func (c *compacting) fill(more func()) (segment uint64) {
	for before := c.last(); c.last() == before; {
		more()
	}
	segment = c.last()
	for c.last() == segment {
		more()
	}
	return segment
}

// BenchmarkCompact compacts one full segment of 16 MiB at a time, by what is in it, of a device with 50,000 names
// more. A record is one of the segment, dead or alive.
func BenchmarkCompact(b *testing.B) {
	objects := func(size, live int) func(b *testing.B, c *compacting) uint64 {
		return func(b *testing.B, c *compacting) uint64 {
			var all []Location
			segment := c.fill(func() {
				some := c.names(max(1, 1<<20/size))
				all = append(all, some...)
				c.write(b, some, size)
			})
			var dead []Location
			for i, l := range all {
				if i*37%100 >= live {
					dead = append(dead, l)
				}
			}
			c.write(b, dead, 1)
			return segment
		}
	}
	for what, prepare := range map[string]func(b *testing.B, c *compacting) uint64{
		"4KiB/90live":   objects(4<<10, 90),
		"4KiB/50live":   objects(4<<10, 50),
		"4KiB/10live":   objects(4<<10, 10),
		"4KiB/0live":    objects(4<<10, 0),
		"64KiB/50live":  objects(64<<10, 50),
		"64KiB/0live":   objects(64<<10, 0),
		"200KiB/10live": objects(200<<10, 10),
		"tombstones": func(b *testing.B, c *compacting) uint64 { // of what was overwritten before, and was there for a moment
			return c.fill(func() {
				some := c.names(100)
				c.write(b, some, 1<<10)
				c.write(b, some, 1<<10)
				c.write(b, some, -1)
			})
		},
		"rows": func(b *testing.B, c *compacting) uint64 {
			segment := c.fill(func() { c.rows(b, 1000) })
			c.usage.merged(record.Containers, c.usage.journalOf(record.Containers).last)
			return segment
		},
	} {
		b.Run(what, func(b *testing.B) {
			c := beginCompacting(b, 50_000)
			var m compactMeasure
			for b.Loop() {
				b.StopTimer()
				segment := prepare(b, c)
				if err := c.checkpoint(ctx); err != nil {
					b.Fatal(err)
				}
				m.begin(b, c, segment)
				b.StartTimer()
				if err := c.compactSegment(ctx, segment, ts(0), nil); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				m.end(b, c)
				b.StartTimer()
			}
			m.report(b)
		})
	}
}

// compactMeasure adds up what compaction has cost.
type compactMeasure struct {
	records, bytes float64
	cpu            float64 // in µs
	allocs, alloc  float64
	read, written  float64
	calls, syncs   float64
	before         struct {
		cpu    float64
		mem    runtime.MemStats
		counts vfs.Counts
	}
}

func (m *compactMeasure) begin(b *testing.B, c *compacting, segment uint64) {
	b.Helper()
	for e, err := range c.log.Scan(seglog.Position{Segment: segment}) {
		if err != nil {
			b.Fatal(err)
		}
		if e.At.Segment != segment {
			break
		}
		m.records++
		m.bytes += float64(e.Size())
	}
	runtime.GC()
	runtime.ReadMemStats(&m.before.mem)
	m.before.counts = c.fs.Counts()
	m.before.cpu = micros(cpu(b))
}

func (m *compactMeasure) end(b *testing.B, c *compacting) {
	b.Helper()
	m.cpu += micros(cpu(b)) - m.before.cpu
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	m.allocs += float64(mem.Mallocs - m.before.mem.Mallocs)
	m.alloc += float64(mem.TotalAlloc - m.before.mem.TotalAlloc)
	n := c.fs.Counts().Sub(m.before.counts)
	m.read += float64(n.BytesRead)
	m.written += float64(n.BytesWritten)
	m.calls += float64(n.Reads)
	m.syncs += float64(n.Syncs)
}

func (m *compactMeasure) report(b *testing.B) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(m.cpu/m.records, "cpu-µs/record")
	b.ReportMetric(m.cpu/m.bytes*(1<<20)/1000, "cpu-ms/MiB")
	b.ReportMetric(m.allocs/m.records, "allocs/record")
	b.ReportMetric(m.alloc/m.records, "allocated-B/record")
	b.ReportMetric(m.read/m.bytes, "read-B/B")
	b.ReportMetric(m.written/m.bytes, "written-B/B")
	b.ReportMetric(m.calls/m.records, "reads/record")
	b.ReportMetric(m.syncs/m.bytes*(1<<20), "syncs/MiB")
}

// BenchmarkCompactAmplification overwrites at random what fills a part of a small device, or deletes all that it has written, with a pass of compaction
// after each segment, and says how many bytes the log has taken for each that was written for somebody, and
// how much of the device was used at most.
func BenchmarkCompactAmplification(b *testing.B) {
	const capacity, size = 48 << 20, 1 << 10
	for what, used := range map[string]float64{"overwrites/10": .1, "overwrites/25": .25, "overwrites/50": .5, "overwrites/70": .7, "deletes/25": .25, "deletes/70": .7} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				r := rand.New(rand.NewPCG(1, 1))
				mem := vfs.NewMem()
				mem.SetCapacity(capacity)
				c := &compacting{fs: vfs.Count(mem)}
				cfg := Defaults()
				cfg.FS, cfg.Buffers, cfg.SegmentSize, cfg.Reserve = c.fs, testBufs, 512<<10, .06 // several segments: nobody asks before he writes here
				e := New("/", cfg)
				var err error
				if c.disk, err = e.now().open(ctx); err != nil {
					b.Fatal(err)
				}
				all := c.names(int(used * capacity / float64(seglog.Size(200, size))))
				most, since := int64(0), 0
				write := func(some []Location, size int) {
					for len(some) > 0 {
						n := min(len(some), 200)
						c.write(b, some[:n], size)
						some = some[n:]
						if since += n; since < 400 {
							continue
						}
						since = 0
						if err := e.Compact(ctx, ts(0), nil); err != nil {
							b.Fatal(err)
						}
						most = max(most, logBytes(b, e))
					}
				}
				write(all, size)
				began, took := c.size, c.fs.Counts().BytesWritten
				if strings.HasPrefix(what, "deletes") {
					r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
					write(all, -1)
				} else {
					for range 4 * len(all) / 200 {
						some := make(map[Location]bool)
						for len(some) < 200 {
							some[all[r.IntN(len(all))]] = true
						}
						write(slices.Collect(maps.Keys(some)), size)
					}
				}
				b.ReportMetric(float64(c.fs.Counts().BytesWritten-took)/float64(c.size-began), "written-B/B")
				b.ReportMetric(float64(most)/capacity*100, "%log")
				if err := e.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
