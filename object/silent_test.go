package object

import (
	"testing"
	"time"
)

func TestSilentServersAreNotWaitedFor(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newSilent()
	s.now = func() time.Time { return now }
	for i := range silentAfter {
		if !s.ask("a") {
			t.Fatalf("not asked after %d failures", i)
		}
		s.heard("a", false)
	}
	if s.ask("a") || !s.ask("b") {
		t.Error("the silent one is asked, or another is not")
	}
	now = now.Add(askAgain)
	if first, second := s.ask("a"), s.ask("a"); !first || second {
		t.Error("after a while it is not asked exactly once")
	}
	s.heard("a", false)
	if s.ask("a") {
		t.Error("it failed again and is asked")
	}
	now = now.Add(askAgain)
	if !s.ask("a") {
		t.Error("it is not asked again")
	}
	s.heard("a", true)
	for range 2 {
		if !s.ask("a") {
			t.Error("it is back and not asked")
		}
	}
}
