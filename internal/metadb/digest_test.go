package metadb

import (
	"fmt"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
)

// stateOf returns a database as peers compare it.
func stateOf(t interface{ Fatal(...any) }, s *Store, loc Location) replwire.Database {
	d, err := s.Replicas().State(bg, loc.Device.Name(), loc.Hash)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Whatever replicas are told, in whatever order: they agree, down to the digest,
// and their stats and digests are what their rows add up to.
func TestReplicasAgree(t *testing.T) {
	var homes []*Store
	for _, limit := range []int{0, -1, 250, 400} {
		s, _ := open(t, t.TempDir(), Config{small: limit})
		homes = append(homes, s)
	}
	n := uint64(0)
	stamps := rapid.Custom(func(r *rapid.T) timestamp.T {
		return at(rapid.Int64Range(0, 6).Draw(r, "ticks")).WithOffset(rapid.Uint64Range(0, 1).Draw(r, "offset"))
	})
	rapid.Check(t, func(r *rapid.T) {
		type step func(*Tx) error
		steps := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) step {
			switch rapid.IntRange(0, 3).Draw(r, "what") {
			case 0:
				i := Info{
					Policy: policy.Index(rapid.IntRange(0, 2).Draw(r, "policy")), PolicyAt: stamps.Draw(r, "at"), PolicyAfter: stamps.Draw(r, "after"),
					Created: stamps.Draw(r, "created"), Put: stamps.Draw(r, "put"), StatusChanged: stamps.Draw(r, "changed"),
				}
				return func(tx *Tx) error { return tx.MergeInfo(i) }
			case 1:
				d := stamps.Draw(r, "delete")
				return func(tx *Tx) error { i := tx.Info(); i.Delete = d; return tx.MergeInfo(i) }
			case 2:
				f := Field{rapid.SampledFrom([]string{"X", "Y"}).Draw(r, "field"), rapid.SampledFrom([]string{"", "v", "w"}).Draw(r, "value"), stamps.Draw(r, "stamp")}
				return func(tx *Tx) error { return tx.MergeFields([]Field{f}) }
			}
			row := testRow{stamps.Draw(r, "stamp"), rapid.Bool().Draw(r, "deleted"), rapid.Int64Range(0, 3).Draw(r, "size")}.encode()
			space, name := policy.Index(rapid.IntRange(0, 1).Draw(r, "space")), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "name")
			return func(tx *Tx) error { _, err := tx.MergeRow(space, name, row); return err }
		}), 1, 12).Draw(r, "steps")
		var first replwire.Database
		var held string
		for i := range 2 {
			n++
			s := rapid.SampledFrom(homes).Draw(r, "home")
			loc := Location{deviceOf(s), hashOf(n)}
			order := rapid.Permutation(append(slices.Clone(steps), steps[:rapid.IntRange(0, len(steps)).Draw(r, "again")]...)).Draw(r, "order")
			cut := rapid.IntRange(0, len(order)).Draw(r, "cut")
			run := func(list []step) func(tx *Tx) error {
				return func(tx *Tx) error {
					for _, f := range list {
						if err := f(tx); err != nil {
							return err
						}
					}
					return nil
				}
			}
			if err := s.Ensure(bg, loc, Info{}, run(order[:cut])); err != nil {
				r.Fatal(err)
			}
			if err := s.Update(bg, loc, run(order[cut:])); err != nil {
				r.Fatal(err)
			}
			if err := s.Check(bg, loc); err != nil {
				r.Fatal(err)
			}
			got, text := stateOf(r, s, loc), state(r, s, loc)
			if i == 0 {
				first, held = got, text
			}
			if got.Digest != first.Digest || text != held {
				r.Fatalf("two orders end in %x, %s and %x, %s", first.Digest, held, got.Digest, text)
			}
		}
	})
}

func TestDigestTellsStatesApart(t *testing.T) {
	s, loc := one(t, Config{})
	seen := map[[16]byte]string{stateOf(t, s, loc).Digest: "nothing"}
	for _, c := range []struct {
		what string
		fn   func(*Tx) error
	}{
		{"a row", func(tx *Tx) error { _, err := tx.MergeRow(0, "a", live(5, 1)); return err }},
		{"the row of another space", func(tx *Tx) error { _, err := tx.MergeRow(1, "a", live(5, 1)); return err }},
		{"a later row", func(tx *Tx) error { _, err := tx.MergeRow(1, "a", live(6, 1)); return err }},
		{"a dead row", func(tx *Tx) error { _, err := tx.MergeRow(1, "a", dead(7)); return err }},
		{"metadata", func(tx *Tx) error { return tx.MergeFields([]Field{{"A", "1", at(5)}}) }},
		{"removed metadata", func(tx *Tx) error { return tx.MergeFields([]Field{{"A", "", at(6)}}) }},
		{"a put", func(tx *Tx) error { return tx.MergeInfo(Info{Put: at(9), PolicyAt: at(1)}) }},
		{"a delete", func(tx *Tx) error { return tx.MergeInfo(Info{Delete: at(8), PolicyAt: at(1)}) }},
	} {
		if err := s.Update(bg, loc, c.fn); err != nil {
			t.Fatal(err)
		}
		d := stateOf(t, s, loc).Digest
		if was, ok := seen[d]; ok {
			t.Errorf("after %s the digest is as after %s", c.what, was)
		}
		seen[d] = c.what
		before := txID(t, opened(t, s, loc))
		if err := s.Update(bg, loc, c.fn); err != nil {
			t.Fatal(err)
		}
		if got := stateOf(t, s, loc).Digest; got != d || txID(t, opened(t, s, loc)) != before {
			t.Errorf("%s again: the digest changed from %x to %x, or something was committed", c.what, d, got)
		}
	}
}

