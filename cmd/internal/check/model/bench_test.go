//go:build !race

package model

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"martlet/cmd/internal/check/history"
)

// long is a round of so many operations on a hundred names, one after the other in each, and some listings.
func long(ops int) history.History {
	r := rand.New(rand.NewPCG(1, 1))
	h := history.History{Limits: history.Limits{Grace: time.Second}, Round: 1, Steady: time.Hour}
	is := map[string]history.State{}
	for i := range ops {
		id, n := int64(i+1), fmt.Sprintf("o%02d", r.IntN(100))
		o := history.Op{ID: id, Container: "c", Object: n, Start: time.Duration(i) * time.Millisecond, End: time.Duration(i)*time.Millisecond + 900*time.Microsecond, Outcome: history.Acked, Status: 200}
		was, ok := is[n]
		switch k := r.IntN(100); {
		case k < 35:
			o.Kind, o.Body, o.Size = history.Put, id, 10
			is[n] = history.State{Data: id, Body: id, Mark: id, Size: 10}
		case k < 45 && ok:
			o.Kind = history.Post
			was.Mark = id
			is[n] = was
		case k < 55:
			o.Kind = history.Delete
			delete(is, n)
		case k < 56:
			o.Kind, o.Object, o.Seen = history.List, "", &history.Seen{Whole: true}
			for j := range 100 {
				n := fmt.Sprintf("o%02d", j)
				if s, ok := is[n]; ok {
					o.Seen.Names = append(o.Seen.Names, history.Listed{Name: n, Data: s.Data, Body: s.Body, Size: s.Size})
				}
			}
		case ok:
			o.Kind, o.Seen = history.Get, &history.Seen{State: was}
		default:
			o.Kind, o.Seen = history.Get, &history.Seen{State: history.State{Missing: true}}
		}
		h.Ops = append(h.Ops, o)
	}
	return h
}

// A round of an hour is judged in seconds.
func BenchmarkReads(b *testing.B) {
	for _, n := range []int{30_000, 300_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := long(n)
			for b.Loop() {
				if found, _ := Reads(h); len(found) > 0 {
					b.Fatalf("%+v", found[0])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/operation")
		})
	}
}

// What is wrong with one read in many is shown by a few operations, and soon.
func TestShrinkOfALongHistory(t *testing.T) {
	h := long(20_000)
	var read *history.Op
	for i := range h.Ops {
		if o := &h.Ops[i]; o.Kind == history.Get && !o.Seen.Missing && i > 15_000 {
			read = o
		}
	}
	read.Seen.State = history.State{Missing: true}
	found, _ := Reads(h)
	if len(found) != 1 || found[0].Rule != Stale {
		t.Fatalf("%+v", found)
	}
	if small := Shrink(h, nil, found[0]); len(small.Ops) != 2 {
		t.Errorf("%d operations are left: %+v", len(small.Ops), small.Ops)
	}
}
