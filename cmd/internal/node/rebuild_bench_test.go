package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/ec"
	"martlet/internal/httpapi"
	"martlet/internal/lean"
	"martlet/internal/name"
	"martlet/internal/timestamp"
	"martlet/replicator/fragments"
)

// BenchmarkFragmentsRebuild measures how fast a device that was emptied gets its fragments again from five others at 4+2,
// over loopback, with real disks, all in one process; and in the same run what bounds it, each alone: the code, from memory;
// the device, storing as many of the same size with the same syncs; loopback, carrying what is read for them. One of
// its numbers is the rate in per cent of the slowest of those.
//
// In a cluster each source reads from a disk of its own, with processors of its own. Here all five share both with the device that stores. So
// there is a rate of reading alone, too: what is read for as many fragments, from the sources' stores by the calls that sources make, in the order in which a rebuild comes
// to it. What reading and storing take one after the other is what the disk and the processors that all share let be done; a second number is the rate in per cent
// of that. How many bytes came from the disk, and not from memory, is said beside both.
//
// And it compares what the device says of when it will be done, at four points
// on the way, with when it was: by how many per cent of the time that was left that was too late, or, below zero, too early. So it
// does at any time from a tenth of the work to a tenth of the time before the end, of which it says the largest error, and the median.
//
// MARTLET_FRAGMENTS is how many fragments the device had, 1000 if it is not set. It takes that many times 6 fragments on the disk, and
// twice as many again on the last device.
func BenchmarkFragmentsRebuild(b *testing.B) {
	n := 1000
	if text := os.Getenv("MARTLET_FRAGMENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			b.Fatalf("MARTLET_FRAGMENTS=%q is no number of fragments", text)
		}
	}
	for _, size := range []int{12 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				r := newRebuilding(b, n, size)
				b.StartTimer()
				rate := r.rebuild()
				b.StopTimer()
				read, stored := r.reading(), r.storing()
				floor := min(r.coding(), stored, r.loopback())
				b.ReportMetric(100*rate/floor, "%-of-slowest")
				b.ReportMetric(100*rate*(1/read+1/stored), "%-of-read-and-stored")
				b.StartTimer()
			}
		})
	}
}

// rebuilding is six nodes over loopback, the last of which has lost its fragments.
type rebuilding struct {
	*cells
	b   *testing.B
	n   int
	one *wholeObject // as all are, but for their names and times
	at  []timestamp.T
}

const lostNode = 5

func newRebuilding(b *testing.B, n, size int) *rebuilding {
	r := &rebuilding{b: b, n: n, at: make([]timestamp.T, n)}
	shape := ec.Shape{Data: 4, Parity: 2}
	var listeners []net.Listener
	r.cells = newCells(b, shape, 6, func(f *cells) {
		f.segment, f.depth, f.width = 64<<20, 12, fragments.Defaults().Concurrency
		f.data.PartPower = 4
		f.root = func() string {
			top := b.TempDir()
			if err := os.Mkdir(filepath.Join(top, "d"), 0o755); err != nil {
				b.Fatal(err)
			}
			return top
		}
		client := direct.New(direct.Config{ConnectTimeout: 5 * time.Second, MaxIdlePerAddr: 64})
		b.Cleanup(client.Close)
		f.peers = client
		var err error
		if f.code, err = ec.New(ec.Of(shape)); err != nil {
			b.Fatal(err)
		}
		for _, d := range f.data.Devices {
			l, err := httpapi.Listen("127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			host, port, _ := net.SplitHostPort(l.Addr().String())
			d.IP = host
			d.Port, _ = strconv.Atoi(port)
			listeners = append(listeners, l)
		}
	})
	for i, l := range listeners {
		r.listen(r.nodes[i], l)
	}
	r.one = r.encode("model", r.source.Next(), bytes.Repeat([]byte("0123456789abcdef"), size/16), true)
	r.beside(64, n, func(i int) {
		o := *r.one
		o.path, o.at = thing(fmt.Sprint("o", i)), r.source.Next()
		r.at[i] = o.at
		r.putAll(&o, lostNode)
		r.commit(&o)
	})
	return r
}

// listen has a node answer its peers, as storage nodes do.
func (r *rebuilding) listen(n *cell, l net.Listener) {
	quiet := slog.New(slog.DiscardHandler)
	s := &lean.Server{
		Name: "replication", Listener: l, Log: quiet, Watch: httpapi.Observed{Server: "replication", Silence: 30 * time.Second, Log: quiet}, Drain: time.Second,
		Handler: backend.HandlerFunc(func(ctx context.Context, req *backend.Request) (*backend.Response, error) {
			return n.repl.Serve(ctx, req)
		}),
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r.b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			r.b.Error(err)
		}
	})
}

