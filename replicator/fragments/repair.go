package fragments

import (
	"context"
	"log/slog"

	"martlet/internal/policy"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/ring"
)

// Repair has fragments that were lost to damage made again, and looks at those that others have found damaged, until ctx ends: it is all
// that does so at once. A pass does the same for what was missed.
func (f *Fragments) Repair(ctx context.Context) error {
	for {
		select {
		case l := <-f.Lost:
			f.repair(ctx, l)
		case l := <-f.suspects:
			f.examine(ctx, l)
		case <-ctx.Done():
			return nil
		}
	}
}

// repair makes a fragment again that was lost, if it belongs on the device: it is a pass over the objects whose hashes
// begin as that of the fragment does, of which there is one.
func (f *Fragments) repair(ctx context.Context, l Lost) {
	p, x := f.alone(l)
	if x == nil || x.index < 0 {
		return // others are to have it
	}
	tally := p.tally
	p.work.progress = nil // a pass may be under way, which tells
	here := p.goInto(ctx, unit{of: x, at: l.Hash.FragmentRange()})
	p.locateAll(ctx, []*found{here})
	one := make(chan *wave, 1)
	one <- &wave{found: []*found{here}}
	close(one)
	p.getAll(ctx, one, func() {})
	for _, fail := range tally.Counts().Failures {
		f.Log.LogAttrs(ctx, slog.LevelWarn, "a fragment that was lost could not be made again", slog.String("device", l.Device),
			slog.String("peer", fail.Peer), slog.String("name", fail.Name), slog.String("why", fail.Reason))
	}
	if n := tally.Counts().Rebuilt; n > 0 {
		f.Log.LogAttrs(ctx, slog.LevelInfo, "a fragment that was lost was made again", slog.String("device", l.Device), slog.String("hash", l.Hash.String()))
	}
}

// alone begins what is done about one fragment; the part is nil where there is nobody to do it.
func (f *Fragments) alone(l Lost) (*pass, *part) {
	p := f.newPass(l.Device, timestamp.T{}, replicator.NewTally(f.Name()))
	of, ok := f.Policies.ByIndex(l.Policy.Objects())
	if p == nil || !ok || !of.Coded() || f.Ring(of.Index) == nil || f.Ring(l.Policy) == nil {
		return p, nil
	}
	rings := f.ringsOf(of.Index)
	return p, p.partOf(of, rings, rings.now.Partition(l.Hash))
}

// partOf is a partition as the device sees it by itself.
func (p *pass) partOf(of policy.Policy, rings rings, number ring.Partition) *part {
	x := &part{
		policy: of, rings: rings, ring: rings.now, objects: p.Ring(of.Index), number: number,
		index: replicator.PlaceOf(rings.now, number, p.device, p.Self),
	}
	x.own = p.replica(x) && p.May(p.device, of.Index, x.objects, number) == nil
	return x
}
