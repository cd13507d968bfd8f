package objects

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/hosts"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
	"martlet/replicator/steps"
	"martlet/ring"
)

// slow is a store whose digests take long, or can't be had.
type slow struct {
	Store
	each time.Duration
	err  error // behind the second
}

func (s slow) Ranges(_ context.Context, _ policy.Index, ranges []name.Range, _ timestamp.T) iter.Seq2[replwire.Extent, error] {
	return func(yield func(replwire.Extent, error) bool) {
		for i, r := range ranges {
			time.Sleep(s.each) // in a bubble
			if i == 2 && s.err != nil {
				yield(replwire.Extent{}, s.err)
				return
			}
			if !yield(replwire.Extent{Range: r, Sum: replwire.Digest{byte(i % 2)}, Objects: int64(i)}, nil) {
				return
			}
		}
	}
}

type noHash struct{}

func (noHash) Hash(name.Path) name.Hash { return name.Hash{} }

// A question that takes long is answered in part, in time: what is asked about next is
// answered then. One that can't be answered in whole is not answered as if it were.
func TestCompareInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q replwire.Question
		for r := range (name.Range{}).Parts(4) {
			q.Parts = append(q.Parts, replwire.Extent{Range: r, Sum: replwire.Digest{1}})
		}
		broken := errors.New("broken")
		for what, tt := range map[string]struct {
			store slow
			want  int
			err   error
		}{
			"quick":     {slow{}, 16, nil},
			"slow":      {slow{each: 300 * time.Millisecond}, 4, nil},
			"very slow": {slow{each: time.Hour}, 1, nil},
			"broken":    {slow{err: broken}, 0, broken},
		} {
			o, err := New(Defaults(), Deps{
				Stores: map[string]Store{"d": tt.store}, Self: hosts.At(netip.MustParseAddrPort("127.0.0.1:1"), nil), NodeID: "a", Hasher: noHash{},
				Ring:  func(policy.Index) *ring.Ring { return new(ring.Ring) },
				Merge: backend.HandlerFunc(func(context.Context, *backend.Request) (*backend.Response, error) { return nil, errs.E(errs.Invalid) }),
				Peers: &nobody{},
				Steps: func(string) (*steps.Book, error) { return nil, errors.New("there is none") },
			})
			if err != nil {
				t.Fatal(err)
			}
			asked := q.Append(nil)
			resp, err := o.Serve(t.Context(), &replicator.Call{Whole: true, Device: "d", PartPower: 4, Request: &backend.Request{
				Method: "REPLICATE", Length: int64(len(asked)), Body: bytes.NewReader(asked), Header: policyHeader(0),
			}})
			if tt.err != nil {
				if !errors.Is(err, tt.err) {
					t.Errorf("%s: %+v, %v, want %v", what, resp, err, tt.err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			a, err := replwire.ParseAnswer(b, &q, asked)
			if err != nil || a.Answered != tt.want || len(a.Differ) != (tt.want+1)/2 {
				t.Errorf("%s: %+v, %v, want %d answered, of which every other differs", what, a, err, tt.want)
			}
		}
	})
}

type nobody struct{}

func (*nobody) Do(context.Context, string, *backend.Request) (*backend.Response, error) {
	return nil, errs.E(errs.Unavailable)
}

// What waits to be gone into is bounded, and each range comes to its end in any case.
func TestListed(t *testing.T) {
	p := &pass{Objects: &Objects{cfg: Config{Few: 64}}}
	at := func(depth uint8, mine, theirs int64) *span {
		return &span{mine: replwire.Extent{Range: name.Range{Depth: depth}, Objects: mine}, theirs: replwire.Difference{Sum: replwire.Digest{1}, Objects: theirs}}
	}
	for what, tt := range map[string]struct {
		s    *span
		want bool
	}{
		"few there":        {at(16, 1000, 64), true},
		"many on both":     {at(16, 1000, 1000), false},
		"few here":         {at(16, 3, 1000), false},
		"half there":       {at(16, 1000, 500), false},
		"less than half":   {at(16, 1000, 499), true},
		"as deep as it is": {at(56, 1000, 1000), true},
		"one step before":  {at(48, 1000, 1000), false},
	} {
		if got := p.listed(tt.s); got != tt.want {
			t.Errorf("%s: %+v is listed: %t, want %t", what, tt.s, got, tt.want)
		}
	}
}