// beside does n things, some at a time.
func (*rebuilding) beside(workers, n int, do func(i int)) {
	var all sync.WaitGroup
	var next atomic.Int64
	for range workers {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	all.Wait()
}

// measured reports what something with all fragments took, and returns how many a second that is.
func (r *rebuilding) measured(what string, do func()) float64 {
	began, cpu, disk := time.Now(), used(r.b), fromDisk(r.b)
	do()
	took, cpu, disk := time.Since(began), used(r.b)-cpu, fromDisk(r.b)-disk
	rate := float64(r.n) / took.Seconds()
	r.b.ReportMetric(rate, what+"/s")
	r.b.ReportMetric(float64(cpu.Nanoseconds())/1e3/float64(r.n), what+"-cpu-us")
	if disk > 0 {
		r.b.ReportMetric(float64(disk)/1024/float64(r.n), what+"-disk-KiB")
	}
	return rate
}

// fromDisk returns how many bytes the process has had read from disks: what was in memory is none of it.
func fromDisk(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0 // there is no such file everywhere
	}
	_, after, _ := strings.Cut(string(text), "\nread_bytes: ")
	line, _, _ := strings.Cut(after, "\n")
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		b.Fatalf("/proc/self/io is %q", text)
	}
	return n
}

// rebuild has the device get its fragments.
func (r *rebuilding) rebuild() float64 {
	stop, told := make(chan struct{}), make(chan []telling, 1)
	go func() { told <- r.listenTo(stop) }()
	rate := r.measured("fragments", func() {
		if c := r.clean(lostNode); c.Rebuilt != int64(r.n) {
			r.b.Fatalf("%d of %d were made again", c.Rebuilt, r.n)
		}
	})
	end := time.Now()
	close(stop)
	list := <-told
	for _, part := range []int{10, 25, 50, 75} {
		off := math.Inf(1) // where nobody knew
		for _, x := range list {
			if x.left > int64(r.n*(100-part)/100) {
				continue
			}
			if left := end.Sub(x.at).Seconds(); x.eta != nil {
				off = 100 * (*x.eta - left) / left
			}
			break
		}
		r.b.ReportMetric(off, fmt.Sprintf("eta-off-at-%d%%", part))
	}
	worst, median, unknown := r.errorsOf(list, end)
	r.b.ReportMetric(unknown, "eta-unknown-%")
	r.b.ReportMetric(worst, "eta-off-worst-%")
	r.b.ReportMetric(median, "eta-off-median-%")
	return rate
}

// errorsOf returns the largest and the median error of what was told from a tenth of the work on, either way, in per cent of
// the time that was left, and how often nothing was. What is said in the last tenth of the time is left out: there it is of an instant.
func (r *rebuilding) errorsOf(list []telling, end time.Time) (worst, median, unknown float64) {
	var off []float64
	none := 0
	for _, x := range list {
		left := end.Sub(x.at)
		if x.left > int64(r.n*9/10) || left < end.Sub(list[0].at)/10 {
			continue
		}
		if x.eta == nil {
			none++
			continue
		}
		off = append(off, 100*math.Abs(*x.eta-left.Seconds())/left.Seconds())
	}
	if len(off) == 0 {
		return math.Inf(1), math.Inf(1), 100 // it ended before anything was said
	}
	slices.Sort(off)
	return off[len(off)-1], off[len(off)/2], 100 * float64(none) / float64(none+len(off))
}

