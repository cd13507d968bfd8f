package stats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
)

// source has one container with news, until it was told.
type source struct {
	all  []bool // how Report was called
	told bool
}

func (s *source) Report(ctx context.Context, all bool, send func(context.Context, name.Path, backend.Header) error) error {
	s.all = append(s.all, all)
	if s.told {
		return nil
	}
	err := send(ctx, name.Path{Account: "a", Container: "c/d"}, backend.Header{{Name: "X-Object-Count", Value: "3"}})
	s.told = err == nil
	return err
}

// nodes answer with a status per address, or with an error.
type nodes struct {
	status map[string]int
	mu     sync.Mutex
	asked  []string
}

func (n *nodes) Do(ctx context.Context, addr string, r *backend.Request) (*backend.Response, error) {
	n.mu.Lock()
	n.asked = append(n.asked, fmt.Sprintf("%s %s %s %s", addr, r.Method, r.Path, r.Header.Get("X-Object-Count")))
	n.mu.Unlock()
	switch status := n.status[addr]; status {
	case 0:
		return nil, errors.New("refused")
	case -1:
		<-ctx.Done()
		return nil, ctx.Err()
	default:
		return &backend.Response{Status: status}, nil
	}
}

func three(string) (uint32, []Replica) {
	return 9, []Replica{{"n1:1", "sda"}, {"n2:1", "sdb"}, {"n3:1", "sdc"}}
}

func TestMajority(t *testing.T) {
	for what, c := range map[string]struct {
		status [3]int
		told   bool
	}{
		"all":                {[3]int{201, 201, 204}, true},
		"one is down":        {[3]int{201, 0, 201}, true},
		"one is silent":      {[3]int{201, 201, -1}, true},
		"two are down":       {[3]int{201, 0, 0}, false},
		"two do not have it": {[3]int{404, 201, 404}, false},
	} {
		src := &source{}
		to := &nodes{status: map[string]int{"n1:1": c.status[0], "n2:1": c.status[1], "n3:1": c.status[2]}}
		err := New(src, three, to, 20*time.Millisecond).Pass(t.Context())
		if src.told != c.told || (err == nil) != c.told || err != nil && !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: told %v, error %v; want told %v", what, src.told, err, c.told)
		}
		slices.Sort(to.asked)
		if want := "n1:1 PUT /sda/9/a/c%2Fd 3, n2:1 PUT /sdb/9/a/c%2Fd 3, n3:1 PUT /sdc/9/a/c%2Fd 3"; strings.Join(to.asked, ", ") != want {
			t.Errorf("%s: asked was %q, want %s", what, to.asked, want)
		}
	}
}

func TestNoReplicas(t *testing.T) {
	src := &source{}
	err := New(src, func(string) (uint32, []Replica) { return 0, nil }, &nodes{}, 0).Pass(t.Context())
	if !errors.Is(err, errNowhere) || src.told {
		t.Errorf("an account without a place: told %v, %v", src.told, err)
	}
}

func TestFirstPassLooksAtAll(t *testing.T) {
	src := &source{told: true}
	u := New(src, three, &nodes{}, 0)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := u.Pass(stopped); !errors.Is(err, context.Canceled) {
		t.Errorf("a pass that is stopped: %v", err)
	}
	for range 3 {
		if err := u.Pass(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if want := []bool{true, true, false, false}; !slices.Equal(src.all, want) {
		t.Errorf("passes looked at all: %v, want %v (the first did not end)", src.all, want)
	}
}
