package steps

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"martlet/internal/errs"
	"martlet/internal/vfs"
)

// A Set names what partitions are of: a kind of data, and of objects a policy, such as
// "container" or "object-1". From 1 to 255 bytes.
type Set string

// A Book is what one disk remembers. It is safe for concurrent use.
type Book struct {
	fs    vfs.FS
	dir   string // of the file; its parent is the device
	terms Terms

	mu      sync.Mutex
	damaged error          // why nothing is known, so that all is fenced; nil if the file was whole. Guarded by mu
	sets    map[Set]*pages // guarded by mu
	dirty   bool           // Save has something to write that matters; guarded by mu
	saved   time.Time      // as of which the file has times; guarded by mu

	saving sync.Mutex
}

// pages are the partitions of a set.
type pages struct {
	power  int
	looked int64 // seconds since 1970; 0 for never
	parts  map[uint32]step
}

// step is what is known of a partition.
type step struct {
	at     int64 // seconds since 1970
	fenced bool
}

const (
	folder   = "replication"
	fileName = "steps"
)

// Open reads what a device remembers, whose folder is path. A device without a file begins
// anew. The error is what the file system said; a file that is damaged is none, but fences
// everything (Fenced says why).
func Open(fsys vfs.FS, path string, terms Terms) (*Book, error) {
	const op errs.Op = "steps.open"
	b := &Book{fs: fsys, dir: filepath.Join(path, folder), terms: terms, sets: map[Set]*pages{}}
	raw, err := readFile(fsys, b.file())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		b.dirty = true
		return b, nil
	case err != nil:
		return nil, errs.E(op, errs.Subject(b.file()), errs.BadDevice, err)
	}
	if b.sets, err = decode(raw); err != nil {
		b.sets = map[Set]*pages{}
		b.damaged = fmt.Errorf("%s: %w", b.file(), err)
	}
	return b, nil
}

// Terms returns by what the book judges.
func (b *Book) Terms() Terms { return b.terms }

func (b *Book) file() string { return filepath.Join(b.dir, fileName) }

// Look tells the book of which partitions of a set a device holds something at a time, in
// any order, and with how many bits of the hash they are numbered. It comes before a
// pass. Of what is left out nothing is remembered, unless that is not all that the device
// holds: then nothing is forgotten.
func (b *Book) Look(set Set, power int, held []uint32, all bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.sets[set]
	if p == nil {
		p = &pages{power: power, parts: map[uint32]step{}}
		b.sets[set] = p
		b.dirty = true
	}
	p.turn(power)
	before := p.looked
	if before == 0 || before > now.Unix() { // or the clock was wrong
		before = now.Unix()
	}
	parts := make(map[uint32]step, len(held))
	if !all {
		parts = maps.Clone(p.parts)
	}
	for _, n := range held {
		s, ok := p.parts[n]
		if !ok {
			s = step{at: before}
		}
		s.at = min(s.at, now.Unix())
		parts[n] = b.judge(s, now)
	}
	p.parts = parts
	p.looked = now.Unix()
}

// Nothing tells the book that of the sets of a kind the device holds nothing but of those that are given, of
// which Look is told. So whoever holds nothing for a while is not taken for one that was away.
func (b *Book) Nothing(kind string, but []Set, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for set, p := range b.sets {
		if strings.HasPrefix(string(set), kind) && !slices.Contains(but, set) {
			p.parts, p.looked = map[uint32]step{}, now.Unix()
		}
	}
}

// Only notes that there is no other primary of a partition than the device itself, which thus
// has nobody to be out of step with: it is not fenced.
func (b *Book) Only(set Set, power int, partition uint32, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.sets[set]
	if p == nil || p.power != power {
		return
	}
	if s, ok := p.parts[partition]; ok {
		b.dirty = b.dirty || s.fenced
		p.parts[partition] = step{at: now.Unix()}
	}
}

// judge fences what was out of step for too long. It needs mu.
func (b *Book) judge(s step, now time.Time) step {
	if !s.fenced && now.Unix()-s.at > int64(b.terms.Limit()/time.Second) {
		s.fenced = true
		b.dirty = true
	}
	return s
}

// InStep notes that as of a time no other primary, or at least one that was asked, had
// anything newer of what the device holds of a partition. It changes nothing for one that
// is fenced, nor for one that Look was not told of.
func (b *Book) InStep(set Set, power int, partition uint32, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.sets[set]
	if p == nil || p.power != power {
		return
	}
	s, ok := p.parts[partition]
	if !ok {
		return
	}
	if s = b.judge(s, at); !s.fenced {
		s.at = max(s.at, at.Unix())
	}
	p.parts[partition] = s
}

