package survey

import (
	"context"
	"sync"
	"time"

	"martlet/replicator"
	"martlet/ring"
)

// Speed is how fast a device takes what others bring, a second.
type Speed struct{ Bytes, Objects float64 }

// Pace is how fast a rebalance goes, and when it will be done.
type Pace struct {
	BytesPerSecond   float64  `json:"bytes_per_second"`
	ObjectsPerSecond float64  `json:"objects_per_second"`
	ETASeconds       *float64 `json:"eta_seconds"` // null where nobody knows
}

// SpeedsOf asks the nodes of devices that wait for something how fast those take it. A device
// whose node doesn't answer, or to which nothing has come lately, is left out.
func SpeedsOf(ctx context.Context, ask RateAsker, policies []Policy, r *Rebalance) map[string]Speed {
	waits := map[string]bool{}
	for _, d := range r.Devices {
		waits[d.Device] = true
	}
	nodes := map[string]*ring.Device{} // by address: any device of it
	for _, p := range policies {
		for d := range p.Ring.Devices() {
			if waits[Place(d)] {
				nodes[d.Addr()] = d
			}
		}
	}
	speeds := map[string]Speed{}
	var mu sync.Mutex
	var all sync.WaitGroup
	turns := make(chan struct{}, together)
	for addr, d := range nodes {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			list, err := ask.Rates(ctx, d)
			if err != nil {
				return // it is not known: the report says so
			}
			mu.Lock()
			defer mu.Unlock()
			for _, one := range list {
				if place := addr + "/" + one.Device; one.Known && waits[place] {
					speeds[place] = speedOf(one)
				}
			}
		})
	}
	all.Wait()
	return speeds
}

func speedOf(r replicator.Rate) Speed { return Speed{Bytes: r.Bytes, Objects: r.Objects} }

// SpeedsSeen is how fast what devices wait for has become less between two looks.
func SpeedsSeen(before, after *Rebalance, took time.Duration) map[string]Speed {
	now := after.byDevice()
	speeds := map[string]Speed{}
	for place, then := range before.byDevice() {
		s := Speed{Bytes: max(0, float64(then.Bytes-now[place].Bytes)/took.Seconds()), Objects: max(0, float64(then.Objects-now[place].Objects)/took.Seconds())}
		if s != (Speed{}) {
			speeds[place] = s
		}
	}
	return speeds
}

// byDevice adds up what is left of all policies.
func (r *Rebalance) byDevice() map[string]Left {
	sums := map[string]Left{}
	for _, d := range r.Devices {
		sum := sums[d.Device]
		sum.add(d.Left)
		sums[d.Device] = sum
	}
	return sums
}

// crumb is the part of all that is left below which a device that takes nothing says nothing of
// when it will be done: writes that are under way look like that.
const crumb = 0.01

// At says how long what is left takes at the speeds that devices have: each device by bytes and
// objects together, and the cluster as long as the device that takes longest. What has
// come for one device makes no other's disk quicker, so that all that is left by all that moves
// would promise the end too early. Where a device takes nothing, nobody knows, unless it waits for
// less than a hundredth of what is left.
func (r *Rebalance) At(speeds map[string]Speed) Pace {
	var cluster Pace
	eta, known, some := 0.0, true, false
	sums := r.byDevice()
	for place, left := range sums {
		speed := speeds[place]
		cluster.BytesPerSecond += speed.Bytes
		cluster.ObjectsPerSecond += speed.Objects
		if left.Bytes == 0 && left.Objects == 0 {
			continue
		}
		switch seconds := left.at(speed); {
		case seconds != nil:
			eta, some = max(eta, *seconds), true
		case float64(left.Bytes) > crumb*float64(r.Bytes) || float64(left.Objects) > crumb*float64(r.Objects):
			known = false
		}
	}
	if known && (some || r.Bytes == 0 && r.Objects == 0) {
		cluster.ETASeconds = &eta
	}
	for i := range r.Devices {
		d := &r.Devices[i]
		speed := speeds[d.Device]
		d.Pace = Pace{speed.Bytes, speed.Objects, sums[d.Device].at(speed)}
	}
	return cluster
}

// at is how many seconds what a device waits for takes; nil where nobody knows.
func (l Left) at(s Speed) *float64 {
	eta, known := replicator.Rate{Bytes: s.Bytes, Objects: s.Objects}.Lasts(l.Objects, l.Bytes)
	if !known {
		return nil
	}
	return &eta
}
