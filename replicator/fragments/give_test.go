package fragments

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/replicator"
)

// empty is a store without fragments, whose disk hangs until it is released; one without a channel does not.
type empty struct {
	Store
	released chan struct{}
}

// OpenAll implements Store.
func (s empty) OpenAll(_ context.Context, _ policy.Index, hashes []name.Hash) iter.Seq2[*Archive, error] {
	return func(yield func(*Archive, error) bool) {
		for range hashes {
			if s.released != nil {
				<-s.released
			}
			if !yield(nil, errs.E(errs.NotFound)) {
				return
			}
		}
	}
}

// giver is a node that is asked for two fragments at a time, both of which it has not.
type giver struct {
	*Fragments
	t *testing.T
}

func newGiver(t *testing.T) giver {
	return giver{&Fragments{asked: map[string]chan struct{}{"d": make(chan struct{}, maxAsked)}}, t}
}

var twoWanted = replwire.AppendWanted(nil, []replwire.Wanted{{Hash: name.Hash{1}}, {Hash: name.Hash{2}}})

func (a giver) ask(ctx context.Context, store Store) (*backend.Response, error) {
	return a.give(ctx, store, 3, &replicator.Call{Device: "d", Request: &backend.Request{Body: bytes.NewReader(twoWanted)}})
}

// hears closes the answer, and fails where it does not say that of both.
func (a giver) hears(resp *backend.Response, err error, want replwire.Given) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil || resp.Body.Close() != nil {
		a.t.Fatal(err)
	}
	got, err := replwire.ParseArchives(b, 2, twoWanted)
	if err != nil || !slices.EqualFunc(got, []replwire.Given{want, want}, func(x replwire.Archive, g replwire.Given) bool { return x.Given == g }) {
		a.t.Fatalf("%v, %v, want twice %d", got, err, want)
	}
}

// Who asks a device that has enough to do hears so before he takes it for a dead one.
func TestGiveInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newGiver(t)
		hanging := empty{released: make(chan struct{})}
		failed := make(chan error, maxAsked)
		for range maxAsked {
			go func() {
				resp, err := a.ask(t.Context(), hanging)
				if err == nil {
					err = resp.Body.Close()
				}
				failed <- err
			}()
		}
		synctest.Wait()
		const patience = 8 * time.Second // less than replicator.node_timeout
		ctx, stop := context.WithTimeout(t.Context(), patience)
		defer stop()
		resp, err := a.ask(ctx, empty{})
		a.hears(resp, err, replwire.NotNow)
		close(hanging.released)
		for range maxAsked {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		resp, err = a.ask(t.Context(), empty{})
		a.hears(resp, err, replwire.NotHere)
	})
}

// An answer that is being sent is in memory: it has its turn until it was.
func TestGiveUntilSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newGiver(t)
		var sending []*backend.Response
		for range maxAsked {
			resp, err := a.ask(t.Context(), empty{})
			if err != nil {
				t.Fatal(err)
			}
			sending = append(sending, resp)
		}
		resp, err := a.ask(t.Context(), empty{})
		a.hears(resp, err, replwire.NotNow)
		for i, one := range sending {
			a.hears(one, nil, replwire.NotHere)
			resp, err := a.ask(t.Context(), empty{})
			if a.hears(resp, err, replwire.NotHere); t.Failed() {
				t.Fatal(fmt.Sprint("after ", i+1, " were sent"))
			}
		}
	})
}

// A device that fails in the middle of an answer gives the turn back.
func TestGiveFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newGiver(t)
		for range maxAsked + 1 {
			if resp, err := a.ask(t.Context(), failing{}); !errs.Is(err, errs.BadDevice) {
				t.Fatal(resp, err)
			}
		}
		resp, err := a.ask(t.Context(), empty{})
		a.hears(resp, err, replwire.NotHere)
	})
}

// failing is a store whose device fails.
type failing struct{ Store }

// OpenAll implements Store.
func (failing) OpenAll(context.Context, policy.Index, []name.Hash) iter.Seq2[*Archive, error] {
	return func(yield func(*Archive, error) bool) { yield(nil, errs.E(errs.BadDevice)) }
}

// Where even the index is slow, some of the hashes are told before the asker takes the device for a dead one, and the others when he
// asks again.
func TestListHashesSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, last := replicator.Whole()
		resp, err := new(Fragments).listHashes(t.Context(), slow{}, 3, &replicator.Call{To: last})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		const patience = 8 * time.Second // less than replicator.node_timeout
		list, more, ok, err := replwire.ParseHashes(b, name.Hash{}, last)
		if took := time.Since(began); took > patience || len(list) == 0 || !more || !ok || err != nil {
			t.Errorf("%d hashes, more %v, after %v: %v", len(list), more, took, err)
		}
	})
}

// slow is a store that takes 10 ms to find a hash, and has many.
type slow struct{ Store }

// Present implements Store.
func (slow) Present(context.Context, policy.Index, name.Hash, name.Hash) iter.Seq2[name.Hash, error] {
	return func(yield func(name.Hash, error) bool) {
		for i := range 4000 {
			<-time.After(10 * time.Millisecond)
			if !yield(name.Hash{byte(i >> 8), byte(i)}, nil) {
				return
			}
		}
	}
}
