package replicator

import (
	"sort"
	"time"
)

// How long it takes to get what is left is judged by how fast the last of it came. The average (progress.go) is over minutes, and
// counts from when the first object came: in a rebuild of seconds that is all of it, with its slow beginning, when files and
// connections are made and most partitions are not looked into yet. So it is looked back half as far as it is to be looked
// ahead, and the first half of what there is to look back on is left out; but over no less than leastBack, as things come by the batch, and no more
// than the average does.
const (
	leastBack, mostBack = time.Second, lately
	// fewCame is how few objects say nothing that the average does not.
	fewCame = 32
	// pauseOf is after how long with nothing what comes then is of something new.
	pauseOf = 5 * time.Second

	// marksApart is how much time is between two marks at least, and mostMarks how many there are at most. Between older ones there is
	// more, up to a part of how long ago they are, one in apartOf.
	marksApart, mostMarks, apartOf = 50 * time.Millisecond, 128, 8
)

// trail is what has come of late, and when. The zero trail has seen nothing.
type trail struct {
	marks []mark // in order
	came  mark   // as of when something came last
}

// mark is what had come at a time, since the trail began.
type mark struct {
	at      time.Time
	weight  float64 // as Rate.Lasts has it
	objects int64
}

// add takes in what came. The first of it begins the trail, and came in no time that is known.
func (t *trail) add(now time.Time, weight float64) {
	last := t.came.at
	if len(t.marks) == 0 || now.Sub(last) > pauseOf || now.Before(last) {
		*t = trail{marks: append(t.marks[:0], mark{at: now}), came: mark{at: now}}
		return
	}
	if now.After(last) { // all is there that came at the last time
		t.mark()
	}
	t.came = mark{now, t.came.weight + weight, t.came.objects + 1}
}

// mark keeps what has come, unless that was done just now.
func (t *trail) mark() {
	switch last := &t.marks[len(t.marks)-1]; {
	case last.at.Equal(t.came.at):
		*last = t.came
	case t.came.at.Sub(last.at) >= marksApart:
		if len(t.marks) >= mostMarks {
			t.thin()
		}
		t.marks = append(t.marks, t.came)
	}
}

// thin drops marks that are too long ago to be looked back to, or close together for how long ago they are.
func (t *trail) thin() {
	old := sort.Search(len(t.marks), func(i int) bool { return t.came.at.Sub(t.marks[i].at) <= 2*mostBack })
	marks := t.marks[min(old, len(t.marks)-1):]
	kept := append(t.marks[:0], marks[0])
	for i, m := range marks[1:] {
		if i+2 == len(marks) || marks[i+2].at.Sub(kept[len(kept)-1].at) > t.came.at.Sub(m.at)/apartOf {
			kept = append(kept, m)
		}
	}
	t.marks = kept
}

// lasts returns how many seconds so much weight takes as it came of late, given how many it would by the average.
func (t *trail) lasts(now time.Time, weight, average float64) float64 {
	if len(t.marks) == 0 || now.Sub(t.came.at) > pauseOf {
		return average
	}
	till := t.came.at
	if now.Sub(till) >= leastBack {
		till = now // more than what is between two batches
	}
	ahead := mostBack
	if average < 2*mostBack.Seconds() {
		ahead = time.Duration(average / 2 * float64(time.Second))
	}
	back := max(leastBack, min(ahead, till.Sub(t.marks[0].at)/2))
	from := t.marks[max(0, sort.Search(len(t.marks), func(i int) bool { return till.Sub(t.marks[i].at) < back })-1)]
	came, over := t.came.weight-from.weight, till.Sub(from.at)
	if over < leastBack || t.came.objects-from.objects < fewCame || came <= 0 {
		return average
	}
	return weight / (came / over.Seconds())
}
