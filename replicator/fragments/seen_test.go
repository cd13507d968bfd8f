package fragments

import (
	"encoding/binary"
	"testing"
	"time"
)

// Of what might be given up so much is remembered that it takes no more memory than it may, and others have their turn.
func TestDoubtsAreBounded(t *testing.T) {
	s := &seen{doubts: map[doubt]time.Time{}}
	of := &part{}
	at := func(n int) *piece {
		x := &piece{of: of}
		binary.BigEndian.PutUint64(x.state.Hash[:], uint64(n))
		return x
	}
	begin := time.Unix(1_800_000_000, 0)
	for n := range mostDoubts {
		if since, known := s.doubtful(at(n), begin); !known || since != begin {
			t.Fatalf("%d: %v, %v", n, since, known)
		}
	}
	if _, known := s.doubtful(at(mostDoubts), begin.Add(time.Hour)); known || len(s.doubts) != mostDoubts {
		t.Errorf("one too many is known, with %d", len(s.doubts))
	}
	if since, known := s.doubtful(at(7), begin.Add(time.Hour)); !known || since != begin {
		t.Errorf("one that was there before: %v, %v", since, known)
	}
	s.decided(at(7))
	if since, known := s.doubtful(at(mostDoubts), begin.Add(2*time.Hour)); !known || since != begin.Add(2*time.Hour) {
		t.Errorf("where one has gone: %v, %v", since, known)
	}
	if _, known := s.doubtful(at(mostDoubts+1), begin.Add(doubtful+2*time.Hour)); !known || len(s.doubts) != 2 {
		t.Errorf("days later it is known: %v, with %d", known, len(s.doubts))
	}
}
