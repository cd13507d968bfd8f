package ec

import (
	"container/list"
	"math/bits"
	"sync"

	"github.com/klauspost/reedsolomon"

	"martlet/internal/errs"
)

// maxRecipes is how many recipes a code keeps. One takes less than 2.5 KiB at the largest shape
// (20+8), so they are less than 2.5 MiB together.
const maxRecipes = 1024

// A set is of indexes of fragments, a bit for each.
type set uint32

func (s set) has(i int) bool { return s>>i&1 != 0 }

// len is how many there are.
func (s set) len() int { return bits.OnesCount32(uint32(s)) }

// data is the set of all fragments that have data.
func (s Shape) data() set { return 1<<s.Data - 1 }

// A choice is of k fragments that are there, and of those that are to be made of them.
type choice struct{ have, want set }

// A recipe makes fragments of k others: it is the matrix for one choice, ready for use.
type recipe struct {
	choice

	rs reedsolomon.Encoder // its data fragments are those that are there, its parity those that are made
}

// recipes keeps the recipes that were used last. To make one takes the inversion of a matrix, which at 20+8
// is a third of what decoding a segment is, and 100 allocations. The library keeps what it has inverted as well, but
// for ever, and at 20+8 there are millions of choices.
type recipes struct {
	mu   sync.Mutex
	by   map[choice]*list.Element // guarded by mu, as are those below
	used list.List                // of *recipe, the last used first
}

// find returns a recipe that is there, or nil.
func (r *recipes) find(of choice) *recipe {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.by[of]
	if e == nil {
		return nil
	}
	r.used.MoveToFront(e)
	return e.Value.(*recipe)
}

// keep keeps a recipe, in the place of the one that was not used for longest if there are too many.
func (r *recipes) keep(one *recipe) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by[one.choice] != nil {
		return // somebody else was faster
	}
	if r.by == nil {
		r.by = map[choice]*list.Element{}
	}
	if len(r.by) == maxRecipes {
		last := r.used.Back()
		delete(r.by, r.used.Remove(last).(*recipe).choice)
	}
	r.by[one.choice] = r.used.PushFront(one)
}

// recipe returns how fragments are made of k others.
func (c *Code) recipe(of choice) (*recipe, error) {
	if one := c.recipes.find(of); one != nil {
		return one, nil
	}
	matrix, err := c.matrix(of)
	if err != nil {
		return nil, err
	}
	rs, err := reedsolomon.New(c.Data, len(matrix), c.options(reedsolomon.WithCustomMatrix(matrix))...)
	if err != nil {
		return nil, errs.E(errs.Op("ec.recipe"), err)
	}
	one := &recipe{of, rs}
	c.recipes.keep(one)
	return one, nil
}

// matrix returns for each fragment that is wanted by what those that are there are multiplied.
// It has the library make them of fragments of k bytes, each of which is 1 in one place.
func (c *Code) matrix(of choice) ([][]byte, error) {
	shards, required := make([][]byte, c.Fragments()), make([]bool, c.Fragments())
	column := 0
	for i := range shards {
		if of.have.has(i) {
			shards[i] = make([]byte, c.Data)
			shards[i][column] = 1
			column++
		}
		required[i] = of.want.has(i)
	}
	if err := c.rs.ReconstructSome(shards, required); err != nil {
		return nil, errs.E(errs.Op("ec.recipe"), err)
	}
	rows := make([][]byte, 0, of.want.len())
	for i, row := range shards {
		if of.want.has(i) {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// options are those of the library for fragments of the layout.
func (l Layout) options(more ...reedsolomon.Option) []reedsolomon.Option {
	// One goroutine for each transfer: there are as many transfers as there is work.
	most, split := 1, 0
	if l.Data > directInputs {
		// On one goroutine the library doesn't use the fastest instructions for so many, with several
		// it does; and it has no more of them than there are pieces of this length.
		most, split = 2, max(l.fragment(l.Segment)-1, 1)
	}
	return append(more, reedsolomon.WithMaxGoroutines(most), reedsolomon.WithMinSplitSize(split), reedsolomon.WithInversionCache(false))
}

// directInputs is of how many fragments the library makes others in one go.
const directInputs = 10

// restore makes fragments of a segment, as long as the others, in their slots. One that was used last
// is tried first, and what was used is returned.
func (c *Code) restore(b *buffer, want set, last *recipe) (*recipe, error) {
	of := choice{want: want}
	size := 0
	b.in = b.in[:0]
	for i, shard := range b.shards {
		if len(shard) > 0 {
			of.have |= 1 << i
			size = len(shard)
			b.in = append(b.in, shard)
		}
	}
	of.want &^= of.have
	if of.want == 0 || size == 0 {
		return last, nil
	}
	for i := range b.shards {
		if of.want.has(i) {
			b.shards[i] = b.slots[i][fragmentAt : fragmentAt+size]
			b.in = append(b.in, b.shards[i])
		}
	}
	if last == nil || last.choice != of {
		var err error
		if last, err = c.recipe(of); err != nil {
			return nil, err
		}
	}
	return last, last.rs.Encode(b.in)
}