// telling is what the device has said at a time.
type telling struct {
	at   time.Time
	left int64
	eta  *float64
}

// listenTo notes what the device says, from when it knows how much there is to do.
func (r *rebuilding) listenTo(stop <-chan struct{}) (list []telling) {
	progress := r.nodes[lostNode].repl.Paces.Of("d").Progress()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return list
		case now := <-tick.C:
			if get := progress.ToGet(); get.Objects > 0 {
				list = append(list, telling{now, get.Objects, get.ETASeconds})
			}
		}
	}
}

// coding makes as many archives from others in memory, on all cores.
func (r *rebuilding) coding() float64 {
	return r.measured("coding", func() {
		r.beside(runtime.GOMAXPROCS(0), r.n, func(int) {
			next := 0
			_, _, err := r.code.Rebuild(io.Discard, ec.Write{ID: r.one.coded.Write, Size: r.one.coded.Size}, lostNode, func(segment int64) (ec.Part, error) {
				h, err := ec.ParseHeader(r.one.archives[next])
				p := ec.Part{Header: h, Frames: bytes.NewReader(r.one.archives[next][r.code.FrameAt(segment):])}
				next++
				return p, err
			})
			if err != nil {
				r.b.Error(err)
			}
		})
	})
}

// reading reads what as many fragments are made from, as many of a source together and at one time as in a rebuild.
func (r *rebuilding) reading() float64 {
	sources := r.code.Fragments() - 1
	all := make([]name.Hash, r.n)
	times := make(map[name.Hash]timestamp.T, r.n)
	for i := range all {
		all[i] = r.hasher.Hash(thing(fmt.Sprint("o", i)))
		times[all[i]] = r.at[i]
	}
	slices.SortFunc(all, func(a, b name.Hash) int { return bytes.Compare(a[:], b[:]) })
	var batches [][]name.Hash
	for some := range slices.Chunk(all, max(1, min(256, (4<<20)/int(r.one.coded.Size)))) {
		from := make([][]name.Hash, sources)
		for i, h := range some {
			for k := range r.code.Data {
				s := (i + k) % sources
				from[s] = append(from[s], h.Fragment(times[h], s))
			}
		}
		batches = append(batches, from...)
	}
	return r.measured("read", func() {
		r.beside(fragments.Defaults().Concurrency*sources, len(batches), func(i int) {
			store := fragmentStore{objectStore{r.nodes[i%sources].store}}
			for x, err := range store.OpenAll(r.b.Context(), r.policy.Index.Fragments(), batches[i]) {
				if err == nil {
					_, err = io.Copy(io.Discard, x.Body)
					err = errors.Join(err, x.Body.Close())
				}
				if err != nil {
					r.b.Error(err)
				}
			}
		})
	})
}

// storing has the device keep as many fragments more.
func (r *rebuilding) storing() float64 {
	return r.measured("stored", func() {
		r.beside(64, r.n, func(i int) {
			o := *r.one
			o.path, o.at = thing(fmt.Sprint("stored", i)), r.source.Next()
			r.put(&o, lostNode, lostNode)
		})
	})
}

// loopback carries as many bytes as are read for the fragments over one connection.
func (r *rebuilding) loopback() float64 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.b.Fatal(err)
	}
	defer l.Close()
	total := int64(r.n) * int64(r.code.Data*len(r.one.archives[0]))
	return r.measured("loopback", func() {
		done := make(chan error, 1)
		go func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err == nil {
				block := make([]byte, 1<<20)
				for left := total; left > 0 && err == nil; left -= int64(len(block)) {
					_, err = c.Write(block[:min(left, int64(len(block)))])
				}
				err = errors.Join(err, c.Close())
			}
			done <- err
		}()
		c, err := l.Accept()
		if err != nil {
			r.b.Fatal(err)
		}
		defer c.Close()
		block := make([]byte, 1<<20)
		got := int64(0)
		for err == nil {
			var k int
			k, err = c.Read(block)
			got += int64(k)
		}
		if err := <-done; err != nil || got != total {
			r.b.Fatalf("%d of %d bytes came: %v", got, total, err)
		}
	})
}
