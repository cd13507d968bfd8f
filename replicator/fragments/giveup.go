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
// for a while. The first alone does not tell, as the time of a write may be from elsewhere (package containersync), and
// its commit is written after its fragments.
func (p *pass) old(x *piece) bool {
	if !x.state.Times.Data.Happened().Before(p.horizon) {
		return false
	}
	since, known := p.seen.doubtful(x, p.Now())
	return known && p.Now().Sub(since) >= p.wait()
}

// dueOf is when a fragment that is not old may be so.
func (p *pass) dueOf(x *piece) time.Time {
	if happened := x.state.Times.Data.Happened(); !happened.Before(p.horizon) {
		return happened.Time().Add(p.cfg.ReclaimAge)
	}
	since, _ := p.seen.doubtful(x, p.Now())
	return since.Add(p.wait())
}

// longestWrite is longer than any write takes from its first fragment to its commit.
const longestWrite = time.Hour

// wait is how long a fragment has to have been here before it is given up.
func (p *pass) wait() time.Duration { return min(longestWrite, p.cfg.ReclaimAge/8) }

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
