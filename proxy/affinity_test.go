package proxy

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/quorum"
	"martlet/proxy/auth"
)

// Data goes to a local handoff and to a majority of the primaries, whether it is
// sent whole or as a stream.
func TestDataIsWrittenLocally(t *testing.T) {
	local, err := quorum.ParseAffinity("r1z1, r1z6") // d0, which is a primary, and d5
	if err != nil {
		t.Fatal(err)
	}
	for what, size := range map[string]int{"whole": 9, "stream": 3 * chunkSize} {
		b := newBenchWith(t, quorum.Config{PostQuorum: 10 * time.Second, Options: quorum.Options{Local: local}})
		s := b.server()
		s.cfg.PostQuorumTimeout = s.cfg.NodeTimeout
		header := http.Header{"Content-Type": {"a/b"}}
		rq := newTestRequest(t, http.MethodPut, header)
		if _, err := s.store(rq, body{path: rq.Path, header: header, content: strings.NewReader(strings.Repeat("x", size)), length: -1}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		b.cluster.Wait()
		b.mu.Lock()
		_, primary := b.kept["d0"]
		_, handoff := b.kept["d5"]
		_, other := b.kept["d1"]
		_, another := b.kept["d2"]
		if !primary || !handoff || other == another || len(b.kept) != 3 {
			t.Errorf("%s: d0 has it: %v, d5: %v, d1: %v, d2: %v; want the first two and one of the others", what, primary, handoff, other, another)
		}
		b.mu.Unlock()
	}
}

// What an account allows is looked up again before anyone is refused: another
// proxy may have changed it a moment ago.
func TestARefusalIsNotFromMemory(t *testing.T) {
	rs, err := auth.NewResellers([]string{"AUTH"})
	if err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		method string
		then   string // the account's ACL at the second look
		want   error
		looks  int
	}{
		"granted meanwhile":    {http.MethodGet, `{"read-only":["friend"]}`, nil, 2},
		"still refused":        {http.MethodGet, "", errs.E(errs.Forbidden), 2},
		"granted, but to read": {http.MethodPut, `{"read-only":["friend"]}`, errs.E(errs.Forbidden), 2},
	} {
		looks := 0
		s := &Server{auth: &auth.Auth{Resellers: rs}, infos: newInfoCache(time.Minute, func(context.Context, name.Path) (facts, error) {
			looks++
			var h backend.Header
			if looks > 1 && tt.then != "" {
				h.Add(accountACL, tt.then)
			}
			return facts{exists: true, header: h, at: time.Now()}, nil
		})}
		rq := newTestRequest(t, tt.method, http.Header{})
		rq.Identity = &auth.Identity{User: "friend", Account: "AUTH_other", Groups: []string{"friend"}}
		path := name.Path{Account: "AUTH_a", Container: "c", Object: "o"}
		if _, err := s.infos.get(t.Context(), name.Path{Account: path.Account}); err != nil {
			t.Fatal(err)
		}
		err := s.allow(rq, tt.method, path, nil)
		if errs.KindOf(err) != errs.KindOf(tt.want) || looks != tt.looks {
			t.Errorf("%s: %v after %d looks, want %v after %d", what, err, looks, tt.want, tt.looks)
		}
	}
}

// That something is not there is never from memory.
func TestAnAbsenceIsNotFromMemory(t *testing.T) {
	b := newBench(t)
	s := b.server()
	there := false
	s.infos = newInfoCache(time.Minute, func(context.Context, name.Path) (facts, error) {
		return facts{exists: there, at: time.Now()}, nil
	})
	p := name.Path{Account: "a", Container: "c"}
	if _, err := s.container(t.Context(), p); !errs.Is(err, errs.NotFound) {
		t.Errorf("a container that is not there: %v", err)
	}
	there = true
	if _, err := s.container(t.Context(), p); err != nil {
		t.Errorf("it was made: %v", err)
	}
}
