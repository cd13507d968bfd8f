package objects

import (
	"cmp"
	"context"
	"slices"

	"martlet/internal/name"
	"martlet/internal/replwire"
)

const (
	// stepBits is how many bits deeper the parts of a range are, deepest up to where.
	stepBits, deepest = 8, 56

	// atOnce is of how many ranges the parts are asked about in one request.
	atOnce = 256
)

// span is a range that a peer holds something else in.
type span struct {
	*part
	mine   replwire.Extent
	theirs replwire.Difference
}

// empty reports whether the peer has nothing there.
func (s *span) empty() bool { return s.theirs.Sum == replwire.Digest{} }

// listed reports whether it is time to compare states themselves.
func (p *pass) listed(s *span) bool {
	return s.theirs.Objects <= p.cfg.Few || s.theirs.Objects < s.mine.Objects/2 || s.mine.Range.Depth+stepBits > deepest
}

// descend goes into ranges of one policy that a peer holds something else in, until states
// themselves are to be compared, and hands those ranges out. It reports false where nobody
// takes them any more. What waits is bounded, however much differs: it goes into the last
// ones first.
func (p *pass) descend(ctx context.Context, to *peer, differ []span, hand func(span) bool) bool {
	for len(differ) > 0 {
		n := max(0, len(differ)-atOnce)
		some := slices.Clone(differ[n:])
		differ = differ[:n]
		deeper := some[:0]
		for _, s := range some {
			switch {
			case !p.listed(&s):
				deeper = append(deeper, s)
			case !hand(s):
				return false
			}
		}
		if len(deeper) > 0 {
			differ = append(differ, p.parts(ctx, to, deeper)...)
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return true
}

// parts returns the parts of ranges that a peer holds something else in, of those that there
// is something in here. What could not be asked has been counted as not confirmed.
func (p *pass) parts(ctx context.Context, to *peer, of []span) (differ []span) {
	if why, ok := p.peers.Down(to.fresh(0)); ok {
		p.failSpans(of, to, to, why)
		return nil
	}
	slices.SortFunc(of, func(a, b span) int { return cmp.Compare(a.mine.Range.Prefix, b.mine.Range.Prefix) })
	ranges := make([]name.Range, 0, len(of)<<stepBits)
	for i := range of {
		for r := range of[i].mine.Range.Parts(stepBits) {
			ranges = append(ranges, r)
		}
	}
	q := replwire.Question{Before: p.before}
	var parents []int32
	n := 0
	for e, err := range p.store.Ranges(ctx, of[0].policy, ranges, p.before) {
		if err != nil {
			p.failSpans(of, to, nil, err.Error())
			return nil
		}
		if (e.Sum != replwire.Digest{}) {
			q.Parts = append(q.Parts, e)
			parents = append(parents, int32(n>>stepBits))
		}
		n++
	}
	answered, err := p.peers.Ask(ctx, of[0].ring, to.fresh(0), policyHeader(of[0].policy), q, func(d replwire.Difference) {
		parent := of[parents[d.At]]
		differ = append(differ, span{parent.part, q.Parts[d.At], d})
	}, func(at int) { p.lagging(of[parents[at]].part, to.String()) })
	if err != nil && ctx.Err() == nil {
		for i := answered; i < len(q.Parts); i++ {
			p.lagging(of[parents[i]].part, to.String())
			p.failMany(of[parents[i]].part, to, err.Error(), q.Parts[i].Objects)
		}
	}
	return differ
}

// failSpans counts what was not compared with a peer as not confirmed, at whose fault it is.
func (p *pass) failSpans(of []span, to, fault *peer, why string) {
	for i := range of {
		p.lagging(of[i].part, to.String())
		p.failMany(of[i].part, fault, why, of[i].mine.Objects)
	}
}

// bag gathers ranges whose states are to be compared with a peer's, until they are worth a
// worker's while.
type bag struct {
	*pass
	peer           *peer
	hand           func(job) bool
	spans          []span
	objects, bytes int64 // that may be pushed
}

func (b *bag) add(s span) bool {
	const (
		objects, bytes, ranges = 1024, 8 << 20, 256
		lacking                = 4 // where the peer has something, about
	)
	n, size := s.mine.Objects, s.mine.Bytes
	if !s.empty() && n > lacking {
		n, size = lacking, size/n*lacking
	}
	b.spans = append(b.spans, s)
	b.objects += n
	b.bytes += size
	return b.objects < objects && b.bytes < bytes && len(b.spans) < ranges || b.empty()
}

// empty hands out what was gathered, and reports false where nobody takes it.
func (b *bag) empty() bool {
	spans := b.spans
	b.spans, b.objects, b.bytes = nil, 0, 0
	return len(spans) == 0 || b.hand(func(ctx context.Context) { b.pass.bringAll(ctx, b.peer, spans) })
}
