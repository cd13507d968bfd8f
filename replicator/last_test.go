package replicator

import (
	"testing"
	"testing/synctest"
	"time"
)

// Of passes that came to their end the last is told, why it could not confirm what it could not, and when all was
// confirmed last.
func TestLastPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lastPasses
		first := time.Now()
		l.ended("d1", first.Add(-time.Second), Counts{Kind: "object"})
		time.Sleep(time.Minute) // in the bubble
		l.ended("d1", time.Now(), Counts{Kind: "object", Failed: 5, Failures: []Failure{
			{Peer: "a/d", Reason: "less", Count: 2}, {Peer: "b/d", Reason: "more", Count: 3},
		}})
		p := l.all["d1"]["object"]
		if !p.Ended.Equal(first.Add(time.Minute)) || !p.Whole.Equal(first) || p.Failed != 5 || p.Peer != "b/d" || p.Why != "more" {
			t.Errorf("%+v", p)
		}
		l.ended("d1", time.Now().Add(-time.Second), Counts{Kind: "object"})
		if p := l.all["d1"]["object"]; !p.Whole.Equal(p.Ended) || p.Failed != 0 || p.Why != "" || p.Seconds != 1 {
			t.Errorf("when all is confirmed: %+v", p)
		}
		if len(l.all["d2"]) > 0 {
			t.Errorf("of another device there is %+v", l.all["d2"])
		}
	})
}
