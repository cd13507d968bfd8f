package pending

import (
	"testing"
	"time"
)

func TestSilentServersAreNotWaitedFor(t *testing.T) {
	now := time.Unix(1000, 0)
	s := NewSilent(func() time.Time { return now })
	for i := range silentAfter {
		if !s.Ask("a") {
			t.Fatalf("not asked after %d failures", i)
		}
		s.heard("a", false)
	}
	if s.Ask("a") || !s.Ask("b") {
		t.Error("the silent one is asked, or another is not")
	}
	now = now.Add(askAgain)
	if first, second := s.Ask("a"), s.Ask("a"); !first || second {
		t.Error("after a while it is not asked exactly once")
	}
	s.heard("a", false)
	if s.Ask("a") {
		t.Error("it failed again and is asked")
	}
	now = now.Add(askAgain)
	if !s.Ask("a") {
		t.Error("it is not asked again")
	}
	s.heard("a", true)
	for range 2 {
		if !s.Ask("a") {
			t.Error("it is back and not asked")
		}
	}
}
