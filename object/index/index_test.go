package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/seglog"
	"martlet/internal/timestamp"
	"martlet/internal/vfs"
)

var logID = ID{1, 2, 3}

func config(fs vfs.FS) Config {
	return Config{FS: fs, Folder: "/index", LogID: logID, Depth: 12}
}

func mustOpen(t testing.TB, fs vfs.FS) *Index {
	t.Helper()
	ix, err := Open(config(fs))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ix.Close)
	return ix
}

// event is a record of the log of a test.
type event struct {
	at  seglog.Position
	key Key
	new Entry
}

func at(n int) seglog.Position {
	return seglog.Position{Segment: uint64(1 + n/100), Offset: int64(4096 + n%100*8)}
}

// replay applies what is not before a position, as an engine does.
func replay(ix *Index, log []event, from seglog.Position) error {
	for _, e := range log {
		if e.at.Less(from) {
			continue
		}
		old, err := ix.Get(e.key)
		if err != nil {
			return err
		}
		ix.Apply(e.at, Change{Key: e.key, Old: old, New: e.new})
	}
	return nil
}

type model map[Key]Entry

func modelOf(log []event) model {
	m := model{}
	for _, e := range log {
		m.set(e.key, e.new)
	}
	return m
}

func (m model) set(k Key, e Entry) {
	if m[k] = e; e.Kind == Absent {
		delete(m, k)
	}
}

func (m model) digest(s Set, power int, partition uint32) (d Digest) {
	from, to := Partition(power, partition)
	for k, e := range m {
		if k.Policy == s.Policy && k.Part == s.Part && bytes.Compare(from[:], k.Hash[:]) <= 0 && bytes.Compare(k.Hash[:], to[:]) <= 0 {
			d = d.Add(DigestOf(k, &e))
		}
	}
	return d
}

func (m model) between(p policy.Index, from, to name.Hash) (list []Item) {
	for k, e := range m {
		if k.Policy == p && bytes.Compare(from[:], k.Hash[:]) <= 0 && bytes.Compare(k.Hash[:], to[:]) <= 0 {
			list = append(list, Item{k, e})
		}
	}
	slices.SortFunc(list, func(a, b Item) int {
		x, y := a.Key.raw(), b.Key.raw()
		return x.compare(&y)
	})
	return list
}

var fullRange = func() (from, to name.Hash) { return Partition(0, 0) }

// found says what of a model a finder does not find that is asked for all of it in order, and for what is not there.
func found(ix *Index, m model) error {
	f := ix.Finder()
	defer f.Close()
	from, to := fullRange()
	for p := range policy.Index(2) {
		for _, want := range m.between(p, from, to) {
			if got, err := f.Get(want.Key); err != nil || got != want.Entry {
				return fmt.Errorf("%v: found %v, %w, want %v", want.Key, got, err, want.Entry)
			}
			other := want.Key
			other.Hash[15] ^= 1
			if got, err := f.Get(other); err != nil || got != m[other] {
				return fmt.Errorf("%v: found %v, %w, want %v", other, got, err, m[other])
			}
		}
	}
	return nil
}

// same says in what an index is not what it should be.
func same(ix *Index, m model) error {
	for p := range policy.Index(2) {
		from, to := fullRange()
		var got []Item
		for item, err := range ix.Range(p, from, to) {
			if err != nil {
				return err
			}
			got = append(got, item)
		}
		if want := m.between(p, from, to); !slices.Equal(got, want) {
			return fmt.Errorf("policy %d: there are %d entries, want %d:\n%v\n%v", p, len(got), len(want), got, want)
		}
	}
	for k, want := range m {
		if got, err := ix.Get(k); err != nil || got != want {
			return fmt.Errorf("%v: got %v, %w, want %v", k, got, err, want)
		}
	}
	if err := found(ix, m); err != nil {
		return err
	}
	for _, s := range ix.Sets() {
		for _, power := range []int{0, 3, 12, 15} {
			for _, partition := range []uint32{0, 1, 1<<power - 1} {
				if uint64(partition)>>power != 0 {
					continue
				}
				got, err := ix.Digest(s, power, partition)
				if want := m.digest(s, power, partition); err != nil || got != want {
					return fmt.Errorf("set %v, power %d, partition %d: got %v, %w, want %v", s, power, partition, got, err, want)
				}
			}
		}
	}
	return ix.Check(context.Background())
}

var genStamp = rapid.Custom(func(t *rapid.T) timestamp.T {
	return timestamp.FromTicks(rapid.Int64Range(0, 999_999_999_999_999).Draw(t, "ticks")).
		WithOffset(rapid.SampledFrom([]uint64{0, 0, 0, 1, 1 << 63}).Draw(t, "offset"))
})

