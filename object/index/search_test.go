package index

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/timestamp"
)

// TestBlockOf: however keys lie, and whatever is asked for, the block is that which halving
// finds.
func TestBlockOf(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	random := func() (h name.Hash) {
		for i := range h {
			h[i] = byte(r.Uint32())
		}
		return h
	}
	few := make([]name.Hash, 30)
	for i := range few {
		few[i] = random()
	}
	spreads := map[string]func() Key{
		"evenly": func() Key { return Key{Hash: random()} },
		"in a few partitions": func() Key {
			h := random()
			copy(h[:3], few[r.IntN(len(few))][:3])
			return Key{Hash: h}
		},
		"where numbers are the same": func() Key {
			h := random()
			copy(h[:10], few[r.IntN(3)][:10])
			return Key{Hash: h}
		},
		"under one hash": func() Key {
			return Key{Hash: few[0], Version: timestamp.FromTicks(int64(r.Uint32())), Part: uint8(r.Uint32())}
		},
		"in policies of all sizes": func() Key {
			p := policy.Index(1)
			for r.IntN(4) == 0 {
				p *= 7
			}
			return Key{Policy: p, Hash: random()}
		},
		"ever denser": func() Key {
			h := random()
			clear(h[:r.IntN(10)])
			return Key{Hash: h}
		},
	}
	for what, spread := range spreads {
		for _, n := range []int{0, 1, 2, 7, 8, 9, 100, 5000} {
			keys := make([]rawKey, n)
			for i := range keys {
				keys[i] = spread().raw()
			}
			slices.SortFunc(keys, func(a, b rawKey) int { return a.compare(&b) })
			keys = slices.Compact(keys)
			var of run
			of.foot.blocks = int64(len(keys))
			for i := range keys {
				of.fences = append(of.fences, keys[i][:]...)
			}
			ask := func(k rawKey) {
				want := sort.Search(len(keys), func(i int) bool { return keys[i].compare(&k) > 0 }) - 1
				if got := of.blockOf(&k); got != want {
					t.Fatalf("%d keys %s: %x is in block %d, want %d", len(keys), what, k, got, want)
				}
			}
			all := everything()
			ask(all.from)
			ask(all.to)
			for range 300 {
				ask(spread().raw())
				ask(Key{Hash: random()}.raw())
			}
			for _, k := range keys {
				ask(k)
				for i := len(k) - 1; i >= 0; i-- { // the one before
					k[i]--
					if k[i] != 0xff {
						break
					}
				}
				ask(k)
			}
		}
	}
}

// TestFindInBlock: hashes whose halves are the same, with and without versions, are told
// apart.
func TestFindInBlock(t *testing.T) {
	var keys []Key
	for front := range byte(3) {
		for back := range byte(4) {
			h := name.Hash{3: front, 12: back}
			keys = append(keys, Key{Hash: h})
			for version := range int64(2) {
				keys = append(keys, Key{Hash: h, Version: timestamp.FromTicks(version + 1), Part: back})
			}
		}
	}
	b := make([]byte, blockHead, blockSize)
	there := map[Key][]byte{}
	for i, k := range keys {
		if i%4 == 3 {
			continue
		}
		e := Entry{Kind: Data, Length: int64(i), Data: Place{Segment: 1, Offset: int64(i), Size: 8}}
		raw, value := k.raw(), e.append(nil)
		there[k] = value
		flags := value[0]
		if !isZero(raw.extra()) {
			flags |= hasExtra
		}
		b = append(append(b, byte(len(value)), flags), k.Hash[:]...)
		if flags&hasExtra != 0 {
			b = append(b, raw.extra()...)
		}
		b = append(b, value[1:]...)
	}
	length := len(b)
	b = b[:blockSize]
	sealBlock(b, length, 1, 1, 0, len(there))
	find := func(b []byte, k Key) ([]byte, error) {
		open, err := openBlock(b, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		raw := k.raw()
		return open.find(&raw, nil)
	}
	for _, k := range append(keys, Key{Hash: name.Hash{0: 1}}, Key{Policy: 1}) {
		if got, err := find(b, k); err != nil || !bytes.Equal(got, there[k]) {
			t.Errorf("%v: got %x, %v, want %x", k, got, err, there[k])
		}
	}
	// A block with the right checksum that was written wrong.
	last := Key{Hash: name.Hash{0: 0xff}}
	for what, broken := range map[string]func(b []byte) (count int){
		"an entry without a value": func(b []byte) int { b[blockHead] = 0; return len(there) },
		"more entries than fit":    func([]byte) int { return 1 << 15 },
	} {
		b := bytes.Clone(b)
		count := broken(b)
		sealBlock(b, length, 1, 1, 0, count)
		if got, err := find(b, last); err == nil {
			t.Errorf("%s: found %x", what, got)
		}
	}
}