// May reports whether what a device holds of a partition may be pushed at a time, and if
// not why not. What Look was not told of may: it was not there when the device came back.
func (b *Book) May(set Set, power int, partition uint32, now time.Time) (why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.damaged != nil {
		return fmt.Errorf("%w: %w", ErrFenced, b.damaged)
	}
	p := b.sets[set]
	if p == nil {
		return nil
	}
	first, last := p.covering(power, partition)
	for n := first; ; n++ {
		if s, ok := p.parts[n]; ok {
			if s = b.judge(s, now); s.fenced {
				p.parts[n] = s
				return fmt.Errorf("%w: it was last in step at %s", ErrFenced, time.Unix(s.at, 0).UTC().Format(time.RFC3339))
			}
		}
		if n == last {
			return nil
		}
	}
}

// covering returns the partitions that overlap one of another part power, which may have
// come into use since the last look.
func (p *pages) covering(power int, partition uint32) (first, last uint32) {
	if power >= p.power {
		n := partition >> (power - p.power)
		return n, n
	}
	first = partition << (p.power - power)
	return first, first | (1<<(p.power-power) - 1)
}

// ErrFenced is wrapped by what May returns.
var ErrFenced = errors.New("fenced, since it may hold what was deleted and forgotten elsewhere")

// Fence is what is fenced of a set.
type Fence struct {
	Set        Set       `json:"set"`
	Partitions int       `json:"partitions"`
	Since      time.Time `json:"in_step_until"` // the earliest
}

// Fenced returns what is fenced at a time, in order of sets, and why all of it is if the file was
// damaged.
func (b *Book) Fenced(now time.Time) (all []Fence, damaged error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, set := range slices.Sorted(maps.Keys(b.sets)) {
		f := Fence{Set: set}
		for n, s := range b.sets[set].parts {
			if s = b.judge(s, now); !s.fenced {
				continue
			}
			b.sets[set].parts[n] = s
			f.Partitions++
			if at := time.Unix(s.at, 0).UTC(); f.Since.IsZero() || at.Before(f.Since) {
				f.Since = at
			}
		}
		if f.Partitions > 0 {
			all = append(all, f)
		}
	}
	return all, b.damaged
}

// Readmit has what is fenced be pushed again, as it is, and everything count as in step at
// a time, also what nobody has judged yet. It is durable when it returns nil; else it may be undone by a restart.
func (b *Book) Readmit(now time.Time) error {
	b.mu.Lock()
	b.damaged = nil
	for _, p := range b.sets {
		for n := range p.parts {
			p.parts[n] = step{at: now.Unix()}
		}
		p.looked = now.Unix()
	}
	b.dirty = true
	b.mu.Unlock()
	return b.Save(now)
}

// Save writes the file if something has changed that a crash must not undo, or if its
// times are old: a hundredth of the limit, by which a device then looks as if it had been
// away for longer. When it returns nil that is on stable storage. Nothing is written over a
// file that was damaged before Readmit.
func (b *Book) Save(now time.Time) error {
	b.saving.Lock()
	defer b.saving.Unlock()
	b.mu.Lock()
	if b.damaged != nil || !b.dirty && now.Sub(b.saved).Abs() < b.terms.Limit()/100 {
		b.mu.Unlock()
		return nil
	}
	raw := encode(b.sets)
	b.dirty = false
	b.mu.Unlock()
	err := writeFile(b.fs, b.dir, fileName, raw)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.dirty = true
		return errs.E(errs.Op("steps.save"), errs.Subject(b.file()), errs.BadDevice, err)
	}
	b.saved = now
	return nil
}

// turn has partitions be numbered with another number of bits.
func (p *pages) turn(power int) {
	if p.power == power {
		return
	}
	parts := map[uint32]step{}
	for n, s := range p.parts {
		if power < p.power {
			n >>= p.power - power
			if t, ok := parts[n]; ok {
				s = worse(s, t)
			}
			parts[n] = s
			continue
		}
		for i := range uint32(1) << (power - p.power) {
			parts[n<<(power-p.power)|i] = s
		}
	}
	p.power, p.parts = power, parts
}

// worse joins what is known of two parts of one partition.
func worse(a, b step) step {
	return step{at: min(a.at, b.at), fenced: a.fenced || b.fenced}
}

// sorted returns the partitions in order.
func (p *pages) sorted() []uint32 {
	return slices.SortedFunc(maps.Keys(p.parts), func(a, b uint32) int { return cmp.Compare(a, b) })
}
