package survey

import (
	"context"
	"slices"

	"martlet/ring"
)

// DatabasesLeft is what a device waits for of accounts or containers, and what it holds for others.
type DatabasesLeft struct {
	Device   string `json:"device"`
	Kind     string `json:"kind"`
	Waits    int64  `json:"waits_for"`        // databases of which it is a primary, has none, and another has one
	Handoffs int64  `json:"holds_for_others"` // databases that it has, and is no primary of
}

// DatabasesLeftOf asks how far the accounts or the containers are on their way to where the ring says: which primaries
// have none of a database that another device has, and which devices have one that are no primaries of it. What
// one has less of does not count. Where not much is left it looks a second time after a second, and counts what is left both
// times. Devices of which nothing is left are left out.
func DatabasesLeftOf(ctx context.Context, ask DatabaseAsker, kind Kind) ([]DatabasesLeft, []Unknown, error) {
	waits, handoffs := map[*ring.Device]int64{}, map[*ring.Device]int64{}
	x := bases{Kind: kind, ask: ask, unknown: map[*ring.Device]error{}, hurry: true}
	x.wrong = func(b *base) bool {
		lack, away := x.left(b)
		return len(lack)+len(away) > 0
	}
	x.found = func(now, was *base) {
		lack, away := x.left(now)
		before, awayBefore := x.left(was)
		for _, d := range lack {
			if slices.Contains(before, d) {
				waits[d]++
			}
		}
		for _, d := range away {
			if slices.Contains(awayBefore, d) {
				handoffs[d]++
			}
		}
	}
	if err := x.run(ctx); err != nil {
		return nil, nil, err
	}
	var list []DatabasesLeft
	for _, d := range x.devices {
		if l := (DatabasesLeft{Place(d), kind.Name, waits[d], handoffs[d]}); l.Waits+l.Handoffs > 0 {
			list = append(list, l)
		}
	}
	return list, x.unknowns(), nil
}

// left returns the primaries that wait for a database, and those who have it and are none.
func (x *bases) left(b *base) (lack, away []*ring.Device) {
	primaries := x.Ring.AppendPrimaries(nil, x.Ring.Partition(b.hash))
	var have []*ring.Device
	for i := range b.held {
		h := &b.held[i]
		if h.broken() {
			continue
		}
		if have = append(have, h.device); !slices.Contains(primaries, h.device) {
			away = append(away, h.device)
		}
	}
	if len(have) == 0 {
		return nil, nil
	}
	for _, d := range primaries {
		if x.unknown[d] == nil && !slices.Contains(have, d) {
			lack = append(lack, d)
		}
	}
	return lack, away
}
