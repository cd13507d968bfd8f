package objects

import (
	"context"
	"io"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/replicator"
)

// walkNothing is a store that holds nothing.
type walkNothing struct{ Store }

func (walkNothing) Walk(context.Context, policy.Index, name.Hash, name.Hash) iter.Seq2[replwire.Object, error] {
	return func(func(replwire.Object, error) bool) {}
}

// sluggish is a store that takes long for each look, and has some names.
type sluggish struct {
	walkNothing
	each time.Duration
	has  map[name.Hash]bool
}

func (s sluggish) Stat(_ context.Context, _ policy.Index, h name.Hash) (State, error) {
	time.Sleep(s.each) // in a bubble
	if !s.has[h] {
		return State{}, nil
	}
	at := timestamp.FromTicks(1e14)
	return State{Object: replwire.Object{Hash: h, Kind: replwire.Tombstone, Times: timestamp.Packed{Data: at, ContentType: at, Meta: at}}}, nil
}

// answers is how a question for a list of some names is answered, as often as it takes: how long each answer took, and what was in all of them.
func answers(t *testing.T, store Store, names []name.Hash, understands bool) (took []time.Duration, all []name.Hash) {
	t.Helper()
	from, last := names[0], names[len(names)-1]
	for range len(names) + 1 {
		h := backend.Header{{Name: replwire.NamesHeader, Value: replwire.NamesText(names)}}
		if understands {
			h.Add(replwire.NothingHeader, "true")
		}
		began := time.Now()
		resp, err := (&Objects{}).list(t.Context(), store, 0, &replicator.Call{Request: &backend.Request{Header: h}, From: from, To: last})
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		list, end, more, err := replwire.ParseNamed(b, from, last)
		if !understands {
			list, more, err = replwire.ParseObjects(b, from, last)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list {
			all = append(all, o.Hash)
		}
		if !more {
			return took, all
		}
		from = end
		for i := len(from) - 1; ; i-- { // the hash behind it
			if from[i]++; from[i] != 0 {
				break
			}
		}
	}
	t.Fatal("it is never answered in whole")
	return nil, nil
}

// A question about names of which most are not there is answered within a time, however slow the disk is: the asker goes on from there. Each answer
// is about one of them at least. Who does not understand a list that ends with nothing is answered as ever.
func TestNamesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []name.Hash
		has := map[name.Hash]bool{}
		for i := range replwire.MaxNames {
			h := name.Hash{byte(i >> 8), byte(i)}
			if names = append(names, h); i%300 == 299 {
				has[h] = true
			}
		}
		for _, tt := range []struct {
			each        time.Duration
			understands bool
			most        time.Duration
		}{
			{0, true, 0},
			{20 * time.Millisecond, true, listTime + 40*time.Millisecond},
			{time.Minute, true, 2 * time.Minute},
			{20 * time.Millisecond, false, 21 * time.Second},
		} {
			took, all := answers(t, sluggish{each: tt.each, has: has}, names, tt.understands)
			if longest := slices.Max(took); longest > tt.most {
				t.Errorf("%v for each look: an answer took %v, want at most %v", tt.each, longest, tt.most)
			}
			if len(all) != len(has) || tt.each == 0 && len(took) > 1 {
				t.Errorf("%v for each look: %d answers, with %v", tt.each, len(took), all)
			}
		}
	})
}
