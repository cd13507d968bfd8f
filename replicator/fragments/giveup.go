package fragments

import (
	"time"

	"martlet/internal/replwire"
)

// fate is what becomes of a doubtful fragment by what the replicas have said.
func (p *pass) fate(x *piece, q *question) fate {
	return fateOf(q.said, x.of.policy.Quorum(), p.old(x))
}

// old reports whether a fragment can be given up: its write is from before the horizon, and it has been here
// for a while, as far as this process knows. The first alone does not tell: a write may be of a time long before it, when another
// cluster had it, or the data that a version is kept of, and its commit is written after its fragments.
func (p *pass) old(x *piece) bool {
	if !x.state.Times.Data.Happened().Before(p.horizon) {
		return false
	}
	age, known := p.seen.doubtful(x, p.Now())
	return known && age >= p.wait()
}

// dueOf is when a fragment that is not old may be so.
func (p *pass) dueOf(x *piece) time.Time {
	if happened := x.state.Times.Data.Happened(); !happened.Before(p.horizon) {
		return happened.Time().Add(p.cfg.ReclaimAge)
	}
	age, _ := p.seen.doubtful(x, p.Now())
	return p.Now().Add(p.wait() - age)
}

// longAgo is for how long a fragment has to have been seen here until it is given up, however old its write is.
const longAgo = 24 * time.Hour

// wait is for how long that is.
func (p *pass) wait() time.Duration { return min(longAgo, p.cfg.ReclaimAge) }

// unheardOf returns the questions about writes that are to be given up.
func (p *pass) unheardOf(all []*found, asked map[replwire.Write]*question) (list []*question) {
	seen := map[*question]bool{}
	for _, f := range all {
		for _, x := range f.doubtful {
			if q := asked[x.write()]; !seen[q] && p.fate(x, q) == givenUp {
				seen[q] = true
				list = append(list, q)
			}
		}
	}
	return list
}
