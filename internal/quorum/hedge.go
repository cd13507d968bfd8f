package quorum

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// shortestDelay is how long a read waits at least before it asks a second
	// device: less than that is not worth a request, and a busy machine's own
	// pauses are as long.
	shortestDelay = 10 * time.Millisecond

	// burst is how many second requests may be sent at once after a quiet time.
	burst = 20
	// whole is a request in the budget's units.
	whole = 100
)

// hedges decides when a read asks a second device while the first is still to
// answer, and for how many of the reads that may be.
//
// A read waits for as long as 95 of 100 answers of the device that would be asked
// next take: when the first has taken longer, the other one will most likely be
// there before long. By the times of the first, one that has become slow would be
// given ever more time. In a healthy cluster one read of twenty gets there, and of
// these most have answers in shortestDelay.
//
// Each read adds its share to a budget, and each second request takes one whole
// from it, so that a cluster in which all are slow gets little more to do. What the
// budget does not allow waits for Config.Patience, as a device that hangs must not
// hold up those that do not need it. Policies with options of their own have a budget
// of their own.
type hedges struct {
	longest time.Duration // before a second device is asked
	share   int64         // hundredths of a request that a read adds; 0 is off
	budget  atomic.Int64  // hundredths of requests

	hedgeCounts
}

// hedgeCounts is what is counted of the second requests of all policies.
type hedgeCounts struct {
	counts              *prometheus.CounterVec
	sent, won, withheld prometheus.Counter
}

func newHedgeCounts() hedgeCounts {
	count := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "martlet_hedged_reads_total", Help: "Second requests of reads whose first was slow: sent, had the first good answer (won), or not sent since the budget did not allow it (withheld).",
	}, []string{"result"})
	return hedgeCounts{count, count.WithLabelValues("sent"), count.WithLabelValues("won"), count.WithLabelValues("withheld")}
}

func newHedges(longest time.Duration, percent int, counts hedgeCounts) *hedges {
	h := &hedges{longest: longest, share: int64(max(percent, 0)), hedgeCounts: counts}
	h.budget.Store(burst * whole)
	return h
}

// read is called once for each read.
func (h *hedges) read() {
	if h.share > 0 && h.budget.Load() < burst*whole {
		h.budget.Add(h.share)
	}
}

// delay is how long to wait before the device with these times is asked as well.
func (h *hedges) delay(next *deviceTimes) time.Duration {
	return min(max(time.Duration(next.p95.Load()), shortestDelay), h.longest)
}

// take reports whether a second request may be sent, and takes it from the budget.
func (h *hedges) take() bool {
	if h.budget.Add(-whole) < 0 {
		h.budget.Add(whole)
		h.withheld.Inc()
		return false
	}
	h.sent.Inc()
	return true
}

// Register shows martlet_hedged_reads_total by result: "sent", "won" and "withheld".
func (c *Cluster) Register(reg prometheus.Registerer) error { return reg.Register(c.counts.counts) }