var genPlace = rapid.Custom(func(t *rapid.T) Place {
	return Place{rapid.Uint64().Draw(t, "segment"), rapid.Int64Min(0).Draw(t, "offset"), rapid.Int64Min(0).Draw(t, "size")}
})

var genEntry = rapid.Custom(func(t *rapid.T) (e Entry) {
	e.Kind = Kind(rapid.IntRange(int(Absent), int(Gone)).Draw(t, "kind"))
	if e.Kind == Absent {
		return e
	}
	e.Times.Data = genStamp.Draw(t, "data")
	e.Times.ContentType, e.Times.Meta = e.Times.Data, e.Times.Data
	if rapid.Bool().Draw(t, "later type") {
		e.Times.ContentType = genStamp.Draw(t, "type")
	}
	if rapid.Bool().Draw(t, "later metadata") {
		e.Times.Meta = genStamp.Draw(t, "meta")
	}
	e.Tie = rapid.Uint64().Draw(t, "tie")
	if e.Kind == Data {
		e.Length = rapid.Int64Range(0, 1<<40).Draw(t, "length")
	}
	for _, p := range []*Place{&e.Data, &e.Meta, &e.Mark} {
		if rapid.Bool().Draw(t, "has") {
			*p = genPlace.Draw(t, "place")
		}
	}
	e.Dead = rapid.SampledFrom([]uint32{0, 0, 1, 200, math.MaxUint32}).Draw(t, "dead")
	e.Expires = rapid.SampledFrom([]uint32{0, 0, 0, 1, 10, 20, math.MaxUint32}).Draw(t, "expires")
	e.Blob, e.MetaLost = rapid.Bool().Draw(t, "blob"), rapid.Bool().Draw(t, "meta lost")
	return e
})

