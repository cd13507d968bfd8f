package databases

import (
	"context"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// found has the device no longer miss what it has in quarantine and is to have no more: a database of a partition that it is
// no primary of, once all primaries have it. Of others the primary that is the device itself is told by being brought it.
func (p *pass) found(ctx context.Context) {
	list, err := p.Store.Lost(ctx, p.device, name.Hash{})
	if err != nil {
		p.tally.Fail(replicator.Failure{Reason: err.Error()})
		return
	}
	for _, h := range list {
		r := p.Ring()
		w := work{list: []replwire.Database{{Hash: h}}}
		w.About = replicator.About{Ring: r, Partition: r.Partition(h)}
		primaries, handoff := replicator.Others(r, w.Partition, p.device, p.Self)
		if !handoff || !p.allHave(ctx, &w, primaries) || p.fresh() != nil {
			continue
		}
		if err := p.Store.Found(ctx, p.device, h); err != nil && !errs.Is(err, errs.NotFound) {
			p.fail(&w, nil, h.String(), err.Error(), 1)
		}
	}
}

// allHave reports whether all primaries say that they have the one database of the work.
func (p *pass) allHave(ctx context.Context, w *work, primaries []*replicator.Peer) bool {
	for _, to := range primaries {
		if _, down := p.peers.Down(to); down || ctx.Err() != nil {
			return false
		}
		list, err := p.ask(ctx, w, to)
		if err != nil || len(list) == 0 || !to.Primary() {
			return false
		}
	}
	_, why := replicator.Doubt(primaries)
	return len(primaries) > 0 && why == ""
}
