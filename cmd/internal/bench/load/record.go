package load

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"martlet/cmd/internal/bench/work"
)

// What latencies can be told apart: from a microsecond to an hour, three digits.
const (
	shortest = int64(time.Microsecond)
	longest  = int64(time.Hour)
	digits   = 3
)

// maxExamples is how many failures of a kind are kept in words.
const maxExamples = 5

// Stats are the operations of one kind.
type Stats struct {
	OK       int64 // answered as they should be
	Errors   int64 // all others; Wrong among them
	Wrong    int64 // bytes, or what is said of them, were not those that were written
	Bytes    int64 // of those that are OK
	Statuses map[int]int64
	Failures map[string]int64 // where there was no answer
	Examples []string

	// Rate and ByteRate are per second. In a closed loop they are, of each worker, what it has done until
	// its last operation ended, added up: a few that take long in the end don't make it look
	// slower. In an open one workers wait for their turns, and they are all that was done over all the time.
	Rate, ByteRate float64

	// Latencies are in nanoseconds, of operations that are OK, and of those never sent; nil where
	// there is none.
	Latencies *hdrhistogram.Histogram
}

// shard is the figures of some workers. So many of them share one that memory stays
// small, and so few that they hardly ever wait for each other.
type shard struct {
	ok, bytes, errors atomic.Int64 // for the progress

	mu    sync.Mutex
	stats [work.Kinds]Stats // mu

	_ [64]byte
}

func newShards(workers int) []*shard {
	all := make([]*shard, min(workers, 2*runtime.GOMAXPROCS(0)))
	for i := range all {
		all[i] = new(shard)
	}
	return all
}

func (s *shard) add(k work.Kind, out Outcome, took time.Duration) {
	if out.OK {
		s.ok.Add(1)
		s.bytes.Add(out.Bytes)
	} else {
		s.errors.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.stats[k]
	if out.Status != 0 {
		if st.Statuses == nil {
			st.Statuses = map[int]int64{}
		}
		st.Statuses[out.Status]++
	}
	if out.OK {
		st.OK++
		st.Bytes += out.Bytes
		st.record(took, 1)
		return
	}
	st.fail(out)
}

func (s *shard) waited(k work.Kind, waited time.Duration, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats[k].record(waited, n)
}

func (st *Stats) record(took time.Duration, n int64) {
	if st.Latencies == nil {
		st.Latencies = hdrhistogram.New(shortest, longest, digits)
	}
	_ = st.Latencies.RecordValues(min(max(int64(took), 0), longest), n) // it refuses only what is out of these bounds
}

func (st *Stats) fail(out Outcome) {
	st.Errors++
	if out.Wrong != "" {
		st.Wrong++
	}
	if out.Failure != "" {
		if st.Failures == nil {
			st.Failures = map[string]int64{}
		}
		st.Failures[out.Failure]++
	}
	if text := out.Wrong + out.Detail; text != "" && len(st.Examples) < maxExamples {
		st.Examples = append(st.Examples, text)
	}
}

// workerRates is what one worker has done, and when it last did.
type workerRates struct {
	count, bytes [work.Kinds]int64
	until        time.Duration
	_            [64]byte
}

func (w *workerRates) add(k work.Kind, out Outcome, at time.Duration) {
	w.until = at
	if out.OK {
		w.count[k]++
		w.bytes[k] += out.Bytes
	}
}

// merge adds up the operations of a kind.
func merge(shards []*shard, rates []workerRates, k work.Kind) Stats {
	all := Stats{Statuses: map[int]int64{}, Failures: map[string]int64{}}
	for _, s := range shards {
		st := &s.stats[k]
		all.OK += st.OK
		all.Errors += st.Errors
		all.Wrong += st.Wrong
		all.Bytes += st.Bytes
		for status, n := range st.Statuses {
			all.Statuses[status] += n
		}
		for why, n := range st.Failures {
			all.Failures[why] += n
		}
		all.Examples = append(all.Examples, st.Examples...)
		switch {
		case st.Latencies == nil:
		case all.Latencies == nil:
			all.Latencies = st.Latencies
		default:
			all.Latencies.Merge(st.Latencies)
		}
	}
	slices.Sort(all.Examples)
	all.Examples = slices.Compact(all.Examples)
	all.Examples = all.Examples[:min(len(all.Examples), maxExamples)]
	for i := range rates {
		if w := &rates[i]; w.until > 0 {
			all.Rate += float64(w.count[k]) / w.until.Seconds()
			all.ByteRate += float64(w.bytes[k]) / w.until.Seconds()
		}
	}
	return all
}

// Sum adds up what all kinds have of it.
func (m *Measured) Sum(of func(Stats) int64) (n int64) {
	for k := range m.Operations {
		n += of(m.Operations[k])
	}
	return n
}