// A file of before there were digests gets one, and a wrong one is found.
func TestStoredDigest(t *testing.T) {
	s, loc := one(t, own)
	merge(t, s, loc, map[string][]byte{"a": live(5, 1), "b": dead(6)})
	want := stateOf(t, s, loc)
	set := func(value []byte) {
		err := opened(t, s, loc).bolt.Update(func(tx *bolt.Tx) error {
			if value == nil {
				return tx.Bucket(bucketInfo).Delete(keyDigest)
			}
			return tx.Bucket(bucketInfo).Put(keyDigest, seal(keyDigest, value))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(nil)
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
	if got := stateOf(t, s, loc); got != want {
		t.Errorf("added up anew the state is %x, want %x", got, want)
	}
	err := s.View(bg, loc, func(tx *Tx) error {
		if _, ok, err := tx.storedDigest(); !ok || err != nil {
			t.Errorf("the digest was not stored: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	set(nil)
	merge(t, s, loc, map[string][]byte{"c": live(5, 1)})
	if err := s.Check(bg, loc); err != nil {
		t.Errorf("after a change of a file without a digest: %v", err)
	}
	set(append([]byte{digestVersion}, make([]byte, 16)...))
	if err := s.Check(bg, loc); err == nil {
		t.Error("a digest that is not that of the rows was not found")
	}
}

func TestALaterDeleteHidesRows(t *testing.T) {
	s, dev := open(t, t.TempDir(), Config{})
	loc := Location{dev, hashOf(1)}
	const rows = 2*buryStep + 7
	err := s.Ensure(bg, loc, Info{Path: name.Path{Account: "a"}, Created: at(1)}, func(tx *Tx) error {
		for i := range rows {
			if _, err := tx.MergeRow(policy.Index(i%2), fmt.Sprintf("%05d", i), live(int64(1+i%10), 2)); err != nil {
				return err
			}
		}
		return tx.MergeFields([]Field{{"A", "1", at(3)}, {"B", "1", at(8)}})
	})
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	err = s.Update(bg, loc, func(tx *Tx) error {
		last = tx.LastChange()
		i := tx.Info()
		i.Delete = at(5)
		return tx.MergeInfo(i)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(bg, loc, func(tx *Tx) error {
		want := int64(0)
		for i := range rows {
			if 1+i%10 > 5 {
				want++
			}
		}
		if sum, err := tx.Total(); sum != (Stat{want, want, 2 * want}) {
			t.Errorf("stats are %v, %v; want %d rows", sum, err, want)
		}
		if tx.LastChange() != last {
			t.Errorf("hidden rows have changed: %d, before %d", tx.LastChange(), last)
		}
		fields, err := tx.Fields()
		if want := []Field{{"A", "", at(5)}, {"B", "1", at(8)}}; fmt.Sprint(fields) != fmt.Sprint(want) {
			t.Errorf("metadata is %v, want %v", fields, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(bg, loc); err != nil {
		t.Error(err)
	}
}

func TestWhichPolicyWins(t *testing.T) {
	s, dev := open(t, t.TempDir(), Config{})
	choice := func(p policy.Index, when, after int64) Info {
		return Info{Policy: p, PolicyAt: at(when), PolicyAfter: at(after)}
	}
	for i, c := range []struct{ a, b, want Info }{
		{choice(1, 5, 0), choice(2, 6, 0), choice(1, 5, 0)}, // the one that was chosen first
		{choice(1, 5, 0), choice(2, 5, 0), choice(1, 5, 0)}, // the lower of one time
		{choice(1, 5, 0), choice(2, 9, 7), choice(2, 9, 7)}, // the one of the later life
		{choice(1, 9, 7), choice(2, 8, 7), choice(2, 8, 7)}, // and there again the first
	} {
		for j, pair := range [][2]Info{{c.a, c.b}, {c.b, c.a}} {
			loc := Location{dev, hashOf(uint64(2*i + j))}
			var got Info
			err := s.Ensure(bg, loc, pair[0], func(tx *Tx) error {
				err := tx.MergeInfo(pair[1])
				got = tx.Info()
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if got.Policy != c.want.Policy || got.PolicyAt != c.want.PolicyAt || got.PolicyAfter != c.want.PolicyAfter {
				t.Errorf("of %+v and %+v comes %+v, want %+v", pair[0], pair[1], got, c.want)
			}
		}
	}
}