// genKey draws from few keys, some of which are close to each other.
var genKey = rapid.Custom(func(t *rapid.T) (k Key) {
	k.Policy = policy.Index(rapid.IntRange(0, 1).Draw(t, "policy"))
	k.Hash[0] = rapid.SampledFrom([]byte{0, 0, 1, 0x80, 0xff}).Draw(t, "first")
	k.Hash[15] = byte(rapid.IntRange(0, 5).Draw(t, "last"))
	if k.Hash[0] == 0xff {
		for i := range k.Hash {
			k.Hash[i] |= 0xf8
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "version") == 0 {
		k.Version = timestamp.FromTicks(int64(rapid.IntRange(0, 2).Draw(t, "ticks")))
		k.Part = uint8(rapid.IntRange(0, 3).Draw(t, "part"))
	}
	return k
})

// spread returns events of random keys, each with an entry as most are.
func spread(seed uint64, n int) []event {
	r := rand.New(rand.NewPCG(seed, 0))
	log := make([]event, n)
	for i := range log {
		e := event{at: at(i), key: Key{Policy: policy.Index(r.IntN(2))}}
		binary.LittleEndian.PutUint64(e.key.Hash[:], r.Uint64N(64)*0x9e3779b97f4a7c15)
		if r.IntN(4) > 0 {
			e.new = usual(r)
		}
		log[i] = e
	}
	return log
}

func usual(r *rand.Rand) Entry {
	stamp := timestamp.FromTicks(170_000_000_000_000 + r.Int64N(1<<40))
	return Entry{
		Kind: Data, Times: timestamp.Packed{Data: stamp, ContentType: stamp, Meta: stamp}, Tie: r.Uint64(), Length: r.Int64N(1 << 16),
		Data: Place{Segment: 1 + r.Uint64N(1000), Offset: r.Int64N(1<<27) * 8, Size: 200 + r.Int64N(1<<16)},
	}
}

// indexOf returns how many events are at or before a position.
func indexOf(log []event, p seglog.Position) int {
	n := 0
	for n < len(log) && !p.Less(log[n].at) {
		n++
	}
	return n
}

// TestNothingIsLeft looks for files that belong to nobody, also after a crash.
func TestNothingIsLeft(t *testing.T) {
	disk := vfs.NewMem()
	ix := mustOpen(t, disk)
	log := spread(2, 40)
	for i := range log {
		if err := errors.Join(replay(ix, log[:i+1], log[i].at), ix.Checkpoint(t.Context())); err != nil {
			t.Fatal(err)
		}
		if _, err := ix.Merge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	count := func(disk vfs.FS, ix *Index) {
		t.Helper()
		names, err := disk.ReadDir("/index")
		if want := ix.Stats().Runs + 1; err != nil || len(names) != want {
			t.Fatalf("there are %v, %v, want %d files", names, err, want)
		}
	}
	count(disk, ix)
	if n := ix.Stats().Runs; n > fewRuns {
		t.Fatalf("%d runs are left", n)
	}
	for seed := range uint64(20) {
		after := disk.AfterCrash(seed)
		count(after, mustOpen(t, after))
	}
}

func TestDropsGoAway(t *testing.T) {
	disk := vfs.NewMem()
	ix := mustOpen(t, disk)
	log := spread(3, 100)
	n := len(log)
	for i := range log[:n] {
		log = append(log, event{at: at(n + i), key: log[i].key})
	}
	if err := errors.Join(replay(ix, log, seglog.Position{}), ix.Checkpoint(t.Context()), ix.MergeAll(t.Context()), same(ix, model{})); err != nil {
		t.Fatal(err)
	}
	if s := ix.Stats(); s.Entries != 0 {
		t.Fatalf("all was dropped, and there are %d entries", s.Entries)
	}
	if d, err := ix.Digest(Set{}, 0, 0); err != nil || !d.IsZero() {
		t.Fatalf("all was dropped, and the digest is %v, %v", d, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	disk := vfs.NewMem()
	ix := mustOpen(t, disk)
	log := spread(5, 3)
	if err := errors.Join(replay(ix, log, seglog.Position{}), ix.Checkpoint(t.Context())); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		change func(*Config)
		want   errs.Kind
	}{
		"another log":         {func(c *Config) { c.LogID = ID{} }, errs.Corrupt},
		"more than the files": {func(c *Config) { c.Depth = fileDepth + 1 }, errs.Corrupt},
		"a depth of nothing":  {func(c *Config) { c.Depth = 0 }, errs.Invalid},
		"too great a depth":   {func(c *Config) { c.Depth = 25 }, errs.Invalid},
		"no folder":           {func(c *Config) { c.Folder = "" }, errs.Invalid},
		"a disk that is away": {func(c *Config) { c.FS = vfs.Absent }, errs.BadDevice},
	} {
		cfg := config(disk)
		tt.change(&cfg)
		if _, err := Open(cfg); errs.KindOf(err) != tt.want {
			t.Errorf("%s: %v, want kind %v", what, err, tt.want)
		}
	}
	ix.Close()
	if _, err := ix.Get(Key{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Get of a closed index: %v", err)
	}
	if err := ix.Checkpoint(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Checkpoint of a closed index: %v", err)
	}
	if _, err := ix.Digest(Set{}, 4, 16); errs.KindOf(err) != errs.Invalid {
		t.Errorf("partition 16 of 16: %v", err)
	}
}

// TestCheckFinds has a caller lie about what there was.
func TestCheckFinds(t *testing.T) {
	ix := mustOpen(t, vfs.NewMem())
	r := rand.New(rand.NewPCG(6, 6))
	ix.Apply(at(0), Change{Key: Key{}, Old: usual(r), New: usual(r)})
	if err := ix.Check(t.Context()); errs.KindOf(err) != errs.Corrupt {
		t.Fatalf("a wrong digest: %v", err)
	}
}

// TestAtOnce has readers beside changes, checkpoints and merges.
func TestAtOnce(t *testing.T) {
	ix := mustOpen(t, vfs.NewMem())
	ctx := t.Context()
	log := spread(7, 4000)
	stop := make(chan struct{})
	var group sync.WaitGroup
	busy := func(f func() error) {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	busy(func() error { return ix.Checkpoint(ctx) })
	busy(func() error { _, err := ix.Merge(ctx); return err })
	busy(func() error { return ix.Check(ctx) })
	busy(func() error {
		from, to := fullRange()
		var last rawKey
		for item, err := range ix.Range(1, from, to) {
			if err != nil {
				return err
			}
			k := item.Key.raw()
			if k.compare(&last) <= 0 {
				return fmt.Errorf("%v is out of order", item.Key)
			}
			last = k
		}
		return nil
	})
	busy(func() error { _, err := ix.Get(log[0].key); _ = ix.Stats(); return err })
	for i := range log {
		if err := replay(ix, log[i:i+1], seglog.Position{}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	group.Wait()
	if err := same(ix, modelOf(log)); err != nil {
		t.Fatal(err)
	}
}

func TestMergesAreEnoughAndFew(t *testing.T) {
	for _, n := range []int64{0, 1_000_000, 10_000_000} {
		const each = 50_000
		runs := []int64{n}
		var written, applied int64
		for range 400 {
			runs = append([]int64{each}, runs...)
			written += each
			applied += each
			for k := choose(runs); k > 0; k = choose(runs) {
				var sum int64
				for _, r := range runs[:k] {
					sum += r
				}
				written += sum
				runs = append([]int64{sum}, runs[k:]...)
			}
			if len(runs) > fewRuns {
				t.Fatalf("%d runs are left", len(runs))
			}
		}
		if amplification := float64(written) / float64(applied); amplification > 9 {
			t.Errorf("beside %d entries each is written %.1f times", n, amplification)
		}
	}
}
