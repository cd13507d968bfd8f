package ec

import "time"

// A Hedge has archives asked for beside those that are late with a frame, so that one that has become slow, or
// silent, holds up nobody for longer than it takes to have another. It is called by the goroutine that reads.
type Hedge interface {
	// Late says of an archive whose frame of a segment has been waited for so long whether another one is
	// asked for beside it: 0 is that it is, by Beside, and anything else for how long there is nothing to do. apart means
	// that it is slower than others are, and not only as slow.
	Late(segment int64, waited time.Duration, apart bool) time.Duration
	// Beside is a Source while so many that were taken from it are late. It waits for no longer than until there is something
	// in wake: then it returns false and no error, and may be called again to wait on.
	Beside(segment int64, late int, wake <-chan struct{}) (p Part, ok bool, err error)
	// Enough ends what is being asked for: the segment is there without it.
	Enough()
}

// firstLook is how long a gather waits for frames before it looks whether one is late.
const firstLook = 10 * time.Millisecond

// hedging is what a gather knows of frames that are late.
type hedging struct {
	Hedge
	wake  chan struct{} // has something where a frame was read since it was looked at
	timer *time.Timer   // nil before the first wait; it sets the gather's tick

	since time.Time     // when this segment was first waited for; zero before it is
	took  time.Duration // the longest that a frame of it took; 0 before there is one
	pace  time.Duration // the same of those before it, the latest first; 0 before there is one
	late  set           // beside which others are asked for
	none  bool          // there are no others, for this segment
	asked bool          // others were asked for, for this segment
}

// begin is called for each segment.
func (h *hedging) begin() {
	h.pace = max(h.took, h.pace-h.pace/8)
	h.since, h.took, h.late, h.none, h.asked = time.Time{}, 0, 0, false, false
}

// reading is how many frames are being read that are not late.
func (g *gather) reading() int {
	if g.hedge == nil {
		return g.under
	}
	return g.under - g.hedge.late.len()
}

// ask asks for an archive. Where one is late it returns false and no error once another frame was read.
func (g *gather) ask() (Part, bool, error) {
	if h := g.hedge; h != nil && h.late != 0 {
		return h.Beside(g.number, h.late.len(), h.wake)
	}
	p, err := g.source(g.number)
	return p, true, err
}

// waitOrHedge is wait where others may be asked for: it returns as well when one is.
func (g *gather) waitOrHedge() {
	h := g.hedge
	if h.since.IsZero() {
		h.since = time.Now()
	}
	for d := firstLook; ; d = g.look() {
		if d == 0 {
			return
		}
		if done, ok := g.collectWithin(d, d != firstLook); ok {
			g.takeIn(done)
			return
		}
	}
}

// look returns for how long there is no need to look again whether frames are late; 0 where another
// archive is being asked for beside one that is.
//
// What all archives take is no reason to ask for more of them. So a frame is late only when it takes twice as long as
// those that came, and as those of the segments before: of these there may be much in the buffers of connections when one archive
// is only a little slower than they, which all of them wait for. And no more of them are late than can be had of others.
func (g *gather) look() time.Duration {
	const long = time.Hour // something comes before, or the lack of it
	h, now := g.hedge, time.Now()
	g.mu.Lock()
	done, took := g.done, h.took
	for i := range g.parts {
		if done.has(i) {
			took = max(took, g.parts[i].took)
		}
	}
	g.mu.Unlock()
	took = max(took, h.pace)
	missing := g.code.Data - g.have - done.len()
	if h.none || missing > g.code.Parity {
		return long
	}
	wait := long
	for i := range g.parts {
		p := &g.parts[i]
		if !p.busy || done.has(i) || h.late.has(i) {
			continue
		}
		d := 2*took - now.Sub(p.began)
		if d <= 0 {
			from := p.began
			if h.since.After(from) {
				from = h.since
			}
			if d = h.Late(g.number, now.Sub(from), missing < g.code.Data || missing == 1 && h.pace > 0); d <= 0 {
				h.late |= 1 << i
				h.asked = true
				return 0
			}
		}
		wait = min(wait, d)
	}
	return max(wait, time.Millisecond)
}

// collectWithin is collect for some time: ok is false where that is over. Where each is true it ends with
// the first frame that was read.
func (g *gather) collectWithin(d time.Duration, each bool) (done set, ok bool) {
	h := g.hedge
	g.mu.Lock()
	defer g.mu.Unlock()
	g.want, g.tick, g.each = g.code.Data-g.have, false, each
	if !g.enough() {
		if h.timer == nil {
			h.timer = time.AfterFunc(d, g.ticked)
		} else {
			h.timer.Reset(d)
		}
		for !g.enough() && !g.tick {
			g.ended.Wait()
		}
		h.timer.Stop()
	}
	enough := g.enough()
	g.each = false
	if !enough {
		return 0, false
	}
	return g.harvest(), true
}

func (g *gather) ticked() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tick = true
	g.ended.Signal()
}

// leave drops the archives that are still late: the segment is there without them.
func (g *gather) leave() {
	h := g.hedge
	if h == nil || !h.asked {
		return
	}
	g.interrupt()
	for g.under > 0 {
		done := g.collect()
		for i := range g.parts {
			if done.has(i) {
				g.drop(i)
			}
		}
	}
	h.Enough()
}
