package vfs

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// node is a file or a directory of a Mem, under the Mem's lock.
type node struct {
	ino     uint64
	modTime time.Time
	dir     *directory // or
	file    *file
}

// directory has the names as calls see them and as the disk has them.
type directory struct {
	entries map[string]*node
	stable  map[string]*node
}

// file has the bytes as calls see them, as the disk surely has them, and the
// writes between the two in order.
type file struct {
	cache   content
	stable  content
	pending []write

	links, opens int

	reserved       span // of Preallocate
	reservedStable span
	charged        int64 // pages counted against the capacity
}

// span is a range of page numbers, empty if hi <= lo.
type span struct{ lo, hi int64 }

func (s span) len() int64          { return max(0, s.hi-s.lo) }
func (s span) has(page int64) bool { return s.lo <= page && page < s.hi }

// join returns the smallest span around both.
func (s span) join(t span) span {
	if s.len() == 0 {
		return t
	}
	return span{min(s.lo, t.lo), max(s.hi, t.hi)}
}

// write is a change of a file that is not synced: bytes [off, end), or a
// truncation to end.
type write struct {
	truncate bool
	off, end int64
	pages    []*page // as they were right after the write, from off's page on
}

func newDir(ino uint64) *node {
	return &node{ino: ino, modTime: time.Now(), dir: &directory{map[string]*node{}, map[string]*node{}}}
}

func newFile(ino uint64) *node {
	return &node{ino: ino, modTime: time.Now(), file: &file{cache: newContent(), stable: newContent()}}
}

func (f *file) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	pages := f.cache.write(p, off)
	f.pending = append(f.pending, write{off: off, end: off + int64(len(p)), pages: pages})
}

func (f *file) truncate(size int64) {
	f.cache.truncate(size)
	f.pending = append(f.pending, write{truncate: true, end: size})
	// Truncating frees what was reserved past the end.
	f.reserved.hi = min(f.reserved.hi, (size+pageSize-1)/pageSize)
}

func (f *file) sync() {
	writeBack(&f.stable, f.pending, nil)
	f.pending = nil
	f.reservedStable = f.reserved
}

// failSync leaves the file as a failed fsync does. Some of the unsynced writes
// are on the disk, the rest never will be, since nothing is dirty any more. Calls
// go on seeing some of the lost pages, and of others what the disk has.
func (f *file) failSync(seed uint64) {
	d := newDice(seed, 0)
	dirty := map[int64]bool{}
	for _, w := range f.pending {
		for i := range w.pages {
			dirty[w.off/pageSize+int64(i)] = true
		}
	}
	writeBack(&f.stable, f.pending, d)
	f.pending = nil
	for _, number := range slices.Sorted(maps.Keys(dirty)) {
		if d.rand.IntN(2) == 0 {
			continue
		}
		if p := f.stable.pages[number]; p != nil {
			f.cache.pages[number] = p
		} else {
			delete(f.cache.pages, number)
		}
	}
	f.cache.clip()
}

// dropCache lets calls see what the disk has, of n bytes from off on or, where n is 0,
// of all behind it. Pages that are dirty stay: here all, if any is.
func (f *file) dropCache(off, n int64) {
	if len(f.pending) > 0 {
		return
	}
	first, last := (off+pageSize-1)/pageSize, int64(math.MaxInt64)
	if n > 0 {
		last = (off + n) / pageSize
	}
	maps.DeleteFunc(f.cache.pages, func(number int64, _ *page) bool { return number >= first && number < last })
	for number, p := range f.stable.pages {
		if number >= first && number < last {
			f.cache.pages[number] = p
		}
	}
	f.cache.clip()
}

// pagesUsed is how much of the disk the file takes.
func (f *file) pagesUsed() int64 {
	used := f.reserved.len()
	for number := range f.cache.pages {
		if !f.reserved.has(number) {
			used++
		}
	}
	return used
}

// afterCrash returns the file as a power cut might leave it.
func (f *file) afterCrash(d *dice) *file {
	disk := f.stable.clone()
	writeBack(&disk, f.pending, d)
	return &file{cache: disk, stable: disk.clone(), reserved: f.reservedStable, reservedStable: f.reservedStable, links: 1}
}

// writeBack brings the writes that the dice choose to disk; without dice all.
//
// Sizes reach the disk in order, truncations with them: those of the first few
// writes, and no later one. Each sector reaches it by itself, in any of the
// versions it had. A write past a truncation needs blocks that are given out after
// that, so it can't be there if the truncation is not.
func writeBack(disk *content, writes []write, d *dice) {
	sized := len(writes)
	if d != nil {
		sized = d.prefix(len(writes))
	}
	limit := int64(math.MaxInt64)
	for i, w := range writes {
		if w.truncate {
			if i < sized {
				disk.truncate(w.end)
			} else {
				limit = min(limit, w.end)
			}
			continue
		}
		writeSectors(disk, w, limit, d)
		if i < sized {
			disk.size = max(disk.size, w.end)
		}
	}
	if d != nil && len(writes) > 0 { // a sector may be there that no size covers
		disk.clip()
	}
}

// writeSectors brings the sectors of one write that the dice choose to disk.
func writeSectors(disk *content, w write, limit int64, d *dice) {
	keep := func() bool { return true }
	if d != nil {
		keep = d.write()
	}
	for i, from := range w.pages {
		number := w.off/pageSize + int64(i)
		start := number * pageSize
		var kept sectors
		for s := range sectorsPerPage {
			lo := start + int64(s)*sectorSize
			hi := lo + sectorSize
			if hi <= w.off || lo >= w.end {
				continue
			}
			if keep() && hi <= limit {
				kept[s] = true
			}
		}
		disk.setSectors(number, kept, from)
	}
}

// dice decide what survives a crash.
type dice struct {
	rand   *rand.Rand
	corner bool    // everything of a kind survives or nothing does
	names  float64 // how likely each directory operation survives
	data   float64 // how likely each write survives
	sizes  float64 // how likely each size survives
}

// corners is how many seeds stand for the extremes: one bit each for names,
// data and sizes.
const corners = 8

// newDice returns the dice of one seed for one file or other subject, so that
// what happens to one does not depend on the others.
func newDice(seed, subject uint64) *dice {
	r := rand.New(rand.NewPCG(seed, subject))
	if seed < corners {
		bit := func(n int) float64 { return float64(seed >> n & 1) }
		return &dice{rand: r, corner: true, names: bit(0), data: bit(1), sizes: bit(2)}
	}
	return &dice{rand: r, names: r.Float64(), data: r.Float64(), sizes: r.Float64()}
}

func (d *dice) likely(p float64) bool { return d.rand.Float64() < p }

// write decides about one write and returns what decides about each sector.
func (d *dice) write() (keep func() bool) {
	if !d.corner && d.rand.IntN(3) == 0 {
		return func() bool { return d.rand.IntN(2) == 0 } // torn
	}
	whole := d.likely(d.data)
	return func() bool { return whole }
}

// prefix decides how many of n changes that reach the disk in order did.
func (d *dice) prefix(n int) int {
	if d.corner || d.rand.IntN(2) == 0 {
		if d.likely(d.sizes) {
			return n
		}
		return 0
	}
	return d.rand.IntN(n + 1)
}
